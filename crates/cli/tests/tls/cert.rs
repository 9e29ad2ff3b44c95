//! `pcaphub cert`: what it makes, what it never touches, what it prints.

use std::os::unix::fs::PermissionsExt;

use crate::harness::*;
use crate::site::*;

fn mode(site: &Site, name: &str) -> u32 {
    std::fs::metadata(site.path(name)).unwrap().permissions().mode() & 0o777
}

#[test]
fn keys_are_for_their_owner_alone_and_nothing_is_overwritten() {
    let site = Site::new();
    assert_eq!(mode(&site, "certs"), 0o700);
    for key in ["ca-key.pem", "server-key.pem", "client-alice-key.pem"] {
        assert_eq!(mode(&site, &format!("certs/{key}")), 0o600);
    }
    let before = std::fs::read(site.path("certs/server.pem")).unwrap();
    for again in [vec![], vec!["--name", "localhost"], vec!["--client", "alice"]] {
        let folder = site.path("certs").display().to_string();
        let done = run(&[&["cert", "new", &folder][..], &again].concat(), b"");
        assert!(!done.status.success());
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(said.contains("away"), "{said}");
    }
    assert_eq!(std::fs::read(site.path("certs/server.pem")).unwrap(), before);
    let folder = site.path("certs").display().to_string();
    let done = run(&["cert", "new", &folder, "--client", "../x"], b"");
    assert!(String::from_utf8_lossy(&done.stderr).contains("letters, digits"));
}

#[test]
fn names_that_would_share_a_file_are_refused_and_nothing_is_left_half_done() {
    let site = Site::new();
    let folder = site.path("two").display().to_string();
    for clients in [["d", "d"], ["x", "x-key"]] {
        let done = run(&["cert", "new", &folder, "--client", clients[0], "--client", clients[1]], b"");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(!done.status.success(), "{said}");
        assert!(said.contains("would be the file of two"), "{said}");
        assert!(!site.path("two").exists());
    }
    file(&site.folder, "taken", b"");
    let done = run(&["cert", "new", &site.path("taken/certs").display().to_string()], b"");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("cannot make the directory") && said.contains("Not a directory"), "{said}");
    let (one, other) = (site.path("one").display().to_string(), site.path("other").display().to_string());
    for folder in [&one, &other] {
        assert!(run(&["cert", "new", folder], b"").status.success());
    }
    shell(&format!("cp {other}/ca-key.pem {one}/ca-key.pem"));
    let done = run(&["cert", "new", &one, "--client", "zed"], b"");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains("ca-key.pem is not the key of ca.pem"), "{said}");
    let open = site.path("open").display().to_string();
    shell(&format!("mkdir -m 777 {open}"));
    let done = run(&["cert", "new", &open], b"");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!done.status.success() && said.contains(&format!("chmod o-w {open}")), "{said}");
    assert_eq!(std::fs::read_dir(&open).unwrap().count(), 0);
}

#[test]
fn what_it_prints_works_as_it_is() {
    if !has("socat") {
        return;
    }
    let site = Site::new();
    let done = run(
        &["cert", "new", &site.path("own").display().to_string(), "--name", "localhost", "--client", "bob"],
        b"",
    );
    let text = String::from_utf8(done.stdout).unwrap();
    let port = free_port().to_string();
    let line = |word: &str| {
        let joined = text.replace("\\\n", " ");
        let line = joined.lines().find(|line| line.trim().starts_with(word)).unwrap().trim().to_owned();
        let folder = site.folder.path().display().to_string();
        line.replace("57012", &port)
            .replace("0.0.0.0", "127.0.0.1")
            .replace("capture.pcap", &format!("{folder}/a.pcap"))
            .replace("pcaphub ", &format!("{} ", env!("CARGO_BIN_EXE_pcaphub")))
            .replace(" | tshark -r -", "")
    };
    let _hub = Tool::start(&format!("exec {}", line("pcaphub serve")));
    let port: u16 = port.parse().unwrap();
    wait_until("it listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    let own = site.path("own").display().to_string();
    site.assert_whole(&output(&format!("cd {own} && {}", line("pcaphub cat"))));
    site.assert_whole(&output(&format!("cd {own} && {}", line("socat"))));
}

#[test]
fn show_tells_names_expiry_and_pin_as_openssl_does() {
    if !has("openssl") {
        return;
    }
    let site = Site::new();
    let shown = String::from_utf8(run(&["cert", "show", &site.server().0], b"").stdout).unwrap();
    assert!(shown.contains("localhost, 127.0.0.1"), "{shown}");
    let pin = shell(&format!(
        "openssl x509 -in {} -pubkey -noout | openssl pkey -pubin -outform der | openssl dgst -sha256 -binary | base64",
        site.server().0
    ));
    assert!(shown.contains(&format!("sha256/{}", pin.trim())), "{shown} {pin}");
    shell(&format!("openssl verify -CAfile {} {} {}", site.ca(), site.server().0, site.alice().0));
}
