//! Linux cooked captures, versions 1 and 2: what `tcpdump -i any` writes.

use super::{Front, IPV4, IPV6, MacAddress, UNKNOWN_RECEIVER, UNKNOWN_SENDER};

/// What both versions of Linux cooked capture say.
pub(super) struct Cooked<'a> {
    packet_type: u16,
    arphrd: u16,
    address: &'a [u8; 8],
    address_len: u16,
    protocol: u16,
    payload: &'a [u8],
}

/// Packet type, ARPHRD_ type and address length of 16 bits, address, protocol.
pub(super) fn sll(octets: &[u8]) -> Option<Cooked<'_>> {
    let (packet_type, rest) = word(octets)?;
    let (arphrd, rest) = word(rest)?;
    let (address_len, rest) = word(rest)?;
    let (address, rest) = rest.split_first_chunk::<8>()?;
    let (protocol, payload) = word(rest)?;
    Some(Cooked { packet_type, arphrd, address, address_len, protocol, payload })
}

/// Protocol, two reserved octets, interface index, ARPHRD_ type, packet type and address length of
/// 8 bits, address.
pub(super) fn sll2(octets: &[u8]) -> Option<Cooked<'_>> {
    let (protocol, rest) = word(octets)?;
    let (_, rest) = rest.split_first_chunk::<6>()?;
    let (arphrd, rest) = word(rest)?;
    let ([packet_type, address_len], rest) = rest.split_first_chunk::<2>()?;
    let (address, payload) = rest.split_first_chunk::<8>()?;
    let (packet_type, address_len) = (u16::from(*packet_type), u16::from(*address_len));
    Some(Cooked { packet_type, arphrd, address, address_len, protocol, payload })
}

fn word(octets: &[u8]) -> Option<(u16, &[u8])> {
    let (word, rest) = octets.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*word), rest))
}

/// ARPHRD_ types under which the protocol is no EtherType: Frame Relay, 802.11 in its three
/// forms, netlink.
const NOT_ETHERTYPE: [u16; 5] = [770, 801, 802, 803, 824];
/// ARPHRD_IPGRE and ARPHRD_IP6GRE: a GRE protocol type, which is an EtherType (RFC 2784, section
/// 2.4) and never one of Linux's own numbers below those.
const GRE: [u16; 2] = [778, 823];

/// Least EtherType; what is below, is a length (IEEE 802.3, clause 3.2.6).
const LEAST_ETHERTYPE: u16 = 0x0600;
/// Most octets that a length field may announce.
const MOST_LENGTH: u16 = 1500;

/// Linux's numbers for packets with a length field: Novell's bare 802.3, and 802.2.
const ETH_P_802_3: u16 = 1;
const ETH_P_802_2: u16 = 4;

const PACKET_BROADCAST: u16 = 1;
const PACKET_MULTICAST: u16 = 2;

impl<'a> Cooked<'a> {
    pub(super) fn front(self, uncaptured: usize) -> Option<Front<'a>> {
        if NOT_ETHERTYPE.contains(&self.arphrd) {
            return None;
        }
        let ethertype = match self.protocol {
            LEAST_ETHERTYPE.. => self.protocol,
            _ if GRE.contains(&self.arphrd) => return None,
            ETH_P_802_3 | ETH_P_802_2 => self.length(uncaptured)?,
            _ => return None,
        };
        let destination = match self.packet_type {
            PACKET_BROADCAST => [0xff; 6],
            PACKET_MULTICAST => group(ethertype, self.payload).unwrap_or(UNKNOWN_RECEIVER),
            _ => UNKNOWN_RECEIVER,
        };
        // The rest of the field is padding.
        let source = match (self.address_len, self.address) {
            (6, [address @ .., _, _]) => *address,
            _ => UNKNOWN_SENDER,
        };
        Some(Front { destination, source, ethertype, payload: self.payload })
    }

    /// The length field: what the packet had behind its header, on the wire.
    fn length(&self, uncaptured: usize) -> Option<u16> {
        let length = self.payload.len().saturating_add(uncaptured);
        u16::try_from(length).ok().filter(|length| *length <= MOST_LENGTH)
    }
}

/// The Ethernet address of an IP packet's multicast group (RFC 1112, section 6.4; RFC 2464,
/// section 7); `None` for other packets.
fn group(ethertype: u16, payload: &[u8]) -> Option<MacAddress> {
    match ethertype {
        IPV4 => match payload.get(16..20)? {
            [224..=239, b, c, d] => Some([0x01, 0x00, 0x5e, b & 0x7f, *c, *d]),
            _ => None,
        },
        IPV6 => match (payload.get(24)?, payload.get(36..40)?) {
            (0xff, [a, b, c, d]) => Some([0x33, 0x33, *a, *b, *c, *d]),
            _ => None,
        },
        _ => None,
    }
}
