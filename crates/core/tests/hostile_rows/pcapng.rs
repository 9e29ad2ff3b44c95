//! What pcapng gets: accepted, made sane, skipped, or ended.

use crate::decode_support::Order::{Big, Little};
use crate::decode_support::*;
use pcaphub_core::error::{BadLength, DecodeErrorKind as Kind};
use pcaphub_core::format::{DecoderOptions, Format};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::stats::{Anomaly, DropReason};
use pcaphub_core::time::Resolution;

const MIB: u32 = 1024 * 1024;

/// Microseconds of a time in 2023.
const TIME: u64 = 1_700_000_000_000_000;

/// A stream being written.
#[derive(Debug, Clone)]
struct Stream {
    order: Order,
    octets: Vec<u8>,
}

impl Stream {
    /// A section, without interfaces.
    fn new(order: Order) -> Self {
        let mut stream = Stream { order, octets: Vec::new() };
        stream.section();
        stream
    }

    /// A section with one Ethernet interface without options, of 20 octets.
    fn ethernet(order: Order) -> Self {
        let mut stream = Stream::new(order);
        stream.interface(1, 262_144, &[]);
        stream
    }

    fn len(&self) -> u64 {
        self.octets.len() as u64
    }

    fn block(&mut self, kind: u32, body: &[u8]) -> &mut Self {
        let length = 12 + body.len() as u32;
        self.octets.u32(self.order, kind).u32(self.order, length).extend_from_slice(body);
        self.octets.u32(self.order, length);
        self
    }

    fn section(&mut self) -> &mut Self {
        self.section_of((1, 0), u64::MAX, &[])
    }

    fn section_of(&mut self, version: (u16, u16), length: u64, options: &[u8]) -> &mut Self {
        let mut body = Vec::new();
        body.u32(self.order, 0x1a2b_3c4d);
        body.u16(self.order, version.0).u16(self.order, version.1).u64(self.order, length);
        body.extend_from_slice(options);
        self.block(0x0a0d_0d0a, &body)
    }

    fn interface(&mut self, linktype: u16, snaplen: u32, options: &[u8]) -> &mut Self {
        let mut body = Vec::new();
        body.u16(self.order, linktype).u16(self.order, 0).u32(self.order, snaplen);
        body.extend_from_slice(options);
        self.block(1, &body)
    }

    fn packet(&mut self, interface: u32, time: u64, data: &[u8], options: &[u8]) -> &mut Self {
        let len = data.len() as u32;
        self.packet_of([interface, (time >> 32) as u32, time as u32, len, len], data, options)
    }

    fn packet_of(&mut self, words: [u32; 5], data: &[u8], options: &[u8]) -> &mut Self {
        let mut body = Vec::new();
        for word in words {
            body.u32(self.order, word);
        }
        body.extend_from_slice(data);
        pad(&mut body);
        body.extend_from_slice(options);
        self.block(6, &body)
    }

    fn simple(&mut self, origlen: u32, data: &[u8]) -> &mut Self {
        let mut body = Vec::new();
        body.u32(self.order, origlen).extend_from_slice(data);
        pad(&mut body);
        self.block(3, &body)
    }

    fn option(&self, code: u16, value: &[u8]) -> Vec<u8> {
        option(self.order, code, value)
    }
}

fn pad(octets: &mut Vec<u8>) {
    octets.resize(octets.len().next_multiple_of(4), 0);
}

fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.u16(order, code).u16(order, value.len() as u16).extend_from_slice(value);
    pad(&mut out);
    out
}

fn numbers(order: Order, wide: bool, number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    if wide {
        out.u64(order, number)
    } else {
        out.u32(order, number as u32)
    };
    out
}

#[test]
fn a_section_in_either_byte_order_gives_the_same_packets() {
    let outcomes = [Little, Big].map(|order| {
        let mut stream = Stream::ethernet(order);
        stream.packet(0, TIME, b"hello", &[]).packet(0, TIME + 1, b"", &[]);
        decode(&stream.octets)
    });
    let [little, big] = &outcomes;
    assert_eq!(little, big);
    little.accepted(2);
    assert_eq!(little.format, Some(Format::PcapNg));
    assert_eq!(little.linktype, Some(LinkType::ETHERNET));
    let packet = little.packets.first().expect("a packet");
    assert_eq!((packet.nanos, packet.octets.as_slice()), (TIME * 1000, b"hello".as_slice()));
    assert_eq!(packet.interface.resolution, Resolution::MICROS);
    assert_eq!(little.anomaly(Anomaly::EmptyPacket), 1);
}

#[test]
fn a_block_length_that_cannot_be_ends_the_stream() {
    for order in [Little, Big] {
        for (length, why) in [
            (0, BadLength::TooShort),
            (8, BadLength::TooShort),
            (11, BadLength::TooShort),
            (13, BadLength::Unaligned),
            (33, BadLength::Unaligned),
            (16 * MIB + 4, BadLength::TooLong),
            (u32::MAX, BadLength::TooLong),
        ] {
            let mut stream = Stream::ethernet(order);
            stream.packet(0, TIME, b"data", &[]);
            let offset = stream.len();
            stream.octets.u32(order, 0x77).u32(order, length).extend_from_slice(&[0; 64]);
            decode(&stream.octets).ended(1, offset, Kind::BlockLength { block: 0x77, length, why });
        }
    }
    for (block, length) in [(1, 16), (2, 28), (3, 12), (5, 20), (6, 28)] {
        let mut stream = Stream::ethernet(Little);
        let offset = stream.len();
        stream.octets.u32(Little, block).u32(Little, length).extend_from_slice(&[0; 64]);
        let why = BadLength::TooShort;
        decode(&stream.octets).ended(0, offset, Kind::BlockLength { block, length, why });
    }
}

#[test]
fn a_trailing_length_that_differs_ends_the_stream() {
    for order in [Little, Big] {
        for kind in [1_u32, 3, 5, 6, 0x77, 10] {
            let mut stream = Stream::ethernet(order);
            stream.packet(0, TIME, b"data", &[]);
            let offset = stream.len();
            stream.block(kind, &[0; 24]);
            let at = stream.octets.len() - 4;
            stream.octets.truncate(at);
            stream.octets.u32(order, 40);
            stream.packet(0, TIME, b"data", &[]);
            decode(&stream.octets).ended(1, offset, Kind::TrailingLength { length: 36, trailing: 40 });
        }
    }
}

#[test]
fn an_end_inside_a_block_comes_after_the_packets_before_it() {
    let mut stream = Stream::ethernet(Little);
    stream.packet(0, TIME, b"data", &[]);
    let offset = stream.len();
    for kind in [6, 0x77, 10] {
        let mut stream = stream.clone();
        stream.block(kind, &[0; 40]);
        for received in 1..52 {
            let outcome = decode(&stream.octets[..offset as usize + received]);
            outcome.ended(1, offset, Kind::TruncatedBlock { received: received as u64 });
            assert!(outcome.error.expect("an error").is_truncation());
        }
    }
    for received in 4..28 {
        let cut = &Stream::new(Little).octets[..received];
        decode(cut).ended(0, 0, Kind::TruncatedHeader { received: received as u64 });
    }
}

#[test]
fn a_packet_before_any_interface_or_on_an_unknown_one_ends_the_stream() {
    let mut stream = Stream::new(Little);
    stream.packet(0, TIME, b"data", &[]);
    decode(&stream.octets).ended(0, 28, Kind::UnknownInterface { interface: 0, known: 0 });
    let mut stream = Stream::new(Little);
    stream.simple(4, b"data");
    decode(&stream.octets).ended(0, 28, Kind::UnknownInterface { interface: 0, known: 0 });
    for interface in [1, 4096, u32::MAX] {
        let mut stream = Stream::ethernet(Little);
        stream.packet(interface, TIME, b"data", &[]);
        decode(&stream.octets).ended(0, 48, Kind::UnknownInterface { interface, known: 1 });
    }
}

#[test]
fn a_captured_length_over_the_block_ends_the_stream() {
    for caplen in [5, 1000, u32::MAX] {
        let mut stream = Stream::ethernet(Little);
        stream.packet_of([0, 0, 0, caplen, caplen], b"data", &[]);
        decode(&stream.octets).ended(0, 48, Kind::PacketOverBlock { caplen, room: 4 });
        let mut stream = Stream::new(Little);
        stream.interface(1, 0, &[]).simple(caplen, b"data");
        decode(&stream.octets).ended(0, 48, Kind::PacketOverBlock { caplen, room: 4 });
    }
}

#[test]
fn a_caplen_over_origlen_or_snaplen_is_made_sane() {
    let mut stream = Stream::new(Little);
    stream.interface(1, 4, &[]);
    stream.packet(0, TIME, b"data", &[]);
    stream.packet_of([0, 0, 0, 6, 2], b"longer", &[]);
    stream.packet(0, TIME, b"data", &[]);
    let outcome = decode(&stream.octets);
    outcome.accepted(3);
    assert_eq!(outcome.anomaly(Anomaly::CaplenOverOriglen), 1);
    assert_eq!(outcome.anomaly(Anomaly::CaplenOverSnaplen), 1);
    let snaplens: Vec<_> = outcome.packets.iter().map(|packet| packet.interface.snaplen).collect();
    assert_eq!(snaplens, [4, 0, 0]);
    assert_eq!(outcome.packets.get(1).map(|packet| packet.origlen), Some(6));
}

#[test]
fn a_simple_packet_gets_the_time_of_its_arrival_and_its_length_from_the_snaplen() {
    let mut stream = Stream::new(Little);
    stream.interface(1, 4, &[]).simple(1500, b"data").simple(3, b"abc");
    let outcome = decode(&stream.octets);
    outcome.accepted(2);
    assert_eq!(outcome.anomaly(Anomaly::NoTime), 2);
    let packet = outcome.packets.first().expect("a packet");
    assert_eq!((packet.nanos, packet.origlen), (ARRIVAL.nanos(), 1500));
    assert_eq!(packet.octets, b"data");
}

#[test]
fn resolutions_up_to_the_limits_are_read_and_finer_ones_drop_their_packets() {
    let cases = [
        (0, TIME / 1_000_000, Some(0)),
        (3, TIME / 1000, Some(3)),
        (9, TIME * 1000, Some(9)),
        (12, TIME, Some(9)),
        (19, TIME, Some(9)),
        (0x80, 5, Some(9)),
        (0x80 | 63, 1 << 62, Some(9)),
        (20, TIME, None),
        (127, TIME, None),
        (0x80 | 64, TIME, None),
        (0xff, TIME, None),
    ];
    for (tsresol, time, digits) in cases {
        let mut stream = Stream::new(Little);
        let options = stream.option(9, &[tsresol]);
        stream.interface(1, 0, &options).packet(0, time, b"data", &[]);
        let outcome = decode(&stream.octets);
        match digits {
            Some(digits) => {
                outcome.plain(1);
                let packet = outcome.packets.first().expect("a packet");
                assert_eq!(packet.interface.resolution, Resolution::from_digits(digits));
            }
            None => {
                outcome.accepted(0);
                assert_eq!(outcome.dropped(DropReason::Timestamp), 1);
                assert_eq!(outcome.anomaly(Anomaly::BadResolution), 1);
            }
        }
    }
}

#[test]
fn the_first_valid_resolution_and_offset_win() {
    let mut stream = Stream::new(Little);
    let mut options = Vec::new();
    for value in [&[9, 9][..], &[9], &[3]] {
        options.extend(stream.option(9, value));
    }
    for value in [&[1, 2, 3][..], &7_i64.to_le_bytes(), &9_i64.to_le_bytes()] {
        options.extend(stream.option(14, value));
    }
    stream.interface(1, 0, &options).packet(0, 5, b"data", &[]);
    let outcome = decode(&stream.octets);
    outcome.accepted(1);
    assert_eq!(outcome.anomaly(Anomaly::BadOption), 4);
    assert_eq!(outcome.packets.first().map(|packet| packet.nanos), Some(7_000_000_005));
}

#[test]
fn times_and_offsets_at_the_ends_of_64_bits_saturate() {
    for (offset, time, nanos) in
        [(i64::MAX, 0, u64::MAX), (i64::MIN, u64::MAX, 0), (0, u64::MAX, u64::MAX), (-1, 0, 0)]
    {
        for order in [Little, Big] {
            let mut stream = Stream::new(order);
            let options = stream.option(14, &numbers(order, true, offset as u64));
            stream.interface(1, 0, &options).packet(0, time, b"data", &[]);
            let outcome = decode(&stream.octets);
            outcome.accepted(1);
            assert_eq!(outcome.packets.first().map(|packet| packet.nanos), Some(nanos));
            assert_eq!(outcome.anomaly(Anomaly::TimeSaturated), 1);
        }
    }
}

#[test]
fn options_overrunning_a_section_or_interface_end_the_stream() {
    let overrun = [4, 0, 9, 0, b'x', 0, 0, 0];
    let kind = Kind::OptionOverrun { code: 4, length: 9 };
    let mut stream = Stream::ethernet(Little);
    stream.section_of((1, 0), u64::MAX, &overrun);
    decode(&stream.octets).ended(0, 48, kind.clone());
    let mut stream = Stream::ethernet(Little);
    stream.interface(1, 0, &overrun);
    decode(&stream.octets).ended(0, 48, kind);
}

#[test]
fn options_overrunning_a_packet_are_dropped_and_the_packet_is_kept() {
    let mut stream = Stream::ethernet(Little);
    let mut options = stream.option(1, b"fine");
    options.extend_from_slice(&[1, 0, 0xff, 0xff, b'x', 0, 0, 0]);
    stream.packet(0, TIME, b"data", &options);
    let good = stream.option(1, b"fine");
    stream.packet(0, TIME, b"data", &good);
    let outcome = decode(&stream.octets);
    outcome.accepted(2);
    assert_eq!(outcome.anomaly(Anomaly::OptionsDropped), 1);
    let options: Vec<_> = outcome.packets.iter().map(|packet| packet.options.clone()).collect();
    assert_eq!(options, [Vec::new(), good]);
}

#[test]
fn options_end_with_the_block_or_at_end_of_options_whatever_its_length() {
    let mut stream = Stream::ethernet(Little);
    let comment = stream.option(1, b"comment");
    for end in [&[][..], &[0, 0, 0, 0], &[0, 0, 4, 0, 1, 2, 3, 4], &[0, 0, 0xff, 0xff]] {
        let options = [&comment, end].concat();
        stream.packet(0, TIME, b"data", &options);
    }
    let outcome = decode(&stream.octets);
    outcome.plain(4);
    assert!(outcome.packets.iter().all(|packet| packet.options == comment));
}

#[test]
fn ten_thousand_options_are_kept() {
    let mut stream = Stream::ethernet(Little);
    let comment = stream.option(1, b"comment");
    let options = comment.repeat(10_000);
    stream.packet(0, TIME, b"data", &options);
    let outcome = decode(&stream.octets);
    outcome.plain(1);
    assert_eq!(outcome.packets.first().map(|packet| packet.options.len()), Some(options.len()));
}

#[test]
fn options_longer_than_any_packet_are_dropped_and_the_packet_is_kept() {
    let mut stream = Stream::ethernet(Little);
    // With its code and length, 65,536 octets.
    let comment = stream.option(1, &[b'x'; 65_532]);
    stream.packet(0, TIME, b"data", &comment.repeat(4));
    stream.packet(0, TIME, b"data", &[&comment.repeat(4)[..], &comment[..4], &[0; 65_532]].concat());
    stream.packet(0, TIME, b"data", &comment.repeat(250));
    let outcome = decode(&stream.octets);
    outcome.accepted(3);
    assert_eq!(outcome.anomaly(Anomaly::OptionsDropped), 2);
    let lengths: Vec<_> = outcome.packets.iter().map(|packet| packet.options.len()).collect();
    assert_eq!(lengths, [262_144, 0, 0]);
}

#[test]
fn options_of_a_big_endian_section_become_little_endian_by_their_type() {
    let of = |order| {
        let mut stream = Stream::new(order);
        let mut options = stream.option(2, b"eth0");
        options.extend(stream.option(3, b"a description"));
        options.extend(stream.option(4, &[10, 0, 0, 1, 255, 0, 0, 0]));
        options.extend(stream.option(8, &numbers(order, true, 1_000_000_000)));
        options.extend(stream.option(10, &numbers(order, false, 3_600)));
        options.extend(stream.option(13, &[4]));
        options.extend(stream.option(0x7777, &[1, 2, 3]));
        stream.interface(1, 0, &options);
        let custom = [&numbers(order, false, 32_473)[..], b"custom"].concat();
        let mut options = stream.option(1, b"comment");
        options.extend(stream.option(2, &numbers(order, false, 0x15)));
        options.extend(stream.option(3, &[1, 2, 3, 4, 5]));
        options.extend(stream.option(4, &numbers(order, true, 12)));
        options.extend(stream.option(5, &numbers(order, true, 1 << 40)));
        options.extend(stream.option(6, &numbers(order, false, 3)));
        options.extend(stream.option(7, &[2, 9]));
        options.extend(stream.option(2988, &custom));
        options.extend(stream.option(2989, &custom));
        options.extend(stream.option(19_372, &custom));
        options.extend(stream.option(19_373, &custom));
        stream.packet(0, TIME, b"data", &options);
        (decode(&stream.octets), options)
    };
    let ((little, written), (big, _)) = (of(Little), of(Big));
    assert_eq!(little, big);
    little.plain(1);
    let packet = little.packets.first().expect("a packet");
    // All but the last two, which are not to be copied.
    assert_eq!(packet.options, written[..written.len() - 2 * 16]);
    assert_eq!((packet.interface.shown_name(), packet.interface.fcs_len), ("eth0", Some(4)));
}

#[test]
fn names_with_anything_in_them_are_taken_as_they_are() {
    for name in ["\x1b[31mred", "<script>", "a\r\nb", "../../etc/passwd", "=1+1"] {
        let mut stream = Stream::new(Little);
        let options = stream.option(2, name.as_bytes());
        stream.interface(1, 0, &options).packet(0, TIME, b"data", &options);
        let outcome = decode(&stream.octets);
        outcome.plain(1);
        assert_eq!(outcome.packets.first().map(|p| p.interface.shown_name()), Some(name));
    }
    let mut stream = Stream::new(Little);
    let options = stream.option(2, b"bad \xff\xfe utf-8\0");
    stream.interface(1, 0, &options);
    let outcome = decode(&stream.octets);
    let name = outcome.interfaces.first().map(|interface| interface.shown_name());
    assert_eq!(name, Some("bad \u{fffd}\u{fffd} utf-8"));
}

#[test]
fn an_interface_of_a_named_source_is_shown_under_both_names() {
    let options = DecoderOptions { source: "s".into(), name: Some("north".into()), linktype: None };
    let mut stream = Stream::new(Little);
    let name = stream.option(2, b"eth0");
    stream.interface(1, 0, &name).interface(1, 0, &[]);
    let outcome = decode_with(&options, &stream.octets);
    let names: Vec<_> = outcome.interfaces.iter().map(|known| known.shown_name()).collect();
    assert_eq!(names, ["north/eth0", "north"]);
}

#[test]
fn a_section_length_is_only_a_hint() {
    for length in [0, 4, u64::MAX, u64::MAX - 1, 1 << 63, 0x1234_5678_9abc] {
        let mut stream = Stream { order: Little, octets: Vec::new() };
        stream.section_of((1, 0), length, &[]);
        stream.interface(1, 0, &[]).packet(0, TIME, b"data", &[]);
        decode(&stream.octets).plain(1);
    }
}

#[test]
fn a_new_section_may_have_the_other_byte_order_and_interfaces_of_its_own() {
    let mut stream = Stream::ethernet(Little);
    stream.packet(0, TIME, b"one", &[]);
    stream.order = Big;
    stream.section().interface(101, 0, &[]).interface(1, 262_144, &[]);
    stream.packet(0, TIME, b"two", &[]).packet(1, TIME, b"three", &[]);
    let outcome = decode(&stream.octets);
    outcome.plain(3);
    let linktypes: Vec<_> = outcome.packets.iter().map(|p| p.interface.linktype.0).collect();
    assert_eq!(linktypes, [1, 101, 1]);
    assert_eq!(outcome.interfaces.len(), 2, "the same interface has the same id");
}

#[test]
fn packets_of_a_new_section_on_the_old_ones_interfaces_end_the_stream() {
    let mut stream = Stream::ethernet(Little);
    stream.packet(0, TIME, b"one", &[]).section();
    let offset = stream.len();
    stream.packet(0, TIME, b"two", &[]);
    decode(&stream.octets).ended(1, offset, Kind::UnknownInterface { interface: 0, known: 0 });
}

#[test]
fn a_bad_byte_order_magic_or_major_version_ends_the_stream() {
    let mut stream = Stream::ethernet(Little);
    stream.octets.u32(Little, 0x0a0d_0d0a).u32(Little, 28).u32(Little, 0x1a2b_3c4e);
    stream.octets.extend_from_slice(&[0; 16]);
    decode(&stream.octets).ended(0, 48, Kind::ByteOrderMagic { magic: 0x1a2b_3c4e });
    for (major, minor) in [(0, 0), (2, 0), (2, 4), (0xffff, 0)] {
        let mut stream = Stream { order: Little, octets: Vec::new() };
        stream.section_of((major, minor), u64::MAX, &[]);
        decode(&stream.octets).ended(0, 0, Kind::PcapngVersion { major, minor });
    }
    let mut stream = Stream { order: Little, octets: Vec::new() };
    stream.section_of((1, 2), u64::MAX, &[]).interface(1, 0, &[]).packet(0, TIME, b"x", &[]);
    decode(&stream.octets).plain(1);
}

#[test]
fn pcap_after_pcapng_ends_the_stream() {
    for order in [Little, Big] {
        for format in [Format::Pcap, Format::PcapNs] {
            let mut stream = Stream::ethernet(order);
            stream.packet(0, TIME, b"data", &[]);
            let offset = stream.len();
            stream.octets.extend(format.header(LinkType::ETHERNET));
            decode(&stream.octets).ended(1, offset, Kind::PcapInPcapng);
        }
    }
}

#[test]
fn secrets_are_stripped_and_blocks_without_use_are_skipped() {
    let mut stream = Stream::ethernet(Little);
    stream.block(10, &[0x4b, 0x53, 0x4c, 0x54, 4, 0, 0, 0, 1, 2, 3, 4]);
    for kind in [4, 0xbad, 0x4000_0bad, 0x77, 0x8000_0001, 0x0a0d_0a0a] {
        stream.block(kind, &[0x55; 20]);
    }
    stream.block(0x77, &[]).packet(0, TIME, b"data", &[]);
    let outcome = decode(&stream.octets);
    outcome.accepted(1);
    assert_eq!(outcome.anomaly(Anomaly::SecretsStripped), 1);
    assert_eq!(outcome.anomaly(Anomaly::SkippedBlock), 7);
}

#[test]
fn an_obsolete_packet_is_a_packet_and_its_drop_count_is_counted() {
    for order in [Little, Big] {
        let mut stream = Stream::ethernet(order);
        for lost in [3, 0, u16::MAX] {
            let mut body = Vec::new();
            body.u16(order, 0).u16(order, lost);
            body.u32(order, (TIME >> 32) as u32).u32(order, TIME as u32);
            body.u32(order, 4).u32(order, 9).extend_from_slice(b"data");
            body.extend(option(order, 2, &numbers(order, false, 1)));
            stream.block(2, &body);
        }
        let outcome = decode(&stream.octets);
        outcome.accepted(3);
        assert_eq!(outcome.anomaly(Anomaly::UpstreamDrops), 3);
        let packet = outcome.packets.first().expect("a packet");
        assert_eq!((packet.nanos, packet.origlen), (TIME * 1000, 9));
        assert_eq!(packet.options, option(Little, 2, &[1, 0, 0, 0]));
    }
}

#[test]
fn statistics_go_no_further_and_what_they_say_is_lost_is_counted_once() {
    for order in [Little, Big] {
        let mut stream = Stream::ethernet(order);
        for drops in [5, 5, 7] {
            let mut body = Vec::new();
            body.u32(order, 0).u64(order, TIME);
            body.extend(option(order, 4, &numbers(order, true, 1000)));
            body.extend(option(order, 5, &numbers(order, true, drops)));
            stream.block(5, &body);
        }
        let mut unknown = Vec::new();
        unknown.u32(order, 9).u64(order, TIME);
        stream.block(5, &unknown).packet(0, TIME, b"data", &[]);
        let outcome = decode(&stream.octets);
        outcome.accepted(1);
        assert_eq!(outcome.anomaly(Anomaly::UpstreamDrops), 7);
        assert_eq!(outcome.anomaly(Anomaly::SkippedBlock), 1);
    }
}

#[test]
fn a_section_has_at_most_4096_interfaces() {
    let mut stream = Stream::new(Little);
    for _ in 0..4096 {
        stream.interface(1, 0, &[]);
    }
    stream.packet(4095, TIME, b"data", &[]);
    decode(&stream.octets).plain(1);
    let offset = stream.len();
    stream.interface(1, 0, &[]);
    decode(&stream.octets).ended(1, offset, Kind::TooManyInterfaces { limit: 4096 });
}

#[test]
fn a_thousand_sections_leave_one_interface() {
    let mut stream = Stream::new(Little);
    for n in 0..1000 {
        stream.order = if n % 2 == 0 { Big } else { Little };
        let name = stream.option(2, b"eth0");
        stream.section().interface(1, 0, &name).packet(0, TIME, b"data", &[]);
    }
    let outcome = decode(&stream.octets);
    outcome.plain(1000);
    assert_eq!(outcome.interfaces.len(), 1);
}

#[test]
fn two_hundred_thousand_unknown_blocks_are_skipped() {
    let mut stream = Stream::ethernet(Little);
    for _ in 0..200_000 {
        stream.block(0x77, &[]);
    }
    stream.packet(0, TIME, b"data", &[]);
    let outcome = decode(&stream.octets);
    outcome.accepted(1);
    assert_eq!(outcome.anomaly(Anomaly::SkippedBlock), 200_000);
}

#[test]
fn a_large_block_without_use_is_consumed_as_it_comes() {
    for kind in [0x77, 10, 6] {
        let mut stream = Stream::ethernet(Little);
        let mut body = vec![0; MIB as usize];
        let head: Vec<u8> = [0, 0, 0, MIB - 64, MIB].iter().flat_map(|n| n.to_le_bytes()).collect();
        body[..20].copy_from_slice(&head);
        stream.block(kind, &body);
        let mut decoder = pcaphub_core::format::Decoder::new(options());
        let mut table = pcaphub_core::interface::InterfaceTable::new();
        let mut buffer = Vec::new();
        for piece in stream.octets.chunks(1000) {
            buffer.extend_from_slice(piece);
            let mut batch = pcaphub_core::batch::Batch::default();
            let decoded = decoder.decode(&buffer, &mut batch, &mut table, ARRIVAL);
            assert_eq!(decoded.result, Ok(()));
            buffer.drain(..decoded.consumed);
            assert!(buffer.len() < 64, "{} octets are held back", buffer.len());
        }
        assert_eq!(decoder.finish(&buffer), Ok(()));
    }
}

#[test]
fn an_oversize_packet_is_dropped_and_the_stream_goes_on() {
    let mut stream = Stream::ethernet(Little);
    stream.packet(0, TIME, &vec![1; 262_144], &[]);
    stream.packet(0, TIME, &vec![1; 262_145], &[]);
    stream.packet(0, TIME, b"data", &[]);
    let outcome = decode(&stream.octets);
    outcome.accepted(2);
    assert_eq!(outcome.dropped(DropReason::OversizePacket), 1);

    let mut stream = Stream::new(Little);
    stream.interface(231, 0, &[]).packet(0, TIME, &vec![1; 262_145], &[]);
    decode(&stream.octets).plain(1);
}

#[test]
fn interfaces_keep_linktype_snaplen_and_resolution_each() {
    let mut stream = Stream::new(Little);
    let nanos = stream.option(9, &[9]);
    stream.interface(1, 96, &[]).interface(276, 0, &nanos).interface(0xfffe, u32::MAX, &[]);
    for interface in 0..3 {
        stream.packet(interface, TIME, b"data", &[]);
    }
    let outcome = decode(&stream.octets);
    outcome.accepted(3);
    let seen: Vec<_> = outcome
        .packets
        .iter()
        .map(|packet| (packet.interface.linktype.0, packet.interface.snaplen, packet.nanos))
        .collect();
    assert_eq!(seen, [(1, 96, TIME * 1000), (276, 0, TIME), (0xfffe, u32::MAX, TIME * 1000)]);
}

#[test]
fn what_interfaces_make_us_remember_is_bounded() {
    let mut stream = Stream::new(Little);
    let long = stream.option(1, &[b'x'; 60_000]);
    let name = stream.option(2, &[b'n'; 60_000]);
    for n in 0..1000 {
        let comment = stream.option(1, &[&[b'x'; 8000][..], n.to_string().as_bytes()].concat());
        stream.interface(1, n, &[&long[..], &name, &comment].concat());
    }
    let outcome = decode(&stream.octets);
    outcome.accepted(0);
    let kept: usize = outcome
        .interfaces
        .iter()
        .map(|interface| interface.options.len() + interface.shown_name().len())
        .sum();
    assert_eq!(outcome.interfaces.len(), 1000);
    assert!(kept < 2 * MIB as usize, "{kept} octets");
    assert!(outcome.anomaly(Anomaly::BadOption) >= 1000);
}
