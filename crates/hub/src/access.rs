//! Who may connect: listening sockets, networks allowed and denied, and clients counted.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Notify, watch};

use crate::endpoint::{Endpoint, Scheme};
use crate::event::{Event, Events};
use crate::inherited::Inherited;
use crate::limits::Limits;
use crate::opener::Opener;
use crate::own_traffic::{CaptureFilter, Entry, OwnTraffic};

/// Which addresses may connect to a listener.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// `None`: nothing was said, which is only accepted on loopback.
    pub allow: Option<Vec<IpNet>>,
    /// Takes precedence.
    pub deny: Vec<IpNet>,
}

impl Access {
    /// Why a peer of this address may not connect; `None` if it may. IPv4 inside IPv6 counts as IPv4.
    pub fn refuses(&self, peer: IpAddr) -> Option<&'static str> {
        let peer = peer.to_canonical();
        let holds = |network: &IpNet| network.contains(&peer);
        if self.deny.iter().any(holds) {
            return Some("its address is in deny=");
        }
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.iter().any(holds));
        (!allowed).then_some("its address is not in allow=")
    }
}

/// Who may connect to a listener, which may change while it is there. Clones share it.
#[derive(Debug, Clone)]
pub struct LiveAccess {
    access: watch::Sender<Access>,
}

impl LiveAccess {
    /// These may.
    pub fn new(access: Access) -> Self {
        LiveAccess { access: watch::Sender::new(access) }
    }

    /// Why a peer of this address may not connect now; `None` if it may.
    pub fn refuses(&self, peer: IpAddr) -> Option<&'static str> {
        self.access.borrow().refuses(peer)
    }

    /// From now on, these may; whoever is connected and may not any more is told by
    /// [`revoked`](Self::revoked).
    pub fn set(&self, access: Access) {
        self.access.send_if_modified(|now| {
            let changed = *now != access;
            *now = access;
            changed
        });
    }

    /// Returns once a peer of this address may no longer be connected, with the reason.
    pub async fn revoked(&self, peer: IpAddr) -> &'static str {
        let mut access = self.access.subscribe();
        loop {
            let refused = access.borrow_and_update().refuses(peer);
            if let Some(why) = refused {
                return why;
            }
            // `self` holds the sender; an error cannot occur.
            if access.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

/// What can be done about a source or sink while it runs, besides ending it.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    /// Who may connect.
    pub access: Option<LiveAccess>,
    /// The sockets that it listens on, to be handed over to whoever takes its place.
    pub sockets: Option<Arc<dyn Sockets>>,
    /// A live capture's filter in the kernel.
    pub capture: Option<CaptureFilter>,
}

impl Controls {
    /// Its sockets go on under another endpoint.
    pub fn hand_over(&self) {
        if let Some(sockets) = &self.sockets {
            sockets.handed_over();
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

/// How long to rest when the system has no descriptor left: accepting again at once would spin.
pub const REST: Duration = Duration::from_millis(100);

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

/// Counts the clients of all listeners, or the producers of one.
#[derive(Debug, Clone)]
pub struct Clients {
    most: usize,
    most_of_address: usize,
    doubtful: Arc<Mutex<Doubtful>>,
    freed: Arc<Notify>,
    counts: Arc<Mutex<HashMap<Option<IpAddr>, usize>>>,
}

/// Clients who closed their sending side, the longest ago first: most of them only did that, and some
/// are gone, which shows only when there is something to send to them.
#[derive(Debug, Default)]
struct Doubtful {
    next: u64,
    waiting: BTreeMap<u64, Arc<Notify>>,
}

/// A client's entry among the doubtful; dropping it takes it out.
#[derive(Debug)]
pub struct Doubt {
    number: u64,
    told: Arc<Notify>,
    clients: Clients,
}

impl Clients {
    /// The client closed its sending side.
    pub fn doubt(&self) -> Doubt {
        let told = Arc::new(Notify::new());
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        let number = doubtful.next;
        doubtful.next += 1;
        doubtful.waiting.insert(number, told.clone());
        Doubt { number, told, clients: self.clone() }
    }

    /// [Makes room](Self::make_room) and waits until there is; whether there is.
    pub async fn free_a_place(&self) -> bool {
        let freed = self.freed.notified();
        tokio::pin!(freed);
        freed.as_mut().enable();
        // Its task has nothing to do but to end.
        self.make_room() && tokio::time::timeout(Duration::from_secs(1), freed).await.is_ok()
    }

    /// Somebody has no place, or no descriptor: the client that closed its sending side longest ago
    /// has to go. Whether there is one.
    pub fn make_room(&self) -> bool {
        let mut doubtful = self.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.waiting.pop_first().map(|(_, told)| told.notify_one()).is_some()
    }
}

impl Doubt {
    /// Returns when it has to go.
    pub async fn until_told(&self) {
        self.told.notified().await;
    }
}

impl Drop for Doubt {
    fn drop(&mut self) {
        let mut doubtful = self.clients.doubtful.lock().unwrap_or_else(PoisonError::into_inner);
        doubtful.waiting.remove(&self.number);
    }
}

/// Which limit leaves no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// That of all together.
    All,
    /// That of one address.
    Address,
}

impl Full {
    /// For people, where it is about clients.
    pub const fn of_clients(self) -> &'static str {
        match self {
            Full::All => "there are as many clients as --max-clients allows",
            Full::Address => "its address has as many clients as --max-clients-per-address allows",
        }
    }
}

/// A client's place among the counted; dropping it frees the place.
#[derive(Debug)]
pub struct Place {
    address: Option<IpAddr>,
    clients: Clients,
}

impl Clients {
    /// No client yet.
    pub fn new(limits: &Limits) -> Self {
        let (most, most_of_address) = (limits.max_clients, limits.max_clients_per_address);
        Clients {
            most,
            most_of_address,
            doubtful: Arc::default(),
            freed: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// No producer yet. How many there are in all is not this type's affair: of them, a silent one
    /// makes room for another.
    pub fn producers(limits: &Limits) -> Self {
        let (most, most_of_address) = (usize::MAX, limits.max_producers_per_address);
        Clients {
            most,
            most_of_address,
            doubtful: Arc::default(),
            freed: Arc::default(),
            counts: Arc::default(),
        }
    }

    /// A place for a client of this address (`None` for a Unix peer).
    ///
    /// # Errors
    /// Which limit it met.
    pub fn admit(&self, address: Option<IpAddr>) -> Result<Place, Full> {
        let address = address.map(|a| a.to_canonical()).filter(|a| !a.is_loopback());
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.values().sum::<usize>() >= self.most {
            return Err(Full::All);
        }
        if address.is_some() && counts.get(&address).is_some_and(|n| *n >= self.most_of_address) {
            return Err(Full::Address);
        }
        *counts.entry(address).or_default() += 1;
        Ok(Place { address, clients: self.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.clients.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
        drop(counts);
        self.clients.freed.notify_waiters();
    }
}

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

    #[test]
    fn denied_networks_win_and_mapped_addresses_count_as_ipv4() {
        let access = Access {
            allow: Some(vec!["10.0.0.0/8".parse().unwrap()]),
            deny: vec!["10.9.0.0/16".parse().unwrap()],
        };
        assert_eq!(access.refuses("10.1.1.1".parse().unwrap()), None);
        assert_eq!(access.refuses("::ffff:10.1.1.1".parse().unwrap()), None);
        assert_eq!(access.refuses("10.9.1.1".parse().unwrap()), Some("its address is in deny="));
        assert_eq!(access.refuses("11.1.1.1".parse().unwrap()), Some("its address is not in allow="));
    }

    #[test]
    fn an_address_has_its_limit_and_loopback_has_none() {
        let clients =
            Clients::new(&Limits { max_clients: 4, max_clients_per_address: 1, ..Limits::default() });
        let remote = Some("192.0.2.1".parse().unwrap());
        let place = clients.admit(remote).unwrap();
        assert_eq!(clients.admit(remote).unwrap_err(), Full::Address);
        assert!(Full::Address.of_clients().contains("--max-clients-per-address"));
        let local = Some("127.0.0.1".parse().unwrap());
        let _local: Vec<_> = (0..3).map(|_| clients.admit(local).unwrap()).collect();
        assert_eq!(clients.admit(None).unwrap_err(), Full::All);
        assert!(Full::All.of_clients().contains("--max-clients allows"));
        drop(place);
        assert!(clients.admit(remote).is_ok());
    }
}
