//! Packet blocks of pcapng, read: enhanced, simple and obsolete ones all become the same packet.

use super::super::byte_order::ByteOrder;
use super::super::decoder::Call;
use super::interface::Described;
use super::options::{Layout, Options};
use super::{ENHANCED_PACKET_MIN, Frame, OBSOLETE_PACKET, SIMPLE_PACKET, SIMPLE_PACKET_MIN};
use crate::error::DecodeErrorKind;
use crate::packet::Packet;
use crate::stats::{Anomaly, DropReason};

/// What a packet block says before the packet's octets.
pub(super) struct Head {
    pub(super) interface: u32,
    pub(super) caplen: u32,
    origlen: u32,
    /// In units of its interface; `None` if it has no time.
    units: Option<u64>,
    /// Packets lost before this one.
    lost: u16,
    /// Where the packet's octets begin in the block.
    data: usize,
}

impl Head {
    /// Reads the first octets of a packet block; `None` while they are not all there.
    #[inline]
    pub(super) fn read(
        frame: &Frame,
        rest: &[u8],
        interfaces: &[Described],
    ) -> Result<Option<Self>, DecodeErrorKind> {
        let (head, least) = if frame.kind == SIMPLE_PACKET {
            (Self::simple(frame.order, rest, interfaces), SIMPLE_PACKET_MIN)
        } else {
            (Self::enhanced(frame, rest), ENHANCED_PACKET_MIN)
        };
        let room = frame.length.saturating_sub(least);
        match head {
            Some(Head { caplen, .. }) if caplen > room => {
                Err(DecodeErrorKind::PacketOverBlock { caplen, room })
            }
            head => Ok(head),
        }
    }

    /// Enhanced and obsolete packets have the same layout, but for the first word.
    fn enhanced(frame: &Frame, rest: &[u8]) -> Option<Self> {
        let octets = rest.first_chunk::<28>()?;
        let word = |offset| frame.order.u32_at(octets, offset);
        let (interface, lost) = match frame.kind {
            OBSOLETE_PACKET => {
                let lost = frame.order.u16_at(octets, 10)?;
                (u32::from(frame.order.u16_at(octets, 8)?), lost)
            }
            _ => (word(8)?, 0),
        };
        let units = u64::from(word(12)?) << 32 | u64::from(word(16)?);
        let (caplen, origlen) = (word(20)?, word(24)?);
        // All ones is "not known".
        let lost = if lost == u16::MAX { 0 } else { lost };
        Some(Head { interface, caplen, origlen, units: Some(units), lost, data: 28 })
    }

    /// A simple packet is on the first interface, whose snaplen says how much there is of it.
    fn simple(order: ByteOrder, rest: &[u8], interfaces: &[Described]) -> Option<Self> {
        let origlen = order.u32_at(rest, 8)?;
        let snaplen = interfaces.first().map_or(0, |first| first.declared);
        let caplen = if snaplen == 0 { origlen } else { origlen.min(snaplen) };
        Some(Head { interface: 0, caplen, origlen, units: None, lost: 0, data: 12 })
    }

    /// Appends the packet of the whole `block`, which begins `at` octets into the batch's buffer.
    pub(super) fn emit(
        mut self,
        order: ByteOrder,
        block: &[u8],
        at: usize,
        described: &mut Described,
        call: &mut Call<'_>,
    ) {
        let anomalies = &mut call.counts.anomalies;
        if self.lost > 0 {
            anomalies.add(Anomaly::UpstreamDrops, u64::from(self.lost));
        }
        let time = match self.units {
            Some(units) => described.scale.timestamp(units),
            None => Some((call.arrival, false)),
        };
        let Some((timestamp, saturated)) = time else {
            call.counts.drops.add(DropReason::Timestamp, 1);
            return;
        };
        if described.declared != 0 && self.caplen > described.declared {
            anomalies.add(Anomaly::CaplenOverSnaplen, 1);
            described.widen(call.intern);
        }
        let Some(interface) = described.id else {
            call.counts.drops.add(DropReason::InterfaceLimit, 1);
            return;
        };
        if self.units.is_none() {
            anomalies.add(Anomaly::NoTime, 1);
        }
        if saturated {
            anomalies.add(Anomaly::TimeSaturated, 1);
        }
        if self.caplen == 0 {
            anomalies.add(Anomaly::EmptyPacket, 1);
        }
        if self.caplen > self.origlen {
            anomalies.add(Anomaly::CaplenOverOriglen, 1);
            self.origlen = self.caplen;
        }
        call.counts.note_time(timestamp);
        let (options_offset, options_len) = self.options(order, block, call);
        call.batch.packets.push(Packet {
            timestamp,
            interface,
            caplen: self.caplen,
            origlen: self.origlen,
            offset: (at + self.data) as u32,
            options_offset,
            options_len,
        });
    }

    /// Copies the packet's options to the batch; where they begin there, and how long they are.
    #[inline]
    fn options(&self, order: ByteOrder, block: &[u8], call: &mut Call<'_>) -> (u32, u32) {
        let begin = self.data + (self.caplen as usize).next_multiple_of(4);
        if block.len() <= begin + 4 {
            return (0, 0);
        }
        self.copy_options(order, block, begin, call)
    }

    fn copy_options(&self, order: ByteOrder, block: &[u8], begin: usize, call: &mut Call<'_>) -> (u32, u32) {
        let out = &mut call.batch.options;
        let start = out.len();
        // A simple packet has none: what is behind it is no more than surplus.
        let options = Options::of(order, block, begin).take_while(|_| self.units.is_some());
        for option in options {
            let fits = match option {
                Ok(option) if option.is_private() => true,
                Ok(option) => {
                    option.append(out, order, layout(option.code));
                    out.len() - start <= MAX_OPTIONS
                }
                Err(_) => false,
            };
            if !fits {
                out.truncate(start);
                call.counts.anomalies.add(Anomaly::OptionsDropped, 1);
                return (0, 0);
            }
        }
        // Options are no longer than the octets they come from, so this holds for any one batch.
        match (u32::try_from(start), u32::try_from(out.len() - start)) {
            (Ok(_), Ok(0)) => (0, 0),
            (Ok(start), Ok(len)) => (start, len),
            _ => {
                out.truncate(start);
                (0, 0)
            }
        }
    }
}

/// The most octets of options that a packet keeps: as many as an Ethernet packet may have itself.
/// They are copied on their way to the clients, so those of a block of 16 MiB would be there three
/// times.
const MAX_OPTIONS: usize = 262_144;

fn layout(code: u16) -> Layout {
    match code {
        EPB_FLAGS | EPB_QUEUE | EPB_PROCESSID_THREADID => Layout::U32,
        EPB_DROPCOUNT | EPB_PACKETID => Layout::U64,
        _ => Layout::Octets,
    }
}

const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const EPB_PACKETID: u16 = 5;
const EPB_QUEUE: u16 = 6;
const EPB_PROCESSID_THREADID: u16 = 8;
