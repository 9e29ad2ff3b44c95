//! What is different in a new plan for a running hub.
//!
//! An endpoint of the new plan is one that runs where everything about it is the same, but for what can
//! change while it runs: its filter, and who may connect. Anything else makes it another endpoint: the one
//! that runs is ended, and the new one opened.

use crate::endpoint::{Endpoint, Scheme};
use crate::limits::Limits;
use crate::plan::{Plan, SinkSpec, SourceSpec};

/// What can change while an endpoint runs.
const IN_PLACE: [&str; 3] = ["filter", "allow", "deny"];

/// Which endpoints of a new plan run already, and what else differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// For each source of the new plan, which one of the old plan it is.
    pub sources: Vec<Option<usize>>,
    /// The same for sinks.
    pub sinks: Vec<Option<usize>>,
    /// How many stay that are different in what can change while they run.
    pub altered: usize,
    /// Settings that are different and need a new start.
    pub later: Vec<&'static str>,
}

impl Changes {
    /// From one plan to another.
    pub fn between(old: &Plan, new: &Plan) -> Self {
        let sources = matched(&old.sources, &new.sources, |a, b| {
            old.reconnect == new.reconnect && lasting_source(a) == lasting_source(b)
        });
        let sinks = matched(&old.sinks, &new.sinks, |a, b| lasting_sink(a) == lasting_sink(b));
        let altered = altered(&sources, &old.sources, &new.sources) + altered(&sinks, &old.sinks, &new.sinks);
        Changes { sources, sinks, altered, later: later(old, new) }
    }

    /// Sources of the old plan, of which there were `count`, that the new one has not.
    pub fn gone_sources(&self, count: usize) -> Vec<usize> {
        gone(&self.sources, count)
    }

    /// The same for sinks.
    pub fn gone_sinks(&self, count: usize) -> Vec<usize> {
        gone(&self.sinks, count)
    }
}

/// How many of those that stay are not quite the same.
fn altered<T: PartialEq>(kept: &[Option<usize>], old: &[T], new: &[T]) -> usize {
    let differs = |(kept, spec): &(&Option<usize>, &T)| {
        kept.is_some_and(|index| old.get(index).is_some_and(|was| was != *spec))
    };
    kept.iter().zip(new).filter(differs).count()
}

fn gone(kept: &[Option<usize>], count: usize) -> Vec<usize> {
    (0..count).filter(|index| !kept.contains(&Some(*index))).collect()
}

/// For each of `new`, the first of `old` that is the same and was not taken yet.
fn matched<T>(old: &[T], new: &[T], same: impl Fn(&T, &T) -> bool) -> Vec<Option<usize>> {
    let mut taken = vec![false; old.len()];
    let find = |spec: &T| {
        let index = old.iter().enumerate().position(|(i, one)| !taken[i] && same(one, spec))?;
        taken[index] = true;
        Some(index)
    };
    new.iter().map(find).collect()
}

fn lasting(endpoint: &Endpoint) -> Endpoint {
    let mut endpoint = endpoint.clone();
    endpoint.options.retain(|(key, _)| !IN_PLACE.contains(&key.as_str()));
    endpoint.options.sort();
    endpoint
}

fn lasting_source(spec: &SourceSpec) -> SourceSpec {
    // A live capture that cuts packets off has them whole in its ring only where a filter is to see them.
    let cut = spec.endpoint.scheme == Scheme::If && spec.shape.snaplen.is_some();
    let filter = spec.filter.as_ref().filter(|_| cut).map(|_| String::new());
    SourceSpec { endpoint: lasting(&spec.endpoint), filter, ..spec.clone() }
}

fn lasting_sink(spec: &SinkSpec) -> SinkSpec {
    let endpoint = lasting(&spec.endpoint);
    SinkSpec { endpoint, filter: None, allow: None, deny: Vec::new(), ..spec.clone() }
}

fn later(old: &Plan, new: &Plan) -> Vec<&'static str> {
    let limits = |limits: &Limits| format!("{limits:?}");
    [
        ("limits", limits(&old.limits) != limits(&new.limits)),
        ("order", old.order != new.order),
        ("hold", old.hold != new.hold),
        ("count", old.count != new.count),
        ("duration", old.duration != new.duration),
    ]
    .into_iter()
    .filter_map(|(name, differs)| differs.then_some(name))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{sink, source};

    fn plan(sources: &[&str], sinks: &[&str]) -> Plan {
        let endpoint = |text: &&str| Endpoint::parse(text).unwrap();
        Plan {
            sources: sources.iter().map(|text| source::spec(endpoint(text)).unwrap()).collect(),
            sinks: sinks.iter().map(|text| sink::spec(endpoint(text)).unwrap()).collect(),
            ..Plan::default()
        }
    }

    #[test]
    fn an_endpoint_stays_where_only_its_filter_or_its_networks_change() {
        let old = plan(&["tcp://a?name=x", "tcp://b"], &["tcp-listen://?allow=10.0.0.0/8", "null:"]);
        let new = plan(&["tcp://b?filter=udp", "tcp://a?name=x"], &["tcp-listen://?deny=10.9.0.0/16"]);
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.sources, [Some(1), Some(0)]);
        assert_eq!(changes.sinks, [Some(0)]);
        assert_eq!(changes.gone_sinks(2), [1]);
        assert!(changes.gone_sources(2).is_empty() && changes.later.is_empty());
        assert_eq!(changes.altered, 2);
    }

    #[test]
    fn anything_else_makes_it_another_one() {
        let old = plan(&["tcp://a?name=x"], &["tcp-listen://?format=pcapng"]);
        let new = plan(&["tcp://a?name=y", "tcp://a?name=x"], &["tcp-listen://"]);
        let changes = Changes::between(&old, &new);
        assert_eq!(changes.sources, [None, Some(0)]);
        assert_eq!(changes.sinks, [None]);
    }

    #[test]
    fn equal_endpoints_are_matched_one_to_one() {
        let old = plan(&["demo:", "demo:"], &["null:"]);
        let new = plan(&["demo:", "demo:", "demo:"], &["null:"]);
        assert_eq!(Changes::between(&old, &new).sources, [Some(0), Some(1), None]);
    }

    #[test]
    fn settings_that_need_a_new_start_are_named() {
        let old = plan(&["demo:"], &["null:"]);
        let mut new = old.clone();
        new.hold = Duration::from_secs(1);
        new.limits.max_clients = 7;
        assert_eq!(Changes::between(&old, &new).later, ["limits", "hold"]);
    }
}
