//! A stream behind its handshake, for a thread of its own that waits for its socket.

use std::io::{self, IoSlice, Write};
use std::net::{Shutdown, TcpStream};

use rustls::ServerConnection;

/// A server's stream on a blocking socket. A write returns what the kernel has taken.
pub struct Blocking {
    socket: TcpStream,
    connection: ServerConnection,
    /// Octets that the library took and the kernel did not yet.
    taken: usize,
}

impl Blocking {
    /// A connection whose handshake is done. `most` octets are kept encrypted while the socket is full.
    pub fn new(socket: TcpStream, mut connection: ServerConnection, most: usize) -> Self {
        connection.set_buffer_limit(Some(most));
        Blocking { socket, connection, taken: 0 }
    }

    /// Its socket.
    pub fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Says the end in TLS's own way where the socket takes it, then shuts the socket down.
    pub fn close(&mut self, how: Shutdown) {
        if how == Shutdown::Write && self.taken == 0 {
            self.connection.send_close_notify();
            let _ = self.send();
        }
        let _ = self.socket.shutdown(how);
    }

    fn send(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(&mut self.socket)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

impl Write for Blocking {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(octets)])
    }

    /// After an error that says to try again, the same octets are to be given again.
    fn write_vectored(&mut self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        if self.taken == 0 {
            self.send()?;
            self.taken = self.connection.writer().write_vectored(pieces)?;
        }
        self.send()?;
        Ok(std::mem::take(&mut self.taken))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}
