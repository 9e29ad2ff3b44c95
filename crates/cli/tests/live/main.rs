//! Real interfaces: capture, own traffic, filters in the kernel, replay; on veth pairs in network
//! namespaces of the tests' own. They need root, and are skipped loudly without.

#![allow(unreachable_pub, reason = "the harness is used by every module here")]
#![allow(dead_code, reason = "the harness has more than these tests need")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../use_cases/harness.rs"]
mod harness;

mod capture;
mod filters;
mod network;
mod own;
mod replay;
