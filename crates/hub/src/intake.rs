//! What passes between a source's streams and the hub: messages, and what all streams share.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pcaphub_core::buffer::Pool;
use pcaphub_core::filter::Filters;
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::pace::Pacer;
use pcaphub_core::repeat::Turn;
use pcaphub_core::shape::Shaper;
use pcaphub_core::time::Monotonic;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use crate::allowance::{Allowance, Taken};
use crate::clock::Clock;
use crate::event::Events;
use crate::framing::Decoded;
use crate::gate::Gate;
use crate::parcel::Parcel;
use crate::plan::SourceSpec;
use crate::rounds::GoOn;
use crate::shutdown::Shutdown;
use crate::stats::Books;

/// What the hub hears from its sources. Boxed parts keep it small.
pub enum Message {
    /// A stream said what it is.
    Opened {
        /// Which source, in the order given.
        source: usize,
        /// Which of its streams; unique in the hub.
        stream: u64,
        /// What it is written in.
        format: Format,
        /// Its first linktype, if it told any before it ended.
        linktype: Option<LinkType>,
    },
    /// Packets of it.
    Packets {
        /// Which source.
        source: usize,
        /// Which stream.
        stream: u64,
        /// The packets, and what was lost or odd.
        parcel: Box<Parcel>,
        /// When they were read.
        arrival: Monotonic,
        /// What they are charged; given back when it is dropped.
        ticket: Ticket,
    },
    /// It is gone; the source may come back.
    Closed {
        /// Which source.
        source: usize,
        /// Which stream.
        stream: u64,
    },
    /// A file that is read again and again has been read once more.
    Turned {
        /// Which source.
        source: usize,
        /// What was read.
        turn: Turn,
        /// Lets the next turn begin.
        go_on: GoOn,
    },
    /// A source could not be opened; it will be tried again.
    Away {
        /// Which source.
        source: usize,
    },
    /// A source has ended for good.
    Ended {
        /// Which source.
        source: usize,
        /// What went wrong, if anything.
        error: Option<String>,
    },
}

/// Octets that a source may not read again before these packets have moved on, and memory that is
/// theirs until then.
pub type Ticket = (Option<OwnedSemaphorePermit>, Option<Taken>);

/// What all sources of a hub share.
#[derive(Clone)]
pub struct Shared {
    /// Where their packets go.
    pub queue: mpsc::Sender<Message>,
    /// What holds packets back until somebody reads.
    pub gate: Gate,
    /// Buffers.
    pub pool: Pool,
    /// Memory for records that are larger than those.
    pub large: Allowance,
    /// The hub's interface table.
    pub interfaces: Interfaces,
    /// Where to say what happens.
    pub events: Events,
    /// Where packets are counted that the hub does not take.
    pub books: Books,
    /// The hub's clock.
    pub clock: Clock,
    /// Streams of one listening source.
    pub max_producers: usize,
    /// How long one of them must have been silent to make room for another.
    pub producer_silence: Duration,
    /// Whether what the hub sends could come back to it.
    pub sends: bool,
    /// The filters of all sinks, which may change.
    pub filters: watch::Receiver<Filters>,
    /// Whether packets that are to have the time of the moment get that where they are let go, behind the merge.
    pub times_later: Arc<AtomicBool>,
    /// Numbers streams.
    pub next_stream: Arc<AtomicU64>,
}

/// What the streams of one source have in common.
#[derive(Clone)]
pub struct Intake {
    /// What all sources have.
    pub shared: Shared,
    /// Which source, in the order given.
    pub source: usize,
    /// What was asked for.
    pub spec: SourceSpec,
    /// Whether packets are only read once somebody is there for them.
    pub gated: bool,
    /// What each stream may have in the queue and the merge, in octets.
    pub budget: usize,
    /// Its own filter, if it has one; it may change.
    pub filter: watch::Receiver<Filters>,
    /// What stops this source.
    pub shutdown: Shutdown,
    /// What is kept of its packets, counted over all its streams.
    pub shaper: Arc<Mutex<Shaper>>,
    /// What a file that is read again and again takes from one turn to the next.
    pub turning: Arc<Mutex<Turning>>,
}

/// A file that is read again and again, in one turn.
#[derive(Debug, Default)]
pub struct Turning {
    /// What is added to its times, in nanoseconds.
    pub shift: i64,
    /// What was read.
    pub turn: Turn,
    /// Its pace, while it is not read.
    pub pacer: Option<Pacer>,
    /// Whether it was told what it is: that is told once.
    pub told: bool,
}

impl Intake {
    /// Whether it has brought all the packets that it may.
    pub fn is_done(&self) -> bool {
        self.shaper().is_done()
    }

    /// Its turn.
    pub fn turning(&self) -> MutexGuard<'_, Turning> {
        self.turning.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is kept.
    pub fn shaper(&self) -> MutexGuard<'_, Shaper> {
        self.shaper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was read, on its way to the hub.
    pub fn parcel(&self, decoded: Decoded) -> Parcel {
        Parcel::new(decoded, self.source, self.shared.books.clone())
    }

    /// Hands a message to the hub; that it no longer listens is found by its shutdown.
    pub async fn send(&self, message: Message) {
        let _ = self.shared.queue.send(message).await;
    }
}
