//! The ring of a feed: chunks bounded in octets, and a cursor for every subscriber.
//!
//! Guarantees, at every moment and under one lock: what a subscriber was offered is what was
//! delivered to it, is queued for it, or was dropped for a reason; and a ring never holds more
//! than its capacity plus one chunk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::chunk::Chunk;
use super::subscriber::{Ending, Gap, Start};
use crate::format::Format;
use crate::interface::InterfaceId;
use crate::linktype::LinkType;
use crate::stats::{DropCounts, DropReason};
use crate::time::Monotonic;

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

/// The shared part of a feed.
#[derive(Debug)]
pub struct Ring {
    state: Mutex<State>,
}

/// Everything that the ring's lock guards.
#[derive(Debug)]
pub(super) struct State {
    pub(super) options: RingOptions,
    slots: VecDeque<Slot>,
    /// Sequence number of the first slot.
    first: u64,
    octets: usize,
    /// When the last chunk was published.
    now: Monotonic,
    pub(super) linktype: Option<LinkType>,
    /// The linktype was taken for want of any knowledge; it may still change.
    pub(super) assumed: bool,
    /// Packets in all chunks ever published.
    pub(super) published: u64,
    /// Packets that this feed's format could not carry, since the beginning.
    pub(super) dropped: DropCounts,
    pub(super) readers: BTreeMap<u64, Reader>,
    next_reader: u64,
    pub(super) joined: u64,
    departed: Departed,
    pub(super) ended: bool,
    publisher: Option<Waker>,
}

#[derive(Debug)]
struct Slot {
    chunk: Chunk,
    /// Packets published before it.
    before: u64,
    /// Readers that have not finished with it.
    unread: u32,
}

/// Of so many interfaces a subscriber is told what it lost; of others it is only counted.
const MAX_TOLD: usize = 8192;

/// The ring's side of one subscriber.
#[derive(Debug)]
pub(super) struct Reader {
    name: Arc<str>,
    /// The next slot it has not finished with.
    cursor: u64,
    /// Which subscribers it can be told to leave with.
    pub(super) group: u64,
    /// Set once it is to end before the feed does.
    last: Option<Last>,
    /// Slots from `cursor` on that its writer holds at the moment.
    in_hand: u64,
    /// Chunks that left the ring while its writer held them.
    detached: VecDeque<Chunk>,
    published_at_join: u64,
    dropped_at_join: DropCounts,
    delivered: u64,
    delivered_octets: u64,
    /// Packets delivered of a chunk that was not written to its end.
    part: u64,
    dropped: DropCounts,
    /// Packets lost since the subscriber was last told.
    lost: BTreeMap<InterfaceId, u64>,
    untold: u64,
    pub(super) has_header: bool,
    pub(super) ending: Option<Ending>,
    /// Its final counts, once nothing more is kept for it.
    closed: Option<SubscriberSnapshot>,
    pub(super) waker: Option<Waker>,
    /// Woken when the reader is sent away, also while its writer waits for its peer.
    pub(super) dismissal: Option<Waker>,
}

/// Where a subscriber ends: what is published later is not for it.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// The first slot that is not for it.
    slot: u64,
    published: u64,
    dropped: DropCounts,
}

#[derive(Debug, Default, Clone, Copy)]
struct Departed {
    offered: u64,
    delivered: u64,
    octets: u64,
    dropped: DropCounts,
}

/// Counts of a ring and its subscribers, of one moment.
#[derive(Debug, Clone)]
pub struct RingSnapshot {
    /// Packets published to the ring.
    pub published: u64,
    /// Packets the feed's format could not carry.
    pub dropped: DropCounts,
    /// Octets the ring holds.
    pub octets: usize,
    /// Subscribers that ever joined.
    pub joined: u64,
    /// Those that are there.
    pub subscribers: Vec<SubscriberSnapshot>,
    /// All that have left, together.
    pub departed: SubscriberSnapshot,
}

/// Counts of one subscriber: offered = delivered + queued + dropped.
#[derive(Debug, Clone)]
pub struct SubscriberSnapshot {
    /// Who it is.
    pub name: Arc<str>,
    /// Packets published since it joined (or in its history), and those the format dropped.
    pub offered: u64,
    /// Packets that the system accepted on its behalf.
    pub delivered: u64,
    /// Octets of these.
    pub delivered_octets: u64,
    /// Packets waiting in the ring or in its writer's hands.
    pub queued: u64,
    /// Packets lost, by reason.
    pub dropped: DropCounts,
}

impl Ring {
    /// An empty ring.
    pub fn new(options: RingOptions) -> Arc<Self> {
        let state = State {
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
        };
        Arc::new(Ring { state: Mutex::new(state) })
    }

    /// How it behaves.
    pub fn options(&self) -> RingOptions {
        self.lock().options
    }

    /// Changes what it may hold, and what happens to slow subscribers, from now on.
    pub fn adjust(&self, capacity_octets: usize, on_slow: OnSlow) {
        self.wake_all(|state| {
            state.options = RingOptions { capacity_octets, on_slow, ..state.options };
            state.trim(state.now);
            state.make_room();
        });
    }

    /// Ends the subscribers of a group: they get what is queued for them, and then the end, whatever is
    /// published later.
    pub fn end_group(&self, group: u64) {
        self.wake_all(|state| {
            let slot = state.first + state.slots.len() as u64;
            let last = Last { slot, published: state.published, dropped: state.dropped };
            for reader in state.readers.values_mut().filter(|reader| reader.group == group) {
                reader.last.get_or_insert(last);
            }
        });
    }

    /// Sends the subscribers of a group away now; what was queued for them counts as `Closed`.
    pub fn disconnect_group(&self, group: u64) {
        self.wake_all(|state| {
            let of_group = |(id, reader): (&u64, &Reader)| (reader.group == group).then_some(*id);
            let ids: Vec<u64> = state.readers.iter().filter_map(of_group).collect();
            ids.into_iter().for_each(|id| state.close(id, Ending::Stopped, DropReason::Closed));
            state.trim(state.now);
        });
    }

    /// Appends a chunk and wakes the subscribers that wait for one.
    ///
    /// Makes room by the ring's [`OnSlow`]; under [`OnSlow::Wait`] the caller asks
    /// [`poll_room`](Self::poll_room) before it publishes on.
    pub(super) fn publish(&self, chunk: Chunk, dropped: &DropCounts) {
        let mut wakers = Vec::new();
        {
            let mut state = self.lock();
            let now = chunk.published;
            state.dropped.merge(dropped);
            state.now = now;
            state.append(chunk);
            state.trim(now);
            state.make_room();
            for reader in state.readers.values_mut() {
                wakers.extend(reader.waker.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Counts packets that the feed's format could not carry, without a chunk.
    pub(super) fn count_dropped(&self, dropped: &DropCounts) {
        self.lock().dropped.merge(dropped);
    }

    /// Ready when the ring has room; always ready unless it is to wait for slow subscribers.
    pub fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.has_room() {
            return Poll::Ready(());
        }
        state.publisher = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Whether nothing more will be published.
    pub fn has_ended(&self) -> bool {
        self.lock().ended
    }

    /// Whether there is room now.
    pub fn has_room(&self) -> bool {
        self.lock().has_room()
    }

    /// No chunk will follow: subscribers get what is queued, then the end.
    pub fn end(&self) {
        self.wake_all(|state| state.ended = true);
    }

    /// Sends every subscriber away now; what was queued for it counts as `Closed`.
    pub fn disconnect_all(&self) {
        self.wake_all(|state| {
            state.ended = true;
            let all: Vec<u64> = state.readers.keys().copied().collect();
            all.into_iter().for_each(|id| state.close(id, Ending::Stopped, DropReason::Closed));
            state.trim(state.now);
        });
    }

    /// Makes `linktype` the one of this ring's pcap header, unless it has one.
    pub fn set_linktype(&self, linktype: LinkType) {
        self.wake_all(|state| {
            if state.linktype.is_none() {
                state.linktype = Some(linktype);
            }
        });
    }

    /// Like [`set_linktype`](Self::set_linktype), for want of knowledge: it can still be
    /// corrected until a packet was published.
    pub fn assume_linktype(&self, linktype: LinkType) {
        self.wake_all(|state| {
            if state.linktype.is_none() {
                state.linktype = Some(linktype);
                state.assumed = true;
            }
        });
    }

    /// Replaces a linktype that was only assumed, while nothing was published. Subscribers that
    /// have a header already are closed, so that they come back to the right one.
    ///
    /// Returns the linktype that now holds.
    pub(super) fn correct_linktype(&self, linktype: LinkType) -> LinkType {
        let mut wakers = Vec::new();
        let now = {
            let mut state = self.lock();
            match state.linktype {
                Some(known) if known == linktype || !state.assumed || state.published > 0 => known,
                _ => {
                    state.linktype = Some(linktype);
                    state.assumed = false;
                    let misled = |(id, reader): (&u64, &Reader)| reader.has_header.then_some(*id);
                    let misled: Vec<u64> = state.readers.iter().filter_map(misled).collect();
                    misled.into_iter().for_each(|id| {
                        state.close(id, Ending::HeaderChanged, DropReason::Closed);
                    });
                    wakers.extend(state.readers.values_mut().filter_map(|r| r.waker.take()));
                    linktype
                }
            }
        };
        wakers.into_iter().for_each(Waker::wake);
        now
    }

    /// The linktype of its pcap header, once known or assumed.
    pub fn linktype(&self) -> Option<LinkType> {
        self.lock().linktype
    }

    /// How many subscribers it has now, and ever had.
    pub fn subscribers(&self) -> (usize, u64) {
        let state = self.lock();
        (state.readers.len(), state.joined)
    }

    /// All its counts, of one moment.
    pub fn snapshot(&self) -> RingSnapshot {
        let state = self.lock();
        let departed = state.departed;
        RingSnapshot {
            published: state.published,
            dropped: state.dropped,
            octets: state.octets,
            joined: state.joined,
            subscribers: state.readers.values().map(|reader| state.count(reader)).collect(),
            departed: SubscriberSnapshot {
                name: Arc::from("departed"),
                offered: departed.offered,
                delivered: departed.delivered,
                delivered_octets: departed.octets,
                queued: 0,
                dropped: departed.dropped,
            },
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wake_all(&self, change: impl FnOnce(&mut State)) {
        let mut wakers = Vec::new();
        {
            let mut state = self.lock();
            change(&mut state);
            wakers.extend(state.publisher.take());
            for reader in state.readers.values_mut() {
                wakers.extend(reader.waker.take());
            }
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    fn has_room(&self) -> bool {
        self.options.on_slow != OnSlow::Wait || self.octets < self.options.capacity_octets
    }

    fn append(&mut self, chunk: Chunk) {
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
    fn make_room(&mut self) {
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

    fn count(&self, reader: &Reader) -> SubscriberSnapshot {
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
        let reader = Reader {
            name,
            cursor,
            group,
            last: None,
            in_hand: 0,
            detached: VecDeque::new(),
            published_at_join: self.before(cursor),
            dropped_at_join: self.dropped,
            delivered: 0,
            delivered_octets: 0,
            part: 0,
            dropped: DropCounts::default(),
            lost: BTreeMap::new(),
            untold: 0,
            has_header: false,
            ending: None,
            closed: None,
            waker: None,
            dismissal: None,
        };
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

impl Reader {
    /// Whether the slot of this number is the next one for it.
    fn is_at(&self, slot: u64) -> bool {
        self.cursor == slot && self.closed.is_none() && self.last.is_none_or(|last| slot < last.slot)
    }

    /// Whether nothing more will be queued for it, although the feed goes on.
    pub(super) fn is_ending(&self) -> bool {
        self.last.is_some()
    }

    fn lose(&mut self, chunk: &Chunk, reason: DropReason) {
        self.dropped.add(reason, chunk.packets);
        self.untold += chunk.packets;
        for (interface, packets) in chunk.by_interface.iter() {
            // More interfaces than these only come from somebody who makes them up.
            if self.lost.len() < MAX_TOLD || self.lost.contains_key(interface) {
                *self.lost.entry(*interface).or_default() += packets;
            }
        }
    }

    /// What the subscriber has to be told before its next chunk.
    pub(super) fn gap(&mut self) -> Option<Gap> {
        let packets = std::mem::take(&mut self.untold);
        let by_interface = || self.lost.iter().map(|(id, lost)| (*id, *lost)).collect();
        (packets > 0).then(|| Gap { packets, by_interface: by_interface() })
    }

    pub(super) fn has_gap(&self) -> bool {
        self.untold > 0
    }

    pub(super) fn count_octets(&mut self, octets: u64) {
        match &mut self.closed {
            Some(closed) => closed.delivered_octets += octets,
            None => self.delivered_octets += octets,
        }
    }

    /// Some packets of the chunk in hand were lost.
    pub(super) fn lose_part(&mut self, reason: DropReason, packets: u64) {
        if self.closed.is_none() {
            self.dropped.add(reason, packets);
            self.part += packets;
        }
    }

    /// The first packets of the chunk in hand were delivered.
    pub(super) fn count_part(&mut self, packets: u64) {
        if self.closed.is_none() {
            self.delivered += packets;
            self.part += packets;
        }
    }
}
