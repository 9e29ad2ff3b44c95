//! The hub's books: what each source decoded and each subscriber got, of one moment, and closed.

mod report;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pcaphub_core::feed::{Ring, SubscriberSnapshot};
use pcaphub_core::stats::{AnomalyCounts, DropCounts};

use self::report::named;
pub use self::report::{ByName, Report, SinkReport, SourceReport, SubscriberReport, sum};

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
    /// Streams that are read now.
    pub open: u64,
    /// Who the producers of those are, by a number that each has once.
    pub producers: BTreeMap<u64, String>,
    /// Why it is away, while it is and will be tried again.
    pub away: Option<String>,
    /// Whether it has ended for good.
    pub ended: bool,
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
    /// By the numbers that their subscribers have as their group.
    sinks: BTreeMap<u64, SinkReport>,
    rings: Vec<Arc<Ring>>,
    departed: Departed,
    early: u64,
    /// Streams that ever were.
    streams: u64,
}

/// A stream that is being read, until dropped.
#[derive(Debug)]
pub struct Streaming {
    books: Books,
    source: usize,
    number: u64,
}

impl Drop for Streaming {
    fn drop(&mut self) {
        self.books.source(self.source, |counts| {
            counts.open = counts.open.saturating_sub(1);
            counts.producers.remove(&self.number);
        });
    }
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

    /// A stream of source number `source` is read from now on, `producer`'s if one brings it: the source is
    /// not away any more.
    pub fn streaming(&self, source: usize, producer: Option<String>) -> Streaming {
        let mut shared = self.lock();
        shared.streams += 1;
        let number = shared.streams;
        if let Some(counts) = shared.sources.get_mut(&source) {
            counts.open += 1;
            counts.away = None;
            counts.producers.extend(producer.map(|producer| (number, producer)));
        }
        Streaming { books: self.clone(), source, number }
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

    /// A sink runs, or waits for another one to let go.
    pub fn add_sink(&self, sink: u64, entry: SinkReport) {
        self.lock().sinks.insert(sink, SinkReport { number: sink, ..entry });
    }

    /// A sink is not wanted any more, and gets what is queued for it.
    pub fn dismiss_sink(&self, sink: u64) {
        if let Some(entry) = self.lock().sinks.get_mut(&sink) {
            entry.leaving = true;
        }
    }

    /// Why a sink is away and will be tried again; `None`: it is there.
    pub fn set_sink_away(&self, sink: u64, away: Option<String>) {
        if let Some(state) = self.lock().sinks.get_mut(&sink) {
            state.away = away;
        }
    }

    /// A sink has ended in an error, and is shown with it until it is taken away.
    pub fn fail_sink(&self, sink: u64, why: String) {
        if let Some(state) = self.lock().sinks.get_mut(&sink) {
            (state.away, state.failed, state.waiting) = (None, Some(why), false);
            state.listening.clear();
        }
    }

    /// A sink has ended, or is not wanted any more.
    pub fn retire_sink(&self, sink: u64) {
        self.lock().sinks.remove(&sink);
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
        let removed = shared.removed.iter();
        // What came late of one that is gone says nothing of all of them.
        let removed = removed.map(|counts| SourceReport {
            removed: true,
            ended: false,
            away: None,
            failed: None,
            ..SourceReport::from(counts)
        });
        let mut report = Report {
            sources: shared.sources.values().map(SourceReport::from).chain(removed).collect(),
            sinks: shared.sinks.values().cloned().collect(),
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
            report.subscribers.extend(snapshot.subscribers.iter().map(|subscriber| {
                let sink = shared.sinks.get(&subscriber.group).map(|sink| sink.name.clone());
                SubscriberReport { sink, ..SubscriberReport::from(subscriber) }
            }));
        }
        report.departed = SubscriberReport {
            name: "departed".into(),
            sink: None,
            sink_number: 0,
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
