//! Commands and what they cost: CPU seconds, peak memory, medians.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What a run came to.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub(crate) seconds: f64,
    pub(crate) octets: f64,
    pub(crate) cpu: f64,
    pub(crate) rss_mib: f64,
}

impl Cost {
    pub(crate) fn rate(&self) -> f64 {
        self.octets / self.seconds / 1e6
    }

    pub(crate) fn cpu_per_gb(&self) -> f64 {
        self.cpu / (self.octets / 1e9)
    }
}

/// The middle of some figures.
pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The median over runs of one figure.
pub(crate) fn middle(runs: &[Cost], figure: fn(&Cost) -> f64) -> f64 {
    median(runs.iter().map(figure).collect())
}

/// The median of the ratios pair by pair: it holds when the machine's speed drifts.
pub(crate) fn ratio(ours: &[Cost], theirs: &[Cost], figure: fn(&Cost) -> f64) -> f64 {
    median(ours.iter().zip(theirs).map(|(a, b)| figure(a) / figure(b)).collect())
}

/// `met` or not, for a figure that is to be at least (or at most) a target.
pub(crate) fn verdict(name: &str, figure: f64, at_least: bool, target: f64) {
    let met = if at_least { figure >= target } else { figure <= target };
    let sign = if at_least { "≥" } else { "≤" };
    println!("  {name}: {figure:.2}   target {sign} {target}: {}", if met { "met" } else { "NOT MET" });
}

/// The command under test, beside this one.
pub(crate) fn pcaphub() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("pcaphub");
    if !path.exists() {
        bail!("{} is not there; ./bench builds it", path.display());
    }
    Ok(path)
}

/// Whether a peer is installed; said if not.
pub(crate) fn has(tool: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {tool} >/dev/null")]).status();
    let found = found.is_ok_and(|status| status.success());
    if !found {
        println!("  (no {tool} here: left out)");
    }
    found
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Connects as soon as somebody listens.
pub(crate) fn connect(port: u16) -> Result<TcpStream> {
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return Ok(stream),
            Err(error) if Instant::now() > until => return Err(error).context("nobody listens"),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Reads to the end; how many octets.
pub(crate) fn drain(mut from: impl Read) -> Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut octets = 0;
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(octets),
            n => octets += n as u64,
        }
    }
}

/// A running command whose cost is known.
pub(crate) struct Server {
    pub(crate) child: Child,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let child = command.stderr(Stdio::null()).spawn().with_context(|| format!("{command:?}"))?;
        Ok(Server { child })
    }

    /// CPU seconds so far; also of a process that has ended and was not waited for.
    pub(crate) fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        let ticks =
            |n: usize| fields.split_whitespace().nth(n).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
        (ticks(11) + ticks(12)) / 100.0
    }

    /// CPU seconds of its threads so far, to the nanosecond: those of a process that is mostly idle
    /// are missed by the ticks that [`cpu`](Self::cpu) counts.
    pub(crate) fn busy(&self) -> f64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let of = |task: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<f64>().ok()
        };
        tasks.into_iter().flatten().flatten().filter_map(of).sum::<f64>() / 1e9
    }

    /// Peak resident memory in MiB.
    pub(crate) fn peak(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmHWM"));
        let kib = line.and_then(|line| line.split_whitespace().nth(1)).and_then(|n| n.parse::<f64>().ok());
        kib.unwrap_or(f64::NAN) / 1024.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
