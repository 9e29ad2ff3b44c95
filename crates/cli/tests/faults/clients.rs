//! Slow, stopped and paused clients.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::group::{Got, Group};
use crate::harness::*;
use crate::table::*;

/// How long clients are stopped.
const STOPPED: Duration = Duration::from_secs(10);
const CEILING: u64 = 32 << 20;
/// How soon all flow again that waited for the stopped ones.
const WITHIN: Duration = Duration::from_secs(1);

/// Packets delivered so far to each of these clients.
fn delivered(counts: &Value, names: &[String]) -> BTreeMap<String, u64> {
    let here = counts["subscribers"].as_array().unwrap().iter();
    here.filter_map(|one| {
        let name = one["name"].as_str()?.to_owned();
        names.contains(&name).then(|| (name, one["delivered"].as_u64().unwrap()))
    })
    .collect()
}

fn hub(on_slow: &str, rate: &str) -> Hub {
    let arguments = [
        "demo",
        "--rate",
        rate,
        "--mix",
        "1400",
        "--listen",
        "127.0.0.1:0",
        "--format",
        "pcapng",
        "--on-slow",
        on_slow,
        "--max-memory",
        "32MiB",
    ];
    Hub::start(&arguments, 1)
}

/// What the clients that were not stopped got in the time, as a share of what was sent meanwhile.
struct Shares {
    least: f64,
    mean: f64,
}

fn shares(before: &Value, after: &Value, names: &[String]) -> Shares {
    let sent = |counts: &Value| counts["sources"][0]["forwarded"].as_u64().unwrap();
    let offered = (sent(after) - sent(before)) as f64;
    let (then, now) = (delivered(before, names), delivered(after, names));
    assert_eq!(now.len(), names.len(), "all are still there");
    let shares: Vec<f64> = now.iter().map(|(name, n)| (n - then[name]) as f64 / offered).collect();
    let least = shares.iter().copied().fold(f64::INFINITY, f64::min);
    Shares { least, mean: shares.iter().sum::<f64>() / shares.len() as f64 }
}

fn all_is_accounted_for(got: &BTreeMap<String, Got>, counts: &Value) {
    assert!(got.values().all(|one| one.whole), "every stream ends at a block's boundary");
    let delivered: u64 = got.values().map(|one| one.packets).sum();
    assert_eq!(counts["departed"]["delivered"], delivered, "delivered is what the clients have");
}

#[test]
fn a_hundred_stopped_clients_of_two_hundred_lose_packets_and_the_others_none() {
    let _alone = alone();
    let mut hub = hub("drop", "3000");
    let (awake, stopped) = (Group::join(hub.client(), 100), Group::join(hub.client(), 100));
    let before = hub.counts();
    stopped.stop();
    std::thread::sleep(STOPPED);
    let after = hub.counts();
    stopped.go_on();
    let shares = shares(&before, &after, &awake.names);
    let behind = delivered(&after, &stopped.names);
    wait_until("those that were stopped get packets again", || {
        let now = delivered(&hub.counts(), &stopped.names);
        now.len() == 100 && now.iter().all(|(name, n)| *n > behind[name] + 5000)
    });
    let peak = hub.peak_memory();
    let (status, counts) = hub.stop();
    assert!(status.success());
    let (awake, resumed) = (awake.ended(), stopped.ended());
    let all: BTreeMap<_, _> = awake.clone().into_iter().chain(resumed.clone()).collect();
    all_is_accounted_for(&all, &counts);
    assert!(awake.values().all(|one| one.told == 0), "those awake lost none");
    let told: u64 = resumed.values().map(|one| one.told).sum();
    assert!(resumed.values().all(|one| one.told > 0), "those stopped lost some");
    assert_eq!(counts["departed"]["dropped"]["lag"], told, "each was told exactly what it lost");
    row(
        10,
        "100 of 200 clients stopped 10 s, `drop`",
        "others keep ≥ 97 %; exact loss told",
        &format!(
            "{:.1} % (least {:.1} %); {told} lost, {told} told",
            shares.mean * 100.0,
            shares.least * 100.0
        ),
    );
    row(11, "the same: memory", "≤ 32 MiB + 20 %", &mib(peak));
    assert!(shares.least >= 0.97, "{}", shares.least);
    assert!(peak <= CEILING * 6 / 5, "{}", mib(peak));
}

#[test]
fn a_hundred_stopped_clients_are_disconnected_where_asked_and_the_others_lose_none() {
    let _alone = alone();
    let mut hub = hub("disconnect", "3000");
    let (awake, stopped) = (Group::join(hub.client(), 100), Group::join(hub.client(), 100));
    let before = hub.counts();
    stopped.stop();
    std::thread::sleep(STOPPED);
    let after = hub.counts();
    stopped.go_on();
    let shares = shares(&before, &after, &awake.names);
    assert_eq!(after["clients"], 100, "those stopped were sent away");
    let peak = hub.peak_memory();
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert!(counts["departed"]["dropped"]["lag"].as_u64().unwrap() > 0);
    assert!(awake.ended().values().all(|one| one.whole && one.told == 0));
    row(
        12,
        "the same, `disconnect`",
        "others keep ≥ 97 %; ≤ 32 MiB + 20 %",
        &format!("{:.1} % (least {:.1} %); {}", shares.mean * 100.0, shares.least * 100.0, mib(peak)),
    );
    assert!(shares.least >= 0.97, "{}", shares.least);
    assert!(peak <= CEILING * 6 / 5, "{}", mib(peak));
    drop(stopped);
}

#[test]
fn under_wait_all_pause_with_the_stopped_ones_and_nothing_is_lost() {
    let _alone = alone();
    let mut hub = hub("wait", "3000");
    let (awake, stopped) = (Group::join(hub.client(), 100), Group::join(hub.client(), 100));
    let mut resume = || {
        stopped.stop();
        std::thread::sleep(STOPPED);
        let then = delivered(&hub.counts(), &awake.names);
        stopped.go_on();
        let begun = Instant::now();
        wait_until("all flow again", || {
            let now = delivered(&hub.counts(), &awake.names);
            now.iter().all(|(name, n)| *n > then[name])
        });
        begun.elapsed()
    };
    // A machine that is busy with something else may be late once, and not three times.
    let mut resumed = resume();
    for _ in 0..2 {
        if resumed >= WITHIN {
            resumed = resume();
        }
    }
    let peak = hub.peak_memory();
    let (status, counts) = hub.stop();
    assert!(status.success());
    let all: BTreeMap<_, _> = awake.ended().into_iter().chain(stopped.ended()).collect();
    all_is_accounted_for(&all, &counts);
    let lost = counts["departed"]["dropped"].as_object().unwrap().get("lag").is_some();
    assert!(!lost && all.values().all(|one| one.told == 0), "nothing was lost");
    row(
        13,
        "the same, `wait`",
        "nothing lost; flow again within 1 s; ≤ 32 MiB + 20 %",
        &format!("0 lost; {}; {}", seconds(resumed), mib(peak)),
    );
    assert!(resumed < WITHIN, "{resumed:?}");
    assert!(peak <= CEILING * 6 / 5, "{}", mib(peak));
}

#[test]
fn a_client_paused_for_ninety_seconds_is_still_there() {
    let mut hub = Hub::start(
        &["demo", "--rate", "3000", "--mix", "1400", "--listen", "127.0.0.1:0", "--max-memory", "32MiB"],
        1,
    );
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    let name = client.local_addr().unwrap().to_string();
    std::thread::sleep(Duration::from_secs(90));
    let counts = hub.counts();
    assert_eq!(delivered(&counts, std::slice::from_ref(&name)).len(), 1, "it was not sent away");
    let mut octets = vec![0; 1 << 20];
    for _ in 0..32 {
        client.read_exact(&mut octets).unwrap();
    }
    let lost = counts["subscribers"][0]["dropped"]["lag"].as_u64().unwrap();
    row(
        14,
        "a client paused 90 s, its window closed",
        "still connected, reads on",
        &format!("connected, read on, {lost} lost meanwhile and told"),
    );
    drop(client);
    let (status, _) = hub.stop();
    assert!(status.success());
}
