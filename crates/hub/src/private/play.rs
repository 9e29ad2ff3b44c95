//! The path of a replay, from the first octet of its files to the last: read, decode, merge, encode, pulled
//! by whoever writes what the feed has published.
//!
//! What a client leaves behind in its merge is counted, so that the books of the files close.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use pcaphub_core::feed::Feed;
use pcaphub_core::filter::{Marker, Unfit};
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::merge::{LaneId, Merge, MergeConfig, WhenIdle};
use pcaphub_core::shape::Shaper;
use pcaphub_core::stats::DropCounts;

use super::Replay;
use super::file::open;
use crate::clock::wall_clock;
use crate::event::Event;
use crate::framing::{Decoded, Framing, decoder_options};
use crate::plan::SourceSpec;
use crate::shutdown::Phase;
use crate::stats::Streaming;

/// One file while it is replayed.
struct Track {
    lane: LaneId,
    reader: Box<dyn Read + Send>,
    framing: Framing,
    own_filter: Option<Marker>,
    filters: Marker,
    shaper: Shaper,
    ended: bool,
    _streaming: Streaming,
}

impl Replay {
    /// The whole stream into a feed, from the first octet to the last. `deliver` is called after
    /// each step; the first time that the linktype is known, with it.
    pub(super) fn play(
        &self,
        feed: &mut Feed,
        deliver: &mut dyn FnMut(&mut Feed, Option<LinkType>) -> io::Result<()>,
    ) -> io::Result<()> {
        let config = MergeConfig {
            order: self.order,
            hold: Duration::ZERO,
            capacity_octets: usize::MAX,
            lane_octets: usize::MAX,
        };
        let mut merge = Merge::new(config);
        let mut tracks = self.tracks(&mut merge, feed.interfaces())?;
        let mut begun = false;
        let result = loop {
            // Of one file there is nothing to merge: its records go as they are, where they can.
            let mut direct = (begun && tracks.len() == 1).then_some(&mut *feed);
            // Every lane has something queued or has ended; only then the merge can go on.
            for (index, track) in tracks.iter_mut().enumerate() {
                let mut passed_on = false;
                while !track.ended && !passed_on && merge.held_in(track.lane).packets == 0 {
                    passed_on = self.read(index, track, &mut merge, direct.as_deref_mut());
                }
            }
            let ended = tracks.iter().all(|track| track.ended) && merge.held().packets == 0;
            let known = first_linktype(&tracks).or(ended.then_some(LinkType::ETHERNET));
            if let Some(linktype) = known.filter(|_| !begun) {
                begun = true;
                if let Err(error) = deliver(feed, Some(linktype)) {
                    break Err(error);
                }
            }
            self.step(feed, &tracks, &mut merge);
            if let Err(error) = deliver(feed, None) {
                break Err(error);
            }
            if ended || feed.is_done() || self.shutdown.phase() > Phase::Running {
                break Ok(());
            }
        };
        self.abandon(&tracks, &merge);
        result
    }

    /// Merges and encodes one step's worth of what was read.
    fn step(&self, feed: &mut Feed, tracks: &[Track], merge: &mut Merge<()>) {
        let now = self.clock.now();
        let mut forwarded = vec![0u64; tracks.len()];
        merge.drain(now, STEP_OCTETS, &mut |batch, run, lane| {
            // Lanes were opened in the order of the tracks, and none is opened later.
            if let Some(count) = forwarded.get_mut(lane.slot()) {
                *count += run.len() as u64;
            }
            if feed.times(batch) {
                feed.set_wall_clock(wall_clock());
            }
            feed.push(batch, run, now);
        });
        feed.flush(now);
        self.books.sources(|sources| {
            for ((number, _), forwarded) in self.sources.iter().zip(forwarded) {
                let Some(counts) = sources.of(*number) else { continue };
                counts.forwarded += forwarded;
                counts.held = counts.held.saturating_sub(forwarded);
            }
        });
    }

    fn tracks(&self, merge: &mut Merge<()>, interfaces: &Interfaces) -> io::Result<Vec<Track>> {
        let open = |(rank, (number, spec)): (usize, &(usize, SourceSpec))| {
            let opened = open(spec, self.opener.as_ref());
            let reader = opened
                .inspect_err(|why| self.events.emit(Event::SourceFailed { source: &spec.name, why }))?;
            self.books.source(*number, |counts| counts.opened += 1);
            let options = decoder_options(&spec.name, spec.named, spec.linktype);
            Ok(Track {
                lane: merge.open(rank as u64, WhenIdle::Wait),
                reader,
                framing: Framing::new(self.pool.clone(), options, interfaces.clone(), spec.clock_offset)
                    .with_allowance(self.allowance.clone()),
                own_filter: self
                    .own_filters
                    .get(rank)
                    .filter(|filters| !filters.is_empty())
                    .map(|filters| Marker::new(filters.clone(), interfaces.clone())),
                filters: Marker::new(self.filters.clone(), interfaces.clone()),
                shaper: Shaper::new(spec.shape),
                ended: false,
                _streaming: self.books.streaming(*number, None),
            })
        };
        self.sources.iter().enumerate().map(open).collect()
    }

    /// One read of a file, and what is decoded from it. Records that can go as they are go to `direct`,
    /// if there is one; whether there were any.
    fn read(
        &self,
        index: usize,
        track: &mut Track,
        merge: &mut Merge<()>,
        direct: Option<&mut Feed>,
    ) -> bool {
        let mut passed_on = 0;
        let result = match track.reader.read(track.framing.spare()) {
            Ok(0) => {
                self.end(track, merge);
                track.framing.finish().map_err(|error| error.to_string())
            }
            Ok(n) => {
                let decoder = track.framing.decoder();
                let stream = decoder.format().zip(decoder.linktype());
                let direct = direct
                    .filter(|_| track.own_filter.is_none() && track.shaper.is_idle())
                    .zip(stream)
                    .and_then(|(feed, (format, linktype))| {
                        feed.takes_records(format, linktype).then_some(feed)
                    });
                let (mut decoded, result) = match direct {
                    None => track.framing.received(n, wall_clock()),
                    Some(feed) => {
                        let ((records, packets), decoded, result) = track.framing.forwarded(n, wall_clock());
                        if packets > 0 {
                            feed.push_records(records, packets, self.clock.now());
                        }
                        passed_on = packets;
                        (decoded, result)
                    }
                };
                self.shape(index, track, &mut decoded);
                self.count(index, &decoded, passed_on);
                if !decoded.batch.is_empty() {
                    merge.push(track.lane, Arc::new(decoded.batch), self.clock.now(), ());
                }
                if track.shaper.is_done() {
                    self.end(track, merge);
                }
                result.map_err(|error| error.to_string())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(format!("reading failed: {error}")),
        };
        if let Err(why) = result {
            self.end(track, merge);
            let name = self.sources.get(index).map_or("", |(_, spec)| &spec.name);
            self.events.emit(Event::SourceFailed { source: name, why: &why });
            self.books.source(self.number(index), |counts| counts.failed = Some(why));
        }
        passed_on > 0
    }

    /// Leaves out what is not wanted, and marks what is.
    fn shape(&self, index: usize, track: &mut Track, decoded: &mut Decoded) {
        let Track { own_filter, filters, shaper, .. } = track;
        if let Some(filter) = own_filter {
            decoded.filtered += filter.keep(&mut decoded.batch);
        }
        decoded.filtered += shaper.choose(&mut decoded.batch);
        shaper.alter(&mut decoded.batch, Some(wall_clock()));
        filters.mark(&mut decoded.batch);
        for marker in own_filter.iter_mut().chain([filters]) {
            while let Some(Unfit { filter, why }) = marker.take_error() {
                let source = self.sources.get(index).map_or("", |(_, spec)| &spec.name);
                let (whose, filter) = (filter.whose(), filter.text());
                self.events.emit(Event::FilterUnfit { whose, filter, source, why: &why });
            }
        }
    }

    /// The number of a file in the books.
    fn number(&self, index: usize) -> usize {
        self.sources.get(index).map_or(usize::MAX, |(number, _)| *number)
    }

    fn end(&self, track: &mut Track, merge: &mut Merge<()>) {
        if !std::mem::replace(&mut track.ended, true) {
            merge.close(track.lane);
        }
    }

    fn count(&self, index: usize, decoded: &Decoded, passed_on: u64) {
        self.books.source(self.number(index), |counts| {
            let packets = decoded.batch.packets.len() as u64;
            counts.decoded += packets + passed_on + decoded.filtered + decoded.dropped.total();
            counts.filtered += decoded.filtered;
            counts.forwarded += passed_on;
            counts.held += packets;
            counts.octets += decoded.octets;
            counts.dropped.merge(&decoded.dropped);
            counts.anomalies.merge(&decoded.anomalies);
        });
    }

    /// A client that leaves early leaves packets in its merge, which nobody will get.
    fn abandon(&self, tracks: &[Track], merge: &Merge<()>) {
        for (index, track) in tracks.iter().enumerate() {
            let held = merge.held_in(track.lane).packets as u64;
            let mut closed = DropCounts::default();
            closed.add(pcaphub_core::stats::DropReason::Closed, held);
            self.books.source(self.number(index), |counts| {
                counts.held = counts.held.saturating_sub(held);
                counts.dropped.merge(&closed);
            });
        }
    }
}

fn first_linktype(tracks: &[Track]) -> Option<LinkType> {
    tracks.iter().find_map(|track| track.framing.decoder().linktype())
}

/// What is merged before it is written, in octets.
const STEP_OCTETS: usize = 256 << 10;
