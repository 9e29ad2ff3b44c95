//! Why a stream of capture octets cannot be read on, and at which octet: the sender is at fault.

use std::fmt;

use thiserror::Error;

/// What ended a stream. Everything before it was delivered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Octets of the stream before the header, record or block that is wrong.
    pub offset: u64,
    /// What is wrong with it.
    pub kind: DecodeErrorKind,
}

impl DecodeError {
    /// Whether the peer closed without a single octet, as port scanners do: worth a debug line.
    pub fn is_empty_stream(&self) -> bool {
        self.kind == DecodeErrorKind::Empty
    }

    /// Whether the stream was good as far as it went, and ended within a header, record or block.
    pub fn is_truncation(&self) -> bool {
        use DecodeErrorKind::{TruncatedBlock, TruncatedHeader, TruncatedRecord};
        matches!(self.kind, TruncatedHeader { .. } | TruncatedRecord { .. } | TruncatedBlock { .. })
    }
}

impl std::error::Error for DecodeError {}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DecodeErrorKind::Empty | DecodeErrorKind::NotCapture { .. } => self.kind.fmt(f),
            kind => write!(f, "octet {}: {kind}", self.offset),
        }
    }
}

/// What is wrong with a stream.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeErrorKind {
    /// It ended before its first octet.
    #[error("closed before its first octet")]
    Empty,
    /// It begins with something that is neither pcap nor pcapng.
    #[error("not a capture stream: it starts with `{start}`{}; {}", .looks_like.called(), .looks_like.remedy())]
    NotCapture {
        /// What it looks like instead.
        looks_like: Foreign,
        /// Its first octets, escaped; at most 120 characters.
        start: String,
    },
    /// It ended within the first header.
    #[error("the stream ended {received} octets into its header")]
    TruncatedHeader {
        /// Octets of the header that came.
        received: u64,
    },
    /// It ended within a pcap record.
    #[error("the stream ended {received} octets into a record")]
    TruncatedRecord {
        /// Octets of the record that came.
        received: u64,
    },
    /// It ended within a pcapng block.
    #[error("the stream ended {received} octets into a block")]
    TruncatedBlock {
        /// Octets of the block that came.
        received: u64,
    },
    /// A pcap version other than 2.0 to 2.4 and 543.0.
    #[error("pcap version {major}.{minor}; versions up to 2.4 can be read")]
    PcapVersion {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// Bits of the pcap linktype field that no version defines.
    #[error("reserved bits are set in the linktype field {field:#010x}")]
    ReservedBits {
        /// The whole field.
        field: u32,
    },
    /// A pcap record larger than any reader accepts.
    #[error("record of {caplen} octets, at most {limit}: the stream is damaged, or its framing is lost")]
    RecordTooLong {
        /// The caplen it claims.
        caplen: u32,
        /// The most its linktype may have.
        limit: u32,
    },
    /// Zeros where a pcap record is expected.
    #[error("zeros where a record should begin")]
    ZeroRecord,
    /// A second pcap header where a record is expected.
    #[error(
        "a second pcap header: captures cannot be joined by writing one after the other; \
         use `mergecap`, or give each as a source of its own"
    )]
    SecondHeader,
    /// A pcapng section where a pcap record is expected.
    #[error("a pcapng section within a pcap stream; give each capture as a source of its own")]
    PcapngInPcap,
    /// A pcap header where a pcapng block is expected.
    #[error("a pcap header within a pcapng stream; give each capture as a source of its own")]
    PcapInPcapng,
    /// The byte-order magic of a section is neither way round.
    #[error("byte-order magic {magic:#010x} in a section header")]
    ByteOrderMagic {
        /// What stands in its place, read as little-endian.
        magic: u32,
    },
    /// A pcapng version other than 1.x.
    #[error("pcapng version {major}.{minor}; only 1.x can be read")]
    PcapngVersion {
        /// Major version.
        major: u16,
        /// Minor version.
        minor: u16,
    },
    /// A block length that cannot be.
    #[error("block of type {block:#010x} with length {length}, which {}", .why.name())]
    BlockLength {
        /// The block type.
        block: u32,
        /// Its total length, as given.
        length: u32,
        /// What is wrong with it.
        why: BadLength,
    },
    /// The length at the end of a block is not the one at its beginning.
    #[error("block of {length} octets whose trailing length says {trailing}")]
    TrailingLength {
        /// The length at its beginning.
        length: u32,
        /// The length at its end.
        trailing: u32,
    },
    /// A packet of an interface that the section has not described.
    #[error("packet on interface {interface}, of which the section has {known}")]
    UnknownInterface {
        /// The interface it names.
        interface: u32,
        /// How many the section has described so far.
        known: u32,
    },
    /// A packet that is longer than its block.
    #[error("packet of {caplen} octets in a block that has room for {room}")]
    PacketOverBlock {
        /// Its captured length.
        caplen: u32,
        /// Octets the block has for it.
        room: u32,
    },
    /// An option of a section or interface that does not fit into its block.
    #[error("option {code} of {length} octets overruns its block")]
    OptionOverrun {
        /// The option's code.
        code: u16,
        /// The length it claims.
        length: u16,
    },
    /// More interfaces than a section may have.
    #[error("a section with more than {limit} interfaces")]
    TooManyInterfaces {
        /// How many it may have.
        limit: u32,
    },
}

/// What a stream that is no capture looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// A web server's answer.
    HttpResponse,
    /// A web client's request.
    HttpRequest,
    /// The first record of a TLS handshake.
    Tls,
    /// An SSH server.
    Ssh,
    /// A file of Solaris' snoop.
    Snoop,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
    /// lz4.
    Lz4,
    /// pcapng whose line ends were converted on the way.
    MangledPcapng,
    /// An error message about missing rights.
    PermissionDenied,
    /// Text: most likely what a program says instead of capturing.
    Text,
    /// Nothing known.
    Unknown,
}

impl Foreign {
    fn called(self) -> &'static str {
        match self {
            Foreign::HttpResponse => ", a web server's answer",
            Foreign::HttpRequest => ", a web client's request",
            Foreign::Tls => ", a TLS handshake",
            Foreign::Ssh => ", an SSH server's greeting",
            Foreign::Snoop => ", a snoop file",
            Foreign::Gzip => ", gzip-compressed data",
            Foreign::Zstd => ", zstd-compressed data",
            Foreign::Lz4 => ", lz4-compressed data",
            Foreign::MangledPcapng => ", pcapng with converted line ends",
            Foreign::PermissionDenied | Foreign::Text | Foreign::Unknown => "",
        }
    }

    fn remedy(self) -> &'static str {
        match self {
            Foreign::HttpResponse | Foreign::Ssh | Foreign::Unknown => "check the port",
            Foreign::HttpRequest => "check what connects to this port",
            Foreign::Tls => "read it by tls:// or tls-listen://, which have the TLS, or check the port",
            Foreign::Snoop => "convert it with `editcap -F pcap`",
            Foreign::Gzip | Foreign::Zstd | Foreign::Lz4 => "send it decompressed",
            Foreign::MangledPcapng => "transfer it as binary, not as text",
            Foreign::PermissionDenied => "give the capturing program the right to capture",
            Foreign::Text => "check the program that should capture, or the port",
        }
    }
}

/// What is wrong with a block length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadLength {
    /// Less than a block of its type needs.
    TooShort,
    /// More than 16 MiB.
    TooLong,
    /// Not a multiple of four.
    Unaligned,
}

impl BadLength {
    fn name(self) -> &'static str {
        match self {
            BadLength::TooShort => "is too short",
            BadLength::TooLong => "is over 16 MiB",
            BadLength::Unaligned => "is not a multiple of 4",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_the_octet_and_what_is_wrong() {
        let kind = DecodeErrorKind::RecordTooLong { caplen: u32::MAX, limit: 262_144 };
        let error = DecodeError { offset: 1234, kind };
        let text = error.to_string();
        assert!(text.starts_with("octet 1234: record of 4294967295 octets, at most 262144"), "{text}");
        assert!(!error.is_truncation() && !error.is_empty_stream());
    }

    #[test]
    fn a_foreign_stream_is_quoted_with_a_remedy() {
        let start = "HTTP/1.1 400 Bad Request".to_owned();
        let kind = DecodeErrorKind::NotCapture { looks_like: Foreign::HttpResponse, start };
        let text = DecodeError { offset: 0, kind }.to_string();
        assert_eq!(
            text,
            "not a capture stream: it starts with `HTTP/1.1 400 Bad Request`, \
             a web server's answer; check the port"
        );
    }
}
