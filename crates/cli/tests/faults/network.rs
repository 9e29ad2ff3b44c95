//! Peers that vanish without a word, and names that move: in network namespaces of the test's own.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// A network namespace, with a cable to the hub's: taken away with it.
struct Elsewhere {
    name: String,
    cable: String,
    _guard: MutexGuard<'static, ()>,
}

/// The hub's end of the cable, and the other one; one test at a time has them.
const HERE: &str = "10.213.77.1";
const THERE: &str = "10.213.77.2";
static CABLE: Mutex<()> = Mutex::new(());

fn root(line: &str) {
    let status = Command::new("sh").args(["-ec", line]).stderr(Stdio::inherit()).status().unwrap();
    assert!(status.success(), "{line}");
}

impl Elsewhere {
    fn new() -> Self {
        // Two tests may each have one at the same time.
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let id = format!("{}{number}", std::process::id() % 100_000);
        let guard = CABLE.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, cable) = (format!("pcaphub-{id}"), format!("ph{id}"));
        root(&format!(
            "ip netns add {name}
             ip link add {cable}a type veth peer name {cable}b netns {name}
             ip addr add {HERE}/30 dev {cable}a
             ip link set {cable}a up
             ip -n {name} addr add {THERE}/30 dev {cable}b
             ip -n {name} link set {cable}b up
             ip -n {name} link set lo up"
        ));
        Elsewhere { name, cable, _guard: guard }
    }

    /// Runs a command there.
    fn spawn(&self, words: &[&str]) -> Child {
        Command::new("ip")
            .args(["netns", "exec", &self.name])
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// From now on nothing comes through.
    fn pull_the_cable(&self) {
        root(&format!("ip -n {} link set {}b down", self.name, self.cable));
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
        let _ = Command::new("ip")
            .args(["link", "del", &format!("{}a", self.cable)])
            .stderr(Stdio::null())
            .status();
    }
}

#[test]
fn peers_that_vanish_are_found_within_thirty_five_seconds() {
    if !may_unshare() || !has("ip") || !has("nc") {
        return;
    }
    const PROMISE: Duration = Duration::from_secs(35);
    let elsewhere = Elsewhere::new();
    let listener = format!("{HERE}:0");
    let mut hub = Hub::start(
        &[
            "serve",
            &format!("tcp-listen://{HERE}:0?allow={THERE}/32"),
            "tcp-listen://127.0.0.1:0?name=local",
            "--listen",
            &listener,
            "--allow",
            &format!("{THERE}/32"),
            "--order",
            "arrival",
        ],
        3,
    );
    let far = hub.producers.iter().find(|address| !address.ip().is_loopback()).unwrap().port().to_string();
    let near = *hub.producers.iter().find(|address| address.ip().is_loopback()).unwrap();
    let port = hub.client().port().to_string();
    let mut producer = connect(near);
    producer.write_all(&header(1)).unwrap();
    let mut client = elsewhere.spawn(&["nc", HERE, &port]);
    let mut got = [0; 24];
    client.stdout.as_mut().unwrap().read_exact(&mut got).unwrap();
    let mut sensor = elsewhere.spawn(&["nc", HERE, &far]);
    sensor.stdin.as_mut().unwrap().write_all(&pcap(&packets(2, 1, BEGIN, 1))).unwrap();
    wait_until("the far sensor's packet is there", || hub.counts()["sources"][0]["decoded"] == 1);
    elsewhere.pull_the_cable();
    // Something is due to the client from now on; nothing ever comes from the sensor.
    let begun = Instant::now();
    let name = format!("{THERE}:");
    let (mut client_gone, mut sensor_gone) = (None, None);
    let mut number = 0;
    while (client_gone.is_none() || sensor_gone.is_none()) && begun.elapsed() < Duration::from_secs(50) {
        let packet = Packet { micros: BEGIN + number, octets: datagram(1, number as u32, 60) };
        producer.write_all(&record(&packet)).unwrap();
        number += 1;
        while let Some(line) = hub.line_within(Duration::from_millis(100)) {
            if line.contains(&name) && line.contains("left") {
                assert!(line.contains("--client-timeout"), "{line}");
                client_gone.get_or_insert(begun.elapsed());
            }
            if line.contains(THERE) && line.contains("--keepalive") {
                sensor_gone.get_or_insert(begun.elapsed());
            }
        }
    }
    let _ = (client.kill(), client.wait(), sensor.kill(), sensor.wait());
    let (client_gone, sensor_gone) =
        (client_gone.unwrap_or(Duration::MAX), sensor_gone.unwrap_or(Duration::MAX));
    let (status, _) = hub.stop();
    assert!(status.success());
    row(
        25,
        "the cable is pulled: a client with data due, an idle producer",
        "both found within 35 s",
        &format!("{:.1} s, {:.1} s", client_gone.as_secs_f32(), sensor_gone.as_secs_f32()),
    );
    assert!(client_gone <= PROMISE && sensor_gone <= PROMISE, "{client_gone:?} {sensor_gone:?}");
}

#[test]
fn times_out_as_asked_and_counts_clients_and_producers_by_address() {
    if !may_unshare() || !has("ip") || !has("nc") {
        return;
    }
    let elsewhere = Elsewhere::new();
    let mut hub = Hub::start(
        &[
            "serve",
            &format!("tcp-listen://{HERE}:0?allow={THERE}/32"),
            "--listen",
            &format!("{HERE}:0"),
            "--allow",
            &format!("{THERE}/32"),
            "--max-clients-per-address",
            "1",
            "--max-producers-per-address",
            "1",
            "--keepalive",
            "4s",
            "--header-wait",
            "100ms",
        ],
        2,
    );
    let (clients, producers) = (hub.client().port().to_string(), hub.producers[0].port().to_string());
    let begun = Instant::now();
    let mut client = elsewhere.spawn(&["nc", HERE, &clients]);
    client.stdout.as_mut().unwrap().read_exact(&mut [0; 24]).unwrap();
    let header = begun.elapsed();
    let mut sensor = elsewhere.spawn(&["nc", HERE, &producers]);
    sensor.stdin.as_mut().unwrap().write_all(&pcap(&packets(2, 1, BEGIN, 1))).unwrap();
    wait_until("the far sensor's packet is there", || hub.counts()["sources"][0]["decoded"] == 1);
    let mut others = [&clients, &producers].map(|port| elsewhere.spawn(&["nc", HERE, port]));
    // In whatever order they come.
    let options = ["--max-clients-per-address", "--max-producers-per-address"];
    while !options.iter().all(|option| hub.said().iter().any(|line| line.contains(option))) {
        hub.line();
    }
    elsewhere.pull_the_cable();
    let begun = Instant::now();
    hub.wait_for("--keepalive");
    let gone = begun.elapsed();
    for child in [&mut client, &mut sensor].into_iter().chain(&mut others) {
        let _ = (child.kill(), child.wait());
    }
    hub.signal(rustix::process::Signal::INT);
    hub.signal(rustix::process::Signal::INT);
    let (status, _) = hub.ended();
    assert!(status.success());
    row(
        27,
        "--keepalive 4s, --header-wait 100ms; a second client and producer of one address",
        "found within 6 s; a header within 1 s; refused, options named",
        &format!("{}; {}; refused, named", seconds(gone), seconds(header)),
    );
    assert!(gone < Duration::from_secs(6) && header < Duration::from_secs(1), "{gone:?} {header:?}");
}

#[test]
fn a_name_that_fails_then_resolves_then_moves_is_followed() {
    if !may_unshare() {
        return;
    }
    let _alone = alone();
    let folder = folder();
    let hosts = file(&folder, "hosts", b"127.0.0.1 localhost\n");
    let resolver = file(&folder, "resolv.conf", b"nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    // The same port on two addresses.
    let first = TcpListener::bind("127.0.0.2:0").unwrap();
    let port = first.local_addr().unwrap().port();
    let second = TcpListener::bind(("127.0.0.3", port)).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c"])
        .arg(format!(
            "mount --bind {} /etc/hosts && mount --bind {} /etc/resolv.conf && exec \"$0\" \"$@\"",
            hosts.display(),
            resolver.display()
        ))
        .arg(pcaphub().get_program())
        .args(["serve", &format!("tcp://sensor.test:{port}"), "--listen", "127.0.0.1:0", "--stats", "json"])
        .stdin(Stdio::null());
    let mut hub = Hub::spawn(command, 1);
    hub.wait_for("trying again");
    let mut client = connect(hub.client());
    let write = |address: &str| {
        std::fs::write(&hosts, format!("127.0.0.1 localhost\n{address} sensor.test\n")).unwrap()
    };
    let serve = |listener: &TcpListener| -> (TcpStream, Duration) {
        let begun = Instant::now();
        listener.set_nonblocking(true).unwrap();
        let mut accepted = None;
        wait_until("the hub dials", || {
            accepted = listener.accept().ok();
            accepted.is_some()
        });
        (accepted.unwrap().0, begun.elapsed())
    };
    write("127.0.0.2");
    let (mut stream, resolved) = serve(&first);
    let octets = pcap(&packets(1, 5, BEGIN, 1000));
    stream.write_all(&octets).unwrap();
    assert!(read_exact(&mut client, octets.len()) == octets);
    write("127.0.0.3");
    drop((stream, first));
    let (mut stream, moved) = serve(&second);
    stream.write_all(&octets).unwrap();
    assert!(read_exact(&mut client, octets.len() - 24) == octets[24..]);
    let (status, _) = hub.stop();
    assert!(status.success());
    row(
        26,
        "a name fails, then resolves, then moves",
        "followed; clients stay",
        &format!("resolved: dialled after {}; moved: after {}", seconds(resolved), seconds(moved)),
    );
}
