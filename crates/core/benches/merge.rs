//! Nanoseconds per packet through the merge, without decoding before it or encoding behind it.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use pcaphub_core::batch::Batch;
use pcaphub_core::interface::InterfaceId;
use pcaphub_core::merge::{Merge, MergeConfig, Order, WhenIdle};
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Monotonic, Timestamp};

const BATCHES: u64 = 16;
const BATCH_PACKETS: u64 = 700;
const PACKETS_PER_LANE: u64 = BATCHES * BATCH_PACKETS;

/// A lane's batches; packet `n` is at the time that `time` gives it.
fn batches(time: impl Fn(u64) -> u64) -> Vec<Arc<Batch>> {
    let packet = |n: u64| Packet {
        timestamp: Timestamp::from_nanos(1_700_000_000_000_000_000 + time(n)),
        interface: InterfaceId(0),
        caplen: 346,
        origlen: 346,
        offset: (n % BATCH_PACKETS) as u32 * 362 + 16,
        options_offset: 0,
        options_len: 0,
    };
    let buffer = Bytes::from(vec![0; BATCH_PACKETS as usize * 362]);
    let batch = |b: u64| {
        let packets = (b * BATCH_PACKETS..(b + 1) * BATCH_PACKETS).map(packet).collect();
        Arc::new(Batch { buffer: buffer.clone(), packets, ..Batch::default() })
    };
    (0..BATCHES).map(batch).collect()
}

fn full(order: Order, lanes: &[Vec<Arc<Batch>>]) -> Merge<()> {
    let config = MergeConfig {
        order,
        hold: Duration::from_millis(100),
        capacity_octets: usize::MAX,
        lane_octets: usize::MAX,
    };
    let mut merge = Merge::new(config);
    for (rank, batches) in lanes.iter().enumerate() {
        let lane = merge.open(rank as u64, WhenIdle::Hold);
        for batch in batches {
            merge.push(lane, batch.clone(), Monotonic::default(), ());
        }
        merge.close(lane);
    }
    merge
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    let mut measure = |name: &str, order: Order, idle: bool, lanes: Vec<Vec<Arc<Batch>>>| {
        group.throughput(Throughput::Elements(PACKETS_PER_LANE * lanes.len() as u64));
        let setup = || {
            let mut merge = full(order, &lanes);
            if idle {
                merge.open(99, WhenIdle::Hold);
            }
            merge
        };
        let drain = |mut merge: Merge<()>| {
            let now = Monotonic::from_nanos(1_000_000_000);
            merge.drain(now, usize::MAX, &mut |batch, run, lane| {
                black_box((batch, run, lane));
            });
            assert_eq!(merge.held().packets, 0);
            merge
        };
        group.bench_function(name, |b| b.iter_batched(setup, drain, BatchSize::LargeInput));
    };
    let interleaved = || (0..16).map(|lane| batches(|n| n * 16_000 + lane * 1_000)).collect();
    // Multiplied by a large odd number, so that runs have all lengths and the order no pattern.
    let mixed = |lane: u64| batches(move |n| n * 16_000 + (n * 2_654_435_761 + lane * 40_503) % 16_000);
    measure("merge_16_lanes", Order::Exact, false, interleaved());
    measure("merge_16_lanes_mixed", Order::Exact, false, (0..16).map(mixed).collect());
    measure("merge_16_lanes_one_idle", Order::Time, true, interleaved());
    measure("merge_16_lanes_in_turn", Order::Exact, false, {
        (0..16).map(|lane| batches(move |n| (n / BATCH_PACKETS * 16 + lane) * 1_000_000 + n)).collect()
    });
    measure("merge_1_lane", Order::Time, false, vec![batches(|n| n * 1_000)]);
    group.finish();
}

criterion_group!(benches, merge);
criterion_main!(benches);
