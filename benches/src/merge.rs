//! Sixteen files into a pipe that is read away.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pcaphub::traffic::Mix;

use crate::Effort;
use crate::captures::{capture, records};
use crate::harness::*;

pub(crate) fn run(effort: &Effort) -> Result<()> {
    let packets = effort.packets;
    let files = capture(Mix::Imix, packets, 16)?;
    check(&files, packets)?;
    println!("  A: pcaphub cat FILE ×16 --format pcap | READER;  B: mergecap -F pcap -w - FILE ×16 | READER");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let with_mergecap = has("mergecap");
    for _ in 0..effort.pairs {
        ours.push(once(Command::new(pcaphub()?).args(["cat", "--format", "pcap"]).args(&files))?);
        if with_mergecap {
            theirs.push(once(Command::new("mergecap").args(["-F", "pcap", "-w", "-"]).args(&files))?);
        }
    }
    for (name, runs) in [("pcaphub", &ours), ("mergecap", &theirs)] {
        println!("  {name:<10} {:.2} million packets/s", packets as f64 / middle(runs, |c| c.seconds) / 1e6);
    }
    let speed = |cost: &Cost| 1.0 / cost.seconds;
    verdict("packets/s, pcaphub / mergecap", ratio(&ours, &theirs, speed), true, 3.0);
    Ok(())
}

fn once(command: &mut Command) -> Result<Cost> {
    let begun = Instant::now();
    let mut server = Server::start(command.stdout(Stdio::piped()))?;
    let octets = drain(server.child.stdout.take().context("no pipe")?)?;
    Ok(Cost {
        seconds: begun.elapsed().as_secs_f64(),
        octets: octets as f64,
        cpu: server.cpu(),
        rss_mib: 0.0,
    })
}

/// The output is that of a stable sort by time, of the files in their order.
fn check(files: &[PathBuf], packets: usize) -> Result<()> {
    let mut hub = Server::start(
        Command::new(pcaphub()?).args(["cat", "--format", "pcap"]).args(files).stdout(Stdio::piped()),
    )?;
    let mut merged = Vec::new();
    hub.child.stdout.take().context("no pipe")?.read_to_end(&mut merged)?;
    let inputs = files.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let all = inputs
        .iter()
        .flat_map(|octets| records(octets).into_iter().map(move |(time, at)| (time, octets.get(at))));
    let mut sorted: Vec<_> = all.collect();
    sorted.sort_by_key(|(time, _)| *time);
    let equal = sorted.windows(2).filter(|pair| matches!(pair, [a, b] if a.0 == b.0)).count();
    let got = records(&merged);
    ensure!(got.len() == packets, "{} of {packets} packets came out", got.len());
    let same = got.iter().zip(&sorted).all(|((_, at), (_, octets))| merged.get(at.clone()) == *octets);
    ensure!(same, "not the order of a stable sort");
    println!("  output identical to a stable sort, {equal} times equal to the one before");
    Ok(())
}
