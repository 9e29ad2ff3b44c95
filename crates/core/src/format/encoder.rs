//! Packets to octets, little-endian: the hot end of a feed, which writes each packet once.

use super::Format;
use crate::interface::{Interface, InterfaceId};
use crate::linktype::LinkType;
use crate::packet::Packet;
use crate::time::{NANOS_PER_SECOND, Resolution, Timestamp};

impl Format {
    /// What a stream begins with: the pcap header, or the header of pcapng's one section.
    ///
    /// `linktype` is ignored by pcapng, whose interfaces have each their own. pcap's snaplen is
    /// the largest that readers accept, so that no packet is ever above it.
    pub fn header(self, linktype: LinkType) -> Vec<u8> {
        let magic: u32 = match self {
            Format::Pcap => 0xa1b2_c3d4,
            Format::PcapNs => 0xa1b2_3c4d,
            Format::PcapNg => return section(),
        };
        let mut out = Vec::with_capacity(24);
        out.extend_from_slice(&magic.to_le_bytes());
        out.extend_from_slice(&[2, 0, 4, 0]);
        out.extend_from_slice(&[0; 8]);
        out.extend_from_slice(&linktype.max_caplen().to_le_bytes());
        out.extend_from_slice(&u32::from(linktype.0).to_le_bytes());
        out
    }

    /// How an interface is announced: pcapng's interface description, under the name that clients
    /// are to see. Empty for pcap, which has but one interface.
    pub fn interface(self, interface: &Interface) -> Vec<u8> {
        if self != Format::PcapNg {
            return Vec::new();
        }
        let mut body = Vec::new();
        body.extend_from_slice(&interface.linktype.0.to_le_bytes());
        body.extend_from_slice(&[0; 2]);
        body.extend_from_slice(&interface.snaplen.to_le_bytes());
        option(&mut body, IF_NAME, cut(interface.shown_name()).as_bytes());
        option(&mut body, IF_TSRESOL, &[interface.resolution.digits()]);
        if let Some(fcs_len) = interface.fcs_len {
            option(&mut body, IF_FCSLEN, &[fcs_len]);
        }
        body.extend_from_slice(&interface.options);
        block(INTERFACE_DESCRIPTION, &body)
    }

    /// Appends one whole record: a pcap record, or an enhanced packet with its options.
    ///
    /// `octets` are the packet's, `caplen` of them; `options` as in
    /// [`Batch::options`](crate::batch::Batch::options), and `resolution` that of its interface:
    /// both are of no consequence to pcap. A time after 2106 becomes the last second of pcap.
    #[inline]
    pub fn record(
        self,
        out: &mut Vec<u8>,
        packet: &Packet,
        octets: &[u8],
        options: &[u8],
        resolution: Resolution,
    ) {
        let unit = match self {
            Format::Pcap => 1_000,
            Format::PcapNs => 1,
            Format::PcapNg => return enhanced_packet(out, packet, octets, options, resolution),
        };
        let nanos = packet.timestamp.nanos();
        let seconds = u32::try_from(nanos / NANOS_PER_SECOND).unwrap_or(u32::MAX);
        let subseconds = (nanos % NANOS_PER_SECOND) as u32 / unit;
        // A caller with fewer octets than it says must not make a stream that cannot be read.
        let caplen = octets.len() as u32;
        let words = [seconds, subseconds, caplen, packet.origlen.max(caplen)];
        out.reserve(RECORD_HEADER + octets.len());
        out.extend_from_slice(&little_endian::<4, 16>(words));
        out.extend_from_slice(octets);
    }

    /// Appends one whole record of a packet in two parts.
    pub fn record_of_parts(
        self,
        out: &mut Vec<u8>,
        packet: &Packet,
        parts: [&[u8]; 2],
        options: &[u8],
        resolution: Resolution,
    ) {
        let [first, rest] = parts;
        match self {
            Format::PcapNg => self.record(out, packet, &[first, rest].concat(), options, resolution),
            _ => {
                let start = out.len();
                self.record(out, packet, first, options, resolution);
                out.extend_from_slice(rest);
                let caplen = (first.len() + rest.len()) as u32;
                let lengths = little_endian::<2, 8>([caplen, packet.origlen.max(caplen)]);
                if let Some(place) = out.get_mut(start + 8..start + RECORD_HEADER) {
                    place.copy_from_slice(&lengths);
                }
            }
        }
    }

    /// The header of a classic pcap record with microseconds, little-endian.
    pub fn pcap_record(timestamp: Timestamp, caplen: u32, origlen: u32) -> [u8; RECORD_HEADER] {
        let seconds = u32::try_from(timestamp.seconds()).unwrap_or(u32::MAX);
        little_endian::<4, RECORD_HEADER>([seconds, timestamp.subsec_nanos() / 1_000, caplen, origlen])
    }

    /// Octets that [`record`](Self::record) appends for this packet.
    pub fn record_len(self, packet: &Packet) -> usize {
        if self != Format::PcapNg {
            return RECORD_HEADER + packet.caplen as usize;
        }
        enhanced_packet_len(packet.caplen as usize, packet.options_len as usize)
    }

    /// How many packets of an interface were lost so far, as pcapng interface statistics at the
    /// time `now`; `dropped` is cumulative. Empty for pcap, which cannot say it.
    pub fn statistics(
        self,
        interface: InterfaceId,
        now: Timestamp,
        resolution: Resolution,
        dropped: u64,
    ) -> Vec<u8> {
        if self != Format::PcapNg {
            return Vec::new();
        }
        let (high, low) = units(now, resolution);
        let mut body = little_endian::<3, 12>([interface.0, high, low]).to_vec();
        option(&mut body, ISB_IFDROP, &dropped.to_le_bytes());
        block(INTERFACE_STATISTICS, &body)
    }
}

/// The pcap record header, in octets.
const RECORD_HEADER: usize = 16;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;

const SHB_USERAPPL: u16 = 4;
const IF_NAME: u16 = 2;
const IF_TSRESOL: u16 = 9;
const IF_FCSLEN: u16 = 13;
const ISB_IFDROP: u16 = 5;

/// opt_endofopt.
const END_OF_OPTIONS: [u8; 4] = [0; 4];

fn section() -> Vec<u8> {
    let mut body = Vec::new();
    body.extend_from_slice(&0x1a2b_3c4d_u32.to_le_bytes());
    body.extend_from_slice(&[1, 0, 0, 0]);
    // The section's length is not known, and is but a hint.
    body.extend_from_slice(&u64::MAX.to_le_bytes());
    let application = concat!("pcaphub ", env!("CARGO_PKG_VERSION"));
    option(&mut body, SHB_USERAPPL, application.as_bytes());
    block(SECTION_HEADER, &body)
}

fn enhanced_packet(
    out: &mut Vec<u8>,
    packet: &Packet,
    octets: &[u8],
    options: &[u8],
    resolution: Resolution,
) {
    let (high, low) = units(packet.timestamp, resolution);
    let caplen = octets.len() as u32;
    let length = enhanced_packet_len(octets.len(), options.len());
    let interface = packet.interface.0;
    let total = length as u32;
    let origlen = packet.origlen.max(caplen);
    out.reserve(length);
    let words = [ENHANCED_PACKET, total, interface, high, low, caplen, origlen];
    out.extend_from_slice(&little_endian::<7, 28>(words));
    out.extend_from_slice(octets);
    pad(out, octets.len());
    if !options.is_empty() {
        out.extend_from_slice(options);
        out.extend_from_slice(&END_OF_OPTIONS);
    }
    out.extend_from_slice(&total.to_le_bytes());
}

fn enhanced_packet_len(caplen: usize, options_len: usize) -> usize {
    let options = if options_len == 0 { 0 } else { options_len + END_OF_OPTIONS.len() };
    28 + caplen.next_multiple_of(4) + options + 4
}

/// A time in units of its interface's resolution, upper and lower half.
fn units(timestamp: Timestamp, resolution: Resolution) -> (u32, u32) {
    let nanos = timestamp.nanos();
    // Divisions by a constant are multiplications; these two resolutions are nearly all.
    let units = match resolution {
        Resolution::NANOS => nanos,
        Resolution::MICROS => nanos / 1_000,
        other => nanos / other.unit_nanos(),
    };
    ((units >> 32) as u32, units as u32)
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let total = (12 + body.len() + END_OF_OPTIONS.len()) as u32;
    let mut out = Vec::with_capacity(total as usize);
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&total.to_le_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&END_OF_OPTIONS);
    out.extend_from_slice(&total.to_le_bytes());
    out
}

/// Appends an option; a value that no option can hold is cut.
fn option(out: &mut Vec<u8>, code: u16, value: &[u8]) {
    let value = value.get(..usize::from(u16::MAX)).unwrap_or(value);
    out.extend_from_slice(&code.to_le_bytes());
    out.extend_from_slice(&(value.len() as u16).to_le_bytes());
    out.extend_from_slice(value);
    pad(out, value.len());
}

/// Fills up to a multiple of four what has `len` octets.
#[inline]
fn pad(out: &mut Vec<u8>, len: usize) {
    let padding = len.wrapping_neg() % 4;
    out.extend_from_slice([0; 3].get(..padding).unwrap_or_default());
}

/// Longest name that is announced, in octets; longer than any real one.
const MAX_NAME: usize = 1024;

fn cut(name: &str) -> &str {
    if name.len() <= MAX_NAME {
        return name;
    }
    let end = (0..=MAX_NAME).rev().find(|end| name.is_char_boundary(*end));
    name.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[inline]
fn little_endian<const WORDS: usize, const OCTETS: usize>(words: [u32; WORDS]) -> [u8; OCTETS] {
    let mut octets = [0; OCTETS];
    for (place, word) in octets.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    octets
}
