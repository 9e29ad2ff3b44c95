//! A feed's ring with arbitrary subscribers, against a model: each gets every packet in order, or is
//! told how many it lost where it lost them, and the counts close after every step.
#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcaphub_core::batch::Batch;
use pcaphub_core::feed::{
    Chunk, Feed, FeedOptions, History, OnSlow, RingOptions, Start, Subscriber, whole_records,
};
use pcaphub_core::format::Format;
use pcaphub_core::interface::{Interface, InterfaceId, Interfaces, Intern};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::{Monotonic, Resolution, Timestamp};

const CAPACITY: usize = 4000;
/// What a chunk has at most here: a push, and what it is charged beyond its octets.
const LARGEST: usize = 16 * 1100 + 400;
const READERS: usize = 16;

#[derive(Debug, Arbitrary)]
struct Input {
    on_slow: u8,
    history: u8,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Publish { packets: u8, octets: u16 },
    Join { history: bool },
    Take { reader: u8, octets: u16 },
    Confirm { reader: u8, chunks: u8 },
    PutBack { reader: u8, keep: u8 },
    Forfeit { reader: u8 },
    Leave { reader: u8 },
    Pass { millis: u16 },
    DisconnectAll,
}

struct Peer {
    subscriber: Subscriber,
    hand: VecDeque<Chunk>,
    /// The packet it must get next, but for a gap that was told.
    next: Option<u32>,
    gap: u64,
    delivered: u64,
    gone: bool,
}

/// The numbers of a chunk's packets.
fn numbers(chunk: &Chunk) -> (u32, u64) {
    let (packets, octets) = whole_records(Format::Pcap, &chunk.octets);
    assert_eq!((packets, octets), (chunk.packets, chunk.octets.len()), "whole records only");
    (u32::from_le_bytes(chunk.octets[16..20].try_into().expect("a packet")), packets)
}

struct World {
    feed: Feed,
    peers: Vec<Peer>,
    number: u32,
    now: Monotonic,
}

fuzz_target!(|input: Input| {
    let on_slow = [OnSlow::Wait, OnSlow::Drop, OnSlow::Disconnect][usize::from(input.on_slow % 3)];
    let history = [History::None, History::Age(Duration::from_millis(500)), History::Octets(1500)]
        [usize::from(input.history % 3)];
    let interfaces = Interfaces::new();
    let ring = RingOptions { format: Format::Pcap, capacity_octets: CAPACITY, on_slow, history };
    let options =
        FeedOptions { ring, linktype: Some(LinkType::ETHERNET), dedup: None, dedup_packets: 0, addresses: Default::default(), filter: None, shape: Default::default(), chunk_octets: 1 << 16 };
    let feed = Feed::new(options, interfaces.clone());
    let mut interfaces = interfaces;
    let interface = Interface {
        source: "fuzz".into(),
        name: None,
        linktype: LinkType::ETHERNET,
        snaplen: 262_144,
        resolution: Resolution::NANOS,
        fcs_len: None,
        options: Bytes::new(),
    };
    interfaces.intern(interface);
    let mut world = World { feed, peers: Vec::new(), number: 0, now: Monotonic::default() };
    for step in &input.steps {
        world.make(step);
        world.check(on_slow);
    }
    world.peers.clear();
    world.check(on_slow);
});

impl World {
    fn make(&mut self, step: &Step) {
        let ring = self.feed.ring().clone();
        match step {
            Step::Publish { packets, octets } => {
                if ring.has_room() {
                    self.publish(1 + usize::from(*packets % 16), 4 + usize::from(*octets % 1000));
                }
            }
            Step::Join { .. } if self.peers.len() == READERS => {}
            Step::Join { history } => {
                let start = if *history { Start::History(self.now) } else { Start::Next };
                let subscriber = Subscriber::join(&ring, "peer".into(), start);
                let offered = subscriber.snapshot().expect("it is there").offered;
                let next = (offered == 0).then_some(self.number);
                let hand = VecDeque::new();
                self.peers.push(Peer { subscriber, hand, next, gap: 0, delivered: 0, gone: false });
            }
            Step::Leave { reader } => {
                if !self.peers.is_empty() {
                    self.peers.swap_remove(usize::from(*reader) % self.peers.len());
                }
            }
            Step::Pass { millis } => self.now = self.now.plus(Duration::from_millis((*millis).into())),
            Step::DisconnectAll => ring.disconnect_all(),
            Step::Take { reader, .. }
            | Step::Confirm { reader, .. }
            | Step::PutBack { reader, .. }
            | Step::Forfeit { reader } => {
                let count = self.peers.len().max(1);
                if let Some(peer) = self.peers.get_mut(usize::from(*reader) % count) {
                    peer.make(step, ring.options().on_slow);
                }
            }
        }
    }

    fn publish(&mut self, packets: usize, caplen: usize) {
        let mut batch = Batch::default();
        let mut octets = Vec::new();
        for _ in 0..packets {
            batch.packets.push(Packet {
                timestamp: Timestamp::from_nanos(u64::from(self.number) * 1000),
                interface: InterfaceId(0),
                caplen: caplen as u32,
                origlen: caplen as u32,
                offset: octets.len() as u32,
                options_offset: 0,
                options_len: 0,
            });
            octets.extend(self.number.to_le_bytes());
            octets.resize(octets.len() + caplen - 4, 0);
            self.number += 1;
        }
        batch.buffer = Bytes::from(octets);
        let all = 0..batch.packets.len();
        self.feed.push(&Arc::new(batch), all, self.now);
        self.feed.flush(self.now);
    }

    fn check(&self, on_slow: OnSlow) {
        let snapshot = self.feed.ring().snapshot();
        for one in snapshot.subscribers.iter().chain([&snapshot.departed]) {
            assert_eq!(one.offered, one.delivered + one.queued + one.dropped.total(), "counts close");
        }
        assert_eq!(snapshot.published, u64::from(self.number));
        assert!(snapshot.octets <= CAPACITY + LARGEST, "{} octets", snapshot.octets);
        if on_slow == OnSlow::Wait {
            assert!(snapshot.subscribers.iter().all(|one| one.dropped.of(DropReason::Lag) == 0));
        }
    }
}

impl Peer {
    fn make(&mut self, step: &Step, on_slow: OnSlow) {
        if self.gone {
            return;
        }
        match step {
            Step::Take { octets, .. } => self.take((*octets).into()),
            Step::Confirm { chunks, .. } => {
                let chunks = usize::from(*chunks % 5).min(self.hand.len());
                let written: Vec<_> = self.hand.drain(..chunks).collect();
                let before = self.subscriber.snapshot().expect("it is there").delivered;
                self.subscriber.confirm(chunks, written.iter().map(|chunk| chunk.octets.len()).sum());
                let after = self.subscriber.snapshot().expect("it is there").delivered;
                if after != before {
                    self.delivered += written.iter().map(|chunk| chunk.packets).sum::<u64>();
                }
                assert_eq!(after, self.delivered);
            }
            Step::PutBack { keep, .. } if on_slow != OnSlow::Wait => {
                let keep = usize::from(*keep % 3);
                self.subscriber.put_back(keep);
                if let Some(first) = self.hand.get(keep) {
                    (self.next, self.gap) = (Some(numbers(first).0), 0);
                    self.hand.truncate(keep);
                }
            }
            Step::Forfeit { .. } => {
                let keep = self.hand.len().min(1);
                self.subscriber.forfeit(keep, DropReason::SinkFull);
                if let Some(first) = self.hand.get(keep) {
                    (self.next, self.gap) = (Some(numbers(first).0), 0);
                    self.hand.truncate(keep);
                }
            }
            _ => {}
        }
    }

    fn take(&mut self, octets: usize) {
        let held = self.hand.len();
        let mut cx = Context::from_waker(Waker::noop());
        match self.subscriber.poll_take(&mut cx, octets, &mut self.hand) {
            Poll::Pending => {}
            Poll::Ready(Err(_)) => self.gone = true,
            Poll::Ready(Ok(gap)) => {
                assert!(gap.is_none() || held == 0, "a gap lies before the whole hand");
                self.gap += gap.map_or(0, |gap| gap.packets);
                for chunk in self.hand.iter().skip(held) {
                    let (first, packets) = numbers(chunk);
                    if let Some(next) = self.next {
                        assert_eq!(u64::from(first), u64::from(next) + self.gap, "the next, but for the gap");
                    }
                    (self.next, self.gap) = (Some(first + packets as u32), 0);
                }
            }
        }
    }
}
