//! All unsafe code of pcaphub, behind safe functions that cannot be misused. One module per
//! operating system, with the same names in each.

pub mod bpf;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;

#[cfg(target_os = "linux")]
pub use linux::*;
#[cfg(not(target_os = "linux"))]
pub use other::*;
