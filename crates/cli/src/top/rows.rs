//! Rows: a source, a sink, or who connected to one, as escaped text and figures.

use std::collections::BTreeMap;

use pcaphub::escape::escaped;
use pcaphub::stats::{ByName, SinkReport, SourceReport, SubscriberReport, sum};

use super::figures::{count, rate, scaled, short};

/// Characters of a name or a reason that are shown: more than any screen is wide.
const LONGEST: usize = 300;
/// Addresses of a listener that are shown.
const ADDRESSES: usize = 4;

/// What a row is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Source,
    /// Of the source above it; its packets are in the source's.
    Producer,
    Sink,
    /// Of the sink above it.
    Client,
}

/// How it goes there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mood {
    Fine,
    /// Away, and tried again.
    Odd,
    /// Packets were lost, or it is over.
    Bad,
}

/// How fast it goes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Rate {
    /// Packets per second.
    pub(super) packets: f64,
    /// Bits per second.
    pub(super) bits: f64,
}

/// A row: escaped text and figures.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) kind: Kind,
    pub(super) name: String,
    /// Packets decoded, or delivered.
    pub(super) packets: u64,
    /// `None` until there are two looks at it.
    pub(super) rate: Option<Rate>,
    /// Packets held in the merge, or queued.
    pub(super) waiting: u64,
    pub(super) lost: u64,
    pub(super) note: String,
    pub(super) mood: Mood,
}

impl Row {
    /// As it is shown: who belongs to the row above stands a little to the right.
    pub(super) fn shown_name(&self) -> String {
        match self.kind {
            Kind::Producer | Kind::Client => format!("  {}", self.name),
            Kind::Source | Kind::Sink => self.name.clone(),
        }
    }

    /// Packets, packets per second, bits per second, on their way, lost; empty where none are known.
    pub(super) fn figures(&self) -> [String; 5] {
        if self.kind == Kind::Producer {
            return Default::default();
        }
        let speed = |show: &dyn Fn(Rate) -> String| self.rate.map_or_else(|| "–".to_owned(), show);
        let [packets, bits] = [speed(&|its| rate(its.packets)), speed(&|its| scaled(its.bits))];
        [count(self.packets), packets, bits, short(self.waiting), short(self.lost)]
    }
}

/// In which order a sink's clients are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Sort {
    /// That in which they came.
    #[default]
    Age,
    /// The fastest first.
    Rate,
    /// The one with the most queued packets first.
    Queued,
    /// The one with the most lost packets first.
    Lost,
}

impl Sort {
    pub(super) fn next(self) -> Self {
        match self {
            Sort::Age => Sort::Rate,
            Sort::Rate => Sort::Queued,
            Sort::Queued => Sort::Lost,
            Sort::Lost => Sort::Age,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Sort::Age => "age",
            Sort::Rate => "rate",
            Sort::Queued => "queued",
            Sort::Lost => "lost",
        }
    }
}

impl Row {
    /// A source's, but for how fast it goes.
    pub(super) fn of_source(source: &SourceReport) -> Self {
        let (note, mood) = state(source);
        Row {
            kind: Kind::Source,
            name: escaped(&source.name, LONGEST),
            packets: source.decoded,
            rate: None,
            waiting: source.held,
            lost: sum(source.dropped.values().copied()),
            note,
            mood,
        }
    }

    /// Those of a source's producers. Of several with the same name there is one.
    pub(super) fn of_producers(source: &SourceReport) -> Vec<Self> {
        let mut times = BTreeMap::new();
        source.producers.iter().for_each(|name| *times.entry(escaped(name, LONGEST)).or_insert(0) += 1);
        let named = |(name, times)| if times == 1 { name } else { format!("{name} ×{times}") };
        let (kind, mood, note) = (Kind::Producer, Mood::Fine, String::new());
        let row =
            |name| Row { kind, name, packets: 0, rate: None, waiting: 0, lost: 0, note: note.clone(), mood };
        times.into_iter().map(named).map(row).collect()
    }

    /// A client's, but for how fast it goes.
    pub(super) fn of_client(client: &SubscriberReport) -> Self {
        let lost = sum(client.dropped.values().copied());
        Row {
            kind: Kind::Client,
            name: escaped(&client.name, LONGEST),
            packets: client.delivered,
            rate: None,
            waiting: client.queued,
            lost,
            note: in_words(&client.dropped).join(", "),
            mood: if lost > 0 { Mood::Bad } else { Mood::Fine },
        }
    }

    /// That of all who have left, which has no rate: what they got was counted before.
    pub(super) fn of_departed(departed: &SubscriberReport) -> Self {
        Row { kind: Kind::Sink, name: "departed".into(), ..Row::of_client(departed) }
    }

    /// A sink's, from those of its clients, and what is left of these: what is no listener is its own only
    /// subscriber. `idle` is how fast nobody goes.
    pub(super) fn of_sink(sink: &SinkReport, mut clients: Vec<Row>, idle: Option<Rate>) -> (Self, Vec<Row>) {
        let name = escaped(&sink.name, LONGEST);
        let row = match clients.as_slice() {
            [alone] if alone.name == name => Row { kind: Kind::Sink, ..clients.remove(0) },
            _ => Row {
                kind: Kind::Sink,
                packets: sum(clients.iter().map(|row| row.packets)),
                rate: together(&clients).or(idle),
                waiting: sum(clients.iter().map(|row| row.waiting)),
                lost: sum(clients.iter().map(|row| row.lost)),
                note: if sink.listener { clients_at(sink, clients.len()) } else { String::new() },
                mood: clients.iter().map(|row| row.mood).max().unwrap_or(Mood::Fine),
                name,
            },
        };
        (with_fault(sink, row), clients)
    }
}

pub(super) fn sort_by(rows: &mut [Row], sort: Sort) {
    let fastest = |row: &Row| row.rate.map_or(0.0, |rate| rate.packets);
    match sort {
        Sort::Age => {}
        Sort::Rate => rows.sort_by(|a, b| fastest(b).total_cmp(&fastest(a))),
        Sort::Queued => rows.sort_by_key(|row| std::cmp::Reverse(row.waiting)),
        Sort::Lost => rows.sort_by_key(|row| std::cmp::Reverse(row.lost)),
    }
}

/// How fast all of them go together; `None` where nobody is, or nothing is known yet.
fn together(clients: &[Row]) -> Option<Rate> {
    let sum = |a: Rate, b: Rate| Rate { packets: a.packets + b.packets, bits: a.bits + b.bits };
    clients.iter().filter_map(|row| row.rate).reduce(sum)
}

/// How many clients a listener has, and where it listens, unless its name says so: the system may have
/// chosen the port.
fn clients_at(sink: &SinkReport, clients: usize) -> String {
    let noun = if clients == 1 { "client" } else { "clients" };
    let elsewhere = sink.listening.iter().filter(|at| !sink.name.ends_with(at.as_str()));
    let at: Vec<String> = elsewhere.take(ADDRESSES).map(|at| escaped(at, 60)).collect();
    let at = if at.is_empty() { String::new() } else { format!(" at {}", at.join(" ")) };
    format!("{clients} {noun}{at}")
}

/// What is wrong with the sink itself comes before what its row says.
fn with_fault(sink: &SinkReport, row: Row) -> Row {
    let (what, mood) = match (&sink.failed, &sink.away) {
        (Some(why), _) => {
            // It says whose it is, which the row does already.
            let why = why.strip_prefix(&format!("{}: ", sink.name)).unwrap_or(why);
            (format!("failed: {}", escaped(why, LONGEST)), Mood::Bad)
        }
        (None, Some(why)) => (format!("away: {}", escaped(why, LONGEST)), Mood::Odd),
        (None, None) if sink.leaving => ("ending".into(), Mood::Odd),
        (None, None) if sink.waiting => ("waiting".into(), Mood::Fine),
        (None, None) => return row,
    };
    let is_over = sink.failed.is_some();
    let note = if row.note.is_empty() || is_over { what } else { format!("{what}; {}", row.note) };
    Row { note, mood: mood.max(row.mood), ..row }
}

/// How it goes with a source, in words.
fn state(source: &SourceReport) -> (String, Mood) {
    let (state, mood) = match source {
        SourceReport { removed: true, .. } => ("taken away by reloads".into(), Mood::Fine),
        SourceReport { failed: Some(why), .. } => (format!("failed: {}", escaped(why, LONGEST)), Mood::Bad),
        SourceReport { away: Some(why), .. } => (format!("away: {}", escaped(why, LONGEST)), Mood::Odd),
        SourceReport { ended: true, .. } => ("ended".into(), Mood::Fine),
        SourceReport { open: 0, .. } => ("waiting".into(), Mood::Fine),
        SourceReport { open: 1, .. } => ("open".into(), Mood::Fine),
        SourceReport { open, .. } => (format!("{} open", count(*open)), Mood::Fine),
    };
    let mut words = vec![state];
    words.extend(in_words(&source.dropped));
    words.extend((source.filtered > 0).then(|| format!("{} left out", count(source.filtered))));
    words.extend(in_words(&source.anomalies));
    let mood = if source.dropped.is_empty() { mood } else { Mood::Bad };
    (words.join(", "), mood)
}

/// Counts with their reasons, as `12 lag`.
pub(super) fn in_words(counts: &ByName) -> Vec<String> {
    counts
        .iter()
        .map(|(reason, n)| format!("{} {}", count(*n), escaped(&reason.replace('_', " "), 40)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_says_how_it_goes() {
        let mut source = SourceReport { open: 1, ..SourceReport::default() };
        let said = |source: &SourceReport| state(source).0;
        assert_eq!(state(&source), ("open".into(), Mood::Fine));
        source.open = 3;
        assert_eq!(said(&source), "3 open");
        source.open = 0;
        assert_eq!(said(&source), "waiting");
        source.away = Some("reset\x1b[2J".into());
        assert_eq!(state(&source), ("away: reset\\u{1b}[2J".into(), Mood::Odd));
        source.open = 1;
        assert_eq!(state(&source).1, Mood::Odd, "open, and nothing can come");
        (source.away, source.ended, source.filtered) = (None, true, 7);
        assert_eq!(said(&source), "ended, 7 left out");
        source.dropped.insert("kernel".into(), 3);
        assert_eq!(state(&source), ("ended, 3 kernel, 7 left out".into(), Mood::Bad));
        source.failed = Some("not a capture".into());
        assert_eq!(said(&source), "failed: not a capture, 3 kernel, 7 left out");
    }

    #[test]
    fn producers_of_one_name_are_one_row() {
        let producers = ["10.0.0.8", "10.0.0.7 (probe)", "10.0.0.8"].map(str::to_owned).to_vec();
        let rows = Row::of_producers(&SourceReport { producers, ..SourceReport::default() });
        let shown: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(shown, ["10.0.0.7 (probe)", "10.0.0.8 ×2"]);
        assert_eq!(rows[0].figures(), [""; 5]);
    }

    #[test]
    fn a_sink_that_failed_says_why_and_its_name_once() {
        let failed = Some("tcp://x: cannot connect".into());
        let sink = SinkReport { name: "tcp://x".into(), failed, ..SinkReport::default() };
        let (row, _) = Row::of_sink(&sink, Vec::new(), None);
        assert_eq!((row.note.as_str(), row.mood), ("failed: cannot connect", Mood::Bad));
    }
}
