//! `pcaphub run FILE`: what a configuration file says, for a service.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, value_parser};
use pcaphub::config::{self, Config, Filters, LoadError, LogLevel};
use pcaphub::opener::{Kind, Opener, System};
use pcaphub::plan::Plan;
use tracing::Level;

use crate::logging::{self, LogFormat};
use crate::print_config;
use crate::task::{Arguments, Verb};

const HELP: &str = "\
Every option of an endpoint is a key, with the name that it has on the command line; every
other option stands at the top, below [limits] or below [log]. `pcaphub check FILE` looks for
mistakes, all at once; any command line prints itself as a file with --print-config.
docs/config.md has every key.

A complete example:
  [[source]]
  endpoint = \"if:eth0\"
  filter = \"not port 22\"

  [[source]]
  endpoint = \"tcp://10.1.2.3\"
  name = \"office\"

  [[sink]]
  endpoint = \"tcp-listen://0.0.0.0\"
  allow = [\"192.168.1.0/24\"]
  history = \"10s\"

Paths are looked for where pcaphub is started; a service writes them from / on.
Exit codes: those of the other verbs, and 78 where the file is wrong.";

/// The verb, for the command line.
pub(crate) fn command() -> Command {
    Command::new("run")
        .about("What a configuration file says, for a service")
        .arg_required_else_help(true)
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("The configuration file, in TOML; as root a regular one, since it is read again"),
        )
        .arg(print_config::argument())
        .after_help(HELP)
}

/// What the file says.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn arguments(matches: &ArgMatches) -> Result<Arguments, LoadError> {
    let file = matches.get_one::<PathBuf>("file").cloned().unwrap_or_default();
    let config = load(&file)?;
    Ok(Arguments {
        verb: Verb::Run,
        verbosity: verbosity(config.log_level),
        log_format: match config.log_format {
            config::LogFormat::Text => LogFormat::Text,
            config::LogFormat::Json => LogFormat::Json,
        },
        stats_json: config.stats_json,
        plan: config.plan,
        config: Some(file),
        user: config.user,
    })
}

/// A file, whose oddities are told.
fn load(file: &Path) -> Result<Config, LoadError> {
    let loaded = config::load(file, &System, Filters::Compile);
    let wanted = match &loaded {
        Ok(config) => config.log_format,
        Err(LoadError::Wrong { errors, .. }) => errors.log_format,
        Err(_) => config::LogFormat::Text,
    };
    if wanted == config::LogFormat::Json {
        logging::dress(LogFormat::Json);
    }
    let config = loaded?;
    for note in &config.notes {
        logging::tell(Level::WARN, &format!("pcaphub: {note}"));
    }
    Ok(config)
}

/// What the file names now, for who opens on behalf of somebody else: with its own rights, and without
/// a look at the filters.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn named(file: &Path) -> Result<Plan, String> {
    let cannot = |error| LoadError::Read { path: file.into(), error }.to_string();
    if System.look(file).map_err(cannot)?.kind != Kind::File {
        return Err(format!("{}: only a regular file can be read again", file.display()));
    }
    config::load(file, &System, Filters::Keep).map(|config| config.plan).map_err(|error| error.to_string())
}

/// What `-q` and `-v` would say for a level.
pub(crate) fn verbosity(level: LogLevel) -> i8 {
    match level {
        LogLevel::Error => -2,
        LogLevel::Warn => -1,
        LogLevel::Info => 0,
        LogLevel::Debug => 1,
        LogLevel::Trace => 2,
    }
}
