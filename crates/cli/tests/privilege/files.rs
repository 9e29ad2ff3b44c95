//! Files and Unix sockets of which only root may have anything, after root was given up.

use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::process::Command;

use crate::harness::*;
use crate::who::secret_file;

#[test]
fn a_file_that_only_root_may_read_is_opened_again_for_each_client() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let mut hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", "127.0.0.1:0"], 1);
    for _ in 0..3 {
        assert_eq!(read_pcap(&read_all(hub.client())).len(), 100);
    }
    std::fs::remove_file(&path).unwrap();
    let _ = read_all(hub.client());
    let line = hub.wait_for("secret.pcap");
    assert!(line.contains("No such file"), "{line}");
}

#[test]
fn files_that_are_written_are_roots_alone() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let to = folder.path().join("out.pcapng.zst");
    let output = run(&["pipe", path.to_str().unwrap(), "--to", to.to_str().unwrap()], b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata = std::fs::metadata(&to).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o777), (0, 0, 0o600));
    assert!(metadata.len() > 100);
    let link = folder.path().join("link.pcap");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let output = run(&["pipe", "demo:", "-c", "1", "--to", link.to_str().unwrap()], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("it is a symbolic link"), "{said}");
}

#[test]
fn a_fifo_waits_for_its_writer_and_holds_up_nobody() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").args(["-m", "600"]).arg(&fifo).status().unwrap().success());
    let exec = format!("exec:cat {}", path.display());
    let hub = Hub::start(
        &["serve", fifo.to_str().unwrap(), &exec, "--order", "arrival", "--listen", "127.0.0.1:0"],
        1,
    );
    let mut client = connect(hub.client());
    // The command is started, by the helper, while a process of it waits for the FIFO.
    let first = pcap(&packets(1, 100, 1_700_000_000_000_000, 10));
    assert_eq!(read_pcap(&read_exact(&mut client, first.len())).len(), 100);
    let second = packets(2, 50, 1_700_000_000_000_000, 10);
    std::fs::OpenOptions::new().write(true).open(&fifo).unwrap().write_all(&pcap(&second)).unwrap();
    let mut rest = header(1);
    client.read_to_end(&mut rest).unwrap();
    assert_eq!(read_pcap(&rest).len(), 50);
}

#[test]
fn a_unix_socket_in_roots_folder_is_made_and_removed_again() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let socket = folder.path().join("hub.sock");
    let listen = format!("unix-listen:{}", socket.display());
    let hub = Hub::start(&["serve", path.to_str().unwrap(), "--listen", &listen], 0);
    wait_until("the socket is there", || socket.exists());
    let metadata = std::fs::metadata(&socket).unwrap();
    assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (0, 0o600));
    let mut octets = Vec::new();
    UnixStream::connect(&socket).unwrap().read_to_end(&mut octets).unwrap();
    assert_eq!(read_pcap(&octets).len(), 100);
    // And another hub dials it.
    let output = run(&["cat", &format!("unix:{}", socket.display())], b"");
    assert_eq!(read_pcap(&output.stdout).len(), 100);
    hub.stop();
    assert!(!socket.exists());
}

#[test]
fn a_configuration_that_only_root_may_read_is_run() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let text = format!(
        "user = \"daemon\"\n[[source]]\nendpoint = \"{}\"\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:0\"\n",
        path.display()
    );
    let config = file(&folder, "hub.toml", text.as_bytes());
    std::fs::set_permissions(&config, std::fs::Permissions::from_mode(0o600)).unwrap();
    let mut command = pcaphub();
    command.args(["run", config.to_str().unwrap()]);
    let hub = Hub::spawn(command, 1);
    assert_eq!(crate::who::status(&hub.pid().to_string(), "Uid"), "1 1 1 1");
    assert_eq!(read_pcap(&read_all(hub.client())).len(), 100);
}

#[test]
fn recordings_go_on_in_a_folder_that_only_root_may_enter() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let recordings = folder.path().join("recordings");
    let (path, to) = (path.to_str().unwrap(), recordings.to_str().unwrap());
    let output = run(&["record", path, to, "--packets", "30", "--template", "%s.pcap"], b"");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let mut files = 0;
    for entry in std::fs::read_dir(&recordings).unwrap() {
        let metadata = entry.unwrap().metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (0, 0o600));
        files += 1;
    }
    assert_eq!(files, 4, "it rotated: {said}");
}

#[test]
fn a_recording_as_with_tcpdump_asks_the_helper_for_nothing_that_was_not_named() {
    if !may_capture() {
        return;
    }
    let folder = folder();
    let path = secret_file(&folder);
    let path = path.to_str().unwrap();
    for (name, options) in [("ring.pcap", ["-C", "1", "-W", "10"]), ("%H.pcap", ["-G", "3600", "-W", "24"])] {
        let to = folder.path().join(name);
        let output =
            run(&[&["record", "-r", path][..], &options, &["-w", to.to_str().unwrap()]].concat(), b"");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("helper"), "{said}");
    }
}
