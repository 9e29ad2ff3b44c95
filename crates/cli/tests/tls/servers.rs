//! Servers that we dial to read from.

use crate::harness::*;
use crate::site::*;

fn read(tool: &str, asks: Asks, line: impl Fn(&Site, u16) -> String) {
    if !has(tool) {
        return;
    }
    let (site, port) = (Site::new(), free_port());
    let _tool = Tool::start(&line(&site, port));
    // Until it listens, the dial is refused and tried again.
    let read = run(&["cat", &site.dial(port, asks)], b"");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    site.assert_whole(&read.stdout);
}

#[test]
fn socat_is_read_with_and_without_a_certificate() {
    for asks in [Asks::Nothing, Asks::Certificate] {
        read("socat", asks, |site, port| {
            let ((cert, key), ca, from) = (site.server(), site.ca(), site.capture());
            let verify =
                if asks == Asks::Certificate { format!("verify=1,cafile={ca}") } else { "verify=0".into() };
            format!(
                "exec socat -u FILE:{from} openssl-listen:{port},bind=127.0.0.1,reuseaddr,cert={cert},key={key},{verify}"
            )
        });
    }
}

#[test]
fn ncat_is_read() {
    read("ncat", Asks::Nothing, |site, port| {
        let ((cert, key), from) = (site.server(), site.capture());
        format!("exec ncat -l 127.0.0.1 {port} --ssl --ssl-cert {cert} --ssl-key {key} --send-only <{from}")
    });
}

#[test]
fn openssl_is_read() {
    for version in ["-tls1_2", "-tls1_3"] {
        read("openssl", Asks::Certificate, |site, port| {
            let ((cert, key), ca, from) = (site.server(), site.ca(), site.capture());
            // Where its standard input ends, it closes the connection.
            format!(
                "exec openssl s_server -quiet {version} -accept 127.0.0.1:{port} -cert {cert} -key {key} -CAfile {ca} \
                 -Verify 1 -verify_return_error -naccept 1 <{from}"
            )
        });
    }
}

#[test]
fn stunnel_is_read_before_a_listener_without_tls() {
    if !has("stunnel4") {
        return;
    }
    let (site, port) = (Site::new(), free_port());
    let hub = Hub::start(&["serve", &site.capture(), "--listen", "127.0.0.1:0"], 1);
    let (cert, key) = site.server();
    let lines = format!("accept = 127.0.0.1:{port}\nconnect = {}\ncert = {cert}\nkey = {key}", hub.client());
    let _stunnel = stunnel(&site, "server.conf", &lines);
    let read = run(&["cat", &site.dial(port, Asks::Nothing)], b"");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    site.assert_whole(&read.stdout);
}
