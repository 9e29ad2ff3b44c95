//! Clients that are too slow: what they lose is whole chunks, counted, and told where it happens.

use std::io::{Read, Write};
use std::process::Stdio;

use crate::harness::*;

const BEGIN: u64 = 1_700_000_000_000_000;
/// Packets that are far more than the smallest ring holds.
const COUNT: u32 = 60_000;

/// Starts a hub with the smallest memory on standard input, lets a client stall while everything
/// is fed, and returns what the client finds when it reads on.
fn stalled(more: &[&str]) -> (Vec<u8>, serde_json::Value) {
    let arguments = [&["serve", "-", "--listen", "127.0.0.1:0", "--max-memory", "16MiB"], more].concat();
    let mut hub = Hub::start_with(&arguments, 1, Stdio::piped());
    let mut pipe = hub.stdin();
    pipe.write_all(&header(1)).unwrap();
    let mut client = connect(hub.client());
    let mut octets = read_exact(&mut client, 24);
    pipe.write_all(&pcap(&packets(1, COUNT, BEGIN, 10))[24..]).unwrap();
    drop(pipe);
    hub.wait_for(&format!("ended after {COUNT} packets"));
    if !more.contains(&"disconnect") {
        wait_until("all is forwarded", || hub.counts()["sources"][0]["forwarded"] == COUNT);
    }
    // An error is how a client that was disconnected may find the end.
    let _ = client.read_to_end(&mut octets);
    let (_, counts) = hub.ended();
    (octets, counts)
}

/// Packets of a pcapng stream, and the drops that its last interface statistics tell.
fn packets_and_drops(octets: &[u8]) -> (u64, u64) {
    let word = |at: usize| u32::from_le_bytes(octets[at..at + 4].try_into().unwrap());
    let (mut at, mut packets, mut drops) = (0, 0, 0);
    while at < octets.len() {
        let (kind, length) = (word(at), word(at + 4) as usize);
        packets += u64::from(kind == 6);
        let mut option = at + 20;
        while kind == 5 && option + 4 < at + length - 4 {
            let (code, size) = (word(option) as u16, (word(option) >> 16) as usize);
            if code == 5 {
                drops = u64::from_le_bytes(octets[option + 4..option + 12].try_into().unwrap());
            }
            option += 4 + size.next_multiple_of(4);
        }
        at += length;
    }
    (packets, drops)
}

#[test]
fn a_pcapng_client_is_told_exactly_what_it_lost_where_it_lost_it() {
    let (octets, counts) = stalled(&["--on-slow", "drop", "--format", "pcapng"]);
    let (packets, drops) = packets_and_drops(&octets);
    assert!(drops > 0, "it lost some");
    assert_eq!(packets + drops, u64::from(COUNT));
    assert_eq!(counts["departed"]["dropped"]["lag"], drops);
    assert_eq!(counts["departed"]["delivered"], packets);
}

#[test]
fn a_pcap_client_goes_on_at_a_record_boundary() {
    let (octets, counts) = stalled(&["--on-slow", "drop"]);
    let got = read_pcap(&octets);
    assert!(got.is_sorted_by_key(|packet| packet.micros));
    assert_eq!(got.last().unwrap().micros, BEGIN + u64::from(COUNT - 1) * 10, "the newest are kept");
    let lost = counts["departed"]["dropped"]["lag"].as_u64().unwrap();
    assert_eq!(got.len() as u64 + lost, u64::from(COUNT));
}

#[test]
fn a_laggard_is_disconnected_where_that_is_asked_for() {
    let (octets, counts) = stalled(&["--on-slow", "disconnect"]);
    assert!(octets.len() > 24);
    assert!(counts["departed"]["dropped"]["lag"].as_u64().unwrap() > 0);
}
