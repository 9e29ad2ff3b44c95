//! Which lane goes next: the smallest head, if nothing that could be smaller is awaited, or else
//! what has been held for long enough, or is too much.

use super::lane::Lane;
use super::tournament::{NOWHERE, key_of, place};
use super::{Merge, Order, WhenIdle};
use crate::time::Monotonic;

/// The lane that may go next, and the place before which its run ends.
pub(super) struct Choice {
    pub(super) slot: u32,
    pub(super) limit: u128,
    pub(super) early: bool,
}

/// The smallest head that must go.
#[derive(Clone, Copy)]
pub(super) struct Due {
    pub(super) slot: u32,
    place: u128,
    pub(super) early: bool,
}

impl<T> Merge<T> {
    /// Whether the smallest head can only be the next packet of all.
    pub(super) fn nothing_is_awaited(&self) -> bool {
        self.releases_all || (self.idle.wait == 0 && self.idle.hold == 0)
    }

    /// Whether a lane's head may go while another, idle one is waited for.
    pub(super) fn may_pass(&self, lane: &Lane<T>) -> bool {
        lane.when_idle == WhenIdle::Hold || self.idle.wait == 0
    }

    pub(super) fn overflows(&self, lane: &Lane<T>) -> bool {
        lane.held.octets > self.config.lane_octets
    }

    /// Which lane's head may go at `now`, if any.
    #[inline]
    pub(super) fn choose(&self, now: Monotonic, due: &mut Option<Due>) -> Option<Choice> {
        if self.config.order == Order::Arrival {
            let slot = *self.arrivals.front()?;
            return Some(Choice { slot, limit: NOWHERE, early: false });
        }
        let slot = self.tournament.first();
        let lane = self.lanes.get(slot as usize).filter(|lane| !lane.is_empty())?;
        let choice = |early| Some(Choice { slot, limit: self.tournament.second(slot), early });
        if self.nothing_is_awaited() {
            return choice(false);
        }
        if self.config.order == Order::Exact {
            return None;
        }
        if self.may_pass(lane) && lane.due <= now {
            return choice(false);
        }
        if self.held.octets > self.config.capacity_octets {
            return choice(true);
        }
        if due.is_none() {
            *due = self.first_due(now);
        }
        let due = (*due)?;
        if self.may_pass(lane) && key_of(lane.place()) >= self.earliest_before(due) {
            return choice(due.early);
        }
        self.choose_among_far(due)
    }

    /// The smallest head that has been here for the hold, or whose lane has overflowed.
    #[cold]
    fn first_due(&self, now: Monotonic) -> Option<Due> {
        let queued = self.lanes.iter().filter(|lane| !lane.is_empty());
        let due = queued.filter_map(|lane| {
            let early = !(self.may_pass(lane) && lane.due <= now);
            let goes = !early || self.overflows(lane);
            goes.then(|| Due { slot: lane.id.slot, place: lane.place(), early })
        });
        due.min_by_key(|due| due.place)
    }

    /// The smallest key that goes before a head which is due.
    fn earliest_before(&self, due: Due) -> u64 {
        let hold = u64::try_from(self.config.hold.as_nanos()).unwrap_or(u64::MAX);
        key_of(due.place).saturating_sub(hold)
    }

    /// What goes first of a due head and those it does not leave behind; the smallest head of all
    /// is left behind here.
    #[cold]
    fn choose_among_far(&self, due: Due) -> Option<Choice> {
        let floor = place(self.earliest_before(due), 0);
        let (mut slot, mut smallest, mut limit) = (due.slot, NOWHERE, NOWHERE);
        for lane in &self.lanes {
            let place = lane.place();
            if place < floor || !(self.may_pass(lane) || lane.id.slot == due.slot) {
                continue;
            }
            if place < smallest {
                (slot, smallest, limit) = (lane.id.slot, place, smallest);
            } else {
                limit = limit.min(place);
            }
        }
        Some(Choice { slot, limit, early: due.early })
    }
}
