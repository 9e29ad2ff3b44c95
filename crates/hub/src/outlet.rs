//! What the merge lets go on its way into one feed: at once, or at a pace.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use pcaphub_core::batch::Batch;
use pcaphub_core::feed::{Feed, OnSlow};
use pcaphub_core::pace::{Pace, Pacer};
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::Monotonic;

use crate::clock::wall_clock;
use crate::event::Onto;

/// A feed, and what is due to it later.
pub struct Outlet {
    /// What it is called: the first sink that reads from it.
    pub name: Arc<str>,
    /// What that puts them on.
    pub onto: Onto,
    /// Where packets go.
    pub feed: Feed,
    queue: Option<Queue>,
}

/// Packets whose time has not come.
struct Queue {
    pacer: Pacer,
    runs: VecDeque<Run>,
    octets: usize,
    /// When the first of them is due.
    due: Option<Monotonic>,
}

struct Run {
    batch: Arc<Batch>,
    packets: Range<usize>,
    /// What it keeps in memory; nothing where the run before it keeps the same.
    octets: usize,
}

/// What is taken ahead of its time: enough that packets are there when they are due.
const AHEAD: usize = 2 << 20;

impl Outlet {
    /// A feed whose packets go at a pace, or as they come.
    pub fn new(name: Arc<str>, onto: Onto, feed: Feed, pace: Option<Pace>) -> Self {
        let pace = pace.filter(|pace| *pace != Pace::Max);
        let queue =
            pace.map(|pace| Queue { pacer: Pacer::new(pace), runs: VecDeque::new(), octets: 0, due: None });
        Outlet { name, onto, feed, queue }
    }

    /// Takes over a run of packets of a batch.
    pub fn push(&mut self, batch: &Arc<Batch>, packets: Range<usize>, now: Monotonic) {
        match &mut self.queue {
            None => let_go(&mut self.feed, batch, packets, now),
            Some(_) if self.feed.is_done() => {}
            Some(queue) => {
                queue.push(batch, packets);
                if self.feed.ring().options().on_slow != OnSlow::Wait {
                    self.feed.lose(DropReason::Lag, queue.make_room());
                }
            }
        }
    }

    /// Publishes what is due, and ends the feed when it has had all that it may have.
    pub fn flush(&mut self, now: Monotonic) {
        if let Some(queue) = &mut self.queue {
            queue.release(&mut self.feed, now);
        }
        self.feed.flush(now);
        if self.feed.is_done() {
            // What is left of the queue is more than it may have.
            if let Some(queue) = &mut self.queue {
                queue.clear();
            }
            self.feed.ring().end();
        }
    }

    /// When the next of its packets is due.
    pub fn deadline(&self) -> Option<Monotonic> {
        self.queue.as_ref().and_then(|queue| queue.due)
    }

    /// Whether it takes more ahead of its time.
    pub fn has_room(&self) -> bool {
        self.queue.as_ref().is_none_or(|queue| queue.octets < AHEAD)
            || self.feed.ring().options().on_slow != OnSlow::Wait
    }

    /// Gives up what is not due yet: the hub was told to end.
    pub fn abandon(&mut self) {
        if let Some(queue) = &mut self.queue {
            let packets = queue.clear();
            self.feed.lose(DropReason::Closed, packets);
        }
    }
}

/// Pushes packets, with the time of this moment where they are to have that.
fn let_go(feed: &mut Feed, batch: &Batch, packets: Range<usize>, now: Monotonic) {
    if feed.times(batch) {
        feed.set_wall_clock(wall_clock());
    }
    feed.push(batch, packets, now);
}

impl Queue {
    fn push(&mut self, batch: &Arc<Batch>, packets: Range<usize>) {
        if packets.is_empty() {
            return;
        }
        let known = self.runs.back().is_some_and(|run| Arc::ptr_eq(&run.batch, batch));
        let octets = if known { 0 } else { batch.buffer.len() + 32 * batch.packets.len() };
        self.octets += octets;
        self.runs.push_back(Run { batch: batch.clone(), packets, octets });
    }

    /// Lets go of the oldest until no more is held than may be; how many packets.
    fn make_room(&mut self) -> u64 {
        let mut lost = 0;
        while self.octets > AHEAD
            && let Some(run) = self.runs.pop_front()
        {
            self.octets -= run.octets;
            lost += run.packets.len() as u64;
            self.due = None;
        }
        lost
    }

    /// Lets go of all; how many packets.
    fn clear(&mut self) -> u64 {
        (self.octets, self.due) = (0, None);
        self.runs.drain(..).map(|run| run.packets.len() as u64).sum()
    }

    fn release(&mut self, feed: &mut Feed, now: Monotonic) {
        while let Some(run) = self.runs.front_mut() {
            let start = run.packets.start;
            while let Some(packet) = run.batch.packets.get(run.packets.clone()).and_then(<[_]>::first) {
                let pacer = &mut self.pacer;
                let due = *self.due.get_or_insert_with(|| pacer.due(packet.timestamp, packet.caplen, now));
                if due > now {
                    break;
                }
                self.due = None;
                run.packets.start += 1;
            }
            let_go(feed, &run.batch, start..run.packets.start, now);
            if !run.packets.is_empty() {
                return;
            }
            self.octets -= run.octets;
            self.runs.pop_front();
        }
    }
}
