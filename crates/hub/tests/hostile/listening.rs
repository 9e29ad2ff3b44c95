//! Bad streams over sockets that producers dial: one hub takes those of all rows, many at a time.

use std::io::Write;
use std::net::TcpStream;
use std::sync::{LazyLock, Mutex};

use pcaphub::endpoint::Endpoint;
use pcaphub_core::format::DecoderOptions;

use crate::expected::{Counts, Expected};
use crate::site::{Site, wait_until};

/// The hub of all rows, and which of its doors is next.
static STATION: LazyLock<Mutex<(Site, usize)>> = LazyLock::new(|| {
    let hostile = || Endpoint::parse("tcp-listen://127.0.0.1:0?name=hostile").unwrap();
    Mutex::new((Site::open((0..DOORS).map(|_| hostile())), 0))
});

/// Sources that take the rows in turn: a closed connection keeps its two ports busy for a minute, so
/// that one listener alone would run out of them.
const DOORS: usize = 4;
/// Larger streams are not cut at every offset.
const CUT_BELOW: usize = 4096;
/// Connections at a time.
const SIDE_BY_SIDE: usize = 64;

/// How a stream ends, as the hub counts it.
const ENDS: [&str; 3] = ["source_ended", "source_failed", "producer_silent"];

/// Sends the stream whole, octet by octet, and cut: the hub's counts grow by the expected ones each
/// time, and the healthy source is served while streams are half-sent.
#[track_caller]
pub(crate) fn check(options: &DecoderOptions, stream: &[u8], expected: &Expected) {
    if (&options.name, &options.linktype) != (&None, &None) {
        return;
    }
    let mut locked = STATION.lock().expect("an earlier row has not broken the hub");
    let mut streams = vec![vec![stream]];
    if stream.len() < CUT_BELOW {
        streams.push(stream.chunks(1).collect());
        let cuts = (1..stream.len()).map(|cut| stream.split_at(cut));
        streams.extend(cuts.map(|(head, tail)| vec![head, tail]));
    } else {
        streams.push(stream.chunks(1021).collect());
    }
    for streams in streams.chunks(SIDE_BY_SIDE) {
        let (station, next) = &mut *locked;
        *next = *next % DOORS + 1;
        produce(station, *next, streams, expected);
    }
}

/// Sends streams side by side: all their first pieces, then what is left of them.
#[track_caller]
fn produce(station: &mut Site, door: usize, streams: &[Vec<&[u8]>], expected: &Expected) {
    let ends = |station: &Site| ENDS.map(|end| station.hub.count(end));
    let before = (Counts::of(&station.report().sources[door]), ends(station));
    let connections: Vec<TcpStream> = streams.iter().map(|_| station.connect(door)).collect();
    for (mut connection, pieces) in connections.iter().zip(streams) {
        let _ = connection.write_all(pieces[0]);
    }
    station.goes_on();
    for (mut connection, pieces) in connections.into_iter().zip(streams) {
        // A hub that has seen enough closes, and the rest cannot be sent.
        let _ = pieces[1..].iter().try_for_each(|piece| connection.write_all(piece));
    }
    let count = streams.len() as u64;
    wait_until("every stream ends", || {
        ends(station).iter().sum::<u64>() == before.1.iter().sum::<u64>() + count
    });
    station.goes_on();
    let report = station.report();
    let counted = Counts::of(&report.sources[door]).since(&before.0);
    assert_eq!(counted, expected.counts.times(count));
    let [ended, failed, silent] = ends(station);
    let ended = [ended - before.1[0], failed - before.1[1], silent - before.1[2]];
    assert_eq!(ended, if expected.error.is_some() { [0, count, 0] } else { [count, 0, 0] });
    wait_until("nothing is held", || station.report().sources[door].held == 0);
}
