//! Linux: one file per thing that the kernel offers.

mod tcp;

pub use tcp::{PeerState, peer_state, unacknowledged};
