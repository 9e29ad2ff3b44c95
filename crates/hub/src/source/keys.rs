//! The options that sources have, by name and with what they are for: those of all, and those of several kinds.
//!
//! What is kept of packets is asked for of a sink in the same words.

use pcaphub_core::shape::Shape;

use crate::plan::{self, Key, PlanError, Reading};

/// Options of every source.
pub const COMMON: &[Key] = &[NAME, LINKTYPE, CLOCK_OFFSET, FILTER, SNAPLEN, SAMPLE, COUNT, TIME, PACE];

/// Options that every sink has, too.
pub(crate) const SHAPING: &[Key] = &[FILTER, SNAPLEN, SAMPLE, COUNT, TIME, PACE];

/// What is to be kept of an endpoint's packets.
///
/// # Errors
/// A value that cannot be read.
pub(crate) fn shape(options: &Reading<'_>) -> Result<Shape, PlanError> {
    Ok(Shape {
        sample: options.value("sample", plan::sample)?,
        count: options.value("count", plan::count)?,
        snaplen: options.value("snaplen", plan::snaplen)?,
        time: options.value("time", plan::time)?.unwrap_or_default(),
    })
}

const NAME: Key = Key { name: "name", help: "what it is called, also as pcapng interface name" };
const LINKTYPE: Key =
    Key { name: "linktype", help: "linktype of classic pcap streams, whatever their header says" };
const CLOCK_OFFSET: Key = Key { name: "clock-offset", help: "added to every packet's time, e.g. -1.5s" };
pub(super) const RECONNECT: Key = Key { name: "reconnect", help: "error, always or no" };
const FILTER: Key = Key { name: "filter", help: "which packets, as tcpdump has it: 'tcp port 80' (-f)" };
const SNAPLEN: Key = Key { name: "snaplen", help: "octets of each packet that are kept (-s)" };
const SAMPLE: Key = Key { name: "sample", help: "1/N: one packet in N" };
const COUNT: Key = Key { name: "count", help: "so many packets, and then no more" };
const TIME: Key = Key { name: "time", help: "now: packets get the time at which they pass; keep their own" };
const PACE: Key = Key { name: "pace", help: "1x is the original speed, 10x, 100kpps, 50Mbit, max" };
pub(super) const LOOP: Key = Key { name: "loop", help: "how often it is read, or forever; times move on" };
pub(super) const ALLOW: Key = Key { name: "allow", help: "networks that may connect, or any" };
pub(super) const DENY: Key = Key { name: "deny", help: "networks that may not" };
pub(super) const BIND: Key = Key { name: "bind", help: "local address to dial from" };
