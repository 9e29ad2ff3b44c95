//! Commands, and the end of the processes.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::*;
use crate::who::{helper, secret_file, status};

fn kill(pid: u32) {
    kill_process(Pid::from_raw(pid as i32).unwrap(), Signal::KILL).unwrap();
}

fn runs(pid: u32) -> bool {
    let path = format!("/proc/{pid}");
    // What nobody waited for yet does not run.
    Path::new(&path).exists() && !status(&pid.to_string(), "State").starts_with('Z')
}

/// A hub whose source is a command that says its number, sends a capture, and stays.
fn with_a_child(folder: &tempfile::TempDir) -> (Hub, u32) {
    let path = secret_file(folder);
    let source = format!("sh:echo pid=$$ uid=$(id -u) >&2; cat {}; exec sleep 1000", path.display());
    let mut hub = Hub::start(&["serve", &source, "--listen", "127.0.0.1:0"], 1);
    let octets = read_exact(&mut connect(hub.client()), 24);
    assert_eq!(octets, header(1));
    // It has the rights of who started the hub. The source's own name has `uid=$(`.
    let line = hub.wait_for("uid=0");
    let pid = line.split("pid=").last().unwrap().split(' ').next().unwrap().parse().unwrap();
    (hub, pid)
}

#[test]
fn a_command_has_the_rights_of_who_started_the_hub_and_is_started_again() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let source = format!("exec:cat {}", path.display());
    let words = ["serve", &source, "--opt", "reconnect=always", "--listen", "127.0.0.1:0"];
    let hub = Hub::start(&words, 1);
    let mut client = connect(hub.client());
    // 100 packets each time: the command is started three times at least.
    let length = pcap(&packets(1, 100, 1_700_000_000_000_000, 10)).len() - 24;
    read_exact(&mut client, 24 + 3 * length);
}

#[test]
fn a_command_gets_packets_and_its_failure_is_told() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let to = folder.path().join("copy.pcap");
    let sink = format!("sh:cat > {}", to.display());
    let output = run(&["pipe", path.to_str().unwrap(), "--to", &sink], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(read_pcap(&std::fs::read(&to).unwrap()).len(), 100);
    let output = run(&["pipe", path.to_str().unwrap(), "--to", "sh:cat > /dev/null; exit 3"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("exit status: 3"), "{said}");
    let output = run(&["pipe", "exec:/no/such/command", "--to", "null:"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("`/no/such/command` is not installed or not in PATH"), "{said}");
}

#[test]
fn a_hub_that_ends_leaves_neither_its_helper_nor_a_command() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let (hub, child) = with_a_child(&folder);
    let helper = helper(&hub);
    let (status, _) = hub.stop();
    assert!(status.success());
    wait_until("they are gone", || !runs(helper) && !runs(child));
}

#[test]
fn a_hub_that_is_killed_takes_its_helper_and_commands_with_it() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let (hub, child) = with_a_child(&folder);
    let helper = helper(&hub);
    assert!(runs(helper) && runs(child));
    kill(hub.pid());
    wait_until("they are gone", || !runs(helper) && !runs(child));
}

#[test]
fn a_helper_that_is_killed_is_told_of_and_the_rest_goes_on() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let producer = Producer::new();
    let path = secret_file(&folder);
    let source = format!("tcp://127.0.0.1:{}", producer.port());
    let to = folder.path().join("hub.sock");
    let listen = format!("unix-listen:{}", to.display());
    let mut hub = Hub::start(&["serve", &source, "--listen", "127.0.0.1:0", "--listen", &listen], 1);
    let mut stream = producer.accept();
    let capture = std::fs::read(&path).unwrap();
    let mut client = connect(hub.client());
    // Until then it may still wait to be accepted, and what is sent meanwhile is not for it.
    hub.wait_for(&format!("client {} connected", client.local_addr().unwrap()));
    kill(helper(&hub));
    let line = hub.wait_for("the helper process");
    assert!(line.contains("nothing can be opened again that needs root's rights; restart pcaphub"), "{line}");
    use std::io::Write;
    stream.write_all(&capture).unwrap();
    assert_eq!(read_pcap(&read_exact(&mut client, capture.len())).len(), 100);
    // It dials again, for which it needs nobody.
    drop(stream);
    producer.accept();
    let (status, _) = hub.stop();
    assert!(status.success());
}

#[test]
fn commands_end_with_a_helper_that_is_killed() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let (mut hub, child) = with_a_child(&folder);
    kill(helper(&hub));
    hub.wait_for("the helper process");
    wait_until("it is gone", || !runs(child));
    assert!(hub.runs());
}

#[test]
fn signals_to_all_processes_of_a_terminal_reach_the_hub_alone() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let (hub, child) = with_a_child(&folder);
    let helper = helper(&hub);
    for signal in [Signal::INT, Signal::TERM, Signal::HUP, Signal::USR1] {
        kill_process(Pid::from_raw(helper as i32).unwrap(), signal).unwrap();
    }
    // It answers after that.
    let hub_status = status(&helper.to_string(), "State");
    assert!(runs(helper) && runs(child), "{hub_status}");
    let (status, _) = hub.stop();
    assert!(status.success());
}
