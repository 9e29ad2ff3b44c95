//! Files that are read again and again, as one: a turn of theirs begins when all have ended the one before it, and
//! times move on by what all of them together took.
//!
//! Beside the merge. A file that waits for the others has no lane there, so that nothing waits for it; all get
//! theirs back at once, before any brings a packet.

use std::collections::BTreeMap;

use pcaphub_core::repeat::Turn;
use tokio::sync::oneshot;

/// Tells a file that its next turn begins, and what is to be added to its times in it, in nanoseconds. Dropped where
/// there is no next turn.
pub type GoOn = oneshot::Sender<i64>;

/// The files that are read again and again, by the numbers of their sources, and how far they have come.
#[derive(Debug, Default)]
pub struct Rounds {
    files: BTreeMap<usize, Option<GoOn>>,
    turn: Turn,
    shift: i64,
}

impl Rounds {
    /// One more file.
    pub fn add(&mut self, source: usize) {
        self.files.insert(source, None);
    }

    /// Whether a source is such a file.
    pub fn has(&self, source: usize) -> bool {
        self.files.contains_key(&source)
    }

    /// A file has ended its turn, in which this was read, and waits for the next one.
    pub fn ended(&mut self, source: usize, turn: &Turn, go_on: GoOn) {
        self.turn.join(turn);
        if let Some(waits) = self.files.get_mut(&source) {
            *waits = Some(go_on);
        }
    }

    /// A source has ended; nobody waits for it.
    pub fn remove(&mut self, source: usize) {
        self.files.remove(&source);
    }

    /// Begins the next turn if all wait for it: who goes on, and what is to be added to its times.
    pub fn begun(&mut self) -> Vec<(usize, GoOn, i64)> {
        if self.files.is_empty() || self.files.values().any(Option::is_none) {
            return Vec::new();
        }
        let waiting = self.files.iter_mut().filter_map(|(source, waits)| Some((*source, waits.take()?)));
        let waiting: Vec<_> = waiting.collect();
        // Without a packet there is no next turn.
        let Some(period) = std::mem::take(&mut self.turn).period() else { return Vec::new() };
        self.shift = self.shift.saturating_add(i64::try_from(period.as_nanos()).unwrap_or(i64::MAX));
        waiting.into_iter().map(|(source, go_on)| (source, go_on, self.shift)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcaphub_core::batch::Batch;
    use pcaphub_core::interface::InterfaceId;
    use pcaphub_core::packet::Packet;
    use pcaphub_core::time::Timestamp;

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

    fn of(files: &[usize]) -> Rounds {
        let mut rounds = Rounds::default();
        files.iter().for_each(|file| rounds.add(*file));
        rounds
    }

    fn ends(rounds: &mut Rounds, file: usize, seconds: &[u64]) -> Vec<(usize, i64)> {
        let (go_on, _) = oneshot::channel();
        rounds.ended(file, &turn(seconds), go_on);
        rounds.begun().into_iter().map(|(file, _, shift)| (file, shift / 1_000_000_000)).collect()
    }

    #[test]
    fn the_next_turn_begins_when_all_have_ended_theirs_and_behind_all_of_them() {
        let mut rounds = of(&[1, 2]);
        assert_eq!(ends(&mut rounds, 1, &[100, 102]), []);
        assert_eq!(ends(&mut rounds, 2, &[101, 106]), [(1, 8), (2, 8)]);
        assert_eq!(ends(&mut rounds, 2, &[109, 114]), []);
        assert_eq!(ends(&mut rounds, 1, &[108, 110]), [(1, 16), (2, 16)]);
    }

    #[test]
    fn a_file_that_has_ended_is_not_waited_for_and_what_it_brought_still_counts() {
        let mut rounds = of(&[1, 2]);
        let (go_on, told) = oneshot::channel();
        rounds.ended(2, &turn(&[100, 108]), go_on);
        rounds.remove(2);
        assert!(rounds.begun().is_empty());
        assert_eq!(ends(&mut rounds, 1, &[100, 102]), [(1, 10)]);
        drop(told);
    }

    #[test]
    fn files_without_packets_do_not_go_on() {
        let mut rounds = of(&[1]);
        let (go_on, mut told) = oneshot::channel();
        rounds.ended(1, &turn(&[]), go_on);
        assert!(rounds.begun().is_empty());
        assert_eq!(told.try_recv(), Err(oneshot::error::TryRecvError::Closed));
    }
}
