//! Captures that are played again and again, together: their times move on, as if they had gone on.

use std::time::Duration;

use crate::batch::Batch;
use crate::time::Timestamp;

/// What was read of captures in one turn, with their times as they have been moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    first: Option<Timestamp>,
    last: Timestamp,
    packets: u64,
}

/// The least distance of a turn's first packet from the last one before it.
const LEAST: Duration = Duration::from_micros(1);
/// How long a turn is that takes no time, since it is one packet: none tells how often such packets come, and at a
/// pace they must not flood.
const INSTANT: Duration = Duration::from_secs(1);

impl Turn {
    /// Packets that came.
    pub fn saw(&mut self, batch: &Batch) {
        for packet in &batch.packets {
            self.first.get_or_insert(packet.timestamp);
            self.last = self.last.max(packet.timestamp);
        }
        self.packets += batch.packets.len() as u64;
    }

    /// What another capture had in the same turn.
    pub fn join(&mut self, other: &Turn) {
        self.first = match (self.first, other.first) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        self.last = self.last.max(other.last);
        self.packets += other.packets;
    }

    /// How far behind this turn's beginning the next one begins: a mean distance of packets behind its end.
    /// `None` if it had no packet: nor will the next.
    pub fn period(&self) -> Option<Duration> {
        let span = self.last.since(self.first?);
        if span.is_zero() {
            return Some(INSTANT);
        }
        let mean = span / u32::try_from(self.packets.saturating_sub(1).max(1)).unwrap_or(u32::MAX);
        Some(span.saturating_add(mean.max(LEAST)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceId;
    use crate::packet::Packet;

    fn turn(seconds: &[u64]) -> Turn {
        let packet = |second: &u64| Packet {
            timestamp: Timestamp::new(*second, 0),
            interface: InterfaceId(0),
            caplen: 0,
            origlen: 0,
            offset: 0,
            options_offset: 0,
            options_len: 0,
        };
        let mut turn = Turn::default();
        turn.saw(&Batch { packets: seconds.iter().map(packet).collect(), ..Batch::default() });
        turn
    }

    #[test]
    fn the_next_turn_begins_a_mean_distance_behind_the_last_packet() {
        assert_eq!(turn(&[100, 102, 104]).period(), Some(Duration::from_secs(6)));
    }

    #[test]
    fn captures_that_are_played_together_have_one_period() {
        let mut both = turn(&[100, 104]);
        both.join(&turn(&[98, 99, 100]));
        both.join(&turn(&[]));
        assert_eq!(both.period(), Some(Duration::from_millis(7500)));
    }

    #[test]
    fn one_packet_comes_every_second_and_none_never() {
        assert_eq!(turn(&[100]).period(), Some(Duration::from_secs(1)));
        assert_eq!(turn(&[100, 100]).period(), Some(Duration::from_secs(1)));
        assert_eq!(turn(&[]).period(), None);
    }
}
