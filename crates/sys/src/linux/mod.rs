//! Linux: one file per thing that the kernel offers.

mod addresses;
mod device;
mod inject;
mod packet;
mod ring;
mod sleep;
mod tap;
mod tcp;

pub use addresses::{InterfaceInfo, interfaces, local_addresses};
pub use device::Device;
pub use inject::Injector;
pub use packet::{Layer, PacketSocket, PacketStatistics, Wake};
pub use ring::{Frame, Latency, LinkAddress, Ring, RingOptions};
pub use sleep::sleep_until;
pub use tap::Tap;
pub use tcp::{PeerState, peer_state, unacknowledged};
