//! The ring against a model that keeps every chunk for ever: any operations, in any order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::encoding::Format;
use crate::interface::InterfaceId;
use crate::linktype::LinkType;
use crate::stats::{DropCounts, DropReason};
use crate::time::Monotonic;

/// What can happen to a ring.
#[derive(Debug, Clone)]
enum Step {
    Publish { packets: u8, octets: u16, interface: u8 },
    CannotCarry(u8),
    Join { history: bool },
    Take { reader: u8, octets: u16 },
    Confirm { reader: u8, chunks: u8 },
    PutBack { reader: u8, keep: u8 },
    End { reader: u8 },
    Leave { reader: u8, part: bool },
    Pass { millis: u16 },
    DisconnectAll,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1u8..20, 8u16..600, 0u8..3)
            .prop_map(|(packets, octets, interface)| Step::Publish { packets, octets, interface }),
        1 => (1u8..5).prop_map(Step::CannotCarry),
        2 => any::<bool>().prop_map(|history| Step::Join { history }),
        6 => (any::<u8>(), 1u16..2000).prop_map(|(reader, octets)| Step::Take { reader, octets }),
        5 => (any::<u8>(), 0u8..5).prop_map(|(reader, chunks)| Step::Confirm { reader, chunks }),
        2 => (any::<u8>(), 0u8..3).prop_map(|(reader, keep)| Step::PutBack { reader, keep }),
        1 => any::<u8>().prop_map(|reader| Step::End { reader }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(reader, part)| Step::Leave { reader, part }),
        2 => (0u16..400).prop_map(|millis| Step::Pass { millis }),
    ]
}

fn rare() -> impl Strategy<Value = Step> {
    prop_oneof![40 => step(), 1 => Just(Step::DisconnectAll)]
}

/// A subscriber, and what the model knows of it.
struct Peer {
    subscriber: Subscriber,
    hand: VecDeque<Chunk>,
    /// The number of the chunk it must get next, losses aside.
    expected: u64,
    /// Packets of gaps that were told, behind `expected`.
    gap: u64,
    told: u64,
    confirmed: u64,
    /// The first chunk that is not for it, and its group.
    last: Option<u64>,
    group: u64,
    gone: bool,
}

struct Model {
    ring: Arc<Ring>,
    joined: u64,
    /// Packets of every chunk that was ever published, by its number.
    packets: Vec<u64>,
    peers: Vec<Peer>,
    now: Monotonic,
    largest: usize,
}

fn number(chunk: &Chunk) -> u64 {
    u64::from_le_bytes(chunk.octets[..8].try_into().unwrap())
}

impl Model {
    fn new(on_slow: OnSlow, history: History) -> Self {
        let options = RingOptions { format: Format::PcapNg, capacity_octets: 4000, on_slow, history };
        let ring = Ring::new(options);
        ring.set_linktype(LinkType::ETHERNET);
        Model {
            ring,
            joined: 0,
            packets: Vec::new(),
            peers: Vec::new(),
            now: Monotonic::default(),
            largest: 0,
        }
    }

    fn run(&mut self, step: &Step) {
        match step {
            Step::Publish { packets, octets, interface } => self.publish(*packets, *octets, *interface),
            Step::CannotCarry(n) => {
                let mut dropped = DropCounts::default();
                dropped.add(DropReason::LinkTypeMismatch, (*n).into());
                self.ring.count_dropped(&dropped);
            }
            Step::Join { history } => self.join(*history),
            Step::Take { reader, octets } => self.take(*reader, (*octets).into()),
            Step::Confirm { reader, chunks } => self.confirm(*reader, (*chunks).into()),
            Step::PutBack { reader, keep } => self.put_back(*reader, (*keep).into()),
            Step::End { reader } => {
                let newest = self.packets.len() as u64;
                let Some(index) = self.index(*reader) else { return };
                let peer = &mut self.peers[index];
                peer.last.get_or_insert(newest);
                self.ring.end_group(peer.group);
            }
            Step::Leave { reader, part } => {
                if let Some(index) = self.index(*reader) {
                    let peer = self.peers.swap_remove(index);
                    if let Some(chunk) = peer.hand.front().filter(|_| *part && !peer.gone) {
                        peer.subscriber.confirm_part(chunk.packets / 2);
                    }
                }
            }
            Step::Pass { millis } => self.now = self.now.plus(Duration::from_millis((*millis).into())),
            Step::DisconnectAll => self.ring.disconnect_all(),
        }
    }

    fn index(&self, reader: u8) -> Option<usize> {
        (!self.peers.is_empty()).then(|| usize::from(reader) % self.peers.len())
    }

    fn publish(&mut self, packets: u8, octets: u16, interface: u8) {
        if !self.ring.has_room() {
            return;
        }
        let mut content = (self.packets.len() as u64).to_le_bytes().to_vec();
        content.resize(octets.into(), 0);
        let chunk = Chunk {
            octets: Bytes::from(content),
            packets: packets.into(),
            interfaces: u32::from(interface) + 1,
            by_interface: Arc::new([(InterfaceId(interface.into()), packets.into())]),
            published: self.now,
        };
        self.largest = self.largest.max(chunk.charge());
        self.packets.push(packets.into());
        self.ring.publish(chunk, &DropCounts::default());
    }

    fn join(&mut self, history: bool) {
        let start = if history { Start::History(self.now) } else { Start::Next };
        self.joined += 1;
        let group = self.joined;
        let subscriber = Subscriber::join_group(&self.ring, "peer".into(), start, group);
        // What it is offered tells where it starts; the model checks that it gets that.
        let offered = subscriber.snapshot().unwrap().offered;
        let (mut expected, mut sum) = (self.packets.len() as u64, 0);
        while sum < offered {
            expected -= 1;
            sum += self.packets[expected as usize];
        }
        assert_eq!(sum, offered, "it starts at a chunk");
        assert!(history || offered == 0);
        let hand = VecDeque::new();
        let (last, gone) = (None, false);
        let peer = Peer { subscriber, hand, expected, gap: 0, told: 0, confirmed: 0, last, group, gone };
        self.peers.push(peer);
    }

    fn take(&mut self, reader: u8, octets: usize) {
        let Some(index) = self.index(reader) else { return };
        let peer = &mut self.peers[index];
        let held = peer.hand.len();
        let mut cx = Context::from_waker(Waker::noop());
        match peer.subscriber.poll_take(&mut cx, octets, &mut peer.hand) {
            Poll::Pending => assert_eq!((held, peer.expected), (0, self.packets.len() as u64)),
            Poll::Ready(Err(ending)) => {
                peer.gone = true;
                if let (Ending::Ended, Some(last)) = (ending, peer.last) {
                    let untold: u64 = self.packets[peer.expected as usize..last as usize].iter().sum();
                    assert_eq!(untold, peer.gap, "it ends where it was to end");
                }
            }
            Poll::Ready(Ok(gap)) => {
                if let Some(gap) = gap {
                    assert_eq!(held, 0, "a gap lies before the whole hand");
                    peer.gap += gap.packets;
                    peer.told += gap.packets;
                    let by_interface: u64 = gap.by_interface.iter().map(|(_, lost)| lost).sum();
                    assert_eq!(by_interface, peer.told, "what an interface lost so far");
                }
                for chunk in peer.hand.iter().skip(held) {
                    while peer.gap > 0 {
                        peer.gap -= self.packets[peer.expected as usize];
                        peer.expected += 1;
                    }
                    assert_eq!(number(chunk), peer.expected, "the next one, but for the gap told");
                    assert!(peer.last.is_none_or(|last| peer.expected < last), "nothing behind its end");
                    peer.expected += 1;
                }
            }
        }
    }

    fn confirm(&mut self, reader: u8, chunks: usize) {
        let Some(index) = self.index(reader) else { return };
        let peer = &mut self.peers[index];
        let chunks = chunks.min(peer.hand.len());
        let written: Vec<_> = peer.hand.drain(..chunks).collect();
        let gone = peer.subscriber.snapshot().unwrap();
        peer.subscriber.confirm(chunks, written.iter().map(|chunk| chunk.octets.len()).sum());
        let now = peer.subscriber.snapshot().unwrap();
        let packets: u64 = written.iter().map(|chunk| chunk.packets).sum();
        if now.delivered != gone.delivered {
            peer.confirmed += packets;
        }
        assert_eq!(now.delivered, peer.confirmed);
    }

    fn put_back(&mut self, reader: u8, keep: usize) {
        let Some(index) = self.index(reader) else { return };
        let peer = &mut self.peers[index];
        if self.ring.options().on_slow == OnSlow::Wait || peer.gone {
            return;
        }
        peer.subscriber.put_back(keep);
        if let Some(first) = peer.hand.get(keep) {
            // Lost ones among them are told as a gap before the first one that is still there.
            peer.expected = number(first);
            peer.gap = 0;
            peer.hand.truncate(keep);
        }
    }

    /// What must hold at every moment.
    fn check(&self) {
        let snapshot = self.ring.snapshot();
        for subscriber in snapshot.subscribers.iter().chain([&snapshot.departed]) {
            let known = subscriber.delivered + subscriber.queued + subscriber.dropped.total();
            assert_eq!(subscriber.offered, known, "counts close: {subscriber:?}");
        }
        assert_eq!(snapshot.published, self.packets.iter().sum::<u64>());
        let most = self.ring.options().capacity_octets + self.largest;
        assert!(snapshot.octets <= most, "{} of {most} octets", snapshot.octets);
        let keeps = self.ring.options().history != History::None;
        if self.peers.is_empty() && !keeps {
            assert_eq!(snapshot.octets, 0, "nothing is kept for nobody");
        }
        if self.ring.options().on_slow == OnSlow::Wait {
            let lost = |s: &SubscriberSnapshot| s.dropped.of(DropReason::Lag);
            assert!(snapshot.subscribers.iter().all(|s| lost(s) == 0), "under wait nothing is lost");
        }
    }
}

fn on_slow() -> impl Strategy<Value = OnSlow> {
    prop_oneof![Just(OnSlow::Wait), Just(OnSlow::Drop), Just(OnSlow::Disconnect)]
}

fn history() -> impl Strategy<Value = History> {
    prop_oneof![
        Just(History::None),
        Just(History::Age(Duration::from_millis(500))),
        Just(History::Octets(1500))
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn the_ring_does_what_its_model_says(
        on_slow in on_slow(),
        history in history(),
        steps in prop::collection::vec(rare(), 1..120),
    ) {
        let mut model = Model::new(on_slow, history);
        model.join(false);
        for step in &steps {
            model.run(step);
            model.check();
        }
        model.peers.clear();
        model.check();
    }
}
