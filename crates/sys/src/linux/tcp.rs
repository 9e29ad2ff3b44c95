//! What the kernel knows of TCP connections.

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

/// What the kernel knows of a TCP connection's other end (TCP_INFO, tcp(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerState {
    /// Segments sent and not acknowledged.
    pub unacknowledged_segments: u32,
    /// Probes of a closed window or of an idle connection that nobody answered, in a row.
    pub unanswered_probes: u8,
    /// Since its last acknowledgement of anything.
    pub silent: std::time::Duration,
}

/// Asks the kernel about the other end of a connected TCP socket.
///
/// # Errors
/// Of the system, for what is not a TCP socket.
pub fn peer_state(socket: impl AsFd) -> io::Result<PeerState> {
    // SAFETY: tcp_info is made of integers only, for which all zeros is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of::<libc::tcp_info>() as libc::socklen_t;
    let descriptor = socket.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open while `socket` is borrowed; the kernel writes at most `length`
    // octets to where the pointer points, which is a tcp_info of that length. What an older kernel
    // does not write stays zero.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast::<libc::c_void>(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PeerState {
        unacknowledged_segments: info.tcpi_unacked,
        unanswered_probes: info.tcpi_probes,
        silent: std::time::Duration::from_millis(info.tcpi_last_ack_recv.into()),
    })
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
    fn a_peer_that_does_not_read_still_acknowledges() -> io::Result<()> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let mut sender = TcpStream::connect(listener.local_addr()?)?;
        let (_receiver, _) = listener.accept()?;
        sender.set_nonblocking(true)?;
        while sender.write(&[0; 65536]).is_ok() {}
        let state = peer_state(&sender)?;
        assert!(state.silent < std::time::Duration::from_secs(10), "{state:?}");
        Ok(())
    }

    #[test]
    fn a_file_is_an_error() -> io::Result<()> {
        assert!(unacknowledged(std::fs::File::open("/dev/null")?).is_err());
        assert!(peer_state(std::fs::File::open("/dev/null")?).is_err());
        Ok(())
    }
}
