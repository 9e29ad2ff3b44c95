//! The writing end of a feed: makes chunks of what the merge releases, each packet encoded once.
//!
//! Where a whole batch is already, octet for octet, what the encoder would write, its octets
//! become the chunk; where only a run of it is wanted, its records are copied as they are.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::chunk::Chunk;
use super::ring::Ring;
use super::slots::RingOptions;
use crate::batch::{Batch, Verbatim};
use crate::buffer::Pool;
use crate::convert::{self, Addresses, Converted};
use crate::dedup::Dedup;
use crate::filter::MAX_LINKTYPES;
use crate::format::Format;
use crate::interface::{Interface, InterfaceId, Interfaces};
use crate::linktype::LinkType;
use crate::packet::Packet;
use crate::shape::{Shape, Shaper};
use crate::stats::{DropCounts, DropReason};
use crate::time::{Monotonic, Resolution, Timestamp};

/// What a feed is made of.
#[derive(Debug, Clone)]
pub struct FeedOptions {
    /// Its ring.
    pub ring: RingOptions,
    /// The linktype of its pcap header; `None`: that of the first interface.
    pub linktype: Option<LinkType>,
    /// Drop packets that came from another source within this time.
    pub dedup: Option<Duration>,
    /// How many packets are remembered for that, of about 100 octets each.
    pub dedup_packets: usize,
    /// MAC addresses of packets that become Ethernet.
    pub addresses: Addresses,
    /// Which of the hub's filters its packets must match, by its number; see [`Batch::mark_of`].
    pub filter: Option<u32>,
    /// What is kept of them.
    pub shape: Shape,
    /// A chunk is published at the latest when it has this many octets: [`CHUNK_OCTETS`], or less
    /// where memory is short.
    pub chunk_octets: usize,
}

/// What a chunk has at most, about: large enough that system calls cost little, small enough to stay
/// in a core's cache between encoding and sending.
pub const CHUNK_OCTETS: usize = 256 * 1024;

/// How far the record that fills a chunk usually exceeds it; where one does by more, its buffer grows.
const OVERSHOOT: usize = 2048;

/// Chunk buffers kept for reuse, as octets for each of the ring's; more lie in the ring, or are not
/// needed again soon.
const POOLED: usize = 8;

/// A batch of this size is its own chunk even if that ends the previous one early.
const WORTH_SHARING: usize = 32 * 1024;

/// A feed's writing end. There is one, in the hub.
#[derive(Debug)]
pub struct Feed {
    ring: Arc<Ring>,
    format: Format,
    interfaces: Interfaces,
    known: Vec<Arc<Interface>>,
    linktype: Option<LinkType>,
    dedup: Option<Dedup>,
    sources: HashMap<Arc<str>, u32>,
    octets: Vec<u8>,
    pool: Pool,
    chunk_octets: usize,
    packets: u64,
    announce: u32,
    by_interface: Vec<(InterfaceId, u64)>,
    dropped: DropCounts,
    /// Linktypes that it had to drop packets of, and how many of them were told.
    mismatched: Vec<LinkType>,
    told: usize,
    addresses: Addresses,
    filter: Option<u32>,
    /// The filter before that, for packets that were marked when it was the one.
    earlier: Option<Option<u32>>,
    shaper: Shaper,
    wall_clock: Timestamp,
}

impl Feed {
    /// A feed without subscribers. `interfaces` is the hub's table.
    pub fn new(options: FeedOptions, interfaces: Interfaces) -> Self {
        let ring = Ring::new(options.ring);
        if options.ring.format == Format::PcapNg {
            // Its header has no linktype, so nothing has to be known for it.
            ring.set_linktype(LinkType::ETHERNET);
        }
        if let Some(linktype) = options.linktype {
            ring.set_linktype(linktype);
        }
        let size = options.chunk_octets + OVERSHOOT;
        Feed {
            ring,
            format: options.ring.format,
            interfaces,
            known: Vec::new(),
            linktype: options.linktype,
            dedup: options.dedup.map(|window| Dedup::new(window, options.dedup_packets)),
            sources: HashMap::new(),
            octets: Vec::new(),
            pool: Pool::new(size, options.ring.capacity_octets / POOLED / size),
            chunk_octets: options.chunk_octets,
            packets: 0,
            announce: 0,
            by_interface: Vec::new(),
            dropped: DropCounts::default(),
            mismatched: Vec::new(),
            told: 0,
            addresses: options.addresses,
            filter: options.filter,
            earlier: None,
            shaper: Shaper::new(options.shape),
            wall_clock: Timestamp::ZERO,
        }
    }

    /// The ring that subscribers join.
    pub fn ring(&self) -> &Arc<Ring> {
        &self.ring
    }

    /// The interface table whose ids its packets have.
    pub fn interfaces(&self) -> &Interfaces {
        &self.interfaces
    }

    /// Tells the feed of a source's linktype before any of its packets, so that waiting clients
    /// get their header.
    pub fn expect_linktype(&self, linktype: LinkType) {
        self.ring.set_linktype(linktype);
    }

    /// A linktype that this feed had to drop packets of; each is told once, of the first
    /// [`MAX_LINKTYPES`].
    pub fn take_mismatch(&mut self) -> Option<LinkType> {
        let linktype = self.mismatched.get(self.told).copied()?;
        self.told += 1;
        Some(linktype)
    }

    /// Whether packets of a batch get the time at which they are pushed.
    pub fn times(&self, batch: &Batch) -> bool {
        self.shaper.times(batch)
    }

    /// That time, from now on.
    pub fn set_wall_clock(&mut self, now: Timestamp) {
        self.wall_clock = now;
    }

    /// Whether it has had all the packets that it may have.
    pub fn is_done(&self) -> bool {
        self.shaper.is_done()
    }

    /// Loses packets that could not be pushed.
    pub fn lose(&mut self, reason: DropReason, packets: u64) {
        self.dropped.add(reason, packets);
    }

    /// Takes over a run of packets of a batch.
    pub fn push(&mut self, batch: &Batch, run: Range<usize>, now: Monotonic) {
        if self.takes_all() {
            return self.push_run(batch, run, now);
        }
        let filter = self.filter_of(batch);
        let mark = filter.and_then(|number| batch.mark_of(number));
        let mut start = run.start;
        for index in run.clone() {
            let matches = filter.is_none() || mark.is_some_and(|mark| batch.is_marked(index, mark));
            if !matches || !self.shaper.keeps() {
                self.push_run(batch, start..index, now);
                start = index + 1;
            }
        }
        self.push_run(batch, start..run.end, now);
    }

    fn push_run(&mut self, batch: &Batch, run: Range<usize>, now: Monotonic) {
        let Some(packets) = batch.packets.get(run) else { return };
        let Some(first) = packets.first() else { return };
        match &batch.verbatim {
            Some(verbatim) if self.takes_as_they_are() && self.carries(verbatim) => {
                let whole = packets.len() == batch.packets.len();
                let octets = if whole { verbatim.octets.clone() } else { records_of(packets) };
                if whole && (self.octets.is_empty() || octets.len() >= WORTH_SHARING) {
                    self.flush(now);
                    let octets = batch.buffer.slice(octets);
                    self.packets += packets.len() as u64;
                    self.publish(octets, now);
                    return;
                }
                if self.octets.len() + octets.len() > self.pool.size() {
                    self.flush(now);
                }
                self.reserve();
                self.octets.extend_from_slice(batch.buffer.get(octets).unwrap_or_default());
                self.packets += packets.len() as u64;
            }
            _ => {
                self.learn(first.interface);
                for packet in packets {
                    if self.octets.len() >= self.chunk_octets {
                        self.flush(now);
                    }
                    self.reserve();
                    self.encode(batch, packet);
                }
            }
        }
        if self.octets.len() >= self.chunk_octets {
            self.flush(now);
        }
    }

    /// Exchanges its filter, for packets that are marked with the new one; `None` takes all.
    pub fn set_filter(&mut self, filter: Option<u32>) {
        if filter != self.filter {
            self.earlier = Some(std::mem::replace(&mut self.filter, filter));
        }
    }

    /// The filter for the packets of a batch, which may have been on its way when that changed.
    fn filter_of(&self, batch: &Batch) -> Option<u32> {
        let marked = |filter: &Option<u32>| filter.is_none_or(|number| batch.mark_of(number).is_some());
        match self.earlier {
            Some(earlier) if !marked(&self.filter) && marked(&earlier) => earlier,
            _ => self.filter,
        }
    }

    /// Whether records of this format and linktype can be [pushed as they are](Self::push_records).
    pub fn takes_records(&mut self, format: Format, linktype: LinkType) -> bool {
        let alike = format != Format::PcapNg && format == self.format;
        alike && self.takes_all() && self.takes_as_they_are() && self.admits(linktype)
    }

    /// Whether no packet is left out.
    fn takes_all(&self) -> bool {
        self.filter.is_none() && self.shaper.is_idle()
    }

    /// Whether records need no look, one by one.
    fn takes_as_they_are(&self) -> bool {
        self.dedup.is_none() && !self.shaper.alters()
    }

    /// Takes over `packets` whole records of a stream whose records it
    /// [takes](Self::takes_records).
    pub fn push_records(&mut self, octets: Bytes, packets: u64, now: Monotonic) {
        self.flush(now);
        self.packets += packets;
        self.publish(octets, now);
    }

    /// Publishes what was pushed since the last chunk: the source would block.
    pub fn flush(&mut self, now: Monotonic) {
        if self.octets.is_empty() {
            if self.dropped.total() > 0 {
                self.ring.count_dropped(&std::mem::take(&mut self.dropped));
            }
            return;
        }
        // A chunk that leaves much of its buffer empty is copied out: it is charged for its octets, not
        // for the buffer.
        if self.octets.len() < self.octets.capacity() / 8 * 7 {
            let octets = Bytes::copy_from_slice(&self.octets);
            self.octets.clear();
            return self.publish(octets, now);
        }
        let octets = self.pool.freeze(std::mem::take(&mut self.octets));
        self.publish(octets, now);
    }

    fn publish(&mut self, octets: Bytes, now: Monotonic) {
        let chunk = Chunk {
            octets,
            packets: std::mem::take(&mut self.packets),
            interfaces: self.announce,
            by_interface: self.by_interface.drain(..).collect(),
            published: now,
        };
        self.ring.publish(chunk, &std::mem::take(&mut self.dropped));
    }

    /// Whether records of such a batch can be sent as they are.
    fn carries(&mut self, verbatim: &Verbatim) -> bool {
        verbatim.format == self.format && self.admits(verbatim.linktype)
    }

    /// Whether packets of this linktype fit the feed; decides the feed's linktype if it has none.
    fn admits(&mut self, linktype: LinkType) -> bool {
        if self.format == Format::PcapNg || self.linktype == Some(linktype) {
            return true;
        }
        if self.linktype.is_some() && self.packets > 0 {
            return false;
        }
        self.ring.set_linktype(linktype);
        let holds = self.ring.correct_linktype(linktype);
        self.linktype = Some(holds);
        holds == linktype
    }

    fn encode(&mut self, batch: &Batch, packet: &Packet) {
        let time = self.times(batch).then_some(self.wall_clock);
        let altered = (time.is_some() || self.shaper.alters()).then(|| self.shaper.altered(packet, time));
        let packet = altered.as_ref().unwrap_or(packet);
        self.learn(packet.interface);
        let Some(interface) = self.known.get(packet.interface.0 as usize) else {
            self.dropped.add(DropReason::InterfaceLimit, 1);
            return;
        };
        let (linktype, resolution) = (interface.linktype, interface.resolution);
        let octets = batch.octets(packet);
        let converted = match self.linktype == Some(linktype) || self.admits(linktype) {
            true => None,
            false => match self.converted(linktype, packet, octets) {
                None => {
                    self.dropped.add(DropReason::LinkTypeMismatch, 1);
                    self.mismatch(linktype);
                    return;
                }
                converted => converted,
            },
        };
        if let Some(reason) = self.unfit(packet, linktype) {
            self.dropped.add(reason, 1);
            return;
        }
        if self.repeats(packet, octets) {
            self.dropped.add(DropReason::Duplicate, 1);
            return;
        }
        match converted {
            None => self.write(batch, packet, octets, resolution),
            Some(converted) => self.write_converted(batch, packet, &converted, resolution),
        }
    }

    /// A packet of another linktype as one of this feed's, where that is Ethernet.
    fn converted<'a>(&self, linktype: LinkType, packet: &Packet, octets: &'a [u8]) -> Option<Converted<'a>> {
        let wanted = self.linktype == Some(LinkType::ETHERNET);
        convert::to_ethernet(linktype, octets, packet.origlen, &self.addresses).filter(|_| wanted)
    }

    fn mismatch(&mut self, linktype: LinkType) {
        if self.mismatched.len() < MAX_LINKTYPES && !self.mismatched.contains(&linktype) {
            self.mismatched.push(linktype);
        }
    }

    fn write_converted(
        &mut self,
        batch: &Batch,
        packet: &Packet,
        converted: &Converted<'_>,
        resolution: Resolution,
    ) {
        let packet = Packet { origlen: converted.origlen, caplen: converted.caplen(), ..*packet };
        let parts = [&converted.header[..], converted.payload];
        self.format.record_of_parts(&mut self.octets, &packet, parts, batch.options(&packet), resolution);
        self.count(packet.interface);
    }

    fn write(&mut self, batch: &Batch, packet: &Packet, octets: &[u8], resolution: Resolution) {
        self.format.record(&mut self.octets, packet, octets, batch.options(packet), resolution);
        self.count(packet.interface);
    }

    /// One more packet of an interface is in the chunk.
    fn count(&mut self, interface: InterfaceId) {
        self.packets += 1;
        if self.format == Format::PcapNg {
            self.announce = self.announce.max(interface.0.saturating_add(1));
            match self.by_interface.iter_mut().rev().find(|(id, _)| *id == interface) {
                Some((_, count)) => *count += 1,
                None => self.by_interface.push((interface, 1)),
            }
        }
    }

    /// Why a packet cannot be in a stream of this format, if so.
    fn unfit(&self, packet: &Packet, linktype: LinkType) -> Option<DropReason> {
        match self.format {
            Format::PcapNg => None,
            _ if packet.caplen == 0 => Some(DropReason::EmptyPacket),
            _ if packet.caplen > linktype.max_caplen() => Some(DropReason::OversizePacket),
            _ => None,
        }
    }

    fn repeats(&mut self, packet: &Packet, octets: &[u8]) -> bool {
        let Some(dedup) = &mut self.dedup else { return false };
        let Some(interface) = self.known.get(packet.interface.0 as usize) else { return false };
        let next = self.sources.len() as u32;
        let source = match self.sources.get(&interface.source) {
            Some(source) => *source,
            None => *self.sources.entry(interface.source.clone()).or_insert(next),
        };
        dedup.is_duplicate(octets, packet.timestamp, source)
    }

    /// Looks up interfaces that came since the last look.
    fn learn(&mut self, id: InterfaceId) {
        if id.0 as usize >= self.known.len() {
            self.interfaces.catch_up(&mut self.known);
        }
    }

    fn reserve(&mut self) {
        if self.octets.capacity() == 0 {
            self.octets = self.pool.take_empty();
        }
    }
}

/// The classic pcap record header, in octets.
const RECORD_HEADER: usize = 16;

/// Where the records of consecutive packets of a verbatim classic pcap batch lie.
fn records_of(packets: &[Packet]) -> Range<usize> {
    match (packets.first(), packets.last()) {
        (Some(first), Some(last)) => {
            (first.offset as usize).saturating_sub(RECORD_HEADER)..last.offset as usize + last.caplen as usize
        }
        _ => 0..0,
    }
}
