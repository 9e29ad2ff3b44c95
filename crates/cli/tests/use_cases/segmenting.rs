//! Segments of a super-packet are a stream that tshark finds nothing wrong with.

use etherparse::{PacketBuilder, TcpOptionElement};
use pcaphub_core::segment::segments;

use crate::harness::*;

const MTU: usize = 1500;

/// A super-packet in Ethernet with a VLAN tag, with the checksums that offloading leaves behind.
fn super_packet(six: bool, payload: &[u8]) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let link = link.single_vlan(42.try_into().unwrap());
    let ip =
        if six { link.ipv6([0x20; 16], [0x21; 16], 60) } else { link.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 60) };
    let options = [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(1, 2)];
    // Near the end of the sequence space, so that it wraps.
    let tcp = ip.tcp(40000, 9998, u32::MAX - 20_000, 1000).ack(99).psh().fin().options(&options).unwrap();
    let mut octets = Vec::new();
    tcp.write(&mut octets, &[]).unwrap();
    let headers = octets.len();
    octets.extend_from_slice(payload);
    // BIG TCP: no length says it all.
    octets[if six { 22 } else { 20 }..][..2].copy_from_slice(&[0, 0]);
    octets[headers - 16..headers - 14].copy_from_slice(&[0xde, 0xad]);
    octets
}

#[test]
fn tshark_finds_right_checksums_and_one_whole_stream() {
    if !has("tshark") {
        return;
    }
    let payload: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
    for six in [false, true] {
        let octets = super_packet(six, &payload);
        let mut segments = segments(&octets, octets.len() as u32, MTU).unwrap();
        let (mut packets, mut packet) = (Vec::new(), Vec::new());
        while segments.write_next(&mut packet) {
            let micros = 1_700_000_000_000_000 + packets.len() as u64;
            packets.push(Packet { micros, octets: packet.clone() });
        }
        let folder = folder();
        let path = file(&folder, "segments.pcap", &pcap(&packets));
        let path = path.display();
        let checks = "-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE";
        let wrong =
            "ip.checksum.status == 0 or tcp.checksum.status != 1 or tcp.analysis.flags or _ws.malformed";
        assert_eq!(shell(&format!("tshark -r {path} {checks} -Y '{wrong}'")), "");
        let fields = "-e tcp.payload -e tcp.flags.fin -e ip.id -e vlan.id -e tcp.options.timestamp.tsval";
        let printed = shell(&format!("tshark -r {path} {checks} -T fields {fields}"));
        let lines: Vec<Vec<&str>> = printed.lines().map(|line| line.split('\t').collect()).collect();
        assert_eq!(lines.len(), packets.len());
        let stream: String = lines.iter().map(|line| line[0]).collect();
        assert_eq!(stream, payload.iter().map(|octet| format!("{octet:02x}")).collect::<String>());
        for (number, line) in lines.iter().enumerate() {
            let identification = if six { String::new() } else { format!("0x{number:04x}") };
            let fin = if number + 1 == lines.len() { "1" } else { "0" };
            assert_eq!(line[1..], [fin, identification.as_str(), "42", "1"]);
        }
    }
}
