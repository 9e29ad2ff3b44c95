//! The command line into a plan.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, builder::PossibleValuesParser, value_parser};
use pcaphub::defaults::pace_all;
use pcaphub::endpoint::{DEFAULT_PORT, Endpoint, EndpointError, Scheme};
use pcaphub::limits::Limits;
use pcaphub::plan::{self, Plan, PlanError, Reconnect, SinkSpec, SourceSpec, Value};
use pcaphub::{sink, source};

use crate::logging::LogFormat;
use crate::{cert, check, completions, exit, help, interfaces, manual, print_config, record, run};

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
    /// To write manual pages.
    Manual(manual::Pages),
    /// To print what a shell completes by.
    Completions(clap_complete::Shell),
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

/// Verbs that are planned: which part is missing, and what to use meanwhile.
const NOT_BUILT: &[(&str, &str, &str)] = &[
    ("intercept", "the TLS-decrypting proxy", ""),
    ("top", "the terminal dashboard", "; send SIGUSR1 for the counts"),
    ("ca", "the TLS-decrypting proxy", "; for certificates of listeners, see `pcaphub cert`"),
    ("extcap", "the Wireshark extcap", "; use TCP@HOST:PORT in Wireshark"),
];

/// Options that are planned: which part is missing, and what to use meanwhile.
const OPTIONS_NOT_BUILT: &[(&str, &str, &str, &str)] = &[
    ("profile", "--profile", "client profiles", "; use --format"),
    ("web", "--web", "the dashboard", "; send SIGUSR1 for the counts"),
    ("config", "--config", "a file beside a command line", "; `pcaphub run FILE` runs what a file says"),
];

/// Reads the process's command line; what is wrong with it, or help that was asked for, is
/// printed.
pub(crate) fn parse() -> Result<Task, ExitCode> {
    let matches = command().try_get_matches().map_err(|error| {
        exit::print_usage(&error);
        ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 })
    })?;
    match matches.subcommand() {
        Some(("cert", matches)) => return Ok(Task::Cert(cert::ask(matches))),
        Some(("interfaces", matches)) => return Ok(Task::Interfaces(interfaces::form(matches))),
        Some(("man", matches)) => return Ok(Task::Manual(manual::pages(matches))),
        Some(("completions", matches)) => {
            return completions::shell(matches).map(Task::Completions).ok_or(ExitCode::from(exit::USAGE));
        }
        Some(("check", matches)) => return Ok(Task::Check(check::files(matches))),
        _ => {}
    }
    let arguments = match matches.subcommand() {
        Some(("run", matches)) => run::arguments(matches).map_err(|error| exit::report(&error.into()))?,
        _ => arguments(&matches).map_err(|error| exit::report(&error.into()))?,
    };
    let prints = matches.subcommand().is_some_and(|(_, matches)| print_config::is_wanted(matches));
    Ok(if prints { Task::PrintConfig(Box::new(arguments)) } else { Task::Hub(Box::new(arguments)) })
}

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
                .help("Only packets that match, as tcpdump has it: 'tcp port 80'; of every source"),
        )
        .arg(
            text("snaplen", "snaplen", "OCTETS")
                .short('s')
                .help("Keep this many octets of each packet, of every source"),
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
        .arg(
            text("max-memory", "max-memory", "SIZE")
                .default_value("512MiB")
                .help("What the process may hold, 16MiB at least"),
        )
        .arg(
            text("max-clients", "max-clients", "N")
                .default_value("256")
                .value_parser(value_parser!(u32).range(1..))
                .help("Clients of all listeners together"),
        )
        .arg(
            text("max-clients-per-address", "max-clients-per-address", "N")
                .default_value("16")
                .value_parser(value_parser!(u32).range(1..))
                .help("Clients of one remote address"),
        )
        .arg(
            text("max-producers", "max-producers", "N")
                .default_value("256")
                .value_parser(value_parser!(u32).range(1..))
                .help("Producers of one tcp-listen:// or unix-listen: source; beyond, the longest-silent is cut"),
        )
        .arg(
            text("max-producers-per-address", "max-producers-per-address", "N")
                .default_value("16")
                .value_parser(value_parser!(u32).range(1..))
                .help("Producers of one remote address"),
        )
        .arg(
            text("producer-silence", "producer-silence", "TIME")
                .default_value("30s")
                .help("How long a producer must be silent to be cut for another"),
        )
        .arg(
            text("keepalive", "keepalive", "TIME")
                .default_value("30s")
                .help("An idle peer that answers no probe for so long is gone"),
        )
        .arg(
            text("client-timeout", "client-timeout", "TIME")
                .default_value("30s")
                .help("A client that acknowledges nothing sent to it for so long is dead"),
        )
        .arg(
            text("header-wait", "header-wait", "TIME")
                .default_value("1s")
                .help("A client gets a header at the latest after this, assumed if need be"),
        )
        .arg(
            text("handshake-timeout", "handshake-timeout", "TIME")
                .default_value("5s")
                .help("What a peer gets for its TLS handshake"),
        )
        .arg(
            text("drain", "drain", "TIME")
                .default_value("5s")
                .help("What clients get to take what is queued when the hub is told to stop"),
        )
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

fn arguments(matches: &ArgMatches) -> Result<Arguments, PlanError> {
    let Some((name, matches)) = matches.subcommand() else {
        return Err(PlanError::Refused("a verb is needed".into()));
    };
    if let Some((_, part, instead)) = NOT_BUILT.iter().find(|(verb, _, _)| *verb == name) {
        return Err(PlanError::NotBuilt { what: format!("pcaphub {name}"), part, instead });
    }
    let verb = match name {
        "serve" => Verb::Serve,
        "cat" => Verb::Cat,
        "demo" => Verb::Demo,
        "replay" => Verb::Replay,
        "record" => Verb::Record,
        _ => Verb::Pipe,
    };
    for (id, flag, part, instead) in OPTIONS_NOT_BUILT {
        if matches.contains_id(id) {
            return Err(PlanError::NotBuilt { what: (*flag).to_owned(), part, instead });
        }
    }
    let (sources, sinks) = endpoints(verb, matches)?;
    if sinks.is_empty() {
        let why = "where shall the packets go? Add --to SINK, e.g. --to tcp://192.168.1.3:57012 or --to capture.pcapng";
        return Err(PlanError::Refused(why.into()));
    }
    let defaults = Limits::default();
    let limits = Limits {
        max_memory: memory(matches)?,
        max_clients: number(matches, "max-clients"),
        max_clients_per_address: number(matches, "max-clients-per-address"),
        max_producers: number(matches, "max-producers"),
        max_producers_per_address: number(matches, "max-producers-per-address"),
        client_timeout: option(matches, "client-timeout", plan::duration)?.unwrap_or(defaults.client_timeout),
        keepalive: option(matches, "keepalive", plan::duration)?.unwrap_or(defaults.keepalive),
        producer_silence: option(matches, "producer-silence", plan::duration)?
            .unwrap_or(defaults.producer_silence),
        header_wait: option(matches, "header-wait", plan::duration)?.unwrap_or(defaults.header_wait),
        handshake_timeout: option(matches, "handshake-timeout", plan::duration)?
            .unwrap_or(defaults.handshake_timeout),
        drain: option(matches, "drain", plan::duration)?.unwrap_or(defaults.drain),
    };
    let plan = Plan {
        sources,
        sinks,
        order: option(matches, "order", plan::order)?,
        hold: option(matches, "hold", plan::duration)?.unwrap_or(Plan::default().hold),
        reconnect: if verb == Verb::Serve { Reconnect::Always } else { Reconnect::Error },
        count: matches.get_one("count").copied(),
        duration: option(matches, "duration", plan::span)?,
        limits,
    };
    // `cat` stands in pipelines, where news of who came and went is noise.
    let quiet = matches.get_count("quiet") as i8 + i8::from(verb == Verb::Cat);
    Ok(Arguments {
        verb,
        plan,
        verbosity: matches.get_count("verbose").min(8) as i8 - quiet,
        log_format: matches.get_one("log-format").copied().unwrap_or(LogFormat::Text),
        stats_json: matches.contains_id("stats"),
        config: None,
        user: matches.get_one("user").cloned(),
    })
}

fn number(matches: &ArgMatches, id: &str) -> usize {
    matches.get_one::<u32>(id).map_or(0, |n| *n as usize)
}

fn memory(matches: &ArgMatches) -> Result<usize, PlanError> {
    Ok(option(matches, "max-memory", plan::memory)?.unwrap_or(512 << 20))
}

/// The value of an option of the command line.
fn option<T>(
    matches: &ArgMatches,
    id: &str,
    read: impl Fn(&str) -> Value<T>,
) -> Result<Option<T>, PlanError> {
    let Ok(Some(value)) = matches.try_get_one::<String>(id) else { return Ok(None) };
    read(value).map(Some).map_err(|why| PlanError::BadValue {
        endpoint: "command line".into(),
        key: format!("--{id}"),
        value: value.clone(),
        why,
    })
}

/// What stands on the command line where an endpoint may stand.
enum Word {
    Source(Endpoint),
    Sink(Endpoint),
    /// A listener of the verb's own.
    Listener(Endpoint),
    /// The directory of the verb `record`, or its files.
    Recording(Endpoint),
    Option(String),
}

/// All endpoints in the order given, each with the `--opt` behind it, and the verb's own.
fn endpoints(verb: Verb, matches: &ArgMatches) -> Result<(Vec<SourceSpec>, Vec<SinkSpec>), PlanError> {
    let mut words = Vec::new();
    let file = |text: &str| Ok(Endpoint { scheme: Scheme::File, address: text.into(), options: Vec::new() });
    let interface =
        |text: &str| Ok(Endpoint { scheme: Scheme::If, address: text.into(), options: Vec::new() });
    collect(matches, "source", &mut words, |text| Endpoint::parse(text).map(Word::Source))?;
    collect(matches, "read", &mut words, |text| file(text).map(Word::Source))?;
    collect(matches, "interface", &mut words, |text| interface(text).map(Word::Source))?;
    collect(matches, "to", &mut words, |text| Endpoint::parse(text).map(Word::Sink))?;
    let write = if verb == Verb::Record { Word::Recording } else { Word::Sink };
    collect(matches, "write", &mut words, |text| file(text).map(write))?;
    collect(matches, "listen", &mut words, |text| Endpoint::parse(&listener(text)).map(Word::Listener))?;
    collect(matches, "opt", &mut words, |text| Ok(Word::Option(text.into())))?;
    words.sort_by_key(|(index, _)| *index);
    if verb == Verb::Replay {
        last_is_interface(&mut words)?;
    }
    let directory = if verb == Verb::Record { record::directory(matches)? } else { None };
    if let Some((_, word)) = words.iter_mut().find(|(place, _)| Some(*place) == directory)
        && let Word::Source(endpoint) = word
    {
        *word = Word::Recording(endpoint.clone());
    }

    let mut given: Vec<Word> = Vec::new();
    for (_, word) in words {
        match word {
            Word::Option(option) => match given.pop() {
                Some(Word::Source(endpoint)) => given.push(Word::Source(endpoint.with_option(&option)?)),
                Some(Word::Sink(endpoint)) => given.push(Word::Sink(endpoint.with_option(&option)?)),
                Some(Word::Listener(endpoint)) => given.push(Word::Listener(endpoint.with_option(&option)?)),
                Some(Word::Recording(endpoint)) => {
                    given.push(Word::Recording(endpoint.with_option(&option)?));
                }
                _ => {
                    return Err(PlanError::Refused(format!(
                        "--opt {option} stands before any endpoint; put it behind the one it belongs to"
                    )));
                }
            },
            endpoint => given.push(endpoint),
        }
    }
    let (mut sources, mut sinks, mut own) = (Vec::new(), Vec::new(), Vec::new());
    if verb == Verb::Demo {
        sources.push(source::spec(with_source_options(demo(matches)?, matches)?)?);
    }
    for word in given {
        match word {
            Word::Source(endpoint) => sources.push(source::spec(with_source_options(endpoint, matches)?)?),
            Word::Sink(endpoint) if verb == Verb::Pipe => {
                // It has no sink of its own: what is said for that is meant for these.
                sinks.push(sink::spec(with_options(endpoint, matches, &["format", "on-slow", "dedup"])?)?);
            }
            Word::Sink(endpoint) if verb == Verb::Replay && endpoint.scheme == Scheme::If => {
                let keys = ["oversize", "create", "mac-src", "mac-dst", "force"];
                let mut endpoint = with_options(endpoint, matches, &keys)?;
                // At the original speed, unless told otherwise.
                if endpoint.option("pace").is_none() && !matches.contains_id("pace") {
                    endpoint = endpoint.with_option("pace=1x")?;
                }
                sinks.push(sink::spec(endpoint)?);
            }
            Word::Sink(endpoint) => sinks.push(sink::spec(endpoint)?),
            Word::Listener(endpoint) => own.push(endpoint),
            Word::Recording(endpoint) => sinks.push(sink::spec(record::endpoint(endpoint, matches)?)?),
            Word::Option(_) => {}
        }
    }
    for endpoint in self::own(verb, own, matches)? {
        sinks.push(sink::spec(endpoint)?);
    }
    if let Some(pace) = option(matches, "pace", |text| plan::pace(text).map(|_| text.to_owned()))? {
        pace_all(&pace, &mut sources, &mut sinks);
    }
    Ok((sources, sinks))
}

/// `replay SOURCE... INTERFACE`.
fn last_is_interface(words: &mut [(usize, Word)]) -> Result<(), PlanError> {
    let sources = words.iter().filter(|(_, word)| matches!(word, Word::Source(_))).count();
    let last = words.iter_mut().rev().find(|(_, word)| matches!(word, Word::Source(_)));
    match last {
        Some((_, word)) if sources > 1 => {
            if let Word::Source(endpoint) = word {
                let mut interface = endpoint.clone();
                if interface.scheme == Scheme::File {
                    interface.scheme = Scheme::If;
                }
                *word = Word::Sink(interface);
            }
            Ok(())
        }
        _ => Err(PlanError::Refused(
            "a source and an interface are needed: pcaphub replay capture.pcap eth1 \
             (`pcaphub interfaces` lists those that there are)"
                .into(),
        )),
    }
}

fn collect(
    matches: &ArgMatches,
    id: &str,
    words: &mut Vec<(usize, Word)>,
    read: impl Fn(&str) -> Result<Word, EndpointError>,
) -> Result<(), PlanError> {
    let Ok(Some(values)) = matches.try_get_many::<String>(id) else { return Ok(()) };
    for (value, index) in values.zip(matches.indices_of(id).into_iter().flatten()) {
        words.push((index, read(value)?));
    }
    Ok(())
}

/// The verb's own sinks: the listeners that were given, or standard output.
fn own(verb: Verb, mut given: Vec<Endpoint>, matches: &ArgMatches) -> Result<Vec<Endpoint>, PlanError> {
    let keys: &[&str] = match verb {
        Verb::Pipe | Verb::Replay | Verb::Record | Verb::Run => return Ok(Vec::new()),
        Verb::Cat => {
            given.push(Endpoint::parse("-")?);
            &["format", "on-slow", "dedup"]
        }
        Verb::Serve | Verb::Demo => {
            if given.is_empty() {
                given.push(Endpoint::parse(&listener(""))?);
            }
            &["format", "on-slow", "dedup", "allow", "deny", "history"]
        }
    };
    let own = given.into_iter().map(|endpoint| with_options(endpoint, matches, keys));
    Ok(own.collect::<Result<_, _>>()?)
}

/// An endpoint with options of the command line that it does not have itself.
fn with_options(
    mut endpoint: Endpoint,
    matches: &ArgMatches,
    keys: &[&str],
) -> Result<Endpoint, EndpointError> {
    for key in keys {
        // A Unix socket's mode decides who may connect; networks do not apply to it.
        let applies = endpoint.scheme != Scheme::UnixListen || !["allow", "deny"].contains(key);
        if let Ok(Some(value)) = matches.try_get_one::<String>(key)
            && applies
            && endpoint.option(key).is_none()
        {
            endpoint = endpoint.with_option(&format!("{key}={value}"))?;
        }
    }
    Ok(endpoint)
}

/// A source with what the command line says of all sources, or of all interfaces, where it does not
/// say it itself.
fn with_source_options(mut endpoint: Endpoint, matches: &ArgMatches) -> Result<Endpoint, EndpointError> {
    let live = endpoint.scheme == Scheme::If;
    let file = endpoint.scheme == Scheme::File;
    let buffer = matches.get_one::<u32>("buffer").map(|kib| format!("{kib}KiB"));
    let all = [
        ("filter", matches.get_one::<String>("filter").cloned()),
        ("snaplen", matches.get_one::<String>("snaplen").cloned()),
        ("promiscuous", (live && matches.get_flag("no-promiscuous")).then(|| "no".to_owned())),
        ("buffer", buffer.filter(|_| live)),
        ("loop", matches.get_one::<String>("loop").filter(|_| file).cloned()),
    ];
    for (key, value) in all {
        if let Some(value) = value.filter(|_| endpoint.option(key).is_none()) {
            endpoint = endpoint.with_option(&format!("{key}={value}"))?;
        }
    }
    Ok(endpoint)
}

/// What `--listen` takes as an endpoint: `ADDR:PORT`, `ADDR`, `:PORT`, `PORT`, or an endpoint.
fn listener(address: &str) -> String {
    let endpoint = address.contains("://") || address.starts_with("unix-listen:");
    match address {
        "" => format!("tcp-listen://127.0.0.1:{DEFAULT_PORT}"),
        port if port.parse::<u16>().is_ok() => format!("tcp-listen://127.0.0.1:{port}"),
        port if port.starts_with(':') && !port.starts_with("::") => format!("tcp-listen://127.0.0.1{port}"),
        other if endpoint => other.to_owned(),
        other => format!("tcp-listen://{other}"),
    }
}

fn demo(matches: &ArgMatches) -> Result<Endpoint, PlanError> {
    let mut endpoint = Endpoint::parse("demo:")?;
    for key in ["rate", "mix", "flows", "seed"] {
        if let Some(value) = matches.get_one::<String>(key) {
            endpoint = endpoint.with_option(&format!("{key}={value}"))?;
        }
    }
    Ok(endpoint)
}

/// What a line says, for tests.
#[cfg(test)]
pub(crate) fn of_words(line: &[&str]) -> Result<Arguments, String> {
    let words = std::iter::once("pcaphub").chain(line.iter().copied().filter(|word| !word.is_empty()));
    let matches = command().try_get_matches_from(words).map_err(|error| error.to_string())?;
    arguments(&matches).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use pcaphub_core::feed::{History, OnSlow};
    use pcaphub_core::pace::Pace;

    fn plan_of(line: &[&str]) -> Result<Plan, String> {
        of_words(line).map(|arguments| arguments.plan)
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn serve_listens_on_loopback_unless_told_otherwise() {
        let plan = plan_of(&["serve", "x.pcap"]).unwrap();
        assert_eq!(plan.sinks[0].endpoint.address, "127.0.0.1:57012");
        let plan = plan_of(&[
            "serve",
            "x.pcap",
            "--listen",
            "0.0.0.0:1",
            "--listen",
            ":2",
            "--allow",
            "any",
            "--history",
            "10s",
        ])
        .unwrap();
        assert_eq!(plan.sinks[0].endpoint.address, "0.0.0.0:1");
        assert_eq!(plan.sinks[1].endpoint.address, "127.0.0.1:2");
        assert_eq!(plan.sinks[1].history, History::Age(Duration::from_secs(10)));
        assert!(plan.sinks[0].allow.is_some());
    }

    #[test]
    fn the_options_of_pipe_are_for_every_sink_that_does_not_say_it_itself() {
        let line = [
            "pipe",
            "a.pcap",
            "--format",
            "pcapng",
            "--to",
            "null:",
            "--to",
            "tcp://b?format=pcap",
            "--dedup",
            "1s",
        ];
        let plan = plan_of(&line).unwrap();
        assert_eq!(plan.sinks[0].format.unwrap().to_string(), "pcapng");
        assert_eq!(plan.sinks[1].format.unwrap().to_string(), "pcap");
        assert!(plan.sinks.iter().all(|sink| sink.dedup == Some(Duration::from_secs(1))));
    }

    #[test]
    fn options_belong_to_the_endpoint_before_them() {
        let line = [
            "pipe",
            "a.pcap",
            "--opt",
            "name=a",
            "tcp://b",
            "--opt",
            "reconnect=no",
            "--to",
            "null:",
            "--opt",
            "on-slow=drop",
        ];
        let plan = plan_of(&line).unwrap();
        assert_eq!(&*plan.sources[0].name, "a");
        assert_eq!(plan.sources[1].reconnect, Some(Reconnect::No));
        assert_eq!(plan.sinks[0].on_slow, Some(OnSlow::Drop));
    }

    #[test]
    fn the_last_word_of_replay_is_the_interface_and_the_speed_the_original_one() {
        let plan = plan_of(&["replay", "a.pcap", "b.pcap", "eth1", "--opt", "oversize=segment"]).unwrap();
        assert_eq!(plan.sources.len(), 2);
        assert_eq!(plan.sinks[0].endpoint.to_string(), "if:eth1");
        assert_eq!(plan.sinks[0].pace, Some(Pace::Times(1.0)));
        assert_eq!(plan.sinks[0].injection.oversize, plan::Oversize::Segment);
        let plan = plan_of(&["replay", "a.pcap", "if:eth1?create=tap", "--pace", "max"]).unwrap();
        assert_eq!(plan.sinks[0].pace, Some(Pace::Max));
        assert!(plan.sinks[0].injection.create_tap);
        assert!(plan_of(&["replay", "a.pcap"]).unwrap_err().contains("pcaphub interfaces"));
        assert!(plan_of(&["replay", "a.pcap", "eth1", "--force"]).unwrap().sinks[0].injection.force);
        assert!(!plan.sinks[0].injection.force);
        let group = ["replay", "a.pcap", "eth1", "--mac-src", "01:00:5e:00:00:01"];
        assert!(plan_of(&group).unwrap_err().contains("group"));
    }

    #[test]
    fn numbers_below_what_makes_sense_are_told_what_is_meant() {
        for (option, value, said) in [
            ("--pace", "-1x", "it is max, a speed"),
            ("--duration", "-5s", "it is a time"),
            ("--duration", "0", "not 0"),
            ("--loop", "-1", "it is how often"),
            ("-B", "0", "KiB"),
        ] {
            let error = plan_of(&["serve", "-i", "eth0", "a.pcap", option, value]).unwrap_err();
            assert!(error.contains(said), "{option}: {error}");
        }
    }

    #[test]
    fn the_last_word_of_record_is_the_directory() {
        let recording = |line: &[&str]| {
            let plan = plan_of(line).unwrap();
            (plan.sources.len(), plan.sinks[0].recording.clone().unwrap())
        };
        let (sources, hourly) = recording(&["record", "a.pcap", "b.pcap", "captures"]);
        assert_eq!((sources, hourly.directory.to_str()), (2, Some("captures")));
        assert_eq!(hourly.rotation.every, Some(Duration::from_secs(3600)));
        assert_eq!(hourly.rotation.size, Some(1 << 30));
        assert_eq!(hourly.template.text(), "%Y-%m-%dT%H-%M-%SZ.pcapng");
        let (sources, ring) = recording(&["record", "ring/", "-i", "eth0", "--size", "1MB", "--keep", "3"]);
        assert_eq!((sources, ring.rotation.every, ring.keep.count), (1, None, Some(3)));
        let plan = plan_of(&["record", "-i", "eth0", "d", "--format", "pcap", "--to", "null:"]).unwrap();
        assert_eq!(plan.sinks.len(), 2);
        assert!(
            plan.sinks.iter().any(|sink| {
                sink.recording.as_ref().is_some_and(|r| r.template.text().ends_with("Z.pcap"))
            })
        );
        let error = |line: &[&str]| plan_of(line).unwrap_err();
        assert!(error(&["record", "captures"]).contains("a source and a directory"));
        assert!(error(&["record", "a", "tcp://b"]).contains("--to"));
        assert!(error(&["record", "a", "d", "--template", "a/b"]).contains("cannot be in a name"));
        assert!(error(&["record", "a", "d", "--size", "1GB", "--keep-total", "1MB"]).contains("no room"));
        assert!(error(&["pipe", "a", "--to", "x.pcap?", "--opt", "keep=3"]).contains("it is one file"));
    }

    #[test]
    fn record_understands_the_options_of_tcpdump() {
        let recording = |line: &[&str]| {
            let line = [&["record", "-i", "eth0", "-w", "/var/cap/x-%H%M.pcap"], line].concat();
            plan_of(&line).map(|plan| plan.sinks[0].recording.clone().unwrap())
        };
        let timed = recording(&["-G", "60", "-W", "10"]).unwrap();
        assert_eq!((timed.directory.to_str(), timed.template.text()), (Some("/var/cap"), "x-%H%M.pcap"));
        assert_eq!(timed.rotation.every, Some(Duration::from_secs(60)));
        assert_eq!((timed.files, timed.keep.count, timed.rotation.size), (Some(10), None, None));
        let sized = recording(&["-C", "100", "-W", "3"]).unwrap();
        assert_eq!((sized.rotation.size, sized.keep.count, sized.files), (Some(100_000_000), Some(3), None));
        let both = recording(&["-C", "2k", "-G", "60", "-W", "3"]).unwrap();
        assert_eq!((both.rotation.size, both.keep.count, both.files), (Some(2048), Some(3), None));
        assert_eq!(recording(&[]).unwrap().rotation.size, Some(1 << 30));
        assert!(recording(&["-W", "3"]).unwrap_err().contains("-W COUNT goes with -C"));
        assert!(recording(&["-C", "much"]).unwrap_err().contains("millions of octets"));
        assert!(recording(&["-z", "gzip"]).unwrap_err().contains("watch the directory"));
        let lone = plan_of(&["record", "-i", "eth0", "-C", "1", "-w", "x.pcap"]).unwrap();
        assert_eq!(lone.sinks[0].recording.as_ref().unwrap().directory.to_str(), Some("."));
    }

    #[test]
    fn the_service_that_makes_an_interface_is_one_that_starts() {
        let unit = include_str!("../../../packaging/systemd/pcaphub-replay.service");
        let line =
            unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/pcaphub ")).unwrap();
        let plan = plan_of(&line.split(' ').collect::<Vec<_>>()).unwrap();
        assert_eq!(plan.sources[0].reconnect, Some(Reconnect::Always));
        assert!(plan.sinks[0].injection.create_tap);
    }

    #[test]
    fn each_listener_may_have_a_filter_of_its_own() {
        let line = ["serve", "x", "--listen", ":1", "--opt", "filter=port 80", "--listen", ":2?filter=udp"];
        let plan = plan_of(&line).unwrap();
        assert_eq!(plan.sinks[0].filter.as_deref(), Some("port 80"));
        assert_eq!(plan.sinks[1].filter.as_deref(), Some("udp"));
        assert_eq!(
            plan_of(&["serve", "x", "-f", "icmp"]).unwrap().sources[0].filter.as_deref(),
            Some("icmp")
        );
    }

    #[test]
    fn what_is_not_built_names_the_missing_part() {
        let error = |line: &[&str]| plan_of(line).unwrap_err();
        assert!(error(&["serve", "x", "--web"]).contains("dashboard"));
        assert!(error(&["serve", "nats://x"]).contains("message bus"));
        assert!(error(&["serve", "x", "--config", "y.toml"]).contains("pcaphub run FILE"));
    }

    #[test]
    fn mistakes_are_answered_with_what_to_write() {
        let error = |line: &[&str]| plan_of(line).unwrap_err();
        assert!(error(&["pipe", "x"]).contains("--to SINK"));
        assert!(error(&["serve", "null:"]).contains("only a sink"));
        assert!(error(&["serve", "tcp://x?colour=red"]).contains("known are"));
        assert!(error(&["serve", "x", "--opt", "reconnect=no"]).contains("unknown option"));
        assert!(error(&["serve", "x", "--hold", "soon"]).contains("--hold=soon"));
        assert!(error(&["serve", "x", "--max-memory", "1MiB"]).contains("at least 16MiB"));
    }
}
