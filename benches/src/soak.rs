//! `./soak`: 200,000 packets a second for a while, with clients that come, stall and go, and
//! producers that come and go: whether memory and descriptors stay what they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::harness::{Server, pcaphub};

/// Packets a second.
const RATE: u64 = 200_000;
/// Clients that read all the time.
const STEADY: usize = 4;
/// Clients that stall at the same time, at most.
const STALLED: u64 = 20;
/// How long one of them stalls: long enough that it falls behind the ring.
const STALL: Duration = Duration::from_secs(20);
/// How often memory and descriptors are looked at.
const LOOK: Duration = Duration::from_secs(10);

struct Tally {
    running: AtomicBool,
    came: AtomicU64,
    stalled: AtomicU64,
    pushed: AtomicU64,
}

/// One look.
struct Sample {
    minutes: f64,
    rss_mib: f64,
    descriptors: f64,
}

pub(crate) fn run(minutes: u64) -> Result<()> {
    let mut command = Command::new(pcaphub()?);
    command
        .args(["pipe", &format!("demo:?rate={RATE}&mix=imix"), "tcp-listen://127.0.0.1:0?name=visitors"])
        .args(["--to", "tcp-listen://127.0.0.1:0?on-slow=drop&format=pcapng", "--stats", "json"])
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    println!("  {command:?}");
    let mut hub = Server { child: command.spawn()? };
    let mut log = BufReader::new(hub.child.stderr.take().context("no log")?).lines();
    let mut address = |role: &str| -> Result<SocketAddr> {
        loop {
            let line = log.next().context("the hub ended")??;
            let Some((_, rest)) = line.split_once("listening on ") else { continue };
            if let Some(address) = rest.strip_suffix(&format!(" for {role}")) {
                return Ok(address.parse()?);
            }
        }
    };
    let (producers, clients) = (address("producers")?, address("clients")?);
    let last_line = std::thread::spawn(move || log.map_while(Result::ok).last());

    let tally = Arc::new(Tally {
        running: AtomicBool::new(true),
        came: AtomicU64::new(0),
        stalled: AtomicU64::new(0),
        pushed: AtomicU64::new(0),
    });
    let steady: Vec<_> = (0..STEADY).map(|_| std::thread::spawn(move || drain(clients))).collect();
    let visiting = std::thread::spawn({
        let tally = tally.clone();
        move || visit(clients, producers, &tally)
    });
    let samples = watch(&hub, Duration::from_secs(60 * minutes), &tally)?;
    tally.running.store(false, Ordering::Relaxed);
    visiting.join().ok().context("the visitors failed")??;
    let _ = Command::new("kill").args(["-INT", &hub.child.id().to_string()]).status()?;
    let status = hub.child.wait()?;
    for client in steady {
        ensure!(client.join().ok().context("a client failed")?? > 0, "a steady client got nothing");
    }
    let counts = last_line.join().ok().flatten().context("no counts at the end")?;
    report(&samples, &tally);
    println!("  {status}; {counts}");
    ensure!(status.success(), "the hub ended with {status}");
    Ok(())
}

fn drain(address: SocketAddr) -> Result<u64> {
    crate::harness::drain(TcpStream::connect(address)?)
}

/// Each second: a client that reads for a moment and goes, one that stalls, and a producer.
fn visit(clients: SocketAddr, producers: SocketAddr, tally: &Tally) -> Result<()> {
    let mut stalled: Vec<(Instant, TcpStream)> = Vec::new();
    let mut round = 0u64;
    while tally.running.load(Ordering::Relaxed) {
        let begun = Instant::now();
        let mut client = TcpStream::connect(clients)?;
        let mut buffer = vec![0; 1 << 20];
        for _ in 0..round % 16 {
            client.read_exact(&mut buffer)?;
        }
        tally.came.fetch_add(1, Ordering::Relaxed);
        if (stalled.len() as u64) < STALLED {
            stalled.push((begun, TcpStream::connect(clients)?));
            tally.stalled.fetch_add(1, Ordering::Relaxed);
        }
        // Every other one that has stalled for long reads on for a moment; then they go.
        let (over, still): (Vec<_>, Vec<_>) =
            stalled.into_iter().partition(|(since, _)| since.elapsed() >= STALL);
        stalled = still;
        for (_, mut stream) in over.into_iter().step_by(2) {
            stream.read_exact(&mut buffer)?;
        }
        push(producers, round)?;
        tally.pushed.fetch_add(1, Ordering::Relaxed);
        round += 1;
        std::thread::sleep(Duration::from_secs(1).saturating_sub(begun.elapsed()));
    }
    Ok(())
}

/// A producer with 100 packets; every third one dies in the middle of a record.
fn push(address: SocketAddr, round: u64) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut octets = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 262_144, 1]);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    for _ in 0..100 {
        octets.extend(words(&[now.as_secs() as u32, now.subsec_micros(), 60, 60]));
        octets.extend([0; 60]);
    }
    let end = octets.len() - if round.is_multiple_of(3) { 17 } else { 0 };
    stream.write_all(octets.get(..end).unwrap_or_default())?;
    Ok(())
}

/// Looks at the hub until the time is over.
fn watch(hub: &Server, time: Duration, tally: &Tally) -> Result<Vec<Sample>> {
    let (begun, pid) = (Instant::now(), hub.child.id());
    let mut samples = Vec::new();
    println!("  minutes   resident   descriptors   clients so far   CPU");
    while begun.elapsed() < time {
        std::thread::sleep(LOOK.min(time.saturating_sub(begun.elapsed())));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("the hub is gone")?;
        let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count() as f64;
        let minutes = begun.elapsed().as_secs_f64() / 60.0;
        samples.push(Sample { minutes, rss_mib: kib / 1024.0, descriptors });
        if samples.len() % 6 == 0 {
            let (came, cpu) = (tally.came.load(Ordering::Relaxed), hub.cpu() / begun.elapsed().as_secs_f64());
            println!(
                "  {minutes:>7.1}   {:>5.1} MiB   {descriptors:>11}   {came:>14}   {:.0} %",
                kib / 1024.0,
                cpu * 100.0
            );
        }
    }
    Ok(samples)
}

fn report(samples: &[Sample], tally: &Tally) {
    // The first fifth fills rings and pools.
    let settled = samples.get(samples.len() / 5..).unwrap_or_default();
    let (early, late) = settled.split_at(settled.len() / 2);
    let mean = |samples: &[Sample], figure: fn(&Sample) -> f64| {
        samples.iter().map(figure).sum::<f64>() / samples.len().max(1) as f64
    };
    let minutes = samples.last().map_or(0.0, |sample| sample.minutes);
    println!(
        "\n  {minutes:.0} minutes at {RATE} packets/s; {} clients came and went, {} of them stalled; {} producers",
        tally.came.load(Ordering::Relaxed) + tally.stalled.load(Ordering::Relaxed),
        tally.stalled.load(Ordering::Relaxed),
        tally.pushed.load(Ordering::Relaxed)
    );
    for (what, figure) in [
        ("resident MiB", (|sample| sample.rss_mib) as fn(&Sample) -> f64),
        ("descriptors", |sample| sample.descriptors),
    ] {
        let (first, second) = (mean(early, figure), mean(late, figure));
        let most = samples.iter().map(figure).fold(0.0, f64::max);
        println!("  {what}: mean {first:.1} in the first half, {second:.1} in the second; {most:.1} at most");
    }
}
