//! Who is not trusted, and what is said to the one who has to act.

use crate::harness::*;
use crate::site::*;

/// What `pcaphub cat ENDPOINT` says when it may not go on trying.
fn refusal(endpoint: &str) -> String {
    let read = run(&["cat", endpoint, "--opt", "reconnect=no"], b"");
    assert!(!read.status.success(), "it was let in");
    assert!(read.stdout.is_empty(), "nothing is shown of what is not trusted");
    String::from_utf8_lossy(&read.stderr).into_owned()
}

#[test]
fn a_server_of_another_authority_is_refused_and_ca_and_pin_named() {
    let (site, other) = (Site::new(), Site::new());
    let mut hub = site.serve(Asks::Nothing);
    let port = hub.client().port();
    let said = refusal(&format!("tls://localhost:{port}?ca={}", other.ca()));
    assert!(said.contains("give ca=FILE") && said.contains("pin=sha256/"), "{said}");
    assert!(hub.wait_for("no TLS connection").contains("our certificate"));
}

#[test]
fn a_wrong_name_is_refused_and_sni_says_another_one() {
    let site = Site::new();
    let hub = site.serve(Asks::Nothing);
    let (port, ca) = (hub.client().port(), site.ca());
    let said = refusal(&format!("tls://localhost:{port}?ca={ca}&sni=hub.example"));
    assert!(said.contains("is for localhost, 127.0.0.1, not for hub.example"), "{said}");
    assert!(said.contains("sni=NAME"), "{said}");
    let read = run(&["cat", &format!("tls://127.0.0.1:{port}?ca={ca}&sni=localhost")], b"");
    site.assert_whole(&read.stdout);
}

#[test]
fn an_expired_certificate_is_refused_with_its_date_and_told_where_it_is_served() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let folder = site.folder.path().display();
    // x509 -days -1: it ended a day ago.
    shell(&format!(
        "cd {folder} && openssl req -new -key certs/server-key.pem -subj /CN=localhost -out r.csr 2>/dev/null && \
         printf 'subjectAltName=DNS:localhost\\nextendedKeyUsage=serverAuth\\nbasicConstraints=CA:FALSE\\n' >ext && \
         openssl x509 -req -in r.csr -CA certs/ca.pem -CAkey certs/ca-key.pem -CAcreateserial -days -1 \
         -extfile ext -out expired.pem 2>/dev/null"
    ));
    let (expired, (_, key)) = (site.path("expired.pem"), site.server());
    let listen = format!("tls-listen://127.0.0.1:0?cert={}&key={key}", expired.display());
    let mut hub = Hub::start(&["serve", &site.capture(), "--listen", &listen], 0);
    assert!(hub.wait_for("has expired on").contains("expired.pem"));
    let line = hub.wait_for("listening on ");
    let port = line.split_once("127.0.0.1:").unwrap().1.split(' ').next().unwrap();
    let said = refusal(&format!("tls://localhost:{port}?ca={}", site.ca()));
    assert!(said.contains("has expired on 20") && said.contains("needs a new one"), "{said}");
}

#[test]
fn a_client_without_a_certificate_is_refused_and_both_sides_hear_why() {
    let site = Site::new();
    let mut hub = site.serve(Asks::Certificate);
    let said = refusal(&site.dial(hub.client().port(), Asks::Nothing));
    assert!(said.contains("cert= and key="), "{said}");
    let line = hub.wait_for("no TLS connection");
    assert!(line.contains("showed no certificate") && line.contains("pcaphub cert new"), "{line}");
    // As a push: what is sent before the answer comes is no success.
    let sent = run(
        &[
            "pipe",
            &site.capture(),
            "--to",
            &site.dial(hub.client().port(), Asks::Nothing),
            "--opt",
            "reconnect=no",
        ],
        b"",
    );
    assert!(!sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}

#[test]
fn a_client_of_another_authority_is_refused() {
    let (site, other) = (Site::new(), Site::new());
    let mut hub = site.serve(Asks::Certificate);
    let ((cert, key), port) = (other.alice(), hub.client().port());
    refusal(&format!("tls://localhost:{port}?ca={}&cert={cert}&key={key}", site.ca()));
    let line = hub.wait_for("no TLS connection");
    assert!(line.contains("client-ca="), "{line}");
    assert_eq!(hub.stop().1["joined"], 0);
}

#[test]
fn a_pin_trusts_one_key_and_no_other() {
    let (site, other) = (Site::new(), Site::new());
    let hub = site.serve(Asks::Nothing);
    let port = hub.client().port();
    let pin = |site: &Site| {
        let shown = run(&["cert", "show", &site.server().0], b"");
        let text = String::from_utf8(shown.stdout).unwrap();
        text.lines().find_map(|line| line.trim().strip_prefix("pin")).unwrap().trim().to_owned()
    };
    let read = run(&["cat", &format!("tls://localhost:{port}?pin={}", pin(&site))], b"");
    site.assert_whole(&read.stdout);
    let said = refusal(&format!("tls://localhost:{port}?pin={}", pin(&other)));
    assert!(said.contains("which is not in pin=") && said.contains(&pin(&site)), "{said}");
    // Both are checked where both are given.
    refusal(&format!("tls://localhost:{port}?pin={}&ca={}", pin(&site), other.ca()));
}

#[test]
fn insecure_is_only_when_asked_for_and_loud() {
    let site = Site::new();
    let hub = site.serve(Asks::Nothing);
    let port = hub.client().port();
    refusal(&format!("tls://localhost:{port}"));
    let read = run(&["cat", &format!("tls://localhost:{port}?insecure=yes")], b"");
    site.assert_whole(&read.stdout);
    let said = String::from_utf8_lossy(&read.stderr).into_owned();
    assert!(said.contains("ERROR") && said.contains("can read and forge everything"), "{said}");
}

#[test]
fn what_cannot_work_is_said_at_start() {
    let site = Site::new();
    let (cert, key) = site.server();
    let start = |listen: &str| {
        let done = run(&["serve", &site.capture(), "--listen", listen], b"");
        assert_eq!(done.status.code(), Some(2));
        String::from_utf8_lossy(&done.stderr).into_owned()
    };
    assert!(start("tls-listen://127.0.0.1:0").contains("pcaphub cert new"));
    let missing = start(&format!("tls-listen://127.0.0.1:0?cert={cert}&key=/no/such"));
    assert!(missing.contains("cannot read /no/such"), "{missing}");
    let mismatch = start(&format!("tls-listen://127.0.0.1:0?cert={cert}&key={}", site.alice().1));
    assert!(mismatch.contains("do not go together"), "{mismatch}");
    shell(&format!("chmod 644 {key}"));
    let exposed = start(&format!("tls-listen://127.0.0.1:0?cert={cert}&key={key}"));
    assert!(exposed.contains("mode 0644") && exposed.contains("chmod 600"), "{exposed}");
}

#[test]
fn a_client_certificate_without_its_key_is_told_that_key_is_missing_and_the_endpoint_once() {
    let site = Site::new();
    let (cert, ca) = (site.alice().0, site.ca());
    let said = refusal(&format!("tls://localhost:1?ca={ca}&cert={cert}"));
    assert!(said.contains("key= is missing") && !said.contains("chmod"), "{said}");
    let missing = refusal("tls://localhost:1?ca=/no/such");
    assert!(missing.contains("source tls://localhost:1: cannot read /no/such"), "{missing}");
    assert_eq!(missing.matches("tls://localhost:1").count(), 1, "{missing}");
}

#[test]
fn keys_of_a_kind_that_is_not_supported_are_not_said_to_belong_to_another_certificate() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let folder = site.folder.path().display();
    for kind in ["ed448", "rsa:1024"] {
        shell(&format!(
            "cd {folder} && openssl req -x509 -newkey {kind} -nodes -subj /CN=localhost -days 9 \
             -addext subjectAltName=DNS:localhost -keyout k.pem -out c.pem 2>/dev/null && chmod 600 k.pem"
        ));
        let (cert, key) = (site.path("c.pem"), site.path("k.pem"));
        let listen = format!("tls-listen://127.0.0.1:0?cert={}&key={}", cert.display(), key.display());
        let done = run(&["serve", &site.capture(), "--listen", &listen], b"");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("k.pem: a key of this kind is not supported"), "{kind}: {said}");
        assert!(said.contains("2048 bits"), "{kind}: {said}");
    }
}

#[test]
fn who_may_not_connect_is_turned_away_before_any_tls() {
    let site = Site::new();
    let listen = site.listen(Asks::Nothing) + "&allow=192.0.2.0/24";
    let mut hub = Hub::start(&["serve", &site.capture(), "--listen", &listen], 1);
    refusal(&site.dial(hub.client().port(), Asks::Nothing));
    assert!(hub.wait_for("refused").contains("not in allow="));
    let events = hub.said().iter().any(|line| line.contains("no TLS connection"));
    assert!(!events, "{:#?}", hub.said());
}
