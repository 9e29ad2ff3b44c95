//! Finds out that hubs dial each other in a circle: packets come back that we sent.
//!
//! A stream of captures does not say where it has been. But in a circle one and the same packet,
//! with the same time to the nanosecond, comes again and again on one connection. So one packet at a
//! time is watched for. A sender may also repeat itself, such as a capture that is played in a
//! loop; to tell one from the other, its next copy is held back for good: in a circle none follows
//! then, while everything else still comes.

use std::time::Duration;

use pcaphub_core::batch::Batch;
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Monotonic, Timestamp};

/// A packet that does not come back within this is not watched for any longer.
const WATCH: Duration = Duration::from_secs(10);
/// So often a packet came again before anything is suspected: a capture that repeats a packet once
/// or twice is nothing odd.
const SUSPICIOUS: u32 = 8;
/// Of a stream that has no other packet: a sender that repeats itself is likelier, and one packet alone
/// goes round harmlessly for that long.
const SUSPICIOUS_ALONE: u32 = 10_000;
/// So many copies are held back until it is clear that the sender makes them: two, since two ways
/// may lead to us.
const HELD_BACK: u64 = 2;
/// So many packets, one after the other, must have gone round and stopped when held back: once may be
/// a sender that repeated itself and happened to stop just then.
const PROOFS: u32 = 2;
/// How long no further copy must come until it is clear that it is a circle; also at least this
/// many of the packet's periods.
const SILENCE: Duration = Duration::from_millis(250);
const PERIODS: u32 = 4;

/// What a stream brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing to say, but that so many packets were taken out of the batch.
    Fine(u64),
    /// Our own packets.
    Circle,
}

/// Watches one stream.
#[derive(Debug, Default)]
pub struct Circle {
    state: State,
    proofs: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    /// The packet came `again` times since it was seen first, with others in between, and `alone`
    /// times without.
    Watching { mark: Mark, since: Monotonic, again: u32, alone: u32, others: bool },
    /// Copies are held back.
    Suspecting { mark: Mark, until: Monotonic, held_back: u64 },
    /// The sender repeats itself; it may.
    Cleared,
}

/// What is the same in all copies of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    timestamp: Timestamp,
    origlen: u32,
    octets: Box<[u8]>,
}

/// Octets of a packet that are compared: headers and a little more.
const COMPARED: usize = 128;

impl Mark {
    fn of(batch: &Batch, packet: &Packet) -> Self {
        let octets = batch.octets(packet);
        let octets = octets.get(..COMPARED).unwrap_or(octets).into();
        Mark { timestamp: packet.timestamp, origlen: packet.origlen, octets }
    }

    fn is(&self, batch: &Batch, packet: &Packet) -> bool {
        packet.timestamp == self.timestamp && *self == Mark::of(batch, packet)
    }

    fn is_in(&self, batch: &Batch) -> bool {
        batch.packets.iter().any(|packet| self.is(batch, packet))
    }
}

impl Circle {
    /// Looks at what came at `now`; takes copies out that are held back.
    pub fn inspect(&mut self, batch: &mut Batch, now: Monotonic) -> Verdict {
        let Some(first) = batch.packets.first() else { return Verdict::Fine(0) };
        match &mut self.state {
            State::Cleared => {}
            State::Watching { mark, since, again, alone, others } if now.since(*since) < WATCH => {
                *others |= batch.packets.iter().any(|packet| !mark.is(batch, packet));
                if mark.is_in(batch) {
                    *(if std::mem::take(others) { &mut *again } else { &mut *alone }) += 1;
                }
                if *again >= SUSPICIOUS || *alone >= SUSPICIOUS_ALONE {
                    let period = now.since(*since) / (*again + *alone);
                    let until = now.plus(SILENCE.max(period * PERIODS));
                    self.state = State::Suspecting { mark: mark.clone(), until, held_back: 0 };
                }
            }
            State::Suspecting { mark, until, held_back } => {
                let before = batch.packets.len();
                if mark.is_in(batch) {
                    let copies: Vec<bool> = batch.packets.iter().map(|p| mark.is(batch, p)).collect();
                    let mut left = HELD_BACK - *held_back;
                    let mut copies = copies.into_iter();
                    batch.packets.retain(|_| {
                        let take_out = copies.next().unwrap_or(false) && left > 0;
                        left -= u64::from(take_out);
                        !take_out
                    });
                    batch.verbatim = None;
                }
                let taken = (before - batch.packets.len()) as u64;
                *held_back += taken;
                if *held_back >= HELD_BACK {
                    (self.state, self.proofs) = (State::Cleared, 0);
                } else if now >= *until {
                    // Without a copy there is nothing to tell by: it may have been lost on its way.
                    let proven = *held_back > 0;
                    self.state = State::Idle;
                    self.proofs = if proven { self.proofs + 1 } else { 0 };
                    if self.proofs == PROOFS {
                        return Verdict::Circle;
                    }
                }
                return Verdict::Fine(taken);
            }
            // Empty packets are all alike.
            _ if first.caplen == 0 => {}
            state => {
                if let State::Watching { .. } = state {
                    // The one before did not go round.
                    self.proofs = 0;
                }
                let mark = Mark::of(batch, first);
                self.state = State::Watching { mark, since: now, again: 0, alone: 0, others: false };
            }
        }
        Verdict::Fine(0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pcaphub_core::interface::InterfaceId;

    use super::*;

    /// A batch of packets that are what their times are.
    fn batch(times: &[u64]) -> Batch {
        let mut batch = Batch::default();
        let mut octets = Vec::new();
        for time in times {
            let packet = Packet {
                timestamp: Timestamp::from_nanos(*time),
                interface: InterfaceId(0),
                offset: octets.len() as u32,
                caplen: 8,
                origlen: 8,
                options_offset: 0,
                options_len: 0,
            };
            octets.extend(time.to_be_bytes());
            batch.packets.push(packet);
        }
        batch.buffer = Bytes::from(octets);
        batch
    }

    fn at(millis: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_millis(millis))
    }

    #[test]
    fn packets_that_come_back_until_one_is_held_back_are_a_circle() {
        let mut circle = Circle::default();
        let mut going_round = vec![7];
        let (mut found, mut now) = (None, 0);
        while found.is_none() && now < 10_000 {
            // Each round the hub gets what it sent before, and something new is added.
            let mut round = batch(&going_round);
            match circle.inspect(&mut round, at(now)) {
                Verdict::Circle => found = Some(now),
                Verdict::Fine(_) => {
                    going_round = round.packets.iter().map(|p| p.timestamp.nanos()).collect();
                    going_round.push(1000 + now);
                }
            }
            now += 100;
        }
        assert!(found.is_some_and(|at| at < 6000), "{found:?}");
    }

    #[test]
    fn a_capture_that_is_played_ten_times_and_then_no_more_is_none() {
        let mut circle = Circle::default();
        let replayed = (0..10).flat_map(|_| [1, 2, 3]);
        for (now, time) in replayed.chain(1000..20_000).enumerate() {
            let verdict = circle.inspect(&mut batch(&[time]), at(now as u64));
            assert_ne!(verdict, Verdict::Circle);
        }
    }

    #[test]
    fn a_capture_that_is_played_in_a_loop_loses_two_packets_and_is_left_alone() {
        let mut circle = Circle::default();
        let mut taken = 0;
        for now in 0..20_000 {
            match circle.inspect(&mut batch(&[1 + now % 10]), at(now)) {
                Verdict::Fine(n) => taken += n,
                Verdict::Circle => panic!("it is none"),
            }
        }
        assert_eq!(taken, HELD_BACK);
    }

    #[test]
    fn one_packet_that_goes_round_alone_is_a_circle_too() {
        let mut circle = Circle::default();
        let mut there = true;
        let found = (0..40_000).any(|now| {
            let mut round = batch(if there { &[7] } else { &[] });
            // Something else comes now and then, once it is gone.
            if !there && now % 100 == 0 {
                round = batch(&[1000 + now]);
            }
            match circle.inspect(&mut round, at(now / 4)) {
                Verdict::Circle => true,
                Verdict::Fine(_) => {
                    there &= !round.packets.is_empty();
                    false
                }
            }
        });
        assert!(found || !there, "it is found, or has stopped going round");
    }

    #[test]
    fn a_thousand_copies_of_one_packet_are_none_and_none_is_lost() {
        let mut circle = Circle::default();
        for now in 0..1000 {
            assert_eq!(circle.inspect(&mut batch(&[7]), at(now)), Verdict::Fine(0));
        }
    }

    #[test]
    fn a_stream_of_ever_new_packets_is_none_and_loses_none() {
        let mut circle = Circle::default();
        for now in 0..50_000 {
            assert_eq!(circle.inspect(&mut batch(&[now, now + 1]), at(now)), Verdict::Fine(0));
        }
    }
}
