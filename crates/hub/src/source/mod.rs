//! Sources: where capture octets come from. One file per kind of endpoint, and one row in
//! [`SOURCES`] each; parsing, help and the contract tests go by that table.

mod capture;
mod child;
mod demo;
mod dial;
mod exec;
mod file;
mod hardware;
mod listen;
mod live;

pub use child::{Child, split_command};
pub use dial::connect;
pub use exec::argv as exec_argv;
pub(crate) use listen::access_of as access;

use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use pcaphub_core::batch::Batch;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::shape::Shape;
use pcaphub_core::stats::DropCounts;
use thiserror::Error;
use tokio::io::AsyncRead;

use crate::clients::Place;
use crate::controls::Controls;
use crate::endpoint::{Endpoint, Scheme};
use crate::event::Events;
use crate::limits::Limits;
use crate::opener::Opener;
use crate::own_traffic::{Entry, OwnTraffic};
use crate::plan::{self, Key, PlanError, Reading, SourceSpec, TlsOptions};
use crate::shutdown::Shutdown;
use crate::tls::TlsReloader;

/// What capture octets are read from.
pub enum Reader {
    /// Reads on a thread of its own: files, FIFOs, standard input, generators.
    Blocking(Box<dyn Read + Send>),
    /// Reads on a task: sockets and children.
    Async(Box<dyn AsyncRead + Send + Unpin>),
    /// Yields packets that need no decoding, on a thread of its own: live captures.
    Packets(Box<dyn PacketReader>),
}

/// Packets of a live capture.
#[derive(Debug, Default)]
pub struct Captured {
    /// The packets; may be none.
    pub batch: Batch,
    /// Packets that were lost.
    pub dropped: DropCounts,
}

/// Packets as the system hands them over.
pub trait PacketReader: Send {
    /// How they begin.
    fn linktype(&self) -> LinkType;

    /// Waits for packets, for about 100 ms at most. With `last`, nothing new comes in any more: what is
    /// there already, and `None` behind it.
    ///
    /// # Errors
    /// The interface is gone, or of the system.
    fn read(&mut self, interfaces: &mut Interfaces, last: bool) -> io::Result<Option<Captured>>;
}

/// One stream of a source.
pub struct Opened {
    /// Its octets.
    pub reader: Reader,
    /// What its packets' interfaces are named after.
    pub name: Arc<str>,
    /// The child whose output it is.
    pub child: Option<Child>,
    /// A producer's place among those of its address.
    pub place: Option<Place>,
    /// Keeps its traffic out of live captures.
    pub own: Option<Entry>,
}

impl Opened {
    /// A stream that is neither a child's nor a producer's.
    pub fn new(reader: Reader, name: Arc<str>) -> Self {
        Opened { reader, name, child: None, place: None, own: None }
    }
}

/// Why a source cannot be opened now.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The system has no descriptor left for another stream.
    #[error("{0}")]
    Pressed(String),
    /// It may work later: refused, unreachable, not resolved.
    #[error("{0}")]
    Later(String),
    /// It will not work as long as nobody changes something.
    #[error("{0}")]
    Never(String),
}

/// A future on the heap, as a trait that is used through a table must return it.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// An opened source: yields streams, one after the other or side by side.
pub trait Source: Send {
    /// The next stream; waits for it. `None` when there will be none any more.
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>>;

    /// What can be done about it while it runs.
    fn controls(&self) -> Controls {
        Controls::default()
    }
}

/// How a kind of source behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// One stream, and that was it: files, standard input.
    Once,
    /// One stream at a time, opened again when it is gone: dialled sockets, children.
    Again,
    /// Streams side by side: listening sockets.
    Many,
}

/// What a source is opened with.
#[derive(Clone)]
pub struct Context {
    /// Through which everything is opened.
    pub opener: Arc<dyn Opener>,
    /// Where to say what happens.
    pub events: Events,
    /// What stops the hub.
    pub shutdown: Shutdown,
    /// Bounds.
    pub limits: Arc<Limits>,
    /// The sockets whose traffic live captures leave out.
    pub own_traffic: OwnTraffic,
    /// Rings of all live captures together, which share their memory.
    pub rings: usize,
    /// What renews certificates.
    pub tls: TlsReloader,
}

/// Opens a source of one kind; what fails here is fatal at start.
pub type Open = fn(&SourceSpec, &Context) -> Result<Box<dyn Source>, SourceError>;

/// A row of the table.
pub struct SourceKind {
    /// Which endpoints it is for.
    pub scheme: Scheme,
    /// How they are written.
    pub example: &'static str,
    /// What they do, for `--help`.
    pub help: &'static str,
    /// Options besides those that every source has.
    pub keys: &'static [Key],
    /// Whether it yields one stream or several.
    pub habit: Habit,
    /// Whether it can be paused without losing packets.
    pub can_wait: bool,
    /// Whether its packets are kept back until somebody is there to read them.
    pub waits_for_reader: bool,
    /// Opens one.
    pub open: Open,
}

const NAME: Key = Key { name: "name", help: "what it is called, also as pcapng interface name" };
const LINKTYPE: Key =
    Key { name: "linktype", help: "linktype of classic pcap streams, whatever their header says" };
const CLOCK_OFFSET: Key = Key { name: "clock-offset", help: "added to every packet's time, e.g. -1.5s" };
const RECONNECT: Key = Key { name: "reconnect", help: "error, always or no" };
const FILTER: Key = Key { name: "filter", help: "which packets, as tcpdump has it: 'tcp port 80' (-f)" };
const SNAPLEN: Key = Key { name: "snaplen", help: "octets of each packet that are kept (-s)" };
const SAMPLE: Key = Key { name: "sample", help: "1/N: one packet in N" };
const COUNT: Key = Key { name: "count", help: "so many packets, and then no more" };
const TIME: Key = Key { name: "time", help: "now: packets get the time at which they pass; keep their own" };
const PACE: Key = Key { name: "pace", help: "1x is the original speed, 10x, 100kpps, 50Mbit, max" };
const LOOP: Key = Key { name: "loop", help: "how often it is read, or forever; times move on" };
const ALLOW: Key = Key { name: "allow", help: "networks that may connect, or any" };
const DENY: Key = Key { name: "deny", help: "networks that may not" };
const BIND: Key = Key { name: "bind", help: "local address to dial from" };

/// Options of every source.
pub const COMMON: &[Key] = &[NAME, LINKTYPE, CLOCK_OFFSET, FILTER, SNAPLEN, SAMPLE, COUNT, TIME, PACE];

/// Options that every sink has, too.
pub(crate) const SHAPING: &[Key] = &[FILTER, SNAPLEN, SAMPLE, COUNT, TIME, PACE];

/// What is to be kept of an endpoint's packets.
///
/// # Errors
/// A value that cannot be read.
pub(crate) fn shape(options: &Reading<'_>) -> Result<Shape, PlanError> {
    Ok(Shape {
        sample: options.value("sample", plan::sample)?,
        count: options.value("count", plan::count)?,
        snaplen: options.value("snaplen", plan::snaplen)?,
        time: options.value("time", plan::time)?.unwrap_or_default(),
    })
}

/// Every kind of source that is built.
pub static SOURCES: &[SourceKind] = &[
    SourceKind {
        scheme: Scheme::File,
        example: "PATH",
        help: "a pcap or pcapng file, also .gz, .zst, .lz4, or a FIFO",
        keys: &[LOOP],
        habit: Habit::Once,
        can_wait: true,
        waits_for_reader: true,
        open: file::open,
    },
    SourceKind {
        scheme: Scheme::Stdio,
        example: "-",
        help: "standard input",
        keys: &[],
        habit: Habit::Once,
        can_wait: true,
        waits_for_reader: true,
        open: file::open_stdin,
    },
    SourceKind {
        scheme: Scheme::Tcp,
        example: "tcp://HOST[:57012]",
        help: "dial a PCAP-over-IP listener, and dial again when it goes away",
        keys: &[RECONNECT, BIND],
        habit: Habit::Again,
        can_wait: true,
        waits_for_reader: false,
        open: dial::open_tcp,
    },
    SourceKind {
        scheme: Scheme::TcpListen,
        example: "tcp-listen://[ADDR][:57012]",
        help: "producers connect to us",
        keys: &[RECONNECT, ALLOW, DENY],
        habit: Habit::Many,
        can_wait: true,
        waits_for_reader: false,
        open: listen::open_tcp,
    },
    SourceKind {
        scheme: Scheme::Tls,
        example: "tls://HOST[:57012]",
        help: "the same inside TLS",
        keys: &[RECONNECT, BIND, plan::CA, plan::SNI, plan::PIN, plan::CERT, plan::KEY, plan::INSECURE],
        habit: Habit::Again,
        can_wait: true,
        waits_for_reader: false,
        open: dial::open_tcp,
    },
    SourceKind {
        scheme: Scheme::TlsListen,
        example: "tls-listen://[ADDR][:57012]",
        help: "the same inside TLS (`pcaphub cert new` makes certificates)",
        keys: &[plan::CERT, plan::KEY, plan::CLIENT_CA, RECONNECT, ALLOW, DENY],
        habit: Habit::Many,
        can_wait: true,
        waits_for_reader: false,
        open: listen::open_tcp,
    },
    SourceKind {
        scheme: Scheme::Unix,
        example: "unix:PATH",
        help: "connect to a Unix socket",
        keys: &[RECONNECT],
        habit: Habit::Again,
        can_wait: true,
        waits_for_reader: false,
        open: dial::open_unix,
    },
    SourceKind {
        scheme: Scheme::UnixListen,
        example: "unix-listen:PATH",
        help: "producers connect to our Unix socket",
        keys: &[RECONNECT],
        habit: Habit::Many,
        can_wait: true,
        waits_for_reader: false,
        open: listen::open_unix,
    },
    SourceKind {
        scheme: Scheme::If,
        example: "if:NAME",
        help: "live capture on an interface, or on all: if:any (also -i NAME)",
        keys: live::KEYS,
        habit: Habit::Again,
        can_wait: false,
        waits_for_reader: false,
        open: live::open,
    },
    SourceKind {
        scheme: Scheme::Exec,
        example: "exec:'COMMAND ARG...'",
        help: "what a command writes to standard output; no shell",
        keys: &[RECONNECT],
        habit: Habit::Again,
        can_wait: true,
        waits_for_reader: true,
        open: exec::open,
    },
    SourceKind {
        scheme: Scheme::Sh,
        example: "sh:'COMMAND | COMMAND'",
        help: "the same through /bin/sh",
        keys: &[RECONNECT],
        habit: Habit::Again,
        can_wait: true,
        waits_for_reader: true,
        open: exec::open,
    },
    SourceKind {
        scheme: Scheme::Demo,
        example: "demo:?rate=1000",
        help: "synthetic traffic: DNS, HTTP, TLS …",
        keys: demo::KEYS,
        habit: Habit::Once,
        can_wait: true,
        waits_for_reader: true,
        open: demo::open,
    },
];

/// Schemes that are planned as sources: which part is missing, and what to use meanwhile.
const NOT_BUILT: &[(Scheme, &str, &str)] =
    &[(Scheme::Nats, "the message bus", ""), (Scheme::Intercept, "the TLS-decrypting proxy", "")];

/// Why a source could not be set up at start.
#[derive(Debug, Error)]
#[error("source {source_name}: {why}")]
pub struct SourceError {
    /// Which.
    pub source_name: String,
    /// What failed, and what to do.
    pub why: String,
    /// Whether rights were missing.
    pub permission: bool,
    /// Whether it was asked for in a way that is never granted.
    pub usage: bool,
}

impl SourceError {
    /// An error of the system while opening `spec`.
    pub fn io(spec: &SourceSpec, what: &str, error: &io::Error) -> Self {
        let permission = error.kind() == io::ErrorKind::PermissionDenied;
        SourceError {
            source_name: spec.name.to_string(),
            why: format!("{what}: {error}"),
            permission,
            usage: false,
        }
    }

    /// What is wrong with certificates, or with their files. The operator's fault.
    fn of_tls(spec: &SourceSpec, why: String) -> Self {
        SourceError { source_name: spec.name.to_string(), why, permission: false, usage: true }
    }

    /// Something that is wrong with the endpoint itself.
    pub fn because(spec: &SourceSpec, why: impl Into<String>) -> Self {
        SourceError { source_name: spec.name.to_string(), why: why.into(), permission: false, usage: false }
    }
}

/// The row for an endpoint.
pub fn kind(spec: &SourceSpec) -> Option<&'static SourceKind> {
    SOURCES.iter().find(|kind| kind.scheme == spec.endpoint.scheme)
}

/// Reads an endpoint as a source.
///
/// # Errors
/// A scheme that is no source or not built, an unknown option, a bad value.
pub fn spec(endpoint: Endpoint) -> Result<SourceSpec, PlanError> {
    let Some(kind) = SOURCES.iter().find(|kind| kind.scheme == endpoint.scheme) else {
        return Err(match NOT_BUILT.iter().find(|(scheme, _, _)| *scheme == endpoint.scheme) {
            Some((_, part, instead)) => {
                PlanError::NotBuilt { what: format!("source {endpoint}"), part, instead }
            }
            None => {
                PlanError::Refused(format!("{endpoint} cannot be a source, only a sink (--to {endpoint})"))
            }
        });
    };
    let options = Reading::new(&endpoint, &[COMMON, kind.keys])?;
    let name = options.value("name", |text| Ok(text.to_owned()))?;
    let named = name.is_some();
    // Those of listening ones are read again when they listen.
    options.value("allow", plan::networks)?;
    options.value("deny", plan::networks)?;
    let spec = SourceSpec {
        named,
        name: name.unwrap_or_else(|| default_name(&endpoint)).into(),
        reconnect: options.value("reconnect", plan::reconnect)?,
        linktype: options.value("linktype", plan::linktype)?,
        clock_offset: options.value("clock-offset", plan::offset)?.unwrap_or(0),
        bind: options.value("bind", plan::address)?,
        filter: options.value("filter", |text| Ok(text.to_owned()))?,
        shape: shape(&options)?,
        pace: options.value("pace", plan::pace)?,
        repeat: options.value("loop", plan::repeat)?.unwrap_or(1),
        share: None,
        regular: false,
        tls: TlsOptions::read(&options)?,
        endpoint,
    };
    match spec.endpoint.scheme {
        Scheme::Demo => demo::check(&spec)?,
        Scheme::If => live::check(&spec)?,
        _ => {}
    }
    Ok(spec)
}

/// What a source is called that was given no name.
fn default_name(endpoint: &Endpoint) -> String {
    match endpoint.scheme {
        Scheme::Stdio => "stdin".into(),
        Scheme::Demo => "demo".into(),
        _ => endpoint.to_string(),
    }
}

/// A source as what is really opened: a live capture with several rings is as many sources.
pub fn parts(spec: SourceSpec) -> Vec<SourceSpec> {
    let rings = if spec.endpoint.scheme == Scheme::If { live::rings_of(&spec) } else { 1 };
    if rings == 1 {
        return vec![spec];
    }
    let group = Arc::default();
    let share = |number| plan::Share { number, of: rings, group: Arc::clone(&group) };
    (1..=rings).map(|number| SourceSpec { share: Some(share(number)), ..spec.clone() }).collect()
}

/// How many rings these sources have in all.
pub fn rings(specs: &[SourceSpec]) -> usize {
    specs.iter().filter(|spec| spec.endpoint.scheme == Scheme::If).count()
}

/// The memory in which the kernel puts packets of a live capture, one of so many rings; `None` for other
/// sources.
pub fn ring_octets(spec: &SourceSpec, limits: &Limits, rings: usize) -> Option<usize> {
    (spec.endpoint.scheme == Scheme::If).then(|| live::ring_octets(spec, limits, rings))
}

/// Whether it never has nothing to read: a regular file, as fast as possible.
pub fn is_all_there(spec: &SourceSpec) -> bool {
    spec.pace.is_none() && is_regular_file(spec)
}

/// Whether it is a regular file, whose packets are all there already.
pub fn is_regular_file(spec: &SourceSpec) -> bool {
    spec.regular
}

/// Looks which sources are regular files.
pub fn look(sources: &mut [SourceSpec], opener: &dyn Opener) {
    for spec in sources {
        spec.regular = file::is_regular(spec, opener);
    }
}
