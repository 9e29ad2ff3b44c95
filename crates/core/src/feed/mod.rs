//! A feed: one filter and format, encoded once, and the ring from which every subscriber reads.
//!
//! Stands between the merge and the sinks. [`Feed`] is the writing end and belongs to the hub;
//! [`Subscriber`]s are the reading ends, one per client or sink.

mod announce;
mod chunk;
mod count;
mod encode;
#[cfg(test)]
mod exhaustive;
#[cfg(test)]
mod model;
mod reader;
mod ring;
mod slots;
mod subscriber;

pub use announce::Announcements;
pub use chunk::Chunk;
pub use count::{count_records, first_records, whole_records};
pub use encode::{CHUNK_OCTETS, Feed, FeedOptions};
pub use reader::{Ending, Gap, Start, SubscriberSnapshot};
pub use ring::{Ring, RingSnapshot};
pub use slots::{History, OnSlow, RingOptions};
pub use subscriber::{Subscriber, Taken};
