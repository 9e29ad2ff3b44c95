//! What the books say at one moment, to be printed, told to whoever looks, and read again there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use pcaphub_core::feed::SubscriberSnapshot;
use pcaphub_core::stats::DropCounts;
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::SourceCounts;

/// All counts of a hub at one moment; `--stats json` prints it. What a newer or older pcaphub wrote can be
/// read, too: what it does not say is zero, empty or `None`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// One per source, in the order in which they began; one more, `removed`, for all that were taken away while the hub ran.
    #[serde(deserialize_with = "bounded")]
    pub sources: Vec<SourceReport>,
    /// One per sink, in the order in which they began.
    #[serde(deserialize_with = "bounded")]
    pub sinks: Vec<SinkReport>,
    /// One per subscriber that is there.
    #[serde(deserialize_with = "bounded")]
    pub subscribers: Vec<SubscriberReport>,
    /// All that have left, summed.
    pub departed: SubscriberReport,
    /// Subscribers that are there.
    pub clients: u64,
    /// Subscribers that ever were.
    pub joined: u64,
    /// Packets that left the merge before their hold was over.
    pub released_early: u64,
}

/// Counts by the names of their reasons or kinds; those of zero are left out.
pub type ByName = BTreeMap<Cow<'static, str>, u64>;

/// A sink, whose counts are those of its subscribers.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SinkReport {
    /// Its name.
    pub name: String,
    /// Its number, which no other of this hub ever has.
    pub number: u64,
    /// The addresses where it listens, as `ADDRESS:PORT`; empty where it does not.
    #[serde(deserialize_with = "bounded")]
    pub listening: Vec<String>,
    /// Whether clients connect to it.
    pub listener: bool,
    /// Whether it does not run yet: another one, which it takes the place of, must let go first.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub waiting: bool,
    /// Whether it was taken away, and is there until what is queued for it is delivered.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// Why it is away, while it is and will be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
    /// Why it ended, if it ended in error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A source's counts: decoded = forwarded + filtered + held + the sum of dropped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields of SourceCounts")]
pub struct SourceReport {
    pub name: String,
    pub decoded: u64,
    pub forwarded: u64,
    pub filtered: u64,
    pub held: u64,
    pub octets: u64,
    pub opened: u64,
    pub open: u64,
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "bounded")]
    pub producers: Vec<String>,
    pub ended: bool,
    /// Whether it is the sum of those that were taken away.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub removed: bool,
    pub dropped: ByName,
    pub anomalies: ByName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub away: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A subscriber's counts: offered = delivered + queued + the sum of dropped.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "the fields of SubscriberSnapshot")]
pub struct SubscriberReport {
    pub name: String,
    /// The number of its sink, which may be gone; 0 for none.
    pub sink_number: u64,
    /// The name of its sink, while that is there; a client's is the listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    pub offered: u64,
    pub delivered: u64,
    pub delivered_octets: u64,
    pub queued: u64,
    pub dropped: ByName,
}

/// All counts together; at most what a count can be.
pub fn sum(counts: impl Iterator<Item = u64>) -> u64 {
    counts.fold(0, u64::saturating_add)
}

/// Those that are not zero, by name.
pub(super) fn named(dropped: &DropCounts) -> ByName {
    dropped.nonzero().map(|(reason, n)| (reason.name().into(), n)).collect()
}

impl From<&SourceCounts> for SourceReport {
    fn from(counts: &SourceCounts) -> Self {
        SourceReport {
            name: counts.name.clone(),
            decoded: counts.decoded,
            forwarded: counts.forwarded,
            filtered: counts.filtered,
            held: counts.held,
            octets: counts.octets,
            opened: counts.opened,
            open: counts.open,
            removed: false,
            producers: counts.producers.values().cloned().collect(),
            ended: counts.ended,
            away: counts.away.clone(),
            dropped: named(&counts.dropped),
            anomalies: counts.anomalies.nonzero().map(|(kind, n)| (kind.name().into(), n)).collect(),
            failed: counts.failed.clone(),
        }
    }
}

impl From<&SubscriberSnapshot> for SubscriberReport {
    fn from(snapshot: &SubscriberSnapshot) -> Self {
        SubscriberReport {
            name: snapshot.name.to_string(),
            sink: None,
            sink_number: snapshot.group,
            offered: snapshot.offered,
            delivered: snapshot.delivered,
            delivered_octets: snapshot.delivered_octets,
            queued: snapshot.queued,
            dropped: named(&snapshot.dropped),
        }
    }
}

impl Report {
    /// Whether both laws hold: nothing is unaccounted for.
    pub fn closes(&self) -> bool {
        let all = |counts: &[u64], dropped: &ByName| sum(counts.iter().chain(dropped.values()).copied());
        let source = |s: &SourceReport| s.decoded == all(&[s.forwarded, s.filtered, s.held], &s.dropped);
        let subscriber = |s: &SubscriberReport| s.offered == all(&[s.delivered, s.queued], &s.dropped);
        self.sources.iter().all(source)
            && self.subscribers.iter().all(subscriber)
            && subscriber(&self.departed)
    }

    /// Packets decoded from all sources.
    pub fn decoded(&self) -> u64 {
        sum(self.sources.iter().map(|source| source.decoded))
    }

    /// Packets delivered to all subscribers that are or were there.
    pub fn delivered(&self) -> u64 {
        sum(self.subscribers.iter().chain([&self.departed]).map(|one| one.delivered))
    }

    /// Packets lost, by reason, of all sources and subscribers.
    pub fn dropped(&self) -> ByName {
        let mut all = ByName::new();
        let sources = self.sources.iter().map(|s| &s.dropped);
        let subscribers = self.subscribers.iter().map(|s| &s.dropped);
        for dropped in sources.chain(subscribers).chain([&self.departed.dropped]) {
            for (reason, n) in dropped {
                let count: &mut u64 = all.entry(reason.clone()).or_default();
                *count = count.saturating_add(*n);
            }
        }
        all
    }
}

/// Entries of one list that are read of what another hub tells: more clients than anybody has.
const MOST: usize = 20_000;

/// Reads the first entries of a list, and skips the others.
fn bounded<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Vec<T>, D::Error> {
    struct First<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for First<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Vec<T>, A::Error> {
            let mut first = Vec::new();
            while first.len() < MOST {
                let Some(entry) = entries.next_element()? else { return Ok(first) };
                first.push(entry);
            }
            while entries.next_element::<IgnoredAny>()?.is_some() {}
            Ok(first)
        }
    }
    from.deserialize_seq(First(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_is_zero_and_what_is_unknown_is_skipped() {
        let told = r#"{"sources": [{"name": "a", "decoded": 3, "later": {"x": [1]}}], "new": null}"#;
        let report: Report = serde_json::from_str(told).unwrap();
        assert_eq!((report.sources[0].decoded, report.sources[0].forwarded, report.clients), (3, 0, 0));
    }

    #[test]
    fn of_endless_lists_only_the_beginning_is_kept() {
        let many = |entry: &str| vec![entry; MOST + 5].join(",");
        let told = format!(
            r#"{{"subscribers": [{0}], "sources": [{0}, {{"producers": [{1}]}}], "sinks": [{2}]}}"#,
            many("{}"),
            many(r#""p""#),
            many(r#"{"listening": ["a"]}"#)
        );
        let report: Report = serde_json::from_str(&told).unwrap();
        assert_eq!((report.subscribers.len(), report.sources.len(), report.sinks.len()), (MOST, MOST, MOST));
        let producers = format!(r#"{{"sources": [{{"producers": [{}]}}]}}"#, many(r#""p""#));
        let report: Report = serde_json::from_str(&producers).unwrap();
        assert_eq!(report.sources[0].producers.len(), MOST);
    }

    #[test]
    fn what_is_told_is_read_as_it_was() {
        let mut report = Report { clients: 2, ..Report::default() };
        let dropped = ByName::from([(Cow::Borrowed("lag"), 7)]);
        report.subscribers.push(SubscriberReport {
            name: "x".into(),
            dropped,
            ..SubscriberReport::default()
        });
        let told = serde_json::to_string(&report).unwrap();
        let again: Report = serde_json::from_str(&told).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), told);
    }
}
