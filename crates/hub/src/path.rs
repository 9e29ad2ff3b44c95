//! The middle of a packet's path: from the sources' messages through the merge into every feed.

use std::collections::HashMap;
use std::sync::Arc;

use pcaphub_core::batch::Batch;
use pcaphub_core::merge::{LaneId, Merge, Order, WhenIdle};
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::Monotonic;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::defaults::merge_config;
use crate::event::{Event, Events};
use crate::ingest::LAST_WORDS;
use crate::intake::{Message, Ticket};
use crate::outlet::Outlet;
use crate::plan::{Plan, SourceSpec};
use crate::pulse::Pulse;
use crate::shutdown::{Phase, Shutdown};
use crate::snowball::{Advice, Snowball};
use crate::source::{self, Habit, SourceKind};
use crate::stats::Books;

/// What is merged and published before the hub looks up again, in octets.
pub const STEP_OCTETS: usize = 256 * 1024;

/// Merge, feeds, and the counts of what goes through.
pub struct Path {
    merge: Merge<Ticket>,
    lanes: Lanes,
    outlets: Vec<Outlet>,
    books: Books,
    events: Events,
    clock: Clock,
    pulse: Pulse,
    packets_left: Option<u64>,
    early_told: u64,
    /// For each source whose packets may be ours.
    snowballs: Vec<Option<Snowball>>,
    /// Nothing is sent until then, to see whether a source breaks off.
    silent_until: Option<Monotonic>,
}

/// Which lane of the merge is whose.
struct Lanes {
    /// The lane of each source that has one stream at a time.
    of_source: Vec<Option<LaneId>>,
    /// The lanes of streams side by side.
    of_stream: HashMap<u64, LaneId>,
    /// Whose packets come out of a lane, by its slot.
    owner: Vec<usize>,
    /// Sources whose streams come side by side.
    many: Vec<bool>,
    /// Whether a source's lane stays while it is away.
    sticky: bool,
}

impl Lanes {
    fn new(plan: &Plan, kinds: &[&SourceKind]) -> Self {
        Lanes {
            of_source: vec![None; kinds.len()],
            of_stream: HashMap::new(),
            owner: Vec::new(),
            many: kinds.iter().map(|kind| kind.habit == Habit::Many).collect(),
            sticky: plan.order == Some(Order::Exact),
        }
    }
}

impl Path {
    /// The path of a hub; `sends` says whether what it sends could come back.
    pub fn new(
        plan: &Plan,
        kinds: &[&SourceKind],
        outlets: Vec<Outlet>,
        books: Books,
        events: Events,
        clock: Clock,
        sends: bool,
    ) -> Self {
        let watch = |(spec, kind): (&SourceSpec, &&SourceKind)| {
            let may_snowball = sends && kind.habit != Habit::Once;
            let ring = source::ring_octets(spec, &plan.limits, source::rings(&plan.sources));
            // What is read already and waits here comes on top of it.
            may_snowball
                .then(|| Snowball::new(ring.unwrap_or(plan.limits.source_octets(kinds.len())) / 4 * 3))
        };
        Path {
            merge: Merge::new(merge_config(plan)),
            lanes: Lanes::new(plan, kinds),
            outlets,
            books,
            events,
            clock,
            pulse: Pulse::default(),
            packets_left: plan.count,
            early_told: 0,
            snowballs: plan.sources.iter().zip(kinds).map(watch).collect(),
            silent_until: None,
        }
    }

    /// With the pulse of the loop that uses it.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Path { pulse, ..self }
    }

    /// Lanes for all sources, before any of them has said anything: none gets ahead of the others.
    pub fn open_lanes(&mut self, plan: &Plan, kinds: &[&SourceKind]) {
        for (index, (spec, kind)) in plan.sources.iter().zip(kinds).enumerate() {
            if kind.habit != Habit::Many {
                let when_idle = if source::is_all_there(spec) { WhenIdle::Wait } else { WhenIdle::Hold };
                self.open_lane(index, None, when_idle);
            }
        }
    }

    fn open_lane(&mut self, source: usize, stream: Option<u64>, when_idle: WhenIdle) -> LaneId {
        // Streams of one source rank after each other, in the order in which they came.
        let rank = ((source as u64) << 40) | stream.map_or(0, |stream| stream + 1);
        let lane = self.merge.open(rank, when_idle);
        if self.lanes.owner.len() <= lane.slot() {
            self.lanes.owner.resize(lane.slot() + 1, source);
        }
        if let Some(owner) = self.lanes.owner.get_mut(lane.slot()) {
            *owner = source;
        }
        match stream {
            Some(stream) => drop(self.lanes.of_stream.insert(stream, lane)),
            None => {
                if let Some(slot) = self.lanes.of_source.get_mut(source) {
                    *slot = Some(lane);
                }
            }
        }
        lane
    }

    /// The lane of a stream, opened if it has none.
    fn lane(&mut self, source: usize, stream: u64) -> LaneId {
        let many = self.lanes.many.get(source).copied().unwrap_or(false);
        let known = match many {
            true => self.lanes.of_stream.get(&stream).copied(),
            false => self.lanes.of_source.get(source).copied().flatten(),
        };
        known.unwrap_or_else(|| self.open_lane(source, many.then_some(stream), WhenIdle::Hold))
    }

    /// Takes one message in; 1 if a source has ended by it.
    pub fn take(&mut self, message: Message, errors: &mut Vec<String>) -> usize {
        match message {
            Message::Opened { source, stream, linktype, .. } => {
                self.lane(source, stream);
                self.books.source(source, |counts| counts.opened += 1);
                if let Some(linktype) = linktype {
                    self.outlets.iter().for_each(|outlet| outlet.feed.expect_linktype(linktype));
                }
            }
            Message::Packets { source, stream, decoded, arrival, ticket } => {
                let packets = decoded.batch.packets.len() as u64;
                self.books.source(source, |counts| {
                    counts.decoded += packets + decoded.filtered + decoded.dropped.total();
                    counts.filtered += decoded.filtered;
                    counts.held += packets;
                    counts.octets += decoded.octets;
                    counts.dropped.merge(&decoded.dropped);
                    counts.anomalies.merge(&decoded.anomalies);
                });
                self.beware(source, &decoded.batch, arrival);
                if packets > 0 {
                    let lane = self.lane(source, stream);
                    self.merge.push(lane, Arc::new(decoded.batch), arrival, ticket);
                }
            }
            Message::Closed { source, stream } => match self.lanes.of_stream.remove(&stream) {
                Some(lane) => self.merge.close(lane),
                None if !self.lanes.sticky => self.close_lane(source),
                None => {}
            },
            Message::Away { source } => {
                if !self.lanes.sticky {
                    self.close_lane(source);
                }
            }
            Message::Ended { source, error } => {
                self.close_lane(source);
                if let Some(error) = error {
                    self.books.source(source, |counts| {
                        errors.push(format!("source {}: {error}", counts.name));
                        counts.failed = Some(error);
                    });
                }
                return 1;
            }
        }
        0
    }

    /// Looks whether a source brings back what we send.
    fn beware(&mut self, source: usize, batch: &Batch, now: Monotonic) {
        let Some(Some(snowball)) = self.snowballs.get_mut(source) else { return };
        let sends = self.outlets.iter().any(|outlet| outlet.feed.ring().subscribers().0 > 0);
        match snowball.saw(batch, now, sends) {
            Advice::GoOn => {}
            Advice::Pause(until) => self.silent_until = Some(until),
            Advice::Warn => {
                let name = self.books.name(source);
                self.events.emit(Event::Snowball { source: &name });
            }
        }
    }

    fn close_lane(&mut self, source: usize) {
        if let Some(lane) = self.lanes.of_source.get_mut(source).and_then(Option::take) {
            self.merge.close(lane);
        }
    }

    /// Publishes what the merge lets go now; whether there is more at once.
    pub fn release(&mut self) -> bool {
        self.pulse.beat();
        let now = self.clock.now();
        if self.silent_until.is_some_and(|until| now < until) {
            return false;
        }
        self.silent_until = None;
        let Path { merge, lanes, outlets, books, packets_left, .. } = self;
        let drained = books.sources(|sources| {
            merge.drain(now, STEP_OCTETS, &mut |batch, mut run, lane| {
                let taken = run.len() as u64;
                let wanted = packets_left.map_or(taken, |left| left.min(taken));
                run.end = run.start + wanted as usize;
                if let Some(left) = packets_left {
                    *left -= wanted;
                }
                if let Some(counts) = lanes.owner.get(lane.slot()).and_then(|source| sources.get_mut(*source))
                {
                    counts.held = counts.held.saturating_sub(taken);
                    counts.forwarded += wanted;
                    counts.dropped.add(DropReason::Closed, taken - wanted);
                }
                outlets.iter_mut().for_each(|outlet| outlet.push(batch, run.clone(), now));
            })
        });
        self.flush();
        drained.more
    }

    fn flush(&mut self) {
        let now = self.clock.now();
        for outlet in &mut self.outlets {
            outlet.flush(now);
            if let Some(other) = outlet.feed.take_mismatch() {
                let linktype = outlet.feed.ring().linktype();
                let has: &(dyn std::fmt::Display + Sync) =
                    linktype.as_ref().map_or(&"no packets", |linktype| linktype);
                self.events.emit(Event::LinkTypeMismatch { sink: &outlet.name, has, other });
            }
        }
        let early = self.merge.counts().released_early;
        if early > 0 && self.early_told == 0 {
            self.events.emit(Event::EarlyRelease { packets: early });
            self.early_told = early;
        }
        self.books.set_early(early);
    }

    /// Returns once every feed has room; at once, unless one is to wait for its subscribers.
    pub async fn room(&mut self) {
        loop {
            for outlet in &self.outlets {
                std::future::poll_fn(|cx| outlet.feed.ring().poll_room(cx)).await;
            }
            if self.outlets.iter().all(Outlet::has_room) {
                return;
            }
            until(self.due()).await;
            self.flush();
        }
    }

    /// Whether all packets went that were to go (-c).
    pub fn is_counted_out(&self) -> bool {
        self.packets_left == Some(0)
    }

    /// Whether no feed takes any more packets.
    pub fn is_done(&self) -> bool {
        self.outlets.iter().all(|outlet| outlet.feed.is_done())
    }

    /// When there is something to do if no message comes.
    pub fn deadline(&self) -> Option<Instant> {
        let merge = self.merge.deadline().map(|deadline| self.clock.instant(deadline));
        let silence = self.silent_until.map(|until| self.clock.instant(until));
        // While nothing may be sent, nothing else is due.
        silence.or([merge, self.due()].into_iter().flatten().min())
    }

    /// When the next packet of a paced feed is due.
    fn due(&self) -> Option<Instant> {
        let due = self.outlets.iter().filter_map(Outlet::deadline).min();
        due.map(|due| self.clock.instant(due))
    }

    /// What live captures had in their rings when the hub was told to end.
    pub async fn last_words(
        &mut self,
        messages: &mut mpsc::Receiver<Message>,
        mut open_sources: usize,
        errors: &mut Vec<String>,
    ) {
        let limit = Instant::now() + LAST_WORDS;
        while open_sources > 0 {
            match tokio::time::timeout_at(limit, messages.recv()).await {
                Ok(Some(message)) => open_sources -= self.take(message, errors),
                _ => return,
            }
        }
    }

    /// Lets everything go that is still held, and ends the feeds.
    pub async fn finish(&mut self, outer: &Shutdown, deadline: Option<Instant>) {
        self.merge.release_all();
        self.silent_until = None;
        while self.release() {
            // Once told to stop, a stalled subscriber does not hold up the end; what is held is
            // bounded, so the rings can take it.
            tokio::select! {
                biased;
                () = self.room() => {}
                () = outer.reached(Phase::Draining) => {}
                () = until(deadline) => {}
            }
        }
        while let Some(due) = self.due() {
            tokio::select! {
                biased;
                () = outer.reached(Phase::Draining) => self.outlets.iter_mut().for_each(Outlet::abandon),
                () = until(deadline) => self.outlets.iter_mut().for_each(Outlet::abandon),
                () = until(Some(due)) => {}
            }
            self.flush();
        }
        self.outlets.iter().for_each(|outlet| outlet.feed.ring().end());
    }
}

/// Returns at an instant; never if there is none.
pub async fn until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
