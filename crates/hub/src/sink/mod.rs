//! Sinks: where a feed's octets go. One file per kind of endpoint, and one row in [`SINKS`] each;
//! parsing, help and the contract tests go by that table.

mod dial;
mod due;
mod file;
mod inject;
mod listen;
mod null;
mod record;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pcaphub_core::convert::Addresses;
use pcaphub_core::feed::{Announcements, History, Ring, Start, Subscriber};
use pcaphub_core::format::Format;
use pcaphub_core::linktype::LinkType;
use thiserror::Error;

pub(crate) use self::file::{look, replaces};

use crate::clients::Clients;
use crate::clock::Clock;
use crate::controls::Controls;
use crate::endpoint::{Endpoint, Scheme};
use crate::event::{Event, Events};
use crate::gate::Gate;
use crate::limits::Limits;
use crate::opener::Opener;
use crate::own_traffic::OwnTraffic;
use crate::pen::Pen;
use crate::plan::{self, Injection, Key, PlanError, Reading, Reconnect, SinkSpec, TlsOptions};
use crate::private::Present;
use crate::shutdown::Shutdown;
use crate::source::{Pending, SHAPING, shape};
use crate::stats::Books;
use crate::tls::{TlsReloader, Unusable};

/// What a sink is opened with.
#[derive(Clone)]
pub struct Opening {
    /// Through which everything is opened.
    pub opener: Arc<dyn Opener>,
    /// Where to say what happens.
    pub events: Events,
    /// The sockets whose traffic live captures leave out.
    pub own_traffic: OwnTraffic,
    /// What renews certificates.
    pub tls: TlsReloader,
}

/// What a running sink works with.
#[derive(Clone)]
pub struct Context {
    /// The feed it reads from.
    pub ring: Arc<Ring>,
    /// The hub's interfaces.
    pub interfaces: Announcements,
    /// Draining: no new clients, the feed has ended. Stopping: give up.
    pub shutdown: Shutdown,
    /// What holds sources back until somebody is there.
    pub gate: Gate,
    /// Through which everything is opened.
    pub opener: Arc<dyn Opener>,
    /// Where to say what happens.
    pub events: Events,
    /// The clients of all listeners.
    pub clients: Clients,
    /// Bounds.
    pub limits: Arc<Limits>,
    /// The hub's clock.
    pub clock: Clock,
    /// Whether it is the hub's only sink.
    pub alone: bool,
    /// The sockets whose traffic live captures leave out.
    pub own_traffic: OwnTraffic,
    /// What the hub was told, which ends what is paced at once.
    pub told: Shutdown,
    /// Whether every client gets the files from their beginning.
    pub replay: Present,
    /// What its subscribers have in common, of all sinks': its number in the books.
    pub group: u64,
    /// The hub's counts.
    pub books: Books,
    /// A place in the feed that was kept for it until it could start.
    pub reserved: Arc<Mutex<Option<Subscriber>>>,
}

impl Context {
    /// Joins the feed, and lets sources go that waited for somebody to do so.
    pub fn join(&self, name: &str) -> Pen {
        Pen::new(self.subscribe(name), self.interfaces.clone())
    }

    /// The same, without what writes it.
    pub fn subscribe(&self, name: &str) -> Subscriber {
        let reserved = self.reserved.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(reserved) = reserved {
            return reserved;
        }
        let start = match self.ring.options().history {
            History::None => Start::Next,
            _ => Start::History(self.clock.now()),
        };
        let subscriber = Subscriber::join_group(&self.ring, name.into(), start, self.group);
        self.gate.open();
        subscriber
    }

    /// It is away, and will be tried again.
    pub fn away(&self, why: &str) {
        self.books.set_sink_away(self.group, Some(why.to_owned()));
    }

    /// There is no room where it writes, or there is again.
    pub fn full(&self, sink: &str, full: Option<&io::Error>) {
        match full {
            Some(why) => {
                self.away(&why.to_string());
                self.events.emit(Event::SinkFull { sink, why });
            }
            None => {
                self.back();
                self.events.emit(Event::SinkHasRoom { sink });
            }
        }
    }

    /// It is there again.
    pub fn back(&self) {
        self.books.set_sink_away(self.group, None);
    }
}

/// An opened sink.
pub trait Sink: Send {
    /// Delivers until the feed has ended or the sink is told to stop. What went wrong for good
    /// is returned.
    fn run(self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>>;

    /// Where it listens, if it does so at addresses.
    fn listening(&self) -> Vec<SocketAddr> {
        Vec::new()
    }

    /// What can be done about it while it runs.
    fn controls(&self) -> Controls {
        Controls::default()
    }
}

/// Opens a sink of one kind; what fails here is fatal at start.
pub type Open = fn(&SinkSpec, &Opening) -> Result<Box<dyn Sink>, SinkError>;

/// A row of the table.
pub struct SinkKind {
    /// Which endpoints it is for.
    pub scheme: Scheme,
    /// How they are written.
    pub example: &'static str,
    /// What they do, for `--help`.
    pub help: &'static str,
    /// Options besides those that every sink has.
    pub keys: &'static [Key],
    /// Whether it has clients that come and go.
    pub listens: bool,
    /// Opens one.
    pub open: Open,
}

/// Options of every sink.
pub const COMMON: &[Key] = &[
    Key { name: "name", help: "what it is called in messages" },
    Key { name: "format", help: "pcap, pcap-ns or pcapng" },
    Key { name: "on-slow", help: "wait, drop or disconnect" },
    Key { name: "linktype", help: "linktype of the pcap header, before any source is known" },
    Key { name: "dedup", help: "drop packets that came from another source within this time" },
];

const HISTORY: Key = Key { name: "history", help: "what a new client gets of the past: 30s or 64MiB" };
const ALLOW: Key = Key { name: "allow", help: "networks that may connect, or any" };
const DENY: Key = Key { name: "deny", help: "networks that may not" };
const BIND: Key = Key { name: "bind", help: "local address to dial from" };
const RECONNECT: Key = Key { name: "reconnect", help: "error, always or no" };

/// Every kind of sink that is built.
pub static SINKS: &[SinkKind] = &[
    SinkKind {
        scheme: Scheme::File,
        example: "PATH",
        help: "a file; by extension .pcap or .pcapng, with .gz or .zst packed; DIR/ records into rotating files",
        keys: record::KEYS,
        listens: false,
        open: file::open,
    },
    SinkKind {
        scheme: Scheme::Stdio,
        example: "-",
        help: "standard output",
        keys: &[],
        listens: false,
        open: file::open_stdout,
    },
    SinkKind {
        scheme: Scheme::Tcp,
        example: "tcp://HOST[:57012]",
        help: "push to a listening analyzer (NetworkMiner, Arkime, Xplico), and again when it comes back",
        keys: &[BIND, RECONNECT],
        listens: false,
        open: dial::open,
    },
    SinkKind {
        scheme: Scheme::TcpListen,
        example: "tcp-listen://[ADDR][:57012]",
        help: "clients connect to us",
        keys: &[ALLOW, DENY, HISTORY],
        listens: true,
        open: listen::open_tcp,
    },
    SinkKind {
        scheme: Scheme::Tls,
        example: "tls://HOST[:57012]",
        help: "the same inside TLS",
        keys: &[BIND, RECONNECT, plan::CA, plan::SNI, plan::PIN, plan::CERT, plan::KEY, plan::INSECURE],
        listens: false,
        open: dial::open,
    },
    SinkKind {
        scheme: Scheme::TlsListen,
        example: "tls-listen://[ADDR][:57012]",
        help: "the same inside TLS (`pcaphub cert new` makes certificates)",
        keys: &[plan::CERT, plan::KEY, plan::CLIENT_CA, ALLOW, DENY, HISTORY],
        listens: true,
        open: listen::open_tcp,
    },
    SinkKind {
        scheme: Scheme::Unix,
        example: "unix:PATH",
        help: "push to a listening Unix socket",
        keys: &[RECONNECT],
        listens: false,
        open: dial::open,
    },
    SinkKind {
        scheme: Scheme::UnixListen,
        example: "unix-listen:PATH",
        help: "clients connect to our Unix socket",
        keys: &[HISTORY],
        listens: true,
        open: listen::open_unix,
    },
    SinkKind {
        scheme: Scheme::If,
        example: "if:NAME",
        help: "onto a network interface, at a pace (also `pcaphub replay`)",
        keys: inject::KEYS,
        listens: false,
        open: inject::open,
    },
    SinkKind {
        scheme: Scheme::Exec,
        example: "exec:'COMMAND ARG...'",
        help: "the standard input of a command; no shell",
        keys: &[RECONNECT],
        listens: false,
        open: dial::open,
    },
    SinkKind {
        scheme: Scheme::Sh,
        example: "sh:'COMMAND | COMMAND'",
        help: "the same through /bin/sh",
        keys: &[RECONNECT],
        listens: false,
        open: dial::open,
    },
    SinkKind {
        scheme: Scheme::Null,
        example: "null:",
        help: "count and discard",
        keys: &[],
        listens: false,
        open: null::open,
    },
];

/// Schemes that are planned as sinks: which part is missing, and what to use meanwhile.
const NOT_BUILT: &[(Scheme, &str, &str)] = &[(Scheme::Nats, "the message bus", "")];

/// Why a sink could not be set up at start.
#[derive(Debug, Error)]
#[error("{why}")]
pub struct SinkError {
    /// What failed, and what to do.
    pub why: String,
    /// Whether rights were missing.
    pub permission: bool,
    /// Whether it was asked for in a way that is never granted.
    pub usage: bool,
}

impl SinkError {
    /// What is wrong with certificates, or with their files. The operator's fault.
    fn of_tls(spec: &SinkSpec, Unusable { why, permission }: Unusable) -> Self {
        SinkError { why: format!("{}: {why}", spec.name), permission, usage: !permission }
    }

    fn io(spec: &SinkSpec, what: &str, error: &io::Error) -> Self {
        let permission = error.kind() == io::ErrorKind::PermissionDenied;
        SinkError { why: format!("{}: {what}: {error}", spec.name), permission, usage: false }
    }
}

/// The row for an endpoint.
pub fn kind(spec: &SinkSpec) -> Option<&'static SinkKind> {
    SINKS.iter().find(|kind| kind.scheme == spec.endpoint.scheme)
}

/// Reads an endpoint as a sink.
///
/// # Errors
/// A scheme that is no sink or not built, an unknown option, a bad value.
pub fn spec(endpoint: Endpoint) -> Result<SinkSpec, PlanError> {
    let Some(kind) = SINKS.iter().find(|kind| kind.scheme == endpoint.scheme) else {
        return Err(match NOT_BUILT.iter().find(|(scheme, _, _)| *scheme == endpoint.scheme) {
            Some((_, part, instead)) => {
                PlanError::NotBuilt { what: format!("sink {endpoint}"), part, instead }
            }
            None => PlanError::Refused(format!("{endpoint} cannot be a sink, only a source")),
        });
    };
    let injects = endpoint.scheme == Scheme::If;
    let options = Reading::new(&endpoint, &[COMMON, SHAPING, kind.keys])?;
    let name = options.value("name", |text| Ok(text.to_owned()))?;
    let recording = record::recording(&endpoint, &options)?;
    let file = recording.as_ref().map_or(&*endpoint.address, |recording| recording.template.text());
    Ok(SinkSpec {
        name: name.unwrap_or_else(|| endpoint.to_string()).into(),
        format: match options.value("format", plan::format)? {
            Some(format) if !injects => Some(format),
            _ => default_format(endpoint.scheme, file),
        },
        on_slow: options.value("on-slow", plan::on_slow)?,
        history: options.value("history", plan::history)?.unwrap_or(History::None),
        linktype: options.value("linktype", plan::linktype)?.or(injects.then_some(LinkType::ETHERNET)),
        dedup: options.value("dedup", plan::duration)?,
        allow: options.value("allow", plan::networks)?,
        deny: options.value("deny", plan::networks)?.unwrap_or_default(),
        bind: options.value("bind", plan::address)?,
        reconnect: options.value("reconnect", plan::reconnect)?.unwrap_or(Reconnect::Error),
        filter: options.value("filter", |text| Ok(text.to_owned()))?,
        shape: shape(&options)?,
        pace: options.value("pace", plan::pace)?,
        injection: Injection {
            create_tap: options.value("create", plan::create)?.is_some(),
            oversize: options.value("oversize", plan::oversize)?.unwrap_or_default(),
            addresses: Addresses {
                source: options.value("mac-src", plan::station)?,
                destination: options.value("mac-dst", plan::mac)?,
            },
            force: options.value("force", plan::yes_no)?.unwrap_or(false),
        },
        recording,
        tls: TlsOptions::read(&options)?,
        endpoint,
    })
}

/// The format an endpoint has by itself, a file by its extension; `None` for standard output, which takes
/// the source's.
fn default_format(scheme: Scheme, file: &str) -> Option<Format> {
    match scheme {
        Scheme::Stdio => None,
        // To itself: all that there is of a packet's time.
        Scheme::If => Some(Format::PcapNs),
        Scheme::File => {
            let path = file.trim_end_matches(".gz").trim_end_matches(".zst");
            Some(if path.ends_with(".pcapng") || path.ends_with(".ntar") {
                Format::PcapNg
            } else {
                Format::Pcap
            })
        }
        _ => Some(Format::Pcap),
    }
}
