//! A service manager of the test's own: it is told things, and hands sockets over.

use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::io::FdFlags;

use super::harness::{DEADLINE, pcaphub};

/// What `NOTIFY_SOCKET` leads to.
pub struct Manager {
    socket: UnixDatagram,
    address: String,
    _folder: tempfile::TempDir,
    /// Everything that was said so far.
    pub heard: Vec<String>,
}

impl Manager {
    /// On a path, as systemd has it.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        Manager { socket, address: path.to_str().unwrap().into(), _folder: folder, heard: Vec::new() }
    }

    /// On an abstract name, as containers' managers have it.
    pub fn abstractly() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let name = format!("pcaphub-test{}", folder.path().display());
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        Manager { socket, address: format!("@{name}"), _folder: folder, heard: Vec::new() }
    }

    /// `pcaphub` as this manager starts it.
    pub fn command(&self) -> Command {
        let mut command = pcaphub();
        command.env("NOTIFY_SOCKET", &self.address);
        command
    }

    /// The next thing that is said.
    pub fn next(&mut self) -> String {
        let mut octets = [0; 4096];
        self.socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let length = self.socket.recv(&mut octets);
        let length = length.unwrap_or_else(|error| panic!("{error}; heard so far: {:#?}", self.heard));
        let text = String::from_utf8(octets[..length].to_vec()).unwrap();
        self.heard.push(text.clone());
        text
    }

    /// Listens until a message has a line that begins so.
    pub fn wait_for(&mut self, line: &str) -> String {
        let until = Instant::now() + DEADLINE;
        loop {
            assert!(Instant::now() < until, "not said: {line}; heard: {:#?}", self.heard);
            let said = self.next();
            if said.lines().any(|said| said.starts_with(line)) {
                return said;
            }
        }
    }

    /// Everything that is still there to be heard.
    pub fn rest(&mut self) -> Vec<String> {
        self.socket.set_nonblocking(true).unwrap();
        let mut octets = [0; 4096];
        let mut rest = Vec::new();
        loop {
            match self.socket.recv(&mut octets) {
                Ok(length) => rest.push(String::from_utf8(octets[..length].to_vec()).unwrap()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => panic!("{error}"),
            }
        }
        self.socket.set_nonblocking(false).unwrap();
        rest
    }
}

/// `pcaphub ARGUMENTS`, which inherits these sockets from number 3 on.
pub fn with_sockets(sockets: &[&dyn AsFd], arguments: &[&str]) -> Command {
    let mut script = String::new();
    for (index, socket) in sockets.iter().enumerate() {
        let fd = socket.as_fd();
        rustix::io::fcntl_setfd(fd, FdFlags::empty()).unwrap();
        // To where nothing can be in the way, and only then to their places.
        script += &format!("exec {}<&{} {}<&-; ", 200 + index, fd.as_raw_fd(), fd.as_raw_fd());
    }
    for index in 0..sockets.len() {
        script += &format!("exec {}<&{} {}<&-; ", 3 + index, 200 + index, 200 + index);
    }
    script += &format!("export LISTEN_PID=$$ LISTEN_FDS={}; exec \"$0\" \"$@\"", sockets.len());
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_pcaphub")]).args(arguments).stdin(Stdio::null());
    command
}
