//! A file that is replayed: read from its beginning by whoever reads it, and looked at before anybody does.
//!
//! What is no capture is refused when the hub is opened, not when the first client comes.

use std::io::{self, Read};
use std::path::Path;

use pcaphub_core::buffer::Pool;
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;

use crate::clock::wall_clock;
use crate::codec;
use crate::endpoint::Scheme;
use crate::framing::{Framing, FramingError, decoder_options};
use crate::opener::Opener;
use crate::plan::SourceSpec;
use crate::source::SourceError;

/// Reads a file's header, so that one which is no capture is refused before any client comes; what
/// it is written in.
///
/// # Errors
/// What it is instead, or that it cannot be read.
pub fn check(spec: &SourceSpec, opener: &dyn Opener) -> Result<Option<Format>, SourceError> {
    let cannot = |error: io::Error| SourceError::io(spec, "cannot read it", &error);
    let mut reader = open(spec, opener).map_err(cannot)?;
    let options = decoder_options(&spec.name, spec.named, spec.linktype);
    let mut framing = Framing::new(Pool::new(64 << 10, 0), options, Interfaces::new(), 0);
    while framing.decoder().format().is_none() {
        let n = reader.read(framing.spare()).map_err(cannot)?;
        let result = match n {
            0 => framing.finish().map_err(FramingError::from),
            n => framing.received(n, wall_clock()).1,
        };
        // What is wrong further on is told to those who were sent what comes before it.
        if let (Err(error), None) = (result, framing.decoder().format()) {
            return Err(SourceError::because(spec, error.to_string()));
        }
        if n == 0 {
            break;
        }
    }
    Ok(framing.decoder().format())
}

/// A file, or what standard input was redirected from: from its beginning, whoever reads it too.
pub(super) fn open(spec: &SourceSpec, opener: &dyn Opener) -> io::Result<Box<dyn Read + Send>> {
    codec::unpacked_file(opener.read_file(path_of(spec))?)
}

pub(super) fn path_of(spec: &SourceSpec) -> &Path {
    match spec.endpoint.scheme {
        Scheme::Stdio => Path::new("/dev/stdin"),
        _ => Path::new(&spec.endpoint.address),
    }
}
