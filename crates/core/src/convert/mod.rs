//! Makes Ethernet packets of those of other linktypes: between the merge and the encoder, where a
//! stream has but one linktype.
//!
//! Only the front of a packet is replaced; its payload is borrowed, never copied. What cannot be
//! said in Ethernet, and a header that is cut short, is `None`: nothing here guesses, and whatever
//! the octets are, nothing panics. What the old header said and Ethernet has no place for (packet
//! type, interface index, ARPHRD_ type) is lost.

mod cooked;

use crate::linktype::LinkType;

/// Octets of an Ethernet header.
pub const ETHERNET_HEADER: usize = 14;

/// An Ethernet address.
pub type MacAddress = [u8; 6];

/// Which addresses converted packets get; `None` is what the packet itself says, else
/// [`UNKNOWN_SENDER`] and [`UNKNOWN_RECEIVER`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Of the sender.
    pub source: Option<MacAddress>,
    /// Of the receiver.
    pub destination: Option<MacAddress>,
}

/// The address of a receiver that is not known: zeros, which nobody has.
pub const UNKNOWN_RECEIVER: MacAddress = [0; 6];
/// The address of a sender that is not known: locally administered, because a Linux bridge drops
/// what zeros send (measured 2026-11 between two veth pairs), and packets made here may be replayed
/// into one. A sender that the packet itself calls zeros, as loopback does, keeps them.
pub const UNKNOWN_SENDER: MacAddress = [2, 0, 0, 0, 0, 0];

/// An Ethernet packet: `header`, then `payload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted<'a> {
    /// Destination, source, EtherType or length (IEEE 802.3, clause 3).
    pub header: [u8; ETHERNET_HEADER],
    /// The end of the packet that was converted; cut where the whole would be above the largest
    /// caplen of Ethernet.
    pub payload: &'a [u8],
    /// Octets the Ethernet packet would have had on the wire; never below [`caplen`](Self::caplen).
    pub origlen: u32,
}

impl Converted<'_> {
    /// Octets of header and payload, [`LinkType::max_caplen`] at most.
    pub fn caplen(&self) -> u32 {
        (ETHERNET_HEADER + self.payload.len()) as u32
    }
}

/// Whether [`to_ethernet`] knows this linktype; single packets of it may still not be convertible.
/// Ethernet itself is not: there is nothing to do.
pub const fn is_convertible(linktype: LinkType) -> bool {
    matches!(
        linktype,
        LinkType::NULL
            | LinkType::PPP
            | LinkType::PPP_HDLC
            | LinkType::PPP_ETHER
            | LinkType::RAW
            | LinkType::RAW_OF_SYSTEMS
            | LinkType::LOOP
            | LinkType::SLL
            | LinkType::IPV4
            | LinkType::IPV6
            | LinkType::SLL2
    )
}

/// A packet of another linktype as an Ethernet packet.
///
/// `octets` are what was captured of it, of `origlen` on the wire. `None`: the linktype is not
/// [convertible](is_convertible), the packet carries what Ethernet cannot (netlink, CAN, 802.11,
/// PPP's own control protocols, 802.2 packets above 1500 octets), or its header is cut short.
/// Formats: the pages of <https://www.tcpdump.org/linktypes.html>.
///
/// ```
/// # use pcaphub_core::{convert::{Addresses, to_ethernet}, linktype::LinkType};
/// let octets = [0x45, 0, 0, 20];
/// let packet = to_ethernet(LinkType::RAW, &octets, 1000, &Addresses::default()).expect("IPv4");
/// assert_eq!(packet.header, [0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0x08, 0x00]);
/// assert_eq!((packet.payload, packet.caplen(), packet.origlen), (&octets[..], 18, 1014));
/// ```
pub fn to_ethernet<'a>(
    linktype: LinkType,
    octets: &'a [u8],
    origlen: u32,
    addresses: &Addresses,
) -> Option<Converted<'a>> {
    // A source that says less than it captured must not make a packet that contradicts itself.
    let uncaptured = (origlen as usize).saturating_sub(octets.len());
    let front = match linktype {
        LinkType::RAW | LinkType::RAW_OF_SYSTEMS => raw(octets)?,
        LinkType::IPV4 => octets.first().map(|_| Front::plain(IPV4, octets))?,
        LinkType::IPV6 => octets.first().map(|_| Front::plain(IPV6, octets))?,
        LinkType::NULL | LinkType::LOOP => loopback(octets)?,
        LinkType::PPP => ppp(octets)?,
        LinkType::PPP_HDLC => hdlc(octets)?,
        LinkType::PPP_ETHER => pppoe(octets)?,
        LinkType::SLL => cooked::sll(octets)?.front(uncaptured)?,
        LinkType::SLL2 => cooked::sll2(octets)?.front(uncaptured)?,
        _ => return None,
    };
    let [d0, d1, d2, d3, d4, d5] = addresses.destination.unwrap_or(front.destination);
    let [s0, s1, s2, s3, s4, s5] = addresses.source.unwrap_or(front.source);
    let [high, low] = front.ethertype.to_be_bytes();
    let most = LinkType::ETHERNET.max_caplen() as usize - ETHERNET_HEADER;
    let wire_len = ETHERNET_HEADER.saturating_add(front.payload.len()).saturating_add(uncaptured);
    Some(Converted {
        header: [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low],
        payload: front.payload.get(..most).unwrap_or(front.payload),
        origlen: u32::try_from(wire_len).unwrap_or(u32::MAX),
    })
}

/// What the front of a packet says.
struct Front<'a> {
    destination: MacAddress,
    source: MacAddress,
    ethertype: u16,
    payload: &'a [u8],
}

impl<'a> Front<'a> {
    /// Of linktypes that know nothing of addresses.
    fn plain(ethertype: u16, payload: &'a [u8]) -> Self {
        Front { destination: UNKNOWN_RECEIVER, source: UNKNOWN_SENDER, ethertype, payload }
    }
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const IPX: u16 = 0x8137;
/// MPLS, to one and to many (RFC 3032, section 4.3).
const MPLS: u16 = 0x8847;
const MPLS_MULTICAST: u16 = 0x8848;

/// A bare IP packet: its version is in its first four bits.
fn raw(octets: &[u8]) -> Option<Front<'_>> {
    match octets.first()? >> 4 {
        4 => Some(Front::plain(IPV4, octets)),
        6 => Some(Front::plain(IPV6, octets)),
        _ => None,
    }
}

/// An address family in four octets. LINKTYPE_NULL has it in the byte order of the capturing host,
/// LINKTYPE_LOOP in network byte order; no family is another's reverse, so both are tried.
fn loopback(octets: &[u8]) -> Option<Front<'_>> {
    let (family, payload) = octets.split_first_chunk::<4>()?;
    let ethertype =
        [u32::from_be_bytes(*family), u32::from_le_bytes(*family)].into_iter().find_map(|family| {
            match family {
                2 => Some(IPV4),
                // Linux; NetBSD and OpenBSD; FreeBSD; Darwin.
                10 | 24 | 28 | 30 => Some(IPV6),
                _ => None,
            }
        })?;
    Some(Front::plain(ethertype, payload))
}

/// PPP, with or without the address and control octets of HDLC-like framing (RFC 1662, section
/// 3.1); the protocol is compressed to one octet where that is odd (RFC 1661, section 6.5).
fn ppp(octets: &[u8]) -> Option<Front<'_>> {
    let octets = octets.strip_prefix(&[0xff, 0x03]).unwrap_or(octets);
    let (first, rest) = octets.split_first()?;
    let (protocol, payload) = if first & 1 == 1 {
        (u16::from(*first), rest)
    } else {
        let (second, rest) = rest.split_first()?;
        (u16::from_be_bytes([*first, *second]), rest)
    };
    let ethertype = match protocol {
        0x0021 => IPV4,
        0x0057 => IPV6,
        0x002b => IPX,
        0x0281 => MPLS,
        0x0283 => MPLS_MULTICAST,
        _ => return None,
    };
    Some(Front::plain(ethertype, payload))
}

/// PPP behind the address and control octets of HDLC-like framing, or Cisco's HDLC, which has an
/// EtherType behind an address of its own (0x0f, or 0x8f for all) and a zero. Of its types only those are
/// taken that mean the same there (0x8035 is SLARP, not RARP).
fn hdlc(octets: &[u8]) -> Option<Front<'_>> {
    match octets {
        [0x0f | 0x8f, 0, high, low, payload @ ..] => match u16::from_be_bytes([*high, *low]) {
            ethertype @ (IPV4 | IPV6 | IPX | MPLS | MPLS_MULTICAST) => Some(Front::plain(ethertype, payload)),
            _ => None,
        },
        _ => ppp(octets),
    }
}

/// PPPoE (RFC 2516, section 4): version and type 1, a code, which is 0 in a session, its number, and a
/// length.
fn pppoe(octets: &[u8]) -> Option<Front<'_>> {
    match octets {
        [0x11, 0, _, _, _, _, ..] => Some(Front::plain(0x8864, octets)),
        [0x11, _, _, _, _, _, ..] => Some(Front::plain(0x8863, octets)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: MacAddress = [2, 0, 0, 0, 0, 7];
    const FOUR: &[u8] = &[0x45, 0, 0, 20];
    const SIX: &[u8] = &[0x60, 0, 0, 0];

    /// What becomes of a packet of which all was captured.
    fn converted(linktype: LinkType, octets: &[u8]) -> Option<(u16, usize)> {
        let packet = to_ethernet(linktype, octets, octets.len() as u32, &Addresses::default())?;
        assert_eq!(packet.origlen, packet.caplen());
        assert!(octets.ends_with(packet.payload));
        let [.., high, low] = packet.header;
        Some((u16::from_be_bytes([high, low]), octets.len() - packet.payload.len()))
    }

    fn cooked(packet_type: u8, arphrd: u16, protocol: u16, payload: &[u8]) -> [(LinkType, Vec<u8>); 2] {
        let (arphrd, protocol) = (arphrd.to_be_bytes(), protocol.to_be_bytes());
        let address = [&SENDER[..], &[0xee; 2]].concat();
        let first = [&[0, packet_type][..], &arphrd, &[0, 6], &address, &protocol, payload].concat();
        let second =
            [&protocol[..], &[0, 0, 0, 0, 0, 3], &arphrd, &[packet_type, 6], &address, payload].concat();
        [(LinkType::SLL, first), (LinkType::SLL2, second)]
    }

    /// Destination, source and EtherType of a cooked packet, the same in both versions.
    fn cooked_header(packet_type: u8, arphrd: u16, protocol: u16, payload: &[u8]) -> Option<[u8; 14]> {
        let [first, second] = cooked(packet_type, arphrd, protocol, payload).map(|(linktype, octets)| {
            let packet = to_ethernet(linktype, &octets, octets.len() as u32, &Addresses::default())?;
            assert_eq!(packet.payload, payload);
            Some(packet.header)
        });
        assert_eq!(first, second);
        first
    }

    fn header(destination: MacAddress, source: MacAddress, ethertype: u16) -> Option<[u8; 14]> {
        [&destination[..], &source, &ethertype.to_be_bytes()].concat().try_into().ok()
    }

    #[test]
    fn bare_ip_is_told_apart_by_its_version() {
        assert_eq!(converted(LinkType::RAW, FOUR), Some((IPV4, 0)));
        assert_eq!(converted(LinkType::RAW, SIX), Some((IPV6, 0)));
        assert_eq!(converted(LinkType::RAW_OF_SYSTEMS, SIX), Some((IPV6, 0)));
        assert_eq!(converted(LinkType::RAW, &[0x50]), None);
        assert_eq!(converted(LinkType::IPV4, FOUR), Some((IPV4, 0)));
        assert_eq!(converted(LinkType::IPV6, SIX), Some((IPV6, 0)));
    }

    #[test]
    fn loopback_families_are_read_in_either_byte_order() {
        for linktype in [LinkType::NULL, LinkType::LOOP] {
            for (family, ethertype) in [(2, IPV4), (10, IPV6), (24, IPV6), (28, IPV6), (30, IPV6)] {
                assert_eq!(converted(linktype, &[family, 0, 0, 0, 1]), Some((ethertype, 4)));
                assert_eq!(converted(linktype, &[0, 0, 0, family, 1]), Some((ethertype, 4)));
            }
            assert_eq!(converted(linktype, &[7, 0, 0, 0, 1]), None);
            assert_eq!(converted(linktype, &[0, 2, 0, 0, 1]), None);
        }
    }

    #[test]
    fn ppp_comes_with_and_without_framing_and_compression() {
        let ppp = |front: &[u8]| converted(LinkType::PPP, &[front, FOUR].concat());
        assert_eq!(ppp(&[0xff, 0x03, 0x00, 0x21]), Some((IPV4, 4)));
        assert_eq!(ppp(&[0xff, 0x03, 0x21]), Some((IPV4, 3)));
        assert_eq!(ppp(&[0x00, 0x57]), Some((IPV6, 2)));
        assert_eq!(ppp(&[0x57]), Some((IPV6, 1)));
        assert_eq!(ppp(&[0x02, 0x81]), Some((0x8847, 2)));
        // LCP has no EtherType.
        assert_eq!(ppp(&[0xff, 0x03, 0xc0, 0x21]), None);
    }

    #[test]
    fn serial_lines_are_those_of_ppp_or_of_cisco() {
        let hdlc = |front: &[u8]| converted(LinkType::PPP_HDLC, &[front, FOUR].concat());
        assert_eq!(hdlc(&[0xff, 0x03, 0x00, 0x21]), Some((IPV4, 4)));
        assert_eq!(hdlc(&[0xff, 0x03, 0x57]), Some((IPV6, 3)));
        assert_eq!(hdlc(&[0x00, 0x21]), Some((IPV4, 2)));
        assert_eq!(hdlc(&[0x0f, 0x00, 0x08, 0x00]), Some((IPV4, 4)));
        assert_eq!(hdlc(&[0x8f, 0x00, 0x88, 0x47]), Some((MPLS, 4)));
        // LCP; SLARP; Cisco's discovery protocol; no HDLC at all.
        for front in [[0xff, 3, 0xc0, 0x21], [0x8f, 0, 0x80, 0x35], [0x8f, 0, 0x20, 0], [0x0f, 1, 8, 0]] {
            assert_eq!(hdlc(&front), None, "{front:?}");
        }
    }

    #[test]
    fn pppoe_is_discovery_or_a_session() {
        let pppoe = |front: &[u8]| converted(LinkType::PPP_ETHER, &[front, FOUR].concat());
        assert_eq!(pppoe(&[0x11, 0, 0, 7, 0, 6, 0, 0x21]), Some((0x8864, 0)));
        assert_eq!(pppoe(&[0x11, 9, 0, 0, 0, 4]), Some((0x8863, 0)));
        assert_eq!(pppoe(&[0x45, 0, 0, 0, 0, 4]), None);
    }

    #[test]
    fn cooked_packets_keep_their_sender_and_say_whom_they_were_for() {
        assert_eq!(cooked_header(0, 1, IPV4, FOUR), header(UNKNOWN_RECEIVER, SENDER, IPV4));
        assert_eq!(cooked_header(1, 1, 0x0806, &[0; 28]), header([0xff; 6], SENDER, 0x0806));
        let mut group = [0; 40];
        group[16..20].copy_from_slice(&[239, 200, 1, 2]);
        assert_eq!(cooked_header(2, 1, IPV4, &group), header([1, 0, 0x5e, 72, 1, 2], SENDER, IPV4));
        group[24..28].copy_from_slice(&[0xff, 2, 0, 0]);
        group[36..].copy_from_slice(&[0, 0, 0, 0xfb]);
        assert_eq!(cooked_header(2, 1, IPV6, &group), header([0x33, 0x33, 0, 0, 0, 0xfb], SENDER, IPV6));
        assert_eq!(cooked_header(2, 1, IPV4, FOUR), header(UNKNOWN_RECEIVER, SENDER, IPV4));
    }

    #[test]
    fn a_vlan_tag_inside_a_cooked_packet_stays() {
        let tagged = [&[0, 42, 8, 0][..], FOUR].concat();
        assert_eq!(cooked_header(4, 1, 0x8100, &tagged), header(UNKNOWN_RECEIVER, SENDER, 0x8100));
    }

    #[test]
    fn packets_of_802_2_and_802_3_get_a_length() {
        assert_eq!(cooked_header(0, 1, 4, &[0x42; 38]), header(UNKNOWN_RECEIVER, SENDER, 38));
        assert_eq!(cooked_header(0, 1, 1, &[0xff; 1500]), header(UNKNOWN_RECEIVER, SENDER, 1500));
        assert_eq!(cooked_header(0, 1, 4, &[0x42; 1501]), None);
        let [(linktype, octets), _] = cooked(0, 1, 4, &[0x42; 10]);
        let cut =
            to_ethernet(linktype, &octets, 16 + 60, &Addresses::default()).map(|p| (p.header, p.origlen));
        assert_eq!(cut, header(UNKNOWN_RECEIVER, SENDER, 60).map(|header| (header, 74)));
    }

    #[test]
    fn what_ethernet_cannot_carry_is_not_converted() {
        for (arphrd, protocol) in
            [(824, IPV4), (803, IPV4), (801, 4), (770, IPV4), (280, 0x000c), (1, 3), (1, 0x05ff), (778, 4)]
        {
            assert_eq!(cooked_header(0, arphrd, protocol, FOUR), None, "{arphrd} {protocol}");
        }
        // Tunnels without an address: ARPHRD_NONE, ARPHRD_PPP, ARPHRD_IPGRE.
        for arphrd in [0xfffe, 512, 778] {
            assert!(cooked_header(0, arphrd, IPV4, FOUR).is_some(), "{arphrd}");
        }
    }

    #[test]
    fn the_operators_addresses_are_put_before_those_of_the_packet() {
        let [(linktype, octets), _] = cooked(1, 1, IPV4, FOUR);
        let ours = Addresses { source: Some([2; 6]), destination: Some([4; 6]) };
        let packet = to_ethernet(linktype, &octets, 20, &ours);
        assert_eq!(packet.map(|packet| packet.header), header([4; 6], [2; 6], IPV4));
    }

    #[test]
    fn the_largest_packet_stays_below_what_readers_accept() {
        let octets = [&[0x45][..], &vec![0; 262_143]].concat();
        let packet = to_ethernet(LinkType::RAW, &octets, 262_144, &Addresses::default());
        assert_eq!(packet.map(|p| (p.caplen(), p.origlen)), Some((262_144, 262_158)));
        let packet = to_ethernet(LinkType::RAW, FOUR, u32::MAX, &Addresses::default());
        assert_eq!(packet.map(|p| (p.caplen(), p.origlen)), Some((18, u32::MAX)));
    }

    #[test]
    fn a_header_that_is_cut_short_is_not_converted() {
        let cooked = cooked(0, 1, IPV4, &[]);
        let whole = [
            (LinkType::RAW, vec![0x45]),
            (LinkType::IPV4, vec![0x45]),
            (LinkType::IPV6, vec![0x60]),
            (LinkType::NULL, vec![2, 0, 0, 0]),
            (LinkType::LOOP, vec![0, 0, 0, 2]),
            (LinkType::PPP, vec![0xff, 3, 0, 0x21]),
            (LinkType::PPP_HDLC, vec![0xff, 3, 0, 0x21]),
            (LinkType::PPP_HDLC, vec![0x8f, 0, 8, 0]),
            (LinkType::PPP_ETHER, vec![0x11, 0, 0, 7, 0, 0]),
        ];
        for (linktype, octets) in whole.into_iter().chain(cooked) {
            assert!(converted(linktype, &octets).is_some(), "{linktype}");
            for len in 0..octets.len() {
                assert_eq!(converted(linktype, &octets[..len]), None, "{linktype}, {len} octets");
            }
            assert!(is_convertible(linktype));
        }
    }
}
