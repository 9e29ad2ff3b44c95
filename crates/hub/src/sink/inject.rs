//! `if:NAME` as a sink: packets onto a network interface, at their original distances or at a rate.
//!
//! The feed hands over classic records in Ethernet; a thread of its own sends each when it is due, as
//! many at once as are due together.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use pcaphub_core::feed::{Chunk, Ending, Start, Subscriber};
use pcaphub_core::pace::{Pace, Pacer};
use pcaphub_core::segment;
use pcaphub_core::stats::{DropCounts, DropReason};
use pcaphub_core::time::{Monotonic, Timestamp};

use super::{Context, Opening, Sink, SinkError};
use crate::event::Event;
use crate::opener::Wire;
use crate::plan::{Key, Oversize, SinkSpec};
use crate::shutdown::Phase;
use crate::source::Pending;
use crate::write::block_on;

pub(super) const KEYS: &[Key] = &[
    Key { name: "create", help: "tap: make the interface, and take it away at the end (CAP_NET_ADMIN)" },
    Key { name: "oversize", help: "packets over the MTU: drop, segment (TCP), or truncate" },
    Key { name: "mac-src", help: "source address of packets that had no Ethernet header" },
    Key { name: "mac-dst", help: "destination address of those" },
    Key { name: "force", help: "yes: also onto an interface that is captured from" },
];

/// Octets of chunks that are taken at once.
const TAKE: usize = 256 << 10;
/// Packets that one system call is given at most.
const TOGETHER: usize = 256;
/// Packets due within this time go together: less than the system needs to wake a thread in time.
const SOON: Duration = Duration::from_micros(50);
/// How long a thread sleeps at once, so that an ended hub is noticed.
const NAP: Duration = Duration::from_millis(50);
/// How often an interface that is down is tried again.
const TRY: Duration = Duration::from_millis(100);
/// How long to wait where the interface's queue is full and does not tell when it is not.
const FULL: Duration = Duration::from_millis(1);

struct Injection {
    spec: SinkSpec,
    wire: Box<dyn Wire>,
}

pub(super) fn open(spec: &SinkSpec, opening: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    let interface = &spec.endpoint.address;
    let opened = match spec.injection.create_tap {
        true => opening.opener.tap(interface),
        false => opening.opener.injector(interface),
    };
    let wire = opened.map_err(|error| cannot(spec, &error))?;
    Ok(Box::new(Injection { spec: spec.clone(), wire }))
}

/// What went wrong at start, and what to do about it.
fn cannot(spec: &SinkSpec, error: &io::Error) -> SinkError {
    let interface = &spec.endpoint.address;
    let permission = error.kind() == io::ErrorKind::PermissionDenied;
    let right = if spec.injection.create_tap { "CAP_NET_ADMIN" } else { "CAP_NET_RAW" };
    let why = match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "{}: {} needs the right {right}; grant it in one of three ways: \
             sudo setcap {}+ep {}, or under systemd AmbientCapabilities={right}, or run it as root (sudo)",
            spec.name,
            if spec.injection.create_tap { "making an interface" } else { "sending on an interface" },
            right.to_lowercase(),
            std::env::current_exe().map_or_else(|_| "pcaphub".into(), |path| path.display().to_string()),
        ),
        io::ErrorKind::NotFound => format!(
            "there is no interface {interface}; `pcaphub interfaces` lists those that there are, \
             create=tap makes it (if:{interface}?create=tap)"
        ),
        io::ErrorKind::AlreadyExists => {
            format!("there is an interface {interface} already; leave out create=tap, or give another name")
        }
        io::ErrorKind::Unsupported => format!(
            "{interface}: packets can be sent on Ethernet interfaces only; an own one is made by create=tap"
        ),
        _ => format!("{}: cannot send on {interface}: {error}", spec.name),
    };
    SinkError { why, permission, usage: false }
}

impl Sink for Injection {
    fn run(self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>> {
        let subscriber = Subscriber::join(&context.ring, self.spec.name.clone(), Start::Next);
        context.gate.open();
        let (done, ended) = tokio::sync::oneshot::channel();
        let inject = move || {
            let pacer = Pacer::new(self.spec.pace.unwrap_or(Pace::Max));
            let sending = Sending {
                mtu: self.wire.mtu(),
                spec: self.spec,
                wire: self.wire,
                pacer,
                subscriber,
                context,
                segments: Vec::new(),
                segment: Vec::new(),
                down: false,
            };
            let _ = done.send(sending.run());
        };
        let started = std::thread::Builder::new().name("sink".into()).spawn(inject);
        Box::pin(async move {
            started.map_err(|error| format!("cannot start a thread: {error}"))?;
            ended.await.unwrap_or(Ok(()))
        })
    }
}

/// The thread that sends.
struct Sending {
    spec: SinkSpec,
    wire: Box<dyn Wire>,
    /// Octets of the network layer that a packet may have.
    mtu: usize,
    pacer: Pacer,
    subscriber: Subscriber,
    context: Context,
    /// What super-packets were cut into, and the part cut last.
    segments: Vec<u8>,
    segment: Vec<u8>,
    down: bool,
}

/// What a chunk's packets come to.
#[derive(Default)]
struct Due {
    /// Where in the chunk, or in the segments, they are.
    frames: Vec<Frame>,
    /// Packets of the chunk that are among them.
    packets: u64,
    dropped: DropCounts,
}

enum Frame {
    OfChunk(Range<usize>),
    Segment(Range<usize>),
}

/// Told to stop, or the feed let us go.
struct Stopped;

impl Sending {
    fn run(mut self) -> Result<(), String> {
        let mut hand = VecDeque::new();
        loop {
            let taken = block_on(|cx| self.subscriber.poll_take(cx, TAKE, &mut hand));
            match taken {
                Ok(_) => {}
                Err(Ending::Ended | Ending::Stopped | Ending::TooSlow | Ending::HeaderChanged) => {
                    return Ok(());
                }
            }
            while let Some(chunk) = hand.pop_front() {
                match self.send_chunk(&chunk) {
                    Ok(Ok(())) => self.subscriber.confirm(1, chunk.octets.len()),
                    Ok(Err(Stopped)) => return Ok(()),
                    Err(error) => return Err(format!("{}: cannot send: {error}", self.spec.name)),
                }
            }
        }
    }

    fn send_chunk(&mut self, chunk: &Chunk) -> io::Result<Result<(), Stopped>> {
        let mut due = Due::default();
        for (timestamp, origlen, octets) in records(&chunk.octets) {
            let at = self.due(timestamp, octets.len());
            let wait = at.since(self.context.clock.now());
            let together = wait <= SOON && due.frames.len() < TOGETHER;
            if !together
                && !due.is_empty()
                && let Err(stopped) = self.send(chunk, &mut due)?
            {
                return Ok(Err(stopped));
            }
            if wait > SOON && self.sleep_until(at).is_err() {
                return Ok(Err(Stopped));
            }
            self.prepare(chunk, octets, origlen, &mut due);
        }
        self.send(chunk, &mut due)
    }

    fn due(&mut self, timestamp: Timestamp, caplen: usize) -> Monotonic {
        let now = self.context.clock.now();
        self.pacer.due(timestamp, u32::try_from(caplen).unwrap_or(u32::MAX), now)
    }

    /// Makes of a packet what can be sent.
    fn prepare(&mut self, chunk: &Chunk, packet: Range<usize>, origlen: u32, due: &mut Due) {
        let octets = chunk.octets.get(packet.clone()).unwrap_or_default();
        let most = self.mtu + link_header(octets);
        due.packets += 1;
        if octets.len() < ETHERNET_HEADER {
            return due.lose(DropReason::TooShort);
        }
        if octets.len() <= most {
            return due.frames.push(Frame::OfChunk(packet));
        }
        match self.spec.injection.oversize {
            Oversize::Drop => due.lose(DropReason::OverMtu),
            Oversize::Truncate => due.frames.push(Frame::OfChunk(packet.start..packet.start + most)),
            Oversize::Segment => {
                let Ok(mut segments) = segment::segments(octets, origlen, self.mtu) else {
                    return due.lose(DropReason::OverMtu);
                };
                while segments.write_next(&mut self.segment) {
                    let start = self.segments.len();
                    self.segments.extend_from_slice(&self.segment);
                    due.frames.push(Frame::Segment(start..self.segments.len()));
                }
            }
        }
    }

    /// Sends all that is due, however long the interface takes.
    fn send(&mut self, chunk: &Chunk, due: &mut Due) -> io::Result<Result<(), Stopped>> {
        let due = std::mem::take(due);
        let segments = std::mem::take(&mut self.segments);
        let octets = |frame: &Frame| match frame {
            Frame::OfChunk(range) => chunk.octets.get(range.clone()),
            Frame::Segment(range) => segments.get(range.clone()),
        };
        let frames: Vec<&[u8]> = due.frames.iter().filter_map(octets).collect();
        let mut lost = due.dropped;
        let mut rest = frames.as_slice();
        while !rest.is_empty() {
            let sent = match self.wire.send(rest) {
                Ok(sent) => {
                    if std::mem::replace(&mut self.down, false) {
                        self.context.events.emit(Event::SinkHasRoom { sink: &self.spec.name });
                    }
                    sent
                }
                Err(error) => match error.raw_os_error().map(Refusal::of) {
                    Some(Refusal::TooLarge) => {
                        lost.add(DropReason::OverMtu, 1);
                        1
                    }
                    Some(Refusal::Full) => {
                        let _ = self.wire.wait(FULL);
                        0
                    }
                    Some(Refusal::Down) => {
                        self.wait_for_interface(&error);
                        0
                    }
                    _ if error.kind() == io::ErrorKind::WouldBlock => {
                        let _ = self.wire.wait(NAP);
                        0
                    }
                    _ if error.kind() == io::ErrorKind::Interrupted => 0,
                    _ => return Err(error),
                },
            };
            rest = rest.get(sent..).unwrap_or_default();
            if sent == 0 && self.is_stopped() {
                return Ok(Err(Stopped));
            }
        }
        for (reason, packets) in lost.nonzero() {
            self.subscriber.lose_part(reason, packets);
        }
        self.subscriber.confirm_part(due.packets.saturating_sub(lost.total()));
        self.segments = segments;
        self.segments.clear();
        Ok(Ok(()))
    }

    /// The interface is down, or away: what follows goes at its pace from when it is back.
    fn wait_for_interface(&mut self, why: &io::Error) {
        if !std::mem::replace(&mut self.down, true) {
            let why = format!("the interface is down ({why})");
            self.context.events.emit(Event::SinkRetried { sink: &self.spec.name, why: &why, pause: TRY });
        }
        self.pacer.restart();
        std::thread::sleep(TRY);
        let _ = self.wire.reopen();
    }

    fn sleep_until(&self, at: Monotonic) -> Result<(), Stopped> {
        loop {
            let left = at.since(self.context.clock.now());
            if left.is_zero() {
                return Ok(());
            }
            if self.is_stopped() {
                return Err(Stopped);
            }
            pcaphub_sys::sleep_until(Instant::now() + left.min(NAP));
        }
    }

    fn is_stopped(&self) -> bool {
        self.context.told.phase() > Phase::Running || self.context.shutdown.phase() >= Phase::Stopping
    }
}

impl Due {
    fn is_empty(&self) -> bool {
        self.packets == 0
    }

    fn lose(&mut self, reason: DropReason) {
        self.dropped.add(reason, 1);
    }
}

/// What an interface says that does not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    TooLarge,
    Full,
    Down,
    Other,
}

impl Refusal {
    fn of(code: i32) -> Self {
        use rustix::io::Errno;
        match Errno::from_raw_os_error(code) {
            Errno::MSGSIZE => Refusal::TooLarge,
            Errno::NOBUFS => Refusal::Full,
            Errno::NETDOWN | Errno::NXIO | Errno::NODEV | Errno::IO => Refusal::Down,
            _ => Refusal::Other,
        }
    }
}

/// The Ethernet header, in octets.
const ETHERNET_HEADER: usize = 14;

/// What stands before the network layer: the Ethernet header and VLAN tags, which the MTU does not
/// count.
fn link_header(octets: &[u8]) -> usize {
    let tagged = matches!(octets.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]));
    if tagged { ETHERNET_HEADER + 4 } else { ETHERNET_HEADER }
}

/// The packets of a chunk of classic records with nanoseconds: times, original lengths, places.
fn records(octets: &[u8]) -> impl Iterator<Item = (Timestamp, u32, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let header = octets.get(at..at + 16)?;
        let word = |place: usize| {
            header
                .get(place..)
                .and_then(|rest| rest.first_chunk())
                .map_or(0, |chunk| u32::from_le_bytes(*chunk))
        };
        let start = at + 16;
        at = start + word(8) as usize;
        Some((Timestamp::new(word(0).into(), word(4).into()), word(12), start..at))
    })
}
