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
    let capture = packets(1, 200, BEGIN, 10_000);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let path = path.to_str().unwrap();
    let ways: [(&[&str], u64); 4] = [
        (&[path, "va"], 1),
        (&[path, "va", "--pace", "2x"], 2),
        // On the wire nobody sees what time they have.
        (&[path, "--opt", "time=now", "va"], 1),
        (&[path, "va", "--opt", "time=now"], 1),
    ];
    for (words, divisor) in ways {
        let (hub, mut client) = receiver(&network);
        replay(&network, words);
        let arrived = packets_until(&mut client, 200, |_| true);
        let late = |(sent, arrived_at): (&Packet, &Packet)| {
            let due = (sent.micros - BEGIN) / divisor;
            arrived_at.micros as i64 - arrived[0].micros as i64 - due as i64
        };
        let late: Vec<i64> = capture.iter().zip(&arrived).map(late).collect();
        // Those that the machine lets go on time; others may be late, by what it has else to do.
        let usual = |part: &[i64]| median(part.to_vec());
        let earliest = usual(&late) - late.iter().min().unwrap();
        assert!(earliest < 2_000, "one is early by {earliest} µs: {late:?}");
        let drift = usual(&late[150..]) - usual(&late[..50]);
        assert!(drift.abs() < 2_000, "they drift by {drift} µs: {late:?}");
        let very_late = late.iter().filter(|one| **one > usual(&late) + 20_000).count();
        assert!(very_late < 20, "{late:?}");
        hub.stop();
    }
}

fn median(mut numbers: Vec<i64>) -> i64 {
    numbers.sort_unstable();
    numbers[numbers.len() / 2]
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
    assert_eq!(departed["delivered_octets"], capture[2].octets.len());
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

/// A TCP packet behind tags.
fn super_packet(tags: &[u8], payload: usize) -> Vec<u8> {
    let mut octets = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 10], [2, 0, 0, 0, 0, 11])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 99], 64)
        .tcp(1000, 2000, 7, 100)
        .write(&mut octets, &vec![b'.'; payload])
        .unwrap();
    octets.splice(12..12, tags.iter().copied());
    octets
}

#[test]
fn super_packets_behind_any_tags_are_sent_and_each_is_counted_once() {
    let Some(network) = network() else { return };
    let folder = folder();
    let (vlan, provider) = ([0x81, 0, 0, 6], [0x88, 0xa8, 0, 5]);
    for tags in [&vlan[..], &provider, &[provider, vlan].concat(), &[vlan, vlan].concat()] {
        // One that is just at the limit of the network layer, too.
        let sizes = [20_000, 20_000, 20_000, 1458];
        let capture: Vec<Packet> = (0..4)
            .map(|n| Packet { micros: BEGIN + n, octets: super_packet(tags, sizes[n as usize]) })
            .collect();
        let path = file(&folder, "in.pcap", &pcap(&capture));
        let path = path.to_str().unwrap();
        let (hub, mut client) = receiver(&network);
        let counts = replay(&network, &[path, "va", "--pace", "max", "--oversize", "segment"]);
        assert_eq!(counts["departed"]["delivered"], 4, "{tags:?}: {counts}");
        let mut carried = 0;
        while carried < sizes.iter().sum::<usize>() {
            let octets = next_packet(&mut client).octets;
            assert_eq!(octets[12..12 + tags.len()], *tags);
            carried += octets.len() - 54 - tags.len();
        }
        assert_eq!(carried, sizes.iter().sum::<usize>());
        let counts = replay(&network, &[path, "va", "--pace", "max", "--oversize", "truncate"]);
        assert_eq!(counts["departed"]["delivered"], 4, "{tags:?}: {counts}");
        hub.stop();
    }
}

#[test]
fn an_mtu_that_changes_under_way_is_what_packets_are_cut_to_from_then_on() {
    let Some(network) = network() else { return };
    let folder = folder();
    let packet = |n: u64| Packet { micros: BEGIN + n * 10_000, octets: super_packet(&[], 9000) };
    let path = file(&folder, "in.pcap", &pcap(&(0..300).map(packet).collect::<Vec<_>>()));
    let path = path.to_str().unwrap();
    for (oversize, mtu, least, most) in [("segment", 1000, 300, 300), ("drop", 9500, 50, 299)] {
        network.a.shell("ip link set va mtu 1500");
        network.b.shell("ip link set vb mtu 9500");
        let mut hub = network.a.hub(&["replay", path, "va", "--oversize", oversize], 0);
        hub.wait_for("in.pcap");
        wait_until("it is at work", || {
            let counts = hub.counts();
            let sink = &counts["subscribers"][0];
            sink["delivered"].as_u64().unwrap_or(0) + sum(&sink["dropped"]) > 20
        });
        network.a.shell(&format!("ip link set va mtu {mtu}"));
        let (status, counts) = hub.ended();
        assert!(status.success());
        let departed = &counts["departed"];
        let (delivered, lost) = (departed["delivered"].as_u64().unwrap(), sum(&departed["dropped"]));
        assert_eq!(delivered + lost, 300, "{counts}");
        assert!((least..=most).contains(&delivered), "{oversize}: {counts}");
    }
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
    let capture = packets(1, 50, BEGIN, 1000);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let [out, go, done] = ["out.pcap", "go", "done"].map(|name| folder.path().join(name));
    // Nothing comes before tcpdump is there, and the interface stays until it has all.
    let until = |file: &std::path::Path| format!("until [ -e {} ]; do sleep 0.05; done", file.display());
    let source = format!("sh:{}; cat {}; {}", until(&go), path.display(), until(&done));
    let mut hub = network.a.hub(&["replay", &source, "tap7", "--create", "tap"], 0);
    wait_until("the interface is there", || network.a.shell("ls /sys/class/net").contains("tap7"));
    let tcpdump = network.a.start(&["tcpdump", "-i", "tap7", "-Q", "in", "-U", "-w", out.to_str().unwrap()]);
    wait_until("tcpdump captures", || std::fs::metadata(&out).is_ok_and(|file| file.len() >= 24));
    std::fs::write(&go, "").unwrap();
    let whole = std::fs::metadata(&path).unwrap().len();
    wait_until("tcpdump has all", || std::fs::metadata(&out).unwrap().len() >= whole);
    std::fs::write(&done, "").unwrap();
    assert!(hub.ended().0.success(), "{:?}", hub.said());
    tcpdump.interrupt();
    let seen = read_pcap(&std::fs::read(&out).unwrap());
    assert!(
        seen.iter().map(|packet| &packet.octets).eq(capture.iter().map(|packet| &packet.octets)),
        "{seen:?}"
    );
    assert!(!network.a.shell("ls /sys/class/net").contains("tap7"));
    let taken = run_on(&network.a, &["replay", path.to_str().unwrap(), "va", "--create", "tap"]);
    assert!(taken.contains("already"), "{taken}");
    for name in ["tap%d", "a/b", "a b", "a-name-of-16-oct"] {
        let refused = run_on(&network.a, &["replay", path.to_str().unwrap(), name, "--create", "tap"]);
        assert!(refused.contains("a name has 1 to 15 octets"), "{refused}");
    }
    let refused = run_on(&network.a, &["replay", path.to_str().unwrap(), "any"]);
    assert!(refused.contains("sent on one interface") && !refused.contains("create=tap"), "{refused}");
}

#[test]
fn a_tap_that_is_taken_away_under_way_is_made_again() {
    let Some(network) = network() else { return };
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 200, BEGIN, 10_000)));
    let mut hub = network.a.hub(&["replay", path.to_str().unwrap(), "tap8", "--create", "tap"], 0);
    let there = || network.a.shell("ls /sys/class/net").contains("tap8");
    wait_until("packets come in on it", || there() && network.a.count("tap8", "rx_packets") > 10);
    network.a.shell("ip link del tap8");
    // On its way to be gone it is down.
    hub.wait_for("trying again");
    wait_until("it is there again", there);
    let (status, counts) = hub.ended();
    assert!(status.success(), "{:?}", hub.said());
    assert_eq!(counts["departed"]["delivered"], 200);
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
    // It has another name, too.
    network.a.shell("ip link property add dev va altname cable");
    for source in ["va", "any", "cable"] {
        let refused = run_on(&network.a, &["pipe", "-i", source, "--to", "if:va", "--duration", "2s"]);
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
    hub.wait_for("the interface is up again");
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 200);
}

#[test]
fn an_interface_without_a_carrier_is_waited_for() {
    let Some(network) = network() else { return };
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 200, BEGIN, 100)));
    network.b.shell("ip link set vb down");
    let carrier = || network.a.shell("cat /sys/class/net/va/operstate");
    wait_until("there is no carrier", || carrier().trim() != "up");
    let mut hub = network.a.hub(&["replay", path.to_str().unwrap(), "va"], 0);
    hub.wait_for("the interface is without a carrier");
    let before = network.b.count("vb", "rx_packets");
    network.b.shell("ip link set vb up");
    hub.wait_for("the interface is up again");
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 200);
    assert!(network.b.count("vb", "rx_packets") >= before + 200);
    let told = hub.said().iter().filter(|line| line.contains("without a carrier")).count();
    assert_eq!(told, 1, "{:?}", hub.said());
}

#[test]
fn while_the_interfaces_queue_is_full_no_processor_time_is_spent() {
    let Some(network) = network() else { return };
    if !has("tc") {
        return;
    }
    let folder = folder();
    // At a million bits a second.
    network.a.shell("tc qdisc replace dev va root tbf rate 1mbit burst 10kb limit 20kb");
    let capture: Vec<_> =
        (0..250).map(|number| Packet { micros: BEGIN, octets: datagram(1, number, 1000) }).collect();
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let before = network.b.count("vb", "rx_packets");
    let mut hub = network.a.hub(&["replay", path.to_str().unwrap(), "va", "--pace", "max"], 0);
    wait_until("most arrive", || network.b.count("vb", "rx_packets") >= before + 200);
    let used = hub.processor_time();
    assert!(used < Duration::from_millis(500), "{used:?} of more than a second");
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 250);
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

#[test]
fn a_sink_that_waits_for_the_one_before_to_let_go_starts_also_after_another_reload() {
    let Some(network) = network() else { return };
    let folder = folder();
    let base = "stats = \"json\"\n[[source]]\nendpoint = \"demo:\"\nrate = 10000\n";
    let sink = |pace: &str| format!("{base}[[sink]]\nendpoint = \"if:va\"\npace = \"{pace}\"\n");
    let more = "[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n";
    let path = file(&folder, "hub.toml", sink("100pps").as_bytes());
    let words = [env!("CARGO_BIN_EXE_pcaphub"), "run", path.to_str().unwrap()];
    let mut hub = Hub::spawn(network.a.command(&words), 0);
    hub.wait_for("source demo");
    let change = |hub: &mut Hub, text: String| {
        std::fs::write(&path, text).unwrap();
        hub.signal(rustix::process::Signal::HUP);
        hub.wait_for("read again");
    };
    wait_until("it sends", || hub.counts()["subscribers"][0]["delivered"].as_u64().is_some_and(|n| n > 10));
    // The one before has more to send than it may in five seconds.
    change(&mut hub, sink("900pps"));
    let sinks = |hub: &mut Hub, what: &str| {
        let counts = hub.counts();
        counts["sinks"].as_array().unwrap().iter().filter(|sink| sink[what] == true).count()
    };
    assert_eq!((sinks(&mut hub, "leaving"), sinks(&mut hub, "waiting")), (1, 1));
    change(&mut hub, sink("900pps") + more);
    assert_eq!((sinks(&mut hub, "leaving"), sinks(&mut hub, "waiting")), (1, 1));
    // And what takes the place of one that waits, waits for the same.
    change(&mut hub, sink("800pps"));
    assert_eq!((sinks(&mut hub, "leaving"), sinks(&mut hub, "waiting")), (1, 1));
    wait_until("it has started", || sinks(&mut hub, "leaving") + sinks(&mut hub, "waiting") == 0);
    let sent = |hub: &mut Hub| hub.counts()["subscribers"][0]["delivered"].as_u64().unwrap_or(0);
    wait_until("it sends, too", || sent(&mut hub) > 100);
    assert!(hub.stop().0.success());
}
