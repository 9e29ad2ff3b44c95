//! What there is to see of a hub, as rows: its sources, its sinks, and the clients of each.

use std::collections::HashMap;

use pcaphub::escape::escaped;
use pcaphub::stats::{ByName, Report, SinkReport, SourceReport, SubscriberReport};

use crate::status::Status;

use super::figures::{count, rate, scaled, short};

/// Characters of a name or a reason that are shown: more than any screen is wide.
const LONGEST: usize = 300;

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

/// All of a hub together.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Totals {
    pub(super) taken: Option<Rate>,
    pub(super) given: Option<Rate>,
    pub(super) decoded: u64,
    pub(super) delivered: u64,
    pub(super) held: u64,
    pub(super) queued: u64,
    /// By reason, in words.
    pub(super) lost: Vec<String>,
}

/// Two looks at the same hub.
#[derive(Clone, Copy)]
pub(super) struct Looks<'a> {
    now: &'a Status,
    /// The one before, and the seconds since then.
    before: Option<(&'a Status, f64)>,
}

impl<'a> Looks<'a> {
    pub(super) fn new(now: &'a Status, before: Option<&'a Status>) -> Self {
        // Another process with the same number has nothing to do with it.
        let same = before.map(|before| (before, now.uptime - before.uptime));
        Looks { now, before: same.filter(|(before, seconds)| *seconds > 0.0 && before.pid == now.pid) }
    }

    /// How fast something goes that was at `then` and is at `now`: packets and octets of each.
    fn rate(&self, now: (u64, u64), then: (u64, u64)) -> Option<Rate> {
        let (_, seconds) = self.before?;
        let per_second = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        Some(Rate { packets: per_second(now.0, then.0), bits: 8.0 * per_second(now.1, then.1) })
    }

    pub(super) fn totals(&self) -> Totals {
        let (now, then) = (&self.now.report, self.before.map(|(before, _)| &before.report));
        let taken = |report: &Report| {
            let octets = report.sources.iter().map(|source| source.octets).sum();
            (report.decoded(), octets)
        };
        let given = |report: &Report| {
            let subscribers = report.subscribers.iter().chain([&report.departed]);
            (report.delivered(), subscribers.map(|one| one.delivered_octets).sum())
        };
        Totals {
            taken: then.and_then(|then| self.rate(taken(now), taken(then))),
            given: then.and_then(|then| self.rate(given(now), given(then))),
            decoded: now.decoded(),
            delivered: now.delivered(),
            held: now.sources.iter().map(|source| source.held).sum(),
            queued: now.subscribers.iter().map(|subscriber| subscriber.queued).sum(),
            lost: in_words(&now.dropped()),
        }
    }

    /// A row for each source, with one for each of its producers below it.
    pub(super) fn sources(&self) -> Vec<Row> {
        let figures = |source: &SourceReport| (source.decoded, source.octets);
        let earlier = self.before.map(|(before, _)| before.report.sources.as_slice()).unwrap_or_default();
        let earlier = by_key(earlier, |source| source.name.clone(), figures);
        let sources = keyed(&self.now.report.sources, |source| source.name.clone());
        let row = |(key, source): (_, &SourceReport)| {
            let then = earlier.get(&key).copied().unwrap_or_default();
            let (note, mood) = state(source);
            Row {
                kind: Kind::Source,
                name: escaped(&source.name, LONGEST),
                packets: source.decoded,
                rate: self.rate(figures(source), then),
                waiting: source.held,
                lost: source.dropped.values().sum(),
                note,
                mood,
            }
        };
        let with_producers = |keyed: (_, &'a SourceReport)| {
            let producers = keyed.1.producers.iter().map(|name| producer(name));
            std::iter::once(row(keyed)).chain(producers)
        };
        sources.flat_map(with_producers).collect()
    }

    /// A row for each sink, with one for each of its clients below it. Those of sinks that are gone come last.
    pub(super) fn sinks(&self, sort: Sort) -> Vec<Row> {
        let report = &self.now.report;
        let mut clients = self.clients();
        let mut rows = Vec::new();
        for sink in &report.sinks {
            let mut own: Vec<Row>;
            (own, clients) =
                split(clients, |client: &(Option<&str>, Row)| client.0 == Some(sink.name.as_str()));
            let name = escaped(&sink.name, LONGEST);
            // What is no listener is its own only subscriber.
            let alone = own.iter().position(|row| row.name == name && own.len() == 1);
            if let Some(row) = alone.map(|index| own.swap_remove(index)) {
                rows.push(of_sink(sink, Row { kind: Kind::Sink, ..row }));
                continue;
            }
            let rate = self.rate((0, 0), (0, 0));
            rows.push(of_sink(sink, Row { rate: sum_of(&own).or(rate), ..sum(name, sink, &own) }));
            sort_by(&mut own, sort);
            rows.extend(own);
        }
        let mut rest: Vec<Row> = clients.into_iter().map(|(_, row)| row).collect();
        sort_by(&mut rest, sort);
        rows.extend(rest);
        rows
    }

    /// A row for each subscriber, with the name of its sink.
    fn clients(&self) -> Vec<(Option<&'a str>, Row)> {
        let figures = |one: &SubscriberReport| (one.delivered, one.delivered_octets);
        let key = |one: &SubscriberReport| (one.sink.clone(), one.name.clone());
        let earlier = self.before.map(|(before, _)| before.report.subscribers.as_slice()).unwrap_or_default();
        let earlier = by_key(earlier, key, figures);
        let row = |(key, one): (_, &'a SubscriberReport)| {
            let then = earlier.get(&key).copied();
            let lost = one.dropped.values().sum();
            let row = Row {
                kind: Kind::Client,
                name: escaped(&one.name, LONGEST),
                packets: one.delivered,
                // Of who just came, all that it has.
                rate: self.rate(figures(one), then.unwrap_or_default()),
                waiting: one.queued,
                lost,
                note: in_words(&one.dropped).join(", "),
                mood: if lost > 0 { Mood::Bad } else { Mood::Fine },
            };
            (one.sink.as_deref(), row)
        };
        keyed(&self.now.report.subscribers, key).map(row).collect()
    }
}

fn producer(name: &str) -> Row {
    let (kind, mood, note) = (Kind::Producer, Mood::Fine, String::new());
    Row { kind, name: escaped(name, LONGEST), packets: 0, rate: None, waiting: 0, lost: 0, note, mood }
}

/// Each with its key, and how many had the same before it: names need not be unique.
fn keyed<T, K: std::hash::Hash + Eq + Clone>(
    all: &[T],
    key: impl Fn(&T) -> K,
) -> impl Iterator<Item = ((K, usize), &T)> {
    let mut seen = HashMap::new();
    all.iter().map(move |one| {
        let key = key(one);
        let times = seen.entry(key.clone()).or_insert(0);
        *times += 1;
        ((key, *times), one)
    })
}

fn by_key<T, K: std::hash::Hash + Eq + Clone>(
    all: &[T],
    key: impl Fn(&T) -> K,
    figures: impl Fn(&T) -> (u64, u64),
) -> HashMap<(K, usize), (u64, u64)> {
    keyed(all, key).map(|(key, one)| (key, figures(one))).collect()
}

/// Those rows that belong to it, and the others.
fn split<'a>(
    clients: Vec<(Option<&'a str>, Row)>,
    belongs: impl Fn(&(Option<&'a str>, Row)) -> bool,
) -> (Vec<Row>, Vec<(Option<&'a str>, Row)>) {
    let (own, others): (Vec<_>, Vec<_>) = clients.into_iter().partition(belongs);
    (own.into_iter().map(|(_, row)| row).collect(), others)
}

fn sort_by(rows: &mut [Row], sort: Sort) {
    let fastest = |row: &Row| row.rate.map_or(0.0, |rate| rate.packets);
    match sort {
        Sort::Age => {}
        Sort::Rate => rows.sort_by(|a, b| fastest(b).total_cmp(&fastest(a))),
        Sort::Queued => rows.sort_by_key(|row| std::cmp::Reverse(row.waiting)),
        Sort::Lost => rows.sort_by_key(|row| std::cmp::Reverse(row.lost)),
    }
}

/// How fast all of them go together; `None` where nobody is, or nothing is known yet.
fn sum_of(clients: &[Row]) -> Option<Rate> {
    let sum = |a: Rate, b: Rate| Rate { packets: a.packets + b.packets, bits: a.bits + b.bits };
    clients.iter().filter_map(|row| row.rate).reduce(sum)
}

/// A listener's row: its clients together, but for how fast they go.
fn sum(name: String, sink: &SinkReport, clients: &[Row]) -> Row {
    let number = format!("{} {}", clients.len(), if clients.len() == 1 { "client" } else { "clients" });
    // The name says it already, unless the system chose the port.
    let at: Vec<&str> =
        sink.listening.iter().map(String::as_str).filter(|at| !sink.name.ends_with(at)).collect();
    let at = if at.is_empty() { String::new() } else { format!(" at {}", at.join(" ")) };
    Row {
        kind: Kind::Sink,
        name,
        packets: clients.iter().map(|row| row.packets).sum(),
        rate: None,
        waiting: clients.iter().map(|row| row.waiting).sum(),
        lost: clients.iter().map(|row| row.lost).sum(),
        note: number + &at,
        mood: clients.iter().map(|row| row.mood).max().unwrap_or(Mood::Fine),
    }
}

/// What is wrong with the sink itself comes before what its row says.
fn of_sink(sink: &SinkReport, row: Row) -> Row {
    let (what, mood) = match (&sink.failed, &sink.away) {
        (Some(why), _) => (format!("failed: {}", escaped(why, LONGEST)), Mood::Bad),
        (None, Some(why)) => (format!("away: {}", escaped(why, LONGEST)), Mood::Odd),
        (None, None) => return row,
    };
    let is_over = sink.failed.is_some();
    let note = if row.note.is_empty() || is_over { what } else { format!("{what}; {}", row.note) };
    Row { note, mood: mood.max(row.mood), ..row }
}

/// How it goes with a source, in words.
fn state(source: &SourceReport) -> (String, Mood) {
    let (state, mood) = match source {
        SourceReport { failed: Some(why), .. } => (format!("failed: {}", escaped(why, LONGEST)), Mood::Bad),
        SourceReport { away: Some(why), open: 0, .. } => {
            (format!("away: {}", escaped(why, LONGEST)), Mood::Odd)
        }
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
fn in_words(counts: &ByName) -> Vec<String> {
    counts
        .iter()
        .map(|(reason, n)| format!("{} {}", count(*n), escaped(&reason.replace('_', " "), 40)))
        .collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A hub with two sources, a listener with two clients, and a push that is away.
    pub(crate) fn status(uptime: f64, packets: u64) -> Status {
        let source = |name: &str, decoded: u64| SourceReport {
            name: name.into(),
            decoded,
            octets: decoded * 100,
            opened: 1,
            open: 1,
            ..SourceReport::default()
        };
        let client = |name: &str, sink: &str, delivered: u64| SubscriberReport {
            name: name.into(),
            sink: Some(sink.into()),
            delivered,
            delivered_octets: delivered * 116,
            ..SubscriberReport::default()
        };
        let listener = SinkReport {
            name: "tls-listen://0.0.0.0:0".into(),
            listening: vec!["0.0.0.0:57012".into()],
            ..SinkReport::default()
        };
        let push = SinkReport {
            name: "tcp://10.0.0.9:57012".into(),
            away: Some("cannot connect: refused".into()),
            ..SinkReport::default()
        };
        let mut slow = client("10.0.0.3:4000 (bob)", &listener.name, packets / 2);
        slow.dropped.insert("lag".into(), 1_200);
        slow.queued = 40;
        let report = Report {
            sources: vec![
                source("eth0", packets),
                SourceReport { open: 0, away: Some("reset\x1b[2J".into()), ..source("office", 0) },
            ],
            subscribers: vec![
                slow,
                client("10.0.0.2:4000 (alice)", &listener.name, packets),
                client(&push.name, &push.name, 0),
            ],
            sinks: vec![listener, push],
            joined: 3,
            clients: 3,
            ..Report::default()
        };
        let (version, verb) = ("0.1.0".into(), "serve".into());
        Status { version, pid: 4711, verb, config: None, uptime, report }
    }

    #[test]
    fn each_client_stands_below_its_listener_by_the_name_in_its_certificate() {
        let (before, now) = (status(10.0, 1_000), status(12.0, 5_000));
        let rows = Looks::new(&now, Some(&before)).sinks(Sort::Age);
        let shown: Vec<(Kind, &str)> = rows.iter().map(|row| (row.kind, row.name.as_str())).collect();
        let expected = [
            (Kind::Sink, "tls-listen://0.0.0.0:0"),
            (Kind::Client, "10.0.0.3:4000 (bob)"),
            (Kind::Client, "10.0.0.2:4000 (alice)"),
            (Kind::Sink, "tcp://10.0.0.9:57012"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(rows[0].note, "2 clients at 0.0.0.0:57012");
        assert_eq!(rows[0].packets, 7_500);
        assert_eq!(rows[1].note, "1,200 lag");
        assert_eq!((rows[1].waiting, rows[1].lost, rows[1].mood), (40, 1_200, Mood::Bad));
        assert_eq!((rows[3].note.as_str(), rows[3].mood), ("away: cannot connect: refused", Mood::Odd));
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let (before, now) = (status(10.0, 1_000), status(12.0, 5_000));
        let looks = Looks::new(&now, Some(&before));
        let rate = Rate { packets: 2_000.0, bits: 1_600_000.0 };
        assert_eq!(looks.sources()[0].rate, Some(rate));
        assert_eq!(looks.totals().taken, Some(rate));
        let given = Rate { packets: 3_000.0, bits: 2_784_000.0 };
        assert_eq!(looks.totals().given, Some(given));
        assert_eq!(looks.sinks(Sort::Age)[0].rate, Some(given));
        assert_eq!(Looks::new(&now, None).sources()[0].rate, None);
    }

    #[test]
    fn another_process_with_the_same_socket_begins_anew() {
        let before = Status { pid: 1, ..status(10.0, 9_000) };
        assert_eq!(Looks::new(&status(12.0, 1), Some(&before)).totals().taken, None);
        let restarted = status(0.1, 1);
        assert_eq!(Looks::new(&restarted, Some(&status(10.0, 9_000))).totals().taken, None);
    }

    #[test]
    fn clients_of_the_same_name_are_told_apart() {
        let twice = |delivered: [u64; 2], uptime| {
            let mut status = status(uptime, 0);
            status.report.subscribers.iter_mut().zip(delivered).for_each(|(client, delivered)| {
                client.name = "unix peer".into();
                client.delivered = delivered;
            });
            status
        };
        let (before, now) = (twice([100, 0], 1.0), twice([100, 50], 2.0));
        let rows = Looks::new(&now, Some(&before)).sinks(Sort::Age);
        let rates: Vec<f64> = rows[1..3].iter().map(|row| row.rate.unwrap().packets).collect();
        assert_eq!(rates, [0.0, 50.0]);
    }

    #[test]
    fn the_clients_of_a_listener_are_sorted_as_asked() {
        let (before, now) = (status(10.0, 1_000), status(12.0, 5_000));
        let first = |sort| Looks::new(&now, Some(&before)).sinks(sort)[1].name.clone();
        assert_eq!(first(Sort::Rate), "10.0.0.2:4000 (alice)");
        assert_eq!(first(Sort::Queued), "10.0.0.3:4000 (bob)");
        assert_eq!(first(Sort::Lost), "10.0.0.3:4000 (bob)");
        let all = std::iter::successors(Some(Sort::Age), |sort| Some(sort.next()));
        let names: Vec<_> = all.take(5).map(Sort::name).collect();
        assert_eq!(names, ["age", "rate", "queued", "lost", "age"]);
    }

    #[test]
    fn a_source_says_how_it_goes() {
        let now = status(1.0, 10);
        let rows = Looks::new(&now, None).sources();
        assert_eq!((rows[0].note.as_str(), rows[0].mood), ("open", Mood::Fine));
        assert_eq!((rows[1].note.as_str(), rows[1].mood), ("away: reset\\u{1b}[2J", Mood::Odd));
        let mut source = now.report.sources[0].clone();
        source.open = 0;
        assert_eq!(state(&source).0, "waiting");
        source.ended = true;
        source.filtered = 7;
        assert_eq!(state(&source).0, "ended, 7 left out");
        source.dropped.insert("kernel".into(), 3);
        assert_eq!(state(&source), ("ended, 3 kernel, 7 left out".into(), Mood::Bad));
        source.failed = Some("not a capture".into());
        assert_eq!(state(&source).0, "failed: not a capture, 3 kernel, 7 left out");
    }

    #[test]
    fn producers_stand_below_their_source_by_name_alone() {
        let mut now = status(1.0, 10);
        now.report.sources[0].open = 2;
        now.report.sources[0].producers = vec!["10.0.0.7 (probe)".into(), "10.0.0.8".into()];
        let rows = Looks::new(&now, None).sources();
        let shown: Vec<(Kind, &str)> = rows.iter().map(|row| (row.kind, row.name.as_str())).collect();
        let producers = [(Kind::Producer, "10.0.0.7 (probe)"), (Kind::Producer, "10.0.0.8")];
        assert_eq!(shown[1..3], producers);
        assert_eq!((rows[0].note.as_str(), rows.len()), ("2 open", 4));
    }

    #[test]
    fn a_sink_that_failed_says_only_that() {
        let mut now = status(1.0, 10);
        now.report.sinks[0].failed = Some("disk".into());
        now.report.subscribers.clear();
        let rows = Looks::new(&now, None).sinks(Sort::Age);
        assert_eq!((rows[0].note.as_str(), rows[0].mood), ("failed: disk", Mood::Bad));
        let earlier = status(0.5, 10);
        let rows = Looks::new(&now, Some(&earlier)).sinks(Sort::Age);
        assert_eq!(rows[0].rate, Some(Rate::default()), "nobody is there");
    }

    #[test]
    fn who_has_no_sink_any_more_comes_last() {
        let mut now = status(1.0, 10);
        now.report.sinks.remove(0);
        let rows = Looks::new(&now, None).sinks(Sort::Age);
        assert_eq!(rows.len(), 3);
        assert_eq!(rows[0].name, "tcp://10.0.0.9:57012");
    }
}
