//! Certificates and keys that a configuration file names: `check` says what `run` would refuse.

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use crate::harness::*;
use crate::site::*;

/// A file with a TLS listener for the site's capture that has these lines, from line 5 on.
fn config(site: &Site, lines: &str) -> String {
    let capture = site.capture();
    let text = format!(
        "[[source]]\nendpoint = \"{capture}\"\n[[sink]]\nendpoint = \"tls-listen://127.0.0.1:0\"\n{lines}"
    );
    file(&site.folder, "hub.toml", text.as_bytes()).display().to_string()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// What `check` and `run` say of a file that both refuse.
fn refused(config: &str) -> String {
    let (run, check) = (run(&["run", config], b""), run(&["check", config], b""));
    assert_eq!(
        (run.status.code(), check.status.code()),
        (Some(78), Some(78)),
        "{}{}",
        said(&run),
        said(&check)
    );
    let said = said(&check);
    assert!(said.starts_with(&format!("{config}:4:12: tls-listen://127.0.0.1:0: ")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// What `check` says of a file that may work when it is started.
fn noted(config: &str) -> String {
    let check = run(&["check", config], b"");
    assert_eq!(check.status.code(), Some(0), "{}", said(&check));
    assert!(String::from_utf8_lossy(&check.stdout).contains(": fine: "));
    said(&check)
}

#[test]
fn a_listener_without_a_certificate_is_an_error_of_the_file_and_of_what_is_printed() {
    let site = Site::new();
    assert!(refused(&config(&site, "")).contains("cert= is missing"));
    let output = run(&["serve", "demo:", "--listen", "tls-listen://127.0.0.1:0", "--print-config"], b"");
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
    assert!(said(&output).contains("cert= is missing"), "{}", said(&output));
}

#[test]
fn certificates_and_keys_that_are_there_and_cannot_be_used_are_errors_with_their_place() {
    let site = Site::new();
    let ((cert, key), other) = (site.server(), site.alice().1);
    let rubbish = file(&site.folder, "rubbish.pem", b"hello").display().to_string();
    let lines = |cert: &str, key: &str| format!("cert = \"{cert}\"\nkey = \"{key}\"\n");
    assert_eq!(noted(&config(&site, &lines(&cert, &key))), "");
    assert!(refused(&config(&site, &lines(&rubbish, &key))).contains("there is no certificate in it"));
    assert!(refused(&config(&site, &lines(&cert, &other))).contains("do not go together"));
    let with_ca = lines(&cert, &key) + &format!("client-ca = \"{rubbish}\"\n");
    assert!(refused(&config(&site, &with_ca)).contains("rubbish.pem: there is no certificate in it"));
    shell(&format!("chmod 644 {key}"));
    assert!(refused(&config(&site, &lines(&cert, &key))).contains("chmod 600"));
}

#[test]
fn certificates_that_are_not_there_are_notes_and_what_is_there_is_looked_at_all_the_same() {
    let site = Site::new();
    let (cert, key) = site.server();
    let lines = |cert: &str, ca: &str| format!("cert = \"{cert}\"\nkey = \"{key}\"\nclient-ca = \"{ca}\"\n");
    let path = config(&site, &lines(&cert, "/no/ca.pem"));
    assert!(noted(&path).starts_with(&format!("note: {path}:4:12: /no/ca.pem: No such file")));
    let said = noted(&config(&site, &lines("/no/server.pem", "/no/ca.pem")));
    assert!(said.lines().count() == 2 && said.contains("/no/server.pem: No such file"), "{said}");
    let rubbish = file(&site.folder, "rubbish.pem", b"hello").display().to_string();
    assert!(refused_by_check(&config(&site, &lines("/no/server.pem", &rubbish))).contains("rubbish.pem"));
}

fn refused_by_check(config: &str) -> String {
    let check = run(&["check", config], b"");
    assert_eq!(check.status.code(), Some(78), "{}", said(&check));
    said(&check)
}

#[test]
fn a_fifo_in_place_of_a_certificate_is_not_read() {
    let site = Site::new();
    let fifo = site.path("fifo").display().to_string();
    shell(&format!("mkfifo {fifo}"));
    assert_eq!(noted(&config(&site, &format!("cert = \"{fifo}\"\nkey = \"{}\"\n", site.server().1))), "");
}

#[test]
fn a_user_that_there_is_not_is_a_note_with_its_place() {
    let site = Site::new();
    let text = "user = \"no-such-user\"\n[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"null:\"\n";
    let path = file(&site.folder, "user.toml", text.as_bytes()).display().to_string();
    let said = noted(&path);
    assert!(said.starts_with(&format!("note: {path}:1:8: ")) && said.contains("no such user"), "{said}");
    if may_capture() {
        assert_eq!(run(&["run", &path], b"").status.code(), Some(78));
    }
}

#[test]
fn a_key_that_may_not_be_read_says_what_to_do() {
    if !may_capture() {
        return;
    }
    let site = Site::new();
    let (cert, key) = site.server();
    // A copy, as the build's folder may be closed to others.
    let program = site.path("pcaphub");
    std::fs::copy(env!("CARGO_BIN_EXE_pcaphub"), &program).unwrap();
    let folder = site.folder.path().display();
    shell(&format!("chmod 755 {folder} {folder}/certs {folder}/pcaphub"));
    let listen = format!("tls-listen://127.0.0.1:0?cert={cert}&key={key}");
    let config = config(&site, &format!("cert = \"{cert}\"\nkey = \"{key}\"\n"));
    shell(&format!("chmod 644 {config} {}", site.capture()));
    for words in [&["serve", "demo:", "--listen", &listen] as &[&str], &["run", &config]] {
        let output = Command::new(&program).args(words).uid(65534).gid(65534).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(77), "{said}");
        assert!(said.contains(&format!("cannot read {key}: Permission denied")), "{said}");
        assert!(said.contains("chown") && said.contains("LoadCredential="), "{said}");
    }
}
