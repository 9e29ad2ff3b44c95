//! All unsafe code of pcaphub, behind safe functions that cannot be misused. One module per
//! operating system, with the same names in each; one per library that is opened at run time.

pub mod bpf;
mod interface;
pub mod libpcap;
#[cfg(target_os = "linux")]
mod linux;
mod live;
#[cfg(not(target_os = "linux"))]
mod other;

pub use interface::{InterfaceAddress, InterfaceInfo};
#[cfg(target_os = "linux")]
pub use linux::*;
pub use live::{Device, Frame, Latency, Layer, LinkAddress, PacketStatistics, RingOptions, Wake};
#[cfg(not(target_os = "linux"))]
pub use other::*;
