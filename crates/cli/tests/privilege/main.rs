//! What is left of root's rights once pcaphub runs, and what works all the same. They need root, and are
//! skipped loudly without.

#![allow(unreachable_pub, reason = "the harness is used by every module here")]
#![allow(dead_code, reason = "the harness has more than these tests need")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../use_cases/harness.rs"]
mod harness;
#[path = "../live/network.rs"]
mod network;

mod children;
mod files;
mod given_up;
mod interfaces;
mod reload;
mod sockets;
mod who;
