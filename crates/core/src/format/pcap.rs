//! Classic pcap, read: its header once, then whole records, every variant that is still around.
//!
//! Nearly all records are plain and pass through a tight loop; one that is odd in any way takes
//! a slow path that either makes it sane, counting what it did, or ends the stream.

use super::Format;
use super::byte_order::ByteOrder;
use super::decoder::{Call, Counts, DecoderOptions, Walked};
use super::sniff::{self, Headers, Magic, SECTION_MAGIC, Subseconds};
use crate::batch::Verbatim;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::interface::{Interface, InterfaceId};
use crate::linktype::LinkType;
use crate::packet::Packet;
use crate::stats::{Anomaly, DropReason};
use crate::time::{NANOS_PER_SECOND, Resolution, Timestamp};

/// A classic pcap stream behind its header.
#[derive(Debug)]
pub(super) struct Pcap {
    magic: Magic,
    lengths: Lengths,
    format: Format,
    interface: Interface,
    id: Option<InterfaceId>,
    /// The snaplen of the header, within what its linktype may have.
    declared: u32,
    /// Records with a caplen of 1 to this need no second look; 0 sends all to the slow path.
    plain_caplen: u32,
    /// Octets per record in the latest call, to guess how many packets the next will have.
    typical: usize,
}

/// In which order the two lengths of a record stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lengths {
    /// caplen, origlen: since version 2.4.
    Normal,
    /// origlen, caplen: before version 2.3, and in 543.0.
    Swapped,
    /// Version 2.3 was written both ways; caplen is the smaller one.
    Sorted,
}

/// A record header, in our byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Header {
    seconds: u32,
    subseconds: u32,
    caplen: u32,
    origlen: u32,
}

/// What becomes of an odd record.
enum Mended {
    /// It goes on, as this. `rewritten`: it is not what stands in the stream.
    Sane { header: Header, rewritten: bool },
    /// It does not go on.
    Dropped,
    /// It is not all there.
    Partial,
}

impl Pcap {
    /// Octets of the header of a stream.
    pub(super) const HEADER_OCTETS: usize = 24;

    /// Reads a stream's header.
    pub(super) fn open(
        magic: Magic,
        header: &[u8; Self::HEADER_OCTETS],
        call: &mut Call<'_>,
    ) -> Result<Self, DecodeErrorKind> {
        let u16_at = |offset| magic.order.u16_at(header, offset).unwrap_or_default();
        let u32_at = |offset| magic.order.u32_at(header, offset).unwrap_or_default();
        let (major, minor) = (u16_at(4), u16_at(6));
        let lengths = lengths(major, minor).ok_or(DecodeErrorKind::PcapVersion { major, minor })?;
        let field = u32_at(20);
        if field & RESERVED != 0 {
            return Err(DecodeErrorKind::ReservedBits { field });
        }
        let (resolution, format) = match magic.subseconds {
            Subseconds::Micros => (Resolution::MICROS, Format::Pcap),
            Subseconds::Nanos => (Resolution::NANOS, Format::PcapNs),
        };
        let linktype = call.options.linktype.unwrap_or(LinkType(field as u16));
        let interface = interface(call.options, linktype, u32_at(16), resolution, fcs_len(field));
        let declared = interface.snaplen;
        let id = call.intern.intern(interface.clone());
        call.counts.linktype = Some(linktype);
        call.counts.format = Some(format);
        let mut pcap =
            Pcap { magic, lengths, format, interface, id, declared, plain_caplen: 0, typical: 256 };
        pcap.settle();
        Ok(pcap)
    }

    /// Decodes the whole records behind the first `from` octets, which were the header.
    pub(super) fn decode(&mut self, octets: &[u8], from: usize, call: &mut Call<'_>) -> Walked {
        let first = call.batch.packets.len();
        call.expect_packets(octets.len() / self.typical);
        let native = self.magic.order == ByteOrder::Little;
        let (walked, unchanged) = match (self.magic.headers, native) {
            (Headers::Plain, true) => self.walk::<false, 16>(octets, from, call),
            (Headers::Plain, false) => self.walk::<true, 16>(octets, from, call),
            (Headers::Modified, true) => self.walk::<false, 24>(octets, from, call),
            (Headers::Modified, false) => self.walk::<true, 24>(octets, from, call),
        };
        let packets = call.batch.packets.len() - first;
        if let Some(octets) = walked.consumed.checked_div(packets) {
            self.typical = octets.max(MIN_RECORD);
        }
        let plain = native && self.magic.headers == Headers::Plain;
        let verbatim = plain && unchanged && first == 0 && packets > 0;
        call.batch.verbatim = verbatim.then_some(Verbatim {
            format: self.format,
            linktype: self.interface.linktype,
            octets: from..walked.consumed,
        });
        walked
    }

    /// Walks over the plain records at the start of `octets`, which our encoder would write as they
    /// stand; how many there are, and their octets. Stops before any other.
    pub(super) fn forward(&self, octets: &[u8], counts: &mut Counts) -> (u64, usize) {
        if self.magic.order != ByteOrder::Little || self.magic.headers != Headers::Plain {
            return (0, 0);
        }
        let (unit, units) = self.units();
        let (mut at, mut packets, mut last) = (0, 0, None);
        // Within a stream, times compare like these.
        let key = |header: &Header| u64::from(header.seconds) << 32 | u64::from(header.subseconds);
        let latest = counts.latest;
        let mut latest = (latest.seconds() << 32) | (u64::from(latest.subsec_nanos()) / unit);
        let mut back = 0;
        while let Some(header) = octets.get(at..).and_then(<[u8]>::first_chunk::<16>) {
            let header = Header::read::<false, 16>(header);
            let end = at + 16 + header.caplen as usize;
            if self.is_odd(&header, units) || end > octets.len() {
                break;
            }
            back += u64::from(key(&header) < latest);
            latest = key(&header);
            (at, packets, last) = (end, packets + 1, Some(header));
        }
        if let Some(header) = last {
            counts.anomalies.add(Anomaly::TimeBack, back);
            let nanos = u64::from(header.seconds) * NANOS_PER_SECOND + u64::from(header.subseconds) * unit;
            counts.latest = Timestamp::from_nanos(nanos);
        }
        (packets, at)
    }

    /// Nanoseconds of a unit of subseconds, and units of a second.
    fn units(&self) -> (u64, u32) {
        match self.magic.subseconds {
            Subseconds::Micros => (1_000, 1_000_000),
            Subseconds::Nanos => (1, 1_000_000_000),
        }
    }

    /// Whether a record is anything but plain: it may be fine all the same.
    #[inline(always)]
    fn is_odd(&self, header: &Header, units: u32) -> bool {
        header.caplen.wrapping_sub(1) >= self.plain_caplen
            || header.caplen > header.origlen
            || header.subseconds >= units
            || header.may_be_magic()
    }

    /// The loop over records; also whether all of them are, as they stand, sane and passed on.
    fn walk<const BIG: bool, const HEADER: usize>(
        &mut self,
        octets: &[u8],
        from: usize,
        call: &mut Call<'_>,
    ) -> (Walked, bool) {
        let (unit, units) = self.units();
        let (mut at, mut unchanged) = (from, true);
        let result = loop {
            let Some(octets_of_header) = octets.get(at..).and_then(<[u8]>::first_chunk::<HEADER>) else {
                break Ok(HEADER);
            };
            let mut header = Header::read::<BIG, HEADER>(octets_of_header);
            let body = at + HEADER;
            if self.is_odd(&header, units) {
                let there = octets.len() - body;
                match self.mend(header, octets_of_header, there, units, call) {
                    Err(kind) => break Err(kind),
                    Ok(Mended::Partial) => break Ok(HEADER + self.caplen(header) as usize),
                    Ok(Mended::Dropped) => {
                        at = body + self.caplen(header) as usize;
                        unchanged = false;
                        continue;
                    }
                    Ok(Mended::Sane { header: mended, rewritten }) => {
                        header = mended;
                        unchanged &= !rewritten;
                    }
                }
            } else if octets.len() - body < header.caplen as usize {
                break Ok(HEADER + header.caplen as usize);
            }
            let nanos = u64::from(header.seconds) * NANOS_PER_SECOND + u64::from(header.subseconds) * unit;
            let timestamp = Timestamp::from_nanos(nanos);
            call.counts.note_time(timestamp);
            call.batch.packets.push(Packet {
                timestamp,
                // Without an id every record takes the slow path, and is dropped there.
                interface: self.id.unwrap_or(InterfaceId(u32::MAX)),
                caplen: header.caplen,
                origlen: header.origlen,
                offset: body as u32,
                options_offset: 0,
                options_len: 0,
            });
            at = body + header.caplen as usize;
        };
        let offset = call.base + at as u64;
        let (wants, result) = match result {
            Ok(wants) => (wants, Ok(())),
            Err(kind) => (1, Err(DecodeError { offset, kind })),
        };
        (Walked { consumed: at, wants, result }, unchanged)
    }

    /// Judges a record that is not plain, of whose data there are `there` octets and maybe more.
    #[cold]
    fn mend(
        &mut self,
        header: Header,
        octets: &[u8],
        there: usize,
        units: u32,
        call: &mut Call<'_>,
    ) -> Result<Mended, DecodeErrorKind> {
        if is_header(octets) {
            return Err(DecodeErrorKind::SecondHeader);
        }
        // Zeros after a packet that had a time are padding; a stream of nothing else has empty
        // records, as far as anyone can tell.
        let zeros = header == Header::default();
        if zeros && call.counts.latest > Timestamp::ZERO {
            return Err(DecodeErrorKind::ZeroRecord);
        }
        let ordered = self.ordered(header);
        let limit = self.interface.linktype.max_caplen();
        if ordered.caplen > limit {
            return Err(if is_section(octets) {
                DecodeErrorKind::PcapngInPcap
            } else {
                DecodeErrorKind::RecordTooLong { caplen: ordered.caplen, limit }
            });
        }
        if there < ordered.caplen as usize {
            return Ok(Mended::Partial);
        }
        if ordered.caplen > self.declared {
            call.counts.anomalies.add(Anomaly::CaplenOverSnaplen, 1);
            self.widen(call);
        }
        if self.id.is_none() {
            call.counts.drops.add(DropReason::InterfaceLimit, 1);
            return Ok(Mended::Dropped);
        }
        let anomalies = &mut call.counts.anomalies;
        let mut mended = ordered;
        if ordered.caplen == 0 {
            anomalies.add(Anomaly::EmptyPacket, 1);
        }
        if ordered.caplen > ordered.origlen {
            anomalies.add(Anomaly::CaplenOverOriglen, 1);
            mended.origlen = ordered.caplen;
        }
        // The sum that makes the timestamp carries by itself.
        let carries = ordered.subseconds >= units;
        if carries {
            anomalies.add(Anomaly::SubsecondCarry, 1);
        }
        Ok(Mended::Sane { header: mended, rewritten: carries || ordered.caplen == 0 || header != mended })
    }

    /// The header with its lengths in today's order.
    fn ordered(&self, header: Header) -> Header {
        let swap = match self.lengths {
            Lengths::Normal => false,
            Lengths::Swapped => true,
            Lengths::Sorted => header.caplen > header.origlen,
        };
        if !swap {
            return header;
        }
        Header { caplen: header.origlen, origlen: header.caplen, ..header }
    }

    fn caplen(&self, header: Header) -> u32 {
        self.ordered(header).caplen
    }

    /// Goes over, once, to an interface whose snaplen is never below what is sent.
    fn widen(&mut self, call: &mut Call<'_>) {
        let widest = self.interface.linktype.max_caplen();
        if self.interface.snaplen == widest {
            return;
        }
        self.interface.snaplen = widest;
        self.id = self.id.and_then(|_| call.intern.intern(self.interface.clone()));
        self.settle();
    }

    /// Decides which records are plain.
    fn settle(&mut self) {
        let plain = self.lengths != Lengths::Swapped && self.id.is_some();
        self.plain_caplen = if plain { self.declared } else { 0 };
    }
}

impl Header {
    /// From at least 16 octets; the other eight of a modified header are of no use.
    #[inline(always)]
    fn read<const BIG: bool, const HEADER: usize>(octets: &[u8; HEADER]) -> Self {
        let word = |index: usize| {
            let octets = octets.get(4 * index..).and_then(<[u8]>::first_chunk::<4>);
            let octets = *octets.unwrap_or(&[0; 4]);
            if BIG { u32::from_be_bytes(octets) } else { u32::from_le_bytes(octets) }
        };
        Header { seconds: word(0), subseconds: word(1), caplen: word(2), origlen: word(3) }
    }

    /// Whether the subseconds could be the version of another pcap header: 2.x, either way round.
    #[inline(always)]
    fn may_be_magic(self) -> bool {
        self.subseconds & 0xfff8_ffff == 2 || self.subseconds & 0xffff_f8ff == 0x0200_0000
    }
}

/// Bits of the linktype field of which the draft says that they are zero.
const RESERVED: u32 = 0x0bff_0000;

/// The bit that says that the upper four are an FCS length.
const FCS_PRESENT: u32 = 0x0400_0000;

/// Octets of frame check sequence; the field counts 16-bit words.
fn fcs_len(field: u32) -> Option<u8> {
    (field & FCS_PRESENT != 0).then_some(((field >> 28) * 2) as u8)
}

/// The shortest record, in octets.
const MIN_RECORD: usize = 16;

fn interface(
    options: &DecoderOptions,
    linktype: LinkType,
    snaplen: u32,
    resolution: Resolution,
    fcs_len: Option<u8>,
) -> Interface {
    let widest = linktype.max_caplen();
    Interface {
        source: options.source.clone(),
        name: options.name.clone(),
        linktype,
        snaplen: if snaplen == 0 || snaplen > widest { widest } else { snaplen },
        resolution,
        fcs_len,
        options: Default::default(),
    }
}

/// The order of lengths in a version; `None` for versions that never were.
fn lengths(major: u16, minor: u16) -> Option<Lengths> {
    match (major, minor) {
        (2, 4) => Some(Lengths::Normal),
        (2, 3) => Some(Lengths::Sorted),
        // 543.0 is what DG/UX wrote.
        (2, 0..=2) | (543, 0) => Some(Lengths::Swapped),
        _ => None,
    }
}

/// Whether what should be a record header begins as a pcap header does: magic and version.
fn is_header(octets: &[u8]) -> bool {
    let Some(magic) = octets.first_chunk().and_then(|magic| sniff::magic(*magic)) else {
        return false;
    };
    let version = (magic.order.u16_at(octets, 4), magic.order.u16_at(octets, 6));
    matches!(version, (Some(major), Some(minor)) if lengths(major, minor).is_some())
}

/// Whether what should be a record header begins as a pcapng section does.
fn is_section(octets: &[u8]) -> bool {
    let magic = ByteOrder::Little.u32_at(octets, 8);
    octets.starts_with(&SECTION_MAGIC) && matches!(magic, Some(0x1a2b_3c4d | 0x4d3c_2b1a))
}
