//! A hub reading from a hub, three deep: what comes out is what went in.

use crate::harness::*;

/// A pcapng block: type, body, both lengths.
fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (body.len() + 12) as u32;
    [&kind.to_le_bytes()[..], &length.to_le_bytes(), body, &length.to_le_bytes()].concat()
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = [code.to_le_bytes(), (value.len() as u16).to_le_bytes()].concat();
    octets.extend_from_slice(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    octets
}

fn interface(linktype: u16, name: &str, resolution: u8) -> Vec<u8> {
    let mut body = [linktype.to_le_bytes(), [0, 0]].concat();
    body.extend(65535u32.to_le_bytes());
    body.extend(option(2, name.as_bytes()));
    body.extend(option(3, b"a description"));
    body.extend(option(9, &[resolution]));
    body.extend([0; 4]);
    block(1, &body)
}

fn enhanced(interface: u32, time: u64, octets: &[u8], comment: &str) -> Vec<u8> {
    let length = octets.len() as u32;
    let words = [interface, (time >> 32) as u32, time as u32, length, length + 10];
    let mut body: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    body.extend_from_slice(octets);
    body.resize(body.len().next_multiple_of(4), 0);
    body.extend(option(1, comment.as_bytes()));
    body.extend(option(2, &1u32.to_le_bytes()));
    body.extend([0; 4]);
    block(6, &body)
}

/// Two interfaces of different linktype and resolution, packets with comments and flags.
fn capture() -> Vec<u8> {
    let mut octets =
        block(0x0A0D_0D0A, &[0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]);
    octets.extend(interface(1, "eth0", 9));
    octets.extend(interface(101, "tun0", 6));
    for number in 0..40u64 {
        let (nanos, micros) =
            (1_700_000_000_000_000_123 + number * 2_000_000, 1_700_000_000_001_000 + number * 2000);
        octets.extend(enhanced(0, nanos, &datagram(1, number as u32, 61), &format!("ethernet {number}")));
        octets.extend(enhanced(1, micros, &datagram(2, number as u32, 62)[14..], &format!("raw {number}")));
    }
    octets
}

#[test]
fn three_hubs_deep_packets_times_interfaces_and_comments_are_the_sources() {
    if !has("tshark") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "in.pcapng", &capture());
    let first =
        Hub::start(&["serve", path.to_str().unwrap(), "--format", "pcapng", "--listen", "127.0.0.1:0"], 1);
    let next = |hub: &Hub| {
        let source = format!("tcp://{}?reconnect=no", hub.client());
        Hub::start(
            &["serve", &source, "--format", "pcapng", "--on-slow", "wait", "--listen", "127.0.0.1:0"],
            1,
        )
    };
    let second = next(&first);
    let mut third = next(&second);
    let out = file(&folder, "out.pcapng", &read_all(third.client()));
    let (status, counts) = third.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 80);

    let fields = "-T fields -e frame.time_epoch -e frame.len -e frame.cap_len -e frame.interface_id -e frame.interface_name \
                  -e frame.interface_description -e frame.encap_type -e frame.comment -e frame.packet_flags -e udp.payload";
    let shown = |path: &std::path::Path| shell(&format!("tshark -r {} {fields}", path.display()));
    let (before, after) = (shown(&path), shown(&out));
    assert_eq!(before.lines().count(), 80, "{before}");
    assert!(
        before.contains("eth0") && before.contains("ethernet 39") && before.contains(".000000123"),
        "{before}"
    );
    assert_eq!(before, after);
}
