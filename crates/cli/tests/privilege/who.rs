//! Who the processes are.

use std::path::PathBuf;
use std::process::Command;

use crate::harness::*;

/// A line of a status file of /proc, without its name.
pub fn status(task: &str, key: &str) -> String {
    let path = format!("/proc/{task}/status");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap_or_else(|| panic!("{path} has no {key}")).split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The helper of a hub.
pub fn helper(hub: &Hub) -> u32 {
    let path = format!("/proc/{0}/task/{0}/children", hub.pid());
    let children = std::fs::read_to_string(path).unwrap();
    let children: Vec<u32> = children.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
    assert_eq!(children.len(), 1, "{children:?}");
    children[0]
}

/// A capture that only root may read, in a folder that only root may enter.
pub fn secret_file(folder: &tempfile::TempDir) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = file(folder, "secret.pcap", &pcap(&packets(1, 100, 1_700_000_000_000_000, 10)));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    path
}

fn has_given_up(hub: &Hub, uid: &str, gid: &str) {
    let tasks: Vec<String> = std::fs::read_dir(format!("/proc/{}/task", hub.pid()))
        .unwrap()
        .map(|task| format!("{}/task/{}", hub.pid(), task.unwrap().file_name().to_str().unwrap()))
        .collect();
    assert!(tasks.len() > 2, "{tasks:?}");
    for task in tasks {
        assert_eq!(status(&task, "Uid"), [uid; 4].join(" "), "{task}");
        assert_eq!(status(&task, "Gid"), [gid; 4].join(" "), "{task}");
        assert_eq!(status(&task, "Groups"), "", "{task}");
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status(&task, set), "0000000000000000", "{task}: {set}");
        }
        assert_eq!(status(&task, "NoNewPrivs"), "1", "{task}");
    }
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.pid())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "no core dumps");
    // What cannot be traced belongs to root in /proc, whoever it is.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(format!("/proc/{}/environ", hub.pid())).unwrap().uid(), 0);
}

#[test]
fn every_thread_is_nobody_without_any_capability_and_a_helper_keeps_roots() {
    if !may_capture() {
        return;
    }
    let hub = Hub::start(&["serve", "demo:", "--listen", "127.0.0.1:0", "--user", "nobody"], 1);
    has_given_up(&hub, "65534", "65534");
    let helper = helper(&hub).to_string();
    assert_eq!(status(&helper, "Uid"), "0 0 0 0");
    assert_eq!(status(&helper, "Threads"), "1");
    assert_eq!(status(&helper, "Name"), "pcaphub-helper");
}

#[test]
fn the_user_is_one_that_is_there_by_default_and_may_be_named_or_numbered() {
    if !may_capture() {
        return;
    }
    let with =
        |user: &[&str]| Hub::start(&[&["serve", "demo:", "--listen", "127.0.0.1:0"], user].concat(), 1);
    has_given_up(&with(&["--user", "daemon"]), "1", "1");
    has_given_up(&with(&["--user", "12345:54321"]), "12345", "54321");
    let hub = with(&[]);
    let by_default = status(&hub.pid().to_string(), "Uid");
    let pcaphub = Command::new("id").args(["-u", "pcaphub"]).output().unwrap();
    let expected = match pcaphub.status.success() {
        true => String::from_utf8(pcaphub.stdout).unwrap().trim().to_owned(),
        false => "65534".to_owned(),
    };
    assert_eq!(by_default.split(' ').next(), Some(expected.as_str()));
    let unknown = run(&["serve", "demo:", "--user", "no-such-user"], b"");
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert_eq!(unknown.status.code(), Some(2), "{said}");
    assert!(said.contains("--user no-such-user: there is no such user; make it (`useradd"), "{said}");
}

#[test]
fn root_stays_root_only_where_that_is_said_and_with_a_warning() {
    if !may_capture() {
        return;
    }
    let mut hub = Hub::start(&["serve", "demo:", "--listen", "127.0.0.1:0", "--user", "root"], 0);
    hub.wait_for("everything runs with root's rights, because --user says so");
    hub.wait_for("listening on");
    assert_eq!(status(&hub.pid().to_string(), "Uid"), "0 0 0 0");
}

#[test]
fn without_root_nothing_is_given_up_and_nothing_fails() {
    if !may_capture() || !has("setpriv") {
        return;
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_pcaphub")]);
    command.args(["serve", "demo:", "--listen", "127.0.0.1:0", "--stats", "json"]);
    let hub = Hub::spawn(command, 1);
    let children = format!("/proc/{0}/task/{0}/children", hub.pid());
    assert_eq!(std::fs::read_to_string(children).unwrap(), "", "no helper");
    assert_eq!(status(&hub.pid().to_string(), "NoNewPrivs"), "0");
    let (status, _) = hub.stop();
    assert!(status.success());
}

#[test]
fn where_root_cannot_become_anybody_it_says_what_to_do_and_ends() {
    if !may_capture() || !has("unshare") {
        return;
    }
    // A user namespace that has root alone, as of some containers.
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", env!("CARGO_BIN_EXE_pcaphub")]).args(arguments);
        command.stdin(std::process::Stdio::null()).output().unwrap()
    };
    let made = Command::new("unshare").args(["--user", "--map-root-user", "true"]).output().unwrap();
    if !made.status.success() {
        eprintln!("SKIPPED: there are no user namespaces here");
        return;
    }
    let output = inside(&["cat", "demo:", "-c", "3"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(77), "{said}");
    assert!(said.contains("cannot give up root's rights: "), "{said}");
    assert!(said.contains("--user root"), "{said}");
    assert!(output.stdout.is_empty());
    let output = inside(&["cat", "demo:", "-c", "3", "--user", "root"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("root's rights"), "{said}");
}

/// A server's certificate and key, in a folder of their own.
fn server_files(folder: &tempfile::TempDir) -> String {
    let certs = folder.path().join("certs");
    let output = run(&["cert", "new", certs.to_str().unwrap(), "--name", "localhost"], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    certs.to_str().unwrap().to_owned()
}

#[test]
fn keys_are_never_dumped_also_without_root() {
    if !may_capture() || !has("setpriv") {
        return;
    }
    use std::os::unix::fs::MetadataExt;
    let folder = folder();
    let certs = server_files(&folder);
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(folder.path()).status().unwrap().success());
    let listen = format!("tls-listen://127.0.0.1:0?cert={certs}/server.pem&key={certs}/server-key.pem");
    let hub = |listen: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_pcaphub")]);
        command.args(["serve", "demo:", "--listen", listen, "--stats", "json"]);
        Hub::spawn(command, 1)
    };
    let core = |hub: &Hub| {
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", hub.pid())).unwrap();
        let line = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        line.split_whitespace().skip(4).take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    let owner = |hub: &Hub| std::fs::metadata(format!("/proc/{}/environ", hub.pid())).unwrap().uid();
    let with = hub(&listen);
    assert_eq!(core(&with), ["0", "0"]);
    assert_eq!(owner(&with), 0, "nobody may trace it, so it belongs to root there");
    let without = hub("127.0.0.1:0");
    assert_eq!(owner(&without), 65534, "and where there is no secret it is as it was");
}

#[test]
fn a_key_that_only_root_may_read_is_read_by_a_hub_that_gave_root_up() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let certs = server_files(&folder);
    let path = secret_file(&folder);
    let listen = format!("tls-listen://127.0.0.1:0?cert={certs}/server.pem&key={certs}/server-key.pem");
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", &listen, "--user", "nobody"], 1);
    assert_eq!(status(&hub.pid().to_string(), "Uid"), "65534 65534 65534 65534");
    let source = format!("tls://localhost:{}?ca={certs}/ca.pem", hub.client().port());
    let output = run(&["cat", &source, "--opt", "reconnect=no"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(read_pcap(&output.stdout).len(), 100, "{said}");
}
