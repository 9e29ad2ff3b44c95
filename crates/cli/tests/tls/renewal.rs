//! Certificates that are replaced while connections live.

use std::io::Write;
use std::net::TcpStream;

use crate::harness::*;
use crate::site::*;

/// What a server shows now: when it expires.
fn shown(site: &Site, port: u16) -> String {
    let line = format!(
        "openssl s_client -connect localhost:{port} -CAfile {} </dev/null 2>/dev/null | openssl x509 -noout -serial",
        site.ca()
    );
    shell(&line)
}

#[test]
fn replaced_files_are_used_for_new_connections_and_drop_none_and_bad_ones_are_not() {
    if !has("openssl") || !has("socat") {
        return;
    }
    let site = Site::new();
    let listen = site.listen(Asks::Nothing);
    let mut hub = Hub::start(&["serve", "tcp-listen://127.0.0.1:0", "--listen", &listen], 2);
    let port = hub.client().port();
    let before = shown(&site, port);
    let out = site.path("out.pcap");
    let line = format!(
        "exec socat -u openssl-connect:localhost:{port},cafile={} CREATE:{}",
        site.ca(),
        out.display()
    );
    let _client = Tool::start(&line);
    hub.wait_for("connected");
    hub.wait_for("connected");
    let mut producer = TcpStream::connect(hub.producers[0]).unwrap();
    producer.write_all(&header(1)).unwrap();
    let half = site.packets.len() / 2;
    producer.write_all(&site.packets[..half].iter().flat_map(record).collect::<Vec<_>>()).unwrap();

    // Bad files: said, and what is there stays.
    let (cert, key) = site.server();
    let kept = std::fs::read(&cert).unwrap();
    std::fs::write(&cert, "rubbish").unwrap();
    let line = hub.wait_for("the new certificates cannot be used");
    assert!(line.contains("server.pem") && line.contains("from before stay"), "{line}");
    assert_eq!(shown(&site, port), before);
    std::fs::write(&cert, kept).unwrap();

    // Good ones: for those who come from now on.
    let folder = site.folder.path().display();
    shell(&format!("mv {cert} {folder}/old.pem && mv {key} {folder}/old-key.pem"));
    site.make(&["certs", "--name", "localhost"]);
    hub.wait_for("certificates read again");
    assert_ne!(shown(&site, port), before);
    producer.write_all(&site.packets[half..].iter().flat_map(record).collect::<Vec<_>>()).unwrap();
    wait_until("the client of before has all", || {
        std::fs::read(&out).is_ok_and(|octets| octets == pcap(&site.packets))
    });
}

#[test]
fn files_that_were_away_for_long_are_used_when_they_are_there_again() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let mut hub = site.serve(Asks::Nothing);
    let before = shown(&site, hub.client().port());
    let (cert, key) = site.server();
    let folder = site.folder.path().display();
    shell(&format!("mv {cert} {folder}/old.pem && mv {key} {folder}/old-key.pem"));
    let line = hub.wait_for("the new certificates cannot be used");
    assert!(line.contains("server.pem") && line.contains("from before stay"), "{line}");
    assert_eq!(shown(&site, hub.client().port()), before);
    site.make(&["certs", "--name", "localhost"]);
    hub.wait_for("certificates read again");
    assert_ne!(shown(&site, hub.client().port()), before);
}

#[test]
fn sighup_under_run_reads_certificates_at_once_and_keeps_those_that_can_be_used() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let (cert, key) = site.server();
    let text = format!(
        "stats = \"json\"\n[[source]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n\
         [[sink]]\nendpoint = \"tls-listen://127.0.0.1:0\"\ncert = \"{cert}\"\nkey = \"{key}\"\n"
    );
    let mut command = pcaphub();
    command.arg("run").arg(file(&site.folder, "hub.toml", text.as_bytes()));
    let mut hub = Hub::spawn(command, 2);
    let port = hub.client().port();
    let before = shown(&site, port);
    std::fs::write(&cert, "rubbish").unwrap();
    hub.wait_for("the new certificates cannot be used");
    // Who looks by himself says it once.
    hub.signal(rustix::process::Signal::HUP);
    let line = hub.wait_for("the new certificates cannot be used");
    assert!(line.contains("server.pem") && line.contains("from before stay"), "{line}");
    assert_eq!(shown(&site, port), before);
    std::fs::remove_file(&cert).unwrap();
    std::fs::remove_file(&key).unwrap();
    site.make(&["certs", "--name", "localhost"]);
    hub.signal(rustix::process::Signal::HUP);
    hub.wait_for("certificates read again");
    assert_ne!(shown(&site, port), before);
    let (status, _) = hub.stop();
    assert!(status.success());
}

#[test]
fn a_certificate_that_expires_soon_is_told_at_start() {
    let site = Site::new();
    site.make(&["soon", "--name", "localhost", "--days", "5"]);
    let (cert, key) = (site.path("soon/server.pem"), site.path("soon/server-key.pem"));
    let listen = format!("tls-listen://127.0.0.1:0?cert={}&key={}", cert.display(), key.display());
    let mut hub = Hub::start(&["serve", &site.capture(), "--listen", &listen], 0);
    let line = hub.wait_for("expires on");
    assert!(line.contains("soon/server.pem") && line.contains("WARN"), "{line}");
}
