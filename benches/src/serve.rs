//! A file to one client, and to a hundred.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Result, ensure};
use pcaphub::traffic::Mix;

use crate::Effort;
use crate::captures::capture;
use crate::harness::*;

pub(crate) fn run(effort: &Effort) -> Result<()> {
    for (mix, packets) in [(Mix::Imix, effort.packets), (Mix::Fixed(64), effort.packets * 2)] {
        let file = capture(mix, packets, 1)?.remove(0);
        println!("{mix}: {packets} packets, {} octets", std::fs::metadata(&file)?.len());
        one_client(&file, effort)?;
    }
    Ok(())
}

fn one_client(file: &Path, effort: &Effort) -> Result<()> {
    let (mut ours, mut nc, mut socat) = (Vec::new(), Vec::new(), Vec::new());
    let (with_nc, with_socat) = (has("nc"), has("socat"));
    println!("  A: pcaphub serve FILE --listen 127.0.0.1:PORT");
    println!("  B: nc -l -N 127.0.0.1 PORT < FILE;  C: socat -b1048576 -u FILE:FILE TCP-LISTEN:PORT");
    for _ in 0..effort.pairs {
        ours.push(once(file, &mut |port| {
            let mut command = Command::new(pcaphub()?);
            command.args(["serve", "-q", "--listen", &format!("127.0.0.1:{port}")]).arg(file);
            Server::start(&mut command)
        })?);
        if with_nc {
            nc.push(once(file, &mut |port| {
                let stdin = Stdio::from(File::open(file)?);
                Server::start(
                    Command::new("nc").args(["-l", "-N", "127.0.0.1", &port.to_string()]).stdin(stdin),
                )
            })?);
        }
        if with_socat {
            socat.push(once(file, &mut |port| {
                let (from, to) = (
                    format!("FILE:{}", file.display()),
                    format!("TCP-LISTEN:{port},bind=127.0.0.1,reuseaddr"),
                );
                Server::start(Command::new("socat").args(["-b1048576", "-u", &from, &to]))
            })?);
        }
    }
    for (name, runs) in [("pcaphub", &ours), ("nc", &nc), ("socat -b1M", &socat)] {
        let (rate, cpu) = (middle(runs, Cost::rate), middle(runs, Cost::cpu_per_gb));
        println!("  {name:<12} {rate:>6.0} MB/s   server {cpu:.3} s/GB");
    }
    verdict("MB/s, pcaphub / nc", ratio(&ours, &nc, Cost::rate), true, 1.3);
    verdict("MB/s, pcaphub / socat", ratio(&ours, &socat, Cost::rate), true, 0.9);
    verdict("s/GB, pcaphub / nc", ratio(&ours, &nc, Cost::cpu_per_gb), false, 0.8);
    Ok(())
}

fn once(file: &Path, start: &mut dyn FnMut(u16) -> Result<Server>) -> Result<Cost> {
    let size = std::fs::metadata(file)?.len();
    let port = free_port()?;
    let server = start(port)?;
    let stream = connect(port)?;
    let begun = Instant::now();
    let octets = drain(&stream)?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(octets == size, "the receiver got {octets} of {size} octets");
    Ok(Cost { seconds, octets: octets as f64, cpu: server.cpu(), rss_mib: server.peak() })
}

/// A hundred clients of one file at once.
pub(crate) fn hundred(effort: &Effort) -> Result<()> {
    let file = capture(Mix::Imix, effort.packets / 10, 1)?.remove(0);
    let size = std::fs::metadata(&file)?.len();
    let port = free_port()?;
    let mut command = Command::new(pcaphub()?);
    command.args(["serve", "-q", "--listen", &format!("127.0.0.1:{port}")]).arg(&file);
    let server = Server::start(&mut command)?;
    let begun = Instant::now();
    let streams = (0..100).map(|_| connect(port)).collect::<Result<Vec<_>>>()?;
    let read = |stream| std::thread::spawn(move || drain(stream));
    let readers: Vec<_> = streams.into_iter().map(read).collect();
    for reader in readers {
        let octets = reader.join().map_err(|_| anyhow::anyhow!("a reader failed"))??;
        ensure!(octets == size, "a client got {octets} of {size} octets");
    }
    let octets = 100.0 * size as f64;
    let cost =
        Cost { seconds: begun.elapsed().as_secs_f64(), octets, cpu: server.cpu(), rss_mib: server.peak() };
    println!(
        "  pcaphub serve FILE, 100 clients: {:.0} MB/s in all, {:.3} s/GB",
        cost.rate(),
        cost.cpu_per_gb()
    );
    verdict("peak RSS in MiB", cost.rss_mib, false, 256.0);
    Ok(())
}
