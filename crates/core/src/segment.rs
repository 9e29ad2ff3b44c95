//! Cuts the TCP super-packets that captures are full of, because offloading (GRO, TSO) joins and
//! splits packets on the other side of the capture point, into packets that fit a network: on the
//! way to a sink that injects.
//!
//! The segments carry the same stream: same headers and options, sequence numbers in a row,
//! checksums recomputed in full. What cannot be cut so that a receiver would see the same, is not
//! cut and says why. Whatever the octets are, nothing panics.

use std::ops::Range;

/// Why a packet is not cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unsegmentable {
    /// There is nothing to do.
    #[error("it fits as it is")]
    Fits,
    /// Fewer octets were captured than the packet had.
    #[error("it was not captured whole")]
    Truncated,
    /// Neither TCP in IPv4 nor TCP in IPv6.
    #[error("it is not TCP")]
    NotTcp,
    /// A fragment of an IPv4 or IPv6 packet.
    #[error("it is an IP fragment")]
    Fragment,
    /// IPv6 extension headers, a jumbo payload (RFC 2675) among them.
    #[error("it has IPv6 extension headers")]
    Extended,
    /// SYN, RST or URG, which belong to one place of the stream.
    #[error("it has TCP flags that cannot be shared out")]
    Flags,
    /// Its headers contradict themselves.
    #[error("its headers are malformed")]
    Malformed,
    /// Not one octet of payload fits.
    #[error("its headers alone are larger than the MTU")]
    MtuTooSmall,
}

/// Cuts an Ethernet packet, with up to two VLAN tags, into packets whose network layer has at most
/// `mtu` octets each.
///
/// `octets` are what was captured, of `origlen` on the wire. An MTU above 65,535 counts as that,
/// because no IPv4 packet is larger. A length of zero in the IP header is what Linux writes above
/// 65,535 octets (BIG TCP) and Windows before offloading: such a packet goes to the end of the
/// capture. What follows the IP packet (padding, a frame check sequence) is not in the segments.
///
/// # Errors
/// [`Unsegmentable`]: the packet can only be sent as it is, or not at all.
///
/// ```no_run
/// # use pcaphub_core::segment::{Unsegmentable, segments};
/// # fn send(_packet: &[u8]) {}
/// # let octets = &[0; 4000];
/// let mut packet = Vec::new();
/// match segments(octets, 4000, 1500) {
///     Ok(mut segments) => {
///         while segments.write_next(&mut packet) {
///             send(&packet);
///         }
///     }
///     Err(Unsegmentable::Fits) => send(octets),
///     Err(reason) => eprintln!("not sent: {reason}"),
/// }
/// ```
pub fn segments(octets: &[u8], origlen: u32, mtu: usize) -> Result<Segments<'_>, Unsegmentable> {
    let (ethertype, network_at) = link(octets).ok_or(Unsegmentable::Malformed)?;
    let network = octets.get(network_at..).unwrap_or_default();
    let mtu = mtu.min(usize::from(u16::MAX));
    if network.len() <= mtu {
        return Err(Unsegmentable::Fits);
    }
    let Ip { version, header, total } = match ethertype {
        0x0800 => ipv4(network)?,
        0x86dd => ipv6(network)?,
        _ => return Err(Unsegmentable::NotTcp),
    };
    if origlen as usize > octets.len() || total > network.len() {
        return Err(Unsegmentable::Truncated);
    }
    if total <= mtu {
        return Err(Unsegmentable::Fits);
    }
    let transport = network.get(header..total).ok_or(Unsegmentable::Malformed)?;
    let tcp = tcp(transport)?;
    let most = mtu.checked_sub(header + tcp.header).filter(|most| *most > 0);
    let headers_end = network_at + header + tcp.header;
    Ok(Segments {
        headers: octets.get(..headers_end).ok_or(Unsegmentable::Malformed)?,
        payload: transport.get(tcp.header..).ok_or(Unsegmentable::Malformed)?,
        network_at,
        transport_at: network_at + header,
        version,
        sequence: tcp.sequence,
        flags: tcp.flags,
        most: most.ok_or(Unsegmentable::MtuTooSmall)?,
        next: 0,
        written: 0,
    })
}

/// The segments of a packet, written one after the other.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    /// Ethernet, IP and TCP headers as captured.
    headers: &'a [u8],
    payload: &'a [u8],
    network_at: usize,
    transport_at: usize,
    version: Version,
    sequence: u32,
    flags: u8,
    /// Most octets of payload in a segment; above zero.
    most: usize,
    /// Where the payload of the next segment begins.
    next: usize,
    written: u16,
}

/// What differs between the two network layers.
#[derive(Debug, Clone, Copy)]
enum Version {
    Four { identification: u16 },
    Six,
}

impl Segments<'_> {
    /// How many are still to be written.
    pub fn remaining(&self) -> usize {
        self.payload.len().saturating_sub(self.next).div_ceil(self.most)
    }

    /// Puts the next segment, a whole Ethernet packet, into `out` instead of what is there; `false`
    /// after the last, and then `out` is empty.
    pub fn write_next(&mut self, out: &mut Vec<u8>) -> bool {
        out.clear();
        let end = self.payload.len().min(self.next.saturating_add(self.most));
        let Some(piece) = self.payload.get(self.next..end).filter(|piece| !piece.is_empty()) else {
            return false;
        };
        out.extend_from_slice(self.headers);
        out.extend_from_slice(piece);
        self.finish_network(out);
        self.finish_transport(out, end == self.payload.len());
        self.next = end;
        self.written = self.written.wrapping_add(1);
        true
    }

    /// IPv4: total length, identification, header checksum (RFC 791, section 3.1). IPv6: payload
    /// length (RFC 8200, section 3).
    fn finish_network(&self, out: &mut [u8]) {
        let total = (out.len() - self.network_at) as u16;
        match self.version {
            Version::Four { identification } => {
                put(out, self.network_at + 2, total.to_be_bytes());
                let identification = identification.wrapping_add(self.written);
                put(out, self.network_at + 4, identification.to_be_bytes());
                put(out, self.network_at + 10, [0; 2]);
                let checksum = checksum(sum(part(out, self.network_at..self.transport_at)));
                put(out, self.network_at + 10, checksum.to_be_bytes());
            }
            Version::Six => {
                let length = total.saturating_sub(IPV6_HEADER as u16);
                put(out, self.network_at + 4, length.to_be_bytes());
            }
        }
    }

    /// Sequence number, flags and checksum (RFC 9293, section 3.1).
    fn finish_transport(&self, out: &mut [u8], last: bool) {
        let sequence = self.sequence.wrapping_add(self.next as u32);
        put(out, self.transport_at + 4, sequence.to_be_bytes());
        let mut flags = self.flags;
        if !last {
            flags &= !(FIN | PSH);
        }
        if self.next > 0 {
            // It answers one mark of congestion, once (RFC 3168, section 6.1.2).
            flags &= !CWR;
        }
        put(out, self.transport_at + 13, [flags]);
        put(out, self.transport_at + 16, [0; 2]);
        // The pseudo-header: both addresses, protocol, length of the TCP segment.
        let addresses = match self.version {
            Version::Four { .. } => self.network_at + 12..self.network_at + 20,
            Version::Six => self.network_at + 8..self.network_at + 40,
        };
        let transport = out.get(self.transport_at..).unwrap_or_default();
        let pseudo = sum(part(out, addresses)) + u64::from(TCP) + transport.len() as u64;
        let checksum = checksum(pseudo + sum(transport));
        put(out, self.transport_at + 16, checksum.to_be_bytes());
    }
}

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const URG: u8 = 0x20;
const CWR: u8 = 0x80;

/// The protocol number of TCP.
const TCP: u8 = 6;
const IPV6_HEADER: usize = 40;

/// Where the network layer of an Ethernet packet begins, behind up to two VLAN tags; `None` where the packet
/// ends before.
pub fn network_at(octets: &[u8]) -> Option<usize> {
    link(octets).map(|(_, at)| at)
}

/// The EtherType behind up to two VLAN tags, and where the network layer begins.
fn link(octets: &[u8]) -> Option<(u16, usize)> {
    let mut at = 12;
    for _ in 0..=2 {
        let ethertype = word(octets, at)?;
        at += 2;
        if !matches!(ethertype, 0x8100 | 0x88a8 | 0x9100) {
            return Some((ethertype, at));
        }
        // The tag's priority and VLAN.
        at += 2;
    }
    // More tags than that: some EtherType that is not IP.
    Some((0, at))
}

/// A network layer: its version, octets of its header, and of header and payload.
struct Ip {
    version: Version,
    header: usize,
    total: usize,
}

fn ipv4(network: &[u8]) -> Result<Ip, Unsegmentable> {
    let [first, _, high, low, id_high, id_low, fragment @ .., _, protocol] =
        network.first_chunk::<10>().ok_or(Unsegmentable::Malformed)?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < 20 {
        return Err(Unsegmentable::Malformed);
    }
    // More fragments, and the offset; not "don't fragment".
    if u16::from_be_bytes(*fragment) & 0x3fff != 0 {
        return Err(Unsegmentable::Fragment);
    }
    if *protocol != TCP {
        return Err(Unsegmentable::NotTcp);
    }
    let total = match u16::from_be_bytes([*high, *low]) {
        0 => network.len(),
        total => usize::from(total),
    };
    let identification = u16::from_be_bytes([*id_high, *id_low]);
    Ok(Ip { version: Version::Four { identification }, header, total })
}

fn ipv6(network: &[u8]) -> Result<Ip, Unsegmentable> {
    let [first, _, _, _, high, low, next_header] =
        network.first_chunk::<7>().ok_or(Unsegmentable::Malformed)?;
    if first >> 4 != 6 {
        return Err(Unsegmentable::Malformed);
    }
    match *next_header {
        TCP => {}
        44 => return Err(Unsegmentable::Fragment),
        // Hop-by-hop, routing, ESP, authentication, destination, mobility, HIP, shim6.
        0 | 43 | 50 | 51 | 60 | 135 | 139 | 140 => return Err(Unsegmentable::Extended),
        _ => return Err(Unsegmentable::NotTcp),
    }
    let total = match u16::from_be_bytes([*high, *low]) {
        0 => network.len(),
        payload => IPV6_HEADER + usize::from(payload),
    };
    Ok(Ip { version: Version::Six, header: IPV6_HEADER, total })
}

/// A transport layer: octets of its header, and what differs between segments.
struct Tcp {
    header: usize,
    sequence: u32,
    flags: u8,
}

fn tcp(transport: &[u8]) -> Result<Tcp, Unsegmentable> {
    let [_, _, _, _, s0, s1, s2, s3, _, _, _, _, offset, flags, ..] =
        transport.first_chunk::<20>().ok_or(Unsegmentable::Malformed)?;
    let header = usize::from(offset >> 4) * 4;
    if header < 20 || header > transport.len() {
        return Err(Unsegmentable::Malformed);
    }
    if flags & (SYN | RST | URG) != 0 {
        return Err(Unsegmentable::Flags);
    }
    Ok(Tcp { header, sequence: u32::from_be_bytes([*s0, *s1, *s2, *s3]), flags: *flags })
}

fn word(octets: &[u8], at: usize) -> Option<u16> {
    octets.get(at..)?.first_chunk().map(|word| u16::from_be_bytes(*word))
}

fn part(octets: &[u8], range: Range<usize>) -> &[u8] {
    octets.get(range).unwrap_or_default()
}

fn put<const N: usize>(out: &mut [u8], at: usize, octets: [u8; N]) {
    if let Some(place) = out.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *place = octets;
    }
}

/// Words of 32 bits added up: folded to 16 it is the sum of the words of 16 bits (RFC 1071, section
/// 2, C). The capture formats' limits keep the sum far below 64 bits.
fn sum(octets: &[u8]) -> u64 {
    let (words, rest) = octets.as_chunks::<4>();
    let mut last = [0; 4];
    for (place, octet) in last.iter_mut().zip(rest) {
        *place = *octet;
    }
    words.iter().chain([&last]).map(|word| u64::from(u32::from_be_bytes(*word))).sum()
}

fn checksum(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
