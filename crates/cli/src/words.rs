//! The endpoints of a command line, in the order given, each with the options that are meant for it.
//!
//! An option stands behind its endpoint (`--opt`), in it, or is the verb's and for all of them; what an
//! endpoint says itself goes first. The result are the specs that a plan is made of.

use clap::ArgMatches;
use pcaphub::defaults::pace_all;
use pcaphub::endpoint::{DEFAULT_PORT, Endpoint, EndpointError, Scheme};
use pcaphub::plan::{self, PlanError, SinkSpec, SourceSpec};
use pcaphub::{sink, source};

use crate::command::option;
use crate::record;
use crate::task::Verb;

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
pub(crate) fn endpoints(
    verb: Verb,
    matches: &ArgMatches,
) -> Result<(Vec<SourceSpec>, Vec<SinkSpec>), PlanError> {
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
    if let Some(times) = matches.get_one::<String>("loop")
        && !sources.is_empty()
        && !sources.iter().any(|spec| spec.endpoint.scheme == Scheme::File)
    {
        return Err(PlanError::Refused(format!(
            "--loop {times}: none of the sources is a file, and only files can be read again; leave it out"
        )));
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
