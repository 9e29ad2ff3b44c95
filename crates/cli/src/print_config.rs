//! `--print-config`: a command line as the configuration file that says the same.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches};
use pcaphub::config::{self, Config, Fault, Filters, LogLevel};
use pcaphub::opener::System;
use pcaphub::plan::PlanError;

use crate::arguments::Arguments;
use crate::logging::LogFormat;

/// The option.
pub(crate) fn argument() -> Arg {
    Arg::new("print-config")
        .long("print-config")
        .action(ArgAction::SetTrue)
        .help("Print this command line as a configuration file for `pcaphub run`, and do nothing else")
}

/// Whether it was given.
pub(crate) fn is_wanted(matches: &ArgMatches) -> bool {
    matches.try_get_one("print-config").ok().flatten().copied().unwrap_or(false)
}

/// Prints it; nothing is opened.
///
/// # Errors
/// What cannot work, as the verb itself would refuse it; what a file cannot say.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let text = text(&config(arguments))?;
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Who reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        done => done.map(|()| ExitCode::SUCCESS).map_err(|error| anyhow!("cannot print: {error}")),
    }
}

/// The text, which was read again and says the same.
fn text(config: &Config) -> anyhow::Result<String> {
    let text = config::printed(config);
    match config::parse_with(&text, &System, Filters::Keep) {
        Ok(read) if read == *config => Ok(text),
        Ok(_) => bail!("this command line says something that a configuration file cannot say"),
        Err(errors) => match errors.errors.into_iter().next().map(|error| error.fault) {
            Some(Fault::Plan(error)) => Err(error.into()),
            Some(other) => Err(PlanError::Refused(format!("as a configuration file: {other}")).into()),
            None => bail!("this command line cannot be printed as a configuration file"),
        },
    }
}

/// What a command line says, as a configuration.
fn config(arguments: &Arguments) -> Config {
    let mut config = Config::of(arguments.plan.clone());
    config.log_level = match arguments.verbosity {
        ..=-2 => LogLevel::Error,
        -1 => LogLevel::Warn,
        0 => LogLevel::Info,
        1 => LogLevel::Debug,
        2.. => LogLevel::Trace,
    };
    config.log_format = match arguments.log_format {
        LogFormat::Text => config::LogFormat::Text,
        LogFormat::Json => config::LogFormat::Json,
    };
    config.stats_json = arguments.stats_json;
    config.user = arguments.user.clone();
    config
}
