//! Encoded octets ready to send: whole records only, immutable, shared by all subscribers.

use std::sync::Arc;

use bytes::Bytes;

use crate::interface::InterfaceId;
use crate::time::Monotonic;

/// A run of encoded records. Cheap to clone; any chunk can be left out of a stream without
/// harming what follows.
#[derive(Debug, Clone)]
pub struct Chunk {
    /// The records.
    pub octets: Bytes,
    /// How many packets they hold.
    pub packets: u64,
    /// How many interfaces, counted from id 0, must have been announced before it; 0 in pcap.
    pub interfaces: u32,
    /// Its packets by interface, so that a gap can be told where it happens; empty in pcap.
    pub by_interface: Arc<[(InterfaceId, u64)]>,
    /// When it was published.
    pub published: Monotonic,
}

/// What a chunk costs beyond its octets: its place in the ring, which may be twice as long as it is
/// full, two allocations more, and the allocator's overhead for all of them.
const CHUNK_OVERHEAD: usize = 320;

impl Chunk {
    /// What it is charged against a ring's capacity, in octets.
    pub fn charge(&self) -> usize {
        self.octets.len() + CHUNK_OVERHEAD + self.by_interface.len() * 16
    }
}
