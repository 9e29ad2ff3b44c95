//! The middle of a packet's path: from the sources' messages through the merge into every feed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use pcaphub_core::batch::Batch;
use pcaphub_core::feed::Ring;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::merge::{LaneId, Merge, Order, WhenIdle};
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::Monotonic;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::defaults::merge_config;
use crate::event::{Event, Events, Mismatch};
use crate::ingest::LAST_WORDS;
use crate::intake::{Message, Ticket};
use crate::outlet::Outlet;
use crate::plan::{Plan, SourceSpec};
use crate::pulse::Pulse;
use crate::rounds::Rounds;
use crate::shutdown::{Phase, Shutdown};
use crate::snowball::{Advice, Snowball};
use crate::source::{self, Habit, SourceKind};
use crate::stats::Books;

/// What is merged and published before the hub looks up again, in octets.
pub const STEP_OCTETS: usize = 256 * 1024;

/// Merge, feeds, and the counts of what goes through.
pub struct Path {
    merge: Merge<Ticket>,
    /// The sources that have not ended, by their numbers.
    members: BTreeMap<usize, Member>,
    /// Those of them that are read again and again.
    rounds: Rounds,
    /// Whose packets come out of a lane, by its slot.
    owner: Vec<usize>,
    /// Whether a source's lane stays while it is away.
    sticky: bool,
    outlets: Vec<Outlet>,
    books: Books,
    events: Events,
    clock: Clock,
    pulse: Pulse,
    packets_left: Option<u64>,
    early_told: u64,
    /// The first linktype that a stream told.
    linktype: Option<LinkType>,
    /// Nothing is sent until then, to see whether a source breaks off.
    silent_until: Option<Monotonic>,
}

/// A source, as the merge sees it.
#[derive(Debug)]
enum Lanes {
    /// One stream at a time, in one lane.
    One(Option<LaneId>),
    /// Streams side by side, each with its lane.
    Many(HashMap<u64, LaneId>),
}

#[derive(Debug)]
struct Member {
    lanes: Lanes,
    when_idle: WhenIdle,
    /// Where its packets may be ours.
    snowball: Option<Snowball>,
}

impl Path {
    /// A path without sources and feeds.
    pub fn new(plan: &Plan, books: Books, events: Events, clock: Clock) -> Self {
        Path {
            merge: Merge::new(merge_config(plan)),
            members: BTreeMap::new(),
            rounds: Rounds::default(),
            owner: Vec::new(),
            sticky: plan.order == Some(Order::Exact),
            outlets: Vec::new(),
            books,
            events,
            clock,
            pulse: Pulse::default(),
            packets_left: plan.count,
            early_told: 0,
            linktype: None,
            silent_until: None,
        }
    }

    /// With the pulse of the loop that uses it.
    pub fn with_pulse(self, pulse: Pulse) -> Self {
        Path { pulse, ..self }
    }

    /// A source comes in, with its lane, so that none gets ahead of it. `room` is what it can bring while
    /// nothing of it is taken, in octets, where its packets may be ours.
    pub fn add_source(&mut self, source: usize, spec: &SourceSpec, kind: &SourceKind, room: Option<usize>) {
        let many = kind.habit == Habit::Many;
        let lanes = if many { Lanes::Many(HashMap::new()) } else { Lanes::One(None) };
        let when_idle = if source::is_all_there(spec) { WhenIdle::Wait } else { WhenIdle::Hold };
        self.members.insert(source, Member { lanes, when_idle, snowball: room.map(Snowball::new) });
        if spec.repeat != 1 {
            self.rounds.add(source);
        }
        if !many {
            self.open_lane(source, None, when_idle);
        }
    }

    /// Whether this source has not ended.
    pub fn has_source(&self, source: usize) -> bool {
        self.members.contains_key(&source)
    }

    /// Whether all sources have ended.
    pub fn has_no_source(&self) -> bool {
        self.members.is_empty()
    }

    /// Merges by what follows from this plan from now on.
    pub fn reorder(&mut self, plan: &Plan) {
        self.merge.reorder(merge_config(plan));
    }

    /// A feed comes in.
    pub fn add_outlet(&mut self, outlet: Outlet) {
        // So that clients who come before the next packet get their header.
        self.linktype.into_iter().for_each(|linktype| outlet.feed.expect_linktype(linktype));
        self.outlets.push(outlet);
    }

    /// A feed goes; its subscribers get what is queued, and then the end.
    pub fn remove_outlet(&mut self, ring: &Arc<Ring>) {
        let (gone, stay): (Vec<_>, _) =
            self.outlets.drain(..).partition(|outlet| Arc::ptr_eq(outlet.feed.ring(), ring));
        self.outlets = stay;
        for mut outlet in gone {
            outlet.abandon();
            outlet.flush(self.clock.now());
            outlet.feed.ring().end();
        }
    }

    /// Exchanges a feed's filter.
    pub fn set_filter(&mut self, ring: &Arc<Ring>, filter: Option<u32>) {
        let its = |outlet: &&mut Outlet| Arc::ptr_eq(outlet.feed.ring(), ring);
        self.outlets.iter_mut().filter(its).for_each(|outlet| outlet.feed.set_filter(filter));
    }

    fn open_lane(&mut self, source: usize, stream: Option<u64>, when_idle: WhenIdle) -> LaneId {
        // Streams of one source rank after each other, in the order in which they came.
        let rank = ((source as u64) << 40) | stream.map_or(0, |stream| stream + 1);
        let lane = self.merge.open(rank, when_idle);
        if self.owner.len() <= lane.slot() {
            self.owner.resize(lane.slot() + 1, source);
        }
        if let Some(owner) = self.owner.get_mut(lane.slot()) {
            *owner = source;
        }
        match (self.members.get_mut(&source).map(|member| &mut member.lanes), stream) {
            (Some(Lanes::Many(lanes)), Some(stream)) => drop(lanes.insert(stream, lane)),
            (Some(Lanes::One(slot)), _) => *slot = Some(lane),
            _ => {}
        }
        lane
    }

    /// The lane of a stream, opened if it has none.
    fn lane(&mut self, source: usize, stream: u64) -> Option<LaneId> {
        let (known, many) = match &self.members.get(&source)?.lanes {
            Lanes::Many(lanes) => (lanes.get(&stream).copied(), true),
            Lanes::One(lane) => (*lane, false),
        };
        Some(known.unwrap_or_else(|| self.open_lane(source, many.then_some(stream), WhenIdle::Hold)))
    }

    /// Takes one message in; the source that has ended by it, if one has. What comes late, of a source
    /// that has ended, is not taken.
    pub fn take(&mut self, message: Message, errors: &mut Vec<String>) -> Option<usize> {
        match message {
            Message::Opened { source, stream, linktype, .. } => {
                self.lane(source, stream)?;
                self.books.source(source, |counts| counts.opened += 1);
                if let Some(linktype) = linktype {
                    self.linktype.get_or_insert(linktype);
                    self.outlets.iter().for_each(|outlet| outlet.feed.expect_linktype(linktype));
                }
            }
            Message::Packets { source, stream, parcel, arrival, ticket } => {
                if !self.members.contains_key(&source) {
                    return None;
                }
                let decoded = parcel.unpack();
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
                    let lane = self.lane(source, stream)?;
                    self.merge.push(lane, Arc::new(decoded.batch), arrival, ticket);
                }
            }
            // It keeps its lane until it is known when it goes on.
            Message::Closed { source, .. } if self.rounds.has(source) => {}
            Message::Closed { source, stream } => match self.members.get_mut(&source).map(|m| &mut m.lanes) {
                Some(Lanes::Many(lanes)) => {
                    if let Some(lane) = lanes.remove(&stream) {
                        self.merge.close(lane);
                    }
                }
                Some(Lanes::One(_)) => self.leave(source),
                None => {}
            },
            Message::Turned { source, turn, go_on } => {
                self.rounds.ended(source, &turn, go_on);
                self.close_lane(source);
                self.next_round();
            }
            Message::Away { source } => self.leave(source),
            Message::Ended { source, error } => {
                let lanes = self.members.remove(&source)?.lanes;
                self.rounds.remove(source);
                self.next_round();
                self.books.source(source, |counts| {
                    counts.ended = true;
                    counts.away = None;
                });
                match lanes {
                    Lanes::One(lane) => lane.into_iter().for_each(|lane| self.merge.close(lane)),
                    Lanes::Many(lanes) => lanes.into_values().for_each(|lane| self.merge.close(lane)),
                }
                if let Some(error) = error {
                    self.books.source(source, |counts| {
                        errors.push(format!("source {}: {error}", counts.name));
                        counts.failed = Some(error);
                    });
                }
                return Some(source);
            }
        }
        None
    }

    /// A source is away; it is not waited for, unless every one is.
    fn leave(&mut self, source: usize) {
        if !self.sticky {
            self.close_lane(source);
        }
    }

    /// Files that are read again and again go on, if all of them are ready to. None gets ahead of another: the lanes
    /// of all are there before one has anything.
    fn next_round(&mut self) {
        for (source, go_on, shift) in self.rounds.begun() {
            if let Some(member) = self.members.get(&source) {
                self.open_lane(source, None, member.when_idle);
                // A source that was told to end does not hear it.
                let _ = go_on.send(shift);
            }
        }
    }

    fn close_lane(&mut self, source: usize) {
        if let Some(Lanes::One(lane)) = self.members.get_mut(&source).map(|member| &mut member.lanes)
            && let Some(lane) = lane.take()
        {
            self.merge.close(lane);
        }
    }

    /// Looks whether a source brings back what we send.
    fn beware(&mut self, source: usize, batch: &Batch, now: Monotonic) {
        let Some(Member { snowball: Some(snowball), .. }) = self.members.get_mut(&source) else { return };
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

    /// Publishes what the merge lets go now; whether there is more at once.
    pub fn release(&mut self) -> bool {
        self.pulse.beat();
        let now = self.clock.now();
        if self.silent_until.is_some_and(|until| now < until) {
            return false;
        }
        self.silent_until = None;
        let Path { merge, owner, outlets, books, packets_left, .. } = self;
        let drained = books.sources(|sources| {
            merge.drain(now, STEP_OCTETS, &mut |batch, mut run, lane| {
                let taken = run.len() as u64;
                let wanted = packets_left.map_or(taken, |left| left.min(taken));
                run.end = run.start + wanted as usize;
                if let Some(left) = packets_left {
                    *left -= wanted;
                }
                if let Some(counts) = owner.get(lane.slot()).and_then(|source| sources.of(*source)) {
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
            while let Some(other) = outlet.feed.take_mismatch() {
                let mismatch = Mismatch { onto: outlet.onto, has: outlet.feed.ring().linktype(), other };
                self.events.emit(Event::LinkTypeMismatch { sink: &outlet.name, mismatch });
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
    pub async fn last_words(&mut self, messages: &mut mpsc::Receiver<Message>, errors: &mut Vec<String>) {
        let limit = Instant::now() + LAST_WORDS;
        while !self.has_no_source() {
            match tokio::time::timeout_at(limit, messages.recv()).await {
                Ok(Some(message)) => drop(self.take(message, errors)),
                _ => return,
            }
        }
    }

    /// What was read before the hub was told to end, and had not come to its turn. What comes later, or ends
    /// now, does not matter any more.
    pub fn take_rest(&mut self, mut messages: mpsc::Receiver<Message>) {
        messages.close();
        while let Ok(message) = messages.try_recv() {
            if matches!(message, Message::Opened { .. } | Message::Packets { .. }) {
                self.take(message, &mut Vec::new());
            }
        }
    }

    /// Lets everything go that is still held, and ends the feeds. Where that was broken off, it can be begun again.
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
