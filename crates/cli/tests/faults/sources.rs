//! Sources that die, return, fall silent, or change under the hub.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// A packet of 60 octets.
fn small(source: u8, number: u32) -> Packet {
    Packet { micros: BEGIN + u64::from(number), octets: datagram(source, number, 40) }
}

#[test]
fn a_source_that_dies_at_any_octet_is_back_within_a_second_and_no_part_is_passed_on() {
    let _alone = alone();
    let record_octets = record(&small(1, 0)).len();
    let cuts = 24 + record_octets;
    let producers: Vec<Producer> = (0..cuts).map(|_| Producer::new()).collect();
    let sources: Vec<String> =
        producers.iter().map(|producer| format!("tcp://127.0.0.1:{}", producer.port())).collect();
    let mut arguments: Vec<&str> = vec!["serve", "--listen", "127.0.0.1:0", "--order", "arrival"];
    arguments.extend(sources.iter().map(String::as_str));
    let mut hub = Hub::start(&arguments, 1);
    let first: Vec<TcpStream> = producers.iter().map(Producer::accept).collect();
    let mut client = connect(hub.client());
    let mut got = Vec::new();
    for (cut, mut producer) in first.into_iter().enumerate() {
        let stream = [header(1), record(&small(1, 2 * cut as u32))].concat();
        if cut == 0 {
            // Once it has the header, the client gets what comes.
            producer.write_all(&stream[..24]).unwrap();
            got = read_exact(&mut client, 24);
            producer.write_all(&stream[24..]).unwrap();
            got.extend(read_exact(&mut client, record_octets));
            continue;
        }
        producer.write_all(&stream[..cut]).unwrap();
        // Half of them die with a reset, the others in order.
        if cut % 2 == 0 {
            socket2::SockRef::from(&producer).set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
    // They return: each listens on, and serves the next connection in full.
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut living = Vec::new();
    for (cut, producer) in producers.iter().enumerate() {
        let mut stream = producer.accept();
        slowest = slowest.max(begun.elapsed());
        stream.write_all(&header(1)).unwrap();
        stream.write_all(&record(&small(1, 2 * cut as u32 + 1))).unwrap();
        living.push(stream);
    }
    let mut all = vec![0; cuts * record_octets];
    let mut read = 0;
    while read < all.len() {
        match client.read(&mut all[read..]) {
            Ok(n) if n > 0 => read += n,
            ended => {
                let there: Vec<u64> = read_pcap(&[header(1), all[..read].to_vec()].concat())
                    .iter()
                    .map(|packet| packet.micros - BEGIN)
                    .collect();
                panic!("{ended:?}; there are {there:?}; the hub: {:?} {:#?}", hub.counts(), hub.said());
            }
        }
    }
    slowest = slowest.max(begun.elapsed());
    got.extend(all);
    let mut numbers: Vec<u64> = read_pcap(&got).iter().map(|packet| packet.micros - BEGIN).collect();
    numbers.sort_unstable();
    let mut expected: Vec<u64> = (0..cuts as u64).map(|cut| 2 * cut + 1).collect();
    expected.insert(0, 0);
    assert_eq!(numbers, expected, "the whole packets of the second connections, and nothing of the cut ones");
    drop(living);
    let (status, _) = hub.stop();
    assert!(status.success());
    row(
        20,
        &format!("{cuts} sources die, each at another octet, and return"),
        "packets again within 1 s; no partial record",
        &format!("all within {}; 0 partial", seconds(slowest)),
    );
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

#[test]
fn a_producer_that_is_silent_in_the_middle_of_a_record_is_kept() {
    const SILENT: Duration = Duration::from_secs(45);
    let hub = Hub::start(&["serve", "tcp-listen://127.0.0.1:0?name=sensors", "--listen", "127.0.0.1:0"], 2);
    let mut client = connect(hub.client());
    let stream = pcap(&[small(1, 0), small(1, 1)]);
    let mut producer = connect(hub.producers[0]);
    // Also one that has not even sent its header to the end.
    let mut early = connect(hub.producers[0]);
    early.write_all(&stream[..10]).unwrap();
    producer.write_all(&stream[..24]).unwrap();
    let mut got = read_exact(&mut client, 24);
    producer.write_all(&stream[24..stream.len() - 20]).unwrap();
    got.extend(read_exact(&mut client, record(&small(1, 0)).len()));
    std::thread::sleep(SILENT);
    producer.write_all(&stream[stream.len() - 20..]).unwrap();
    got.extend(read_exact(&mut client, record(&small(1, 1)).len()));
    assert!(got == stream);
    early.write_all(&stream[10..]).unwrap();
    assert!(read_pcap(&[header(1), read_exact(&mut client, stream.len() - 24)].concat()).len() == 2);
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(counts["sources"][0]["decoded"], 4);
    row(
        21,
        "producers silent 45 s, in mid-record and in mid-header",
        "kept; nothing lost",
        "both kept; 4 of 4 packets",
    );
}

#[test]
fn a_file_that_is_truncated_or_replaced_while_it_is_served_ends_at_a_record() {
    let folder = folder();
    let capture = packets(1, 60_000, BEGIN, 10);
    let octets = pcap(&capture);
    let path = file(&folder, "in.pcap", &octets);
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    let mut stalled = connect(hub.client());
    let mut got = read_exact(&mut stalled, 24);
    std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(octets.len() as u64 / 2).unwrap();
    stalled.read_to_end(&mut got).unwrap();
    let whole = read_pcap(&got);
    assert!(whole.len() < capture.len() && whole == capture[..whole.len()]);

    std::fs::write(&path, &octets).unwrap();
    let mut stalled = connect(hub.client());
    let mut got = read_exact(&mut stalled, 24);
    let other = pcap(&capture[..7]);
    std::fs::rename(file(&folder, "new.pcap", &other), &path).unwrap();
    assert!(read_all(hub.client()) == other, "the next client gets the new file");
    stalled.read_to_end(&mut got).unwrap();
    assert!(got == octets, "the one before gets the old one to its end");
    let (status, _) = hub.stop();
    assert_eq!(status.code(), Some(1), "a source that was cut short is told by the status");
    row(
        22,
        "the file is truncated, then replaced, while it is served",
        "whole records only; no crash",
        &format!(
            "{} whole packets of 60000, then closed; replaced: old to its end, new to the next",
            whole.len()
        ),
    );
}
