//! Sinks that clients connect to: `tcp-listen://`, `tls-listen://` and `unix-listen:`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use pcaphub_core::linktype::LinkType;
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinSet;

use super::{Context, Opening, Sink, SinkError};
use crate::access::{Access, LiveAccess};
use crate::clients::{Full, Place};
use crate::controls::Controls;
use crate::deliver::{Care, Greeting, Peer, Writer, is_speaking_tls, to_peer};
use crate::endpoint::Scheme;
use crate::event::Event;
use crate::listeners::{self, Listeners, Sockets, UnixSocket, accept_unix};
use crate::opener::set_keepalive;
use crate::pen::{Left, Pen, begin};
use crate::plan::SinkSpec;
use crate::shutdown::Phase;
use crate::source::Pending;
use crate::tls::{self, Accepted, Handshakes};

struct Tcp {
    listeners: Arc<Listeners>,
    access: LiveAccess,
    /// Set for `tls-listen://`.
    tls: Option<tls::Server>,
}

pub(super) fn open_tcp(spec: &SinkSpec, opening: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    let access = Access { allow: spec.allow.clone(), deny: spec.deny.clone() };
    let refused = |refused: listeners::Refused| SinkError {
        why: refused.why,
        permission: refused.permission,
        usage: refused.usage,
    };
    let server = (spec.endpoint.scheme == Scheme::TlsListen)
        .then(|| tls::Server::open(&spec.endpoint, &spec.tls, &opening.tls))
        .transpose()
        .map_err(|unusable| SinkError::of_tls(spec, unusable))?;
    let listeners = listeners::listen(opening.opener.as_ref(), &opening.own_traffic, &spec.endpoint, &access)
        .map_err(refused)?;
    for address in listeners.addresses() {
        opening.events.emit(Event::Listening { address: &address.to_string(), role: "clients" });
        let anybody = server.is_some() && spec.tls.client_ca.is_none() && spec.allow.is_none();
        if anybody && !address.ip().to_canonical().is_loopback() {
            opening.events.emit(Event::OpenToAll { address: &address.to_string() });
        }
    }
    let (listeners, access) = (Arc::new(listeners), LiveAccess::new(access));
    Ok(Box::new(Tcp { listeners, access, tls: server }))
}

impl Sink for Tcp {
    fn run(self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>> {
        Box::pin(async move {
            let mut clients = JoinSet::new();
            let mut handshakes = Handshakes::new(&context.limits, context.events.clone());
            loop {
                tokio::select! {
                    (stream, peer) = accepted(|| self.listeners.accept(&context.events), &context) => {
                        if let Some(why) = self.access.refuses(peer.ip()) {
                            context.events.emit(Event::ClientRefused { client: &peer.to_string(), why });
                            continue;
                        }
                        // Neither can fail on a socket that is connected; one that no longer is, is found
                        // by its write.
                        let _ = stream.set_nodelay(true);
                        let _ = set_keepalive((&stream).into(), context.limits.keepalive);
                        match &self.tls {
                            Some(server) => handshakes.begin(stream, peer, server.config()),
                            None => if let Some(place) = admit(&context, peer, &peer.to_string()).await {
                                self.welcome_tcp(stream, peer, place, &context, &mut clients);
                            }
                        }
                    }
                    Some(accepted) = handshakes.next() => {
                        if let Some(place) = admit(&context, accepted.peer, &accepted.shown()).await {
                            self.welcome_tls(accepted, place, &context, &mut clients);
                        }
                    }
                    Some(_) = clients.join_next() => {}
                    () = context.shutdown.reached(Phase::Draining) => break,
                }
            }
            drop((self, handshakes));
            farewell(clients, &context).await;
            Ok(())
        })
    }

    fn listening(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    fn controls(&self) -> Controls {
        let (access, sockets) = (self.access.clone(), self.listeners.clone());
        Controls { access: Some(access), sockets: Some(sockets), capture: None }
    }
}

/// The next connection, however long the system is short of descriptors.
async fn accepted<T, F>(accept: impl Fn() -> F, context: &Context) -> T
where
    F: Future<Output = io::Result<T>>,
{
    loop {
        if let Ok(connection) = accept().await {
            return connection;
        }
        context.clients.make_room();
        tokio::time::sleep(listeners::REST).await;
    }
}

/// A place for a client, for which one that may have gone has to go where there is none.
async fn place(context: &Context, address: Option<IpAddr>) -> Result<Place, Full> {
    match context.clients.admit(address) {
        Err(Full::All) if context.clients.free_a_place().await => context.clients.admit(address),
        admitted => admitted,
    }
}

/// A place for a client, or a line that there is none.
async fn admit(context: &Context, peer: SocketAddr, client: &str) -> Option<Place> {
    let admitted = place(context, Some(peer.ip())).await;
    let refused = |full: &Full| {
        context.events.emit(Event::ClientRefused { client, why: full.of_clients() });
    };
    admitted.inspect_err(refused).ok()
}

impl Tcp {
    /// Ready once a peer may no longer be connected.
    fn revoked(&self, peer: SocketAddr) -> impl Future<Output = &'static str> + Send + 'static {
        let access = self.access.clone();
        async move { access.revoked(peer.ip()).await }
    }

    fn welcome_tcp(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        place: Place,
        context: &Context,
        clients: &mut JoinSet<()>,
    ) {
        let (name, revoked) = (peer.to_string(), self.revoked(peer));
        if let Some(replay) = context.replay.present() {
            replay.welcome(stream.into_std(), name, place, clients, revoked);
            return;
        }
        let mut pen = context.join(&name);
        let context = context.clone();
        clients.spawn(async move {
            let mut stream = stream;
            let (reader, mut writer) = stream.split();
            let left = serve_until(revoked, &mut pen, &name, reader, &mut writer, &context).await;
            let unacknowledged = pcaphub_sys::unacknowledged(writer.as_ref()).unwrap_or(0);
            farewell_to(&pen, &name, &left, unacknowledged, &context);
            drop(place);
        });
    }

    fn welcome_tls(&self, accepted: Accepted, place: Place, context: &Context, clients: &mut JoinSet<()>) {
        let (name, most) = (accepted.shown(), context.limits.encrypted_octets());
        let revoked = self.revoked(accepted.peer);
        if let Some(replay) = context.replay.present() {
            let (socket, connection) = accepted.stream.into_inner();
            let stream = socket.into_std().map(|socket| tls::Blocking::new(socket, connection, most));
            replay.welcome(stream, name, place, clients, revoked);
            return;
        }
        let mut pen = context.join(&name);
        let context = context.clone();
        clients.spawn(async move {
            let (reader, mut writer) = tls::split(accepted.stream.into(), most);
            let left = serve_until(revoked, &mut pen, &name, reader, &mut writer, &context).await;
            farewell_to(&pen, &name, &left, writer.unacknowledged(), &context);
            drop(place);
        });
    }
}

struct Unix {
    socket: Arc<UnixSocket>,
}

pub(super) fn open_unix(spec: &SinkSpec, opening: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    let path = PathBuf::from(&spec.endpoint.address);
    let listener = opening.opener.listen_unix(&path).and_then(UnixListener::from_std);
    let listener = listener.map_err(|error| SinkError::io(spec, "cannot listen", &error))?;
    opening.events.emit(Event::Listening { address: &spec.endpoint.to_string(), role: "clients" });
    Ok(Box::new(Unix { socket: Arc::new(UnixSocket::new(listener, path)) }))
}

impl Sink for Unix {
    fn run(self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>> {
        Box::pin(async move {
            let mut clients = JoinSet::new();
            let mut number = 0u64;
            loop {
                tokio::select! {
                    stream = accepted(|| accept_unix(&self.socket.listener, &context.events), &context) => {
                        number += 1;
                        let name = format!("unix:{}#{number}", self.socket.path.display());
                        match place(&context, None).await {
                            Ok(place) => welcome_unix(stream, name, place, &context, &mut clients),
                            Err(full) => {
                                let why = full.of_clients();
                                context.events.emit(Event::ClientRefused { client: &name, why });
                            }
                        }
                    }
                    Some(_) = clients.join_next() => {}
                    () = context.shutdown.reached(Phase::Draining) => break,
                }
            }
            self.socket.remove(context.opener.as_ref());
            drop(self);
            farewell(clients, &context).await;
            Ok(())
        })
    }

    fn controls(&self) -> Controls {
        Controls { sockets: Some(self.socket.clone()), ..Controls::default() }
    }
}

fn welcome_unix(
    stream: UnixStream,
    name: String,
    place: Place,
    context: &Context,
    clients: &mut JoinSet<()>,
) {
    if let Some(replay) = context.replay.present() {
        replay.welcome(stream.into_std(), name, place, clients, std::future::pending());
        return;
    }
    let mut pen = context.join(&name);
    let context = context.clone();
    clients.spawn(async move {
        let mut stream = stream;
        let (reader, mut writer) = stream.split();
        let left = serve(&mut pen, &name, reader, &mut writer, &context).await;
        farewell_to(&pen, &name, &left, 0, &context);
        drop(place);
    });
}

/// One client, from its header to its end, or until it may no longer be connected.
async fn serve_until<R, W>(
    revoked: impl Future<Output = &'static str>,
    pen: &mut Pen,
    name: &str,
    reader: R,
    writer: &mut W,
    context: &Context,
) -> Left
where
    R: Peer,
    W: Writer,
{
    tokio::select! {
        left = serve(pen, name, reader, writer, context) => left,
        why = revoked => {
            pen.lay_down();
            Left::Peer(io::Error::other(why))
        }
    }
}

/// One client, from its header to its end.
async fn serve<R, W>(pen: &mut Pen, name: &str, reader: R, writer: &mut W, context: &Context) -> Left
where
    R: Peer,
    W: Writer,
{
    context.events.emit(Event::ClientCame { client: name });
    match begin_in_time(pen, context).await {
        Ok(()) => {
            let greeting = Greeting::Refused;
            let (patience, clients) = (context.limits.client_timeout, Some(&context.clients));
            let care = Care { patience, clients, greeting };
            to_peer(pen, reader, writer, care).await
        }
        Err(ending) => Left::Feed(ending),
    }
}

/// Says what a client got. Delivered is what the kernel took; what of that its peer had not
/// acknowledged when it left is said as well.
fn farewell_to(pen: &Pen, name: &str, left: &Left, unacknowledged: u32, context: &Context) {
    if matches!(left, Left::Peer(error) if is_speaking_tls(error)) {
        context.events.emit(Event::SpokeTls { client: name });
    }
    let counts = pen.subscriber().snapshot();
    let (packets, lost) =
        counts.map_or((0, 0), |counts| (counts.delivered, counts.dropped.total() + counts.queued));
    let why = match unacknowledged {
        0 => left.to_string(),
        octets => format!("{left}, {octets} octets not acknowledged"),
    };
    context.events.emit(Event::ClientLeft { client: name, packets, lost, why: &why });
}

/// A header within a second, assumed if need be: some clients freeze until they have it.
async fn begin_in_time(pen: &mut Pen, context: &Context) -> Result<(), pcaphub_core::feed::Ending> {
    let wait: Duration = context.limits.header_wait;
    if let Ok(begun) = tokio::time::timeout(wait, begin(pen)).await {
        return begun;
    }
    context.ring.assume_linktype(LinkType::ETHERNET);
    begin(pen).await
}

/// The feed has ended: clients get what is queued for them, unless the hub gives up.
async fn farewell(mut clients: JoinSet<()>, context: &Context) {
    let all = async { while clients.join_next().await.is_some() {} };
    tokio::select! {
        () = all => {}
        () = context.shutdown.reached(Phase::Stopping) => {}
    }
}
