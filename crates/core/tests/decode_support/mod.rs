//! Streams made octet by octet, and what becomes of them however they are cut.

#![allow(dead_code, reason = "each test file uses its part")]

mod bounds;

use std::sync::Arc;

use bytes::Bytes;
use pcaphub_core::batch::Batch;
use pcaphub_core::error::{DecodeError, DecodeErrorKind};
use pcaphub_core::format::{Decoder, DecoderOptions, Format};
use pcaphub_core::interface::{Interface, InterfaceTable};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::stats::{Anomaly, AnomalyCounts, DropCounts, DropReason};
use pcaphub_core::time::Timestamp;

use bounds::Held;

/// Arrival times that packets without a time get.
pub(crate) const ARRIVAL: Timestamp = Timestamp::from_nanos(1_700_000_000_123_456_789);

/// Larger streams are not cut at every offset.
const CUT_BELOW: usize = 4096;

/// A decoded packet, by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decoded {
    pub(crate) nanos: u64,
    pub(crate) interface: Arc<Interface>,
    pub(crate) origlen: u32,
    pub(crate) octets: Vec<u8>,
    pub(crate) options: Vec<u8>,
}

/// All that came out of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) packets: Vec<Decoded>,
    pub(crate) anomalies: AnomalyCounts,
    pub(crate) drops: DropCounts,
    pub(crate) error: Option<DecodeError>,
    pub(crate) format: Option<Format>,
    pub(crate) linktype: Option<LinkType>,
    pub(crate) interfaces: Vec<Arc<Interface>>,
}

impl Outcome {
    pub(crate) fn anomaly(&self, kind: Anomaly) -> u64 {
        self.anomalies.of(kind)
    }

    pub(crate) fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.of(reason)
    }

    /// The stream was good to its end, with this many packets.
    #[track_caller]
    pub(crate) fn accepted(&self, packets: usize) -> &Self {
        assert_eq!(self.error, None);
        assert_eq!(self.packets.len(), packets);
        self
    }

    /// The stream was good to its end, and nothing in it was odd.
    #[track_caller]
    pub(crate) fn plain(&self, packets: usize) -> &Self {
        self.accepted(packets);
        assert_eq!(self.anomalies.total(), 0, "{:?}", self.anomalies);
        assert_eq!(self.drops.total(), 0, "{:?}", self.drops);
        self
    }

    /// The stream ended in an error at an octet, after this many packets.
    #[track_caller]
    pub(crate) fn ended(&self, packets: usize, offset: u64, kind: DecodeErrorKind) -> &Self {
        assert_eq!(self.error, Some(DecodeError { offset, kind }));
        assert_eq!(self.packets.len(), packets);
        self
    }

    /// The text of the error.
    #[track_caller]
    pub(crate) fn text(&self) -> String {
        self.error.as_ref().expect("an error").to_string()
    }
}

pub(crate) fn options() -> DecoderOptions {
    DecoderOptions { source: "source".into(), name: None, linktype: None }
}

/// Decodes a stream whole, octet by octet, and cut in two at every offset: always the same.
#[track_caller]
pub(crate) fn decode(stream: &[u8]) -> Outcome {
    decode_with(&options(), stream)
}

#[track_caller]
pub(crate) fn decode_with(options: &DecoderOptions, stream: &[u8]) -> Outcome {
    let whole = decode_pieces(options, &[stream]);
    forward_pieces(options, &stream.chunks(1021).collect::<Vec<_>>(), &whole);
    if stream.len() < CUT_BELOW {
        let pieces: Vec<&[u8]> = stream.chunks(1).collect();
        assert_eq!(decode_pieces(options, &pieces), whole, "octet by octet");
        forward_pieces(options, &pieces, &whole);
        for cut in 1..stream.len() {
            let (head, tail) = stream.split_at(cut);
            assert_eq!(decode_pieces(options, &[head, tail]), whole, "cut at {cut}");
        }
    } else {
        let pieces: Vec<&[u8]> = stream.chunks(1021).collect();
        assert_eq!(decode_pieces(options, &pieces), whole, "in pieces of 1021");
    }
    whole
}

/// Forwards what can be sent as it is and decodes the rest: the same packets, counts and error.
#[track_caller]
fn forward_pieces(options: &DecoderOptions, pieces: &[&[u8]], whole: &Outcome) {
    let (mut decoder, mut table) = (Decoder::new(options.clone()), InterfaceTable::new());
    let (mut buffer, mut packets, mut error) = (Vec::new(), Vec::new(), None);
    for piece in pieces {
        buffer.extend_from_slice(piece);
        let (count, consumed) = decoder.forward(&buffer);
        let records: Vec<u8> = buffer.drain(..consumed).collect();
        let before = packets.len();
        if let (Some(format), Some(linktype)) = (decoder.format(), decoder.linktype()) {
            // As whoever gets these records behind our header reads them.
            let mut batch = Batch::default();
            let stream = [format.header(linktype), records].concat();
            let mut reader = Decoder::new(options.clone());
            if format != Format::PcapNg {
                reader
                    .decode(&stream, &mut batch, &mut InterfaceTable::new(), ARRIVAL)
                    .result
                    .expect("sane records");
            }
            batch.buffer = Bytes::from(stream);
            packets.extend(batch.packets.iter().map(|p| (p.timestamp, p.origlen, batch.octets(p).to_vec())));
        }
        assert_eq!((packets.len() - before) as u64, count);
        let mut batch = Batch::default();
        let decoded = decoder.decode(&buffer, &mut batch, &mut table, ARRIVAL);
        batch.buffer = Bytes::from(buffer.drain(..decoded.consumed).collect::<Vec<_>>());
        packets.extend(batch.packets.iter().map(|p| (p.timestamp, p.origlen, batch.octets(p).to_vec())));
        if let Err(failed) = decoded.result {
            error = Some(failed);
            break;
        }
    }
    let error = error.or_else(|| decoder.finish(&buffer).err());
    let expected: Vec<_> = whole
        .packets
        .iter()
        .map(|packet| (Timestamp::from_nanos(packet.nanos), packet.origlen, packet.octets.clone()))
        .collect();
    assert_eq!(packets, expected);
    assert_eq!(
        (decoder.anomalies(), decoder.drops(), error),
        (&whole.anomalies, &whole.drops, whole.error.clone())
    );
}

/// Decodes a stream that arrives in these pieces, as a source's reader does it, in bounded memory
/// and time.
#[track_caller]
pub(crate) fn decode_pieces(options: &DecoderOptions, pieces: &[&[u8]]) -> Outcome {
    let mut held = Held::default();
    let (mut decoder, mut table) = held.step(|| (Decoder::new(options.clone()), InterfaceTable::new()));
    let (mut buffer, mut packets, mut consumed, mut received) = (Vec::new(), Vec::new(), 0, 0);
    let mut error = None;
    for piece in pieces {
        buffer.extend_from_slice(piece);
        received += piece.len();
        let mut batch = room_for(buffer.len());
        let decoded = held.step(|| decoder.decode(&buffer, &mut batch, &mut table, ARRIVAL));
        held.is_bounded(received);
        consumed += decoded.consumed;
        assert_eq!(decoder.offset(), consumed as u64);
        let rest = match decoded.consumed {
            // Moved, not copied: a block of 16 MiB comes in thousands of pieces.
            0 => std::mem::take(&mut buffer),
            consumed => buffer.split_off(consumed),
        };
        batch.buffer = Bytes::from(std::mem::replace(&mut buffer, rest));
        check_verbatim(&batch, &table);
        packets.extend(batch.packets.iter().map(|packet| Decoded {
            nanos: packet.timestamp.nanos(),
            interface: table.get(packet.interface).expect("a known interface").clone(),
            origlen: packet.origlen,
            octets: {
                assert_eq!(batch.octets(packet).len(), packet.caplen as usize);
                batch.octets(packet).to_vec()
            },
            options: {
                assert_eq!(batch.options(packet).len(), packet.options_len as usize);
                batch.options(packet).to_vec()
            },
        }));
        if let Err(failed) = decoded.result {
            error = Some(failed);
            break;
        }
        assert!((1..=16 * 1024 * 1024 + 24).contains(&decoder.wants()));
        assert!(decoder.wants() > buffer.len(), "it has what it wants");
    }
    if error.is_some() {
        let again = decoder.decode(&buffer, &mut Batch::default(), &mut table, ARRIVAL);
        assert_eq!((again.consumed, again.result.err()), (0, error.clone()));
    } else {
        error = decoder.finish(&buffer).err();
    }
    Outcome {
        packets,
        anomalies: *decoder.anomalies(),
        drops: *decoder.drops(),
        error,
        format: decoder.format(),
        linktype: decoder.linktype(),
        interfaces: table.interfaces().to_vec(),
    }
}

/// A batch that need not grow: packets and their options are the test's to keep, not the decoder's.
fn room_for(octets: usize) -> Batch {
    // No record or block of a packet is shorter than 16 octets.
    let (packets, options) = (Vec::with_capacity(octets / 16), Vec::with_capacity(octets));
    Batch { packets, options, ..Batch::default() }
}

/// What is called verbatim is what the encoder would write.
#[track_caller]
fn check_verbatim(batch: &Batch, table: &InterfaceTable) {
    let Some(verbatim) = &batch.verbatim else {
        return;
    };
    let mut encoded = Vec::new();
    for packet in &batch.packets {
        let interface = table.get(packet.interface).expect("a known interface");
        assert_eq!(interface.linktype, verbatim.linktype);
        assert!(packet.caplen > 0);
        let octets = batch.octets(packet);
        verbatim.format.record(&mut encoded, packet, octets, &[], interface.resolution);
    }
    assert_eq!(batch.buffer.slice(verbatim.octets.clone()), encoded);
}

/// The byte order a test stream is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Little,
    Big,
}

use Order::Big;

/// Appends numbers of 16, 32 and 64 bits.
pub(crate) trait Put {
    fn u16(&mut self, order: Order, number: u16) -> &mut Self;
    fn u32(&mut self, order: Order, number: u32) -> &mut Self;
    fn u64(&mut self, order: Order, number: u64) -> &mut Self;
}

impl Put for Vec<u8> {
    fn u16(&mut self, order: Order, number: u16) -> &mut Self {
        self.extend(if order == Big { number.to_be_bytes() } else { number.to_le_bytes() });
        self
    }

    fn u32(&mut self, order: Order, number: u32) -> &mut Self {
        self.extend(if order == Big { number.to_be_bytes() } else { number.to_le_bytes() });
        self
    }

    fn u64(&mut self, order: Order, number: u64) -> &mut Self {
        self.extend(if order == Big { number.to_be_bytes() } else { number.to_le_bytes() });
        self
    }
}
