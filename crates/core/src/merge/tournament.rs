//! The smallest head of all lanes, and the one after it, each found in logarithmic time.
//!
//! A tournament tree with a leaf per lane. Unlike in a heap, any leaf can change at any time,
//! which is what lanes that fill and empty at will need, and a lane's place never moves.

/// The place of a lane's head in the order of the merge: its key, then the lane's rank.
pub(super) const fn place(key: u64, rank: u64) -> u128 {
    ((key as u128) << 64) | rank as u128
}

/// The key within a place.
pub(super) const fn key_of(place: u128) -> u64 {
    (place >> 64) as u64
}

/// The place of a lane with nothing queued: behind every other.
pub(super) const NOWHERE: u128 = u128::MAX;

/// A lane and the place of its head.
#[derive(Debug, Clone, Copy)]
struct Head {
    place: u128,
    slot: u32,
}

/// All heads. Equal places are won by the lower slot.
#[derive(Debug)]
pub(super) struct Tournament {
    /// `nodes[1]` is the winner, `nodes[n]` that of `nodes[2n]` and `nodes[2n + 1]`; the second
    /// half are the leaves. The length is a power of two, at least two.
    nodes: Vec<Head>,
}

impl Tournament {
    pub(super) fn new() -> Self {
        Tournament { nodes: vec![Head { place: NOWHERE, slot: 0 }; 2] }
    }

    /// The lane with the smallest head; any lane if all are empty.
    #[inline]
    pub(super) fn first(&self) -> u32 {
        self.nodes[1].slot
    }

    /// The place of the smallest head but for that of `slot`, the first.
    #[inline]
    pub(super) fn second(&self, slot: u32) -> u128 {
        let mut at = self.leaves() + slot as usize;
        let mut second = NOWHERE;
        while at > 1 {
            second = second.min(self.nodes[at ^ 1].place);
            at >>= 1;
        }
        second
    }

    /// Puts the head of `slot` to `place`.
    #[inline]
    pub(super) fn set(&mut self, slot: u32, place: u128) {
        while slot as usize >= self.leaves() {
            self.grow();
        }
        let mut at = self.leaves() + slot as usize;
        let mut winner = Head { place, slot };
        self.nodes[at] = winner;
        while at > 1 {
            let other = self.nodes[at ^ 1];
            // An odd node's other half is the left one, which has the lower slots.
            let lost = other.place < winner.place || (at & 1 == 1 && other.place == winner.place);
            if lost {
                winner = other;
            }
            at >>= 1;
            self.nodes[at] = winner;
        }
    }

    fn leaves(&self) -> usize {
        self.nodes.len() / 2
    }

    #[cold]
    fn grow(&mut self) {
        let old = self.nodes.split_off(self.leaves());
        let leaves = old.len() * 2;
        self.nodes = (0..leaves * 2)
            .map(|at| Head { place: NOWHERE, slot: at.saturating_sub(leaves) as u32 })
            .collect();
        for head in old {
            self.set(head.slot, head.place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_knows_the_two_smallest_whatever_changes() {
        let mut tournament = Tournament::new();
        let mut model = [NOWHERE; 37];
        let mut random = 1u64;
        for _ in 0..20_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let slot = (random >> 33) as usize % model.len();
            let place = if random >> 62 == 0 { NOWHERE } else { place((random >> 40) % 50, 0) };
            model[slot] = place;
            tournament.set(slot as u32, place);
            let mut sorted: Vec<_> = model.iter().copied().zip(0u32..).collect();
            sorted.sort();
            let first = tournament.first();
            assert_eq!(tournament.second(first), sorted[1].0);
            if sorted[0].0 != NOWHERE {
                assert_eq!(first, sorted[0].1);
            }
        }
    }
}
