//! Packets on their way from a stream to the hub, which are in its books whatever becomes of them.
//!
//! The hub unpacks those that it takes. Those that it does not (it was told to end, their source has
//! ended, their stream was cut while it waited) are let go of somewhere on the way: each of them was
//! read, and counts as closed.

use pcaphub_core::stats::DropReason;

use crate::framing::Decoded;
use crate::stats::Books;

/// What was decoded by one read of a source, or a part of that.
pub struct Parcel {
    decoded: Decoded,
    /// Packets of the batch that went in other parcels.
    gone: usize,
    source: usize,
    books: Books,
}

impl Parcel {
    /// What was read of source number `source`.
    pub fn new(decoded: Decoded, source: usize, books: Books) -> Self {
        Parcel { decoded, gone: 0, source, books }
    }

    /// What is in it.
    pub fn decoded(&self) -> &Decoded {
        &self.decoded
    }

    /// To change what is in it; what is taken out is not in the books.
    pub fn decoded_mut(&mut self) -> &mut Decoded {
        &mut self.decoded
    }

    /// Its packets up to number `end` that did not go yet, in a parcel of their own; the first such has all
    /// that is not packets, too.
    pub fn up_to(&mut self, end: usize) -> Parcel {
        let batch = self.decoded.batch.part(self.gone..end);
        self.gone = end;
        let keep = Decoded {
            batch: std::mem::take(&mut self.decoded.batch),
            large: self.decoded.large.take(),
            ..Decoded::default()
        };
        let rest = std::mem::replace(&mut self.decoded, keep);
        Parcel::new(Decoded { batch, ..rest }, self.source, self.books.clone())
    }

    /// All that did not go yet, with the memory that it pins.
    pub fn rest(mut self) -> Parcel {
        let mut rest = self.up_to(self.decoded.batch.packets.len());
        rest.decoded.large = self.decoded.large.take();
        rest
    }

    /// Takes what is in it, to be counted by the caller.
    pub fn unpack(mut self) -> Decoded {
        std::mem::take(&mut self.decoded)
    }
}

impl Drop for Parcel {
    fn drop(&mut self) {
        let Decoded { batch, dropped, anomalies, octets, filtered, .. } = &self.decoded;
        let left = batch.packets.len().saturating_sub(self.gone) as u64;
        if left + dropped.total() + anomalies.total() + filtered + octets == 0 {
            return;
        }
        self.books.source(self.source, |counts| {
            counts.decoded += left + filtered + dropped.total();
            counts.filtered += filtered;
            counts.octets += octets;
            counts.dropped.merge(dropped);
            counts.dropped.add(DropReason::Closed, left);
            counts.anomalies.merge(anomalies);
        });
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use pcaphub_core::batch::Batch;
    use pcaphub_core::interface::InterfaceId;
    use pcaphub_core::packet::Packet;
    use pcaphub_core::time::Timestamp;

    use super::*;

    fn books() -> Books {
        let books = Books::default();
        books.add_source(7, "one".into());
        books
    }

    fn of(packets: usize) -> Decoded {
        let packet = Packet {
            timestamp: Timestamp::ZERO,
            interface: InterfaceId(0),
            offset: 0,
            options_offset: 0,
            caplen: 1,
            origlen: 1,
            options_len: 0,
        };
        let buffer = Bytes::from_static(b"x");
        let batch = Batch { buffer, packets: vec![packet; packets], ..Batch::default() };
        Decoded { batch, filtered: 2, octets: 100, ..Decoded::default() }
    }

    #[test]
    fn packets_that_nobody_takes_are_read_and_closed() {
        let books = books();
        drop(Parcel::new(of(5), 7, books.clone()));
        let report = books.report();
        let source = &report.sources[0];
        assert_eq!((source.decoded, source.filtered, source.octets), (7, 2, 100));
        assert_eq!(source.dropped["closed"], 5);
        assert!(report.closes());
    }

    #[test]
    fn packets_that_were_taken_are_in_the_hands_of_who_took_them() {
        let books = books();
        assert_eq!(Parcel::new(of(5), 7, books.clone()).unpack().batch.packets.len(), 5);
        assert_eq!(books.report().decoded(), 0);
    }

    #[test]
    fn of_a_parcel_that_goes_in_parts_each_packet_counts_once() {
        let books = books();
        let mut parcel = Parcel::new(of(5), 7, books.clone());
        let first = parcel.up_to(2).unpack();
        assert_eq!((first.batch.packets.len(), first.filtered), (2, 2));
        let second = parcel.up_to(3).unpack();
        assert_eq!((second.batch.packets.len(), second.filtered), (1, 0));
        drop(parcel);
        let source = &books.report().sources[0];
        assert_eq!((source.decoded, source.dropped["closed"], source.octets), (2, 2, 0));
    }
}
