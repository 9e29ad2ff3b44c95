//! `if:NAME` as a sink: packets onto a network interface, at their original distances or at a rate.
//!
//! The feed hands over classic records in Ethernet; a thread of its own sends each when it is due, as
//! many at once as are due together.

use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::time::{Duration, Instant};

use pcaphub_core::feed::{Chunk, Ending, Subscriber};
use pcaphub_core::pace::{Pace, Pacer};
use pcaphub_core::stats::DropReason;
use pcaphub_core::time::{Monotonic, Timestamp};

use super::due::{Due, Fitting};
use super::{Context, Opening, Sink, SinkError};
use crate::event::Event;
use crate::opener::Wire;
use crate::plan::{Key, SinkSpec};
use crate::shutdown::Phase;
use crate::source::Pending;
use crate::thread::block_on;

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
/// While packets do not fit, the interface is asked this often whether its MTU is another one now.
const ASK: Duration = Duration::from_millis(100);
/// What interfaces are made by.
const TUN: &str = "/dev/net/tun";
/// How often it is asked whether it has a carrier: a packet that is sent without one is taken and lost.
const LOOK: Duration = Duration::from_millis(10);
/// How long to wait where the interface's queue is full: nothing tells when it is not, as a refused packet
/// leaves the socket writable.
const FULL: Duration = Duration::from_millis(1);

struct Injection {
    spec: SinkSpec,
    wire: Box<dyn Wire>,
}

pub(super) fn open(spec: &SinkSpec, opening: &Opening) -> Result<Box<dyn Sink>, SinkError> {
    let interface = &spec.endpoint.address;
    if spec.injection.create_tap && !is_name(interface) {
        let why = format!(
            "{}: an interface cannot be called `{interface}`: a name has 1 to 15 octets, without spaces, `/`, `:` and `%`",
            spec.name
        );
        return Err(SinkError { why, permission: false, usage: true });
    }
    let opened = match spec.injection.create_tap {
        true => opening.opener.tap(interface),
        false => opening.opener.injector(interface),
    };
    let wire = opened.map_err(|error| cannot(spec, &error))?;
    Ok(Box::new(Injection { spec: spec.clone(), wire }))
}

/// Whether the system lets an interface have this name, and takes it as it is.
fn is_name(name: &str) -> bool {
    (1..16).contains(&name.len())
        && ![".", ".."].contains(&name)
        && name.bytes().all(|octet| octet.is_ascii_graphic() && !b"/:%".contains(&octet))
}

/// What went wrong at start, and what to do about it.
fn cannot(spec: &SinkSpec, error: &io::Error) -> SinkError {
    let interface = &spec.endpoint.address;
    let permission = error.kind() == io::ErrorKind::PermissionDenied;
    let right = if spec.injection.create_tap { "CAP_NET_ADMIN" } else { "CAP_NET_RAW" };
    let why = match error.kind() {
        // The system's own error is of opening the device; what is missing for the rest is a right.
        io::ErrorKind::PermissionDenied if spec.injection.create_tap && error.raw_os_error().is_some() => {
            format!(
                "{}: making an interface needs {TUN}, which may not be opened here ({error}), whatever rights \
                 there are; `sudo chmod 0666 {TUN}`, its usual mode, lets every user open it (a device is made \
                 anew at boot: a udev rule keeps it so, KERNEL==\"tun\", MODE=\"0666\"), a container and a unit \
                 of systemd need it allowed (--device {TUN}, DeviceAllow={TUN} rw), or run it as root (sudo)",
                spec.name
            )
        }
        io::ErrorKind::NotFound if spec.injection.create_tap => format!(
            "{}: making an interface needs {TUN}, which is not there: `sudo modprobe tun` brings it, into a \
             container --device {TUN}",
            spec.name
        ),
        io::ErrorKind::PermissionDenied => format!(
            "{}: {} needs the right {right}; grant it in one of three ways: \
             sudo setcap {}+ep {}, or under systemd AmbientCapabilities={right}, or run it as root (sudo)",
            spec.name,
            if spec.injection.create_tap { "making an interface" } else { "sending on an interface" },
            right.to_lowercase(),
            std::env::current_exe().map_or_else(|_| "pcaphub".into(), |path| path.display().to_string()),
        ),
        io::ErrorKind::NotFound if interface == "any" => {
            "packets are sent on one interface, not on `any`; `pcaphub interfaces` lists them".into()
        }
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
        let subscriber = context.subscribe(&self.spec.name);
        let (done, ended) = tokio::sync::oneshot::channel();
        let inject = move || {
            let pace = self.spec.pace.unwrap_or(Pace::Max);
            let sending = Sending {
                fitting: Fitting { mtu: self.wire.mtu(), oversize: self.spec.injection.oversize },
                asked: context.clock.now(),
                looked: None,
                spec: self.spec,
                wire: self.wire,
                pace,
                pacer: Pacer::new(pace),
                subscriber,
                context,
                due: Due::default(),
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
    fitting: Fitting,
    /// When the interface was asked for its MTU.
    asked: Monotonic,
    /// When it was asked for its carrier.
    looked: Option<Monotonic>,
    pace: Pace,
    pacer: Pacer,
    subscriber: Subscriber,
    context: Context,
    /// What is to be sent next, together.
    due: Due,
    down: bool,
}

/// Told to stop, or the feed let us go.
struct Stopped;

/// Why not all frames were taken.
enum Halt {
    /// The next one is larger than the interface takes.
    TooLarge,
    Stopped,
    Failed(io::Error),
}

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
                    // Its octets were counted as they went.
                    Ok(Ok(())) => self.subscriber.confirm(1, 0),
                    Ok(Err(Stopped)) => return Ok(()),
                    Err(error) => return Err(format!("{}: cannot send: {error}", self.spec.name)),
                }
            }
        }
    }

    fn send_chunk(&mut self, chunk: &Chunk) -> io::Result<Result<(), Stopped>> {
        for (timestamp, origlen, packet) in records(&chunk.octets) {
            let later = self.due_later(timestamp, packet.len());
            let together = later.is_none() && self.due.len() < TOGETHER;
            if !together
                && !self.due.is_empty()
                && let Err(stopped) = self.send(chunk)?
            {
                return Ok(Err(stopped));
            }
            if let Some(at) = later
                && self.sleep_until(at).is_err()
            {
                return Ok(Err(Stopped));
            }
            let octets = chunk.octets.get(packet.clone()).unwrap_or_default();
            if octets.len() > self.fitting.most(octets) {
                self.look_at_mtu();
            }
            self.due.add(&chunk.octets, packet, origlen, self.fitting);
        }
        self.send(chunk)
    }

    /// When a packet is due, where that is not soon. At top speed no clock is read for it.
    fn due_later(&mut self, timestamp: Timestamp, caplen: usize) -> Option<Monotonic> {
        if self.pace == Pace::Max {
            return None;
        }
        let now = self.context.clock.now();
        let at = self.pacer.due(timestamp, u32::try_from(caplen).unwrap_or(u32::MAX), now);
        (at.since(now) > SOON).then_some(at)
    }

    /// Asks for the MTU, which may have been changed, if that is not known already.
    fn look_at_mtu(&mut self) {
        let now = self.context.clock.now();
        if now.since(self.asked) >= ASK {
            self.asked = now;
            self.fitting.mtu = self.wire.mtu();
        }
    }

    /// Sends all that is due, however long the interface takes.
    fn send(&mut self, chunk: &Chunk) -> io::Result<Result<(), Stopped>> {
        let mut due = std::mem::take(&mut self.due);
        let mut sent = 0;
        let halted = loop {
            let (taken, halt) = self.send_frames(&due.octets(&chunk.octets, sent));
            due.took(sent..sent + taken);
            sent += taken;
            match halt {
                None => break Ok(Ok(())),
                Some(Halt::Stopped) => break Ok(Err(Stopped)),
                Some(Halt::Failed(error)) => break Err(error),
                Some(Halt::TooLarge) => {
                    let mtu = self.wire.mtu();
                    if mtu == self.fitting.mtu {
                        sent = due.refused(sent, DropReason::OverMtu);
                        continue;
                    }
                    (self.fitting.mtu, self.asked) = (mtu, self.context.clock.now());
                    due = due.refitted(&chunk.octets, sent, self.fitting);
                    sent = 0;
                }
            }
        };
        let (delivered, lost) = due.counts();
        for (reason, packets) in lost.nonzero() {
            self.subscriber.lose_part(reason, packets);
        }
        self.subscriber.confirm_part(delivered);
        self.subscriber.confirm(0, due.delivered_octets());
        due.clear();
        self.due = due;
        halted
    }

    /// Sends frames; how many were taken, and why not all.
    fn send_frames(&mut self, frames: &[&[u8]]) -> (usize, Option<Halt>) {
        let mut taken = 0;
        while let Some(rest) = frames.get(taken..).filter(|rest| !rest.is_empty()) {
            if self.lacks_carrier() {
                self.wait_for_interface("without a carrier", &"no cable or peer is at its end");
                if self.is_stopped() {
                    return (taken, Some(Halt::Stopped));
                }
                continue;
            }
            let before = taken;
            match self.wire.send(rest) {
                Ok(sent) => {
                    taken += sent;
                    if std::mem::replace(&mut self.down, false) {
                        self.context.back();
                        self.context.events.emit(Event::SinkInterfaceUp { sink: &self.spec.name });
                    }
                }
                Err(error) => match error.raw_os_error().map(Refusal::of) {
                    Some(Refusal::TooLarge) => return (taken, Some(Halt::TooLarge)),
                    Some(Refusal::Full) => std::thread::sleep(FULL),
                    Some(Refusal::Down) => self.wait_for_interface("down", &error),
                    Some(Refusal::Gone) => self.wait_for_interface("gone", &error),
                    _ if error.kind() == io::ErrorKind::WouldBlock => drop(self.wire.wait(NAP)),
                    _ if error.kind() == io::ErrorKind::Interrupted => {}
                    _ => return (taken, Some(Halt::Failed(error))),
                },
            }
            if taken == before && self.is_stopped() {
                return (taken, Some(Halt::Stopped));
            }
        }
        (taken, None)
    }

    /// Whether the interface would lose what it is given, as far as is known.
    fn lacks_carrier(&mut self) -> bool {
        let now = self.context.clock.now();
        if self.looked.is_some_and(|looked| now.since(looked) < LOOK) {
            return false;
        }
        let has = self.wire.has_carrier();
        // Without, it is asked again before anything is sent.
        self.looked = has.then_some(now);
        !has
    }

    /// The interface is down, or away: what follows goes at its pace from when it is back. One of our own
    /// that was taken away is made again.
    fn wait_for_interface(&mut self, how: &str, why: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.down, true) {
            let why = format!("the interface is {how} ({why})");
            self.context.away(&why);
            self.context.events.emit(Event::SinkRetried { sink: &self.spec.name, why: &why, pause: TRY });
        }
        self.pacer.restart();
        std::thread::sleep(TRY);
        if self.spec.injection.create_tap && how == "gone" {
            if let Ok(wire) = self.context.opener.tap(&self.spec.endpoint.address) {
                self.wire = wire;
            }
        } else {
            let _ = self.wire.reopen();
        }
        self.fitting.mtu = self.wire.mtu();
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

/// What an interface says that does not take a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    TooLarge,
    Full,
    Down,
    Gone,
    Other,
}

impl Refusal {
    fn of(code: i32) -> Self {
        use rustix::io::Errno;
        match Errno::from_raw_os_error(code) {
            _ if code == pcaphub_sys::Tap::TAKEN_AWAY => Refusal::Gone,
            Errno::MSGSIZE => Refusal::TooLarge,
            Errno::NOBUFS => Refusal::Full,
            Errno::NETDOWN | Errno::NXIO | Errno::NODEV | Errno::IO => Refusal::Down,
            _ => Refusal::Other,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::Endpoint;

    /// What is said of an error at start.
    fn said(endpoint: &str, error: &io::Error) -> String {
        let spec = Endpoint::parse(endpoint).ok().and_then(|endpoint| crate::sink::spec(endpoint).ok());
        spec.map(|spec| cannot(&spec, error).why).unwrap_or_default()
    }

    #[test]
    fn a_device_that_is_closed_and_a_right_that_is_missing_have_remedies_of_their_own() {
        use rustix::io::Errno;
        let right = io::Error::new(io::ErrorKind::PermissionDenied, "Operation not permitted");
        for closed in [Errno::ACCESS, Errno::PERM] {
            let said = said("if:tap0?create=tap", &closed.into());
            assert!(said.contains("chmod 0666 /dev/net/tun") && !said.contains("setcap"), "{said}");
        }
        let missing = said("if:tap0?create=tap", &right);
        assert!(missing.contains("setcap cap_net_admin+ep") && !missing.contains("chmod"), "{missing}");
        let socket = said("if:eth0", &Errno::PERM.into());
        assert!(socket.contains("setcap cap_net_raw+ep") && !socket.contains("chmod"), "{socket}");
        let absent = said("if:tap0?create=tap", &Errno::NOENT.into());
        assert!(absent.contains("modprobe tun"), "{absent}");
    }
}
