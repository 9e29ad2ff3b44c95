//! Operating systems that we have not looked at yet.

use std::io;
use std::os::fd::AsFd;

/// How many octets the peer of a TCP socket has not acknowledged.
///
/// # Errors
/// Always: not known here.
pub fn unacknowledged(_socket: impl AsFd) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}
