//! Puts the packets of all sources into one time order, and holds none longer than it must:
//! between the decoders and the feeds.
//!
//! Each stream has a [lane](LaneId), into which its batches are pushed; [`Merge::drain`] gives
//! out what may go now, in runs of consecutive packets of one batch. Packets of one lane always
//! keep their order; among lanes the smallest key goes first, where a packet's key is its time
//! or, if that is larger, the key of the packet before it. Ties are decided by the rank of the
//! lane. One packet with a wild time leads nothing astray: a jump ahead of more than an hour that
//! is taken back sorts with the packet before it and leaves the lane's key where it was.
//!
//! [`Order::Time`] never waits longer than `hold` for a lane that may be idle. A packet that has
//! waited that long goes, after those that are earlier than it by up to `hold`. So much is enough:
//! if every packet comes within `hold` of its time, then one that is still missing when another is
//! due is later than it, and one that is earlier by more than `hold` would itself be due. A lane
//! with a wrong clock is farther off, waits for itself alone, and takes nobody with it.

mod choice;
mod key;
mod lane;
mod tournament;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use crate::batch::Batch;
use crate::packet::Packet;
use crate::time::Monotonic;
use choice::{Choice, Due};
use lane::{Lane, LaneState};
use tournament::Tournament;

/// The order of packets of different sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Order {
    /// By time; a lane that is idle holds the others at most `hold`.
    Time,
    /// As pushed.
    Arrival,
    /// By time; every lane is waited for, until it is closed.
    Exact,
}

/// What a merge is told at its start.
#[derive(Debug, Clone, Copy)]
pub struct MergeConfig {
    /// The order of packets of different sources.
    pub order: Order,
    /// How long packets are held at most for a lane that may be idle; zero is not at all.
    pub hold: Duration,
    /// Octets held of all lanes together. In [`Order::Time`], what is more goes out early,
    /// counted; elsewhere it is for the caller to push no more.
    pub capacity_octets: usize,
    /// The same for each lane.
    pub lane_octets: usize,
}

/// What the merge does while a lane has nothing queued. [`Order::Exact`] always waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WhenIdle {
    /// Waits for it without limit: a file, which always has more until it ends.
    Wait,
    /// Holds others at most `hold`, and its own packets too.
    Hold,
}

/// One stream's place in the merge; never that of another, even after it was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaneId {
    slot: u32,
    serial: u64,
}

impl LaneId {
    /// Its place among the lanes: below the most lanes that were ever known at once, and taken
    /// over by another only when nothing of this lane is left.
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// Takes runs: a batch, which of its packets go now, and the lane they were pushed to.
pub type Emit<'a> = dyn FnMut(&Arc<Batch>, Range<usize>, LaneId) + 'a;

/// What one call of [`Merge::drain`] gave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drained {
    /// Octets of the packets with 16 for each; of a batch that went in one piece, of its buffer.
    pub octets: usize,
    /// Packets.
    pub packets: usize,
    /// The limit was reached and packets are queued: call again.
    pub more: bool,
}

/// What is queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Held {
    /// Packets that have not gone out.
    pub packets: usize,
    /// Octets that their batches keep: of the buffer, and 32 for each packet.
    pub octets: usize,
}

/// What happened in a merge since its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MergeCounts {
    /// Packets that went out before their time because too many octets were held.
    pub released_early: u64,
    /// Jumps ahead of more than an hour that were then taken back. Not looked for where a whole
    /// batch goes unsorted.
    pub outliers: u64,
    /// Times that a packet went out behind one of another lane with a larger key.
    pub time_back: u64,
    /// Packets pushed to a lane that was closed; they were not taken.
    pub refused: u64,
}

/// What a packet's header adds to its octets, on the wire and in [`Drained::octets`].
const PACKET_OVERHEAD: usize = 16;

/// The merge of all lanes. `T` is a ticket, such as a permit to hold octets, which is dropped
/// when the last packet of its batch has gone out.
///
/// ```
/// # use std::{sync::Arc, time::Duration};
/// # use pcaphub_core::{batch::Batch, time::Monotonic};
/// use pcaphub_core::merge::{Merge, MergeConfig, Order, WhenIdle};
///
/// let hold = Duration::from_millis(100);
/// let config = MergeConfig { order: Order::Time, hold, capacity_octets: 1 << 26, lane_octets: 1 << 24 };
/// let mut merge = Merge::new(config);
/// let lane = merge.open(0, WhenIdle::Hold);
/// let now = Monotonic::from_nanos(0);
/// merge.push(lane, Arc::new(Batch::default()), now, ());
/// let drained = merge.drain(now, 1 << 20, &mut |_batch, _packets, _lane| {});
/// assert_eq!(drained.packets, 0);
/// ```
#[derive(Debug)]
pub struct Merge<T> {
    config: MergeConfig,
    /// By slot.
    lanes: Vec<Lane<T>>,
    vacant: Vec<u32>,
    opened: u64,
    tournament: Tournament,
    /// In [`Order::Arrival`], the slot of each batch.
    arrivals: VecDeque<u32>,
    /// Open lanes with nothing queued.
    idle: Idle,
    held: Held,
    counts: MergeCounts,
    last: Option<(LaneId, u64)>,
    releases_all: bool,
}

/// How many open lanes have nothing queued.
#[derive(Debug, Default)]
struct Idle {
    wait: usize,
    hold: usize,
}

impl Idle {
    fn count(&mut self, when_idle: WhenIdle) -> &mut usize {
        match when_idle {
            WhenIdle::Wait => &mut self.wait,
            WhenIdle::Hold => &mut self.hold,
        }
    }
}

impl<T> Merge<T> {
    /// A merge without lanes.
    pub fn new(config: MergeConfig) -> Self {
        Merge {
            config,
            lanes: Vec::new(),
            vacant: Vec::new(),
            opened: 0,
            tournament: Tournament::new(),
            arrivals: VecDeque::new(),
            idle: Idle::default(),
            held: Held::default(),
            counts: MergeCounts::default(),
            last: None,
            releases_all: false,
        }
    }

    /// Goes on by another rule. Lanes stay as they are; what is queued goes out by the new rule.
    pub fn reorder(&mut self, config: MergeConfig) {
        let (before, now) = (self.config.order, config.order);
        self.config = config;
        if (before == Order::Arrival) == (now == Order::Arrival) {
            return;
        }
        self.arrivals.clear();
        let mut queued: Vec<_> = self.lanes.iter().filter(|lane| !lane.is_empty()).collect();
        queued.sort_by_key(|lane| lane.place());
        for lane in queued {
            let slot = lane.id.slot;
            match now {
                Order::Arrival => self.arrivals.extend(std::iter::repeat_n(slot, lane.batches())),
                _ => self.tournament.set(slot, lane.place()),
            }
        }
        if now == Order::Arrival {
            self.tournament = Tournament::new();
        }
    }

    /// A new lane. Of packets with equal keys, those of the lane with the smaller `rank` go first.
    pub fn open(&mut self, rank: u64, when_idle: WhenIdle) -> LaneId {
        let when_idle = if self.config.order == Order::Exact { WhenIdle::Wait } else { when_idle };
        let slot = self.vacant.pop().unwrap_or(self.lanes.len() as u32);
        let id = LaneId { slot, serial: self.opened };
        self.opened += 1;
        // The largest rank is kept for lanes without a head.
        let lane = Lane::new(id, rank.min(u64::MAX - 1), when_idle);
        match self.lanes.get_mut(slot as usize) {
            Some(vacant) => *vacant = lane,
            None => self.lanes.push(lane),
        }
        *self.idle.count(when_idle) += 1;
        id
    }

    /// Queues a batch that came at `arrival`, which within a lane does not run back. An empty
    /// batch is dropped, with its ticket; so is one for a lane that was closed, counted.
    pub fn push(&mut self, lane: LaneId, batch: Arc<Batch>, arrival: Monotonic, ticket: T) {
        let packets = batch.packets.len();
        if packets == 0 {
            return;
        }
        let Some(open) = self.lane_mut(lane).filter(|lane| lane.state == LaneState::Open) else {
            self.counts.refused += packets as u64;
            return;
        };
        let octets = batch.buffer.len() + packets * size_of::<Packet>();
        let when_idle = open.is_empty().then_some(open.when_idle);
        let due = arrival.plus(self.config.hold);
        let open = &mut self.lanes[lane.slot as usize];
        let moved = open.push(batch, due, octets, ticket);
        let place = open.place();
        self.held.packets += packets;
        self.held.octets += octets;
        if let Some(when_idle) = when_idle {
            *self.idle.count(when_idle) -= 1;
        }
        if self.config.order == Order::Arrival {
            self.arrivals.push_back(lane.slot);
        } else if moved {
            self.tournament.set(lane.slot, place);
        }
    }

    /// No more will come into a lane. What is queued still goes out in its turn.
    pub fn close(&mut self, lane: LaneId) {
        let Some(closed) = self.lane_mut(lane).filter(|lane| lane.state == LaneState::Open) else {
            return;
        };
        closed.state = LaneState::Closed;
        if closed.is_empty() {
            let when_idle = closed.when_idle;
            *self.idle.count(when_idle) -= 1;
            self.vacate(lane.slot);
        }
    }

    /// Gives out, in order, what may go at `now`, until about `limit_octets` have gone.
    ///
    /// After that, unless [`Drained::more`] says that the limit was reached, no packet of a lane
    /// that [holds](WhenIdle::Hold) has been here for `hold` or longer.
    pub fn drain(&mut self, now: Monotonic, limit_octets: usize, emit: &mut Emit<'_>) -> Drained {
        let mut drained = Drained::default();
        // The smallest due head, once one was looked for; until its lane's head changes.
        let mut due = None;
        while self.held.packets > 0 {
            if drained.octets >= limit_octets {
                drained.more = true;
                break;
            }
            let Some(choice) = self.choose(now, &mut due) else {
                break;
            };
            self.give_out(choice, &mut drained, &mut due, emit);
        }
        drained
    }

    /// From now on nothing is held any more; what is queued still goes out in order.
    pub fn release_all(&mut self) {
        self.releases_all = true;
    }

    /// When to drain although nothing was pushed; it may be past. `None` if only a push or a
    /// close can let anything go.
    pub fn deadline(&self) -> Option<Monotonic> {
        if self.held.packets == 0 {
            return None;
        }
        let at_once = Some(Monotonic::default());
        match self.config.order {
            Order::Arrival => at_once,
            _ if self.nothing_is_awaited() => at_once,
            Order::Exact => None,
            Order::Time if self.held.octets > self.config.capacity_octets => at_once,
            Order::Time => {
                let queued = || self.lanes.iter().filter(|lane| !lane.is_empty());
                if queued().any(|lane| self.overflows(lane)) {
                    return at_once;
                }
                queued().filter(|lane| self.may_pass(lane)).map(|lane| lane.due).min()
            }
        }
    }

    /// What is queued in all lanes.
    pub fn held(&self) -> Held {
        self.held
    }

    /// What is queued in a lane; nothing if it was closed and its last packet is gone.
    pub fn held_in(&self, lane: LaneId) -> Held {
        self.lane(lane).map(|lane| lane.held).unwrap_or_default()
    }

    /// Whether packets of a lane can still go out: it is open, or has some queued.
    pub fn knows(&self, lane: LaneId) -> bool {
        self.lane(lane).is_some()
    }

    /// What happened since the start.
    pub fn counts(&self) -> &MergeCounts {
        &self.counts
    }

    fn lane(&self, id: LaneId) -> Option<&Lane<T>> {
        let lane = self.lanes.get(id.slot as usize)?;
        (lane.id == id && lane.state != LaneState::Vacant).then_some(lane)
    }

    fn lane_mut(&mut self, id: LaneId) -> Option<&mut Lane<T>> {
        let lane = self.lanes.get_mut(id.slot as usize)?;
        (lane.id == id && lane.state != LaneState::Vacant).then_some(lane)
    }

    fn vacate(&mut self, slot: u32) {
        self.lanes[slot as usize].state = LaneState::Vacant;
        self.vacant.push(slot);
    }

    #[inline]
    fn give_out(
        &mut self,
        choice: Choice,
        drained: &mut Drained,
        due: &mut Option<Due>,
        emit: &mut Emit<'_>,
    ) {
        let Choice { slot, limit, early } = choice;
        let lane = &mut self.lanes[slot as usize];
        let Some(run) = lane.emit_run(limit, emit) else {
            return;
        };
        drained.octets += run.octets;
        drained.packets += run.packets;
        self.held.packets -= run.packets;
        self.held.octets -= run.freed;
        self.counts.outliers += run.outliers;
        if early {
            self.counts.released_early += run.packets as u64;
        }
        let (id, ran_empty, when_idle, state) = (lane.id, lane.is_empty(), lane.when_idle, lane.state);
        if self.config.order == Order::Arrival {
            self.arrivals.pop_front();
        } else {
            self.tournament.set(slot, lane.place());
            self.counts.time_back +=
                u64::from(self.last.is_some_and(|(last, key)| last != id && run.first_key < key));
            self.last = Some((id, run.last_key));
        }
        if ran_empty || due.is_some_and(|due| due.slot == slot) {
            *due = None;
        }
        if ran_empty && state == LaneState::Open {
            *self.idle.count(when_idle) += 1;
        } else if ran_empty {
            self.vacate(slot);
        }
    }
}
