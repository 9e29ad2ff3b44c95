//! One capture process for all clients: `tcpdump -U -w - | pcaphub serve -`, and `exec:`.

use std::io::Write;
use std::net::UdpSocket;
use std::process::{Command, Stdio};

use crate::harness::*;

#[test]
fn a_pipe_from_tcpdump_reaches_every_client() {
    if !has("tcpdump") || !has("tshark") {
        return;
    }
    let folder = folder();
    let capture = packets(1, 400, 1_700_000_000_000_000, 1000);
    let path = file(&folder, "in.pcap", &pcap(&capture));
    let mut tcpdump = Command::new("tcpdump")
        .args(["-U", "-w", "-", "-r"])
        .arg(path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pipe = tcpdump.stdout.take().unwrap();
    let mut hub = Hub::start_with(&["serve", "-", "--listen", "127.0.0.1:0"], 1, pipe.into());
    let port = hub.client().port();
    let printed = shell(&format!("nc 127.0.0.1 {port} </dev/null | tshark -r - 2>/dev/null | wc -l"));
    assert_eq!(printed.trim(), "400");
    let (status, _) = hub.ended();
    assert!(status.success(), "it ends with its input");
    tcpdump.wait().unwrap();
}

#[test]
fn clients_of_a_pipe_get_the_header_before_the_first_packet_and_then_all_the_same() {
    let capture = packets(1, 2000, 1_700_000_000_000_000, 1000);
    let mut hub = Hub::start_with(&["serve", "-", "--listen", "127.0.0.1:0"], 1, Stdio::piped());
    let mut pipe = hub.stdin();
    pipe.write_all(&header(1)).unwrap();
    pipe.flush().unwrap();
    let mut clients: Vec<_> = (0..5).map(|_| connect(hub.client())).collect();
    for client in &mut clients {
        assert_eq!(read_exact(client, 24), header(1));
    }
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                let mut octets = header(1);
                std::io::Read::read_to_end(&mut client, &mut octets).unwrap();
                octets
            })
        })
        .collect();
    pipe.write_all(&pcap(&capture)[24..]).unwrap();
    drop(pipe);
    for reader in readers {
        assert_eq!(read_pcap(&reader.join().unwrap()), capture);
    }
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 5 * 2000);
}

#[test]
fn a_command_is_started_once_for_all_clients_and_ended_with_the_hub() {
    if !has("tcpdump") || !may_capture() {
        return;
    }
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    for interface in ["lo", "any"] {
        let source = format!("exec:tcpdump -i {interface} -n -U -w - udp port {port}");
        let mut hub = Hub::start(&["serve", &source, "--listen", "127.0.0.1:0"], 1);
        hub.wait_for("listening on ");
        let mut clients: Vec<_> = (0..3).map(|_| connect(hub.client())).collect();
        let linktypes: Vec<_> =
            clients.iter_mut().map(|client| read_exact(client, 24)[20..].to_vec()).collect();
        let expected: u32 = if interface == "lo" { 1 } else { 276 };
        for linktype in linktypes {
            assert_eq!(linktype, expected.to_le_bytes(), "tcpdump -i {interface}");
        }
        for number in 0..20u32 {
            socket.send_to(format!("number {number}").as_bytes(), ("127.0.0.1", port)).unwrap();
        }
        for client in &mut clients {
            for number in 0..20u32 {
                let length = u32::from_le_bytes(read_exact(client, 16)[8..12].try_into().unwrap());
                let octets = read_exact(client, length as usize);
                let payload = format!("number {number}").into_bytes();
                assert!(octets.ends_with(&payload), "{interface}: packet {number}");
            }
        }
        let mine = format!("udp port {port}");
        let running = || {
            shell("ps -eo args")
                .lines()
                .filter(|line| line.starts_with("tcpdump") && line.contains(&mine))
                .count()
        };
        assert_eq!(running(), 1, "one tcpdump for three clients");
        let (status, _) = hub.stop();
        assert!(status.success());
        wait_until("tcpdump has ended", || running() == 0);
    }
}

#[test]
fn a_command_that_dies_is_started_again_and_its_clients_stay() {
    let folder = folder();
    let octets = pcap(&packets(1, 10, 1_700_000_000_000_000, 1000));
    let path = file(&folder, "in.pcap", &octets);
    let source = format!("sh:cat {}; exit 3", path.display());
    let mut hub = Hub::start(&["serve", &source, "--listen", "127.0.0.1:0"], 1);
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    let body = octets.len() - 24;
    assert!(read_exact(&mut client, body) == octets[24..]);
    assert!(read_exact(&mut client, body) == octets[24..], "from the second start");
    let line = hub.wait_for("trying again");
    assert!(line.contains("exit status: 3"), "{line}");
}

#[test]
fn a_command_that_ends_well_has_ended_and_what_it_said_is_shown_escaped() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 10, 0, 1000)));
    let source = format!("sh:printf 'odd \\033[31m text\\n' >&2; cat {}", path.display());
    let mut hub = Hub::start(&["serve", &source, "--listen", "127.0.0.1:0"], 1);
    let line = hub.wait_for("odd \\u{1b}[31m text");
    assert!(!line.contains('\u{1b}'), "{line}");
    assert_eq!(read_pcap(&read_all(hub.client())).len(), 10);
    assert!(hub.ended().0.success());
}

#[test]
fn a_command_that_is_not_there_is_an_error_that_names_it() {
    let output = run(&["cat", "exec:no-such-sniffer -w -"], b"");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("`no-such-sniffer` is not installed"), "{said}");
}

#[test]
fn the_words_of_a_command_go_to_it_as_they_are_and_to_no_shell() {
    let folder = folder();
    let capture = packets(1, 3, 1_700_000_000_000_000, 1000);
    let path = file(&folder, "in put.pcap", &pcap(&capture));
    let marker = folder.path().join("started");
    let (path, marker) = (path.display(), marker.display());
    let words =
        format!("exec:cat '{path}' ; touch {marker} $(touch {marker}) `touch {marker}` > {marker} $HOME");
    let output = run(&["cat", &words, "--opt", "reconnect=no"], b"");
    assert_eq!(read_pcap(&output.stdout), capture);
    let said = String::from_utf8_lossy(&output.stderr);
    // cat was asked for files of these names, which there are not.
    assert!(said.contains("the command ended with exit status: 1"), "{said}");
    assert!(!folder.path().join("started").exists(), "{said}");
}
