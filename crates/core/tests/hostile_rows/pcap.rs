//! What classic pcap, and what is no capture at all, gets: accepted, made sane, or ended.

use crate::decode_support::Order::{Big, Little};
use crate::decode_support::*;
use pcaphub_core::error::{DecodeErrorKind as Kind, Foreign};
use pcaphub_core::format::{DecoderOptions, Format};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::stats::{Anomaly, DropReason};

const MICROS: u32 = 0xa1b2_c3d4;
const NANOS: u32 = 0xa1b2_3c4d;
const MODIFIED: u32 = 0xa1b2_cd34;
const SECONDS: u32 = 1_700_000_000;

/// A pcap header's fields.
#[derive(Debug, Clone, Copy)]
struct Header {
    order: Order,
    magic: u32,
    version: (u16, u16),
    zone: u32,
    sigfigs: u32,
    snaplen: u32,
    linktype: u32,
}

const HEADER: Header = Header {
    order: Little,
    magic: MICROS,
    version: (2, 4),
    zone: 0,
    sigfigs: 0,
    snaplen: 262_144,
    linktype: 1,
};

impl Header {
    fn octets(self) -> Vec<u8> {
        let mut out = Vec::new();
        out.u32(self.order, self.magic);
        out.u16(self.order, self.version.0).u16(self.order, self.version.1);
        out.u32(self.order, self.zone).u32(self.order, self.sigfigs);
        out.u32(self.order, self.snaplen).u32(self.order, self.linktype);
        out
    }

    /// A stream of one record, which claims these lengths and has `data`.
    fn with(self, words: [u32; 4], data: &[u8]) -> Vec<u8> {
        let mut out = self.octets();
        record(&mut out, self.order, words, data);
        out
    }
}

fn record(out: &mut Vec<u8>, order: Order, words: [u32; 4], data: &[u8]) {
    for word in words {
        out.u32(order, word);
    }
    out.extend_from_slice(data);
}

/// A stream of good records, 76 octets each.
fn good(header: Header, packets: u32) -> Vec<u8> {
    let mut out = header.octets();
    for n in 0..packets {
        record(&mut out, header.order, [SECONDS + n, n, 60, 60], &[n as u8; 60]);
    }
    out
}

#[test]
fn every_magic_in_either_byte_order_gives_the_same_packets() {
    for order in [Little, Big] {
        for (magic, format, nanos) in
            [(MICROS, Format::Pcap, 1_000), (NANOS, Format::PcapNs, 1), (MODIFIED, Format::Pcap, 1_000)]
        {
            let header = Header { order, magic, ..HEADER };
            let mut stream = header.octets();
            record(&mut stream, order, [SECONDS, 7, 3, 9], b"");
            if magic == MODIFIED {
                stream.extend_from_slice(&[0xee; 8]);
            }
            stream.extend_from_slice(b"abc");
            let outcome = decode(&stream);
            outcome.plain(1);
            assert_eq!((outcome.format, outcome.linktype), (Some(format), Some(LinkType(1))));
            let packet = outcome.packets.first().expect("one packet");
            assert_eq!(packet.nanos, u64::from(SECONDS) * 1_000_000_000 + 7 * nanos);
            assert_eq!((packet.origlen, packet.octets.as_slice()), (9, b"abc".as_slice()));
        }
    }
}

#[test]
fn an_unknown_magic_or_64_kib_of_zeros_ends_the_stream_at_once() {
    for stream in [vec![0xde, 0xad, 0xbe, 0xef, 1, 2, 3], vec![0; 65_536], vec![0xff; 4]] {
        let outcome = decode(&stream);
        assert!(matches!(
            outcome.error.as_ref().map(|error| &error.kind),
            Some(Kind::NotCapture { looks_like: Foreign::Unknown, .. })
        ));
        assert!(outcome.text().contains("check the port"), "{}", outcome.text());
    }
    assert!(decode(&[0xde, 0xad, 0xbe, 0xef]).text().contains(r"`\xde\xad\xbe\xef`"));
}

#[test]
fn what_is_no_capture_is_named_with_a_hint_and_a_short_escaped_quote() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(500));
    let cases: [(&[u8], Foreign, &str); 16] = [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n", Foreign::HttpResponse, "400 Bad"),
        (long.as_bytes(), Foreign::HttpRequest, "`GET /aaa"),
        (b"GET / HTTP/1.0\r\n\r\n", Foreign::HttpRequest, "`GET / HTTP/1.0`"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Foreign::HttpRequest, "PRI"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], Foreign::Tls, "tls-listen://"),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", Foreign::Ssh, "SSH-2.0-OpenSSH_9.2p1"),
        (b"snoop\0\0\0\0\0\0\x02\0\0\0\x04", Foreign::Snoop, "editcap"),
        (
            b"tcpdump: eth0: You don't have permission to capture on that device\n",
            Foreign::PermissionDenied,
            "tcpdump: eth0",
        ),
        (b"sh: 1: tcpdumb: not found", Foreign::Text, "not found"),
        (b"\n\nhello\nworld", Foreign::Text, "`hello`"),
        (b"no", Foreign::Unknown, "`no`"),
        (b"\x1f\x8b\x08\0\0\0\0\0", Foreign::Gzip, "gzip"),
        (b"\x28\xb5\x2f\xfd\0\0", Foreign::Zstd, "zstd"),
        (b"\x04\x22\x4d\x18\0\0", Foreign::Lz4, "lz4"),
        (b"esc \x1b[31m red \x07\n", Foreign::Text, "`esc`"),
        (b"\xc3\xa4 text in another tongue", Foreign::Unknown, r"\xc3\xa4"),
    ];
    for (stream, looks_like, says) in cases {
        let outcome = decode(stream);
        let error = outcome.error.clone().expect("an error");
        let Kind::NotCapture { looks_like: seen, start } = &error.kind else {
            panic!("{error} for {}", stream.escape_ascii());
        };
        assert_eq!(*seen, looks_like, "{}", stream.escape_ascii());
        assert!(start.len() <= 120 && start.chars().all(|c| (' '..='~').contains(&c)), "{start}");
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(error.offset, 0);
    }
}

#[test]
fn line_ends_converted_on_the_way_are_recognised_in_pcapng() {
    for stream in [
        b"\x0a\x0d\x0a\x1c\0\0\0".as_slice(),
        b"\x0d\x0a\x0d\x0a\x1c\0",
        b"\x0d\x0a\x0d\x0d\x0d\x0a",
        b"\x0a\x0a\x0a\x0a\x1c",
    ] {
        let text = decode(stream).text();
        assert!(text.contains("transfer it as binary"), "{text}");
    }
}

#[test]
fn nothing_then_close_is_an_error_worth_only_a_debug_line() {
    let outcome = decode(&[]);
    outcome.ended(0, 0, Kind::Empty);
    assert!(outcome.error.expect("an error").is_empty_stream());
}

#[test]
fn one_to_23_octets_of_header_end_in_an_error() {
    for len in 1..24 {
        let stream = &HEADER.octets()[..len];
        let outcome = decode(stream);
        outcome.ended(0, 0, Kind::TruncatedHeader { received: len as u64 });
        assert!(outcome.error.expect("an error").is_truncation());
    }
}

#[test]
fn a_header_alone_is_accepted_whatever_its_snaplen_timezone_and_sigfigs() {
    for snaplen in [0, 1, 65_535, 262_144, 262_145, u32::MAX] {
        let header = Header { snaplen, zone: 3_600, sigfigs: 6, ..HEADER };
        let outcome = decode(&header.octets());
        outcome.plain(0);
        let interface = outcome.interfaces.first().expect("an interface");
        let sane = if (1..=262_144).contains(&snaplen) { snaplen } else { 262_144 };
        assert_eq!(interface.snaplen, sane);
        decode(&good(header, 2)).accepted(2);
    }
}

#[test]
fn a_record_cut_short_ends_the_stream_after_the_packets_before_it() {
    let stream = good(HEADER, 3);
    for cut in 1..76 {
        let outcome = decode(&stream[..stream.len() - cut]);
        let received = 76 - cut as u64;
        outcome.ended(2, 24 + 2 * 76, Kind::TruncatedRecord { received });
        assert!(outcome.error.expect("an error").is_truncation());
    }
}

#[test]
fn a_caplen_over_the_limit_ends_the_stream_before_anything_is_allocated() {
    for caplen in [262_145, 0x00ff_ffff, u32::MAX] {
        let mut stream = good(HEADER, 1);
        record(&mut stream, Little, [SECONDS, 0, caplen, caplen], b"abc");
        decode(&stream).ended(1, 100, Kind::RecordTooLong { caplen, limit: 262_144 });
    }
    let text = decode(&HEADER.with([SECONDS, 0, u32::MAX, 1], b"")).text();
    assert!(text.starts_with("octet 24: record of 4294967295 octets, at most 262144"), "{text}");
}

#[test]
fn a_linktype_that_may_have_larger_packets_keeps_its_limit() {
    let dbus = Header { linktype: 231, ..HEADER };
    let data = vec![7; 300_000];
    decode(&dbus.with([SECONDS, 0, 300_000, 300_000], &data)).accepted(1);
    let limit = 16 * 1024 * 1024;
    decode(&dbus.with([SECONDS, 0, limit + 1, 1], b"")).ended(
        0,
        24,
        Kind::RecordTooLong { caplen: limit + 1, limit },
    );
}

#[test]
fn a_packet_over_the_snaplen_is_whole_and_the_advertised_snaplen_grows() {
    let header = Header { snaplen: 60, ..HEADER };
    let mut stream = good(header, 1);
    record(&mut stream, Little, [SECONDS, 0, 100, 100], &[5; 100]);
    record(&mut stream, Little, [SECONDS, 0, 60, 60], &[6; 60]);
    record(&mut stream, Little, [SECONDS, 0, 61, 61], &[6; 61]);
    let outcome = decode(&stream);
    outcome.accepted(4);
    assert_eq!(outcome.anomaly(Anomaly::CaplenOverSnaplen), 2);
    let snaplens: Vec<_> = outcome.packets.iter().map(|packet| packet.interface.snaplen).collect();
    assert_eq!(snaplens, [60, 262_144, 262_144, 262_144]);
}

#[test]
fn a_caplen_over_origlen_makes_the_origlen_the_caplen() {
    for origlen in [0, 1, 59] {
        let outcome = decode(&HEADER.with([SECONDS, 0, 60, origlen], &[1; 60]));
        outcome.accepted(1);
        assert_eq!(outcome.packets.first().map(|packet| packet.origlen), Some(60));
        assert_eq!(outcome.anomaly(Anomaly::CaplenOverOriglen), 1);
    }
}

#[test]
fn an_empty_record_is_a_packet_that_is_counted_as_odd() {
    let outcome = decode(&HEADER.with([SECONDS, 0, 0, 60], b""));
    outcome.accepted(1);
    assert_eq!(outcome.anomaly(Anomaly::EmptyPacket), 1);
    assert_eq!(outcome.packets.first().map(|packet| packet.origlen), Some(60));
}

#[test]
fn two_hundred_thousand_empty_records_are_read_to_the_end() {
    for seconds in [0, SECONDS] {
        let mut stream = HEADER.octets();
        for _ in 0..200_000 {
            record(&mut stream, Little, [seconds, 0, 0, 0], b"");
        }
        let outcome = decode(&stream);
        outcome.accepted(200_000);
        assert_eq!(outcome.anomaly(Anomaly::EmptyPacket), 200_000);
    }
}

#[test]
fn subseconds_of_a_second_and_more_carry_into_the_seconds() {
    for (magic, unit) in [(MICROS, 1_000), (NANOS, 1)] {
        let header = Header { magic, ..HEADER };
        let one = 1_000_000_000 / unit as u32;
        for (seconds, subseconds) in
            [(SECONDS, one), (SECONDS, 1_000_000_000), (SECONDS, u32::MAX), (u32::MAX, u32::MAX)]
        {
            let outcome = decode(&header.with([seconds, subseconds, 4, 4], b"data"));
            outcome.accepted(1);
            let nanos = u64::from(seconds) * 1_000_000_000 + u64::from(subseconds) * unit;
            assert_eq!(outcome.packets.first().map(|packet| packet.nanos), Some(nanos));
            assert_eq!(outcome.anomaly(Anomaly::SubsecondCarry), 1);
        }
    }
    for (magic, last) in [(MICROS, 999_999), (NANOS, 999_999_999)] {
        decode(&Header { magic, ..HEADER }.with([SECONDS, last, 4, 4], b"data")).plain(1);
    }
}

#[test]
fn seconds_are_unsigned_to_2106() {
    let mut stream = HEADER.octets();
    let times = [0, 1, 0x7fff_ffff, 0x8000_0000, u32::MAX];
    for seconds in times {
        record(&mut stream, Little, [seconds, 5, 4, 4], b"data");
    }
    let outcome = decode(&stream);
    outcome.plain(5);
    let seconds: Vec<_> = outcome.packets.iter().map(|packet| packet.nanos / 1_000_000_000).collect();
    assert_eq!(seconds, times.map(u64::from));
}

#[test]
fn a_packet_of_2106_among_those_of_2023_is_passed_on_in_its_place() {
    let mut stream = good(HEADER, 2);
    record(&mut stream, Little, [u32::MAX, 999_999, 4, 4], b"data");
    record(&mut stream, Little, [SECONDS + 2, 0, 4, 4], b"data");
    let outcome = decode(&stream);
    outcome.accepted(4);
    assert_eq!(outcome.anomaly(Anomaly::TimeBack), 1);
    let seconds: Vec<_> = outcome.packets.iter().map(|packet| packet.nanos / 1_000_000_000).collect();
    let expected = [SECONDS, SECONDS + 1, u32::MAX, SECONDS + 2];
    assert_eq!(seconds, expected.map(u64::from));
}

#[test]
fn time_running_back_is_passed_on_and_counted() {
    let mut stream = HEADER.octets();
    for seconds in [SECONDS, SECONDS - 5, SECONDS - 4, SECONDS - 9] {
        record(&mut stream, Little, [seconds, 0, 4, 4], b"data");
    }
    let outcome = decode(&stream);
    outcome.accepted(4);
    assert_eq!(outcome.anomaly(Anomaly::TimeBack), 2);
}

#[test]
fn what_is_no_record_between_records_ends_the_stream() {
    let mut stream = good(HEADER, 2);
    record(&mut stream, Big, [SECONDS, 0, 60, 60], &[0; 60]);
    let caplen = 60_u32.swap_bytes();
    decode(&stream).ended(2, 176, Kind::RecordTooLong { caplen, limit: 262_144 });

    for zeros in [16, 32, 64, 4096] {
        let mut stream = good(HEADER, 2);
        stream.extend(vec![0; zeros]);
        stream.extend_from_slice(&good(HEADER, 2)[24..]);
        decode(&stream).ended(2, 176, Kind::ZeroRecord);
    }

    let mut stream = good(HEADER, 2);
    stream.extend_from_slice(&[0xa5; 64]);
    let caplen = 0xa5a5_a5a5;
    decode(&stream).ended(2, 176, Kind::RecordTooLong { caplen, limit: 262_144 });

    let mut stream = good(HEADER, 2);
    stream.push(0xff);
    record(&mut stream, Little, [SECONDS, 0, 1500, 1500], &[0; 1500]);
    let outcome = decode(&stream);
    let caplen = 1500 << 8;
    outcome.ended(2, 176, Kind::RecordTooLong { caplen, limit: 262_144 });
}

#[test]
fn a_second_header_is_recognised_and_never_read_as_a_record() {
    for order in [Little, Big] {
        for magic in [MICROS, NANOS, MODIFIED] {
            for (first, zone) in [(MICROS, 0), (NANOS, 3_600)] {
                let mut stream = good(Header { magic: first, ..HEADER }, 2);
                stream.extend(good(Header { order, magic, zone, ..HEADER }, 2));
                let outcome = decode(&stream);
                outcome.ended(2, 176, Kind::SecondHeader);
                assert!(outcome.text().contains("mergecap"));
            }
        }
    }
    let mut old = good(HEADER, 1);
    old.extend(Header { version: (2, 1), ..HEADER }.octets());
    decode(&old).ended(1, 100, Kind::SecondHeader);
}

#[test]
fn pcapng_after_pcap_ends_the_stream() {
    let mut stream = good(HEADER, 1);
    stream.extend(Format::PcapNg.header(LinkType::ETHERNET));
    decode(&stream).ended(1, 100, Kind::PcapngInPcap);
}

#[test]
fn an_unknown_linktype_is_accepted() {
    for linktype in [146, 5000, 0xfffe, 0xffff] {
        let outcome = decode(&good(Header { linktype, ..HEADER }, 1));
        outcome.plain(1);
        assert_eq!(outcome.linktype, Some(LinkType(linktype as u16)));
    }
}

#[test]
fn fcs_bits_are_no_part_of_the_linktype() {
    for (field, fcs_len) in [(0x1400_0001, Some(2)), (0x2400_0001, Some(4)), (0x2000_0001, None)] {
        let outcome = decode(&good(Header { linktype: field, ..HEADER }, 1));
        outcome.plain(1);
        assert_eq!(outcome.linktype, Some(LinkType::ETHERNET));
        assert_eq!(outcome.interfaces.first().map(|known| known.fcs_len), Some(fcs_len));
    }
}

#[test]
fn reserved_bits_of_the_linktype_end_the_stream() {
    for bit in (16..26).chain([27]) {
        let field = 1 | 1 << bit;
        let outcome = decode(&good(Header { linktype: field, ..HEADER }, 1));
        outcome.ended(0, 0, Kind::ReservedBits { field });
    }
}

#[test]
fn versions_that_never_were_end_the_stream() {
    for (major, minor) in [(2, 5), (2, 9), (3, 4), (1, 0), (0, 0), (543, 1), (0xffff, 4)] {
        let outcome = decode(&good(Header { version: (major, minor), ..HEADER }, 1));
        outcome.ended(0, 0, Kind::PcapVersion { major, minor });
    }
}

#[test]
fn old_versions_have_their_lengths_the_other_way_round() {
    for version in [(2, 0), (2, 1), (2, 2), (543, 0)] {
        let header = Header { version, ..HEADER };
        let outcome = decode(&header.with([SECONDS, 0, 60, 4], b"data"));
        outcome.plain(1);
        assert_eq!(outcome.packets.first().map(|packet| packet.origlen), Some(60));
    }
    // Version 2.3 was written both ways.
    let mut stream = Header { version: (2, 3), ..HEADER }.with([SECONDS, 0, 60, 4], b"data");
    record(&mut stream, Little, [SECONDS, 0, 4, 60], b"data");
    decode(&stream).plain(2);
}

#[test]
fn an_override_and_a_name_apply_to_the_one_interface() {
    let options = DecoderOptions {
        source: "tcp://10.0.0.1".into(),
        name: Some("north".into()),
        linktype: Some(LinkType::RAW),
    };
    let outcome = decode_with(&options, &good(HEADER, 1));
    outcome.plain(1);
    assert_eq!(outcome.linktype, Some(LinkType::RAW));
    let interface = outcome.interfaces.first().expect("an interface");
    assert_eq!((interface.shown_name(), interface.linktype), ("north", LinkType::RAW));
    assert_eq!(&*interface.source, "tcp://10.0.0.1");
}

#[test]
fn packets_of_an_interface_without_an_id_are_dropped_and_counted() {
    struct Full;
    impl pcaphub_core::interface::Intern for Full {
        fn intern(
            &mut self,
            _: pcaphub_core::interface::Interface,
        ) -> Option<pcaphub_core::interface::InterfaceId> {
            None
        }
    }
    let stream = good(HEADER, 3);
    let mut decoder = pcaphub_core::format::Decoder::new(options());
    let mut batch = pcaphub_core::batch::Batch::default();
    let decoded = decoder.decode(&stream, &mut batch, &mut Full, ARRIVAL);
    assert_eq!((decoded.consumed, decoded.result), (stream.len(), Ok(())));
    assert!(batch.is_empty() && batch.verbatim.is_none());
    assert_eq!(decoder.drops().of(DropReason::InterfaceLimit), 3);
}

#[test]
fn good_native_records_are_verbatim_behind_the_header() {
    for (magic, format) in [(MICROS, Format::Pcap), (NANOS, Format::PcapNs)] {
        let stream = good(Header { magic, ..HEADER }, 3);
        let mut decoder = pcaphub_core::format::Decoder::new(options());
        let mut table = pcaphub_core::interface::InterfaceTable::new();
        let mut batch = pcaphub_core::batch::Batch::default();
        assert_eq!(decoder.decode(&stream, &mut batch, &mut table, ARRIVAL).result, Ok(()));
        let verbatim = batch.verbatim.expect("verbatim");
        assert_eq!((verbatim.format, verbatim.octets), (format, 24..stream.len()));
    }
}
