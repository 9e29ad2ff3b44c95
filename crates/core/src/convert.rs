//! Packets of other linktypes as Ethernet, the one linktype that every tool decodes: a header is
//! exchanged, what follows it stays.
//!
//! Sources: the registry at <https://www.tcpdump.org/linktypes.html> and its pages for
//! LINKTYPE_LINUX_SLL and LINKTYPE_LINUX_SLL2; RFC 1661 and RFC 1662 for PPP.

use crate::linktype::LinkType;

/// MAC addresses of packets that had none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The source; `None`: as the packet says, else zeros.
    pub source: Option<[u8; 6]>,
    /// The destination; `None`: as the packet says, else zeros.
    pub destination: Option<[u8; 6]>,
}

/// A packet as Ethernet: this header, and then its octets from `skip` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    /// The Ethernet header.
    pub header: [u8; ETHERNET_HEADER],
    /// Octets at the packet's beginning that it stands for.
    pub skip: usize,
}

/// The Ethernet header, in octets.
pub const ETHERNET_HEADER: usize = 14;

impl Converted {
    /// What a length of the packet as it was becomes.
    pub fn length(&self, before: u32) -> u32 {
        before.saturating_sub(self.skip as u32).saturating_add(ETHERNET_HEADER as u32)
    }
}

/// Whether packets of a linktype can become Ethernet.
pub fn is_convertible(linktype: LinkType) -> bool {
    [
        LinkType::RAW,
        LinkType::IPV4,
        LinkType::IPV6,
        LinkType::NULL,
        LinkType::LOOP,
        LinkType::SLL,
        LinkType::SLL2,
        LinkType::PPP,
    ]
    .contains(&linktype)
}

/// A packet of another linktype as Ethernet. `None` where its linktype is not
/// [convertible](is_convertible), where it is cut short before its payload begins, and where it carries
/// what Ethernet does not: netlink messages, PPP's own protocols.
pub fn to_ethernet(linktype: LinkType, octets: &[u8], addresses: &Addresses) -> Option<Converted> {
    let packet = match linktype {
        LinkType::RAW => Packet::of(ip(octets)?, 0),
        LinkType::IPV4 => Packet::of(IPV4, 0),
        LinkType::IPV6 => Packet::of(IPV6, 0),
        LinkType::NULL => Packet::of(null(octets)?, 4),
        LinkType::LOOP => Packet::of(family(u32::from_be_bytes(*octets.first_chunk()?))?, 4),
        LinkType::SLL => sll(octets)?,
        LinkType::SLL2 => sll2(octets)?,
        LinkType::PPP => ppp(octets)?,
        _ => return None,
    };
    // Below 0x600 it is not a type but a length (IEEE 802.3, 3.2.6), and 802.2 LLC follows.
    let kind = match packet.kind {
        Kind::Type(kind) => kind,
        Kind::Llc => u16::try_from(octets.len().checked_sub(packet.skip)?).ok().filter(|n| *n <= 1500)?,
    };
    let [d0, d1, d2, d3, d4, d5] = addresses.destination.unwrap_or(packet.destination);
    let [s0, s1, s2, s3, s4, s5] = addresses.source.unwrap_or(packet.source);
    let [k0, k1] = kind.to_be_bytes();
    let header = [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, k0, k1];
    Some(Converted { header, skip: packet.skip })
}

/// What a packet says of itself.
struct Packet {
    kind: Kind,
    source: [u8; 6],
    destination: [u8; 6],
    skip: usize,
}

enum Kind {
    /// An EtherType.
    Type(u16),
    /// IEEE 802.2 LLC.
    Llc,
}

impl Packet {
    /// One without addresses.
    fn of(kind: u16, skip: usize) -> Self {
        Packet { kind: Kind::Type(kind), source: [0; 6], destination: [0; 6], skip }
    }
}

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

fn ip(octets: &[u8]) -> Option<u16> {
    match octets.first()? >> 4 {
        4 => Some(IPV4),
        6 => Some(IPV6),
        _ => None,
    }
}

/// The family is in the byte order of whoever captured: in one of the two it is a small number.
fn null(octets: &[u8]) -> Option<u16> {
    let word = *octets.first_chunk()?;
    family(u32::from_le_bytes(word)).or_else(|| family(u32::from_be_bytes(word)))
}

/// AF_INET is 2 everywhere; AF_INET6 is 10 on Linux, 24 on NetBSD, OpenBSD and BSD/OS, 28 on FreeBSD, 30
/// on macOS.
fn family(number: u32) -> Option<u16> {
    match number {
        2 => Some(IPV4),
        10 | 24 | 28 | 30 => Some(IPV6),
        _ => None,
    }
}

fn sll(octets: &[u8]) -> Option<Packet> {
    let header: &[u8; 16] = octets.first_chunk()?;
    let [t0, t1, h0, h1, l0, l1, a0, a1, a2, a3, a4, a5, _, _, p0, p1] = *header;
    let address = (u16::from_be_bytes([l0, l1]) == 6).then_some([a0, a1, a2, a3, a4, a5]);
    let hardware_type = u16::from_be_bytes([h0, h1]);
    let packet_type = u16::from_be_bytes([t0, t1]);
    cooked(hardware_type, packet_type, address, u16::from_be_bytes([p0, p1]), header.len())
}

fn sll2(octets: &[u8]) -> Option<Packet> {
    let header: &[u8; 20] = octets.first_chunk()?;
    let [p0, p1, _, _, _, _, _, _, h0, h1, kind, length, a0, a1, a2, a3, a4, a5, _, _] = *header;
    let address = (length == 6).then_some([a0, a1, a2, a3, a4, a5]);
    let hardware_type = u16::from_be_bytes([h0, h1]);
    cooked(hardware_type, kind.into(), address, u16::from_be_bytes([p0, p1]), header.len())
}

/// Hardware types whose protocol field is not an EtherType: netlink, GRE over IP, radiotap.
const NOT_ETHERTYPE: [u16; 5] = [824, 778, 823, 803, 802];

fn cooked(
    hardware_type: u16,
    packet_type: u16,
    address: Option<[u8; 6]>,
    protocol: u16,
    skip: usize,
) -> Option<Packet> {
    if NOT_ETHERTYPE.contains(&hardware_type) {
        return None;
    }
    let kind = match protocol {
        0x0600.. => Kind::Type(protocol),
        // 802.2 LLC; Novell's 802.3 without it looks the same on the wire.
        0x0004 | 0x0001 => Kind::Llc,
        _ => return None,
    };
    let destination = match packet_type {
        1 => [0xff; 6],
        // Which group it was is not told: the one of all hosts.
        2 => [0x01, 0x00, 0x5e, 0x00, 0x00, 0x01],
        _ => [0; 6],
    };
    Some(Packet { kind, source: address.unwrap_or_default(), destination, skip })
}

/// The address and control octets may be left out, and the protocol may be one odd octet (RFC 1661,
/// section 2, and 6.5, 6.6).
fn ppp(octets: &[u8]) -> Option<Packet> {
    let framing = if octets.starts_with(&[0xff, 0x03]) { 2 } else { 0 };
    let (protocol, length) = match octets.get(framing..)? {
        [first, ..] if first % 2 == 1 => (u16::from(*first), 1),
        [first, second, ..] => (u16::from_be_bytes([*first, *second]), 2),
        _ => return None,
    };
    let kind = match protocol {
        0x0021 => IPV4,
        0x0057 => IPV6,
        0x0281 => 0x8847,
        0x0283 => 0x8848,
        _ => return None,
    };
    Some(Packet::of(kind, framing + length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn converted(linktype: LinkType, octets: &[u8]) -> Option<(Vec<u8>, usize)> {
        let converted = to_ethernet(linktype, octets, &Addresses::default())?;
        Some((converted.header.to_vec(), converted.skip))
    }

    #[test]
    fn ip_packets_get_the_type_of_their_version() {
        assert_eq!(converted(LinkType::RAW, &[0x45]).unwrap().0[12..], [0x08, 0x00]);
        assert_eq!(converted(LinkType::RAW, &[0x60]).unwrap().0[12..], [0x86, 0xdd]);
        assert_eq!(converted(LinkType::RAW, &[0x10]), None);
        assert_eq!(
            converted(LinkType::NULL, &[2, 0, 0, 0, 0x45]).unwrap(),
            (vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0], 4)
        );
        assert_eq!(converted(LinkType::NULL, &[0, 0, 0, 30, 0x60]).unwrap().0[12..], [0x86, 0xdd]);
        assert_eq!(converted(LinkType::LOOP, &[2, 0, 0, 0, 0x45]), None);
    }

    #[test]
    fn a_cooked_packet_keeps_its_sender_and_tells_who_was_meant() {
        let header = [0, 1, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 8, 6];
        let (ethernet, skip) = converted(LinkType::SLL, &header).unwrap();
        assert_eq!(ethernet, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 8, 6]);
        assert_eq!(skip, 16);
        let header = [0x81, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0, 5, 8, 0];
        let (ethernet, skip) = converted(LinkType::SLL2, &header).unwrap();
        assert_eq!(ethernet, [0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 0x81, 0]);
        assert_eq!(skip, 20);
    }

    #[test]
    fn netlink_is_no_ethernet_and_llc_has_a_length() {
        let mut header = [0, 0, 3, 56, 0, 6, 1, 2, 3, 4, 5, 6, 0, 0, 0, 16, 0, 0];
        assert_eq!(converted(LinkType::SLL, &header), None);
        header[2..4].copy_from_slice(&[0, 1]);
        header[14..16].copy_from_slice(&[0, 4]);
        assert_eq!(converted(LinkType::SLL, &header).unwrap().0[12..], [0, 2]);
    }

    #[test]
    fn ppp_may_leave_parts_of_its_header_out() {
        for header in [&[0xff, 3, 0, 0x21][..], &[0, 0x21], &[0x21], &[0xff, 3, 0x21]] {
            let (ethernet, skip) = converted(LinkType::PPP, &[header, &[0x45]].concat()).unwrap();
            assert_eq!((&ethernet[12..], skip), (&[8, 0][..], header.len()));
        }
        assert_eq!(converted(LinkType::PPP, &[0xff, 3, 0xc0, 0x21, 1]), None);
    }

    #[test]
    fn addresses_can_be_given() {
        let addresses = Addresses { source: Some([2; 6]), destination: Some([4; 6]) };
        let header = to_ethernet(LinkType::IPV4, &[0x45], &addresses).unwrap().header;
        assert_eq!(header, [4, 4, 4, 4, 4, 4, 2, 2, 2, 2, 2, 2, 8, 0]);
    }

    proptest! {
        #[test]
        fn any_octets_are_converted_or_not(octets: Vec<u8>, linktype in 0u16..300) {
            let linktype = LinkType(linktype);
            if let Some(converted) = to_ethernet(linktype, &octets, &Addresses::default()) {
                prop_assert!(is_convertible(linktype));
                prop_assert!(converted.skip <= octets.len());
            }
        }
    }
}
