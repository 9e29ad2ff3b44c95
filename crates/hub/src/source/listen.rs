//! Sockets that producers connect to: `tcp-listen://`, `tls-listen://` and `unix-listen:`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixListener;

use super::keys::COMMON;
use super::{Context, OpenError, Opened, Pending, Reader, Source, SourceError};
use crate::access::{Access, LiveAccess};
use crate::clients::Clients;
use crate::controls::Controls;
use crate::endpoint::Endpoint;
use crate::endpoint::Scheme;
use crate::event::{Event, Events};
use crate::listeners::{self, Listeners, Sockets, UnixSocket};
use crate::opener::{Opener, set_keepalive};
use crate::plan::{self, Reading, SourceSpec};
use crate::tls::{self, Accepted, Handshakes};

struct Tcp {
    name: Arc<str>,
    named: bool,
    listeners: Arc<Listeners>,
    access: LiveAccess,
    producers: Clients,
    keepalive: Duration,
    events: Events,
    /// Set for `tls-listen://`.
    tls: Option<tls::Server>,
    handshakes: Handshakes,
}

pub(super) fn open_tcp(spec: &SourceSpec, context: &Context) -> Result<Box<dyn Source>, SourceError> {
    let access = access_of(&spec.endpoint).map_err(|why| SourceError::because(spec, why))?;
    let server = (spec.endpoint.scheme == Scheme::TlsListen)
        .then(|| tls::Server::open(&spec.endpoint, &spec.tls, &context.tls))
        .transpose()
        .map_err(|unusable| SourceError::of_tls(spec, unusable))?;
    let bound = listeners::listen(context.opener.as_ref(), &context.own_traffic, &spec.endpoint, &access);
    let listeners = bound.map_err(|refused| SourceError {
        source_name: spec.name.to_string(),
        permission: refused.permission,
        usage: refused.usage,
        why: refused.why,
    })?;
    for address in listeners.addresses() {
        context.events.emit(Event::Listening { address: &address.to_string(), role: "producers" });
    }
    Ok(Box::new(Tcp {
        name: spec.name.clone(),
        named: spec.named,
        listeners: Arc::new(listeners),
        access: LiveAccess::new(access),
        producers: Clients::producers(&context.limits),
        keepalive: context.limits.keepalive,
        events: context.events.clone(),
        tls: server,
        handshakes: Handshakes::new(&context.limits, context.events.clone()),
    }))
}

/// Who may connect to an endpoint.
///
/// # Errors
/// A value that cannot be read.
pub(crate) fn access_of(endpoint: &Endpoint) -> Result<Access, String> {
    let keys =
        super::SOURCES.iter().find(|kind| kind.scheme == endpoint.scheme).map_or(&[][..], |kind| kind.keys);
    let read = || {
        let options = Reading::new(endpoint, &[COMMON, keys])?;
        let deny = options.value("deny", plan::networks)?.unwrap_or_default();
        Ok::<_, plan::PlanError>(Access { allow: options.value("allow", plan::networks)?, deny })
    };
    read().map_err(|error| error.to_string())
}

impl Tcp {
    fn refuse(&self, peer: &str, why: &str) {
        self.events.emit(Event::ProducerRefused { source: &self.name, peer, why });
    }

    /// A producer's stream, if it may have one.
    fn admit(&self, peer: SocketAddr, shown: &str, reader: impl FnOnce() -> Reader) -> Option<Opened> {
        let Ok(place) = self.producers.admit(Some(peer.ip())) else {
            self.refuse(shown, "its address has as many producers as --max-producers-per-address allows");
            return None;
        };
        let name = if self.named { self.name.clone() } else { shown.into() };
        let peer = Some(shown.to_owned());
        Some(Opened { peer, place: Some(place), ..Opened::new(reader(), name) })
    }

    /// A producer's stream, which ends when its address may no longer connect.
    fn revocable<S>(&self, peer: SocketAddr, stream: S) -> Revocable<S> {
        let access = self.access.clone();
        Revocable { stream, revoked: Box::pin(async move { access.revoked(peer.ip()).await }) }
    }

    fn secured(&self, accepted: Accepted) -> Option<Opened> {
        // By address, not by port: a producer that comes back finds its interfaces.
        let shown = accepted.with_name(accepted.peer.ip().to_canonical().to_string());
        let (peer, stream) = (accepted.peer, accepted.stream);
        let name: Arc<str> = shown.as_str().into();
        self.admit(peer, &shown, || {
            let (reader, _) = tls::split(stream.into(), 0);
            let reader = reader.of_source(self.events.clone(), name);
            Reader::Async(Box::new(self.revocable(peer, reader)))
        })
    }
}

impl Source for Tcp {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        Box::pin(async {
            loop {
                let accepted = tokio::select! {
                    accepted = self.listeners.accept(&self.events) => accepted,
                    Some(accepted) = self.handshakes.next() => {
                        if let Some(opened) = self.secured(accepted) {
                            return Ok(Some(opened));
                        }
                        continue;
                    }
                };
                let (stream, peer) = accepted.map_err(|error| OpenError::Pressed(error.to_string()))?;
                if let Some(why) = self.access.refuses(peer.ip()) {
                    self.refuse(&peer.to_string(), why);
                    continue;
                }
                let _ = set_keepalive((&stream).into(), self.keepalive);
                if let Some(server) = &self.tls {
                    self.handshakes.begin(stream, peer, server.config());
                    continue;
                }
                let shown = peer.ip().to_canonical().to_string();
                let stream = self.revocable(peer, stream);
                if let Some(opened) = self.admit(peer, &shown, || Reader::Async(Box::new(stream))) {
                    return Ok(Some(opened));
                }
            }
        })
    }

    fn controls(&self) -> Controls {
        let (access, sockets) = (self.access.clone(), self.listeners.clone());
        Controls { access: Some(access), sockets: Some(sockets), capture: None }
    }
}

/// A producer's stream, until its address may no longer connect.
struct Revocable<S> {
    stream: S,
    revoked: Pin<Box<dyn Future<Output = &'static str> + Send>>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Revocable<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(why) = self.revoked.as_mut().poll(cx) {
            return Poll::Ready(Err(io::Error::other(why)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

struct Unix {
    name: Arc<str>,
    socket: Arc<UnixSocket>,
    opener: Arc<dyn Opener>,
    events: Events,
}

impl Drop for Unix {
    fn drop(&mut self) {
        self.socket.remove(self.opener.as_ref());
    }
}

pub(super) fn open_unix(spec: &SourceSpec, context: &Context) -> Result<Box<dyn Source>, SourceError> {
    let path = std::path::Path::new(&spec.endpoint.address);
    let listener = context.opener.listen_unix(path).and_then(UnixListener::from_std);
    let listener = listener.map_err(|error| SourceError::io(spec, "cannot listen", &error))?;
    context.events.emit(Event::Listening { address: &spec.endpoint.to_string(), role: "producers" });
    Ok(Box::new(Unix {
        name: spec.name.clone(),
        socket: Arc::new(UnixSocket::new(listener, path.to_owned())),
        opener: context.opener.clone(),
        events: context.events.clone(),
    }))
}

impl Source for Unix {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        Box::pin(async {
            let accepted = listeners::accept_unix(&self.socket.listener, &self.events).await;
            let stream = accepted.map_err(|error| OpenError::Pressed(error.to_string()))?;
            let reader = Reader::Async(Box::new(stream));
            Ok(Some(Opened::new(reader, self.name.clone())))
        })
    }

    fn controls(&self) -> Controls {
        Controls { sockets: Some(self.socket.clone()), ..Controls::default() }
    }
}
