//! Those who speak something else: a line that says so, nothing that leaks, nothing that dies.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::harness::*;
use crate::site::*;

/// Everything that comes back for `octets`, until the other side closes.
fn answer(hub: &Hub, octets: &[u8]) -> Vec<u8> {
    let mut stream = connect(hub.client());
    stream.write_all(octets).unwrap();
    let mut read = Vec::new();
    let _ = stream.read_to_end(&mut read);
    read
}

/// That an honest client is served after all that.
fn assert_serves(site: &Site, hub: &Hub) {
    let read = run(&["cat", &site.dial(hub.client().port(), Asks::Nothing)], b"");
    site.assert_whole(&read.stdout);
}

#[test]
fn http_on_the_tls_port_is_told_in_the_log_and_to_the_browser() {
    let site = Site::new();
    let mut hub = site.serve(Asks::Nothing);
    let said = answer(&hub, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    let said = String::from_utf8(said).unwrap();
    assert!(said.starts_with("HTTP/1.0 400") && said.contains("inside TLS, not HTTP"), "{said}");
    assert!(hub.wait_for("no TLS connection").contains("it speaks HTTP"));
    assert_serves(&site, &hub);
}

#[test]
fn plain_captures_and_rubbish_on_the_tls_port_are_told() {
    let site = Site::new();
    let mut hub = site.serve(Asks::Nothing);
    assert_eq!(answer(&hub, &pcap(&site.packets)[..24]), b"");
    assert!(hub.wait_for("no TLS connection").contains("a capture in the clear"));
    assert_eq!(answer(&hub, b"SSH-2.0-OpenSSH_9\r\n"), b"");
    assert!(hub.wait_for("no TLS connection").contains("began with `SSH-2.0"));
    // An alert is all that a broken hello gets.
    let alert = answer(&hub, &[0x16, 0x03, 0x01, 0x00, 0x04, 0x01, 0xff, 0xff, 0xff]);
    assert!(alert.len() <= 7 && alert.first().is_none_or(|kind| *kind == 0x15), "{alert:?}");
    hub.wait_for("no TLS connection");
    assert_serves(&site, &hub);
}

#[test]
fn who_says_nothing_is_told_what_to_say_and_gets_nothing() {
    let site = Site::new();
    let listen = site.listen(Asks::Nothing);
    let arguments = ["serve", &site.capture(), "--handshake-timeout", "300ms", "--listen", &listen];
    let mut hub = Hub::start(&arguments, 1);
    assert_eq!(answer(&hub, b""), b"");
    let line = hub.wait_for("no TLS connection");
    assert!(line.contains("said nothing within 0.3 s") && line.contains("pcaphub cat tls://"), "{line}");
    let mut slow = connect(hub.client());
    slow.write_all(&[0x16, 0x03, 0x01]).unwrap();
    let line = hub.wait_for("no TLS connection");
    assert!(line.contains("--handshake-timeout"), "{line}");
    assert_serves(&site, &hub);
}

/// A TLS client as openssl begins it: its first octets, taken by a listener of ours.
fn hello() -> Vec<u8> {
    let listener = Producer::new();
    let _client = Tool::start(&format!("exec openssl s_client -connect 127.0.0.1:{}", listener.port()));
    let mut stream = listener.accept();
    let mut octets = vec![0; 5];
    stream.read_exact(&mut octets).unwrap();
    let length = usize::from(octets[3]) << 8 | usize::from(octets[4]);
    octets.extend(read_exact(&mut stream, length));
    octets
}

#[test]
fn a_hello_octet_by_octet_is_answered_and_one_cut_off_harms_nobody() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let mut hub = site.serve(Asks::Nothing);
    let hello = hello();
    let mut stream = connect(hub.client());
    stream.set_nodelay(true).unwrap();
    for octet in &hello {
        stream.write_all(&[*octet]).unwrap();
    }
    let answer = read_exact(&mut stream, 6);
    assert_eq!((answer[0], answer[5]), (0x16, 0x02), "a server's hello");
    drop(stream);
    hub.wait_for("in the middle of the TLS handshake");
    for cut in [1, 5, hello.len() / 2, hello.len() - 1] {
        let mut stream = connect(hub.client());
        stream.write_all(&hello[..cut]).unwrap();
        drop(stream);
        hub.wait_for("no TLS connection");
    }
    assert_serves(&site, &hub);
}

#[test]
fn a_client_of_old_tls_and_one_that_says_too_much_hear_what_to_do() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let mut hub = site.serve(Asks::Nothing);
    let port = hub.client().port();
    let _old = Tool::start(&format!(
        "exec openssl s_client -tls1_1 -cipher ALL:@SECLEVEL=0 -connect 127.0.0.1:{port}"
    ));
    let line = hub.wait_for("no TLS connection");
    assert!(line.contains("too old") && line.contains("1.1"), "{line}");
    // A hello of 16 MiB, as its first octets say.
    answer(&hub, &[0x16, 0x03, 0x01, 0x00, 0x04, 0x01, 0xff, 0xff, 0xff]);
    assert!(hub.wait_for("no TLS connection").contains("larger than 64 KiB"));
    assert_serves(&site, &hub);
}

#[test]
fn tls_on_a_plain_port_is_told_and_sent_away() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let hello = hello();
    // Files replayed, and a live source.
    let mut hub = Hub::start(&["serve", &site.capture(), "--listen", "127.0.0.1:0"], 1);
    answer(&hub, &hello);
    hub.wait_for("it speaks TLS, and this listener does not");
    let mut hub = Hub::start(&["serve", "tcp-listen://127.0.0.1:0", "--listen", "127.0.0.1:0"], 2);
    answer(&hub, &hello);
    assert!(hub.wait_for("it speaks TLS").contains("tls-listen://"));
    // And as a producer.
    let mut stream = TcpStream::connect(hub.producers[0]).unwrap();
    stream.write_all(&hello).unwrap();
    let line = hub.wait_for("not a capture stream");
    assert!(line.contains("TLS") && line.contains("tls-listen://"), "{line}");
    assert!(hub.runs());
}

#[test]
fn dialling_a_plain_listener_by_tls_says_which_scheme_it_is() {
    let site = Site::new();
    let hub = Hub::start(&["serve", &site.capture(), "--listen", "127.0.0.1:0"], 1);
    let endpoint = site.dial(hub.client().port(), Asks::Nothing) + "&reconnect=no";
    let read = run(&["cat", &endpoint], b"");
    let said = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(said.contains("it is tcp://"), "{said}");
}
