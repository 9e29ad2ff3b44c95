//! What is encoded is decoded again: the same packets, interfaces, times and options.

mod decode_support;

use std::sync::Arc;

use bytes::Bytes;
use decode_support::{Outcome, decode_pieces, options};
use pcaphub_core::format::Format;
use pcaphub_core::interface::{Interface, InterfaceId};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::stats::Anomaly;
use pcaphub_core::time::{Resolution, Timestamp};
use proptest::collection::vec;
use proptest::prelude::*;

/// A packet to be written.
#[derive(Debug, Clone)]
struct Given {
    nanos: u64,
    interface: u32,
    octets: Vec<u8>,
    more: u32,
    options: Vec<u8>,
}

impl Given {
    fn packet(&self) -> Packet {
        let caplen = self.octets.len() as u32;
        Packet {
            timestamp: Timestamp::from_nanos(self.nanos),
            interface: InterfaceId(self.interface),
            caplen,
            origlen: caplen + self.more,
            offset: 0,
            options_offset: 0,
            options_len: self.options.len() as u32,
        }
    }

    fn nanos_in(&self, resolution: Resolution) -> u64 {
        self.nanos - self.nanos % resolution.unit_nanos()
    }
}

/// Writes packets, and checks the length that each was said to have.
fn encode(format: Format, interfaces: &[Interface], packets: &[Given]) -> Vec<u8> {
    let first = interfaces.first().expect("an interface");
    let mut out = format.header(first.linktype);
    for interface in interfaces {
        out.extend(format.interface(interface));
    }
    for given in packets {
        let packet = given.packet();
        let before = out.len();
        let resolution = interfaces.get(given.interface as usize).map_or(Resolution::NANOS, |i| i.resolution);
        format.record(&mut out, &packet, &given.octets, &given.options, resolution);
        assert_eq!(out.len() - before, format.record_len(&packet));
    }
    out
}

fn decode(stream: &[u8], cut: usize) -> Outcome {
    let pieces: Vec<&[u8]> = stream.chunks(cut).collect();
    let outcome = decode_pieces(&options(), &pieces);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.drops.total(), 0);
    assert_eq!(outcome.anomalies.total(), outcome.anomalies.of(Anomaly::TimeBack));
    outcome
}

fn option(code: u16, value: Vec<u8>) -> Vec<u8> {
    let mut out = [code.to_le_bytes(), (value.len() as u16).to_le_bytes()].concat();
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn any_options() -> impl Strategy<Value = Vec<u8>> {
    let code = prop_oneof![Just(1_u16), 2..=8_u16, Just(2988), Just(2989), 0x8000..=u16::MAX];
    vec((code, vec(any::<u8>(), 0..20)).prop_map(|(code, value)| option(code, value)), 0..4)
        .prop_map(|options| options.concat())
}

fn any_packet(interfaces: u32, octets: std::ops::Range<usize>) -> impl Strategy<Value = Given> {
    // Seconds of pcap end in 2106.
    let nanos = 0..(u64::from(u32::MAX) + 1) * 1_000_000_000;
    let options = prop_oneof![Just(Vec::new()), any_options()];
    (nanos, 0..interfaces, vec(any::<u8>(), octets), 0..2000_u32, options).prop_map(
        |(nanos, interface, octets, more, options)| Given { nanos, interface, octets, more, options },
    )
}

fn any_interface() -> impl Strategy<Value = Interface> {
    // if_description, if_speed, if_tzone, if_os, unknown.
    let code = prop_oneof![Just(1_u16), Just(3), Just(8), Just(10), Just(12), Just(0x7777)];
    let options = vec((code, vec(any::<u8>(), 0..20)).prop_map(|(code, value)| option(code, value)), 0..4);
    (
        proptest::option::of("[a-z0-9/ äß<>]{1,20}"),
        any::<u16>(),
        prop_oneof![Just(0_u32), 262_144..u32::MAX],
        0..=9_u8,
        proptest::option::of(any::<u8>()),
        options,
    )
        .prop_map(|(name, linktype, snaplen, digits, fcs_len, options)| Interface {
            source: "source".into(),
            name: name.map(Arc::from),
            linktype: LinkType(linktype),
            snaplen,
            resolution: Resolution::from_digits(digits),
            fcs_len,
            options: Bytes::from(options.concat()),
        })
}

proptest! {
    #[test]
    fn pcap_gives_back_what_was_written_to_its_resolution(
        packets in vec(any_packet(1, 1..200), 0..20),
        nanos in any::<bool>(),
        linktype in any::<u16>(),
        cut in 1..400_usize,
    ) {
        let (format, resolution) =
            if nanos { (Format::PcapNs, Resolution::NANOS) } else { (Format::Pcap, Resolution::MICROS) };
        let interface = Interface {
            source: "source".into(),
            name: None,
            linktype: LinkType(linktype),
            snaplen: LinkType(linktype).max_caplen(),
            resolution,
            fcs_len: None,
            options: Bytes::new(),
        };
        let stream = encode(format, std::slice::from_ref(&interface), &packets);
        let outcome = decode(&stream, cut);
        prop_assert_eq!(outcome.format, Some(format));
        prop_assert_eq!(outcome.packets.len(), packets.len());
        for (decoded, given) in outcome.packets.iter().zip(&packets) {
            prop_assert_eq!(&*decoded.interface, &interface);
            prop_assert_eq!(decoded.nanos, given.nanos_in(resolution));
            prop_assert_eq!(&decoded.octets, &given.octets);
            prop_assert_eq!(decoded.origlen, given.packet().origlen);
        }
    }

    #[test]
    fn pcapng_gives_back_interfaces_times_and_options(
        interfaces in vec(any_interface(), 1..5),
        packets in vec(any_packet(5, 1..200), 0..20),
        cut in 1..400_usize,
    ) {
        let count = interfaces.len() as u32;
        let packets: Vec<_> = packets
            .into_iter()
            .map(|given| Given { interface: given.interface % count, ..given })
            .collect();
        let stream = encode(Format::PcapNg, &interfaces, &packets);
        let outcome = decode(&stream, cut);
        prop_assert_eq!(outcome.packets.len(), packets.len());
        for (decoded, given) in outcome.packets.iter().zip(&packets) {
            let interface = &interfaces[given.interface as usize];
            // The name that clients see is the only one they learn.
            let shown = Interface { name: Some(interface.shown_name().into()), ..interface.clone() };
            prop_assert_eq!(&*decoded.interface, &shown);
            prop_assert_eq!(decoded.nanos, given.nanos_in(interface.resolution));
            prop_assert_eq!(&decoded.octets, &given.octets);
            prop_assert_eq!(decoded.origlen, given.packet().origlen);
            prop_assert_eq!(&decoded.options, &given.options);
        }

        // And a second time, as from hub to hub, nothing changes any more.
        let again: Vec<_> = outcome.packets.iter().map(|packet| Given {
            nanos: packet.nanos,
            interface: outcome.interfaces.iter().position(|i| *i == packet.interface).unwrap_or(0) as u32,
            octets: packet.octets.clone(),
            more: packet.origlen - packet.octets.len() as u32,
            options: packet.options.clone(),
        }).collect();
        let interfaces: Vec<_> = outcome.interfaces.iter().map(|i| Interface::clone(i)).collect();
        let stream = encode(Format::PcapNg, &interfaces, &again);
        prop_assert_eq!(decode(&stream, cut), outcome);
    }

    #[test]
    fn octets_of_any_kind_are_decoded_the_same_however_they_are_cut(
        format in prop_oneof![Just(Format::Pcap), Just(Format::PcapNs), Just(Format::PcapNg)],
        packets in vec(any_packet(1, 0..60), 0..6),
        interface in any_interface(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in 1..100_usize,
    ) {
        let mut stream = encode(format, &[interface], &packets);
        for (index, octet) in damage {
            let index = index.index(stream.len());
            stream[index] = octet;
        }
        let whole = decode_pieces(&options(), &[&stream]);
        let pieces: Vec<&[u8]> = stream.chunks(cut).collect();
        prop_assert_eq!(decode_pieces(&options(), &pieces), whole);
    }
}

#[test]
fn statistics_are_read_as_the_upstreams_drops() {
    let interface = Interface {
        source: "source".into(),
        name: Some("eth0".into()),
        linktype: LinkType::ETHERNET,
        snaplen: 0,
        resolution: Resolution::MICROS,
        fcs_len: None,
        options: Bytes::new(),
    };
    let mut stream = encode(Format::PcapNg, &[interface], &[]);
    for dropped in [3, 10] {
        let now = Timestamp::from_nanos(1_700_000_000_000_000_000);
        let id = InterfaceId(0);
        stream.extend(Format::PcapNg.statistics(id, now, Resolution::MICROS, dropped));
        assert!(Format::Pcap.statistics(id, now, Resolution::MICROS, dropped).is_empty());
    }
    let outcome = decode_pieces(&options(), &[&stream]);
    assert_eq!(outcome.error, None);
    assert_eq!(outcome.anomaly(Anomaly::UpstreamDrops), 10);
}

#[test]
fn a_time_after_2106_becomes_the_last_second_of_pcap() {
    let packet = Given { nanos: u64::MAX, interface: 0, octets: vec![1, 2, 3], more: 0, options: Vec::new() };
    let mut stream = Format::PcapNs.header(LinkType::ETHERNET);
    Format::PcapNs.record(&mut stream, &packet.packet(), &packet.octets, &[], Resolution::NANOS);
    let outcome = decode(&stream, 7);
    let nanos = outcome.packets.first().map(|packet| packet.nanos / 1_000_000_000);
    assert_eq!(nanos, Some(u64::from(u32::MAX)));
}

#[test]
fn a_pcap_header_has_the_octets_that_every_reader_takes() {
    let micros = Format::Pcap.header(LinkType::SLL2);
    let expected = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 20, 1, 0, 0];
    assert_eq!(micros, expected);
    assert_eq!(Format::PcapNs.header(LinkType::SLL2)[..4], [0x4d, 0x3c, 0xb2, 0xa1]);
    let section = Format::PcapNg.header(LinkType::SLL2);
    assert_eq!(
        section[..16],
        [10, 13, 13, 10, section.len() as u8, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]
    );
}
