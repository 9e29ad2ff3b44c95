//! The helper, on a thread: what it opens, and what it refuses.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Mutex;

use super::*;
use crate::endpoint::Endpoint;
use crate::plan::Plan;
use crate::{sink, source};

/// What these endpoints name.
fn named(sources: &[&str], sinks: &[&str]) -> Permits {
    Permits::of(&plan(sources, sinks))
}

fn plan(sources: &[&str], sinks: &[&str]) -> Plan {
    let endpoint = |text: &&str| Endpoint::parse(text).unwrap();
    Plan {
        sources: sources.iter().map(|text| source::spec(endpoint(text)).unwrap()).collect(),
        sinks: sinks.iter().map(|text| sink::spec(endpoint(text)).unwrap()).collect(),
        ..Plan::default()
    }
}

/// Runs `there` beside a helper; what the helper told.
fn beside(
    permits: Permits,
    renew: &(dyn Fn() -> Result<Permits, String> + Sync),
    there: impl FnOnce(&Remote),
) -> Vec<String> {
    let told = Mutex::new(Vec::new());
    let (remote, socket) = joined().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let tell = |what: &str| told.lock().unwrap().push(what.to_owned());
            Helper { socket, permits, renew, tell: &tell }.serve();
        });
        there(&remote);
        remote.dismiss();
    });
    told.into_inner().unwrap()
}

fn kind<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

const DENIED: Option<ErrorKind> = Some(ErrorKind::PermissionDenied);

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[test]
fn what_was_not_named_is_refused_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("read"), "octets").unwrap();
    std::fs::write(path("other"), "octets").unwrap();
    let (read, write) = (path("read"), path("write"));
    let permits = named(
        &[&read, "exec:echo a", "if:lo", "tcp-listen://127.0.0.1:1?allow=any"],
        &[&write, "if:made?create=tap"],
    );
    let told = beside(permits, &|| Err("there is none".into()), |remote| {
        let p = |path: &str| std::path::PathBuf::from(path);
        assert_eq!(kind(remote.read_file(&p(&path("other")))), DENIED);
        assert_eq!(kind(remote.read_file(&p(&format!("{}/../{}", folder.path().display(), "read")))), DENIED);
        assert_eq!(kind(remote.read_file(&p(&write))), DENIED, "it is to be written");
        assert_eq!(kind(remote.write_file(&p(&read))), DENIED, "it is to be read");
        assert_eq!(kind(remote.look(&p("/etc/shadow"))), DENIED);
        assert_eq!(kind(remote.directory(folder.path())), DENIED);
        assert_eq!(kind(remote.connect_unix(&p(&read))), DENIED);
        assert_eq!(kind(remote.listen_unix(&p(&write))), DENIED);
        assert_eq!(kind(remote.remove_unix(&p(&read))), DENIED);
        assert_eq!(kind(remote.open(&Request::ListenTcp("127.0.0.1:2".parse().unwrap()))), DENIED);
        assert_eq!(kind(remote.open(&Request::ListenTcp("0.0.0.0:1".parse().unwrap()))), DENIED);
        assert_eq!(kind(remote.packet_socket(Layer::Whole, "any")), DENIED);
        assert_eq!(kind(remote.open(&Request::Inject("lo".into()))), DENIED, "it is to be captured on");
        assert_eq!(kind(remote.tap("other")), DENIED);
        assert_eq!(kind(remote.spawn(&words("echo a b"), Pipe::Stdout).map(drop)), DENIED);
        assert_eq!(kind(remote.spawn(&words("echo"), Pipe::Stdout).map(drop)), DENIED);
    });
    assert_eq!(told.len(), 10, "and not more in a second: {told:?}");
    assert!(told[0].starts_with("refused, because it was not named at start: Read(\""), "{told:?}");
    assert!(!folder.path().join("write").exists());
}

#[test]
fn what_was_named_is_opened_and_errors_are_those_of_the_system() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (read, write, socket) = (path("read"), path("write"), path("socket"));
    let listen = format!("unix-listen:{socket}");
    let unix = format!("unix:{socket}");
    let permits = named(&[&read, "exec:echo a", "exec:/no/such", &unix], &[&write, &listen]);
    let told = beside(permits, &|| Err("there is none".into()), |remote| {
        let (read, write, socket) = (Path::new(&read), Path::new(&write), Path::new(&socket));
        assert_eq!(kind(remote.read_file(read)), Some(ErrorKind::NotFound));
        assert_eq!(kind(remote.look(read)), Some(ErrorKind::NotFound));
        std::fs::write(read, "octets").unwrap();
        let mut text = String::new();
        remote.read_file(read).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), remote.look(read).unwrap()), ("octets", System.look(read).unwrap()));
        remote.write_file(write).unwrap().write_all(b"more").unwrap();
        assert_eq!(std::fs::read(write).unwrap(), b"more");
        let listener = remote.listen_unix(socket).unwrap();
        assert_eq!(kind(remote.listen_unix(socket)), Some(ErrorKind::AddrInUse));
        remote.connect_unix(socket).unwrap();
        assert!(listener.accept().is_ok());
        remote.remove_unix(socket).unwrap();
        assert!(!socket.exists());
        assert_eq!(kind(remote.spawn(&words("/no/such"), Pipe::Stdout).map(drop)), Some(ErrorKind::NotFound));
        let mut spawned = remote.spawn(&words("echo a"), Pipe::Stdout).unwrap();
        spawned.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), spawned.process.wait().unwrap().code()), ("octetsa\n", Some(0)));
        assert_eq!(spawned.process.try_wait().unwrap().and_then(|status| status.code()), Some(0));
    });
    assert!(told.is_empty(), "{told:?}");
}

#[test]
fn a_command_is_ended_by_its_user_or_with_its_user() {
    let permits = named(&["exec:sleep 1000"], &["null:"]);
    beside(permits, &|| Err("there is none".into()), |remote| {
        let mut spawned = remote.spawn(&words("sleep 1000"), Pipe::Stdout).unwrap();
        assert!(spawned.process.try_wait().unwrap().is_none());
        spawned.process.signal(Signal::TERM);
        assert_eq!(spawned.process.wait().unwrap().signal(), Some(15));
        let left = remote.spawn(&words("sleep 1000"), Pipe::Stdout).unwrap();
        drop(left.process);
        // It has ended once nobody holds the other end of its output any more.
        let mut octets = Vec::new();
        left.stdout.unwrap().read_to_end(&mut octets).unwrap();
    });
}

#[test]
fn a_changed_configuration_is_read_by_the_helper_and_what_it_left_out_is_refused_once_that_is_settled() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (old, new) = (path("old"), path("new"));
    std::fs::write(&old, "old").unwrap();
    std::fs::write(&new, "new").unwrap();
    let good = || Ok(named(&[&new], &["null:"]));
    let answers = Mutex::new(vec![good(), good(), Err("3:1: unknown key".to_owned())]);
    let renew = || answers.lock().unwrap().pop().unwrap();
    beside(named(&[&old], &["null:"]), &renew, |remote| {
        let (old, new) = (Path::new(&old), Path::new(&new));
        assert!(remote.read_file(old).is_ok());
        assert_eq!(remote.renew().unwrap_err().to_string(), "3:1: unknown key");
        assert_eq!(kind(remote.read_file(new)), DENIED);
        remote.renew().unwrap();
        assert!(remote.read_file(old).is_ok() && remote.read_file(new).is_ok(), "until one of them holds");
        remote.settle(Renewal::Refused);
        assert!(remote.read_file(old).is_ok());
        assert_eq!(kind(remote.read_file(new)), DENIED);
        remote.renew().unwrap();
        remote.settle(Renewal::Taken);
        assert_eq!(kind(remote.read_file(old)), DENIED);
        assert!(remote.read_file(new).is_ok());
    });
}

#[test]
fn options_that_name_files_and_directories_that_are_recorded_into_are_permits() {
    let permits = named(&["a.pcap"], &["tcp://127.0.0.1:1", "recordings/"]).reading("hub.toml");
    for allowed in [
        Request::Read("a.pcap".into()),
        Request::Read("hub.toml".into()),
        Request::Directory("recordings/".into()),
        Request::Directory("recordings".into()),
        Request::Look("recordings".into()),
    ] {
        assert!(permits.allow(&allowed), "{allowed:?}");
    }
    assert!(!permits.allow(&Request::Read("recordings/x".into())));
    assert!(!permits.allow(&Request::Write("recordings/x".into())));
}

#[test]
fn without_its_helper_each_request_says_so() {
    let (remote, socket) = joined().unwrap();
    drop(socket);
    let error = remote.read_file(Path::new("x")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
    assert!(error.to_string().contains("restart pcaphub"), "{error}");
}

/// Serves a folder on a thread, for `there`; what was told.
fn in_folder(permits: &Permits, path: &Path, there: impl FnOnce(folder::RemoteFolder)) -> Vec<String> {
    let told = Mutex::new(Vec::new());
    let (send, receive) = std::sync::mpsc::sync_channel(16);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let tell = |what: &str| told.lock().unwrap().push(what.to_owned());
            let answer = |opened: io::Result<OwnedFd>| send.send(opened.unwrap()).unwrap();
            folder::serve(path, permits.templates(path), tell, answer);
        });
        there(folder::RemoteFolder::new(receive.recv().unwrap()));
    });
    told.into_inner().unwrap()
}

#[test]
fn a_directory_that_was_let_go_can_be_opened_again_at_once() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..200 {
        in_folder(&Permits::default(), folder.path(), |remote| {
            remote.list(&|_| true).unwrap();
            assert_eq!(
                kind(crate::directory::Folder::open(folder.path()).map(drop)),
                Some(ErrorKind::ResourceBusy)
            );
            drop(remote);
            crate::directory::Folder::open(folder.path()).unwrap();
        });
    }
}

#[test]
fn in_a_directory_that_is_recorded_into_only_the_files_of_recordings_are_touched() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path();
    for other in [".bashrc", "id_rsa", "hub.toml", "id_rsa.part", "cap-1.pcap"] {
        std::fs::write(path.join(other), "kept").unwrap();
    }
    let sink = |template: &str| {
        let mut spec = sink::spec(Endpoint::parse(&format!("{}/", path.display())).unwrap()).unwrap();
        let zone = crate::recording::Zone::Utc;
        spec.recording.as_mut().unwrap().template =
            crate::recording::Template::parse(template, zone).unwrap();
        spec
    };
    let mut plan = plan(&["demo:"], &[]);
    plan.sinks = vec![sink("cap-%Y.pcap"), sink("%s.pcapng.gz"), sink("cap-%Y.pcap")];
    let permits = Permits::of(&plan);
    assert_eq!(permits.templates(path).len(), 2);
    assert!(permits.templates(Path::new("/etc")).is_empty());
    let told = in_folder(&permits, path, |remote| {
        for name in
            [".bashrc", "id_rsa", "id_rsa.part", "evil", "evil.part", "cap-2026.pcap", "cap-1.pcap.part"]
        {
            assert_eq!(kind(remote.create(name)), DENIED, "{name}");
            assert_eq!(kind(remote.reopen(name)), DENIED, "{name}");
        }
        for name in [".bashrc", "id_rsa", "id_rsa.part", "hub.toml", "cap-1.pcap", "cap-2026.pcap.part.part"]
        {
            assert_eq!(kind(remote.remove(name)), DENIED, "{name}");
            assert_eq!(kind(remote.publish("cap-2026.pcap.part", name)), DENIED, "{name}");
            assert_eq!(kind(remote.publish(name, "cap-2026.pcap")), DENIED, "{name}");
        }
        remote.create("cap-2026.pcap.part").unwrap().write_all(b"octets").unwrap();
        assert_eq!(kind(remote.publish("cap-2026.pcap.part", "17.pcapng.gz")), DENIED, "another recording's");
        assert_eq!(kind(remote.publish("cap-2026.pcap.part", "cap-2026.pcap.part")), DENIED);
        let mut text = String::new();
        remote.reopen("cap-2026.pcap.part").unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "octets");
        remote.publish("cap-2026.pcap.part", "cap-2026-2.pcap").unwrap();
        remote.create("17.pcapng.gz.part").unwrap();
        let mut names: Vec<_> = remote.list(&|_| true).unwrap().into_iter().map(|entry| entry.name).collect();
        names.sort();
        assert_eq!(names, ["17.pcapng.gz.part", "cap-2026-2.pcap"], "and no others are listed");
        remote.remove("17.pcapng.gz.part").unwrap();
        remote.remove("cap-2026-2.pcap").unwrap();
        assert!(remote.free().unwrap() > 0 && remote.is_shared().is_ok());
    });
    assert!(told[0].contains("because no recording names it: Create(\".bashrc\")"), "{told:?}");
    assert_eq!(std::fs::read_dir(path).unwrap().count(), 5);
    for other in std::fs::read_dir(path).unwrap() {
        assert_eq!(std::fs::read_to_string(other.unwrap().path()).unwrap(), "kept");
    }
}
