//! Packets shaped on their way: cut, sampled, counted, paced, played again, with other times.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::harness::*;

const BEGIN: u64 = 1_700_000_000_000_000;

/// What `pipe CAPTURE ARGUMENTS --to FILE MORE` writes, and its counts.
fn piped(capture: &[Packet], before: &[&str], after: &[&str]) -> (Vec<Packet>, serde_json::Value) {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(capture));
    let out = folder.path().join("out.pcap");
    let words = [&["pipe", path.to_str().unwrap()], before, &["--to", out.to_str().unwrap()], after].concat();
    let words = [words.as_slice(), &["--stats", "json"]].concat();
    let output = run(&words, b"");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    let counts = closed(said.lines().find(|line| line.starts_with("{\"sources\"")).unwrap());
    (read_pcap(&std::fs::read(out).unwrap()), counts)
}

#[test]
fn a_source_or_a_sink_keeps_one_packet_in_so_many_and_so_many_octets_of_each() {
    let capture = packets(1, 1000, BEGIN, 10);
    for (before, after) in [
        (vec!["--opt", "sample=1/10", "--opt", "snaplen=42"], vec![]),
        (vec![], vec!["--opt", "sample=1/10", "--opt", "snaplen=42"]),
    ] {
        let (kept, counts) = piped(&capture, &before, &after);
        let wanted: Vec<_> = capture.iter().step_by(10).map(|packet| packet.micros).collect();
        assert_eq!(kept.iter().map(|packet| packet.micros).collect::<Vec<_>>(), wanted);
        assert!(
            kept.iter()
                .zip(capture.iter().step_by(10))
                .all(|(kept, whole)| kept.octets == whole.octets[..42])
        );
        let filtered = if before.is_empty() { 0 } else { 900 };
        assert_eq!(counts["sources"][0]["filtered"], filtered);
    }
    // The option for all sources, as tcpdump has it.
    let (kept, _) = piped(&capture, &["-s", "42"], &[]);
    assert!(kept.len() == 1000 && kept.iter().all(|packet| packet.octets.len() == 42));
}

#[test]
fn a_count_ends_the_source_or_the_sink() {
    let capture = packets(1, 1000, BEGIN, 10);
    for (before, after) in [(vec!["--opt", "count=7"], vec![]), (vec![], vec!["--opt", "count=7"])] {
        let (kept, _) = piped(&capture, &before, &after);
        assert_eq!(kept, capture[..7]);
    }
}

#[test]
fn a_paced_sink_ends_with_the_last_packet_of_its_count() {
    // The fourth would be due after five minutes.
    let mut capture = packets(1, 3, BEGIN, 1000);
    capture.extend(packets(1, 3, BEGIN + 300_000_000, 1000));
    let begun = Instant::now();
    let (kept, _) = piped(&capture, &[], &["--opt", "count=3", "--opt", "pace=1x"]);
    assert_eq!(kept, capture[..3]);
    assert!(begun.elapsed() < Duration::from_secs(60), "{:?}", begun.elapsed());
}

#[test]
fn a_listener_with_a_count_closes_its_clients_and_ends() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 1000, BEGIN, 10)));
    let listener = "tcp-listen://127.0.0.1:0?count=5&pace=1000pps";
    let mut hub = Hub::start(&["pipe", path.to_str().unwrap(), "--to", listener], 1);
    assert_eq!(read_pcap(&read_all(hub.client())).len(), 5);
    assert!(hub.ended().0.success());
}

#[test]
fn packets_may_get_the_time_at_which_they_pass() {
    let capture = packets(1, 10, BEGIN, 10);
    let now = || std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
    for (before, after) in [(vec!["--opt", "time=now"], vec![]), (vec![], vec!["--opt", "time=now"])] {
        let earliest = now();
        let (kept, _) = piped(&capture, &before, &after);
        assert_eq!(kept.len(), 10);
        assert!(kept.iter().all(|packet| (earliest..=now()).contains(&packet.micros)), "{kept:?}");
    }
}

#[test]
fn a_file_that_is_played_again_goes_on_in_time() {
    let capture = packets(1, 100, BEGIN, 10);
    let (kept, counts) = piped(&capture, &["--loop", "3"], &[]);
    let times: Vec<_> = kept.iter().map(|packet| packet.micros - BEGIN).collect();
    assert_eq!(times, (0..300).map(|n| n * 10).collect::<Vec<_>>());
    assert_eq!(counts["sources"][0]["decoded"], 300);
}

#[test]
fn packets_get_the_time_at_which_they_are_let_go_at_their_pace() {
    let capture = packets(1, 6, BEGIN, 100_000);
    let ways: [(&[&str], &[&str]); 5] = [
        (&["--pace", "1x", "--opt", "time=now"], &[]),
        (&["--pace", "10pps", "--opt", "time=now"], &[]),
        (&["--pace", "1x"], &["--opt", "time=now"]),
        (&["--opt", "time=now"], &["--opt", "pace=1x"]),
        (&["--opt", "time=now", "--opt", "pace=1x"], &[]),
    ];
    for (before, after) in ways {
        let (kept, _) = piped(&capture, before, after);
        let times = times(&kept);
        assert_eq!(times.len(), 6);
        // Each may be late, and none is early.
        assert!(times.is_sorted() && times[5] - times[0] > 400_000, "{before:?} {after:?}: {times:?}");
        assert!(times[0] > BEGIN + 86_400_000_000, "{before:?} {after:?}: {times:?}");
    }
}

#[test]
fn files_of_which_one_gets_the_time_of_the_moment_keep_step() {
    let folder = folder();
    let (own, other) = (packets(1, 6, BEGIN, 100_000), packets(2, 6, BEGIN + 50_000, 100_000));
    let (own, other) = (file(&folder, "1.pcap", &pcap(&own)), file(&folder, "2.pcap", &pcap(&other)));
    let out = folder.path().join("out.pcap");
    let words = ["pipe", own.to_str().unwrap(), other.to_str().unwrap(), "--opt", "time=now", "--pace", "1x"];
    let to = ["--format", "pcap", "--to", out.to_str().unwrap()];
    assert!(run(&[&words[..], &to].concat(), b"").status.success());
    let all = read_pcap(&std::fs::read(&out).unwrap());
    assert_eq!(all.iter().map(|packet| packet.octets[11]).collect::<Vec<_>>(), [1, 2].repeat(6));
    let [own, other] = [0, 1].map(|first| times(&all).into_iter().skip(first).step_by(2).collect::<Vec<_>>());
    assert_eq!(own, (0..6).map(|n| BEGIN + n * 100_000).collect::<Vec<_>>());
    assert!(other.is_sorted() && other[5] - other[0] > 400_000, "{other:?}");
}

#[test]
fn a_packet_that_comes_after_a_pause_gets_the_time_at_which_it_comes() {
    let producer = Producer::new();
    let source = format!("tcp://127.0.0.1:{}", producer.port());
    let hub = Hub::start(&["serve", &source, "--listen", "127.0.0.1:0", "--opt", "time=now"], 1);
    let mut from = producer.accept();
    std::io::Write::write_all(&mut from, &header(1)).unwrap();
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    let record = record(&packets(1, 1, BEGIN, 1)[0]);
    for _ in 0..10 {
        let earliest = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_micros() as u64;
        std::io::Write::write_all(&mut from, &record).unwrap();
        let octets = [header(1), read_exact(&mut client, record.len())].concat();
        assert!(read_pcap(&octets)[0].micros >= earliest, "it has an earlier time");
    }
    hub.stop();
}

/// Files with packets of 0, 100 … ms and of 1, 2 … ms, and one with all of them in the order of `turns` turns.
fn two_files(folder: &tempfile::TempDir, turns: u64) -> ([std::path::PathBuf; 2], Vec<u64>) {
    let (short, long) = (packets(1, 3, BEGIN, 100_000), packets(2, 998, BEGIN + 1000, 1000));
    let mut times: Vec<u64> = [&short[..], &long].concat().iter().map(|packet| packet.micros).collect();
    times.sort_unstable();
    // From 0 to 998 ms are 1000 steps; each turn begins one of them behind the last packet.
    let turn = |turn: u64| times.iter().map(move |time| time + turn * 998_998);
    let all = (0..turns).flat_map(turn).collect();
    ([file(folder, "short.pcap", &pcap(&short)), file(folder, "long.pcap", &pcap(&long))], all)
}

fn times(packets: &[Packet]) -> Vec<u64> {
    packets.iter().map(|packet| packet.micros).collect()
}

#[test]
fn files_that_are_played_again_are_played_again_together() {
    let folder = folder();
    let ([short, long], expected) = two_files(&folder, 3);
    let (short, long) = (short.to_str().unwrap(), long.to_str().unwrap());
    for more in [&[][..], &["--order", "exact"], &["--pace", "max"], &["--pace", "100x"]] {
        let out = folder.path().join("out.pcap");
        let to = ["--loop", "3", "--format", "pcap", "--to", out.to_str().unwrap()];
        let output = run(&[&["pipe", short, long], &to[..], more].concat(), b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(times(&read_pcap(&std::fs::read(&out).unwrap())), expected, "{more:?}");
    }
    let serve = ["serve", long, short, "--loop", "3", "--format", "pcap", "--listen", "127.0.0.1:0"];
    let mut hub = Hub::start(&serve, 1);
    assert_eq!(times(&read_pcap(&read_all(hub.client()))), expected);
    assert!(hub.ended().0.success());
}

#[test]
fn files_of_which_some_are_played_again_stay_in_order() {
    let folder = folder();
    let ([short, long], _) = two_files(&folder, 1);
    let (short, long) = (short.to_str().unwrap(), long.to_str().unwrap());
    let out = folder.path().join("out.pcap");
    for loops in [["3", "1"], ["1", "3"], ["3", "2"], ["2", "3"]] {
        let options = loops.map(|times| format!("loop={times}"));
        let words = ["pipe", short, "--opt", &options[0], long, "--opt", &options[1]];
        let to = ["--format", "pcap", "--to", out.to_str().unwrap()];
        let output = run(&[&words[..], &to].concat(), b"");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let times = times(&read_pcap(&std::fs::read(&out).unwrap()));
        let count = |n: usize| loops[n].parse::<usize>().unwrap();
        assert_eq!(times.len(), count(0) * 3 + count(1) * 998);
        assert!(times.is_sorted(), "{loops:?}: {times:?}");
    }
}

#[test]
fn a_file_of_one_packet_is_played_again_every_second() {
    let capture = packets(1, 1, BEGIN, 0);
    let (kept, _) = piped(&capture, &["--loop", "1000"], &[]);
    assert_eq!(times(&kept), (0..1000).map(|n| BEGIN + n * 1_000_000).collect::<Vec<_>>());
    for pace in [["--pace", "10x"], ["--opt", "pace=10x"]] {
        let begun = Instant::now();
        let (kept, _) = piped(&capture, &[&["--loop", "4"], &pace[..]].concat(), &[]);
        assert_eq!(kept.len(), 4);
        assert!(begun.elapsed() >= Duration::from_millis(300), "{pace:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_file_is_played_for_ever_until_told_otherwise() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 3, BEGIN, 1000)));
    let arguments = ["serve", path.to_str().unwrap(), "--loop", "forever", "--listen", "127.0.0.1:0"];
    let mut hub = Hub::start(&arguments, 1);
    let mut client = connect(hub.client());
    let octets = read_exact(&mut client, 24 + 600 * 100);
    assert_eq!(octets[..24], header(1));
    drop(client);
    hub.signal(rustix::process::Signal::INT);
    assert!(hub.ended().0.success());
    let told = hub.said().iter().filter(|line| line.contains("in.pcap: pcap")).count();
    assert_eq!(told, 1, "its turns are not told one by one: {:?}", hub.said());
}

/// How long after the first octet of a capture each packet came that a listener sends.
fn arrivals(hub: &Hub, sizes: &[usize]) -> Vec<Duration> {
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    let mut first = None;
    let mut arrive = |size: &usize| {
        read_exact(&mut client, *size);
        first.get_or_insert_with(Instant::now).elapsed()
    };
    sizes.iter().map(&mut arrive).collect()
}

fn sizes(path: &Path) -> Vec<usize> {
    let mut octets = Vec::new();
    std::fs::File::open(path).unwrap().read_to_end(&mut octets).unwrap();
    read_pcap(&octets).iter().map(|packet| 16 + packet.octets.len()).collect()
}

#[test]
fn packets_go_at_their_original_distances_or_at_a_rate_and_never_early() {
    let folder = folder();
    // 0, 100, 200 … ms, of which the first is sent at once.
    let path = file(&folder, "in.pcap", &pcap(&packets(1, 6, BEGIN, 100_000)));
    let text = path.to_str().unwrap();
    let ways: [(&[&str], u64); 4] = [
        (&["--pace", "1x"], 100),
        (&["--pace", "2x"], 50),
        (&["--opt", "pace=20pps"], 50),
        (&["--opt", "pace=1x"], 100),
    ];
    for (pace, step) in ways {
        let arguments = [&["serve", text], pace, &["--listen", "127.0.0.1:0"]].concat();
        let hub = Hub::start(&arguments, 1);
        let arrivals = arrivals(&hub, &sizes(&path));
        for (number, arrival) in (0u64..).zip(&arrivals) {
            // The first may have come late to us, the others then seem early by that.
            let due = Duration::from_millis((number * step).saturating_sub(step / 2));
            assert!(*arrival >= due, "{pace:?}: {arrivals:?}");
        }
        hub.stop();
    }
}

#[test]
fn a_file_beside_a_live_source_is_paced_or_gets_the_time_of_the_moment() {
    let folder = folder();
    let path = file(&folder, "in.pcap", &pcap(&packets(2, 5, BEGIN, 1000)));
    let path = path.to_str().unwrap();
    let refused = run(&["serve", path, "tcp://127.0.0.1:9", "--listen", "127.0.0.1:0"], b"");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("time=now"));
    for option in [["--opt", "time=now"], ["--pace", "1x"]] {
        let producer = Producer::new();
        let live = format!("tcp://127.0.0.1:{}", producer.port());
        let arguments = [&["serve", path], &option[..], &[&live, "--listen", "127.0.0.1:0"]].concat();
        let hub = Hub::start(&arguments, 1);
        let mut from = producer.accept();
        std::io::Write::write_all(&mut from, &header(1)).unwrap();
        let mut client = connect(hub.client());
        read_exact(&mut client, 24);
        std::io::Write::write_all(&mut from, &record(&packets(7, 1, BEGIN, 1)[0])).unwrap();
        let sizes: usize = sizes(Path::new(path)).iter().sum();
        let live = 16 + packets(7, 1, BEGIN, 1)[0].octets.len();
        let octets = [header(1), read_exact(&mut client, sizes + live)].concat();
        let sources: Vec<u8> = read_pcap(&octets).iter().map(|packet| packet.octets[11]).collect();
        assert_eq!(sources.iter().filter(|source| **source == 2).count(), 5, "{sources:?}");
        assert!(sources.contains(&7));
        hub.stop();
    }
}
