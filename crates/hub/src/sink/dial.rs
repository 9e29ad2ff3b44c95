//! Sinks that we dial or start: `tcp://`, `tls://`, `unix:`, `exec:`, `sh:`.
//!
//! The subscriber outlives its connections: what was published while the peer was away is
//! delivered when it is back, as far as the ring still has it.

use std::io;
use std::path::Path;
use std::time::Instant;

use tokio::net::{TcpStream, UnixStream};
use tokio::process::ChildStdin;

use super::{Context, Opening, Sink, SinkError};
use crate::deliver::{Care, Greeting, is_refusal, to_peer};
use crate::endpoint::Scheme;
use crate::event::Event;
use crate::opener::{Pipe, set_keepalive};
use crate::pen::{Left, Pen, begin};
use crate::plan::{Reconnect, SinkSpec};
use crate::retry::Backoff;
use crate::shutdown::Phase;
use crate::source::{Child, Pending, connect, exec_argv};
use crate::tls;

struct Dialled {
    spec: SinkSpec,
    argv: Vec<String>,
    /// Set for `tls://`.
    tls: Option<tls::Client>,
}

pub(super) fn open(spec: &SinkSpec, opening: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    let argv = match spec.endpoint.scheme {
        Scheme::Exec | Scheme::Sh => exec_argv(&spec.endpoint),
        _ => Ok(Vec::new()),
    };
    let argv = argv.map_err(|why| SinkError {
        why: format!("{}: {why}", spec.name),
        permission: false,
        usage: true,
    })?;
    let tls = (spec.endpoint.scheme == Scheme::Tls)
        .then(|| tls::Client::open(&spec.endpoint, &spec.tls, &opening.tls))
        .transpose()
        .map_err(|unusable| SinkError::of_tls(spec, unusable))?;
    Ok(Box::new(Dialled { spec: spec.clone(), argv, tls }))
}

impl Sink for Dialled {
    fn run(self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>> {
        let mut pen = context.join(&self.spec.name);
        Box::pin(async move {
            let shutdown = context.shutdown.clone();
            tokio::select! {
                result = self.deliver(&context, &mut pen) => result,
                () = shutdown.reached(Phase::Stopping) => Ok(()),
            }
        })
    }
}

impl Dialled {
    fn is_command(&self) -> bool {
        !self.argv.is_empty()
    }

    async fn deliver(&self, context: &Context, pen: &mut Pen) -> Result<(), String> {
        let mut backoff = Backoff::default();
        loop {
            if begin(pen).await.is_err() {
                return Ok(());
            }
            let started = Instant::now();
            let why = match self.connection(context, pen).await {
                Ok((Left::Feed(_), None)) => return Ok(()),
                // What it was sent is lost, and nothing is left to send.
                Ok((Left::Peer(error), _)) if is_refusal(&error) && pen.subscriber().ring().has_ended() => {
                    return Err(format!("{}: {error}", self.spec.name));
                }
                // Nothing new will come: to start it again would only undo what it did.
                Ok((_, Some(failed))) if self.is_command() && pen.subscriber().has_ended() => {
                    return Err(format!("{}: {failed}", self.spec.name));
                }
                Ok((_, Some(failed))) => failed,
                Ok((left, None)) => left.to_string(),
                Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_command() => {
                    return Err(format!("{}: not installed or not in PATH", self.spec.name));
                }
                Err(error) => format!("cannot connect: {error}"),
            };
            if self.spec.reconnect == Reconnect::No {
                return Err(format!("{}: {why}", self.spec.name));
            }
            let pause = backoff.next_pause(started.elapsed());
            context.away(&why);
            context.events.emit(Event::SinkRetried { sink: &self.spec.name, why: &why, pause });
            tokio::time::sleep(pause).await;
        }
    }

    /// One connection from its beginning to its end; and what went wrong at the other end, if that is
    /// known.
    async fn connection(&self, context: &Context, pen: &mut Pen) -> io::Result<(Left, Option<String>)> {
        let endpoint = &self.spec.endpoint;
        let greeting = Greeting::Ignored;
        let care = Care { patience: context.limits.client_timeout, clients: None, greeting };
        match endpoint.scheme {
            Scheme::Tcp | Scheme::Tls => {
                let own_traffic = &context.own_traffic;
                let (mut stream, _own) =
                    connect(&context.opener, own_traffic, &endpoint.address, self.spec.bind).await?;
                set_keepalive((&stream).into(), context.limits.keepalive)?;
                if let Some(client) = &self.tls {
                    return tls_connection(client, stream, context, pen, care).await;
                }
                context.back();
                let left = {
                    let (reader, writer) = stream.split();
                    to_peer(pen, reader, writer, care).await
                };
                Ok(judged(left, pcaphub_sys::unacknowledged(&stream).unwrap_or(0)))
            }
            Scheme::Unix => {
                let stream = context.opener.connect_unix(Path::new(&endpoint.address))?;
                let mut stream = UnixStream::from_std(stream)?;
                context.back();
                let (reader, writer) = stream.split();
                Ok((to_peer(pen, reader, writer, care).await, None))
            }
            _ => self.child(context, pen, care).await,
        }
    }

    async fn child(
        &self,
        context: &Context,
        pen: &mut Pen,
        care: Care<'_>,
    ) -> io::Result<(Left, Option<String>)> {
        let mut process = context.opener.spawn(&self.argv, Pipe::Stdin)?;
        let stdin = process.stdin.take().ok_or_else(|| io::Error::other("it has no standard input"))?;
        let stdin = ChildStdin::from_std(stdin)?;
        context.back();
        let (events, shutdown) = (context.events.clone(), context.shutdown.clone());
        let child = Child::new(process, self.spec.name.clone(), events, shutdown);
        let left = {
            let mut stdin = stdin;
            to_peer(pen, tokio::io::empty(), &mut stdin, care).await
        };
        let status = child.finished().await;
        let failed = match (&left, status) {
            (_, Some(status)) if !status.success() => Some(format!("the command ended with {status}")),
            // It ended well, without having read everything.
            (Left::Peer(_), _) => Some("the command ended before it had everything".to_owned()),
            _ => None,
        };
        Ok((left, failed))
    }
}

/// The same inside TLS.
async fn tls_connection(
    client: &tls::Client,
    stream: TcpStream,
    context: &Context,
    pen: &mut Pen,
    care: Care<'_>,
) -> io::Result<(Left, Option<String>)> {
    let begun = Instant::now();
    let mut stream = tls::connect(client, stream, context.limits.handshake_timeout).await?;
    tls::settle(&mut stream, begun.elapsed()).await?;
    context.back();
    let (reader, mut writer) = tls::split(stream, context.limits.encrypted_octets());
    let left = to_peer(pen, reader, &mut writer, care).await;
    Ok(judged(left, writer.unacknowledged()))
}

/// How a connection ended, and what of it was lost, if that is known.
fn judged(left: Left, unacknowledged: u32) -> (Left, Option<String>) {
    let lost = matches!(left, Left::Peer(_)) && unacknowledged > 0;
    let why = lost.then(|| format!("{left}, {unacknowledged} octets not acknowledged"));
    (left, why)
}
