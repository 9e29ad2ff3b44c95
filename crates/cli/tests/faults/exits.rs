//! Ends, stops, and logs that nobody reads.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// A hub under `wait`, full, with a client that took its header and nothing else.
fn stalled(more: &[&str]) -> (Hub, std::net::TcpStream) {
    let arguments = ["demo", "--rate", "max", "--listen", "127.0.0.1:0", "--on-slow", "wait"];
    let mut hub = Hub::start(&[&arguments, more].concat(), 1);
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    wait_until("the ring is full", || hub.counts()["subscribers"][0]["queued"].as_u64() > Some(50_000));
    (hub, client)
}

#[test]
fn stalled_clients_hold_up_an_end_for_seconds_and_a_second_signal_not_at_all() {
    let _alone = alone();
    let (mut hub, _client) = stalled(&[]);
    let begun = Instant::now();
    hub.signal(Signal::TERM);
    let (status, counts) = hub.ended();
    let first = begun.elapsed();
    assert_eq!(status.code(), Some(0));
    let gone = counts["subscribers"].as_array().unwrap().iter().chain([&counts["departed"]]);
    let closed: u64 = gone.filter_map(|one| one["dropped"]["closed"].as_u64()).sum();
    assert!(closed > 0, "what it did not take is counted");

    let (mut hub, _client) = stalled(&[]);
    let begun = Instant::now();
    hub.signal(Signal::TERM);
    hub.signal(Signal::INT);
    let (status, _) = hub.ended();
    let second = begun.elapsed();
    assert_eq!(status.code(), Some(0));

    let (mut hub, _client) = stalled(&["--drain", "200ms"]);
    let begun = Instant::now();
    hub.signal(Signal::TERM);
    hub.ended();
    let asked = begun.elapsed();
    row(
        70,
        "SIGTERM with a stalled client; a second signal; --drain 200ms",
        "exit 0 within 10 s; at once; within 1.5 s",
        &format!("{}; {}; {}", seconds(first), seconds(second), seconds(asked)),
    );
    assert!(first < Duration::from_secs(10) && second < Duration::from_secs(2), "{first:?}, {second:?}");
    assert!(asked < Duration::from_millis(1500), "{asked:?}");
}

#[test]
fn a_hub_that_is_stopped_and_goes_on_loses_nothing() {
    let mut hub = Hub::start_with(&["serve", "-", "--listen", "127.0.0.1:0"], 1, Stdio::piped());
    let mut pipe = hub.stdin();
    let octets = pcap(&packets(1, 40_000, BEGIN, 10));
    let mut client = connect(hub.client());
    pipe.write_all(&octets[..1 << 16]).unwrap();
    let mut got = read_exact(&mut client, 24);
    hub.signal(Signal::STOP);
    let rest = octets[1 << 16..].to_vec();
    let feeding = std::thread::spawn(move || pipe.write_all(&rest).unwrap());
    std::thread::sleep(Duration::from_secs(5));
    hub.signal(Signal::CONT);
    client.read_to_end(&mut got).unwrap();
    feeding.join().unwrap();
    assert!(got == octets);
    let (status, _) = hub.ended();
    assert!(status.success());
    row(71, "SIGSTOP and, 5 s later, SIGCONT of the hub", "nothing lost", "0 of 40000 lost");
}

#[test]
fn a_log_that_nobody_reads_does_not_block_the_hub() {
    let folder = folder();
    let socket = folder.path().join("hub.sock");
    let listen = format!("unix-listen:{}", socket.display());
    // Its standard error is a pipe that is never read.
    let mut child = pcaphub()
        .args(["serve", "-", "--listen", &listen, "-v"])
        .args(["--listen", "127.0.0.1:0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(&header(1)).unwrap();
    wait_until("it listens", || UnixStream::connect(&socket).is_ok());
    // Each client is two lines: more than the pipe, and what the hub keeps of them, can hold.
    for _ in 0..4000 {
        let mut client = UnixStream::connect(&socket).unwrap();
        client.read_exact(&mut [0; 24]).unwrap();
    }
    let mut client = UnixStream::connect(&socket).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.read_exact(&mut [0; 24]).unwrap();
    let begun = Instant::now();
    let octets = pcap(&packets(1, 100, BEGIN, 10));
    pipe.write_all(&octets[24..]).unwrap();
    drop(pipe);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    let took = begun.elapsed();
    assert!(got == octets[24..]);
    wait_until("it ends", || child.try_wait().unwrap().is_some());
    row(
        72,
        "a log pipe that nobody reads, 8,000 lines",
        "never blocks the hub",
        &format!("100 packets in {}", seconds(took)),
    );
}

#[test]
fn a_port_that_is_taken_is_told_with_the_remedy() {
    let taken = Producer::new();
    let output = run(&["serve", "-", "--listen", &format!("127.0.0.1:{}", taken.port())], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("address in use; stop the other process or choose another port"), "{said}");
    row(73, "the listener's port is taken", "exit 1, the remedy is told", "exit 1, told");
}
