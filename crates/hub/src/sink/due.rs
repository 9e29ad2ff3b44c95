//! Packets that are due on an interface, as frames that it takes: whole, cut off, or cut into segments.
//!
//! However many frames a packet becomes, it is counted once: as delivered when the last of them was taken, or
//! as lost for one reason.

use std::ops::Range;

use pcaphub_core::segment::{self, Segments, Unsegmentable};
use pcaphub_core::stats::{DropCounts, DropReason};

use crate::plan::Oversize;

/// What an interface takes, and what becomes of packets that are larger.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fitting {
    /// Octets of the network layer that a packet may have.
    pub(super) mtu: usize,
    pub(super) oversize: Oversize,
}

/// Frames of packets of one chunk.
#[derive(Debug, Default)]
pub(super) struct Due {
    frames: Vec<Frame>,
    /// Packets of the chunk that are among them, lost ones included.
    packets: u64,
    delivered: u64,
    /// Octets of frames that the interface took.
    delivered_octets: usize,
    dropped: DropCounts,
    /// What super-packets were cut into, and the part cut last.
    segments: Vec<u8>,
    segment: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    place: Place,
    piece: Piece,
}

/// What a frame is of its packet.
#[derive(Debug, Clone, Copy)]
struct Piece {
    origlen: u32,
    /// Whether the packet ends with it.
    last: bool,
}

#[derive(Debug)]
enum Place {
    Chunk(Range<usize>),
    Segments(Range<usize>),
}

/// The Ethernet header, in octets.
const ETHERNET_HEADER: usize = 14;
/// What Linux grants on top to a packet that begins with a tag of 802.1Q, and to no other: not to 802.1ad, and
/// once (`packet_snd` of net/packet/af_packet.c).
const VLAN_TAG: usize = 4;

impl Fitting {
    /// Octets that a packet may have in all.
    pub(super) fn most(self, octets: &[u8]) -> usize {
        let granted = if octets.get(12..14) == Some(&[0x81, 0x00]) { VLAN_TAG } else { 0 };
        self.mtu + ETHERNET_HEADER + granted
    }
}

impl Frame {
    fn octets(&self) -> usize {
        match &self.place {
            Place::Chunk(range) | Place::Segments(range) => range.len(),
        }
    }
}

impl Due {
    /// Adds a packet, which is at `packet` of `chunk`.
    pub(super) fn add(&mut self, chunk: &[u8], packet: Range<usize>, origlen: u32, fitting: Fitting) {
        let octets = chunk.get(packet.clone()).unwrap_or_default();
        self.packets += 1;
        self.fit(octets, Some(packet.start), Piece { origlen, last: true }, fitting);
    }

    /// The same packets from frame `from` on, for an interface whose MTU has changed.
    pub(super) fn refitted(self, chunk: &[u8], from: usize, fitting: Fitting) -> Due {
        let mut due = Due {
            packets: self.packets,
            delivered: self.delivered,
            delivered_octets: self.delivered_octets,
            dropped: self.dropped,
            ..Due::default()
        };
        let mut lost = false;
        for frame in self.frames.get(from..).unwrap_or_default() {
            if !lost {
                let start = match &frame.place {
                    Place::Chunk(range) => Some(range.start),
                    Place::Segments(_) => None,
                };
                lost = !due.fit(self.octets_of(chunk, frame), start, frame.piece, fitting);
            }
            lost &= !frame.piece.last;
        }
        due
    }

    /// Adds of a piece of a packet, at `start` of the chunk or else of segments, what the interface takes;
    /// `false` where that is nothing, and its packet is lost.
    fn fit(&mut self, octets: &[u8], start: Option<usize>, piece: Piece, fitting: Fitting) -> bool {
        if octets.len() < ETHERNET_HEADER {
            return self.lose(DropReason::TooShort);
        }
        let most = fitting.most(octets);
        if octets.len() <= most {
            return self.push(octets, start, piece);
        }
        let cut = octets.get(..most).unwrap_or_default();
        match fitting.oversize {
            Oversize::Drop => self.lose(DropReason::OverMtu),
            Oversize::Truncate => self.push(cut, start, piece),
            Oversize::Segment => {
                let mtu = segment::network_at(octets).and_then(|at| most.checked_sub(at)).unwrap_or(0);
                match segment::segments(octets, piece.origlen, mtu) {
                    Ok(segments) => self.push_segments(segments, piece.last),
                    // What is over is behind the IP packet: padding, a frame check sequence.
                    Err(Unsegmentable::Fits) => self.push(cut, start, piece),
                    Err(_) => self.lose(DropReason::OverMtu),
                }
            }
        }
    }

    fn lose(&mut self, reason: DropReason) -> bool {
        self.dropped.add(reason, 1);
        false
    }

    fn push(&mut self, octets: &[u8], start: Option<usize>, piece: Piece) -> bool {
        let place = match start {
            Some(start) => Place::Chunk(start..start + octets.len()),
            None => {
                let start = self.segments.len();
                self.segments.extend_from_slice(octets);
                Place::Segments(start..self.segments.len())
            }
        };
        self.frames.push(Frame { place, piece });
        true
    }

    fn push_segments(&mut self, mut segments: Segments<'_>, last: bool) -> bool {
        let mut segment = std::mem::take(&mut self.segment);
        while segments.write_next(&mut segment) {
            let origlen = u32::try_from(segment.len()).unwrap_or(u32::MAX);
            self.push(&segment, None, Piece { origlen, last: last && segments.remaining() == 0 });
        }
        self.segment = segment;
        true
    }

    /// Whether it has no packets, not even lost ones.
    pub(super) fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// How many frames it has.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// The octets of its frames from `from` on.
    pub(super) fn octets<'a>(&'a self, chunk: &'a [u8], from: usize) -> Vec<&'a [u8]> {
        let frames = self.frames.get(from..).unwrap_or_default();
        frames.iter().map(|frame| self.octets_of(chunk, frame)).collect()
    }

    fn octets_of<'a>(&'a self, chunk: &'a [u8], frame: &Frame) -> &'a [u8] {
        let octets = match &frame.place {
            Place::Chunk(range) => chunk.get(range.clone()),
            Place::Segments(range) => self.segments.get(range.clone()),
        };
        octets.unwrap_or_default()
    }

    /// The interface took these frames.
    pub(super) fn took(&mut self, frames: Range<usize>) {
        let frames = self.frames.get(frames).unwrap_or_default();
        self.delivered += frames.iter().filter(|frame| frame.piece.last).count() as u64;
        self.delivered_octets += frames.iter().map(Frame::octets).sum::<usize>();
    }

    /// The interface does not take this frame: its packet is lost. Returns the first frame of the next one.
    pub(super) fn refused(&mut self, frame: usize, reason: DropReason) -> usize {
        self.lose(reason);
        let rest = self.frames.get(frame..).unwrap_or_default();
        let last = rest.iter().position(|frame| frame.piece.last);
        last.map_or(self.frames.len(), |last| frame + last + 1)
    }

    /// What became of its packets so far: delivered ones, and lost ones.
    pub(super) fn counts(&self) -> (u64, &DropCounts) {
        (self.delivered, &self.dropped)
    }

    /// Octets of the frames that were taken so far.
    pub(super) fn delivered_octets(&self) -> usize {
        self.delivered_octets
    }

    /// Forgets all, and keeps its memory.
    pub(super) fn clear(&mut self) {
        self.frames.clear();
        self.segments.clear();
        (self.packets, self.delivered, self.delivered_octets) = (0, 0, 0);
        self.dropped = DropCounts::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: [&[u8]; 5] = [
        b"",
        b"\x81\x00\x00\x05",
        b"\x88\xa8\x00\x05",
        b"\x88\xa8\x00\x05\x81\x00\x00\x06",
        b"\x81\x00\x00\x05\x81\x00\x00\x06",
    ];

    /// A TCP packet with `payload` octets of payload, behind tags.
    fn tcp(tags: &[u8], payload: usize) -> Vec<u8> {
        let mut octets = Vec::new();
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).tcp(1, 2, 3, 4);
        builder.write(&mut octets, &vec![7; payload]).unwrap();
        octets.splice(12..12, tags.iter().copied());
        octets
    }

    fn due(packets: &[Vec<u8>], fitting: Fitting) -> (Vec<u8>, Due) {
        let (chunk, mut due) = (packets.concat(), Due::default());
        let mut start = 0;
        for packet in packets {
            let end = start + packet.len();
            due.add(&chunk, start..end, packet.len() as u32, fitting);
            start = end;
        }
        (chunk, due)
    }

    fn fitting(mtu: usize, oversize: Oversize) -> Fitting {
        Fitting { mtu, oversize }
    }

    /// What the kernel takes on an Ethernet interface.
    fn takes(octets: &[u8], mtu: usize) -> bool {
        let granted = if octets[12..14] == [0x81, 0] { 4 } else { 0 };
        octets.len() <= 14 + mtu + granted
    }

    fn payload(frames: &[&[u8]], tags: &[u8]) -> usize {
        frames.iter().map(|frame| frame.len() - tags.len() - 54).sum()
    }

    #[test]
    fn whatever_tags_a_packet_has_what_it_becomes_fits() {
        for tags in TAGS {
            for length in [1400, 1458, 1460, 1462, 9000] {
                for oversize in [Oversize::Truncate, Oversize::Segment] {
                    let (chunk, due) = due(&[tcp(tags, length)], fitting(1500, oversize));
                    let frames = due.octets(&chunk, 0);
                    assert!(!frames.is_empty());
                    assert!(frames.iter().all(|frame| takes(frame, 1500)), "{tags:?} {length} {oversize:?}");
                    if oversize == Oversize::Segment {
                        assert_eq!(payload(&frames, tags), length, "{tags:?}");
                    }
                }
                let packet = tcp(tags, length);
                let (_, due) = due(std::slice::from_ref(&packet), fitting(1500, Oversize::Drop));
                assert_eq!(due.counts().1.of(DropReason::OverMtu) == 0, takes(&packet, 1500));
            }
        }
    }

    #[test]
    fn a_packet_is_counted_once_however_many_segments_are_refused() {
        let packets = [tcp(b"", 20_000), tcp(b"", 100), tcp(b"", 20_000)];
        let (_, mut due) = due(&packets, fitting(1500, Oversize::Segment));
        let mut next = 0;
        while next < due.len() {
            next = due.refused(next, DropReason::OverMtu);
        }
        let (delivered, dropped) = due.counts();
        assert_eq!((delivered, dropped.total()), (0, 3));
    }

    #[test]
    fn a_packet_is_delivered_with_the_last_of_its_segments() {
        let (_, mut due) = due(&[tcp(b"", 3000), tcp(b"", 100)], fitting(1500, Oversize::Segment));
        assert_eq!(due.len(), 4);
        due.took(0..2);
        assert_eq!(due.counts().0, 0);
        due.took(2..3);
        assert_eq!(due.counts().0, 1);
        assert_eq!(due.refused(3, DropReason::OverMtu), 4);
        assert_eq!((due.counts().0, due.counts().1.total()), (1, 1));
    }

    #[test]
    fn the_octets_of_frames_that_were_taken_are_counted_and_no_others() {
        let packets = [tcp(b"", 100), tcp(b"", 3000), tcp(b"", 200)];
        let (chunk, mut due) = due(&packets, fitting(1500, Oversize::Drop));
        assert_eq!((due.len(), due.delivered_octets()), (2, 0));
        due.took(0..1);
        assert_eq!(due.delivered_octets(), 154);
        let mut due = due.refitted(&chunk, 1, fitting(1000, Oversize::Drop));
        due.took(0..1);
        assert_eq!(due.delivered_octets(), 154 + 254);
        due.clear();
        assert_eq!(due.delivered_octets(), 0);
    }

    #[test]
    fn what_is_left_is_fitted_to_an_mtu_that_has_changed() {
        let packets = [tcp(b"", 3000), tcp(b"", 1460), tcp(b"", 100)];
        for (oversize, delivered) in [(Oversize::Segment, 3), (Oversize::Truncate, 3), (Oversize::Drop, 1)] {
            let (chunk, mut due) = due(&packets, fitting(1500, oversize));
            let taken = usize::from(oversize == Oversize::Segment);
            due.took(0..taken);
            let mut due = due.refitted(&chunk, taken, fitting(1000, oversize));
            let frames = due.octets(&chunk, 0);
            assert!(frames.iter().all(|frame| takes(frame, 1000)), "{oversize:?}");
            if oversize == Oversize::Segment {
                assert_eq!(payload(&frames, b""), 3000 - 1460 + 1460 + 100);
            }
            due.took(0..due.len());
            let (took, dropped) = due.counts();
            assert_eq!((took, dropped.total()), (delivered, 3 - delivered), "{oversize:?}");
        }
    }

    #[test]
    fn padding_behind_an_ip_packet_is_no_reason_to_drop_it() {
        let mut packet = tcp(b"", 1460);
        packet.extend([0; 10]);
        let (chunk, due) = due(&[packet.clone()], fitting(1500, Oversize::Segment));
        assert_eq!(due.octets(&chunk, 0), [&packet[..1514]]);
    }
}
