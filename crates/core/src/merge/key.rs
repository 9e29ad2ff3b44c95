//! The key of a packet: the time it is sorted by, which one wild timestamp cannot lead astray.
//!
//! Within an hour of the lane's last key it is the larger of the two, so that the lane never
//! overtakes itself. Farther off, the packets behind it decide: where most of them stay on that
//! side, the lane's time has really changed and its key follows, ahead or back; where they do not,
//! the packet is an outlier, sorts with the last key and leaves it alone. A packet with none
//! behind it sorts by its own time, and the next one decides whether the key follows.

use std::num::NonZeroU64;

/// A larger step than this needs the packets behind it to agree: one hour.
const FAR: u64 = 3_600 * crate::time::NANOS_PER_SECOND;

/// How many packets behind a far one are asked; more outliers than half of it in a row are
/// believed, until time comes back.
const ASKED: usize = 8;

/// How far a lane has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct LaneTime {
    /// The key of the last packet that was no outlier; the epoch before the first.
    last: u64,
    /// The time of a far packet that went without one behind it to decide. The epoch itself, the
    /// time of packets without one, decides nothing.
    undecided: Option<NonZeroU64>,
}

/// A packet's key and what comes with it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Keyed {
    pub(super) key: u64,
    /// The lane's time once the packet has gone.
    pub(super) after: LaneTime,
    /// Outliers that this packet reveals: itself, or an undecided one before it.
    pub(super) outliers: u64,
    /// Packets yet to come may change the key.
    pub(super) provisional: bool,
}

impl LaneTime {
    /// After a packet with this key that was no outlier.
    #[inline]
    pub(super) fn at(last: u64) -> Self {
        LaneTime { last, undecided: None }
    }

    /// The key of a packet with this time, before those in `behind`.
    #[inline]
    pub(super) fn key<I>(self, time: u64, behind: impl FnOnce() -> I) -> Keyed
    where
        I: Iterator<Item = u64>,
    {
        match self.near(time) {
            Some(key) => Keyed::near(key),
            None => self.decide(time, behind()),
        }
    }

    /// The key of a packet with this time, if that is plain: also the lane's time after it.
    #[inline]
    pub(super) fn near(self, time: u64) -> Option<u64> {
        let plain = self.undecided.is_none() && time.abs_diff(self.last) <= FAR;
        plain.then_some(time.max(self.last))
    }

    #[cold]
    fn decide(self, time: u64, behind: impl Iterator<Item = u64>) -> Keyed {
        let mut last = self.last;
        let mut outliers = 0;
        if let Some(undecided) = self.undecided.map(NonZeroU64::get) {
            if agrees(last, undecided, time) {
                last = undecided;
            } else if undecided > last {
                outliers = 1;
            }
        }
        if time.abs_diff(last) <= FAR {
            return Keyed { outliers, ..Keyed::near(time.max(last)) };
        }
        let (mut asked, mut agreed) = (0, 0);
        for other in behind.take(ASKED) {
            asked += 1;
            agreed += usize::from(agrees(last, time, other));
        }
        let provisional = asked < ASKED;
        let (key, after) = if asked == 0 {
            (time, LaneTime { last, undecided: NonZeroU64::new(time) })
        } else if agreed * 2 > asked {
            (time, LaneTime { last: time, undecided: None })
        } else {
            outliers += u64::from(time > last);
            (last, LaneTime { last, undecided: None })
        };
        Keyed { key, after, outliers, provisional }
    }
}

impl Keyed {
    /// A plain one.
    #[inline]
    pub(super) fn near(key: u64) -> Self {
        Keyed { key, after: LaneTime::at(key), outliers: 0, provisional: false }
    }
}

/// Whether a packet at `time`, behind a far one, says that the lane really left `last` for `far`.
fn agrees(last: u64, far: u64, time: u64) -> bool {
    if far > last { time >= far.saturating_sub(FAR) } else { time < last.saturating_sub(FAR) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = FAR;

    /// The keys of packets that are all queued (`window` = all) or come one by one (`window` = 1).
    fn keys(times: &[u64], window: usize) -> (Vec<u64>, u64) {
        let mut lane = LaneTime::default();
        let mut outliers = 0;
        let keys = (0..times.len())
            .map(|at| {
                let behind = &times[at + 1..times.len().min(at + window)];
                let keyed = lane.key(times[at], || behind.iter().copied());
                lane = keyed.after;
                outliers += keyed.outliers;
                keyed.key
            })
            .collect();
        (keys, outliers)
    }

    #[test]
    fn a_small_step_back_keeps_the_key() {
        for window in [1, 2, 100] {
            assert_eq!(
                keys(&[10 * HOUR, 10 * HOUR - 5, 10 * HOUR + 1], window).0,
                [10 * HOUR, 10 * HOUR, 10 * HOUR + 1]
            );
        }
    }

    #[test]
    fn sorted_times_are_their_own_keys_whatever_the_gaps() {
        let times: Vec<u64> = (1..50).map(|n| n * n * HOUR).collect();
        for window in [1, 2, 100] {
            assert_eq!(keys(&times, window), (times.clone(), 0));
        }
    }

    #[test]
    fn an_outlier_that_is_known_sorts_with_the_key_before_it() {
        let times = [10 * HOUR, 10 * HOUR + 1, u64::MAX, 10 * HOUR + 2, 10 * HOUR + 3];
        let expected = vec![10 * HOUR, 10 * HOUR + 1, 10 * HOUR + 1, 10 * HOUR + 2, 10 * HOUR + 3];
        assert_eq!(keys(&times, 100), (expected, 1));
    }

    #[test]
    fn an_outlier_that_goes_alone_leaves_the_key_where_it_was() {
        let times = [10 * HOUR, 10 * HOUR + 1, u64::MAX, 10 * HOUR + 2, 10 * HOUR + 3];
        assert_eq!(keys(&times, 1), (times.to_vec(), 1));
    }

    #[test]
    fn a_first_packet_far_in_the_future_goes_first() {
        let times = [u64::MAX, 10 * HOUR, 10 * HOUR + 2];
        assert_eq!(keys(&times, 100), (vec![0, 10 * HOUR, 10 * HOUR + 2], 1));
    }

    #[test]
    fn a_packet_at_the_epoch_sorts_with_the_key_before_it() {
        let times = [10 * HOUR, 10 * HOUR + 1, 0, 10 * HOUR + 2];
        assert_eq!(keys(&times, 100), (vec![10 * HOUR, 10 * HOUR + 1, 10 * HOUR + 1, 10 * HOUR + 2], 0));
    }

    #[test]
    fn a_long_row_of_outliers_is_believed_and_then_taken_back() {
        let mut times = vec![10 * HOUR];
        times.extend([1000 * HOUR; 50]);
        times.extend((1..50).map(|n| 10 * HOUR + n));
        for window in [1, 2, 3, 100] {
            let (keys, _) = keys(&times, window);
            assert_eq!(keys.last(), times.last(), "with {window} packets known");
        }
    }
}
