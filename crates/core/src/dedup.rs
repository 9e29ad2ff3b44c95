//! Finds packets that another source has already brought, so that a sink with `dedup=` gets each
//! once: between the merge and the encoder.
//!
//! Copies are counted per source. The second copy that source A brings is a packet of its own, a
//! retransmission perhaps; the first two copies of source B are then those two again. Payloads are
//! not kept, only a 128-bit digest of each under random keys: who does not know the keys cannot
//! make two packets that pass for one, and by chance it does not happen.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::time::Timestamp;

/// Remembers which packets went out lately, and which source brought them.
///
/// ```
/// # use std::time::Duration;
/// # use pcaphub_core::{dedup::Dedup, time::Timestamp};
/// let mut dedup = Dedup::new(Duration::from_millis(10), 65_536);
/// assert!(!dedup.is_duplicate(b"hello", Timestamp::new(1, 0), 0));
/// assert!(!dedup.is_duplicate(b"hello", Timestamp::new(1, 0), 0));
/// assert!(dedup.is_duplicate(b"hello", Timestamp::new(1, 5_000_000), 1));
/// ```
#[derive(Debug)]
pub struct Dedup {
    window: Duration,
    max_entries: usize,
    entries: usize,
    // Two keyed 64-bit hashes: with one, a capture of 10^9 packets per window would see chance
    // collisions, and std has none that is wider.
    keys: [RandomState; 2],
    alike: HashMap<u128, Alike>,
    /// The digest of each original, oldest first.
    age: VecDeque<u128>,
}

/// Packets with the same octets.
#[derive(Debug, Default)]
struct Alike {
    /// Those that went out, oldest first.
    originals: VecDeque<Original>,
    /// How many were forgotten before the first of these.
    forgotten: u64,
    /// For each source that brought one after the first: how many originals, forgotten ones
    /// included, have had their copy from it or can get none any more.
    paired: Vec<(u32, u64)>,
}

#[derive(Debug)]
struct Original {
    timestamp: Timestamp,
    source: u32,
}

impl Dedup {
    /// Copies within `window` of each other, earlier or later, are duplicates; zero asks for equal
    /// times. At most `max_entries` packets and sources of copies are remembered, the oldest are
    /// forgotten first; each takes about 100 octets. With zero, nothing is a duplicate.
    pub fn new(window: Duration, max_entries: usize) -> Self {
        Dedup {
            window,
            max_entries,
            entries: 0,
            keys: [RandomState::new(), RandomState::new()],
            alike: HashMap::new(),
            age: VecDeque::new(),
        }
    }

    /// Whether another source brought the same octets within the window, in a packet of which
    /// `source` had not yet brought its copy. If not, the packet is remembered.
    pub fn is_duplicate(&mut self, octets: &[u8], timestamp: Timestamp, source: u32) -> bool {
        let digest = self.digest(octets);
        let alike = self.alike.entry(digest).or_default();
        let known = alike.paired.len();
        let duplicate = alike.pair(timestamp, source, self.window);
        self.entries += alike.paired.len() - known;
        if !duplicate {
            // Most have one original and one copy; four of each would be set aside.
            if alike.originals.is_empty() {
                alike.originals.reserve_exact(1);
            }
            alike.originals.push_back(Original { timestamp, source });
            self.age.push_back(digest);
            self.entries += 1;
        }
        while self.entries > self.max_entries {
            self.forget_oldest();
        }
        duplicate
    }

    fn digest(&self, octets: &[u8]) -> u128 {
        let [high, low] = self.keys.each_ref().map(|key| {
            let mut hasher = key.build_hasher();
            hasher.write(octets);
            hasher.finish()
        });
        (u128::from(high) << 64) | u128::from(low)
    }

    fn forget_oldest(&mut self) {
        let Some(digest) = self.age.pop_front() else {
            self.entries = 0;
            return;
        };
        let Some(alike) = self.alike.get_mut(&digest) else {
            return;
        };
        alike.originals.pop_front();
        alike.forgotten += 1;
        self.entries -= 1;
        if alike.originals.is_empty() {
            self.entries -= alike.paired.len();
            self.alike.remove(&digest);
        }
    }
}

impl Alike {
    /// Pairs a copy with the first original that waits for one from this source, if there is one.
    ///
    /// A source never goes back among the originals, so a flood of equal packets costs no more
    /// than as many different ones.
    fn pair(&mut self, timestamp: Timestamp, source: u32, window: Duration) -> bool {
        let at = self.paired.iter().position(|(other, _)| *other == source);
        let before = at.and_then(|at| self.paired.get(at)).map_or(0, |(_, next)| *next);
        let mut next = before.max(self.forgotten);
        let mut found = false;
        while let Some(original) = self.originals.get((next - self.forgotten) as usize) {
            // Later ones wait for later copies.
            if original.source != source && original.timestamp.since(timestamp) > window {
                break;
            }
            next += 1;
            if original.source != source && timestamp.since(original.timestamp) <= window {
                found = true;
                break;
            }
        }
        match at.and_then(|at| self.paired.get_mut(at)) {
            Some((_, paired)) => *paired = next,
            None if next > 0 => {
                if self.paired.is_empty() {
                    self.paired.reserve_exact(1);
                }
                self.paired.push((source, next));
            }
            None => {}
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: u32 = 1;
    const B: u32 = 2;
    const C: u32 = 3;

    fn dedup() -> Dedup {
        Dedup::new(Duration::from_millis(10), 1000)
    }

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_nanos((1_000_000 + millis) * 1_000_000)
    }

    /// What goes out of packets with these octets, times and sources.
    fn kept(dedup: &mut Dedup, packets: &[(&str, u64, u32)]) -> Vec<usize> {
        let duplicate = |(octets, millis, source): &(&str, u64, u32)| {
            dedup.is_duplicate(octets.as_bytes(), at(*millis), *source)
        };
        let duplicates: Vec<bool> = packets.iter().map(duplicate).collect();
        (0..packets.len()).filter(|n| !duplicates[*n]).collect()
    }

    #[test]
    fn a_copy_from_another_source_within_the_window_is_a_duplicate() {
        assert_eq!(kept(&mut dedup(), &[("x", 0, A), ("x", 10, B), ("y", 10, B)]), [0, 2]);
        assert_eq!(kept(&mut dedup(), &[("x", 10, A), ("x", 0, B)]), [0]);
    }

    #[test]
    fn outside_of_the_window_it_is_not() {
        assert_eq!(kept(&mut dedup(), &[("x", 0, A), ("x", 11, B)]), [0, 1]);
        assert_eq!(kept(&mut dedup(), &[("x", 11, A), ("x", 0, B)]), [0, 1]);
    }

    #[test]
    fn repeats_from_the_same_source_stay() {
        assert_eq!(kept(&mut dedup(), &[("x", 0, A), ("x", 0, A), ("x", 1, A)]), [0, 1, 2]);
    }

    #[test]
    fn each_copy_pairs_with_one_original() {
        let twice_each = [("x", 0, A), ("x", 1, A), ("x", 2, B), ("x", 3, B), ("x", 4, B)];
        assert_eq!(kept(&mut dedup(), &twice_each), [0, 1, 4]);
        let in_turn = [("x", 0, A), ("x", 1, B), ("x", 2, A), ("x", 3, B)];
        assert_eq!(kept(&mut dedup(), &in_turn), [0, 2]);
        let first_b = [("x", 0, B), ("x", 1, A), ("x", 2, A), ("x", 3, B)];
        assert_eq!(kept(&mut dedup(), &first_b), [0, 2]);
    }

    #[test]
    fn of_three_sources_one_copy_goes_out() {
        let packets = [("x", 0, A), ("x", 1, B), ("x", 2, C), ("x", 3, C), ("x", 4, A), ("x", 5, B)];
        assert_eq!(kept(&mut dedup(), &packets), [0, 3]);
    }

    #[test]
    fn an_original_that_is_too_old_does_not_hide_a_younger_one() {
        assert_eq!(kept(&mut dedup(), &[("x", 0, A), ("x", 20, A), ("x", 25, B)]), [0, 1]);
    }

    #[test]
    fn packets_without_octets_are_alike_too() {
        assert_eq!(kept(&mut dedup(), &[("", 0, A), ("", 0, B)]), [0]);
    }

    #[test]
    fn the_oldest_are_forgotten_first() {
        let mut dedup = Dedup::new(Duration::from_secs(1), 2);
        let packets = [("x", 0, A), ("y", 0, A), ("z", 0, A), ("y", 0, B), ("x", 0, B)];
        assert_eq!(kept(&mut dedup, &packets), [0, 1, 2, 4]);
    }

    #[test]
    fn memory_is_bounded_whatever_comes() {
        let mut dedup = Dedup::new(Duration::from_secs(1), 50);
        for n in 0..5_000u32 {
            let octets = if n % 3 == 0 { n.to_le_bytes() } else { [0; 4] };
            let timestamp = Timestamp::from_nanos(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            dedup.is_duplicate(&octets, timestamp, n.wrapping_mul(2_654_435_761) % 1_000);
            let originals: usize = dedup.alike.values().map(|alike| alike.originals.len()).sum();
            let paired: usize = dedup.alike.values().map(|alike| alike.paired.len()).sum();
            assert_eq!(dedup.entries, originals + paired);
            assert_eq!(dedup.age.len(), originals);
            assert!(dedup.entries <= 50 && dedup.alike.len() <= 50);
        }
    }

    #[test]
    fn with_no_entries_nothing_is_a_duplicate() {
        let mut dedup = Dedup::new(Duration::from_secs(1), 0);
        assert_eq!(kept(&mut dedup, &[("x", 0, A), ("x", 0, B)]), [0, 1]);
    }
}
