//! Listening sockets that somebody opened for us before we were started: socket activation.
//!
//! An endpoint that listens on the very address of such a socket gets it, as source or as sink, plain or
//! TLS. What is handed out is a duplicate, so that an endpoint that is opened again gets it again. Nothing
//! else about opening changes.

use std::fmt;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use pcaphub_sys::{Layer, PacketSocket};
use socket2::Socket;

use crate::directory::Directory;
use crate::endpoint::{Endpoint, Scheme};
use crate::listeners::leads_to;
use crate::opener::{Found, Opener, Pipe, Renewal, Spawned, Wire};
use crate::plan::Plan;

pub use crate::listeners::Inherited;

/// Hands out inherited sockets, and has another opener for everything else.
pub struct WithInherited {
    sockets: RwLock<Vec<Entry>>,
    /// Whether the sockets are those of endpoints that a change takes away.
    lent: bool,
    opener: Arc<dyn Opener>,
}

struct Entry {
    socket: Inherited,
    place: Place,
}

/// Where a socket listens.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    Address(SocketAddr),
    Path(PathBuf),
    /// A Unix socket that no path leads to.
    Nameless,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Address(address) => write!(f, "tcp-listen://{address}"),
            Place::Path(path) => write!(f, "unix-listen:{}", path.display()),
            Place::Nameless => f.write_str("a Unix socket without a path"),
        }
    }
}

impl WithInherited {
    /// An opener that has these sockets.
    ///
    /// # Errors
    /// One of them is not listening, or cannot be asked where it is.
    pub fn new(sockets: Vec<Inherited>, opener: Arc<dyn Opener>) -> io::Result<Self> {
        let entry = |socket: Inherited| {
            let (place, listens) = match &socket {
                Inherited::Tcp(tcp) => {
                    tcp.set_nonblocking(true)?;
                    (Place::Address(tcp.local_addr()?), listens(tcp)?)
                }
                Inherited::Unix(unix) => {
                    unix.set_nonblocking(true)?;
                    let path = unix.local_addr()?.as_pathname().map(Path::to_owned);
                    (path.map_or(Place::Nameless, Place::Path), listens(unix)?)
                }
            };
            if !listens {
                return Err(io::Error::other(format!("the inherited socket {place} does not listen")));
            }
            Ok(Entry { socket, place })
        };
        let sockets = sockets.into_iter().map(entry).collect::<Result<_, _>>()?;
        Ok(WithInherited { sockets: RwLock::new(sockets), lent: false, opener })
    }

    /// The same for sockets of endpoints that a change of a running hub takes away.
    ///
    /// # Errors
    /// As of [`new`](Self::new).
    pub(crate) fn lent(sockets: Vec<Inherited>, opener: Arc<dyn Opener>) -> io::Result<Self> {
        Ok(WithInherited { lent: true, ..WithInherited::new(sockets, opener)? })
    }

    /// Closes the sockets here, and has none any more; what was handed out stays open.
    pub fn let_go(&self) {
        self.sockets.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The endpoints that are no source and no sink of a plan: clients who connect there wait in vain. May
    /// look names up.
    pub fn unused(&self, plan: &Plan) -> Vec<String> {
        let is_at = |endpoint: &Endpoint, place: &Place| match (endpoint.scheme, place) {
            (Scheme::TcpListen | Scheme::TlsListen, Place::Address(there)) => {
                leads_to(&endpoint.address, *there)
            }
            (Scheme::UnixListen, Place::Path(path)) => Path::new(&endpoint.address) == path,
            _ => false,
        };
        let unused = |place: &&Place| !plan.endpoints().any(|endpoint| is_at(endpoint, place));
        self.sockets().iter().map(|entry| &entry.place).filter(unused).map(Place::to_string).collect()
    }

    fn sockets(&self) -> RwLockReadGuard<'_, Vec<Entry>> {
        self.sockets.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// A duplicate of the socket of this place, if there is one.
    fn find(&self, wanted: &Place) -> Option<io::Result<Inherited>> {
        let sockets = self.sockets();
        let entry = sockets.iter().find(|entry| entry.place == *wanted)?;
        Some(match &entry.socket {
            Inherited::Tcp(socket) => socket.try_clone().map(Inherited::Tcp),
            Inherited::Unix(socket) => socket.try_clone().map(Inherited::Unix),
        })
    }

    /// The inherited socket in whose way it is to bind this address: one of the same port, and the wildcard
    /// in one of them.
    fn in_the_way(&self, address: SocketAddr) -> Option<SocketAddr> {
        let wildcard = |ip: IpAddr| ip.is_unspecified();
        self.sockets().iter().find_map(|entry| match entry.place {
            Place::Address(there)
                if there.port() == address.port() && (wildcard(there.ip()) || wildcard(address.ip())) =>
            {
                Some(there)
            }
            _ => None,
        })
    }
}

/// Whether a socket listens; it is believed where the system does not say.
fn listens(socket: &impl AsFd) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        socket2::SockRef::from(socket).is_listener()
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        Ok(true)
    }
}

impl Opener for WithInherited {
    fn listen_tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        match self.find(&Place::Address(address)) {
            Some(Ok(Inherited::Tcp(socket))) => return Ok(socket),
            Some(Err(error)) => return Err(error),
            _ => {}
        }
        self.opener.listen_tcp(address).map_err(|error| match self.in_the_way(address) {
            Some(there) if error.kind() == io::ErrorKind::AddrInUse && self.lent => io::Error::other(format!(
                "tcp-listen://{there} of this hub listens at that port until the change is done: take it away in \
                 one reload, and add this in the next"
            )),
            Some(there) if error.kind() == io::ErrorKind::AddrInUse => io::Error::other(format!(
                "the inherited socket is on {there}; give the endpoint that address, or let ListenStream= be {address}"
            )),
            _ => error,
        })
    }

    fn listen_unix(&self, path: &Path) -> io::Result<UnixListener> {
        match self.find(&Place::Path(path.to_owned())) {
            Some(Ok(Inherited::Unix(socket))) => Ok(socket),
            Some(Err(error)) => Err(error),
            _ => self.opener.listen_unix(path),
        }
    }

    fn remove_unix(&self, path: &Path) -> io::Result<()> {
        // Who made it goes on listening there, and starts us again when somebody connects.
        match self.find(&Place::Path(path.to_owned())) {
            Some(_) => Ok(()),
            None => self.opener.remove_unix(path),
        }
    }

    fn read_file(&self, path: &Path) -> io::Result<File> {
        self.opener.read_file(path)
    }

    fn read_file_while(&self, path: &Path, wanted: &dyn Fn() -> bool) -> io::Result<File> {
        self.opener.read_file_while(path, wanted)
    }

    fn write_file(&self, path: &Path) -> io::Result<File> {
        self.opener.write_file(path)
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        self.opener.may_write(path)
    }

    fn directory(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        self.opener.directory(path)
    }

    fn look(&self, path: &Path) -> io::Result<Found> {
        self.opener.look(path)
    }

    fn tcp_socket(&self, remote: SocketAddr, bind: Option<IpAddr>) -> io::Result<Socket> {
        self.opener.tcp_socket(remote, bind)
    }

    fn connect_unix(&self, path: &Path) -> io::Result<UnixStream> {
        self.opener.connect_unix(path)
    }

    fn packet_socket(&self, layer: Layer, interface: &str) -> io::Result<PacketSocket> {
        self.opener.packet_socket(layer, interface)
    }

    fn injector(&self, interface: &str) -> io::Result<Box<dyn Wire>> {
        self.opener.injector(interface)
    }

    fn tap(&self, interface: &str) -> io::Result<Box<dyn Wire>> {
        self.opener.tap(interface)
    }

    fn spawn(&self, argv: &[String], pipe: Pipe) -> io::Result<Spawned> {
        self.opener.spawn(argv, pipe)
    }

    fn renew(&self) -> io::Result<()> {
        self.opener.renew()
    }

    fn settle(&self, renewal: Renewal) {
        self.opener.settle(renewal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;
    use crate::opener::System;
    use crate::{sink, source};

    fn opener(sockets: Vec<Inherited>) -> WithInherited {
        WithInherited::new(sockets, Arc::new(System)).unwrap()
    }

    /// Clients are served at this address, and at no other.
    fn serving(address: &str) -> Plan {
        let endpoint = |text: &str| Endpoint::parse(text).unwrap();
        Plan {
            sources: vec![source::spec(endpoint("demo:")).unwrap()],
            sinks: vec![sink::spec(endpoint(address)).unwrap()],
            ..Plan::default()
        }
    }

    #[test]
    fn a_listener_gets_the_inherited_socket_of_its_address_and_gets_it_again() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let opener = opener(vec![Inherited::Tcp(socket)]);
        drop(opener.listen_tcp(address).unwrap());
        assert_eq!(opener.listen_tcp(address).unwrap().local_addr().unwrap(), address);
    }

    #[test]
    fn sockets_that_a_plan_does_not_name_are_told() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("tcp-listen://{}", socket.local_addr().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.sock");
        let unix = format!("unix-listen:{}", path.display());
        let opener =
            opener(vec![Inherited::Tcp(socket), Inherited::Unix(UnixListener::bind(&path).unwrap())]);
        assert_eq!(opener.unused(&serving(&endpoint)), [unix.as_str()]);
        assert_eq!(opener.unused(&serving(&unix)), [endpoint.as_str()]);
    }

    #[test]
    fn a_socket_in_the_way_of_another_address_is_told() {
        let socket = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let opener = opener(vec![Inherited::Tcp(socket)]);
        let error = opener.listen_tcp(([127, 0, 0, 1], port).into()).unwrap_err().to_string();
        assert!(error.contains(&format!("the inherited socket is on 0.0.0.0:{port}")), "{error}");
        let other = serving(&format!("tcp-listen://127.0.0.1:{port}"));
        assert_eq!(opener.unused(&other), [format!("tcp-listen://0.0.0.0:{port}")]);
    }

    #[test]
    fn an_inherited_unix_socket_is_left_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hub.sock");
        let opener = opener(vec![Inherited::Unix(UnixListener::bind(&path).unwrap())]);
        drop(opener.listen_unix(&path).unwrap());
        opener.remove_unix(&path).unwrap();
        assert!(path.exists());
        let own = folder.path().join("own.sock");
        drop(opener.listen_unix(&own).unwrap());
        opener.remove_unix(&own).unwrap();
        assert!(!own.exists());
    }

    #[test]
    fn a_socket_that_does_not_listen_is_refused() {
        let connected = UnixStream::pair().unwrap().0;
        let socket = Inherited::Unix(std::os::fd::OwnedFd::from(connected).into());
        let error = WithInherited::new(vec![socket], Arc::new(System)).err().unwrap().to_string();
        assert!(error.contains("does not listen"), "{error}");
    }
}
