//! What goes wrong around a hub, and what it makes of that: one test a fault, each with a row for
//! the table that `./test faults` prints.

#![allow(unreachable_pub, reason = "the harness is used by every module here")]
#![allow(dead_code, reason = "the harness has more than these tests need")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../use_cases/harness.rs"]
mod harness;

mod children;
mod clients;
mod crowds;
mod exits;
mod group;
mod memory;
mod network;
mod order;
mod proxy;
mod sources;
mod storage;
mod table;
