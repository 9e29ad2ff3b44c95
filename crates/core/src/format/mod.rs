//! Capture formats: octets to packets and back.
//!
//! [`Decoder`] takes the octets of one stream as they come, whole or in pieces, and appends
//! packets to a [`Batch`](crate::batch::Batch); [`Format`] writes headers, interfaces and records.
//! Neither does I/O.

mod byte_order;
mod decoder;
mod encoder;
mod pcap;
mod pcapng;
mod sniff;

pub use crate::encoding::Format;
pub use decoder::{Decoded, Decoder, DecoderOptions};
