//! Two hosts and a cable for the lines that need interfaces: network namespaces and a veth pair, gone
//! with the run.

use std::net::TcpStream;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::harness::*;

/// Host `a` with `va` and host `b` with `vb`.
pub(crate) struct Network {
    id: u32,
}

/// The network; `None`, and said so, without root.
pub(crate) fn network() -> Result<Option<Network>> {
    if !rustix::process::geteuid().is_root() || !has("ip") {
        println!("  (needs root, for network namespaces: left out)");
        return Ok(None);
    }
    let id = std::process::id();
    let network = Network { id };
    let (a, b) = (network.name('a'), network.name('b'));
    let lines = format!(
        "for n in {a} {b}; do
             ip netns add $n; ip -n $n link set lo up
             ip netns exec $n sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1
         done
         ip -n {a} link add va address 02:00:00:00:00:0a type veth peer name vb address 02:00:00:00:00:0b netns {b}
         ip -n {a} addr add 10.99.0.1/24 dev va; ip -n {b} addr add 10.99.0.2/24 dev vb
         ip -n {a} link set va up; ip -n {b} link set vb up"
    );
    ensure!(Command::new("sh").args(["-ec", &lines]).status()?.success(), "cannot make the network");
    Ok(Some(network))
}

impl Network {
    fn name(&self, host: char) -> String {
        format!("bench-{}{host}", self.id)
    }

    /// A command on a host.
    pub(crate) fn command(&self, host: char, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name(host)]).args(words).stdin(Stdio::null());
        command
    }

    /// A counter of an interface.
    pub(crate) fn count(&self, host: char, interface: &str, counter: &str) -> Result<u64> {
        let path = format!("/sys/class/net/{interface}/statistics/{counter}");
        let output = self.command(host, &["cat", &path]).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().parse()?)
    }

    /// Runs `there` on a thread that is on a host: its sockets belong there.
    pub(crate) fn inside<T: Send>(&self, host: char, there: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.name(host)))?;
        let enter = move || {
            let network = rustix::thread::LinkNameSpaceType::Network;
            rustix::thread::move_into_link_name_space(std::os::fd::AsFd::as_fd(&namespace), Some(network))?;
            there()
        };
        let joined = std::thread::scope(|scope| scope.spawn(enter).join());
        joined.map_err(|_| anyhow::anyhow!("a thread failed"))?
    }

    /// A client on a host.
    pub(crate) fn connect(&self, host: char, port: u16) -> Result<TcpStream> {
        self.inside(host, || connect(port)).context("no client")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in ['a', 'b'] {
            let _ = Command::new("ip").args(["netns", "del", &self.name(host)]).status();
        }
    }
}
