//! All unsafe code of pcaphub, behind safe functions that cannot be misused. One module per
//! operating system, with the same names in each; one per library that is opened at run time.

pub mod bpf;
pub mod libpcap;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(not(target_os = "linux"))]
pub use other::*;
