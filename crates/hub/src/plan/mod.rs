//! What a hub is to do, as types: everything that was text on the command line is read here.

mod tls;
mod values;

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipnet::IpNet;
use pcaphub_core::convert::Addresses;
use pcaphub_core::feed::{History, OnSlow};
use pcaphub_core::format::Format;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::merge::Order;
use pcaphub_core::pace::Pace;
use pcaphub_core::shape::Shape;
use thiserror::Error;

use crate::endpoint::{Endpoint, EndpointError};
use crate::limits::Limits;
use crate::recording::Recording;

pub(crate) use tls::{CA, CERT, CLIENT_CA, INSECURE, KEY, PIN, SNI};
pub use tls::{Pin, TlsOptions, pins};
pub use values::*;

/// Sources, sinks, and how they are put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// At least one.
    pub sources: Vec<SourceSpec>,
    /// At least one.
    pub sinks: Vec<SinkSpec>,
    /// `None`: by time where there are several sources, else as they come.
    pub order: Option<Order>,
    /// How long the merge waits for a source that has nothing to read.
    pub hold: Duration,
    /// What dialled sources do that do not say it themselves.
    pub reconnect: Reconnect,
    /// Stop after this many packets.
    pub count: Option<u64>,
    /// Stop after this time.
    pub duration: Option<Duration>,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Plan {
    /// No source and no sink yet; everything else as where nobody says it.
    fn default() -> Self {
        Plan {
            sources: Vec::new(),
            sinks: Vec::new(),
            order: None,
            hold: Duration::from_millis(100),
            reconnect: Reconnect::Always,
            count: None,
            duration: None,
            limits: Limits::default(),
        }
    }
}

impl Plan {
    /// The endpoints of all sources and sinks.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let sources = self.sources.iter().map(|source| &source.endpoint);
        sources.chain(self.sinks.iter().map(|sink| &sink.endpoint))
    }
}

/// One source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceSpec {
    /// Where its octets come from.
    pub endpoint: Endpoint,
    /// What it is called: `name=`, else its endpoint.
    pub name: Arc<str>,
    /// Whether the operator chose the name.
    pub named: bool,
    /// When to open it again; `None`: the plan's.
    pub reconnect: Option<Reconnect>,
    /// The linktype of its classic pcap streams, whatever their header says.
    pub linktype: Option<LinkType>,
    /// Added to every packet's time, in nanoseconds.
    pub clock_offset: i64,
    /// The local address to dial from.
    pub bind: Option<IpAddr>,
    /// Which of its packets are wanted, in the language of pcap-filter(7).
    pub filter: Option<String>,
    /// What is kept of its packets.
    pub shape: Shape,
    /// How fast they go; `None`: as fast as they come.
    pub pace: Option<Pace>,
    /// How often a file is read; 0 is for ever.
    pub repeat: u64,
    /// Which of the rings of a live capture it is.
    pub share: Option<Share>,
    /// Whether it is a regular file; looked up when the hub is opened.
    pub regular: bool,
    /// What it says about TLS.
    pub tls: TlsOptions,
}

impl SourceSpec {
    /// What it is called in the counts, where several rings have one name.
    pub fn shown_name(&self) -> String {
        match &self.share {
            Some(share) => format!("{} ring {} of {}", self.name, share.number, share.of),
            None => self.name.to_string(),
        }
    }
}

/// One of several rings that share an interface's packets.
#[derive(Debug, Clone)]
pub struct Share {
    /// Which, from 1.
    pub number: u16,
    /// Of how many.
    pub of: u16,
    /// The kernel's id of their group, once the first is open.
    pub group: Arc<Mutex<Option<u16>>>,
}

impl PartialEq for Share {
    /// Whether it is the same part; the group is what a running capture found out.
    fn eq(&self, other: &Self) -> bool {
        (self.number, self.of) == (other.number, other.of)
    }
}

/// One sink.
#[derive(Debug, Clone, PartialEq)]
pub struct SinkSpec {
    /// Where its octets go.
    pub endpoint: Endpoint,
    /// What it is called.
    pub name: Arc<str>,
    /// `None`: the default of the endpoint.
    pub format: Option<Format>,
    /// `None`: by what the sources can do.
    pub on_slow: Option<OnSlow>,
    /// What a late client gets.
    pub history: History,
    /// The linktype of a pcap header before any source is known.
    pub linktype: Option<LinkType>,
    /// Packets that came from another source within this time are dropped.
    pub dedup: Option<Duration>,
    /// Who may connect; `None` was not said.
    pub allow: Option<Vec<IpNet>>,
    /// Who may not, allowed or not.
    pub deny: Vec<IpNet>,
    /// The local address to dial from.
    pub bind: Option<IpAddr>,
    /// Whether a dialled sink that went away is dialled again.
    pub reconnect: Reconnect,
    /// Which packets are wanted, in the language of pcap-filter(7).
    pub filter: Option<String>,
    /// What is kept of its packets.
    pub shape: Shape,
    /// How fast they go; `None`: as fast as they come.
    pub pace: Option<Pace>,
    /// How packets are put onto an interface.
    pub injection: Injection,
    /// What its files are, if it is a recording.
    pub recording: Option<Recording>,
    /// What it says about TLS.
    pub tls: TlsOptions,
}

/// How packets are put onto an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Injection {
    /// Whether the interface is made.
    pub create_tap: bool,
    /// What happens to packets over the MTU.
    pub oversize: Oversize,
    /// The addresses of packets that had no Ethernet header.
    pub addresses: Addresses,
    /// Also onto an interface that is captured from.
    pub force: bool,
}

/// What happens to packets over the MTU of the interface that they are to be sent on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Oversize {
    /// They are dropped and counted.
    #[default]
    Drop,
    /// TCP super-packets become several packets; others are dropped.
    Segment,
    /// They are cut.
    Truncate,
}

/// Whether a source that went away is opened again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// When it broke; one that closed at a record's boundary has ended.
    Error,
    /// Whatever happened.
    Always,
    /// Never.
    No,
}

/// The beginning of a filter, enough to know which one it is: what is wrong with it is said behind it.
pub fn shortened(filter: &str) -> String {
    let mut characters = filter.chars();
    let begins: String = characters.by_ref().take(200).collect();
    if characters.next().is_some() { begins + " …" } else { begins }
}

/// What is wrong with a plan. The operator's fault, always.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// The text of an endpoint.
    #[error(transparent)]
    Endpoint(#[from] EndpointError),
    /// A key that the endpoint does not know.
    #[error("{endpoint}: unknown option `{key}`; known are {known}")]
    UnknownOption {
        /// The endpoint.
        endpoint: String,
        /// The key.
        key: String,
        /// What it knows.
        known: String,
    },
    /// A value that cannot be read.
    #[error("{endpoint}: {key}={value}: {why}")]
    BadValue {
        /// The endpoint, or `command line`.
        endpoint: String,
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        why: String,
    },
    /// A filter that cannot be used.
    #[error("{endpoint}: filter `{}`: {why}", shortened(filter))]
    Filter {
        /// The endpoint.
        endpoint: String,
        /// The filter.
        filter: String,
        /// What is wrong with it, or what is missing.
        why: String,
    },
    /// A filter that cannot be compiled for want of a compiler. Nobody's fault: it is to be installed.
    #[error("{endpoint}: filter `{}`: {remedy}", shortened(filter))]
    NoCompiler {
        /// The endpoint.
        endpoint: String,
        /// The filter.
        filter: String,
        /// What to install.
        remedy: String,
    },
    /// A combination that cannot work.
    #[error("{0}")]
    Refused(String),
    /// Something that is planned and not there.
    #[error("{what} is not built yet: {part} is missing in this version{instead}")]
    NotBuilt {
        /// What was asked for.
        what: String,
        /// The missing part.
        part: &'static str,
        /// What to use meanwhile, with `; ` before it; may be empty.
        instead: &'static str,
    },
}

/// An option that an endpoint knows.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// `name`.
    pub name: &'static str,
    /// What it takes, in a few words.
    pub help: &'static str,
}

/// Reads the options of one endpoint, each once.
#[derive(Debug)]
pub struct Reading<'a> {
    endpoint: &'a Endpoint,
}

impl<'a> Reading<'a> {
    /// Checks that every option is one of `known`, or planned and not built.
    ///
    /// # Errors
    /// An unknown key, or one whose part is missing.
    pub fn new(endpoint: &'a Endpoint, known: &[&[Key]]) -> Result<Self, PlanError> {
        for (key, _) in &endpoint.options {
            if known.iter().any(|keys| keys.iter().any(|k| k.name == key)) {
                continue;
            }
            if let Some((_, part, instead)) = NOT_BUILT.iter().find(|(name, _, _)| name == key) {
                return Err(PlanError::NotBuilt { what: format!("{endpoint}: {key}="), part, instead });
            }
            let mut names: Vec<_> = known.iter().flat_map(|keys| keys.iter().map(|k| k.name)).collect();
            names.sort_unstable();
            return Err(PlanError::UnknownOption {
                endpoint: endpoint.to_string(),
                key: key.clone(),
                known: names.join(", "),
            });
        }
        Ok(Reading { endpoint })
    }

    /// The value of `key`, read by `read`.
    ///
    /// # Errors
    /// A value that `read` refuses.
    pub fn value<T>(&self, key: &str, read: fn(&str) -> Value<T>) -> Result<Option<T>, PlanError> {
        let Some(value) = self.endpoint.option(key) else { return Ok(None) };
        read(value).map(Some).map_err(|why| PlanError::BadValue {
            endpoint: self.endpoint.to_string(),
            key: key.into(),
            value: value.into(),
            why,
        })
    }
}

/// Whether an option is one that this version lacks, and says so.
pub(crate) fn is_planned(key: &str) -> bool {
    NOT_BUILT.iter().any(|(name, _, _)| *name == key)
}

/// Options that DESIGN names and this version lacks: key, missing part, what to use meanwhile.
const NOT_BUILT: &[(&str, &str, &str)] = &[
    ("keylog", "decryption secrets", ""),
    ("secrets", "decryption secrets", ""),
    ("profile", "client profiles", "; use format="),
    ("split", "splitting by flow", ""),
];
