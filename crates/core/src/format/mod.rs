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

pub use decoder::{Decoded, Decoder, DecoderOptions};

use std::fmt;

/// A capture format that we write. More variants of them are read than written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Classic pcap, microseconds, little-endian, version 2.4, snaplen 262144.
    Pcap,
    /// Classic pcap with nanoseconds.
    PcapNs,
    /// pcapng 1.0, little-endian, one section.
    PcapNg,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Pcap => "pcap",
            Format::PcapNs => "pcap-ns",
            Format::PcapNg => "pcapng",
        })
    }
}
