//! One stream of a source, from its first octet to its last: read, decode, hand over.
//!
//! A reader that cannot hand over its packets waits, and with it, through its socket or pipe,
//! whoever sends them.

use std::fmt;
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use pcaphub_core::filter::{Filters, Marker, Unfit};
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::pace::Pacer;
use pcaphub_core::stats::DropReason;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::circle::{Circle, Verdict};
use crate::clock::wall_clock;
use crate::event::Event;
use crate::framing::{Decoded, Framing, decoder_options};
use crate::intake::{Intake, Message};
use crate::parcel::Parcel;
use crate::presence::Presence;
use crate::shutdown::Phase;
use crate::source::{self, Captured, Habit, PacketReader};
use crate::thread::block_until;

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

/// Where a stream is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a task, which ends before the runtime does.
    Task,
    /// On a thread of its own, which may outlive the runtime: its timers panic then.
    Thread,
}

/// One stream while it is read.
pub struct Reading {
    intake: Intake,
    stream: u64,
    name: Arc<str>,
    place: Place,
    framing: Framing,
    budget: Arc<Semaphore>,
    presence: Option<Arc<Presence>>,
    /// Of a stream that may come from a hub.
    circle: Option<Circle>,
    /// Its source's filter, and those of the sinks.
    own_filter: Lens,
    filters: Lens,
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
        let offset = intake.spec.clock_offset.saturating_add(intake.turning().shift);
        let pacer = intake.turning().pacer.take();
        Reading {
            framing: Framing::new(shared.pool.clone(), options, interfaces, offset)
                .with_allowance(shared.large.clone()),
            budget: Arc::new(Semaphore::new(intake.budget)),
            presence,
            circle: (shared.sends && kind.is_some_and(|kind| kind.habit != Habit::Once))
                .then(Circle::default),
            own_filter: Lens::new(intake.filter.clone(), shared.interfaces.clone()),
            filters: Lens::new(shared.filters.clone(), shared.interfaces.clone()),
            pacer: pacer.or_else(|| intake.spec.pace.map(Pacer::new)),
            announced: false,
            limit_told: false,
            released: !intake.gated,
            stream,
            name: name.clone(),
            place: Place::Task,
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
        self.place = Place::Thread;
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
        self.place = Place::Thread;
        self.circle = None;
        let linktype = reader.linktype();
        self.announce_as(Format::PcapNs, Some(linktype)).await;
        on_thread(move || {
            let mut is_down = false;
            loop {
                if std::mem::replace(&mut is_down, reader.is_down()) != is_down {
                    let away = is_down.then(|| "the interface is down".to_owned());
                    self.intake.shared.books.source(self.intake.source, |counts| counts.away = away);
                }
                let last = self.intake.shutdown.phase() >= Phase::Draining;
                let captured = match reader.read(&mut self.intake.shared.interfaces, last) {
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
            Ok(()) if self.intake.spec.repeat != 1 => {
                self.intake.turning().pacer = self.pacer.take();
                End::Clean
            }
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
        let repeats = self.intake.spec.repeat != 1;
        let told = repeats && std::mem::replace(&mut self.intake.turning().told, true);
        if let Some(linktype) = linktype
            && !told
        {
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
                self.pass_on(self.intake.parcel(decoded)).await?;
                return Err(End::Circle);
            }
        }
        if self.intake.spec.repeat != 1 {
            self.intake.turning().turn.saw(&decoded.batch);
        }
        self.shape(&mut decoded);
        let parcel = self.intake.parcel(decoded);
        match self.pacer.is_some() {
            true => self.paced(parcel).await?,
            false => self.pass_on(parcel).await?,
        }
        if self.intake.is_done() { Err(End::Unwanted) } else { Ok(()) }
    }

    /// Leaves out what is not to be kept.
    fn shape(&mut self, decoded: &mut Decoded) {
        if let Some(filter) = self.own_filter.present() {
            decoded.filtered += filter.keep(&mut decoded.batch);
            while let Some(unfit) = filter.take_error() {
                tell_unfit(&self.intake, &self.name, &unfit);
            }
        }
        decoded.filtered += self.intake.shaper().choose(&mut decoded.batch);
    }

    /// Passes packets on when they are due.
    async fn paced(&mut self, mut parcel: Parcel) -> Progress {
        self.admitted().await?;
        let clock = self.intake.shared.clock;
        self.pass_on(parcel.up_to(0)).await?;
        let mut index = 0;
        while let (Some(packet), Some(pacer)) = (parcel.decoded().batch.packets.get(index), &mut self.pacer) {
            let due = pacer.due(packet.timestamp, packet.caplen, clock.now());
            if due > clock.now() {
                self.pass_on(parcel.up_to(index)).await?;
                self.wait_until(clock.instant(due)).await?;
            }
            index += 1;
        }
        self.pass_on(parcel.rest()).await
    }

    /// Returns when it is time.
    async fn wait_until(&self, due: tokio::time::Instant) -> Progress {
        let ending = self.intake.shutdown.reached(Phase::Draining);
        let ended = match self.place {
            Place::Task => tokio::time::timeout_at(due, ending).await.is_ok(),
            Place::Thread => {
                let mut ending = std::pin::pin!(ending);
                block_until(due.into_std(), |cx| ending.as_mut().poll(cx)).is_some()
            }
        };
        if ended { Err(End::Unwanted) } else { Ok(()) }
    }

    /// Returns once somebody is there to read.
    async fn admitted(&mut self) -> Progress {
        if !self.released {
            tokio::select! {
                () = self.intake.shared.gate.passed() => self.released = true,
                () = self.intake.shutdown.reached(Phase::Draining) => return Err(End::Unwanted),
            }
        }
        Ok(())
    }

    async fn pass_on(&mut self, mut parcel: Parcel) -> Progress {
        let decoded = parcel.decoded();
        let counts = decoded.dropped.total() + decoded.anomalies.total() + decoded.filtered;
        if decoded.batch.is_empty() && counts == 0 {
            return Ok(());
        }
        // A thread that was left behind in a read.
        if self.intake.shutdown.phase() >= Phase::Stopping {
            return Err(End::Unwanted);
        }
        self.admitted().await?;
        let later = self.intake.shared.times_later.load(Ordering::Relaxed);
        let decoded = parcel.decoded_mut();
        self.intake.shaper().alter(&mut decoded.batch, (!later).then(wall_clock));
        if let Some(filters) = self.filters.present() {
            filters.mark(&mut decoded.batch);
            while let Some(unfit) = filters.take_error() {
                tell_unfit(&self.intake, &self.name, &unfit);
            }
        }
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
            () = self.intake.shutdown.reached(Phase::Stopping) => return Err(End::Unwanted),
        };
        let ticket = (ticket, decoded.large.take());
        let message = Message::Packets {
            source: self.intake.source,
            stream: self.stream,
            parcel: Box::new(parcel),
            arrival: shared.clock.now(),
            ticket,
        };
        shared.queue.send(message).await.map_err(|_| End::Unwanted)
    }
}

fn tell_unfit(intake: &Intake, source: &str, Unfit { filter, why }: &Unfit) {
    let event = Event::FilterUnfit { whose: filter.whose(), filter: filter.text(), source, why };
    intake.shared.events.emit(event);
}

/// Filters that may change, as one stream runs them.
struct Lens {
    filters: watch::Receiver<Filters>,
    interfaces: Interfaces,
    marker: Option<Marker>,
    /// Nothing was made of them yet.
    fresh: bool,
}

impl Lens {
    fn new(filters: watch::Receiver<Filters>, interfaces: Interfaces) -> Self {
        Lens { filters, interfaces, marker: None, fresh: true }
    }

    /// Those that hold now, if there are any.
    fn present(&mut self) -> Option<&mut Marker> {
        // That nobody can change them any more changes nothing.
        if std::mem::take(&mut self.fresh) || self.filters.has_changed().unwrap_or(false) {
            let filters = self.filters.borrow_and_update().clone();
            self.marker = (!filters.is_empty()).then(|| Marker::new(filters, self.interfaces.clone()));
        }
        self.marker.as_mut()
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
