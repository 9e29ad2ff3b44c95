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
    pub(super) exclusion: Entry,
    pub(super) state: State,
}

/// How far it is.
pub(super) struct State {
    id: Option<InterfaceId>,
    records: Vec<u8>,
    asked: Instant,
    /// Whether it was told that the interface is down.
    down: bool,
    prompt: bool,
    /// Whether the last batch had many packets.
    busy: bool,
    /// Whether the kernel was told to add nothing more.
    closed: bool,
}

impl State {
    /// A capture that has just begun; a `prompt` one gathers nothing, and that it is `down` was told.
    pub(super) fn new(prompt: bool, down: bool) -> Self {
        let asked = Instant::now();
        State { id: None, records: Vec::new(), asked, down, prompt, busy: false, closed: false }
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

impl PacketReader for Capture {
    fn linktype(&self) -> LinkType {
        self.interface.linktype
    }

    fn read(&mut self, interfaces: &mut Interfaces, last: bool) -> io::Result<Option<Captured>> {
        let id = self.intern(interfaces);
        if last && !std::mem::replace(&mut self.state.closed, true) {
            self.exclusion.close()?;
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
            self.came_up();
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

    fn is_down(&self) -> bool {
        self.state.down
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
        if let Some((name, index)) = &self.device {
            // What came back is captured by a socket that is bound anew, even if its index is the same.
            let unbound = self.ring.socket().bound_to()? != index.cast_signed();
            let device = Device::find(name)?.filter(|device| device.index == *index);
            let Some(device) = device.filter(|_| !unbound) else {
                return Err(io::Error::other("the interface is gone"));
            };
            if device.up && self.state.down {
                // Nothing has come yet, and it could.
                self.came_up();
                return Ok(());
            }
        }
        if !std::mem::replace(&mut self.state.down, true) {
            self.events.emit(Event::InterfaceDown { source: &self.name });
        }
        Ok(())
    }

    fn came_up(&mut self) {
        self.state.down = false;
        self.events.emit(Event::InterfaceUp { source: &self.name });
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
            let whole = header.octets().len() + header.rest(&frame).len() + header.tag().len();
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
    let (before, tag, octets) = (header.octets(), header.tag(), header.rest(frame));
    let added = (before.len() + tag.len()) as u32;
    let caplen = (octets.len() as u32).saturating_add(added).min(snaplen);
    let taken = (frame.octets.len() - octets.len()) as u32;
    let origlen = frame.origlen.saturating_sub(taken).saturating_add(added).max(caplen);
    let timestamp = Timestamp::new(frame.seconds.into(), frame.nanos.into());
    records.extend_from_slice(&Format::pcap_record(timestamp, caplen, origlen));
    let offset = records.len();
    let (first, rest) = octets.split_at(header.tag_at.min(octets.len()));
    for part in [before, first, tag, rest] {
        records.extend_from_slice(part);
    }
    records.truncate(offset + caplen as usize);
    Packet { timestamp, interface, caplen, origlen, offset: offset as u32, options_offset: 0, options_len: 0 }
}

/// What a packet gets that the kernel told beside it: a cooked header in place of its own, a VLAN tag.
struct Header {
    cooked: Option<[u8; SLL2]>,
    /// How many of the packet's first octets the cooked header replaces.
    replaces: usize,
    tag: [u8; 4],
    tag_len: usize,
    /// Before which of the packet's octets the tag stands.
    tag_at: usize,
}

/// The cooked header of LINKTYPE_LINUX_SLL2, in octets.
const SLL2: usize = 20;
/// Where an Ethernet packet has its type, or a tag; and where that ends.
const ETHERNET_TYPE: usize = 12;
const ETHERNET_HEADER: usize = 14;
/// ARPHRD_ETHER and ARPHRD_LOOPBACK of linux/if_arp.h: packets begin with an Ethernet header.
const ETHERNET_HARDWARE: [u16; 2] = [1, 772];

impl Header {
    fn of(frame: &Frame<'_>, linktype: LinkType) -> Self {
        let mut header = Header { cooked: None, replaces: 0, tag: [0; 4], tag_len: 0, tag_at: 0 };
        let [type_high, type_low] = frame.vlan.map_or(0, |(kind, _)| kind).to_be_bytes();
        let [control_high, control_low] = frame.vlan.map_or(0, |(_, control)| control).to_be_bytes();
        match linktype {
            LinkType::ETHERNET if frame.vlan.is_some() => {
                header.tag = [type_high, type_low, control_high, control_low];
                (header.tag_len, header.tag_at) = (4, ETHERNET_TYPE);
            }
            LinkType::SLL2 => {
                let inner;
                (inner, header.replaces) = header_of(frame);
                let mut protocol = inner;
                if frame.vlan.is_some() {
                    protocol = [type_high, type_low];
                    header.tag = [control_high, control_low, inner[0], inner[1]];
                    header.tag_len = 4;
                }
                header.cooked = Some(cooked(frame, protocol));
            }
            _ => {}
        }
        header
    }

    /// The packet's octets that stay.
    fn rest<'a>(&self, frame: &Frame<'a>) -> &'a [u8] {
        frame.octets.get(self.replaces..).unwrap_or_default()
    }

    fn octets(&self) -> &[u8] {
        self.cooked.as_ref().map_or(&[], |octets| octets.as_slice())
    }

    fn tag(&self) -> &[u8] {
        self.tag.get(..self.tag_len).unwrap_or_default()
    }
}

/// What a packet's own header says that follows it, and how long the header is. Where it is Ethernet, tags
/// that are in the octets follow it, however far the kernel has looked behind them: which of them it tells
/// as the protocol, and where it takes the network layer to begin, is not the same for packets that came, for
/// those that were sent, and in all kernels.
fn header_of(frame: &Frame<'_>) -> ([u8; 2], usize) {
    let ethernet = ETHERNET_HARDWARE.contains(&frame.address.hardware_type);
    match frame.octets.get(ETHERNET_TYPE..ETHERNET_HEADER) {
        Some(&[high, low]) if ethernet => ([high, low], ETHERNET_HEADER),
        _ => (frame.address.protocol.to_be_bytes(), frame.network.min(frame.octets.len())),
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
        let origlen = OCTETS.len() as u32;
        Frame { seconds: 1, nanos: 2_000, octets: OCTETS, origlen, network: 14, vlan, address }
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
        assert_eq!(octets[20..], *b"\0\x05\x08\0payload");
        assert_eq!((packet.caplen, packet.origlen), (31, 31));
    }

    #[test]
    fn a_cooked_packet_has_all_tags_whichever_of_them_the_kernel_took_out() {
        let octets = [&OCTETS[..12], b"\x81\0\0\x06", &OCTETS[12..]].concat();
        // It may have looked behind the tag for the protocol, and for the network layer.
        for (protocol, network) in [(0x8100, 14), (0x0800, 18)] {
            let address = LinkAddress { protocol, hardware_type: 1, ..Default::default() };
            let origlen = octets.len() as u32;
            let mut frame =
                Frame { seconds: 1, nanos: 0, octets: &octets, origlen, network, vlan: None, address };
            let (sent, packet) = record(&frame, LinkType::SLL2, 65_535);
            assert_eq!((&sent[..2], &sent[20..]), (&b"\x81\0"[..], &b"\0\x06\x08\0payload"[..]));
            assert_eq!(packet.origlen, 20 + 4 + 7);
            frame.vlan = Some((0x88a8, 5));
            let (received, packet) = record(&frame, LinkType::SLL2, 65_535);
            assert_eq!(received[..2], *b"\x88\xa8");
            assert_eq!(received[20..], *b"\0\x05\x81\0\0\x06\x08\0payload");
            assert_eq!(packet.origlen, 20 + 8 + 7);
        }
    }

    #[test]
    fn a_cooked_packet_of_an_interface_without_a_header_is_whole() {
        let address = LinkAddress { protocol: 0x86dd, hardware_type: 65_534, ..Default::default() };
        let frame =
            Frame { seconds: 1, nanos: 0, octets: b"\x60ip", origlen: 3, network: 0, vlan: None, address };
        let (octets, packet) = record(&frame, LinkType::SLL2, 65_535);
        assert_eq!((&octets[..2], &octets[20..], packet.origlen), (&b"\x86\xdd"[..], &b"\x60ip"[..], 23));
    }

    #[test]
    fn snaplen_counts_what_was_put_back() {
        let (octets, packet) = record(&frame(Some((0x8100, 5))), LinkType::ETHERNET, 14);
        assert_eq!(octets.len(), 14);
        assert_eq!((packet.caplen, packet.origlen), (14, 25));
    }
}
