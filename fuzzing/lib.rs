//! What every fuzz target holds a stream to: however it is cut, it decodes to the same packets and
//! the same error, and what was decoded can be encoded and decoded again.

use std::sync::Arc;

use bytes::Bytes;
use pcaphub_core::batch::Batch;
use pcaphub_core::error::DecodeError;
use pcaphub_core::format::{Decoder, DecoderOptions, Format};
use pcaphub_core::interface::{Interface, InterfaceId, InterfaceTable};
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::stats::{AnomalyCounts, DropCounts};
use pcaphub_core::time::Timestamp;

/// A decoded packet, by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// Its time.
    pub timestamp: Timestamp,
    /// Its interface's place among those of the stream.
    pub interface: InterfaceId,
    /// Its original length.
    pub origlen: u32,
    /// Its octets.
    pub octets: Vec<u8>,
    /// Its options.
    pub options: Vec<u8>,
}

/// All that comes out of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The packets.
    pub packets: Vec<Decoded>,
    /// The interfaces.
    pub interfaces: Vec<Arc<Interface>>,
    /// How the stream ended.
    pub result: Result<(), DecodeError>,
    /// What it is.
    pub format: Option<Format>,
    anomalies: AnomalyCounts,
    drops: DropCounts,
}

/// Decodes a stream that comes in pieces, which end where `cuts` say: each is the length of one.
pub fn decode(stream: &[u8], cuts: &[u8]) -> Outcome {
    let options = DecoderOptions { source: "fuzz".into(), name: None, linktype: None };
    let mut decoder = Decoder::new(options);
    let mut table = InterfaceTable::new();
    let (mut packets, mut begin, mut end) = (Vec::new(), 0, 0);
    let mut cuts = cuts.iter().cycle();
    let result = loop {
        let piece = cuts.next().map_or(stream.len(), |cut| usize::from(*cut) + 1);
        end = stream.len().min(end + piece);
        let octets = &stream[begin..end];
        let mut batch = Batch::default();
        let decoded = decoder.decode(octets, &mut batch, &mut table, Timestamp::from_nanos(77));
        assert!(decoded.consumed <= octets.len());
        batch.buffer = Bytes::copy_from_slice(&octets[..decoded.consumed]);
        check_verbatim(&batch, &table);
        packets.extend(batch.packets.iter().map(|packet| take(&batch, packet)));
        begin += decoded.consumed;
        assert_eq!(decoder.offset(), begin as u64);
        if decoded.result.is_err() {
            break decoded.result;
        }
        assert!((1..=(16 << 20) + 24).contains(&decoder.wants()));
        if end == stream.len() {
            break decoder.finish(&stream[begin..]);
        }
    };
    Outcome {
        packets,
        interfaces: table.interfaces().to_vec(),
        result,
        format: decoder.format(),
        anomalies: *decoder.anomalies(),
        drops: *decoder.drops(),
    }
}

fn take(batch: &Batch, packet: &Packet) -> Decoded {
    let (octets, options) = (batch.octets(packet), batch.options(packet));
    assert_eq!((octets.len(), options.len()), (packet.caplen as usize, packet.options_len as usize));
    assert!(packet.origlen >= packet.caplen);
    Decoded {
        timestamp: packet.timestamp,
        interface: packet.interface,
        origlen: packet.origlen,
        octets: octets.to_vec(),
        options: options.to_vec(),
    }
}

/// What is called verbatim must be what the encoder would write.
fn check_verbatim(batch: &Batch, table: &InterfaceTable) {
    let Some(verbatim) = &batch.verbatim else { return };
    let mut encoded = Vec::new();
    for packet in &batch.packets {
        let interface = table.get(packet.interface).expect("an interface of the table");
        assert_eq!(interface.linktype, verbatim.linktype);
        assert!((1..=verbatim.linktype.max_caplen()).contains(&packet.caplen));
        verbatim.format.record(&mut encoded, packet, batch.octets(packet), &[], interface.resolution);
    }
    assert_eq!(batch.buffer.slice(verbatim.octets.clone()), encoded);
}

/// Decodes the same stream whole and in pieces, and holds one against the other.
///
/// The first octets of `data` say how many cuts there are, and where; the rest is the stream.
pub fn decode_both_ways(data: &[u8], begins: &[&[u8]]) {
    let Some((counts, rest)) = data.split_first_chunk::<2>() else { return };
    let (cuts, rest) = rest.split_at(usize::from(counts[0] % 16).min(rest.len()));
    // Most inputs that are made up would be refused by their first octets.
    let begin = begins.get(usize::from(counts[1])).copied().unwrap_or_default();
    let stream = [begin, rest].concat();
    let whole = decode(&stream, &[]);
    assert_eq!(decode(&stream, if cuts.is_empty() { &[0] } else { cuts }), whole);
    for interface in &whole.interfaces {
        assert!(Format::PcapNg.interface(interface).len() <= 65_536);
    }
}

/// Encodes what was decoded, in one format.
pub fn encode(format: Format, outcome: &Outcome) -> Vec<u8> {
    let linktype = outcome.interfaces.first().map_or(LinkType::ETHERNET, |first| first.linktype);
    let mut out = format.header(linktype);
    for interface in &outcome.interfaces {
        out.extend(format.interface(interface));
    }
    for decoded in &outcome.packets {
        let packet = Packet {
            timestamp: decoded.timestamp,
            interface: decoded.interface,
            caplen: decoded.octets.len() as u32,
            origlen: decoded.origlen,
            offset: 0,
            options_offset: 0,
            options_len: decoded.options.len() as u32,
        };
        let interface = &outcome.interfaces[decoded.interface.0 as usize];
        let before = out.len();
        format.record(&mut out, &packet, &decoded.octets, &decoded.options, interface.resolution);
        assert_eq!(out.len() - before, format.record_len(&packet));
    }
    out
}
