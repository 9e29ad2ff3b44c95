//! Linux: one file per thing that the kernel offers.

mod addresses;
mod device;
mod packet;
mod ring;
mod tcp;

pub use addresses::local_addresses;
pub use device::Device;
pub use packet::{Layer, PacketSocket, PacketStatistics, Wake};
pub use ring::{Frame, Latency, LinkAddress, Ring, RingOptions};
pub use tcp::{PeerState, peer_state, unacknowledged};
