//! Files, FIFOs and standard input as sources.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Context, OpenError, Opened, Pending, Reader, Source, SourceError};
use crate::codec;
use crate::endpoint::Scheme;
use crate::opener::Opener;
use crate::plan::SourceSpec;

/// Yields its one stream, once.
struct Once(Option<Opened>);

impl Source for Once {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        Box::pin(std::future::ready(Ok(self.0.take())))
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
    let metadata = std::fs::metadata(path).map_err(cannot)?;
    if !metadata.is_file() && !metadata.is_dir() {
        let late = Late { path: path.into(), opener: context.opener.clone(), file: None };
        return Ok(once(spec, Box::new(late)));
    }
    Ok(once(spec, read(path, context.opener.as_ref()).map_err(cannot)?))
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
pub(super) fn is_regular(spec: &SourceSpec) -> bool {
    match spec.endpoint.scheme {
        Scheme::File => std::fs::metadata(&spec.endpoint.address).is_ok_and(|m| m.is_file()),
        Scheme::Stdio => stdin().and_then(|f| f.metadata()).is_ok_and(|m| m.is_file()),
        _ => false,
    }
}

/// A FIFO or device that is opened by its first read.
struct Late {
    path: PathBuf,
    opener: Arc<dyn Opener>,
    file: Option<Box<dyn Read + Send>>,
}

impl Read for Late {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.file {
            Some(file) => file.read(buffer),
            None => self.file.insert(read(&self.path, self.opener.as_ref())?).read(buffer),
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
