//! Combinations of sources and sinks that cannot work, each with the endpoints that are in each
//! other's way.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use pcaphub_core::feed::OnSlow;
use pcaphub_core::shape::Time;
use pcaphub_sys::Device;

use crate::endpoint::{Endpoint, Scheme};
use crate::listeners;
use crate::opener::{Kind, Opener};
use crate::plan::{Plan, PlanError, SinkSpec, SourceSpec, TlsOptions};
use crate::source::{self, SourceKind, exec_argv};
use crate::tls;

/// What cannot work in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The endpoint to change; `None`: one is missing.
    pub place: Option<Place>,
    /// What is wrong.
    pub error: PlanError,
}

/// An endpoint of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The source of this index.
    Source(usize),
    /// The sink of this index.
    Sink(usize),
}

/// All combinations of a plan that cannot work; empty where it can. Files are looked at, none is opened;
/// which sources are files must be known already ([`source::look`]).
pub fn conflicts(plan: &Plan, opener: &dyn Opener) -> Vec<Conflict> {
    let mut found = Vec::new();
    let mut refuse = |place, why: String| found.push(Conflict { place, error: PlanError::Refused(why) });
    if plan.sources.is_empty() {
        refuse(None, "no source is given; name a file, `-`, tcp://HOST or another endpoint".into());
    }
    if plan.sinks.is_empty() {
        refuse(None, "no sink is given; add --to SINK".into());
    }
    let is_standard = |endpoint: &Endpoint| endpoint.scheme == Scheme::Stdio;
    let stdin = plan.sources.iter().enumerate().filter(|(_, spec)| is_standard(&spec.endpoint));
    for (index, _) in stdin.skip(1) {
        refuse(Some(Place::Source(index)), "standard input `-` can only be one source".into());
    }
    let stdout = plan.sinks.iter().enumerate().filter(|(_, spec)| is_standard(&spec.endpoint));
    for (index, _) in stdout.skip(1) {
        refuse(Some(Place::Sink(index)), "standard output `-` can only be one sink".into());
    }
    overwritten(plan, opener, &mut refuse);
    written_twice(plan, opener, &mut refuse);
    impossible(plan, opener, &mut refuse);
    captured(plan, &mut refuse);
    doubled(plan, &mut refuse);
    exposed(plan, &mut refuse);
    unproven(plan, &mut refuse);
    untimely(plan, &mut refuse);
    impatient(plan, &mut refuse);
    found
}

/// Sinks for whose slow clients a source is to wait that cannot.
fn impatient(plan: &Plan, refuse: &mut impl FnMut(Option<Place>, String)) {
    let cannot = |spec: &&SourceSpec| source::kind(spec).is_some_and(|kind| !kind.can_wait);
    let Some(source) = plan.sources.iter().find(cannot) else { return };
    for (index, sink) in plan.sinks.iter().enumerate() {
        if sink.on_slow == Some(OnSlow::Wait) {
            let why = format!(
                "{}: on-slow=wait, and {} cannot wait: what nobody takes is lost in the kernel; \
                 choose drop or disconnect, and --max-memory to bridge more",
                sink.name, source.name
            );
            refuse(Some(Place::Sink(index)), why);
        }
    }
}

/// Octets of a Unix socket's path (sun_path of unix(7), with the zero at its end).
const SUN_PATH: usize = 108;

/// Endpoints that are not possible whatever else there is.
fn impossible(plan: &Plan, opener: &dyn Opener, refuse: &mut impl FnMut(Option<Place>, String)) {
    for (place, endpoint) in places(plan) {
        let address = &endpoint.address;
        let kind = || opener.look(Path::new(address)).ok().map(|found| found.kind);
        let why = match (endpoint.scheme, place) {
            (Scheme::Exec, _) => exec_argv(endpoint).err(),
            (Scheme::Unix | Scheme::UnixListen, _) if address.len() >= SUN_PATH => {
                Some(format!("a socket's path has {} octets at most", SUN_PATH - 1))
            }
            (Scheme::UnixListen, _) if matches!(kind(), Some(Kind::File | Kind::Directory)) => {
                Some("what is there is no socket, and stays: take it away, or choose another path".into())
            }
            (Scheme::File, Place::Source(_)) if kind() == Some(Kind::Directory) => {
                Some("it is a directory; name the files in it".into())
            }
            _ => None,
        };
        if let Some(why) = why {
            refuse(Some(place), format!("{endpoint}: {why}"));
        }
    }
}

/// Every endpoint of a plan.
fn places(plan: &Plan) -> impl Iterator<Item = (Place, &Endpoint)> {
    let sources = plan.sources.iter().enumerate().map(|(index, spec)| (Place::Source(index), &spec.endpoint));
    let sinks = plan.sinks.iter().enumerate().map(|(index, spec)| (Place::Sink(index), &spec.endpoint));
    sources.chain(sinks)
}

/// The regular file that an endpoint names, if there is one.
pub(crate) fn file(endpoint: &Endpoint, opener: &dyn Opener) -> Option<(u64, u64)> {
    let found = match endpoint.scheme {
        Scheme::File => opener.look(Path::new(&endpoint.address)).ok()?,
        _ => return None,
    };
    (found.kind == Kind::File).then_some(found.identity)
}

/// A path without detours, as far as its text says: none of its folders is looked at.
fn direct(path: &str) -> PathBuf {
    let mut direct = PathBuf::new();
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.into());
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(direct.pop()),
            part => direct.push(part),
        }
    }
    direct
}

/// Sinks that write one file, or record into one directory: each would take it from the other.
fn written_twice(plan: &Plan, opener: &dyn Opener, refuse: &mut impl FnMut(Option<Place>, String)) {
    let mut files: Vec<(Option<(u64, u64)>, PathBuf)> = Vec::new();
    let mut folders: Vec<PathBuf> = Vec::new();
    for (index, sink) in plan.sinks.iter().enumerate() {
        let address = &sink.endpoint.address;
        if let Some(recording) = &sink.recording {
            let folder = direct(&recording.directory.to_string_lossy());
            if folders.contains(&folder) {
                let why =
                    format!("{}: another sink records into that directory; give each its own", sink.name);
                refuse(Some(Place::Sink(index)), why);
            }
            folders.push(folder);
        } else if sink.endpoint.scheme == Scheme::File {
            let found = opener.look(Path::new(address)).ok();
            // Devices and FIFOs may have several writers.
            if found.is_some_and(|found| found.kind != Kind::File) {
                continue;
            }
            let (identity, path) = (found.map(|found| found.identity), direct(address));
            let same = |(known, other): &(Option<(u64, u64)>, PathBuf)| {
                *other == path || (identity.is_some() && *known == identity)
            };
            if files.iter().any(same) {
                let why = format!("{}: another sink writes that file; give each its own", sink.name);
                refuse(Some(Place::Sink(index)), why);
            }
            files.push((identity, path));
        }
    }
}

/// Sinks that write to the file that a source reads.
fn overwritten(plan: &Plan, opener: &dyn Opener, refuse: &mut impl FnMut(Option<Place>, String)) {
    let file = |endpoint| file(endpoint, opener);
    let read: Vec<_> = plan.sources.iter().filter_map(|source| file(&source.endpoint)).collect();
    for (index, sink) in plan.sinks.iter().enumerate() {
        // A recorder replaces nothing: what it is called stands for the names of its files.
        if sink.recording.is_some() {
            continue;
        }
        if file(&sink.endpoint).is_some_and(|written| read.contains(&written)) {
            let why =
                format!("{} is a source and a sink: it would be overwritten before it is read", sink.name);
            refuse(Some(Place::Sink(index)), why);
        }
    }
}

/// Sinks that send where a source captures.
fn captured(plan: &Plan, refuse: &mut impl FnMut(Option<Place>, String)) {
    let injects = |sink: &SinkSpec| sink.endpoint.scheme == Scheme::If && !sink.injection.force;
    for (index, sink) in plan.sinks.iter().enumerate().filter(|(_, sink)| injects(sink)) {
        let captured = |source: &&SourceSpec| {
            let interface = &source.endpoint.address;
            source.endpoint.scheme == Scheme::If
                && (interface == "any" || is_same(interface, &sink.endpoint.address))
        };
        if let Some(source) = plan.sources.iter().find(captured) {
            let why = format!(
                "{} would be sent on, and {} captures there: each packet would come back; \
                 choose another interface, or say force=yes",
                sink.name, source.name
            );
            refuse(Some(Place::Sink(index)), why);
        }
    }
}

/// Whether two names are those of one interface, which may have several.
fn is_same(one: &str, other: &str) -> bool {
    let index = |name| Device::find(name).ok().flatten().map(|device| device.index);
    one == other || index(one).is_some_and(|one| index(other) == Some(one))
}

/// Listeners at one address. Names are not resolved; one that means the same address is found when it
/// is opened.
fn doubled(plan: &Plan, refuse: &mut impl FnMut(Option<Place>, String)) {
    let mut listening: Vec<(At, Place)> = Vec::new();
    for (place, endpoint) in places(plan) {
        let at = match endpoint.scheme {
            Scheme::TcpListen | Scheme::TlsListen => match endpoint.address.parse::<SocketAddr>() {
                Ok(address) if address.port() == 0 => continue,
                Ok(address) => At::Address(address),
                Err(_) => At::Name(endpoint.address.clone()),
            },
            Scheme::UnixListen => At::Path(direct(&endpoint.address)),
            _ => continue,
        };
        match listening.iter().find(|(other, _)| other.excludes(&at)) {
            Some((other, first)) => {
                let what = match first {
                    Place::Source(_) => "a source",
                    Place::Sink(_) => "a sink",
                };
                let why =
                    format!("{endpoint}: {what} listens at {other} already; choose another address or port");
                refuse(Some(place), why);
            }
            None => listening.push((at, place)),
        }
    }
}

/// Where something listens.
#[derive(PartialEq)]
enum At {
    Address(SocketAddr),
    Name(String),
    Path(PathBuf),
}

impl At {
    /// Whether only one of them can listen.
    fn excludes(&self, other: &At) -> bool {
        let (At::Address(one), At::Address(other)) = (self, other) else { return self == other };
        // All of IPv6 is all of IPv4, too.
        let covers = |one: &SocketAddr, other: &SocketAddr| {
            one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
        };
        one.port() == other.port() && (one.ip() == other.ip() || covers(one, other) || covers(other, one))
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Address(address) => write!(f, "{address}"),
            At::Name(name) => f.write_str(name),
            At::Path(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Plaintext listeners off loopback of which nobody said who may connect. A name is resolved, and then
/// refused, when it is opened.
fn exposed(plan: &Plan, refuse: &mut impl FnMut(Option<Place>, String)) {
    let sources =
        plan.sources.iter().enumerate().map(|(index, spec)| {
            (Place::Source(index), &spec.endpoint, spec.endpoint.option("allow").is_some())
        });
    let sinks = plan
        .sinks
        .iter()
        .enumerate()
        .map(|(index, spec)| (Place::Sink(index), &spec.endpoint, spec.allow.is_some()));
    for (place, endpoint, allows) in sources.chain(sinks) {
        if endpoint.scheme != Scheme::TcpListen || allows {
            continue;
        }
        if let Some(address) = endpoint.address.parse().ok().filter(listeners::is_exposed) {
            refuse(Some(place), listeners::exposed_without_allow(&address));
        }
    }
}

/// TLS endpoints without what they need to show or to ask for.
fn unproven(plan: &Plan, refuse: &mut impl FnMut(Option<Place>, String)) {
    for (place, endpoint, tls) in tls_endpoints(plan) {
        if let Some(why) = tls::lacking(endpoint, tls) {
            refuse(Some(place), format!("{endpoint}: {why}"));
        }
    }
}

/// Every TLS endpoint of a plan.
pub(crate) fn tls_endpoints(plan: &Plan) -> impl Iterator<Item = (Place, &Endpoint, &TlsOptions)> {
    let sources = plan.sources.iter().enumerate();
    let sources = sources.map(|(index, spec)| (Place::Source(index), &spec.endpoint, &spec.tls));
    let sinks = plan.sinks.iter().enumerate();
    let sinks = sinks.map(|(index, spec)| (Place::Sink(index), &spec.endpoint, &spec.tls));
    sources.chain(sinks).filter(|(_, endpoint, _)| matches!(endpoint.scheme, Scheme::Tls | Scheme::TlsListen))
}

/// Files with times of their own beside live sources.
fn untimely(plan: &Plan, refuse: &mut impl FnMut(Option<Place>, String)) {
    let lives = |kind: &SourceKind| !kind.waits_for_reader;
    let Some(live) = plan.sources.iter().find(|spec| source::kind(spec).is_some_and(lives)) else { return };
    for (index, file) in plan.sources.iter().enumerate() {
        if source::is_regular_file(file) && file.pace.is_none() && file.shape.time == Time::Keep {
            let why = format!(
                "{} is a file with times of its own, and {} is live: one order by time cannot hold both; \
                 give the file time=now or pace=1x (--opt pace=1x, or --pace 1x), or serve them separately",
                file.name, live.name
            );
            refuse(Some(Place::Source(index)), why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::opener::System;
    use crate::sink;

    #[test]
    fn one_file_one_directory_and_standard_output_have_one_sink() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("there.pcap"), "").unwrap();
        std::os::unix::fs::symlink(folder.path(), path("link")).unwrap();
        std::fs::create_dir(path("d")).unwrap();
        let refused = |first: &str, second: &str| {
            let spec = |text: &str| sink::spec(Endpoint::parse(text).unwrap()).unwrap();
            let sources = vec![source::spec(Endpoint::parse("demo:").unwrap()).unwrap()];
            let plan = Plan { sources, sinks: vec![spec(first), spec(second)], ..Plan::default() };
            let found = conflicts(&plan, &System);
            assert!(found.iter().all(|conflict| conflict.place == Some(Place::Sink(1))));
            found.len()
        };
        assert_eq!(refused("-", "-"), 1);
        let (new, there) = (path("new.pcap"), path("there.pcap"));
        assert_eq!(refused(&new, &new), 1);
        assert_eq!(refused(&new, &path("d/../new.pcap")), 1);
        assert_eq!(refused(&new, &path("./new.pcap")), 1);
        assert_eq!(refused(&there, &path("link/there.pcap")), 1);
        assert_eq!(refused(&path("d/"), &path("d//")), 1);
        assert_eq!(refused("/dev/null", "/dev/null"), 0);
        assert_eq!(refused(&new, &there), 0);
        assert_eq!(refused(&path("d/"), &path("e/")), 0);
    }

    #[test]
    fn what_can_never_be_opened_is_refused_before_anything_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        std::fs::write(path("file"), "").unwrap();
        let endpoint = |text: &str| Endpoint::parse(text).unwrap();
        let refused = |source: &str, sink: &str| {
            let sources = vec![source::spec(endpoint(source)).unwrap()];
            let sinks = vec![sink::spec(endpoint(sink)).unwrap()];
            let found = conflicts(&Plan { sources, sinks, ..Plan::default() }, &System);
            assert!(found.len() <= 1, "{found:?}");
            found.first().map_or(String::new(), |conflict| conflict.error.to_string())
        };
        assert!(refused("exec:a \"b", "null:").contains("quot"), "{}", refused("exec:a \"b", "null:"));
        assert!(refused(folder.path().to_str().unwrap(), "null:").contains("it is a directory"));
        let long = format!("unix-listen:/{}", "x".repeat(107));
        assert!(refused("demo:", &long).contains("107 octets at most"));
        assert_eq!(refused("demo:", &long[..long.len() - 1]), "");
        assert!(refused("demo:", &format!("unix-listen:{}", path("file"))).contains("no socket"));
        let twice = |one: &str, other: &str| {
            let allow = |text: &str| format!("tcp-listen://{text}:7000?allow=any");
            refused(&allow(one), &allow(other)).contains("listens at")
        };
        assert!(twice("127.0.0.1", "0.0.0.0") && twice("0.0.0.0", "127.0.0.1") && twice("[::]", "127.0.0.1"));
        assert!(!twice("127.0.0.1", "127.0.0.2") && !twice("0.0.0.0", "[::1]"));
        let socket = |name: &str| format!("unix-listen:{}", path(name));
        assert!(refused(&socket("s"), &socket("./s")).contains("listens at"));
    }

    #[test]
    fn a_live_capture_cannot_wait_for_anybody() {
        let endpoint = |text: &str| Endpoint::parse(text).unwrap();
        let plan = |source: &str, sink: &str| Plan {
            sources: vec![source::spec(endpoint(source)).unwrap()],
            sinks: vec![sink::spec(endpoint(sink)).unwrap()],
            ..Plan::default()
        };
        let found = conflicts(&plan("if:eth0", "tcp-listen://?on-slow=wait"), &System);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].place, Some(Place::Sink(0)));
        assert!(found[0].error.to_string().contains("if:eth0 cannot wait"), "{}", found[0].error);
        assert!(conflicts(&plan("if:eth0", "tcp-listen://"), &System).is_empty());
        assert!(conflicts(&plan("tcp://x", "tcp-listen://?on-slow=wait"), &System).is_empty());
    }
}
