//! Four producers over TCP into one ordered stream.

use std::fs::File;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pcaphub::traffic::Mix;

use crate::Effort;
use crate::captures::{capture, records};
use crate::harness::*;

pub(crate) fn run(effort: &Effort) -> Result<()> {
    if !has("nc") {
        return Ok(());
    }
    let packets = effort.packets / 2;
    println!("  nc -l < FILE ×4;  pcaphub cat tcp://… ×4 --order exact --format pcap | READER");
    let rates = (0..effort.pairs).map(|_| once(packets)).collect::<Result<Vec<_>>>()?;
    let rate = median(rates);
    println!("  {rate:.2} million packets/s, nothing lost, nothing out of order");
    println!("  (dumpcap with four TCP@ interfaces, quoted: 0.145 million, half of them lost)");
    verdict("million packets/s", rate, true, 1.5);
    Ok(())
}

fn once(packets: usize) -> Result<f64> {
    let files = capture(Mix::Imix, packets, 4)?;
    let mut command = Command::new(pcaphub()?);
    command.args(["cat", "--order", "exact", "--format", "pcap"]);
    let mut producers = Vec::new();
    for file in files {
        let port = free_port()?;
        let stdin = Stdio::from(File::open(file)?);
        producers.push(Server::start(
            Command::new("nc").args(["-l", "-N", "127.0.0.1", &port.to_string()]).stdin(stdin),
        )?);
        wait_for_listener(port)?;
        command.arg(format!("tcp://127.0.0.1:{port}"));
    }
    let begun = Instant::now();
    let mut hub = Server::start(command.stdout(Stdio::piped()))?;
    let mut octets = Vec::with_capacity(600 << 20);
    hub.child.stdout.take().context("no pipe")?.read_to_end(&mut octets)?;
    let seconds = begun.elapsed().as_secs_f64();
    let records = records(&octets);
    ensure!(records.len() == packets, "{} of {packets} packets came out", records.len());
    ensure!(records.is_sorted_by_key(|(time, _)| *time), "out of order");
    Ok(packets as f64 / seconds / 1e6)
}

/// Looks for a listener without connecting, which would use it up.
fn wait_for_listener(port: u16) -> Result<()> {
    let wanted = format!("0100007F:{port:04X} 00000000:0000 0A");
    let until = Instant::now() + std::time::Duration::from_secs(10);
    while !std::fs::read_to_string("/proc/net/tcp")?.contains(&wanted) {
        ensure!(Instant::now() < until, "nc does not listen");
        std::thread::yield_now();
    }
    Ok(())
}
