//! `pcaphub top`: looking at hubs while they run.

use std::io::Write;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::*;

/// `pcaphub top ARGUMENTS` where only hubs with the same directory are seen.
fn top_in(directory: &Path, arguments: &[&str]) -> Output {
    pcaphub().arg("top").args(arguments).env("RUNTIME_DIRECTORY", directory).output().unwrap()
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

/// A hub whose socket is in a directory of the test's own.
fn hub_in(directory: &Path, arguments: &[&str], listeners: usize) -> Hub {
    let mut command = pcaphub();
    command.args(arguments).args(["--stats", "json"]).env("RUNTIME_DIRECTORY", directory);
    Hub::spawn(command, listeners)
}

/// What a hub tells, once `holds` of it.
fn told(directory: &Path, hub: &Hub, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
    let (pid, mut told) = (hub.pid().to_string(), Value::Null);
    wait_until(what, || {
        let output = top_in(directory, &[&pid, "--json"]);
        // A machine that is busy may make it look as if there were no hub.
        let all = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        told = all[0].clone();
        told.is_object() && holds(&told["report"])
    });
    told
}

fn socket_of(directory: &Path, hub: &Hub) -> PathBuf {
    directory.join(format!("{}.sock", hub.pid()))
}

#[test]
fn a_hub_tells_what_it_is_and_its_counts_which_close() {
    let folder = folder();
    let producer = Producer::new();
    let source = format!("tcp://127.0.0.1:{}", producer.port());
    let hub = hub_in(folder.path(), &["serve", &source, "--listen", "127.0.0.1:0", "--on-slow", "drop"], 1);
    let mut feeding = producer.accept();
    let client = connect(hub.client());
    let here = |report: &Value| report["clients"] == 1;
    told(folder.path(), &hub, "the client is there", here);
    feeding.write_all(&pcap(&packets(1, 50, 1_000_000, 100))).unwrap();
    let all = |report: &Value| report["subscribers"][0]["delivered"] == 50;
    let told = told(folder.path(), &hub, "the client has all", all);
    assert_eq!(told["pid"], hub.pid());
    assert_eq!(told["verb"], "serve");
    assert!(told["uptime"].as_f64().unwrap() > 0.0);
    let report = closed(&told["report"].to_string());
    assert_eq!(report["sources"][0]["decoded"], 50);
    assert_eq!(report["sources"][0]["open"], 1);
    assert_eq!(report["sinks"][0]["listening"][0], hub.client().to_string());
    assert_eq!(report["subscribers"][0]["sink"], report["sinks"][0]["name"]);
    assert_eq!(report["subscribers"][0]["name"], client.local_addr().unwrap().to_string());

    let output = top_in(folder.path(), &["--once", "--interval", "100ms"]);
    let table = text(&output.stdout);
    let line = |name: &str| {
        let line = table.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("no line for {name}: {table}")).split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(line(&source)[1..], ["50", "0", "0", "0", "0", "open"]);
    assert_eq!(line(&client.local_addr().unwrap().to_string())[1..], ["50", "0", "0", "0", "0"]);
    assert_eq!(line("lost"), ["lost", "0"]);
}

#[test]
fn a_source_and_a_push_that_are_away_say_why_and_that_they_are_back() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (from, to) = (at("from"), at("to"));
    let producer = UnixListener::bind(&from).unwrap();
    let arguments =
        ["pipe", &format!("unix:{from}"), "--opt", "reconnect=always", "--to", &format!("unix:{to}")];
    let hub = hub_in(folder.path(), &arguments, 0);
    let (mut feeding, _) = producer.accept().unwrap();
    // A push is dialled once there is something to say.
    feeding.write_all(&pcap(&packets(1, 5, 1_000_000, 100))).unwrap();
    std::fs::remove_file(&from).unwrap();
    drop((feeding, producer));
    let away = |value: &Value| value["away"].as_str().is_some_and(|why| why.contains("No such file"));
    told(folder.path(), &hub, "both are away", |report| {
        away(&report["sources"][0]) && away(&report["sinks"][0])
    });
    let output = top_in(folder.path(), &["--once", "--interval", "100ms"]);
    let table = text(&output.stdout);
    assert_eq!(table.matches("away: ").count(), 2, "{table}");

    let (_producer, _receiver) = (UnixListener::bind(&from).unwrap(), UnixListener::bind(&to).unwrap());
    told(folder.path(), &hub, "both are back", |report| {
        let is_back = |value: &Value| value["away"].is_null();
        is_back(&report["sources"][0]) && report["sources"][0]["open"] == 1 && is_back(&report["sinks"][0])
    });
}

#[test]
fn a_source_that_has_ended_and_files_between_clients_are_told_apart() {
    let folder = folder();
    let path = file(&folder, "a.pcap", &pcap(&packets(1, 10, 1_000_000, 100)));
    let path = path.to_str().unwrap();
    // A hub of its own for each client: the file is open only while somebody reads.
    let files = hub_in(folder.path(), &["serve", path, "--listen", "127.0.0.1:0"], 1);
    read_all(files.client());
    let waits = |report: &Value| {
        let source = &report["sources"][0];
        source["open"] == 0 && source["opened"] == 1 && source["ended"] == false
    };
    told(folder.path(), &files, "the file waits for the next client", waits);

    let producer = Producer::new();
    let other = format!("tcp://127.0.0.1:{}", producer.port());
    let hub = hub_in(folder.path(), &["serve", path, &other, "--listen", "127.0.0.1:0", "--pace", "max"], 1);
    let _feeding = producer.accept();
    let _client = connect(hub.client());
    let ended =
        |report: &Value| report["sources"][0]["ended"] == true && report["sources"][1]["ended"] == false;
    told(folder.path(), &hub, "the file has ended and the connection has not", ended);
}

#[test]
fn several_hubs_are_shown_and_one_is_chosen_by_its_number_or_its_socket() {
    let folder = folder();
    let hubs = [0, 1].map(|_| hub_in(folder.path(), &["demo", "--listen", "127.0.0.1:0"], 1));
    let of = |arguments: &[&str]| {
        let output = top_in(folder.path(), &[arguments, &["--json"]].concat());
        let all: Value = serde_json::from_slice(&output.stdout).unwrap();
        all.as_array().unwrap().iter().map(|hub| hub["pid"].as_u64().unwrap() as u32).collect::<Vec<_>>()
    };
    let mut both = of(&[]);
    both.sort_unstable();
    let mut expected = [hubs[0].pid(), hubs[1].pid()];
    expected.sort_unstable();
    assert_eq!(both, expected);
    assert_eq!(of(&[&hubs[1].pid().to_string()]), [hubs[1].pid()]);
    assert_eq!(of(&[socket_of(folder.path(), &hubs[0]).to_str().unwrap()]), [hubs[0].pid()]);
}

#[test]
fn listeners_of_the_same_name_have_their_own_clients() {
    let folder = folder();
    let listen = ["--listen", "127.0.0.1:0"];
    let hub = hub_in(folder.path(), &[&["demo"][..], &listen, &listen].concat(), 2);
    let _clients: Vec<_> = hub.clients.iter().map(|address| connect(*address)).collect();
    let told = told(folder.path(), &hub, "both are there", |report| report["clients"] == 2);
    let report = &told["report"];
    let of = |client: usize| report["subscribers"][client]["sink_number"].as_u64().unwrap();
    assert_ne!(of(0), of(1));
    let listeners: Vec<_> = (0..2).map(|at| report["sinks"][at]["number"].as_u64().unwrap()).collect();
    assert!(listeners.contains(&of(0)) && listeners.contains(&of(1)), "{report}");
    let output = top_in(folder.path(), &["--once", "--interval", "100ms"]);
    assert_eq!(
        text(&output.stdout).matches(" 1 client at 127.0.0.1:").count(),
        2,
        "{}",
        text(&output.stdout)
    );
}

#[test]
fn a_hub_that_does_not_answer_is_told_beside_those_that_do() {
    let folder = folder();
    let hubs = [0, 1].map(|_| hub_in(folder.path(), &["demo", "--listen", "127.0.0.1:0"], 1));
    hubs[0].signal(Signal::STOP);
    let socket = socket_of(folder.path(), &hubs[0]);
    let line = format!("{} does not answer: the hub is stopped, or very busy", socket.display());
    let json = top_in(folder.path(), &["--json"]);
    let all: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["pid"]), (1, &hubs[1].pid().into()));
    assert!(text(&json.stderr).contains(&line), "{}", text(&json.stderr));
    let once = top_in(folder.path(), &["--once", "--interval", "100ms"]);
    assert!(text(&once.stdout).contains(&line), "{}", text(&once.stdout));
    hubs[0].signal(Signal::CONT);
}

#[test]
fn the_socket_is_for_its_user_alone_and_goes_with_the_hub() {
    let folder = folder();
    for end in [Signal::INT, Signal::TERM] {
        let mut hub = hub_in(folder.path(), &["demo", "--listen", "127.0.0.1:0"], 1);
        let socket = socket_of(folder.path(), &hub);
        let found = std::fs::symlink_metadata(&socket).unwrap();
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, 0o600);
        hub.signal(end);
        hub.ended();
        wait_until("its name is gone", || !socket.exists());
    }
}

#[test]
fn what_a_hub_that_was_killed_left_is_no_hub_and_is_taken_away_by_the_next() {
    let folder = folder();
    // Where a helper takes it away, too, there is nothing left to see.
    let arguments = ["demo", "--listen", "127.0.0.1:0"];
    let arguments =
        if may_capture() { [&arguments[..], &["--user", "root"]].concat() } else { arguments.into() };
    let hub = hub_in(folder.path(), &arguments, 1);
    let socket = socket_of(folder.path(), &hub);
    drop(hub);
    assert!(socket.exists(), "killed, it could not take it away");
    let output = top_in(folder.path(), &["--once"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no hub of yours is running"), "{}", text(&output.stderr));
    let _next = hub_in(folder.path(), &arguments, 1);
    assert!(!socket.exists());
}

#[test]
fn what_is_sent_to_it_and_who_does_not_read_change_nothing() {
    let folder = folder();
    let hub = hub_in(folder.path(), &["demo", "--listen", "127.0.0.1:0"], 1);
    let socket = socket_of(folder.path(), &hub);
    let mut idle: Vec<UnixStream> = (0..50).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for stream in &mut idle {
        // It may have been answered and closed already.
        let _ = stream.write_all(b"{\"verb\":\"stop\"}\nGET / HTTP/1.1\r\n\r\n");
    }
    told(folder.path(), &hub, "it answers the next one", |report| report["sources"][0]["name"] == "demo");
    drop(idle);
    assert!(hub.stop().0.success());
}

#[test]
fn who_looks_for_what_is_not_there_is_told_what_to_do() {
    let folder = folder();
    let said = |arguments: &[&str]| {
        let output = top_in(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    };
    assert!(said(&["--once"]).contains("no hub of yours is running; `pcaphub demo` starts one to try"));
    assert!(said(&["4711", "--json"]).contains("no hub of yours is process 4711"));
    let path = folder.path().join("none.sock");
    let path = path.to_str().unwrap();
    assert!(said(&[path, "--once"]).contains("none.sock: no hub listens there"));
    // Something listens there that says nothing a hub would say.
    let listener = UnixListener::bind(path).unwrap();
    let deaf = said(&[path, "--once"]);
    assert!(deaf.contains("none.sock does not answer: the hub is stopped, or very busy"), "{deaf}");
    drop(listener);
    std::fs::remove_file(path).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    let other = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"\x1b[2Jnot JSON").unwrap();
    });
    assert!(said(&[path, "--once"]).contains("none.sock: what answers there is no hub"));
    other.join().unwrap();
    let output = top_in(folder.path(), &["--interval", "1ms"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("it is from 100ms to 1h"), "{}", text(&output.stderr));
}

#[test]
fn a_hub_goes_on_where_there_is_no_place_for_its_socket() {
    use std::os::unix::fs::MetadataExt;
    let open = folder();
    std::fs::set_permissions(open.path(), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(std::fs::metadata(open.path()).unwrap().mode() & 0o777, 0o777);
    let mut hub = hub_in(open.path(), &["demo", "--listen", "127.0.0.1:0"], 1);
    let warning = hub.wait_for("cannot see this hub");
    assert!(warning.contains("WARN") && warning.contains("no directory that is ours alone"), "{warning}");
    assert!(hub.stop().0.success());

    let missing = open.path().join("missing");
    let mut command = pcaphub();
    command
        .args(["demo", "--listen", "127.0.0.1:0", "-v", "--stats", "json"])
        .env("RUNTIME_DIRECTORY", missing);
    let mut hub = Hub::spawn(command, 1);
    assert!(hub.wait_for("cannot see this hub").contains("`pcaphub top` cannot see this hub: "));
    assert!(hub.stop().0.success());
}

/// A terminal, by a tmux of the test's own.
struct Terminal {
    name: String,
}

impl Terminal {
    /// A screen of 110 columns and 30 rows, with a shell line on it.
    fn new(line: &str) -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let terminal = Terminal { name: format!("pcaphub-test-{}-{number}", std::process::id()) };
        terminal.tmux(&["new-session", "-d", "-x", "110", "-y", "30", line]);
        terminal
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("tmux");
        command.args(["-u", "-f", "/dev/null", "-L", &self.name]).args(arguments);
        let output = command.env("TERM", "xterm-256color").env_remove("TMUX").output().unwrap();
        text(&output.stdout)
    }

    fn press(&self, key: &str) {
        self.tmux(&["send-keys", key]);
    }

    /// The screen, once it has this text.
    fn wait_for(&self, wanted: &str) -> String {
        let mut screen = String::new();
        wait_until(&format!("{wanted:?} on the screen"), || {
            screen = self.tmux(&["capture-pane", "-p"]);
            screen.contains(wanted)
        });
        screen
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.tmux(&["kill-server"]);
    }
}

#[test]
fn on_a_terminal_it_goes_on_until_one_quits_and_leaves_the_terminal_as_it_was() {
    if !has("tmux") {
        return;
    }
    let folder = folder();
    let hubs =
        [0, 1].map(|_| hub_in(folder.path(), &["demo", "--rate", "200", "--listen", "127.0.0.1:0"], 1));
    let mut clients: Vec<_> = hubs.iter().map(|hub| connect(hub.client())).collect();
    clients.iter_mut().for_each(|client| drop(read_exact(client, 24)));
    let line = format!(
        "echo before; RUNTIME_DIRECTORY='{}' '{}' top --interval 200ms; echo \"after: $?\"; read nothing",
        folder.path().display(),
        env!("CARGO_BIN_EXE_pcaphub")
    );
    let terminal = Terminal::new(&line);
    // The hubs are in the order of their numbers.
    let first = usize::from(hubs[1].pid() < hubs[0].pid());
    let address = |at: usize| clients[at].local_addr().unwrap().to_string();
    let screen = terminal.wait_for(&address(first));
    assert!(screen.contains("hub 1 of 2") && screen.contains("SINKS AND CLIENTS"), "{screen}");
    assert!(!screen.contains("before"), "{screen}");
    terminal.press("Right");
    terminal.wait_for(&address(1 - first));
    terminal.press("?");
    terminal.wait_for("Keys and words");
    terminal.press("x");
    terminal.press("p");
    terminal.wait_for("Paused");
    terminal.press("p");
    terminal.wait_for("? help");
    hubs[1 - first].signal(Signal::STOP);
    terminal.wait_for("It has not answered for");
    hubs[1 - first].signal(Signal::CONT);
    terminal.wait_for("? help");
    hubs[1 - first].signal(Signal::TERM);
    terminal.wait_for("It has ended; these are its last figures.");
    terminal.press("q");
    let screen = terminal.wait_for("after: 0");
    assert!(screen.starts_with("before\nafter: 0"), "{screen}");
}

#[test]
fn a_signal_gives_the_terminal_back_too() {
    if !has("tmux") {
        return;
    }
    let folder = folder();
    let _hub = hub_in(folder.path(), &["demo", "--listen", "127.0.0.1:0"], 1);
    let line = format!(
        "RUNTIME_DIRECTORY='{}' '{}' top; echo \"after: $?\"; read nothing",
        folder.path().display(),
        env!("CARGO_BIN_EXE_pcaphub")
    );
    let terminal = Terminal::new(&line);
    terminal.wait_for("SOURCES");
    let pid = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
    let children = format!("/proc/{0}/task/{0}/children", pid.trim());
    let child: i32 = std::fs::read_to_string(children).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(child).unwrap(), Signal::TERM).unwrap();
    let screen = terminal.wait_for("after: 1");
    assert!(screen.starts_with("after: 1"), "{screen}");
}

#[test]
fn a_terminal_that_cannot_draw_gets_a_table_once() {
    if !has("tmux") {
        return;
    }
    let folder = folder();
    let hub = hub_in(folder.path(), &["demo", "--listen", "127.0.0.1:0"], 1);
    let line = format!(
        "TERM=dumb RUNTIME_DIRECTORY='{}' '{}' top --interval 100ms; echo \"after: $?\"; read nothing",
        folder.path().display(),
        env!("CARGO_BIN_EXE_pcaphub")
    );
    let screen = Terminal::new(&line).wait_for("after: 0");
    assert!(screen.starts_with(&format!("pcaphub demo, process {}, ", hub.pid())), "{screen}");
}
