//! Decoded packets that share one immutable buffer: what travels from a source to the merge.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::encoding::Format;
use crate::linktype::LinkType;
use crate::packet::Packet;

/// Packets in the order in which they were read, and the octets they lie in.
///
/// Handed on behind an `Arc`, and never changed after that.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The octets that packets point into; at most 2^32 − 1.
    pub buffer: Bytes,
    /// The packets, in the order of the stream.
    pub packets: Vec<Packet>,
    /// pcapng options of packets: little-endian, each padded to four octets, without
    /// end-of-options.
    pub options: Vec<u8>,
    /// Which packets match which filters of the hub: as many words for each packet, a bit for each
    /// filter; empty where there is no filter. Written last.
    pub marks: Vec<u64>,
    /// The numbers of those filters, in the order of the marks; `None` where there is none.
    pub marked_by: Option<Arc<[u32]>>,
    /// Set where `buffer` can be sent as it is.
    pub verbatim: Option<Verbatim>,
    /// Whether packets get the time at which they are let go. Until then they have their own, which says in what
    /// order they come and when they are due.
    pub timed_later: bool,
}

/// Says that octets of a buffer are, unchanged, what the encoder of `format` would make of all
/// packets of the batch, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verbatim {
    /// [`Format::Pcap`] or [`Format::PcapNs`], little-endian, sane: no record empty, oversize or
    /// with caplen over origlen.
    pub format: Format,
    /// The linktype of all the packets.
    pub linktype: LinkType,
    /// Which octets of the buffer.
    pub octets: Range<usize>,
}

impl Batch {
    /// The octets of a packet of this batch.
    ///
    /// Empty for a packet of another batch that lies outside of this one's buffer.
    pub fn octets(&self, packet: &Packet) -> &[u8] {
        let start = packet.offset as usize;
        self.buffer.get(start..start + packet.caplen as usize).unwrap_or_default()
    }

    /// The pcapng options of a packet of this batch; empty if it has none.
    pub fn options(&self, packet: &Packet) -> &[u8] {
        let start = packet.options_offset as usize;
        self.options.get(start..start + packet.options_len as usize).unwrap_or_default()
    }

    /// Which of its marks tells of the filter of this number; `None` where packets were not marked with
    /// it.
    pub fn mark_of(&self, number: u32) -> Option<usize> {
        self.marked_by.as_ref()?.iter().position(|known| *known == number)
    }

    /// Whether packet number `packet` has mark number `mark`: that it matches that filter.
    pub fn is_marked(&self, packet: usize, mark: usize) -> bool {
        let words = self.marks.len() / self.packets.len().max(1);
        let word = self.marks.get(packet * words + mark / 64).copied().unwrap_or(0);
        word >> (mark % 64) & 1 == 1
    }

    /// Keeps the packets of which `keep` says so; how many others there were.
    pub fn retain(&mut self, mut keep: impl FnMut(&Packet) -> bool) -> u64 {
        let before = self.packets.len();
        self.packets.retain(|packet| keep(packet));
        let out = before - self.packets.len();
        if out > 0 {
            self.verbatim = None;
        }
        out as u64
    }

    /// Some consecutive packets of it, as a batch that shares the octets in which these lie: that is all that
    /// each of many parts counts as, though any of them keeps the whole in memory.
    pub fn part(&self, range: Range<usize>) -> Batch {
        let mut packets = self.packets.get(range).unwrap_or_default().to_vec();
        let place = |packet: &Packet| (packet.offset as usize, packet.caplen as usize);
        let octets = extent(packets.iter().map(place), self.buffer.len());
        let place = |packet: &Packet| (packet.options_offset as usize, packet.options_len as usize);
        let options = extent(packets.iter().map(place), self.options.len());
        for packet in &mut packets {
            // An empty one may lie anywhere.
            packet.offset = packet.offset.saturating_sub(octets.start as u32);
            packet.options_offset = packet.options_offset.saturating_sub(options.start as u32);
        }
        Batch {
            buffer: self.buffer.slice(octets),
            packets,
            options: self.options.get(options).unwrap_or_default().to_vec(),
            timed_later: self.timed_later,
            ..Batch::default()
        }
    }

    /// Whether there is no packet in it.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }
}

/// From the first to the last of places that are not empty, each an offset and a length, within `len`.
fn extent(places: impl Iterator<Item = (usize, usize)>, len: usize) -> Range<usize> {
    let (mut start, mut end) = (len, 0);
    for (offset, length) in places.filter(|(_, length)| *length > 0) {
        (start, end) = (start.min(offset), end.max((offset + length).min(len)));
    }
    start.min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceId;
    use crate::time::Timestamp;

    fn packet(offset: u32, caplen: u32, options_offset: u32, options_len: u32) -> Packet {
        let (timestamp, interface) = (Timestamp::ZERO, InterfaceId(0));
        Packet { timestamp, interface, offset, options_offset, caplen, origlen: caplen, options_len }
    }

    #[test]
    fn a_part_counts_as_the_octets_in_which_its_packets_lie() {
        let batch = Batch {
            buffer: Bytes::from_static(b"..abc..de..f"),
            packets: vec![packet(2, 3, 0, 4), packet(0, 0, 0, 0), packet(7, 2, 4, 2), packet(11, 1, 0, 0)],
            options: b"optsop".to_vec(),
            ..Batch::default()
        };
        let part = batch.part(1..4);
        assert_eq!(part.buffer, "de..f");
        assert_eq!(part.options, b"op");
        let octets: Vec<_> =
            part.packets.iter().map(|packet| (part.octets(packet), part.options(packet))).collect();
        assert_eq!(octets, [(&b""[..], &b""[..]), (b"de", b"op"), (b"f", b"")]);
        assert_eq!(batch.part(1..2).buffer, "");
        assert_eq!(batch.part(0..4).buffer, "abc..de..f");
        // Of packets of another batch.
        let foreign = Batch { packets: vec![packet(20, 3, 9, 4)], ..batch };
        let part = foreign.part(0..1);
        assert_eq!(part.octets(&part.packets[0]), b"");
    }
}
