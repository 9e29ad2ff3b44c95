//! From a feed to one peer: header, interfaces, gaps and chunks, in as few system calls as
//! possible.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::Thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pcaphub_core::feed::{Chunk, Ending, Gap, Subscriber, count_records};
use pcaphub_core::format::Format;
use pcaphub_core::interface::{Interface, Interfaces};
use pcaphub_core::linktype::LinkType;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::clock::wall_clock;

/// What one system call is given at most: beyond it, a call's own cost no longer shows
/// (a third less CPU than with 64 KiB, measured).
const GATHER_OCTETS: usize = 1 << 20;
/// Pieces one system call is given at most; the kernel refuses more than 1024.
const GATHER_PIECES: usize = 64;
/// How long a peer gets to close its side after we have closed ours, before it is left alone.
const LINGER: Duration = Duration::from_millis(500);
/// Packed files are brought up to date this often, so that a crash loses no more.
const FLUSH: Duration = Duration::from_secs(1);

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
                _ => write!(f, "{error}"),
            },
        }
    }
}

/// What is to be written next, and how far that is: the hand of a subscriber's writer.
pub struct Pen {
    subscriber: Subscriber,
    interfaces: Interfaces,
    known: Vec<Arc<Interface>>,
    announced: usize,
    format: Format,
    hand: VecDeque<Chunk>,
    pieces: VecDeque<Piece>,
    /// Octets of the first piece that are written.
    offset: usize,
    /// Chunks of the hand that have a piece.
    laid_out: usize,
}

struct Piece {
    octets: Bytes,
    is_chunk: bool,
}

impl Pen {
    /// A writer's hand for a subscriber. `interfaces` is the hub's table.
    pub fn new(subscriber: Subscriber, interfaces: Interfaces) -> Self {
        Pen {
            format: subscriber.ring().options().format,
            subscriber,
            interfaces,
            known: Vec::new(),
            announced: 0,
            hand: VecDeque::new(),
            pieces: VecDeque::new(),
            offset: 0,
            laid_out: 0,
        }
    }

    /// The subscriber it writes for.
    pub fn subscriber(&self) -> &Subscriber {
        &self.subscriber
    }

    /// Begins a stream: its header comes first, and what was written only in part comes whole.
    pub fn begin(&mut self, linktype: LinkType) {
        self.pieces.clear();
        self.offset = 0;
        self.announced = 0;
        self.laid_out = 0;
        self.put(self.format.header(linktype));
        if self.format == Format::PcapNg {
            // All that are known, at once: readers of the libpcap kind wait for the first.
            self.announce(self.interfaces.count());
        }
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
            if piece.is_chunk {
                self.hand.pop_front();
                self.laid_out -= 1;
                chunks += 1;
            }
            self.pieces.pop_front();
        }
        self.subscriber.confirm(chunks, written);
    }

    /// Lets go of all chunks but the one being written: the peer does not take them now, and the
    /// ring, which may drop them, has better use for their memory.
    pub fn rest(&mut self) {
        if self.laid_out <= 1 {
            return;
        }
        self.subscriber.put_back(1);
        if self.subscriber.ring().options().on_slow == pcaphub_core::feed::OnSlow::Wait {
            return;
        }
        self.hand.truncate(1);
        self.laid_out = 1;
        let mut chunks = 0;
        // Announcements stay: an interface announced early harms nobody.
        self.pieces.retain(|piece| {
            chunks += usize::from(piece.is_chunk);
            !piece.is_chunk || chunks <= 1
        });
    }

    /// The stream ends here: whole records of a chunk written in part count as delivered.
    pub fn lay_down(&self) {
        if let Some(piece) = self.pieces.front().filter(|piece| piece.is_chunk && self.offset > 0) {
            let written = piece.octets.get(..self.offset).unwrap_or_default();
            self.subscriber.confirm_part(count_records(self.format, written));
        }
    }

    fn put(&mut self, octets: Vec<u8>) {
        if !octets.is_empty() {
            self.pieces.push_back(Piece { octets: octets.into(), is_chunk: false });
        }
    }

    fn lay_out(&mut self) {
        while let Some(chunk) = self.hand.get(self.laid_out).cloned() {
            self.announce(chunk.interfaces as usize);
            self.pieces.push_back(Piece { octets: chunk.octets, is_chunk: true });
            self.laid_out += 1;
        }
    }

    /// Announces interfaces until `count` of them were.
    fn announce(&mut self, count: usize) {
        if self.announced >= count {
            return;
        }
        self.interfaces.catch_up(&mut self.known);
        let count = count.min(self.known.len());
        let new = self.known.get(self.announced..count).unwrap_or_default();
        let octets: Vec<u8> = new.iter().flat_map(|interface| self.format.interface(interface)).collect();
        self.announced = count;
        self.put(octets);
    }

    /// Tells the peer of a gap where it happens.
    fn tell(&mut self, gap: &Gap) {
        let Some(last) = gap.by_interface.iter().map(|(id, _)| id.0 as usize + 1).max() else { return };
        self.announce(last);
        let now = wall_clock();
        let mut octets = Vec::new();
        for (id, lost) in &gap.by_interface {
            if let Some(interface) = self.known.get(id.0 as usize) {
                octets.extend(self.format.statistics(*id, now, interface.resolution, *lost));
            }
        }
        self.put(octets);
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

/// Delivers to a peer until the feed or the peer ends. What the peer sends is discarded; that it
/// closed its sending side means nothing (netcat does so at once), that it reset does.
pub async fn to_peer<R, W>(pen: &mut Pen, mut reader: R, mut writer: W) -> Left
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut discard = Discard::default();
    loop {
        let filled = tokio::select! {
            biased;
            filled = std::future::poll_fn(|cx| pen.poll_fill(cx)) => filled,
            error = discard.until_reset(&mut reader) => return Left::Peer(error),
        };
        if let Err(ending) = filled {
            if ending == Ending::Ended {
                let _ = writer.shutdown().await;
                let _ = tokio::time::timeout(LINGER, discard.until_closed(&mut reader)).await;
            }
            return Left::Feed(ending);
        }
        if let Err(left) = write_once(pen, &mut reader, &mut writer, &mut discard).await {
            pen.lay_down();
            return left;
        }
    }
}

/// One system call's worth of what is due; waits for the peer as long as it takes.
async fn write_once<R, W>(
    pen: &mut Pen,
    reader: &mut R,
    writer: &mut W,
    discard: &mut Discard,
) -> Result<(), Left>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let at_once = std::future::poll_fn(|cx| {
        Poll::Ready(match Pin::new(&mut *writer).poll_write_vectored(cx, &pen.slices()) {
            Poll::Ready(written) => Some(written),
            Poll::Pending => None,
        })
    });
    let written = match at_once.await {
        Some(written) => written,
        None => {
            pen.rest();
            tokio::select! {
                written = std::future::poll_fn(|cx| Pin::new(&mut *writer).poll_write_vectored(cx, &pen.slices())) => written,
                ending = std::future::poll_fn(|cx| pen.subscriber.poll_dismissed(cx)) => return Err(Left::Feed(ending)),
                error = discard.until_reset(reader) => return Err(Left::Peer(error)),
            }
        }
    };
    match written {
        Ok(0) => Err(Left::Peer(io::ErrorKind::WriteZero.into())),
        Ok(n) => {
            pen.advance(n);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        Err(error) => Err(Left::Peer(error)),
    }
}

/// Reads what a peer sends and forgets it: unread octets would turn our close into a reset.
struct Discard {
    buffer: [u8; 512],
    closed: bool,
}

impl Default for Discard {
    fn default() -> Self {
        Discard { buffer: [0; 512], closed: false }
    }
}

impl Discard {
    /// Returns when the connection is reset; never, if the peer only stops sending.
    async fn until_reset(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> io::Error {
        match self.until_closed(reader).await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Returns when the peer stops sending, with the error if it did so by a reset.
    async fn until_closed(&mut self, reader: &mut (impl AsyncRead + Unpin)) -> Option<io::Error> {
        while !self.closed {
            match reader.read(&mut self.buffer).await {
                Ok(0) => self.closed = true,
                Ok(_) => {}
                Err(error) => return Some(error),
            }
        }
        None
    }
}

/// Wakes a thread that waits for its feed.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Waits on this thread for what a feed has tasks wait for.
pub fn block_on<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match poll(&mut cx) {
            Poll::Ready(value) => return value,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Delivers to a file or to standard output, on the calling thread.
pub fn to_writer(pen: &mut Pen, writer: &mut dyn Write) -> Left {
    let linktype = match block_on(|cx| pen.subscriber.poll_header(cx)) {
        Ok(linktype) => linktype,
        Err(ending) => return Left::Feed(ending),
    };
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut cx = Context::from_waker(&waker);
    pen.begin(linktype);
    let (mut flushed, mut due) = (Instant::now(), false);
    loop {
        match pen.poll_fill(&mut cx) {
            Poll::Ready(Err(ending)) => {
                return match writer.flush() {
                    Ok(()) => Left::Feed(ending),
                    Err(error) => Left::Peer(error),
                };
            }
            Poll::Ready(Ok(())) => {
                if let Err(error) = write_due(pen, writer) {
                    pen.lay_down();
                    return Left::Peer(error);
                }
                due = true;
            }
            Poll::Pending if due => std::thread::park_timeout(FLUSH),
            Poll::Pending => std::thread::park(),
        }
        if due && flushed.elapsed() >= FLUSH {
            if let Err(error) = writer.flush() {
                return Left::Peer(error);
            }
            (flushed, due) = (Instant::now(), false);
        }
    }
}

/// Writes everything a pen holds.
///
/// # Errors
/// Of the writer.
pub fn write_due(pen: &mut Pen, writer: &mut dyn Write) -> io::Result<()> {
    while !pen.is_empty() {
        match writer.write_vectored(&pen.slices()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => pen.advance(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
