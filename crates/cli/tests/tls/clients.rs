//! Clients that connect to us.

use crate::harness::*;
use crate::site::*;

#[test]
fn socat_reads_with_and_without_a_certificate_of_its_own() {
    if !has("socat") {
        return;
    }
    let site = Site::new();
    let (cert, key) = site.alice();
    for asks in [Asks::Nothing, Asks::Certificate] {
        let mut hub = site.serve(asks);
        let own = if asks == Asks::Certificate { format!(",cert={cert},key={key}") } else { String::new() };
        let port = hub.client().port();
        site.assert_whole(&output(&format!(
            "socat -u openssl-connect:localhost:{port},cafile={}{own} -",
            site.ca()
        )));
        let line = hub.wait_for("left: end of stream");
        assert_eq!(line.contains("(alice)"), asks == Asks::Certificate, "{line}");
        assert_eq!(hub.stop().1["departed"]["delivered"], 500);
    }
}

#[test]
fn ncat_reads_with_and_without_a_certificate_of_its_own() {
    if !has("ncat") {
        return;
    }
    let site = Site::new();
    let (cert, key) = site.alice();
    for asks in [Asks::Nothing, Asks::Certificate] {
        let mut hub = site.serve(asks);
        let own = if asks == Asks::Certificate {
            format!("--ssl-cert {cert} --ssl-key {key}")
        } else {
            String::new()
        };
        let (port, ca) = (hub.client().port(), site.ca());
        let line = format!("ncat --ssl-verify --ssl-trustfile {ca} {own} --recv-only localhost {port}");
        site.assert_whole(&output(&line));
        hub.wait_for("left: end of stream");
    }
}

#[test]
fn openssl_reads_by_tls_1_2_and_1_3() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let hub = site.serve(Asks::Certificate);
    let ((cert, key), port, ca) = (site.alice(), hub.client().port(), site.ca());
    for version in ["-tls1_2", "-tls1_3"] {
        let line = format!(
            "openssl s_client -quiet {version} -verify_return_error -connect localhost:{port} \
             -CAfile {ca} -cert {cert} -key {key}"
        );
        site.assert_whole(&output(&line));
    }
    assert_eq!(hub.stop().1["departed"]["delivered"], 1000);
}

#[test]
fn stunnel_reads_for_a_program_without_tls() {
    if !has("stunnel4") {
        return;
    }
    let site = Site::new();
    let mut hub = site.serve(Asks::Certificate);
    let ((cert, key), port, ca) = (site.alice(), hub.client().port(), site.ca());
    let plain = free_port();
    let lines = format!(
        "client = yes\naccept = 127.0.0.1:{plain}\nconnect = 127.0.0.1:{port}\nCAfile = {ca}\n\
         verifyChain = yes\ncheckHost = localhost\ncert = {cert}\nkey = {key}"
    );
    let _stunnel = stunnel(&site, "client.conf", &lines);
    let mut read = Vec::new();
    wait_until("stunnel listens", || match std::net::TcpStream::connect(("127.0.0.1", plain)) {
        Ok(mut stream) => std::io::Read::read_to_end(&mut stream, &mut read).is_ok(),
        Err(_) => false,
    });
    site.assert_whole(&read);
    assert!(hub.wait_for("left: end of stream").contains("(alice)"));
}

#[test]
fn a_client_of_a_live_source_has_its_name_in_the_counts_and_may_close_its_side() {
    if !has("socat") {
        return;
    }
    let site = Site::new();
    let listen = site.listen(Asks::Certificate);
    let mut hub = Hub::start(&["serve", "tcp-listen://127.0.0.1:0", "--listen", &listen], 2);
    let ((cert, key), port, ca) = (site.alice(), hub.client().port(), site.ca());
    let out = site.path("out.pcap");
    // With standard input at its end, socat closes its sending side at once, and stays for what comes.
    let line = format!(
        "exec socat -t 60 openssl-connect:localhost:{port},cafile={ca},cert={cert},key={key} \
         STDIN!!CREATE:{} </dev/null",
        out.display()
    );
    let _socat = Tool::start(&line);
    hub.wait_for("(alice) connected");
    let mut producer = std::net::TcpStream::connect(hub.producers[0]).unwrap();
    std::io::Write::write_all(&mut producer, &pcap(&site.packets)).unwrap();
    wait_until("all packets are there", || {
        std::fs::read(&out).is_ok_and(|octets| octets == pcap(&site.packets))
    });
    let counts = hub.counts();
    let name = counts["subscribers"][0]["name"].as_str().unwrap();
    assert!(name.ends_with(" (alice)"), "{name}");
    assert_eq!(counts["subscribers"][0]["delivered"], 500);
}

#[test]
fn pcaphub_reads_from_pcaphub_and_every_packet_is_delivered() {
    let site = Site::new();
    let hub = site.serve(Asks::Certificate);
    let endpoint = site.dial(hub.client().port(), Asks::Certificate);
    let read = run(&["cat", &endpoint], b"");
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    site.assert_whole(&read.stdout);
    assert_eq!(hub.stop().1["departed"]["delivered"], 500);
}

/// What `pcaphub top` shows of a hub, once it has this text.
fn top(hub: &Hub, text: &str) -> String {
    let (pid, mut shown) = (hub.pid().to_string(), String::new());
    wait_until(&format!("{text:?} in top"), || {
        let output = pcaphub().args(["top", &pid, "--once", "--interval", "100ms"]).output().unwrap();
        shown = String::from_utf8_lossy(&output.stdout).into_owned();
        shown.contains(text)
    });
    shown
}

#[test]
fn top_shows_clients_and_producers_by_the_names_in_their_certificates() {
    if !has("socat") {
        return;
    }
    let site = Site::new();
    let (cert, key) = site.alice();
    let source = site.listen(Asks::Certificate);
    let hub = Hub::start(&["serve", &source, "--listen", &site.listen(Asks::Certificate)], 2);
    let (port, ca) = (hub.client().port(), site.ca());
    let _client = Tool::start(&format!(
        "exec socat -u openssl-connect:localhost:{port},cafile={ca},cert={cert},key={key} - >/dev/null"
    ));
    let push = format!("tls://localhost:{}?ca={ca}&cert={cert}&key={key}", hub.producers[0].port());
    let _producer = Hub::start(&["pipe", "demo:", "--to", &push], 0);
    let shown = top(&hub, "\n  127.0.0.1 (alice)\n");
    let (sources, sinks) = shown.split_once("SINKS AND CLIENTS").unwrap();
    assert!(sources.contains("open") && !sinks.contains("127.0.0.1 (alice)"), "{shown}");
    let shown = top(&hub, " 1 client");
    let line = shown.lines().find(|line| line.contains(" (alice) ")).unwrap_or_else(|| panic!("{shown}"));
    assert!(line.starts_with("  127.0.0.1:"), "{shown}");
}
