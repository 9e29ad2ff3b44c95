//! Commands that misbehave, as sources.

use std::time::{Duration, Instant};

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// A folder with a capture, and a hub that runs `script` with the capture's path in `$F`.
fn hub_of(folder: &tempfile::TempDir, script: &str, more: &[&str]) -> Hub {
    let path = file(folder, "in.pcap", &pcap(&packets(1, 5, BEGIN, 1000)));
    let source = format!("sh:{}", script.replace("$F", path.to_str().unwrap()));
    let mut arguments = vec!["serve", &source, "--listen", "127.0.0.1:0", "--format", "pcap"];
    arguments.extend(more);
    Hub::start(&arguments, 1)
}

/// Five packets as a client gets them.
fn five() -> Vec<u8> {
    pcap(&packets(1, 5, BEGIN, 1000))
}

/// Processes whose command line has this text.
fn processes(text: &str) -> usize {
    let running = |entry: std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        String::from_utf8_lossy(&line).replace('\0', " ").contains(text).then_some(())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(running).count()
}

#[test]
fn a_command_that_exits_is_started_again() {
    let folder = folder();
    let mut hub = hub_of(&folder, "cat $F; exit 3", &[]);
    let mut client = connect(hub.client());
    let mut got = read_exact(&mut client, five().len());
    assert!(got == five());
    let begun = Instant::now();
    got = read_exact(&mut client, five().len() - 24);
    assert!(got == five()[24..], "the same client gets what the next one writes");
    let again = begun.elapsed();
    hub.wait_for("exit status: 3");
    let (status, _) = hub.stop();
    assert!(status.success());
    row(
        50,
        "a command exits with status 3",
        "told, started again, clients stay",
        &format!("again after {}", seconds(again)),
    );
}

#[test]
fn a_command_that_hangs_forks_and_ignores_sigterm_is_gone_with_the_hub() {
    let _alone = alone();
    let folder = folder();
    let mark = format!("31{:07}", std::process::id());
    // It ignores SIGTERM, as do the children it leaves behind; none of them says anything.
    let script =
        format!("trap '' TERM; cat $F; sleep {mark} & (sleep {mark} & ); sleep {mark}; sleep {mark}");
    let mut hub = hub_of(&folder, &script, &[]);
    let mut client = connect(hub.client());
    assert!(read_exact(&mut client, five().len()) == five());
    wait_until("they hang", || processes(&format!("sleep {mark}")) >= 3);
    let begun = Instant::now();
    hub.signal(rustix::process::Signal::TERM);
    let (status, _) = hub.ended();
    let took = begun.elapsed();
    assert!(status.success());
    assert_eq!(processes(&format!("sleep {mark}")), 0, "no process is left behind");
    row(
        51,
        "a command hangs, forks, ignores SIGTERM; the hub gets SIGTERM",
        "exit 0 within 10 s; no process left",
        &format!("{}; 0 left", seconds(took)),
    );
    assert!(took < Duration::from_secs(10));
}

#[test]
fn a_second_signal_does_not_wait_for_a_stubborn_command() {
    let _alone = alone();
    let folder = folder();
    let mark = format!("32{:07}", std::process::id());
    let mut hub = hub_of(&folder, &format!("trap '' TERM; cat $F; sleep {mark}; sleep {mark}"), &[]);
    let mut client = connect(hub.client());
    assert!(read_exact(&mut client, five().len()) == five());
    wait_until("it hangs", || processes(&format!("sleep {mark}")) >= 1);
    let begun = Instant::now();
    hub.signal(rustix::process::Signal::TERM);
    hub.signal(rustix::process::Signal::INT);
    let (status, _) = hub.ended();
    let took = begun.elapsed();
    assert!(status.success());
    assert_eq!(processes(&format!("sleep {mark}")), 0, "no process is left behind");
    row(52, "the same, a second signal", "at once", &seconds(took));
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_command_that_floods_its_standard_error_does_not_flood_the_log() {
    let folder = folder();
    let script = "for i in $(seq 200000); do echo \"line $i \\033[2J\"; done >&2; cat $F; sleep 1000";
    let mut hub = hub_of(&folder, script, &[]);
    let mut client = connect(hub.client());
    assert!(read_exact(&mut client, five().len()) == five(), "its packets come");
    hub.signal(rustix::process::Signal::INT);
    let (status, _) = hub.ended();
    assert!(status.success());
    assert!(hub.said().iter().all(|line| !line.contains('\u{1b}')), "escape sequences are made safe");
    let shown = hub.said().iter().filter(|line| line.contains(": line ")).count();
    row(
        53,
        "a command writes 200,000 lines to standard error",
        "packets come; ≤ 10 lines a second",
        &format!("{shown} lines shown"),
    );
    assert!(shown < 200, "{shown}");
}

#[test]
fn a_command_that_prints_text_instead_of_packets_is_told_with_the_text() {
    let folder = folder();
    let mut hub =
        hub_of(&folder, "echo 'tcpdump: eth7: You do not have permission to capture'; sleep 1000", &[]);
    let _client = connect(hub.client());
    let line = hub.wait_for("not a capture");
    assert!(line.contains("`tcpdump: eth7: You do not have permission"), "{line}");
    let (status, _) = hub.stop();
    assert!(status.success());
    row(54, "a command prints text to standard output", "quoted, with what it is", "quoted");
}

#[test]
fn a_command_is_gone_with_the_hub_also_before_anybody_read_its_packets() {
    let _alone = alone();
    let folder = folder();
    let mark = format!("33{:07}", std::process::id());
    for round in 0..10 {
        let mut hub = hub_of(&folder, &format!("cat $F; sleep {mark}"), &[]);
        wait_until("it runs", || processes(&format!("sleep {mark}")) >= 1);
        hub.signal(if round % 2 == 0 { rustix::process::Signal::INT } else { rustix::process::Signal::TERM });
        let (status, _) = hub.ended();
        assert!(status.success());
        wait_until("it is gone", || processes(&format!("sleep {mark}")) == 0);
    }
    row(55, "the hub is stopped before the first client", "no command is left behind", "0 left of 10");
}
