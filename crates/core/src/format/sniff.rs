//! What a stream is, decided by its first octets alone, however they arrive.

use super::byte_order::ByteOrder;
use crate::error::{DecodeErrorKind, Foreign};

/// What a stream turns out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Classic pcap.
    Pcap(Magic),
    /// pcapng.
    PcapNg,
    /// Cannot be said before there are this many octets, or the stream ends.
    Wants(usize),
    /// No capture.
    Foreign(DecodeErrorKind),
}

/// What the magic octets of a pcap header say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Magic {
    /// How numbers are written.
    pub(super) order: ByteOrder,
    /// What the second word of a record's time counts.
    pub(super) subseconds: Subseconds,
    /// How long record headers are.
    pub(super) headers: Headers,
}

/// The unit below the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subseconds {
    /// 10^-6.
    Micros,
    /// 10^-9.
    Nanos,
}

/// The two kinds of record header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Headers {
    /// 16 octets.
    Plain,
    /// 24 octets: with interface index, protocol and packet type, of patched libpcaps of the 1990s.
    Modified,
}

/// Octets that all formats differ in.
const MAGIC_OCTETS: usize = 4;

/// The most octets of a foreign stream that are waited for and quoted.
const QUOTE_OCTETS: usize = 120;

/// The section header block's type, the same in both byte orders.
pub(super) const SECTION_MAGIC: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];

/// Reads the four magic octets of a pcap header; `None` if they are something else.
pub(super) fn magic(octets: [u8; 4]) -> Option<Magic> {
    for order in [ByteOrder::Little, ByteOrder::Big] {
        let (subseconds, headers) = match order.u32(octets) {
            0xa1b2_c3d4 => (Subseconds::Micros, Headers::Plain),
            0xa1b2_3c4d => (Subseconds::Nanos, Headers::Plain),
            0xa1b2_cd34 => (Subseconds::Micros, Headers::Modified),
            _ => continue,
        };
        return Some(Magic { order, subseconds, headers });
    }
    None
}

/// What the stream that begins with `octets` is.
pub(super) fn start(octets: &[u8]) -> Start {
    let Some(first) = octets.first_chunk::<MAGIC_OCTETS>() else {
        return Start::Wants(MAGIC_OCTETS);
    };
    if let Some(magic) = magic(*first) {
        return Start::Pcap(magic);
    }
    if *first == SECTION_MAGIC {
        return Start::PcapNg;
    }
    if let Some(looks_like) = binary(first) {
        return foreign(looks_like, first);
    }
    match line(octets) {
        Some(line) => foreign(text(line), line),
        None => Start::Wants(QUOTE_OCTETS),
    }
}

/// Why a stream that ended with nothing but `octets` is no capture.
pub(super) fn ended(octets: &[u8]) -> DecodeErrorKind {
    if octets.is_empty() {
        return DecodeErrorKind::Empty;
    }
    let begins =
        |magic: u32| magic.to_le_bytes().starts_with(octets) || magic.to_be_bytes().starts_with(octets);
    match start(octets) {
        Start::Foreign(kind) => kind,
        Start::Wants(QUOTE_OCTETS) => not_capture(text(octets), octets),
        Start::Wants(_) if ![0xa1b2_c3d4, 0xa1b2_3c4d, 0xa1b2_cd34, 0x0a0d_0d0a].into_iter().any(begins) => {
            not_capture(Foreign::Unknown, octets)
        }
        _ => DecodeErrorKind::TruncatedHeader { received: octets.len() as u64 },
    }
}

/// Formats known by four octets, and everything else that is not text.
fn binary(first: &[u8; MAGIC_OCTETS]) -> Option<Foreign> {
    Some(match first {
        [0x1f, 0x8b, ..] => Foreign::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] => Foreign::Zstd,
        [0x04, 0x22, 0x4d, 0x18] => Foreign::Lz4,
        // Handshake, SSL 3.0 to TLS 1.3; an alert is the answer of a server that expects one.
        [0x16 | 0x15, 0x03, 0x00..=0x04, _] => Foreign::Tls,
        // CR LF made LF, LF made CR LF, CR made LF, LF made CR.
        [0x0a, 0x0d, 0x0a, _]
        | [0x0d, 0x0a, 0x0d, _]
        | [0x0a, 0x0a, 0x0a, 0x0a]
        | [0x0d, 0x0d, 0x0d, 0x0d] => Foreign::MangledPcapng,
        first if first.iter().all(|octet| octet.is_ascii() && is_text(octet)) => return None,
        _ => Foreign::Unknown,
    })
}

fn is_text(octet: &u8) -> bool {
    matches!(octet, b'\t' | b'\r' | b'\n' | 0x20..=0x7e | 0x80..)
}

/// The first line that is not empty, up to what is no text; `None` while it may go on.
fn line(octets: &[u8]) -> Option<&[u8]> {
    let octets = octets.get(..QUOTE_OCTETS).unwrap_or(octets);
    let begin = octets.iter().position(|octet| !octet.is_ascii_whitespace()).unwrap_or(octets.len());
    let rest = octets.get(begin..).unwrap_or_default();
    match rest.iter().position(|octet| *octet == b'\n' || !is_text(octet)) {
        Some(end) => rest.get(..end),
        None if octets.len() < QUOTE_OCTETS => None,
        None if rest.is_empty() => Some(octets),
        None => Some(rest),
    }
}

/// What text looks like.
fn text(line: &[u8]) -> Foreign {
    const METHODS: [&[u8]; 9] =
        [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"DELETE ", b"OPTIONS ", b"CONNECT ", b"PATCH ", b"PRI * "];
    let lower = line.to_ascii_lowercase();
    let says = |words: &[u8]| lower.windows(words.len()).any(|part| part == words);
    if line.starts_with(b"HTTP/") {
        Foreign::HttpResponse
    } else if METHODS.iter().any(|method| line.starts_with(method)) {
        Foreign::HttpRequest
    } else if line.starts_with(b"SSH-") {
        Foreign::Ssh
    } else if line.starts_with(b"snoop") {
        Foreign::Snoop
    } else if says(b"permission") || says(b"not permitted") {
        Foreign::PermissionDenied
    } else {
        Foreign::Text
    }
}

fn foreign(looks_like: Foreign, quote: &[u8]) -> Start {
    Start::Foreign(not_capture(looks_like, quote))
}

fn not_capture(looks_like: Foreign, quote: &[u8]) -> DecodeErrorKind {
    let mut start = String::new();
    for octet in quote.trim_ascii_end() {
        let escaped = octet.escape_ascii();
        if start.len() + escaped.len() > QUOTE_OCTETS {
            break;
        }
        start.extend(escaped.map(char::from));
    }
    DecodeErrorKind::NotCapture { looks_like, start }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_octets_decide_unless_they_are_text() {
        assert_eq!(start(&[0x0a, 0x0d, 0x0d]), Start::Wants(4));
        assert_eq!(start(&SECTION_MAGIC), Start::PcapNg);
        assert!(matches!(start(&[0x1f, 0x8b, 8, 0]), Start::Foreign(_)));
        assert!(matches!(start(b"HTTP"), Start::Wants(120)));
        assert!(matches!(start(b"HTTP/1.1 200 OK\r\n"), Start::Foreign(_)));
    }

    #[test]
    fn swapped_magics_are_the_same_magic_in_the_other_byte_order() {
        let nanos = magic([0x4d, 0x3c, 0xb2, 0xa1]).expect("a magic");
        assert_eq!((nanos.order, nanos.subseconds), (ByteOrder::Little, Subseconds::Nanos));
        let modified = magic([0xa1, 0xb2, 0xcd, 0x34]).expect("a magic");
        assert_eq!((modified.order, modified.headers), (ByteOrder::Big, Headers::Modified));
    }
}
