//! The merge, with arbitrary lanes, times and clocks: nothing is lost, doubled or reordered in its
//! lane, what is held is bounded, counts close, and it comes to an end.
#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcaphub_core::batch::Batch;
use pcaphub_core::interface::InterfaceId;
use pcaphub_core::merge::{LaneId, Merge, MergeConfig, Order, WhenIdle};
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Monotonic, Timestamp};

const HOLD: Duration = Duration::from_millis(100);
/// More would only make each run slower.
const LANES: usize = 32;

#[derive(Debug, Arbitrary)]
struct Input {
    order: u8,
    capacity_octets: u16,
    lane_octets: u16,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Open { rank: u8, waits: bool },
    Push { lane: u8, times: Vec<Time> },
    Close { lane: u8 },
    Drain { millis: u16, limit: u16 },
}

/// Times near each other are as likely as any.
#[derive(Debug, Arbitrary)]
enum Time {
    Near(u16),
    Hours(u8),
    Any(u64),
}

impl Time {
    fn nanos(&self) -> u64 {
        match self {
            Time::Near(millis) => 1_700_000_000_000_000_000 + u64::from(*millis) * 1_000_000,
            Time::Hours(hours) => 1_700_000_000_000_000_000 + u64::from(*hours) * 3_600_000_000_000,
            Time::Any(nanos) => *nanos,
        }
    }
}

struct Lane {
    id: LaneId,
    when_idle: WhenIdle,
    open: bool,
    queued: VecDeque<(u32, Monotonic)>,
}

fn batch(times: &[Time], first: u32) -> Arc<Batch> {
    let packet = |(time, number): (&Time, u32)| Packet {
        timestamp: Timestamp::from_nanos(time.nanos()),
        interface: InterfaceId(0),
        caplen: 10,
        origlen: number,
        offset: 0,
        options_offset: 0,
        options_len: 0,
    };
    let packets = times.iter().zip(first..).map(packet).collect();
    Arc::new(Batch { buffer: Bytes::from(vec![0; times.len() * 10]), packets, ..Batch::default() })
}

fuzz_target!(|input: Input| {
    let order = [Order::Time, Order::Arrival, Order::Exact][usize::from(input.order % 3)];
    let (capacity_octets, lane_octets) = (input.capacity_octets.into(), input.lane_octets.into());
    let mut merge = Merge::new(MergeConfig { order, hold: HOLD, capacity_octets, lane_octets });
    let (mut lanes, mut now, mut number, mut out) = (Vec::<Lane>::new(), Monotonic::default(), 0, 0);
    for step in &input.steps {
        match step {
            Step::Open { .. } if lanes.len() == LANES => {}
            Step::Open { rank, waits } => {
                let when_idle = if *waits { WhenIdle::Wait } else { WhenIdle::Hold };
                let id = merge.open((*rank).into(), when_idle);
                lanes.push(Lane { id, when_idle, open: true, queued: VecDeque::new() });
            }
            Step::Push { lane, times } => {
                let count = lanes.len().max(1);
                let Some(lane) = lanes.get_mut(usize::from(*lane) % count) else { continue };
                let refused = merge.counts().refused;
                merge.push(lane.id, batch(times, number), now, ());
                match lane.open {
                    true => lane.queued.extend((number..).take(times.len()).map(|number| (number, now))),
                    false => assert_eq!(merge.counts().refused, refused + times.len() as u64),
                }
                number += times.len() as u32;
            }
            Step::Close { lane } => {
                let count = lanes.len().max(1);
                let Some(lane) = lanes.get_mut(usize::from(*lane) % count) else { continue };
                merge.close(lane.id);
                lane.open = false;
            }
            Step::Drain { millis, limit } => {
                now = now.plus(Duration::from_millis((*millis).into()));
                let more = drain(&mut merge, &mut lanes, now, (*limit).into(), &mut out);
                if !more && order == Order::Time {
                    assert!(merge.held().octets <= capacity_octets);
                    for lane in &lanes {
                        assert!(merge.held_in(lane.id).octets <= lane_octets);
                        if let (WhenIdle::Hold, Some((_, arrival))) = (lane.when_idle, lane.queued.front()) {
                            assert!(arrival.plus(HOLD) > now, "held beyond hold");
                        }
                    }
                }
            }
        }
        let queued: usize = lanes.iter().map(|lane| lane.queued.len()).sum();
        assert_eq!(merge.held().packets, queued, "pushed = out + held");
    }
    // It comes to an end: each call gives out something, or there is nothing more.
    merge.release_all();
    let mut calls = 0;
    while drain(&mut merge, &mut lanes, now, 100, &mut out) {
        calls += 1;
        assert!(calls <= u64::from(number) + 1, "it goes on without giving out anything");
    }
    assert_eq!(merge.held(), Default::default());
    assert_eq!(out + merge.counts().refused, u64::from(number), "every packet came out, or was refused");
});

fn drain(merge: &mut Merge<()>, lanes: &mut [Lane], now: Monotonic, limit: usize, out: &mut u64) -> bool {
    let mut given = 0;
    let drained = merge.drain(now, limit, &mut |batch, run, id| {
        let lane = lanes.iter_mut().find(|lane| lane.id == id).expect("a lane that was opened");
        for packet in &batch.packets[run] {
            let (next, _) = lane.queued.pop_front().expect("what was pushed");
            assert_eq!(packet.origlen, next, "in the order in which it was pushed");
            given += 1;
        }
    });
    assert_eq!(drained.packets, given);
    *out += given as u64;
    drained.more
}
