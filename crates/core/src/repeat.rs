//! A capture that is played again and again: its times move on, as if it had gone on.

use std::time::Duration;

use crate::batch::Batch;
use crate::time::Timestamp;

/// Moves the times of each turn behind those of the one before it.
#[derive(Debug, Clone, Default)]
pub struct Repeat {
    shift: i64,
    first: Option<Timestamp>,
    last: Timestamp,
    packets: u64,
}

/// The least distance of a turn's first packet from the last one before it.
const LEAST: Duration = Duration::from_micros(1);

impl Repeat {
    /// What is to be added to the times of this turn, in nanoseconds.
    pub fn shift(&self) -> i64 {
        self.shift
    }

    /// Packets of this turn, with their times as they have been moved.
    pub fn saw(&mut self, batch: &Batch) {
        for packet in &batch.packets {
            self.first.get_or_insert(packet.timestamp);
            self.last = self.last.max(packet.timestamp);
        }
        self.packets += batch.packets.len() as u64;
    }

    /// A turn has ended: the next one begins a mean distance of packets behind it. False if it had no
    /// packet: nor will the next.
    pub fn turn(&mut self) -> bool {
        let Some(first) = self.first.take() else { return false };
        let span = self.last.since(first);
        let mean = span / u32::try_from(self.packets.saturating_sub(1).max(1)).unwrap_or(u32::MAX);
        let step = span.saturating_add(mean.max(LEAST));
        self.shift = self.shift.saturating_add(i64::try_from(step.as_nanos()).unwrap_or(i64::MAX));
        self.packets = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceId;
    use crate::packet::Packet;

    fn batch(seconds: &[u64]) -> Batch {
        let packet = |second: &u64| Packet {
            timestamp: Timestamp::new(*second, 0),
            interface: InterfaceId(0),
            caplen: 0,
            origlen: 0,
            offset: 0,
            options_offset: 0,
            options_len: 0,
        };
        Batch { packets: seconds.iter().map(packet).collect(), ..Batch::default() }
    }

    #[test]
    fn the_next_turn_goes_on_where_the_last_one_ended() {
        let mut repeat = Repeat::default();
        repeat.saw(&batch(&[100, 102]));
        repeat.saw(&batch(&[104]));
        assert!(repeat.turn());
        assert_eq!(repeat.shift(), 6_000_000_000);
        repeat.saw(&batch(&[106, 108, 110]));
        assert!(repeat.turn());
        assert_eq!(repeat.shift(), 12_000_000_000);
    }

    #[test]
    fn one_packet_still_moves_on_and_none_ends_it() {
        let mut repeat = Repeat::default();
        repeat.saw(&batch(&[100]));
        assert!(repeat.turn());
        assert_eq!(repeat.shift(), 1_000);
        assert!(!repeat.turn());
    }
}
