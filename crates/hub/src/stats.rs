//! The hub's books: what each source decoded and each subscriber got, of one moment, and closed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pcaphub_core::feed::{Ring, SubscriberSnapshot};
use pcaphub_core::stats::{AnomalyCounts, DropCounts};
use serde::Serialize;

/// Counts of one source: decoded = forwarded + filtered + dropped + held.
#[derive(Debug, Clone, Default)]
pub struct SourceCounts {
    /// Its name.
    pub name: String,
    /// Packets that were in its octets.
    pub decoded: u64,
    /// Octets read, headers included.
    pub octets: u64,
    /// Packets given to the feeds.
    pub forwarded: u64,
    /// Packets that a filter of this source kept out.
    pub filtered: u64,
    /// Packets that wait in the merge.
    pub held: u64,
    /// Packets lost before the feeds.
    pub dropped: DropCounts,
    /// What was odd.
    pub anomalies: AnomalyCounts,
    /// Connections or openings so far.
    pub opened: u64,
    /// Why it ended, if it ended in error.
    pub failed: Option<String>,
}

impl SourceCounts {
    fn add(&mut self, other: &SourceCounts) {
        self.decoded += other.decoded;
        self.octets += other.octets;
        self.forwarded += other.forwarded;
        self.filtered += other.filtered;
        self.held += other.held;
        self.dropped.merge(&other.dropped);
        self.anomalies.merge(&other.anomalies);
        self.opened += other.opened;
    }
}

/// The books of a hub; clones are handles on the same ones.
#[derive(Debug, Clone, Default)]
pub struct Books {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// By their numbers, which are given once.
    sources: BTreeMap<usize, SourceCounts>,
    /// All that were taken away while the hub ran.
    removed: Option<SourceCounts>,
    rings: Vec<Arc<Ring>>,
    departed: Departed,
    early: u64,
}

/// The counts of all sources.
pub struct Ledger<'a> {
    sources: &'a mut BTreeMap<usize, SourceCounts>,
    removed: Option<&'a mut SourceCounts>,
}

impl Ledger<'_> {
    /// Those of a source; of one that was taken away, the sum of all of those.
    pub fn of(&mut self, source: usize) -> Option<&mut SourceCounts> {
        self.sources.get_mut(&source).or(self.removed.as_deref_mut())
    }
}

impl Shared {
    fn ledger(&mut self) -> Ledger<'_> {
        Ledger { sources: &mut self.sources, removed: self.removed.as_mut() }
    }
}

/// Sums over private hubs that are gone.
#[derive(Debug, Default)]
struct Departed {
    joined: u64,
    offered: u64,
    delivered: u64,
    octets: u64,
    dropped: DropCounts,
}

impl Books {
    /// Begins the books of a source.
    pub fn add_source(&self, source: usize, name: String) {
        self.lock().sources.insert(source, SourceCounts { name, ..SourceCounts::default() });
    }

    /// A source was taken away: its counts stay in the sum of those.
    pub fn retire_source(&self, source: usize) {
        let mut shared = self.lock();
        let Some(counts) = shared.sources.remove(&source) else { return };
        let none = || SourceCounts { name: "removed".into(), ..SourceCounts::default() };
        shared.removed.get_or_insert_with(none).add(&counts);
    }

    /// The name of source number `source`.
    pub fn name(&self, source: usize) -> String {
        self.lock().sources.get(&source).map(|counts| counts.name.clone()).unwrap_or_default()
    }

    /// Whether source number `source` ended in an error.
    pub fn has_failed(&self, source: usize) -> bool {
        self.lock().sources.get(&source).is_some_and(|counts| counts.failed.is_some())
    }

    /// Changes the counts of source number `source` as one step.
    pub fn source(&self, source: usize, change: impl FnOnce(&mut SourceCounts)) {
        if let Some(counts) = self.lock().ledger().of(source) {
            change(counts);
        }
    }

    /// Changes several sources' counts as one step.
    pub fn sources<R>(&self, change: impl FnOnce(&mut Ledger<'_>) -> R) -> R {
        change(&mut self.lock().ledger())
    }

    /// Takes a feed's ring into the books.
    pub fn add_ring(&self, ring: Arc<Ring>) {
        self.lock().rings.push(ring);
    }

    /// Takes a private hub's ring out; its subscribers' counts stay.
    pub fn retire_ring(&self, ring: &Arc<Ring>) {
        let mut shared = self.lock();
        let Some(index) = shared.rings.iter().position(|r| Arc::ptr_eq(r, ring)) else { return };
        let snapshot = shared.rings.swap_remove(index).snapshot();
        shared.departed.joined += snapshot.joined;
        shared.departed.add(&snapshot.departed);
    }

    /// Sends every subscriber of every ring away now, those of private hubs included.
    pub fn disconnect_all(&self) {
        let rings = self.lock().rings.clone();
        rings.iter().for_each(|ring| ring.disconnect_all());
    }

    /// Packets that left the merge early, so far.
    pub fn set_early(&self, packets: u64) {
        self.lock().early = packets;
    }

    /// Everything, of one moment.
    pub fn report(&self) -> Report {
        let shared = self.lock();
        let mut report = Report {
            sources: shared.sources.values().chain(&shared.removed).map(SourceReport::from).collect(),
            subscribers: Vec::new(),
            departed: SubscriberReport::default(),
            clients: 0,
            joined: shared.departed.joined,
            released_early: shared.early,
        };
        let mut departed = Departed::default();
        departed.add_all(&shared.departed);
        for ring in &shared.rings {
            let snapshot = ring.snapshot();
            report.joined += snapshot.joined;
            report.clients += snapshot.subscribers.len() as u64;
            departed.add(&snapshot.departed);
            report.subscribers.extend(snapshot.subscribers.iter().map(SubscriberReport::from));
        }
        report.departed = SubscriberReport {
            name: "departed".into(),
            offered: departed.offered,
            delivered: departed.delivered,
            delivered_octets: departed.octets,
            queued: 0,
            dropped: named(&departed.dropped),
        };
        report
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Departed {
    fn add(&mut self, one: &SubscriberSnapshot) {
        self.offered += one.offered;
        self.delivered += one.delivered;
        self.octets += one.delivered_octets;
        self.dropped.merge(&one.dropped);
    }

    fn add_all(&mut self, other: &Departed) {
        self.joined += other.joined;
        self.offered += other.offered;
        self.delivered += other.delivered;
        self.octets += other.octets;
        self.dropped.merge(&other.dropped);
    }
}

/// All counts of a hub at one moment; `--stats json` prints it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// One per source, in the order given; one more, `removed`, for all that were taken away while the hub ran.
    pub sources: Vec<SourceReport>,
    /// One per subscriber that is there.
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

/// A source's counts: decoded = forwarded + filtered + held + the sum of dropped.
#[derive(Debug, Clone, Serialize)]
#[allow(missing_docs, reason = "the fields of SourceCounts")]
pub struct SourceReport {
    pub name: String,
    pub decoded: u64,
    pub forwarded: u64,
    pub filtered: u64,
    pub held: u64,
    pub octets: u64,
    pub opened: u64,
    pub dropped: BTreeMap<&'static str, u64>,
    pub anomalies: BTreeMap<&'static str, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}

/// A subscriber's counts: offered = delivered + queued + the sum of dropped.
#[derive(Debug, Clone, Default, Serialize)]
#[allow(missing_docs, reason = "the fields of SubscriberSnapshot")]
pub struct SubscriberReport {
    pub name: String,
    pub offered: u64,
    pub delivered: u64,
    pub delivered_octets: u64,
    pub queued: u64,
    pub dropped: BTreeMap<&'static str, u64>,
}

fn named(dropped: &DropCounts) -> BTreeMap<&'static str, u64> {
    dropped.nonzero().map(|(reason, n)| (reason.name(), n)).collect()
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
            dropped: named(&counts.dropped),
            anomalies: counts.anomalies.nonzero().map(|(kind, n)| (kind.name(), n)).collect(),
            failed: counts.failed.clone(),
        }
    }
}

impl From<&SubscriberSnapshot> for SubscriberReport {
    fn from(snapshot: &SubscriberSnapshot) -> Self {
        SubscriberReport {
            name: snapshot.name.to_string(),
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
        let sum = |dropped: &BTreeMap<&str, u64>| dropped.values().sum::<u64>();
        let source = |s: &SourceReport| s.decoded == s.forwarded + s.filtered + s.held + sum(&s.dropped);
        let subscriber = |s: &SubscriberReport| s.offered == s.delivered + s.queued + sum(&s.dropped);
        self.sources.iter().all(source)
            && self.subscribers.iter().all(subscriber)
            && subscriber(&self.departed)
    }

    /// Packets decoded from all sources.
    pub fn decoded(&self) -> u64 {
        self.sources.iter().map(|source| source.decoded).sum()
    }

    /// Packets delivered to all subscribers that are or were there.
    pub fn delivered(&self) -> u64 {
        self.subscribers.iter().map(|s| s.delivered).sum::<u64>() + self.departed.delivered
    }

    /// Packets lost, by reason, of all sources and subscribers.
    pub fn dropped(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        let sources = self.sources.iter().map(|s| &s.dropped);
        let subscribers = self.subscribers.iter().map(|s| &s.dropped);
        for dropped in sources.chain(subscribers).chain([&self.departed.dropped]) {
            for (reason, n) in dropped {
                *all.entry(*reason).or_default() += n;
            }
        }
        all
    }
}
