//! Files, replayed: every client of a listener gets the whole stream from its beginning, at its
//! own pace, on a thread of its own. So does standard output or a file where it is the only sink.
//!
//! It is the same path as in [`hub`](crate::hub), with a feed that has one subscriber, and pulled
//! by the client instead of pushed by the sources: read, decode, merge, encode, write.

use std::io::{self, Read, Write};
use std::net;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pcaphub_core::buffer::Pool;
use pcaphub_core::feed::{Announcements, Ending, Feed, FeedOptions, Start, Subscriber, SubscriberSnapshot};
use pcaphub_core::filter::{Filters, Marker};
use pcaphub_core::format::Format;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::merge::{LaneId, Merge, MergeConfig, Order, WhenIdle};
use pcaphub_core::shape::Shaper;
use pcaphub_core::stats::DropCounts;
use pcaphub_sys::PeerState;
use socket2::SockRef;
use tokio::task::JoinSet;

use crate::allowance::Allowance;
use crate::clients::Place;
use crate::clock::{Clock, wall_clock};
use crate::codec;
use crate::deliver::is_dead;
use crate::endpoint::Scheme;
use crate::event::{Event, Events};
use crate::filter;
use crate::framing::{self, Decoded, Framing, FramingError, decoder_options};
use crate::limits::Limits;
use crate::opener::Opener;
use crate::pen::{Left, Pen};
use crate::plan::SourceSpec;
use crate::shutdown::{Phase, Shutdown};
use crate::source::SourceError;
use crate::stats::Books;
use crate::tls::{Blocking, looks_like_hello};
use crate::write::{OnFull, Target, WhenFull, block_on, to_writer, write_due};

/// What a private feed's ring may hold. Chunks are written as they are made, so it holds one.
pub const RING_OCTETS: usize = 2 << 20;
/// What is merged before it is written, in octets.
const STEP_OCTETS: usize = 256 << 10;
/// How long a client gets to close its side after we have closed ours.
const LINGER: Duration = Duration::from_millis(500);

/// Buffers for clients who each read `files` files. A client reads and writes in turn, so a larger
/// piece costs nothing but memory: of one file 1 MiB at once, a quarter less CPU than 256 KiB
/// (measured; that sendfile over ranges already walked costs no less was measured too).
pub fn pool(files: usize, limits: &Limits) -> Pool {
    let size = if files == 1 { ALONE } else { (TOGETHER / files).max(LEAST) };
    let share = limits.private_octets() / 2 / limits.max_clients.max(1) / files.max(1);
    framing::buffers(size.min(share.max(LEAST)), POOLED.min(limits.max_memory / 16))
}

/// What a client has besides its readers: a thread, and a chunk that is encoded.
const ITS_OWN: usize = 512 << 10;

/// What one file is read by.
const ALONE: usize = 1 << 20;
/// What several files have in buffers together: the second-level caches of a small machine, so that
/// merging finds in them what reading brought. 16 files: 0.39 s, with 512 KiB 0.49, with 8 MiB 0.61.
const TOGETHER: usize = 2 << 20;
/// Smaller reads cost more in system calls than they save.
const LEAST: usize = 16 << 10;

/// Octets of unused buffers that are kept for the next client.
const POOLED: usize = 16 << 20;

/// Files that are replayed to each client.
pub struct Replay {
    /// The files, in the order given, each with its number in the books.
    pub sources: Vec<(usize, SourceSpec)>,
    /// How a client's feed is made.
    pub feed: FeedOptions,
    /// Time, unless the operator said otherwise.
    pub order: Order,
    /// The hub's clock.
    pub clock: Clock,
    /// Buffers.
    pub pool: Pool,
    /// What all clients together may have.
    pub allowance: Allowance,
    /// Through which files are opened.
    pub opener: Arc<dyn Opener>,
    /// Where to say what happens.
    pub events: Events,
    /// The hub's counts.
    pub books: Books,
    /// What ends it before the end of the files.
    pub shutdown: Shutdown,
    /// The filters of all sinks.
    pub filters: Filters,
    /// When a client that acknowledges nothing is dead.
    pub client_timeout: Duration,
}

/// What the next client of a listener is served: the files from their beginning, or, where there is nothing
/// here, what the hub shares. Clones share it.
#[derive(Clone, Default)]
pub struct Present {
    replay: Arc<Mutex<Option<Arc<Replay>>>>,
}

impl Present {
    /// These files, or what the hub shares.
    pub fn new(replay: Option<Replay>) -> Self {
        Present { replay: Arc::new(Mutex::new(replay.map(Arc::new))) }
    }

    /// From now on, clients are served this; those who are there stay with what they have.
    pub fn set(&self, replay: Option<Replay>) {
        *self.replay.lock().unwrap_or_else(PoisonError::into_inner) = replay.map(Arc::new);
    }

    /// The files, if that is what clients are served.
    pub fn present(&self) -> Option<Arc<Replay>> {
        self.replay.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// One file while it is replayed.
struct Track {
    lane: LaneId,
    reader: Box<dyn Read + Send>,
    framing: Framing,
    own_filter: Option<Marker>,
    filters: Marker,
    shaper: Shaper,
    ended: bool,
}

impl Replay {
    /// Serves a client on a thread of its own; `clients` has a task until it is done. Once `revoked` is
    /// ready, it has to go.
    pub fn welcome<S: Client>(
        self: Arc<Self>,
        stream: io::Result<S>,
        name: String,
        place: Place,
        clients: &mut JoinSet<()>,
        revoked: impl Future<Output = &'static str> + Send + 'static,
    ) {
        let refused = |why: &str| self.events.emit(Event::ClientRefused { client: &name, why });
        let Some(memory) = self.allowance.take(self.cost()) else {
            return refused("there is no memory for another client under --max-memory");
        };
        let mut stream = match stream.and_then(Client::blocking) {
            Ok(stream) => stream,
            Err(error) => return refused(&error.to_string()),
        };
        let plain = stream.is_plain();
        let handle = match stream.socket() {
            Ok(handle) => handle,
            Err(error) => return refused(&error.to_string()),
        };
        let (done, ended) = tokio::sync::oneshot::channel::<()>();
        let (replay, client) = (self.clone(), name.clone());
        let cut = Arc::new(OnceLock::new());
        let why_cut = cut.clone();
        let serve = move || {
            replay.events.emit(Event::ClientCame { client: &client });
            let (mut left, counts) =
                replay.play_to(&client, &mut Patient { stream: &mut stream, replay: &replay });
            if let Some(why) = why_cut.get() {
                left = Left::Peer(io::Error::other(*why));
            }
            replay.say_farewell(&client, &left, counts, stream.unacknowledged());
            if linger(stream).is_some_and(|said| plain && looks_like_hello(&said)) {
                replay.events.emit(Event::SpokeTls { client: &client });
            }
            drop((place, memory, done));
        };
        match std::thread::Builder::new().name("client".into()).stack_size(256 << 10).spawn(serve) {
            Ok(_) => drop(clients.spawn(async move {
                let mut ended = ended;
                tokio::select! {
                    _ = &mut ended => return,
                    // That it is gone already does not matter.
                    why = revoked => {
                        let _ = cut.set(why);
                        drop(SockRef::from(&handle).shutdown(net::Shutdown::Both));
                    }
                }
                let _ = ended.await;
            })),
            Err(error) => refused(&format!("cannot start a thread: {error}")),
        }
    }

    fn say_farewell(&self, name: &str, left: &Left, counts: Option<SubscriberSnapshot>, unacknowledged: u32) {
        let packets = counts.as_ref().map_or(0, |counts| counts.delivered);
        let lost = counts.map_or(0, |counts| counts.dropped.total() + counts.queued);
        let why = match left {
            // A client that got everything acknowledges the last of it in a moment.
            Left::Peer(_) if unacknowledged > 0 => {
                format!("{left}, {unacknowledged} octets not acknowledged")
            }
            _ => left.to_string(),
        };
        self.events.emit(Event::ClientLeft { client: name, packets, lost, why: &why });
    }

    /// The whole stream to one socket, on the calling thread; how it ended, and what it got.
    ///
    /// Reading and writing in turn costs least CPU, which counts where there are many clients.
    fn play_to(&self, name: &str, stream: &mut dyn Write) -> (Left, Option<SubscriberSnapshot>) {
        let (mut feed, mut pen) = self.feed(name);
        let result = self.play(&mut feed, &mut |feed, linktype| {
            if let Some(linktype) = linktype {
                feed.expect_linktype(linktype);
                pen.begin(feed.ring().linktype().unwrap_or(linktype));
            }
            drain_to(&mut pen, stream)
        });
        let left = match result {
            Ok(()) => Left::Feed(Ending::Ended),
            Err(error) => Left::Peer(error),
        };
        if matches!(left, Left::Peer(_)) {
            pen.lay_down();
        }
        let counts = pen.subscriber().snapshot();
        drop(pen);
        self.retire(name, &mut feed);
        (left, counts)
    }

    /// The whole stream to standard output or a file, read and written on two threads; how it
    /// ended.
    ///
    /// There is one such writer, and it is to be as fast as the machine is.
    pub fn pipe_to(
        &self,
        name: &str,
        target: &mut dyn Target,
        when_full: WhenFull,
        on_full: OnFull<'_>,
    ) -> Left {
        let (mut feed, mut pen) = self.feed(name);
        let left = std::thread::scope(|scope| {
            let reading = std::thread::Builder::new().name("source".into());
            let started = reading.spawn_scoped(scope, || {
                let result = self.play(&mut feed, &mut |feed, linktype| {
                    if let Some(linktype) = linktype {
                        feed.expect_linktype(linktype);
                    }
                    block_on(|cx| feed.ring().poll_room(cx));
                    let gone = feed.ring().subscribers().0 == 0;
                    if gone { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
                });
                feed.ring().end();
                result
            });
            match started {
                Ok(_) => {
                    let left = to_writer(&mut pen, target, when_full, on_full);
                    drop(pen);
                    left
                }
                Err(error) => Left::Peer(error),
            }
        });
        self.retire(name, &mut feed);
        left
    }

    /// What one client may have in memory, in octets.
    fn cost(&self) -> usize {
        let reader = |spec: &SourceSpec| {
            let window = codec::window(path_of(spec), self.opener.as_ref());
            self.pool.size() + window
        };
        ITS_OWN.min(4 * self.pool.size()) + self.sources.iter().map(|(_, spec)| reader(spec)).sum::<usize>()
    }

    fn feed(&self, name: &str) -> (Feed, Pen) {
        let interfaces = Interfaces::new();
        let feed = Feed::new(self.feed.clone(), interfaces.clone());
        self.books.add_ring(feed.ring().clone());
        let pen =
            Pen::new(Subscriber::join(feed.ring(), name.into(), Start::Next), Announcements::new(interfaces));
        (feed, pen)
    }

    fn retire(&self, name: &str, feed: &mut Feed) {
        self.books.retire_ring(feed.ring());
        if let Some(other) = feed.take_mismatch() {
            let has = feed.ring().linktype();
            let has: &(dyn std::fmt::Display + Sync) = has.as_ref().map_or(&"nothing", |linktype| linktype);
            self.events.emit(Event::LinkTypeMismatch { sink: name, has, other });
        }
    }

    /// The whole stream into a feed, from the first octet to the last. `deliver` is called after
    /// each step; the first time that the linktype is known, with it.
    fn play(
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
        if feed.wants_wall_clock() {
            feed.set_wall_clock(wall_clock());
        }
        let mut forwarded = vec![0u64; tracks.len()];
        merge.drain(now, STEP_OCTETS, &mut |batch, run, lane| {
            // Lanes were opened in the order of the tracks, and none is opened later.
            if let Some(count) = forwarded.get_mut(lane.slot()) {
                *count += run.len() as u64;
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
                own_filter: spec.filter.as_ref().and_then(|text| {
                    let filter = filter::compiled(&spec.name, text).ok()?;
                    Some(Marker::new([filter].into_iter().collect(), interfaces.clone()))
                }),
                filters: Marker::new(self.filters.clone(), interfaces.clone()),
                shaper: Shaper::new(spec.shape),
                ended: false,
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
        let mut errors = None;
        if let Some(filter) = own_filter {
            decoded.filtered += filter.keep(&mut decoded.batch);
            errors = filter.take_error();
        }
        decoded.filtered += shaper.choose(&mut decoded.batch);
        shaper.alter(&mut decoded.batch, wall_clock());
        filters.mark(&mut decoded.batch);
        for why in errors.into_iter().chain(filters.take_error()) {
            let source = self.sources.get(index).map_or("", |(_, spec)| &spec.name);
            self.events.emit(Event::FilterUnfit { source, why: &why });
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

/// Reads a file's header, so that one which is no capture is refused before any client comes; what
/// it is written in.
///
/// # Errors
/// What it is instead, or that it cannot be read.
pub fn check(spec: &SourceSpec, opener: &dyn Opener) -> Result<Option<Format>, SourceError> {
    let cannot = |error: io::Error| SourceError::io(spec, "cannot read it", &error);
    let mut reader = open(spec, opener).map_err(cannot)?;
    let options = decoder_options(&spec.name, spec.named, spec.linktype);
    let mut framing = Framing::new(Pool::new(64 << 10, 0), options, Interfaces::new(), 0);
    while framing.decoder().format().is_none() {
        let n = reader.read(framing.spare()).map_err(cannot)?;
        let result = match n {
            0 => framing.finish().map_err(FramingError::from),
            n => framing.received(n, wall_clock()).1,
        };
        // What is wrong further on is told to those who were sent what comes before it.
        if let (Err(error), None) = (result, framing.decoder().format()) {
            return Err(SourceError::because(spec, error.to_string()));
        }
        if n == 0 {
            break;
        }
    }
    Ok(framing.decoder().format())
}

/// A file, or what standard input was redirected from: from its beginning, whoever reads it too.
fn open(spec: &SourceSpec, opener: &dyn Opener) -> io::Result<Box<dyn Read + Send>> {
    codec::unpacked_file(opener.read_file(path_of(spec))?)
}

fn path_of(spec: &SourceSpec) -> &Path {
    match spec.endpoint.scheme {
        Scheme::Stdio => Path::new("/dev/stdin"),
        _ => Path::new(&spec.endpoint.address),
    }
}

fn first_linktype(tracks: &[Track]) -> Option<LinkType> {
    tracks.iter().find_map(|track| track.framing.decoder().linktype())
}

/// Writes what the feed has published.
fn drain_to(pen: &mut Pen, stream: &mut dyn Write) -> io::Result<()> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    write_due(pen, stream)?;
    while let std::task::Poll::Ready(Ok(())) = pen.poll_fill(&mut cx) {
        write_due(pen, stream)?;
    }
    Ok(())
}

/// Reads and forgets what the client sent, until it closes: unread octets would turn our close
/// into a reset, which could overtake the last packets.
///
/// Returns how what it said in the clear began, if it said something.
fn linger(mut stream: impl Client) -> Option<Vec<u8>> {
    stream.close(net::Shutdown::Write);
    let mut reading = stream.socket().ok()?;
    let (done, ended) = std::sync::mpsc::sync_channel::<Vec<u8>>(1);
    let discard = move || {
        let mut buffer = [0; 512];
        let mut said = Vec::new();
        while let Ok(n) = reading.read(&mut buffer)
            && n > 0
        {
            if said.is_empty() {
                said.extend(buffer.iter().take(n.min(SAID)));
            }
        }
        let _ = done.send(said);
    };
    let thread = std::thread::Builder::new().name("linger".into()).stack_size(64 << 10).spawn(discard);
    thread.ok()?;
    let said = ended.recv_timeout(LINGER);
    stream.close(net::Shutdown::Both);
    said.or_else(|_| ended.recv_timeout(LINGER)).ok()
}

/// What is looked at of what a client said.
const SAID: usize = 16;

/// A client's socket, and how long it is waited for: as long as its peer is there.
struct Patient<'a, S> {
    stream: &'a mut S,
    replay: &'a Replay,
}

impl<S: Client> Patient<'_, S> {
    /// A write that waited for [`CHECK`] in vain: whether to wait on.
    fn look_after(&self) -> io::Result<()> {
        let dead = self.stream.state().is_some_and(|state| is_dead(&state, self.replay.client_timeout));
        if dead {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.replay.shutdown.phase() == Phase::Stopping {
            return Err(io::Error::other("stopped"));
        }
        Ok(())
    }
}

impl<S: Client> Write for Patient<'_, S> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[io::IoSlice::new(octets)])
    }

    fn write_vectored(&mut self, pieces: &[io::IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match self.stream.write_vectored(pieces) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.look_after()?,
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How often a client that takes nothing is looked after.
const CHECK: Duration = Duration::from_secs(2);

/// A client's socket, which its thread waits for.
pub trait Client: Write + Send + Sized + 'static {
    /// What it is made of.
    type Socket: Read + Send + AsFd + 'static;
    /// The same socket, in blocking mode; a write waits for a few seconds at most.
    ///
    /// # Errors
    /// Of the system.
    fn blocking(self) -> io::Result<Self>;
    /// Another handle of the socket itself.
    ///
    /// # Errors
    /// Of the system.
    fn socket(&self) -> io::Result<Self::Socket>;
    /// Shuts it down; that it is gone already does not matter.
    fn close(&mut self, how: net::Shutdown);
    /// Whether the socket carries the stream as it is.
    fn is_plain(&self) -> bool;
    /// Octets that the kernel took and its peer has not acknowledged.
    fn unacknowledged(&self) -> u32;
    /// What the kernel knows of the peer; `None` where it says nothing, as of a Unix socket.
    fn state(&self) -> Option<PeerState>;
}

macro_rules! client {
    ($socket:ty) => {
        impl Client for $socket {
            type Socket = $socket;

            fn blocking(self) -> io::Result<Self> {
                self.set_nonblocking(false)?;
                self.set_write_timeout(Some(CHECK))?;
                Ok(self)
            }

            fn socket(&self) -> io::Result<Self::Socket> {
                self.try_clone()
            }

            fn close(&mut self, how: net::Shutdown) {
                let _ = self.shutdown(how);
            }

            fn is_plain(&self) -> bool {
                true
            }

            fn unacknowledged(&self) -> u32 {
                // Where the system does not say, as of a Unix socket, nothing is known to be lost.
                pcaphub_sys::unacknowledged(self).unwrap_or(0)
            }

            fn state(&self) -> Option<PeerState> {
                pcaphub_sys::peer_state(self).ok()
            }
        }
    };
}

client!(net::TcpStream);
client!(UnixStream);

impl Client for Blocking {
    type Socket = net::TcpStream;

    fn blocking(self) -> io::Result<Self> {
        let socket = Blocking::socket(&self);
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(CHECK))?;
        Ok(self)
    }

    fn socket(&self) -> io::Result<Self::Socket> {
        Blocking::socket(self).try_clone()
    }

    fn close(&mut self, how: net::Shutdown) {
        Blocking::close(self, how);
    }

    fn is_plain(&self) -> bool {
        false
    }

    fn unacknowledged(&self) -> u32 {
        pcaphub_sys::unacknowledged(Blocking::socket(self)).unwrap_or(0)
    }

    fn state(&self) -> Option<PeerState> {
        pcaphub_sys::peer_state(Blocking::socket(self)).ok()
    }
}
