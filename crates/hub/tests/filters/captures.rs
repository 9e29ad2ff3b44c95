//! The packets of captures: our examples, and the folder that PCAPHUB_CORPORA names.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use pcaphub_core::batch::Batch;
use pcaphub_core::format::{Decoder, DecoderOptions};
use pcaphub_core::interface::InterfaceTable;
use pcaphub_core::time::Timestamp;

use super::packets::Made;
use super::{EXPRESSIONS, Pair, installed, pairs};

/// The packets of a capture by linktype, as far as it can be read.
fn packets(path: &Path) -> Vec<(u16, Made)> {
    let octets = std::fs::read(path).unwrap();
    let options = DecoderOptions { source: "capture".into(), name: None, linktype: None };
    let (mut batch, mut table) = (Batch::default(), InterfaceTable::new());
    // What is wrong with a capture is another test's concern.
    let _ = Decoder::new(options).decode(&octets, &mut batch, &mut table, Timestamp::ZERO);
    batch.buffer = Bytes::from(octets);
    let packet = |packet| {
        let packet: &pcaphub_core::packet::Packet = packet;
        let linktype = table.get(packet.interface).unwrap().linktype;
        (linktype.0, Made { octets: batch.octets(packet).to_vec(), origlen: packet.origlen })
    };
    batch.packets.iter().map(packet).collect()
}

/// Runs every expression of a linktype, Ethernet's if it has none of its own, over its packets: how
/// many packets, and how many matches.
fn compare(files: &[PathBuf]) -> (usize, usize) {
    let mut of_linktype: BTreeMap<u16, Vec<Pair>> = BTreeMap::new();
    for (linktype, lines) in EXPRESSIONS {
        of_linktype.entry(*linktype).or_default().extend(pairs(*linktype, lines));
    }
    let (mut count, mut matches) = (0, 0);
    for (linktype, made) in files.iter().flat_map(|path| packets(path)) {
        count += 1;
        let pairs = of_linktype.get(&linktype).or_else(|| of_linktype.get(&1));
        matches += pairs.into_iter().flatten().filter(|pair| pair.run(&made) != 0).count();
    }
    (count, matches)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn the_examples_give_what_libpcap_gives() {
    if !installed() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let (packets, matches) = compare(&files(&folder));
    assert!(packets == 120 && matches > packets, "{packets} packets, {matches} matches");
}

#[test]
fn captures_of_other_projects_give_what_libpcap_gives() {
    let Some(folder) = std::env::var_os("PCAPHUB_CORPORA") else {
        eprintln!("SKIPPED: PCAPHUB_CORPORA is not set; it names a folder of captures to compare with");
        return;
    };
    if !installed() {
        return;
    }
    let (packets, matches) = compare(&files(Path::new(&folder)));
    assert!(packets > 0);
    println!("{packets} packets, {matches} matches");
}
