//! At home under a service manager: what it is told, what it hands over, what the log looks like, and the
//! units, pages and completions that a package has.

#![allow(unreachable_pub, reason = "the harness is used by every module here")]
#![allow(dead_code, reason = "the harness has more than these tests need")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

#[path = "../use_cases/harness.rs"]
mod harness;

mod activation;
mod image;
mod logs;
mod manager;
mod notify;
mod pages;
mod units;
