//! Receivers that listen, to which we push.

use crate::harness::*;
use crate::site::*;

fn pushed(tool: &str, asks: Asks, line: impl Fn(&Site, u16, &str) -> String) {
    if !has(tool) {
        return;
    }
    let (site, port) = (Site::new(), free_port());
    let out = site.path("out.pcap");
    let _tool = Tool::start(&line(&site, port, &out.display().to_string()));
    let sent = run(&["pipe", &site.capture(), "--to", &site.dial(port, asks)], b"");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    wait_until("all is there", || std::fs::read(&out).is_ok_and(|octets| octets == pcap(&site.packets)));
}

#[test]
fn socat_receives_with_and_without_a_certificate() {
    for asks in [Asks::Nothing, Asks::Certificate] {
        pushed("socat", asks, |site, port, out| {
            let ((cert, key), ca) = (site.server(), site.ca());
            let verify =
                if asks == Asks::Certificate { format!("verify=1,cafile={ca}") } else { "verify=0".into() };
            format!(
                "exec socat -u openssl-listen:{port},bind=127.0.0.1,reuseaddr,cert={cert},key={key},{verify} CREATE:{out}"
            )
        });
    }
}

#[test]
fn ncat_receives() {
    pushed("ncat", Asks::Nothing, |site, port, out| {
        let (cert, key) = site.server();
        format!("exec ncat -l 127.0.0.1 {port} --ssl --ssl-cert {cert} --ssl-key {key} --recv-only >{out}")
    });
}

#[test]
fn openssl_receives() {
    pushed("openssl", Asks::Nothing, |site, port, out| {
        let (cert, key) = site.server();
        format!(
            "sleep 60 | openssl s_server -quiet -accept 127.0.0.1:{port} -cert {cert} -key {key} -naccept 1 >{out}"
        )
    });
}

#[test]
fn stunnel_receives_for_a_program_without_tls() {
    if !has("stunnel4") {
        return;
    }
    let (site, port) = (Site::new(), free_port());
    let out = site.path("out.pcap");
    let endpoint = "tcp-listen://127.0.0.1:0?reconnect=no";
    let mut hub = Hub::start(&["pipe", endpoint, "--to", &out.display().to_string()], 1);
    let (cert, key) = site.server();
    let lines =
        format!("accept = 127.0.0.1:{port}\nconnect = {}\ncert = {cert}\nkey = {key}", hub.producers[0]);
    let _stunnel = stunnel(&site, "receive.conf", &lines);
    let sent = run(&["pipe", &site.capture(), "--to", &site.dial(port, Asks::Nothing)], b"");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    assert!(hub.ended().0.success());
    site.assert_whole(&std::fs::read(out).unwrap());
}
