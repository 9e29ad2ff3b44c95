//! What the log looks like, where it goes, and what cannot be done through it.

use std::fs::File;
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::process::Stdio;

use serde_json::Value;

use super::harness::{Hub, file, folder, has, pcaphub, run, shell};

/// Whatever a command may write to its standard error, as printf has it.
const HOSTILE: &str =
    r#"sh:printf '\033[2J\033]0;title\007\377\376 "quoted" \\ \302\233 \342\200\256 \r forged' >&2; exit 3"#;

fn lines(octets: &[u8]) -> Vec<String> {
    // Valid UTF-8 throughout, whatever came in.
    String::from_utf8(octets.to_vec()).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn json_logs_are_an_object_a_line_whatever_a_command_says() {
    let line = ["pipe", HOSTILE, "--opt", "reconnect=no", "--to", "null:", "--log-format", "json"];
    let output = run(&line, b"");
    let lines = lines(&output.stderr);
    let objects: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect();
    for object in &objects {
        let time = object["timestamp"].as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'), "{time}");
        assert!(["ERROR", "WARN", "INFO"].contains(&object["level"].as_str().unwrap()));
        assert!(object["message"].is_string());
    }
    let said = objects.iter().find(|object| object["event"] == "child_said").unwrap();
    assert!(said["message"].as_str().unwrap().contains("\\u{1b}[2J"), "{said}");
    assert!(said["source"].as_str().unwrap().starts_with("sh:printf"));
    let failed = objects.iter().find(|object| object["level"] == "ERROR").unwrap();
    assert_eq!(failed["event"], "source_failed");
    let counts = objects.last().unwrap();
    assert_eq!((&counts["message"], counts["counts"]["clients"].as_u64()), (&"counts".into(), Some(0)));
    assert!(!lines.iter().any(|line| line.chars().any(|c| c.is_control() || c == '\u{202e}')));
}

#[test]
fn what_is_wrong_with_a_file_that_wants_json_is_json_and_other_files_are_told_in_text() {
    let folder = folder();
    let said = |format: &str| {
        let text = format!("[log]\nformat = \"{format}\"\n[[source]]\nendpoint = \"demo:\"\nrat = 1\n");
        let path = file(&folder, "hub.toml", text.as_bytes());
        let output = run(&["run", path.to_str().unwrap()], b"");
        assert_eq!(output.status.code(), Some(78));
        String::from_utf8(output.stderr).unwrap()
    };
    for line in said("json").lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["level"].is_string() && object["message"].as_str().unwrap().contains("hub.toml:"));
    }
    assert!(said("json").contains("rat") && said("text").contains("hub.toml:5:1: unknown key \"rat\""));
}

#[test]
fn json_logs_also_say_why_nothing_was_started() {
    let output = run(&["cat", "/no/such.pcap", "--log-format", "json"], b"");
    let lines = lines(&output.stderr);
    assert_eq!(lines.len(), 1, "{lines:?}");
    let object: Value = serde_json::from_str(&lines[0]).unwrap();
    assert!(object["message"].as_str().unwrap().starts_with("source /no/such.pcap: cannot read it"));
}

#[test]
fn text_logs_in_a_file_have_the_time_and_no_colour_and_steer_nothing() {
    let output = run(&["pipe", HOSTILE, "--opt", "reconnect=no", "--to", "null:"], b"");
    let lines = lines(&output.stderr);
    let said = lines.iter().find(|line| line.contains("forged")).unwrap();
    let (time, rest) = said.split_once(' ').unwrap();
    assert!(time.parse::<jiff::Timestamp>().is_ok(), "{said}");
    assert!(rest.starts_with(" INFO sh:printf"), "{said}");
    assert!(!lines.iter().any(|line| line.chars().any(|c| c.is_control() || c == '\u{202e}')), "{lines:?}");
}

#[test]
fn the_journal_gets_priorities_and_no_time() {
    let folder = folder();
    let said = |named: bool, arguments: &[&str]| {
        let path = folder.path().join("journal");
        let file = File::create(&path).unwrap();
        let metadata = file.metadata().unwrap();
        let inode = if named { metadata.ino() } else { metadata.ino() + 1 };
        let mut command = pcaphub();
        command.env("JOURNAL_STREAM", format!("{}:{inode}", metadata.dev()));
        command.args(arguments).stdout(Stdio::null()).stderr(file).status().unwrap();
        lines(&std::fs::read(&path).unwrap())
    };
    let hub = ["pipe", HOSTILE, "--opt", "reconnect=no", "--to", "null:"];
    let journal = said(true, &hub);
    assert!(journal.iter().any(|line| line.starts_with("<6>sh:printf")), "{journal:?}");
    assert!(journal.iter().any(|line| line.starts_with("<3>source sh:printf")), "{journal:?}");
    let refused = said(true, &["cat", "/no/such.pcap"]);
    assert!(refused[0].starts_with("<3>pcaphub: source /no/such.pcap"), "{refused:?}");
    let json = said(true, &["cat", "/no/such.pcap", "--log-format", "json"]);
    assert!(json[0].starts_with("<3>{\"timestamp\":"), "{json:?}");
    // Redirected somewhere else: the variable is another file's.
    let elsewhere = said(false, &hub);
    assert!(elsewhere.iter().any(|line| line.contains("Z  INFO sh:printf")), "{elsewhere:?}");
}

#[test]
fn a_terminal_gets_colour_unless_it_is_not_wanted() {
    if !has("script") {
        return;
    }
    let pcaphub = env!("CARGO_BIN_EXE_pcaphub");
    let typed = |variables: &str| {
        let line = format!("{pcaphub} pipe demo: -c 1 --to null:");
        shell(&format!("export TERM=xterm; env {variables} script -qec '{line}' /dev/null </dev/null"))
    };
    let colour = typed("-u NO_COLOR");
    assert!(colour.contains("\x1b[32m INFO\x1b[0m source demo"), "{colour:?}");
    let plain = typed("NO_COLOR=1");
    assert!(plain.contains("  INFO source demo") && !plain.contains("\x1b[32m"), "{plain:?}");
    let dumb = typed("-u NO_COLOR TERM=dumb");
    assert!(!dumb.contains("\x1b[32m"), "{dumb:?}");
}

#[test]
fn when_a_flood_ends_it_is_told_how_many_lines_were_not_shown() {
    let line = ["serve", "tcp-listen://127.0.0.1:0", "--listen", "127.0.0.1:0", "--max-clients", "1"];
    let mut hub = Hub::start(&line, 2);
    let clients: Vec<_> = (0..100).map(|_| TcpStream::connect(hub.client()).unwrap()).collect();
    let (mut shown, mut suppressed) = (0, 0);
    while shown + suppressed < 99 {
        let line = hub.line();
        if let Some((number, _)) = line.split_once(" lines of the kind client_refused were not shown") {
            suppressed += number.rsplit(' ').next().unwrap().parse::<usize>().unwrap();
        } else if line.contains("refused") {
            shown += 1;
        }
    }
    assert_eq!(shown + suppressed, 99);
    assert!(suppressed > 0, "{shown} were shown");
    drop(clients);
}

#[test]
fn when_a_command_falls_silent_it_is_told_how_many_of_its_lines_were_not_shown() {
    let command = "sh:i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo line $i >&2; done; exec sleep 60";
    let mut hub = Hub::start(&["serve", command, "--listen", "127.0.0.1:0"], 1);
    let (mut shown, mut suppressed) = (0u64, 0u64);
    while shown + suppressed < 500 {
        let line = hub.line();
        if let Some((text, _)) = line.split_once(" lines more were not shown") {
            suppressed += text.rsplit(' ').next().unwrap().parse::<u64>().unwrap();
        } else if let Some((_, text)) = line.split_once(": line ") {
            shown += 1;
            // Told with the next line, where there is one.
            let before =
                text.split_once('(').map_or(0, |(_, n)| n.split(' ').next().unwrap().parse().unwrap());
            suppressed += before;
        }
    }
    assert_eq!(shown + suppressed, 500);
    assert!(suppressed >= 400, "{shown} were shown");
}

#[test]
fn a_file_name_cannot_steer_the_terminal_from_an_error() {
    if !has("script") {
        return;
    }
    let pcaphub = env!("CARGO_BIN_EXE_pcaphub");
    for words in ["cat $NAME", "cat x --$NAME", "$NAME", "pipe $NAME --to null: --log-format json"] {
        let line = format!("{pcaphub} {words}; true");
        let name = r"NAME=$'a\e[2Jb\r\u202ec'";
        let said = shell(&format!("export TERM=xterm {name}; script -qec '{line}' /dev/null </dev/null"));
        assert!(said.contains("error") || said.contains("cannot read"), "{said:?}");
        assert!(!said.contains("\x1b[2J") && !said.contains('\u{202e}'), "{said:?}");
        assert!(!said.replace("\r\n", "").replace("\r\x1b[K", "").contains('\r'), "{said:?}");
    }
}
