//! Servers of old TLS, as NetworkMiner's is: refused by us with a reason, and reached through stunnel.

use std::process::Command;

use crate::harness::*;
use crate::site::*;

/// An expired RSA-1024 certificate, signed with SHA-1.
fn old_certificate(site: &Site) -> bool {
    let folder = site.folder.path().display();
    let line = format!(
        "cd {folder} && openssl req -new -newkey rsa:1024 -nodes -subj /CN=NetworkMiner -keyout old-key.pem -out old.csr \
         && openssl x509 -req -in old.csr -signkey old-key.pem -sha1 -days -1 -out old.pem"
    );
    let made = Command::new("bash").args(["-c", &line]).output().unwrap();
    made.status.success()
}

#[test]
fn a_tls_1_0_server_is_refused_with_a_hint_and_reached_through_stunnel() {
    if !has("openssl") || !has("stunnel4") {
        return;
    }
    let site = Site::new();
    assert!(old_certificate(&site), "openssl cannot make such a certificate");
    let (port, out) = (free_port(), site.path("out.pcap"));
    let folder = site.folder.path().display();
    let _old = Tool::start(&format!(
        "sleep 100 | openssl s_server -quiet -tls1 -cipher ALL:@SECLEVEL=0 -accept 127.0.0.1:{port} \
         -cert {folder}/old.pem -key {folder}/old-key.pem >{}",
        out.display()
    ));
    let direct = format!("tls://127.0.0.1:{port}?insecure=yes&reconnect=no");
    wait_until("the old server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let refused = run(&["pipe", &site.capture(), "--to", &direct], b"");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{said}");
    assert!(
        said.contains("TLS") && (said.contains("1.2 and 1.3") || said.contains("TLS 1.1 or older")),
        "{said}"
    );
    let plain = free_port();
    let lines = format!(
        "client = yes\naccept = 127.0.0.1:{plain}\nconnect = 127.0.0.1:{port}\nsslVersion = TLSv1\n\
         ciphers = ALL:@SECLEVEL=0\nsecurityLevel = 0"
    );
    let _stunnel = stunnel(&site, "old.conf", &lines);
    let sent = run(&["pipe", &site.capture(), "--to", &format!("tcp://127.0.0.1:{plain}")], b"");
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    wait_until("all is there", || std::fs::read(&out).is_ok_and(|octets| octets == pcap(&site.packets)));
}
