//! The library behind `pcaphub`: sources, the hub that puts their packets in order, and sinks.
//!
//! Begin with [`hub`]: it wires the whole path of a packet, top to bottom. Modules are listed in
//! the order of the layers; a module uses only those above it.

pub mod escape;
pub mod interfaces;
#[cfg(target_os = "linux")]
pub mod privilege;
pub mod clock;
pub mod limits;
pub mod allowance;
pub mod retry;
pub mod shutdown;
pub mod pulse;
pub mod gate;
pub mod presence;
pub mod circle;
pub mod snowball;
pub mod event;
pub mod stats;
pub mod endpoint;
pub mod directory;
pub mod recording;
pub mod opener;
pub mod inherited;
pub mod exclusion;
pub mod own_traffic;
pub mod access;
pub mod clients;
pub mod listeners;
pub mod controls;
pub mod traffic;
pub mod codec;
pub mod framing;
pub mod plan;
pub mod tls;
pub mod filter;
pub mod source;
pub mod intake;
pub mod reading;
pub mod ingest;
pub mod pen;
pub mod deliver;
pub mod write;
pub mod private;
pub mod sink;
#[cfg(target_os = "linux")]
pub mod helper;
pub mod defaults;
pub mod outlet;
pub mod path;
pub mod conflicts;
pub mod changes;
pub(crate) mod opening;
pub(crate) mod roster;
pub mod hub;
pub mod config;
