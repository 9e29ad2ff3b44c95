//! One lane of the merge: the batches of one stream, given out in their own order, run by run.

use std::collections::VecDeque;
use std::sync::Arc;

use super::key::{Keyed, LaneTime};
use super::tournament::{NOWHERE, place};
use super::{Emit, Held, LaneId, PACKET_OVERHEAD, WhenIdle};
use crate::batch::Batch;
use crate::time::Monotonic;

#[derive(Debug)]
pub(super) struct Lane<T> {
    pub(super) id: LaneId,
    pub(super) rank: u64,
    pub(super) when_idle: WhenIdle,
    pub(super) state: LaneState,
    pub(super) held: Held,
    /// When the head has been here for the hold.
    pub(super) due: Monotonic,
    queue: VecDeque<Queued<T>>,
    /// The place of the head in the first batch of the queue.
    next: usize,
    /// The lane's time before the head.
    time: LaneTime,
    head: Keyed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LaneState {
    Open,
    /// No more will come; what is queued still goes out.
    Closed,
    /// The slot waits for its next lane.
    Vacant,
}

#[derive(Debug)]
struct Queued<T> {
    batch: Arc<Batch>,
    due: Monotonic,
    octets: usize,
    /// Held for its drop, when the last packet has gone.
    _ticket: T,
}

/// What a run was.
pub(super) struct Run {
    pub(super) packets: usize,
    /// Of packets, with overhead.
    pub(super) octets: usize,
    pub(super) outliers: u64,
    pub(super) first_key: u64,
    pub(super) last_key: u64,
    /// Octets no longer held: those of the batch, if this was the end of it.
    pub(super) freed: usize,
}

impl<T> Lane<T> {
    pub(super) fn new(id: LaneId, rank: u64, when_idle: WhenIdle) -> Self {
        Lane {
            id,
            rank,
            when_idle,
            state: LaneState::Open,
            held: Held::default(),
            due: Monotonic::default(),
            queue: VecDeque::new(),
            next: 0,
            time: LaneTime::default(),
            head: Keyed::default(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many batches are queued.
    pub(super) fn batches(&self) -> usize {
        self.queue.len()
    }

    /// The place of its head among the lanes.
    pub(super) fn place(&self) -> u128 {
        if self.is_empty() { NOWHERE } else { place(self.head.key, self.rank) }
    }

    /// Appends a batch that has packets. Whether the head's place changed.
    pub(super) fn push(&mut self, batch: Arc<Batch>, due: Monotonic, octets: usize, ticket: T) -> bool {
        // Readings of one clock do not run back; if they did, the head would hide what is due.
        let due = self.queue.back().map_or(due, |before| before.due.max(due));
        let changes = self.is_empty() || self.head.provisional;
        self.held.packets += batch.packets.len();
        self.held.octets += octets;
        self.queue.push_back(Queued { batch, due, octets, _ticket: ticket });
        if changes {
            self.find_head();
        }
        changes
    }

    /// Gives out its next packets, as long as they stay before `limit`, at most a batch.
    #[inline]
    pub(super) fn emit_run(&mut self, limit: u128, emit: &mut Emit<'_>) -> Option<Run> {
        let first = self.queue.front()?;
        let packets = first.batch.packets.as_slice();
        let start = self.next;
        let mut run = Run {
            packets: 0,
            octets: 0,
            outliers: self.head.outliers,
            first_key: self.head.key,
            last_key: self.head.key,
            freed: 0,
        };
        let mut end = start;
        let mut time = self.head.after;
        if limit == NOWHERE && start == 0 {
            // Nobody to compare with: a whole batch goes without a look at its packets, and the
            // lane's time follows the last of them.
            end = packets.len();
            run.octets = first.batch.buffer.len();
            if let [_, .., last] = packets {
                let keyed = time.key(last.timestamp.nanos(), || times_from(&self.queue, end));
                (run.last_key, time) = (keyed.key, keyed.after);
            }
        } else {
            while let Some(packet) = packets.get(end) {
                run.octets += packet.caplen as usize + PACKET_OVERHEAD;
                end += 1;
                let Some(packet) = packets.get(end) else {
                    break;
                };
                let nanos = packet.timestamp.nanos();
                // Nearly every packet, written out: a `Keyed` would go through memory.
                if let Some(key) = time.near(nanos) {
                    if place(key, self.rank) >= limit {
                        self.head = Keyed::near(key);
                        break;
                    }
                    run.last_key = key;
                    time = LaneTime::at(key);
                    continue;
                }
                let keyed = time.key(nanos, || times_from(&self.queue, end + 1));
                if place(keyed.key, self.rank) >= limit {
                    self.head = keyed;
                    break;
                }
                run.last_key = keyed.key;
                run.outliers += keyed.outliers;
                time = keyed.after;
            }
        }
        emit(&first.batch, start..end, self.id);
        run.packets = end - start;
        self.held.packets -= run.packets;
        self.next = end;
        self.time = time;
        if end >= packets.len() {
            run.freed = first.octets;
            self.held.octets -= run.freed;
            self.next = 0;
            self.queue.pop_front();
            self.find_head();
        }
        Some(run)
    }

    fn find_head(&mut self) {
        let Some(first) = self.queue.front() else {
            return;
        };
        let Some(packet) = first.batch.packets.get(self.next) else {
            return;
        };
        self.due = first.due;
        self.head = self.time.key(packet.timestamp.nanos(), || times_from(&self.queue, self.next + 1));
    }
}

/// The times of all packets of a queue but the first `skipped`, which lie in its first batch.
fn times_from<T>(queue: &VecDeque<Queued<T>>, skipped: usize) -> impl Iterator<Item = u64> {
    let first = queue.front().and_then(|queued| queued.batch.packets.get(skipped..));
    let later = queue.iter().skip(1).flat_map(|queued| &queued.batch.packets);
    first.unwrap_or_default().iter().chain(later).map(|packet| packet.timestamp.nanos())
}
