//! One stream's decoder: octets of a source, as they come, to packets in a batch, and the same
//! packets and the same error however the octets are cut.

use std::sync::Arc;

use super::Format;
use super::pcap::Pcap;
use super::pcapng::PcapNg;
use super::sniff::{self, Start};
use crate::batch::Batch;
use crate::error::{DecodeError, DecodeErrorKind};
use crate::interface::Intern;
use crate::linktype::LinkType;
use crate::stats::{Anomaly, AnomalyCounts, DropCounts};
use crate::time::Timestamp;

/// What a decoder needs to know about its source.
#[derive(Debug, Clone)]
pub struct DecoderOptions {
    /// The source's name, given to each of its interfaces.
    pub source: Arc<str>,
    /// The operator's name for the source; an interface that has one of its own is then shown as
    /// `name/own`. `None`: interfaces keep their own.
    pub name: Option<Arc<str>>,
    /// Stands in for the linktype that a classic pcap header gives; pcapng is not affected.
    pub linktype: Option<LinkType>,
}

/// How far a call to [`Decoder::decode`] came.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Decoded {
    /// Octets that are done with: they need not be presented again.
    pub consumed: usize,
    /// What is wrong behind them, if anything.
    pub result: Result<(), DecodeError>,
}

/// Decodes one stream of classic pcap or pcapng, which it tells apart by the first octets.
///
/// Reads what the drafts `draft-ietf-opsawg-pcap` and `draft-ietf-opsawg-pcapng` describe, and
/// every older variant of them. Never allocates by a length that a stream claims.
///
/// ```
/// use pcaphub_core::batch::Batch;
/// use pcaphub_core::format::{Decoder, DecoderOptions, Format};
/// use pcaphub_core::interface::InterfaceTable;
/// use pcaphub_core::linktype::LinkType;
/// use pcaphub_core::time::Timestamp;
///
/// let octets = Format::Pcap.header(LinkType::ETHERNET);
/// let options = DecoderOptions { source: "eth0".into(), name: None, linktype: None };
/// let mut decoder = Decoder::new(options);
/// let (mut batch, mut table) = (Batch::default(), InterfaceTable::new());
/// let decoded = decoder.decode(&octets, &mut batch, &mut table, Timestamp::ZERO);
/// assert_eq!(decoded.consumed, 24);
/// assert_eq!(decoder.format(), Some(Format::Pcap));
/// ```
#[derive(Debug)]
pub struct Decoder {
    options: DecoderOptions,
    state: State,
    offset: u64,
    wants: usize,
    counts: Counts,
}

#[derive(Debug)]
enum State {
    Sniffing,
    Pcap(Pcap),
    PcapNg(PcapNg),
    Failed(DecodeError),
}

/// What a decoder counts, over the whole stream.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) anomalies: AnomalyCounts,
    pub(super) drops: DropCounts,
    /// The time of the latest packet, which tells whether time runs back.
    pub(super) latest: Timestamp,
    /// The first interface's linktype, and the stream's format.
    pub(super) linktype: Option<LinkType>,
    pub(super) format: Option<Format>,
}

impl Counts {
    /// Notes the time of a packet that is passed on.
    pub(super) fn note_time(&mut self, timestamp: Timestamp) {
        if timestamp < self.latest {
            self.anomalies.add(Anomaly::TimeBack, 1);
        }
        self.latest = timestamp;
    }
}

/// What a format's decoder works on and with, for one call.
pub(super) struct Call<'a> {
    pub(super) options: &'a DecoderOptions,
    pub(super) batch: &'a mut Batch,
    pub(super) intern: &'a mut dyn Intern,
    pub(super) arrival: Timestamp,
    pub(super) counts: &'a mut Counts,
    /// Octets of the stream before those of this call.
    pub(super) base: u64,
}

impl Call<'_> {
    /// Makes room for about `packets`; a stream that was all small packets and now sends one large
    /// one cannot make it much.
    pub(super) fn expect_packets(&mut self, packets: usize) {
        self.batch.packets.reserve(packets.min(MAX_EXPECTED));
    }
}

/// Packets that room is made for at once: a read of 256 KiB full of empty records.
const MAX_EXPECTED: usize = 16_384;

/// How far a format's decoder came.
pub(super) struct Walked {
    /// Octets done with, from the first one of the call.
    pub(super) consumed: usize,
    /// Octets needed from there to get on.
    pub(super) wants: usize,
    pub(super) result: Result<(), DecodeError>,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new(options: DecoderOptions) -> Self {
        let (offset, wants) = (0, 1);
        Decoder { options, state: State::Sniffing, offset, wants, counts: Counts::default() }
    }

    /// Decodes every whole record at the start of `octets`.
    ///
    /// Appends to the packets and options of `batch`; packets lie in `octets[..consumed]`, which
    /// the caller makes the batch's buffer. Octets not consumed are to be presented again, first,
    /// with more behind them. At most 2^32 − 1 octets are looked at. `arrival` is the time given
    /// to packets that have none.
    ///
    /// Errors are the sender's fault; packets before the error are delivered along with it, and
    /// after it the decoder only returns it again.
    pub fn decode(
        &mut self,
        octets: &[u8],
        batch: &mut Batch,
        intern: &mut dyn Intern,
        arrival: Timestamp,
    ) -> Decoded {
        let octets = octets.get(..u32::MAX as usize).unwrap_or(octets);
        let Decoder { options, state, offset, wants, counts } = self;
        let mut call = Call { options, batch, intern, arrival, counts, base: *offset };
        let mut from = 0;
        if let State::Sniffing = state {
            match open(octets, &mut call) {
                Ok((opened, consumed)) => (*state, from) = (opened, consumed),
                Err(Unopened::Wants(octets)) => {
                    *wants = octets;
                    return Decoded { consumed: 0, result: Ok(()) };
                }
                Err(Unopened::Never(kind)) => *state = State::Failed(DecodeError { offset: 0, kind }),
            }
        }
        let walked = match state {
            State::Pcap(pcap) => pcap.decode(octets, from, &mut call),
            State::PcapNg(pcapng) => pcapng.decode(octets, &mut call),
            State::Sniffing => Walked { consumed: 0, wants: 1, result: Ok(()) },
            State::Failed(error) => Walked { consumed: 0, wants: 1, result: Err(error.clone()) },
        };
        *offset = offset.saturating_add(walked.consumed as u64);
        *wants = walked.wants;
        if let Err(error) = &walked.result {
            *state = State::Failed(error.clone());
        }
        Decoded { consumed: walked.consumed, result: walked.result }
    }

    /// Walks over the records at the start of `octets` that our encoder for [`format`](Self::format)
    /// and [`linktype`](Self::linktype) would write as they stand, without decoding them: how many
    /// there are, and their octets. Zero of both before the header was decoded, and for pcapng.
    ///
    /// The octets behind them are to be given to [`decode`](Self::decode) next.
    pub fn forward(&mut self, octets: &[u8]) -> (u64, usize) {
        let State::Pcap(pcap) = &self.state else { return (0, 0) };
        let octets = octets.get(..u32::MAX as usize).unwrap_or(octets);
        let (packets, consumed) = pcap.forward(octets, &mut self.counts);
        self.offset = self.offset.saturating_add(consumed as u64);
        (packets, consumed)
    }

    /// The stream has ended, with `rest` octets unconsumed.
    ///
    /// # Errors
    /// Which part was cut short, unless it ended at the boundary of a record or block; or the
    /// error that ended it before.
    pub fn finish(&mut self, rest: &[u8]) -> Result<(), DecodeError> {
        let received = rest.len() as u64;
        let (offset, kind) = match &self.state {
            State::Failed(error) => return Err(error.clone()),
            State::Sniffing => (0, sniff::ended(rest)),
            State::Pcap(_) if rest.is_empty() => return Ok(()),
            State::Pcap(_) => (self.offset, DecodeErrorKind::TruncatedRecord { received }),
            State::PcapNg(pcapng) => match pcapng.unfinished(self.offset, received) {
                None => return Ok(()),
                Some((0, received)) => (0, DecodeErrorKind::TruncatedHeader { received }),
                Some((offset, received)) => (offset, DecodeErrorKind::TruncatedBlock { received }),
            },
        };
        let error = DecodeError { offset, kind };
        self.state = State::Failed(error.clone());
        Err(error)
    }

    /// How many octets, from the first unconsumed one, are needed to get on: 1 to 16 MiB and a
    /// header. Claimed by the stream, so buffers grow towards it only as octets really come.
    pub fn wants(&self) -> usize {
        self.wants
    }

    /// The stream's format, by its resolution, once known; older variants count as pcap.
    pub fn format(&self) -> Option<Format> {
        self.counts.format
    }

    /// The linktype of the first interface, once known.
    pub fn linktype(&self) -> Option<LinkType> {
        self.counts.linktype
    }

    /// Octets consumed so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What was odd so far.
    pub fn anomalies(&self) -> &AnomalyCounts {
        &self.counts.anomalies
    }

    /// Packets decoded so far and not passed on: oversize, without a usable time, or of an
    /// interface that the table had no room for.
    pub fn drops(&self) -> &DropCounts {
        &self.counts.drops
    }
}

/// Why a stream's format cannot be decoded.
enum Unopened {
    /// More octets are needed.
    Wants(usize),
    /// It is no capture, or none that can be read.
    Never(DecodeErrorKind),
}

/// Finds the stream's format; with the octets consumed.
fn open(octets: &[u8], call: &mut Call<'_>) -> Result<(State, usize), Unopened> {
    match sniff::start(octets) {
        Start::Wants(wants) => Err(Unopened::Wants(wants)),
        Start::Foreign(kind) => Err(Unopened::Never(kind)),
        Start::PcapNg => Ok((State::PcapNg(PcapNg::new()), 0)),
        Start::Pcap(magic) => match octets.first_chunk() {
            None => Err(Unopened::Wants(Pcap::HEADER_OCTETS)),
            Some(header) => {
                let pcap = Pcap::open(magic, header, call).map_err(Unopened::Never)?;
                Ok((State::Pcap(pcap), Pcap::HEADER_OCTETS))
            }
        },
    }
}
