//! What a hub says of packets that it had read when it was told to stop.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use pcaphub::endpoint::Endpoint;
use pcaphub::event::Events;
use pcaphub::opener::System;
use pcaphub::plan::Plan;
use pcaphub::shutdown::{Phase, shutdown};
use pcaphub::{hub, sink, source};

/// A capture of so many packets of one octet, a second apart.
fn pcap(packets: u32) -> Vec<u8> {
    pcap_of(packets, 1)
}

/// One of packets of so many octets each.
fn pcap_of(packets: u32, caplen: u32) -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let mut octets = words(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1]);
    for second in 0..packets {
        octets.extend(words(&[second, 0, caplen, caplen]));
        octets.extend(std::iter::repeat_n(b'x', caplen as usize));
    }
    octets
}

#[test]
fn what_waits_for_its_turn_when_the_hub_is_told_to_stop_is_delivered() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("in.pcap");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let endpoint = |text: &str| Endpoint::parse(text).unwrap();
    let plan = Plan {
        sources: vec![source::spec(endpoint(&format!("file:{}", fifo.display()))).unwrap()],
        sinks: vec![sink::spec(endpoint("null:")).unwrap()],
        ..Plan::default()
    };
    let (trigger, told) = shutdown();
    let events = Events::default();
    // One thread for all but the reading: while the test has it, the hub does not come to its turn.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        // Open on both sides, so that nobody waits for the other.
        let mut writer = std::fs::File::options().read(true).write(true).open(&fifo).unwrap();
        let hub = hub::open(plan, Arc::new(System), events.clone(), told).unwrap();
        let books = hub.books();
        let running = tokio::spawn(hub.run());
        let opened = || events.counts().contains(&("source_opened", 1));
        std::io::Write::write_all(&mut writer, &pcap(0)).unwrap();
        while books.report().clients == 0 || !opened() {
            tokio::task::yield_now().await;
        }
        std::io::Write::write_all(&mut writer, &pcap(100)[24..]).unwrap();
        drop(writer);
        let deadline = Instant::now() + Duration::from_secs(60);
        while !events.counts().contains(&("source_ended", 1)) {
            assert!(Instant::now() < deadline, "{:?}", events.counts());
            std::thread::yield_now();
        }
        trigger.advance(Phase::Draining);
        running.await.unwrap()
    });
    assert_eq!(outcome.errors, Vec::<String>::new());
    assert!(outcome.report.closes());
    assert_eq!((outcome.report.decoded(), outcome.report.delivered()), (100, 100));
}

#[test]
fn a_paced_file_that_nobody_waits_for_ends_with_the_hub_and_without_a_panic() {
    static PANICKED: AtomicBool = AtomicBool::new(false);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.pcap");
    std::fs::write(&file, pcap(100)).unwrap();
    let endpoint = |text: &str| Endpoint::parse(text).unwrap();
    let source = format!("file:{}?pace=1x", file.display());
    let plan = Plan {
        sources: vec![source::spec(endpoint(&source)).unwrap()],
        sinks: vec![sink::spec(endpoint("null:")).unwrap()],
        count: Some(1),
        ..Plan::default()
    };
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let reads = std::thread::current().name() == Some("source");
        PANICKED.fetch_or(reads, Ordering::Relaxed);
        before(panic);
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_trigger, told) = shutdown();
    let outcome = runtime
        .block_on(async { hub::open(plan, Arc::new(System), Events::default(), told).unwrap().run().await });
    // The thread that reads waits for the next packet, in a second.
    drop(runtime);
    assert!(outcome.report.closes());
    let reads = |thread: std::io::Result<std::fs::DirEntry>| {
        thread.is_ok_and(|thread| {
            std::fs::read(thread.path().join("comm")).is_ok_and(|name| name == b"source\n")
        })
    };
    let deadline = Instant::now() + Duration::from_secs(60);
    while std::fs::read_dir("/proc/self/task").unwrap().any(reads) {
        assert!(Instant::now() < deadline, "the thread that read the file is left behind");
        std::thread::yield_now();
    }
    assert!(!PANICKED.load(Ordering::Relaxed));
}

#[test]
fn what_is_due_later_to_a_sink_that_has_gone_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("in.pcap");
    // Nobody listens there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    // All that is there is taken ahead of its time, or not all.
    for caplen in [1, 60_000] {
        std::fs::write(&file, pcap_of(100, caplen)).unwrap();
        let endpoint = |text: &str| Endpoint::parse(text).unwrap();
        let plan = Plan {
            sources: vec![source::spec(endpoint(&format!("file:{}", file.display()))).unwrap()],
            sinks: vec![
                sink::spec(endpoint(&format!("tcp://127.0.0.1:{port}?reconnect=no&pace=1x"))).unwrap(),
            ],
            ..Plan::default()
        };
        let (_trigger, told) = shutdown();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let outcome = runtime.block_on(async {
            let hub = hub::open(plan, Arc::new(System), Events::default(), told).unwrap();
            tokio::time::timeout(Duration::from_secs(60), hub.run()).await
        });
        let outcome = outcome.expect("the hub ends before all is due, in 100 seconds");
        assert_eq!(outcome.errors.len(), 1, "{:?}", outcome.errors);
        assert!(outcome.report.closes(), "{:?}", outcome.report);
    }
}
