//! Files, replayed: every client of a listener gets the whole stream from its beginning, at its
//! own pace, on a thread of its own. So does standard output or a file where it is the only sink.
//!
//! It is the same path as in [`hub`](crate::hub), with a feed that has one subscriber, and pulled
//! by the client instead of pushed by the sources: read, decode, merge, encode, write.
//!
//! Here is what a client is served and how it comes and goes; `play.rs` is its path, `file.rs` what that reads,
//! `client.rs` the socket that it ends in.

mod client;
mod file;
mod play;

pub use client::Client;
pub use file::check;

use std::io::{self, Write};
use std::net;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use pcaphub_core::buffer::Pool;
use pcaphub_core::feed::{Announcements, Ending, Feed, FeedOptions, Start, Subscriber, SubscriberSnapshot};
use pcaphub_core::filter::Filters;
use pcaphub_core::interface::Interfaces;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::merge::Order;
use socket2::SockRef;
use tokio::task::JoinSet;

use crate::allowance::Allowance;
use crate::clients::Place;
use crate::clock::Clock;
use crate::codec;
use crate::event::{Event, Events, Mismatch, Onto};
use crate::framing;
use crate::limits::Limits;
use crate::opener::Opener;
use crate::pen::{Left, Pen};
use crate::plan::SourceSpec;
use crate::shutdown::Shutdown;
use crate::stats::Books;
use crate::thread::block_on;
use crate::tls::looks_like_hello;
use crate::write::{OnFull, Target, WhenFull, to_writer, write_due};

use client::{Patient, linger};
use file::path_of;

/// What a private feed's ring may hold. Chunks are written as they are made, so it holds one.
pub const RING_OCTETS: usize = 2 << 20;

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
    /// What serves them: a sink.
    pub name: Arc<str>,
    /// Its number, which all its subscribers have as their group.
    pub group: u64,
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
    /// The filters of the files, in the order given.
    pub own_filters: Vec<Filters>,
    /// The filters of all sinks.
    pub filters: Filters,
    /// When a client that acknowledges nothing is dead.
    pub client_timeout: Duration,
    /// Linktypes of which it was told that packets are dropped.
    pub mismatched: Mutex<Vec<LinkType>>,
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
            let (timeout, shutdown) = (replay.client_timeout, &replay.shutdown);
            let mut patient = Patient { stream: &mut stream, timeout, shutdown };
            let (mut left, counts) = replay.play_to(&client, &mut patient);
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
        self.retire(&mut feed);
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
        self.retire(&mut feed);
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
        let subscriber = Subscriber::join_group(feed.ring(), name.into(), Start::Next, self.group);
        (feed, Pen::new(subscriber, Announcements::new(interfaces)))
    }

    fn retire(&self, feed: &mut Feed) {
        self.books.retire_ring(feed.ring());
        let mut told = self.mismatched.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(other) = feed.take_mismatch() {
            // The same files have the same linktypes for every client.
            if !told.contains(&other) {
                told.push(other);
                let mismatch = Mismatch { onto: Onto::Stream, has: feed.ring().linktype(), other };
                self.events.emit(Event::LinkTypeMismatch { sink: &self.name, mismatch });
            }
        }
    }
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
