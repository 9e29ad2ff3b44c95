//! `pcaphub check FILE...`: everything that is wrong with configuration files, and nothing started.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use pcaphub::config;
use pcaphub::escape::escaped;
use pcaphub::opener::System;

use crate::exit;

const HELP: &str = "\
Every mistake is told with its line and column. What the file names and is not there now, as a
capture to read or an interface, is told as a note: it may be there when pcaphub is started,
and to another user. Nothing is opened but the files given, and the certificates and keys that
they name.

Example:
  pcaphub check /etc/pcaphub/pcaphub.toml && systemctl reload pcaphub

Exit codes: 0; 77 a file may not be read; 78 a file is wrong.";

/// The verb, for the command line.
pub(crate) fn command() -> Command {
    Command::new("check")
        .about("Everything that is wrong with configuration files, all at once")
        .arg_required_else_help(true)
        .arg(
            Arg::new("file")
                .value_name("FILE")
                .required(true)
                .num_args(1..)
                .value_parser(value_parser!(PathBuf))
                .help("Configuration files, as `pcaphub run` reads them"),
        )
        .after_help(HELP)
}

/// The files to look at.
pub(crate) fn files(matches: &ArgMatches) -> Vec<PathBuf> {
    matches.get_many("file").into_iter().flatten().cloned().collect()
}

/// Looks at each.
///
/// # Errors
/// Standard output cannot be written.
pub(crate) fn run(files: &[PathBuf]) -> anyhow::Result<ExitCode> {
    let mut worst = 0;
    for file in files {
        match config::check(file, &System) {
            Ok((config, doubts)) => {
                for note in config.notes.iter().chain(&doubts) {
                    eprintln!("note: {}", escaped(note, 2000));
                }
                let (sources, sinks) = (config.plan.sources.len(), config.plan.sinks.len());
                let fine =
                    format!("{}: fine: {}, {}", shown(file), many(sources, "source"), many(sinks, "sink"));
                writeln!(io::stdout().lock(), "{fine}")?;
            }
            Err(error) => worst = worst.max(exit::report_file(&error)),
        }
    }
    Ok(ExitCode::from(worst))
}

fn shown(file: &Path) -> String {
    escaped(&file.display().to_string(), 500)
}

fn many(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}
