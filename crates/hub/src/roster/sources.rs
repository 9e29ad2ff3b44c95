//! Sources come, stay and go.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use pcaphub_core::filter::Filters;
use pcaphub_core::shape::Shaper;
use tokio::sync::watch;

use super::Roster;
use crate::controls::Controls;
use crate::defaults::{OnSlowRule, budget, reconnect, times_later};
use crate::ingest::Ingest;
use crate::intake::Intake;
use crate::opening::{Opened, Part};
use crate::path::Path;
use crate::plan::{Plan, SourceSpec};
use crate::shutdown::{Phase, Trigger};
use crate::source::{self, Habit};

/// A source that runs.
pub(super) struct AtWork {
    /// Its numbers, in the books and on the path, with what stops each.
    pub(super) parts: Vec<(usize, Trigger)>,
    pub(super) filter: watch::Sender<Filters>,
    pub(super) controls: Vec<Controls>,
    pub(super) failed: bool,
}

impl Roster {
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
