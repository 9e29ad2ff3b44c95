//! The hand of a subscriber's writer: header, interfaces, gaps and chunks, in the order in which
//! they are written, and how far that is. Whoever writes takes pieces from it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::task::{Context, Poll};

use bytes::Bytes;
use pcaphub_core::feed::{
    Announcements, Chunk, Ending, Gap, OnSlow, Subscriber, first_records, whole_records,
};
use pcaphub_core::format::Format;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::stats::DropReason;

use crate::clock::wall_clock;

/// What one system call is given at most: beyond it, a call's own cost no longer shows
/// (a third less CPU than with 64 KiB, measured).
const GATHER_OCTETS: usize = 1 << 20;
/// Pieces one system call is given at most; the kernel refuses more than 1024.
const GATHER_PIECES: usize = 64;

/// Why delivery to a peer ended.
#[derive(Debug)]
pub enum Left {
    /// The feed ended, or sent it away.
    Feed(Ending),
    /// The peer did.
    Peer(io::Error),
}

impl std::fmt::Display for Left {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Left::Feed(Ending::Ended) => f.write_str("end of stream"),
            Left::Feed(Ending::TooSlow) => f.write_str("too slow, disconnected (on-slow=disconnect)"),
            Left::Feed(Ending::HeaderChanged) => {
                f.write_str("its header was for another linktype; it may come back")
            }
            Left::Feed(Ending::Stopped) => f.write_str("stopped"),
            Left::Peer(error) => match error.kind() {
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    f.write_str("it closed the connection")
                }
                io::ErrorKind::TimedOut => f.write_str("it acknowledges nothing any more (--client-timeout)"),
                _ => write!(f, "{error}"),
            },
        }
    }
}

/// What is to be written next, and how far that is: the hand of a subscriber's writer.
pub struct Pen {
    subscriber: Subscriber,
    interfaces: Announcements,
    announced: usize,
    format: Format,
    hand: VecDeque<Chunk>,
    pieces: VecDeque<Piece>,
    /// Octets of the first piece that are written.
    offset: usize,
    /// Chunks of the hand that have a piece.
    laid_out: usize,
    /// Octets of the hand's first chunk that an earlier connection took, as whole records.
    taken: usize,
}

struct Piece {
    octets: Bytes,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Chunk,
    /// A header, or interfaces: every stream gets those it needs.
    Opening,
    /// What was lost.
    Gap,
}

impl Piece {
    fn is_chunk(&self) -> bool {
        self.kind == Kind::Chunk
    }
}

/// How much may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In octets.
    pub octets: u64,
    /// In packets.
    pub packets: u64,
}

/// How much of what is due fits into a [`Room`]: whole records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fit {
    /// In octets.
    pub octets: u64,
    /// In packets.
    pub packets: u64,
    /// Whether more is due than fits.
    pub is_cut: bool,
}

impl Pen {
    /// A writer's hand for a subscriber. `interfaces` are the hub's.
    pub fn new(subscriber: Subscriber, interfaces: Announcements) -> Self {
        Pen {
            format: subscriber.ring().options().format,
            subscriber,
            interfaces,
            announced: 0,
            hand: VecDeque::new(),
            pieces: VecDeque::new(),
            offset: 0,
            laid_out: 0,
            taken: 0,
        }
    }

    /// The subscriber it writes for.
    pub fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    /// Begins a stream: its header comes first, and a record that was written only in part comes whole.
    pub fn begin(&mut self, linktype: LinkType) {
        let gaps: Vec<Piece> = self.pieces.drain(..).filter(|piece| piece.kind == Kind::Gap).collect();
        self.offset = 0;
        self.announced = 0;
        self.laid_out = 0;
        self.put(self.format.header(linktype), Kind::Opening);
        if self.format == Format::PcapNg {
            // All that are known, at once: readers of the libpcap kind wait for the first.
            self.announce(self.interfaces.count());
        }
        self.pieces.extend(gaps);
        self.lay_out();
    }

    /// Ready with something to write, or with the end.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Ending>> {
        let taken = self.subscriber.poll_take(cx, GATHER_OCTETS, &mut self.hand);
        match taken {
            Poll::Ready(Ok(gap)) => {
                if let Some(gap) = gap {
                    self.tell(&gap);
                }
                self.lay_out();
                Poll::Ready(Ok(()))
            }
            _ if !self.pieces.is_empty() => Poll::Ready(Ok(())),
            Poll::Ready(Err(ending)) => Poll::Ready(Err(ending)),
            Poll::Pending => Poll::Pending,
        }
    }

    /// The pieces to write, as one system call takes them.
    pub fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut skip = self.offset;
        let pieces = self.pieces.iter().take(GATHER_PIECES);
        pieces
            .map(|piece| IoSlice::new(piece.octets.get(std::mem::take(&mut skip)..).unwrap_or_default()))
            .collect()
    }

    /// As [`slices`](Self::slices), and `most` octets at most.
    pub fn slices_within(&self, most: u64) -> Vec<IoSlice<'_>> {
        let (mut skip, mut left) = (self.offset, usize::try_from(most).unwrap_or(usize::MAX));
        let mut slices = Vec::new();
        for piece in self.pieces.iter().take(GATHER_PIECES) {
            let octets = piece.octets.get(std::mem::take(&mut skip)..).unwrap_or_default();
            let octets = octets.get(..left).unwrap_or(octets);
            left -= octets.len();
            slices.push(IoSlice::new(octets));
            if left == 0 {
                break;
            }
        }
        slices
    }

    /// How much of what is due fits. Of a record that was begun, the rest always does.
    pub fn fitting(&self, room: Room) -> Fit {
        let (mut fit, mut chunk) = (Fit::default(), 0);
        for (index, piece) in self.pieces.iter().take(GATHER_PIECES).enumerate() {
            let done = if index == 0 { self.offset } else { 0 };
            let rest = (piece.octets.len() - done) as u64;
            let left = Room {
                octets: room.octets.saturating_sub(fit.octets),
                packets: room.packets.saturating_sub(fit.packets),
            };
            if !piece.is_chunk() {
                if rest > left.octets && done == 0 {
                    return Fit { is_cut: true, ..fit };
                }
                fit.octets += rest;
                continue;
            }
            let whole = done == 0 && (chunk > 0 || self.taken == 0);
            let packets = self.hand.get(chunk).filter(|_| whole).map(|chunk| chunk.packets);
            chunk += 1;
            let (octets, packets) = match packets {
                Some(packets) if rest <= left.octets && packets <= left.packets => (rest, packets),
                _ => self.fitting_part(piece, done, left),
            };
            fit.octets += octets;
            fit.packets += packets;
            if octets < rest {
                return Fit { is_cut: true, ..fit };
            }
        }
        fit
    }

    /// Octets and packets of a chunk, of which `done` octets are written, that fit.
    fn fitting_part(&self, piece: &Piece, done: usize, left: Room) -> (u64, u64) {
        let begun = whole_records(self.format, piece.octets.get(..done).unwrap_or_default()).1;
        let records = piece.octets.get(begun..).unwrap_or_default();
        let most = usize::try_from(left.octets).unwrap_or(usize::MAX).saturating_add(done - begun);
        let within = records.get(..most).unwrap_or(records);
        let (mut packets, mut octets) = first_records(self.format, within, left.packets);
        if octets == 0 && done > begun {
            (packets, octets) = first_records(self.format, records, 1);
        }
        ((begun + octets).saturating_sub(done) as u64, packets)
    }

    /// The stream ends here; the next one goes on behind what was written.
    pub fn set_down(&mut self) {
        self.lay_down();
        self.pieces.retain(|piece| piece.kind == Kind::Gap);
        self.offset = 0;
        self.laid_out = 0;
        self.lay_out();
    }

    /// Whether nothing is left to write.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// `written` octets of the pieces were accepted.
    pub fn advance(&mut self, written: usize) {
        let mut left = written;
        let mut chunks = 0;
        while let Some(piece) = self.pieces.front() {
            let rest = piece.octets.len() - self.offset;
            if left < rest {
                self.offset += left;
                break;
            }
            left -= rest;
            self.offset = 0;
            if piece.is_chunk() {
                self.hand.pop_front();
                self.laid_out -= 1;
                self.taken = 0;
                chunks += 1;
            }
            self.pieces.pop_front();
        }
        self.subscriber.confirm(chunks, written);
    }

    /// Lets go of all chunks but the one being written: the peer does not take them now, and the
    /// ring, which may drop them, has better use for their memory. `taken` octets are under way already,
    /// and their chunks stay, too.
    pub fn rest(&mut self, taken: usize) {
        let keep = self.chunks_within(taken).max(1);
        if self.laid_out <= keep {
            return;
        }
        self.subscriber.put_back(keep);
        if self.subscriber.ring().options().on_slow == OnSlow::Wait {
            return;
        }
        self.keep_first(keep);
    }

    /// Chunks of which the first `octets` that are to be written have a part.
    fn chunks_within(&self, octets: usize) -> usize {
        let mut end = self.offset + octets;
        let begun = self.pieces.iter().take_while(|piece| {
            let begins = end > 0;
            end = end.saturating_sub(piece.octets.len());
            begins
        });
        begun.filter(|piece| piece.is_chunk()).count()
    }

    /// Gives up everything but the chunk being written, as packets for which there is no room.
    pub fn forfeit(&mut self) {
        self.subscriber.forfeit(self.hand.len().min(1), DropReason::SinkFull);
        self.keep_first(1);
    }

    fn keep_first(&mut self, keep: usize) {
        self.hand.truncate(keep);
        self.laid_out = self.laid_out.min(keep);
        let mut chunks = 0;
        // Announcements stay: an interface announced early harms nobody.
        self.pieces.retain(|piece| {
            chunks += usize::from(piece.is_chunk());
            !piece.is_chunk() || chunks <= keep
        });
    }

    /// Takes back what was written of a record or header that was not written to its end, so that
    /// it comes whole the next time; how many octets that is.
    pub fn take_back(&mut self) -> usize {
        let Some(piece) = self.pieces.front() else { return 0 };
        let written = piece.octets.get(..self.offset).unwrap_or_default();
        let whole = if piece.is_chunk() { whole_records(self.format, written).1 } else { 0 };
        let surplus = self.offset - whole;
        self.offset = whole;
        surplus
    }

    /// The connection ends here: whole records of a chunk written in part count as delivered, and the
    /// next connection goes on behind them.
    pub fn lay_down(&mut self) {
        if let Some(piece) = self.pieces.front().filter(|piece| piece.is_chunk() && self.offset > 0) {
            let written = piece.octets.get(..self.offset).unwrap_or_default();
            let (packets, octets) = whole_records(self.format, written);
            self.subscriber.confirm_part(packets);
            self.taken += octets;
            self.pieces.clear();
            self.offset = 0;
        }
    }

    fn put(&mut self, octets: Vec<u8>, kind: Kind) {
        if !octets.is_empty() {
            self.pieces.push_back(Piece { octets: octets.into(), kind });
        }
    }

    fn lay_out(&mut self) {
        while let Some(chunk) = self.hand.get(self.laid_out).cloned() {
            self.announce(chunk.interfaces as usize);
            let taken = if self.laid_out == 0 { self.taken } else { 0 };
            self.pieces.push_back(Piece { octets: chunk.octets.slice(taken..), kind: Kind::Chunk });
            self.laid_out += 1;
        }
    }

    /// Announces interfaces until `count` of them were.
    fn announce(&mut self, count: usize) {
        if self.announced >= count {
            return;
        }
        let (pieces, end) = self.interfaces.of(self.format, self.announced..count);
        self.pieces.extend(pieces.into_iter().map(|octets| Piece { octets, kind: Kind::Opening }));
        self.announced = end;
    }

    /// Tells the peer of a gap where it happens.
    fn tell(&mut self, gap: &Gap) {
        let Some(last) = gap.by_interface.iter().map(|(id, _)| id.0 as usize + 1).max() else { return };
        self.announce(last);
        let now = wall_clock();
        let mut octets = Vec::new();
        for (id, lost) in &gap.by_interface {
            if let Some(interface) = self.interfaces.interface(*id) {
                octets.extend(self.format.statistics(*id, now, interface.resolution, *lost));
            }
        }
        self.put(octets, Kind::Gap);
    }
}

/// Waits for the linktype and begins the stream.
///
/// # Errors
/// The feed ended without one.
pub async fn begin(pen: &mut Pen) -> Result<(), Ending> {
    let linktype = std::future::poll_fn(|cx| pen.subscriber.poll_header(cx)).await?;
    pen.begin(linktype);
    Ok(())
}
