//! Ports and peers, after root was given up.

use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

use crate::harness::*;

#[test]
fn a_low_port_is_listened_on_and_a_name_dialled_again_and_again() {
    if !may_capture() {
        return;
    }
    let Some(port) = (900..1000).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()) else {
        panic!("no port between 900 and 1000 is free");
    };
    let producer = Producer::new();
    let source = format!("tcp://localhost:{}", producer.port());
    let listen = format!("127.0.0.1:{port}");
    let mut hub = Hub::start(&["serve", &source, "--listen", &listen], 1);
    assert_eq!(hub.client().port(), port);
    let mut client = connect(hub.client());
    hub.wait_for("connected");
    let mut octets = header(1);
    for round in 0..3 {
        let packets = packets(1, 10, 1_700_000_000_000_000 + round * 1000, 10);
        // Each time it is dialled anew.
        producer.accept().write_all(&pcap(&packets)).unwrap();
        let records: usize = packets.iter().map(|packet| record(packet).len()).sum();
        let from = if round == 0 { 24 } else { 0 };
        octets.extend(read_exact(&mut client, from + records).split_off(from));
    }
    assert_eq!(read_pcap(&octets).len(), 30);
}

/// `pcaphub top` of a hub, by a user.
fn top(user: &str, hub: &Hub) -> Output {
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    command.args([
        env!("CARGO_BIN_EXE_pcaphub"),
        "top",
        &hub.pid().to_string(),
        "--once",
        "--interval",
        "100ms",
    ]);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn only_root_looks_at_a_hub_that_root_started_and_nothing_of_it_is_left() {
    if !may_capture() || !has("setpriv") {
        return;
    }
    for is_killed in [false, true] {
        let mut hub = Hub::start(&["demo", "--listen", "127.0.0.1:0", "--user", "nobody"], 1);
        let shown = said(&top("0", &hub));
        assert!(shown.starts_with(&format!("pcaphub demo, process {}, ", hub.pid())), "{shown}");
        // Not even who it runs as: it might be the user of something else, too.
        let refused = top("65534", &hub);
        assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
        assert!(said(&refused).contains("sudo pcaphub top"), "{}", said(&refused));
        let socket = format!("/run/pcaphub-0/{}.sock", hub.pid());
        let socket = Path::new(&socket);
        assert!(socket.exists());
        if is_killed {
            drop(hub);
        } else {
            hub.signal(rustix::process::Signal::INT);
            hub.ended();
        }
        wait_until("the helper has taken it away", || !socket.exists());
    }
}

#[test]
fn root_looks_at_the_hubs_of_others_and_others_at_their_own_alone() {
    if !may_capture() || !has("setpriv") {
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_pcaphub")]);
    command.args(["demo", "--listen", "127.0.0.1:0", "--stats", "json"]);
    let hub = Hub::spawn(command, 1);
    for user in ["0", "65534"] {
        let shown = said(&top(user, &hub));
        assert!(shown.starts_with(&format!("pcaphub demo, process {}, ", hub.pid())), "{user}: {shown}");
    }
    let refused = top("65533", &hub);
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("no hub of yours is process"), "{}", said(&refused));
}

#[test]
fn who_was_in_a_hubs_place_first_is_told_of_on_both_sides() {
    if !may_capture() || !has("setpriv") {
        return;
    }
    // Nobody has this number.
    let (user, place) = ("64999", "/tmp/pcaphub-64999");
    let _ = std::fs::remove_dir_all(place);
    std::fs::create_dir(place).unwrap();
    std::os::unix::fs::chown(place, Some(64998), Some(64998)).unwrap();
    let mut command = Command::new("setpriv");
    command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups"]);
    command.args([env!("CARGO_BIN_EXE_pcaphub"), "demo", "--listen", "127.0.0.1:0", "--stats", "json"]);
    command.env_remove("XDG_RUNTIME_DIR");
    let mut hub = Hub::spawn(command, 1);
    let warning = hub.wait_for("cannot see this hub");
    assert!(warning.contains("WARN") && warning.contains(place), "{warning}");
    let refused = said(&top(user, &hub));
    assert!(refused.contains("/tmp/pcaphub-64999 is somebody else's"), "{refused}");
    std::fs::remove_dir_all(place).unwrap();
    assert!(hub.stop().0.success());
}

#[test]
fn nobody_can_hide_the_hubs_of_others_from_root() {
    if !may_capture() || !has("setpriv") {
        return;
    }
    // Somebody with a name in everybody's directory for each hub that there could be.
    let by = |user: u32, name: &str| {
        let path = format!("/tmp/pcaphub-{name}");
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(user), Some(user)).unwrap();
        path
    };
    let mut made: Vec<String> = (0..300).map(|n| by(64997, &format!("0{n}-x"))).collect();
    made.push(by(64997, "64997"));
    let folder = made.last().unwrap().clone();
    let silent: Vec<_> = (1..300)
        .map(|n| {
            let path = format!("{folder}/{n}.sock");
            let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            std::os::unix::fs::chown(&path, Some(64997), Some(64997)).unwrap();
            listener
        })
        .collect();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_pcaphub")]);
    command.args(["demo", "--listen", "127.0.0.1:0", "--stats", "json"]);
    let hub = Hub::spawn(command, 1);
    let shown = said(&pcaphub().args(["top", "--once", "--interval", "100ms"]).output().unwrap());
    drop(silent);
    made.iter().for_each(|path| std::fs::remove_dir_all(path).unwrap());
    assert!(shown.contains(&format!("pcaphub demo, process {}, of user 65534, ", hub.pid())), "{shown}");
    assert!(shown.matches("/tmp/pcaphub-64997/").count() <= 4, "{shown}");
}
