//! Packets, capture formats, merge and feed: the path of a packet through pcaphub, without I/O.
//!
//! Nothing here opens, starts or waits for anything, and nothing reads a clock: octets, `now` and
//! wakers are arguments, so that every behaviour of the path can be tested step by step.
//!
//! Modules are listed in the order of the layers; a module uses only those above it.

pub mod time;
pub mod linktype;
pub mod encoding;
pub mod stats;
pub mod error;
pub mod interface;
pub mod packet;
pub mod buffer;
pub mod batch;
pub mod filter;
pub mod convert;
pub mod segment;
pub mod shape;
pub mod pace;
pub mod repeat;
pub mod format;
pub mod merge;
pub mod dedup;
pub mod feed;
