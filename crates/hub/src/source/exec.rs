//! Commands as sources: `exec:` without a shell, `sh:` through one.

use std::sync::Arc;

use tokio::process::ChildStdout;

use super::{Child, Context, OpenError, Opened, Pending, Reader, Source, SourceError, split_command};
use crate::endpoint::{Endpoint, Scheme};
use crate::event::Events;
use crate::opener::{Opener, Pipe};
use crate::plan::SourceSpec;
use crate::shutdown::Shutdown;

struct Exec {
    name: Arc<str>,
    argv: Vec<String>,
    opener: Arc<dyn Opener>,
    events: Events,
    shutdown: Shutdown,
}

/// The words of an `exec:` or `sh:` endpoint.
///
/// # Errors
/// What is wrong with the quoting.
pub fn argv(endpoint: &Endpoint) -> Result<Vec<String>, String> {
    match endpoint.scheme {
        Scheme::Sh => Ok(vec!["/bin/sh".into(), "-c".into(), endpoint.address.clone()]),
        _ => split_command(&endpoint.address),
    }
}

pub(super) fn open(spec: &SourceSpec, context: &Context) -> Result<Box<dyn Source>, SourceError> {
    let argv = argv(&spec.endpoint).map_err(|why| SourceError::because(spec, why))?;
    let (opener, events) = (context.opener.clone(), context.events.clone());
    Ok(Box::new(Exec { name: spec.name.clone(), argv, opener, events, shutdown: context.shutdown.clone() }))
}

impl Source for Exec {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        Box::pin(std::future::ready(self.start()))
    }
}

impl Exec {
    fn start(&mut self) -> Result<Option<Opened>, OpenError> {
        let program = self.argv.first().map(String::as_str).unwrap_or_default();
        let mut process =
            self.opener.spawn(&self.argv, Pipe::Stdout).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => {
                    OpenError::Never(format!("`{program}` is not installed or not in PATH"))
                }
                std::io::ErrorKind::PermissionDenied => {
                    OpenError::Never(format!("`{program}` cannot be run: {error}"))
                }
                _ => OpenError::Later(format!("cannot start `{program}`: {error}")),
            })?;
        let stdout = process.stdout.take();
        let child = Child::new(process, self.name.clone(), self.events.clone(), self.shutdown.clone());
        let failed = || OpenError::Later(format!("`{program}` has no output to read"));
        let stdout = stdout.and_then(|out| ChildStdout::from_std(out).ok()).ok_or_else(failed)?;
        let reader = Reader::Async(Box::new(stdout));
        Ok(Some(Opened { child: Some(child), ..Opened::new(reader, self.name.clone()) }))
    }
}
