//! TCP super-packets, which a network card or a kernel has put together or will cut, as the packets
//! that are on the wire: each fits the MTU and is what the sender would have sent.
//!
//! Sources: RFC 9293 (TCP), RFC 791 and RFC 6864 (IPv4 and its identification), RFC 8200 (IPv6).

/// What a super-packet is cut into.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    /// Ethernet header and VLAN tags.
    link: &'a [u8],
    network: Network<'a>,
    /// The TCP header with its options.
    tcp: &'a [u8],
    payload: &'a [u8],
    /// Octets of payload in each segment.
    most: usize,
    /// Octets of it that went.
    done: usize,
    number: u16,
}

#[derive(Debug, Clone, Copy)]
enum Network<'a> {
    V4(&'a [u8]),
    V6(&'a [u8]),
}

const ETHERNET_ADDRESSES: usize = 12;
const IPV6_HEADER: usize = 40;
const TCP: u8 = 6;
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// Cuts an Ethernet packet, with VLAN tags or without, so that the network layer of each part has at
/// most `mtu` octets. `None` for what is no whole TCP packet in IPv4 or IPv6: fragments, other protocols,
/// IPv6 with extension headers, headers that do not fit the MTU.
pub fn segments(octets: &[u8], mtu: usize) -> Option<Segments<'_>> {
    let (link, kind, rest) = link(octets)?;
    let (network, rest) = match kind {
        0x0800 => v4(rest)?,
        0x86dd => v6(rest)?,
        _ => return None,
    };
    let header = usize::from(rest.get(12)? >> 4) * 4;
    let (tcp, payload) = (rest.get(..header).filter(|_| header >= 20)?, rest.get(header..)?);
    let most = mtu.checked_sub(network.octets().len() + header).filter(|most| *most > 0)?;
    Some(Segments { link, network, tcp, payload, most, done: 0, number: 0 })
}

fn link(octets: &[u8]) -> Option<(&[u8], u16, &[u8])> {
    let mut at = ETHERNET_ADDRESSES;
    // Two tags at most, as any network has.
    for _ in 0..3 {
        let kind = u16::from_be_bytes(*octets.get(at..)?.first_chunk()?);
        if ![0x8100, 0x88a8, 0x9100].contains(&kind) {
            return Some((octets.get(..at + 2)?, kind, octets.get(at + 2..)?));
        }
        at += 4;
    }
    None
}

/// The header, and the TCP segment behind it.
fn v4(octets: &[u8]) -> Option<(Network<'_>, &[u8])> {
    let header = usize::from(octets.first()? & 0x0f) * 4;
    let total = usize::from(u16::from_be_bytes(*octets.get(2..)?.first_chunk()?));
    // More than can be expressed is 0 here (Linux, BIG TCP).
    let total = if total == 0 { octets.len() } else { total };
    let fragment = u16::from_be_bytes(*octets.get(6..)?.first_chunk()?) & 0x3fff;
    let sane = octets.first()? >> 4 == 4 && header >= 20 && fragment == 0 && *octets.get(9)? == TCP;
    // What was cut by a snaplen is not whole, and what is behind its end is padding.
    let packet = octets.get(..total).filter(|_| sane)?;
    Some((Network::V4(packet.get(..header)?), packet.get(header..)?))
}

fn v6(octets: &[u8]) -> Option<(Network<'_>, &[u8])> {
    let length = usize::from(u16::from_be_bytes(*octets.get(4..)?.first_chunk()?));
    let sane = octets.first()? >> 4 == 6 && *octets.get(6)? == TCP;
    let packet = octets.get(..IPV6_HEADER + length).filter(|_| sane && length > 0)?;
    Some((Network::V6(packet.get(..IPV6_HEADER)?), packet.get(IPV6_HEADER..)?))
}

impl Network<'_> {
    fn octets(&self) -> &[u8] {
        match self {
            Network::V4(octets) | Network::V6(octets) => octets,
        }
    }
}

impl Segments<'_> {
    /// Appends the next packet to `out`; false, and nothing, behind the last one.
    pub fn next_into(&mut self, out: &mut Vec<u8>) -> bool {
        let payload = self.payload.get(self.done..).unwrap_or_default();
        if payload.is_empty() && self.number > 0 {
            return false;
        }
        let part = payload.get(..self.most).unwrap_or(payload);
        let last = part.len() == payload.len();
        let segment = self.tcp_segment(part, last);
        out.extend_from_slice(self.link);
        let header = out.len();
        out.extend_from_slice(self.network.octets());
        let place = out.get_mut(header..).unwrap_or_default();
        match self.network {
            Network::V4(before) => {
                let length = before.len() + segment.len();
                put(place, 2, (length as u16).to_be_bytes());
                let id = before.get(4..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
                put(place, 4, u16::from_be_bytes(id).wrapping_add(self.number).to_be_bytes());
                put(place, 10, [0; 2]);
                let sum = checksum(&[place]);
                put(place, 10, sum.to_be_bytes());
            }
            Network::V6(_) => put(place, 4, (segment.len() as u16).to_be_bytes()),
        }
        let start = out.len();
        out.extend_from_slice(&segment);
        let pseudo = self.pseudo_header(segment.len());
        let sum = checksum(&[&pseudo, out.get(start..).unwrap_or_default()]);
        put(out.get_mut(start..).unwrap_or_default(), 16, sum.to_be_bytes());
        self.done += part.len();
        self.number = self.number.wrapping_add(1).max(1);
        true
    }

    /// Header and payload, without checksum.
    fn tcp_segment(&self, part: &[u8], last: bool) -> Vec<u8> {
        let mut segment = [self.tcp, part].concat();
        let sequence = self.tcp.get(4..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        let sequence = u32::from_be_bytes(sequence).wrapping_add(self.done as u32);
        put(&mut segment, 4, sequence.to_be_bytes());
        if let Some(flags) = segment.get_mut(13) {
            if !last {
                *flags &= !(FIN | PSH);
            }
            if self.number > 0 {
                *flags &= !CWR;
            }
        }
        put(&mut segment, 16, [0; 2]);
        segment
    }

    /// RFC 9293, section 3.1; RFC 8200, section 8.1.
    fn pseudo_header(&self, length: usize) -> Vec<u8> {
        let (addresses, length) = match self.network {
            Network::V4(header) => (header.get(12..20), (length as u16).to_be_bytes().to_vec()),
            Network::V6(header) => (header.get(8..40), (length as u32).to_be_bytes().to_vec()),
        };
        let protocol = if matches!(self.network, Network::V4(_)) { vec![0, TCP] } else { vec![0, 0, 0, TCP] };
        let addresses = addresses.unwrap_or_default().to_vec();
        match self.network {
            Network::V4(_) => [addresses, protocol, length].concat(),
            Network::V6(_) => [addresses, length, protocol].concat(),
        }
    }
}

fn put<const N: usize>(octets: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = octets.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}

/// The Internet checksum (RFC 1071) over parts, of which all but the last have even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            let low = pair.get(1).copied().unwrap_or(0);
            sum += u64::from(u16::from_be_bytes([pair.first().copied().unwrap_or(0), low]));
        }
    }
    while sum >> 16 > 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A TCP packet with options, FIN, PSH and CWR, and this payload.
    fn super_packet(v6: bool, tag: bool, payload: &[u8]) -> Vec<u8> {
        let mut octets = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        if tag {
            octets.extend([0x81, 0, 0, 7]);
        }
        let length = 32 + payload.len();
        if v6 {
            octets.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            octets.extend((length as u16).to_be_bytes());
            octets.extend([TCP, 64]);
            octets.extend([1; 16]);
            octets.extend([2; 16]);
        } else {
            octets.extend([8, 0, 0x45, 0]);
            octets.extend(((20 + length) as u16).to_be_bytes());
            octets.extend([0xff, 0xff, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        }
        octets.extend([
            0,
            80,
            1,
            0,
            0xff,
            0xff,
            0xff,
            0,
            0,
            0,
            0,
            9,
            0x80,
            FIN | PSH | CWR | 0x10,
            1,
            0,
            0,
            0,
            0,
            0,
        ]);
        octets.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
        octets.extend(payload);
        octets
    }

    fn cut(octets: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut segments = segments(octets, mtu).unwrap();
        let mut all = Vec::new();
        loop {
            let mut out = Vec::new();
            if !segments.next_into(&mut out) {
                return all;
            }
            all.push(out);
        }
    }

    proptest! {
        #[test]
        fn the_segments_are_the_payload_each_fits_and_their_checksums_hold(
            v6: bool, tag: bool, payload in prop::collection::vec(any::<u8>(), 0..20_000), mtu in 200usize..9000,
        ) {
            let packet = super_packet(v6, tag, &payload);
            let parts = cut(&packet, mtu);
            let (link, network) = (if tag { 18 } else { 14 }, if v6 { 40 } else { 20 });
            let mut joined: Vec<u8> = Vec::new();
            for (number, part) in parts.iter().enumerate() {
                prop_assert!(part.len() <= link + mtu);
                let last = number + 1 == parts.len();
                let tcp = &part[link + network..];
                let sequence = u32::from_be_bytes(tcp[4..8].try_into().unwrap());
                prop_assert_eq!(sequence, 0xffff_ff00u32.wrapping_add(joined.len() as u32));
                prop_assert_eq!(tcp[13] & (FIN | PSH) != 0, last);
                prop_assert_eq!(tcp[13] & CWR != 0, number == 0);
                let addresses = if v6 { &part[link + 8..link + 40] } else { &part[link + 12..link + 20] };
                let length = (tcp.len() as u32).to_be_bytes();
                prop_assert_eq!(checksum(&[addresses, &length, &[0, TCP], tcp]), 0);
                if !v6 {
                    prop_assert_eq!(checksum(&[&part[link..link + 20]]), 0);
                    let id = u16::from_be_bytes([part[link + 4], part[link + 5]]);
                    prop_assert_eq!(id, 0xffffu16.wrapping_add(number as u16));
                }
                joined.extend(&tcp[32..]);
            }
            prop_assert_eq!(joined, payload);
        }

        #[test]
        fn any_octets_are_cut_or_not(octets: Vec<u8>, mtu in 0usize..3000) {
            if segments(&octets, mtu).is_some() {
                cut(&octets, mtu);
            }
        }
    }

    #[test]
    fn fragments_and_what_is_cut_short_are_left_alone() {
        let packet = super_packet(false, false, &[7; 3000]);
        assert!(segments(&packet[..2000], 1500).is_none());
        let mut fragment = packet.clone();
        fragment[20] |= 0x20;
        assert!(segments(&fragment, 1500).is_none());
        let mut datagram = packet;
        datagram[23] = 17;
        assert!(segments(&datagram, 1500).is_none());
    }
}
