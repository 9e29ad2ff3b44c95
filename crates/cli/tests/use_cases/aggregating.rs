//! Several sources, one time-ordered stream: what no other tool does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::*;

const SECOND: u64 = 1_000_000;
const BEGIN: u64 = 1_700_000_000 * SECOND;

fn read_record(client: &mut TcpStream) -> Packet {
    let header = read_exact(client, 16);
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap());
    let octets = read_exact(client, word(8) as usize);
    Packet { micros: u64::from(word(0)) * SECOND + u64::from(word(4)), octets }
}

fn dialled(producers: &[&Producer], more: &[&str]) -> Hub {
    let sources: Vec<_> =
        producers.iter().map(|producer| format!("tcp://127.0.0.1:{}", producer.port())).collect();
    let mut arguments: Vec<&str> = vec!["serve"];
    arguments.extend(sources.iter().map(String::as_str));
    arguments.extend(["--listen", "127.0.0.1:0"]);
    arguments.extend(more);
    Hub::start(&arguments, 1)
}

#[test]
fn two_live_sensors_become_one_stream_in_time_order() {
    let (a, b) = (Producer::new(), Producer::new());
    let hub = dialled(&[&a, &b], &["--hold", "2s"]);
    let mut client = connect(hub.client());
    let (mut first, mut second) = (a.accept(), b.accept());
    let (odd, even) = (packets(1, 50, BEGIN, 2000), packets(2, 50, BEGIN + 1000, 2000));
    // The later packets arrive first; hold is longer than the time between the two writes.
    second.write_all(&pcap(&even)).unwrap();
    first.write_all(&pcap(&odd)).unwrap();
    read_exact(&mut client, 24);
    let got: Vec<_> = (0..100).map(|_| read_record(&mut client)).collect();
    let mut expected = [odd, even].concat();
    expected.sort_by_key(|packet| packet.micros);
    assert_eq!(got, expected);
    hub.stop();
}

#[test]
fn a_packet_is_out_within_hold_and_a_little() {
    let (a, b) = (Producer::new(), Producer::new());
    let hub = dialled(&[&a, &b], &["--hold", "100ms"]);
    let mut client = connect(hub.client());
    let (mut first, mut second) = (a.accept(), b.accept());
    first.write_all(&header(1)).unwrap();
    second.write_all(&header(1)).unwrap();
    read_exact(&mut client, 24);
    let mut delays = Vec::new();
    for packet in packets(1, 11, BEGIN, 1000) {
        let sent = Instant::now();
        first.write_all(&record(&packet)).unwrap();
        assert_eq!(read_record(&mut client), packet);
        delays.push(sent.elapsed());
    }
    delays.sort();
    // The median, since a shared machine may pause for a moment.
    assert!(delays[5] >= Duration::from_millis(95), "it waits for the idle source: {delays:?}");
    assert!(delays[5] <= Duration::from_millis(150), "and not for longer: {delays:?}");
    hub.stop();
}

#[test]
fn clients_do_not_notice_a_source_that_goes_and_comes() {
    let (a, b) = (Producer::new(), Producer::new());
    let mut hub = dialled(&[&a, &b], &["--hold", "20ms"]);
    let mut client = connect(hub.client());
    let (mut first, mut second) = (a.accept(), b.accept());
    let capture = packets(1, 3, BEGIN, 1000);
    first.write_all(&header(1)).unwrap();
    second.write_all(&header(1)).unwrap();
    read_exact(&mut client, 24);
    first.write_all(&record(&capture[0])).unwrap();
    assert_eq!(read_record(&mut client), capture[0]);
    // In mid-record: what came of it must never be forwarded.
    first.write_all(&record(&capture[1])[..20]).unwrap();
    drop(first);
    hub.wait_for("trying again");
    let mut again = a.accept();
    again.write_all(&header(1)).unwrap();
    again.write_all(&record(&capture[2])).unwrap();
    assert_eq!(read_record(&mut client), capture[2]);
    second.write_all(&record(&packets(2, 1, BEGIN + 5000, 1)[0])).unwrap();
    assert_eq!(read_record(&mut client).micros, BEGIN + 5000);
    let counts = hub.counts();
    assert_eq!(counts["sources"][0]["opened"], 2);
    hub.stop();
}

#[test]
fn pcapng_keeps_every_linktype_and_names_interfaces_after_their_sources() {
    if !has("tshark") {
        return;
    }
    let (a, b) = (Producer::new(), Producer::new());
    let sources = [
        format!("tcp://127.0.0.1:{}?name=office", a.port()),
        format!("tcp://127.0.0.1:{}?name=plant&reconnect=no", b.port()),
    ];
    let arguments =
        ["serve", &sources[0], &sources[1], "--listen", "127.0.0.1:0", "--format", "pcapng", "--hold", "2s"];
    let hub = Hub::start(&arguments, 1);
    let mut client = connect(hub.client());
    // Whoever has the header has joined.
    let begin = read_exact(&mut client, 12);
    let (mut first, mut second) = (a.accept(), b.accept());
    let mut raw = Packet { micros: BEGIN + 1000, octets: datagram(2, 1, 60)[14..].to_vec() };
    first.write_all(&pcap(&packets(1, 2, BEGIN, 2000))).unwrap();
    second.write_all(&[header(101), record(&raw)].concat()).unwrap();
    raw.micros += 5000;
    second.write_all(&record(&raw)).unwrap();
    let out = folder();
    let path = out.path().join("out.pcapng");
    let reading = std::thread::spawn(move || {
        let mut octets = begin;
        client.read_to_end(&mut octets).unwrap();
        octets
    });
    let mut hub = hub;
    wait_until("all are forwarded", || {
        let counts = hub.counts();
        counts["sources"][0]["forwarded"] == 2 && counts["sources"][1]["forwarded"] == 2
    });
    hub.stop();
    std::fs::write(&path, reading.join().unwrap()).unwrap();
    let fields = "-T fields -e frame.interface_name -e frame.encap_type -e frame.time_epoch -e udp.dstport";
    let printed = shell(&format!("tshark -r {} {fields}", path.display()));
    let lines: Vec<_> = printed.lines().collect();
    assert_eq!(lines.len(), 4, "{printed}");
    assert_eq!(lines[0], "office\t1\t1700000000.000000000\t9999", "{printed}");
    assert_eq!(lines[1], "plant\t7\t1700000000.001000000\t9999", "{printed}");
    assert!(lines[2].starts_with("office\t1\t1700000000.002"), "{printed}");
    assert!(lines[3].starts_with("plant\t7\t1700000000.006"), "{printed}");
}

#[test]
fn a_pcap_stream_keeps_its_one_linktype_and_counts_what_it_drops() {
    let (a, b) = (Producer::new(), Producer::new());
    let mut hub = dialled(&[&a, &b], &["--hold", "20ms"]);
    let mut client = connect(hub.client());
    let (mut first, mut second) = (a.accept(), b.accept());
    let capture = packets(1, 2, BEGIN, 1_000_000);
    first.write_all(&header(1)).unwrap();
    assert_eq!(read_exact(&mut client, 24), header(1));
    first.write_all(&record(&capture[0])).unwrap();
    assert_eq!(read_record(&mut client), capture[0]);
    let raw = Packet { micros: BEGIN + 10, octets: datagram(2, 1, 60)[14..].to_vec() };
    // DVB-CI, of which no Ethernet can be made.
    second.write_all(&[header(235), record(&raw)].concat()).unwrap();
    let line = hub.wait_for("cannot be in a pcap stream");
    assert!(line.contains("--format pcapng"), "{line}");
    first.write_all(&record(&capture[1])).unwrap();
    assert_eq!(read_record(&mut client), capture[1]);
    let counts = hub.counts();
    assert_eq!(counts["subscribers"][0]["dropped"]["linktype_mismatch"], 1);
    second.write_all(&record(&raw)).unwrap();
    wait_until("another is dropped", || hub.counts()["subscribers"][0]["dropped"]["linktype_mismatch"] == 2);
    hub.signal(rustix::process::Signal::INT);
    hub.ended();
    let lines = hub.said().iter().filter(|line| line.contains("cannot be in a pcap stream")).count();
    assert_eq!(lines, 1, "{:?}", hub.said());
}

#[test]
fn exact_order_waits_for_every_source_until_it_ends() {
    let (a, b) = (Producer::new(), Producer::new());
    let sources = [a.port(), b.port()].map(|port| format!("tcp://127.0.0.1:{port}"));
    let reading = std::thread::spawn(move || {
        run(&["cat", &sources[0], &sources[1], "--order", "exact", "--format", "pcap"], b"")
    });
    let (odd, even) = (packets(1, 2000, BEGIN, 2000), packets(2, 2000, BEGIN + 1000, 2000));
    let mut first = a.accept();
    first.write_all(&pcap(&odd)).unwrap();
    drop(first);
    let mut second = b.accept();
    second.write_all(&pcap(&even)).unwrap();
    drop(second);
    let output = reading.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut expected = [odd, even].concat();
    expected.sort_by_key(|packet| packet.micros);
    assert!(read_pcap(&output.stdout) == expected);
}

#[test]
fn the_same_packets_from_two_taps_go_out_once() {
    let folder = folder();
    let capture = packets(1, 100, BEGIN, 1000);
    let late: Vec<_> =
        capture.iter().map(|p| Packet { micros: p.micros + 300, octets: p.octets.clone() }).collect();
    let (a, b) = (file(&folder, "a.pcap", &pcap(&capture)), file(&folder, "b.pcap", &pcap(&late)));
    let output = run(
        &[
            "cat",
            a.to_str().unwrap(),
            b.to_str().unwrap(),
            "--format",
            "pcap",
            "--dedup",
            "1ms",
            "--stats",
            "json",
        ],
        b"",
    );
    assert_eq!(read_pcap(&output.stdout), capture);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let counts = closed(said.lines().find(|line| line.starts_with('{')).unwrap());
    assert_eq!(counts["departed"]["dropped"]["duplicate"], 100);
}

#[test]
fn a_clock_that_is_off_is_put_right() {
    let folder = folder();
    let path = file(&folder, "a.pcap", &pcap(&packets(1, 3, BEGIN, 1000)));
    let output = run(&["cat", path.to_str().unwrap(), "--opt", "clock-offset=-1.5s"], b"");
    assert_eq!(read_pcap(&output.stdout), packets(1, 3, BEGIN - 1_500_000, 1000));
}

#[test]
fn names_and_both_address_families_are_dialled() {
    // localhost has both addresses; the producer listens on the second one only.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let octets = pcap(&packets(1, 5, BEGIN, 1000));
    let sent = octets.clone();
    let producing = std::thread::spawn(move || listener.accept().unwrap().0.write_all(&sent).unwrap());
    let output = run(&["cat", &format!("tcp://localhost:{port}")], b"");
    producing.join().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == octets);

    let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else {
        eprintln!("SKIPPED: no IPv6 on loopback");
        return;
    };
    let port = listener.local_addr().unwrap().port();
    let sent = octets.clone();
    let producing = std::thread::spawn(move || listener.accept().unwrap().0.write_all(&sent).unwrap());
    let output = run(&["cat", &format!("tcp://[::1]:{port}")], b"");
    producing.join().unwrap();
    assert!(output.stdout == octets);
}
