//! Sinks come, stay and go, each with the feed that it reads from.

use std::sync::{Arc, Mutex};

use pcaphub_core::feed::{Start, Subscriber};
use pcaphub_core::merge::Order;
use tokio::task::JoinError;

use super::Roster;
use crate::access::Access;
use crate::controls::Controls;
use crate::defaults::{FeedKey, OnSlowRule};
use crate::endpoint::Scheme;
use crate::event::Event;
use crate::feeds::FeedId;
use crate::opening::{Opened, Slot};
use crate::path::Path;
use crate::plan::{Plan, SinkSpec};
use crate::private::{Present, Replay};
use crate::shutdown::{Phase, Trigger};
use crate::sink::{self, Sink};
use crate::stats::SinkReport;

/// A sink that runs.
pub(super) struct Delivering {
    /// Its number, which all its subscribers have as their group.
    pub(super) number: u64,
    pub(super) feed: FeedId,
    pub(super) stop: Trigger,
    pub(super) controls: Controls,
    pub(super) present: Present,
    pub(super) ended: bool,
    pub(super) failed: bool,
}

/// A sink that is to start.
pub(super) struct Waiting {
    /// When this one has let go.
    before: u64,
    /// Its own number.
    pub(super) number: u64,
    /// Its place in the feed.
    reserved: Option<Subscriber>,
}

impl Roster {
    /// Makes the sinks and their feeds those of a plan that was opened.
    pub(crate) fn change_sinks(&mut self, opened: &mut Opened, path: &mut Path) {
        self.own = self.own.or(opened.own);
        self.filters.send_replace(opened.filters.clone());
        let before = std::mem::take(&mut self.sinks);
        let numbers: Vec<u64> = before.iter().map(|sink| sink.number).collect();
        let waited = std::mem::take(&mut self.waiting);
        // Who waits for one that waits itself waits for the same.
        let holder = |old: u64| waited.iter().find(|one| one.number == old).map_or(old, |one| one.before);
        let holders: Vec<u64> = numbers.iter().map(|number| holder(*number)).collect();
        let is_over = |sink: &&Delivering| sink.ended && !is_waiting(&waited, sink.number);
        let over: Vec<u64> = before.iter().filter(is_over).map(|sink| sink.number).collect();
        let mut before: Vec<Option<Delivering>> = before.into_iter().map(Some).collect();
        self.plan.sinks.clone_from(&opened.plan.sinks);
        let mut stay: Vec<Option<Delivering>> = Vec::new();
        for (spec, kept) in opened.plan.sinks.iter().zip(&opened.changes.sinks) {
            let sink = kept.and_then(|kept| before.get_mut(kept)).and_then(Option::take);
            stay.push(sink.inspect(|sink| sink.adopt(spec)));
        }
        let stays = |number: u64| stay.iter().flatten().any(|sink| sink.number == number);
        self.waiting = waited.into_iter().filter(|one| stays(one.number)).collect();
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
                        Slot::Now(sink) => self.start_sink(number, spec, sink, feed, None),
                        Slot::After(old) => {
                            let before = holders.get(old).copied().unwrap_or(0);
                            // What is published until it can start waits for it in the ring.
                            let ring = self.feeds.ring(feed).filter(|_| !self.replay);
                            let reserved = ring.map(|ring| {
                                Subscriber::join_group(ring, spec.name.clone(), Start::Next, number)
                            });
                            self.waiting.push(Waiting { before, number, reserved });
                            self.books.add_sink(number, entry(spec));
                            self.not_yet(number, feed)
                        }
                    }
                }
                (None, None) => continue,
            };
            self.sinks.push(sink);
        }
        self.start_after(|before| over.contains(&before));
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
        spec: &SinkSpec,
        sink: Box<dyn Sink>,
        feed: FeedId,
        reserved: Option<Subscriber>,
    ) -> Delivering {
        let mut delivering = self.not_yet(number, feed);
        let Some((ring, key)) = self.feeds.enter(feed, number) else { return delivering };
        let (stop, shutdown) = self.sinks_shutdown.part();
        (delivering.ended, delivering.stop, delivering.controls) = (false, stop, sink.controls());
        let listening = sink.listening().iter().map(ToString::to_string).collect();
        self.books.add_sink(number, SinkReport { listening, waiting: false, ..entry(spec) });
        let reserved = Arc::new(Mutex::new(reserved));
        delivering.present.set(self.files(number, &key));
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
            books: self.books.clone(),
            reserved,
        };
        let running = sink.run(context);
        self.delivering.spawn(async move { (number, running.await) });
        delivering
    }

    /// The files as they are replayed to clients who want them as `key` says; `None` where all share one
    /// stream.
    fn files(&self, number: u64, key: &FeedKey) -> Option<Replay> {
        let numbers = self.sources.iter().filter_map(|source| source.parts.first());
        let numbers = numbers.map(|(number, _)| *number);
        self.replay.then(|| Replay {
            name: key.name.clone(),
            group: number,
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
        match sink.ended {
            true => self.books.retire_sink(sink.number),
            false => self.books.dismiss_sink(sink.number),
        }
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

    /// Ends the feeds that no sink reads from any more.
    fn retire_feeds(&mut self, path: &mut Path) {
        let is_wanted = |feed: FeedId| {
            let runs = self.sinks.iter().any(|sink| sink.feed == feed && !sink.ended);
            let mut waiting = self.sinks.iter().filter(|sink| is_waiting(&self.waiting, sink.number));
            runs || waiting.any(|sink| sink.feed == feed)
        };
        self.feeds.retire(is_wanted, path);
    }

    /// The next clients are served what the plan says now.
    fn renew_files(&mut self) {
        for sink in self.sinks.iter().filter(|sink| !sink.ended) {
            sink.present.set(self.feeds.key(sink.feed).and_then(|key| self.files(sink.number, key)));
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
    pub(crate) fn sink_ended(&mut self, number: u64, failure: Option<&str>, path: &mut Path) {
        let mut wanted = false;
        for sink in self.sinks.iter_mut().filter(|sink| sink.number == number) {
            (sink.ended, sink.failed, wanted) = (true, failure.is_some(), true);
        }
        match failure.filter(|_| wanted) {
            Some(why) => self.books.fail_sink(number, why.to_owned()),
            None => self.books.retire_sink(number),
        }
        self.feeds.leave(number);
        self.start_after(|before| before == number);
        self.retire_feeds(path);
    }

    /// Whether it is to start when another one has let go.
    pub(super) fn waits(&self, number: u64) -> bool {
        is_waiting(&self.waiting, number)
    }

    /// Starts what waited for those.
    fn start_after(&mut self, gone: impl Fn(u64) -> bool) {
        let (ready, waiting): (Vec<_>, _) = self.waiting.drain(..).partition(|waiting| gone(waiting.before));
        self.waiting = waiting;
        for Waiting { number, reserved, .. } in ready {
            let Some(index) = self.sinks.iter().position(|sink| sink.number == number) else { continue };
            let (Some(spec), Some(place)) = (self.plan.sinks.get(index).cloned(), self.sinks.get(index))
            else {
                continue;
            };
            let feed = place.feed;
            let started = match self.site.open_sink(&spec) {
                Ok(sink) => self.start_sink(number, &spec, sink, feed, reserved),
                Err(error) => {
                    self.site.events.emit(Event::SinkFailed { why: &error });
                    self.books.fail_sink(number, error.to_string());
                    Delivering { failed: true, ..self.not_yet(number, feed) }
                }
            };
            if let Some(place) = self.sinks.get_mut(index) {
                *place = started;
            }
        }
    }
}

fn is_waiting(waiting: &[Waiting], number: u64) -> bool {
    waiting.iter().any(|waiting| waiting.number == number)
}

/// What the books say of a sink that is to start.
fn entry(spec: &SinkSpec) -> SinkReport {
    let scheme = spec.endpoint.scheme;
    let listener = matches!(scheme, Scheme::TcpListen | Scheme::TlsListen | Scheme::UnixListen);
    SinkReport { name: spec.name.to_string(), listener, waiting: true, ..SinkReport::default() }
}

impl Delivering {
    /// Takes over what can change while it runs.
    fn adopt(&self, spec: &SinkSpec) {
        if let Some(access) = &self.controls.access {
            access.set(Access { allow: spec.allow.clone(), deny: spec.deny.clone() });
        }
    }
}
