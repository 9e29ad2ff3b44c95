//! `pcaphub replay`, beside tcpdump on the other end of the cable.

use std::net::TcpStream;
use std::time::Duration;

use crate::harness::*;
use crate::network::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// A capture at the other end of the cable: a hub of its own, and its client.
fn receiver(network: &Network) -> (Hub, TcpStream) {
    let hub = network.b.hub(&["serve", "-i", "vb", "-f", "not ip6", "--listen", "127.0.0.1:0"], 1);
    let mut client = network.b.connect(hub.client());
    read_exact(&mut client, 24);
    (hub, client)
}

/// Replays on host a; the last counts.
fn replay(network: &Network, arguments: &[&str]) -> serde_json::Value {
    let mut hub = network.a.hub(&[&["replay"], arguments].concat(), 0);
    let (status, counts) = hub.ended();
    assert!(status.success(), "{:?}", hub.said());
    counts
}

#[test]
fn every_packet_arrives_as_it_was_and_the_counts_agree_with_the_interfaces() {
    let Some(network) = network() else { return };
    let folder = folder();
    let capture = packets(1, 5000, BEGIN, 10);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let (hub, mut client) = receiver(&network);
    let before = (network.a.count("va", "tx_packets"), network.b.count("vb", "rx_packets"));
    let counts = replay(&network, &[path.to_str().unwrap(), "va", "--pace", "max"]);
    assert_eq!(counts["departed"]["delivered"], 5000);
    let after = (network.a.count("va", "tx_packets"), network.b.count("vb", "rx_packets"));
    assert_eq!((after.0 - before.0, after.1 - before.1), (5000, 5000));
    let arrived = packets_until(&mut client, 5000, |_| true);
    assert!(arrived.iter().zip(&capture).all(|(arrived, sent)| arrived.octets == sent.octets));
    hub.stop();
}

#[test]
fn packets_keep_their_distances_and_none_is_early() {
    let Some(network) = network() else { return };
    let folder = folder();
    let capture = packets(1, 100, BEGIN, 10_000);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    for (pace, divisor) in [(&[][..], 1), (&["--pace", "2x"], 2)] {
        let (hub, mut client) = receiver(&network);
        replay(&network, &[&[path.to_str().unwrap(), "va"], pace].concat());
        let arrived = packets_until(&mut client, 100, |_| true);
        for (sent, arrived_at) in capture.iter().zip(&arrived) {
            let due = (sent.micros - BEGIN) / divisor;
            let came = arrived_at.micros - arrived[0].micros;
            // The first one may itself have been late.
            assert!(came + 50_000 >= due, "{came} µs, due {due} µs");
        }
        hub.stop();
    }
}

#[test]
fn what_is_over_the_mtu_is_counted_or_cut() {
    let Some(network) = network() else { return };
    if !has("tshark") {
        return;
    }
    let folder = folder();
    let mut tcp = Vec::new();
    let payload: Vec<u8> = (0..9000u32).map(|n| n as u8).collect();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 10], [2, 0, 0, 0, 0, 11])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 99], 64)
        .tcp(1000, 2000, 7, 100)
        .write(&mut tcp, &payload)
        .unwrap();
    let capture = [
        Packet { micros: BEGIN, octets: tcp },
        Packet { micros: BEGIN + 1, octets: datagram(1, 1, 3000) },
        Packet { micros: BEGIN + 2, octets: datagram(1, 2, 100) },
        Packet { micros: BEGIN + 3, octets: vec![1; 10] },
    ];
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let path = path.to_str().unwrap();
    let (hub, mut client) = receiver(&network);

    let counts = replay(&network, &[path, "va"]);
    let departed = &counts["departed"];
    assert_eq!(
        (&departed["delivered"], &departed["dropped"]["over_mtu"]),
        (&1.into(), &2.into()),
        "{counts}"
    );
    assert_eq!(departed["dropped"]["too_short"], 1);
    assert_eq!(next_packet(&mut client).octets, capture[2].octets);

    let counts = replay(&network, &[path, "va", "--oversize", "segment"]);
    assert_eq!(counts["departed"]["delivered"], 2);
    let segments: Vec<Packet> = (0..7).map(|_| next_packet(&mut client)).collect();
    assert!(segments.iter().all(|segment| segment.octets.len() <= 1514));
    let joined: Vec<u8> = segments.iter().flat_map(|segment| segment.octets[54..].to_vec()).collect();
    assert!(joined == payload, "{} octets of {}", joined.len(), payload.len());
    let checked = file(&folder, "segments.pcap", &pcap(&segments));
    let printed = shell(&format!(
        "tshark -o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -r {} -T fields -e ip.checksum.status -e tcp.checksum.status 2>/dev/null",
        checked.display()
    ));
    assert!(printed.lines().count() == 7 && printed.lines().all(|line| line == "1\t1"), "{printed}");
    assert_eq!(next_packet(&mut client).octets, capture[2].octets);

    let counts = replay(&network, &[path, "va", "--oversize", "truncate"]);
    assert_eq!(counts["departed"]["delivered"], 3);
    assert_eq!(next_packet(&mut client).octets, capture[0].octets[..1514]);
    hub.stop();
}

#[test]
fn packets_without_an_ethernet_header_get_one() {
    let Some(network) = network() else { return };
    let folder = folder();
    let ip = datagram(1, 1, 100)[14..].to_vec();
    let octets = [header(101), record(&Packet { micros: BEGIN, octets: ip.clone() })].concat();
    let path = file(&folder, "raw.pcap", &octets);
    let (hub, mut client) = receiver(&network);
    let addresses = ["--mac-src", "02:00:00:00:00:77", "--mac-dst", "02:00:00:00:00:0b"];
    replay(&network, &[&[path.to_str().unwrap(), "va"], &addresses[..]].concat());
    let header = [2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x77, 8, 0];
    assert_eq!(next_packet(&mut client).octets, [&header[..], &ip].concat());
    hub.stop();
}

#[test]
fn a_tap_is_made_packets_come_in_on_it_and_it_is_taken_away() {
    let Some(network) = network() else { return };
    if !has("tcpdump") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 50, BEGIN, 40_000)));
    let out = folder.path().join("out.pcap");
    let mut hub = network.a.hub(&["replay", path.to_str().unwrap(), "tap7", "--create", "tap"], 0);
    wait_until("the interface is there", || network.a.shell("ls /sys/class/net").contains("tap7"));
    let tcpdump = network.a.start(&["tcpdump", "-i", "tap7", "-Q", "in", "-U", "-w", out.to_str().unwrap()]);
    assert!(hub.ended().0.success(), "{:?}", hub.said());
    tcpdump.interrupt();
    let seen = read_pcap(&std::fs::read(&out).unwrap());
    assert!(!seen.is_empty() && seen.iter().all(|packet| packet.octets[11] == 1), "{seen:?}");
    assert!(!network.a.shell("ls /sys/class/net").contains("tap7"));
    let taken = run_on(&network.a, &["replay", path.to_str().unwrap(), "va", "--create", "tap"]);
    assert!(taken.contains("already"), "{taken}");
}

/// What a command says that fails.
fn run_on(host: &Host, arguments: &[&str]) -> String {
    let words = [&[env!("CARGO_BIN_EXE_pcaphub")], arguments].concat();
    let output = host.command(&words).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn it_does_not_send_where_it_captures_unless_forced() {
    let Some(network) = network() else { return };
    for source in ["va", "any"] {
        let refused = run_on(&network.a, &["pipe", "-i", source, "--to", "if:va"]);
        assert!(refused.contains("force=yes"), "{refused}");
    }
    let mut hub = network.a.hub(&["pipe", "-i", "va", "-f", "udp port 1", "--to", "if:va?force=yes"], 0);
    hub.wait_for("source if:va");
    hub.stop();
}

#[test]
fn an_interface_that_goes_down_is_waited_for() {
    let Some(network) = network() else { return };
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 200, BEGIN, 10_000)));
    let before = network.a.count("va", "tx_packets");
    let mut hub = network.a.hub(&["replay", path.to_str().unwrap(), "va"], 0);
    wait_until("it sends", || network.a.count("va", "tx_packets") > before + 20);
    network.a.shell("ip link set va down");
    hub.wait_for("the interface is down");
    network.a.shell("ip link set va up");
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 200);
}

#[test]
fn told_to_stop_it_stops_at_once_and_counts_what_it_did_not_send() {
    let Some(network) = network() else { return };
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 100, BEGIN, 1_000_000)));
    let mut hub = network.a.hub(&["replay", path.to_str().unwrap(), "va"], 0);
    hub.wait_for("ended after 100 packets");
    let begun = std::time::Instant::now();
    let (status, counts) = hub.stop();
    assert!(status.success() && begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let departed = &counts["departed"];
    assert_eq!(departed["delivered"].as_u64().unwrap() + sum(&departed["dropped"]), 100, "{counts}");
}

#[test]
fn tcpreplay_through_a_capture_arrives_as_from_the_file() {
    let Some(network) = network() else { return };
    if !has("tcpreplay") {
        return;
    }
    let folder = folder();
    let capture = packets(1, 1000, BEGIN, 10);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let (hub, mut client) = receiver(&network);
    network.a.run(&["tcpreplay", "-q", "--pps", "20000", "-i", "va", path.to_str().unwrap()]);
    let arrived = packets_until(&mut client, 1000, |_| true);
    assert!(arrived.iter().zip(&capture).all(|(arrived, sent)| arrived.octets == sent.octets));
    hub.stop();
}
