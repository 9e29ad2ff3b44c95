//! Files that are being written: a disk that is full, a hub that is killed.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Signal;

use crate::harness::*;
use crate::table::*;

const BEGIN: u64 = 1_700_000_000_000_000;
/// What the small file system holds.
const DISK: usize = 2 << 20;

/// Serves standard input.
const SERVE: &[&str] = &["serve", "-", "--listen", "127.0.0.1:0"];

/// A hub with a file sink in a file system of its own that holds [`DISK`] octets; where that is, seen
/// from here.
fn hub_on_a_small_disk(name: &str, verb: &[&str], listeners: usize) -> (Hub, PathBuf) {
    let mut command = Command::new("unshare");
    command
        .args(["-m", "sh", "-c"])
        .arg(format!("mount -t tmpfs -o size={DISK} none /mnt && exec \"$0\" \"$@\""))
        .arg(pcaphub().get_program())
        .args(verb)
        .args(["--stats", "json", "-w", &format!("/mnt/{name}")])
        .stdin(Stdio::piped());
    let hub = Hub::spawn(command, listeners);
    // Not before: until then it would be this machine's.
    let mounts = || std::fs::read_to_string(format!("/proc/{}/mounts", hub.pid())).unwrap_or_default();
    wait_until("it has its own file system", || {
        mounts().lines().any(|line| line.starts_with("none /mnt tmpfs"))
    });
    let mount = PathBuf::from(format!("/proc/{}/root/mnt", hub.pid()));
    (hub, mount)
}

/// Whole packets of a capture, and whether it ends at a record's boundary.
fn whole(octets: &[u8]) -> (usize, bool) {
    let (mut at, mut packets) = (24, 0);
    while at + 16 <= octets.len() {
        let length = u32::from_le_bytes(octets[at + 8..at + 12].try_into().unwrap()) as usize;
        if at + 16 + length > octets.len() {
            break;
        }
        at += 16 + length;
        packets += 1;
    }
    (packets, at == octets.len())
}

fn read(path: &Path) -> Vec<u8> {
    let mut octets = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut octets).unwrap();
    octets
}

#[test]
fn on_a_full_disk_the_file_stays_valid_clients_go_on_and_it_resumes_with_room() {
    if !may_unshare() {
        return;
    }
    let _alone = alone();
    let (mut hub, mount) = hub_on_a_small_disk("out.pcap", SERVE, 1);
    // The room that is made later.
    std::fs::write(mount.join("ballast"), vec![1; DISK / 2]).unwrap();
    let mut pipe = hub.stdin();
    let all = packets(1, 20_000, BEGIN, 10);
    let octets = pcap(&all);
    let (first, second) = octets.split_at(pcap(&all[..10_000]).len());
    let mut client = connect(hub.client());
    let mut got = std::thread::scope(|scope| {
        scope.spawn(|| pipe.write_all(first).unwrap());
        read_exact(&mut client, first.len())
    });
    hub.wait_for("No space left on device");
    let mut away = |what: &str, holds: fn(&str) -> bool| {
        wait_until(what, || {
            let counts = hub.counts();
            let mut sinks = counts["sinks"].as_array().unwrap().iter();
            holds(sinks.find_map(|sink| sink["away"].as_str()).unwrap_or("there"))
        });
    };
    away("the counts tell why it is away", |why| why.contains("No space left on device"));
    let full = read(&mount.join("out.pcap"));
    let (kept, at_boundary) = whole(&full);
    assert!(at_boundary && kept > 0, "{kept} packets; at a record's boundary: {at_boundary}");
    std::fs::remove_file(mount.join("ballast")).unwrap();
    away("they tell that it is there again", |why| why == "there");
    let begun = Instant::now();
    got.extend(std::thread::scope(|scope| {
        // As much as the room that was made takes.
        let more = &second[..pcap(&all[10_000..11_000]).len() - 24];
        scope.spawn(|| pipe.write_all(more).unwrap());
        read_exact(&mut client, more.len())
    }));
    let length = || std::fs::metadata(mount.join("out.pcap")).unwrap().len() as usize;
    wait_until("the file grows", || length() > full.len() + 100_000);
    let resumed = begun.elapsed();
    drop(pipe);
    let end = pcap(&all[..11_000]);
    assert!(got == end, "the client has everything");
    // The file system goes with the hub: the file is read before.
    wait_until("all is written", || {
        whole(&read(&mount.join("out.pcap"))).1 && length() > full.len() + 400_000
    });
    let written = whole(&read(&mount.join("out.pcap"))).0;
    let (status, counts) = hub.ended();
    assert!(status.success());
    let lost = counts["departed"]["dropped"]["sink_full"].as_u64().unwrap();
    assert_eq!(written as u64 + lost, 11_000, "written or counted as lost");
    row(
        80,
        "the disk is full under a file sink, then has room",
        "clients get all; valid to the last whole record; resumes",
        &format!(
            "11000 of 11000; {kept} whole records while full; {} to resume; {lost} counted as sink_full",
            seconds(resumed)
        ),
    );
}

#[test]
fn a_lone_file_on_a_full_disk_holds_up_its_source_and_loses_nothing() {
    if !may_unshare() {
        return;
    }
    let _alone = alone();
    let (mut hub, mount) = hub_on_a_small_disk("out.pcap", &["pipe", "-"], 0);
    std::fs::write(mount.join("ballast"), vec![1; DISK * 3 / 4]).unwrap();
    let mut pipe = hub.stdin();
    let octets = pcap(&packets(1, 3000, BEGIN, 10));
    assert!(octets.len() > DISK / 4 && octets.len() < DISK - 4096);
    let sent = octets.clone();
    let feeding = std::thread::spawn(move || {
        pipe.write_all(&sent).unwrap();
        pipe
    });
    hub.wait_for("No space left on device");
    std::fs::remove_file(mount.join("ballast")).unwrap();
    hub.wait_for("there is room again");
    let pipe = feeding.join().unwrap();
    wait_until("all is written", || read(&mount.join("out.pcap")) == octets);
    drop(pipe);
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["dropped"], serde_json::json!({}));
    row(83, "the disk is full under a file that is the only sink", "nothing lost", "3000 of 3000 packets");
}

#[test]
fn a_packed_file_goes_on_after_a_full_disk_and_is_whole_at_its_end() {
    if !may_unshare() {
        return;
    }
    let _alone = alone();
    let (mut hub, mount) = hub_on_a_small_disk("out.pcap.gz", SERVE, 1);
    std::fs::write(mount.join("ballast"), vec![1; DISK - (64 << 10)]).unwrap();
    let mut pipe = hub.stdin();
    // Octets that do not pack.
    let noise = |n: u32| {
        let mut octets = datagram(1, n, 60);
        let mut state = n.wrapping_mul(2_654_435_761) | 1;
        octets.extend((0..400).map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        }));
        Packet { micros: BEGIN + u64::from(n), octets }
    };
    let all: Vec<Packet> = (0..2000).map(noise).collect();
    let octets = pcap(&all);
    let mut client = connect(hub.client());
    let (first, second) = octets.split_at(pcap(&all[..1000]).len());
    let mut got = std::thread::scope(|scope| {
        scope.spawn(|| pipe.write_all(first).unwrap());
        read_exact(&mut client, first.len())
    });
    hub.wait_for("No space left on device");
    std::fs::remove_file(mount.join("ballast")).unwrap();
    hub.wait_for("there is room again");
    pipe.write_all(second).unwrap();
    got.extend(read_exact(&mut client, second.len()));
    assert!(got == octets);
    // A second hub on the same pipe would see its end; this one's file is looked at from a
    // descriptor that outlives its file system.
    let mut file = std::fs::File::open(mount.join("out.pcap.gz")).unwrap();
    drop(pipe);
    let (status, counts) = hub.ended();
    assert!(status.success());
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(&mut file).read_to_end(&mut unpacked).unwrap();
    let written = read_pcap(&unpacked);
    let lost = counts["departed"]["dropped"].get("sink_full").map_or(0, |n| n.as_u64().unwrap());
    assert_eq!(written.len() as u64 + lost, 2000);
    assert!(written.iter().all(|packet| all.contains(packet)));
    row(
        81,
        "the same with a packed file",
        "whole at its end",
        &format!("{} written, {lost} counted as sink_full", written.len()),
    );
}

#[test]
fn a_recording_keeps_a_part_of_the_disk_free_and_the_newest_packets() {
    if !may_unshare() {
        return;
    }
    let _alone = alone();
    let verb = ["record", "-", "--size", "200kB", "--keep-free", "500kB"];
    let (mut hub, mount) = hub_on_a_small_disk("x.pcap", &verb, 0);
    let mut pipe = hub.stdin();
    let all = packets(1, 10_000, BEGIN, 10);
    let octets = pcap(&all);
    assert!(octets.len() > 2 * DISK);
    pipe.write_all(&octets).unwrap();
    let files = || {
        let entries = std::fs::read_dir(&mount).unwrap().map(|entry| entry.unwrap().path());
        let mut files: Vec<_> = entries.filter(|path| path.to_string_lossy().contains("pcap")).collect();
        // By number, the part last.
        files.sort_by_key(|path| (path.as_os_str().len(), path.clone()));
        files
    };
    let last = octets.len() - record(&all[9999]).len();
    wait_until("the last packet is recorded", || {
        files()
            .last()
            .is_some_and(|path| std::fs::read(path).is_ok_and(|file| file.ends_with(&octets[last..])))
    });
    let free = || rustix::fs::statvfs(&mount).map(|stat| stat.f_bavail * stat.f_frsize).unwrap();
    wait_until("so much is free", || free() >= 500_000);
    let kept: Vec<u8> = files().iter().flat_map(|path| read(path).split_off(24)).collect();
    assert!(octets.ends_with(&kept), "the newest packets, without a gap");
    assert!(kept.len() > DISK / 3, "{} octets", kept.len());
    let (count, free) = (files().len(), free());
    drop(pipe);
    let (status, counts) = hub.ended();
    assert!(status.success());
    assert_eq!(counts["departed"]["dropped"], serde_json::json!({}));
    row(
        84,
        "a recording that goes on for longer than the disk, --keep-free 500kB",
        "nothing lost, the oldest files go, so much stays free",
        &format!("0 lost of 10000; {count} files left; {} kB free", free / 1000),
    );
}

#[test]
fn a_hub_that_is_killed_leaves_files_that_are_readable_to_their_last_second() {
    let _alone = alone();
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let mut reached = Vec::new();
    for name in ["out.pcap", "out.pcap.gz", "out.pcap.zst"] {
        let folder = folder();
        let path = folder.path().join(name);
        let mut hub = Hub::start_with(
            &["pipe", "-", "--to", path.to_str().unwrap(), "--to", "null:"],
            0,
            Stdio::piped(),
        );
        let mut pipe = hub.stdin();
        pipe.write_all(&header(1)).unwrap();
        let begun = Instant::now();
        let mut sent = 0;
        while begun.elapsed() < Duration::from_millis(3500) {
            let packet = Packet { micros: now(), octets: datagram(1, sent, 60) };
            pipe.write_all(&record(&packet)).unwrap();
            sent += 1;
            std::thread::sleep(Duration::from_millis(5));
        }
        let killed = now();
        hub.signal(Signal::KILL);
        wait_until("it is gone", || !hub.runs());
        let raw = std::fs::read(&path).unwrap();
        let mut octets = Vec::new();
        match name.rsplit('.').next().unwrap() {
            "gz" => _ = flate2::read::GzDecoder::new(&raw[..]).read_to_end(&mut octets),
            "zst" => {
                // The whole file is unpacked as far as it goes, by the hub that reads it again.
                let output = run(&["cat", path.to_str().unwrap()], b"");
                octets = output.stdout;
            }
            _ => octets = raw,
        }
        let (packets, _) = whole(&octets);
        let mut at = 24;
        let mut last = 0;
        for _ in 0..packets {
            let word = |at: usize| u32::from_le_bytes(octets[at..at + 4].try_into().unwrap());
            last = u64::from(word(at)) * 1_000_000 + u64::from(word(at + 4));
            at += 16 + word(at + 8) as usize;
        }
        let lost = Duration::from_micros(killed.saturating_sub(last));
        reached.push(format!("{name} {}", seconds(lost)));
        assert!(lost <= Duration::from_millis(1250), "{name}: {lost:?}, {packets} packets");
    }
    row(82, "kill -9 while files are written", "readable; at most about 1 s lost", &reached.join(", "));
}
