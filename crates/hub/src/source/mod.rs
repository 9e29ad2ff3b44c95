//! Sources: where capture octets come from. One file per kind of endpoint, and one row in
//! [`SOURCES`] each.
//!
//! Here is what each is to the path: a [`Source`] yields streams, each with a [`Reader`].

mod capture;
mod child;
mod demo;
mod dial;
mod exec;
mod file;
mod hardware;
mod keys;
mod listen;
mod live;
mod table;

pub use child::{Child, split_command};
pub use dial::connect;
pub use exec::argv as exec_argv;
pub use keys::COMMON;
pub(crate) use keys::{SHAPING, shape};
pub(crate) use listen::access_of as access;
pub use table::{Habit, Open, SOURCES, SourceKind, kind, spec};

use std::future::Future;
use std::io::{self, Read};
use std::pin::Pin;
use std::sync::Arc;

use pcaphub_core::batch::Batch;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::stats::DropCounts;
use thiserror::Error;
use tokio::io::AsyncRead;

use crate::clients::Place;
use crate::controls::Controls;
use crate::endpoint::Scheme;
use crate::event::Events;
use crate::limits::Limits;
use crate::opener::Opener;
use crate::own_traffic::{Entry, OwnTraffic};
use crate::plan::{self, SourceSpec};
use crate::shutdown::Shutdown;
use crate::tls::{TlsReloader, Unusable};

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

    /// Whether nothing can come now, because the interface is down.
    fn is_down(&self) -> bool;
}

/// One stream of a source.
pub struct Opened {
    /// Its octets.
    pub reader: Reader,
    /// What its packets' interfaces are named after.
    pub name: Arc<str>,
    /// The child whose output it is.
    pub child: Option<Child>,
    /// Who the producer is: its address, and the name in its certificate if it showed one.
    pub peer: Option<String>,
    /// A producer's place among those of its address.
    pub place: Option<Place>,
    /// Keeps its traffic out of live captures.
    pub own: Option<Entry>,
}

impl Opened {
    /// A stream that is neither a child's nor a producer's.
    pub fn new(reader: Reader, name: Arc<str>) -> Self {
        Opened { reader, name, child: None, peer: None, place: None, own: None }
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
    fn of_tls(spec: &SourceSpec, Unusable { why, permission }: Unusable) -> Self {
        SourceError { source_name: spec.name.to_string(), why, permission, usage: !permission }
    }

    /// Something that is wrong with the endpoint itself.
    pub fn because(spec: &SourceSpec, why: impl Into<String>) -> Self {
        SourceError { source_name: spec.name.to_string(), why: why.into(), permission: false, usage: false }
    }
}

/// A source as what is really opened: a live capture with several rings is as many sources.
pub fn parts(spec: SourceSpec) -> Vec<SourceSpec> {
    let rings = parts_of(&spec);
    if rings == 1 {
        return vec![spec];
    }
    let group = Arc::default();
    let share = |number| plan::Share { number, of: rings, group: Arc::clone(&group) };
    (1..=rings).map(|number| SourceSpec { share: Some(share(number)), ..spec.clone() }).collect()
}

/// How many sources are really opened for these: [`parts`] of all.
pub fn parted(specs: &[SourceSpec]) -> usize {
    specs.iter().map(|spec| usize::from(parts_of(spec))).sum()
}

fn parts_of(spec: &SourceSpec) -> u16 {
    if spec.endpoint.scheme == Scheme::If { live::rings_of(spec) } else { 1 }
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
