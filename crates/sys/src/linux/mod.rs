//! Linux: one file per thing that the kernel offers.

mod device;
mod inject;
mod interfaces;
mod memory;
mod packet;
mod process;
mod ring;
mod sleep;
mod tap;
mod tcp;

pub use inject::Injector;
pub use interfaces::{interfaces, local_addresses};
pub use memory::share_pools;
pub use packet::PacketSocket;
pub use process::{Forked, User, block_signals, end_with_us, fork, group, killed_with_parent, user};
pub use ring::Ring;
pub use sleep::sleep_until;
pub use tap::Tap;
pub use tcp::{PeerState, peer_state, unacknowledged};
