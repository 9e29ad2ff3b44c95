//! Captures of other projects: whatever the oracle reads whole, we count alike.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::*;

/// Files that we do not read as the oracle does, and the row of the hostile-input table that asks
/// for it.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("rshk_python-pcapng/test_data/test006.ntar", "pcapng: length not a multiple of 4"),
    ("the-tcpdump-group_tcpdump/tests/bgp_vpn_rt-oobr.pcap", "classic: zeros between records"),
    ("the-tcpdump-group_tcpdump/tests/vtp_asan.pcap", "classic: zeros between records"),
];

fn captures(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            captures(&path, found);
        } else if path
            .extension()
            .is_some_and(|e| ["pcap", "pcapng", "cap", "ntar"].iter().any(|known| e == *known))
        {
            found.push(path);
        }
    }
}

fn is_pcapng(path: &Path) -> bool {
    std::fs::read(path).unwrap().starts_with(&[0x0a, 0x0d, 0x0d, 0x0a])
}

/// Packets that tcpdump reads, if it reads the file to its end without complaint.
fn count_with_tcpdump(path: &Path, copy: &Path) -> Option<u64> {
    let status =
        Command::new("tcpdump").args(["-n", "-r"]).arg(path).arg("-w").arg(copy).output().unwrap().status;
    if status.success() { count_with_capinfos(copy) } else { None }
}

#[test]
fn every_file_that_the_oracle_reads_whole_gives_the_same_packets() {
    let Some(folder) = std::env::var_os("PCAPHUB_CORPORA") else {
        eprintln!("SKIPPED: PCAPHUB_CORPORA is not set; it names a folder of captures to compare with");
        return;
    };
    if !has("capinfos") || !has("tcpdump") {
        return;
    }
    let out = crate::harness::folder();
    let mut files = Vec::new();
    captures(Path::new(&folder), &mut files);
    assert!(!files.is_empty(), "no captures in {}", folder.display());
    let (mut compared, mut wrong) = (0, Vec::new());
    for path in &files {
        let expected = if is_pcapng(path) {
            count_with_capinfos(path)
        } else {
            count_with_tcpdump(path, &out.path().join("copy.pcap"))
        };
        let Some(expected) = expected else { continue };
        compared += 1;
        let written = out.path().join("out.pcapng");
        let output = run(&["cat", path.to_str().unwrap(), "--format", "pcapng"], b"");
        std::fs::write(&written, &output.stdout).unwrap();
        let got = if output.stdout.is_empty() { Some(0) } else { count_with_capinfos(&written) };
        let name = path.strip_prefix(&folder).unwrap().display().to_string();
        let excepted = EXCEPTIONS.iter().any(|(file, _)| name.ends_with(file));
        if got != Some(expected) && !excepted {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            wrong.push(format!("{name}: {expected} packets, we have {got:?}; {said}"));
        }
    }
    assert!(wrong.is_empty(), "of {compared} files:\n{}", wrong.join("\n"));
    assert!(EXCEPTIONS.len() <= 10);
    println!("{compared} of {} files compared", files.len());
}
