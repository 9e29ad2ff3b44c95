//! How fast records are decoded and encoded on one core, from buffers the size of a source's read.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pcaphub_core::batch::Batch;
use pcaphub_core::format::{Decoder, DecoderOptions, Format};
use pcaphub_core::interface::{Interface, InterfaceId, InterfaceTable};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Resolution, Timestamp};

/// What a source reads at once.
const READ_OCTETS: usize = 256 * 1024;

const FORMATS: [(&str, Format); 3] =
    [("pcap", Format::Pcap), ("pcap-ns", Format::PcapNs), ("pcapng", Format::PcapNg)];

fn options() -> DecoderOptions {
    DecoderOptions { source: "bench".into(), name: None, linktype: None }
}

/// A stream's header, and as many records as one read has; how many they are.
fn stream(format: Format, caplen: usize) -> (Vec<u8>, Vec<u8>, u64) {
    let interface = Interface {
        source: "bench".into(),
        name: None,
        linktype: LinkType::ETHERNET,
        snaplen: 0,
        resolution: Resolution::MICROS,
        fcs_len: None,
        options: Bytes::new(),
    };
    let mut header = format.header(LinkType::ETHERNET);
    header.extend(format.interface(&interface));
    let (mut records, mut count) = (Vec::new(), 0);
    let octets = vec![0x5a; caplen];
    while records.len() < READ_OCTETS {
        let packet = Packet {
            timestamp: Timestamp::from_nanos(1_700_000_000_000_000_000 + count * 10_000),
            interface: InterfaceId(0),
            caplen: caplen as u32,
            origlen: caplen as u32,
            offset: 0,
            options_offset: 0,
            options_len: 0,
        };
        format.record(&mut records, &packet, &octets, &[], Resolution::MICROS);
        count += 1;
    }
    (header, records, count)
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, format) in FORMATS {
        for caplen in [64, 346] {
            let (header, records, count) = stream(format, caplen);
            let (mut decoder, mut table) = (Decoder::new(options()), InterfaceTable::new());
            let mut opening = Batch::default();
            let opened = decoder.decode(&header, &mut opening, &mut table, Timestamp::ZERO);
            assert_eq!((opened.consumed, opened.result), (header.len(), Ok(())));
            group.throughput(Throughput::Elements(count));
            group.bench_function(format!("{name}/{caplen}"), |bencher| {
                bencher.iter(|| {
                    let mut batch = Batch::default();
                    let octets = black_box(&records);
                    let decoded = decoder.decode(octets, &mut batch, &mut table, Timestamp::ZERO);
                    assert_eq!(decoded.consumed, records.len());
                    batch
                });
            });
        }
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    for (name, format) in FORMATS {
        let (header, records, count) = stream(Format::Pcap, 64);
        let (mut decoder, mut table) = (Decoder::new(options()), InterfaceTable::new());
        let mut batch = Batch::default();
        let octets = [header, records].concat();
        let decoded = decoder.decode(&octets, &mut batch, &mut table, Timestamp::ZERO);
        assert_eq!(decoded.result, Ok(()));
        batch.buffer = Bytes::from(octets);
        group.throughput(Throughput::Elements(count));
        let mut out = Vec::with_capacity(2 * READ_OCTETS);
        group.bench_function(format!("{name}/64"), |bencher| {
            bencher.iter(|| {
                out.clear();
                for packet in black_box(&batch.packets) {
                    let octets = batch.octets(packet);
                    format.record(&mut out, packet, octets, &[], Resolution::MICROS);
                }
                out.len()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, decode, encode);
criterion_main!(benches);
