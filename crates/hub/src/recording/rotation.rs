//! When a file of a recording ends: by its size, its packets, and the clock.

use std::time::Duration;

use pcaphub_core::time::Timestamp;

/// Limits of one file; `None` is none. The first that is reached ends it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Octets that it has at most, unless a single packet takes more.
    pub size: Option<u64>,
    /// Packets that it has at most.
    pub packets: Option<u64>,
    /// A file ends where the clock passes a multiple of this, counted from midnight of 1970-01-01 in the
    /// recording's time zone: with an hour, at every full hour.
    pub every: Option<Duration>,
}

impl Rotation {
    /// Whether a file that was begun at `began` is over at `now`, in a zone that is `ahead` of UTC by so
    /// many seconds. A clock that was set back ends it, too.
    pub fn is_over(&self, began: Timestamp, now: Timestamp, ahead: i32) -> bool {
        self.slot(began, ahead) != self.slot(now, ahead)
    }

    /// How long it is at `now` until the clock ends a file; `None` if it never does.
    pub fn until_over(&self, now: Timestamp, ahead: i32) -> Option<Duration> {
        let every = i128::try_from(self.every?.as_nanos()).ok()?;
        let rest = every - local(now, ahead).rem_euclid(every);
        Some(Duration::from_nanos(u64::try_from(rest).unwrap_or(u64::MAX)))
    }

    fn slot(&self, at: Timestamp, ahead: i32) -> i128 {
        let every = self.every.map_or(0, |every| i128::try_from(every.as_nanos()).unwrap_or(0));
        if every == 0 { 0 } else { local(at, ahead).div_euclid(every) }
    }
}

fn local(at: Timestamp, ahead: i32) -> i128 {
    i128::from(at.nanos()) + i128::from(ahead) * 1_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOURLY: Rotation = Rotation { size: None, packets: None, every: Some(Duration::from_secs(3600)) };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn an_hourly_file_ends_at_the_full_hour_whenever_it_began() {
        let began = at(10 * 3600 + 3599);
        assert!(!HOURLY.is_over(began, began, 0));
        assert!(HOURLY.is_over(began, at(11 * 3600), 0));
        assert_eq!(HOURLY.until_over(began, 0), Some(Duration::from_secs(1)));
        assert_eq!(HOURLY.until_over(at(11 * 3600), 0), Some(Duration::from_secs(3600)));
        assert!(!HOURLY.is_over(at(11 * 3600), at(12 * 3600 - 1), 0));
    }

    #[test]
    fn a_clock_that_is_set_back_ends_the_file() {
        assert!(HOURLY.is_over(at(11 * 3600), at(10 * 3600), 0));
        assert!(!HOURLY.is_over(at(11 * 3600 + 100), at(11 * 3600 + 50), 0));
    }

    #[test]
    fn days_are_those_of_the_zone() {
        let daily = Rotation { every: Some(Duration::from_secs(86_400)), ..Rotation::default() };
        // Two hours ahead of UTC, midnight is at 22:00.
        assert!(daily.is_over(at(21 * 3600), at(22 * 3600), 7200));
        assert!(!daily.is_over(at(22 * 3600), at(24 * 3600), 7200));
        assert_eq!(daily.until_over(at(21 * 3600), 7200), Some(Duration::from_secs(3600)));
        // And behind it, at the very beginning of time.
        assert!(daily.is_over(at(0), at(5 * 3600), -5 * 3600));
    }

    #[test]
    fn without_a_time_no_clock_ends_a_file() {
        let never = Rotation { size: Some(1), ..Rotation::default() };
        assert!(!never.is_over(at(0), at(1 << 33), 0));
        assert_eq!(never.until_over(at(5), 0), None);
    }
}
