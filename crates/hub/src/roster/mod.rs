//! What runs in a hub: sources, feeds and sinks, each with what stops it.

mod sinks;
mod sources;

use std::collections::HashMap;
use std::sync::Arc;

use pcaphub_core::buffer::Pool;
use pcaphub_core::feed::Announcements;
use pcaphub_core::filter::Filters;
use pcaphub_core::format::Format;
use tokio::sync::watch;
use tokio::task::JoinSet;

use self::sinks::{Delivering, Waiting};
use self::sources::AtWork;
use crate::allowance::Allowance;
use crate::clients::Clients;
use crate::controls::Controls;
use crate::feeds::Feeds;
use crate::intake::Shared;
use crate::limits::Limits;
use crate::opening::{Running, RunningSink, RunningSource, Site};
use crate::plan::Plan;
use crate::shutdown::{Phase, Shutdown, Trigger};
use crate::source;
use crate::stats::Books;

/// Everything that runs.
pub(crate) struct Roster {
    pub(crate) plan: Plan,
    site: Site,
    shared: Shared,
    limits: Arc<Limits>,
    books: Books,
    filters: watch::Sender<Filters>,
    replay: bool,
    /// The format of the last source, where files are replayed, or of the first that told.
    pub(crate) own: Option<Format>,
    clients: Clients,
    announcements: Announcements,
    allowance: Allowance,
    private_pool: Pool,
    sources: Vec<AtWork>,
    sinks: Vec<Delivering>,
    feeds: Feeds,
    /// Sources that were told to end and have not yet.
    leaving: HashMap<usize, Trigger>,
    /// Sinks that start when the one of this number has let go.
    waiting: Vec<Waiting>,
    next: u64,
    ingests: JoinSet<()>,
    delivering: JoinSet<(u64, Result<(), String>)>,
    farewells: JoinSet<()>,
    /// What stops the sinks, once the path has ended.
    stop_sinks: Trigger,
    sinks_shutdown: Shutdown,
}

impl Roster {
    /// Nothing runs yet. `shared` is what sources work with.
    pub(crate) fn new(
        site: Site,
        shared: Shared,
        filters: watch::Sender<Filters>,
        plan: &Plan,
        books: Books,
        changeable: bool,
    ) -> Self {
        let (stop_sinks, sinks_shutdown) = crate::shutdown::shutdown();
        let limits = Arc::new(plan.limits.clone());
        Roster {
            plan: Plan { sources: Vec::new(), sinks: Vec::new(), ..plan.clone() },
            clients: Clients::new(&limits),
            announcements: Announcements::new(shared.interfaces.clone()),
            allowance: Allowance::new(limits.private_octets()),
            private_pool: crate::private::pool(plan.sources.len(), &limits),
            feeds: Feeds::new(limits.clone(), shared.interfaces.clone(), books.clone(), changeable),
            site,
            shared,
            limits,
            books,
            filters,
            replay: false,
            own: None,
            sources: Vec::new(),
            sinks: Vec::new(),
            leaving: HashMap::new(),
            waiting: Vec::new(),
            next: 0,
            ingests: JoinSet::new(),
            delivering: JoinSet::new(),
            farewells: JoinSet::new(),
            stop_sinks,
            sinks_shutdown,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// What a new plan has to know.
    pub(crate) fn running(&self) -> Running {
        let source =
            |source: &AtWork| RunningSource { controls: source.controls.clone(), failed: source.failed };
        let sink = |sink: &Delivering| RunningSink {
            controls: sink.controls.clone(),
            // One that waits has its place to itself already.
            ended: sink.ended && !self.waits(sink.number),
            failed: sink.failed,
        };
        Running {
            plan: self.plan.clone(),
            filters: self.filters.borrow().clone(),
            sources: self.sources.iter().map(source).collect(),
            sinks: self.sinks.iter().map(sink).collect(),
        }
    }

    /// Whether files are replayed to each client.
    pub(crate) fn replays(&self) -> bool {
        self.replay
    }

    /// Takes away what leads to listening sockets, while that is still permitted.
    fn remove(&self, controls: &[Controls]) {
        for sockets in controls.iter().filter_map(|controls| controls.sockets.as_ref()) {
            sockets.remove(self.site.opener.as_ref());
        }
    }

    /// The path has ended: sinks take what is queued.
    pub(crate) fn drain(&self) {
        self.stop_sinks.advance(Phase::Draining);
    }

    /// Sinks give up what they have not delivered.
    pub(crate) fn give_up(&self) {
        self.books.disconnect_all();
        self.stop_sinks.advance(Phase::Stopping);
    }

    /// Nothing is read any more. Threads that wait for something else than their peer leave.
    pub(crate) async fn stop_reading(&mut self) {
        let parts = self.sources.iter().flat_map(|source| &source.parts);
        let stops = parts.map(|(_, stop)| stop).chain(self.leaving.values());
        stops.for_each(|stop| stop.advance(Phase::Stopping));
        self.farewells.abort_all();
        self.ingests.abort_all();
        while self.ingests.join_next().await.is_some() {}
    }

    /// Whether a source can not be paused without losing packets.
    pub(crate) fn has_live_source(&self) -> bool {
        self.plan.sources.iter().any(|spec| source::kind(spec).is_some_and(|kind| !kind.can_wait))
    }
}
