//! When a packet is due: at its original distance from the others, at a multiple of that speed, or at
//! a rate.

use std::time::Duration;

use crate::time::{Monotonic, Timestamp};

/// How fast packets go.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// As fast as possible.
    Max,
    /// So many times the original speed; above 0.
    Times(f64),
    /// Packets per second; above 0.
    Packets(f64),
    /// Bits of packets per second, by their captured octets; above 0.
    Bits(f64),
}

/// Says of packet after packet when it is due.
#[derive(Debug, Clone)]
pub struct Pacer {
    pace: Pace,
    begun: Option<Beginning>,
}

/// What the times that follow are reckoned from.
#[derive(Debug, Clone, Copy)]
struct Beginning {
    at: Monotonic,
    first: Timestamp,
    last: Timestamp,
    packets: f64,
    bits: f64,
    due: Monotonic,
}

/// A longer gap between two packets is no gap but a wrong clock, or two captures in one file: it is
/// not waited for.
const LONGEST_GAP: Duration = Duration::from_secs(3600);
/// Who is later than this, because whoever takes the packets was slow, does not hurry to catch up.
const LATE: Duration = Duration::from_secs(1);

impl Pacer {
    /// The first packet that it is asked about is due at once.
    pub fn new(pace: Pace) -> Self {
        Pacer { pace, begun: None }
    }

    /// When the next packet is due; never before the one asked about last.
    pub fn due(&mut self, timestamp: Timestamp, caplen: u32, now: Monotonic) -> Monotonic {
        if self.pace == Pace::Max {
            return now;
        }
        let start =
            Beginning { at: now, first: timestamp, last: timestamp, packets: 0.0, bits: 0.0, due: now };
        let begun = self.begun.get_or_insert(start);
        if timestamp.since(begun.last) > LONGEST_GAP && matches!(self.pace, Pace::Times(_)) {
            *begun = Beginning { at: begun.due.max(now), due: begun.due.max(now), ..start };
        }
        let after = match self.pace {
            Pace::Max => 0.0,
            Pace::Times(times) => timestamp.since(begun.first).as_nanos() as f64 / times,
            Pace::Packets(rate) => begun.packets / rate * 1e9,
            Pace::Bits(rate) => begun.bits / rate * 1e9,
        };
        begun.due = begun.due.max(begun.at.plus(Duration::from_nanos(after as u64)));
        begun.last = timestamp;
        begun.packets += 1.0;
        begun.bits += f64::from(caplen) * 8.0;
        if now.since(begun.due) > LATE {
            *begun = Beginning { packets: 1.0, bits: f64::from(caplen) * 8.0, ..start };
        }
        begun.due
    }

    /// Reckons anew from the next packet, which is due at once.
    pub fn restart(&mut self) {
        self.begun = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// When packets at these seconds are due, in milliseconds after the first.
    fn due(pace: Pace, seconds: &[u64]) -> Vec<u64> {
        let mut pacer = Pacer::new(pace);
        let now = Monotonic::from_nanos(5 * SECOND);
        let due = |second: &u64| pacer.due(Timestamp::new(1_000_000 + second, 0), 125, now);
        seconds.iter().map(due).map(|due| due.since(now).as_millis() as u64).collect()
    }

    #[test]
    fn the_original_speed_and_multiples_of_it() {
        assert_eq!(due(Pace::Times(1.0), &[0, 1, 3]), [0, 1000, 3000]);
        assert_eq!(due(Pace::Times(10.0), &[0, 1, 3]), [0, 100, 300]);
        assert_eq!(due(Pace::Max, &[0, 1, 3]), [0, 0, 0]);
    }

    #[test]
    fn rates_do_not_look_at_times() {
        assert_eq!(due(Pace::Packets(100.0), &[0, 0, 9]), [0, 10, 20]);
        assert_eq!(due(Pace::Bits(1_000_000.0), &[0, 0, 9]), [0, 1, 2]);
    }

    #[test]
    fn times_that_go_back_do_not() {
        assert_eq!(due(Pace::Times(1.0), &[10, 12, 3, 13]), [0, 2000, 2000, 3000]);
    }

    #[test]
    fn an_absurd_gap_is_not_waited_for() {
        assert_eq!(due(Pace::Times(1.0), &[0, 1, 1_000_000, 1_000_001]), [0, 1000, 1000, 2000]);
    }

    #[test]
    fn who_was_held_up_goes_on_at_the_pace_and_does_not_hurry() {
        let mut pacer = Pacer::new(Pace::Times(1.0));
        let at = |seconds: u64| (Timestamp::new(seconds, 0), Monotonic::from_nanos(seconds * SECOND));
        let (first, now) = at(0);
        assert_eq!(pacer.due(first, 1, now), now);
        let (second, _) = at(1);
        let (_, late) = at(60);
        assert_eq!(pacer.due(second, 1, late), late);
        let (third, _) = at(2);
        assert_eq!(pacer.due(third, 1, late), at(61).1);
    }
}
