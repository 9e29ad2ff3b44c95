//! `demo:`: synthetic traffic, paced by the clock, as a pcap stream with nanoseconds.

use std::io::{self, Read};
use std::time::{Duration, Instant};

use pcaphub_core::format::Format;
use pcaphub_core::interface::InterfaceId;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Resolution, Timestamp};

use super::keys::COMMON;
use super::{Context, Source, SourceError, file};
use crate::clock::wall_clock;
use crate::plan::{Key, PlanError, Reading, SourceSpec, Value};
use crate::traffic::{Mix, Traffic, TrafficConfig};

pub(super) const KEYS: &[Key] = &[
    Key { name: "rate", help: "packets per second, 1000 by default; max is as fast as possible" },
    Key { name: "mix", help: "realistic, imix, or the size of every packet in octets, 64 to 1514" },
    Key { name: "flows", help: "flows at once, 20 by default" },
    Key { name: "seed", help: "the same seed makes the same packets" },
    Key { name: "start", help: "time of the first packet in seconds since 1970, instead of now" },
    Key { name: "packets", help: "end after this many" },
];

/// How far ahead packets are made where nothing paces them, and how long a paced one may sleep at
/// once, so that an ended hub is noticed.
const AHEAD: usize = 64 * 1024;
const NAP: Duration = Duration::from_millis(100);
/// The rate that times are spaced by where nothing paces the packets.
const UNPACED: f64 = 1_000_000.0;

struct Options {
    rate: Option<f64>,
    mix: Mix,
    flows: u32,
    seed: u64,
    start: Option<Timestamp>,
    packets: u64,
}

fn rate(text: &str) -> Value<Option<f64>> {
    match text {
        "max" => Ok(None),
        number => match number.parse::<f64>() {
            Ok(rate) if rate > 0.0 && rate <= 1e8 => Ok(Some(rate)),
            _ => Err("it is a number of packets per second above 0, or max".into()),
        },
    }
}

fn number(text: &str) -> Value<u64> {
    text.parse().map_err(|_| "it is a whole number".into())
}

fn flows(text: &str) -> Value<u32> {
    text.parse()
        .ok()
        .filter(|n| (1..=100_000).contains(n))
        .ok_or_else(|| "it is a number from 1 to 100000".into())
}

fn mix(text: &str) -> Value<Mix> {
    text.parse().map_err(|_| "it is realistic, imix, or a size from 64 to 1514".into())
}

fn options(spec: &SourceSpec) -> Result<Options, PlanError> {
    let reading = Reading::new(&spec.endpoint, &[COMMON, KEYS])?;
    Ok(Options {
        rate: reading.value("rate", rate)?.unwrap_or(Some(1000.0)),
        mix: reading.value("mix", mix)?.unwrap_or(Mix::Realistic),
        flows: reading.value("flows", flows)?.unwrap_or(20),
        seed: reading.value("seed", number)?.unwrap_or(1),
        start: reading.value("start", number)?.map(|seconds| Timestamp::new(seconds, 0)),
        packets: reading.value("packets", number)?.unwrap_or(u64::MAX),
    })
}

pub(super) fn open(spec: &SourceSpec, _: &Context) -> Result<Box<dyn Source>, SourceError> {
    let options = options(spec).map_err(|error| SourceError::because(spec, error.to_string()))?;
    Ok(file::once(spec, Box::new(Generator::new(options))))
}

/// Checks the options before anything is opened.
///
/// # Errors
/// A value that cannot be read.
pub(super) fn check(spec: &SourceSpec) -> Result<(), PlanError> {
    options(spec).map(drop)
}

/// Synthetic traffic as a stream of octets.
struct Generator {
    options: Options,
    traffic: Option<Traffic>,
    began: Instant,
    first: Timestamp,
    left: u64,
    /// Made and not read yet: header or records.
    due: Vec<u8>,
    read: usize,
    /// A packet whose time has not come, and its octets.
    next: Option<(Timestamp, Vec<u8>)>,
}

impl Generator {
    fn new(options: Options) -> Self {
        Generator {
            left: options.packets,
            options,
            traffic: None,
            began: Instant::now(),
            first: Timestamp::ZERO,
            due: Format::PcapNs.header(LinkType::ETHERNET),
            read: 0,
            next: None,
        }
    }

    /// The traffic begins when the first packet is asked for, not when the header is.
    fn traffic(&mut self) -> &mut Traffic {
        let Generator { options, traffic, began, first, .. } = self;
        traffic.get_or_insert_with(|| {
            *began = Instant::now();
            *first = options.start.unwrap_or_else(wall_clock);
            Traffic::new(TrafficConfig {
                seed: options.seed,
                flows: options.flows,
                rate: options.rate.unwrap_or(UNPACED),
                mix: options.mix,
                start_nanos: first.nanos(),
            })
        })
    }

    /// Makes records that are due; sleeps until the first one is.
    fn make(&mut self) {
        self.due.clear();
        self.read = 0;
        while self.due.len() < AHEAD && self.left > 0 {
            let (time, octets) = self.next.take().unwrap_or_else(|| {
                let mut octets = Vec::with_capacity(1514);
                let time = self.traffic().next(&mut octets);
                (Timestamp::from_nanos(time), octets)
            });
            let wait = match self.options.rate {
                Some(_) => time.since(self.first).saturating_sub(self.began.elapsed()),
                None => Duration::ZERO,
            };
            if !wait.is_zero() {
                self.next = Some((time, octets));
                if !self.due.is_empty() {
                    return;
                }
                std::thread::sleep(wait.min(NAP));
                continue;
            }
            self.left -= 1;
            let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
            let packet = Packet {
                timestamp: time,
                interface: InterfaceId(0),
                caplen: length,
                origlen: length,
                offset: 0,
                options_offset: 0,
                options_len: 0,
            };
            Format::PcapNs.record(&mut self.due, &packet, &octets, &[], Resolution::NANOS);
        }
    }
}

impl Read for Generator {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.due.len() {
            self.make();
        }
        let due = self.due.get(self.read..).unwrap_or_default();
        let n = due.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..n), due.get(..n)) {
            to.copy_from_slice(from);
        }
        self.read += n;
        Ok(n)
    }
}
