//! What happens around the packets: one type emits both the log line and its counter.
//!
//! error: packets are lost, or a person must act; warn: odd, recovered; info: a source or client
//! came or went; debug: per connection. There is nothing per packet.
//!
//! `kinds.rs` says what can happen and what it is counted as, `line.rs` how it is told (`mismatch.rs`
//! of linktypes), `emit.rs` that it is
//! both, and that a flood of one kind does not fill the disk.

mod emit;
mod kinds;
mod line;
mod mismatch;

pub use emit::Events;
pub use kinds::Event;
pub use mismatch::{Mismatch, Onto};
