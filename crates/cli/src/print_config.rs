//! `--print-config`: a command line as the configuration file that says the same.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{anyhow, bail};
use clap::{Arg, ArgAction, ArgMatches};
use pcaphub::config::{self, Config, Fault, Filters, LogLevel};
use pcaphub::opener::System;
use pcaphub::plan::PlanError;

use crate::logging::LogFormat;
use crate::task::Arguments;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arguments::of_words;

    /// A command line as a file; that this says the same plan was compared.
    fn printed(line: &str) -> String {
        let words: Vec<_> = line.split(' ').collect();
        let arguments = of_words(&words).unwrap();
        let text = text(&config(&arguments)).unwrap_or_else(|error| panic!("{line}: {error}"));
        let read = config::parse_with(&text, &System, Filters::Keep).unwrap();
        assert_eq!(read.plan, arguments.plan, "{line}\n{text}");
        text
    }

    #[test]
    fn what_a_verb_decides_is_in_its_file() {
        assert_eq!(
            printed("serve tcp://10.1.2.3"),
            "[[source]]\nendpoint = \"tcp://10.1.2.3:57012\"\n\n[[sink]]\nendpoint = \"tcp-listen://127.0.0.1:57012\"\n"
        );
        assert_eq!(
            printed("cat a.pcap"),
            "reconnect = \"error\"\n\n[log]\nlevel = \"warn\"\n\n[[source]]\nendpoint = \"a.pcap\"\n\n[[sink]]\nendpoint = \"-\"\n"
        );
        assert_eq!(
            printed("replay a.pcap eth1"),
            "reconnect = \"error\"\n\n[[source]]\nendpoint = \"a.pcap\"\n\n[[sink]]\nendpoint = \"if:eth1\"\npace = \"1x\"\n"
        );
        assert!(
            printed("record -i eth0 -G 3600 -W 24 -w /x/%H.pcap")
                .contains("endpoint = \"/x/%H.pcap\"\nevery = 3600\nfiles = 24\n")
        );
        assert!(printed("demo --rate 7 --seed 3").contains("endpoint = \"demo:\"\nrate = 7\nseed = 3\n"));
        assert!(
            printed("pipe a.pcap --to null: --on-slow drop")
                .contains("endpoint = \"null:\"\non-slow = \"drop\"\n")
        );
    }

    #[test]
    fn every_option_of_the_command_line_is_in_its_file() {
        let file = printed(
            "serve -i eth0 -p -B 4096 tcp://[::1]:9 -r odd?.pcap --opt time=now -f udp -s 96 --order exact --hold 1h \
             -c 9 --duration 90 --pace 2x --loop 3 --listen :1 --listen unix-listen:/x --allow 10.0.0.0/8,any \
             --deny 10.0.0.1 --history 64MiB --format pcapng --on-slow drop --dedup 1ms --to tcp://h?bind=10.0.0.1 \
             --max-memory 1GiB --max-clients 1 --max-clients-per-address 2 --max-producers 3 \
             --max-producers-per-address 4 --producer-silence 5s --keepalive 6s --client-timeout 7s --header-wait 8s \
             --drain 9s -v --log-format json --stats json",
        );
        for line in [
            "order = \"exact\"",
            "hold = \"1h\"",
            "count = 9",
            "duration = \"1m 30s\"",
            "stats = \"json\"",
            "max-memory = \"1024MiB\"",
            "max-clients = 1",
            "max-clients-per-address = 2",
            "max-producers = 3",
            "max-producers-per-address = 4",
            "producer-silence = \"5s\"",
            "keepalive = \"6s\"",
            "client-timeout = \"7s\"",
            "header-wait = \"8s\"",
            "drain = \"9s\"",
            "level = \"debug\"",
            "format = \"json\"",
            "promiscuous = \"no\"",
            "buffer = \"4096KiB\"",
            "filter = \"udp\"",
            "snaplen = 96",
            "pace = \"2x\"",
            "loop = 3",
            "endpoint = \"odd?.pcap\"",
            "allow = [\"10.0.0.0/8\", \"any\"]",
            "deny = \"10.0.0.1\"",
            "history = \"64MiB\"",
            "format = \"pcapng\"",
            "on-slow = \"drop\"",
            "dedup = \"1ms\"",
            "bind = \"10.0.0.1\"",
        ] {
            assert!(file.lines().any(|known| known == line), "{line} is missing in\n{file}");
        }
    }

    #[test]
    fn every_limit_of_the_command_line_has_a_key() {
        let command = crate::command::command();
        let serve = command.get_subcommands().find(|verb| verb.get_name() == "serve").unwrap();
        let limits =
            serve.get_arguments().filter(|option| option.get_help_heading() == Some("Limits and messages"));
        let names: Vec<_> = limits.filter_map(clap::Arg::get_long).collect();
        assert!(names.len() > 10, "{names:?}");
        for name in names {
            let known = config::SETTINGS.iter().any(|setting| setting.name == name);
            assert!(known || name == "log-format", "--{name} has no key");
        }
    }
}
