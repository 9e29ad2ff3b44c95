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

/// How much is read at once: as large as a chunk, so that a file's reads become chunks as they
/// are, and small enough to stay in a core's cache until it was walked and sent.
pub const READ_OCTETS: usize = 256 * 1024;

/// One stream's buffer and decoder.
#[derive(Debug)]
pub struct Framing {
    pool: Pool,
    buffer: Vec<u8>,
    filled: usize,
    decoder: Decoder,
    interfaces: Interfaces,
    clock_offset: i64,
    told: (DropCounts, AnomalyCounts),
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
}

impl Framing {
    /// A buffer for one stream. `clock_offset` is added to every packet's time, in nanoseconds.
    pub fn new(pool: Pool, options: DecoderOptions, interfaces: Interfaces, clock_offset: i64) -> Self {
        let told = Default::default();
        let decoder = Decoder::new(options);
        Framing { buffer: Vec::new(), filled: 0, pool, decoder, interfaces, clock_offset, told }
    }

    /// The decoder, to ask what the stream is.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Where the next octets are to be read to; never empty.
    pub fn spare(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = self.pool.take();
        }
        if self.filled == self.buffer.len() {
            // A record larger than the buffer: at most double what was really received.
            self.buffer.resize(self.filled * 2, 0);
        }
        self.buffer.get_mut(self.filled..).unwrap_or_default()
    }

    /// `n` octets were read into [`spare`](Self::spare), at `arrival`: the whole records among
    /// all octets so far, and the error behind them, if any.
    pub fn received(&mut self, n: usize, arrival: Timestamp) -> (Decoded, Result<(), DecodeError>) {
        self.filled = (self.filled + n).min(self.buffer.len());
        let mut batch = Batch::default();
        let octets = self.buffer.get(..self.filled).unwrap_or_default();
        let decoded = self.decoder.decode(octets, &mut batch, &mut self.interfaces, arrival);
        if decoded.consumed > 0 {
            let buffer = self.split(decoded.consumed, !batch.is_empty());
            batch.buffer = buffer;
        }
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
            octets: decoded.consumed as u64,
        };
        self.told = (dropped, anomalies);
        (counted, decoded.result)
    }

    /// The stream ended: whether that was at a record's boundary.
    ///
    /// # Errors
    /// Which part was cut short.
    pub fn finish(&mut self) -> Result<(), DecodeError> {
        self.decoder.finish(self.buffer.get(..self.filled).unwrap_or_default())
    }

    /// Takes the first `consumed` octets off; they are only returned where packets lie in them.
    fn split(&mut self, consumed: usize, wanted: bool) -> Bytes {
        let rest = self.filled - consumed;
        let large = self.buffer.len() > self.pool.size();
        if !large && (!wanted || consumed < self.buffer.len() / 2) {
            // A slice that keeps less than half of its buffer alive is copied out.
            let kept = if wanted { self.buffer.get(..consumed).unwrap_or_default() } else { &[] };
            let kept = Bytes::copy_from_slice(kept);
            self.buffer.copy_within(consumed..self.filled, 0);
            self.filled = rest;
            return kept;
        }
        let mut next = if rest < self.pool.size() { self.pool.take() } else { vec![0; rest * 2] };
        if let (Some(to), Some(from)) = (next.get_mut(..rest), self.buffer.get(consumed..self.filled)) {
            to.copy_from_slice(from);
        }
        self.filled = rest;
        let full = std::mem::replace(&mut self.buffer, next);
        self.pool.freeze(full)
    }
}

/// A pool for the framings of a hub with `streams` streams, which keeps `keep_octets` for reuse.
pub fn pool(streams: usize, keep_octets: usize) -> Pool {
    let size = read_octets(streams);
    Pool::new(size, keep_octets / size)
}

/// How much each of so many streams reads at once: with many, less, so that what lies between
/// reading and encoding still fits a core's cache (16 files merged twice as fast, measured).
pub fn read_octets(streams: usize) -> usize {
    if streams <= 4 { READ_OCTETS } else { READ_OCTETS / 4 }
}

/// Options for the decoder of a source called `source`; `named` if the operator chose the name.
pub fn decoder_options(source: &Arc<str>, named: bool, linktype: Option<LinkType>) -> DecoderOptions {
    DecoderOptions { source: source.clone(), name: named.then(|| source.clone()), linktype }
}
