//! What runs in a hub: sources, feeds and sinks, each with what stops it, and how they come and go.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use pcaphub_core::buffer::Pool;
use pcaphub_core::feed::{Announcements, Start, Subscriber};
use pcaphub_core::filter::Filters;
use pcaphub_core::format::Format;
use pcaphub_core::merge::Order;
use pcaphub_core::shape::Shaper;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};

use crate::access::Access;
use crate::allowance::Allowance;
use crate::clients::Clients;
use crate::controls::Controls;
use crate::defaults::{FeedKey, OnSlowRule, budget, reconnect, times_later};
use crate::event::Event;
use crate::feeds::{FeedId, Feeds};
use crate::ingest::Ingest;
use crate::intake::{Intake, Shared};
use crate::limits::Limits;
use crate::opening::{Opened, Part, Running, RunningSink, RunningSource, Site, Slot};
use crate::path::Path;
use crate::plan::{Plan, SinkSpec, SourceSpec};
use crate::private::{Present, Replay};
use crate::shutdown::{Phase, Shutdown, Trigger};
use crate::sink::{self, Sink};
use crate::source::{self, Habit};
use crate::stats::Books;

/// Everything that runs.
pub(crate) struct Roster {
    pub(crate) plan: Plan,
    site: Site,
    shared: Shared,
    limits: Arc<Limits>,
    books: Books,
    filters: watch::Sender<Filters>,
    replay: bool,
    /// The format of the last source, where files are replayed, or of the first that told.
    pub(crate) own: Option<Format>,
    clients: Clients,
    announcements: Announcements,
    allowance: Allowance,
    private_pool: Pool,
    sources: Vec<AtWork>,
    sinks: Vec<Delivering>,
    feeds: Feeds,
    /// Sources that were told to end and have not yet.
    leaving: HashMap<usize, Trigger>,
    /// Sinks that start when the one of this number has let go.
    waiting: Vec<Waiting>,
    next: u64,
    ingests: JoinSet<()>,
    delivering: JoinSet<(u64, Result<(), String>)>,
    farewells: JoinSet<()>,
    /// What stops the sinks, once the path has ended.
    stop_sinks: Trigger,
    sinks_shutdown: Shutdown,
}

/// A source that runs.
struct AtWork {
    /// Its numbers, in the books and on the path, with what stops each.
    parts: Vec<(usize, Trigger)>,
    filter: watch::Sender<Filters>,
    controls: Vec<Controls>,
    failed: bool,
}

/// A sink that runs.
struct Delivering {
    /// Its number, which all its subscribers have as their group.
    number: u64,
    feed: FeedId,
    stop: Trigger,
    controls: Controls,
    present: Present,
    ended: bool,
    failed: bool,
}

/// A sink that is to start.
struct Waiting {
    /// When this one has let go.
    before: u64,
    /// Which of the plan it is.
    index: usize,
    /// Its place in the feed.
    reserved: Option<Subscriber>,
}

impl Roster {
    /// Nothing runs yet. `shared` is what sources work with.
    pub(crate) fn new(
        site: Site,
        shared: Shared,
        filters: watch::Sender<Filters>,
        plan: &Plan,
        books: Books,
        changeable: bool,
    ) -> Self {
        let (stop_sinks, sinks_shutdown) = crate::shutdown::shutdown();
        let limits = Arc::new(plan.limits.clone());
        Roster {
            plan: Plan { sources: Vec::new(), sinks: Vec::new(), ..plan.clone() },
            clients: Clients::new(&limits),
            announcements: Announcements::new(shared.interfaces.clone()),
            allowance: Allowance::new(limits.private_octets()),
            private_pool: crate::private::pool(plan.sources.len(), &limits),
            feeds: Feeds::new(limits.clone(), shared.interfaces.clone(), books.clone(), changeable),
            site,
            shared,
            limits,
            books,
            filters,
            replay: false,
            own: None,
            sources: Vec::new(),
            sinks: Vec::new(),
            leaving: HashMap::new(),
            waiting: Vec::new(),
            next: 0,
            ingests: JoinSet::new(),
            delivering: JoinSet::new(),
            farewells: JoinSet::new(),
            stop_sinks,
            sinks_shutdown,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What a new plan has to know.
    pub(crate) fn running(&self) -> Running {
        let source =
            |source: &AtWork| RunningSource { controls: source.controls.clone(), failed: source.failed };
        let sink = |sink: &Delivering| RunningSink {
            controls: sink.controls.clone(),
            ended: sink.ended,
            failed: sink.failed,
        };
        Running {
            plan: self.plan.clone(),
            filters: self.filters.borrow().clone(),
            sources: self.sources.iter().map(source).collect(),
            sinks: self.sinks.iter().map(sink).collect(),
        }
    }

    /// Whether files are replayed to each client.
    pub(crate) fn replays(&self) -> bool {
        self.replay
    }

    /// Makes the sources those of a plan that was opened: some stay, some go, some come.
    pub(crate) fn change_sources(&mut self, opened: &mut Opened, path: &mut Path) {
        let before = std::mem::take(&mut self.sources);
        let mut before: Vec<Option<AtWork>> = before.into_iter().map(Some).collect();
        if opened.replay && !self.replay {
            // Who shares the stream that ends now comes back to files of its own.
            self.sinks.iter().for_each(|sink| self.feeds.end_readers(sink.number));
        }
        self.replay = opened.replay;
        self.plan.sources.clone_from(&opened.plan.sources);
        self.shared.times_later.store(times_later(&opened.plan), Ordering::Relaxed);
        let on_slow = OnSlowRule::of(&opened.plan);
        let news = std::mem::take(&mut opened.sources);
        for (index, (parts, kept)) in news.into_iter().zip(&opened.changes.sources).enumerate() {
            let Some(spec) = opened.plan.sources.get(index) else { continue };
            let filters = opened.source_filters.get(index).cloned().unwrap_or_default();
            let stays = kept.and_then(|kept| before.get_mut(kept)).and_then(Option::take);
            let source = match (stays, parts) {
                (Some(stays), _) => {
                    stays.adopt(spec, filters);
                    stays
                }
                (None, Some(parts)) => self.start_source(parts, filters, &opened.plan, &on_slow, path),
                (None, None) => continue,
            };
            self.sources.push(source);
        }
        for gone in before.into_iter().flatten() {
            self.remove(&gone.controls);
            for (number, stop) in gone.parts {
                stop.advance(Phase::Draining);
                if path.has_source(number) {
                    self.leaving.insert(number, stop);
                } else {
                    stop.advance(Phase::Stopping);
                    self.books.retire_source(number);
                }
            }
        }
        if !self.replay {
            path.reorder(&opened.plan);
        }
    }

    fn start_source(
        &mut self,
        parts: Vec<Part>,
        filters: Filters,
        plan: &Plan,
        on_slow: &OnSlowRule,
        path: &mut Path,
    ) -> AtWork {
        let controls = parts.iter().map(|part| part.source.controls()).collect();
        let filter = watch::Sender::new(filters);
        let mut started = Vec::new();
        for Part { spec, source, kind, stop, shutdown } in parts {
            let number = self.number() as usize;
            self.books.add_source(number, spec.shown_name());
            started.push((number, stop));
            if self.replay {
                continue;
            }
            // Where it may bring back what we send. What is read already and waits comes on top of a ring.
            let room = (self.shared.sends && kind.habit != Habit::Once).then(|| {
                let ring = source::ring_octets(&spec, &self.limits, source::rings(&plan.sources));
                ring.unwrap_or(self.limits.source_octets(plan.sources.len())) / 4 * 3
            });
            path.add_source(number, &spec, kind, room);
            let intake = Intake {
                shared: self.shared.clone(),
                source: number,
                gated: kind.waits_for_reader || on_slow.waits(),
                budget: budget(plan, &spec),
                filter: filter.subscribe(),
                shutdown,
                shaper: Arc::new(Mutex::new(Shaper::new(spec.shape))),
                turning: Arc::default(),
                spec: spec.clone(),
            };
            let reconnect = reconnect(plan, &spec, kind);
            self.ingests.spawn(Ingest::new(intake, reconnect).run(source, kind));
        }
        AtWork { parts: started, filter, controls, failed: false }
    }

    /// A source has ended; whether in an error.
    pub(crate) fn source_ended(&mut self, number: usize) {
        if let Some(stop) = self.leaving.remove(&number) {
            stop.advance(Phase::Stopping);
            self.books.retire_source(number);
        }
        let failed = self.books.has_failed(number);
        let its = |source: &&mut AtWork| source.parts.iter().any(|(known, _)| *known == number);
        self.sources.iter_mut().filter(its).for_each(|source| source.failed |= failed);
    }

    /// Makes the sinks and their feeds those of a plan that was opened.
    pub(crate) fn change_sinks(&mut self, opened: &mut Opened, path: &mut Path) {
        self.own = self.own.or(opened.own);
        self.filters.send_replace(opened.filters.clone());
        let before = std::mem::take(&mut self.sinks);
        let numbers: Vec<u64> = before.iter().map(|sink| sink.number).collect();
        let mut before: Vec<Option<Delivering>> = before.into_iter().map(Some).collect();
        self.plan.sinks.clone_from(&opened.plan.sinks);
        self.waiting.clear();
        let mut stay: Vec<Option<Delivering>> = Vec::new();
        for (spec, kept) in opened.plan.sinks.iter().zip(&opened.changes.sinks) {
            let sink = kept.and_then(|kept| before.get_mut(kept)).and_then(Option::take);
            stay.push(sink.inspect(|sink| sink.adopt(spec)));
        }
        let on_slow = OnSlowRule::of(&opened.plan);
        self.renew_feeds(&stay, &opened.plan, &on_slow, path);
        for gone in before.into_iter().flatten() {
            self.dismiss(gone);
        }
        let slots = std::mem::take(&mut opened.sinks);
        for (index, (slot, stays)) in slots.into_iter().zip(stay).enumerate() {
            let number = self.number();
            let Some(spec) = opened.plan.sinks.get(index) else { continue };
            let sink = match (stays, slot) {
                (Some(stays), _) => stays,
                (None, Some(slot)) => {
                    let key = self.key_of(spec, &on_slow);
                    let feed = self.feeds.get_or_make(key, path);
                    match slot {
                        Slot::Now(sink) => self.start_sink(number, sink, feed, None),
                        Slot::After(old) => {
                            let before = numbers.get(old).copied().unwrap_or(0);
                            // What is published until it can start waits for it in the ring.
                            let ring = self.feeds.ring(feed).filter(|_| !self.replay);
                            let reserved = ring.map(|ring| {
                                Subscriber::join_group(ring, spec.name.clone(), Start::Next, number)
                            });
                            self.waiting.push(Waiting { before, index, reserved });
                            self.not_yet(number, feed)
                        }
                    }
                }
                (None, None) => continue,
            };
            self.sinks.push(sink);
        }
        self.retire_feeds(path);
        self.feeds.share_memory();
        self.renew_files();
    }

    fn key_of(&self, spec: &SinkSpec, on_slow: &OnSlowRule) -> FeedKey {
        FeedKey::of(spec, self.plan.sources.len(), self.own, on_slow, &self.filters.borrow())
    }

    /// What sinks that stay read from follows their new filters.
    fn renew_feeds(
        &mut self,
        stay: &[Option<Delivering>],
        plan: &Plan,
        on_slow: &OnSlowRule,
        path: &mut Path,
    ) {
        for (spec, sink) in plan.sinks.iter().zip(stay) {
            let Some(sink) = sink else { continue };
            let new = self.key_of(spec, on_slow);
            self.feeds.renew(sink.feed, &new, path);
        }
    }

    fn start_sink(
        &mut self,
        number: u64,
        sink: Box<dyn Sink>,
        feed: FeedId,
        reserved: Option<Subscriber>,
    ) -> Delivering {
        let mut delivering = self.not_yet(number, feed);
        let Some((ring, key)) = self.feeds.enter(feed, number) else { return delivering };
        let (stop, shutdown) = self.sinks_shutdown.part();
        (delivering.ended, delivering.stop, delivering.controls) = (false, stop, sink.controls());
        let reserved = Arc::new(Mutex::new(reserved));
        delivering.present.set(self.files(&key));
        let context = sink::Context {
            ring,
            interfaces: self.announcements.clone(),
            shutdown,
            gate: self.shared.gate.clone(),
            opener: self.site.opener.clone(),
            events: self.site.events.clone(),
            clients: self.clients.clone(),
            limits: self.limits.clone(),
            clock: self.shared.clock,
            alone: self.plan.sinks.len() == 1,
            own_traffic: self.site.own_traffic.clone(),
            told: self.site.shutdown.clone(),
            replay: delivering.present.clone(),
            group: number,
            reserved,
        };
        let running = sink.run(context);
        self.delivering.spawn(async move { (number, running.await) });
        delivering
    }

    /// The files as they are replayed to clients who want them as `key` says; `None` where all share one
    /// stream.
    fn files(&self, key: &FeedKey) -> Option<Replay> {
        let numbers = self.sources.iter().filter_map(|source| source.parts.first());
        let numbers = numbers.map(|(number, _)| *number);
        self.replay.then(|| Replay {
            name: key.name.clone(),
            sources: numbers.zip(self.plan.sources.iter().cloned()).collect(),
            feed: key.options_private(&self.limits),
            order: self.plan.order.unwrap_or(Order::Time),
            clock: self.shared.clock,
            pool: self.private_pool.clone(),
            allowance: self.allowance.clone(),
            opener: self.site.opener.clone(),
            events: self.site.events.clone(),
            books: self.books.clone(),
            shutdown: self.sinks_shutdown.clone(),
            client_timeout: self.limits.client_timeout,
            mismatched: Mutex::default(),
            own_filters: self.sources.iter().map(|source| source.filter.borrow().clone()).collect(),
            filters: self.filters.borrow().clone(),
        })
    }

    /// A sink that does not run.
    fn not_yet(&self, number: u64, feed: FeedId) -> Delivering {
        let (stop, _) = crate::shutdown::shutdown();
        let (controls, present) = (Controls::default(), Present::default());
        Delivering { number, feed, stop, controls, present, ended: true, failed: false }
    }

    /// Ends a sink: it takes no new clients, its subscribers get what is queued for them, and in the end
    /// they are sent away.
    fn dismiss(&mut self, sink: Delivering) {
        sink.stop.advance(Phase::Draining);
        self.remove(std::slice::from_ref(&sink.controls));
        let Some(ring) = self.feeds.ring(sink.feed).cloned() else { return };
        let drain = self.limits.drain;
        ring.end_group(sink.number);
        self.farewells.spawn(async move {
            tokio::time::sleep(drain).await;
            ring.disconnect_group(sink.number);
            sink.stop.advance(Phase::Stopping);
        });
        // Those that have said farewell already.
        while self.farewells.try_join_next().is_some() {}
    }

    /// Takes away what leads to listening sockets, while that is still permitted.
    fn remove(&self, controls: &[Controls]) {
        for sockets in controls.iter().filter_map(|controls| controls.sockets.as_ref()) {
            sockets.remove(self.site.opener.as_ref());
        }
    }

    /// Ends the feeds that no sink reads from any more.
    fn retire_feeds(&mut self, path: &mut Path) {
        let is_wanted = |feed: FeedId| {
            let runs = self.sinks.iter().any(|sink| sink.feed == feed && !sink.ended);
            let mut waiting = self.waiting.iter().filter_map(|waiting| self.sinks.get(waiting.index));
            runs || waiting.any(|sink| sink.feed == feed)
        };
        self.feeds.retire(is_wanted, path);
    }

    /// The next clients are served what the plan says now.
    fn renew_files(&mut self) {
        for sink in self.sinks.iter().filter(|sink| !sink.ended) {
            sink.present.set(self.feeds.key(sink.feed).and_then(|key| self.files(key)));
        }
    }

    /// The next sink that ended, and how; `None` if there is none.
    pub(crate) async fn next_ended(&mut self) -> Option<Result<(u64, Result<(), String>), JoinError>> {
        self.delivering.join_next().await
    }

    /// Whether no sink runs, and none waits for another to end.
    pub(crate) fn has_no_sink(&self) -> bool {
        self.delivering.is_empty() && self.waiting.is_empty()
    }

    /// A sink has ended. What was to take its place starts.
    pub(crate) fn sink_ended(&mut self, number: u64, failed: bool, path: &mut Path) {
        for sink in self.sinks.iter_mut().filter(|sink| sink.number == number) {
            (sink.ended, sink.failed) = (true, failed);
        }
        self.feeds.leave(number);
        let ready = |waiting: &Waiting| waiting.before == number;
        let (ready, waiting): (Vec<_>, _) = self.waiting.drain(..).partition(ready);
        self.waiting = waiting;
        for Waiting { index, reserved, .. } in ready {
            let (Some(spec), Some(place)) = (self.plan.sinks.get(index), self.sinks.get(index)) else {
                continue;
            };
            let (number, feed) = (place.number, place.feed);
            let started = match self.site.open_sink(spec) {
                Ok(sink) => self.start_sink(number, sink, feed, reserved),
                Err(error) => {
                    self.site.events.emit(Event::SinkFailed { why: &error });
                    continue;
                }
            };
            if let Some(place) = self.sinks.get_mut(index) {
                *place = started;
            }
        }
        self.retire_feeds(path);
    }

    /// The path has ended: sinks take what is queued.
    pub(crate) fn drain(&self) {
        self.stop_sinks.advance(Phase::Draining);
    }

    /// Sinks give up what they have not delivered.
    pub(crate) fn give_up(&self) {
        self.books.disconnect_all();
        self.stop_sinks.advance(Phase::Stopping);
    }

    /// Nothing is read any more.
    pub(crate) async fn stop_reading(&mut self) {
        self.farewells.abort_all();
        self.ingests.abort_all();
        while self.ingests.join_next().await.is_some() {}
    }

    /// Whether a source can not be paused without losing packets.
    pub(crate) fn has_live_source(&self) -> bool {
        self.plan.sources.iter().any(|spec| source::kind(spec).is_some_and(|kind| !kind.can_wait))
    }
}

impl AtWork {
    /// Takes over what can change while it runs.
    fn adopt(&self, spec: &SourceSpec, filters: Filters) {
        for controls in &self.controls {
            if let (Some(access), Ok(now)) = (&controls.access, source::access(&spec.endpoint)) {
                access.set(now);
            }
        }
        let texts = |filters: &Filters| filters.iter().map(|f| f.text().to_owned()).collect::<Vec<_>>();
        let before = texts(&self.filter.borrow());
        if before != texts(&filters) {
            // First no packet is kept out any more that the new filter may want.
            let captures = self.controls.iter().filter_map(|controls| controls.capture.as_ref());
            captures.for_each(|capture| capture.set(spec.filter.clone()));
            self.filter.send_replace(filters);
        }
    }
}

impl Delivering {
    /// Takes over what can change while it runs.
    fn adopt(&self, spec: &SinkSpec) {
        if let Some(access) = &self.controls.access {
            access.set(Access { allow: spec.allow.clone(), deny: spec.deny.clone() });
        }
    }
}
