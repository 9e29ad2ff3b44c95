//! From a feed to a socket or child, on a task: in as few system calls as possible.

use std::io;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use pcaphub_core::feed::Ending;
use pcaphub_sys::PeerState;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{tcp, unix};
use tokio::time::{Interval, MissedTickBehavior};

use crate::clients::{Clients, Doubt};
use crate::pen::{Left, Pen};
use crate::tls::{TlsReader, TlsWriter, looks_like_hello};

/// How long a peer gets to close its side after we have closed ours, before it is left alone.
const LINGER: Duration = Duration::from_millis(500);
/// How often a peer is looked after.
const CHECK: Duration = Duration::from_secs(2);
/// So many unanswered probes of a closed window are more than one that is on its way.
const PROBES: u8 = 3;

/// The side of a connection that a peer sends on, of which only its end matters.
pub trait Peer: AsyncRead + Unpin {
    /// What the kernel knows of it; `None` where it is on this machine, and cannot vanish unseen.
    fn state(&self) -> Option<PeerState> {
        None
    }
}

impl Peer for tcp::ReadHalf<'_> {
    fn state(&self) -> Option<PeerState> {
        pcaphub_sys::peer_state(self.as_ref()).ok()
    }
}
impl Peer for TlsReader {
    fn state(&self) -> Option<PeerState> {
        TlsReader::state(self)
    }
}
impl Peer for unix::ReadHalf<'_> {}
impl Peer for tokio::io::Empty {}

/// The side of a connection that we write to.
pub trait Writer: AsyncWrite + Unpin {
    /// Octets of a write that had to wait which are taken nevertheless: the same are to be given again.
    fn taken(&self) -> usize {
        0
    }
}

impl Writer for tcp::WriteHalf<'_> {}
impl Writer for TlsWriter {
    fn taken(&self) -> usize {
        TlsWriter::taken(self)
    }
}
impl Writer for unix::WriteHalf<'_> {}
impl Writer for tokio::process::ChildStdin {}
impl<W: Writer> Writer for &mut W {
    fn taken(&self) -> usize {
        W::taken(self)
    }
}

/// Whether a peer in this state is gone without a word: something is due to it, and it has
/// acknowledged nothing for `patience`.
///
/// TCP_USER_TIMEOUT would also end those that only closed their window, such as an analyst's
/// paused program; keepalive does nothing while something is due.
pub fn is_dead(state: &PeerState, patience: Duration) -> bool {
    let due = state.unacknowledged_segments > 0 || state.unanswered_probes >= PROBES;
    due && state.silent >= patience
}

/// How long a peer is borne with.
#[derive(Debug, Clone, Copy)]
pub struct Care<'a> {
    /// When it is dead, by [`is_dead`].
    pub patience: Duration,
    /// Who may need its place, once it has closed its sending side.
    pub clients: Option<&'a Clients>,
    /// Whether it may have taken us for a TLS server.
    pub greeting: Greeting,
}

/// What is thought of a TLS handshake among what a peer sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing: it is data like any other.
    Ignored,
    /// It expects what it does not get here, and is sent away.
    Refused,
}

/// Why a peer that speaks TLS to a plain listener is sent away.
#[derive(Debug, thiserror::Error)]
#[error("it speaks TLS, and this listener does not (tls-listen:// does)")]
pub struct SpokeTls;

/// Whether that is why a peer was sent away.
pub fn is_speaking_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<SpokeTls>())
}

/// Whether the peer refused all that was sent, by an alert of TLS.
pub fn is_refusal(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Delivers to a peer until the feed or the peer ends, or it is dead by [`is_dead`]. What the peer
/// sends is discarded; that it closed its sending side means nothing (netcat does so at once), that
/// it reset does.
pub async fn to_peer<R, W>(pen: &mut Pen, mut reader: R, mut writer: W, care: Care<'_>) -> Left
where
    R: Peer,
    W: Writer,
{
    let mut discard = Discard::new(care);
    loop {
        let filled = tokio::select! {
            biased;
            filled = std::future::poll_fn(|cx| pen.poll_fill(cx)) => filled,
            error = discard.until_reset(&mut reader) => return Left::Peer(error),
        };
        if let Err(ending) = filled {
            if ending == Ending::Ended {
                let _ = writer.shutdown().await;
                let said = tokio::time::timeout(LINGER, discard.said.until_closed(&mut reader)).await;
                // In TLS 1.3 a server judges a client's certificate after we have begun to send.
                if let Ok(Some(error)) = said
                    && is_refusal(&error)
                {
                    return Left::Peer(error);
                }
            }
            return Left::Feed(ending);
        }
        if let Err(left) = write_once(pen, &mut reader, &mut writer, &mut discard).await {
            pen.lay_down();
            return discard.said.better_reason(&mut reader, left).await;
        }
    }
}

/// One system call's worth of what is due; waits for the peer as long as it takes.
async fn write_once<R, W>(
    pen: &mut Pen,
    reader: &mut R,
    writer: &mut W,
    discard: &mut Discard<'_>,
) -> Result<(), Left>
where
    R: Peer,
    W: Writer,
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
            pen.rest(writer.taken());
            tokio::select! {
                written = std::future::poll_fn(|cx| Pin::new(&mut *writer).poll_write_vectored(cx, &pen.slices())) => written,
                ending = std::future::poll_fn(|cx| pen.subscriber().poll_dismissed(cx)) => return Err(Left::Feed(ending)),
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
struct Discard<'a> {
    said: Said,
    check: Interval,
    care: Care<'a>,
    doubt: Option<Doubt>,
}

/// What a peer sends.
struct Said {
    buffer: [u8; 512],
    closed: bool,
    greeting: Greeting,
}

impl<'a> Discard<'a> {
    fn new(care: Care<'a>) -> Self {
        let mut check = tokio::time::interval_at(tokio::time::Instant::now() + CHECK, CHECK);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let said = Said { buffer: [0; 512], closed: false, greeting: care.greeting };
        Discard { said, check, care, doubt: None }
    }

    /// Returns when the connection is reset or its peer dead; never, if the peer only stops
    /// sending.
    async fn until_reset(&mut self, reader: &mut impl Peer) -> io::Error {
        loop {
            tokio::select! {
                biased;
                error = self.said.until_closed(reader), if !self.said.closed => match error {
                    Some(error) => return error,
                    None => {
                        self.doubt = self.care.clients.map(Clients::doubt);
                        continue;
                    }
                },
                () = until_told(self.doubt.as_ref()) => return io::Error::other(
                    "it had closed its sending side, and its place was needed (--max-clients, ulimit -n)"
                ),
                _ = self.check.tick() => {}
            }
            if reader.state().is_some_and(|state| is_dead(&state, self.care.patience)) {
                return io::ErrorKind::TimedOut.into();
            }
        }
    }
}

async fn until_told(doubt: Option<&Doubt>) {
    match doubt {
        Some(doubt) => doubt.until_told().await,
        None => std::future::pending().await,
    }
}

impl Said {
    /// What it had said before it left, where that is why.
    async fn better_reason(&mut self, reader: &mut impl Peer, left: Left) -> Left {
        let mut said = std::pin::pin!(self.until_closed(reader));
        let now = std::future::poll_fn(|cx| Poll::Ready(said.as_mut().poll(cx)));
        match now.await {
            Poll::Ready(Some(error)) if is_speaking_tls(&error) => Left::Peer(error),
            _ => left,
        }
    }

    /// Returns when the peer stops sending, with the error if it did so by a reset.
    async fn until_closed(&mut self, reader: &mut impl Peer) -> Option<io::Error> {
        while !self.closed {
            match reader.read(&mut self.buffer).await {
                Ok(0) => self.closed = true,
                Ok(n) => {
                    let first = std::mem::replace(&mut self.greeting, Greeting::Ignored);
                    let said = self.buffer.get(..n).unwrap_or_default();
                    if first == Greeting::Refused && looks_like_hello(said) {
                        return Some(io::Error::other(SpokeTls));
                    }
                }
                Err(error) => return Some(error),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_dead_when_something_is_due_and_it_is_silent_and_only_then() {
        let patience = Duration::from_secs(30);
        let state = |unacknowledged_segments, unanswered_probes, seconds| PeerState {
            unacknowledged_segments,
            unanswered_probes,
            silent: Duration::from_secs(seconds),
        };
        assert!(is_dead(&state(1, 0, 30), patience), "sent and never acknowledged");
        assert!(is_dead(&state(0, PROBES, 31), patience), "its window is closed, and it answers no probe");
        assert!(!is_dead(&state(0, 1, 90), patience), "paused: a probe is on its way");
        assert!(!is_dead(&state(0, 0, 3600), patience), "nothing was sent");
        assert!(!is_dead(&state(9, 0, 29), patience), "not yet");
    }
}
