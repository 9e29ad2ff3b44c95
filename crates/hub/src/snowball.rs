//! Finds out that a source brings back what the hub sends, in a form that cannot be told from other
//! traffic: through a tunnel, a relay, or a capturing child.
//!
//! Then each packet begets more of them, and the source's rate follows the hub's own output. Rates
//! alone do not show which follows which: what is sent always follows what comes in. So where a rate
//! has grown much, the hub holds its breath for a moment. What comes in goes on if it is others' traffic,
//! and breaks off if it is ours. Whether it did is read from the packets' own times.

use std::time::Duration;

use pcaphub_core::batch::Batch;
use pcaphub_core::time::{Monotonic, Timestamp};

/// Over which rates are measured.
const WINDOW: Duration = Duration::from_millis(250);
/// Below this rate nobody is harmed, in octets per second.
const LEAST: f64 = 2e6;
/// So much a rate must have grown since it was last found to be others' traffic.
const GROWTH: f64 = 8.0;
/// How long nothing is sent; less where more would come meanwhile than there is room for.
const PAUSE: Duration = Duration::from_millis(150);
/// What a packet takes in a ring besides its octets, about.
const OVERHEAD: u64 = 96;
/// In less time nothing would be seen.
const SHORTEST: Duration = Duration::from_millis(20);
/// What was sent before is still on its way for this part of a pause.
const DRAINED: f64 = 0.67;
/// Below this part of its rate, a source has broken off.
const BROKEN_OFF: f64 = 0.3;
/// So many times in a row: once may be a burst that happened to end just then.
const PROOFS: u32 = 3;
/// After a pause that proved something, the next one comes this much later at the earliest.
const BETWEEN: Duration = Duration::from_secs(1);
/// A snowball grows again at once: a proof that comes later than this after the last one is a first one.
const SOON: Duration = Duration::from_secs(3);
/// If no packet has a later time by then, a pause has proved nothing.
const INCONCLUSIVE: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Nothing.
    GoOn,
    /// Send nothing until then.
    Pause(Monotonic),
    /// Tell the operator: it brings back what we send.
    Warn,
}

/// Watches one source.
#[derive(Debug, Default)]
pub struct Snowball {
    /// Octets that may come while nothing is sent, and are not lost.
    room: usize,
    window: Option<Monotonic>,
    octets: u64,
    newest: Timestamp,
    /// The highest rate that was found to be others' traffic.
    cleared: f64,
    proofs: u32,
    rests_until: Monotonic,
    pause: Option<Pause>,
    told: bool,
}

#[derive(Debug)]
struct Pause {
    began: Monotonic,
    length: Duration,
    /// The newest packet's time then.
    from: Timestamp,
    rate: f64,
    /// Octets of packets from when ours should be drained to the pause's end.
    late: u64,
}

impl Snowball {
    /// Watches a source that can bring `room` octets while nothing of it is taken, and lose none.
    pub fn new(room: usize) -> Self {
        Snowball { room, ..Snowball::default() }
    }

    /// Packets came; `sends` says whether anybody gets any.
    pub fn saw(&mut self, batch: &Batch, now: Monotonic, sends: bool) -> Advice {
        if self.told {
            return Advice::GoOn;
        }
        for packet in &batch.packets {
            self.octets += u64::from(packet.caplen) + OVERHEAD;
            self.newest = self.newest.max(packet.timestamp);
            if let Some(pause) = &mut self.pause {
                let after = packet.timestamp.since(pause.from);
                if after > pause.length.mul_f64(DRAINED) && after <= pause.length {
                    pause.late += u64::from(packet.caplen) + OVERHEAD;
                }
            }
        }
        if let Some(pause) = &self.pause {
            if self.newest.since(pause.from) > pause.length {
                return self.conclude(now);
            }
            if now.since(pause.began) > INCONCLUSIVE {
                self.pause = None;
            }
            return Advice::GoOn;
        }
        let window = *self.window.get_or_insert(now);
        let time = now.since(window);
        if time < WINDOW {
            return Advice::GoOn;
        }
        let rate = self.octets as f64 / time.as_secs_f64();
        (self.window, self.octets) = (Some(now), 0);
        let grown = rate >= LEAST && rate >= GROWTH * self.cleared;
        let length = PAUSE.min(Duration::from_secs_f64(self.room as f64 / rate.max(1.0)));
        if !sends || !grown || now < self.rests_until || length < SHORTEST {
            return Advice::GoOn;
        }
        self.pause = Some(Pause { began: now, length, from: self.newest, rate, late: 0 });
        Advice::Pause(now.plus(length))
    }

    fn conclude(&mut self, now: Monotonic) -> Advice {
        let Some(pause) = self.pause.take() else { return Advice::GoOn };
        (self.window, self.octets) = (None, 0);
        let rate = pause.late as f64 / pause.length.mul_f64(1.0 - DRAINED).as_secs_f64();
        if rate >= BROKEN_OFF * pause.rate {
            (self.cleared, self.proofs) = (pause.rate, 0);
            return Advice::GoOn;
        }
        self.proofs = if now.since(self.rests_until) > SOON { 1 } else { self.proofs + 1 };
        self.rests_until = now.plus(BETWEEN);
        self.told = self.proofs >= PROOFS;
        if self.told { Advice::Warn } else { Advice::GoOn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcaphub_core::interface::InterfaceId;
    use pcaphub_core::packet::Packet;

    const MILLISECOND: u64 = 1_000_000;

    /// Plays ten seconds of a source that brings `rate(milliseconds, since when nothing is sent)`
    /// octets per millisecond; how often it was paused, and whether it warned.
    fn play(rate: impl Fn(u64, Option<u64>) -> u32) -> (u32, bool) {
        let mut snowball = Snowball::new(16 << 20);
        let (mut pauses, mut warned) = (0, false);
        let mut silent: Option<(u64, Monotonic)> = None;
        for time in 0..10_000 {
            let now = Monotonic::from_nanos(time * MILLISECOND);
            silent = silent.filter(|(_, until)| now < *until);
            let caplen = rate(time, silent.map(|(since, _)| time - since));
            let packet = Packet {
                timestamp: Timestamp::from_nanos(1_700_000_000_000_000_000 + time * MILLISECOND),
                interface: InterfaceId(0),
                caplen,
                origlen: caplen,
                offset: 0,
                options_offset: 0,
                options_len: 0,
            };
            let batch = Batch { packets: vec![packet], ..Batch::default() };
            match snowball.saw(&batch, now, true) {
                Advice::GoOn => {}
                Advice::Pause(until) => {
                    pauses += 1;
                    silent = Some((time, until));
                }
                Advice::Warn => warned = true,
            }
        }
        (pauses, warned)
    }

    #[test]
    fn traffic_that_breaks_off_when_nothing_is_sent_is_ours() {
        let (pauses, warned) =
            play(|_, silent| if silent.is_some_and(|time| time > 50) { 60 } else { 50_000 });
        assert!(warned);
        assert_eq!(pauses, PROOFS);
    }

    #[test]
    fn traffic_that_goes_on_is_others_and_is_left_in_peace() {
        let (pauses, warned) = play(|time, _| if time < 3000 { 2_500 } else { 60_000 });
        assert!(!warned);
        assert_eq!(pauses, 2, "one for each rate that is much higher than any before");
    }

    #[test]
    fn little_traffic_is_never_suspected() {
        assert_eq!(play(|_, _| 1_000), (0, false));
    }

    #[test]
    fn a_pause_is_only_as_long_as_there_is_room_for_what_comes() {
        let mut snowball = Snowball::new(1 << 20);
        let packet = |n: u64| Packet {
            timestamp: Timestamp::from_nanos(n * MILLISECOND),
            interface: InterfaceId(0),
            caplen: 20_000,
            origlen: 20_000,
            offset: 0,
            options_offset: 0,
            options_len: 0,
        };
        let advice = (0..400).find_map(|n| {
            let batch = Batch { packets: vec![packet(n)], ..Batch::default() };
            let now = Monotonic::from_nanos(n * MILLISECOND);
            match snowball.saw(&batch, now, true) {
                Advice::Pause(until) => Some(until.since(now)),
                _ => None,
            }
        });
        // 20 MB/s into 1 MiB.
        assert!(advice.is_some_and(|pause| (45..60).contains(&pause.as_millis())), "{advice:?}");
    }

    #[test]
    fn bursts_that_happen_to_end_are_not_enough() {
        let (_, warned) = play(|time, _| if time % 5000 < 260 { 50_000 } else { 1_000 });
        assert!(!warned);
    }
}
