//! pcapng, read block by block: sections in either byte order, each with interfaces of its own.
//!
//! A block of which we have no use is consumed as it comes, never gathered: only blocks that are
//! read must be there whole, and those are at most [`MAX_BLOCK`] octets.

mod interface;
mod options;
mod packet;
mod scale;
mod statistics;

use self::interface::{Described, Description};
use self::options::Options;
use self::packet::Head;
use super::Format;
use super::byte_order::ByteOrder;
use super::decoder::{Call, Walked};
use super::sniff::{self, SECTION_MAGIC};
use crate::error::{BadLength, DecodeError, DecodeErrorKind};
use crate::stats::{Anomaly, DropReason};

/// A pcapng stream.
#[derive(Debug)]
pub(super) struct PcapNg {
    /// The byte order of the section.
    order: ByteOrder,
    /// The section's interfaces, in the order of their descriptions.
    interfaces: Vec<Described>,
    /// What is used up of the limits on descriptions.
    description: Description,
    skip: Option<Skip>,
    /// Octets per packet in the latest call, to guess how many the next will have.
    typical: usize,
}

/// A block that is consumed without being looked at.
#[derive(Debug)]
struct Skip {
    /// Where it begins in the stream.
    begin: u64,
    length: u32,
    /// Octets before its trailing length that have not come yet.
    left: u32,
    what: Skipped,
}

/// What a skipped block counts as.
#[derive(Debug, Clone, Copy)]
enum Skipped {
    Unused,
    Secrets,
    OversizePacket,
}

/// What is known of a block by its first octets.
struct Frame {
    kind: u32,
    order: ByteOrder,
    length: u32,
}

/// A block's frame, or how many octets it takes to know it.
enum Framed {
    Known(Frame),
    Wants(usize),
}

/// How far a step came.
enum Step {
    /// This many octets are done with; go on.
    Took(usize),
    /// This many octets are done with, and so many are needed from there.
    Wants(usize, usize),
}

impl PcapNg {
    pub(super) fn new() -> Self {
        PcapNg {
            order: ByteOrder::Little,
            interfaces: Vec::new(),
            description: Description::default(),
            skip: None,
            typical: 256,
        }
    }

    /// Decodes the whole blocks at the start of `octets`, and parts of those that are skipped.
    pub(super) fn decode(&mut self, octets: &[u8], call: &mut Call<'_>) -> Walked {
        let first = call.batch.packets.len();
        call.expect_packets(octets.len() / self.typical);
        call.batch.verbatim = None;
        let mut at = 0;
        let (wants, result) = loop {
            let begin = call.base + at as u64;
            let rest = octets.get(at..).unwrap_or_default();
            match self.step(rest, at, call) {
                Ok(Step::Took(taken)) => at += taken,
                Ok(Step::Wants(taken, wants)) => {
                    at += taken;
                    break (wants, Ok(()));
                }
                Err(kind) => {
                    let offset = self.skip.as_ref().map_or(begin, |skip| skip.begin);
                    break (1, Err(DecodeError { offset, kind }));
                }
            }
        };
        let packets = call.batch.packets.len() - first;
        if let Some(octets) = at.checked_div(packets) {
            self.typical = octets.max(SIMPLE_PACKET_MIN as usize);
        }
        Walked { consumed: at, wants, result }
    }

    /// The block that a stream ended in, `received` octets behind `offset`: where it begins, and
    /// how many of its octets came. `None` at a block's boundary.
    pub(super) fn unfinished(&self, offset: u64, received: u64) -> Option<(u64, u64)> {
        match &self.skip {
            Some(skip) => Some((skip.begin, offset - skip.begin + received)),
            None if received == 0 => None,
            None => Some((offset, received)),
        }
    }

    /// Takes one block, or what there is of a skipped one.
    fn step(&mut self, rest: &[u8], at: usize, call: &mut Call<'_>) -> Result<Step, DecodeErrorKind> {
        if self.skip.is_some() {
            return self.go_on_skipping(rest, call);
        }
        let frame = match frame(rest, self.order)? {
            Framed::Known(frame) => frame,
            Framed::Wants(octets) => return Ok(Step::Wants(0, octets)),
        };
        match frame.kind {
            ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET => {
                return self.packet(&frame, rest, at, call);
            }
            SECTION_HEADER | INTERFACE_DESCRIPTION | INTERFACE_STATISTICS => {}
            DECRYPTION_SECRETS => return Ok(self.skip(&frame, Skipped::Secrets, at, call)),
            _ => return Ok(self.skip(&frame, Skipped::Unused, at, call)),
        }
        let Some(block) = whole(&frame, rest)? else {
            return Ok(Step::Wants(0, frame.length as usize));
        };
        match frame.kind {
            SECTION_HEADER => self.section(&frame, block, call)?,
            INTERFACE_DESCRIPTION => self.interface(block, call)?,
            _ => statistics::note(self.order, block, &mut self.interfaces, call),
        }
        Ok(Step::Took(block.len()))
    }

    fn packet(
        &mut self,
        frame: &Frame,
        rest: &[u8],
        at: usize,
        call: &mut Call<'_>,
    ) -> Result<Step, DecodeErrorKind> {
        let Some(head) = Head::read(frame, rest, &self.interfaces)? else {
            return Ok(Step::Wants(0, frame.length as usize));
        };
        let known = self.interfaces.len() as u32;
        let Some(described) = self.interfaces.get_mut(head.interface as usize) else {
            return Err(DecodeErrorKind::UnknownInterface { interface: head.interface, known });
        };
        if head.caplen > described.interface.linktype.max_caplen() {
            return Ok(self.skip(frame, Skipped::OversizePacket, at, call));
        }
        let Some(block) = whole(frame, rest)? else {
            return Ok(Step::Wants(0, frame.length as usize));
        };
        head.emit(self.order, block, at, described, call);
        Ok(Step::Took(block.len()))
    }

    fn section(&mut self, frame: &Frame, block: &[u8], call: &mut Call<'_>) -> Result<(), DecodeErrorKind> {
        let u16_at = |offset| frame.order.u16_at(block, offset).unwrap_or_default();
        let (major, minor) = (u16_at(12), u16_at(14));
        if major != 1 {
            return Err(DecodeErrorKind::PcapngVersion { major, minor });
        }
        // Nothing in it is of use, but an overrun says that the framing is lost.
        for option in Options::of(frame.order, block, 24) {
            option?;
        }
        self.order = frame.order;
        self.interfaces.clear();
        call.counts.format = Some(Format::PcapNg);
        Ok(())
    }

    fn interface(&mut self, block: &[u8], call: &mut Call<'_>) -> Result<(), DecodeErrorKind> {
        if self.interfaces.len() >= MAX_INTERFACES as usize {
            return Err(DecodeErrorKind::TooManyInterfaces { limit: MAX_INTERFACES });
        }
        let described = self.description.read(self.order, block, call)?;
        call.counts.linktype.get_or_insert(described.interface.linktype);
        self.interfaces.push(described);
        Ok(())
    }

    fn skip(&mut self, frame: &Frame, what: Skipped, at: usize, call: &Call<'_>) -> Step {
        let begin = call.base + at as u64;
        let left = frame.length.saturating_sub(MIN_BLOCK);
        self.skip = Some(Skip { begin, length: frame.length, left, what });
        Step::Took(BLOCK_HEADER)
    }

    fn go_on_skipping(&mut self, rest: &[u8], call: &mut Call<'_>) -> Result<Step, DecodeErrorKind> {
        let Some(skip) = &mut self.skip else {
            return Ok(Step::Took(0));
        };
        let taken = rest.len().min(skip.left as usize);
        skip.left -= taken as u32;
        let trailing = self.order.u32_at(rest, taken).filter(|_| skip.left == 0);
        let Some(trailing) = trailing else {
            return Ok(Step::Wants(taken, if skip.left == 0 { 4 } else { 1 }));
        };
        if trailing != skip.length {
            return Err(DecodeErrorKind::TrailingLength { length: skip.length, trailing });
        }
        match skip.what {
            Skipped::Unused => call.counts.anomalies.add(Anomaly::SkippedBlock, 1),
            Skipped::Secrets => call.counts.anomalies.add(Anomaly::SecretsStripped, 1),
            Skipped::OversizePacket => call.counts.drops.add(DropReason::OversizePacket, 1),
        }
        self.skip = None;
        Ok(Step::Took(taken + 4))
    }
}

/// Reads a block's type and length, and checks that such a block can be.
fn frame(rest: &[u8], order: ByteOrder) -> Result<Framed, DecodeErrorKind> {
    let Some(first) = rest.first_chunk::<BLOCK_HEADER>() else {
        return Ok(Framed::Wants(BLOCK_HEADER));
    };
    let section = first.starts_with(&SECTION_MAGIC);
    let order = match section {
        false => order,
        true => match ByteOrder::Little.u32_at(rest, BLOCK_HEADER) {
            None => return Ok(Framed::Wants(MIN_BLOCK as usize)),
            Some(0x1a2b_3c4d) => ByteOrder::Little,
            Some(0x4d3c_2b1a) => ByteOrder::Big,
            Some(magic) => return Err(DecodeErrorKind::ByteOrderMagic { magic }),
        },
    };
    let kind = order.u32_at(first, 0).unwrap_or_default();
    let length = order.u32_at(first, 4).unwrap_or_default();
    let why = if length < least(kind) {
        BadLength::TooShort
    } else if length > MAX_BLOCK {
        BadLength::TooLong
    } else if !length.is_multiple_of(4) {
        BadLength::Unaligned
    } else {
        return Ok(Framed::Known(Frame { kind, order, length }));
    };
    // No version of pcap makes a length that could be.
    if first.first_chunk().is_some_and(|magic| sniff::magic(*magic).is_some()) {
        return Err(DecodeErrorKind::PcapInPcapng);
    }
    Err(DecodeErrorKind::BlockLength { block: kind, length, why })
}

/// The octets of a block, once they are all there, and framed as they should be.
fn whole<'a>(frame: &Frame, rest: &'a [u8]) -> Result<Option<&'a [u8]>, DecodeErrorKind> {
    let length = frame.length;
    let Some(block) = rest.get(..length as usize) else {
        return Ok(None);
    };
    match frame.order.u32_at(block, block.len().saturating_sub(4)) {
        Some(trailing) if trailing != length => Err(DecodeErrorKind::TrailingLength { length, trailing }),
        _ => Ok(Some(block)),
    }
}

/// The shortest length that a block of this type can have.
fn least(kind: u32) -> u32 {
    match kind {
        SECTION_HEADER => 28,
        INTERFACE_DESCRIPTION => 20,
        INTERFACE_STATISTICS => 24,
        ENHANCED_PACKET | OBSOLETE_PACKET => ENHANCED_PACKET_MIN,
        SIMPLE_PACKET => SIMPLE_PACKET_MIN,
        _ => MIN_BLOCK,
    }
}

/// The largest block that is taken, in octets; Wireshark's limit, too.
const MAX_BLOCK: u32 = 16 * 1024 * 1024;

/// The most interfaces of a section: more than any host has, few enough to keep.
const MAX_INTERFACES: u32 = 4096;

/// A block's type and length, in octets.
const BLOCK_HEADER: usize = 8;

/// A block without a body.
const MIN_BLOCK: u32 = 12;

const ENHANCED_PACKET_MIN: u32 = 32;
const SIMPLE_PACKET_MIN: u32 = 16;

const SECTION_HEADER: u32 = 0x0a0d_0d0a;
const INTERFACE_DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2;
const SIMPLE_PACKET: u32 = 3;
const INTERFACE_STATISTICS: u32 = 5;
const ENHANCED_PACKET: u32 = 6;
const DECRYPTION_SECRETS: u32 = 10;
