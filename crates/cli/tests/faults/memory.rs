//! The memory ceiling, under what would break it.

use std::io::{Read, Write};
use std::process::Stdio;
use std::time::Duration;

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;
const CEILING: u64 = 64 << 20;

#[track_caller]
fn holds(order: u32, what: &str, peak: u64) {
    row(order, what, "≤ 64 MiB + 20 %", &mib(peak));
    assert!(peak <= CEILING * 6 / 5, "{}", mib(peak));
}

#[test]
fn two_hundred_producers_in_the_middle_of_large_records_stay_under_the_ceiling() {
    let _alone = alone();
    let mut hub = Hub::start(
        &["serve", "tcp-listen://127.0.0.1:0", "--listen", "127.0.0.1:0?linktype=1", "--max-memory", "64MiB"],
        2,
    );
    let address = hub.producers[0];
    let good = pcap(&packets(1, 1000, BEGIN, 1000));
    // A D-Bus capture, whose packets may have 16 MiB, and 15 of the first one's.
    let mut section = header(231);
    section.extend([0u32, 0, 16 << 20, 16 << 20].iter().flat_map(|word| word.to_le_bytes()));
    let attacks: Vec<_> = (0..200)
        .map(|_| {
            let section = section.clone();
            std::thread::spawn(move || {
                let mut stream = connect(address);
                stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
                let _ = stream.write_all(&section);
                let megabyte = vec![7; 1 << 20];
                for _ in 0..15 {
                    if stream.write_all(&megabyte).is_err() {
                        break;
                    }
                }
                stream
            })
        })
        .collect();
    let mut client = connect(hub.client());
    let head = read_exact(&mut client, 24);
    let mut producer = connect(address);
    producer.write_all(&good).unwrap();
    let got = read_exact(&mut client, good.len() - 24);
    assert!(head.len() == 24 && got == good[24..], "a good producer is served meanwhile");
    let streams: Vec<_> = attacks.into_iter().map(|attack| attack.join().unwrap()).collect();
    hub.wait_for("--max-memory");
    let peak = hub.peak_memory();
    drop(streams);
    let (status, _) = hub.stop();
    assert!(status.success());
    holds(90, "200 producers, each in the middle of a 16 MiB record", peak);
}

#[test]
fn a_trickle_of_small_chunks_to_a_stalled_client_stays_under_the_ceiling() {
    let _alone = alone();
    let mut hub = Hub::start_with(
        &[
            "serve",
            "-",
            "--listen",
            "127.0.0.1:0",
            "--on-slow",
            "drop",
            "--max-memory",
            "64MiB",
            "--history",
            "32MiB",
        ],
        1,
        Stdio::piped(),
    );
    let mut pipe = hub.stdin();
    pipe.write_all(&header(1)).unwrap();
    let mut stalled = connect(hub.client());
    read_exact(&mut stalled, 24);
    let mut reading = connect(hub.client());
    let discarding = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        while reading.read(&mut buffer).is_ok_and(|n| n > 0) {}
    });
    // Each write is a packet by itself, and mostly a chunk by itself.
    for number in 0..400_000u32 {
        let packet = Packet { micros: BEGIN + u64::from(number), octets: datagram(1, number, 40) };
        pipe.write_all(&record(&packet)).unwrap();
    }
    let peak = hub.peak_memory();
    hub.signal(rustix::process::Signal::INT);
    hub.signal(rustix::process::Signal::INT);
    let (status, _) = hub.ended();
    assert!(status.success());
    discarding.join().unwrap();
    holds(91, "400,000 packets, each written by itself, a stalled client, a full history", peak);
}

#[test]
fn a_hundred_clients_of_packed_files_stay_under_the_ceiling_or_are_refused() {
    let _alone = alone();
    let folder = folder();
    let octets = pcap(&packets(1, 60_000, BEGIN, 10));
    let packed = file(&folder, "in.pcap.zst", &zstd::encode_all(&octets[..], 19).unwrap());
    let mut hub = Hub::start(
        &["serve", packed.to_str().unwrap(), "--listen", "127.0.0.1:0", "--max-memory", "64MiB", "-v"],
        1,
    );
    let mut clients: Vec<_> = (0..100).map(|_| connect(hub.client())).collect();
    hub.wait_for("--max-memory");
    let served =
        clients.iter_mut().map(|client| client.read_exact(&mut [0; 24])).filter(Result::is_ok).count();
    assert!(served > 0);
    let peak = hub.peak_memory();
    drop(clients);
    let (status, _) = hub.stop();
    assert!(status.success());
    holds(92, &format!("100 clients of a .zst file; {served} served, the others refused"), peak);
}

/// A pcapng section with this many interfaces, each with a name of its own, and a packet on each.
fn many_interfaces(producer: u32, count: u32) -> Vec<u8> {
    let block = |kind: u32, body: &[u8]| {
        let length = (12 + body.len() as u32).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, body, &length].concat()
    };
    let mut section = vec![0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0];
    section.extend([0xff; 8]);
    let mut octets = block(0x0a0d_0d0a, &section);
    for number in 0..count {
        let name = format!("interface {number:06} of {producer:03} {}", "x".repeat(200)).into_bytes();
        let mut body = vec![1, 0, 0, 0, 0, 0, 4, 0, 2, 0];
        body.extend((name.len() as u16).to_le_bytes());
        body.extend(&name);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend([0; 4]);
        octets.extend(block(1, &body));
    }
    for number in 0..count {
        let data = datagram(1, number, 60);
        let mut body = number.to_le_bytes().to_vec();
        body.extend([0; 8]);
        body.extend((data.len() as u32).to_le_bytes());
        body.extend((data.len() as u32).to_le_bytes());
        body.extend(&data);
        body.resize(body.len().next_multiple_of(4), 0);
        octets.extend(block(6, &body));
    }
    octets
}

#[test]
fn tens_of_thousands_of_interfaces_for_two_hundred_stalled_clients_stay_under_the_ceiling() {
    let _alone = alone();
    let mut hub = Hub::start(
        &[
            "serve",
            "tcp-listen://127.0.0.1:0",
            "--listen",
            "127.0.0.1:0",
            "--format",
            "pcapng",
            "--max-memory",
            "64MiB",
            "--dedup",
            "1s",
            "--order",
            "arrival",
        ],
        2,
    );
    let join = || {
        let mut client = connect(hub.clients[0]);
        read_exact(&mut client, 8);
        client
    };
    let early: Vec<_> = (0..100).map(|_| join()).collect();
    for producer in 0..20 {
        let mut stream = connect(hub.producers[0]);
        stream.write_all(&many_interfaces(producer, 4096)).unwrap();
    }
    let late: Vec<_> = (0..100).map(|_| join()).collect();
    wait_until("all of it was decoded", || hub.counts()["sources"][0]["decoded"] == 20 * 4096);
    for producer in 0..20 {
        let mut stream = connect(hub.producers[0]);
        stream.write_all(&many_interfaces(producer, 4096)).unwrap();
    }
    wait_until("it was decoded again", || hub.counts()["sources"][0]["decoded"] == 40 * 4096);
    let peak = hub.peak_memory();
    let refused = hub.counts()["sources"][0]["dropped"]["interface_limit"].as_u64().unwrap_or(0);
    drop((early, late));
    let (status, _) = hub.stop();
    assert!(status.success());
    holds(93, &format!("81,920 interfaces, 200 stalled pcapng clients; {refused} packets refused"), peak);
}

#[test]
fn a_producer_that_makes_interfaces_up_leaves_room_for_another_and_is_told_of() {
    let mut hub = Hub::start(
        &[
            "serve",
            "tcp-listen://127.0.0.1:0?name=wild",
            "tcp-listen://127.0.0.1:0?name=tame",
            "--listen",
            "127.0.0.1:0",
            "--format",
            "pcapng",
        ],
        3,
    );
    let (wild, tame) = (hub.producers[0], hub.producers[1]);
    for producer in 0..20 {
        let mut stream = connect(wild);
        let _ = stream.write_all(&many_interfaces(producer, 4096));
    }
    hub.wait_for("more interfaces than the hub keeps");
    connect(tame).write_all(&pcap(&packets(1, 100, BEGIN, 10))).unwrap();
    wait_until("the other one's packets are forwarded", || {
        let counts = hub.counts();
        let of = |n: usize| counts["sources"][n]["forwarded"].as_u64().unwrap();
        // Listeners are told in the order of the sources.
        of(0).min(of(1)) == 100 || of(1) == 100
    });
    let (status, _) = hub.stop();
    assert!(status.success());
    row(
        94,
        "one source makes up 81,920 interfaces",
        "told; other sources keep their packets",
        "told; 100 of 100",
    );
}
