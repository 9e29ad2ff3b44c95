//! What the merge promises, with the time passed in: order, holding, outliers, bounds.

use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use pcaphub_core::batch::Batch;
use pcaphub_core::interface::InterfaceId;
use pcaphub_core::merge::{Drained, Held, LaneId, Merge, MergeConfig, Order, WhenIdle};
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Monotonic, Timestamp};

const HOLD: Duration = Duration::from_millis(100);
/// 2023-11-14, in milliseconds.
const BASE: u64 = 1_700_000_000_000;
const HOUR: u64 = 3_600_000;
const YEAR: u64 = 365 * 24 * HOUR;
/// 2106-02-07, the last second that classic pcap has.
const LAST: u64 = 4_294_967_295_000 - BASE;

/// Packets of 100 octets at these milliseconds after [`BASE`].
fn batch(millis: &[u64]) -> Arc<Batch> {
    let packet = |(n, millis): (usize, &u64)| Packet {
        timestamp: Timestamp::from_nanos(BASE.wrapping_add(*millis) * 1_000_000),
        interface: InterfaceId(0),
        caplen: 100,
        origlen: 100,
        offset: n as u32 * 100,
        options_offset: 0,
        options_len: 0,
    };
    let packets: Vec<Packet> = millis.iter().enumerate().map(packet).collect();
    let buffer = Bytes::from(vec![0; packets.len() * 100]);
    Arc::new(Batch { buffer, packets, ..Batch::default() })
}

/// Octets that the merge holds for `packets` packets of one batch.
fn charge(packets: usize) -> usize {
    packets * (100 + 32)
}

fn at(millis: u64) -> Monotonic {
    Monotonic::from_nanos(millis * 1_000_000)
}

/// A merge with named lanes, and what came out of it.
struct Story {
    merge: Merge<Rc<()>>,
    names: Vec<(LaneId, char)>,
    ticket: Rc<()>,
}

impl Story {
    fn new(order: Order) -> Self {
        Self::bounded(order, usize::MAX, usize::MAX)
    }

    fn bounded(order: Order, capacity_octets: usize, lane_octets: usize) -> Self {
        let config = MergeConfig { order, hold: HOLD, capacity_octets, lane_octets };
        Story { merge: Merge::new(config), names: Vec::new(), ticket: Rc::new(()) }
    }

    fn open(&mut self, name: char, when_idle: WhenIdle) -> LaneId {
        let id = self.merge.open(name as u64, when_idle);
        self.names.push((id, name));
        id
    }

    fn live(&mut self, name: char) -> LaneId {
        self.open(name, WhenIdle::Hold)
    }

    fn push(&mut self, lane: LaneId, arrival: u64, millis: &[u64]) {
        self.merge.push(lane, batch(millis), at(arrival), self.ticket.clone());
    }

    /// What goes out at `now`, as `A10 B20`.
    fn drain(&mut self, now: u64) -> String {
        self.runs(now).replace('|', "")
    }

    /// The same with `|` between the runs.
    fn runs(&mut self, now: u64) -> String {
        let mut runs = Vec::new();
        let names = &self.names;
        let mut emit = |batch: &Arc<Batch>, range: Range<usize>, lane: LaneId| {
            let name = names.iter().find(|(id, _)| *id == lane).map_or('?', |(_, name)| *name);
            let packets = batch.packets[range].iter();
            let shown = packets.map(|packet| {
                let millis = (packet.timestamp.nanos() / 1_000_000).wrapping_sub(BASE);
                format!("{name}{}", millis as i64)
            });
            runs.push(shown.collect::<Vec<_>>().join(" "));
        };
        let drained = self.merge.drain(at(now), usize::MAX, &mut emit);
        assert!(!drained.more);
        runs.join(" |").replace(" |", "| ")
    }

    fn deadline(&self) -> Option<u64> {
        self.merge.deadline().map(|deadline| deadline.nanos() / 1_000_000)
    }

    fn tickets(&self) -> usize {
        Rc::strong_count(&self.ticket) - 1
    }
}

#[test]
fn packets_of_all_lanes_go_out_by_time() {
    let mut story = Story::new(Order::Time);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10, 30, 50]);
    story.push(b, 0, &[20, 40, 60]);
    assert_eq!(story.runs(0), "A10| B20| A30| B40| A50");
    assert_eq!(story.drain(100), "B60");
}

#[test]
fn equal_times_go_by_rank_and_then_by_position() {
    for order in [Order::Time, Order::Exact] {
        let mut story = Story::new(order);
        let (b, a) = (story.live('B'), story.live('A'));
        story.push(b, 0, &[10, 10, 20]);
        story.push(a, 0, &[10, 10, 20]);
        story.merge.close(a);
        story.merge.close(b);
        assert_eq!(story.runs(0), "A10 A10| B10 B10| A20| B20");
    }
}

#[test]
fn sorted_lanes_that_do_not_overlap_go_out_in_whole_batches() {
    let mut story = Story::new(Order::Exact);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10, 20, 30]);
    story.push(b, 0, &[40, 50, 60]);
    story.push(a, 0, &[70, 80]);
    story.merge.close(a);
    story.merge.close(b);
    assert_eq!(story.runs(0), "A10 A20 A30| B40 B50 B60| A70 A80");
}

#[test]
fn one_lane_alone_is_never_held_and_goes_in_whole_batches() {
    let mut story = Story::new(Order::Time);
    let a = story.live('A');
    story.push(a, 0, &[30, 10, 20]);
    story.push(a, 0, &[5]);
    assert_eq!(story.runs(0), "A30 A10 A20| A5");
    assert_eq!(story.merge.held(), Held::default());
}

#[test]
fn an_idle_source_holds_the_others_at_most_hold() {
    let mut story = Story::new(Order::Time);
    let (a, _b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10]);
    story.push(a, 50, &[60]);
    assert_eq!(story.drain(0), "");
    assert_eq!(story.deadline(), Some(100));
    assert_eq!(story.drain(99), "");
    assert_eq!(story.drain(100), "A10");
    assert_eq!(story.deadline(), Some(150));
    assert_eq!(story.drain(150), "A60");
    assert_eq!(story.deadline(), None);
}

#[test]
fn a_file_with_nothing_queued_is_waited_for_by_other_files() {
    let mut story = Story::new(Order::Time);
    let (a, b) = (story.open('A', WhenIdle::Wait), story.open('B', WhenIdle::Wait));
    story.push(a, 0, &[10]);
    assert_eq!(story.drain(1_000_000), "");
    assert_eq!(story.deadline(), None);
    story.push(b, 1_000_000, &[5, 20]);
    assert_eq!(story.drain(1_000_000), "B5 A10");
}

#[test]
fn a_file_waits_for_a_live_source_at_most_hold_and_holds_it_no_longer() {
    let mut story = Story::new(Order::Time);
    let (file, live) = (story.open('F', WhenIdle::Wait), story.live('L'));
    story.push(file, 0, &[10]);
    assert_eq!(story.drain(99), "");
    assert_eq!(story.drain(100), "F10");
    story.push(live, 200, &[30]);
    assert_eq!(story.drain(299), "");
    assert_eq!(story.drain(300), "L30");
}

#[test]
fn a_late_packet_within_hold_still_finds_its_place() {
    let mut story = Story::new(Order::Time);
    let (a, b, _idle) = (story.live('A'), story.live('B'), story.live('C'));
    story.push(a, 10, &[10]);
    story.push(b, 90, &[5]);
    // B's packet has not been held for long, but it belongs before A's, which must go.
    assert_eq!(story.drain(110), "B5 A10");
}

#[test]
fn exact_waits_for_every_lane_until_it_is_closed() {
    let mut story = Story::new(Order::Exact);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10, 20]);
    assert_eq!(story.drain(u64::MAX / 2_000_000), "");
    assert_eq!(story.deadline(), None);
    story.push(b, 0, &[15]);
    assert_eq!(story.drain(0), "A10 B15");
    story.merge.close(b);
    assert_eq!(story.drain(0), "A20");
}

#[test]
fn exact_never_releases_early() {
    let mut story = Story::bounded(Order::Exact, 1, 1);
    let (a, _b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10, 20]);
    assert_eq!(story.drain(1_000), "");
    assert_eq!(story.merge.counts().released_early, 0);
}

#[test]
fn in_arrival_order_batches_go_out_whole_as_pushed() {
    let mut story = Story::new(Order::Arrival);
    let (a, b, _idle) = (story.live('A'), story.live('B'), story.live('C'));
    story.push(a, 0, &[30, 10]);
    story.push(b, 0, &[20]);
    story.push(a, 0, &[5]);
    story.merge.close(a);
    assert_eq!(story.deadline(), Some(0));
    assert_eq!(story.runs(0), "A30 A10| B20| A5");
    assert_eq!(story.deadline(), None);
    assert!(!story.merge.knows(a));
}

#[test]
fn a_lane_keeps_its_own_order_where_its_time_runs_back() {
    let mut story = Story::new(Order::Exact);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10, 40, 20, 50]);
    story.push(b, 0, &[15, 30, 45]);
    story.merge.close(a);
    story.merge.close(b);
    // A20 sorts with the 40 before it.
    assert_eq!(story.drain(0), "A10 B15 B30 A40 A20 B45 A50");
}

#[test]
fn lanes_come_and_go_and_are_never_confused() {
    let mut story = Story::new(Order::Time);
    let a = story.live('A');
    let old = story.live('B');
    story.push(old, 0, &[10]);
    story.push(a, 0, &[20, 30]);
    story.merge.close(old);
    assert_eq!(story.drain(0), "B10 A20 A30");
    assert!(!story.merge.knows(old));
    let new = story.live('C');
    assert_ne!(old, new);
    story.push(old, 0, &[1, 2]);
    story.merge.close(old);
    assert_eq!(story.merge.counts().refused, 2);
    story.push(a, 0, &[40]);
    assert_eq!(story.drain(0), "", "the new lane is open and idle");
    story.merge.close(new);
    assert_eq!(story.drain(0), "A40");
}

#[test]
fn closing_an_idle_lane_lets_the_others_go_at_once() {
    let mut story = Story::new(Order::Time);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10]);
    assert_eq!(story.drain(0), "");
    story.merge.close(b);
    assert_eq!(story.deadline(), Some(0));
    assert_eq!(story.drain(0), "A10");
}

#[test]
fn a_skewed_source_waits_for_itself_alone() {
    for skew in [HOUR, HOUR.wrapping_neg(), YEAR, YEAR.wrapping_neg(), LAST, BASE.wrapping_neg()] {
        let mut story = Story::new(Order::Time);
        let (a, b) = (story.live('A'), story.live('B'));
        let (skewed, _idle) = (story.live('S'), story.live('I'));
        let mut out = Vec::new();
        for now in (0..2_000).step_by(10) {
            story.push(a, now, &[now]);
            // B's packets come in 15 ms late.
            if now >= 15 {
                story.push(b, now, &[now - 15]);
            }
            story.push(skewed, now, &[skew.wrapping_add(now)]);
            out.extend(story.drain(now).split_whitespace().map(str::to_owned));
            let oldest = story.merge.deadline().expect("packets are held");
            assert!(oldest > at(now), "none is held beyond its time, skew {skew}");
        }
        out.extend(story.drain(3_000).split_whitespace().map(str::to_owned));
        assert_eq!(story.merge.held().packets, 0);
        // The others are in order as if the skewed one were not there.
        let times = out.iter().filter(|packet| !packet.starts_with('S'));
        let times: Vec<u64> = times.filter_map(|packet| packet[1..].parse().ok()).collect();
        assert_eq!(times.len(), 200 + 198);
        assert!(times.is_sorted(), "skew {skew}");
    }
}

#[test]
fn two_sources_skewed_alike_keep_their_order_beside_one_that_is_not() {
    let mut story = Story::new(Order::Time);
    let (b, a) = (story.live('B'), story.live('A'));
    let (right, _idle) = (story.live('R'), story.live('I'));
    story.push(a, 0, &[YEAR + 10, YEAR + 30]);
    story.push(b, 0, &[YEAR + 20, YEAR + 40]);
    story.push(right, 50, &[50]);
    let [ten, twenty, thirty, forty] = [10, 20, 30, 40].map(|millis| YEAR + millis);
    let expected = format!("A{ten} B{twenty} A{thirty} B{forty}");
    assert_eq!(story.drain(100), expected);
    assert_eq!(story.drain(150), "R50");
}

#[test]
fn one_packet_in_2106_among_2023_holds_nothing() {
    for order in [Order::Time, Order::Exact] {
        let mut story = Story::new(order);
        let (a, b) = (story.live('A'), story.live('B'));
        story.push(a, 0, &[10, LAST, 30, 50]);
        story.push(b, 0, &[20, 40, 60]);
        assert_eq!(story.drain(0), format!("A10 A{LAST} B20 A30 B40 A50"));
        assert_eq!(story.merge.counts().outliers, 1);
    }
}

#[test]
fn an_outlier_at_the_end_of_what_is_queued_yields_to_what_follows() {
    let mut story = Story::new(Order::Exact);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10, LAST]);
    story.push(b, 0, &[20]);
    assert_eq!(story.drain(0), "A10 B20");
    story.push(a, 0, &[30]);
    story.push(b, 0, &[40]);
    assert_eq!(story.drain(0), format!("A{LAST} A30"));
}

#[test]
fn an_outlier_that_went_alone_does_not_poison_its_lane() {
    let mut story = Story::new(Order::Time);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10]);
    story.push(a, 0, &[LAST]);
    assert_eq!(story.drain(100), format!("A10 A{LAST}"));
    story.push(a, 200, &[210, 220]);
    story.push(b, 200, &[215, 230]);
    assert_eq!(story.drain(200), "A210 B215 A220");
    assert_eq!(story.merge.counts().outliers, 1);
}

#[test]
fn a_source_that_sleeps_for_hours_stays_in_order() {
    let mut story = Story::new(Order::Exact);
    let (a, b) = (story.live('A'), story.live('B'));
    for hours in [1, 3, 7, 20] {
        story.push(a, 0, &[hours * HOUR]);
        story.push(b, 0, &[hours * HOUR + 1]);
    }
    story.merge.close(a);
    story.merge.close(b);
    let expected = [1, 3, 7, 20].map(|hours| format!("A{} B{}", hours * HOUR, hours * HOUR + 1));
    assert_eq!(story.drain(0), expected.join(" "));
    assert_eq!((story.merge.counts().outliers, story.merge.counts().time_back), (0, 0));
}

#[test]
fn a_lane_that_overflows_releases_its_own_head_early() {
    let mut story = Story::bounded(Order::Time, usize::MAX, charge(2));
    let (a, b, _idle) = (story.live('A'), story.live('B'), story.live('C'));
    story.push(b, 0, &[500]);
    for n in 0..4 {
        story.push(a, 0, &[n]);
    }
    assert_eq!(story.deadline(), Some(0));
    assert_eq!(story.drain(0), "A0 A1");
    assert_eq!(story.merge.counts().released_early, 2);
    assert_eq!(story.merge.held_in(a), Held { packets: 2, octets: charge(2) });
    assert_eq!(story.deadline(), Some(100));
}

#[test]
fn all_lanes_together_release_the_smallest_heads_early() {
    let mut story = Story::bounded(Order::Time, charge(3), usize::MAX);
    let (a, b, _idle) = (story.live('A'), story.live('B'), story.live('C'));
    story.push(a, 0, &[10]);
    story.push(a, 0, &[30]);
    story.push(b, 0, &[20]);
    story.push(b, 0, &[40]);
    story.push(b, 0, &[50]);
    assert_eq!(story.drain(0), "A10 B20");
    assert_eq!(story.merge.counts().released_early, 2);
    assert_eq!(story.merge.held(), Held { packets: 3, octets: charge(3) });
}

#[test]
fn a_packet_that_comes_too_late_is_counted_as_time_back() {
    let mut story = Story::new(Order::Time);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[50]);
    assert_eq!(story.drain(100), "A50");
    story.push(b, 120, &[20, 30]);
    story.push(a, 120, &[60]);
    assert_eq!(story.drain(120), "B20 B30");
    assert_eq!(story.merge.counts().time_back, 1);
}

#[test]
fn a_ticket_is_dropped_when_the_last_packet_of_its_batch_has_gone() {
    let mut story = Story::new(Order::Time);
    let (a, b) = (story.live('A'), story.live('B'));
    story.push(a, 0, &[10, 30]);
    story.push(b, 0, &[20]);
    assert_eq!(story.tickets(), 2);
    assert_eq!(story.drain(0), "A10 B20");
    assert_eq!(story.tickets(), 1);
    assert_eq!(story.merge.held(), Held { packets: 1, octets: charge(2) });
    story.merge.close(b);
    assert_eq!(story.drain(0), "A30");
    assert_eq!(story.tickets(), 0);
    story.push(a, 0, &[]);
    story.push(b, 0, &[1]);
    assert_eq!(story.tickets(), 0, "neither an empty batch nor a closed lane keeps one");
}

#[test]
fn a_drain_stops_at_its_limit_and_says_that_there_is_more() {
    let mut story = Story::new(Order::Time);
    let a = story.live('A');
    for n in 0..3 {
        story.push(a, 0, &[n, n]);
    }
    let mut runs = 0;
    let drained = story.merge.drain(at(0), 201, &mut |_, _, _| runs += 1);
    assert_eq!((runs, drained), (2, Drained { octets: 400, packets: 4, more: true }));
    let drained = story.merge.drain(at(0), 201, &mut |_, _, _| runs += 1);
    assert_eq!((runs, drained), (3, Drained { octets: 200, packets: 2, more: false }));
}

#[test]
fn at_the_end_everything_goes_out_in_order() {
    for order in [Order::Time, Order::Exact] {
        let mut story = Story::new(order);
        let (a, b, _idle) = (story.live('A'), story.live('B'), story.live('C'));
        story.push(a, 0, &[10, 30]);
        story.push(b, 0, &[20, 40]);
        assert_eq!(story.drain(0), "");
        story.merge.release_all();
        assert_eq!(story.deadline(), Some(0));
        assert_eq!(story.drain(0), "A10 B20 A30 B40");
    }
}
