//! The hub, and the whole path of a packet in one place.
//!
//! ```text
//! source ─► ingest: read, decode ─► merge: one time order ─► feed: encode once ─► ring ─► deliver ─► sink
//! ```
//!
//! [`Hub::run`] reads top to bottom: open everything, start the sinks, start the sources, and then, for
//! as long as there are sources, take their batches, merge them, and publish what the merge
//! releases to every feed.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pcaphub_core::batch::Batch;
use pcaphub_core::feed::{Announcements, Feed};
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::merge::{LaneId, Merge, Order, WhenIdle};
use pcaphub_core::shape::{Shaper, Time};
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::Monotonic;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::access::Clients;
use crate::allowance::Allowance;
use crate::clock::Clock;
use crate::defaults::{FeedKey, OnSlowRule, budget, format_of, merge_config, reconnect, replays};
use crate::endpoint::{Endpoint, Scheme};
use crate::event::{Event, Events};
use crate::framing;
use crate::gate::Gate;
use crate::ingest::{Ingest, LAST_WORDS};
use crate::opener::Opener;
use crate::outlet::Outlet;
use crate::own_traffic::OwnTraffic;
use crate::plan::{Plan, PlanError, SinkSpec, SourceSpec};
use crate::private::{self, Replay};
use crate::reading::{Intake, Message, Shared, Ticket};
use crate::shutdown::{Phase, Shutdown, shutdown};
use crate::sink::{self, Sink, SinkError, SinkKind};
use crate::snowball::{Advice, Snowball};
use crate::source::{self, Habit, Source, SourceError, SourceKind};
use crate::stats::{Books, Report, SourceReport};

/// Why a hub could not start.
#[derive(Debug, Error)]
pub enum HubError {
    /// The plan cannot work. The operator's fault.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A source could not be set up.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A sink could not be set up.
    #[error("{0}")]
    Sink(#[from] SinkError),
}

/// How a hub ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// All counts, after everything was delivered or given up.
    pub report: Report,
    /// What went wrong, if anything: sources that ended in error, sinks that failed.
    pub errors: Vec<String>,
}

/// Messages that may wait for the hub: each holds at most a batch, whose octets are charged to its
/// stream's budget.
const QUEUE: usize = 64;
/// What is merged and published before the hub looks up again, in octets.
const STEP_OCTETS: usize = 256 * 1024;

/// A hub that is set up: everything that can fail at start has been opened.
pub struct Hub {
    plan: Plan,
    /// The format of the last source, where files are replayed.
    own: Option<Format>,
    shutdown: Shutdown,
    books: Books,
    events: Events,
    clock: Clock,
    interfaces: Interfaces,
    opener: Arc<dyn Opener>,
    own_traffic: OwnTraffic,
    sources: Vec<(Box<dyn Source>, &'static SourceKind)>,
    sinks: Vec<(Box<dyn Sink>, &'static SinkKind)>,
}

/// Opens what a plan names.
///
/// # Errors
/// A plan that cannot work, a file that is not there, an address that is taken.
pub fn open(
    mut plan: Plan,
    opener: Arc<dyn Opener>,
    events: Events,
    shutdown: Shutdown,
) -> Result<Hub, HubError> {
    check(&plan)?;
    plan.sources = plan.sources.into_iter().flat_map(source::parts).collect();
    let own_traffic = OwnTraffic::new(events.clone());
    let context = source::Context {
        opener: opener.clone(),
        events: events.clone(),
        shutdown: shutdown.clone(),
        limits: Arc::new(plan.limits.clone()),
        own_traffic: own_traffic.clone(),
    };
    let mut sources = Vec::new();
    for spec in &plan.sources {
        let kind = source::kind(spec).ok_or_else(|| unusable(&spec.name))?;
        sources.push(((kind.open)(spec, &context)?, kind));
    }
    let mut own = None;
    if replays(&plan) {
        for spec in &plan.sources {
            own = private::check(spec, opener.as_ref())?;
        }
    }
    let opening =
        sink::Opening { opener: opener.clone(), events: events.clone(), own_traffic: own_traffic.clone() };
    let mut sinks = Vec::new();
    for spec in &plan.sinks {
        let kind = sink::kind(spec).ok_or_else(|| unusable(&spec.name))?;
        sinks.push(((kind.open)(spec, &opening)?, kind));
    }
    let books = Books::new(plan.sources.iter().map(SourceSpec::shown_name));
    let interfaces = Interfaces::bounded(plan.limits.interface_octets());
    let clock = Clock::default();
    Ok(Hub { plan, own, shutdown, books, events, clock, interfaces, opener, own_traffic, sources, sinks })
}

fn unusable(name: &str) -> PlanError {
    PlanError::Refused(format!("{name} cannot be used here"))
}

/// Refuses combinations that cannot work.
fn check(plan: &Plan) -> Result<(), PlanError> {
    let refused = |why: String| Err(PlanError::Refused(why));
    if plan.sources.is_empty() {
        return refused("no source is given; name a file, `-`, tcp://HOST or another endpoint".into());
    }
    if plan.sinks.is_empty() {
        return refused("no sink is given; add --to SINK".into());
    }
    let stdin = |spec: &&SourceSpec| spec.endpoint.scheme == Scheme::Stdio;
    if plan.sources.iter().filter(stdin).count() > 1 {
        return refused("standard input `-` can only be one source".into());
    }
    for (source, sink) in
        plan.sources.iter().flat_map(|source| plan.sinks.iter().map(move |sink| (source, sink)))
    {
        if same_file(source, sink) {
            return refused(format!(
                "{} is a source and a sink: it would be overwritten before it is read",
                sink.name
            ));
        }
    }
    let lives = |kind: &SourceKind| !kind.waits_for_reader;
    let live = plan.sources.iter().find(|spec| source::kind(spec).is_some_and(lives));
    let unfit = |spec: &&SourceSpec| {
        source::is_regular_file(spec) && spec.pace.is_none() && spec.shape.time == Time::Keep
    };
    let file = plan.sources.iter().find(unfit);
    if let (Some(live), Some(file)) = (live, file) {
        return refused(format!(
            "{} is a file with times of its own, and {} is live: one order by time cannot hold both; \
             give the file time=now or pace=1x (--opt pace=1x, or --pace 1x), or serve them separately",
            file.name, live.name
        ));
    }
    Ok(())
}

/// Whether a sink sends to somebody who may send it back.
fn sends(sink: &SinkSpec) -> bool {
    !matches!(sink.endpoint.scheme, Scheme::File | Scheme::Null | Scheme::Stdio)
}

/// Whether a source may bring back what we send, without being dialled by us or us by it.
fn may_snowball(plan: &Plan, kind: &SourceKind) -> bool {
    kind.habit != Habit::Once && plan.sinks.iter().any(sends)
}

/// Whether a sink would write to the file that a source reads.
fn same_file(source: &SourceSpec, sink: &SinkSpec) -> bool {
    let file = |endpoint: &Endpoint| {
        let metadata = match endpoint.scheme {
            Scheme::File => std::fs::metadata(&endpoint.address).ok()?,
            _ => return None,
        };
        metadata.is_file().then(|| (metadata.dev(), metadata.ino()))
    };
    file(&source.endpoint).is_some_and(|there| file(&sink.endpoint) == Some(there))
}

impl Hub {
    /// Where clients connect.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.sinks.iter().flat_map(|(sink, _)| sink.listening()).collect()
    }

    /// The counts, to look at while it runs.
    pub fn books(&self) -> Books {
        self.books.clone()
    }

    /// Moves packets until all sources have ended and the sinks have everything, or until told to
    /// stop.
    pub async fn run(self) -> Outcome {
        let Hub {
            plan,
            own,
            shutdown: outer,
            books,
            events,
            clock,
            interfaces,
            opener,
            own_traffic,
            sources,
            sinks,
        } = self;
        let mut errors = Vec::new();

        // Sources: one task each, which fill the queue as fast as their budgets allow.
        let (queue, mut messages) = mpsc::channel(QUEUE);
        let gate = Gate::default();
        let piece = plan.limits.piece_octets();
        let pool = framing::pool(plan.sources.len(), piece, plan.limits.max_memory / 16);
        let limits = Arc::new(plan.limits.clone());
        let replay = replays(&plan);
        let on_slow = OnSlowRule::of(&plan);
        let mut running = JoinSet::new();
        let shared = Shared {
            queue,
            shutdown: outer.clone(),
            gate: gate.clone(),
            pool: pool.clone(),
            large: Allowance::new(limits.large_octets()),
            interfaces: interfaces.clone(),
            events: events.clone(),
            clock,
            max_producers: limits.max_producers,
            producer_silence: limits.producer_silence,
            sends: plan.sinks.iter().any(sends),
            next_stream: Arc::new(AtomicU64::new(0)),
        };
        let mut kinds = Vec::new();
        let count = plan.sources.len();
        for (index, (source, kind)) in sources.into_iter().enumerate() {
            kinds.push(kind);
            let Some(spec) = plan.sources.get(index).cloned() else { continue };
            let gated = kind.waits_for_reader || on_slow.waits();
            let reconnect = reconnect(&plan, &spec, kind);
            if !replay {
                let budget = budget(&plan, &spec);
                let shaper = Arc::new(Mutex::new(Shaper::new(spec.shape)));
                let shared = shared.clone();
                let repeat = Arc::default();
                let intake = Intake { shared, source: index, spec, gated, budget, shaper, repeat };
                running.spawn(Ingest::new(intake, reconnect).run(source, kind));
            }
        }
        drop(shared);

        // Where standard output takes the source's own format, the source has the first word.
        let mut early = Vec::new();
        if !replay && plan.sinks.iter().any(|sink| format_of(sink, count).is_none()) {
            while let Some(message) = next(&mut messages, &outer).await {
                let known = matches!(message, Message::Opened { .. } | Message::Ended { .. });
                early.push(message);
                if known {
                    break;
                }
            }
        }
        let announced = early.iter().find_map(|message| match message {
            Message::Opened { format, .. } => Some(*format),
            _ => None,
        });
        let own = own.or(announced);

        // Feeds: one for all sinks that want the same.
        let mut feeds: Vec<(FeedKey, Feed)> = Vec::new();
        let mut rings = Vec::new();
        let keys: Vec<_> = plan.sinks.iter().map(|sink| FeedKey::of(sink, count, own, &on_slow)).collect();
        let distinct =
            keys.iter().enumerate().filter(|(i, key)| !keys.iter().take(*i).any(|k| k == *key)).count();
        for key in keys {
            if let Some((_, feed)) = feeds.iter().find(|(known, _)| *known == key) {
                rings.push(feed.ring().clone());
                continue;
            }
            let feed = Feed::new(key.options(&limits, limits.ring_octets(distinct)), interfaces.clone());
            books.add_ring(feed.ring().clone());
            rings.push(feed.ring().clone());
            feeds.push((key, feed));
        }

        // Sinks: one task each, which join their feed and let gated sources go.
        let (stop_sinks, sinks_shutdown) = shutdown();
        let clients = Clients::new(&plan.limits);
        let announcements = Announcements::new(interfaces.clone());
        let allowance = Allowance::new(limits.private_octets());
        let mut delivering = JoinSet::new();
        for (((sink, _), spec), ring) in sinks.into_iter().zip(&plan.sinks).zip(rings) {
            let replay = replay.then(|| Replay {
                sources: plan.sources.clone(),
                feed: FeedKey::of(spec, count, own, &on_slow).options_private(&limits),
                order: plan.order.unwrap_or(Order::Time),
                clock,
                pool: private::pool(count, &limits),
                allowance: allowance.clone(),
                opener: opener.clone(),
                events: events.clone(),
                books: books.clone(),
                shutdown: sinks_shutdown.clone(),
                client_timeout: limits.client_timeout,
            });
            let context = sink::Context {
                ring,
                interfaces: announcements.clone(),
                shutdown: sinks_shutdown.clone(),
                gate: gate.clone(),
                opener: opener.clone(),
                events: events.clone(),
                clients: clients.clone(),
                limits: limits.clone(),
                clock,
                alone: plan.sinks.len() == 1,
                own_traffic: own_traffic.clone(),
                replay: replay.map(Arc::new),
            };
            delivering.spawn(sink.run(context));
        }

        // The path: batches in, one order, every feed.
        let outlets = feeds.into_iter().map(|(key, feed)| Outlet::new(key.name, feed, key.pace)).collect();
        let mut path = Path {
            merge: Merge::new(merge_config(&plan)),
            lanes: Lanes::new(&plan, &kinds),
            outlets,
            books: books.clone(),
            events: events.clone(),
            clock,
            packets_left: plan.count,
            early_told: 0,
            snowballs: kinds.iter().map(|kind| may_snowball(&plan, kind).then(Snowball::default)).collect(),
            silent_until: None,
        };
        let deadline = plan.duration.and_then(|duration| tokio::time::Instant::now().checked_add(duration));
        let mut open_sources = count;
        if replay {
            while !delivering.is_empty() {
                tokio::select! {
                    () = outer.reached(Phase::Draining) => break,
                    () = until(deadline) => break,
                    Some(result) = delivering.join_next() => errors.extend(failure(result, &events)),
                }
            }
        } else {
            path.open_lanes(&plan, &kinds);
            for message in early {
                open_sources -= path.take(message, &mut errors);
            }
            loop {
                let more = path.release();
                if open_sources == 0 || path.packets_left == Some(0) || path.is_done() {
                    break;
                }
                // Under `wait`, nothing is taken in while a feed has no room: so sources wait too.
                tokio::select! {
                    biased;
                    () = path.room() => {}
                    () = outer.reached(Phase::Draining) => break,
                    () = until(deadline) => break,
                }
                let timer = path.deadline();
                tokio::select! {
                    biased;
                    () = outer.reached(Phase::Draining) => break,
                    () = until(deadline) => break,
                    Some(result) = delivering.join_next(), if !delivering.is_empty() => {
                        errors.extend(failure(result, &events));
                        if delivering.is_empty() {
                            break;
                        }
                    }
                    message = messages.recv() => {
                        let Some(message) = message else { break };
                        open_sources -= path.take(message, &mut errors);
                        // All that is there already, up to one step: large writes under load.
                        let mut octets = 0;
                        while octets < STEP_OCTETS {
                            let Ok(message) = messages.try_recv() else { break };
                            octets += octets_of(&message);
                            open_sources -= path.take(message, &mut errors);
                        }
                    }
                    () = until(timer), if !more => {}
                    () = std::future::ready(()), if more => {}
                }
            }
        }

        // The end: nothing more is read, what is held goes out, sinks get what is queued.
        if kinds.iter().any(|kind| !kind.can_wait) && path.packets_left != Some(0) {
            path.last_words(&mut messages, open_sources, &mut errors).await;
        }
        drop(messages);
        path.finish(&outer, deadline).await;
        stop_sinks.advance(Phase::Draining);
        let drained = async {
            while let Some(result) = delivering.join_next().await {
                errors.extend(failure(result, &events));
            }
        };
        let limit = async {
            tokio::select! {
                () = outer.reached(Phase::Draining) => {}
                () = until(deadline) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(limits.drain) => {}
                () = outer.reached(Phase::Stopping) => {}
            }
        };
        let in_time = tokio::select! {
            () = drained => true,
            () = limit => false,
        };
        if !in_time {
            books.disconnect_all();
            stop_sinks.advance(Phase::Stopping);
            let rest = async { while delivering.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        }
        running.abort_all();
        while running.join_next().await.is_some() {}
        let report = books.report();
        if replay {
            let failed =
                |source: &SourceReport| Some(format!("source {}: {}", source.name, source.failed.as_ref()?));
            errors.extend(report.sources.iter().filter_map(failed));
        }
        Outcome { report, errors }
    }
}

/// The middle of the path: from the queue to the rings.
struct Path {
    merge: Merge<Ticket>,
    lanes: Lanes,
    outlets: Vec<Outlet>,
    books: Books,
    events: Events,
    clock: Clock,
    packets_left: Option<u64>,
    early_told: u64,
    /// For each source whose packets may be ours.
    snowballs: Vec<Option<Snowball>>,
    /// Nothing is sent until then, to see whether a source breaks off.
    silent_until: Option<Monotonic>,
}

/// Which lane of the merge is whose.
struct Lanes {
    /// The lane of each source that has one stream at a time.
    of_source: Vec<Option<LaneId>>,
    /// The lanes of streams side by side.
    of_stream: HashMap<u64, LaneId>,
    /// Whose packets come out of a lane, by its slot.
    owner: Vec<usize>,
    /// Sources whose streams come side by side.
    many: Vec<bool>,
    /// Whether a source's lane stays while it is away.
    sticky: bool,
}

impl Lanes {
    fn new(plan: &Plan, kinds: &[&SourceKind]) -> Self {
        Lanes {
            of_source: vec![None; kinds.len()],
            of_stream: HashMap::new(),
            owner: Vec::new(),
            many: kinds.iter().map(|kind| kind.habit == Habit::Many).collect(),
            sticky: plan.order == Some(Order::Exact),
        }
    }
}

impl Path {
    /// Lanes for all sources, before any of them has said anything: none gets ahead of the others.
    fn open_lanes(&mut self, plan: &Plan, kinds: &[&SourceKind]) {
        for (index, (spec, kind)) in plan.sources.iter().zip(kinds).enumerate() {
            if kind.habit != Habit::Many {
                let when_idle = if source::is_all_there(spec) { WhenIdle::Wait } else { WhenIdle::Hold };
                self.open_lane(index, None, when_idle);
            }
        }
    }

    fn open_lane(&mut self, source: usize, stream: Option<u64>, when_idle: WhenIdle) -> LaneId {
        // Streams of one source rank after each other, in the order in which they came.
        let rank = ((source as u64) << 40) | stream.map_or(0, |stream| stream + 1);
        let lane = self.merge.open(rank, when_idle);
        if self.lanes.owner.len() <= lane.slot() {
            self.lanes.owner.resize(lane.slot() + 1, source);
        }
        if let Some(owner) = self.lanes.owner.get_mut(lane.slot()) {
            *owner = source;
        }
        match stream {
            Some(stream) => drop(self.lanes.of_stream.insert(stream, lane)),
            None => {
                if let Some(slot) = self.lanes.of_source.get_mut(source) {
                    *slot = Some(lane);
                }
            }
        }
        lane
    }

    /// The lane of a stream, opened if it has none.
    fn lane(&mut self, source: usize, stream: u64) -> LaneId {
        let many = self.lanes.many.get(source).copied().unwrap_or(false);
        let known = match many {
            true => self.lanes.of_stream.get(&stream).copied(),
            false => self.lanes.of_source.get(source).copied().flatten(),
        };
        known.unwrap_or_else(|| self.open_lane(source, many.then_some(stream), WhenIdle::Hold))
    }

    /// Takes one message in; 1 if a source has ended by it.
    fn take(&mut self, message: Message, errors: &mut Vec<String>) -> usize {
        match message {
            Message::Opened { source, stream, linktype, .. } => {
                self.lane(source, stream);
                self.books.source(source, |counts| counts.opened += 1);
                if let Some(linktype) = linktype {
                    self.outlets.iter().for_each(|outlet| outlet.feed.expect_linktype(linktype));
                }
            }
            Message::Packets { source, stream, decoded, arrival, ticket } => {
                let packets = decoded.batch.packets.len() as u64;
                self.books.source(source, |counts| {
                    counts.decoded += packets + decoded.filtered + decoded.dropped.total();
                    counts.filtered += decoded.filtered;
                    counts.held += packets;
                    counts.octets += decoded.octets;
                    counts.dropped.merge(&decoded.dropped);
                    counts.anomalies.merge(&decoded.anomalies);
                });
                self.beware(source, &decoded.batch, arrival);
                if packets > 0 {
                    let lane = self.lane(source, stream);
                    self.merge.push(lane, Arc::new(decoded.batch), arrival, ticket);
                }
            }
            Message::Closed { source, stream } => match self.lanes.of_stream.remove(&stream) {
                Some(lane) => self.merge.close(lane),
                None if !self.lanes.sticky => self.close_lane(source),
                None => {}
            },
            Message::Away { source } => {
                if !self.lanes.sticky {
                    self.close_lane(source);
                }
            }
            Message::Ended { source, error } => {
                self.close_lane(source);
                if let Some(error) = error {
                    self.books.source(source, |counts| {
                        errors.push(format!("source {}: {error}", counts.name));
                        counts.failed = Some(error);
                    });
                }
                return 1;
            }
        }
        0
    }

    /// Looks whether a source brings back what we send.
    fn beware(&mut self, source: usize, batch: &Batch, now: Monotonic) {
        let Some(Some(snowball)) = self.snowballs.get_mut(source) else { return };
        let sends = self.outlets.iter().any(|outlet| outlet.feed.ring().subscribers().0 > 0);
        match snowball.saw(batch, now, sends) {
            Advice::GoOn => {}
            Advice::Pause(until) => self.silent_until = Some(until),
            Advice::Warn => {
                let name = self.books.name(source);
                self.events.emit(Event::Snowball { source: &name });
            }
        }
    }

    fn close_lane(&mut self, source: usize) {
        if let Some(lane) = self.lanes.of_source.get_mut(source).and_then(Option::take) {
            self.merge.close(lane);
        }
    }

    /// Publishes what the merge lets go now; whether there is more at once.
    fn release(&mut self) -> bool {
        let now = self.clock.now();
        if self.silent_until.is_some_and(|until| now < until) {
            return false;
        }
        self.silent_until = None;
        let Path { merge, lanes, outlets, books, packets_left, .. } = self;
        let drained = books.sources(|sources| {
            merge.drain(now, STEP_OCTETS, &mut |batch, mut run, lane| {
                let taken = run.len() as u64;
                let wanted = packets_left.map_or(taken, |left| left.min(taken));
                run.end = run.start + wanted as usize;
                if let Some(left) = packets_left {
                    *left -= wanted;
                }
                if let Some(counts) = lanes.owner.get(lane.slot()).and_then(|source| sources.get_mut(*source))
                {
                    counts.held = counts.held.saturating_sub(taken);
                    counts.forwarded += wanted;
                    counts.dropped.add(DropReason::Closed, taken - wanted);
                }
                outlets.iter_mut().for_each(|outlet| outlet.push(batch, run.clone(), now));
            })
        });
        self.flush();
        drained.more
    }

    fn flush(&mut self) {
        let now = self.clock.now();
        for outlet in &mut self.outlets {
            outlet.flush(now);
            if let Some(other) = outlet.feed.take_mismatch() {
                let linktype = outlet.feed.ring().linktype();
                let has: &(dyn std::fmt::Display + Sync) =
                    linktype.as_ref().map_or(&"no packets", |linktype| linktype);
                self.events.emit(Event::LinkTypeMismatch { sink: &outlet.name, has, other });
            }
        }
        let early = self.merge.counts().released_early;
        if early > 0 && self.early_told == 0 {
            self.events.emit(Event::EarlyRelease { packets: early });
            self.early_told = early;
        }
        self.books.set_early(early);
    }

    /// Returns once every feed has room; at once, unless one is to wait for its subscribers.
    async fn room(&mut self) {
        loop {
            for outlet in &self.outlets {
                std::future::poll_fn(|cx| outlet.feed.ring().poll_room(cx)).await;
            }
            if self.outlets.iter().all(Outlet::has_room) {
                return;
            }
            until(self.due()).await;
            self.flush();
        }
    }

    /// Whether no feed takes any more packets.
    fn is_done(&self) -> bool {
        self.outlets.iter().all(|outlet| outlet.feed.is_done())
    }

    /// When there is something to do if no message comes.
    fn deadline(&self) -> Option<tokio::time::Instant> {
        let merge = self.merge.deadline().map(|deadline| self.clock.instant(deadline));
        let silence = self.silent_until.map(|until| self.clock.instant(until));
        // While nothing may be sent, nothing else is due.
        silence.or([merge, self.due()].into_iter().flatten().min())
    }

    /// When the next packet of a paced feed is due.
    fn due(&self) -> Option<tokio::time::Instant> {
        let due = self.outlets.iter().filter_map(Outlet::deadline).min();
        due.map(|due| self.clock.instant(due))
    }

    /// What live captures had in their rings when the hub was told to end.
    async fn last_words(
        &mut self,
        messages: &mut mpsc::Receiver<Message>,
        mut open_sources: usize,
        errors: &mut Vec<String>,
    ) {
        let limit = tokio::time::Instant::now() + LAST_WORDS;
        while open_sources > 0 {
            match tokio::time::timeout_at(limit, messages.recv()).await {
                Ok(Some(message)) => open_sources -= self.take(message, errors),
                _ => return,
            }
        }
    }

    /// Lets everything go that is still held, and ends the feeds.
    async fn finish(&mut self, outer: &Shutdown, deadline: Option<tokio::time::Instant>) {
        self.merge.release_all();
        self.silent_until = None;
        while self.release() {
            // Once told to stop, a stalled subscriber does not hold up the end; what is held is
            // bounded, so the rings can take it.
            tokio::select! {
                biased;
                () = self.room() => {}
                () = outer.reached(Phase::Draining) => {}
                () = until(deadline) => {}
            }
        }
        while let Some(due) = self.due() {
            tokio::select! {
                biased;
                () = outer.reached(Phase::Draining) => self.outlets.iter_mut().for_each(Outlet::abandon),
                () = until(deadline) => self.outlets.iter_mut().for_each(Outlet::abandon),
                () = until(Some(due)) => {}
            }
            self.flush();
        }
        self.outlets.iter().for_each(|outlet| outlet.feed.ring().end());
    }
}

async fn next(messages: &mut mpsc::Receiver<Message>, outer: &Shutdown) -> Option<Message> {
    tokio::select! {
        message = messages.recv() => message,
        () = outer.reached(Phase::Draining) => None,
    }
}

async fn until(instant: Option<tokio::time::Instant>) {
    match instant {
        Some(instant) => tokio::time::sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn octets_of(message: &Message) -> usize {
    match message {
        Message::Packets { decoded, .. } => decoded.batch.buffer.len(),
        _ => 0,
    }
}

/// What a sink's task ended with, if that was a failure.
fn failure(result: Result<Result<(), String>, tokio::task::JoinError>, events: &Events) -> Option<String> {
    let why = match result {
        Ok(Ok(())) => return None,
        Ok(Err(why)) => why,
        Err(error) => error.to_string(),
    };
    events.emit(Event::SinkFailed { why: &why });
    Some(why)
}
