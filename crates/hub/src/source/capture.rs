//! A live capture's packets, from the kernel's ring into batches.
//!
//! Each packet is copied once, out of the ring and into a classic pcap record: where a feed sends
//! these, the batch is its chunk. VLAN tags that the kernel took out are put back.

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use pcaphub_core::batch::{Batch, Verbatim};
use pcaphub_core::buffer::Pool;
use pcaphub_core::format::Format;
use pcaphub_core::interface::{Interface, InterfaceId, Interfaces, Intern};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::stats::{DropCounts, DropReason};
use pcaphub_core::time::Timestamp;
use pcaphub_sys::bpf::Instruction;
use pcaphub_sys::{Device, Frame, Ring, Wake};

use super::{Captured, PacketReader};
use crate::event::{Event, Events};
use crate::own_traffic::Entry;

/// A live capture that is open.
pub(super) struct Capture {
    /// What it is called in messages.
    pub(super) name: Arc<str>,
    /// The interface's name, and its index; `None` captures on all.
    pub(super) device: Option<(String, u32)>,
    /// What its packets belong to.
    pub(super) interface: Interface,
    pub(super) snaplen: u32,
    pub(super) ring: Ring,
    pub(super) pool: Pool,
    pub(super) events: Events,
    /// What keeps our own traffic out of it.
    pub(super) _exclusion: Entry,
    pub(super) state: State,
}

/// How far it is.
pub(super) struct State {
    id: Option<InterfaceId>,
    records: Vec<u8>,
    asked: Instant,
    down: bool,
    prompt: bool,
    /// Whether the last batch had many packets.
    busy: bool,
    /// Whether the kernel was told to add nothing more.
    closed: bool,
}

impl State {
    /// A capture that has just begun; a `prompt` one gathers nothing.
    pub(super) fn new(prompt: bool) -> Self {
        let asked = Instant::now();
        State { id: None, records: Vec::new(), asked, down: false, prompt, busy: false, closed: false }
    }
}

/// How long one call waits for packets, so that an ended hub is noticed.
const NAP: Duration = Duration::from_millis(100);
/// How often the kernel is asked what it lost.
const ASK: Duration = Duration::from_millis(100);
/// How long the last packets of a ring may take to be handed over, in kernels that count in ticks.
const LAST: Duration = Duration::from_millis(24);

/// From so many packets in a batch on, that is tens of thousands a second, packets are gathered for this
/// long before they are taken from the ring: to wake the threads that hand them on costs more than they
/// do themselves (200,000 packets/s to one client: 8.9 % of a core without, 5.4 % with it, measured).
const BUSY: usize = 64;
const GATHER: Duration = Duration::from_millis(2);

/// A program that lets nothing through.
const NOTHING: Instruction = Instruction { code: 6, jt: 0, jf: 0, k: 0 };

impl PacketReader for Capture {
    fn linktype(&self) -> LinkType {
        self.interface.linktype
    }

    fn read(&mut self, interfaces: &mut Interfaces, last: bool) -> io::Result<Option<Captured>> {
        let id = self.intern(interfaces);
        if last && !std::mem::replace(&mut self.state.closed, true) {
            self.ring.socket().set_filter(&[NOTHING])?;
        }
        let mut captured = Captured { batch: self.collect(id), dropped: DropCounts::default() };
        if captured.batch.is_empty() {
            if std::mem::take(&mut self.state.busy) {
                std::thread::sleep(GATHER);
            }
            let wait = if self.state.closed { LAST } else { NAP };
            match self.ring.socket().wait(wait)? {
                Wake::Packets => captured.batch = self.collect(id),
                Wake::Down => self.went_down()?,
                Wake::Timeout if self.state.closed => {
                    captured.dropped = self.lost()?;
                    return Ok((captured.dropped.total() > 0).then_some(captured));
                }
                // That it goes away while it is down is not told.
                Wake::Timeout if self.state.down => self.went_down()?,
                Wake::Timeout => {}
            }
        }
        self.state.busy |= captured.batch.packets.len() >= BUSY && !self.state.prompt;
        if self.state.down && !captured.batch.is_empty() {
            self.state.down = false;
            self.events.emit(Event::InterfaceUp { source: &self.name });
        }
        if id.is_none() {
            captured.dropped.add(DropReason::InterfaceLimit, captured.batch.packets.len() as u64);
            captured.batch = Batch::default();
        }
        if self.state.asked.elapsed() >= ASK {
            captured.dropped.merge(&self.lost()?);
        }
        Ok(Some(captured))
    }
}

impl Capture {
    fn intern(&mut self, interfaces: &mut Interfaces) -> Option<InterfaceId> {
        if self.state.id.is_none() {
            self.state.id = interfaces.intern(self.interface.clone());
        }
        self.state.id
    }

    fn lost(&mut self) -> io::Result<DropCounts> {
        self.state.asked = Instant::now();
        let mut lost = DropCounts::default();
        lost.add(DropReason::Kernel, self.ring.socket().statistics()?.drops);
        Ok(lost)
    }

    /// The interface is down: it may come up again, or it may be gone.
    fn went_down(&mut self) -> io::Result<()> {
        if let Some((name, index)) = &self.device
            && Device::find(name)?.is_none_or(|device| device.index != *index)
        {
            return Err(io::Error::other("the interface is gone"));
        }
        if !std::mem::replace(&mut self.state.down, true) {
            self.events.emit(Event::InterfaceDown { source: &self.name });
        }
        Ok(())
    }

    /// What is in the ring, up to a buffer of the pool's.
    fn collect(&mut self, id: Option<InterfaceId>) -> Batch {
        let Capture { ring, pool, snaplen, interface, state, .. } = self;
        let id = id.unwrap_or(InterfaceId(0));
        let mut records = std::mem::take(&mut state.records);
        if records.capacity() == 0 {
            records = pool.take_empty();
        }
        let size = pool.size();
        let mut packets = Vec::new();
        let mut sane = true;
        ring.visit(&mut |frame| {
            let header = Header::of(&frame, interface.linktype);
            let whole = header.octets().len() + frame.octets.len() + header.tag().len();
            if !records.is_empty() && records.len() + RECORD_HEADER + whole > size {
                return ControlFlow::Break(());
            }
            let packet = append(&mut records, &frame, &header, *snaplen, id);
            sane &= packet.caplen > 0;
            packets.push(packet);
            ControlFlow::Continue(())
        });
        if packets.is_empty() {
            state.records = records;
            return Batch::default();
        }
        let verbatim = sane.then_some(Verbatim {
            format: Format::Pcap,
            linktype: interface.linktype,
            octets: 0..records.len(),
        });
        // What leaves much of its buffer unused is copied out: it is charged for its octets.
        let buffer = if records.len() < size / 4 * 3 {
            let octets = Bytes::copy_from_slice(&records);
            records.clear();
            state.records = records;
            octets
        } else {
            pool.freeze(records)
        };
        Batch { buffer, packets, verbatim, ..Batch::default() }
    }
}

/// The classic pcap record header, in octets.
const RECORD_HEADER: usize = 16;

/// Appends a packet as a record.
fn append(
    records: &mut Vec<u8>,
    frame: &Frame<'_>,
    header: &Header,
    snaplen: u32,
    interface: InterfaceId,
) -> Packet {
    let (before, tag) = (header.octets(), header.tag());
    let added = (before.len() + tag.len()) as u32;
    let caplen = (frame.octets.len() as u32).saturating_add(added).min(snaplen);
    let origlen = frame.origlen.saturating_add(added).max(caplen);
    let timestamp = Timestamp::new(frame.seconds.into(), frame.nanos.into());
    records.extend_from_slice(&Format::pcap_record(timestamp, caplen, origlen));
    let offset = records.len();
    let (first, rest) = frame.octets.split_at(header.tag_at.min(frame.octets.len()));
    for part in [before, first, tag, rest] {
        records.extend_from_slice(part);
    }
    records.truncate(offset + caplen as usize);
    Packet { timestamp, interface, caplen, origlen, offset: offset as u32, options_offset: 0, options_len: 0 }
}

/// What a packet gets that the kernel told beside it: a cooked header, a VLAN tag.
struct Header {
    cooked: Option<[u8; SLL2]>,
    tag: [u8; 4],
    tag_len: usize,
    /// Before which of the packet's octets the tag stands.
    tag_at: usize,
}

/// The cooked header of LINKTYPE_LINUX_SLL2, in octets.
const SLL2: usize = 20;
/// Where an Ethernet packet has its type, or a tag.
const ETHERNET_TYPE: usize = 12;

impl Header {
    fn of(frame: &Frame<'_>, linktype: LinkType) -> Self {
        let mut header = Header { cooked: None, tag: [0; 4], tag_len: 0, tag_at: 0 };
        let [type_high, type_low] = frame.vlan.map_or(0, |(kind, _)| kind).to_be_bytes();
        let [control_high, control_low] = frame.vlan.map_or(0, |(_, control)| control).to_be_bytes();
        let [protocol_high, protocol_low] = frame.address.protocol.to_be_bytes();
        match linktype {
            LinkType::ETHERNET if frame.vlan.is_some() => {
                header.tag = [type_high, type_low, control_high, control_low];
                (header.tag_len, header.tag_at) = (4, ETHERNET_TYPE);
            }
            LinkType::SLL2 => {
                let mut protocol = [protocol_high, protocol_low];
                if frame.vlan.is_some() {
                    protocol = [type_high, type_low];
                    header.tag = [control_high, control_low, protocol_high, protocol_low];
                    header.tag_len = 4;
                }
                header.cooked = Some(cooked(frame, protocol));
            }
            _ => {}
        }
        header
    }

    fn octets(&self) -> &[u8] {
        self.cooked.as_ref().map_or(&[], |octets| octets.as_slice())
    }

    fn tag(&self) -> &[u8] {
        self.tag.get(..self.tag_len).unwrap_or_default()
    }
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_LINUX_SLL2.html>
fn cooked(frame: &Frame<'_>, protocol: [u8; 2]) -> [u8; SLL2] {
    let address = &frame.address;
    let [p0, p1] = protocol;
    let [i0, i1, i2, i3] = address.interface.to_be_bytes();
    let [h0, h1] = address.hardware_type.to_be_bytes();
    let [a0, a1, a2, a3, a4, a5, a6, a7] = address.octets;
    let (kind, length) = (address.packet_type, address.length);
    [p0, p1, 0, 0, i0, i1, i2, i3, h0, h1, kind, length, a0, a1, a2, a3, a4, a5, a6, a7]
}

#[cfg(test)]
mod tests {
    use super::*;
    use pcaphub_sys::LinkAddress;

    const OCTETS: &[u8] = b"\x01\x02\x03\x04\x05\x06\x11\x12\x13\x14\x15\x16\x08\x00payload";

    fn frame(vlan: Option<(u16, u16)>) -> Frame<'static> {
        let address = LinkAddress { protocol: 0x0800, interface: 7, hardware_type: 1, ..Default::default() };
        Frame { seconds: 1, nanos: 2_000, octets: OCTETS, origlen: OCTETS.len() as u32, vlan, address }
    }

    fn record(frame: &Frame<'_>, linktype: LinkType, snaplen: u32) -> (Vec<u8>, Packet) {
        let mut records = Vec::new();
        let packet = append(&mut records, frame, &Header::of(frame, linktype), snaplen, InterfaceId(0));
        (records.split_off(RECORD_HEADER), packet)
    }

    #[test]
    fn a_vlan_tag_that_the_kernel_took_out_is_put_back() {
        let (octets, packet) = record(&frame(Some((0x88a8, 0x2064))), LinkType::ETHERNET, 65_535);
        assert_eq!(octets, [&OCTETS[..12], b"\x88\xa8\x20\x64", &OCTETS[12..]].concat());
        assert_eq!((packet.caplen, packet.origlen), (25, 25));
    }

    #[test]
    fn a_cooked_packet_has_its_tag_behind_its_header() {
        let (octets, packet) = record(&frame(Some((0x8100, 5))), LinkType::SLL2, 65_535);
        assert_eq!(octets[..2], [0x81, 0x00]);
        assert_eq!(octets[20..24], [0, 5, 8, 0]);
        assert_eq!(packet.origlen as usize, 24 + OCTETS.len());
    }

    #[test]
    fn snaplen_counts_what_was_put_back() {
        let (octets, packet) = record(&frame(Some((0x8100, 5))), LinkType::ETHERNET, 14);
        assert_eq!(octets.len(), 14);
        assert_eq!((packet.caplen, packet.origlen), (14, 25));
    }
}
