//! Linux.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// How many octets the kernel took from us for a connected TCP socket that its peer has not
/// acknowledged (SIOCOUTQ, tcp(7)).
///
/// # Errors
/// Of the system, for what is not a TCP socket.
pub fn unacknowledged(socket: impl AsFd) -> io::Result<u32> {
    let mut octets: libc::c_int = 0;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while `socket` is borrowed, and SIOCOUTQ (the same number as
    // TIOCOUTQ) writes one int to where the last argument points, which is one.
    let result = unsafe { libc::ioctl(descriptor, libc::TIOCOUTQ, &raw mut octets) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u32::try_from(octets).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn what_a_peer_does_not_read_beyond_its_buffers_stays_unacknowledged() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut sender = TcpStream::connect(listener.local_addr()?)?;
        let (mut receiver, _) = listener.accept()?;
        assert_eq!(unacknowledged(&sender)?, 0);
        sender.set_nonblocking(true)?;
        let mut sent = 0;
        while let Ok(n) = sender.write(&[0; 65536]) {
            sent += n;
        }
        assert!(unacknowledged(&sender)? > 0);
        receiver.read_exact(&mut vec![0; sent])?;
        Ok(())
    }

    #[test]
    fn a_file_is_an_error() -> io::Result<()> {
        assert!(unacknowledged(std::fs::File::open("/dev/null")?).is_err());
        Ok(())
    }
}
