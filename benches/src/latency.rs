//! One packet at a time through an idle hub.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Effort;
use crate::harness::*;

/// A record of 64 octets.
const RECORD: usize = 16 + 64;
/// Packets per second.
const RATE: u32 = 1000;

fn record() -> Vec<u8> {
    let mut record: Vec<u8> =
        [1_700_000_000u32, 0, 64, 64].iter().flat_map(|word| word.to_le_bytes()).collect();
    record.resize(RECORD, 0);
    record
}

fn header() -> Vec<u8> {
    [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1].iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn run(effort: &Effort) -> Result<()> {
    println!(
        "  A: PRODUCER | pcaphub serve tcp://PRODUCER;  B: PRODUCER | nc -l; {RATE} packets/s of 64 octets"
    );
    let packets = if effort.pairs < 5 { 500 } else { 2000 };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        ours.push(hub(packets)?);
        theirs.push(netcat(packets)?);
    }
    let of = |runs: &[(f64, f64)], pick: fn(&(f64, f64)) -> f64| median(runs.iter().map(pick).collect());
    let (our_median, their_median) = (of(&ours, |r| r.0), of(&theirs, |r| r.0));
    let (our_p99, their_p99) = (of(&ours, |r| r.1), of(&theirs, |r| r.1));
    println!("  pcaphub  median {our_median:.0} µs, p99 {our_p99:.0} µs");
    println!("  nc -l    median {their_median:.0} µs, p99 {their_p99:.0} µs");
    verdict("median, µs over nc", our_median - their_median, false, 60.0);
    verdict("p99, µs", our_p99, false, 1000.0);
    Ok(())
}

fn hub(packets: u32) -> Result<(f64, f64)> {
    let producer = TcpListener::bind("127.0.0.1:0")?;
    let port = free_port()?;
    let mut command = Command::new(pcaphub()?);
    command.args([
        "serve",
        "-q",
        &format!("tcp://{}", producer.local_addr()?),
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]);
    let _hub = Server::start(&mut command)?;
    let (mut source, _) = producer.accept()?;
    source.set_nodelay(true)?;
    source.write_all(&header())?;
    measure(&mut source, connect(port)?, packets)
}

fn netcat(packets: u32) -> Result<(f64, f64)> {
    let port = free_port()?;
    let mut nc =
        Server::start(Command::new("nc").args(["-l", "127.0.0.1", &port.to_string()]).stdin(Stdio::piped()))?;
    let mut source = nc.child.stdin.take().context("no pipe")?;
    let client = connect(port)?;
    source.write_all(&header())?;
    measure(&mut source, client, packets)
}

/// Median and 99th percentile in microseconds.
fn measure(source: &mut dyn Write, mut client: TcpStream, packets: u32) -> Result<(f64, f64)> {
    client.set_nodelay(true)?;
    client.read_exact(&mut [0; 24])?;
    let record = record();
    let (mut delays, begun) = (Vec::new(), Instant::now());
    for number in 0..packets {
        let due = Duration::from_secs(1) / RATE * number;
        std::thread::sleep(due.saturating_sub(begun.elapsed()));
        let sent = Instant::now();
        source.write_all(&record)?;
        client.read_exact(&mut [0; RECORD])?;
        delays.push(sent.elapsed().as_secs_f64() * 1e6);
    }
    delays.sort_by(f64::total_cmp);
    let p99 = delays.get(delays.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    Ok((median(delays), p99))
}
