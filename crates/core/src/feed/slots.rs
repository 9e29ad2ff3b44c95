//! What a ring holds: chunks bounded in octets, and the reader of every subscriber.
//!
//! [`State`] is all that the ring's lock guards. After every step of it, what a reader was offered is what was
//! delivered to it, is queued for it, or was dropped for a reason. It wakes nobody but a reader whose books it
//! closes; the others are [`Ring`](super::Ring)'s to wake.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::chunk::Chunk;
use super::reader::{Ending, Reader, Start, SubscriberSnapshot};
use crate::format::Format;
use crate::linktype::LinkType;
use crate::stats::{DropCounts, DropReason};
use crate::time::Monotonic;

/// How a ring behaves.
#[derive(Debug, Clone, Copy)]
pub struct RingOptions {
    /// The format of its chunks.
    pub format: Format,
    /// What it may hold, in octets.
    pub capacity_octets: usize,
    /// What happens to slow subscribers.
    pub on_slow: OnSlow,
    /// What late subscribers get.
    pub history: History,
}

/// What happens when a subscriber is too slow for the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnSlow {
    /// The publisher waits, and with it every source: nothing is lost.
    Wait,
    /// The subscriber loses the oldest whole chunks.
    Drop,
    /// The subscriber is disconnected.
    Disconnect,
}

/// What a ring keeps for subscribers that come later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// Nothing.
    None,
    /// Chunks published within this time.
    Age(Duration),
    /// At most this many octets.
    Octets(usize),
}

/// Everything that the ring's lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: RingOptions,
    pub(super) slots: VecDeque<Slot>,
    /// Sequence number of the first slot.
    pub(super) first: u64,
    pub(super) octets: usize,
    /// When the last chunk was published.
    pub(super) now: Monotonic,
    pub(super) linktype: Option<LinkType>,
    /// The linktype was taken for want of any knowledge; it may still change.
    pub(super) assumed: bool,
    /// Packets in all chunks ever published.
    pub(super) published: u64,
    /// Packets that this feed's format could not carry, since the beginning.
    pub(super) dropped: DropCounts,
    pub(super) readers: BTreeMap<u64, Reader>,
    pub(super) next_reader: u64,
    pub(super) joined: u64,
    pub(super) departed: Departed,
    pub(super) ended: bool,
    pub(super) publisher: Option<Waker>,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) chunk: Chunk,
    /// Packets published before it.
    pub(super) before: u64,
    /// Readers that have not finished with it.
    pub(super) unread: u32,
}

#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Departed {
    pub(super) offered: u64,
    pub(super) delivered: u64,
    pub(super) octets: u64,
    pub(super) dropped: DropCounts,
}

impl State {
    /// Nothing yet, and nobody.
    pub(super) fn new(options: RingOptions) -> Self {
        State {
            options,
            slots: VecDeque::new(),
            first: 0,
            octets: 0,
            now: Monotonic::default(),
            linktype: None,
            assumed: false,
            published: 0,
            dropped: DropCounts::default(),
            readers: BTreeMap::new(),
            next_reader: 0,
            joined: 0,
            departed: Departed::default(),
            ended: false,
            publisher: None,
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.options.on_slow != OnSlow::Wait || self.octets < self.options.capacity_octets
    }

    pub(super) fn append(&mut self, chunk: Chunk) {
        let takes = |reader: &&Reader| reader.closed.is_none() && reader.last.is_none();
        let unread = self.readers.values().filter(takes).count() as u32;
        self.octets += chunk.charge();
        let before = self.published;
        self.published += chunk.packets;
        self.slots.push_back(Slot { chunk, before, unread });
    }

    /// Lets go of what every reader has finished with and no history keeps.
    pub(super) fn trim(&mut self, now: Monotonic) {
        while let Some(slot) = self.slots.front() {
            let kept = match self.options.history {
                History::None => false,
                History::Age(age) => now.since(slot.chunk.published) <= age,
                History::Octets(octets) => self.octets - slot.chunk.charge() < octets,
            };
            if slot.unread > 0 || kept {
                break;
            }
            self.pop();
        }
    }

    /// Brings the ring back under its capacity as far as [`OnSlow`] allows.
    pub(super) fn make_room(&mut self) {
        while self.octets > self.options.capacity_octets && self.slots.len() > 1 {
            let Some(front) = self.slots.front() else { return };
            if front.unread > 0 {
                match self.options.on_slow {
                    OnSlow::Wait => return,
                    OnSlow::Drop => self.lose_front(),
                    OnSlow::Disconnect => self.expel_laggards(),
                }
            }
            self.pop();
        }
    }

    fn pop(&mut self) {
        if let Some(slot) = self.slots.pop_front() {
            self.octets -= slot.chunk.charge();
            self.first += 1;
        }
    }

    /// Readers that still need the front slot lose it, unless their writer holds it already.
    fn lose_front(&mut self) {
        let (first, Some(front)) = (self.first, self.slots.front()) else { return };
        for reader in self.readers.values_mut().filter(|r| r.is_at(first)) {
            reader.cursor += 1;
            if reader.in_hand > 0 {
                reader.in_hand -= 1;
                reader.detached.push_back(front.chunk.clone());
            } else {
                reader.lose(&front.chunk, DropReason::Lag);
            }
        }
    }

    fn expel_laggards(&mut self) {
        let first = self.first;
        let laggards = self.readers.iter().filter(|(_, r)| r.is_at(first));
        let laggards: Vec<u64> = laggards.map(|(id, _)| *id).collect();
        for id in laggards {
            self.close(id, Ending::TooSlow, DropReason::Lag);
        }
    }

    /// Closes the books of a reader: what is queued for it is dropped, and nothing is kept for it
    /// any more.
    pub(super) fn close(&mut self, id: u64, ending: Ending, reason: DropReason) {
        let Some(reader) = self.readers.get(&id).filter(|r| r.closed.is_none()) else { return };
        let mut closed = self.count(reader);
        closed.dropped.add(reason, closed.queued);
        closed.queued = 0;
        // Of one that is ending, the ring may have gone on.
        let unread_from = reader.cursor.saturating_sub(self.first) as usize;
        let end = reader.last.map_or(self.slots.len(), |last| last.slot.saturating_sub(self.first) as usize);
        for slot in self.slots.iter_mut().take(end).skip(unread_from) {
            slot.unread = slot.unread.saturating_sub(1);
        }
        if let Some(reader) = self.readers.get_mut(&id) {
            reader.closed = Some(closed);
            reader.ending = Some(ending);
            reader.detached.clear();
            reader.in_hand = 0;
            reader.waker.take().into_iter().chain(reader.dismissal.take()).for_each(Waker::wake);
        }
    }

    fn before(&self, cursor: u64) -> u64 {
        let index = cursor.saturating_sub(self.first) as usize;
        self.slots.get(index).map_or(self.published, |slot| slot.before)
    }

    pub(super) fn count(&self, reader: &Reader) -> SubscriberSnapshot {
        if let Some(closed) = &reader.closed {
            return closed.clone();
        }
        let (published, dropped) =
            reader.last.map_or((self.published, self.dropped), |last| (last.published, last.dropped));
        let mut dropped = dropped.since(&reader.dropped_at_join);
        let offered = published - reader.published_at_join + dropped.total();
        dropped.merge(&reader.dropped);
        let detached: u64 = reader.detached.iter().map(|chunk| chunk.packets).sum();
        SubscriberSnapshot {
            name: reader.name.clone(),
            group: reader.group,
            offered,
            delivered: reader.delivered,
            delivered_octets: reader.delivered_octets,
            queued: (published.saturating_sub(self.before(reader.cursor)) + detached)
                .saturating_sub(reader.part),
            dropped,
        }
    }

    pub(super) fn count_of(&self, id: u64) -> Option<SubscriberSnapshot> {
        self.readers.get(&id).map(|reader| self.count(reader))
    }

    /// After a reader moved on or left: lets go of what nobody needs. Returns whom to wake for
    /// the room this made.
    pub(super) fn release(&mut self) -> Option<Waker> {
        self.trim(self.now);
        self.make_room();
        (self.octets < self.options.capacity_octets).then(|| self.publisher.take()).flatten()
    }

    /// A new reader, at the next chunk or at the oldest that history keeps for it.
    pub(super) fn join(&mut self, name: Arc<str>, start: Start, group: u64) -> u64 {
        let skip = match (start, self.options.history) {
            (Start::Next, _) | (_, History::None) => self.slots.len(),
            (Start::History(now), History::Age(age)) => {
                self.slots.iter().take_while(|slot| now.since(slot.chunk.published) > age).count()
            }
            (Start::History(_), History::Octets(octets)) => {
                let mut left = octets;
                let fits = |slot: &&Slot| {
                    let charge = slot.chunk.charge();
                    let fits = charge <= left;
                    left = left.saturating_sub(charge);
                    fits
                };
                self.slots.len() - self.slots.iter().rev().take_while(fits).count()
            }
        };
        for slot in self.slots.iter_mut().skip(skip) {
            slot.unread += 1;
        }
        let id = self.next_reader;
        self.next_reader += 1;
        self.joined += 1;
        let cursor = self.first + skip as u64;
        let reader = Reader::new(name, cursor, group, self.before(cursor), self.dropped);
        self.readers.insert(id, reader);
        id
    }

    /// Takes a reader out of the ring; its counts stay in the sum of the departed.
    pub(super) fn leave(&mut self, id: u64) {
        self.close(id, Ending::Ended, DropReason::Closed);
        if let Some(closed) = self.readers.remove(&id).and_then(|reader| reader.closed) {
            self.departed.offered += closed.offered;
            self.departed.delivered += closed.delivered;
            self.departed.octets += closed.delivered_octets;
            self.departed.dropped.merge(&closed.dropped);
        }
    }

    /// Tops up what a reader's writer holds to about `max_octets`; whether there is anything in
    /// its hands afterwards.
    pub(super) fn top_up(&mut self, id: u64, max_octets: usize, hand: &mut VecDeque<Chunk>) {
        let first = self.first;
        let Some(reader) = self.readers.get_mut(&id) else { return };
        let mut held: usize = hand.iter().map(|chunk| chunk.octets.len()).sum();
        let next = (reader.cursor.saturating_sub(first) + reader.in_hand) as usize;
        let end = reader.last.map_or(self.slots.len(), |last| last.slot.saturating_sub(first) as usize);
        for slot in self.slots.iter().take(end).skip(next) {
            if held >= max_octets {
                break;
            }
            held += slot.chunk.octets.len();
            hand.push_back(slot.chunk.clone());
            reader.in_hand += 1;
        }
    }

    /// The first `chunks` of a reader's hand were written.
    pub(super) fn confirm(&mut self, id: u64, chunks: usize) {
        let first = self.first;
        let Some(reader) = self.readers.get_mut(&id).filter(|r| r.closed.is_none()) else { return };
        for _ in 0..chunks {
            // Some of the first one's may have been counted already.
            let part = std::mem::take(&mut reader.part);
            if let Some(chunk) = reader.detached.pop_front() {
                reader.delivered += chunk.packets.saturating_sub(part);
                continue;
            }
            let Some(slot) = self.slots.get_mut((reader.cursor - first) as usize) else { return };
            slot.unread = slot.unread.saturating_sub(1);
            reader.delivered += slot.chunk.packets.saturating_sub(part);
            reader.cursor += 1;
            reader.in_hand = reader.in_hand.saturating_sub(1);
        }
    }

    /// A reader gives up everything but the first `keep` chunks of its hand.
    pub(super) fn forfeit(&mut self, id: u64, keep: usize, reason: DropReason) {
        self.put_back(id, keep);
        let (first, newest) = (self.first, self.first + self.slots.len() as u64);
        let Some(reader) = self.readers.get_mut(&id).filter(|r| r.closed.is_none()) else { return };
        let end = reader.last.map_or(newest, |last| last.slot);
        while reader.cursor < end {
            let Some(slot) = self.slots.get_mut((reader.cursor - first) as usize) else { return };
            slot.unread = slot.unread.saturating_sub(1);
            reader.cursor += 1;
            if reader.in_hand > 0 {
                reader.in_hand -= 1;
                reader.detached.push_back(slot.chunk.clone());
            } else {
                reader.lose(&slot.chunk, reason);
            }
        }
    }

    /// A reader's writer keeps the first `keep` chunks in its hands and lets go of the others.
    pub(super) fn put_back(&mut self, id: u64, keep: usize) {
        let Some(reader) = self.readers.get_mut(&id).filter(|r| r.closed.is_none()) else { return };
        reader.in_hand = reader.in_hand.min(keep.saturating_sub(reader.detached.len()) as u64);
        for chunk in reader.detached.split_off(keep.min(reader.detached.len())) {
            reader.lose(&chunk, DropReason::Lag);
        }
    }
}
