//! One stream of a source, from its first octet to its last: read, decode, hand over.
//!
//! A reader that cannot hand over its packets waits, and with it, through its socket or pipe,
//! whoever sends them.

use std::fmt;
use std::io::Read;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pcaphub_core::buffer::Pool;
use pcaphub_core::filter::{CompileError, Filter, Marker};
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::pace::Pacer;
use pcaphub_core::repeat::Repeat;
use pcaphub_core::shape::Shaper;
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::Monotonic;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::allowance::{Allowance, Taken};
use crate::circle::{Circle, Verdict};
use crate::clock::{Clock, wall_clock};
use crate::event::{Event, Events};
use crate::framing::{Decoded, Framing, decoder_options};
use crate::gate::Gate;
use crate::plan::SourceSpec;
use crate::presence::Presence;
use crate::shutdown::{Phase, Shutdown};
use crate::source::{self, Captured, Habit, PacketReader};

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
        decoded: Box<Decoded>,
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
    /// What stops them.
    pub shutdown: Shutdown,
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
    /// The hub's clock.
    pub clock: Clock,
    /// Streams of one listening source.
    pub max_producers: usize,
    /// How long one of them must have been silent to make room for another.
    pub producer_silence: Duration,
    /// Whether what the hub sends could come back to it.
    pub sends: bool,
    /// The filters of all sinks.
    pub filters: Arc<[Filter]>,
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
    /// Its own filter, if it has one.
    pub filter: Arc<[Filter]>,
    /// What is kept of its packets, counted over all its streams.
    pub shaper: Arc<Mutex<Shaper>>,
    /// How far a file that is read again and again has come.
    pub repeat: Arc<Mutex<Repeat>>,
}

impl Intake {
    /// Whether it has brought all the packets that it may.
    pub fn is_done(&self) -> bool {
        self.shaper().is_done()
    }

    /// Its turns.
    pub fn repeat(&self) -> MutexGuard<'_, Repeat> {
        self.repeat.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shaper(&self) -> MutexGuard<'_, Shaper> {
        self.shaper.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a message to the hub; that it no longer listens is found by its shutdown.
    pub async fn send(&self, message: Message) {
        let _ = self.shared.queue.send(message).await;
    }
}

/// How a stream ended.
pub enum End {
    /// At a record's boundary.
    Clean,
    /// Nobody said anything: a port scan, or a listener that is not ready.
    Silent,
    /// In an error.
    Broken(String),
    /// It brought our own packets back: no use to try again soon.
    Circle,
    /// The hub does not want more.
    Unwanted,
}

/// What came of octets: go on, or the stream is over.
type Progress = Result<(), End>;

/// One stream while it is read.
pub struct Reading {
    intake: Intake,
    stream: u64,
    name: Arc<str>,
    framing: Framing,
    budget: Arc<Semaphore>,
    presence: Option<Arc<Presence>>,
    /// Of a stream that may come from a hub.
    circle: Option<Circle>,
    /// Its source's filter, and those of the sinks.
    own_filter: Option<Marker>,
    filters: Marker,
    pacer: Option<Pacer>,
    announced: bool,
    released: bool,
    /// Whether it was told that it has too many interfaces.
    limit_told: bool,
    octets: u64,
    packets: u64,
}

impl Reading {
    /// Stream number `stream` of a source, called `name`.
    pub fn new(intake: &Intake, stream: u64, name: &Arc<str>, presence: Option<Arc<Presence>>) -> Self {
        let shared = &intake.shared;
        let kind = source::kind(&intake.spec);
        let options = decoder_options(name, intake.spec.named, intake.spec.linktype);
        let interfaces = shared.interfaces.clone();
        let offset = intake.spec.clock_offset.saturating_add(intake.repeat().shift());
        Reading {
            framing: Framing::new(shared.pool.clone(), options, interfaces, offset)
                .with_allowance(shared.large.clone()),
            budget: Arc::new(Semaphore::new(intake.budget)),
            presence,
            circle: (shared.sends && kind.is_some_and(|kind| kind.habit != Habit::Once))
                .then(Circle::default),
            own_filter: (!intake.filter.is_empty())
                .then(|| Marker::new(intake.filter.clone(), shared.interfaces.clone())),
            filters: Marker::new(shared.filters.clone(), shared.interfaces.clone()),
            pacer: intake.spec.pace.map(Pacer::new),
            announced: false,
            limit_told: false,
            released: !intake.gated,
            stream,
            name: name.clone(),
            octets: 0,
            packets: 0,
            intake: intake.clone(),
        }
    }

    /// Reads on this task.
    pub async fn on_task(mut self, mut reader: Box<dyn AsyncRead + Send + Unpin>) -> End {
        let presence = self.presence.take();
        loop {
            let read = tokio::select! {
                biased;
                read = reader.read(self.framing.spare()) => read,
                () = until_cut(presence.as_deref()) => {
                    return self.broken(&"cut: it was the longest-silent one when another producer came (--max-producers)");
                }
            };
            let progress = match read {
                Ok(n) => self.received(n).await,
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                    Err(self.broken(&"it answers nothing any more (--keepalive)"))
                }
                Err(error) => Err(self.broken(&format!("reading failed: {error}"))),
            };
            if let Err(end) = progress {
                return end;
            }
            if let Some(presence) = &presence {
                presence.heard(self.intake.shared.clock.now(), self.announced);
            }
        }
    }

    /// Reads on a thread of its own.
    pub async fn on_thread(mut self, mut reader: Box<dyn Read + Send>) -> End {
        let handle = Handle::current();
        // A thread that blocks in read() cannot be told to stop: it is left behind at the end.
        on_thread(move || {
            loop {
                let progress = match reader.read(self.framing.spare()) {
                    Ok(n) => handle.block_on(self.received(n)),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
                    Err(error) => Err(self.broken(&format!("reading failed: {error}"))),
                };
                if let Err(end) = progress {
                    return end;
                }
            }
        })
        .await
    }

    /// Takes packets that need no decoding, on a thread of its own. When the hub drains, those that were
    /// captured by then still come.
    pub async fn capturing(mut self, mut reader: Box<dyn PacketReader>) -> End {
        let handle = Handle::current();
        self.circle = None;
        let linktype = reader.linktype();
        self.announce_as(Format::PcapNs, Some(linktype)).await;
        on_thread(move || {
            loop {
                let shared = &mut self.intake.shared;
                let last = shared.shutdown.phase() >= Phase::Draining;
                let captured = match reader.read(&mut shared.interfaces, last) {
                    Ok(Some(captured)) => captured,
                    Ok(None) => return End::Unwanted,
                    Err(error) => return self.broken(&error),
                };
                if let Err(end) = handle.block_on(self.captured(captured)) {
                    return end;
                }
            }
        })
        .await
    }

    async fn captured(&mut self, captured: Captured) -> Progress {
        let Captured { mut batch, dropped } = captured;
        let offset = self.intake.spec.clock_offset;
        if offset != 0 {
            batch.verbatim = None;
            batch.packets.iter_mut().for_each(|packet| packet.timestamp = packet.timestamp.shifted(offset));
        }
        let octets = batch.buffer.len() as u64;
        self.hand_over(Decoded { batch, dropped, octets, ..Decoded::default() }).await
    }

    /// `n` octets are in the buffer; none is the end of the stream.
    async fn received(&mut self, n: usize) -> Progress {
        if n == 0 {
            return Err(self.finished().await);
        }
        self.octets += n as u64;
        let (decoded, result) = self.framing.received(n, wall_clock());
        self.announce(false).await;
        self.hand_over(decoded).await?;
        result.map_err(|error| self.broken(&error))
    }

    async fn finished(&mut self) -> End {
        if self.octets == 0 {
            return End::Silent;
        }
        self.announce(true).await;
        match self.framing.finish() {
            Ok(()) if self.intake.spec.repeat != 1 => End::Clean,
            Ok(()) => {
                self.intake
                    .shared
                    .events
                    .emit(Event::SourceEnded { source: &self.name, packets: self.packets });
                End::Clean
            }
            Err(error) => self.broken(&error),
        }
    }

    fn broken(&self, why: &dyn fmt::Display) -> End {
        End::Broken(why.to_string())
    }

    /// Tells the hub what the stream is, as soon as that is known.
    async fn announce(&mut self, last: bool) {
        let decoder = self.framing.decoder();
        let (Some(format), linktype) = (decoder.format(), decoder.linktype()) else { return };
        if !self.announced && (linktype.is_some() || last) {
            self.announce_as(format, linktype).await;
        }
    }

    async fn announce_as(&mut self, format: Format, linktype: Option<LinkType>) {
        self.announced = true;
        if let Some(linktype) = linktype {
            self.intake.shared.events.emit(Event::SourceOpened {
                source: &self.name,
                format: &format,
                linktype,
            });
        }
        let (source, stream) = (self.intake.source, self.stream);
        self.intake.send(Message::Opened { source, stream, format, linktype }).await;
    }

    async fn hand_over(&mut self, mut decoded: Decoded) -> Progress {
        let now = self.intake.shared.clock.now();
        let verdict = self.circle.as_mut().map(|circle| circle.inspect(&mut decoded.batch, now));
        match verdict.unwrap_or(Verdict::Fine(0)) {
            Verdict::Fine(held_back) => decoded.dropped.add(DropReason::Circle, held_back),
            Verdict::Circle => {
                self.shape(&mut decoded);
                self.pass_on(decoded).await?;
                return Err(End::Circle);
            }
        }
        if self.intake.spec.repeat != 1 {
            self.intake.repeat().saw(&decoded.batch);
        }
        self.shape(&mut decoded);
        match self.pacer.is_some() {
            true => self.paced(decoded).await?,
            false => self.pass_on(decoded).await?,
        }
        if self.intake.is_done() { Err(End::Unwanted) } else { Ok(()) }
    }

    /// Leaves out what is not to be kept.
    fn shape(&mut self, decoded: &mut Decoded) {
        if let Some(filter) = &mut self.own_filter {
            decoded.filtered += filter.keep(&mut decoded.batch);
            let error = filter.take_error();
            self.unfit(error);
        }
        decoded.filtered += self.intake.shaper().choose(&mut decoded.batch);
    }

    fn unfit(&self, error: Option<Arc<CompileError>>) {
        if let Some(error) = error {
            self.intake.shared.events.emit(Event::FilterUnfit { source: &self.name, why: &error });
        }
    }

    /// Passes packets on when they are due.
    async fn paced(&mut self, mut decoded: Decoded) -> Progress {
        self.admitted().await?;
        let (clock, shutdown) = (self.intake.shared.clock, self.intake.shared.shutdown.clone());
        let batch = std::mem::take(&mut decoded.batch);
        let large = decoded.large.take();
        self.pass_on(decoded).await?;
        let mut start = 0;
        for (index, packet) in batch.packets.iter().enumerate() {
            let Some(pacer) = &mut self.pacer else { break };
            let due = pacer.due(packet.timestamp, packet.caplen, clock.now());
            if due <= clock.now() {
                continue;
            }
            self.pass_on(Decoded { batch: batch.part(start..index), ..Decoded::default() }).await?;
            start = index;
            tokio::select! {
                () = tokio::time::sleep_until(clock.instant(due)) => {}
                () = shutdown.reached(Phase::Draining) => return Err(End::Unwanted),
            }
        }
        let batch = batch.part(start..batch.packets.len());
        self.pass_on(Decoded { batch, large, ..Decoded::default() }).await
    }

    /// Returns once somebody is there to read.
    async fn admitted(&mut self) -> Progress {
        if !self.released {
            let shared = &self.intake.shared;
            tokio::select! {
                () = shared.gate.passed() => self.released = true,
                () = shared.shutdown.reached(Phase::Draining) => return Err(End::Unwanted),
            }
        }
        Ok(())
    }

    async fn pass_on(&mut self, mut decoded: Decoded) -> Progress {
        let counts = decoded.dropped.total() + decoded.anomalies.total() + decoded.filtered;
        if decoded.batch.is_empty() && counts == 0 {
            return Ok(());
        }
        self.admitted().await?;
        self.intake.shaper().alter(&mut decoded.batch, wall_clock());
        self.filters.mark(&mut decoded.batch);
        let error = self.filters.take_error();
        self.unfit(error);
        let shared = &self.intake.shared;
        if decoded.dropped.of(DropReason::InterfaceLimit) > 0
            && !std::mem::replace(&mut self.limit_told, true)
        {
            shared.events.emit(Event::InterfaceLimit { source: &self.name });
        }
        self.packets += decoded.batch.packets.len() as u64;
        let charge = decoded.batch.buffer.len() + 32 * decoded.batch.packets.len();
        let charge = u32::try_from(charge.min(self.intake.budget)).unwrap_or(u32::MAX);
        let ticket = tokio::select! {
            ticket = self.budget.clone().acquire_many_owned(charge) => ticket.ok(),
            () = shared.shutdown.reached(Phase::Stopping) => return Err(End::Unwanted),
        };
        let ticket = (ticket, decoded.large.take());
        let message = Message::Packets {
            source: self.intake.source,
            stream: self.stream,
            decoded: Box::new(decoded),
            arrival: shared.clock.now(),
            ticket,
        };
        shared.queue.send(message).await.map_err(|_| End::Unwanted)
    }
}

/// Runs `read` on a thread of its own; how the stream ended.
async fn on_thread(read: impl FnOnce() -> End + Send + 'static) -> End {
    let (ended, end) = tokio::sync::oneshot::channel();
    let read = move || drop(ended.send(read()));
    match std::thread::Builder::new().name("source".into()).spawn(read) {
        Ok(_) => end.await.unwrap_or(End::Unwanted),
        Err(error) => End::Broken(format!("cannot start a thread: {error}")),
    }
}

/// Returns when a producer has to go; never for a stream that is none.
async fn until_cut(presence: Option<&Presence>) {
    match presence {
        Some(presence) => presence.until_cut().await,
        None => std::future::pending().await,
    }
}
