//! What a service manager is told.

use std::io::Write;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use super::harness::{Hub, connect, file, folder, packets, pcap, read_exact, wait_until};
use super::manager::Manager;

/// A hub whose sources are quiet.
const QUIET: [&str; 6] = ["serve", "tcp-listen://127.0.0.1:0", "--listen", "127.0.0.1:0", "--stats", "json"];

#[test]
fn ready_is_said_once_everything_listens_and_stopping_when_told_to_end() {
    for mut manager in [Manager::new(), Manager::abstractly()] {
        let mut command = manager.command();
        command.args(QUIET);
        let hub = Hub::spawn(command, 2);
        let first = manager.next();
        assert!(first.starts_with("READY=1\nSTATUS=0 packets, 0/s, 0 clients, 0 dropped\n"), "{first}");
        drop(connect(hub.client()));
        let (status, _) = hub.stop();
        assert!(status.success());
        assert!(manager.wait_for("STOPPING=1").contains("STATUS=stopping"));
        assert!(manager.rest().is_empty());
    }
}

#[test]
fn the_status_says_how_it_goes() {
    let mut manager = Manager::new();
    let mut command = manager.command();
    command.args(["demo", "--listen", "127.0.0.1:0", "--rate", "500", "--stats", "json"]);
    let hub = Hub::spawn(command, 1);
    manager.wait_for("READY=1");
    let mut client = connect(hub.client());
    read_exact(&mut client, 5000);
    let tells = |status: &String| {
        let packets = status["STATUS=".len()..].split(' ').next().and_then(|number| number.parse().ok());
        packets > Some(0_u64) && status.contains("/s, 1 client, 0 dropped")
    };
    // The first may be from before the client came.
    let told = std::iter::repeat_with(|| manager.wait_for("STATUS=")).take(10).find(tells);
    assert!(told.is_some(), "none of ten says it");
}

#[test]
fn verbs_that_end_by_themselves_are_services_too() {
    for sink in ["null:", "/dev/null"] {
        let mut manager = Manager::new();
        let done = manager.command().args(["pipe", "demo:", "-c", "10", "--to", sink]).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        assert!(manager.next().starts_with("READY=1\n"));
        assert!(manager.wait_for("STOPPING=1").starts_with("STOPPING=1\n"));
    }
}

#[test]
fn the_watchdog_is_fed_by_a_hub_that_has_nothing_to_do() {
    let mut manager = Manager::new();
    let mut command = manager.command();
    command.args(QUIET).env("WATCHDOG_USEC", "200000");
    let hub = Hub::spawn(command, 2);
    (0..5).for_each(|_| drop(manager.wait_for("WATCHDOG=1")));
    hub.stop();
    manager.wait_for("STOPPING=1");
    assert!(!manager.rest().iter().any(|said| said.contains("WATCHDOG")));
}

#[test]
fn the_watchdog_is_fed_while_files_are_replayed_and_while_a_stalled_client_holds_all() {
    let folder = folder();
    let capture = file(&folder, "a.pcap", &pcap(&packets(1, 20_000, 0, 10)));
    let capture = capture.to_str().unwrap();
    let replayed = ["serve", capture];
    let shared = ["serve", capture, "--loop", "forever", "--on-slow", "wait", "--history", "1s"];
    for line in [&replayed[..], &shared[..]] {
        let mut manager = Manager::new();
        let mut command = manager.command();
        command
            .args(line)
            .args(["--listen", "127.0.0.1:0", "--stats", "json"])
            .env("WATCHDOG_USEC", "200000");
        let hub = Hub::spawn(command, 1);
        // It reads a little, and then no more.
        let mut stalled = connect(hub.client());
        read_exact(&mut stalled, 1000);
        manager.rest();
        (0..5).for_each(|_| drop(manager.wait_for("WATCHDOG=1")));
    }
}

#[test]
fn the_watchdog_of_another_process_is_not_ours() {
    let mut manager = Manager::new();
    let mut command = manager.command();
    command.args(QUIET).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1");
    let hub = Hub::spawn(command, 2);
    manager.wait_for("STATUS=0 packets");
    manager.wait_for("STATUS=0 packets");
    hub.stop();
    manager.wait_for("STOPPING=1");
    assert!(!manager.heard.iter().any(|said| said.contains("WATCHDOG")), "{:?}", manager.heard);
}

#[test]
fn a_manager_that_does_not_listen_holds_nothing_up() {
    // Its queue is full after some hundred.
    let manager = Manager::new();
    let mut command = manager.command();
    command.args(["demo", "--listen", "127.0.0.1:0", "--stats", "json"]).env("WATCHDOG_USEC", "2000");
    let mut hub = Hub::spawn(command, 1);
    hub.wait_for("the service manager cannot be told");
    let mut client = connect(hub.client());
    read_exact(&mut client, 5000);
    let told = |hub: &mut Hub| hub.line_within(Duration::from_millis(300));
    while let Some(line) = told(&mut hub) {
        assert!(!line.contains("cannot be told"), "it is said once: {line}");
    }
}

#[test]
fn commands_do_not_inherit_what_is_between_the_manager_and_the_hub() {
    let folder = folder();
    file(&folder, "a.pcap", &pcap(&packets(1, 1, 0, 10)));
    let mut manager = Manager::new();
    let mut command = manager.command();
    command.current_dir(folder.path()).args(["pipe", "sh:env > seen; cat a.pcap", "--to", "null:"]);
    command.env("WATCHDOG_USEC", "30000000").env("LISTEN_FDNAMES", "x").env("TO_BE_SEEN", "yes");
    assert!(command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success());
    manager.wait_for("READY=1");
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    assert!(seen.contains("TO_BE_SEEN=yes"));
    for name in ["NOTIFY_SOCKET", "WATCHDOG", "LISTEN_"] {
        assert!(!seen.contains(name), "{seen}");
    }
}

#[test]
fn the_watchdog_is_fed_beside_packets() {
    let mut manager = Manager::new();
    let mut command = manager.command();
    command.args(QUIET).env("WATCHDOG_USEC", "200000");
    let hub = Hub::spawn(command, 2);
    let mut producer = TcpStream::connect(hub.producers[0]).unwrap();
    let _client = connect(hub.client());
    producer.write_all(&pcap(&packets(1, 5000, 0, 10))).unwrap();
    wait_until("the watchdog is fed beside the packets", || manager.next().contains("WATCHDOG=1"));
    hub.signal(Signal::INT);
    manager.wait_for("STOPPING=1");
}

#[test]
fn a_reload_is_told_with_its_time_and_when_it_is_over_also_where_it_was_refused() {
    let folder = folder();
    let good = "stats = \"json\"\n[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n";
    let config = file(&folder, "hub.toml", good.as_bytes());
    let mut manager = Manager::new();
    let mut command = manager.command();
    command.arg("run").arg(&config);
    let mut hub = Hub::spawn(command, 1);
    manager.wait_for("READY=1");
    let mut last = 0;
    for (text, what) in
        [(good, "read again"), ("rubbish", "everything stays as it was"), (good, "read again")]
    {
        std::fs::write(&config, text).unwrap();
        hub.signal(Signal::HUP);
        let said = manager.wait_for("RELOADING=1");
        let time = said.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
        let time: u64 = time.parse().unwrap();
        assert!(time > last, "{said}");
        last = time;
        manager.wait_for("READY=1");
        hub.wait_for(what);
    }
    hub.stop();
    manager.wait_for("STOPPING=1");
}
