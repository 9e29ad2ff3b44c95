//! A TCP proxy that misbehaves, between a producer and the hub, and between the hub and a client.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// How it treats what flows from its target.
#[derive(Debug, Clone, Copy)]
pub enum Chaos {
    /// One octet in each segment.
    Octets,
    /// Pieces of 1000 octets, each late.
    Delay(Duration),
    /// A reset after so many octets; the next connection is let through.
    ResetAfter(usize),
    /// Nothing for a while after so many octets.
    StallAfter(usize, Duration),
    /// Whoever connects is told at once that the proxy will send nothing; then it is let through.
    HalfClose,
}

/// Listens, and treats every connection to `target` with `chaos`; where.
pub fn proxy(target: SocketAddr, chaos: Chaos) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect(target)) else { continue };
            std::thread::spawn(move || _ = pass(server, client, chaos, number));
        }
    });
    address
}

fn pass(mut from: TcpStream, mut to: TcpStream, chaos: Chaos, number: usize) -> std::io::Result<()> {
    to.set_nodelay(true)?;
    if matches!(chaos, Chaos::HalfClose) {
        from.shutdown(Shutdown::Write)?;
    }
    let (mut buffer, mut passed) = (vec![0; 1000], 0);
    loop {
        let n = from.read(&mut buffer)?;
        if n == 0 {
            return to.shutdown(Shutdown::Write);
        }
        let octets = &buffer[..n];
        match chaos {
            Chaos::Octets => octets.chunks(1).try_for_each(|octet| to.write_all(octet))?,
            Chaos::Delay(time) => {
                std::thread::sleep(time);
                to.write_all(octets)?;
            }
            Chaos::ResetAfter(after) if number == 0 && passed + n > after => {
                to.write_all(&octets[..after - passed])?;
                socket2::SockRef::from(&to).set_linger(Some(Duration::ZERO))?;
                return Ok(());
            }
            Chaos::StallAfter(after, time) if passed <= after && passed + n > after => {
                to.write_all(&octets[..after - passed])?;
                std::thread::sleep(time);
                to.write_all(&octets[after - passed..])?;
            }
            _ => to.write_all(octets)?,
        }
        passed += n;
    }
}

/// A hub that reads `packets` through the proxy from a producer, and what a client gets of them.
fn through_to_the_hub(chaos: Chaos, packets: &[Packet]) -> (Vec<Packet>, Duration) {
    let producer = Producer::new();
    let address = proxy(format!("127.0.0.1:{}", producer.port()).parse().unwrap(), chaos);
    let source = format!("tcp://{address}");
    let hub = Hub::start(&["serve", &source, "--listen", "127.0.0.1:0"], 1);
    let mut client = connect(hub.client());
    let begun = Instant::now();
    let mut sender = producer.accept();
    sender.write_all(&header(1)).unwrap();
    let mut got = read_exact(&mut client, 24);
    sender.write_all(&pcap(packets)[24..]).unwrap();
    if let Chaos::ResetAfter(_) = chaos {
        // What was not read of the first connection is gone; the second one brings it all.
        let mut again = producer.accept();
        again.write_all(&pcap(packets)).unwrap();
        let (first, second) = (whole_packets(&mut client, packets), Instant::now());
        let (status, _) = hub.stop();
        assert!(status.success());
        return (first, second - begun);
    }
    got.extend(read_exact(&mut client, pcap(packets).len() - 24));
    let took = begun.elapsed();
    let (status, _) = hub.stop();
    assert!(status.success());
    (read_pcap(&got), took)
}

/// Reads packets until the last of `packets` has come.
fn whole_packets(client: &mut TcpStream, packets: &[Packet]) -> Vec<Packet> {
    let mut got = header(1);
    loop {
        let head = read_exact(client, 16);
        let length = u32::from_le_bytes(head[8..12].try_into().unwrap()) as usize;
        got.extend(head);
        got.extend(read_exact(client, length));
        let all = read_pcap(&got);
        if all.last() == packets.last() {
            return all;
        }
    }
}

#[test]
fn a_stream_that_is_cut_to_octets_delayed_stalled_or_half_closed_arrives_whole() {
    let packets = packets(1, 60, BEGIN, 1000);
    let mut reached = Vec::new();
    for chaos in [
        Chaos::Octets,
        Chaos::Delay(Duration::from_millis(10)),
        Chaos::StallAfter(777, Duration::from_secs(3)),
        Chaos::HalfClose,
    ] {
        let (got, took) = through_to_the_hub(chaos, &packets);
        assert!(got == packets, "{chaos:?}");
        reached.push(seconds(took));
    }
    row(
        30,
        "chaos proxy before the hub: octets, delays, a stall, a half-close",
        "every packet arrives",
        &format!("60 of 60 each, in {}", reached.join(", ")),
    );
}

#[test]
fn a_reset_loses_what_was_not_read_and_never_passes_on_a_part() {
    let packets = packets(1, 60, BEGIN, 1000);
    for after in [24, 30, 50, 700] {
        let (got, _) = through_to_the_hub(Chaos::ResetAfter(after), &packets);
        let (first, second) = got.split_at(got.len() - packets.len());
        assert!(second == packets, "the second connection brings all of them");
        assert!(*first == packets[..first.len()], "of the first, whole ones");
    }
    row(31, "chaos proxy before the hub: a reset", "dialled again; whole packets only", "4 of 4");
}

#[test]
fn a_client_behind_the_same_proxy_gets_the_whole_file() {
    let folder = folder();
    let octets = pcap(&packets(1, 60, BEGIN, 1000));
    let path = file(&folder, "in.pcap", &octets);
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    for chaos in [
        Chaos::Octets,
        Chaos::Delay(Duration::from_millis(10)),
        Chaos::StallAfter(777, Duration::from_secs(3)),
        Chaos::HalfClose,
    ] {
        assert!(read_all(proxy(hub.client(), chaos)) == octets, "{chaos:?}");
    }
    // One that is reset loses the rest, which is accounted for.
    let mut stream = connect(proxy(hub.client(), Chaos::ResetAfter(700)));
    let mut got = Vec::new();
    let _ = stream.read_to_end(&mut got);
    assert!(got.len() <= 700);
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(counts["joined"], 5);
    row(32, "chaos proxy before a client", "the whole file, each time", "4 of 4");
}
