//! What bad input gets from a whole hub: the decoders' rows again, each as a file, over sockets that
//! producers dial, and over sockets that the hub dials; and the rows that are about sockets.
//!
//! The hub's counts and its error must be those of the decoder alone, and while a stream is bad,
//! half-sent or broken, the other source of the same hub is served on.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../../../core/tests/decode_support/mod.rs"]
mod core_support;

mod decode_support;
mod dialled;
mod expected;
mod file;
mod listening;
mod memory;
mod site;
mod sockets;

#[path = "../../../core/tests/hostile_rows/pcap.rs"]
mod pcap;
#[path = "../../../core/tests/hostile_rows/pcapng.rs"]
mod pcapng;
