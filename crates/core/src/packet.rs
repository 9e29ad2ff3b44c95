//! One packet: where its octets lie in its batch, and what is known about it.

use crate::interface::InterfaceId;
use crate::time::Timestamp;

/// A packet of a [`Batch`](crate::batch::Batch). 32 octets, no pointers: batches are walked fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// When it was captured.
    pub timestamp: Timestamp,
    /// What it was captured on.
    pub interface: InterfaceId,
    /// Octets captured; 0 to [`LinkType::max_caplen`](crate::linktype::LinkType::max_caplen).
    pub caplen: u32,
    /// Octets the packet had on the wire; never below `caplen`.
    pub origlen: u32,
    /// Where its octets begin in [`Batch::buffer`](crate::batch::Batch::buffer).
    pub offset: u32,
    /// Where its pcapng options begin in [`Batch::options`](crate::batch::Batch::options).
    pub options_offset: u32,
    /// Octets of pcapng options; 0 is none.
    pub options_len: u32,
}
