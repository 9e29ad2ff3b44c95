//! The hub, and the whole path of a packet in one place.
//!
//! ```text
//! source ─► ingest: read, decode ─► merge: one time order ─► feed: encode once ─► ring ─► deliver ─► sink
//! ```
//!
//! [`Hub::run`] reads top to bottom: open everything, start the sinks, start the sources, and then, for
//! as long as there are sources, take their batches, merge them, and publish what the merge
//! releases to every feed.

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pcaphub_core::feed::{Announcements, Feed};
use pcaphub_core::filter::Filter;
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::merge::Order;
use pcaphub_core::shape::Shaper;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::access::Clients;
use crate::allowance::Allowance;
use crate::clock::Clock;
use crate::conflicts::conflicts;
use crate::defaults::{FeedKey, OnSlowRule, budget, format_of, reconnect, replays};
use crate::endpoint::Scheme;
use crate::event::{Event, Events};
use crate::filter;
use crate::framing;
use crate::gate::Gate;
use crate::ingest::Ingest;
use crate::intake::{Intake, Message, Shared};
use crate::opener::Opener;
use crate::outlet::Outlet;
use crate::own_traffic::OwnTraffic;
use crate::path::{Path, STEP_OCTETS, until};
use crate::plan::{Plan, PlanError, SinkSpec, SourceSpec};
use crate::private::{self, Replay};
use crate::pulse::Pulse;
use crate::shutdown::{Phase, Shutdown, shutdown};
use crate::sink::{self, Sink, SinkError, SinkKind};
use crate::source::{self, Source, SourceError, SourceKind};
use crate::stats::{Books, Report, SourceReport};
use crate::tls::TlsReloader;

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

/// A hub that is set up: everything that can fail at start has been opened.
pub struct Hub {
    plan: Plan,
    /// The format of the last source, where files are replayed.
    own: Option<Format>,
    shutdown: Shutdown,
    books: Books,
    events: Events,
    clock: Clock,
    pulse: Pulse,
    interfaces: Interfaces,
    opener: Arc<dyn Opener>,
    own_traffic: OwnTraffic,
    tls: TlsReloader,
    /// Those of the sinks, each once.
    filters: Arc<[Filter]>,
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
    source::look(&mut plan.sources, opener.as_ref());
    if let Some(conflict) = conflicts(&plan, opener.as_ref()).into_iter().next() {
        return Err(conflict.error.into());
    }
    plan.sources = plan.sources.into_iter().flat_map(source::parts).collect();
    let filters = sink_filters(&plan)?;
    let own_traffic = OwnTraffic::new(events.clone());
    let tls = TlsReloader::new(opener.clone(), events.clone());
    let context = source::Context {
        opener: opener.clone(),
        events: events.clone(),
        shutdown: shutdown.clone(),
        limits: Arc::new(plan.limits.clone()),
        own_traffic: own_traffic.clone(),
        rings: source::rings(&plan.sources),
        tls: tls.clone(),
    };
    let mut sources = Vec::new();
    for spec in &plan.sources {
        source_filter(spec)?;
        let kind = source::kind(spec).ok_or_else(|| unusable(&spec.name))?;
        sources.push(((kind.open)(spec, &context)?, kind));
    }
    let mut own = None;
    if replays(&plan) {
        for spec in &plan.sources {
            own = private::check(spec, opener.as_ref())?;
        }
    }
    let opening = sink::Opening {
        opener: opener.clone(),
        events: events.clone(),
        own_traffic: own_traffic.clone(),
        tls: tls.clone(),
    };
    let mut sinks = Vec::new();
    for spec in &plan.sinks {
        let kind = sink::kind(spec).ok_or_else(|| unusable(&spec.name))?;
        sinks.push(((kind.open)(spec, &opening)?, kind));
    }
    let books = Books::new(plan.sources.iter().map(SourceSpec::shown_name));
    let interfaces = Interfaces::bounded(plan.limits.interface_octets());
    let clock = Clock::default();
    Ok(Hub {
        plan,
        own,
        shutdown,
        books,
        events,
        clock,
        pulse: Pulse::default(),
        interfaces,
        opener,
        own_traffic,
        tls,
        filters,
        sources,
        sinks,
    })
}

/// The filters of all sinks, each once.
fn sink_filters(plan: &Plan) -> Result<Arc<[Filter]>, PlanError> {
    let mut filters: Vec<Filter> = Vec::new();
    for spec in &plan.sinks {
        let Some(text) = &spec.filter else { continue };
        if !filters.iter().any(|filter| filter.text() == text) {
            filters.push(filter::compiled(&spec.name, text)?);
        }
    }
    Ok(filters.into())
}

/// The filter of a source, alone.
fn source_filter(spec: &SourceSpec) -> Result<Arc<[Filter]>, PlanError> {
    let filter = spec.filter.as_ref().map(|text| filter::compiled(&spec.name, text)).transpose()?;
    Ok(filter.into_iter().collect())
}

fn unusable(name: &str) -> PlanError {
    PlanError::Refused(format!("{name} cannot be used here"))
}

/// Whether a sink sends to somebody who may send it back.
fn sends(sink: &SinkSpec) -> bool {
    !matches!(sink.endpoint.scheme, Scheme::File | Scheme::Null | Scheme::Stdio)
}

impl Hub {
    /// Where clients connect.
    pub fn listening(&self) -> Vec<SocketAddr> {
        self.sinks.iter().flat_map(|(sink, _)| sink.listening()).collect()
    }

    /// What renews the certificates of all endpoints, as SIGHUP asks for.
    pub fn tls(&self) -> TlsReloader {
        self.tls.clone()
    }

    /// The counts, to look at while it runs.
    pub fn books(&self) -> Books {
        self.books.clone()
    }

    /// To find out whether it is alive while it runs.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
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
            pulse,
            interfaces,
            opener,
            own_traffic,
            tls,
            filters,
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
        let floods = events.clone();
        running.spawn(async move { floods.settle_floods().await });
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
            filters: filters.clone(),
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
                let (repeat, filter) = (Arc::default(), source_filter(&spec).unwrap_or_default());
                let intake = Intake { shared, source: index, spec, gated, budget, filter, shaper, repeat };
                running.spawn(Ingest::new(intake, reconnect).run(source, kind));
            }
        }
        drop(shared);

        // Where standard output takes the source's own format, the source has the first word.
        let mut early = Vec::new();
        if !replay && plan.sinks.iter().any(|sink| format_of(sink, count).is_none()) {
            while let Some(message) = next(&mut messages, &outer, &pulse).await {
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
        let keys: Vec<_> =
            plan.sinks.iter().map(|sink| FeedKey::of(sink, count, own, &on_slow, &filters)).collect();
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
        tokio::spawn(tls.watch(outer.clone()));
        let mut delivering = JoinSet::new();
        for (((sink, _), spec), ring) in sinks.into_iter().zip(&plan.sinks).zip(rings) {
            let replay = replay.then(|| Replay {
                sources: plan.sources.clone(),
                feed: FeedKey::of(spec, count, own, &on_slow, &filters).options_private(&limits),
                order: plan.order.unwrap_or(Order::Time),
                clock,
                pool: private::pool(count, &limits),
                allowance: allowance.clone(),
                opener: opener.clone(),
                events: events.clone(),
                books: books.clone(),
                shutdown: sinks_shutdown.clone(),
                client_timeout: limits.client_timeout,
                filters: filters.clone(),
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
                told: outer.clone(),
                replay: replay.map(Arc::new),
            };
            delivering.spawn(sink.run(context));
        }

        // The path: batches in, one order, every feed.
        let outlets = feeds.into_iter().map(|(key, feed)| Outlet::new(key.name, feed, key.pace)).collect();
        let sends = plan.sinks.iter().any(sends);
        let path = Path::new(&plan, &kinds, outlets, books.clone(), events.clone(), clock, sends);
        let mut path = path.with_pulse(pulse.clone());
        let deadline = plan.duration.and_then(|duration| tokio::time::Instant::now().checked_add(duration));
        let mut open_sources = count;
        if replay {
            while !delivering.is_empty() {
                tokio::select! {
                    () = outer.reached(Phase::Draining) => break,
                    () = until(deadline) => break,
                    () = pulse.answer() => {}
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
                if open_sources == 0 || path.is_counted_out() || path.is_done() {
                    break;
                }
                // Under `wait`, nothing is taken in while a feed has no room: so sources wait too.
                tokio::select! {
                    biased;
                    () = path.room() => {}
                    () = outer.reached(Phase::Draining) => break,
                    () = until(deadline) => break,
                    () = pulse.answer() => {}
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
                    () = pulse.wanted() => {}
                    () = until(timer), if !more => {}
                    () = std::future::ready(()), if more => {}
                }
            }
        }

        // The end: nothing more is read, what is held goes out, sinks get what is queued.
        if kinds.iter().any(|kind| !kind.can_wait) && !path.is_counted_out() {
            path.last_words(&mut messages, open_sources, &mut errors).await;
        }
        drop(messages);
        tokio::select! {
            () = path.finish(&outer, deadline) => {}
            () = pulse.answer() => {}
        }
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
            () = pulse.answer() => false,
        };
        if !in_time {
            books.disconnect_all();
            stop_sinks.advance(Phase::Stopping);
            let rest = async { while delivering.join_next().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        }
        running.abort_all();
        while running.join_next().await.is_some() {}
        events.settle_all();
        let report = books.report();
        if replay {
            let failed =
                |source: &SourceReport| Some(format!("source {}: {}", source.name, source.failed.as_ref()?));
            errors.extend(report.sources.iter().filter_map(failed));
        }
        Outcome { report, errors }
    }
}

async fn next(messages: &mut mpsc::Receiver<Message>, outer: &Shutdown, pulse: &Pulse) -> Option<Message> {
    tokio::select! {
        () = pulse.answer() => None,
        message = messages.recv() => message,
        () = outer.reached(Phase::Draining) => None,
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
