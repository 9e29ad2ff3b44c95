//! When to try again: exponential back-off with full jitter, reset by a connection that lived.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first pause is at most this long.
const FIRST: Duration = Duration::from_millis(100);
/// No pause is longer.
pub const LONGEST: Duration = Duration::from_secs(30);
/// A connection that lived this long was a good one.
const GOOD_LIFE: Duration = Duration::from_secs(10);

/// Pauses between attempts: each a random share of a bound that doubles from 0.1 s to 30 s, so
/// that many hubs do not return to a producer in step.
#[derive(Debug)]
pub struct Backoff {
    bound: Duration,
    random: RandomState,
    drawn: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { bound: FIRST, random: RandomState::new(), drawn: 0 }
    }
}

impl Backoff {
    /// How long to wait before the next attempt, after one whose connection lived for `life`
    /// (zero if there was none).
    pub fn next_pause(&mut self, life: Duration) -> Duration {
        if life >= GOOD_LIFE {
            self.bound = FIRST;
        }
        self.drawn += 1;
        // The hasher's keys are the system's randomness; jitter needs no better generator.
        let share = self.random.hash_one(self.drawn) as f64 / u64::MAX as f64;
        let pause = self.bound.mul_f64(share);
        self.bound = (self.bound * 2).min(LONGEST);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_thirty_seconds_and_start_over_after_a_good_connection() {
        let mut backoff = Backoff::default();
        for attempt in 0..12 {
            let bound = (FIRST * 2u32.pow(attempt)).min(LONGEST);
            assert!(backoff.next_pause(Duration::ZERO) <= bound);
        }
        assert_eq!(backoff.bound, LONGEST);
        assert!(backoff.next_pause(Duration::from_secs(11)) <= FIRST);
    }
}
