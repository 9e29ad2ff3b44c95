//! `if:NAME`: live capture of an interface, or of all of them as `if:any`.
//!
//! The first ring is opened at start, so that a missing right or interface is told at once. An
//! interface that goes away is waited for, and captured again when it is back.

use std::io;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::Bytes;
use pcaphub_core::buffer::Pool;
use pcaphub_core::filter::code;
use pcaphub_core::interface::Interface;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::time::Resolution;
use pcaphub_sys::bpf::Instruction;
use pcaphub_sys::{Device, Latency, Layer, PacketSocket, Ring, RingOptions};

use super::capture::{Capture, State};
use super::hardware::begins_with;
use super::keys::{COMMON, RECONNECT};
use super::{Context, OpenError, Opened, Pending, Reader, Source, SourceError};
use crate::controls::Controls;
use crate::event::Event;
use crate::exclusion::{Beginning, Exclusion};
use crate::filter;
use crate::limits::Limits;
use crate::own_traffic::CaptureFilter;
use crate::plan::{self, Key, PlanError, Reading, Share, SourceSpec, Value};

pub(super) const KEYS: &[Key] = &[
    RECONNECT,
    Key { name: "promiscuous", help: "yes, or no: only packets for this machine (-p)" },
    Key { name: "buffer", help: "memory of the ring that the kernel fills, e.g. 64MiB (-B, in KiB)" },
    Key {
        name: "latency",
        help: "low: each packet at once; else within about a millisecond, with less work",
    },
    Key { name: "rings", help: "rings to share the packets, by flow, each with a thread: 1 to 64" },
];

/// The pseudo-interface of all interfaces.
const ANY: &str = "any";

/// How often it is looked whether an interface is back.
const LOOK: Duration = Duration::from_millis(100);
/// Less would lose packets at every hiccup.
const LEAST_RING: usize = 1 << 20;
/// What a batch holds at most: what comes in the milliseconds for which packets are gathered.
const BATCH: usize = 256 << 10;
/// Unused buffers that are kept.
const POOLED: usize = 16;
/// The most of a packet that is captured where nothing is said: all that a block of the ring takes,
/// more than any packet has that IPv4 can express.
const SNAPLEN: u32 = 130_000;
/// The same for single packets, whose slots have all the same size.
const SNAPLEN_LOW: u32 = 65_600;

struct Options {
    promiscuous: bool,
    buffer: Option<usize>,
    latency: Latency,
    rings: u16,
}

fn latency(text: &str) -> Value<Latency> {
    match text {
        "low" => Ok(Latency::Low),
        "normal" => Ok(Latency::Blocks),
        _ => Err("it is low or normal".into()),
    }
}

fn buffer(text: &str) -> Value<usize> {
    match plan::octets(text)? {
        octets if octets < 1 << 20 => Err("it is at least 1MiB".into()),
        octets if octets > 2 << 30 => Err("it is at most 2GiB".into()),
        octets => Ok(octets),
    }
}

fn rings(text: &str) -> Value<u16> {
    text.parse().ok().filter(|n| (1..=64).contains(n)).ok_or_else(|| "it is a number from 1 to 64".into())
}

fn options(spec: &SourceSpec) -> Result<Options, PlanError> {
    let reading = Reading::new(&spec.endpoint, &[COMMON, KEYS])?;
    Ok(Options {
        promiscuous: reading.value("promiscuous", plan::yes_no)?.unwrap_or(true),
        buffer: reading.value("buffer", buffer)?,
        latency: reading.value("latency", latency)?.unwrap_or(Latency::Blocks),
        rings: reading.value("rings", rings)?.unwrap_or(1),
    })
}

/// Checks the options before anything is opened.
///
/// # Errors
/// A value that cannot be read.
pub(super) fn check(spec: &SourceSpec) -> Result<(), PlanError> {
    let options = options(spec)?;
    if options.rings > 1 && (spec.shape.count.is_some() || spec.shape.sample.is_some()) {
        return Err(PlanError::Refused(format!(
            "{}: rings={} cannot count together: leave out count= and sample= (-c counts packets of all sources, \
             and sinks can count and sample)",
            spec.name, options.rings
        )));
    }
    Ok(())
}

struct Live {
    spec: SourceSpec,
    options: Options,
    context: Context,
    filter: CaptureFilter,
    first: Option<Box<Capture>>,
}

pub(super) fn open(spec: &SourceSpec, context: &Context) -> Result<Box<dyn Source>, SourceError> {
    let options = options(spec).map_err(|error| SourceError::because(spec, error.to_string()))?;
    let filter = CaptureFilter::new(context.own_traffic.clone(), spec.name.clone(), spec.filter.clone());
    let mut live = Live { spec: spec.clone(), options, context: context.clone(), filter, first: None };
    live.first = Some(Box::new(live.capture().map_err(|error| live.fatal(&error))?));
    Ok(Box::new(live))
}

impl Source for Live {
    fn next(&mut self) -> Pending<'_, Result<Option<Opened>, OpenError>> {
        Box::pin(async {
            let capture = match self.first.take() {
                Some(first) => first,
                None => {
                    present(self.interface().to_owned()).await;
                    Box::new(self.capture().map_err(|error| OpenError::Later(cannot(&error)))?)
                }
            };
            Ok(Some(Opened::new(Reader::Packets(capture), self.spec.name.clone())))
        })
    }

    fn controls(&self) -> Controls {
        Controls { capture: Some(self.filter.clone()), ..Controls::default() }
    }
}

impl Live {
    fn interface(&self) -> &str {
        &self.spec.endpoint.address
    }

    fn capture(&self) -> io::Result<Capture> {
        let interface = self.interface();
        let missing = || io::Error::new(io::ErrorKind::NotFound, "there is no such interface");
        let device = match interface {
            ANY => None,
            name => Some(Device::find(name)?.ok_or_else(missing)?),
        };
        let (linktype, layer) = begins_with(device.map(|device| device.hardware_type));
        let socket = self.context.opener.packet_socket(layer, interface)?;
        let most = match self.options.latency {
            Latency::Blocks => SNAPLEN,
            Latency::Low => SNAPLEN_LOW,
        };
        // A filter that runs here sees the whole packet; what is over is cut off behind it.
        let snaplen = match (self.spec.shape.snaplen, self.filter.text()) {
            (Some(snaplen), Some(_)) => snaplen.max(most),
            (snaplen, _) => snaplen.unwrap_or(most),
        };
        let ring = RingOptions {
            snaplen,
            octets: ring_octets(&self.spec, &self.context.limits, self.context.rings),
            latency: self.options.latency,
        };
        let exclusion = Exclusion {
            beginning: match layer {
                Layer::Whole if linktype == LinkType::ETHERNET => Beginning::Ethernet,
                Layer::Whole => Beginning::Any,
                Layer::Cut => Beginning::Network,
            },
            loopback: match device {
                Some(device) => device.loopback.then_some(device.index),
                None => Device::find("lo")?.map(|device| device.index),
            },
            snaplen,
            filter: self.kernel_filter(linktype, layer, snaplen)?,
        };
        let ring = Ring::new(socket.clone(), &ring)?;
        let name = self.spec.name.clone();
        // Until it has joined the others, a ring would get all that they get.
        socket.close()?;
        socket.bind(device.map(|device| device.index))?;
        if let Some(share) = &self.spec.share {
            join(share, &socket)?;
        }
        let exclusion = self.context.own_traffic.keep_out_of(name.clone(), socket.clone(), exclusion)?;
        if let Some(device) = device.filter(|device| self.options.promiscuous && !device.loopback) {
            socket.promiscuous(device.index)?;
        }
        let down = device.is_some_and(|device| !device.up);
        if down {
            self.context.events.emit(Event::InterfaceDown { source: &name });
        }
        let own = (!self.spec.named).then(|| interface.into());
        Ok(Capture {
            device: device.map(|device| (interface.to_owned(), device.index)),
            interface: Interface {
                source: name.clone(),
                name: own,
                linktype,
                snaplen: self.spec.shape.snaplen.unwrap_or(0),
                resolution: Resolution::NANOS,
                fcs_len: None,
                options: Bytes::new(),
            },
            name,
            snaplen,
            ring,
            pool: Pool::new(BATCH.min(self.context.limits.piece_octets()), POOLED),
            events: self.context.events.clone(),
            exclusion,
            state: State::new(self.options.latency == Latency::Low, down),
        })
    }

    /// The source's filter as the kernel can run it: where packets are the same there as here.
    fn kernel_filter(&self, linktype: LinkType, layer: Layer, snaplen: u32) -> io::Result<Vec<Instruction>> {
        let Some(text) = self.filter.text() else { return Ok(Vec::new()) };
        let filter = filter::compiled(&self.spec.name, &text).map_err(io::Error::other)?;
        let program = filter.program(linktype);
        let program =
            program.map_err(|error| io::Error::other(filter::unusable(&self.spec.name, &text, &error)))?;
        let same = match layer {
            Layer::Whole => linktype == LinkType::ETHERNET,
            Layer::Cut => linktype == LinkType::RAW,
        };
        if !same || program.has_loop() {
            return Ok(Vec::new());
        }
        let instruction = |from: &pcaphub_core::filter::Instruction| Instruction {
            code: from.code,
            jt: from.jt,
            jf: from.jf,
            // What it accepts is wanted up to our snaplen, whatever the filter says.
            k: if from.code == code::RETURN && from.k > 0 { snaplen } else { from.k },
        };
        Ok(program.instructions().iter().map(instruction).collect())
    }

    /// What went wrong at start, and what to do about it.
    fn fatal(&self, error: &io::Error) -> SourceError {
        let interface = self.interface();
        let permission = error.kind() == io::ErrorKind::PermissionDenied;
        if let Some(PlanError::Filter { filter, why, .. }) = error.get_ref().and_then(|e| e.downcast_ref()) {
            let why = format!("filter `{}`: {why}", plan::shortened(filter));
            return SourceError { usage: true, ..SourceError::because(&self.spec, why) };
        }
        let why = match error.kind() {
            io::ErrorKind::PermissionDenied => format!(
                "capturing on {interface} needs the right CAP_NET_RAW; grant it in one of three ways: \
                 sudo setcap cap_net_raw+ep {program}, or under systemd AmbientCapabilities=CAP_NET_RAW, \
                 or run it as root (sudo)",
                program = program(),
            ),
            io::ErrorKind::NotFound => {
                format!("there is no interface {interface}; `pcaphub interfaces` lists those that there are")
            }
            io::ErrorKind::Unsupported => {
                "live capture is not supported on this system yet; use exec:'tcpdump -i NAME -U -w -'".into()
            }
            io::ErrorKind::OutOfMemory => {
                format!(
                    "cannot capture on {interface}: no memory for its ring; make it smaller, e.g. buffer=8MiB (-B 8192)"
                )
            }
            _ => cannot(error),
        };
        SourceError { permission, ..SourceError::because(&self.spec, why) }
    }
}

/// Shares the packets with the other rings of the source; makes the group if it is the first.
fn join(share: &Share, socket: &PacketSocket) -> io::Result<()> {
    let mut group = share.group.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(id) = *group
        && socket.share(Some(id)).is_ok()
    {
        return Ok(());
    }
    // The first, or all that were in the group are gone with their interface.
    *group = Some(socket.share(None)?);
    Ok(())
}

/// Returns once the interface is there.
async fn present(interface: String) {
    while interface != ANY && !matches!(Device::find(&interface), Ok(Some(_))) {
        tokio::time::sleep(LOOK).await;
    }
}

fn cannot(error: &io::Error) -> String {
    format!("cannot capture: {error}")
}

/// The path of this program, to paste.
fn program() -> String {
    std::env::current_exe().map_or_else(|_| "pcaphub".into(), |path| path.display().to_string())
}

/// What one ring has: its part of what was asked for, or of what all `rings` may have together.
pub(super) fn ring_octets(spec: &SourceSpec, limits: &Limits, rings: usize) -> usize {
    let asked = options(spec).ok();
    match asked.and_then(|options| Some(options.buffer? / usize::from(options.rings))) {
        Some(octets) => octets,
        None => (limits.capture_octets() / rings.max(1)).max(LEAST_RING),
    }
}

/// How many rings a source shares its packets between.
pub(super) fn rings_of(spec: &SourceSpec) -> u16 {
    options(spec).map_or(1, |options| options.rings)
}
