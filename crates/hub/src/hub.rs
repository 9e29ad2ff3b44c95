//! The hub, and the whole path of a packet in one place.
//!
//! ```text
//! source ─► ingest: read, decode ─► merge: one time order ─► feed: encode once ─► ring ─► deliver ─► sink
//! ```
//!
//! [`Hub::run`] reads top to bottom: start the sources, start the sinks, and then, for as long as there
//! are sources, take their batches, merge them, and publish what the merge releases to every feed. What
//! runs is kept by the `roster`, which a new plan changes while the path goes on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use pcaphub_core::interface::Interfaces;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinError;

use crate::allowance::Allowance;
use crate::clock::Clock;
use crate::defaults::format_of;
use crate::endpoint::Scheme;
use crate::event::{Event, Events};
use crate::framing;
use crate::gate::Gate;
use crate::intake::{Message, Shared};
use crate::opener::Opener;
use crate::opening::{Opened, Running, Site, Slot};
use crate::own_traffic::OwnTraffic;
use crate::path::{Path, STEP_OCTETS, until};
use crate::plan::{Plan, PlanError, SinkSpec};
use crate::pulse::Pulse;
use crate::roster::Roster;
use crate::shutdown::{Phase, Shutdown};
use crate::stats::{Books, Report, SourceReport};
use crate::tls::TlsReloader;

pub use crate::opening::HubError;

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
    opened: Opened,
    site: Site,
    books: Books,
    clock: Clock,
    pulse: Pulse,
    interfaces: Interfaces,
    running: watch::Sender<Option<Running>>,
    changing: mpsc::Sender<Change>,
    changes: mpsc::Receiver<Change>,
}

/// A new plan, opened, and who waits until it is in force.
type Change = (Box<Opened>, oneshot::Sender<()>);

/// Opens what a plan names.
///
/// # Errors
/// A plan that cannot work, a file that is not there, an address that is taken.
pub fn open(
    plan: Plan,
    opener: Arc<dyn Opener>,
    events: Events,
    shutdown: Shutdown,
) -> Result<Hub, HubError> {
    let own_traffic = OwnTraffic::new(events.clone());
    let tls = TlsReloader::new(opener.clone(), events.clone());
    let site = Site { opener, events, shutdown, own_traffic, tls };
    let opened = site.open(plan)?;
    let (changing, changes) = mpsc::channel(1);
    Ok(Hub {
        books: Books::default(),
        clock: Clock::default(),
        pulse: Pulse::default(),
        interfaces: Interfaces::bounded(opened.plan.limits.interface_octets()),
        running: watch::Sender::default(),
        opened,
        site,
        changing,
        changes,
    })
}

/// Changes a hub while it runs. Clones change the same one.
#[derive(Clone)]
pub struct Handle {
    site: Site,
    running: watch::Receiver<Option<Running>>,
    changing: mpsc::Sender<Change>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// What came of a new plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// Sources and sinks that came.
    pub came: usize,
    /// Sources and sinks that went.
    pub went: usize,
    /// Those that stay, with another filter or other networks.
    pub altered: usize,
    /// Settings that are different and hold from the next start on.
    pub later: Vec<&'static str>,
}

impl Handle {
    /// Makes the hub what a new plan says, without touching what is the same in both: who is connected stays,
    /// and nothing on its way is lost. See [`Changes`](crate::changes::Changes) for what that is. Returns
    /// when the new plan is in force; that of a hub that is set up, once it runs.
    ///
    /// To be called on a runtime; it opens on a thread of its own.
    ///
    /// # Errors
    /// The plan cannot work, or something of it cannot be opened: then everything is as it was. The hub
    /// does not run any more.
    pub async fn change(&self, plan: Plan) -> Result<Changed, HubError> {
        let _turn = self.turn.lock().await;
        let mut running = self.running.clone();
        let running = running.wait_for(Option::is_some).await.map_err(|_| not_running())?.clone();
        let running = running.ok_or_else(not_running)?;
        let site = self.site.clone();
        let (sources, sinks) = (running.sources.len(), running.sinks.len());
        let opening = tokio::task::spawn_blocking(move || site.open_besides(&running, plan));
        let opened = opening.await.map_err(|error| PlanError::Refused(error.to_string()))??;
        let changes = &opened.changes;
        let new = |kept: &&Option<usize>| kept.is_none();
        let changed = Changed {
            came: changes.sources.iter().chain(&changes.sinks).filter(new).count(),
            went: changes.gone_sources(sources).len() + changes.gone_sinks(sinks).len(),
            altered: changes.altered,
            later: changes.later.clone(),
        };
        let (done, in_force) = oneshot::channel();
        self.changing.send((Box::new(opened), done)).await.map_err(|_| not_running())?;
        in_force.await.map_err(|_| not_running())?;
        Ok(changed)
    }
}

fn not_running() -> HubError {
    PlanError::Refused("the hub is ending, or does not run yet".into()).into()
}

/// Whether a sink sends to somebody who may send it back.
fn sends(sink: &SinkSpec) -> bool {
    !matches!(sink.endpoint.scheme, Scheme::File | Scheme::Null | Scheme::Stdio)
}

impl Hub {
    /// Where clients connect.
    pub fn listening(&self) -> Vec<SocketAddr> {
        let sinks = self.opened.sinks.iter().flatten();
        sinks
            .flat_map(|slot| if let Slot::Now(sink) = slot { sink.listening() } else { Vec::new() })
            .collect()
    }

    /// What renews the certificates of all endpoints, as SIGHUP asks for.
    pub fn tls(&self) -> TlsReloader {
        self.site.tls.clone()
    }

    /// The counts, to look at while it runs.
    pub fn books(&self) -> Books {
        self.books.clone()
    }

    /// To find out whether it is alive while it runs.
    pub fn pulse(&self) -> Pulse {
        self.pulse.clone()
    }

    /// To change it while it runs.
    pub fn handle(&self) -> Handle {
        let (site, running, changing) = (self.site.clone(), self.running.subscribe(), self.changing.clone());
        Handle { site, running, changing, turn: Arc::default() }
    }

    /// Moves packets until all sources have ended and the sinks have everything, or until told to
    /// stop.
    pub async fn run(self) -> Outcome {
        let Hub { mut opened, site, books, clock, pulse, interfaces, running, changing, mut changes } = self;
        let plan = opened.plan.clone();
        let (outer, events) = (site.shutdown.clone(), site.events.clone());
        // A hub that nobody can change ends its path when it has nothing to do.
        let changeable = !changing.is_closed() && changing.strong_count() > 1;
        drop(changing);
        let mut errors = Vec::new();

        // Sources: one task each, which fill the queue as fast as their budgets allow.
        let (queue, mut messages) = mpsc::channel(QUEUE);
        let (filters, marked_by) = watch::channel(opened.filters.clone());
        let shared = Shared {
            queue,
            gate: Gate::default(),
            pool: framing::pool(plan.sources.len(), plan.limits.piece_octets(), plan.limits.max_memory / 16),
            large: Allowance::new(plan.limits.large_octets()),
            interfaces,
            events: events.clone(),
            books: books.clone(),
            clock,
            max_producers: plan.limits.max_producers,
            producer_silence: plan.limits.producer_silence,
            // A later sink may send, too.
            sends: changeable || plan.sinks.iter().any(sends),
            filters: marked_by,
            times_later: Arc::default(),
            next_stream: Arc::new(AtomicU64::new(0)),
        };
        let certificates = tokio::spawn(site.tls.clone().watch(outer.clone()));
        let floods = events.clone();
        let settling = tokio::spawn(async move { floods.settle_floods().await });
        let mut roster = Roster::new(site, shared, filters, &plan, books.clone(), changeable);
        let mut path = Path::new(&plan, books.clone(), events.clone(), clock).with_pulse(pulse.clone());
        roster.change_sources(&mut opened, &mut path);

        // Where standard output takes the source's own format, the source has the first word.
        let mut early = Vec::new();
        if !roster.replays() && plan.sinks.iter().any(|sink| format_of(sink, plan.sources.len()).is_none()) {
            while let Some(message) = next(&mut messages, &outer, &pulse).await {
                let known = matches!(message, Message::Opened { .. } | Message::Ended { .. });
                early.push(message);
                if known {
                    break;
                }
            }
        }
        roster.own = early.iter().find_map(|message| match message {
            Message::Opened { format, .. } => Some(*format),
            _ => None,
        });

        // Sinks: one task each, which join their feed and let gated sources go. One feed for all that want
        // the same.
        roster.change_sinks(&mut opened, &mut path);
        tell(&running, &roster);
        let deadline = plan.duration.and_then(|duration| tokio::time::Instant::now().checked_add(duration));
        for message in early {
            if let Some(source) = path.take(message, &mut errors) {
                roster.source_ended(source);
            }
        }

        // The path: batches in, one order, every feed.
        loop {
            let more = path.release();
            let over = path.has_no_source() || path.is_counted_out() || path.is_done();
            if over && !roster.replays() {
                break;
            }
            // Under `wait`, nothing is taken in while a feed has no room: so sources wait too.
            tokio::select! {
                biased;
                () = path.room() => {}
                () = outer.reached(Phase::Draining) => break,
                () = until(deadline) => break,
                Some(change) = changes.recv() => {
                    accept(change, &mut roster, &mut path, &running);
                    continue;
                }
                Some(ended) = roster.next_ended() => {
                    errors.extend(sink_ended(ended, &mut roster, &mut path, &events));
                    tell(&running, &roster);
                    if roster.has_no_sink() {
                        break;
                    }
                    continue;
                }
                () = pulse.answer() => {}
            }
            let timer = path.deadline();
            tokio::select! {
                biased;
                () = outer.reached(Phase::Draining) => break,
                () = until(deadline) => break,
                Some(change) = changes.recv() => accept(change, &mut roster, &mut path, &running),
                Some(ended) = roster.next_ended() => {
                    errors.extend(sink_ended(ended, &mut roster, &mut path, &events));
                    tell(&running, &roster);
                    if roster.has_no_sink() {
                        break;
                    }
                }
                message = messages.recv() => {
                    let Some(message) = message else { break };
                    let mut octets = octets_of(&message);
                    let mut ended = path.take(message, &mut errors);
                    // All that is there already, up to one step: large writes under load.
                    loop {
                        if let Some(source) = ended {
                            roster.source_ended(source);
                            tell(&running, &roster);
                        }
                        if octets >= STEP_OCTETS {
                            break;
                        }
                        let Ok(message) = messages.try_recv() else { break };
                        octets += octets_of(&message);
                        ended = path.take(message, &mut errors);
                    }
                }
                () = pulse.wanted() => {}
                () = until(timer), if !more => {}
                () = std::future::ready(()), if more => {}
            }
        }

        // The end: nothing more is read, what is held goes out, sinks get what is queued.
        changes.close();
        if roster.has_live_source() && !path.is_counted_out() {
            path.last_words(&mut messages, &mut errors).await;
        }
        path.take_rest(messages);
        loop {
            tokio::select! {
                biased;
                () = path.finish(&outer, deadline) => break,
                // What is due later to a sink that has gone is not waited for.
                Some(ended) = roster.next_ended() => {
                    errors.extend(sink_ended(ended, &mut roster, &mut path, &events));
                }
                () = pulse.answer() => break,
            }
        }
        roster.drain();
        let limit = async {
            tokio::select! {
                () = outer.reached(Phase::Draining) => {}
                () = until(deadline) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(plan.limits.drain) => {}
                () = outer.reached(Phase::Stopping) => {}
            }
        };
        let in_time = tokio::select! {
            () = drained(&mut roster, &mut path, &events, &mut errors) => true,
            () = limit => false,
            () = pulse.answer() => false,
        };
        if !in_time {
            roster.give_up();
            let rest = async { while roster.next_ended().await.is_some() {} };
            let _ = tokio::time::timeout(Duration::from_secs(1), rest).await;
        }
        roster.stop_reading().await;
        settling.abort();
        certificates.abort();
        events.settle_all();
        let report = books.report();
        if roster.replays() {
            let failed =
                |source: &SourceReport| Some(format!("source {}: {}", source.name, source.failed.as_ref()?));
            errors.extend(report.sources.iter().filter_map(failed));
        }
        Outcome { report, errors }
    }
}

/// Puts a new plan in force.
fn accept(change: Change, roster: &mut Roster, path: &mut Path, running: &watch::Sender<Option<Running>>) {
    let (mut opened, done) = change;
    roster.change_sources(&mut opened, path);
    roster.change_sinks(&mut opened, path);
    tell(running, roster);
    // Who asked may be gone.
    let _ = done.send(());
}

/// Lets the next plan know what runs.
fn tell(running: &watch::Sender<Option<Running>>, roster: &Roster) {
    running.send_replace(Some(roster.running()));
}

/// A sink has ended; with what, if that was a failure.
fn sink_ended(
    ended: Result<(u64, Result<(), String>), JoinError>,
    roster: &mut Roster,
    path: &mut Path,
    events: &Events,
) -> Option<String> {
    let why = match ended {
        Ok((number, result)) => {
            let failure = result.err();
            roster.sink_ended(number, failure.as_deref(), path);
            failure?
        }
        Err(error) => error.to_string(),
    };
    events.emit(Event::SinkFailed { why: &why });
    Some(why)
}

/// Returns when all sinks have ended.
async fn drained(roster: &mut Roster, path: &mut Path, events: &Events, errors: &mut Vec<String>) {
    while let Some(ended) = roster.next_ended().await {
        errors.extend(sink_ended(ended, roster, path, events));
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
        Message::Packets { parcel, .. } => parcel.decoded().batch.buffer.len(),
        _ => 0,
    }
}
