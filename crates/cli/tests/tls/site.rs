//! What the tests have: certificates that `pcaphub cert` made, a capture, and tools beside the hub.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::harness::*;

/// A folder with certificates for localhost and for alice, and a capture.
pub struct Site {
    pub folder: tempfile::TempDir,
    pub packets: Vec<Packet>,
}

impl Site {
    pub fn new() -> Self {
        let site = Site { folder: folder(), packets: packets(1, 500, 1_000_000, 100) };
        site.make(&["certs", "--name", "localhost", "--name", "127.0.0.1", "--client", "alice"]);
        file(&site.folder, "a.pcap", &pcap(&site.packets));
        site
    }

    /// `pcaphub cert new …` in the folder.
    pub fn make(&self, arguments: &[&str]) {
        let mut command = pcaphub();
        let output =
            command.args(["cert", "new"]).args(arguments).current_dir(self.folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    pub fn capture(&self) -> String {
        self.text("a.pcap")
    }

    pub fn ca(&self) -> String {
        self.text("certs/ca.pem")
    }

    /// Certificate and key.
    pub fn server(&self) -> (String, String) {
        (self.text("certs/server.pem"), self.text("certs/server-key.pem"))
    }

    pub fn alice(&self) -> (String, String) {
        (self.text("certs/client-alice.pem"), self.text("certs/client-alice-key.pem"))
    }

    /// A TLS endpoint that shows the server's certificate, and asks for a client's if told so.
    pub fn listen(&self, asks: Asks) -> String {
        let (cert, key) = self.server();
        let client_ca = match asks {
            Asks::Nothing => String::new(),
            Asks::Certificate => format!("&client-ca={}", self.ca()),
        };
        format!("tls-listen://127.0.0.1:0?cert={cert}&key={key}{client_ca}")
    }

    /// A TLS endpoint that is dialled, as alice if it asks for a certificate.
    pub fn dial(&self, port: u16, asks: Asks) -> String {
        let (cert, key) = self.alice();
        let alice = match asks {
            Asks::Nothing => String::new(),
            Asks::Certificate => format!("&cert={cert}&key={key}"),
        };
        format!("tls://localhost:{port}?ca={}{alice}", self.ca())
    }

    /// A hub that replays the capture inside TLS.
    pub fn serve(&self, asks: Asks) -> Hub {
        Hub::start(&["serve", &self.capture(), "--listen", &self.listen(asks)], 1)
    }

    pub fn assert_whole(&self, octets: &[u8]) {
        assert_eq!(read_pcap(octets), self.packets);
    }
}

/// What a server wants of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    Nothing,
    Certificate,
}

/// Standard output of a shell line.
pub fn output(line: &str) -> Vec<u8> {
    let mut command = Command::new("timeout");
    let output = command.args(["60", "bash", "-c", line]).stdin(Stdio::null()).output().unwrap();
    assert!(!output.stdout.is_empty(), "{line}: nothing: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A tool in the background; ended when dropped.
pub struct Tool(Child);

impl Tool {
    pub fn start(line: &str) -> Self {
        let mut command = Command::new("timeout");
        command.args(["120", "bash", "-c", line]).stdin(Stdio::null());
        Tool(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // timeout leads a process group of its own, in which everything is that it started.
        let group = rustix::process::Pid::from_child(&self.0);
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A stunnel with these services, each a section's lines.
pub fn stunnel(site: &Site, name: &str, lines: &str) -> Tool {
    let text = format!("foreground = yes\npid =\n[it]\n{lines}\n");
    let path = file(&site.folder, name, text.as_bytes());
    let tool = if Command::new("stunnel4").arg("-version").output().is_ok() { "stunnel4" } else { "stunnel" };
    Tool::start(&format!("exec {tool} {}", path.display()))
}
