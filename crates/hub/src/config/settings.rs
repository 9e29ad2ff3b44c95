//! Everything in the file that is not an endpoint: keys at its top, `[limits]` and `[log]`, by one table.

use std::fmt;
use std::time::Duration;

use super::Config;
use super::endpoints::{sink_keys, source_keys};
use crate::endpoint::Scheme;
use crate::limits::Limits;
use crate::plan::{self, Value};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are those of the levels")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

const LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Where a setting stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Above the first table.
    Top,
    /// Below `[limits]`.
    Limits,
    /// Below `[log]`.
    Log,
}

impl Table {
    /// Its name; empty for the file itself.
    pub fn name(self) -> &'static str {
        match self {
            Table::Top => "",
            Table::Limits => "limits",
            Table::Log => "log",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Table::Top => f.write_str("the file"),
            table => write!(f, "[{}]", table.name()),
        }
    }
}

/// A key that is not an endpoint's.
pub struct Setting {
    /// Where it stands.
    pub table: Table,
    /// Its name, that of the option on the command line.
    pub name: &'static str,
    /// What stands for its value in help.
    pub value: &'static str,
    /// What it is for, in a few words.
    pub help: &'static str,
    /// Reads its value.
    pub set: fn(&mut Config, &str) -> Value<()>,
    /// Its value as it is written; `None` where it is left out.
    pub shown: fn(&Config) -> Option<String>,
}

/// The row of a limit: its name, its field, what reads its value and what writes it, and what it is for.
macro_rules! limit {
    ($name:literal, $field:ident, $value:literal, $read:path => $shown:path, $help:literal) => {
        Setting {
            table: Table::Limits,
            name: $name,
            value: $value,
            help: $help,
            set: |config, text| $read(text).map(|value| config.plan.limits.$field = value),
            shown: |config| Some($shown(config.plan.limits.$field)),
        }
    };
}

/// Every one, `pace` aside, which is an option of endpoints.
pub const SETTINGS: &[Setting] = &[
    Setting {
        table: Table::Top,
        name: "order",
        value: "ORDER",
        help: "order of several sources: time, arrival, or exact (waits for every source)",
        set: |config, text| plan::order(text).map(|order| config.plan.order = Some(order)),
        shown: |config| {
            config.plan.order.map(|order| {
                use pcaphub_core::merge::Order;
                match order {
                    Order::Time => "time".into(),
                    Order::Arrival => "arrival".into(),
                    Order::Exact => "exact".into(),
                }
            })
        },
    },
    Setting {
        table: Table::Top,
        name: "hold",
        value: "TIME",
        help: "how long the others wait for a source that has nothing to read",
        set: |config, text| plan::duration(text).map(|hold| config.plan.hold = hold),
        shown: |config| Some(time(config.plan.hold)),
    },
    Setting {
        table: Table::Top,
        name: "reconnect",
        value: "WHEN",
        help: "when sources that do not say it are opened again: error, always or no",
        set: |config, text| plan::reconnect(text).map(|reconnect| config.plan.reconnect = reconnect),
        shown: |config| {
            Some(match config.plan.reconnect {
                plan::Reconnect::Error => "error".into(),
                plan::Reconnect::Always => "always".into(),
                plan::Reconnect::No => "no".into(),
            })
        },
    },
    Setting {
        table: Table::Top,
        name: "count",
        value: "COUNT",
        help: "stop after this many packets",
        set: |config, text| plan::count(text).map(|count| config.plan.count = Some(count)),
        shown: |config| config.plan.count.map(|count| count.to_string()),
    },
    Setting {
        table: Table::Top,
        name: "duration",
        value: "TIME",
        help: "stop after this time",
        set: |config, text| plan::span(text).map(|duration| config.plan.duration = Some(duration)),
        shown: |config| config.plan.duration.map(time),
    },
    Setting {
        table: Table::Top,
        name: "stats",
        value: "FORMAT",
        help: "json: print the counts at the end, and on SIGUSR1, as JSON",
        set: |config, text| match text {
            "json" => {
                config.stats_json = true;
                Ok(())
            }
            _ => Err("it is json".into()),
        },
        shown: |config| config.stats_json.then(|| "json".into()),
    },
    Setting {
        table: Table::Top,
        name: "user",
        value: "NAME[:GROUP]",
        help: "started as root: become this user, NAME or NAME:GROUP, at once; root keeps all rights",
        set: |config, text| {
            config.user = Some(text.to_owned());
            Ok(())
        },
        shown: |config| config.user.clone(),
    },
    Setting {
        table: Table::Log,
        name: "level",
        value: "LEVEL",
        help: "error, warn, info, debug or trace",
        set: |config, text| {
            let level = LEVELS.iter().find(|(name, _)| *name == text);
            let (_, level) = level.ok_or("it is one of error, warn, info, debug, trace")?;
            config.log_level = *level;
            Ok(())
        },
        shown: |config| {
            LEVELS.iter().find(|(_, level)| *level == config.log_level).map(|(name, _)| (*name).into())
        },
    },
    Setting {
        table: Table::Log,
        name: "format",
        value: "FORMAT",
        help: "text or json",
        set: |config, text| {
            config.log_format = match text {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err("it is text or json".into()),
            };
            Ok(())
        },
        shown: |config| {
            Some(match config.log_format {
                LogFormat::Text => "text".into(),
                LogFormat::Json => "json".into(),
            })
        },
    },
    limit! {
        "max-memory", max_memory, "SIZE", plan::memory => size,
        "what the process may hold, 16MiB at least"
    },
    limit! {
        "max-clients", max_clients, "N", peers => number,
        "clients of all listeners together"
    },
    limit! {
        "max-clients-per-address", max_clients_per_address, "N", peers => number,
        "clients of one remote address"
    },
    limit! {
        "max-producers", max_producers, "N", peers => number,
        "producers of one tcp-listen:// or unix-listen: source; beyond, the longest-silent is cut"
    },
    limit! {
        "max-producers-per-address", max_producers_per_address, "N", peers => number,
        "producers of one remote address"
    },
    limit! {
        "producer-silence", producer_silence, "TIME", plan::duration => time,
        "how long a producer must be silent to be cut for another"
    },
    limit! {
        "keepalive", keepalive, "TIME", plan::duration => time,
        "an idle peer that answers no probe for so long is gone"
    },
    limit! {
        "client-timeout", client_timeout, "TIME", plan::duration => time,
        "a client that acknowledges nothing sent to it for so long is dead"
    },
    limit! {
        "header-wait", header_wait, "TIME", plan::duration => time,
        "a client gets a header at the latest after this, assumed if need be"
    },
    limit! {
        "handshake-timeout", handshake_timeout, "TIME", plan::duration => time,
        "what a peer gets for its TLS handshake"
    },
    limit! {
        "drain", drain, "TIME", plan::duration => time,
        "what clients get to take what is queued when the hub is told to stop"
    },
];

/// The settings that are limits: options of the command line too.
pub fn limits() -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(|setting| setting.table == Table::Limits)
}

/// Names each limit: a new one does not compile until it has a setting above.
const _: fn(Limits) = |limits| {
    let Limits {
        max_memory: _,
        max_clients: _,
        max_clients_per_address: _,
        max_producers: _,
        max_producers_per_address: _,
        client_timeout: _,
        keepalive: _,
        producer_silence: _,
        header_wait: _,
        handshake_timeout: _,
        drain: _,
    } = limits;
};

/// A number of clients or producers.
fn peers(text: &str) -> Value<usize> {
    let number = text.parse::<u32>().ok().filter(|number| *number > 0);
    number.map(|number| number as usize).ok_or_else(|| "it is a number from 1 to 4294967295".into())
}

/// A number as [`peers`] reads it.
fn number(peers: usize) -> String {
    peers.to_string()
}

/// A time as [`plan::duration`] reads it.
fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string()
}

/// A size as [`plan::octets`] reads it.
fn size(octets: usize) -> String {
    const MIB: usize = 1 << 20;
    if octets.is_multiple_of(MIB) { format!("{}MiB", octets / MIB) } else { octets.to_string() }
}

/// A pace that can be read, as it is written.
pub(super) fn read_pace(text: &str) -> Value<String> {
    plan::pace(text).map(|_| text.to_owned())
}

/// What stands at the top of a file besides its settings.
const TOP: &[&str] = &["limits", "log", "pace", "sink", "source", "web"];

/// The keys of a table of settings.
pub(super) fn known(table: Table) -> Vec<&'static str> {
    let settings = SETTINGS.iter().filter(|setting| setting.table == table).map(|setting| setting.name);
    let mut known: Vec<_> = settings.chain(TOP.iter().copied().filter(|_| table == Table::Top)).collect();
    known.sort_unstable();
    known
}

/// What may have been meant by a key that `table` does not know: the same key elsewhere, or one that is
/// spelt nearly so.
pub(super) fn hint(key: &str, table: &str, known: &[&str]) -> String {
    if let Some(setting) = SETTINGS.iter().find(|setting| setting.name == key) {
        return match setting.table {
            Table::Top => "; it stands at the top of the file, above the first [table].".into(),
            other => format!("; it stands below {other}."),
        };
    }
    if table == Table::Top.to_string() {
        let has = |keys: Option<Vec<_>>| keys.is_some_and(|keys| keys.contains(&key));
        let of_source = Scheme::ALL.iter().any(|scheme| has(source_keys(*scheme)));
        let of_sink = Scheme::ALL.iter().any(|scheme| has(sink_keys(*scheme)));
        match (of_source || key == "endpoint", of_sink || key == "endpoint") {
            (true, true) => return "; it stands below [[source]] or [[sink]].".into(),
            (true, false) => return "; it stands below [[source]].".into(),
            (false, true) => return "; it stands below [[sink]].".into(),
            (false, false) => {}
        }
    }
    match nearest(key, known) {
        Some(nearest) => format!("; did you mean \"{nearest}\"?"),
        None => ".".into(),
    }
}

/// The known key that is spelt most like one that is not known, if any is.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    // Longer than any key by more than could be a slip.
    if key.len() > 40 {
        return None;
    }
    let key = key.to_ascii_lowercase().replace('_', "-");
    let far = |name: &str| strsim::osa_distance(&key, name);
    let nearest = known.iter().copied().min_by_key(|name| far(name))?;
    (far(nearest) <= (nearest.len() / 3).max(1)).then_some(nearest)
}
