//! Capture on an interface and replay onto one, beside tcpdump and tcpreplay on the same veth pair.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pcaphub::traffic::Mix;

use crate::Effort;
use crate::captures::{capture, records};
use crate::harness::*;
use crate::network::{Network, network};

const PORT: &str = "127.0.0.1:57012";

/// What a capture came to.
#[derive(Clone, Copy)]
struct Captured {
    /// Of a core.
    load: f64,
    /// Of the packets sent.
    lost: f64,
    rate: f64,
}

pub(crate) fn capture_to_client(effort: &Effort) -> Result<()> {
    let Some(network) = network()? else { return Ok(()) };
    if !has("tcpdump") || !has("nc") {
        return Ok(());
    }
    println!("  A: pcaphub serve -i vb;  B: tcpdump -i vb -U -w - | nc -l; to one client");
    println!("  sender: pcaphub replay FILE va --pace RATE");
    let packets = if effort.pairs < 5 { 400_000 } else { 1_500_000 };
    for (mix, name) in [(Mix::Imix, "346"), (Mix::Fixed(64), "64")] {
        let file = capture(mix, packets, 1)?.remove(0);
        for pace in ["200kpps", "500kpps", "max"] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..effort.pairs.min(3) {
                ours.push(once(&network, &file, pace, true)?);
                theirs.push(once(&network, &file, pace, false)?);
            }
            let of = |runs: &[Captured], pick: fn(&Captured) -> f64| median(runs.iter().map(pick).collect());
            println!(
                "  {name:>3} octets, {:>3.0},000/s:  pcaphub {:>4.1} % of a core, {:.2} % lost;  tcpdump | nc {:>4.1} %, {:.2} % lost",
                of(&ours, |run| run.rate) / 1000.0,
                of(&ours, |run| run.load) * 100.0,
                of(&ours, |run| run.lost) * 100.0,
                of(&theirs, |run| run.load) * 100.0,
                of(&theirs, |run| run.lost) * 100.0,
            );
            let ratio = of(&ours, |run| run.load) / of(&theirs, |run| run.load);
            verdict("CPU, pcaphub / tcpdump | nc", ratio, false, 0.4);
            if pace == "500kpps" {
                verdict("lost, %", of(&ours, |run| run.lost) * 100.0, false, 0.0);
            }
        }
    }
    Ok(())
}

fn once(network: &Network, file: &Path, pace: &str, ours: bool) -> Result<Captured> {
    let program = pcaphub()?;
    let program = program.to_string_lossy();
    let mut command;
    let servers = if ours {
        command = network.command('b', &[&program, "serve", "-q", "-i", "vb", "--listen", PORT]);
        vec![Server::start(command.stdout(Stdio::null()))?]
    } else {
        let mut tcpdump = Server::start(
            network.command('b', &["tcpdump", "-i", "vb", "-U", "-w", "-"]).stdout(Stdio::piped()),
        )?;
        let pipe = tcpdump.child.stdout.take().context("no pipe")?;
        let nc = Server::start(
            network.command('b', &["nc", "-l", "127.0.0.1", "57012"]).stdin(pipe).stdout(Stdio::piped()),
        )?;
        vec![tcpdump, nc]
    };
    let mut client = network.connect('b', 57012)?;
    client.read_exact(&mut [0; 24])?;
    let counting = std::thread::spawn(move || count_records(client));
    let before = network.count('b', "vb", "rx_packets")?;
    let (spent, begun) = (servers.iter().map(Server::busy).sum::<f64>(), Instant::now());
    let file = file.to_string_lossy();
    let mut sender = network.command('a', &[&program, "replay", "-q", &file, "va", "--pace", pace]);
    ensure!(sender.status()?.success(), "the sender failed");
    let seconds = begun.elapsed().as_secs_f64();
    // What is on its way arrives; nobody sends any more.
    std::thread::sleep(Duration::from_millis(700));
    let spent = servers.iter().map(Server::busy).sum::<f64>() - spent;
    let sent = network.count('b', "vb", "rx_packets")? - before;
    drop(servers);
    let received = counting.join().map_err(|_| anyhow::anyhow!("the client failed"))?;
    let lost = 1.0 - received as f64 / sent as f64;
    Ok(Captured { load: spent / seconds, lost: lost.max(0.0), rate: sent as f64 / seconds })
}

/// Reads whole records until the end; how many.
fn count_records(mut client: TcpStream) -> u64 {
    let mut buffer = vec![0; 1 << 20];
    let (mut count, mut skip, mut head) = (0, 0usize, Vec::new());
    while let Ok(n) = client.read(&mut buffer)
        && n > 0
    {
        let mut octets = buffer.get(..n).unwrap_or_default();
        while !octets.is_empty() {
            let step = skip.min(octets.len());
            skip -= step;
            octets = octets.get(step..).unwrap_or_default();
            let take = (16 - head.len()).min(octets.len());
            head.extend_from_slice(octets.get(..take).unwrap_or_default());
            octets = octets.get(take..).unwrap_or_default();
            if let Some(length) = head.get(8..12).filter(|_| head.len() == 16) {
                skip = length.try_into().map_or(0, |length| u32::from_le_bytes(length) as usize);
                count += 1;
                head.clear();
            }
        }
    }
    count
}

pub(crate) fn latency(effort: &Effort) -> Result<()> {
    let Some(network) = network()? else { return Ok(()) };
    println!(
        "  1000 datagrams/s over veth, from sending to reading the record; medians and 99th percentiles"
    );
    let packets = if effort.pairs < 5 { 1000 } else { 4000 };
    let program = pcaphub()?;
    let program = program.to_string_lossy();
    for (name, source, target) in
        [("pcaphub", "if:vb", 1500.0), ("pcaphub, latency=low", "if:vb?latency=low", 150.0)]
    {
        let mut command =
            network.command('b', &[&program, "serve", "-q", source, "-f", "udp port 9", "--listen", PORT]);
        let _server = Server::start(&mut command)?;
        let (median, p99) = measure(&network, packets)?;
        println!("  {name:<28} median {median:>7.0} µs, p99 {p99:>7.0} µs");
        verdict("median, µs", median, false, target);
    }
    for (name, extra) in [("tcpdump -U | nc", ""), ("tcpdump --immediate-mode -U | nc", "--immediate-mode")] {
        let line =
            format!("exec tcpdump -i vb {extra} -U -w - udp port 9 2>/dev/null | nc -l 127.0.0.1 57012");
        let mut command = network.command('b', &["sh", "-c", &line]);
        let _server = Server::start(&mut command)?;
        // Its blocks are retired a fifth of a second apart: fewer datagrams show that as well.
        let (median, p99) = measure(&network, packets / 4)?;
        println!("  {name:<28} median {median:>7.0} µs, p99 {p99:>7.0} µs");
    }
    Ok(())
}

fn measure(network: &Network, packets: u32) -> Result<(f64, f64)> {
    let mut client = network.connect('b', 57012)?;
    client.set_nodelay(true)?;
    client.read_exact(&mut [0; 24])?;
    let socket = network.inside('a', || Ok(UdpSocket::bind("10.99.0.1:0")?))?;
    let begun = Instant::now();
    let sending = std::thread::spawn(move || -> Result<Vec<Duration>> {
        let mut sent = Vec::new();
        for number in 0..packets {
            std::thread::sleep((Duration::from_millis(1) * number).saturating_sub(begun.elapsed()));
            sent.push(begun.elapsed());
            socket.send_to(&[0; 22], "10.99.0.2:9")?;
        }
        Ok(sent)
    });
    let mut read = Vec::new();
    for _ in 0..packets {
        client.read_exact(&mut [0; 16 + 64])?;
        read.push(begun.elapsed());
    }
    let sent = sending.join().map_err(|_| anyhow::anyhow!("the sender failed"))??;
    let mut delays: Vec<f64> =
        read.iter().zip(&sent).map(|(read, sent)| (*read - *sent).as_secs_f64() * 1e6).collect();
    delays.sort_by(f64::total_cmp);
    let p99 = delays.get(delays.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    Ok((median(delays), p99))
}

pub(crate) fn replay(effort: &Effort) -> Result<()> {
    let Some(network) = network()? else { return Ok(()) };
    if !has("tcpreplay") {
        return Ok(());
    }
    println!("  A: cat FILE | pcaphub replay - va --pace max;  B: cat FILE | tcpreplay --topspeed -i va -");
    let packets = if effort.pairs < 5 { 400_000 } else { 1_500_000 };
    let program = pcaphub()?;
    let program = program.to_string_lossy();
    for (mix, name) in [(Mix::Fixed(64), "64"), (Mix::Imix, "346")] {
        let file = capture(mix, packets, 1)?.remove(0);
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..effort.pairs {
            ours.push(rate(&network, &file, &[&program, "replay", "-q", "-", "va", "--pace", "max"])?);
            theirs.push(rate(&network, &file, &["tcpreplay", "-q", "--topspeed", "-i", "va", "-"])?);
        }
        let ratio = median(ours.iter().zip(&theirs).map(|(a, b)| a / b).collect());
        println!(
            "  {name:>3} octets: pcaphub {:.0},000 packets/s, tcpreplay {:.0},000; none lost",
            median(ours) / 1000.0,
            median(theirs) / 1000.0
        );
        verdict("packets/s, pcaphub / tcpreplay", ratio, true, 1.5);
    }
    drift(&network, if effort.pairs < 5 { 10 } else { 60 })
}

fn rate(network: &Network, file: &Path, words: &[&str]) -> Result<f64> {
    let sent = records(&std::fs::read(file)?).len() as u64;
    let before = network.count('b', "vb", "rx_packets")?;
    let begun = Instant::now();
    let mut cat = Command::new("cat").arg(file).stdout(Stdio::piped()).spawn()?;
    let input = cat.stdout.take().context("the output of cat")?;
    let status =
        network.command('a', words).stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).status()?;
    let took = begun.elapsed();
    ensure!(cat.wait()?.success() && status.success(), "{words:?}");
    let received = network.count('b', "vb", "rx_packets")? - before;
    ensure!(received == sent, "{received} of {sent} arrived");
    Ok(received as f64 / took.as_secs_f64())
}

/// A capture of so many seconds at its original speed, and when its packets came.
fn drift(network: &Network, seconds: u32) -> Result<()> {
    let folder = std::env::current_exe()?.with_file_name("bench-data");
    let path = folder.join("drift.pcap");
    let mut file = File::create(&path)?;
    let words = |words: [u32; 4]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    file.write_all(&[0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, 1].map(u32::to_le_bytes).concat())?;
    let times: Vec<u64> = (0..u64::from(seconds) * 500).map(|n| n * 2000).collect();
    for time in &times {
        file.write_all(&words([
            1_700_000_000 + (time / 1_000_000) as u32,
            (time % 1_000_000) as u32,
            64,
            64,
        ]))?;
        file.write_all(&[2; 64])?;
    }
    drop(file);
    let program = pcaphub()?;
    let program = program.to_string_lossy();
    let out = folder.join("drifted.pcap");
    let out_text = out.to_string_lossy();
    let mut receiver = network.command(
        'b',
        &[
            &program,
            "pipe",
            "-q",
            "-i",
            "vb",
            "-c",
            &times.len().to_string(),
            "--to",
            &out_text,
            "-f",
            "ether[20] = 2",
        ],
    );
    let mut receiver = Server::start(&mut receiver)?;
    std::thread::sleep(Duration::from_millis(500));
    let path = path.to_string_lossy();
    ensure!(network.command('a', &[&program, "replay", "-q", &path, "va"]).status()?.success(), "replay");
    receiver.child.wait()?;
    let came: Vec<u64> = records(&std::fs::read(&out)?).into_iter().map(|(time, _)| time).collect();
    ensure!(came.len() == times.len(), "{} of {} came", came.len(), times.len());
    let first = came.first().copied().unwrap_or(0);
    let mut late: Vec<f64> =
        came.iter().zip(&times).map(|(came, due)| (*came as f64 - first as f64) - *due as f64).collect();
    let tail: Vec<f64> = late.iter().rev().take(500).copied().collect();
    late.sort_by(f64::total_cmp);
    let p99 = late.get(late.len() * 99 / 100).copied().unwrap_or(f64::NAN);
    println!(
        "  {seconds} s at the original speed: deviation median {:.0} µs, p99 {p99:.0} µs, in the last second {:.0} µs",
        median(late.clone()),
        median(tail.clone())
    );
    verdict("drift, ms", (median(tail) / 1000.0).abs(), false, 1.0);
    Ok(())
}
