//! Whole records in octets that begin at a record boundary.

use crate::format::Format;

/// Octets before a classic record's data.
const RECORD_HEADER: usize = 16;
/// Block types that are packets: enhanced and simple.
const PACKET_BLOCKS: [u32; 2] = [6, 3];

/// How many whole packets our encoder's `octets` hold; a record cut short at the end is none.
pub fn count_records(format: Format, octets: &[u8]) -> u64 {
    whole_records(format, octets).0
}

/// How many whole packets our encoder's `octets` hold, and in how many octets all their whole
/// records and blocks lie.
pub fn whole_records(format: Format, octets: &[u8]) -> (u64, usize) {
    first_records(format, octets, u64::MAX)
}

/// The same of the first `most` packets alone, with the blocks that stand before the next one.
pub fn first_records(format: Format, octets: &[u8], most: u64) -> (u64, usize) {
    let word = |at: usize| {
        let octets = octets.get(at..at + 4)?;
        Some(u32::from_le_bytes(octets.try_into().ok()?))
    };
    let (mut at, mut packets) = (0usize, 0);
    loop {
        let record = match format {
            Format::PcapNg => word(at)
                .zip(word(at + 4))
                .map(|(kind, length)| (length as usize, PACKET_BLOCKS.contains(&kind))),
            _ => word(at + 8).map(|caplen| (RECORD_HEADER + caplen as usize, true)),
        };
        match record {
            Some((_, true)) if packets == most => return (packets, at),
            Some((length, is_packet)) if length > 0 && length <= octets.len() - at => {
                at += length;
                packets += u64::from(is_packet);
            }
            _ => return (packets, at),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cut_short_does_not_count() {
        let mut record = vec![0; 16];
        record[8] = 3;
        record.extend([1, 2, 3]);
        let two = [record.clone(), record].concat();
        assert_eq!(count_records(Format::Pcap, &two), 2);
        assert_eq!(count_records(Format::Pcap, &two[..37]), 1);
        assert_eq!(count_records(Format::Pcap, &two[..10]), 0);
        assert_eq!(count_records(Format::Pcap, &[]), 0);
        assert_eq!(whole_records(Format::Pcap, &two[..37]), (1, 19));
        assert_eq!(first_records(Format::Pcap, &two, 1), (1, 19));
        assert_eq!(first_records(Format::Pcap, &two, 0), (0, 0));
    }
}
