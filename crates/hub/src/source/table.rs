//! The table of sources: each kind, its options, and how an endpoint is read as one.
//!
//! Parsing, help and the contract tests go by it; a kind that has no row does not exist.

use super::keys::{ALLOW, BIND, COMMON, DENY, LOOP, RECONNECT, shape};
use super::{Context, Source, SourceError, demo, dial, exec, file, listen, live};
use crate::endpoint::{Endpoint, Scheme};
use crate::plan::{self, Key, PlanError, Reading, SourceSpec, TlsOptions};

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

/// Opens a source of one kind; what fails here is fatal at start.
pub type Open = fn(&SourceSpec, &Context) -> Result<Box<dyn Source>, SourceError>;

/// Schemes that are planned as sources: which part is missing, and what to use meanwhile.
const NOT_BUILT: &[(Scheme, &str, &str)] =
    &[(Scheme::Nats, "the message bus", ""), (Scheme::Intercept, "the TLS-decrypting proxy", "")];

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
