//! The filter interpreter alone, over the packets of a capture, beside libpcap's bpf_filter.

use std::hint::black_box;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pcaphub::traffic::Mix;
use pcaphub_core::filter::{Instruction, Program};
use pcaphub_sys::libpcap::{self, Oracle};

use crate::Effort;
use crate::captures::{capture, records};
use crate::harness::*;

const EXPRESSION: &str = "tcp port 80 or udp port 53";
/// Packets of one pass: as many as are in a batch or two.
const PACKETS: usize = 4096;
const PASSES: usize = 500;

pub(crate) fn run(effort: &Effort) -> Result<()> {
    let Ok(compiled) = libpcap::compile(EXPRESSION, 1, 0) else {
        println!("  (no libpcap here: left out)");
        return Ok(());
    };
    let ours = |&libpcap::Instruction { code, jt, jf, k }| Instruction { code, jt, jf, k };
    let program = Program::new(compiled.iter().map(ours).collect())?;
    let oracle = Oracle::new(compiled).context("libpcap does not like its own program")?;
    let file = std::fs::read(capture(Mix::Imix, 100_000, 1)?.remove(0))?;
    let packets: Vec<&[u8]> = records(&file)
        .into_iter()
        .take(PACKETS)
        .filter_map(|(_, record)| file.get(record.start + 16..record.end))
        .collect();
    println!("  `{EXPRESSION}` over {} packets of the IMIX capture", packets.len());
    let time = |accepts: &dyn Fn(&[u8]) -> bool| {
        let (begun, mut accepted) = (Instant::now(), 0);
        for _ in 0..PASSES {
            accepted += black_box(&packets).iter().filter(|octets| accepts(octets)).count();
        }
        (begun.elapsed().as_secs_f64() * 1e9 / (PASSES * packets.len()) as f64, accepted)
    };
    let (mut mine, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        let (ns, ours) = time(&|octets| program.accepts(octets, octets.len() as u32));
        let (their_ns, same) = time(&|octets| oracle.run(octets, octets.len() as u32) > 0);
        ensure!(ours == same, "{ours} packets accepted, by libpcap {same}");
        mine.push(ns);
        theirs.push(their_ns);
    }
    println!(
        "  pcaphub {:.1} ns per packet, bpf_filter {:.1} ns",
        median(mine.clone()),
        median(theirs.clone())
    );
    verdict("ns per packet", median(mine.clone()), false, 40.0);
    let ratio = median(mine.iter().zip(&theirs).map(|(a, b)| a / b).collect());
    verdict("ns, pcaphub / bpf_filter", ratio, false, 1.1);
    Ok(())
}
