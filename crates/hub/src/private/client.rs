//! A client's socket, whose thread waits for it: for as long as the peer is there, and a moment after its
//! last packet, so that our close does not overtake that.
//!
//! Whatever carries the stream, TCP, a Unix socket or TLS, is one [`Client`] to a
//! [`Replay`](super::Replay).

use std::io::{self, Read, Write};
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use pcaphub_sys::PeerState;

use crate::deliver::is_dead;
use crate::shutdown::{Phase, Shutdown};
use crate::tls::Blocking;

/// A client's socket, which its thread waits for.
pub trait Client: Write + Send + Sized + 'static {
    /// What it is made of.
    type Socket: Read + Send + AsFd + 'static;
    /// The same socket, in blocking mode; a write waits for a few seconds at most.
    ///
    /// # Errors
    /// Of the system.
    fn blocking(self) -> io::Result<Self>;
    /// Another handle of the socket itself.
    ///
    /// # Errors
    /// Of the system.
    fn socket(&self) -> io::Result<Self::Socket>;
    /// Shuts it down; that it is gone already does not matter.
    fn close(&mut self, how: net::Shutdown);
    /// Whether the socket carries the stream as it is.
    fn is_plain(&self) -> bool;
    /// Octets that the kernel took and its peer has not acknowledged.
    fn unacknowledged(&self) -> u32;
    /// What the kernel knows of the peer; `None` where it says nothing, as of a Unix socket.
    fn state(&self) -> Option<PeerState>;
}

macro_rules! client {
    ($socket:ty) => {
        impl Client for $socket {
            type Socket = $socket;

            fn blocking(self) -> io::Result<Self> {
                self.set_nonblocking(false)?;
                self.set_write_timeout(Some(CHECK))?;
                Ok(self)
            }

            fn socket(&self) -> io::Result<Self::Socket> {
                self.try_clone()
            }

            fn close(&mut self, how: net::Shutdown) {
                let _ = self.shutdown(how);
            }

            fn is_plain(&self) -> bool {
                true
            }

            fn unacknowledged(&self) -> u32 {
                // Where the system does not say, as of a Unix socket, nothing is known to be lost.
                pcaphub_sys::unacknowledged(self).unwrap_or(0)
            }

            fn state(&self) -> Option<PeerState> {
                pcaphub_sys::peer_state(self).ok()
            }
        }
    };
}

client!(net::TcpStream);
client!(UnixStream);

impl Client for Blocking {
    type Socket = net::TcpStream;

    fn blocking(self) -> io::Result<Self> {
        let socket = Blocking::socket(&self);
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(CHECK))?;
        Ok(self)
    }

    fn socket(&self) -> io::Result<Self::Socket> {
        Blocking::socket(self).try_clone()
    }

    fn close(&mut self, how: net::Shutdown) {
        Blocking::close(self, how);
    }

    fn is_plain(&self) -> bool {
        false
    }

    fn unacknowledged(&self) -> u32 {
        pcaphub_sys::unacknowledged(Blocking::socket(self)).unwrap_or(0)
    }

    fn state(&self) -> Option<PeerState> {
        pcaphub_sys::peer_state(Blocking::socket(self)).ok()
    }
}

/// A client's socket, and how long it is waited for: as long as its peer is there.
pub(super) struct Patient<'a, S> {
    pub(super) stream: &'a mut S,
    /// When one that acknowledges nothing is dead.
    pub(super) timeout: Duration,
    /// What stops waiting.
    pub(super) shutdown: &'a Shutdown,
}

impl<S: Client> Patient<'_, S> {
    /// A write that waited for [`CHECK`] in vain: whether to wait on.
    fn look_after(&self) -> io::Result<()> {
        let dead = self.stream.state().is_some_and(|state| is_dead(&state, self.timeout));
        if dead {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.shutdown.phase() == Phase::Stopping {
            return Err(io::Error::other("stopped"));
        }
        Ok(())
    }
}

impl<S: Client> Write for Patient<'_, S> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[io::IoSlice::new(octets)])
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.stream.write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.look_after()?,
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads and forgets what the client sent, until it closes: unread octets would turn our close
/// into a reset, which could overtake the last packets.
///
/// Returns how what it said in the clear began, if it said something.
pub(super) fn linger(mut stream: impl Client) -> Option<Vec<u8>> {
    stream.close(net::Shutdown::Write);
    let mut reading = stream.socket().ok()?;
    let (done, ended) = std::sync::mpsc::sync_channel::<Vec<u8>>(1);
    let discard = move || {
        let mut buffer = [0; 512];
        let mut said = Vec::new();
        while let Ok(n) = reading.read(&mut buffer)
            && n > 0
        {
            if said.is_empty() {
                said.extend(buffer.iter().take(n.min(SAID)));
            }
        }
        let _ = done.send(said);
    };
    let thread = std::thread::Builder::new().name("linger".into()).stack_size(64 << 10).spawn(discard);
    thread.ok()?;
    let said = ended.recv_timeout(LINGER);
    stream.close(net::Shutdown::Both);
    said.or_else(|_| ended.recv_timeout(LINGER)).ok()
}

/// How often a client that takes nothing is looked after.
const CHECK: Duration = Duration::from_secs(2);

/// How long a client gets to close its side after we have closed ours.
const LINGER: Duration = Duration::from_millis(500);

/// What is looked at of what a client said.
const SAID: usize = 16;
