//! What holds in the merge whatever is pushed: nothing is lost, doubled, reordered within a lane
//! or held too long, and exact order is that of a stable sort.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pcaphub_core::batch::Batch;
use pcaphub_core::interface::InterfaceId;
use pcaphub_core::merge::{LaneId, Merge, MergeConfig, Order, WhenIdle};
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Monotonic, Timestamp};
use proptest::prelude::*;

const HOLD: Duration = Duration::from_nanos(100);

/// Packets with these times; `origlen` tells them apart.
fn batch(times: &[u64], first: u32) -> Arc<Batch> {
    let packet = |(time, number): (&u64, u32)| Packet {
        timestamp: Timestamp::from_nanos(*time),
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

#[derive(Debug, Clone)]
enum Step {
    Open { rank: u64, when_idle: WhenIdle },
    Push { lane: usize, times: Vec<u64> },
    Close { lane: usize },
    Drain { passed: u64, limit: usize },
}

fn times() -> impl Strategy<Value = Vec<u64>> {
    let hour = 3_600_000_000_000;
    let time = prop_oneof![
        10 => 1_000_000..1_000_300u64,
        2 => (0..10u64).prop_map(move |n| 5 * hour + n * hour),
        1 => any::<u64>(),
        1 => Just(u64::MAX),
        1 => Just(0),
    ];
    prop::collection::vec(time, 0..6)
}

fn step() -> impl Strategy<Value = Step> {
    let when_idle = prop_oneof![Just(WhenIdle::Wait), Just(WhenIdle::Hold), Just(WhenIdle::Hold)];
    prop_oneof![
        1 => (0..4u64, when_idle).prop_map(|(rank, when_idle)| Step::Open { rank, when_idle }),
        6 => (0..8usize, times()).prop_map(|(lane, times)| Step::Push { lane, times }),
        1 => (0..8usize).prop_map(|lane| Step::Close { lane }),
        4 => (0..80u64, 0..200usize).prop_map(|(passed, limit)| Step::Drain { passed, limit }),
    ]
}

fn config() -> impl Strategy<Value = MergeConfig> {
    let order = prop_oneof![3 => Just(Order::Time), 1 => Just(Order::Arrival), 1 => Just(Order::Exact)];
    let octets = || prop_oneof![Just(usize::MAX), 0..2_000usize];
    (order, octets(), octets()).prop_map(|(order, capacity_octets, lane_octets)| MergeConfig {
        order,
        hold: HOLD,
        capacity_octets,
        lane_octets,
    })
}

/// A lane, and what was pushed to it that has not come out.
struct Model {
    id: LaneId,
    when_idle: WhenIdle,
    open: bool,
    queued: std::collections::VecDeque<(u32, Monotonic)>,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn nothing_is_lost_doubled_reordered_in_its_lane_or_held_too_long(
        config in config(),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mut merge = Merge::new(config);
        let mut lanes: Vec<Model> = Vec::new();
        let mut now = 0u64;
        let mut number = 0u32;
        let last = [Step::Drain { passed: 0, limit: usize::MAX }];
        for (at, step) in steps.iter().chain(&last).enumerate() {
            match step {
                Step::Open { rank, when_idle } => {
                    let id = merge.open(*rank, *when_idle);
                    prop_assert!(lanes.iter().all(|lane| lane.id != id));
                    lanes.push(Model { id, when_idle: *when_idle, open: true, queued: Default::default() });
                }
                Step::Push { lane, times } => {
                    let Some(model) = lanes.get_mut(*lane) else { continue };
                    let refused = merge.counts().refused;
                    merge.push(model.id, batch(times, number), Monotonic::from_nanos(now), ());
                    if model.open {
                        let numbers = number..number + times.len() as u32;
                        model.queued.extend(numbers.map(|number| (number, Monotonic::from_nanos(now))));
                    } else {
                        prop_assert_eq!(merge.counts().refused, refused + times.len() as u64);
                    }
                    number += times.len() as u32;
                }
                Step::Close { lane } => {
                    let Some(model) = lanes.get_mut(*lane) else { continue };
                    merge.close(model.id);
                    model.open = false;
                }
                Step::Drain { passed, limit } => {
                    now += passed;
                    if at == steps.len() {
                        merge.release_all();
                    }
                    let mut given = 0;
                    let mut wrong = None;
                    let drained = merge.drain(Monotonic::from_nanos(now), *limit, &mut |batch, run, id| {
                        let lane = lanes.iter_mut().find(|lane| lane.id == id);
                        let lane = lane.expect("a lane that was opened");
                        assert!(!run.is_empty());
                        for packet in &batch.packets[run] {
                            given += 1;
                            let expected = lane.queued.pop_front().map(|(number, _)| number);
                            if expected != Some(packet.origlen) {
                                wrong = Some((expected, packet.origlen));
                            }
                        }
                    });
                    prop_assert_eq!(wrong, None);
                    prop_assert_eq!(drained.packets, given);
                    if !drained.more && config.order == Order::Time {
                        prop_assert!(merge.held().octets <= config.capacity_octets);
                        for lane in &lanes {
                            prop_assert!(merge.held_in(lane.id).octets <= config.lane_octets);
                            if let (WhenIdle::Hold, Some((_, arrival))) = (lane.when_idle, lane.queued.front()) {
                                prop_assert!(arrival.plus(HOLD) > Monotonic::from_nanos(now));
                            }
                        }
                    }
                    let due = merge.deadline().is_some_and(|deadline| deadline.nanos() <= now);
                    prop_assert!(drained.more || !due, "the deadline is when something can go");
                }
            }
            for lane in &lanes {
                prop_assert_eq!(merge.held_in(lane.id).packets, lane.queued.len());
                prop_assert_eq!(merge.knows(lane.id), lane.open || !lane.queued.is_empty());
            }
            let queued: usize = lanes.iter().map(|lane| lane.queued.len()).sum();
            prop_assert_eq!(merge.held().packets, queued);
        }
        prop_assert_eq!(merge.held(), Default::default());
    }

    #[test]
    fn exact_order_of_sorted_lanes_is_a_stable_sort(
        lanes in prop::collection::vec(prop::collection::vec(prop_oneof![0..40u64, any::<u64>()], 0..60), 1..20),
        batch_packets in 1..20usize,
        limit in 1..2_000usize,
    ) {
        let config = MergeConfig { order: Order::Exact, hold: HOLD, capacity_octets: 0, lane_octets: 0 };
        let mut merge = Merge::new(config);
        let mut expected = Vec::new();
        let mut inputs = HashMap::new();
        let mut ranks = HashMap::new();
        for (rank, mut times) in lanes.into_iter().enumerate() {
            times.sort_unstable();
            expected.extend(times.iter().zip(0u32..).map(|(time, position)| (*time, rank, position)));
            let id = merge.open(rank as u64, WhenIdle::Hold);
            ranks.insert(id, rank);
            inputs.insert(id, (times, 0usize));
        }
        expected.sort();
        let mut out = Vec::new();
        // Each lane gets its next batch when it has none, as from a reader with one buffer.
        while !inputs.is_empty() || merge.held().packets > 0 {
            inputs.retain(|id, (times, pushed)| {
                if merge.held_in(*id).packets == 0 {
                    let end = times.len().min(*pushed + batch_packets);
                    let next = batch(&times[*pushed..end], *pushed as u32);
                    merge.push(*id, next, Monotonic::default(), ());
                    *pushed = end;
                }
                let more = *pushed < times.len();
                if !more {
                    merge.close(*id);
                }
                more
            });
            merge.drain(Monotonic::default(), limit, &mut |batch, run, id| {
                let packets = batch.packets[run].iter();
                out.extend(packets.map(|packet| (packet.timestamp.nanos(), ranks[&id], packet.origlen)));
            });
        }
        prop_assert_eq!(out, expected);
        prop_assert_eq!(merge.counts().time_back, 0);
        prop_assert_eq!(merge.counts().outliers, 0);
    }
}
