//! Octets of one stream into batches: the buffer between a reader and its decoder.
//!
//! Grows with what was received, never by what a length field claims.

use std::sync::Arc;

use bytes::Bytes;
use pcaphub_core::batch::Batch;
use pcaphub_core::buffer::Pool;
use pcaphub_core::error::DecodeError;
use pcaphub_core::format::{Decoder, DecoderOptions};
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::stats::{AnomalyCounts, DropCounts};
use pcaphub_core::time::Timestamp;
use thiserror::Error;

use crate::allowance::{Allowance, Taken};

/// How much is read at once: as large as a chunk, so that a file's reads become chunks as they
/// are, and small enough to stay in a core's cache until it was walked and sent.
pub const READ_OCTETS: usize = 256 * 1024;

/// Less than this at once is a trickle: hundreds of silent streams must not have a large buffer each.
const FEW: usize = 8 * 1024;

/// One stream's buffer and decoder.
#[derive(Debug)]
pub struct Framing {
    pool: Pool,
    buffer: Vec<u8>,
    /// Where in the buffer the octets begin that are not decoded, and where they end.
    start: usize,
    filled: usize,
    /// They, while there is no buffer.
    tail: Vec<u8>,
    decoder: Decoder,
    interfaces: Interfaces,
    clock_offset: i64,
    told: (DropCounts, AnomalyCounts),
    allowance: Allowance,
    /// Whether the last read brought so much that the next one gets a whole buffer of the pool's.
    busy: bool,
    /// What was taken of it, for a buffer larger than the pool's.
    large: Option<Taken>,
}

/// Why a stream cannot go on.
#[derive(Debug, Error)]
pub enum FramingError {
    /// What is wrong with it. Its sender's fault.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The operator's limit.
    #[error(
        "a record of over {octets} octets at octet {offset}, for which --max-memory leaves no room at the moment"
    )]
    Memory {
        /// What was there of it.
        octets: usize,
        /// Where in the stream it begins.
        offset: u64,
    },
}

/// What was decoded since the last time.
#[derive(Debug, Default)]
pub struct Decoded {
    /// The packets.
    pub batch: Batch,
    /// Packets decoded but not kept, by reason.
    pub dropped: DropCounts,
    /// What was odd.
    pub anomalies: AnomalyCounts,
    /// Octets consumed.
    pub octets: u64,
    /// Packets that a filter of the source kept out, or that it was not to bring.
    pub filtered: u64,
    /// Memory that the packets pin beyond a buffer of the pool's.
    pub large: Option<Taken>,
}

impl Framing {
    /// A buffer for one stream. `clock_offset` is added to every packet's time, in nanoseconds.
    pub fn new(pool: Pool, options: DecoderOptions, interfaces: Interfaces, clock_offset: i64) -> Self {
        let told = Default::default();
        let decoder = Decoder::new(options);
        Framing {
            buffer: Vec::new(),
            start: 0,
            filled: 0,
            tail: Vec::new(),
            pool,
            decoder,
            interfaces,
            clock_offset,
            told,
            allowance: Allowance::new(usize::MAX),
            busy: false,
            large: None,
        }
    }

    /// Takes buffers that are larger than the pool's from `allowance`.
    pub fn with_allowance(self, allowance: Allowance) -> Self {
        Framing { allowance, ..self }
    }

    /// The decoder, to ask what the stream is.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Where the next octets are to be read to; never empty. Whole pages that begin at a page's
    /// boundary wherever possible: the kernel copies a file into them a quarter faster (measured).
    pub fn spare(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.buffer = match (self.busy, self.fits(tail.len())) {
                (false, true) if tail.len() < FEW / 2 => vec![0; FEW + 2 * PAGE],
                (_, true) => self.pool.take(),
                (_, false) => vec![0; self.grown(PAGE, PAGE + tail.len())],
            };
            self.start = aligned(&self.buffer, tail.len());
            self.filled = self.start + tail.len();
            if let Some(place) = self.buffer.get_mut(self.start..self.filled) {
                place.copy_from_slice(&tail);
            }
        }
        if self.filled == self.buffer.len() && self.fits(self.filled - self.start) {
            let full = std::mem::replace(&mut self.buffer, self.pool.take());
            let begun = full.get(self.start..self.filled).unwrap_or_default();
            self.start = aligned(&self.buffer, begun.len());
            self.filled = self.start + begun.len();
            if let Some(place) = self.buffer.get_mut(self.start..self.filled) {
                place.copy_from_slice(begun);
            }
        }
        if self.filled == self.buffer.len() {
            let grown = self.grown(self.start, self.filled);
            self.buffer.reserve_exact(grown - self.filled);
            self.buffer.resize(grown, 0);
        }
        let spare = self.buffer.len() - self.filled;
        let whole = if spare >= PAGE { spare - spare % PAGE } else { spare };
        self.buffer.get_mut(self.filled..self.filled + whole).unwrap_or_default()
    }

    /// `n` octets were read into [`spare`](Self::spare), at `arrival`: the whole records among
    /// all octets so far, and the error behind them, if any.
    pub fn received(&mut self, n: usize, arrival: Timestamp) -> (Decoded, Result<(), FramingError>) {
        let (_, decoded, result) = self.take_in(n, arrival, false);
        (decoded, result)
    }

    /// Like [`received`](Self::received), but records at the beginning that can be sent as they are
    /// are not decoded: they come as octets, and how many packets that is.
    pub fn forwarded(
        &mut self,
        n: usize,
        arrival: Timestamp,
    ) -> ((Bytes, u64), Decoded, Result<(), FramingError>) {
        self.take_in(n, arrival, self.clock_offset == 0)
    }

    fn take_in(
        &mut self,
        n: usize,
        arrival: Timestamp,
        forward: bool,
    ) -> ((Bytes, u64), Decoded, Result<(), FramingError>) {
        self.filled = (self.filled + n).min(self.buffer.len());
        self.busy = n >= FEW;
        let mut batch = Batch::default();
        let octets = self.buffer.get(self.start..self.filled).unwrap_or_default();
        let (packets, ahead) = if forward { self.decoder.forward(octets) } else { (0, 0) };
        let octets = octets.get(ahead..).unwrap_or_default();
        let decoded = self.decoder.decode(octets, &mut batch, &mut self.interfaces, arrival);
        let consumed = ahead + decoded.consumed;
        let (mut large, mut records) = (None, Bytes::new());
        if consumed > 0 {
            // Behind the last packet there may be much of no use: options, blocks skipped.
            let last = batch.packets.last().map_or(0, |p| p.offset as usize + p.caplen as usize);
            let verbatim = batch.verbatim.as_ref().map_or(0, |verbatim| verbatim.octets.end);
            records = self.split(consumed, ahead + verbatim.max(last));
            batch.buffer = records.split_off(ahead.min(records.len()));
            if self.buffer.is_empty() {
                large = self.large.take().filter(|_| batch.buffer.len() > self.pool.size() / 2);
            }
        }
        let result = decoded.result.map_err(FramingError::from).and_then(|()| self.make_room());
        if self.clock_offset != 0 {
            batch.verbatim = None;
            for packet in &mut batch.packets {
                packet.timestamp = packet.timestamp.shifted(self.clock_offset);
            }
        }
        let (dropped, anomalies) = (*self.decoder.drops(), *self.decoder.anomalies());
        let counted = Decoded {
            batch,
            dropped: dropped.since(&self.told.0),
            anomalies: anomalies.since(&self.told.1),
            octets: consumed as u64,
            filtered: 0,
            large,
        };
        self.told = (dropped, anomalies);
        ((records, packets), counted, result)
    }

    /// Takes from the allowance what the next [`spare`](Self::spare) will allocate, if that is more
    /// than a buffer of the pool's.
    fn make_room(&mut self) -> Result<(), FramingError> {
        let begun = if self.buffer.is_empty() { self.tail.len() } else { self.filled - self.start };
        let due = match self.buffer.is_empty() {
            true if self.fits(begun) => 0,
            true => self.grown(PAGE, PAGE + begun),
            false if self.filled == self.buffer.len() && !self.fits(begun) => {
                self.grown(self.start, self.filled)
            }
            false => return Ok(()),
        };
        if due == 0 {
            return Ok(());
        }
        // What it has is given back only when it has the larger one: both are there for a moment.
        self.large = self.allowance.take(due);
        let offset = self.decoder.offset();
        self.large.as_ref().map(|_| ()).ok_or(FramingError::Memory { octets: begun, offset })
    }

    fn fits(&self, tail: usize) -> bool {
        tail + 2 * PAGE < self.pool.size()
    }

    /// The size of a buffer for a record that is larger than those of the pool: at most about double
    /// what was really received, and little more than the record.
    fn grown(&self, start: usize, filled: usize) -> usize {
        let record = start + self.decoder.wants() + PAGE;
        (2 * filled + PAGE).min(record.max(filled + PAGE))
    }

    /// The stream ended: whether that was at a record's boundary.
    ///
    /// # Errors
    /// Which part was cut short.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        let rest = match self.buffer.is_empty() {
            true => &self.tail,
            false => self.buffer.get(self.start..self.filled).unwrap_or_default(),
        };
        self.decoder.finish(rest)
    }

    /// Takes the first `consumed` octets off; only the first `wanted` of them are sure to be returned.
    fn split(&mut self, consumed: usize, wanted: usize) -> Bytes {
        let end = self.start + consumed;
        let rest = self.filled - end;
        let large = self.buffer.len() > self.pool.size();
        if wanted < self.buffer.len() / 4 * 3 {
            // A slice that leaves much of its buffer unused is copied out: it is charged for its
            // octets, not for the buffer.
            let kept = self.buffer.get(self.start..self.start + wanted).unwrap_or_default();
            let kept = Bytes::copy_from_slice(kept);
            if large || !self.busy {
                // A stream that trickles, or falls silent here, needs no large buffer.
                self.tail = self.buffer.get(end..self.filled).unwrap_or_default().to_vec();
                self.pool.give_back(std::mem::take(&mut self.buffer));
                return kept;
            }
            let start = aligned(&self.buffer, rest);
            self.buffer.copy_within(end..self.filled, start);
            (self.start, self.filled) = (start, start + rest);
            return kept;
        }
        // The next buffer is only taken when it is read into: by then this one may be free again,
        // and still be in the core's cache.
        self.tail = self.buffer.get(end..self.filled).unwrap_or_default().to_vec();
        let full = self.pool.freeze(std::mem::take(&mut self.buffer));
        full.slice(self.start..end)
    }
}

/// A page of the kernel's, on every machine that we know; on others, nothing but speed depends
/// on it.
const PAGE: usize = 4096;

/// Where in `buffer` the first of `rest` octets must lie so that what follows them begins at a
/// page's boundary.
fn aligned(buffer: &[u8], rest: usize) -> usize {
    let start = PAGE - (buffer.as_ptr().addr() + rest) % PAGE;
    if start + rest < buffer.len() { start } else { 0 }
}

/// A pool for the framings of a hub with `streams` streams, which keeps `keep_octets` for reuse.
pub fn pool(streams: usize, piece: usize, keep_octets: usize) -> Pool {
    let size = read_octets(streams, piece);
    buffers(size, keep_octets)
}

/// A pool of buffers into which `octets` can be read at once.
pub fn buffers(octets: usize, keep_octets: usize) -> Pool {
    let size = octets + 2 * PAGE;
    Pool::new(size, keep_octets / size)
}

/// How much each of so many streams reads at once: with many, less, so that what lies between
/// reading and encoding still fits a core's cache (16 files merged twice as fast, measured).
pub fn read_octets(streams: usize, piece: usize) -> usize {
    if streams <= 4 { READ_OCTETS.min(piece) } else { (READ_OCTETS / 4).min(piece) }
}

/// Options for the decoder of a source called `source`; `named` if the operator chose the name.
pub fn decoder_options(source: &Arc<str>, named: bool, linktype: Option<LinkType>) -> DecoderOptions {
    DecoderOptions { source: source.clone(), name: named.then(|| source.clone()), linktype }
}
