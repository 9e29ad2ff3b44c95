//! Clients in a process of their own, which can be stopped like an analyst's: this test's own
//! executable, run again as [`as_a_process`].

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, ChildStdout, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

const ADDRESS: &str = "PCAPHUB_TEST_CLIENTS_OF";
const COUNT: &str = "PCAPHUB_TEST_CLIENTS";

/// What a client read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Got {
    pub packets: u64,
    /// Packets that interface statistics told it were lost.
    pub told: u64,
    /// Whether all of it was whole blocks, up to the last octet.
    pub whole: bool,
}

/// Clients of one hub.
pub struct Group {
    child: Child,
    lines: BufReader<ChildStdout>,
    /// Their addresses, as the hub names them.
    pub names: Vec<String>,
}

impl Group {
    /// `count` clients, all of which have their header.
    pub fn join(hub: SocketAddr, count: usize) -> Group {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "group::as_a_process", "--nocapture", "--ignored"])
            .env(ADDRESS, hub.to_string())
            .env(COUNT, count.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let mut group = Group { child, lines, names: Vec::new() };
        while group.names.len() < count {
            if let Some(name) = group.line().strip_prefix("joined ") {
                group.names.push(name.to_owned());
            }
        }
        group
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "the clients' process ended");
        line.trim_end().to_owned()
    }

    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// What each of them got until its end, by name.
    pub fn ended(mut self) -> BTreeMap<String, Got> {
        let mut all = BTreeMap::new();
        while all.len() < self.names.len() {
            let line = self.line();
            let Some(rest) = line.strip_prefix("got ") else { continue };
            let words: Vec<&str> = rest.split(' ').collect();
            let number = |at: usize| words[at].parse().unwrap();
            all.insert(
                words[0].to_owned(),
                Got { packets: number(1), told: number(2), whole: words[3] == "whole" },
            );
        }
        assert!(self.child.wait().unwrap().success());
        all
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a pcapng stream to its end, block by block.
pub fn read_blocks(stream: &mut impl Read) -> Got {
    let mut got = Got::default();
    let mut reader = BufReader::with_capacity(256 << 10, stream);
    let mut block = Vec::new();
    loop {
        let mut head = [0; 8];
        match fill(&mut reader, &mut head) {
            8 => {}
            n => {
                got.whole = n == 0;
                return got;
            }
        }
        let word = |octets: &[u8], at: usize| u32::from_le_bytes(octets[at..at + 4].try_into().unwrap());
        let (kind, length) = (word(&head, 0), word(&head, 4) as usize);
        block.resize(length - 8, 0);
        if fill(&mut reader, &mut block) < block.len() {
            return got;
        }
        assert_eq!(word(&block, length - 12) as usize, length, "the block is what it says");
        got.packets += u64::from(kind == 6);
        if kind == 5 {
            got.told = isb_drop(&block[12..length - 12]).unwrap_or(got.told);
        }
    }
}

/// isb_ifdrop among options.
fn isb_drop(mut options: &[u8]) -> Option<u64> {
    while let [a, b, c, d, rest @ ..] = options {
        let (code, length) = (u16::from_le_bytes([*a, *b]), usize::from(u16::from_le_bytes([*c, *d])));
        if code == 5 {
            return Some(u64::from_le_bytes(rest[..8].try_into().unwrap()));
        }
        options = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match reader.read(&mut buffer[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(n) => filled += n,
        }
    }
    filled
}

#[test]
#[ignore = "run by the other tests, as a process of clients"]
fn as_a_process() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let count: usize = std::env::var(COUNT).unwrap().parse().unwrap();
    let client = |_| {
        let address: SocketAddr = address.parse().unwrap();
        std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            let name = stream.local_addr().unwrap();
            // A section header block of ours, which comes with the feed's header.
            let mut first = [0; 1];
            stream.peek(&mut first).unwrap();
            println!("joined {name}");
            let got = read_blocks(&mut stream);
            let whole = if got.whole { "whole" } else { "cut" };
            println!("got {name} {} {} {whole}", got.packets, got.told);
        })
    };
    let clients: Vec<_> = (0..count).map(client).collect();
    for client in clients {
        client.unwrap().join().unwrap();
    }
}
