//! A changed configuration, after root was given up.

use rustix::process::Signal;

use crate::harness::*;
use crate::who::{helper, secret_file, status};

#[test]
fn a_reload_opens_new_paths_that_only_root_may_enter_and_a_wrong_file_changes_nothing() {
    if !may_capture() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = secret_file(&folder);
    let socket = folder.path().join("new.sock");
    let sink = "[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n";
    let source = "[[source]]\nendpoint = \"demo:\"\n";
    let more = format!(
        "[[source]]\nendpoint = \"exec:cat {}\"\n[[sink]]\nendpoint = \"unix-listen:{}\"\n",
        path.display(),
        socket.display()
    );
    let config = file(&folder, "hub.toml", format!("{source}{sink}").as_bytes());
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = pcaphub();
    command.args(["run", config.to_str().unwrap()]);
    let mut hub = Hub::spawn(command, 1);
    assert_ne!(status(&hub.pid().to_string(), "Uid"), "0 0 0 0");
    std::fs::write(&config, format!("{source}{sink}{more}colour = 1\n")).unwrap();
    hub.signal(Signal::HUP);
    let line = hub.wait_for("everything stays as it was");
    assert!(line.contains("unknown key \"colour\""), "{line}");
    assert!(!socket.exists());
    std::fs::write(&config, format!("{source}{sink}{more}")).unwrap();
    hub.signal(Signal::HUP);
    hub.wait_for("read again");
    std::os::unix::net::UnixStream::connect(&socket).unwrap();
    hub.wait_for("ended after 100 packets");
}

#[test]
fn a_reload_without_its_file_says_that_it_is_not_there() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let text = b"[[source]]\nendpoint = \"demo:\"\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n";
    let config = file(&folder, "hub.toml", text);
    let mut command = pcaphub();
    command.args(["run", config.to_str().unwrap()]);
    let mut hub = Hub::spawn(command, 1);
    std::fs::remove_file(&config).unwrap();
    hub.signal(Signal::HUP);
    let line = hub.wait_for("everything stays as it was");
    assert!(line.contains(&format!("cannot read {}: No such file", config.display())), "{line}");
    std::fs::create_dir(&config).unwrap();
    hub.signal(Signal::HUP);
    let line = hub.wait_for("everything stays as it was");
    assert!(line.contains("only a regular file can be read again"), "{line}");
}

#[test]
fn a_fifo_that_nobody_wants_any_more_leaves_no_process_that_waits_for_its_writer() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    secret_file(&folder);
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&fifo).status().unwrap().success());
    let rest = "stats = \"json\"\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n[[source]]\nendpoint = \"exec:sleep 1000\"\n";
    let with = format!("{rest}[[source]]\nendpoint = \"{}\"\n", fifo.display());
    let config = file(&folder, "hub.toml", with.as_bytes());
    let mut command = pcaphub();
    command.args(["run", config.to_str().unwrap()]);
    let mut hub = Hub::spawn(command, 1);
    let helper = helper(&hub);
    let children = || {
        let children = std::fs::read_to_string(format!("/proc/{helper}/task/{helper}/children")).unwrap();
        children.split_whitespace().count()
    };
    wait_until("one waits for the writer, beside the command", || children() == 2);
    std::fs::write(&config, rest).unwrap();
    hub.signal(Signal::HUP);
    hub.wait_for("read again");
    wait_until("it waits no longer, and the command goes on", || children() == 1);
    let (status, _) = hub.stop();
    assert!(status.success());
}
