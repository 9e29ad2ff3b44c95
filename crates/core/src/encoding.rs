//! What a capture stream is written in.

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
