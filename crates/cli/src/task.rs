//! What was asked for: the task of this process, and what the verbs that run a hub were told.

use std::path::PathBuf;

use pcaphub::plan::Plan;

use crate::logging::LogFormat;
use crate::{cert, interfaces, manual, top};

/// What is to be done.
pub(crate) enum Task {
    /// To run a hub.
    Hub(Box<Arguments>),
    /// To print what was asked for as a configuration file.
    PrintConfig(Box<Arguments>),
    /// To look for mistakes in configuration files.
    Check(Vec<PathBuf>),
    /// To make certificates, or to look at one.
    Cert(cert::Ask),
    /// To list the interfaces.
    Interfaces(interfaces::Form),
    /// To show what hubs do.
    Top(top::Ask),
    /// To write manual pages.
    Manual(manual::Pages),
    /// To print what a shell completes by.
    Completions(clap_complete::Shell),
}

/// What was asked for.
pub(crate) struct Arguments {
    /// Which verb.
    pub(crate) verb: Verb,
    /// What the hub is to do.
    pub(crate) plan: Plan,
    /// 0 shows who came and went.
    pub(crate) verbosity: i8,
    /// How logs are written.
    pub(crate) log_format: LogFormat,
    /// Counts as JSON.
    pub(crate) stats_json: bool,
    /// The file that says all this, under `run`.
    pub(crate) config: Option<PathBuf>,
    /// Who to become, where root started us.
    pub(crate) user: Option<String>,
}

/// The verbs that run a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Serve,
    Cat,
    Pipe,
    Replay,
    Record,
    Demo,
    Run,
}

impl Verb {
    /// As it is written.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Verb::Serve => "serve",
            Verb::Cat => "cat",
            Verb::Pipe => "pipe",
            Verb::Replay => "replay",
            Verb::Record => "record",
            Verb::Demo => "demo",
            Verb::Run => "run",
        }
    }
}
