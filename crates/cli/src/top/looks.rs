//! Two looks at the same hub, and what they say together: totals, rates, rows.

use std::collections::HashMap;
use std::hash::Hash;

use pcaphub::stats::{Report, SourceReport, SubscriberReport, sum};

use crate::status::Status;

use super::rows::{Rate, Row, Sort, in_words, sort_by};

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
        let taken =
            |report: &Report| (report.decoded(), sum(report.sources.iter().map(|source| source.octets)));
        let given = |report: &Report| {
            let subscribers = report.subscribers.iter().chain([&report.departed]);
            (report.delivered(), sum(subscribers.map(|one| one.delivered_octets)))
        };
        Totals {
            taken: then.and_then(|then| self.rate(taken(now), taken(then))),
            given: then.and_then(|then| self.rate(given(now), given(then))),
            decoded: now.decoded(),
            delivered: now.delivered(),
            held: sum(now.sources.iter().map(|source| source.held)),
            queued: sum(now.subscribers.iter().map(|subscriber| subscriber.queued)),
            lost: in_words(&now.dropped()),
        }
    }

    /// A row for each source, with one for each of its producers below it.
    pub(super) fn sources(&self) -> Vec<Row> {
        let figures = |source: &SourceReport| (source.decoded, source.octets);
        let earlier = self.before.map(|(before, _)| before.report.sources.as_slice()).unwrap_or_default();
        let earlier = by_key(earlier, |source| source.name.as_str(), figures);
        let mut rows = Vec::new();
        for (key, source) in keyed(&self.now.report.sources, |source| source.name.as_str()) {
            let then = earlier.get(&key).copied().unwrap_or_default();
            // What was taken away did not come in since.
            let rate = self.rate(figures(source), then).filter(|_| !source.removed);
            rows.push(Row { rate, ..Row::of_source(source) });
            rows.extend(Row::of_producers(source));
        }
        rows
    }

    /// A row for each sink, with one for each of its clients below it. Those of sinks that are gone come last.
    pub(super) fn sinks(&self, sort: Sort) -> Vec<Row> {
        let mut clients = self.clients();
        let mut rows = Vec::new();
        for sink in &self.now.report.sinks {
            let own = clients.remove(&sink.number).unwrap_or_default();
            let (row, mut own) = Row::of_sink(sink, own, self.rate((0, 0), (0, 0)));
            sort_by(&mut own, sort);
            rows.push(row);
            rows.extend(own);
        }
        let mut rest: Vec<(u64, Vec<Row>)> = clients.into_iter().collect();
        rest.sort_by_key(|(sink, _)| *sink);
        rows.extend(rest.into_iter().flat_map(|(_, rows)| rows));
        let departed = &self.now.report.departed;
        rows.extend((departed.offered > 0).then(|| Row::of_departed(departed)));
        rows
    }

    /// A row for each subscriber, by the number of its sink.
    fn clients(&self) -> HashMap<u64, Vec<Row>> {
        let figures = |one: &SubscriberReport| (one.delivered, one.delivered_octets);
        let earlier = self.before.map(|(before, _)| before.report.subscribers.as_slice()).unwrap_or_default();
        let earlier = by_key(earlier, |one| (one.sink_number, one.name.as_str()), figures);
        let mut rows: HashMap<u64, Vec<Row>> = HashMap::new();
        for (key, one) in keyed(&self.now.report.subscribers, |one| (one.sink_number, one.name.as_str())) {
            // Of who just came, all that it has.
            let rate = self.rate(figures(one), earlier.get(&key).copied().unwrap_or_default());
            rows.entry(one.sink_number).or_default().push(Row { rate, ..Row::of_client(one) });
        }
        rows
    }
}

/// Each with its key, and how many had the same before it: names need not be unique.
fn keyed<'a, T, K: Hash + Eq + Copy>(
    all: &'a [T],
    key: impl Fn(&'a T) -> K,
) -> impl Iterator<Item = ((K, usize), &'a T)> {
    let mut seen = HashMap::new();
    all.iter().map(move |one| {
        let key = key(one);
        let times = seen.entry(key).or_insert(0);
        *times += 1;
        ((key, *times), one)
    })
}

fn by_key<'a, T, K: Hash + Eq + Copy>(
    all: &'a [T],
    key: impl Fn(&'a T) -> K,
    figures: impl Fn(&T) -> (u64, u64),
) -> HashMap<(K, usize), (u64, u64)> {
    keyed(all, key).map(|(key, one)| (key, figures(one))).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use pcaphub::stats::SinkReport;

    use super::super::rows::{Kind, Mood};
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
            sink_number: 1 + u64::from(sink.starts_with("tcp")),
            delivered,
            delivered_octets: delivered * 116,
            ..SubscriberReport::default()
        };
        let listener = SinkReport {
            name: "tls-listen://0.0.0.0:0".into(),
            number: 1,
            listener: true,
            listening: vec!["0.0.0.0:57012".into()],
            ..SinkReport::default()
        };
        let push = SinkReport {
            name: "tcp://10.0.0.9:57012".into(),
            number: 2,
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
        Status { version, pid: 4711, verb, uptime, report, ..Status::default() }
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

    #[test]
    fn nothing_that_a_hub_tells_can_steer_a_terminal_or_stop_us() {
        let steering = "\x1b[2J\u{202e}\u{9b}\n";
        let mut told = serde_json::to_value(status(1.0, 10)).unwrap();
        fn fill(value: &mut serde_json::Value, with: &str) {
            match value {
                serde_json::Value::String(text) => *text = with.into(),
                serde_json::Value::Number(number) if number.is_u64() => *number = u64::MAX.into(),
                serde_json::Value::Array(all) => all.iter_mut().for_each(|one| fill(one, with)),
                serde_json::Value::Object(all) => {
                    all.values_mut().for_each(|one| fill(one, with));
                    if all.is_empty() {
                        all.insert(with.into(), u64::MAX.into());
                    }
                }
                _ => {}
            }
        }
        let report = &mut told["report"];
        for what in ["away", "failed"] {
            report["sources"][0][what] = "x".into();
            report["sinks"][1][what] = "x".into();
        }
        report["sources"][0]["producers"] = vec!["x"; 3].into();
        fill(report, steering);
        let now: Status = serde_json::from_value(told).unwrap();
        let looks = Looks::new(&now, None);
        let rows = looks.sources().into_iter().chain(looks.sinks(Sort::Age));
        let words = rows.flat_map(|row| [row.name, row.note]).chain(looks.totals().lost).collect::<Vec<_>>();
        assert!(words.len() > 10);
        for word in words {
            assert!(!word.chars().any(|c| c.is_control() || c == '\u{202e}'), "{word:?}");
        }
    }

    #[test]
    fn what_a_reload_took_away_is_not_in_a_rate() {
        let (before, mut now) = (status(10.0, 1_000), status(12.0, 5_000));
        now.report.sources[0].name = "removed".into();
        now.report.sources[0].removed = true;
        let row = &Looks::new(&now, Some(&before)).sources()[0];
        assert_eq!((row.rate, row.note.as_str()), (None, "taken away by reloads"));
    }

    #[test]
    fn what_those_lost_who_have_left_has_a_row() {
        let mut now = status(1.0, 10);
        now.report.departed.offered = 9;
        now.report.departed.dropped.insert("closed".into(), 9);
        let row = Looks::new(&now, None).sinks(Sort::Age).pop().unwrap();
        assert_eq!((row.name.as_str(), row.lost, row.note.as_str()), ("departed", 9, "9 closed"));
    }

    #[test]
    fn a_sink_says_that_it_waits_or_ends() {
        let mut now = status(1.0, 10);
        now.report.sinks[1].away = None;
        let note = |now: &Status| Looks::new(now, None).sinks(Sort::Age)[3].note.clone();
        assert_eq!(note(&now), "");
        now.report.sinks[1].waiting = true;
        assert_eq!(note(&now), "waiting");
        now.report.subscribers.pop();
        assert_eq!(note(&now), "waiting", "and it is no listener without clients");
        now.report.sinks[1].leaving = true;
        assert_eq!(note(&now), "ending");
    }

    #[test]
    fn listeners_of_the_same_name_have_their_own_clients() {
        let mut now = status(1.0, 10);
        now.report.sinks[1].name = now.report.sinks[0].name.clone();
        (now.report.sinks[1].away, now.report.sinks[1].listener) = (None, true);
        let rows = Looks::new(&now, None).sinks(Sort::Age);
        let notes: Vec<&str> =
            rows.iter().filter(|row| row.kind == Kind::Sink).map(|row| row.note.as_str()).collect();
        assert_eq!(notes, ["2 clients at 0.0.0.0:57012", "1 client"]);
    }
}
