//! Sockets that we dial: `tcp://`, `tls://` and `unix:`.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::task::JoinSet;

use super::{Context, OpenError, Opened, Pending, Reader, Source, SourceError};
use crate::endpoint::Scheme;
use crate::event::Events;
use crate::opener::{Opener, set_keepalive};
use crate::own_traffic::{Entry, OwnTraffic};
use crate::plan::SourceSpec;
use crate::tls;

/// How long one address gets before the next one of the same name is tried as well (RFC 8305,
/// section 5).
const STAGGER: Duration = Duration::from_millis(250);
/// How long all addresses of a name get together.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Connects to `address` (`HOST:PORT`): every address that the name has, the next one a quarter
/// of a second after the last; the first that answers wins.
///
/// # Errors
/// What the last address said, or that the name has none, or that none answered within 10 s.
pub async fn connect(
    opener: &Arc<dyn Opener>,
    own_traffic: &OwnTraffic,
    address: &str,
    bind: Option<IpAddr>,
) -> io::Result<(TcpStream, Entry)> {
    let attempts = async {
        let resolved: Vec<SocketAddr> = lookup_host(address).await?.collect();
        race(opener, own_traffic, resolved, bind).await
    };
    let timed_out = || io::Error::new(io::ErrorKind::TimedOut, "no answer within 10 s");
    tokio::time::timeout(TIMEOUT, attempts).await.unwrap_or_else(|_| Err(timed_out()))
}

async fn race(
    opener: &Arc<dyn Opener>,
    own_traffic: &OwnTraffic,
    addresses: Vec<SocketAddr>,
    bind: Option<IpAddr>,
) -> io::Result<(TcpStream, Entry)> {
    let same_family = |a: &SocketAddr| bind.is_none_or(|bind| bind.is_ipv4() == a.is_ipv4());
    let mut addresses = addresses.into_iter().filter(same_family);
    let mut attempts = JoinSet::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address that fits");
    loop {
        let next = addresses.next();
        let more = next.is_some();
        if let Some(address) = next {
            let (opener, own_traffic) = (opener.clone(), own_traffic.clone());
            attempts.spawn(async move { dial(opener.as_ref(), &own_traffic, address, bind).await });
        }
        let pause = if more { STAGGER } else { TIMEOUT };
        match tokio::time::timeout(pause, attempts.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => failure = error,
            Ok(None) if !more => return Err(failure),
            _ => {}
        }
    }
}

async fn dial(
    opener: &dyn Opener,
    own_traffic: &OwnTraffic,
    address: SocketAddr,
    bind: Option<IpAddr>,
) -> io::Result<(TcpStream, Entry)> {
    let socket = opener.tcp_socket(address, bind)?;
    // Before it connects: no capture of ours sees a packet of it.
    let bound = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let own = own_traffic.exclude(bound);
    let stream = tokio::net::TcpSocket::from_std_stream(socket.into()).connect(address).await?;
    own.narrow(stream.local_addr()?);
    stream.set_nodelay(true)?;
    Ok((stream, own))
}

struct Tcp {
    name: Arc<str>,
    address: String,
    bind: Option<IpAddr>,
    keepalive: Duration,
    opener: Arc<dyn Opener>,
    own_traffic: OwnTraffic,
    /// Set for `tls://`, with what the handshake gets.
    tls: Option<(tls::Client, Duration)>,
    events: Events,
}

pub(super) fn open_tcp(spec: &SourceSpec, context: &Context) -> Result<Box<dyn Source>, SourceError> {
    let client = (spec.endpoint.scheme == Scheme::Tls)
        .then(|| tls::Client::open(&spec.endpoint, &spec.tls, &context.tls))
        .transpose()
        .map_err(|unusable| SourceError::of_tls(spec, unusable))?;
    Ok(Box::new(Tcp {
        name: spec.name.clone(),
        address: spec.endpoint.address.clone(),
        bind: spec.bind,
        keepalive: context.limits.keepalive,
        opener: context.opener.clone(),
        own_traffic: context.own_traffic.clone(),
        tls: client.map(|client| (client, context.limits.handshake_timeout)),
        events: context.events.clone(),
    }))
}

impl Tcp {
    async fn open(&self) -> std::io::Result<(Reader, Entry)> {
        let (stream, own) = connect(&self.opener, &self.own_traffic, &self.address, self.bind).await?;
        // Fails only where the connection is gone already, which reading finds.
        let _ = set_keepalive((&stream).into(), self.keepalive);
        let Some((client, time)) = &self.tls else { return Ok((Reader::Async(Box::new(stream)), own)) };
        let stream = tls::connect(client, stream, *time).await?;
        let (reader, _) = tls::split(stream, 0);
        let reader = reader.of_source(self.events.clone(), self.name.clone());
        Ok((Reader::Async(Box::new(reader)), own))
    }
}

impl Source for Tcp {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        Box::pin(async {
            match self.open().await {
                Ok((reader, own)) => {
                    Ok(Some(Opened { own: Some(own), ..Opened::new(reader, self.name.clone()) }))
                }
                Err(error) => Err(OpenError::Later(format!("cannot connect: {error}"))),
            }
        })
    }
}

struct Unix {
    name: Arc<str>,
    path: PathBuf,
    opener: Arc<dyn Opener>,
}

pub(super) fn open_unix(spec: &SourceSpec, context: &Context) -> Result<Box<dyn Source>, SourceError> {
    let path = PathBuf::from(&spec.endpoint.address);
    Ok(Box::new(Unix { name: spec.name.clone(), path, opener: context.opener.clone() }))
}

impl Source for Unix {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        let stream = self.opener.connect_unix(&self.path).and_then(UnixStream::from_std);
        let opened = stream.map(|stream| {
            let reader = Reader::Async(Box::new(stream));
            Some(Opened::new(reader, self.name.clone()))
        });
        let failed = |error| OpenError::Later(format!("cannot connect: {error}"));
        Box::pin(std::future::ready(opened.map_err(failed)))
    }
}
