//! Operating systems that we have not looked at yet.

mod live;

use std::io;
use std::os::fd::AsFd;

pub use live::*;

/// Nothing is known here of how memory is kept.
pub fn share_pools() {}

/// How many octets the peer of a TCP socket has not acknowledged.
///
/// # Errors
/// Always: not known here.
pub fn unacknowledged(_socket: impl AsFd) -> io::Result<u32> {
    Err(io::ErrorKind::Unsupported.into())
}

/// What the kernel knows of a TCP connection's other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerState {
    /// Segments sent and not acknowledged.
    pub unacknowledged_segments: u32,
    /// Probes that nobody answered, in a row.
    pub unanswered_probes: u8,
    /// Since its last acknowledgement of anything.
    pub silent: std::time::Duration,
}

/// Asks the kernel about the other end of a connected TCP socket.
///
/// # Errors
/// Always: not known here.
pub fn peer_state(_socket: impl AsFd) -> io::Result<PeerState> {
    Err(io::ErrorKind::Unsupported.into())
}
