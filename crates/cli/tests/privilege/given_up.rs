//! What cannot be opened any more, tried on threads that gave up their rights as the main process does.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::{TcpListener, TcpStream, ToSocketAddrs};

use pcaphub::privilege::{Identity, give_up};

use crate::harness::*;

/// Runs `there` on a thread that gave up everything; what it gave up is that thread's alone.
fn dropped<T: Send>(there: impl FnOnce() -> T + Send) -> Option<T> {
    if !may_capture() {
        return None;
    }
    let identity = Identity::find(Some("nobody")).unwrap();
    let inside = move || {
        let missing = give_up(&identity).unwrap();
        (there(), missing)
    };
    let (result, missing) = std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
    // Not by the user alone: this kernel limits files.
    assert!(missing.is_empty(), "this test needs Landlock: {missing:?}");
    Some(result)
}

fn kind<T>(result: io::Result<T>) -> Option<io::ErrorKind> {
    result.err().map(|error| error.kind())
}

const DENIED: Option<io::ErrorKind> = Some(io::ErrorKind::PermissionDenied);

#[test]
fn files_cannot_be_opened_made_changed_or_run() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    // Everybody may do everything here: what refuses is not the mode.
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let path = file(&folder, "everybody", b"octets");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    dropped(|| {
        assert_eq!(kind(File::open(&path)), DENIED);
        assert_eq!(kind(OpenOptions::new().write(true).open(&path)), DENIED);
        assert_eq!(kind(File::create(folder.path().join("new"))), DENIED);
        assert_eq!(kind(std::fs::remove_file(&path)), DENIED);
        assert_eq!(kind(std::fs::rename(&path, folder.path().join("moved"))), DENIED);
        assert_eq!(kind(std::fs::create_dir(folder.path().join("folder"))), DENIED);
        assert_eq!(kind(std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link"))), DENIED);
        assert_eq!(kind(std::fs::read_dir(folder.path())), DENIED);
        assert_eq!(kind(std::os::unix::net::UnixListener::bind(folder.path().join("socket"))), DENIED);
        assert_eq!(kind(File::open("/etc/shadow")), DENIED);
        assert_eq!(kind(std::fs::read_dir("/root")), DENIED);
        assert_eq!(kind(File::open("/proc/1/environ")), DENIED);
        assert_eq!(kind(std::process::Command::new("/bin/true").spawn()), DENIED, "nothing can be run");
    });
    assert_eq!(std::fs::read(&path).unwrap(), b"octets");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn no_packet_socket_no_low_port_no_signal_and_no_way_back() {
    use rustix::process::{Pid, Signal, Uid, kill_process};
    use rustix::thread::set_thread_res_uid;
    let mut other = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let others = Pid::from_child(&other);
    dropped(|| {
        assert_eq!(kind(pcaphub_sys::PacketSocket::new(pcaphub_sys::Layer::Whole)), DENIED);
        assert_eq!(kind(TcpListener::bind("127.0.0.1:1")), DENIED);
        assert!(set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).is_err());
        assert!(kill_process(others, Signal::KILL).is_err());
    });
    assert!(other.try_wait().unwrap().is_none());
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn names_are_looked_up_filters_compiled_and_ports_opened_and_dialled_all_the_same() {
    dropped(|| {
        assert!("localhost:80".to_socket_addrs().unwrap().count() > 0);
        assert!(File::open("/etc/resolv.conf").is_ok() || !std::path::Path::new("/etc/resolv.conf").exists());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(pcaphub_sys::libpcap::compile("tcp port https and host 10.1.2.3", 1, 0).is_ok());
        assert!(pcaphub_sys::Device::find("lo").unwrap().is_some());
        assert!(!pcaphub_sys::local_addresses().unwrap().is_empty());
    });
}
