//! Two hosts and a cable: network namespaces and a veth pair, gone with the test.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::*;

/// Host `a` (10.99.0.1, fd00::1) and host `b` (10.99.0.2, fd00::2), joined by `va` and `vb`. Nothing
/// moves on the cable but what the test sends: no ARP, no IPv6 chatter.
pub struct Network {
    pub a: Host,
    pub b: Host,
    /// Where datagrams go, so that nobody answers that nobody is there.
    _open: Vec<UdpSocket>,
}

/// A network namespace.
pub struct Host {
    name: String,
}

/// A command that ends with the test.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.0.wait().unwrap()
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.0)
    }

    /// Ends it as Ctrl-C does.
    pub fn interrupt(mut self) {
        rustix::process::kill_process(self.pid(), rustix::process::Signal::INT).unwrap();
        self.0.wait().unwrap();
    }
}

pub const A: &str = "10.99.0.1";
pub const B: &str = "10.99.0.2";

/// Runs a few lines of shell, as root.
pub fn root(lines: &str) {
    let status = Command::new("sh").args(["-ec", lines]).stderr(Stdio::inherit()).status().unwrap();
    assert!(status.success(), "{lines}");
}

/// The network, or a loud line if this is not root.
pub fn network() -> Option<Network> {
    if !may_capture() || !has("ip") {
        return None;
    }
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let id = format!("{}x{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let host = |letter: char| Host { name: format!("pcaphub-{id}{letter}") };
    let mut network = Network { a: host('a'), b: host('b'), _open: Vec::new() };
    let (a, b) = (&network.a.name, &network.b.name);
    root(&format!(
        "for n in {a} {b}; do
             ip netns add $n
             ip -n $n link set lo up
             ip netns exec $n sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.default.router_solicitations=0 net.ipv6.conf.default.addr_gen_mode=1 net.ipv6.conf.default.mldv1_unsolicited_report_interval=1 net.ipv6.conf.default.mldv2_unsolicited_report_interval=1
         done
         ip -n {a} link add va address 02:00:00:00:00:0a type veth peer name vb address 02:00:00:00:00:0b netns {b}
         ip -n {a} addr add {A}/24 dev va
         ip -n {b} addr add {B}/24 dev vb
         ip -n {a} -6 addr add fd00::1/64 dev va nodad
         ip -n {b} -6 addr add fd00::2/64 dev vb nodad
         ip -n {a} link set va up
         ip -n {b} link set vb up
         for v in 10.99.0.2 fd00::2; do ip -n {a} neigh replace $v lladdr 02:00:00:00:00:0b dev va nud permanent; done
         for v in 10.99.0.1 fd00::1; do ip -n {b} neigh replace $v lladdr 02:00:00:00:00:0a dev vb nud permanent; done"
    ));
    // Joining the IPv6 groups makes a few packets.
    wait_until("the cable is quiet", || {
        let moved = || ["rx_packets", "tx_packets"].map(|counter| network.b.count("vb", counter));
        let before = moved();
        std::thread::sleep(std::time::Duration::from_millis(200));
        before == moved()
    });
    network._open = network.b.inside(|| PORTS.map(|port| UdpSocket::bind(("::", port)).unwrap())).into();
    Some(network)
}

/// Ports of host b to which datagrams may be sent.
const PORTS: [u16; 3] = [9, 10, 11];

impl Drop for Host {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).stderr(Stdio::null()).status();
    }
}

impl Host {
    /// Its name, as `ip -n` takes it.
    pub fn namespace(&self) -> &str {
        &self.name
    }

    /// A command there.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).args(words).stdin(Stdio::null());
        command
    }

    /// Its output, which must be a success.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A shell line there.
    pub fn shell(&self, line: &str) -> String {
        self.run(&["sh", "-ec", line])
    }

    /// A command in the background.
    pub fn start(&self, words: &[&str]) -> Running {
        Running(self.command(words).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// A hub there.
    pub fn hub(&self, arguments: &[&str], listeners: usize) -> Hub {
        let program = env!("CARGO_BIN_EXE_pcaphub");
        let words = [&[program], arguments, &["--stats", "json"]].concat();
        Hub::spawn(self.command(&words), listeners)
    }

    /// A counter of one of its interfaces.
    pub fn count(&self, interface: &str, counter: &str) -> u64 {
        let path = format!("/sys/class/net/{interface}/statistics/{counter}");
        self.run(&["cat", &path]).trim().parse().unwrap()
    }

    /// Runs `there` on a thread that is in the namespace: sockets that it makes belong to it.
    pub fn inside<T: Send>(&self, there: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        let enter = move || {
            let network = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(network))
                .unwrap();
            there()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().unwrap())
    }

    pub fn connect(&self, to: SocketAddr) -> TcpStream {
        self.inside(|| connect(to))
    }

    pub fn listen(&self, at: &str) -> TcpListener {
        self.inside(|| TcpListener::bind(at).unwrap())
    }

    pub fn socket(&self) -> UdpSocket {
        self.inside(|| UdpSocket::bind("[::]:0").unwrap())
    }

    /// Sends `count` datagrams to `to`, each with its number.
    pub fn send(&self, to: &str, count: u32) {
        let to: SocketAddr = to.parse().unwrap();
        let socket =
            self.inside(|| UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap());
        for number in 0..count {
            socket
                .send_to(format!("datagram {number} {}", ".".repeat(number as usize % 900)).as_bytes(), to)
                .unwrap();
        }
    }
}

/// Reads packets of a client of the hub until `count` of them match.
pub fn packets_until(client: &mut TcpStream, count: usize, wanted: impl Fn(&Packet) -> bool) -> Vec<Packet> {
    let mut packets = Vec::new();
    while packets.iter().filter(|packet| wanted(packet)).count() < count {
        packets.push(next_packet(client));
    }
    packets
}

/// The next record of a µs stream.
pub fn next_packet(client: &mut TcpStream) -> Packet {
    let head = read_exact(client, 16);
    let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().unwrap());
    let micros = u64::from(word(0)) * 1_000_000 + u64::from(word(4));
    Packet { micros, octets: read_exact(client, word(8) as usize) }
}

/// Sends packets as they are from host a.
pub fn send_packets(network: &Network, packets: &[Vec<u8>]) {
    let folder = folder();
    let packets: Vec<Packet> = packets
        .iter()
        .map(|octets| Packet { micros: 1_700_000_000_000_000, octets: octets.clone() })
        .collect();
    let path = file(&folder, "packets.pcap", &pcap(&packets));
    network.a.run(&[env!("CARGO_BIN_EXE_pcaphub"), "replay", path.to_str().unwrap(), "va", "--pace", "max"]);
}

/// A datagram for host b's port inside a VLAN.
pub fn tagged(vlan: u16, number: u32, port: u16) -> Vec<u8> {
    let mut octets = Vec::new();
    etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 0x0a], [2, 0, 0, 0, 0, 0x0b])
        .single_vlan(vlan.try_into().unwrap())
        .ipv4([10, 99, 0, 1], [10, 99, 0, 2], 64)
        .udp(40_000, port)
        .write(&mut octets, format!("datagram {number}").as_bytes())
        .unwrap();
    octets
}

/// Whether it is a datagram of [`Host::send`].
pub fn is_datagram(packet: &Packet) -> bool {
    packet.octets.windows(9).any(|part| part == b"datagram ")
}

#[test]
fn two_hosts_see_each_other_their_counters_count_and_nothing_of_them_stays() {
    let Some(network) = network() else { return };
    let before = network.b.count("vb", "rx_packets");
    network.a.send("10.99.0.2:9", 100);
    wait_until("all came", || network.b.count("vb", "rx_packets") == before + 100);
    network.a.run(&["ping", "-c", "1", "-W", "5", "fd00::2"]);
    let names = [network.a.name.clone(), network.b.name.clone()];
    drop(network);
    let left = shell("ip netns list");
    assert!(names.iter().all(|name| !left.contains(name.as_str())), "{left}");
}
