//! The ring of a feed: chunks bounded in octets, and a cursor for every subscriber.
//!
//! Guarantees, at every moment and under one lock: what a subscriber was offered is what was
//! delivered to it, is queued for it, or was dropped for a reason; and a ring never holds more
//! than its capacity plus one chunk.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::chunk::Chunk;
use super::reader::{Ending, Last, Reader, SubscriberSnapshot};
use super::slots::{OnSlow, RingOptions, State};
use crate::linktype::LinkType;
use crate::stats::{DropCounts, DropReason};

/// The shared part of a feed.
#[derive(Debug)]
pub struct Ring {
    state: Mutex<State>,
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

impl Ring {
    /// An empty ring.
    pub fn new(options: RingOptions) -> Arc<Self> {
        Arc::new(Ring { state: Mutex::new(State::new(options)) })
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
                group: 0,
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
