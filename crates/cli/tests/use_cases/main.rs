//! The use cases of the README, each with the real tool on the other side.

#![allow(unreachable_pub, reason = "the harness is used by every module here")]
#![allow(dead_code, reason = "the harness has more than these tests need")]
#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

mod aggregating;
mod capturing;
mod chaining;
mod configuring;
mod converting;
mod corpus;
mod formats;
mod harness;
mod interfaces;
mod late;
mod manners;
mod pushing;
mod recording;
mod reloading;
mod segmenting;
mod serving;
mod shaping;
mod slow;
mod watching;
