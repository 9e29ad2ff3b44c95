//! Sockets that were opened before the hub was started.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use super::harness::{
    DEADLINE, Hub, connect, file, folder, has, packets, pcap, read_exact, read_pcap, shell, wait_until,
};
use super::manager::with_sockets;

#[test]
fn an_inherited_socket_is_the_listener_of_its_address_as_source_and_as_sink() {
    let producers = TcpListener::bind("127.0.0.1:0").unwrap();
    let clients = TcpListener::bind("127.0.0.1:0").unwrap();
    let (source, sink) = (producers.local_addr().unwrap(), clients.local_addr().unwrap());
    let line = ["serve", &format!("tcp-listen://{source}"), "--listen", &sink.to_string(), "--stats", "json"];
    // The order in which they come does not matter.
    let mut hub = Hub::spawn(with_sockets(&[&clients, &producers], &line), 2);
    assert_eq!((hub.client(), hub.producers[0]), (sink, source));
    let mut client = connect(sink);
    hub.wait_for("connected");
    let sent = packets(1, 100, 1_000_000, 1000);
    let capture = pcap(&sent);
    TcpStream::connect(source).unwrap().write_all(&capture).unwrap();
    assert_eq!(read_pcap(&read_exact(&mut client, capture.len())), sent);
    assert!(!hub.said().iter().any(|line| line.contains("inherited")), "{:?}", hub.said());
}

#[test]
fn no_client_is_refused_while_the_hub_is_started_again() {
    let folder = folder();
    let capture = pcap(&packets(1, 50, 0, 1000));
    let path = file(&folder, "a.pcap", &capture);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let line = ["serve", path.to_str().unwrap(), "--listen", &address.to_string(), "--stats", "json"];
    let first = Hub::spawn(with_sockets(&[&listener], &line), 1);
    first.stop();
    // Nobody is there to accept; the socket is.
    let mut waiting = connect(address);
    let _second = Hub::spawn(with_sockets(&[&listener], &line), 1);
    let mut octets = Vec::new();
    waiting.read_to_end(&mut octets).unwrap();
    assert_eq!(octets, capture);
}

#[test]
fn an_inherited_unix_socket_is_not_removed_by_the_hub() {
    let folder = folder();
    let path = folder.path().join("hub.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let endpoint = format!("unix-listen:{}", path.display());
    let line = ["demo", "--listen", &endpoint, "--stats", "json"];
    let mut hub = Hub::spawn(with_sockets(&[&listener], &line), 0);
    hub.wait_for("listening on unix-listen:");
    let mut client = UnixStream::connect(&path).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut header = [0; 24];
    client.read_exact(&mut header).unwrap();
    hub.stop();
    assert!(path.exists());
}

#[test]
fn an_inherited_socket_that_no_endpoint_wants_is_told() {
    let wanted = TcpListener::bind("127.0.0.1:0").unwrap();
    let unwanted = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, other) = (wanted.local_addr().unwrap(), unwanted.local_addr().unwrap());
    let line = ["demo", "--listen", &address.to_string(), "--stats", "json"];
    let mut hub = Hub::spawn(with_sockets(&[&unwanted, &wanted], &line), 1);
    let warning = hub.wait_for("inherited");
    let expected = format!(
        "an inherited socket is not used: no source or sink is tcp-listen://{other}; \
         who connects there waits in vain"
    );
    assert!(warning.ends_with(&expected), "{warning}");
}

#[test]
fn an_inherited_socket_whose_endpoint_a_reload_removes_is_told() {
    let [kept, removed] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let endpoints = [&kept, &removed].map(|socket| format!("tcp-listen://{}", socket.local_addr().unwrap()));
    let sink = |endpoint: &String| format!("[[sink]]\nendpoint = \"{endpoint}\"\n");
    let text = |sinks: &[String]| {
        let sinks: String = sinks.iter().map(sink).collect();
        format!("stats = \"json\"\n[[source]]\nendpoint = \"demo:\"\n{sinks}")
    };
    let folder = folder();
    let path = file(&folder, "hub.toml", text(&endpoints).as_bytes());
    let line = ["run", path.to_str().unwrap()];
    let mut hub = Hub::spawn(with_sockets(&[&kept, &removed], &line), 2);
    std::fs::write(&path, text(&endpoints[..1])).unwrap();
    hub.signal(Signal::HUP);
    let warning = hub.wait_for("inherited");
    let expected = format!("no source or sink is {}; who connects there waits in vain", endpoints[1]);
    assert!(warning.ends_with(&expected), "{warning}");
}

#[test]
fn an_inherited_socket_that_cannot_be_a_listener_ends_the_start_with_the_reason() {
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let output = with_sockets(&[&datagrams], &["demo", "--listen", "127.0.0.1:0"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("inherited socket 1: neither TCP nor a Unix stream socket"), "{text}");
    let (connected, _other) = UnixStream::pair().unwrap();
    let output = with_sockets(&[&connected], &["demo", "--listen", "127.0.0.1:0"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("does not listen"), "{text}");
}

#[test]
fn systemd_socket_activate_starts_the_hub_with_the_first_client() {
    if !has("systemd-socket-activate") {
        return;
    }
    let folder = folder();
    let capture = pcap(&packets(1, 50, 0, 1000));
    let path = file(&folder, "a.pcap", &capture);
    // It takes no port 0: one that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut activator = Command::new("systemd-socket-activate")
        .args(["-l", &address, env!("CARGO_BIN_EXE_pcaphub"), "serve", path.to_str().unwrap()])
        .args(["--listen", &address])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = None;
    wait_until("the activator listens", || {
        client = TcpStream::connect(&address).ok();
        client.is_some()
    });
    let mut client = client.unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut octets = Vec::new();
    client.read_to_end(&mut octets).unwrap();
    assert_eq!(octets, capture);
    // It has become the hub.
    shell(&format!("kill -INT {}", activator.id()));
    assert!(activator.wait().unwrap().success());
}
