//! Exit codes, signals, messages.

use std::io::{Read, Write};
use std::process::Stdio;

use rustix::process::Signal;

use crate::harness::*;

fn said(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn usage_is_2_and_a_missing_file_is_1_and_both_say_what_to_do() {
    let output = run(&["serve", "no-such.pcap"], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("no-such.pcap: cannot read it: No such file"), "{}", said(&output));
    for arguments in
        [&["serve", "http://x"][..], &["pipe", "x.pcap"], &["frobnicate"], &["serve", "nats://x"], &[]]
    {
        let output = run(arguments, b"");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(said(&output).len() > 40, "{arguments:?}");
    }
}

#[test]
fn what_is_no_capture_is_refused_at_start_with_a_hint() {
    let folder = folder();
    let path =
        file(&folder, "page.pcap", b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n<html>\x1b[2J</html>");
    for arguments in
        [&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"][..], &["cat", path.to_str().unwrap()]]
    {
        let output = run(arguments, b"");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
        assert!(said(&output).contains("HTTP"), "{}", said(&output));
        assert!(!said(&output).contains("\x1b[2J"), "escape sequences are made safe");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_broken_file_gives_all_packets_before_the_break_and_1() {
    let folder = folder();
    let capture = packets(1, 10, 1_700_000_000_000_000, 1000);
    let mut octets = pcap(&capture);
    octets.truncate(octets.len() - 5);
    let path = file(&folder, "cut.pcap", &octets);
    let output = run(&["cat", path.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(read_pcap(&output.stdout), capture[..9]);
    assert!(said(&output).contains("octet"), "{}", said(&output));
}

#[test]
fn a_reader_that_closes_standard_output_is_a_quiet_0() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 60_000, 1_700_000_000_000_000, 10)));
    let mut child = pcaphub()
        .args(["cat", path.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 100]).unwrap();
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(said(&output), "");
}

#[test]
fn signals_drain_and_exit_0_with_a_summary() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut hub = Hub::start_with(&["serve", "-", "--listen", "127.0.0.1:0"], 1, Stdio::piped());
        let mut pipe = hub.stdin();
        let capture = packets(1, 10, 1_700_000_000_000_000, 1000);
        pipe.write_all(&pcap(&capture)).unwrap();
        let mut client = connect(hub.client());
        let expected = pcap(&capture);
        assert!(read_exact(&mut client, expected.len()) == expected);
        hub.signal(signal);
        assert_eq!(client.read(&mut [0; 1]).unwrap(), 0, "the client is closed in order");
        let (status, counts) = hub.ended();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        assert_eq!(counts["departed"]["delivered"], 10);
    }
}

#[test]
fn a_signal_is_heeded_while_a_filter_is_compiled() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 1, 1_700_000_000_000_000, 10)));
    // Takes libpcap many seconds.
    let ports: Vec<String> = (0..600).map(|port| format!("port {}", 1 + 7 * port)).collect();
    let filter = ports.join(" or ");
    let arguments = ["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0", "-f", &filter];
    let mut hub = Hub::start(&arguments, 0);
    wait_until("it compiles", || hub.has_thread("filter"));
    hub.signal(Signal::INT);
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["joined"], 0);
    assert!(!hub.said().iter().any(|line| line.contains("listening on")), "{:?}", hub.said());
}

#[test]
fn a_second_signal_does_not_wait_for_a_stalled_client() {
    let mut hub = Hub::start_with(&["serve", "-", "--listen", "127.0.0.1:0"], 1, Stdio::piped());
    let mut pipe = hub.stdin();
    let capture = pcap(&packets(1, 60_000, 1_700_000_000_000_000, 10));
    let feeding = std::thread::spawn(move || {
        let _ = pipe.write_all(&capture);
    });
    let mut stalled = connect(hub.client());
    read_exact(&mut stalled, 24);
    hub.signal(Signal::INT);
    hub.signal(Signal::INT);
    let (status, _) = hub.ended();
    assert_eq!(status.code(), Some(0));
    drop(hub);
    feeding.join().unwrap();
}

#[test]
fn statistics_are_printed_while_it_runs_and_close() {
    let mut hub = Hub::start_with(&["serve", "-", "--listen", "127.0.0.1:0"], 1, Stdio::piped());
    let mut pipe = hub.stdin();
    let octets = pcap(&packets(1, 20_000, 1_700_000_000_000_000, 10));
    let address = hub.client();
    let feeding = std::thread::spawn(move || pipe.write_all(&octets).unwrap());
    let reading = std::thread::spawn(move || read_all(address).len());
    for _ in 0..5 {
        hub.signal(Signal::USR1);
        let line = hub.line();
        if line.starts_with('{') {
            closed(&line);
        }
        if line.contains("\"decoded\":20000") {
            break;
        }
    }
    feeding.join().unwrap();
    assert!(reading.join().unwrap() > 20_000);
}

#[test]
fn a_count_ends_it_after_so_many_packets() {
    let folder = folder();
    let capture = packets(1, 100, 1_700_000_000_000_000, 1000);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let output = run(&["cat", path.to_str().unwrap(), "-c", "7"], b"");
    assert!(output.status.success());
    assert_eq!(read_pcap(&output.stdout), capture[..7]);
}

#[test]
fn a_duration_ends_it_with_clients_and_without() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 60_000, 1_700_000_000_000_000, 10)));
    let mut hub =
        Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0", "--duration", "300ms"], 1);
    let mut stalled = connect(hub.client());
    read_exact(&mut stalled, 24);
    assert!(hub.ended().0.success());
}

#[test]
fn a_port_that_is_taken_is_named_with_the_remedy() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 1, 0, 1)));
    let taken = Producer::new();
    let output =
        run(&["serve", path.to_str().unwrap(), "--listen", &format!("127.0.0.1:{}", taken.port())], b"");
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "cannot listen on 127.0.0.1:{}: address in use; stop the other process or choose another port",
        taken.port()
    );
    assert!(said(&output).contains(&expected), "{}", said(&output));
}

#[test]
fn help_teaches_the_use_cases_and_lists_every_endpoint() {
    let output = run(&["--help"], b"");
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in [
        "pcaphub serve sniffed.pcap",
        "tcp-listen://",
        "exec:",
        "--allow 192.168.1.0/24",
        "reconnect=",
        "dedup=",
        "unix-listen:PATH",
    ] {
        assert!(text.contains(line), "{line} is missing");
    }
    for verb in ["serve", "cat", "pipe", "replay", "demo"] {
        let output = run(&["help", verb], b"");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && text.contains("Examples:"), "{verb}: {text}");
    }
}

#[test]
fn files_and_live_sources_together_are_refused_with_the_reason() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 1, 0, 1)));
    let output = run(&["serve", path.to_str().unwrap(), "tcp://127.0.0.1:1"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("pace=1x"), "{}", said(&output));
}

#[test]
fn the_demo_makes_traffic_that_tshark_finds_nothing_wrong_with() {
    if !has("tshark") {
        return;
    }
    let mut hub = Hub::start(&["demo", "--rate", "5000", "-c", "3000", "--listen", "127.0.0.1:0"], 1);
    let folder = folder();
    let path = file(&folder, "demo.pcap", &read_all(hub.client()));
    assert!(hub.ended().0.success());
    let checks = "-o ip.check_checksum:TRUE -o tcp.check_checksum:TRUE -o udp.check_checksum:TRUE";
    let wrong = "_ws.malformed || ip.checksum.status==0 || tcp.checksum.status==0 || udp.checksum.status==0";
    assert_eq!(shell(&format!("tshark -r {} {checks} -Y '{wrong}'", path.display())), "");
    let protocols = shell(&format!("tshark -r {} -q -z io,phs", path.display()));
    for protocol in ["dns", "http", "tls", "arp", "icmp"] {
        assert!(protocols.contains(protocol), "{protocol} is missing: {protocols}");
    }
}

#[test]
fn a_file_is_not_both_a_source_and_a_sink() {
    let folder = folder();
    let octets = pcap(&packets(1, 10, 1_700_000_000_000_000, 1000));
    let path = file(&folder, "in.pcap", &octets);
    let link = folder.path().join("same.pcap");
    std::fs::hard_link(&path, &link).unwrap();
    for sink in [&path, &link] {
        let output = run(&["pipe", path.to_str().unwrap(), "--to", sink.to_str().unwrap()], b"");
        assert_eq!(output.status.code(), Some(2));
        assert!(said(&output).contains("is a source and a sink"), "{}", said(&output));
    }
    assert!(std::fs::read(&path).unwrap() == octets, "it is as it was");
}

#[test]
fn a_stalled_client_of_a_file_is_accounted_for_when_the_hub_is_stopped() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 60_000, 1_700_000_000_000_000, 10)));
    let mut hub =
        Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0", "--drain", "100ms"], 1);
    let mut stalled = connect(hub.client());
    read_exact(&mut stalled, 24);
    // Nothing more is read, however often one looks.
    let mut last = (0, 0);
    wait_until("it stalls", || {
        let decoded = hub.counts()["sources"][0]["decoded"].as_u64().unwrap_or(0);
        last = (decoded, if decoded == last.0 { last.1 + 1 } else { 0 });
        decoded > 1000 && last.1 >= 10
    });
    hub.signal(Signal::INT);
    let (status, counts) = hub.ended();
    assert!(status.success());
    let everybody = counts["subscribers"].as_array().unwrap().iter().chain([&counts["departed"]]);
    let (mut queued, mut closed) = (0, 0);
    for one in everybody {
        queued += one["queued"].as_u64().unwrap();
        closed += one["dropped"]["closed"].as_u64().unwrap_or(0);
    }
    assert_eq!(queued, 0);
    assert!(closed > 0, "{counts}");
}

#[test]
fn a_lone_file_is_one_subscriber() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 10, 1_700_000_000_000_000, 1000)));
    let out = folder.path().join("out.pcap");
    let output =
        run(&["pipe", path.to_str().unwrap(), "--to", out.to_str().unwrap(), "--stats", "json"], b"");
    let counts = said(&output);
    let counts = closed(counts.lines().find(|line| line.starts_with('{')).unwrap());
    assert_eq!((&counts["joined"], &counts["departed"]["delivered"]), (&1.into(), &10.into()));
}

#[test]
fn an_endless_duration_is_none() {
    let output = run(
        &[
            "demo",
            "--duration",
            "18446744073709551615s",
            "-c",
            "1",
            "--to",
            "null:",
            "--listen",
            "127.0.0.1:0",
        ],
        b"",
    );
    assert!(output.status.success(), "{}", said(&output));
}

#[test]
fn the_demo_says_where_it_really_listens() {
    let mut hub = Hub::start(&["demo", "--listen", "127.0.0.1:0"], 1);
    let port = hub.client().port();
    assert!(hub.wait_for("tshark -i").contains(&format!("TCP@127.0.0.1:{port}")));
    assert!(hub.wait_for("nc ").contains(&format!("127.0.0.1 {port} ")));
}
