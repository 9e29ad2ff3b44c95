//! A file inside TLS to one client, beside socat.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use pcaphub::traffic::Mix;

use crate::Effort;
use crate::captures::capture;
use crate::harness::*;

pub(crate) fn run(effort: &Effort) -> Result<()> {
    if !has("socat") || !has("openssl") {
        return Ok(());
    }
    let file = capture(Mix::Imix, effort.packets, 1)?.remove(0);
    let folder = std::env::temp_dir().join(format!("pcaphub-bench-tls-{}", std::process::id()));
    let made = Command::new(pcaphub()?)
        .args(["cert", "new", "--name", "localhost"])
        .arg(&folder)
        .stdout(Stdio::null())
        .status()?;
    ensure!(made.success(), "pcaphub cert new failed");
    let result = compare(&file, &folder, effort);
    std::fs::remove_dir_all(&folder).context("the certificates of the bench stay")?;
    result
}

fn compare(file: &Path, folder: &Path, effort: &Effort) -> Result<()> {
    println!("  A: pcaphub serve FILE --listen tls-listen://…;  B: socat -b65536 -u FILE OPENSSL-LISTEN:…");
    println!("  to openssl s_client -quiet");
    let (cert, key) = (folder.join("server.pem"), folder.join("server-key.pem"));
    let (mut ours, mut socat) = (Vec::new(), Vec::new());
    for _ in 0..effort.pairs {
        ours.push(once(file, folder, &mut |port| {
            let (cert, key) = (cert.display(), key.display());
            let listen = format!("tls-listen://127.0.0.1:{port}?cert={cert}&key={key}");
            Server::start(Command::new(pcaphub()?).args(["serve", "-q", "--listen", &listen]).arg(file))
        })?);
        socat.push(once(file, folder, &mut |port| {
            let (cert, key) = (cert.display(), key.display());
            let to = format!("OPENSSL-LISTEN:{port},bind=127.0.0.1,reuseaddr,cert={cert},key={key},verify=0");
            let from = format!("FILE:{}", file.display());
            Server::start(Command::new("socat").args(["-b65536", "-u", &from, &to]))
        })?);
    }
    for (name, runs) in [("pcaphub", &ours), ("socat -b65536", &socat)] {
        let (rate, cpu) = (middle(runs, Cost::rate), middle(runs, Cost::cpu_per_gb));
        println!("  {name:<14} {rate:>6.0} MB/s   server {cpu:.3} s/GB");
    }
    verdict("s/GB, pcaphub / socat", ratio(&ours, &socat, Cost::cpu_per_gb), false, 0.7);
    Ok(())
}

fn once(file: &Path, folder: &Path, start: &mut dyn FnMut(u16) -> Result<Server>) -> Result<Cost> {
    let size = std::fs::metadata(file)?.len();
    let port = free_port()?;
    let server = start(port)?;
    let ca: PathBuf = folder.join("ca.pem");
    // It has to listen: a connection that is only looked at would use up the one that socat takes.
    let listening = || Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output();
    let until = Instant::now() + std::time::Duration::from_secs(10);
    while Instant::now() < until && listening().is_ok_and(|output| output.stdout.is_empty()) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let begun = Instant::now();
    let mut reader = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &format!("127.0.0.1:{port}"), "-CAfile"])
        .arg(ca)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let stdout = reader.stdout.take().context("it has a standard output")?;
    let octets = drain(stdout);
    let seconds = begun.elapsed().as_secs_f64();
    let _ = reader.kill();
    let _ = reader.wait();
    let octets = octets?;
    ensure!(octets == size, "the receiver got {octets} of {size} octets");
    Ok(Cost { seconds, octets: octets as f64, cpu: server.cpu(), rss_mib: server.peak() })
}
