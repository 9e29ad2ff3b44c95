//! The command line as it may be written: every verb and option, for reading, help, pages and completions.
//!
//! What is planned and not built is known here, too, so that who asks for it is told what there is instead.

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use pcaphub::config::{self, Config};
use pcaphub::plan::{PlanError, Value};

use crate::logging::LogFormat;
use crate::{cert, check, completions, help, interfaces, manual, print_config, record, run, top};

/// The whole command line, for help and for tests.
pub(crate) fn command() -> Command {
    let mut command = built();
    for (verb, part, _) in NOT_BUILT {
        let rest = Arg::new("rest").num_args(0..).trailing_var_arg(true).allow_hyphen_values(true).hide(true);
        command = command
            .subcommand(Command::new(*verb).about(format!("Not built yet: {part}")).hide(true).arg(rest));
    }
    command
}

/// The verbs that there are, for manual pages and completions.
pub(crate) fn built() -> Command {
    Command::new("pcaphub")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Moves packets: any number of sources, one time order, any number of clients")
        .long_about(help::ABOUT)
        .after_help(help::USE_CASES)
        .after_long_help(help::endpoints())
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(
            with_sources("serve", "Every client that connects gets the packets", true)
                .args(listener_arguments())
                .after_help(help::SERVE),
        )
        .subcommand(
            with_sources("cat", "Packets to standard output, for `| tshark -r -`", true)
                .after_help(help::CAT),
        )
        .subcommand(
            with_sources("pipe", "Sources to sinks, the general form: --to SINK, repeated", true)
                .after_help(help::PIPE),
        )
        .subcommand(
            with_sources("replay", "Packets onto a network interface, the last word", true)
                .args(replay_arguments())
                .after_help(help::REPLAY),
        )
        .subcommand(
            with_sources("record", "Packets into rotating files in a directory, the last word", true)
                .args(record::arguments())
                .after_help(record::HELP),
        )
        .subcommand(run::command())
        .subcommand(check::command())
        .subcommand(top::command())
        .subcommand(interfaces::command())
        .subcommand(cert::command())
        .subcommand(manual::command())
        .subcommand(completions::command())
        .subcommand(
            with_sources("demo", "Synthetic traffic and a listener: the first thing to try", false)
                .args(listener_arguments())
                .args(demo_arguments())
                .after_help(help::DEMO),
        )
}

fn with_sources(verb: &'static str, about: &'static str, required: bool) -> Command {
    let text =
        |id: &'static str, long: &'static str, value: &'static str| Arg::new(id).long(long).value_name(value);
    let source = Arg::new("source").value_name("SOURCE").action(ArgAction::Append).num_args(0..);
    let mut command =
        Command::new(verb).about(about).arg_required_else_help(required).next_help_heading("Packets");
    if required {
        command = command.arg(source.help(
            "Where packets come from: a file, -, tcp://HOST, exec:'COMMAND' … (`pcaphub --help` lists all)",
        ));
    }
    command
        .arg(
            text("to", "to", "SINK").action(ArgAction::Append).help("Also deliver to this endpoint; repeats"),
        )
        .arg(
            Arg::new("read")
                .short('r')
                .value_name("FILE")
                .action(ArgAction::Append)
                .help("A file as source, verbatim"),
        )
        .arg(
            Arg::new("write")
                .short('w')
                .value_name("FILE")
                .action(ArgAction::Append)
                .help("A file as sink, verbatim"),
        )
        .arg(
            Arg::new("interface")
                .short('i')
                .value_name("IFACE")
                .action(ArgAction::Append)
                .help("Capture live on an interface; any is all of them"),
        )
        .arg(
            Arg::new("no-promiscuous")
                .short('p')
                .action(ArgAction::SetTrue)
                .help("With -i: only packets for this machine"),
        )
        .arg(
            Arg::new("buffer")
                .short('B')
                .value_name("KIB")
                .value_parser(kibibytes)
                .help("With -i: memory of the kernel's ring, in KiB [default: a sixteenth of --max-memory]"),
        )
        .arg(
            text("filter", "filter", "FILTER")
                .short('f')
                .help("Only packets that match, as tcpdump has it: 'tcp port 80'; of every source that has none of its own"),
        )
        .arg(
            text("snaplen", "snaplen", "OCTETS")
                .short('s')
                .help("Keep this many octets of each packet, of every source that has none of its own"),
        )
        .arg(
            text("opt", "opt", "KEY=VALUE")
                .action(ArgAction::Append)
                .help("Add an option to the endpoint before it; repeats"),
        )
        .arg(
            text("format", "format", "FORMAT")
                .value_parser(PossibleValuesParser::new(["pcap", "pcap-ns", "pcapng"]))
                .help("Format of the verb's own output, with pipe of every --to [default: see `pcaphub --help`]"),
        )
        .arg(
            text("on-slow", "on-slow", "WHAT")
                .value_parser(PossibleValuesParser::new(["wait", "drop", "disconnect"]))
                .help("When a client is too slow: pause the sources, drop for this client, or disconnect it"),
        )
        .arg(text("dedup", "dedup", "TIME").help("Drop packets that another source had within this time"))
        .arg(
            text("order", "order", "ORDER")
                .value_parser(PossibleValuesParser::new(["time", "arrival", "exact"]))
                .help("Order of several sources: time, arrival, or exact (waits for every source)"),
        )
        .arg(
            text("hold", "hold", "TIME")
                .default_value("100ms")
                .help("How long the others wait for a source that has nothing to read"),
        )
        .arg(
            Arg::new("count")
                .short('c')
                .value_name("COUNT")
                .value_parser(value_parser!(u64).range(1..))
                .help("Stop after this many packets"),
        )
        .arg(text("duration", "duration", "TIME").allow_hyphen_values(true).help("Stop after this time"))
        .arg(
            text("pace", "pace", "PACE")
                .allow_hyphen_values(true)
                .help("How fast files go: 1x is their original speed, 10x, 100kpps, 50Mbit, max"),
        )
        .arg(text("loop", "loop", "N").allow_hyphen_values(true).help("How often files are read, or forever; times move on"))
        .arg(print_config::argument())
        .args(not_built_arguments())
        .next_help_heading("Limits and messages")
        .args(limit_arguments())
        .arg(
            Arg::new("quiet")
                .short('q')
                .action(ArgAction::Count)
                .help("Say less: only warnings; twice: only errors"),
        )
        .arg(Arg::new("verbose").short('v').action(ArgAction::Count).help("Say more"))
        .arg(text("user", "user", "NAME[:GROUP]").help(
            "Started as root: become this user at once; root keeps all rights [default: pcaphub if there is one, else nobody]",
        ))
        .arg(
            text("log-format", "log-format", "FORMAT")
                .value_parser(value_parser!(LogFormat))
                .default_value("text")
                .hide_possible_values(true)
                .help("text or json"),
        )
        .arg(
            text("stats", "stats", "FORMAT")
                .value_parser(["json"])
                .help("Print the counts at the end, and on SIGUSR1, as JSON"),
        )
}

/// The limits, as the configuration file has them.
fn limit_arguments() -> impl Iterator<Item = Arg> {
    let default = Config::default();
    config::limits().map(move |limit| {
        Arg::new(limit.name)
            .long(limit.name)
            .value_name(limit.value)
            .default_value((limit.shown)(&default).unwrap_or_default())
            .help(capitalised(limit.help))
    })
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().into_iter().flat_map(char::to_uppercase).chain(letters).collect()
}

fn listener_arguments() -> Vec<Arg> {
    let text = |id: &'static str, value: &'static str| {
        Arg::new(id).long(id).value_name(value).help_heading("Listener")
    };
    vec![
        text("listen", "ADDR:PORT")
            .action(ArgAction::Append)
            .help("Where clients connect; repeats; port 0 is any free one [default: 127.0.0.1:57012]"),
        text("allow", "CIDR,...").help("Networks that may connect, or any; needed off loopback"),
        text("deny", "CIDR,...").help("Networks that may not"),
        text("history", "TIME|SIZE").help("What a new client gets of the past: 10s or 64MiB"),
    ]
}

fn replay_arguments() -> Vec<Arg> {
    let text = |id: &'static str, value: &'static str| {
        Arg::new(id).long(id).value_name(value).help_heading("Interface")
    };
    vec![
        text("oversize", "WHAT")
            .value_parser(PossibleValuesParser::new(["drop", "segment", "truncate"]))
            .help("Packets over the MTU [default: drop, and count them]"),
        text("create", "KIND")
            .value_parser(PossibleValuesParser::new(["tap"]))
            .help("Make the interface, and take it away at the end; needs CAP_NET_ADMIN"),
        text("mac-src", "ADDRESS").help("Source address of packets that had no Ethernet header"),
        text("mac-dst", "ADDRESS").help("Destination address of those"),
        text("force", "yes")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("yes")
            .help("Also onto an interface that is captured from"),
    ]
}

/// `-B`, as tcpdump has it.
fn kibibytes(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|kib| (1024..=2 << 20).contains(kib));
    number.ok_or_else(|| "it is in KiB, from 1024 (1 MiB) to 2097152 (2 GiB)".into())
}

fn demo_arguments() -> Vec<Arg> {
    let text = |id: &'static str, value: &'static str| {
        Arg::new(id).long(id).value_name(value).help_heading("Traffic")
    };
    vec![
        text("rate", "N").help("Packets per second, or max [default: 1000]"),
        text("mix", "MIX").help("realistic, imix, or a packet size in octets [default: realistic]"),
        text("flows", "N").help("Flows at once [default: 20]"),
        text("seed", "N").help("The same seed makes the same packets [default: 1]"),
    ]
}

fn not_built_arguments() -> Vec<Arg> {
    let argument = |(id, flag, _, _): &(&'static str, &'static str, &str, &str)| {
        let argument = Arg::new(*id).value_name("VALUE").hide(true);
        match flag.strip_prefix("--") {
            Some(long) => argument.long(long).num_args(0..=1).require_equals(*id == "web"),
            None => argument.short(flag.chars().nth(1).unwrap_or('?')),
        }
    };
    OPTIONS_NOT_BUILT.iter().map(argument).collect()
}

/// The value of an option of the command line.
pub(crate) fn option<T>(
    matches: &ArgMatches,
    id: &str,
    read: impl FnOnce(&str) -> Value<T>,
) -> Result<Option<T>, PlanError> {
    let Ok(Some(value)) = matches.try_get_one::<String>(id) else { return Ok(None) };
    read(value).map(Some).map_err(|why| PlanError::BadValue {
        endpoint: "command line".into(),
        key: format!("--{id}"),
        value: value.clone(),
        why,
    })
}

/// Verbs that are planned: which part is missing, and what to use meanwhile.
pub(crate) const NOT_BUILT: &[(&str, &str, &str)] = &[
    ("intercept", "the TLS-decrypting proxy", ""),
    ("ca", "the TLS-decrypting proxy", "; for certificates of listeners, see `pcaphub cert`"),
    ("extcap", "the Wireshark extcap", "; use TCP@HOST:PORT in Wireshark"),
];

/// Options that are planned: which part is missing, and what to use meanwhile.
pub(crate) const OPTIONS_NOT_BUILT: &[(&str, &str, &str, &str)] = &[
    ("profile", "--profile", "client profiles", "; use --format"),
    ("web", "--web", "the dashboard", "; `pcaphub top` shows the counts in a terminal"),
    ("config", "--config", "a file beside a command line", "; `pcaphub run FILE` runs what a file says"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }
}
