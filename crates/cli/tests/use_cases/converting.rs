//! A packet made Ethernet says what it said before: tshark decodes both, and finds the same.

use etherparse::{PacketBuilder, TcpOptionElement};
use pcaphub_core::convert::{Addresses, to_ethernet};
use pcaphub_core::format::Format;
use pcaphub_core::interface::InterfaceId;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::time::{Resolution, Timestamp};
use serde_json::Value;

use crate::harness::{self, *};

/// Layers that a conversion replaces, and those that tell of the whole.
const OUTER: [&str; 7] = ["frame", "eth", "sll", "null", "ppp", "raw", "chdlc"];

/// A packet of a linktype, and the layers that tshark is to find behind the one that is replaced.
type Sample = (LinkType, Vec<u8>, &'static str);

#[test]
fn tshark_decodes_the_same_network_and_transport_fields_before_and_after() {
    if !has("tshark") {
        return;
    }
    for linktype in [
        LinkType::RAW,
        LinkType::IPV4,
        LinkType::IPV6,
        LinkType::NULL,
        LinkType::LOOP,
        LinkType::PPP,
        LinkType::PPP_HDLC,
        LinkType::PPP_ETHER,
        LinkType::SLL,
        LinkType::SLL2,
    ] {
        let samples: Vec<Sample> = samples().into_iter().filter(|sample| sample.0 == linktype).collect();
        assert!(samples.len() >= 5, "{linktype}");
        let before: Vec<Vec<u8>> = samples.iter().map(|(_, octets, _)| octets.clone()).collect();
        let after: Vec<Vec<u8>> = before.iter().map(|octets| converted(linktype, octets)).collect();
        let (before, after) = (decoded(linktype, &before), decoded(LinkType::ETHERNET, &after));
        assert_eq!((before.len(), after.len()), (samples.len(), samples.len()), "{linktype}");
        for (((_, _, expected), before), after) in samples.iter().zip(before).zip(after) {
            let layers: Vec<&str> = before.as_object().unwrap().keys().map(String::as_str).collect();
            for layer in expected.split(':') {
                assert!(layers.contains(&layer), "{linktype} {expected}: tshark found {layers:?}");
            }
            assert_eq!(before, after, "{linktype} {expected}");
        }
    }
}

#[test]
fn tshark_finds_the_sender_of_a_cooked_packet_and_whom_it_was_for() {
    if !has("tshark") {
        return;
    }
    let packets = [cooked2(1, 0x0806, &arp()), cooked2(2, 0x0800, &multicast())];
    let packets = packets.map(|octets| converted(LinkType::SLL2, &octets));
    let folder = folder();
    let path = file(&folder, "cooked.pcap", &capture(LinkType::ETHERNET, &packets));
    let printed = shell(&format!("tshark -r {} -T fields -e eth.src -e eth.dst 2>/dev/null", path.display()));
    let lines: Vec<&str> = printed.lines().collect();
    let expected = ["02:00:00:00:00:07\tff:ff:ff:ff:ff:ff", "02:00:00:00:00:07\t01:00:5e:00:00:fb"];
    assert_eq!(lines, expected);
}

/// Every kind of packet in every linktype that can carry it.
fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (ip, layers) in packets() {
        let four = layers.starts_with("ip:");
        let mut add = |linktype, front: &[u8]| samples.push((linktype, [front, &ip].concat(), layers));
        let (family, protocol, ethertype) =
            if four { (2, [0, 0x21], 0x0800) } else { (30, [0, 0x57], 0x86dd) };
        add(LinkType::RAW, &[]);
        add(if four { LinkType::IPV4 } else { LinkType::IPV6 }, &[]);
        add(LinkType::NULL, &[family, 0, 0, 0]);
        add(LinkType::NULL, &[0, 0, 0, family]);
        add(LinkType::LOOP, &[0, 0, 0, family]);
        add(LinkType::PPP, &[&[0xff, 3][..], &protocol].concat());
        add(LinkType::PPP, &protocol);
        add(LinkType::PPP_HDLC, &[&[0xff, 3][..], &protocol].concat());
        add(LinkType::PPP_HDLC, &[&[0x0f, 0][..], &u16::to_be_bytes(ethertype)].concat());
        let length = u16::to_be_bytes(ip.len() as u16 + 2);
        add(LinkType::PPP_ETHER, &[&[0x11, 0, 0, 7][..], &length, &protocol].concat());
        samples.push((LinkType::SLL, cooked(0, ethertype, &ip), layers));
        samples.push((LinkType::SLL2, cooked2(4, ethertype, &ip), layers));
        let tagged = [&[0x60, 42][..], &u16::to_be_bytes(ethertype), &ip].concat();
        samples.push((LinkType::SLL, cooked(0, 0x8100, &tagged), "vlan"));
        samples.push((LinkType::SLL2, cooked2(0, 0x8100, &tagged), "vlan"));
    }
    for (packet_type, protocol, payload, layers) in
        [(1, 0x0806, arp(), "arp"), (2, 4, spanning_tree(), "llc:stp"), (1, 1, novell(), "ipx")]
    {
        samples.push((LinkType::SLL, cooked(packet_type, protocol, &payload), layers));
        samples.push((LinkType::SLL2, cooked2(packet_type, protocol, &payload), layers));
    }
    samples
}

/// Bare IP packets, and the layers they have.
fn packets() -> Vec<(Vec<u8>, &'static str)> {
    let four = || PacketBuilder::ipv4([10, 1, 2, 3], [192, 168, 1, 9], 63);
    let six = || {
        let address = |last| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
        PacketBuilder::ipv6(address(1), address(2), 62)
    };
    let options = [
        TcpOptionElement::MaximumSegmentSize(1460),
        TcpOptionElement::SelectiveAcknowledgementPermitted,
        TcpOptionElement::Timestamp(77, 78),
        TcpOptionElement::Noop,
        TcpOptionElement::WindowScale(7),
    ];
    let body = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n";
    let written = |write: &dyn Fn(&mut Vec<u8>)| {
        let mut octets = Vec::new();
        write(&mut octets);
        octets
    };
    let tcp = |step: etherparse::PacketBuilderStep<etherparse::IpHeaders>, octets: &mut Vec<u8>| {
        step.tcp(40000, 8080, 7, 1024).syn().options(&options).unwrap().write(octets, &[]).unwrap();
    };
    let data = |step: etherparse::PacketBuilderStep<etherparse::IpHeaders>, octets: &mut Vec<u8>| {
        step.tcp(40000, 8080, 8, 1024).psh().ack(9).write(octets, body).unwrap();
    };
    vec![
        (written(&|octets| tcp(four(), octets)), "ip:tcp"),
        (written(&|octets| data(four(), octets)), "ip:tcp"),
        (written(&|octets| four().udp(40000, 9999).write(octets, body).unwrap()), "ip:udp"),
        (written(&|octets| four().icmpv4_echo_request(5, 6).write(octets, body).unwrap()), "ip:icmp"),
        (multicast(), "ip:udp"),
        (written(&|octets| tcp(six(), octets)), "ipv6:tcp"),
        (written(&|octets| data(six(), octets)), "ipv6:tcp"),
        (written(&|octets| six().udp(40000, 9999).write(octets, body).unwrap()), "ipv6:udp"),
        (written(&|octets| six().icmpv6_echo_request(5, 6).write(octets, body).unwrap()), "ipv6:icmpv6"),
        (written(&|octets| six().udp(40000, 9999).write(octets, &[]).unwrap()), "ipv6:udp"),
    ]
}

fn multicast() -> Vec<u8> {
    let mut octets = Vec::new();
    PacketBuilder::ipv4([10, 1, 2, 3], [224, 0, 0, 251], 1)
        .udp(5353, 9998)
        .write(&mut octets, b"who")
        .unwrap();
    octets
}

/// Who has 10.0.0.9?
fn arp() -> Vec<u8> {
    let front = [0, 1, 8, 0, 6, 4, 0, 1];
    [&front[..], &SENDER, &[10, 0, 0, 7], &[0; 6], &[10, 0, 0, 9]].concat()
}

/// A configuration BPDU behind its 802.2 header.
fn spanning_tree() -> Vec<u8> {
    let mut octets = vec![0x42, 0x42, 3, 0, 0, 0, 0, 0];
    octets.extend_from_slice(&[[0x80, 0, 2, 0, 0, 0, 0, 1].as_slice(), &[0, 0, 0, 4]].concat());
    octets.extend_from_slice(&[0x80, 0, 2, 0, 0, 0, 0, 7, 0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0]);
    octets
}

/// An IPX packet as Novell's bare 802.3 had it: no checksum, 34 octets.
fn novell() -> Vec<u8> {
    let address = [0, 0, 0, 1, 2, 0, 0, 0, 0, 7, 0x40, 3];
    [&[0xff, 0xff, 0, 34, 0, 0][..], &address, &address, &[0x11; 4]].concat()
}

const SENDER: [u8; 6] = [2, 0, 0, 0, 0, 7];

fn cooked(packet_type: u8, protocol: u16, payload: &[u8]) -> Vec<u8> {
    [&[0, packet_type, 0, 1, 0, 6][..], &SENDER, &[0, 0], &protocol.to_be_bytes(), payload].concat()
}

fn cooked2(packet_type: u8, protocol: u16, payload: &[u8]) -> Vec<u8> {
    let middle = [0, 0, 0, 0, 0, 2, 0, 1, packet_type, 6];
    [&protocol.to_be_bytes()[..], &middle, &SENDER, &[0, 0], payload].concat()
}

fn converted(linktype: LinkType, octets: &[u8]) -> Vec<u8> {
    let packet = to_ethernet(linktype, octets, octets.len() as u32, &Addresses::default()).unwrap();
    assert_eq!(packet.origlen as usize, packet.header.len() + packet.payload.len());
    [&packet.header[..], packet.payload].concat()
}

/// A whole capture of packets one second apart.
fn capture(linktype: LinkType, packets: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Format::Pcap.header(linktype);
    for (second, octets) in (1_700_000_000..).zip(packets) {
        let caplen = octets.len() as u32;
        let packet = pcaphub_core::packet::Packet {
            timestamp: Timestamp::new(second, 0),
            interface: InterfaceId(0),
            caplen,
            origlen: caplen,
            offset: 0,
            options_offset: 0,
            options_len: 0,
        };
        Format::Pcap.record(&mut out, &packet, octets, &[], Resolution::MICROS);
    }
    out
}

/// All that tshark finds in each packet behind its link layer.
fn decoded(linktype: LinkType, packets: &[Vec<u8>]) -> Vec<Value> {
    let folder = folder();
    let path = file(&folder, "packets.pcap", &capture(linktype, packets));
    let checks = "-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE";
    let printed = shell(&format!("tshark -r {} {checks} -T json 2>/dev/null", path.display()));
    let packets: Vec<Value> = serde_json::from_str(&printed).unwrap();
    let inner = |packet: &Value| {
        let mut layers = packet["_source"]["layers"].clone();
        OUTER.iter().for_each(|layer| drop(layers.as_object_mut().unwrap().remove(*layer)));
        layers
    };
    packets.iter().map(inner).collect()
}

#[test]
fn a_pcap_stream_of_ethernet_carries_bare_ip_packets_as_ethernet_and_counts_what_it_cannot() {
    let folder = folder();
    let begin = 1_700_000_000_000_000;
    let ethernet = harness::packets(1, 10, begin, 10);
    let bare = harness::packets(2, 10, begin + 5, 10);
    let raw: Vec<u8> = header(101)
        .into_iter()
        .chain(bare.iter().flat_map(|packet| {
            record(&Packet { micros: packet.micros, octets: packet.octets[14..].to_vec() })
        }))
        .collect();
    let eth = file(&folder, "eth.pcap", &pcap(&ethernet));
    let raw = file(&folder, "raw.pcap", &raw);
    // DVB has no way to be Ethernet.
    let other = [header(235), record(&harness::packets(3, 1, begin, 1)[0])].concat();
    let other = file(&folder, "other.pcap", &other);
    let [eth, raw, other] = [&eth, &raw, &other].map(|path| path.to_str().unwrap());

    let output = run(&["cat", eth, raw, other, "--format", "pcap", "--stats", "json"], b"");
    let carried = read_pcap(&output.stdout);
    assert_eq!(carried.len(), 20);
    let (mine, converted): (Vec<_>, Vec<_>) =
        carried.iter().partition(|packet| packet.octets[6] == 2 && packet.octets[11] == 1);
    assert!(mine.iter().zip(&ethernet).all(|(got, sent)| got.octets == sent.octets));
    assert!(converted.iter().zip(&bare).all(|(got, sent)| got.octets[12..] == sent.octets[12..]));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts = closed(said.lines().find(|line| line.starts_with("{\"sources\"")).unwrap());
    assert_eq!(counts["departed"]["dropped"]["linktype_mismatch"], 1);

    let out = folder.path().join("out.pcap");
    let asked = run(&["pipe", raw, "--to", out.to_str().unwrap(), "--opt", "linktype=ethernet"], b"");
    assert!(asked.status.success());
    let octets = std::fs::read(out).unwrap();
    assert_eq!(octets[..24], header(1));
    assert_eq!(read_pcap(&octets).len(), 10);
}
