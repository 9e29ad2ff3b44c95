//! A stream behind its handshake: the half that is read, and the half that is written.
//!
//! What is written counts once the kernel has it: the library takes octets, encrypts them and keeps them
//! while the socket is full.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use pcaphub_sys::PeerState;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use super::blame;
use crate::event::{Event, Events};

type Shared = Arc<Mutex<TlsStream<TcpStream>>>;

fn lock(stream: &Shared) -> MutexGuard<'_, TlsStream<TcpStream>> {
    stream.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Both halves of a stream. `most` octets are kept encrypted while the socket is full.
pub fn split(mut stream: TlsStream<TcpStream>, most: usize) -> (TlsReader, TlsWriter) {
    match &mut stream {
        TlsStream::Client(stream) => stream.get_mut().1.set_buffer_limit(Some(most)),
        TlsStream::Server(stream) => stream.get_mut().1.set_buffer_limit(Some(most)),
    }
    let shared = Arc::new(Mutex::new(stream));
    (TlsReader { shared: shared.clone(), cut: None }, TlsWriter { shared, taken: 0 })
}

/// The half that is read.
pub struct TlsReader {
    shared: Shared,
    /// Who hears that the stream ended without TLS's own end.
    cut: Option<(Events, Arc<str>)>,
}

impl TlsReader {
    /// Says so when the stream ends without TLS's own end: somebody in between may have cut it.
    #[must_use]
    pub fn of_source(self, events: Events, source: Arc<str>) -> Self {
        TlsReader { cut: Some((events, source)), ..self }
    }

    /// What the kernel knows of the peer.
    pub fn state(&self) -> Option<PeerState> {
        pcaphub_sys::peer_state(lock(&self.shared).get_ref().0).ok()
    }
}

impl AsyncRead for TlsReader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = ready!(Pin::new(&mut *lock(&this.shared)).poll_read(cx, buffer));
        match read {
            // Many close without a word of TLS: records of a capture end by themselves.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                if let Some((events, source)) = this.cut.take() {
                    events.emit(Event::EndedUnsaid { source: &source });
                }
                Poll::Ready(Ok(()))
            }
            read => Poll::Ready(read.map_err(blame::worded)),
        }
    }
}

/// The half that is written. After a write that has to wait, the same octets are to be given again, as far
/// as [`taken`](Self::taken) says.
pub struct TlsWriter {
    shared: Shared,
    taken: usize,
}

impl TlsWriter {
    /// Octets that were taken and are not all with the kernel yet.
    pub fn taken(&self) -> usize {
        self.taken
    }

    /// Octets that the kernel has and the peer did not acknowledge.
    pub fn unacknowledged(&self) -> u32 {
        pcaphub_sys::unacknowledged(lock(&self.shared).get_ref().0).unwrap_or(0)
    }

    /// A write failed: what the peer said before it left is a better reason, if it said something.
    fn last_words(&self, cx: &mut Context<'_>, error: io::Error) -> io::Error {
        let mut room = [0; 512];
        let mut stream = lock(&self.shared);
        loop {
            let mut buffer = ReadBuf::new(&mut room);
            match Pin::new(&mut *stream).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(Err(said)) if said.kind() == io::ErrorKind::InvalidData => {
                    return blame::worded(said);
                }
                _ => return error,
            }
        }
    }
}

impl AsyncWrite for TlsWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(octets)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut stream = lock(&this.shared);
        let mut write = || {
            if this.taken == 0 {
                this.taken = ready!(Pin::new(&mut *stream).poll_write_vectored(cx, pieces))?;
            }
            Pin::new(&mut *stream).poll_flush(cx)
        };
        let written = ready!(write());
        drop(stream);
        Poll::Ready(match written {
            Ok(()) => Ok(std::mem::take(&mut this.taken)),
            Err(error) => Err(this.last_words(cx, error)),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.shared)).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *lock(&self.shared)).poll_shutdown(cx)
    }
}
