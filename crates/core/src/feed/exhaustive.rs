//! The ring's concurrency: every order in which a publisher and two subscribers can take their turns.
//!
//! All of a ring's state lies behind one lock, so threads that use it at the same time are a sequence
//! of calls. Here is every such sequence up to a length, for each [`OnSlow`]; after each call the
//! counts close, nothing was lost that must not be, the ring is within its bound, and no task sleeps
//! that has something to do.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use super::*;
use crate::encoding::Format;
use crate::interface::InterfaceId;
use crate::linktype::LinkType;
use crate::stats::{DropCounts, DropReason};
use crate::time::Monotonic;

/// A call that a thread makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    Publish,
    AwaitRoom,
    End,
    EndFirst,
    DisconnectAll,
    Join(usize),
    Take(usize),
    Confirm(usize),
    PutBack(usize),
    Forfeit(usize),
    AwaitDismissal(usize),
    Leave(usize),
}

const CALLS: &[Call] = &[
    Call::Publish,
    Call::AwaitRoom,
    Call::End,
    Call::EndFirst,
    Call::DisconnectAll,
    Call::Join(0),
    Call::Take(0),
    Call::Confirm(0),
    Call::PutBack(0),
    Call::Forfeit(0),
    Call::AwaitDismissal(0),
    Call::Leave(0),
    Call::Join(1),
    Call::Take(1),
    Call::Confirm(1),
    Call::Leave(1),
];

/// How many calls a sequence has at most: all of them up to here run in a few seconds.
const LONGEST: usize = 8;
/// Octets of a chunk, and what the ring holds: one chunk and a part of another.
const CHUNK: usize = 1000;
const CAPACITY: usize = 1500;
/// Packets of a chunk.
const PACKETS: u64 = 2;

/// A task that waits: how often it was woken since it last looked.
#[derive(Debug, Default)]
struct Task(AtomicUsize);

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a task waits for, if it does.
#[derive(Debug, Default)]
struct Waiting {
    task: Arc<Task>,
    asleep: bool,
}

impl Waiting {
    /// Looks once, and sleeps if there is nothing.
    fn poll<T>(&mut self, look: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
        self.task.0.store(0, Ordering::Relaxed);
        let waker = Waker::from(self.task.clone());
        match look(&mut Context::from_waker(&waker)) {
            Poll::Ready(found) => {
                self.asleep = false;
                Some(found)
            }
            Poll::Pending => {
                self.asleep = true;
                None
            }
        }
    }

    /// Whether it sleeps and nobody woke it.
    fn sleeps(&self) -> bool {
        self.asleep && self.task.0.load(Ordering::Relaxed) == 0
    }
}

struct Peer {
    subscriber: Subscriber,
    hand: VecDeque<Chunk>,
    taking: Waiting,
    dismissal: Waiting,
    told: u64,
    delivered: u64,
    /// It is to end, although the feed goes on.
    ending: bool,
    gone: bool,
}

struct World {
    ring: Arc<Ring>,
    published: u64,
    ended: bool,
    room: Waiting,
    peers: [Option<Peer>; 2],
}

impl World {
    fn new(on_slow: OnSlow) -> Self {
        let options =
            RingOptions { format: Format::Pcap, capacity_octets: CAPACITY, on_slow, history: History::None };
        let ring = Ring::new(options);
        ring.set_linktype(LinkType::ETHERNET);
        World { ring, published: 0, ended: false, room: Waiting::default(), peers: [None, None] }
    }

    /// Makes a call; false if it cannot be made now.
    fn make(&mut self, call: Call) -> bool {
        match call {
            Call::Publish => return self.publish(),
            Call::AwaitRoom => {
                let World { ring, room, .. } = self;
                return !room.asleep && room.poll(|cx| ring.poll_room(cx)).is_none();
            }
            Call::End if self.ended => return false,
            Call::End => {
                self.ended = true;
                self.ring.end();
            }
            Call::EndFirst => {
                let Some(peer) = self.peers[0].as_mut().filter(|peer| !peer.ending) else { return false };
                peer.ending = true;
                self.ring.end_group(1);
            }
            Call::DisconnectAll if self.peers.iter().all(Option::is_none) => return false,
            Call::DisconnectAll => {
                self.ended = true;
                self.ring.disconnect_all();
            }
            Call::Join(n) => {
                if self.peers[n].is_some() || (n == 1 && self.peers[0].is_none()) {
                    return false;
                }
                self.peers[n] = Some(Peer {
                    subscriber: Subscriber::join_group(&self.ring, "peer".into(), Start::Next, n as u64 + 1),
                    hand: VecDeque::new(),
                    taking: Waiting::default(),
                    dismissal: Waiting::default(),
                    told: 0,
                    delivered: 0,
                    ending: false,
                    gone: false,
                });
            }
            Call::Leave(n) => return self.peers[n].take().is_some(),
            Call::Take(n)
            | Call::Confirm(n)
            | Call::PutBack(n)
            | Call::Forfeit(n)
            | Call::AwaitDismissal(n) => {
                let waits = self.ring.options().on_slow == OnSlow::Wait;
                return self.peers[n].as_mut().is_some_and(|peer| peer.make(call, waits));
            }
        }
        true
    }

    fn publish(&mut self) -> bool {
        if self.ended || !self.ring.has_room() {
            return false;
        }
        let mut octets = self.published.to_le_bytes().to_vec();
        octets.resize(CHUNK, 0);
        let chunk = Chunk {
            octets: Bytes::from(octets),
            packets: PACKETS,
            interfaces: 0,
            by_interface: Arc::new([(InterfaceId(0), PACKETS)]),
            published: Monotonic::default(),
        };
        self.published += 1;
        self.ring.publish(chunk, &DropCounts::default());
        true
    }

    /// What must hold at every moment.
    fn check(&mut self) {
        let snapshot = self.ring.snapshot();
        for one in snapshot.subscribers.iter().chain([&snapshot.departed]) {
            assert_eq!(
                one.offered,
                one.delivered + one.queued + one.dropped.total(),
                "counts close: {one:?}"
            );
        }
        let waits = self.ring.options().on_slow == OnSlow::Wait;
        if waits {
            let lost = |one: &SubscriberSnapshot| one.dropped.of(DropReason::Lag);
            assert!(snapshot.subscribers.iter().all(|one| lost(one) == 0), "under wait nothing is lost");
            let waited_for = snapshot.subscribers.iter().any(|one| one.queued > 0);
            assert!(self.ring.has_room() || waited_for, "the ring is full, and it waits for nobody");
        }
        assert!(snapshot.octets <= CAPACITY + CHUNK + 400, "{} octets", snapshot.octets);
        assert!(!(self.room.sleeps() && self.ring.has_room()), "the publisher sleeps although there is room");
        for peer in self.peers.iter_mut().flatten() {
            peer.check(self.ended);
        }
    }
}

impl Peer {
    fn make(&mut self, call: Call, waits: bool) -> bool {
        let Peer { subscriber, hand, taking, dismissal, .. } = self;
        match call {
            _ if self.gone => return false,
            Call::Take(_) => {
                let held = hand.len();
                match taking.poll(|cx| subscriber.poll_take(cx, CHUNK, hand)) {
                    Some(Err(_)) => self.gone = true,
                    Some(Ok(gap)) => {
                        assert!(gap.is_none() || held == 0, "a gap lies before the whole hand");
                        self.told += gap.map_or(0, |gap| gap.packets);
                    }
                    None => assert_eq!(held, 0),
                }
            }
            Call::Confirm(_) => {
                let Some(chunk) = hand.pop_front() else { return false };
                let before = subscriber.snapshot().unwrap().delivered;
                subscriber.confirm(1, chunk.octets.len());
                // One whose books are closed had it counted as lost.
                if subscriber.snapshot().unwrap().delivered != before {
                    self.delivered += chunk.packets;
                }
            }
            Call::PutBack(_) if waits || hand.is_empty() => return false,
            Call::PutBack(_) => {
                subscriber.put_back(0);
                hand.clear();
            }
            Call::Forfeit(_) => {
                subscriber.forfeit(hand.len().min(1), DropReason::SinkFull);
                hand.truncate(1);
            }
            _ => return !dismissal.asleep && dismissal.poll(|cx| subscriber.poll_dismissed(cx)).is_none(),
        }
        true
    }

    fn check(&mut self, ended: bool) {
        let counts = self.subscriber.snapshot().unwrap();
        assert_eq!(counts.delivered, self.delivered);
        if !self.gone {
            let lost = counts.dropped.of(DropReason::Lag) + counts.dropped.of(DropReason::SinkFull);
            assert!(self.told <= lost, "told {} of {lost} lost", self.told);
            let due = counts.queued > 0 || self.told < lost || ended || self.ending;
            assert!(!(self.taking.sleeps() && due), "it sleeps although something is due: {counts:?}");
        }
        if self.dismissal.sleeps() {
            let Peer { subscriber, dismissal, .. } = self;
            assert_eq!(
                dismissal.poll(|cx| subscriber.poll_dismissed(cx)),
                None,
                "it sleeps although dismissed"
            );
        }
    }
}

/// Every sequence that goes on from `calls`; how many there are.
fn explore(on_slow: OnSlow, calls: &mut Vec<Call>) -> u64 {
    let mut sequences = 0;
    for call in CALLS {
        let mut world = World::new(on_slow);
        assert!(calls.iter().all(|call| world.make(*call)), "what could be called before can be again");
        let there = world.peers.iter().flatten().count();
        if !world.make(*call) {
            continue;
        }
        calls.push(*call);
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.check()));
        assert!(held.is_ok(), "{on_slow:?}: {calls:?}");
        sequences += 1;
        // Without a subscriber, publishing again is nothing new.
        let nothing_new = *call == Call::Publish && there == 0;
        if calls.len() < LONGEST && !nothing_new {
            sequences += explore(on_slow, calls);
        }
        calls.pop();
    }
    sequences
}

#[test]
fn every_order_of_calls_leaves_the_ring_right_and_no_task_asleep() {
    let explored: Vec<_> = [OnSlow::Wait, OnSlow::Drop, OnSlow::Disconnect]
        .map(|on_slow| std::thread::spawn(move || explore(on_slow, &mut Vec::new())))
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    println!("{explored:?} sequences");
    assert!(explored.iter().all(|sequences| *sequences > 500_000), "{explored:?}");
}
