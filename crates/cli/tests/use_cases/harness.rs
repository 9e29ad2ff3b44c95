//! What the tests speak in: captures, running hubs, real tools, and patience with a deadline.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test fails: generous, the machines are shared.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// Between looks at something that is to become true.
const LOOK: Duration = Duration::from_millis(10);

/// Whether `tool` is installed; fails where tools are required, is said loudly otherwise.
pub fn has(tool: &str) -> bool {
    let found =
        Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap().status.success();
    let required = ["CI", "PCAPHUB_REQUIRE_TOOLS"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(found || !required, "{tool} is not installed; ./test installs it");
    if !found {
        eprintln!("SKIPPED: {tool} is not installed");
    }
    found
}

/// Whether the test may capture packets; said loudly if not.
pub fn may_capture() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED: capturing needs root");
    }
    root
}

/// Polls until `holds` or the deadline.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < until, "still not: {what}");
        std::thread::sleep(LOOK);
    }
}

/// A packet of a test's capture.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// Microseconds since the epoch.
    pub micros: u64,
    pub octets: Vec<u8>,
}

impl std::fmt::Debug for Packet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text: String = self.octets.iter().skip(42).take(20).map(|octet| char::from(*octet)).collect();
        write!(f, "{} µs {:?} {} octets", self.micros, text, self.octets.len())
    }
}

/// A UDP datagram in IPv4 in Ethernet, from 10.0.0.`source`, that carries its number.
pub fn datagram(source: u8, number: u32, payload: usize) -> Vec<u8> {
    let mut body = format!("source {source} packet {number} ").into_bytes();
    body.resize(body.len().max(payload), b'.');
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, source], [2, 0, 0, 0, 0, 99])
        .ipv4([10, 0, 0, source], [10, 0, 0, 99], 64)
        .udp(40000, 9999);
    let mut octets = Vec::new();
    builder.write(&mut octets, &body).unwrap();
    octets
}

/// `count` packets of one source, `step` microseconds apart.
pub fn packets(source: u8, count: u32, first: u64, step: u64) -> Vec<Packet> {
    let packet = |n| Packet {
        micros: first + u64::from(n) * step,
        octets: datagram(source, n, 60 + (n as usize * 37) % 900),
    };
    (0..count).map(packet).collect()
}

/// A classic pcap header: little-endian, microseconds.
pub fn header(linktype: u32) -> Vec<u8> {
    [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 262_144, linktype]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

/// A classic pcap record.
pub fn record(packet: &Packet) -> Vec<u8> {
    let length = packet.octets.len() as u32;
    let words = [(packet.micros / 1_000_000) as u32, (packet.micros % 1_000_000) as u32, length, length];
    words.iter().flat_map(|word| word.to_le_bytes()).chain(packet.octets.iter().copied()).collect()
}

/// A whole classic capture.
pub fn pcap(packets: &[Packet]) -> Vec<u8> {
    header(1).into_iter().chain(packets.iter().flat_map(record)).collect()
}

/// The packets of a classic little-endian µs capture.
pub fn read_pcap(octets: &[u8]) -> Vec<Packet> {
    assert!(octets.len() >= 24, "no header in {} octets", octets.len());
    assert_eq!(octets[..4], [0xd4, 0xc3, 0xb2, 0xa1], "not a little-endian µs capture");
    let word = |at: usize| u32::from_le_bytes(octets[at..at + 4].try_into().unwrap());
    let (mut at, mut packets) = (24, Vec::new());
    while at < octets.len() {
        let length = word(at + 8) as usize;
        let micros = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
        packets.push(Packet { micros, octets: octets[at + 16..at + 16 + length].to_vec() });
        at += 16 + length;
    }
    packets
}

/// A folder of its own for a test, removed at its end.
pub fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

/// Writes a file into a test's folder.
pub fn file(folder: &tempfile::TempDir, name: &str, octets: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, octets).unwrap();
    path
}

/// The command under test.
pub fn pcaphub() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pcaphub"));
    command.stdin(Stdio::null());
    command
}

/// Runs it to its end, with `stdin`.
pub fn run(arguments: &[&str], stdin: &[u8]) -> Output {
    let mut child = pcaphub()
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let octets = stdin.to_vec();
    let feeding = std::thread::spawn(move || {
        let _ = input.write_all(&octets);
    });
    let output = child.wait_with_output().unwrap();
    feeding.join().unwrap();
    output
}

/// A hub in the background; ended when dropped.
pub struct Hub {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    /// Where clients connect, in the order of the listeners.
    pub clients: Vec<SocketAddr>,
    /// Where producers connect.
    pub producers: Vec<SocketAddr>,
    /// Its memory ceiling, in octets.
    ceiling: u64,
}

impl Hub {
    /// Starts `pcaphub ARGUMENTS --stats json` and waits for its `listeners` addresses.
    pub fn start(arguments: &[&str], listeners: usize) -> Hub {
        Hub::start_with(arguments, listeners, Stdio::null())
    }

    pub fn start_with(arguments: &[&str], listeners: usize, stdin: Stdio) -> Hub {
        let mut command = pcaphub();
        command.args(arguments).args(["--stats", "json"]).stdin(stdin);
        Hub::spawn(command, listeners)
    }

    /// Starts a command that becomes a hub with `--stats json`.
    pub fn spawn(mut command: Command, listeners: usize) -> Hub {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        let (sender, lines) = sync_channel(4096);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let Ok(line) = line else { return };
                let _ = sender.send(line);
            }
        });
        let arguments: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        let ceiling = arguments.iter().skip_while(|word| *word != "--max-memory").nth(1);
        let ceiling = ceiling.map_or(512, |size| size.trim_end_matches("MiB").parse().unwrap()) << 20;
        let (clients, producers) = (Vec::new(), Vec::new());
        let mut hub = Hub { child, lines, seen: Vec::new(), clients, producers, ceiling };
        while hub.clients.len() + hub.producers.len() < listeners {
            let line = hub.line();
            if let Some((_, rest)) = line.split_once("listening on ") {
                let (address, role) = rest.split_once(" for ").unwrap();
                let Ok(address) = address.parse() else { continue };
                if role == "clients" { hub.clients.push(address) } else { hub.producers.push(address) }
            }
        }
        hub
    }

    /// The next line of its log.
    pub fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        let line = line.unwrap_or_else(|_| panic!("the hub said no more; it had said: {:#?}", self.seen));
        self.seen.push(line.clone());
        line
    }

    /// The lines of its log that were read so far.
    pub fn said(&self) -> &[String] {
        &self.seen
    }

    /// The next line of its log, if one comes in time.
    pub fn line_within(&mut self, time: Duration) -> Option<String> {
        let line = self.lines.recv_timeout(time).ok()?;
        self.seen.push(line.clone());
        Some(line)
    }

    /// Reads its log until a line has `text`.
    pub fn wait_for(&mut self, text: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(text) {
                return line;
            }
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// What it had in memory at most so far, in octets.
    pub fn peak_memory(&self) -> u64 {
        self.status("VmHWM:").unwrap() * 1024
    }

    /// What it has in memory, in octets.
    pub fn memory(&self) -> u64 {
        self.status("VmRSS:").unwrap() * 1024
    }

    /// A line of its status; `None` once it has ended.
    fn status(&self, key: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).ok()?;
        let line = status.lines().find(|line| line.starts_with(key))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Whether it has a thread of this name.
    pub fn has_thread(&self, name: &str) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        threads.flatten().any(|thread| {
            std::fs::read_to_string(thread.path().join("comm")).is_ok_and(|comm| comm.trim() == name)
        })
    }

    /// How many descriptors it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }

    /// Processor time it used so far.
    pub fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // USER_HZ is 100 on every Linux.
        Duration::from_millis(ticks * 10)
    }

    pub fn client(&self) -> SocketAddr {
        self.clients[0]
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub fn stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    /// Its counts at this moment, which must close.
    pub fn counts(&mut self) -> Value {
        self.signal(rustix::process::Signal::USR1);
        let line = self.wait_for("{\"sources\"");
        closed(&line)
    }

    /// Ends it by SIGINT: its status and last counts, which must close.
    pub fn stop(mut self) -> (ExitStatus, Value) {
        self.signal(rustix::process::Signal::INT);
        self.ended()
    }

    /// Waits for its end. What it had in memory must have been within a fifth over its ceiling.
    pub fn ended(&mut self) -> (ExitStatus, Value) {
        if let Some(peak) = self.status("VmHWM:") {
            let most = self.ceiling / 5 * 6;
            assert!(peak * 1024 <= most, "{peak} KiB in memory at most, of {} allowed", most / 1024);
        }
        let line = self.wait_for("{\"sources\"");
        let mut status = None;
        wait_until("the hub has ended", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        (status.unwrap(), closed(&line))
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The sum of a map of counts.
pub fn sum(counts: &Value) -> u64 {
    counts.as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum()
}

/// Parses counts and checks both laws.
pub fn closed(line: &str) -> Value {
    let counts: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    let n = |value: &Value, key: &str| value[key].as_u64().unwrap();
    for source in counts["sources"].as_array().unwrap() {
        let known =
            n(source, "forwarded") + n(source, "filtered") + n(source, "held") + sum(&source["dropped"]);
        assert_eq!(n(source, "decoded"), known, "a source's counts do not close: {line}");
    }
    let subscribers = counts["subscribers"].as_array().unwrap().iter().chain([&counts["departed"]]);
    for subscriber in subscribers {
        let known = n(subscriber, "delivered") + n(subscriber, "queued") + sum(&subscriber["dropped"]);
        assert_eq!(n(subscriber, "offered"), known, "a subscriber's counts do not close: {line}");
    }
    counts
}

/// Connects as a client does that only reads.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// Everything that a listener sends until it closes.
pub fn read_all(address: SocketAddr) -> Vec<u8> {
    let mut octets = Vec::new();
    connect(address).read_to_end(&mut octets).unwrap();
    octets
}

/// Exactly `count` octets.
pub fn read_exact(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut octets = vec![0; count];
    stream.read_exact(&mut octets).unwrap();
    octets
}

/// A listener of the test's own, as a producer is that we dial.
pub struct Producer {
    listener: TcpListener,
}

impl Producer {
    pub fn new() -> Self {
        Producer { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    pub fn port(&self) -> u16 {
        self.listener.local_addr().unwrap().port()
    }

    /// The hub's connection.
    pub fn accept(&self) -> TcpStream {
        self.listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        wait_until("the hub dials", || {
            accepted = self.listener.accept().ok();
            accepted.is_some()
        });
        let (stream, _) = accepted.unwrap();
        stream.set_nonblocking(false).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }
}

/// Runs a shell line, as the README has them; its standard output.
pub fn shell(line: &str) -> String {
    let output =
        Command::new("timeout").args(["60", "bash", "-c", line]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{line}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// What capinfos counts in a file.
pub fn count_with_capinfos(path: &Path) -> Option<u64> {
    let output = Command::new("capinfos").args(["-Mc"]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find(|line| line.starts_with("Number of packets"))?;
    output.status.success().then(|| line.rsplit(' ').next()?.parse().ok()).flatten()
}
