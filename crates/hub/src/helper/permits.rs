//! What the operator named, and so may be opened; everything else is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use super::message::Request;
use crate::endpoint::{Endpoint, Scheme};
use crate::listeners::leads_to;
use crate::plan::Plan;
use crate::recording::Template;
use crate::source::exec_argv;

/// What may be opened. Names are compared as they were written; what they lead to is looked up each
/// time, as it would be without a helper.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Permits {
    read: BTreeSet<PathBuf>,
    write: BTreeSet<PathBuf>,
    /// With the names of the files that may be recorded there.
    directories: BTreeMap<PathBuf, Vec<Template>>,
    connect: BTreeSet<PathBuf>,
    listen_unix: BTreeSet<PathBuf>,
    /// `HOST:PORT`
    listen_tcp: BTreeSet<String>,
    capture: BTreeSet<String>,
    inject: BTreeSet<String>,
    taps: BTreeSet<String>,
    commands: BTreeSet<Vec<String>>,
}

/// Options whose value is a file that is read.
const FILES: &[&str] = &["cert", "key", "ca", "client-ca"];

impl Permits {
    /// What a plan names.
    pub fn of(plan: &Plan) -> Self {
        let mut permits = Permits::default();
        for source in &plan.sources {
            permits.enter(&source.endpoint);
            let address = &source.endpoint.address;
            match source.endpoint.scheme {
                Scheme::File => drop(permits.read.insert(address.into())),
                Scheme::If => drop(permits.capture.insert(address.clone())),
                _ => {}
            }
        }
        for sink in &plan.sinks {
            permits.enter(&sink.endpoint);
            let address = &sink.endpoint.address;
            if let Some(recording) = &sink.recording {
                permits.record(&recording.directory, &recording.template);
                continue;
            }
            match sink.endpoint.scheme {
                Scheme::File => drop(permits.write.insert(address.into())),
                Scheme::If if sink.injection.create_tap => drop(permits.taps.insert(address.clone())),
                Scheme::If => drop(permits.inject.insert(address.clone())),
                _ => {}
            }
        }
        permits
    }

    /// Also this file, to be read.
    #[must_use]
    pub fn reading(mut self, path: impl Into<PathBuf>) -> Self {
        self.read.insert(path.into());
        self
    }

    /// Files of this recording.
    fn record(&mut self, directory: &Path, template: &Template) {
        let templates = self.directories.entry(directory.to_owned()).or_default();
        if !templates.contains(template) {
            templates.push(template.clone());
        }
    }

    /// How the files are called that may be recorded into a directory.
    pub(super) fn templates(&self, directory: &Path) -> &[Template] {
        self.directories.get(directory).map_or(&[], Vec::as_slice)
    }

    /// What an endpoint names wherever it stands.
    fn enter(&mut self, endpoint: &Endpoint) {
        let address = &endpoint.address;
        match endpoint.scheme {
            Scheme::Unix => drop(self.connect.insert(address.into())),
            Scheme::UnixListen => drop(self.listen_unix.insert(address.into())),
            Scheme::TcpListen | Scheme::TlsListen => drop(self.listen_tcp.insert(address.clone())),
            // One that cannot be read is refused where it is opened.
            Scheme::Exec | Scheme::Sh => self.commands.extend(exec_argv(endpoint)),
            _ => {}
        }
        self.read.extend(FILES.iter().filter_map(|key| endpoint.option(key)).map(PathBuf::from));
    }

    /// Also what `others` permit.
    pub(super) fn extend(&mut self, others: &Permits) {
        let Permits {
            read,
            write,
            directories,
            connect,
            listen_unix,
            listen_tcp,
            capture,
            inject,
            taps,
            commands,
        } = others.clone();
        for (directory, templates) in &directories {
            templates.iter().for_each(|template| self.record(directory, template));
        }
        self.read.extend(read);
        self.write.extend(write);
        self.connect.extend(connect);
        self.listen_unix.extend(listen_unix);
        self.listen_tcp.extend(listen_tcp);
        self.capture.extend(capture);
        self.inject.extend(inject);
        self.taps.extend(taps);
        self.commands.extend(commands);
    }

    /// Whether a request is for something that was named.
    pub fn allow(&self, request: &Request) -> bool {
        let named = |set: &BTreeSet<PathBuf>, path: &Path| set.contains(path);
        match request {
            Request::Read(path) => named(&self.read, path),
            Request::Write(path) | Request::MayWrite(path) => named(&self.write, path),
            Request::Directory(path) => self.directories.contains_key(path),
            Request::Look(path) => {
                let sets = [&self.read, &self.write, &self.listen_unix];
                sets.into_iter().any(|set| named(set, path)) || self.directories.contains_key(path)
            }
            Request::ListenTcp(address) => self.listens(*address),
            Request::ConnectUnix(path) => named(&self.connect, path),
            Request::ListenUnix(path) | Request::RemoveUnix(path) => named(&self.listen_unix, path),
            Request::Capture { interface, .. } => self.capture.contains(interface),
            Request::Inject(interface) => self.inject.contains(interface),
            Request::Tap(interface) => self.taps.contains(interface),
            Request::Spawn { argv, .. } => self.commands.contains(argv),
            Request::Renew | Request::Settle(_) => true,
        }
    }

    fn listens(&self, address: SocketAddr) -> bool {
        self.listen_tcp.iter().any(|text| leads_to(text, address))
    }
}
