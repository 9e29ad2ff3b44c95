//! From a source's streams to the hub's queue: read, decode, hand over; open again when due.
//!
//! A reader that cannot hand over its packets waits, and with it, through its socket or pipe,
//! whoever sends them.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use pcaphub_core::buffer::Pool;
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::Monotonic;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::access::REST;
use crate::allowance::{Allowance, Taken};
use crate::circle::{Circle, Verdict};
use crate::clock::{Clock, wall_clock};
use crate::event::{Event, Events};
use crate::framing::{Decoded, Framing, decoder_options};
use crate::gate::Gate;
use crate::plan::{Reconnect, SourceSpec};
use crate::presence::{Presence, Producers};
use crate::retry::{Backoff, LONGEST};
use crate::shutdown::{Phase, Shutdown};
use crate::source::{self, Habit, OpenError, Opened, Reader, Source, SourceKind};

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
    /// Numbers streams.
    pub next_stream: Arc<AtomicU64>,
}

/// One source while it runs.
#[derive(Clone)]
pub struct Ingest {
    shared: Shared,
    source: usize,
    spec: SourceSpec,
    reconnect: Reconnect,
    /// Whether it reads packets only once somebody is there for them.
    gated: bool,
    /// What each stream may have in the queue and the merge, in octets.
    budget: usize,
}

/// What to do about a circle.
const CIRCLE: &str = "it brings back packets that came from here: hubs dial each other in a circle; \
                      remove one of the links";

/// How a stream ended.
enum End {
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

impl Ingest {
    /// Source number `source` of a hub.
    pub fn new(
        shared: Shared,
        source: usize,
        spec: SourceSpec,
        reconnect: Reconnect,
        gated: bool,
        budget: usize,
    ) -> Self {
        Ingest { shared, source, spec, reconnect, gated, budget }
    }

    /// Reads the source until it has ended or the hub stops.
    pub async fn run(self, source: Box<dyn Source>, kind: &'static SourceKind) {
        let shutdown = self.shared.shutdown.clone();
        let error = tokio::select! {
            error = async { match kind.habit {
                Habit::Many => self.side_by_side(source).await,
                habit => self.in_turn(source, habit).await,
            }} => error,
            () = shutdown.reached(Phase::Draining) => None,
        };
        if let Some(why) = &error {
            self.shared.events.emit(Event::SourceFailed { source: &self.spec.name, why });
        }
        self.send(Message::Ended { source: self.source, error }).await;
    }

    /// Streams one after the other; what went wrong if the last one ended in an error.
    async fn in_turn(&self, mut source: Box<dyn Source>, habit: Habit) -> Option<String> {
        let mut backoff = Backoff::default();
        loop {
            let started = Instant::now();
            let end = match source.next().await {
                Ok(Some(opened)) => self.read(opened, None).await,
                Ok(None) => return None,
                Err(OpenError::Never(why)) => return Some(why),
                Err(OpenError::Later(why) | OpenError::Pressed(why)) => {
                    self.send(Message::Away { source: self.source }).await;
                    End::Broken(why)
                }
            };
            let in_a_circle = matches!(end, End::Circle);
            let why = match (end, self.reconnect) {
                (End::Unwanted, _) => return None,
                (End::Clean, Reconnect::Error | Reconnect::No) => return None,
                (End::Clean, _) if habit == Habit::Once => return None,
                (End::Clean, Reconnect::Always) => "it closed".to_owned(),
                (End::Silent, Reconnect::No) => return Some("it closed without a single octet".into()),
                (End::Silent, _) if habit == Habit::Once => {
                    return Some("it is empty: not even a header".into());
                }
                (End::Silent, _) => "it closed without a single octet".to_owned(),
                (End::Broken(why), Reconnect::No) => return Some(why),
                (End::Broken(why), _) if habit == Habit::Once => return Some(why),
                (End::Broken(why), _) => why,
                (End::Circle, Reconnect::No) => return Some(CIRCLE.into()),
                (End::Circle, _) => CIRCLE.to_owned(),
            };
            let pause = if in_a_circle { LONGEST } else { backoff.next_pause(started.elapsed()) };
            self.shared.events.emit(Event::SourceRetried { source: &self.spec.name, why: &why, pause });
            tokio::time::sleep(pause).await;
        }
    }

    /// Streams as they come. With `reconnect=no` the source has ended when its producers have.
    async fn side_by_side(&self, mut source: Box<dyn Source>) -> Option<String> {
        let mut streams = JoinSet::new();
        let mut producers = Producers::new(self.shared.max_producers, self.shared.producer_silence);
        loop {
            tokio::select! {
                opened = source.next() => match opened {
                    Ok(Some(opened)) => match producers.admit(self.shared.clock.now()) {
                        Some(presence) => {
                            let ingest = self.clone();
                            streams.spawn(async move { ingest.produce(opened, presence).await });
                        }
                        None => self.refuse(&opened),
                    },
                    Ok(None) => return None,
                    Err(OpenError::Pressed(_)) => {
                        producers.cut_longest_silent(self.shared.clock.now());
                        tokio::time::sleep(REST).await;
                    }
                    Err(OpenError::Never(why) | OpenError::Later(why)) => return Some(why),
                },
                Some(ended) = streams.join_next() => {
                    producers.tidy();
                    if self.reconnect == Reconnect::No && streams.is_empty() {
                        return ended.ok().flatten();
                    }
                }
            }
        }
    }

    fn refuse(&self, opened: &Opened) {
        let (source, peer) = (&self.spec.name, &opened.name);
        let why = "there are as many producers as --max-producers allows, and all are at work";
        self.shared.events.emit(Event::ProducerRefused { source, peer, why });
    }

    /// One producer's stream; what went wrong with it.
    async fn produce(&self, opened: Opened, presence: Arc<Presence>) -> Option<String> {
        let name = opened.name.clone();
        match self.read(opened, Some(presence)).await {
            End::Clean | End::Unwanted => None,
            End::Silent => {
                let why = &"a producer connected and sent nothing";
                self.shared.events.emit(Event::ProducerSilent { source: &name, why });
                None
            }
            End::Broken(why) => {
                self.shared.events.emit(Event::SourceFailed { source: &name, why: &why });
                Some(why)
            }
            End::Circle => {
                self.shared.events.emit(Event::SourceFailed { source: &name, why: &CIRCLE });
                Some(CIRCLE.into())
            }
        }
    }

    /// One stream from its first octet to its last.
    async fn read(&self, opened: Opened, presence: Option<Arc<Presence>>) -> End {
        let stream = self.shared.next_stream.fetch_add(1, Ordering::Relaxed);
        let reading = Reading::new(self, stream, &opened.name, presence);
        let _place = opened.place;
        let mut end = match opened.reader {
            Reader::Async(reader) => reading.on_task(reader).await,
            Reader::Blocking(reader) => reading.on_thread(reader).await,
        };
        if let Some(child) = opened.child {
            let status = child.ended().await;
            let failed = status.filter(|status| !status.success());
            if let (End::Clean | End::Silent, Some(status)) = (&end, failed) {
                end = End::Broken(format!("the command ended with {status}"));
            }
        }
        self.send(Message::Closed { source: self.source, stream }).await;
        end
    }

    /// Hands a message to the hub; that it no longer listens is found by its shutdown.
    async fn send(&self, message: Message) {
        let _ = self.shared.queue.send(message).await;
    }
}

/// One stream while it is read.
struct Reading {
    ingest: Ingest,
    stream: u64,
    name: Arc<str>,
    framing: Framing,
    budget: Arc<Semaphore>,
    presence: Option<Arc<Presence>>,
    /// Of a stream that may come from a hub.
    circle: Option<Circle>,
    announced: bool,
    released: bool,
    /// Whether it was told that it has too many interfaces.
    limit_told: bool,
    octets: u64,
    packets: u64,
}

/// What came of octets: go on, or the stream is over.
type Progress = Result<(), End>;

impl Reading {
    fn new(ingest: &Ingest, stream: u64, name: &Arc<str>, presence: Option<Arc<Presence>>) -> Self {
        let shared = &ingest.shared;
        let kind = source::kind(&ingest.spec);
        let options = decoder_options(name, ingest.spec.named, ingest.spec.linktype);
        let interfaces = shared.interfaces.clone();
        Reading {
            framing: Framing::new(shared.pool.clone(), options, interfaces, ingest.spec.clock_offset)
                .with_allowance(shared.large.clone()),
            budget: Arc::new(Semaphore::new(ingest.budget)),
            presence,
            circle: (shared.sends && kind.is_some_and(|kind| kind.habit != Habit::Once))
                .then(Circle::default),
            announced: false,
            limit_told: false,
            released: !ingest.gated,
            stream,
            name: name.clone(),
            octets: 0,
            packets: 0,
            ingest: ingest.clone(),
        }
    }

    async fn on_task(mut self, mut reader: Box<dyn AsyncRead + Send + Unpin>) -> End {
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
                presence.heard(self.ingest.shared.clock.now(), self.announced);
            }
        }
    }

    async fn on_thread(mut self, mut reader: Box<dyn Read + Send>) -> End {
        let (ended, end) = tokio::sync::oneshot::channel();
        let handle = Handle::current();
        let read = move || {
            let end = loop {
                let progress = match reader.read(self.framing.spare()) {
                    Ok(n) => handle.block_on(self.received(n)),
                    Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
                    Err(error) => Err(self.broken(&format!("reading failed: {error}"))),
                };
                if let Err(end) = progress {
                    break end;
                }
            };
            let _ = ended.send(end);
        };
        // A thread that blocks in read() cannot be told to stop: it is left behind at the end.
        match std::thread::Builder::new().name("source".into()).spawn(read) {
            Ok(_) => end.await.unwrap_or(End::Unwanted),
            Err(error) => End::Broken(format!("cannot start a thread: {error}")),
        }
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
            Ok(()) => {
                self.ingest
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
        if self.announced || (linktype.is_none() && !last) {
            return;
        }
        self.announced = true;
        if let Some(linktype) = linktype {
            self.ingest.shared.events.emit(Event::SourceOpened {
                source: &self.name,
                format: &format,
                linktype,
            });
        }
        let (source, stream) = (self.ingest.source, self.stream);
        self.ingest.send(Message::Opened { source, stream, format, linktype }).await;
    }

    async fn hand_over(&mut self, mut decoded: Decoded) -> Progress {
        let now = self.ingest.shared.clock.now();
        let verdict = self.circle.as_mut().map(|circle| circle.inspect(&mut decoded.batch, now));
        match verdict.unwrap_or(Verdict::Fine(0)) {
            Verdict::Fine(held_back) => decoded.dropped.add(DropReason::Circle, held_back),
            Verdict::Circle => {
                self.pass_on(decoded).await?;
                return Err(End::Circle);
            }
        }
        self.pass_on(decoded).await
    }

    async fn pass_on(&mut self, mut decoded: Decoded) -> Progress {
        let nothing =
            decoded.batch.is_empty() && decoded.dropped.total() == 0 && decoded.anomalies.total() == 0;
        if nothing {
            return Ok(());
        }
        let shared = &self.ingest.shared;
        if !self.released {
            tokio::select! {
                () = shared.gate.passed() => self.released = true,
                () = shared.shutdown.reached(Phase::Draining) => return Err(End::Unwanted),
            }
        }
        if decoded.dropped.of(DropReason::InterfaceLimit) > 0
            && !std::mem::replace(&mut self.limit_told, true)
        {
            shared.events.emit(Event::InterfaceLimit { source: &self.name });
        }
        self.packets += decoded.batch.packets.len() as u64;
        let charge = decoded.batch.buffer.len() + 32 * decoded.batch.packets.len();
        let charge = u32::try_from(charge.min(self.ingest.budget)).unwrap_or(u32::MAX);
        let ticket = tokio::select! {
            ticket = self.budget.clone().acquire_many_owned(charge) => ticket.ok(),
            () = shared.shutdown.reached(Phase::Stopping) => return Err(End::Unwanted),
        };
        let ticket = (ticket, decoded.large.take());
        let message = Message::Packets {
            source: self.ingest.source,
            stream: self.stream,
            decoded: Box::new(decoded),
            arrival: shared.clock.now(),
            ticket,
        };
        shared.queue.send(message).await.map_err(|_| End::Unwanted)
    }
}

/// Returns when a producer has to go; never for a stream that is none.
async fn until_cut(presence: Option<&Presence>) {
    match presence {
        Some(presence) => presence.until_cut().await,
        None => std::future::pending().await,
    }
}
