//! The configuration file: run, checked, and made of a command line.

use std::io::Read;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Output;

use crate::harness::*;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A folder with a capture of `count` packets.
fn capture(count: u32) -> (tempfile::TempDir, PathBuf, Vec<Packet>) {
    let (folder, packets) = (folder(), packets(1, count, 1_700_000_000_000_000, 1000));
    let path = file(&folder, "in.pcap", &pcap(&packets));
    (folder, path, packets)
}

#[test]
fn a_file_serves_what_the_command_line_would() {
    let (folder, capture, packets) = capture(50);
    let text = format!(
        "stats = \"json\"\n[[source]]\nendpoint = \"{}\"\n\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n\n\
         [[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\ncount = 3\n",
        capture.display()
    );
    let config = file(&folder, "pcaphub.toml", text.as_bytes());
    let mut command = pcaphub();
    command.arg("run").arg(&config);
    let hub = Hub::spawn(command, 2);
    assert_eq!(read_pcap(&read_all(hub.clients[0])), packets);
    assert_eq!(read_pcap(&read_all(hub.clients[1])), packets[..3]);
    if has("tshark") {
        let seen = shell(&format!("tshark -n -i TCP@{} -T fields -e frame.len 2>/dev/null", hub.clients[0]));
        assert_eq!(seen.lines().count(), 50);
    }
    if has("nc") && has("tcpdump") {
        let address = hub.clients[1];
        let seen = shell(&format!("nc {} {} | tcpdump -n -r - 2>/dev/null", address.ip(), address.port()));
        assert_eq!(seen.lines().count(), 3);
    }
    let (status, _) = hub.stop();
    assert!(status.success());
}

#[test]
fn a_source_that_is_there_and_no_capture_is_an_error_for_check_too() {
    let (folder, capture, _) = capture(5);
    let checked = |path: &std::path::Path| {
        let text = format!("[[source]]\nendpoint = \"{}\"\n[[sink]]\nendpoint = \"null:\"\n", path.display());
        let config = file(&folder, "pcaphub.toml", text.as_bytes());
        run(&["check", config.to_str().unwrap()], b"")
    };
    assert_eq!(checked(&capture).status.code(), Some(0));
    let output = checked(&file(&folder, "notes.pcap", b"these are no packets at all, but text"));
    assert_eq!(output.status.code(), Some(78), "{}", said(&output));
    assert!(said(&output).contains("pcaphub.toml:2:12: source "), "{}", said(&output));
}

#[test]
fn all_mistakes_are_told_with_78_and_nothing_is_started() {
    let folder = folder();
    let marker = folder.path().join("started");
    let text = format!(
        "[[source]]\nendpoint = 'sh:touch {}'\n\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\nalow = \"any\"\n\
         history = \"much\"\n",
        marker.display()
    );
    let config = file(&folder, "bad.toml", text.as_bytes());
    let config = config.to_str().unwrap();
    for verb in ["run", "check"] {
        let output = run(&[verb, config], b"");
        assert_eq!(output.status.code(), Some(78), "{}", said(&output));
        let said = said(&output);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines.len(), 2, "{said}");
        assert!(lines[0].starts_with(&format!(
            "{config}:6:1: unknown key \"alow\" in [[sink]]; did you mean \"allow\"?"
        )));
        assert_eq!(
            lines[1],
            format!("{config}:7:11: history = \"much\": it is a time such as 30s or a size such as 64MiB")
        );
    }
    assert!(!marker.exists());
}

#[test]
fn check_says_which_files_are_fine_and_opens_nothing() {
    let (folder, capture, _) = capture(1);
    // Somebody listens there, and a command would leave its mark.
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let marker = folder.path().join("started");
    let text = format!(
        "[[source]]\nendpoint = \"{}\"\n[[source]]\nendpoint = 'sh:touch {}'\n[[sink]]\nendpoint = \"tcp-listen://{}\"\n",
        capture.display(),
        marker.display(),
        taken.local_addr().unwrap()
    );
    let good = file(&folder, "good.toml", text.as_bytes());
    let bad = file(&folder, "bad.toml", b"order = \"any\"\n");
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let output = run(&["check", good], b"");
    assert_eq!(
        (output.status.code(), printed(&output)),
        (Some(0), format!("{good}: fine: 2 sources, 1 sink\n"))
    );
    assert_eq!(said(&output), "");
    let output = run(&["check", bad, good], b"");
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(printed(&output), format!("{good}: fine: 2 sources, 1 sink\n"));
    assert!(said(&output).starts_with(&format!("{bad}:1:1: there is no source")), "{}", said(&output));
    assert!(!marker.exists());
    let output = run(&["run", good], b"");
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("address in use"), "{}", said(&output));
}

#[test]
fn a_file_name_and_what_is_in_a_file_forge_no_line() {
    let folder = folder();
    let text = b"[[source]]\nendpoint = \"tcp://a\\nhub.toml: fine: 9 sources\"\ncolour = 1\n";
    let odd = file(&folder, "y\nFORGED: all fine\u{1b}[31m.toml", text);
    let missing = folder.path().join("x\nhub.toml: fine: 9 sources");
    for (verb, path) in [("check", &odd), ("run", &odd), ("check", &missing), ("run", &missing)] {
        let output = run(&[verb, path.to_str().unwrap()], b"");
        assert_eq!(output.status.code(), Some(78));
        let said = said(&output);
        let named = |line: &str| line.starts_with("pcaphub: cannot read /") || line.starts_with('/');
        assert!(said.lines().all(named) && !said.contains('\x1b'), "{said}");
    }
    let output = run(&["cat", "demo:", "--colour\nFORGED"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).lines().all(|line| !line.starts_with("FORGED")), "{}", said(&output));
}

#[test]
fn what_is_not_there_yet_is_a_note_of_check_and_1_of_run() {
    let folder = folder();
    let text = "[[source]]\nendpoint = \"/no/such.pcap\"\n[[sink]]\nendpoint = \"null:\"\n";
    let config = file(&folder, "pcaphub.toml", text.as_bytes());
    let config = config.to_str().unwrap();
    let output = run(&["check", config], b"");
    assert_eq!(output.status.code(), Some(0));
    assert!(
        said(&output).starts_with(&format!("note: {config}:2:12: /no/such.pcap: No such file")),
        "{}",
        said(&output)
    );
    let output = run(&["run", config], b"");
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let output = run(&["run", "/no/such.toml"], b"");
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("cannot read /no/such.toml: No such file"), "{}", said(&output));
}

#[test]
fn a_file_that_may_not_be_read_is_77_and_one_that_everybody_may_write_78_as_root() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: this needs root, to be somebody else");
        return;
    }
    let (folder, _, _) = capture(1);
    let text = b"[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"null:\"\n";
    let config = file(&folder, "pcaphub.toml", text);
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    mode(&config, 0o666);
    let output = run(&["run", config.to_str().unwrap()], b"");
    assert_eq!(output.status.code(), Some(78));
    assert!(said(&output).contains("can be written by everybody"), "{}", said(&output));
    mode(&config, 0o600);
    mode(folder.path(), 0o755);
    // A copy, as the build's folder may be closed to others.
    let program = folder.path().join("pcaphub");
    std::fs::copy(env!("CARGO_BIN_EXE_pcaphub"), &program).unwrap();
    mode(&program, 0o755);
    let output = std::process::Command::new(&program)
        .arg("check")
        .arg(&config)
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(77), "{}", said(&output));
    assert!(said(&output).contains("Permission denied"), "{}", said(&output));
}

#[test]
fn a_command_line_prints_itself_as_a_file_that_does_the_same() {
    let (folder, capture, packets) = capture(40);
    let capture = capture.to_str().unwrap();
    let other = packets_of_another(&folder);
    for line in [
        &["cat", capture][..],
        &["cat", capture, other.as_str(), "--format", "pcap-ns", "-s", "60", "-c", "25"],
        &["cat", "-r", capture, "-f", "ip[8] == 64 and udp"],
        &["pipe", capture, "--to", "-", "--opt", "filter=udp port 9999", "--opt", "name=\"ü\" \\n\n#"],
        &["cat", "sh:cat '{}'", "--dedup", "1s"],
    ] {
        let line: Vec<_> = line.iter().map(|word| word.replace("{}", capture)).collect();
        let line: Vec<_> = line.iter().map(String::as_str).collect();
        let direct = run(&line, b"");
        assert!(direct.status.success(), "{line:?}: {}", said(&direct));
        let config = run(&[&line[..], &["--print-config"]].concat(), b"");
        assert!(config.status.success() && said(&config).is_empty(), "{line:?}: {}", said(&config));
        // A file, since root's helper reads it again.
        let written = file(&folder, "printed.toml", &config.stdout);
        let by_file = run(&["run", written.to_str().unwrap()], b"");
        assert!(by_file.status.success(), "{line:?}: {}\n{}", said(&by_file), printed(&config));
        assert_eq!(by_file.stdout, direct.stdout, "{line:?}\n{}", printed(&config));
        assert!(!direct.stdout.is_empty());
    }
    assert_eq!(packets.len(), 40);
}

fn packets_of_another(folder: &tempfile::TempDir) -> String {
    let path = file(folder, "other.pcap", &pcap(&packets(2, 30, 1_700_000_000_000_500, 1000)));
    path.to_str().unwrap().to_owned()
}

#[test]
fn printing_opens_nothing_and_refuses_what_the_verb_would_refuse() {
    let folder = folder();
    let marker = folder.path().join("started");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let (command, listen) =
        (format!("sh:touch {}", marker.display()), taken.local_addr().unwrap().to_string());
    let output = run(&["serve", &command, "/no/such.pcap", "--listen", &listen, "--print-config"], b"");
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(
        printed(&output),
        format!(
            "[[source]]\nendpoint = \"{command}\"\n\n[[source]]\nendpoint = \"/no/such.pcap\"\n\n\
             [[sink]]\nendpoint = \"tcp-listen://{listen}\"\n"
        )
    );
    assert!(!marker.exists());
    let output = run(&["pipe", "-", "-", "--to", "null:", "--print-config"], b"");
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("can only be one source"), "{}", said(&output));
    assert!(output.stdout.is_empty());
}

#[test]
fn a_file_may_come_from_a_pipe_and_a_huge_one_ends_soon() {
    let mut child = pcaphub()
        .args(["check", "/dev/stdin"])
        .stdin(std::process::Stdio::from(std::fs::File::open("/dev/zero").unwrap()))
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(78));
    assert!(text.contains("which is no configuration"), "{text}");
}
