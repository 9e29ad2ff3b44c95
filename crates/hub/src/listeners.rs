//! Sockets that clients and producers connect to, where nothing is served in the clear to strangers.
//!
//! A listener in plaintext off loopback is opened only where it was said who may connect. What is
//! accepted comes with its address; whether that may stay is for [`access`](crate::access) to say. A socket
//! outlives its endpoint where another one takes it over ([`Sockets`]).

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::access::Access;
use crate::endpoint::{Endpoint, Scheme};
use crate::event::{Event, Events};
use crate::opener::Opener;
use crate::own_traffic::{Entry, OwnTraffic};

/// Listening sockets of one endpoint, whose traffic no live capture sees.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<TcpListener>,
    own_traffic: OwnTraffic,
    _own: Vec<Entry>,
}

/// Listens on every address that the endpoint's host has.
///
/// # Errors
/// Plaintext off loopback without `allow=`; an address in use, not ours, or not permitted.
pub fn listen(
    opener: &dyn Opener,
    own_traffic: &OwnTraffic,
    endpoint: &Endpoint,
    access: &Access,
) -> Result<Listeners, Refused> {
    let refused = |why: String, usage| Refused { why, permission: false, usage };
    let resolved = endpoint.address.to_socket_addrs();
    let addresses: Vec<SocketAddr> = resolved
        .map_err(|error| refused(format!("cannot listen on {}: {error}", endpoint.address), false))?
        .collect();
    let exposed = addresses.iter().find(|address| is_exposed(address));
    let plain = endpoint.scheme != Scheme::TlsListen;
    if let (true, Some(address), None) = (plain, exposed, &access.allow) {
        return Err(refused(exposed_without_allow(address), true));
    }
    let bound = |address| bind(opener, address);
    let sockets = addresses.into_iter().map(bound).collect::<Result<Vec<_>, _>>()?;
    let bound = sockets.iter().filter_map(|socket| socket.local_addr().ok());
    let own = bound.map(|address| own_traffic.exclude(address)).collect();
    Ok(Listeners { sockets, own_traffic: own_traffic.clone(), _own: own })
}

/// Why a listener was not opened.
#[derive(Debug)]
pub struct Refused {
    /// What failed and what to do.
    pub why: String,
    /// Whether rights were missing.
    pub permission: bool,
    /// Whether it was asked for in a way that is never granted.
    pub usage: bool,
}

impl Listeners {
    /// Where they listen.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect()
    }

    /// The next connection to any of them.
    ///
    /// # Errors
    /// The system has no descriptor or no memory for it. The connection waits; so should the caller,
    /// for [`REST`].
    pub async fn accept(&self, events: &Events) -> io::Result<(TcpStream, SocketAddr)> {
        loop {
            let accepted = std::future::poll_fn(|cx| {
                for listener in &self.sockets {
                    if let std::task::Poll::Ready(accepted) = listener.poll_accept(cx) {
                        let address = || listener.local_addr().map_or_else(|_| "?".into(), |a| a.to_string());
                        return std::task::Poll::Ready(accepted.map_err(|error| (error, address())));
                    }
                }
                std::task::Poll::Pending
            });
            match accepted.await {
                Ok((stream, peer)) => {
                    if let Ok(local) = stream.local_addr() {
                        self.own_traffic.accepted_at(local.ip());
                    }
                    return Ok((stream, peer));
                }
                Err((error, _)) if went_away(&error) => {}
                Err((error, address)) => return Err(failed(events, &address, error)),
            }
        }
    }
}

/// The next connection to a Unix socket.
///
/// # Errors
/// As of [`Listeners::accept`].
pub async fn accept_unix(listener: &UnixListener, events: &Events) -> io::Result<UnixStream> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return Ok(stream),
            Err(error) if went_away(&error) => {}
            Err(error) => return Err(failed(events, "a Unix socket", error)),
        }
    }
}

/// Listening sockets that can be handed over.
pub trait Sockets: std::fmt::Debug + Send + Sync {
    /// Duplicates of them.
    ///
    /// # Errors
    /// There is no descriptor left.
    fn duplicates(&self) -> io::Result<Vec<Inherited>>;

    /// Somebody has them now: what leads to them must stay when they are closed here.
    fn handed_over(&self) {}

    /// Takes away what leads to them, unless somebody else has them now.
    fn remove(&self, _opener: &dyn Opener) {}
}

/// A listening socket of ours from the start, or one that an endpoint had before.
#[derive(Debug)]
pub enum Inherited {
    /// Of TCP.
    Tcp(std::net::TcpListener),
    /// A Unix stream socket.
    Unix(std::os::unix::net::UnixListener),
}

impl Sockets for Listeners {
    fn duplicates(&self) -> io::Result<Vec<Inherited>> {
        let duplicate = |socket: &TcpListener| {
            let socket = socket.as_fd().try_clone_to_owned()?;
            Ok(Inherited::Tcp(socket.into()))
        };
        self.sockets.iter().map(duplicate).collect()
    }
}

/// A listening Unix socket and its name.
#[derive(Debug)]
pub struct UnixSocket {
    /// The socket.
    pub listener: UnixListener,
    /// Its name.
    pub path: PathBuf,
    /// Whether its name is not ours to take away, or not any more.
    kept: AtomicBool,
}

impl UnixSocket {
    /// A socket that was made under this name.
    pub fn new(listener: UnixListener, path: PathBuf) -> Self {
        UnixSocket { listener, path, kept: AtomicBool::new(false) }
    }
}

impl Sockets for UnixSocket {
    fn duplicates(&self) -> io::Result<Vec<Inherited>> {
        Ok(vec![Inherited::Unix(self.listener.as_fd().try_clone_to_owned()?.into())])
    }

    fn handed_over(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    fn remove(&self, opener: &dyn Opener) {
        if !self.kept.swap(true, Ordering::Relaxed) {
            // It may be gone; nothing is lost then.
            let _ = opener.remove_unix(&self.path);
        }
    }
}

/// Whether `HOST:PORT` is this address, or is a name that leads to it. May look the name up.
pub(crate) fn leads_to(text: &str, address: SocketAddr) -> bool {
    text.to_socket_addrs().is_ok_and(|mut addresses| addresses.any(|one| one == address))
}

/// Whether others than this machine can reach it.
pub(crate) fn is_exposed(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Why plaintext is not served there.
pub(crate) fn exposed_without_allow(address: &SocketAddr) -> String {
    format!(
        "{address} is not loopback, and PCAP-over-IP has neither encryption nor a password: \
         say who may connect, e.g. allow=192.168.1.0/24 (--allow 192.168.1.0/24 with serve), \
         allow=any if everyone may; or encrypt: tls-listen:// with the certificates that `pcaphub cert new` makes"
    )
}

fn bind(opener: &dyn Opener, address: SocketAddr) -> Result<TcpListener, Refused> {
    opener.listen_tcp(address).and_then(TcpListener::from_std).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AddrInUse => "; stop the other process or choose another port",
            io::ErrorKind::AddrNotAvailable => "; it is not an address of this machine",
            io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE, choose another",
            _ => "",
        };
        let permission = error.kind() == io::ErrorKind::PermissionDenied;
        let error = if error.kind() == io::ErrorKind::AddrInUse {
            "address in use".into()
        } else {
            error.to_string()
        };
        Refused { why: format!("cannot listen on {address}: {error}{remedy}"), permission, usage: false }
    })
}

/// The peer went away before it was accepted: not worth a line, nor a pause.
fn went_away(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}

fn failed(events: &Events, address: &str, error: io::Error) -> io::Error {
    let remedy = match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::MFILE) => "; raise the limit of open files (ulimit -n, LimitNOFILE=)",
        Some(rustix::io::Errno::NFILE) => "; the whole system has too many open files",
        _ => "",
    };
    events.emit(Event::AcceptFailed { address, why: &format!("{error}{remedy}") });
    error
}

/// How long to rest when the system has no descriptor left: accepting again at once would spin.
pub const REST: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opener::System;

    #[test]
    fn plaintext_off_loopback_is_refused_without_allow() {
        let endpoint = Endpoint::parse("tcp-listen://0.0.0.0:0").unwrap();
        let refused = listen(&System, &OwnTraffic::default(), &endpoint, &Access::default()).unwrap_err();
        assert!(refused.why.contains("--allow 192.168.1.0/24"), "{}", refused.why);
        assert!(refused.why.contains("tls-listen://"), "{}", refused.why);
    }
}
