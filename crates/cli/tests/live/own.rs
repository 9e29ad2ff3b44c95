//! The hub's own traffic never enters: not on the link where its clients sit, not on loopback, not
//! inside a VLAN; and what only looks like it does.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::*;
use crate::network::*;

/// What clients got that the network did not carry on the test's behalf: nothing, if it is well.
fn strangers(packets: &[Packet]) -> Vec<&Packet> {
    packets.iter().filter(|packet| !is_datagram(packet)).collect()
}

/// Reads whatever comes, in the background, as a client that only counts.
fn swallow(mut client: TcpStream) {
    std::thread::spawn(move || while client.read(&mut [0; 65536]).is_ok_and(|n| n > 0) {});
}

/// Sends datagrams, and expects every one of them and nothing else at a client of a hub.
fn nothing_but_datagrams(network: &Network, client: &mut TcpStream, to: &str) {
    for _ in 0..5 {
        network.a.send(to, 20);
        let packets = packets_until(client, 20, is_datagram);
        assert!(strangers(&packets).is_empty(), "{:?}", strangers(&packets));
    }
}

#[test]
fn clients_on_the_captured_link_do_not_beget_packets() {
    let Some(network) = network() else { return };
    // A listener of the sink's own address, of every address, of IPv6.
    for (listen, connect, filter) in [
        ("10.99.0.2:0", "10.99.0.2", "not ip6"),
        ("0.0.0.0:0", "10.99.0.2", "not ip6"),
        ("[::]:0", "[fd00::2]", "not icmp and not icmp6 and not ip6[6] = 0"),
        ("[::]:0", "10.99.0.2", "not icmp and not icmp6 and not ip6[6] = 0"),
    ] {
        let mut hub =
            network.b.hub(&["serve", "-i", "vb", "-f", filter, "--listen", listen, "--allow", "any"], 1);
        let address = format!("{connect}:{}", hub.client().port()).parse().unwrap();
        swallow(network.a.connect(address));
        let mut client = network.a.connect(address);
        read_exact(&mut client, 24);
        nothing_but_datagrams(&network, &mut client, "10.99.0.2:9");
        let counts = hub.counts();
        assert_eq!(counts["sources"][0]["decoded"], 100, "{listen}: {counts}");
        hub.stop();
    }
}

#[test]
fn a_client_at_an_address_that_no_interface_has_begets_no_packets_either() {
    let Some(network) = network() else { return };
    network.b.run(&["ip", "route", "add", "local", "10.77.0.0/16", "dev", "lo"]);
    let words = ["serve", "-i", "lo", "-f", "not icmp", "--listen", "0.0.0.0:0", "--allow", "any"];
    let hub = network.b.hub(&words, 1);
    let mut client = network.b.connect(format!("10.77.1.1:{}", hub.client().port()).parse().unwrap());
    read_exact(&mut client, 24);
    network.b.send("127.0.0.1:9", 50);
    let packets = packets_until(&mut client, 50, is_datagram);
    // Its handshake was before anybody could know.
    assert!(strangers(&packets).len() <= 3, "{:?}", strangers(&packets));
    hub.stop();
}

#[test]
fn loopback_and_all_interfaces_are_captured_without_the_clients_there() {
    let Some(network) = network() else { return };
    for interface in ["lo", "any"] {
        let mut hub = network.b.hub(
            &["serve", "-i", interface, "-f", "not icmp", "--listen", "127.0.0.1:0", "--format", "pcap"],
            1,
        );
        swallow(network.b.connect(hub.client()));
        let mut client = network.b.connect(hub.client());
        read_exact(&mut client, 24);
        network.b.send("127.0.0.1:9", 50);
        let packets = packets_until(&mut client, 50, is_datagram);
        assert!(strangers(&packets).is_empty(), "{interface}: {:?}", strangers(&packets));
        assert_eq!(hub.counts()["sources"][0]["decoded"], 50);
        hub.stop();
    }
}

#[test]
fn what_is_dialled_is_left_out_too_from_the_first_packet_on_and_again_after_each_reconnection() {
    let Some(network) = network() else { return };
    let analyzer = network.a.listen("10.99.0.1:0");
    let sensor = network.a.listen("10.99.0.1:0");
    let push = format!("tcp://{}", analyzer.local_addr().unwrap());
    let dial = format!("tcp://{}", sensor.local_addr().unwrap());
    let hub = network
        .b
        .hub(&["serve", "-i", "vb", "-f", "not ip6", &dial, "--to", &push, "--listen", "127.0.0.1:0"], 1);
    let mut client = network.b.connect(hub.client());
    read_exact(&mut client, 24);
    for _ in 0..3 {
        let (mut pushed, _) = analyzer.accept().unwrap();
        let (mut from, _) = sensor.accept().unwrap();
        from.write_all(&header(1)).unwrap();
        from.write_all(&record(&packets(7, 1, 1, 1)[0])).unwrap();
        pushed.set_read_timeout(Some(DEADLINE)).unwrap();
        read_exact(&mut pushed, 24);
        network.a.send("10.99.0.2:9", 20);
        let seen = packets_until(&mut client, 20, is_datagram);
        let others: Vec<_> = strangers(&seen).into_iter().filter(|packet| packet.octets[11] != 7).collect();
        assert!(others.is_empty(), "{others:?}");
        // Both come back, from other ports.
    }
    drop(hub);
}

#[test]
fn the_same_ports_of_others_are_captured() {
    let Some(network) = network() else { return };
    let hub = network.b.hub(&["serve", "-i", "vb", "--listen", "10.99.0.2:0", "--allow", "any"], 1);
    let port = hub.client().port();
    let mut client = network.a.connect(hub.client());
    read_exact(&mut client, 24);
    let listener = network.a.listen(&format!("10.99.0.1:{port}"));
    let address = listener.local_addr().unwrap();
    let other = network.b.connect(address);
    let to_port = |packet: &Packet| {
        let tcp = packet.octets.get(34..38).unwrap_or_default();
        packet.octets.get(23) == Some(&6)
            && (tcp[..2] == port.to_be_bytes() || tcp[2..] == port.to_be_bytes())
    };
    packets_until(&mut client, 3, to_port);
    drop(other);
    hub.stop();
}

#[test]
fn packets_of_others_are_captured_however_short_or_damaged_their_headers_are() {
    let Some(network) = network() else { return };
    let ethernet =
        |kind: &[u8], rest: &[u8]| [&[2, 0, 0, 0, 0, 0x0b, 2, 0, 0, 0, 0, 0x0a], kind, rest].concat();
    let v4 = |first: u8, protocol: u8| {
        let head = [first, 0, 0, 40, 0, 1, 0, 0, 64, protocol, 0, 0];
        [&head[..], &[192, 0, 2, 1], &[192, 0, 2, 2]].concat()
    };
    let v6 = [&[0x60, 0, 0, 0, 0, 20, 6, 64][..], &[0x20; 32]].concat();
    let padded = |mut octets: Vec<u8>| {
        octets.resize(60, 0);
        octets
    };
    let sent = [
        ethernet(&[8, 0], &v4(0x45, 6)[..4]),
        ethernet(&[8, 0], &v4(0x45, 6)),
        ethernet(&[8, 0], &[&v4(0x45, 6)[..], &[0, 80]].concat()),
        // Its header has more octets than the packet.
        padded(ethernet(&[8, 0], &v4(0x4f, 6))),
        ethernet(&[0x86, 0xdd], &v6[..4]),
        ethernet(&[0x86, 0xdd], &v6),
        // The third tag leaves no room for the ports.
        ethernet(&[0x81, 0, 0, 5, 0x81, 0, 0, 5, 0x81, 0, 0, 5, 0x86, 0xdd], &v6[..34]),
        ethernet(&[8, 6], &[1, 2]),
    ];
    for interface in ["vb", "any"] {
        let hub = network.b.hub(&["serve", "-i", interface, "--listen", "127.0.0.1:0"], 1);
        let mut client = network.b.connect(hub.client());
        read_exact(&mut client, 24);
        send_packets(&network, &sent);
        let skip = if interface == "any" { 14 } else { 0 };
        for octets in &sent {
            let wanted = &octets[skip..];
            packets_until(&mut client, 1, |packet| packet.octets.ends_with(wanted));
        }
        hub.stop();
    }
}

#[test]
fn connections_of_others_on_loopback_are_captured_whatever_ports_they_share_with_ours() {
    let Some(network) = network() else { return };
    let sensor = network.b.listen("127.0.0.1:0");
    let dial = format!("tcp://{}", sensor.local_addr().unwrap());
    for interface in ["lo", "any"] {
        let words = ["serve", "-i", interface, "-f", "tcp", &dial, "--listen", "127.0.0.1:0"];
        let hub = network.b.hub(&words, 1);
        let (_dialled, from) = sensor.accept().unwrap();
        let mut client = network.b.connect(hub.client());
        read_exact(&mut client, 24);
        // The port at which the hub listens, and the one from which it has dialled: each at another address.
        for port in [hub.client().port(), from.port()] {
            let other = network.b.listen(&format!("127.0.0.9:{port}"));
            let address = other.local_addr().unwrap();
            let _stranger = network.b.connect(address);
            let has_port = |packet: &Packet| packet.octets.windows(2).any(|part| part == port.to_be_bytes());
            let is_there = |packet: &Packet| packet.octets.windows(4).any(|part| part == [127, 0, 0, 9]);
            let seen = packets_until(&mut client, 3, |packet| has_port(packet) && is_there(packet));
            assert!(seen.iter().all(is_there), "{interface}: {seen:?}");
        }
        hub.stop();
    }
}

#[test]
fn traffic_of_clients_inside_a_vlan_is_left_out_and_that_of_others_is_not() {
    let Some(network) = network() else { return };
    let filter = "not ip6 and not (tcp and not vlan)";
    let hub =
        network.b.hub(&["serve", "-i", "vb", "-f", filter, "--listen", "10.99.0.2:0", "--allow", "any"], 1);
    let mut client = network.a.connect(hub.client());
    read_exact(&mut client, 24);
    let segment = |tags: usize, port: u16| {
        let mut octets = Vec::new();
        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x0a], [2, 0, 0, 0, 0, 0x0b])
            .ipv4([10, 99, 0, 1], [10, 99, 0, 2], 64)
            .tcp(40_000, port, 1, 1000)
            .write(&mut octets, b"segment")
            .unwrap();
        for tag in 0..tags {
            octets.splice(12..12, [0x81, 0, 0, tag as u8]);
        }
        octets
    };
    let (ours, other) = (hub.client().port(), hub.client().port() ^ 1);
    let packets: Vec<_> = (1..=2).flat_map(|tags| [segment(tags, ours), segment(tags, other)]).collect();
    send_packets(&network, &[packets.clone(), vec![tagged(5, 1, 9)]].concat());
    let seen = packets_until(&mut client, 1, is_datagram);
    let seen: Vec<_> = strangers(&seen).into_iter().map(|packet| packet.octets.clone()).collect();
    assert_eq!(seen, [packets[1].clone(), packets[3].clone()]);
    hub.stop();
}

#[test]
fn an_address_that_the_machine_gets_later_is_left_out_as_well() {
    let Some(network) = network() else { return };
    let hub =
        network.b.hub(&["serve", "-i", "vb", "-f", "not ip6", "--listen", "0.0.0.0:0", "--allow", "any"], 1);
    network.b.shell("ip addr add 10.99.0.77/24 dev vb");
    network.a.shell("ip neigh replace 10.99.0.77 lladdr 02:00:00:00:00:0b dev va nud permanent");
    let address = format!("10.99.0.77:{}", hub.client().port()).parse().unwrap();
    let mut client = network.a.connect(address);
    read_exact(&mut client, 24);
    network.a.send("10.99.0.2:9", 20);
    packets_until(&mut client, 20, is_datagram);
    nothing_but_datagrams(&network, &mut client, "10.99.0.2:9");
    hub.stop();
}

#[test]
fn a_relay_that_cannot_be_told_from_others_raises_one_warning_that_names_the_cure() {
    let Some(network) = network() else { return };
    if !has("socat") {
        return;
    }
    let mut hub = network.b.hub(&["serve", "-i", "vb", "--listen", "127.0.0.1:0"], 1);
    let relay = network.b.start(&[
        "socat",
        "TCP-LISTEN:7000,reuseaddr",
        &format!("TCP:127.0.0.1:{}", hub.client().port()),
    ]);
    let mut client = None;
    wait_until("the relay listens", || {
        client = network.a.inside(|| TcpStream::connect("10.99.0.2:7000").ok());
        client.is_some()
    });
    hub.wait_for("connected");
    swallow(client.unwrap());
    let ping = network.a.start(&["ping", "-i", "0.05", "-c", "1200", "10.99.0.2"]);
    let warning = hub.wait_for("it brings back what this hub sends");
    assert!(warning.contains("filter="), "{warning}");
    drop((ping, relay));
    hub.stop();
}
