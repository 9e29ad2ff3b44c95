//! What bounds the hub: memory, clients, times. Each has a default that is safe.

use std::time::Duration;

/// The hub's limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Octets that the process may hold: half of it for rings, a quarter for the merge, an eighth for
    /// readers, an eighth for writers that were stopped in the middle of a chunk. 16 MiB at least.
    pub max_memory: usize,
    /// Clients of all listeners together.
    pub max_clients: usize,
    /// Clients of one remote address; loopback and Unix peers are exempt.
    pub max_clients_per_address: usize,
    /// Producers connected to one listening source. Where there is no place for another, the
    /// longest-silent one is cut.
    pub max_producers: usize,
    /// Producers of one remote address at one listening source; loopback and Unix peers are exempt.
    pub max_producers_per_address: usize,
    /// A consumer that has acknowledged nothing for this long, although something was sent to it,
    /// is dead. That it closed its window is no reason: such a one still acknowledges.
    pub client_timeout: Duration,
    /// A peer that is sent nothing and does not answer keepalive probes for this long is gone.
    pub keepalive: Duration,
    /// A producer that has told its header is only cut to make room for another after this silence.
    pub producer_silence: Duration,
    /// How long a client waits for its header while no linktype is known.
    pub header_wait: Duration,
    /// How long a peer gets for a TLS handshake.
    pub handshake_timeout: Duration,
    /// How long clients get to take what is queued when the hub stops.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_memory: 512 << 20,
            max_clients: 256,
            max_clients_per_address: 16,
            max_producers: 256,
            max_producers_per_address: 16,
            client_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(30),
            producer_silence: Duration::from_secs(30),
            header_wait: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(5),
            drain: Duration::from_secs(5),
        }
    }
}

/// The largest ring of a feed: half a second of the fastest loopback stream measured; a longer
/// one does not make clients faster, it only forgives longer pauses.
const MAX_RING: usize = 64 << 20;

/// What a hub without packets has in memory: code, libraries, threads, tables (8 to 10 MiB, most of it pages
/// of the program, which others that run it share; measured).
const BASE: usize = 10 << 20;

/// A larger piece would not stay in a core's cache between reading and sending.
const MOST_PIECE: usize = 256 << 10;

/// Smaller reads cost more in system calls than they save in memory.
const LEAST_PIECE: usize = 16 << 10;

/// What `dedup=` remembers at most: a tenth of a second at the highest rates measured.
const MAX_DEDUP: usize = 1 << 18;

/// What all lanes of the merge may hold together before it releases packets early.
const MAX_MERGE: usize = 64 << 20;

impl Limits {
    /// What there is to share out: the ceiling without what the process has before it has any packet.
    fn shared_octets(&self) -> usize {
        self.max_memory - BASE.min(self.max_memory / 8 * 5)
    }

    /// A ring's capacity where there are `feeds` of them.
    pub fn ring_octets(&self, feeds: usize) -> usize {
        (self.shared_octets() / 2 / feeds.max(1)).min(MAX_RING)
    }

    /// What the merge may hold.
    pub fn merge_octets(&self) -> usize {
        (self.shared_octets() / 4).min(MAX_MERGE)
    }

    /// What one reader reads at once, and about what one chunk holds: an eighth of the ceiling holds
    /// one of each reader and one of each stalled writer.
    pub fn piece_octets(&self) -> usize {
        let most = self.max_clients.max(self.max_producers).max(1);
        (self.shared_octets() / 8 / most).clamp(LEAST_PIECE, MOST_PIECE)
    }

    /// TLS handshakes that may be under way at one listener: each may make the library keep a message of
    /// 64 KiB, and all together have a sixteenth.
    pub fn handshakes(&self) -> usize {
        (self.max_memory / 16 / (64 << 10)).clamp(16, 512)
    }

    /// What is encrypted for a client and not yet sent: half a piece.
    pub fn encrypted_octets(&self) -> usize {
        self.piece_octets() / 2
    }

    /// What readers may have together for records that are larger than a piece.
    pub fn large_octets(&self) -> usize {
        self.shared_octets() / 8
    }

    /// What the interfaces of all sources may have together.
    pub fn interface_octets(&self) -> usize {
        self.max_memory / 32
    }

    /// The rings of all live captures together, where their size is not given.
    pub fn capture_octets(&self) -> usize {
        (self.max_memory / 16).max(1 << 20)
    }

    /// Packets that a feed with `dedup=` remembers, of about 100 octets each.
    pub fn dedup_packets(&self) -> usize {
        (self.max_memory / 16 / 100).min(MAX_DEDUP)
    }

    /// What clients to whom files are replayed may have together.
    pub fn private_octets(&self) -> usize {
        self.shared_octets() / 4 * 3
    }

    /// What one of `sources` may have between its reader and the merge's output.
    pub fn source_octets(&self, sources: usize) -> usize {
        (self.shared_octets() / 4 / sources.max(1)).clamp(512 << 10, 8 << 20)
    }
}
