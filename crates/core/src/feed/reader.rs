//! The ring's side of one subscriber: its cursor, what its writer holds, and its counts.
//!
//! Everything here is behind the ring's lock; `slots.rs` moves the cursor, and counts with it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;

use super::chunk::Chunk;
use crate::interface::InterfaceId;
use crate::stats::{DropCounts, DropReason};
use crate::time::Monotonic;

/// The ring's side of one subscriber.
#[derive(Debug)]
pub(super) struct Reader {
    pub(super) name: Arc<str>,
    /// The next slot it has not finished with.
    pub(super) cursor: u64,
    /// Which subscribers it can be told to leave with.
    pub(super) group: u64,
    /// Set once it is to end before the feed does.
    pub(super) last: Option<Last>,
    /// Slots from `cursor` on that its writer holds at the moment.
    pub(super) in_hand: u64,
    /// Chunks that left the ring while its writer held them.
    pub(super) detached: VecDeque<Chunk>,
    pub(super) published_at_join: u64,
    pub(super) dropped_at_join: DropCounts,
    pub(super) delivered: u64,
    pub(super) delivered_octets: u64,
    /// Packets delivered of a chunk that was not written to its end.
    pub(super) part: u64,
    pub(super) dropped: DropCounts,
    /// Packets lost since the subscriber was last told.
    lost: BTreeMap<InterfaceId, u64>,
    untold: u64,
    pub(super) has_header: bool,
    pub(super) ending: Option<Ending>,
    /// Its final counts, once nothing more is kept for it.
    pub(super) closed: Option<SubscriberSnapshot>,
    pub(super) waker: Option<Waker>,
    /// Woken when the reader is sent away, also while its writer waits for its peer.
    pub(super) dismissal: Option<Waker>,
}

/// Where a subscriber ends: what is published later is not for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Last {
    /// The first slot that is not for it.
    pub(super) slot: u64,
    pub(super) published: u64,
    pub(super) dropped: DropCounts,
}

/// Where a new subscriber begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the next chunk that is published.
    Next,
    /// With what the ring's history keeps at this time.
    History(Monotonic),
}

/// Why there is nothing more to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The sources have ended and everything was taken.
    Ended,
    /// The subscriber was too slow and is to be disconnected.
    TooSlow,
    /// It got a header that turned out to be wrong.
    HeaderChanged,
    /// The hub stops.
    Stopped,
}

/// Packets lost just before the next chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Packets lost since the subscriber was last told.
    pub packets: u64,
    /// Packets lost so far, by interface; empty in pcap.
    pub by_interface: Vec<(InterfaceId, u64)>,
}

/// Counts of one subscriber: offered = delivered + queued + dropped.
#[derive(Debug, Clone)]
pub struct SubscriberSnapshot {
    /// Who it is.
    pub name: Arc<str>,
    /// The group that it joined as one of; 0 where it named none.
    pub group: u64,
    /// Packets published since it joined (or in its history), and those the format dropped.
    pub offered: u64,
    /// Packets that the system accepted on its behalf.
    pub delivered: u64,
    /// Octets that the system accepted: of a stream with its headers, of an interface those of its frames.
    pub delivered_octets: u64,
    /// Packets waiting in the ring or in its writer's hands.
    pub queued: u64,
    /// Packets lost, by reason.
    pub dropped: DropCounts,
}

impl Reader {
    /// It begins at the slot `cursor`, when so many packets were published and dropped.
    pub(super) fn new(name: Arc<str>, cursor: u64, group: u64, published: u64, dropped: DropCounts) -> Self {
        Reader {
            name,
            cursor,
            group,
            last: None,
            in_hand: 0,
            detached: VecDeque::new(),
            published_at_join: published,
            dropped_at_join: dropped,
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
        }
    }

    /// Whether the slot of this number is the next one for it.
    pub(super) fn is_at(&self, slot: u64) -> bool {
        self.cursor == slot && self.closed.is_none() && self.last.is_none_or(|last| slot < last.slot)
    }

    /// Whether nothing more will be queued for it, although the feed goes on.
    pub(super) fn is_ending(&self) -> bool {
        self.last.is_some()
    }

    pub(super) fn lose(&mut self, chunk: &Chunk, reason: DropReason) {
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

/// Of so many interfaces a subscriber is told what it lost; of others it is only counted.
const MAX_TOLD: usize = 8192;
