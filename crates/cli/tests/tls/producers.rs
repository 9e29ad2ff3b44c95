//! Producers that connect to us, and push captures.

use crate::harness::*;
use crate::site::*;

/// A hub that takes one producer and writes what it brings.
fn hub(site: &Site, asks: Asks, out: &str) -> Hub {
    let endpoint = site.listen(asks) + "&reconnect=no";
    Hub::start(&["pipe", &endpoint, "--to", out], 1)
}

fn pushed(tool: &str, asks: Asks, line: impl Fn(&Site, u16) -> String) {
    if !has(tool) {
        return;
    }
    let site = Site::new();
    let out = site.path("out.pcap");
    let mut hub = hub(&site, asks, &out.display().to_string());
    let _tool = Tool::start(&line(&site, hub.producers[0].port()));
    let (status, counts) = hub.ended();
    assert!(status.success(), "{:#?}", hub.said());
    assert_eq!(counts["sources"][0]["decoded"], 500);
    site.assert_whole(&std::fs::read(out).unwrap());
    let named = hub.said().iter().any(|line| line.contains("127.0.0.1 (alice)"));
    assert_eq!(named, asks == Asks::Certificate, "{:#?}", hub.said());
}

#[test]
fn what_is_pushed_to_a_server_that_refuses_us_is_not_delivered() {
    let site = Site::new();
    let out = site.path("out.pcap").display().to_string();
    let hub = hub(&site, Asks::Certificate, &out);
    let to = format!("{}&reconnect=no", site.dial(hub.producers[0].port(), Asks::Nothing));
    let sent = run(&["pipe", &site.capture(), "--to", &to], b"");
    let said = String::from_utf8_lossy(&sent.stderr).into_owned();
    assert_eq!(sent.status.code(), Some(1), "{said}");
    assert!(said.contains("it asks for a certificate") && said.contains("\n0 packets delivered"), "{said}");
    hub.stop();
}

#[test]
fn socat_pushes_with_and_without_a_certificate() {
    pushed("socat", Asks::Nothing, |site, port| {
        format!("exec socat -u FILE:{} openssl-connect:localhost:{port},cafile={}", site.capture(), site.ca())
    });
    pushed("socat", Asks::Certificate, |site, port| {
        let (cert, key) = site.alice();
        let (from, ca) = (site.capture(), site.ca());
        format!(
            "exec socat -u FILE:{from} openssl-connect:localhost:{port},cafile={ca},cert={cert},key={key}"
        )
    });
}

#[test]
fn ncat_pushes() {
    pushed("ncat", Asks::Certificate, |site, port| {
        let (cert, key) = site.alice();
        let from = site.capture();
        format!("exec ncat --ssl --ssl-cert {cert} --ssl-key {key} --send-only localhost {port} <{from}")
    });
}

#[test]
fn openssl_pushes() {
    pushed("openssl", Asks::Nothing, |site, port| {
        format!(
            "exec openssl s_client -quiet -no_ign_eof -connect localhost:{port} -CAfile {} <{}",
            site.ca(),
            site.capture()
        )
    });
}

#[test]
fn stunnel_pushes_for_a_program_without_tls() {
    if !has("stunnel4") {
        return;
    }
    let site = Site::new();
    let out = site.path("out.pcap");
    let mut hub = hub(&site, Asks::Nothing, &out.display().to_string());
    let plain = free_port();
    let lines = format!(
        "client = yes\naccept = 127.0.0.1:{plain}\nconnect = 127.0.0.1:{}\nCAfile = {}\nverifyChain = yes",
        hub.producers[0].port(),
        site.ca()
    );
    let _stunnel = stunnel(&site, "push.conf", &lines);
    let mut connected = None;
    wait_until("stunnel listens", || {
        connected = std::net::TcpStream::connect(("127.0.0.1", plain)).ok();
        connected.is_some()
    });
    let mut stream = connected.unwrap();
    std::io::Write::write_all(&mut stream, &pcap(&site.packets)).unwrap();
    drop(stream);
    assert!(hub.ended().0.success(), "{:#?}", hub.said());
    site.assert_whole(&std::fs::read(out).unwrap());
}
