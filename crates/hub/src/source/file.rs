//! Files, FIFOs and standard input as sources.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Context, OpenError, Opened, Pending, Reader, Source, SourceError};
use crate::codec;
use crate::endpoint::Scheme;
use crate::opener::{Kind, Opener};
use crate::plan::SourceSpec;
use crate::shutdown::{Phase, Shutdown};

/// Yields its one stream, once.
struct Once(Option<Opened>);

impl Source for Once {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        Box::pin(std::future::ready(Ok(self.0.take())))
    }
}

/// Yields a file again and again.
struct Repeated {
    spec: SourceSpec,
    opener: Arc<dyn Opener>,
    turn: u64,
    /// The first reader, which was opened at start.
    first: Option<Box<dyn Read + Send>>,
}

impl Source for Repeated {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        self.turn += 1;
        if self.spec.repeat != 0 && self.turn > self.spec.repeat {
            return Box::pin(std::future::ready(Ok(None)));
        }
        let again = || read(Path::new(&self.spec.endpoint.address), self.opener.as_ref());
        let reader = self.first.take().map_or_else(again, Ok);
        let opened = reader.map(|reader| Some(Opened::new(Reader::Blocking(reader), self.spec.name.clone())));
        let failed = |error| OpenError::Never(format!("cannot read it again: {error}"));
        Box::pin(std::future::ready(opened.map_err(failed)))
    }
}

pub(super) fn once(spec: &SourceSpec, reader: Box<dyn Read + Send>) -> Box<dyn Source> {
    let reader = Reader::Blocking(reader);
    Box::new(Once(Some(Opened::new(reader, spec.name.clone()))))
}

/// Opens a file; a FIFO is only opened when it is read, since that waits for its writer.
pub(super) fn open(spec: &SourceSpec, context: &Context) -> Result<Box<dyn Source>, SourceError> {
    let path = Path::new(&spec.endpoint.address);
    let cannot = |error: io::Error| SourceError::io(spec, "cannot read it", &error);
    if context.opener.look(path).map_err(cannot)?.kind == Kind::Other {
        if spec.repeat != 1 {
            return Err(SourceError::because(spec, "only a regular file can be read again (loop=)"));
        }
        let (opener, shutdown) = (context.opener.clone(), context.shutdown.clone());
        let late = Late { path: path.into(), opener, shutdown, file: None };
        return Ok(once(spec, Box::new(late)));
    }
    let first = read(path, context.opener.as_ref()).map_err(cannot)?;
    if spec.repeat != 1 {
        let (spec, opener) = (spec.clone(), context.opener.clone());
        return Ok(Box::new(Repeated { turn: 0, first: Some(first), spec, opener }));
    }
    Ok(once(spec, first))
}

/// The unpacked octets of a file.
///
/// # Errors
/// Of opening it or of reading its first octets.
fn read(path: &Path, opener: &dyn Opener) -> io::Result<Box<dyn Read + Send>> {
    codec::unpacked_file(opener.read_file(path)?)
}

pub(super) fn open_stdin(spec: &SourceSpec, _: &Context) -> Result<Box<dyn Source>, SourceError> {
    let stdin = stdin().map_err(|error| SourceError::io(spec, "cannot read standard input", &error))?;
    if rustix::termios::isatty(&stdin) {
        return Err(SourceError::because(
            spec,
            "standard input is a terminal; pipe a capture into it, e.g. `tcpdump -U -w - | pcaphub …`",
        ));
    }
    Ok(once(spec, Box::new(LateUnpacked { raw: Some(stdin), unpacked: None })))
}

/// Standard input without a buffer of the library's.
fn stdin() -> io::Result<File> {
    Ok(File::from(io::stdin().as_fd().try_clone_to_owned()?))
}

/// Whether all its packets are there already: a file, or standard input redirected from one.
pub(super) fn is_regular(spec: &SourceSpec, opener: &dyn Opener) -> bool {
    match spec.endpoint.scheme {
        Scheme::File => opener.look(Path::new(&spec.endpoint.address)).is_ok_and(|f| f.kind == Kind::File),
        Scheme::Stdio => stdin().and_then(|f| f.metadata()).is_ok_and(|m| m.is_file()),
        _ => false,
    }
}

/// A FIFO or device that is opened by its first read.
struct Late {
    path: PathBuf,
    opener: Arc<dyn Opener>,
    /// Ends the wait for its writer.
    shutdown: Shutdown,
    file: Option<Box<dyn Read + Send>>,
}

impl Read for Late {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.read(buffer),
            None => {
                let wanted = || self.shutdown.phase() == Phase::Running;
                let file = self.opener.read_file_while(&self.path, &wanted)?;
                self.file.insert(codec::unpacked_file(file)?).read(buffer)
            }
        }
    }
}

/// Octets whose packing is only looked at by the first read, since that may wait.
struct LateUnpacked {
    raw: Option<File>,
    unpacked: Option<Box<dyn Read + Send>>,
}

impl Read for LateUnpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(raw) = self.raw.take() {
            self.unpacked = Some(codec::unpacked(raw)?);
        }
        self.unpacked.as_mut().map_or(Ok(0), |unpacked| unpacked.read(buffer))
    }
}
