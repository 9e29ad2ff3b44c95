//! Sniffers that connect to us, and analyzers that we connect to.

use std::io::Write;
use std::net::TcpStream;
use std::process::{Command, Stdio};

use crate::harness::*;

#[test]
fn a_sniffer_pushes_with_netcat() {
    if !has("tcpdump") || !has("nc") {
        return;
    }
    let folder = folder();
    let capture = packets(1, 300, 1_700_000_000_000_000, 1000);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let mut hub =
        Hub::start(&["serve", "tcp-listen://127.0.0.1:0", "--on-slow", "wait", "--listen", "127.0.0.1:0"], 2);
    let mut client = connect(hub.client());
    let port = hub.producers[0].port();
    shell(&format!("tcpdump -w - -r {} 2>/dev/null | nc -N 127.0.0.1 {port}", path.display()));
    hub.wait_for("ended after 300 packets");
    let octets = read_exact(&mut client, pcap(&capture).len());
    assert_eq!(read_pcap(&octets), capture);
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(counts["sources"][0]["decoded"], 300);
}

#[test]
fn we_push_to_an_analyzer_that_listens() {
    if !has("nc") || !has("tshark") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 200, 1_700_000_000_000_000, 1000)));
    let port = Producer::new().port();
    let analyzer = Command::new("timeout")
        .args(["60", "bash", "-c", &format!("nc -l 127.0.0.1 {port} | tshark -r - 2>/dev/null | wc -l")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Started before the analyzer may be listening: a refused dial is tried again.
    let pushed = run(&["pipe", path.to_str().unwrap(), "--to", &format!("tcp://127.0.0.1:{port}")], b"");
    assert!(pushed.status.success(), "{}", String::from_utf8_lossy(&pushed.stderr));
    let printed = analyzer.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&printed.stdout).trim(), "200");
}

#[test]
fn a_push_goes_on_where_it_was_when_the_analyzer_returns() {
    let analyzer = Producer::new();
    let target = format!("tcp://127.0.0.1:{}", analyzer.port());
    let mut hub = Hub::start_with(&["pipe", "-", "--to", &target], 0, Stdio::piped());
    let mut pipe = hub.stdin();
    let capture = packets(1, 20, 1_700_000_000_000_000, 1000);
    let octets = pcap(&capture);
    let half: usize = 24 + capture[..10].iter().map(|packet| 16 + packet.octets.len()).sum::<usize>();
    pipe.write_all(&octets[..half]).unwrap();
    pipe.flush().unwrap();
    let mut first = analyzer.accept();
    assert!(read_exact(&mut first, half) == octets[..half]);
    // Closed by a reset, which the hub sees at once; a FIN would only be half a close.
    socket2::SockRef::from(&first).set_linger(Some(std::time::Duration::ZERO)).unwrap();
    drop(first);
    hub.wait_for("trying again");
    let mut second = analyzer.accept();
    pipe.write_all(&octets[half..]).unwrap();
    drop(pipe);
    let mut rest = Vec::new();
    std::io::Read::read_to_end(&mut second, &mut rest).unwrap();
    assert_eq!(read_pcap(&rest), capture[10..]);
    drop(second);
    assert!(hub.ended().0.success());
}

#[test]
fn several_producers_are_one_stream_and_may_come_back() {
    let mut hub =
        Hub::start(&["serve", "tcp-listen://127.0.0.1:0", "--on-slow", "wait", "--listen", "127.0.0.1:0"], 2);
    let mut client = connect(hub.client());
    let mut total = 0;
    for round in 0..3u8 {
        let mut producer = TcpStream::connect(hub.producers[0]).unwrap();
        let capture = packets(round, 10, 1_700_000_000_000_000, 1000);
        producer.write_all(&pcap(&capture)).unwrap();
        drop(producer);
        if round == 0 {
            assert_eq!(read_exact(&mut client, 24), header(1));
        }
        for packet in &capture {
            let octets = record(packet);
            assert!(read_exact(&mut client, octets.len()) == octets);
            total += 1;
        }
    }
    let counts = hub.counts();
    assert_eq!(counts["sources"][0]["forwarded"], total);
}

#[test]
fn files_are_written_by_their_extension_and_readable_by_the_real_tools() {
    if !has("capinfos") {
        return;
    }
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 123, 1_700_000_000_000_000, 1000)));
    for (name, kind) in [
        ("out.pcap", "pcap"),
        ("out.pcapng", "pcapng"),
        ("out.pcap.gz", "pcap"),
        ("out.pcapng.zst", "pcapng"),
    ] {
        let out = folder.path().join(name);
        let written = run(&["pipe", path.to_str().unwrap(), "--to", out.to_str().unwrap()], b"");
        assert!(written.status.success(), "{name}: {}", String::from_utf8_lossy(&written.stderr));
        assert_eq!(count_with_capinfos(&out), Some(123), "{name}");
        let described = shell(&format!("capinfos -t {}", out.display()));
        assert!(described.contains(kind), "{name}: {described}");
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_file_is_never_written_through_a_symbolic_link() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 3, 0, 1000)));
    let precious = file(&folder, "precious", b"keep me");
    let link = folder.path().join("out.pcap");
    std::os::unix::fs::symlink(&precious, &link).unwrap();
    let output = run(&["pipe", path.to_str().unwrap(), "-w", link.to_str().unwrap()], b"");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("symbolic link"));
    assert_eq!(std::fs::read(precious).unwrap(), b"keep me");
}

#[test]
fn a_file_that_is_overwritten_is_a_new_one_that_only_its_owner_reads() {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let octets = pcap(&packets(1, 3, 1_700_000_000_000_000, 1000));
    let path = file(&folder, "in.pcap", &octets);
    let out = file(&folder, "out.pcap", b"an older capture, readable by all");
    std::fs::set_permissions(&out, std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut reader = std::fs::File::open(&out).unwrap();
    let line = ["pipe", path.to_str().unwrap(), "-w", out.to_str().unwrap()];
    assert!(run(&line, b"").status.success());
    assert!(std::fs::read(&out).unwrap() == octets);
    assert_eq!(std::fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let mut seen = String::new();
    reader.read_to_string(&mut seen).unwrap();
    assert_eq!(seen, "an older capture, readable by all", "who had the old one open sees nothing new");
    std::fs::hard_link(&out, folder.path().join("second name")).unwrap();
    let output = run(&line, b"");
    assert!(String::from_utf8_lossy(&output.stderr).contains("hard links"));
    assert!(std::fs::read(&out).unwrap() == octets);
}

#[test]
fn a_command_gets_the_packets_on_its_standard_input() {
    let folder = folder();
    let octets = pcap(&packets(1, 50, 1_700_000_000_000_000, 1000));
    let path = file(&folder, "in.pcap", &octets);
    let out = folder.path().join("out.pcap");
    let sink = format!("sh:cat > {}", out.display());
    let output = run(&["pipe", path.to_str().unwrap(), "--to", &sink, "--to", "null:"], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(std::fs::read(out).unwrap() == octets);
}

#[test]
fn unix_sockets_work_as_source_and_as_sink() {
    let folder = folder();
    let octets = pcap(&packets(1, 50, 1_700_000_000_000_000, 1000));
    let path = file(&folder, "in.pcap", &octets);
    let socket = folder.path().join("in.sock");
    let listen = format!("unix-listen:{}", socket.display());
    let hub = Hub::start(&["serve", &listen, "--on-slow", "wait", "--listen", "127.0.0.1:0"], 1);
    let mut client = connect(hub.client());
    let push = format!("unix:{}", socket.display());
    assert!(run(&["pipe", path.to_str().unwrap(), "--to", &push], b"").status.success());
    assert!(read_exact(&mut client, octets.len()) == octets);
}

#[test]
fn a_command_that_fails_after_it_had_everything_is_an_error_and_is_not_started_again() {
    let folder = folder();
    let capture = packets(1, 500, 1_700_000_000_000_000, 1000);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let out = folder.path().join("out.pcap");
    for sink in [format!("sh:cat > {}; exit 3", out.display()), "exec:false".into()] {
        let output = run(&["pipe", path.to_str().unwrap(), "--to", &sink], b"");
        assert_eq!(output.status.code(), Some(1), "{sink}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("the command ended with exit status"), "{said}");
    }
    assert_eq!(read_pcap(&std::fs::read(out).unwrap()), capture, "what it had made is left as it was");
}

#[test]
fn what_an_analyzer_took_before_it_broke_off_is_counted_once() {
    let capture = packets(1, 60_000, 1_700_000_000_000_000, 1000);
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let analyzer = Producer::new();
    let sink = format!("tcp://127.0.0.1:{}", analyzer.port());
    let mut hub = Hub::start(&["pipe", path.to_str().unwrap(), "--to", &sink], 0);
    for _ in 0..3 {
        let mut first = analyzer.accept();
        read_exact(&mut first, 1_000_003);
    }
    let mut last = analyzer.accept();
    let mut octets = Vec::new();
    std::io::Read::read_to_end(&mut last, &mut octets).unwrap();
    let got = read_pcap(&octets);
    assert!(got == capture[capture.len() - got.len()..], "it goes on at a record");
    let (_, counts) = hub.ended();
    // The harness has checked that offered = delivered + queued + dropped.
    assert_eq!(counts["departed"]["offered"], 60_000);
    assert_eq!(counts["departed"]["delivered"], 60_000);
}
