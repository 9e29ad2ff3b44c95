//! Combinations of sources and sinks that cannot work, each with the endpoints that are in each
//! other's way.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use pcaphub_core::feed::OnSlow;
use pcaphub_core::shape::Time;
use pcaphub_sys::Device;

use crate::endpoint::{Endpoint, Scheme};
use crate::listeners;
use crate::opener::{Kind, Opener};
use crate::plan::{Plan, PlanError, SinkSpec, SourceSpec, TlsOptions};
use crate::source::{self, SourceKind};
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
    let sources = plan.sources.iter().enumerate().map(|(index, spec)| (Place::Source(index), &spec.endpoint));
    let sinks = plan.sinks.iter().enumerate().map(|(index, spec)| (Place::Sink(index), &spec.endpoint));
    let mut listening: HashMap<String, Place> = HashMap::new();
    for (place, endpoint) in sources.chain(sinks) {
        let address = match endpoint.scheme {
            Scheme::TcpListen | Scheme::TlsListen => match endpoint.address.parse::<SocketAddr>() {
                Ok(address) if address.port() == 0 => continue,
                Ok(address) => address.to_string(),
                Err(_) => endpoint.address.clone(),
            },
            Scheme::UnixListen => endpoint.address.clone(),
            _ => continue,
        };
        match listening.get(&address) {
            Some(first) => {
                let what = match first {
                    Place::Source(_) => "a source",
                    Place::Sink(_) => "a sink",
                };
                let why = format!(
                    "{endpoint}: {what} listens at {address} already; choose another address or port"
                );
                refuse(Some(place), why);
            }
            None => {
                listening.insert(address, place);
            }
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
