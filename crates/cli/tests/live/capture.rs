//! `if:NAME` as a source, beside tcpdump on the same interface.

use std::io::BufRead;
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::*;
use crate::network::*;

/// Starts a hub on host b that captures, with a client that has its header.
fn capturing(network: &Network, arguments: &[&str]) -> (Hub, std::net::TcpStream, Vec<u8>) {
    let words = [&["serve"], arguments, &["--listen", "127.0.0.1:0"]].concat();
    let hub = network.b.hub(&words, 1);
    let mut client = network.b.connect(hub.client());
    let header = read_exact(&mut client, 24);
    (hub, client, header)
}

#[test]
fn every_packet_on_the_wire_is_delivered_or_counted() {
    let Some(network) = network() else { return };
    let before = network.b.count("vb", "rx_packets");
    let (mut hub, mut client, header) = capturing(&network, &["-i", "vb"]);
    assert_eq!(header, crate::harness::header(1));
    network.a.send("10.99.0.2:9", 20_000);
    let sent = network.b.count("vb", "rx_packets") - before;
    assert_eq!(sent, 20_000);
    // What comes back, because nobody listens there, goes out on vb.
    wait_until("all is counted", || hub.counts()["sources"][0]["decoded"].as_u64().unwrap() >= sent);
    let received = packets_until(&mut client, 20_000, is_datagram);
    assert!(received.windows(2).all(|pair| pair[0].micros <= pair[1].micros));
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(sum(&counts["sources"][0]["dropped"]), 0, "{counts}");
}

#[test]
fn it_sees_octet_for_octet_what_tcpdump_sees_vlan_tags_and_ipv6_too() {
    let Some(network) = network() else { return };
    if !has("tcpdump") {
        return;
    }
    let folder = folder();
    let theirs = folder.path().join("theirs.pcap");
    let tcpdump = network.b.start(&["tcpdump", "-i", "vb", "-U", "-w", theirs.to_str().unwrap()]);
    wait_until("tcpdump captures", || std::fs::metadata(&theirs).is_ok_and(|file| file.len() >= 24));
    let (hub, mut client, _) = capturing(&network, &["-i", "vb"]);
    network.a.send("10.99.0.2:9", 5);
    send_packets(&network, &(0..50).map(|number| tagged(5, number, 9)).collect::<Vec<_>>());
    network.a.send("[fd00::2]:9", 50);
    network.a.send("10.99.0.2:10", 50);
    let ours = packets_until(&mut client, 155, is_datagram);
    wait_until("tcpdump has them too", || {
        read_pcap_leniently(&std::fs::read(&theirs).unwrap()).iter().filter(|p| is_datagram(p)).count() == 155
    });
    tcpdump.interrupt();
    hub.stop();
    let datagrams = |packets: Vec<Packet>| -> Vec<Vec<u8>> {
        packets.into_iter().filter(is_datagram).map(|packet| packet.octets).collect()
    };
    let theirs = datagrams(read_pcap_leniently(&std::fs::read(&theirs).unwrap()));
    assert_eq!(datagrams(ours), theirs);
    assert!(theirs.iter().any(|octets| octets[12..16] == [0x81, 0, 0, 5]), "tags are there");
}

/// The whole packets of a file that is being written.
fn read_pcap_leniently(octets: &[u8]) -> Vec<Packet> {
    let mut end = 24;
    while let Some(head) = octets.get(end..end + 16) {
        let length = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        if end + 16 + length > octets.len() {
            break;
        }
        end += 16 + length;
    }
    read_pcap(&octets[..end])
}

#[test]
fn all_interfaces_at_once_are_cooked_and_loopback_comes_once() {
    let Some(network) = network() else { return };
    if !has("tshark") {
        return;
    }
    let (hub, mut client, header) = capturing(&network, &["-i", "any"]);
    assert_eq!(header, crate::harness::header(276));
    network.a.send("10.99.0.2:9", 10);
    network.b.send("127.0.0.1:9", 10);
    let packets = packets_until(&mut client, 20, is_datagram);
    let folder = folder();
    let octets: Vec<u8> = header.into_iter().chain(packets.iter().flat_map(record)).collect();
    let path = file(&folder, "any.pcap", &octets);
    let printed = shell(&format!(
        "tshark -r {} -Y 'udp and not icmp' -T fields -e sll.ifindex -e ip.dst 2>/dev/null",
        path.display()
    ));
    let to = |address: &str| printed.lines().filter(|line| line.ends_with(address)).count();
    assert_eq!((to("10.99.0.2"), to("127.0.0.1")), (10, 10), "{printed}");
    hub.stop();
}

#[test]
fn that_an_interface_is_down_from_the_beginning_is_told_once() {
    let Some(network) = network() else { return };
    network.b.shell("ip link set vb down");
    let (mut hub, _client, _) = capturing(&network, &["-i", "vb"]);
    let mut away = |what: &str, why: serde_json::Value| {
        wait_until(what, || hub.counts()["sources"][0]["away"] == why);
    };
    away("the counts tell that it is down", "the interface is down".into());
    network.b.shell("ip link set vb up");
    away("they tell that it is up, also before packets come", serde_json::Value::Null);
    wait_until("packets come", || {
        network.a.shell("ip neigh replace 10.99.0.2 lladdr 02:00:00:00:00:0b dev va nud permanent");
        network.a.send("10.99.0.2:9", 1);
        hub.counts()["sources"][0]["decoded"] != 0
    });
    hub.signal(rustix::process::Signal::INT);
    assert!(hub.ended().0.success());
    let told = hub.said().iter().filter(|line| line.contains("packets come when it is up")).count();
    assert_eq!(told, 1, "{:?}", hub.said());
}

#[test]
fn an_interface_may_go_down_come_up_go_away_and_come_back() {
    let Some(network) = network() else { return };
    let (mut hub, mut client, _) = capturing(&network, &["-i", "vb"]);
    let mut passes = |hub: &mut Hub| {
        // The first ones may be sent before the interface is quite there.
        let mut came = 0;
        wait_until("datagrams come", || {
            network.a.shell("ip neigh replace 10.99.0.2 lladdr 02:00:00:00:00:0b dev va nud permanent");
            network.a.send("10.99.0.2:9", 1);
            came = hub.counts()["sources"][0]["decoded"].as_u64().unwrap();
            client.set_nonblocking(true).unwrap();
            let there = client.peek(&mut [0; 1]).is_ok();
            client.set_nonblocking(false).unwrap();
            there
        });
        while {
            client.set_nonblocking(true).unwrap();
            client.peek(&mut [0; 16]).is_ok()
        } {
            client.set_nonblocking(false).unwrap();
            next_packet(&mut client);
        }
        client.set_nonblocking(false).unwrap();
    };
    passes(&mut hub);
    network.b.shell("ip link set vb down");
    hub.wait_for("the interface is down");
    network
        .b
        .shell("ip link set vb up; ip neigh replace 10.99.0.1 lladdr 02:00:00:00:00:0a dev vb nud permanent");
    passes(&mut hub);
    if !hub.said().iter().any(|line| line.contains("up again")) {
        hub.wait_for("up again");
    }
    network.b.shell("ip link del vb");
    hub.wait_for("the interface is gone");
    let (a, b) = (network.a.namespace(), network.b.namespace());
    root(&format!(
        "ip -n {a} link add va address 02:00:00:00:00:0a type veth peer name vb address 02:00:00:00:00:0b netns {b}
         ip -n {a} addr add {A}/24 dev va; ip -n {b} addr add {B}/24 dev vb
         ip -n {a} link set va up; ip -n {b} link set vb up"
    ));
    passes(&mut hub);
    assert!(hub.stop().0.success());
}

#[test]
fn what_the_kernel_had_no_room_for_is_counted() {
    let Some(network) = network() else { return };
    let before = network.b.count("vb", "rx_packets");
    let (mut hub, client, _) =
        capturing(&network, &["-i", "vb", "-B", "1024", "-f", "udp port 9 and dst host 10.99.0.2"]);
    hub.signal(Signal::STOP);
    network.a.send("10.99.0.2:9", 20_000);
    hub.signal(Signal::CONT);
    let sent = network.b.count("vb", "rx_packets") - before;
    let mut counts = serde_json::Value::Null;
    wait_until("all is counted", || {
        counts = hub.counts();
        counts["sources"][0]["decoded"] == sent
    });
    let dropped = counts["sources"][0]["dropped"]["kernel"].as_u64().unwrap();
    assert!((1..sent).contains(&dropped), "{counts}");
    assert_eq!(counts["sources"][0]["forwarded"].as_u64().unwrap() + dropped, sent);
    drop(client);
    hub.stop();
}

#[test]
fn several_rings_share_the_packets_and_none_comes_twice() {
    let Some(network) = network() else { return };
    let folder = folder();
    let out = folder.path().join("out.pcap");
    let sockets: Vec<std::net::UdpSocket> = (0..30).map(|_| network.a.socket()).collect();
    let sent = std::sync::atomic::AtomicU32::new(0);
    let [slowly, enough] = [false, false].map(std::sync::atomic::AtomicBool::new);
    let order = std::sync::atomic::Ordering::Relaxed;
    let while_all_were_there = std::thread::scope(|scope| {
        // Flows go to a ring each: many flows, from before the first ring is there until after the last one.
        // Many packets come while one after the other begins.
        scope.spawn(|| {
            let pause = std::time::Duration::from_micros(50);
            while !enough.load(order) && sent.load(order) < 1_000_000 {
                let number = sent.fetch_add(1, order);
                let octets = format!("datagram {number:08}");
                sockets[number as usize % 30].send_to(octets.as_bytes(), "[::ffff:10.99.0.2]:9").unwrap();
                if slowly.load(order) {
                    std::thread::sleep(pause);
                }
            }
        });
        let source = "if:vb?rings=32&buffer=64MiB&filter=udp%20port%209";
        let mut hub = network.b.hub(&["pipe", source, "--to", out.to_str().unwrap()], 0);
        hub.wait_for("source if:vb");
        slowly.store(true, order);
        let decoded = |ring: &serde_json::Value| ring["decoded"].as_u64().unwrap();
        let all = |counts: &serde_json::Value| {
            counts["sources"].as_array().unwrap().iter().map(decoded).sum::<u64>()
        };
        wait_until("it has what came fast", || all(&hub.counts()) > 0);
        let before = sent.load(order);
        let mut counts = serde_json::Value::Null;
        wait_until("many have come", || {
            counts = hub.counts();
            sent.load(order) > before + 5000
        });
        let rings = counts["sources"].as_array().unwrap();
        assert_eq!(rings.len(), 32);
        let busy = rings.iter().filter(|ring| ring["decoded"].as_u64().unwrap() > 0).count();
        assert!(busy > 5, "{counts}");
        let while_all_were_there = before..sent.load(order);
        let last = sent.load(order) + 1000;
        wait_until("more was sent", || sent.load(order) > last);
        hub.stop();
        enough.store(true, order);
        while_all_were_there
    });
    let number = |packet: &Packet| {
        let at = packet.octets.windows(9).position(|part| part == b"datagram ").unwrap() + 9;
        String::from_utf8_lossy(&packet.octets[at..at + 8]).parse::<u32>().unwrap()
    };
    let mut numbers: Vec<u32> = read_pcap(&std::fs::read(&out).unwrap()).iter().map(number).collect();
    numbers.sort_unstable();
    assert!(numbers.windows(2).all(|pair| pair[0] < pair[1]), "some came twice");
    numbers.retain(|number| while_all_were_there.contains(number));
    assert_eq!(numbers.len(), while_all_were_there.len(), "some are missing");
}

#[test]
fn packets_of_several_rings_are_in_one_order_by_time() {
    let Some(network) = network() else { return };
    let folder = folder();
    let out = folder.path().join("out.pcap");
    let source = "if:vb?rings=2&filter=udp%20port%209";
    let to = ["--to", out.to_str().unwrap(), "--format", "pcap-ns", "--hold", "10s"];
    let mut hub = network.b.hub(&[&["pipe", source], &to[..]].concat(), 0);
    hub.wait_for("source if:vb");
    // Flows go to a ring each, and packets of both come in the same millisecond.
    let sockets: Vec<std::net::UdpSocket> = (0..30).map(|_| network.a.socket()).collect();
    for number in 0..3000 {
        sockets[number % 30].send_to(b"datagram", "[::ffff:10.99.0.2]:9").unwrap();
        std::thread::sleep(std::time::Duration::from_micros(100));
    }
    let decoded = |counts: &serde_json::Value| -> Vec<u64> {
        let rings = counts["sources"].as_array().unwrap().iter();
        rings.map(|ring| ring["decoded"].as_u64().unwrap()).collect()
    };
    let mut rings = Vec::new();
    wait_until("all are captured", || {
        rings = decoded(&hub.counts());
        rings.iter().sum::<u64>() == 3000
    });
    assert!(rings.len() == 2 && rings.iter().all(|decoded| *decoded > 0), "{rings:?}");
    assert!(hub.stop().0.success());
    // Little-endian seconds and nanoseconds before each record's two lengths.
    let octets = std::fs::read(&out).unwrap();
    let mut at = 24;
    let mut times = Vec::new();
    while let Some(record) = octets.get(at..at + 16) {
        let word = |at: usize| u32::from_le_bytes(record[at..at + 4].try_into().unwrap());
        times.push((word(0), word(4)));
        at += 16 + word(8) as usize;
    }
    assert_eq!(times.len(), 3000);
    assert_eq!(times.windows(2).filter(|pair| pair[0] > pair[1]).count(), 0, "packets go back in time");
}

/// Microseconds since 1970.
fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

#[test]
fn packets_come_at_once_where_latency_is_to_be_low_and_long_ones_come_whole() {
    let Some(network) = network() else { return };
    network.a.shell("ip link set va mtu 9500");
    network.b.shell("ip link set vb mtu 9500");
    let (hub, mut client, _) = capturing(&network, &["if:vb?latency=low&promiscuous=no&filter=udp"]);
    let mut delays: Vec<i64> = (0..200)
        .map(|_| {
            network.a.send("10.99.0.2:9", 1);
            let packet = next_packet(&mut client);
            now() - packet.micros as i64
        })
        .collect();
    delays.sort_unstable();
    // In blocks it would be a millisecond at least.
    assert!(delays[100] < 1000, "{} µs, at best {}", delays[100], delays[0]);
    let socket = network.a.inside(|| std::net::UdpSocket::bind("0.0.0.0:0").unwrap());
    socket.send_to(&[b'.'; 9000], "10.99.0.2:9").unwrap();
    assert_eq!(next_packet(&mut client).octets.len(), 42 + 9000);
    hub.stop();
}

#[test]
fn a_filter_sees_the_whole_packet_and_snaplen_cuts_what_it_keeps() {
    let Some(network) = network() else { return };
    for latency in ["normal", "low"] {
        let source = format!("if:vb?latency={latency}");
        let (mut hub, mut client, _) = capturing(&network, &["-s", "20", "-f", "udp port 9", &source]);
        network.a.send("10.99.0.2:10", 40);
        network.a.send("10.99.0.2:9", 40);
        let packets = packets_until(&mut client, 40, |_| true);
        assert!(packets.iter().all(|packet| packet.octets.len() == 20));
        assert_eq!(hub.counts()["sources"][0]["forwarded"], 40);
        hub.stop();
    }
}

#[test]
fn an_interface_that_comes_back_as_what_it_was_is_captured_again() {
    let Some(network) = network() else { return };
    let (mut hub, mut client, _) = capturing(&network, &["-i", "vb", "-f", "udp port 9"]);
    let index = || network.b.shell("cat /sys/class/net/vb/ifindex");
    let (before, b) = (index(), network.b.namespace());
    network.b.shell("ip link set vb down");
    hub.wait_for("the interface is down");
    // As when a container has it for a while. It keeps its index.
    let elsewhere = format!("{b}-elsewhere");
    root(&format!(
        "ip netns add {elsewhere}
         ip -n {b} link set vb netns {elsewhere}
         ip -n {elsewhere} link set vb netns {b}
         ip netns del {elsewhere}
         ip -n {b} link set vb up"
    ));
    assert_eq!(index(), before);
    hub.wait_for("the interface is gone");
    wait_until("it is captured again", || {
        network.a.send("10.99.0.2:9", 1);
        hub.counts()["sources"][0]["decoded"].as_u64().unwrap() > 0
    });
    assert!(is_datagram(&next_packet(&mut client)));
    hub.stop();
}

#[test]
fn packets_of_all_interfaces_have_every_vlan_tag_where_they_come_and_where_they_go() {
    let Some(network) = network() else { return };
    let (vlan, provider) = ([0x81, 0, 0, 6], [0x88, 0xa8, 0, 5]);
    let tags = [vec![], vlan.to_vec(), provider.to_vec(), [provider, vlan].concat(), [vlan, vlan].concat()];
    let sent: Vec<Vec<u8>> = tags
        .iter()
        .map(|tags| {
            let mut octets = tagged(7, 1, 9);
            octets.splice(12..16, tags.iter().copied());
            octets
        })
        .collect();
    let hub = |host: &Host| {
        let hub = host.hub(&["serve", "-i", "any", "--listen", "127.0.0.1:0"], 1);
        let mut client = host.connect(hub.client());
        read_exact(&mut client, 24);
        (hub, client)
    };
    let (there, here) = (hub(&network.a), hub(&network.b));
    send_packets(&network, &sent);
    for (hub, mut client) in [there, here] {
        let mut seen = packets_until(&mut client, sent.len(), is_datagram);
        seen.retain(is_datagram);
        for (seen, sent) in seen.iter().zip(&sent) {
            assert_eq!(seen.octets[..2], sent[12..14]);
            assert_eq!(seen.octets[20..], sent[14..]);
        }
        hub.stop();
    }
}

#[test]
fn an_interface_is_promiscuous_unless_told_otherwise_and_packets_are_cut() {
    let Some(network) = network() else { return };
    let promiscuous = || network.b.run(&["ip", "-d", "link", "show", "vb"]).contains("promiscuity 1");
    assert!(!promiscuous());
    let (hub, _client, _) = capturing(&network, &["-i", "vb"]);
    assert!(promiscuous());
    hub.stop();
    let (hub, mut client, _) = capturing(&network, &["-i", "vb", "-p", "-s", "60"]);
    assert!(!promiscuous());
    network.a.send("10.99.0.2:9", 100);
    let packets = packets_until(&mut client, 50, |packet| packet.octets.len() == 60);
    assert!(packets.iter().all(|packet| packet.octets.len() <= 60));
    hub.stop();
}

#[test]
fn without_the_right_it_says_which_one_and_how_to_grant_it() {
    if !may_capture() || !has("setpriv") {
        return;
    }
    let folder = folder();
    // Where everybody may run it.
    let program = folder.path().join("pcaphub");
    std::fs::copy(env!("CARGO_BIN_EXE_pcaphub"), &program).unwrap();
    std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for sink in [&["serve", "-i", "lo"][..], &["replay", "-r", "/dev/null", "lo"]] {
        let output = std::process::Command::new("setpriv")
            .args(["--reuid", "65534", "--clear-groups", "--regid", "65534"])
            .arg(&program)
            .args(sink)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(77), "{said}");
        for way in ["CAP_NET_RAW", "setcap", "AmbientCapabilities", "root"] {
            assert!(said.contains(way), "{way}: {said}");
        }
    }
}

#[test]
fn an_interface_that_is_none_is_told_with_where_to_look() {
    if !may_capture() {
        return;
    }
    let output = run(&["serve", "-i", "nosuchif", "--listen", "127.0.0.1:0"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("pcaphub interfaces"));
}

#[test]
fn a_page_fetched_with_curl_is_seen_whole() {
    let Some(network) = network() else { return };
    if !has("curl") || !has("socat") || !has("tshark") {
        return;
    }
    let folder = folder();
    let script = "while read -r line && [ ${#line} -gt 1 ]; do :; done; printf 'HTTP/1.0 200 OK\\r\\n\\r\\n'; seq 5000";
    let script = file(&folder, "serve.sh", script.as_bytes());
    let command = format!("EXEC:sh {}", script.display());
    let server = network.b.start(&["socat", "TCP-LISTEN:8080,reuseaddr,fork", &command]);
    let (hub, mut client, header) = capturing(&network, &["-i", "vb", "-f", "tcp port 8080"]);
    let mut page = String::new();
    wait_until("the page is there", || {
        let curl = network.a.command(&["curl", "-s", "http://10.99.0.2:8080/page"]).output().unwrap();
        page = String::from_utf8_lossy(&curl.stdout).into_owned();
        curl.status.success() && !page.is_empty()
    });
    assert!(page.ends_with("5000\n"), "{page}");
    let fin = |packet: &Packet| packet.octets.get(47).is_some_and(|flags| flags & 1 != 0);
    let packets = packets_until(&mut client, 2, fin);
    let octets: Vec<u8> = header.into_iter().chain(packets.iter().flat_map(record)).collect();
    let path = file(&folder, "page.pcap", &octets);
    let decoded = shell(&format!(
        "tshark -r {} -d tcp.port==8080,http -Y http.response -T fields -e http.file_data 2>/dev/null | tail -1",
        path.display()
    ));
    assert!(decoded.contains("4999"), "{decoded}");
    drop(server);
    hub.stop();
}

#[test]
fn tshark_shows_live_packets_with_no_further_option() {
    let Some(network) = network() else { return };
    if !has("tshark") {
        return;
    }
    let mut hub = network.b.hub(&["serve", "-i", "vb", "--listen", "127.0.0.1:0"], 1);
    let capture = format!("TCP@127.0.0.1:{}", hub.client().port());
    let mut tshark = network
        .b
        .command(&["tshark", "-l", "-i", &capture, "-a", "duration:40", "-Y", "udp.dstport == 9"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    hub.wait_for("connected");
    let enough = std::sync::atomic::AtomicBool::new(false);
    let shown: Vec<String> = std::thread::scope(|scope| {
        // It has its header when it is connected, and looks at its pipe a little later.
        scope.spawn(|| {
            while !enough.load(std::sync::atomic::Ordering::Relaxed) {
                network.a.send("10.99.0.2:9", 1);
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
        });
        let lines = std::io::BufReader::new(tshark.stdout.take().unwrap()).lines();
        let shown = lines.map_while(Result::ok).take(10).collect();
        enough.store(true, std::sync::atomic::Ordering::Relaxed);
        shown
    });
    tshark.kill().unwrap();
    tshark.wait().unwrap();
    assert_eq!(shown.len(), 10, "{shown:?}");
    assert!(shown.iter().all(|line| line.contains("10.99.0.1") && line.contains("UDP")), "{shown:?}");
    hub.stop();
}
