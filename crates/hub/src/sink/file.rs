//! Files and standard output as sinks.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use pcaphub_core::feed::Ending;

use super::{Context, Opening, Sink, SinkError, record};
use crate::codec::{self, Finish};
use crate::endpoint::Scheme;
use crate::opener::Opener;
use crate::pen::Left;
use crate::plan::SinkSpec;
use crate::source::Pending;
use crate::write::{Single, WhenFull, to_writer};

/// What a pipe on standard output is asked to hold: one system call's worth of ours.
#[cfg(target_os = "linux")]
const PIPE_OCTETS: usize = 1 << 20;

struct Writing {
    name: String,
    writer: Box<dyn Finish>,
    /// A reader that closes standard output has what it wanted.
    quiet: bool,
}

pub(super) fn open(spec: &SinkSpec, opening: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    if let Some(recording) = &spec.recording {
        return record::open(spec, recording, opening);
    }
    let path = PathBuf::from(&spec.endpoint.address);
    let opened = opening.opener.write_file(&path).and_then(|file| codec::packing(&path, file));
    let writer = opened.map_err(|error| refused(spec, &error))?;
    Ok(Box::new(Writing { name: spec.name.to_string(), writer, quiet: false }))
}

/// Whether a sink is a file whose content is gone once it is opened.
pub(crate) fn replaces(spec: &SinkSpec) -> bool {
    spec.endpoint.scheme == Scheme::File && spec.recording.is_none()
}

/// Looks whether such a file would be refused, and touches nothing.
pub(crate) fn look(spec: &SinkSpec, opener: &dyn Opener) -> Result<(), SinkError> {
    opener.may_write(Path::new(&spec.endpoint.address)).map_err(|error| refused(spec, &error))
}

fn refused(spec: &SinkSpec, error: &io::Error) -> SinkError {
    // Not followed, by O_NOFOLLOW.
    let symlink = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    let what = match error.kind() {
        _ if symlink => "cannot write it, it is a symbolic link",
        io::ErrorKind::IsADirectory => "it is a directory; with a / behind it, files are recorded into it",
        _ => "cannot write it",
    };
    SinkError::io(spec, what, error)
}

pub(super) fn open_stdout(spec: &SinkSpec, _: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    let stdout = io::stdout();
    if rustix::termios::isatty(&stdout) {
        let why = "standard output is a terminal, and packets are not text; pipe it, e.g. `| tshark -r -`, or write a file with -w FILE";
        return Err(SinkError { why: why.into(), permission: false, usage: true });
    }
    let owned = stdout.as_fd().try_clone_to_owned();
    let file = File::from(owned.map_err(|error| SinkError::io(spec, "cannot write it", &error))?);
    // Fails where it is no pipe, or where the system allows less: either is fine.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(&file, PIPE_OCTETS);
    Ok(Box::new(Writing { name: spec.name.to_string(), writer: Box::new(file), quiet: true }))
}

impl Sink for Writing {
    fn run(mut self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>> {
        let replay = context.replay.present();
        let pen = replay.is_none().then(|| context.join(&self.name));
        let (done, ended) = tokio::sync::oneshot::channel();
        let deliver = move || {
            let left = match (&replay, pen) {
                (Some(replay), _) => {
                    replay.pipe_to(&self.name, &mut Single(self.writer.as_mut()), WhenFull::Fail, &mut |_| {})
                }
                (None, None) => return,
                (None, Some(mut pen)) => {
                    let when_full = match (self.quiet, context.alone) {
                        (true, _) => WhenFull::Fail,
                        (false, true) => WhenFull::Wait,
                        (false, false) => WhenFull::Forfeit,
                    };
                    to_writer(&mut pen, &mut Single(self.writer.as_mut()), when_full, &mut |full| {
                        context.full(&self.name, full)
                    })
                }
            };
            let finished = self.writer.finish();
            let result = match (left, finished) {
                (Left::Peer(error), _) if self.quiet && error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
                (Left::Peer(error), _) | (Left::Feed(Ending::Ended), Err(error)) => Err(error.to_string()),
                (Left::Feed(_), _) => Ok(false),
            };
            let _ = done.send(result.map_err(|error| format!("{}: {error}", self.name)));
        };
        let started = std::thread::Builder::new().name("sink".into()).spawn(deliver);
        Box::pin(async move {
            started.map_err(|error| format!("cannot start a thread: {error}"))?;
            ended.await.unwrap_or(Ok(false)).map(drop)
        })
    }
}
