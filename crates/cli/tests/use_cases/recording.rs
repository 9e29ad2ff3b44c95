//! Recording into rotating files, read back by the real tools.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// The names in a directory, in order.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// The files in a directory, the oldest first.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = names(directory).iter().map(|name| directory.join(name)).collect();
    files.sort_by_key(|path| fs::metadata(path).unwrap().modified().unwrap());
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Records `packets` of a capture in `folder` into `captures` there; what it said, and where.
fn record(folder: &TempDir, all: &[Packet], options: &[&str]) -> (String, PathBuf) {
    let source = file(folder, "in.pcap", &pcap(all));
    let directory = folder.path().join("captures");
    let line = [&["record", source.to_str().unwrap(), directory.to_str().unwrap()], options].concat();
    let output = run(&line, b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{options:?}: {said}");
    (said, directory)
}

/// The packet with a payload that does not pack.
fn noisy(mut packet: Packet) -> Packet {
    let mut state = packet.micros as u32 | 1;
    for octet in &mut packet.octets[42..] {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        *octet = state as u8;
    }
    packet
}

/// What `pcaphub cat` makes of files: all packets, in order.
fn read_back(files: &[PathBuf]) -> Vec<Packet> {
    let mut line = vec!["cat"];
    line.extend(files.iter().map(|path| path.to_str().unwrap()));
    line.extend(["--format", "pcap"]);
    read_pcap(&run(&line, b"").stdout)
}

#[test]
fn files_rotate_by_size_and_each_is_a_capture_that_the_real_tools_read() {
    if !["capinfos", "tshark", "mergecap", "tcpdump"].into_iter().all(has) {
        return;
    }
    let all: Vec<_> = packets(1, 3000, BEGIN, 1000).into_iter().map(noisy).collect();
    for template in ["%s.pcapng", "%s.pcap", "x-%F.pcapng.zst", "%H.pcap.gz"] {
        let folder = folder();
        let (said, directory) = record(&folder, &all, &["--size", "200kB", "--template", template]);
        let files = files(&directory);
        assert!(files.len() >= 8, "{template}: {files:?}");
        assert_eq!(mode(&directory), 0o700);
        let mut counted = 0;
        for path in &files {
            let length = fs::metadata(path).unwrap().len();
            assert!(length <= 200_000, "{}: {length} octets", path.display());
            assert_eq!(mode(path), 0o600);
            let count = count_with_capinfos(path).unwrap_or_else(|| panic!("{}", path.display()));
            let name = path.file_name().unwrap().to_str().unwrap();
            assert!(said.contains(&format!("recorded {name}: {count} packets, {length} octets")), "{said}");
            counted += count;
        }
        assert_eq!(counted, 3000, "{template}");
        assert!(read_back(&files) == all, "{template}: the same packets in the same order");
        let first = files[0].display();
        assert_eq!(
            shell(&format!("tshark -r {first} | wc -l")).trim(),
            count_with_capinfos(&files[0]).unwrap().to_string()
        );
        if template.ends_with(".pcap") {
            shell(&format!("tcpdump -n -r {first} | grep -q 10.0.0.1"));
        }
        let merged = folder.path().join("merged.pcapng");
        shell(&format!("mergecap -w {} {}/*", merged.display(), directory.display()));
        assert_eq!(count_with_capinfos(&merged), Some(3000), "{template}");
    }
}

#[test]
fn files_rotate_by_packets_exactly() {
    let all = packets(1, 1000, BEGIN, 1000);
    for template in ["x.pcap", "x.pcapng"] {
        let folder = folder();
        let (_, directory) = record(&folder, &all, &["--packets", "300", "--template", template]);
        let expected = ["x", "x-2", "x-3", "x-4"].map(|stem| template.replacen('x', stem, 1));
        let counts = expected.map(|name| read_back(&[directory.join(name)]).len());
        assert_eq!(counts, [300, 300, 300, 100], "{:?}", names(&directory));
        let (_, directory) = record(&folder, &all[..5], &["--template", template]);
        assert_eq!(names(&directory).len(), 5, "an older recording is never overwritten");
        assert!(names(&directory).iter().any(|name| name.starts_with("x-5.")));
    }
}

#[test]
fn a_packet_larger_than_a_file_may_be_has_one_to_itself() {
    let folder = folder();
    let octets = datagram(1, 0, 3000);
    let all: Vec<_> = (0..3u64).map(|n| Packet { micros: BEGIN + n, octets: octets.clone() }).collect();
    let (_, directory) = record(&folder, &all, &["--size", "1KiB"]);
    assert_eq!(files(&directory).len(), 3);
    assert_eq!(read_back(&files(&directory)).len(), 3);
}

#[test]
fn a_file_ends_with_its_time_on_a_quiet_link_and_none_is_empty() {
    let folder = folder();
    let directory = folder.path().join("captures");
    let line = ["record", "-", directory.to_str().unwrap(), "--every", "1s", "--format", "pcap"];
    let mut hub = Hub::start_with(&line, 0, Stdio::piped());
    let mut pipe = hub.stdin();
    let all = packets(1, 2, BEGIN, 1000);
    pipe.write_all(&header(1)).unwrap();
    pipe.write_all(&record_of(&all[0])).unwrap();
    hub.wait_for("1 packets");
    let first = names(&directory);
    assert_eq!(first.len(), 1, "{first:?}");
    assert!(first[0].ends_with("Z.pcap") && first[0].len() == "2026-11-24T19-06-21Z.pcap".len());
    // Several times over, with nothing to write.
    let quiet = Instant::now();
    while quiet.elapsed() < Duration::from_millis(2500) {
        assert_eq!(names(&directory), first);
        std::thread::sleep(Duration::from_millis(50));
    }
    pipe.write_all(&record_of(&all[1])).unwrap();
    hub.wait_for("1 packets");
    assert!(read_back(&files(&directory)) == all);
    drop(pipe);
    assert!(hub.ended().0.success());
    assert_eq!(names(&directory).len(), 2);
}

fn record_of(packet: &Packet) -> Vec<u8> {
    crate::harness::record(packet)
}

#[test]
fn each_file_announces_the_interfaces_that_it_needs() {
    if !has("tshark") {
        return;
    }
    let folder = folder();
    let ethernet = packets(1, 100, BEGIN, 1000);
    let raw: Vec<_> = packets(2, 100, BEGIN + 500, 1000)
        .into_iter()
        .map(|packet| Packet { octets: packet.octets[14..].to_vec(), ..packet })
        .collect();
    let one = file(&folder, "ethernet.pcap", &pcap(&ethernet));
    let mut octets = pcap(&raw);
    octets[20] = 101;
    let two = file(&folder, "raw.pcap", &octets);
    let directory = folder.path().join("captures");
    let line = ["record", one.to_str().unwrap(), two.to_str().unwrap(), directory.to_str().unwrap()];
    let output = run(&[&line[..], &["--packets", "40", "--template", "x.pcapng"]].concat(), b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = files(&directory);
    assert_eq!(files.len(), 5);
    for path in files {
        let sources = shell(&format!("tshark -r {} -T fields -e ip.src | sort | uniq -c", path.display()));
        let counts: Vec<_> = sources.split_whitespace().collect();
        assert_eq!(counts, ["20", "10.0.0.1", "20", "10.0.0.2"], "{}", path.display());
    }
}

#[test]
fn a_pcap_recording_has_the_linktype_of_a_producer_that_comes_late() {
    if !has("capinfos") {
        return;
    }
    let folder = folder();
    let directory = folder.path().join("captures");
    let line = [
        "record",
        "tcp-listen://127.0.0.1:0",
        directory.to_str().unwrap(),
        "--format",
        "pcap",
        "--header-wait",
        "100ms",
        "--template",
        "x.pcap",
    ];
    let hub = Hub::start(&line, 1);
    // Long enough for a header to be assumed; what is asserted holds without it, too.
    std::thread::sleep(Duration::from_millis(300));
    let mut producer = connect(hub.producers[0]);
    producer.write_all(&header(101)).unwrap();
    let packet = Packet { micros: BEGIN, octets: datagram(1, 0, 60)[14..].to_vec() };
    producer.write_all(&record_of(&packet)).unwrap();
    wait_until("it is being written", || names(&directory) == ["x.pcap.part"]);
    wait_until("the packet is in it", || fs::metadata(directory.join("x.pcap.part")).unwrap().len() > 40);
    let (status, _) = hub.stop();
    assert!(status.success());
    let described = shell(&format!("capinfos -E {}", directory.join("x.pcap").display()));
    assert!(described.contains("Raw IP"), "{described}");
    assert_eq!(count_with_capinfos(&directory.join("x.pcap")), Some(1));
}

#[test]
fn the_oldest_go_and_only_files_that_the_recorder_could_have_named() {
    let folder = folder();
    let directory = folder.path().join("captures");
    fs::create_dir(&directory).unwrap();
    let elsewhere = file(&folder, "precious", b"keep me");
    fs::write(directory.join("thesis.pcap"), "keep me").unwrap();
    fs::write(directory.join("x-y.pcap"), "keep me").unwrap();
    symlink(&elsewhere, directory.join("x-7.pcap")).unwrap();
    fs::create_dir(directory.join("x-8.pcap")).unwrap();
    fs::write(directory.join("x.pcap"), "an older recording").unwrap();
    let all = packets(1, 1000, BEGIN, 1000);
    let (said, _) = record(
        &folder,
        &all,
        &["--packets", "100", "--template", "x.pcap", "--keep", "3", "--on-slow", "wait"],
    );
    assert!(said.contains("removed x.pcap"), "{said}");
    let names = names(&directory);
    for name in ["thesis.pcap", "x-y.pcap", "x-7.pcap", "x-8.pcap"] {
        assert!(names.contains(&name.to_owned()), "{name}: {names:?}");
    }
    assert_eq!(fs::read(elsewhere).unwrap(), b"keep me");
    let kept: Vec<_> = files(&directory)
        .into_iter()
        .filter(|path| path.is_file() && !path.is_symlink() && fs::metadata(path).unwrap().len() > 100)
        .collect();
    assert_eq!(kept.len(), 3, "{names:?}");
    assert!(read_back(&kept) == all[700..], "the newest");
}

#[test]
fn old_recordings_go_and_all_together_stay_below_their_total() {
    let folder = folder();
    let directory = folder.path().join("captures");
    fs::create_dir(&directory).unwrap();
    for (name, days) in [("a.pcap", 20), ("a-2.pcap", 10)] {
        fs::write(directory.join(name), "octets").unwrap();
        let old = SystemTime::now() - Duration::from_secs(days * 86_400);
        fs::File::options().write(true).open(directory.join(name)).unwrap().set_modified(old).unwrap();
    }
    let all = packets(1, 3000, BEGIN, 1000);
    record(&folder, &all[..10], &["--template", "a.pcap", "--keep-age", "14d"]);
    assert_eq!(names(&directory), ["a-2.pcap", "a-3.pcap"]);
    let options = ["--template", "a.pcap", "--size", "100kB", "--keep-total", "500kB", "--on-slow", "wait"];
    let (_, directory) = record(&folder, &all, &options);
    let total: u64 = files(&directory).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
    assert!((300_000..=500_000).contains(&total), "{total}: {:?}", names(&directory));
}

#[test]
fn a_killed_recorder_leaves_parts_that_the_next_one_finishes() {
    if !has("capinfos") {
        return;
    }
    for template in ["x.pcap", "x.pcapng", "x.pcap.gz", "x.pcapng.zst"] {
        let folder = folder();
        let directory = folder.path().join("captures");
        let line = ["record", "-", directory.to_str().unwrap(), "--template", template];
        let mut hub = Hub::start_with(&line, 0, Stdio::piped());
        let mut pipe = hub.stdin();
        let all = packets(1, 500, BEGIN, 1000);
        pipe.write_all(&pcap(&all)).unwrap();
        let part = directory.join(format!("{template}.part"));
        wait_until("all is in it", || {
            let files = if part.exists() { vec![part.clone()] } else { vec![] };
            files.iter().any(|path| {
                let output = run(&["cat", path.to_str().unwrap(), "--format", "pcap"], b"");
                output.stdout.len() >= pcap(&all).len()
            })
        });
        hub.signal(Signal::KILL);
        wait_until("it is gone", || !hub.runs());
        assert_eq!(names(&directory), [format!("{template}.part")]);
        // As if the machine had gone down in the middle of a record.
        let length = fs::metadata(&part).unwrap().len();
        fs::File::options().write(true).open(&part).unwrap().set_len(length - 7).unwrap();
        fs::set_permissions(&part, fs::Permissions::from_mode(0o666)).unwrap();
        let packed = template.ends_with("gz") || template.ends_with("zst");
        let (said, _) = record(&folder, &packets(2, 5, BEGIN, 1000), &["--template", template]);
        assert!(said.contains(&format!("recovered {template}")), "{said}");
        assert_eq!(names(&directory).len(), 2, "{:?}", names(&directory));
        assert_eq!(fs::metadata(directory.join(template)).unwrap().permissions().mode() & 0o777, 0o600);
        let recovered = count_with_capinfos(&directory.join(template)).unwrap();
        if packed {
            assert!((1..=500).contains(&recovered), "{template}: {recovered}");
        } else {
            assert_eq!(recovered, 499, "{template}: all but the one that was cut");
        }
    }
}

#[test]
fn what_is_no_capture_is_not_taken_for_a_part_and_stays() {
    let folder = folder();
    let directory = folder.path().join("captures");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("x.pcap.part"), "no capture at all").unwrap();
    fs::write(directory.join("thesis.part"), "keep me").unwrap();
    let (said, _) = record(&folder, &packets(1, 5, BEGIN, 1000), &["--template", "x.pcap"]);
    assert!(said.contains("x.pcap.part: it does not begin like a recording"), "{said}");
    assert_eq!(names(&directory), ["thesis.part", "x-2.pcap", "x.pcap.part"]);
}

#[test]
fn a_second_recorder_does_not_get_the_directory_of_the_first() {
    let folder = folder();
    let directory = folder.path().join("captures");
    let line = ["record", "-", directory.to_str().unwrap()];
    let mut hub = Hub::start_with(&line, 0, Stdio::piped());
    let pipe = hub.stdin();
    wait_until("it is there", || directory.exists());
    wait_until("the first has it", || {
        let output = run(&["record", "-", directory.to_str().unwrap()], b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        !output.status.success() && said.contains("another recorder is at work in this directory")
    });
    drop(pipe);
    assert!(hub.ended().1["sources"].is_array());
    record(&folder, &packets(1, 1, BEGIN, 1), &[]);
}

#[test]
fn links_in_the_directory_are_neither_followed_nor_replaced() {
    let folder = folder();
    let directory = folder.path().join("captures");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
    let precious = file(&folder, "precious", b"keep me");
    for name in ["x.pcap.part", "x-2.pcap", "x-3.pcap.part"] {
        symlink(&precious, directory.join(name)).unwrap();
    }
    fs::hard_link(&precious, directory.join("x-5.pcap.part")).unwrap();
    let all = packets(1, 30, BEGIN, 1000);
    let (said, _) = record(&folder, &all, &["--template", "x.pcap", "--packets", "10"]);
    assert!(said.contains("others may write there"), "{said}");
    assert_eq!(fs::read(&precious).unwrap(), b"keep me");
    let own: Vec<_> = files(&directory)
        .into_iter()
        .filter(|path| !path.is_symlink() && path.extension().is_some_and(|e| e == "pcap"))
        .collect();
    assert!(read_back(&own) == all, "{:?}", names(&directory));

    let link = folder.path().join("link");
    symlink(&directory, &link).unwrap();
    let source = folder.path().join("in.pcap");
    for text in [link.to_str().unwrap().to_owned(), format!("{}/", link.display())] {
        let output = run(&["record", source.to_str().unwrap(), &text], b"");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains("it is a symbolic link"), "{said}");
    }
}

#[test]
fn a_directory_that_cannot_be_is_an_error_that_says_what_to_do() {
    let folder = folder();
    let source = file(&folder, "in.pcap", &pcap(&packets(1, 1, BEGIN, 1)));
    let said = |words: &[&str]| {
        let output = run(words, b"");
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let source = source.to_str().unwrap();
    let missing = folder.path().join("no/captures");
    assert!(said(&["record", source, missing.to_str().unwrap()]).contains("has to be there"));
    let plain = folder.path().to_str().unwrap();
    assert!(said(&["pipe", source, "--to", plain]).contains("with a / behind it"));
    assert!(said(&["record", source, source]).contains("cannot record there"));
}

#[test]
fn signals_finish_the_last_file() {
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let folder = folder();
        let directory = folder.path().join("captures");
        let mut hub = Hub::start(&["record", "demo:", directory.to_str().unwrap()], 0);
        wait_until("it writes", || {
            let names = names(&directory);
            names.first().is_some_and(|name| {
                name.ends_with(".pcapng.part")
                    && fs::metadata(directory.join(name)).is_ok_and(|m| m.len() > 10_000)
            })
        });
        hub.signal(signal);
        let (status, counts) = hub.ended();
        assert!(status.success(), "{signal:?}");
        let names = names(&directory);
        assert!(names.len() == 1 && names[0].ends_with("Z.pcapng"), "{signal:?}: {names:?}");
        let delivered = counts["departed"]["delivered"].as_u64().unwrap();
        assert_eq!(read_back(&files(&directory)).len() as u64, delivered, "{signal:?}");
    }
}

#[test]
fn a_recording_beside_other_sinks_has_what_they_have() {
    let folder = folder();
    let directory = folder.path().join("captures");
    let all = packets(1, 500, BEGIN, 1000);
    let line = [
        "record",
        "-",
        directory.to_str().unwrap(),
        "--packets",
        "200",
        "--format",
        "pcap",
        "--on-slow",
        "wait",
        "--to",
        "tcp-listen://127.0.0.1:0",
    ];
    let mut hub = Hub::start_with(&line, 1, Stdio::piped());
    let address = hub.client();
    let mut pipe = hub.stdin();
    let mut client = connect(address);
    pipe.write_all(&header(1)).unwrap();
    let got = read_exact(&mut client, 24);
    assert_eq!(got, header(1));
    let octets = pcap(&all);
    pipe.write_all(&octets[24..]).unwrap();
    assert!(read_exact(&mut client, octets.len() - 24) == octets[24..]);
    drop(pipe);
    assert!(hub.ended().0.success());
    assert_eq!(files(&directory).len(), 3);
    assert!(read_back(&files(&directory)) == all);
}

#[test]
fn the_options_of_tcpdump_do_what_they_do_there() {
    if !has("capinfos") {
        return;
    }
    let folder = folder();
    let template = folder.path().join("x-%s.pcap");
    // -G with -W ends after so many files.
    let hub = Hub::start(&["record", "demo:", "-G", "1", "-W", "2", "-w", template.to_str().unwrap()], 0);
    let mut hub = hub;
    assert!(hub.ended().0.success());
    let files_there = files(folder.path());
    assert_eq!(files_there.len(), 2, "{files_there:?}");
    assert!(files_there.iter().all(|path| count_with_capinfos(path).unwrap() > 0));
    // -C with -W is a ring.
    let source = file(&folder, "in", &pcap(&packets(1, 1000, BEGIN, 1000)));
    let ring = folder.path().join("ring");
    fs::create_dir(&ring).unwrap();
    let name = ring.join("y.pcap");
    let line =
        ["record", "-r", source.to_str().unwrap(), "-C", "100k", "-W", "3", "-w", name.to_str().unwrap()];
    let output = run(&line, b"");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let kept = files(&ring);
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert!(kept.iter().all(|path| fs::metadata(path).unwrap().len() <= 102_400));
    assert!(kept.iter().all(|path| count_with_capinfos(path).is_some()));
}

#[test]
fn what_is_less_than_free_is_not_written_and_is_counted() {
    let folder = folder();
    let directory = folder.path().join("captures");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("x.pcap"), "an older recording").unwrap();
    let line = [
        "pipe",
        "demo:",
        "--to",
        &format!("{}/", directory.display()),
        "--opt",
        "template=x.pcap",
        "--opt",
        "keep-free=9PB",
        "--to",
        "null:",
    ];
    let mut hub = Hub::start(&line, 0);
    hub.wait_for("less is free than keep-free= says");
    assert_eq!(names(&directory), Vec::<String>::new(), "what there was had to go first");
    wait_until("packets are counted for which there is no room", || {
        let counts = hub.counts();
        counts["subscribers"].as_array().unwrap().iter().any(|one| one["dropped"]["sink_full"].is_u64())
    });
    let (status, _) = hub.stop();
    assert!(!status.success(), "nothing could be recorded");
}
