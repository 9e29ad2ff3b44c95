//! The captures that are measured with: reproducible, made once, kept beside the build.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;

use anyhow::Result;
use pcaphub::traffic::{Mix, Traffic, TrafficConfig};
use pcaphub_core::format::Format;
use pcaphub_core::interface::InterfaceId;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::packet::Packet;
use pcaphub_core::time::{Resolution, Timestamp};

/// 2023-11-14 22:13:20 UTC.
const START: u64 = 1_700_000_000_000_000_000;

/// A capture of `packets` packets, split over `parts` files in turn; every fourth packet has the
/// time of the one before it.
pub(crate) fn capture(mix: Mix, packets: usize, parts: usize) -> Result<Vec<PathBuf>> {
    let folder = std::env::current_exe()?.with_file_name("bench-data");
    std::fs::create_dir_all(&folder)?;
    let name = |part: usize| folder.join(format!("{mix}-{packets}-{part}of{parts}.pcap"));
    let paths: Vec<_> = (0..parts).map(name).collect();
    if paths.iter().all(|path| path.exists()) {
        return Ok(paths);
    }
    let mut files = Vec::new();
    for path in &paths {
        let mut file = BufWriter::new(File::create(path.with_extension("part"))?);
        file.write_all(&Format::Pcap.header(LinkType::ETHERNET))?;
        files.push(file);
    }
    let config = TrafficConfig { seed: 1, flows: 1000, rate: 400_000.0, mix, start_nanos: START };
    let mut traffic = Traffic::new(config);
    let (mut octets, mut record, mut last) = (Vec::new(), Vec::new(), 0);
    for number in 0..packets {
        octets.clear();
        record.clear();
        let time = traffic.next(&mut octets);
        last = if number % 4 == 3 { last } else { time };
        let length = u32::try_from(octets.len())?;
        let packet = Packet {
            timestamp: Timestamp::from_nanos(last),
            interface: InterfaceId(0),
            caplen: length,
            origlen: length,
            offset: 0,
            options_offset: 0,
            options_len: 0,
        };
        Format::Pcap.record(&mut record, &packet, &octets, &[], Resolution::MICROS);
        if let Some(file) = files.get_mut(number % parts) {
            file.write_all(&record)?;
        }
    }
    for (file, path) in files.into_iter().zip(&paths) {
        file.into_inner()?.sync_all()?;
        std::fs::rename(path.with_extension("part"), path)?;
    }
    Ok(paths)
}

/// The records of a classic capture, header left out: their times in microseconds and places.
pub(crate) fn records(octets: &[u8]) -> Vec<(u64, std::ops::Range<usize>)> {
    let word =
        |at: usize| octets.get(at..at + 4).and_then(|w| w.try_into().ok()).map_or(0, u32::from_le_bytes);
    let (mut at, mut records) = (24, Vec::new());
    while at + 16 <= octets.len() {
        let end = at + 16 + word(at + 8) as usize;
        records.push((u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4)), at..end));
        at = end;
    }
    records
}
