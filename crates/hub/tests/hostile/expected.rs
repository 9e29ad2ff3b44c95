//! What a hub must count of a stream, by what the decoder alone made of it.

use std::borrow::Cow;

use pcaphub::endpoint::Endpoint;
use pcaphub::stats::{ByName, Report, SourceReport};
use pcaphub_core::format::DecoderOptions;

use crate::core_support::Outcome;

/// What one source of a hub has counted, or counts in a while.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) decoded: u64,
    pub(crate) dropped: ByName,
    pub(crate) anomalies: ByName,
}

/// What becomes of one stream.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) counts: Counts,
    /// Packets that go on to the clients.
    pub(crate) packets: u64,
    pub(crate) error: Option<String>,
    /// Whether its header was good, so that it is a capture at all.
    pub(crate) is_capture: bool,
}

impl Expected {
    /// Not a packet, and no error.
    pub(crate) fn nothing() -> Self {
        Expected { counts: Counts::default(), packets: 0, error: None, is_capture: false }
    }

    pub(crate) fn of(outcome: &Outcome) -> Self {
        let packets = outcome.packets.len() as u64;
        let counts = Counts {
            decoded: packets + outcome.drops.total(),
            dropped: outcome.drops.nonzero().map(|(kind, n)| (kind.name().into(), n)).collect(),
            anomalies: outcome.anomalies.nonzero().map(|(kind, n)| (kind.name().into(), n)).collect(),
        };
        let error = outcome.error.as_ref().map(ToString::to_string);
        Expected { counts, packets, error, is_capture: outcome.format.is_some() }
    }
}

impl Counts {
    pub(crate) fn of(report: &SourceReport) -> Self {
        let SourceReport { decoded, dropped, anomalies, .. } = report.clone();
        Counts { decoded, dropped, anomalies }
    }

    pub(crate) fn since(&self, before: &Counts) -> Counts {
        let since = |now: &ByName, before: &ByName| {
            let left =
                |(kind, n): (&Cow<'static, str>, &u64)| (kind.clone(), n - before.get(kind).unwrap_or(&0));
            now.iter().map(left).filter(|(_, n)| *n > 0).collect()
        };
        Counts {
            decoded: self.decoded - before.decoded,
            dropped: since(&self.dropped, &before.dropped),
            anomalies: since(&self.anomalies, &before.anomalies),
        }
    }

    /// The same stream so many times.
    pub(crate) fn times(&self, streams: u64) -> Counts {
        let times = |counts: &ByName| counts.iter().map(|(kind, n)| (kind.clone(), n * streams)).collect();
        Counts {
            decoded: self.decoded * streams,
            dropped: times(&self.dropped),
            anomalies: times(&self.anomalies),
        }
    }
}

/// A hub's source at its end counted what was expected, says so, and nothing is unaccounted for.
#[track_caller]
pub(crate) fn assert_counted(report: &Report, source: usize, expected: &Expected) {
    let counted = &report.sources[source];
    assert_eq!(Counts::of(counted), expected.counts, "{counted:?}");
    assert_eq!(counted.failed, expected.error, "{counted:?}");
    assert!(report.closes(), "{report:?}");
}

/// An endpoint with what the decoder's options say, and with others.
pub(crate) fn endpoint(address: &str, decoder: &DecoderOptions, others: &[&str]) -> Endpoint {
    let name = Some(format!("name={}", decoder.name.as_deref().unwrap_or("hostile")));
    let linktype = decoder.linktype.map(|linktype| format!("linktype={}", linktype.0));
    let options = name.into_iter().chain(linktype).chain(others.iter().map(ToString::to_string));
    let with = |endpoint: Endpoint, option: String| endpoint.with_option(&option).unwrap();
    options.fold(Endpoint::parse(address).unwrap(), with)
}
