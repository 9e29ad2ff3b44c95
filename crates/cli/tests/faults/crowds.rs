//! Connections in numbers, and a system that has no descriptor left.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// Connects from one of the many addresses of loopback, so that ports do not run out.
fn connect_from(number: u32, to: SocketAddr) -> std::io::Result<TcpStream> {
    let [_, a, b, c] = (number.wrapping_mul(2_654_435_761) >> 8).to_be_bytes();
    let from = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, a.max(1), b, c.clamp(1, 254))), 0);
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&from.into())?;
    socket.connect(&to.into())?;
    Ok(socket.into())
}

/// Lets this process have as many descriptors as it may.
fn many_descriptors(needed: u64) {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(u64::MAX);
    assert!(most >= needed, "the test needs {needed} descriptors; raise the hard limit (ulimit -Hn)");
    setrlimit(Resource::Nofile, Rlimit { current: Some(most.min(1 << 20)), maximum: limit.maximum }).unwrap();
}

/// A client that reads a feed to its end and says how many octets that was.
fn reader(address: SocketAddr) -> std::thread::JoinHandle<Vec<u8>> {
    let mut stream = connect(address);
    let mut got = read_exact(&mut stream, 24);
    std::thread::spawn(move || {
        let _ = stream.read_to_end(&mut got);
        got
    })
}

#[test]
fn five_thousand_connections_a_second_cost_an_existing_client_nothing() {
    let _alone = alone();
    const SECONDS: u64 = 10;
    const RATE: u64 = 5000;
    let hub = Hub::start(
        &[
            "serve",
            "tcp-listen://127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--order",
            "arrival",
            "--on-slow",
            "wait",
        ],
        2,
    );
    let (clients, producers) = (hub.client(), hub.producers[0]);
    let mut producer = connect(producers);
    producer.write_all(&header(1)).unwrap();
    let reading = reader(clients);
    let (descriptors, memory) = (hub.descriptors(), hub.memory());
    let (made, sending) = (AtomicU64::new(0), AtomicBool::new(true));
    let begun = Instant::now();
    let sent = std::thread::scope(|scope| {
        let sending = &sending;
        let feeding = scope.spawn(move || {
            let mut sent = 0u32;
            while sending.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    let packet = Packet { micros: BEGIN + u64::from(sent), octets: datagram(1, sent, 200) };
                    producer.write_all(&record(&packet)).unwrap();
                    sent += 1;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
            sent
        });
        for thread in 0..2u64 {
            let made = &made;
            scope.spawn(move || {
                // Half of them are clients, half producers; each thread makes its half of the rate.
                for n in 0..SECONDS * RATE / 2 {
                    let due = begun + Duration::from_micros(n * 1_000_000 * 2 / RATE);
                    if let Some(early) = due.checked_duration_since(Instant::now()) {
                        std::thread::sleep(early);
                    }
                    let to = if n % 2 == 0 { clients } else { producers };
                    if let Ok(stream) = connect_from((n * 2 + thread) as u32, to) {
                        let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                        made.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        // The connecting threads end by themselves; then the feed may.
        while made.load(Ordering::Relaxed) < SECONDS * RATE * 9 / 10 && begun.elapsed() < DEADLINE {
            std::thread::sleep(Duration::from_millis(100));
        }
        sending.store(false, Ordering::Relaxed);
        feeding.join().unwrap()
    });
    let rate = made.load(Ordering::Relaxed) as f64 / begun.elapsed().as_secs_f64();
    wait_until("descriptors are back where they were", || hub.descriptors() <= descriptors);
    let grown = hub.memory().saturating_sub(memory);
    let mut late = connect(clients);
    read_exact(&mut late, 24);
    let (status, counts) = hub.stop();
    assert!(status.success());
    let got = read_pcap(&reading.join().unwrap());
    assert_eq!(got.len() as u64, u64::from(sent), "the client has every packet");
    assert_eq!(counts["sources"][0]["decoded"], sent);
    row(
        40,
        "5,000 connects/s for 10 s to the clients' and the producers' listener",
        "existing client loses 0; descriptors and memory return",
        &format!("{rate:.0}/s; 0 of {sent} lost; descriptors back; +{}", mib(grown)),
    );
    assert!(grown < 32 << 20, "{}", mib(grown));
}

#[test]
fn a_storm_of_five_thousand_connections_leaves_no_trace_and_lets_a_new_producer_in() {
    let _alone = alone();
    const STORM: u32 = 5000;
    many_descriptors(u64::from(STORM) * 2 + 200);
    let mut hub = Hub::start(
        &[
            "serve",
            "tcp-listen://127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--format",
            "pcapng",
            "--order",
            "arrival",
        ],
        2,
    );
    let (clients, producers) = (hub.client(), hub.producers[0]);
    let stream = pcap(&packets(1, 1, BEGIN, 1));
    let mut producer = connect(producers);
    producer.write_all(&stream).unwrap();
    wait_until("the producer is at work", || hub.counts()["sources"][0]["decoded"] == 1);
    let before = interfaces_announced(clients);
    let mut client = connect(clients);
    // The section header.
    let head = read_exact(&mut client, 8);
    read_exact(&mut client, u32::from_le_bytes(head[4..8].try_into().unwrap()) as usize - 8);
    wait_until("nobody but it is there", || hub.counts()["clients"] == 1);
    let (descriptors, memory) = (hub.descriptors(), hub.memory());
    let storm: Vec<TcpStream> = (0..2 * STORM)
        .filter_map(|n| connect_from(n, if n % 2 == 0 { clients } else { producers }).ok())
        .collect();
    let made = storm.len();
    assert!(made as u32 >= STORM, "{made}");
    // All places for producers are taken by silent ones; a new one gets in all the same.
    let mut another = connect(producers);
    another.write_all(&stream).unwrap();
    producer.write_all(&stream[24..]).unwrap();
    wait_until("both producers' packets are there", || hub.counts()["sources"][0]["decoded"] == 3);
    let held = hub.descriptors();
    drop(storm);
    // That a client is gone is known when there is something to send to it.
    producer.write_all(&stream[24..]).unwrap();
    wait_until("descriptors are back where they were", || hub.descriptors() <= descriptors + 1);
    let grown = hub.memory().saturating_sub(memory);
    assert_eq!(interfaces_announced(clients), before, "the interface table has not grown");
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (status, counts) = hub.stop();
    assert!(status.success());
    let got = crate::group::read_blocks(&mut client);
    assert_eq!((got.packets, got.told), (3, 0), "who was there has every packet");
    assert_eq!(counts["departed"]["dropped"].get("lag"), None, "nothing was lost");
    row(
        41,
        "a storm of 10,000 connections, half of them producers",
        "existing ones lose 0; a new producer gets in; all returns to where it was",
        &format!(
            "{made} made, {held} descriptors at most, 0 lost; descriptors and interfaces back, +{}",
            mib(grown)
        ),
    );
    assert!(grown < 32 << 20, "{}", mib(grown));
}

/// How many interfaces a new pcapng client is told of.
fn interfaces_announced(address: SocketAddr) -> usize {
    let mut stream = connect(address);
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    let mut count = 0;
    stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut head = [0; 8];
    while stream.read_exact(&mut head).is_ok() {
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
        count += usize::from(word(0) == 1);
        let mut rest = vec![0; word(4) as usize - 8];
        stream.read_exact(&mut rest).unwrap();
    }
    count
}

#[test]
fn without_a_descriptor_left_it_neither_exits_nor_spins_and_accepts_again() {
    let _alone = alone();
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .arg(pcaphub().get_program())
        .args(["serve", "tcp-listen://127.0.0.1:0", "--listen", "127.0.0.1:0", "--stats", "json"])
        .stdin(Stdio::null());
    let mut hub = Hub::spawn(command, 2);
    let mut producer = connect(hub.producers[0]);
    producer.write_all(&header(1)).unwrap();
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    let crowd: Vec<TcpStream> = (0..120).filter_map(|n| connect_from(n, hub.client()).ok()).collect();
    let line = hub.wait_for("cannot accept");
    assert!(line.contains("Too many open files") && line.contains("ulimit -n"), "{line}");
    let before = hub.processor_time();
    std::thread::sleep(Duration::from_secs(3));
    let spent = hub.processor_time() - before;
    producer.write_all(&pcap(&packets(1, 5, BEGIN, 1))[24..]).unwrap();
    let got = read_exact(&mut client, pcap(&packets(1, 5, BEGIN, 1)).len() - 24);
    assert!(got == pcap(&packets(1, 5, BEGIN, 1))[24..], "who was there is served on");
    drop(crowd);
    let begun = Instant::now();
    let mut late = connect(hub.client());
    read_exact(&mut late, 24);
    let resumed = begun.elapsed();
    let (status, _) = hub.stop();
    assert!(status.success());
    row(
        42,
        "no descriptor left (120 clients, 64 descriptors)",
        "no exit, no spin, accepts resume",
        &format!(
            "{} of processor time in 3 s; accepts {} after there is one",
            seconds(spent),
            seconds(resumed)
        ),
    );
    assert!(spent < Duration::from_secs(1), "{spent:?}");
}

#[test]
fn one_too_many_is_told_which_option_allows_more() {
    let mut hub = Hub::start(
        &[
            "serve",
            "tcp-listen://127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--max-clients",
            "1",
            "--max-producers",
            "1",
            "-v",
        ],
        2,
    );
    let mut producer = connect(hub.producers[0]);
    producer.write_all(&header(1)).unwrap();
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    assert_eq!(connect(hub.client()).read(&mut [0; 1]).unwrap_or(0), 0);
    hub.wait_for("--max-clients");
    assert_eq!(connect(hub.producers[0]).read(&mut [0; 1]).unwrap_or(0), 0);
    hub.wait_for("--max-producers");
    let (status, _) = hub.stop();
    assert!(status.success());
    row(
        43,
        "one client and one producer too many",
        "refused; the log names the option",
        "--max-clients, --max-producers",
    );
}
