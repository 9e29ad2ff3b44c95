//! One stream on standard input to many clients, nothing lost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pcaphub::traffic::Mix;
use rustix::event::epoll;

use crate::Effort;
use crate::captures::capture;
use crate::harness::*;

/// What pcap-broker reached on the machine that PERFORMANCE figures were taken on, for comparison:
/// clients, thousand packets delivered per second in all, s/GB.
const PCAP_BROKER: &[(usize, u32, &str)] =
    &[(1, 35, "33–45"), (8, 67, "33–45"), (32, 62, "33–45"), (100, 74, "33–45")];

/// GB delivered in one run, in all.
const DELIVERED: f64 = 6e9;

pub(crate) fn run(effort: &Effort) -> Result<()> {
    let file = capture(Mix::Imix, effort.packets / 10, 1)?.remove(0);
    let octets = std::fs::read(file)?;
    println!("  FEEDER | pcaphub serve - --on-slow wait --listen 127.0.0.1:PORT");
    for (clients, broker, cpu) in PCAP_BROKER {
        let rounds = (DELIVERED / *clients as f64 / octets.len() as f64).ceil().max(1.0) as usize;
        let rounds = if effort.pairs < 5 { rounds.div_ceil(8) } else { rounds };
        let runs = (0..effort.pairs).map(|_| once(&octets, *clients, rounds)).collect::<Result<Vec<_>>>()?;
        let (rate, spent) = (middle(&runs, Cost::rate) / 1000.0, middle(&runs, Cost::cpu_per_gb));
        let rss = middle(&runs, |cost| cost.rss_mib);
        println!(
            "  {clients:>3} clients: {rate:.2} GB/s in all, server {spent:.3} s/GB, peak {rss:.0} MiB, nothing lost"
        );
        println!("      (pcap-broker, quoted: {broker},000 packets/s in all, {cpu} s/GB)");
        match clients {
            32 => {
                verdict("s/GB at 32", spent, false, 0.30);
                verdict("GB/s at 32", rate, true, 3.0);
            }
            100 => verdict("s/GB at 100", spent, false, 0.25),
            _ => {}
        }
        verdict("peak RSS in MiB", rss, false, 128.0);
    }
    Ok(())
}

/// 100 clients at ten listeners, each of which has a filter that lets everything through: what filters
/// cost when they save nothing.
pub(crate) fn filtered(effort: &Effort) -> Result<()> {
    let file = capture(Mix::Imix, effort.packets / 10, 1)?.remove(0);
    let octets = std::fs::read(file)?;
    println!("  FEEDER | pcaphub serve - --on-slow wait, ten listeners with ten clients each");
    println!("  A: each with another filter, which every packet matches;  B: without filters");
    let rounds = if effort.pairs < 5 { 1 } else { 3 };
    let filters: Vec<String> = (1..=10)
        .map(|port| format!("(tcp or udp) and not port {port} and not src net 192.168.{port}"))
        .collect();
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        with.push(serve(&octets, 100, rounds, &filters, 10)?);
        without.push(serve(&octets, 100, rounds, &[], 10)?);
    }
    let packets = crate::captures::records(&octets).len() as f64 * rounds as f64;
    let each = |runs: &[Cost]| median(runs.iter().map(|cost| cost.cpu / packets * 1e6).collect());
    println!("  {:.2} µs per packet offered with filters, {:.2} without", each(&with), each(&without));
    verdict("CPU, with / without", ratio(&with, &without, |cost| cost.cpu), false, 1.5);
    Ok(())
}

fn once(capture: &[u8], clients: usize, rounds: usize) -> Result<Cost> {
    serve(capture, clients, rounds, &[], 1)
}

fn serve(
    capture: &[u8],
    clients: usize,
    rounds: usize,
    filters: &[String],
    listeners: usize,
) -> Result<Cost> {
    let ports = (0..listeners).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
    let mut command = Command::new(pcaphub()?);
    command.args(["serve", "-", "-q", "--on-slow", "wait"]);
    for (number, port) in ports.iter().enumerate() {
        command.args(["--listen", &format!("127.0.0.1:{port}")]);
        if let Some(filter) = filters.get(number) {
            command.args(["--opt", &format!("filter={filter}")]);
        }
    }
    let mut server = Server::start(command.stdin(Stdio::piped()))?;
    let mut pipe = server.child.stdin.take().context("no pipe")?;
    rustix::pipe::fcntl_setpipe_size(&pipe, 1 << 20)?;
    let (header, records) = capture.split_at(24);
    pipe.write_all(header)?;
    let mut streams = Vec::new();
    for port in ports.iter().cycle().take(clients) {
        let mut stream = connect(*port)?;
        let mut got = [0; 24];
        stream.read_exact(&mut got)?;
        ensure!(got == *header, "another header came out");
        stream.set_nonblocking(true)?;
        streams.push(stream);
    }
    let begun = Instant::now();
    let peak = std::thread::scope(|scope| -> Result<f64> {
        let feeding = scope.spawn(move || -> Result<()> {
            for _ in 0..rounds {
                pipe.write_all(records)?;
            }
            Ok(())
        });
        let expected = (records.len() * rounds) as u64;
        let peak = read_all(&mut streams, records, expected, &server)?;
        feeding.join().map_err(|_| anyhow::anyhow!("the feeder failed"))??;
        Ok(peak)
    })?;
    let octets = (records.len() * rounds * clients) as f64;
    Ok(Cost { seconds: begun.elapsed().as_secs_f64(), octets, cpu: server.cpu(), rss_mib: peak })
}

/// Reads every client to its end on one thread: as cheap as reading can be. The first client's
/// octets are compared, all are counted.
fn read_all(streams: &mut [TcpStream], records: &[u8], expected: u64, server: &Server) -> Result<f64> {
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    for (index, stream) in streams.iter().enumerate() {
        epoll::add(&poll, stream, epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
    }
    let mut got = vec![0u64; streams.len()];
    let mut open = streams.len();
    let mut buffer = vec![0; 1 << 20];
    let mut events = Vec::with_capacity(64);
    let mut peak: f64 = 0.0;
    while open > 0 {
        events.clear();
        epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let index = event.data.u64() as usize;
            let (Some(stream), Some(count)) = (streams.get_mut(index), got.get_mut(index)) else { continue };
            match stream.read(&mut buffer) {
                Ok(0) => {
                    epoll::delete(&poll, &*stream)?;
                    open -= 1;
                }
                Ok(n) => {
                    if index == 0 {
                        ensure!(
                            same(records, *count, buffer.get(..n).unwrap_or_default()),
                            "octet {count}: changed"
                        );
                    }
                    *count += n as u64;
                    if *count == expected {
                        peak = server.peak().max(peak);
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    ensure!(got.iter().all(|count| *count == expected), "lost: {got:?} of {expected} each");
    Ok(peak)
}

/// Whether `octets` are those of the endless repetition of `records` from `at` on.
fn same(records: &[u8], at: u64, octets: &[u8]) -> bool {
    let mut at = (at % records.len() as u64) as usize;
    let mut octets = octets;
    while !octets.is_empty() {
        let n = octets.len().min(records.len() - at);
        if octets.get(..n) != records.get(at..at + n) {
            return false;
        }
        octets = octets.get(n..).unwrap_or_default();
        at = 0;
    }
    true
}
