//! What sockets get that files do not, and the other way round: silence, nothing at all, packed
//! octets, and clients that would stop at an empty packet.

use std::io::Write;

use pcaphub::endpoint::Endpoint;
use pcaphub_core::format::Format;
use pcaphub_core::linktype::LinkType;
use tempfile::NamedTempFile;

use crate::core_support::{decode_pieces, options};
use crate::expected::{Counts, Expected, assert_counted, endpoint};
use crate::site::{HOSTILE, Site, healthy_record, run, wait_until};

/// Good packets behind a header.
fn capture(packets: u32) -> Vec<u8> {
    let mut stream = Format::Pcap.header(LinkType::ETHERNET).to_vec();
    (0..packets).for_each(|number| stream.extend(healthy_record(number)));
    stream
}

fn hostile_door() -> Endpoint {
    endpoint("tcp-listen://127.0.0.1:0", &options(), &[])
}

fn file_of(octets: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(octets).unwrap();
    file
}

fn source_of(file: &NamedTempFile) -> Endpoint {
    Endpoint::parse(file.path().to_str().unwrap()).unwrap()
}

#[test]
fn producers_that_close_without_an_octet_are_no_failures() {
    let mut site = Site::open([hostile_door()]);
    for _ in 0..100 {
        drop(site.connect(HOSTILE));
    }
    wait_until("all are gone", || site.hub.count("producer_silent") == 100);
    site.goes_on();
    assert_eq!(site.hub.count("source_failed"), 0);
    let outcome = site.close();
    assert_counted(&outcome.report, HOSTILE, &Expected::nothing());
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
}

#[test]
fn a_header_of_any_part_and_then_silence_is_kept_and_can_go_on() {
    let stream = capture(3);
    let mut site = Site::open([hostile_door()]);
    let begun: Vec<_> = (0..24 + 76)
        .map(|cut| {
            let mut producer = site.connect(HOSTILE);
            producer.write_all(&stream[..cut]).unwrap();
            (producer, cut)
        })
        .collect();
    site.goes_on();
    let ends = |site: &Site| site.hub.count("source_failed") + site.hub.count("source_ended");
    assert_eq!((ends(&site), site.hub.count("producer_silent")), (0, 0));
    for (mut producer, cut) in begun {
        producer.write_all(&stream[cut..]).unwrap();
    }
    wait_until("all have ended", || ends(&site) == 100);
    let outcome = site.close();
    let expected = Expected::of(&decode_pieces(&options(), &[&stream]));
    assert_eq!(Counts::of(&outcome.report.sources[HOSTILE]), expected.counts.times(100));
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
}

#[test]
fn an_empty_file_is_an_error_beside_which_the_other_is_delivered() {
    let (empty, good) = (file_of(b""), file_of(&capture(3)));
    let sources = || vec![source_of(&empty), source_of(&good)];
    let outcome = run(sources(), "null:").unwrap().ended();
    assert_eq!(outcome.report.sources[0].failed.as_deref(), Some("it is empty: not even a header"));
    assert_eq!(outcome.report.sources[1].forwarded, 3);
    assert!(outcome.report.closes(), "{:?}", outcome.report);
    let refused = run(sources(), "tcp-listen://127.0.0.1:0").err().unwrap().to_string();
    assert!(refused.contains("closed before its first octet"), "{refused}");
}

#[test]
fn packed_files_are_unpacked_whether_what_is_in_them_is_good_or_bad() {
    let mut bad = capture(3);
    bad.extend([0xff; 20]);
    for stream in [capture(3), bad, b"HTTP/1.1 404 Not Found\r\n".to_vec()] {
        let expected = Expected::of(&decode_pieces(&options(), &[&stream]));
        for packed in packed(&stream) {
            let (file, good) = (file_of(&packed), file_of(&capture(5)));
            let outcome = run(vec![source_of(&file), source_of(&good)], "null:").unwrap().ended();
            assert_counted(&outcome.report, 0, &expected);
            assert_eq!(outcome.report.sources[1].forwarded, 5);
        }
    }
}

#[test]
fn a_packed_file_cut_short_delivers_what_could_be_unpacked() {
    let stream = capture(1000);
    let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    file.write_all(&stream).unwrap();
    let packed = file.finish().unwrap();
    let cut = file_of(&packed[..packed.len() / 2]);
    let outcome = run(vec![source_of(&cut)], "null:").unwrap().ended();
    let source = &outcome.report.sources[0];
    assert!((1..1000).contains(&source.forwarded), "{source:?}");
    assert!(source.failed.as_deref().is_some_and(|why| why.starts_with("reading failed")), "{source:?}");
    assert!(outcome.report.closes(), "{:?}", outcome.report);
}

#[test]
fn a_file_that_unpacks_to_a_thousand_times_its_size_ends_beside_which_the_other_is_delivered() {
    let mut bomb = capture(0);
    let mut record = healthy_record(0)[..8].to_vec();
    record.extend([262_144_u32.to_le_bytes(), 262_144_u32.to_le_bytes()].concat());
    record.resize(16 + 262_144, 0);
    (0..256).for_each(|_| bomb.extend_from_slice(&record));
    let bomb = zstd::encode_all(&bomb[..], 19).unwrap();
    let (bomb, good) = (file_of(&bomb), file_of(&capture(5)));
    let outcome = run(vec![source_of(&bomb), source_of(&good)], "null:").unwrap().ended();
    let source = &outcome.report.sources[0];
    assert!(source.failed.as_deref().is_some_and(|why| why.contains("1000 times")), "{source:?}");
    assert!((1..256).contains(&source.forwarded), "{source:?}");
    assert_eq!(outcome.report.sources[1].forwarded, 5);
    assert!(outcome.report.closes(), "{:?}", outcome.report);
}

/// The stream in every packing.
fn packed(stream: &[u8]) -> [Vec<u8>; 3] {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(stream).unwrap();
    let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
    lz4.write_all(stream).unwrap();
    [gzip.finish().unwrap(), zstd::encode_all(stream, 3).unwrap(), lz4.finish().unwrap()]
}

#[test]
fn an_empty_packet_is_dropped_for_a_pcap_client_and_sent_to_a_pcapng_client() {
    let mut stream = capture(2);
    stream.extend(1_700_000_001_u32.to_le_bytes());
    stream.extend([0; 8]);
    stream.extend(60_u32.to_le_bytes());
    let file = file_of(&stream);
    let delivered = |format: &str| {
        let sink = format!("null:?format={format}");
        let outcome = run(vec![source_of(&file)], &sink).unwrap().ended();
        assert!(outcome.report.closes(), "{:?}", outcome.report);
        assert_eq!(outcome.report.sources[0].forwarded, 3);
        (outcome.report.delivered(), outcome.report.dropped().get("empty_packet").copied())
    };
    assert_eq!(delivered("pcap"), (2, Some(1)));
    assert_eq!(delivered("pcapng"), (3, None));
}
