//! Late joiners: at the next packet, or `--history` earlier.

use std::io::Write;
use std::process::Stdio;

use crate::harness::*;

const BEGIN: u64 = 1_700_000_000_000_000;

fn started(more: &[&str]) -> (Hub, std::process::ChildStdin, Vec<Packet>) {
    let arguments = [&["serve", "-", "--listen", "127.0.0.1:0"], more].concat();
    let mut hub = Hub::start_with(&arguments, 1, Stdio::piped());
    let pipe = hub.stdin();
    (hub, pipe, packets(1, 40, BEGIN, 1000))
}

#[test]
fn a_late_client_starts_at_the_next_packet() {
    let (mut hub, mut pipe, capture) = started(&[]);
    pipe.write_all(&header(1)).unwrap();
    let mut early = connect(hub.client());
    read_exact(&mut early, 24);
    pipe.write_all(&pcap(&capture[..20])[24..]).unwrap();
    pipe.flush().unwrap();
    read_exact(&mut early, pcap(&capture[..20]).len() - 24);
    let mut late = connect(hub.client());
    read_exact(&mut late, 24);
    pipe.write_all(&pcap(&capture[20..])[24..]).unwrap();
    drop(pipe);
    let mut octets = header(1);
    std::io::Read::read_to_end(&mut late, &mut octets).unwrap();
    assert_eq!(read_pcap(&octets), capture[20..]);
    assert!(hub.ended().0.success());
}

#[test]
fn with_history_a_late_client_gets_the_past_first() {
    for history in ["10s", "1MiB"] {
        let (mut hub, mut pipe, capture) = started(&["--history", history]);
        pipe.write_all(&pcap(&capture[..20])).unwrap();
        pipe.flush().unwrap();
        let mut early = connect(hub.client());
        read_exact(&mut early, pcap(&capture[..20]).len());
        let mut late = connect(hub.client());
        let past = read_exact(&mut late, pcap(&capture[..20]).len());
        assert_eq!(read_pcap(&past), capture[..20], "--history {history}");
        pipe.write_all(&pcap(&capture[20..])[24..]).unwrap();
        drop(pipe);
        let mut octets = header(1);
        std::io::Read::read_to_end(&mut late, &mut octets).unwrap();
        assert_eq!(read_pcap(&octets), capture[20..]);
        drop(early);
        assert!(hub.ended().0.success());
    }
}
