//! `pcaphub serve sniffed.pcap`: every client gets the whole file.

use std::io::Read;
use std::time::Duration;

use crate::harness::*;

fn lines_of(output: &str) -> usize {
    output.lines().filter(|line| !line.trim().is_empty()).count()
}

#[test]
fn netcat_and_tshark_read_the_whole_file() {
    if !has("nc") || !has("tshark") {
        return;
    }
    let folder = folder();
    let capture = packets(1, 500, 1_700_000_000_000_000, 1000);
    let path = file(&folder, "sniffed.pcap", &pcap(&capture));
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let port = hub.client().port();
    let printed =
        shell(&format!("nc 127.0.0.1 {port} </dev/null | tshark -r - -T fields -e udp.payload 2>/dev/null"));
    assert_eq!(lines_of(&printed), 500);
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 500);
}

#[test]
fn tshark_captures_from_it() {
    if !has("tshark") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "sniffed.pcap", &pcap(&packets(1, 300, 1_700_000_000_000_000, 1000)));
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let port = hub.client().port();
    let printed =
        shell(&format!("tshark -i TCP@127.0.0.1:{port} -c 300 -T fields -e frame.time_epoch 2>/dev/null"));
    assert_eq!(lines_of(&printed), 300);
    assert!(printed.starts_with("1700000000.000000"), "{printed}");
}

#[test]
fn dumpcap_captures_from_it() {
    if !has("dumpcap") || !has("capinfos") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "sniffed.pcap", &pcap(&packets(1, 300, 1_700_000_000_000_000, 1000)));
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let out = folder.path().join("captured.pcapng");
    shell(&format!("dumpcap -q -i TCP@127.0.0.1:{} -w {} 2>/dev/null", hub.client().port(), out.display()));
    assert_eq!(count_with_capinfos(&out), Some(300));
}

#[test]
fn clients_at_once_and_one_after_another_each_get_every_octet() {
    let folder = folder();
    let octets = pcap(&packets(1, 20_000, 1_700_000_000_000_000, 10));
    let path = file(&folder, "sniffed.pcap", &octets);
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let address = hub.client();
    let clients: Vec<_> = (0..8).map(|_| std::thread::spawn(move || read_all(address))).collect();
    for client in clients {
        assert!(client.join().unwrap() == octets);
    }
    for _ in 0..3 {
        assert!(read_all(address) == octets);
    }
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 11 * 20_000);
    assert_eq!(sum(&counts["departed"]["dropped"]), 0);
}

#[test]
fn a_slow_private_client_does_not_hold_up_another() {
    let folder = folder();
    let octets = pcap(&packets(1, 60_000, 1_700_000_000_000_000, 10));
    let path = file(&folder, "sniffed.pcap", &octets);
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let mut slow = connect(hub.client());
    read_exact(&mut slow, 24);
    assert!(read_all(hub.client()) == octets);
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest == octets[24..]);
}

#[test]
fn several_files_are_one_stream_in_time_order() {
    let folder = folder();
    let (a, b) = (packets(1, 100, 1_700_000_000_000_000, 2000), packets(2, 100, 1_700_000_000_001_000, 2000));
    let (first, second) = (file(&folder, "a.pcap", &pcap(&a)), file(&folder, "b.pcap", &pcap(&b)));
    let hub = Hub::start(
        &["serve", first.to_str().unwrap(), second.to_str().unwrap(), "--listen", "127.0.0.1:0"],
        1,
    );
    let mut expected = [a, b].concat();
    expected.sort_by_key(|packet| packet.micros);
    assert_eq!(read_pcap(&read_all(hub.client())), expected);
}

#[test]
fn another_host_needs_to_be_allowed() {
    let folder = folder();
    let path = file(&folder, "sniffed.pcap", &pcap(&packets(1, 3, 0, 1)));
    let path = path.to_str().unwrap();
    let refused = run(&["serve", path, "--listen", "0.0.0.0:0"], b"");
    assert_eq!(refused.status.code(), Some(2));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("--allow 192.168.1.0/24") && said.contains("tls-listen://"), "{said}");

    let mut hub = Hub::start(&["serve", path, "--listen", "0.0.0.0:0", "--allow", "192.168.1.0/24"], 1);
    let port = hub.client().port();
    assert_eq!(read_all(([127, 0, 0, 1], port).into()), b"");
    hub.wait_for("its address is not in allow=");

    let hub = Hub::start(&["serve", path, "--listen", "0.0.0.0:0", "--allow", "127.0.0.0/8"], 1);
    assert_eq!(read_pcap(&read_all(([127, 0, 0, 1], hub.client().port()).into())).len(), 3);
}

#[test]
fn compressed_files_are_served_unpacked() {
    let folder = folder();
    let octets = pcap(&packets(1, 200, 1_700_000_000_000_000, 10));
    let path = file(&folder, "sniffed.pcap.gz", &{
        use std::io::Write;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(&octets).unwrap();
        encoder.finish().unwrap()
    });
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    assert!(read_all(hub.client()) == octets);
}

#[test]
fn a_unix_socket_serves_like_a_port() {
    if !has("socat") {
        return;
    }
    let folder = folder();
    let octets = pcap(&packets(1, 200, 1_700_000_000_000_000, 10));
    let path = file(&folder, "sniffed.pcap", &octets);
    let socket = folder.path().join("hub.sock");
    let listen = format!("unix-listen:{}", socket.display());
    let _hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", &listen], 0);
    wait_until("the socket is there", || socket.exists());
    let out = folder.path().join("out.pcap");
    shell(&format!("socat -u UNIX-CONNECT:{} CREATE:{}", socket.display(), out.display()));
    assert!(std::fs::read(out).unwrap() == octets);
}

#[test]
fn a_client_that_leaves_early_is_accounted_for() {
    let folder = folder();
    let path = file(&folder, "sniffed.pcap", &pcap(&packets(1, 60_000, 1_700_000_000_000_000, 10)));
    let mut hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let mut client = connect(hub.client());
    read_exact(&mut client, 100);
    drop(client);
    hub.wait_for("left: it closed the connection");
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert!(counts["departed"]["dropped"]["closed"].as_u64().unwrap() > 0);
}

#[test]
fn cat_reads_somebody_elses_listener() {
    if !has("tshark") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "sniffed.pcap", &pcap(&packets(1, 250, 1_700_000_000_000_000, 1000)));
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let bin = env!("CARGO_BIN_EXE_pcaphub");
    let port = hub.client().port();
    let printed =
        shell(&format!("set -o pipefail; {bin} cat tcp://127.0.0.1:{port} | tshark -r - 2>/dev/null"));
    assert_eq!(lines_of(&printed), 250);
}

#[test]
fn cat_keeps_the_format_and_resolution_of_its_one_source() {
    let mut nanos = pcap(&packets(1, 5, 1_700_000_000_000_000, 7));
    nanos[..4].copy_from_slice(&[0x4d, 0x3c, 0xb2, 0xa1]);
    let output = run(&["cat", "-"], &nanos);
    assert!(output.status.success());
    assert_eq!(output.stdout, nanos);
}

#[test]
fn the_header_comes_within_a_second_even_where_no_source_is_known() {
    let producer = Producer::new();
    let hub =
        Hub::start(&["serve", &format!("tcp://127.0.0.1:{}", producer.port()), "--listen", "127.0.0.1:0"], 1);
    let begun = std::time::Instant::now();
    let mut client = connect(hub.client());
    assert_eq!(read_exact(&mut client, 24), header(1));
    assert!(begun.elapsed() < Duration::from_secs(30));
}

#[test]
fn what_a_client_sends_changes_nothing_of_what_it_gets() {
    use std::io::{Read, Write};
    let folder = folder();
    let capture = packets(1, 500, 1_700_000_000_000_000, 1000);
    let path = file(&folder, "a.pcap", &pcap(&capture));
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    for said in
        [&b"GET /etc/passwd HTTP/1.1\r\n\r\n"[..], b"exec:touch /tmp/x\n", &pcap(&capture), &[0; 1 << 16]]
    {
        let mut client = connect(hub.client());
        client.write_all(said).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        assert_eq!(read_pcap(&got), capture);
    }
}

#[test]
fn a_file_where_a_unix_socket_is_to_be_is_said_to_be_in_the_way() {
    let folder = folder();
    let path = file(&folder, "notes.txt", b"mine");
    let output = run(&["serve", "demo:", "--listen", &format!("unix-listen:{}", path.display())], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("what is there is no socket, and stays: take it away"), "{said}");
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_filter_that_means_nothing_for_the_packets_is_told_once_with_its_listener() {
    let folder = folder();
    let bare = Packet { micros: 1_700_000_000_000_000, octets: datagram(2, 1, 60)[14..].to_vec() };
    let path = file(&folder, "raw.pcap", &[header(101), record(&bare)].concat());
    for order in [&[][..], &["--on-slow", "drop", "--history", "1MiB"]] {
        let arguments = ["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"];
        let filter = ["--opt", "filter=ether host 02:00:00:00:00:01", "--opt", "name=plant"];
        let mut hub = Hub::start(&[&arguments, &filter[..], order].concat(), 1);
        let address = hub.client();
        let clients = if order.is_empty() { 3 } else { 1 };
        for _ in 0..clients {
            assert_eq!(read_all(address).len(), 24);
        }
        hub.signal(rustix::process::Signal::INT);
        hub.ended();
        let told: Vec<_> = hub.said().iter().filter(|line| line.contains("cannot be used")).collect();
        assert!(
            told.len() == 1 && told[0].contains("sink plant: the filter `ether host 02:00:00:00:00:01`"),
            "{told:?}"
        );
    }
}
