//! `pcaphub completions`: what a shell needs to complete the command line, from the same table as the help.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

/// The verb, for the command line.
pub(crate) fn command() -> Command {
    Command::new("completions")
        .about("Completions for a shell, to standard output")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .value_parser(value_parser!(Shell))
                .required(true)
                .help("For which shell"),
        )
        .after_help(
            "Examples:\n  \
             pcaphub completions bash > ~/.local/share/bash-completion/completions/pcaphub\n  \
             pcaphub completions zsh > ~/.zfunc/_pcaphub          with ~/.zfunc in fpath\n  \
             pcaphub completions fish > ~/.config/fish/completions/pcaphub.fish",
        )
}

/// The shell that was asked for.
pub(crate) fn shell(matches: &ArgMatches) -> Option<Shell> {
    matches.get_one("shell").copied()
}

/// Prints them for this command line.
///
/// # Errors
/// They cannot be printed.
pub(crate) fn run(shell: Shell, mut whole: Command) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut whole, "pcaphub", &mut script);
    match io::stdout().lock().write_all(&script) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written.map_err(|error| anyhow!("cannot print the completions: {error}"))?,
    }
    Ok(ExitCode::SUCCESS)
}
