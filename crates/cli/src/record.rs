//! The verb `record`: its words and options, and those of tcpdump that say the same.

use clap::{Arg, ArgAction, ArgMatches};
use pcaphub::endpoint::{Endpoint, Scheme};
use pcaphub::plan::PlanError;

pub(crate) const HELP: &str = "\
Each file is a whole capture by itself. While it is written it is called NAME.part; it gets its
name when it is on the disk. Without --size, --every and --packets a file ends with the hour, or
at 1 GiB. Nothing is ever removed unless --keep, --keep-total, --keep-age or --keep-free says so,
and then only files that --template could have named, the oldest first.

Examples:
  pcaphub record -i eth0 /var/captures
  pcaphub record -i eth0 /var/captures --every 1h --keep-age 14d --keep-free 20GiB
  pcaphub record tcp://sensor ring --size 100MB --keep 10
  pcaphub record tcp://sensor packed --template '%F_%H%M%S.pcapng.zst'
  pcaphub record -i eth0 live --to tcp-listen://127.0.0.1:57012      and serve it meanwhile
  pcaphub record -i eth0 -G 3600 -W 24 -w '/var/captures/eth0-%H%M.pcap'      as with tcpdump
  mergecap -w all.pcapng /var/captures/*.pcapng

As with tcpdump: -C is the size in millions of octets, or with k, m or g behind it; -G the seconds
of a file; -W with -C how many files are kept, with -G alone after how many it ends.";

/// Options that the recording's endpoint takes as they are.
const KEYS: &[&str] = &[
    "template",
    "size",
    "every",
    "packets",
    "keep",
    "keep-total",
    "keep-age",
    "keep-free",
    "files",
    "zone",
    "format",
    "on-slow",
    "dedup",
];

/// The verb's own options.
pub(crate) fn arguments() -> Vec<Arg> {
    let text = |id: &'static str, value: &'static str| {
        Arg::new(id).long(id).value_name(value).help_heading("Recording")
    };
    let tcpdump = |id: &'static str, letter: char, value: &'static str| {
        Arg::new(id).short(letter).value_name(value).help_heading("As with tcpdump")
    };
    vec![
        text("template", "NAME")
            .help("Names, as strftime(3) has it; the extension decides [default: %Y-%m-%dT%H-%M-%SZ.pcapng]"),
        text("size", "SIZE").help("A file has at most so much: 100MB, 1GiB"),
        text("every", "TIME").help("A file ends at multiples of this time: 1h at every full hour"),
        text("packets", "N").help("A file has at most so many packets"),
        text("keep", "N").help("Keep so many files"),
        text("keep-total", "SIZE").help("Keep so much of all files together"),
        text("keep-age", "TIME").help("Keep files so long: 14d"),
        text("keep-free", "SIZE").help("Keep so much of the disk free"),
        text("files", "N").help("End after so many files"),
        text("zone", "ZONE").help("Time of names and days: utc or local [default: utc]"),
        tcpdump("file-size", 'C', "SIZE").conflicts_with("size").help("--size, in millions of octets"),
        tcpdump("rotate-seconds", 'G', "SECONDS").conflicts_with("every").help("--every"),
        tcpdump("file-count", 'W', "COUNT")
            .conflicts_with_all(["keep", "files"])
            .help("--keep with -C, --files with -G alone"),
        tcpdump("postrotate", 'z', "COMMAND").action(ArgAction::Append).hide(true),
    ]
}

/// Which of the words that may be sources is the directory: the last, unless `-w` names the files. By its
/// place on the command line.
///
/// # Errors
/// There is none.
pub(crate) fn directory(matches: &ArgMatches) -> Result<Option<usize>, PlanError> {
    if matches.contains_id("write") {
        return Ok(None);
    }
    let words: Vec<usize> = matches.indices_of("source").into_iter().flatten().collect();
    let others = ["read", "interface"].iter().any(|id| matches.contains_id(id));
    match words.last() {
        Some(last) if words.len() > 1 || others => Ok(Some(*last)),
        _ => Err(PlanError::Refused(
            "a source and a directory are needed: pcaphub record -i eth0 /var/captures".into(),
        )),
    }
}

/// The recording's endpoint: `path` as it stands there, with the options of the command line.
///
/// # Errors
/// It is no path, or an option is given twice or without sense.
pub(crate) fn endpoint(mut endpoint: Endpoint, matches: &ArgMatches) -> Result<Endpoint, PlanError> {
    let refused = |why: &str| Err(PlanError::Refused(why.into()));
    if endpoint.scheme != Scheme::File {
        return refused(
            "the last word is the directory to record into, e.g. /var/captures; other sinks follow --to",
        );
    }
    if matches.contains_id("postrotate") {
        return refused(
            "-z is not there: a file has its name when it is whole, so that a command can watch the directory, \
             e.g. `inotifywait -m -e moved_to DIR`; for packed files give --template '%s.pcapng.zst'",
        );
    }
    for key in KEYS {
        if let Ok(Some(value)) = matches.try_get_one::<String>(key)
            && endpoint.option(key).is_none()
        {
            endpoint = endpoint.with_option(&format!("{key}={value}"))?;
        }
    }
    for (key, value) in tcpdump(matches, &endpoint)? {
        endpoint = endpoint.with_option(&format!("{key}={value}"))?;
    }
    let is_said = ["size", "every", "packets"].iter().any(|key| endpoint.option(key).is_some());
    let named = matches.contains_id("write");
    if named && !is_said {
        endpoint = endpoint.with_option("every=1h")?.with_option("size=1GiB")?;
    }
    if !named && !endpoint.address.ends_with('/') {
        endpoint.address.push('/');
    }
    Ok(endpoint)
}

/// What tcpdump's options are in ours.
fn tcpdump(matches: &ArgMatches, endpoint: &Endpoint) -> Result<Vec<(&'static str, String)>, PlanError> {
    let mut options = Vec::new();
    let value = |id: &str| matches.get_one::<String>(id);
    if let Some(size) = value("file-size") {
        options.push(("size", octets(size)?));
    }
    if let Some(seconds) = value("rotate-seconds") {
        options.push(("every", bad("-G", seconds, "it is a number of seconds", count(seconds))?.to_string()));
    }
    if let Some(files) = value("file-count") {
        let files = bad("-W", files, "it is a number of files", count(files))?.to_string();
        let has = |key: &str| endpoint.option(key).is_some() || options.iter().any(|(name, _)| *name == key);
        let key = match (has("size") || has("packets"), has("every")) {
            (true, _) => "keep",
            (false, true) => "files",
            (false, false) => {
                let why = "-W COUNT goes with -C SIZE, of which so many files are kept, or with -G SECONDS, \
                           after so many of which it ends; --keep and --files say either";
                return Err(PlanError::Refused(why.into()));
            }
        };
        options.push((key, files));
    }
    Ok(options)
}

/// tcpdump's size: millions of octets, or KiB, MiB, GiB with a letter behind it.
fn octets(text: &str) -> Result<String, PlanError> {
    let (digits, unit) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (text.get(..at), 1 << 10),
        Some((at, 'm' | 'M')) => (text.get(..at), 1 << 20),
        Some((at, 'g' | 'G')) => (text.get(..at), 1 << 30),
        _ => (Some(text), 1_000_000),
    };
    let octets = digits.and_then(count).and_then(|number| number.checked_mul(unit));
    bad("-C", text, "it is a number of millions of octets, or one with k, m or g behind it", octets)
        .map(|octets| octets.to_string())
}

fn count(text: &str) -> Option<u64> {
    text.parse().ok().filter(|count| *count > 0)
}

fn bad<T>(key: &str, value: &str, why: &str, read: Option<T>) -> Result<T, PlanError> {
    read.ok_or_else(|| PlanError::BadValue {
        endpoint: "command line".into(),
        key: key.into(),
        value: value.into(),
        why: why.into(),
    })
}
