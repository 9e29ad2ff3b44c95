//! Ports and peers, after root was given up.

use std::io::Write;
use std::net::TcpListener;

use crate::harness::*;

#[test]
fn a_low_port_is_listened_on_and_a_name_dialled_again_and_again() {
    if !may_capture() {
        return;
    }
    let Some(port) = (900..1000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) else {
        panic!("no port between 900 and 1000 is free");
    };
    let producer = Producer::new();
    let source = format!("tcp://localhost:{}", producer.port());
    let listen = format!("127.0.0.1:{port}");
    let mut hub = Hub::start(&["serve", &source, "--listen", &listen], 1);
    assert_eq!(hub.client().port(), port);
    let mut client = connect(hub.client());
    hub.wait_for("connected");
    let mut octets = header(1);
    for round in 0..3 {
        let packets = packets(1, 10, 1_700_000_000_000_000 + round * 1000, 10);
        // Each time it is dialled anew.
        producer.accept().write_all(&pcap(&packets)).unwrap();
        let records: usize = packets.iter().map(|packet| record(packet).len()).sum();
        let from = if round == 0 { 24 } else { 0 };
        octets.extend(read_exact(&mut client, from + records).split_off(from));
    }
    assert_eq!(read_pcap(&octets).len(), 30);
}
