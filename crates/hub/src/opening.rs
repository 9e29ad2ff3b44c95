//! Opens what a plan names and what does not run yet, before anything of it takes effect: what fails here
//! leaves a running hub as it is.

use std::sync::Arc;

use pcaphub_core::filter::{Filter, Filters};
use pcaphub_core::format::Format;

use crate::changes::Changes;
use crate::conflicts::{conflicts, file};
use crate::controls::Controls;
use crate::defaults::replays;
use crate::endpoint::Scheme;
use crate::event::Events;
use crate::filter;
use crate::inherited::WithInherited;
use crate::opener::Opener;
use crate::own_traffic::OwnTraffic;
use crate::plan::{Plan, PlanError, SinkSpec, SourceSpec};
use crate::private;
use crate::shutdown::{Shutdown, Trigger};
use crate::sink::{self, Sink, SinkError};
use crate::source::{self, Habit, Source, SourceError, SourceKind};
use crate::tls::TlsReloader;

/// Why a hub could not start, or not change.
#[derive(Debug, thiserror::Error)]
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

/// What a hub's sources and sinks are opened with.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) opener: Arc<dyn Opener>,
    pub(crate) events: Events,
    pub(crate) shutdown: Shutdown,
    pub(crate) own_traffic: OwnTraffic,
    pub(crate) tls: TlsReloader,
}

/// What runs in a hub, as far as a new plan has to know it.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) plan: Plan,
    pub(crate) filters: Filters,
    /// Of each source of the plan.
    pub(crate) sources: Vec<RunningSource>,
    /// Of each sink of the plan.
    pub(crate) sinks: Vec<RunningSink>,
}

#[derive(Debug, Clone)]
pub(crate) struct RunningSource {
    pub(crate) controls: Vec<Controls>,
    /// Whether it ended in an error; then it is opened again.
    pub(crate) failed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct RunningSink {
    pub(crate) controls: Controls,
    /// Whether it has ended.
    pub(crate) ended: bool,
    /// Whether it ended in an error.
    pub(crate) failed: bool,
}

/// A plan, and what of it was opened.
pub(crate) struct Opened {
    pub(crate) plan: Plan,
    pub(crate) changes: Changes,
    /// The filters of all sinks.
    pub(crate) filters: Filters,
    /// The filter of each source.
    pub(crate) source_filters: Vec<Filters>,
    /// Whether each client gets the files from their beginning.
    pub(crate) replay: bool,
    /// The format of the last source, where files are replayed.
    pub(crate) own: Option<Format>,
    /// Of each source that does not run yet, what it really is.
    pub(crate) sources: Vec<Option<Vec<Part>>>,
    /// Of each sink that does not run yet.
    pub(crate) sinks: Vec<Option<Slot>>,
}

impl Opened {
    /// Takes away what leads to listening sockets that are not wanted after all.
    fn undo(&self, opener: &dyn Opener) {
        let sources = self.sources.iter().flatten().flatten().map(|part| part.source.controls());
        let sinks = self.sinks.iter().flatten().filter_map(|slot| match slot {
            Slot::Now(sink) => Some(sink.controls()),
            Slot::After(_) => None,
        });
        let sockets = sources.chain(sinks).filter_map(|controls| controls.sockets);
        sockets.for_each(|sockets| sockets.remove(opener));
    }
}

/// What is really opened of a source: of a live capture with several rings, one of them.
pub(crate) struct Part {
    pub(crate) spec: SourceSpec,
    pub(crate) source: Box<dyn Source>,
    pub(crate) kind: &'static SourceKind,
    pub(crate) stop: Trigger,
    pub(crate) shutdown: Shutdown,
}

/// A sink that is to start.
pub(crate) enum Slot {
    /// At once.
    Now(Box<dyn Sink>),
    /// Once this one of the old plan has let go of what both want.
    After(usize),
}

impl Site {
    /// Opens a plan for a hub that does not run yet.
    ///
    /// # Errors
    /// A plan that cannot work, a file that is not there, an address that is taken.
    pub(crate) fn open(&self, plan: Plan) -> Result<Opened, HubError> {
        let changes = Changes {
            sources: vec![None; plan.sources.len()],
            sinks: vec![None; plan.sinks.len()],
            altered: 0,
            later: Vec::new(),
        };
        let plan = self.checked(plan)?;
        let after = vec![None; plan.sinks.len()];
        self.open_new(plan, changes, &Filters::default(), &after)
    }

    /// Opens what a plan has besides what runs. Sockets of endpoints that the plan has not any more go on
    /// under a new endpoint at the same address.
    ///
    /// # Errors
    /// As of [`open`](Self::open); a file that is written to cannot be written to in another way.
    pub(crate) fn open_besides(&self, running: &Running, plan: Plan) -> Result<Opened, HubError> {
        let plan = self.checked(plan)?;
        let mut changes = Changes::between(&running.plan, &plan);
        if replays(&running.plan) != replays(&plan) {
            // Files read once for all are not those read for each client.
            changes.sources.fill(None);
        }
        // What failed is tried again, but no file is read or written from its beginning a second time.
        for (kept, spec) in changes.sources.iter_mut().zip(&plan.sources) {
            let again = source::kind(spec).is_some_and(|kind| kind.habit != Habit::Once);
            let failed = |index: usize| running.sources.get(index).is_none_or(|source| source.failed);
            *kept = kept.filter(|index| !(again && failed(*index)));
        }
        for (kept, spec) in changes.sinks.iter_mut().zip(&plan.sinks) {
            let again = spec.endpoint.scheme != Scheme::File || spec.recording.is_some();
            let failed = |index: usize| running.sinks.get(index).is_none_or(|sink| sink.failed);
            *kept = kept.filter(|index| !(again && failed(*index)));
        }
        let (gone_sources, gone_sinks) =
            (changes.gone_sources(running.sources.len()), changes.gone_sinks(running.sinks.len()));
        let controls = gone_sources.iter().filter_map(|index| running.sources.get(*index));
        let controls = controls.flat_map(|source| &source.controls);
        let of_sinks = gone_sinks.iter().filter_map(|index| running.sinks.get(*index));
        let sockets: Vec<_> = controls
            .chain(of_sinks.map(|sink| &sink.controls))
            .filter_map(|controls| controls.sockets.clone())
            .collect();
        let duplicates =
            sockets.iter().flat_map(|sockets| sockets.duplicates().unwrap_or_default()).collect();
        let reusing = Arc::new(
            WithInherited::lent(duplicates, self.opener.clone())
                .map_err(|error| PlanError::Refused(format!("listening sockets cannot go on: {error}")))?,
        );
        let ended = |index: &usize| running.sinks.get(*index).is_none_or(|sink| sink.ended);
        let at_work: Vec<usize> = gone_sinks.iter().copied().filter(|index| !ended(index)).collect();
        let after = successions(&running.plan, &plan, &changes, &at_work, self.opener.as_ref())?;
        let site = Site { opener: reusing.clone(), ..self.clone() };
        let opened = site.open_new(plan, changes, &running.filters, &after);
        // What nobody took must not go on listening.
        reusing.let_go();
        let mut opened = opened?;
        let listens_at = |address: &str| {
            let new_source = |(spec, kept): (&SourceSpec, &Option<usize>)| {
                kept.is_none() && spec.endpoint.address == address
            };
            let new_sink = |(spec, kept): (&SinkSpec, &Option<usize>)| {
                kept.is_none() && spec.endpoint.address == address
            };
            opened.plan.sources.iter().zip(&opened.changes.sources).any(new_source)
                || opened.plan.sinks.iter().zip(&opened.changes.sinks).any(new_sink)
        };
        let unix = |scheme| scheme == Scheme::UnixListen;
        for index in gone_sources {
            let Some((spec, source)) = running.plan.sources.get(index).zip(running.sources.get(index)) else {
                continue;
            };
            if unix(spec.endpoint.scheme) && listens_at(&spec.endpoint.address) {
                source.controls.iter().for_each(Controls::hand_over);
            }
        }
        for index in &gone_sinks {
            let Some((spec, sink)) = running.plan.sinks.get(*index).zip(running.sinks.get(*index)) else {
                continue;
            };
            if unix(spec.endpoint.scheme) && listens_at(&spec.endpoint.address) {
                sink.controls.hand_over();
            }
        }
        // These hold from the next start on.
        opened.plan.limits = running.plan.limits.clone();
        (opened.plan.order, opened.plan.hold) = (running.plan.order, running.plan.hold);
        (opened.plan.count, opened.plan.duration) = (running.plan.count, running.plan.duration);
        Ok(opened)
    }

    fn checked(&self, mut plan: Plan) -> Result<Plan, PlanError> {
        source::look(&mut plan.sources, self.opener.as_ref());
        match conflicts(&plan, self.opener.as_ref()).into_iter().next() {
            Some(conflict) => Err(conflict.error),
            None => Ok(plan),
        }
    }

    fn open_new(
        &self,
        plan: Plan,
        changes: Changes,
        filters: &Filters,
        after: &[Option<usize>],
    ) -> Result<Opened, HubError> {
        let filters = filters.renewed(sink_filters(&plan)?);
        let source_filters = plan.sources.iter().map(source_filter).collect::<Result<Vec<_>, _>>()?;
        let (replay, sinks) = (replays(&plan), plan.sinks.iter().map(|_| None).collect());
        let mut opened =
            Opened { plan, changes, filters, source_filters, replay, own: None, sources: Vec::new(), sinks };
        let outcome = self.open_sources(&mut opened).and_then(|()| self.open_sinks(&mut opened, after));
        if let Err(error) = outcome {
            opened.undo(self.opener.as_ref());
            return Err(error);
        }
        Ok(opened)
    }

    fn open_sources(&self, opened: &mut Opened) -> Result<(), HubError> {
        let plan = &opened.plan;
        let parts: Vec<Vec<SourceSpec>> = plan.sources.iter().cloned().map(source::parts).collect();
        let all: Vec<SourceSpec> = parts.iter().flatten().cloned().collect();
        let rings = source::rings(&all);
        for (parts, kept) in parts.into_iter().zip(&opened.changes.sources) {
            let mut there = kept.is_none().then(Vec::new);
            let open = parts.into_iter().map(|spec| self.open_source(spec, plan, rings));
            let failed = there
                .as_mut()
                .and_then(|there| open.map(|part| part.map(|part| there.push(part))).find_map(Result::err));
            opened.sources.push(there);
            failed.map_or(Ok(()), Err)?;
        }
        if opened.replay {
            for spec in &plan.sources {
                opened.own = private::check(spec, self.opener.as_ref())?;
            }
        }
        Ok(())
    }

    /// Files come last: what they had is gone once they are open, so nothing else may fail any more.
    fn open_sinks(&self, opened: &mut Opened, after: &[Option<usize>]) -> Result<(), HubError> {
        let news = opened.plan.sinks.iter().zip(&opened.changes.sinks).zip(after).zip(&mut opened.sinks);
        let news = news.filter(|(((_, kept), _), _)| kept.is_none());
        let mut files = Vec::new();
        for (((spec, _), after), slot) in news {
            match after {
                Some(old) => *slot = Some(Slot::After(*old)),
                None if sink::replaces(spec) => {
                    sink::look(spec, self.opener.as_ref())?;
                    files.push((spec, slot));
                }
                None => *slot = Some(Slot::Now(self.open_sink(spec)?)),
            }
        }
        for (spec, slot) in files {
            *slot = Some(Slot::Now(self.open_sink(spec)?));
        }
        Ok(())
    }

    fn open_source(&self, spec: SourceSpec, plan: &Plan, rings: usize) -> Result<Part, HubError> {
        let kind = source::kind(&spec).ok_or_else(|| unusable(&spec.name))?;
        let (stop, shutdown) = self.shutdown.part();
        let context = source::Context {
            opener: self.opener.clone(),
            events: self.events.clone(),
            shutdown: shutdown.clone(),
            limits: Arc::new(plan.limits.clone()),
            own_traffic: self.own_traffic.clone(),
            rings,
            tls: self.tls.clone(),
        };
        let source = (kind.open)(&spec, &context)?;
        Ok(Part { spec, source, kind, stop, shutdown })
    }

    /// Opens one sink.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn open_sink(&self, spec: &SinkSpec) -> Result<Box<dyn Sink>, HubError> {
        let kind = sink::kind(spec).ok_or_else(|| unusable(&spec.name))?;
        let opening = sink::Opening {
            opener: self.opener.clone(),
            events: self.events.clone(),
            own_traffic: self.own_traffic.clone(),
            tls: self.tls.clone(),
        };
        Ok((kind.open)(spec, &opening)?)
    }
}

/// For each sink of a plan that is to take over what one that goes has alone, which that is.
fn successions(
    old: &Plan,
    new: &Plan,
    changes: &Changes,
    gone: &[usize],
    opener: &dyn Opener,
) -> Result<Vec<Option<usize>>, PlanError> {
    let before = |spec: &SinkSpec| {
        gone.iter().copied().find(|index| {
            old.sinks.get(*index).is_some_and(|was| match (&was.recording, &spec.recording) {
                // A directory has one recorder.
                (Some(was), Some(recording)) => was.directory == recording.directory,
                _ => {
                    let (was, spec) = (&was.endpoint, &spec.endpoint);
                    let is_file = || file(spec, opener).is_some_and(|new| file(was, opener) == Some(new));
                    was.scheme == spec.scheme && (was.address == spec.address || is_file())
                }
            })
        })
    };
    let succession = |(spec, kept): (&SinkSpec, &Option<usize>)| {
        let before = if kept.is_none() { before(spec) } else { None };
        match (before, spec.endpoint.scheme) {
            (Some(_), Scheme::File) if spec.recording.is_none() => Err(PlanError::Refused(format!(
                "{}: a file that is being written cannot be written in another way: it would begin anew; give the sink another name, or restart",
                spec.name
            ))),
            (Some(_), Scheme::Stdio) => Err(PlanError::Refused(
                "standard output cannot be written in another way now; restart".into(),
            )),
            (Some(old), Scheme::File | Scheme::If) => Ok(Some(old)),
            _ => Ok(None),
        }
    };
    new.sinks.iter().zip(&changes.sinks).map(succession).collect()
}

/// The filters of all sinks.
fn sink_filters(plan: &Plan) -> Result<Vec<Filter>, PlanError> {
    let mut filters: Vec<Filter> = Vec::new();
    for spec in &plan.sinks {
        let Some(text) = &spec.filter else { continue };
        match filters.iter_mut().find(|filter| filter.text() == text) {
            Some(known) => *known = known.clone().of(format!("{}, sink {}", known.whose(), spec.name)),
            None => {
                let filter = filter::compiled(&spec.name, text)?;
                filters.push(filter.of(format!("sink {}", spec.name)));
            }
        }
    }
    Ok(filters)
}

/// The filter of a source, alone.
fn source_filter(spec: &SourceSpec) -> Result<Filters, PlanError> {
    let filter = spec.filter.as_ref().map(|text| filter::compiled(&spec.name, text)).transpose()?;
    Ok(filter.into_iter().map(|filter| filter.of(format!("source {}", spec.name))).collect())
}

fn unusable(name: &str) -> PlanError {
    PlanError::Refused(format!("{name} cannot be used here"))
}
