//! What follows from a plan where it does not say: formats, slow clients, order, and whether files
//! are replayed to each client.

use std::sync::Arc;
use std::time::Duration;

use pcaphub_core::convert::Addresses;
use pcaphub_core::feed::{FeedOptions, History, OnSlow, RingOptions};
use pcaphub_core::filter::Filters;
use pcaphub_core::format::Format;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::merge::{MergeConfig, Order};
use pcaphub_core::pace::Pace;
use pcaphub_core::shape::{Shape, Time};

use crate::endpoint::{Endpoint, Scheme};
use crate::event::Onto;
use crate::framing;
use crate::limits::Limits;
use crate::plan::{self, Plan, Reconnect, SinkSpec, SourceSpec};
use crate::private;
use crate::sink;
use crate::source::{self, Habit, SourceKind};

/// What sinks have in common that read from one feed.
#[derive(Debug, Clone)]
pub(crate) struct FeedKey {
    pub(crate) name: Arc<str>,
    pub(crate) onto: Onto,
    format: Format,
    linktype: Option<LinkType>,
    on_slow: OnSlow,
    history: History,
    dedup: Option<Duration>,
    addresses: Addresses,
    filter: Option<u32>,
    shape: Shape,
    pub(crate) pace: Option<Pace>,
}

impl PartialEq for FeedKey {
    fn eq(&self, other: &Self) -> bool {
        let parts = |key: &FeedKey| {
            let kept = (key.onto, key.addresses, key.filter, key.shape, key.pace);
            (key.format, key.linktype, key.on_slow, key.history, key.dedup, kept)
        };
        parts(self) == parts(other)
    }
}

impl FeedKey {
    pub(crate) fn of(
        spec: &SinkSpec,
        sources: usize,
        own: Option<Format>,
        rule: &OnSlowRule,
        filters: &Filters,
    ) -> Self {
        let injects = spec.endpoint.scheme == Scheme::If;
        FeedKey {
            name: spec.name.clone(),
            onto: if spec.endpoint.scheme == Scheme::If { Onto::Interface } else { Onto::Stream },
            format: format_of(spec, sources).or(own).unwrap_or(Format::Pcap),
            linktype: spec.linktype,
            on_slow: spec.on_slow.unwrap_or(rule.default),
            history: spec.history,
            dedup: spec.dedup,
            filter: spec.filter.as_ref().and_then(|text| filters.number(text)),
            addresses: spec.injection.addresses,
            // Nobody sees the time of a packet on an interface, and it is sent by its own.
            shape: if injects { Shape { time: Time::Own, ..spec.shape } } else { spec.shape },
            // An injection keeps its own time, to the microsecond.
            pace: spec.pace.filter(|_| !injects),
        }
    }

    /// The number of its filter.
    pub(crate) fn filter(&self) -> Option<u32> {
        self.filter
    }

    /// What happens to slow subscribers.
    pub(crate) fn on_slow(&self) -> OnSlow {
        self.on_slow
    }

    /// Takes over of another key what a feed can change.
    pub(crate) fn renew(&mut self, new: &FeedKey) {
        (self.filter, self.on_slow) = (new.filter, new.on_slow);
    }

    pub(crate) fn options(&self, limits: &Limits, capacity_octets: usize) -> FeedOptions {
        let ring = RingOptions {
            format: self.format,
            capacity_octets,
            on_slow: self.on_slow,
            history: self.history,
        };
        FeedOptions {
            ring,
            linktype: self.linktype,
            dedup: self.dedup,
            dedup_packets: limits.dedup_packets(),
            addresses: self.addresses,
            filter: self.filter,
            shape: self.shape,
            chunk_octets: limits.piece_octets(),
        }
    }

    pub(crate) fn options_private(&self, limits: &Limits) -> FeedOptions {
        let mut options = self.options(limits, private::RING_OCTETS);
        options.ring.on_slow = OnSlow::Wait;
        options
    }
}

/// A sink's format; `None` where it takes that of the one source.
pub(crate) fn format_of(spec: &SinkSpec, sources: usize) -> Option<Format> {
    spec.format.or((sources > 1).then_some(Format::PcapNg))
}

/// Gives every endpoint a pace that has none itself. It is that of what comes out of the merge, so that
/// several files keep step. Beside live sources, which cannot be slowed down, it is that of each file.
///
/// `text` is a pace as options have it; one that cannot be read changes nothing.
pub fn pace_all(text: &str, sources: &mut [SourceSpec], sinks: &mut [SinkSpec]) {
    let Ok(pace) = plan::pace(text) else { return };
    let set = |endpoint: &mut Endpoint, own: &mut Option<Pace>| {
        if own.is_none() {
            endpoint.options.push(("pace".into(), text.into()));
            *own = Some(pace);
        }
    };
    let live = |spec: &SourceSpec| !source::kind(spec).is_some_and(|kind| kind.waits_for_reader);
    if sources.iter().any(live) {
        let files = sources.iter_mut().filter(|spec| !live(spec));
        files.for_each(|spec| set(&mut spec.endpoint, &mut spec.pace));
    } else {
        sinks.iter_mut().for_each(|spec| set(&mut spec.endpoint, &mut spec.pace));
    }
}

/// Whether packets with `time=now` get the time at which a sink lets them go: where one goes by their own to let them
/// go in time. Beside live sources the time of the moment is what brings them into one order, in the merge already.
pub(crate) fn times_later(plan: &Plan) -> bool {
    let live = |spec| source::kind(spec).is_some_and(|kind| !kind.waits_for_reader);
    let paced = |sink: &SinkSpec| sink.pace.is_some_and(|pace| pace != Pace::Max);
    plan.sinks.iter().any(paced) && !plan.sources.iter().any(live)
}

/// Whether each client gets the files from their beginning: all sources are regular files, and no
/// sink needs a hub that is shared. A lone file or standard output is such a client, too.
pub(crate) fn replays(plan: &Plan) -> bool {
    let listens = |sink: &SinkSpec| sink::kind(sink).is_some_and(|kind| kind.listens);
    let private = match plan.sinks.as_slice() {
        [sink] => listens(sink) || [Scheme::File, Scheme::Stdio].contains(&sink.endpoint.scheme),
        sinks => sinks.iter().all(listens),
    };
    let files = plan.sources.iter().all(source::is_regular_file);
    let alike = plan.sinks.iter().all(|sink| sink.history == History::None && sink.pace.is_none());
    let once =
        plan.count.is_none() && plan.sources.iter().all(|spec| spec.pace.is_none() && spec.repeat == 1);
    files && private && alike && once && plan.order != Some(Order::Arrival)
}

/// What happens to slow subscribers where a sink does not say it.
pub(crate) struct OnSlowRule {
    default: OnSlow,
    asked: bool,
}

impl OnSlowRule {
    pub(crate) fn of(plan: &Plan) -> Self {
        let kinds = || plan.sources.iter().filter_map(source::kind);
        let local = kinds().all(|kind| kind.waits_for_reader && kind.scheme != Scheme::Demo);
        let can_wait = kinds().all(|kind| kind.can_wait);
        let lone_taker = match plan.sinks.as_slice() {
            [sink] => sink::kind(sink).is_some_and(|kind| !kind.listens),
            _ => false,
        };
        let default = if local || (can_wait && lone_taker) { OnSlow::Wait } else { OnSlow::Drop };
        let asked = plan.sinks.iter().any(|sink| sink.on_slow == Some(OnSlow::Wait));
        OnSlowRule { default, asked }
    }

    pub(crate) fn waits(&self) -> bool {
        self.asked || self.default == OnSlow::Wait
    }
}

pub(crate) fn merge_config(plan: &Plan) -> MergeConfig {
    let streams = source::parted(&plan.sources);
    let capacity_octets = plan.limits.merge_octets();
    let lane_octets = plan.limits.source_octets(streams) / 2;
    // One stream needs no order; a listening source has several producers, and a live capture may have several rings.
    let files = plan.sources.iter().all(source::is_all_there);
    let alone =
        streams == 1 && plan.sources.iter().filter_map(source::kind).all(|kind| kind.habit != Habit::Many);
    let order = match plan.order {
        None if alone => Order::Arrival,
        // A file never has nothing to read: waiting for it is never in vain.
        None | Some(Order::Time) if files => Order::Exact,
        order => order.unwrap_or(Order::Time),
    };
    MergeConfig { order, hold: plan.hold, capacity_octets, lane_octets }
}

/// When a source is opened again.
pub(crate) fn reconnect(plan: &Plan, spec: &SourceSpec, kind: &SourceKind) -> Reconnect {
    spec.reconnect.unwrap_or(match kind.scheme {
        // A command that ends well has said all it has to say.
        Scheme::Exec | Scheme::Sh => Reconnect::Error,
        _ => plan.reconnect,
    })
}

/// What each stream of a source may have between its reader and the merge's output, in octets.
/// A file needs no more than keeps its reader ahead; a live one what may arrive within `hold`. Under
/// `exact`, where all that a listening source's producers have may wait for one of them, they share
/// what the merge may hold.
pub(crate) fn budget(plan: &Plan, spec: &SourceSpec) -> usize {
    let sources = plan.sources.len();
    if source::is_all_there(spec) {
        4 * framing::read_octets(sources, plan.limits.piece_octets())
    } else if plan.order == Some(Order::Exact)
        && source::kind(spec).is_some_and(|kind| kind.habit == Habit::Many)
    {
        let share = plan.limits.merge_octets() / sources / plan.limits.max_producers.max(1);
        share.max(2 * plan.limits.piece_octets())
    } else {
        plan.limits.source_octets(source::parted(&plan.sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order_of(sources: &[&str], order: Option<Order>) -> Order {
        let spec = |text: &&str| source::spec(Endpoint::parse(text).unwrap()).unwrap();
        let sources = sources.iter().map(spec).collect();
        merge_config(&Plan { sources, order, ..Plan::default() }).order
    }

    #[test]
    fn what_is_several_streams_is_ordered_by_time_and_one_stream_is_not() {
        assert_eq!(order_of(&["if:eth0"], None), Order::Arrival);
        assert_eq!(order_of(&["tcp://a"], None), Order::Arrival);
        assert_eq!(order_of(&["if:eth0?rings=2"], None), Order::Time);
        assert_eq!(order_of(&["tcp-listen://"], None), Order::Time);
        assert_eq!(order_of(&["tcp://a", "tcp://b"], None), Order::Time);
        assert_eq!(order_of(&["if:eth0?rings=2"], Some(Order::Arrival)), Order::Arrival);
    }
}
