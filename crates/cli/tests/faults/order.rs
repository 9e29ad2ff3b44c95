//! Times that are wrong, clocks that step, and hubs that dial each other.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::harness::*;
use crate::table::*;

/// What the test allows beyond `hold` for the way there and back.
const SLACK: Duration = Duration::from_millis(50);
const HOLD: Duration = Duration::from_millis(100);

fn now_micros() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64
}

/// Sends a packet of a source, with these seconds added to its time, and waits until it is out; how
/// long that took.
fn push(producer: &mut TcpStream, client: &mut TcpStream, seconds: i64, number: u32) -> Duration {
    let micros = match seconds {
        i64::MIN => 0,
        seconds => now_micros().saturating_add_signed(seconds * 1_000_000),
    };
    let packet =
        Packet { micros: micros.min(u64::from(u32::MAX) * 1_000_000), octets: datagram(1, number, 18) };
    let octets = record(&packet);
    let begun = Instant::now();
    producer.write_all(&octets).unwrap();
    let got = read_exact(client, octets.len());
    assert!(got == octets, "it is the one that was sent");
    begun.elapsed()
}

#[test]
fn sources_with_wrong_clocks_delay_nobody_beyond_hold() {
    let _alone = alone();
    const HOUR: i64 = 3600;
    const YEAR: i64 = 365 * 24 * HOUR;
    // i64::MIN stands for second 0; the last one for 2106.
    let skews = [0, HOUR, -HOUR, YEAR, -YEAR, i64::MIN, 90 * YEAR];
    let producers: Vec<Producer> = skews.iter().map(|_| Producer::new()).collect();
    let sources: Vec<String> =
        producers.iter().map(|producer| format!("tcp://127.0.0.1:{}", producer.port())).collect();
    let mut arguments = vec!["serve", "--listen", "127.0.0.1:0"];
    arguments.extend(sources.iter().map(String::as_str));
    let hub = Hub::start(&arguments, 1);
    let mut streams: Vec<TcpStream> = producers.iter().map(Producer::accept).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&header(1)).unwrap());
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    let mut delays: Vec<(Duration, i64)> = Vec::new();
    for round in 0..20 {
        for (stream, skew) in streams.iter_mut().zip(skews) {
            delays.push((push(stream, &mut client, skew, round), skew));
        }
    }
    let longest = delays.iter().max().unwrap();
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], 20 * skews.len());
    row(
        60,
        "sources at ±1 h, ±1 year, second 0, 2106 beside one that is right",
        "delay of any packet ≤ hold (100 ms) + 50 ms",
        &format!("{} ms at most", longest.0.as_millis()),
    );
    assert!(longest.0 <= HOLD + SLACK, "{longest:?}");
}

#[test]
fn a_step_of_the_clock_delays_nothing() {
    if !has("faketime") {
        return;
    }
    let _alone = alone();
    let folder = folder();
    let clock = file(&folder, "clock", b"+0");
    let library = shell("find /usr/lib -name 'libfaketimeMT.so.1' | head -n 1");
    let library = library.trim();
    if library.is_empty() {
        assert!(std::env::var_os("PCAPHUB_REQUIRE_TOOLS").is_none(), "libfaketimeMT is not there");
        eprintln!("SKIPPED: libfaketimeMT is not there");
        return;
    }
    let producers = [Producer::new(), Producer::new()];
    let mut command = Command::new(pcaphub().get_program());
    command.args(["serve", "--listen", "127.0.0.1:0", "--stats", "json"]);
    command.args(producers.iter().map(|producer| format!("tcp://127.0.0.1:{}", producer.port())));
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let hub = Hub::spawn(command, 1);
    let mut streams: Vec<TcpStream> = producers.iter().map(Producer::accept).collect();
    streams.iter_mut().for_each(|stream| stream.write_all(&header(1)).unwrap());
    let mut client = connect(hub.client());
    read_exact(&mut client, 24);
    let mut longest = Duration::ZERO;
    let mut number = 0;
    for (step, skew) in [("+0", 0), ("+3600", 3600), ("-3600", -3600), ("+31536000", 31_536_000), ("+0", 0)] {
        std::fs::write(&clock, step).unwrap();
        for _ in 0..10 {
            // The sensors' clocks step with it.
            longest = longest.max(push(&mut streams[number % 2], &mut client, skew, number as u32));
            number += 1;
        }
    }
    let (status, counts) = hub.stop();
    assert!(status.success());
    assert_eq!(counts["departed"]["delivered"], number);
    row(
        61,
        "the clock steps by +1 h, −2 h, +1 year and back",
        "delay of any packet ≤ hold + 50 ms; nothing lost",
        &format!("{} ms at most; {number} of {number}", longest.as_millis()),
    );
    assert!(longest <= HOLD + SLACK, "{longest:?}");
}

#[test]
fn hubs_that_dial_each_other_in_a_circle_say_so_and_stop() {
    let _alone = alone();
    // Each must know the other's port before it runs; what has just been free is free again.
    let ports: Vec<u16> = {
        let both = [Producer::new(), Producer::new()];
        both.iter().map(Producer::port).collect()
    };
    let sensor = Producer::new();
    let (a, b) = (format!("127.0.0.1:{}", ports[0]), format!("127.0.0.1:{}", ports[1]));
    let (from_a, from_b) = (format!("tcp://{a}"), format!("tcp://{b}"));
    let from_sensor = format!("tcp://127.0.0.1:{}", sensor.port());
    let mut first = Hub::start(&["serve", &from_b, &from_sensor, "--listen", &a], 1);
    let mut second = Hub::start(&["serve", &from_a, "--listen", &b], 1);
    let mut producer = sensor.accept();
    producer.write_all(&header(1)).unwrap();
    let mut client = connect(first.client());
    let reading = std::thread::spawn(move || {
        let mut octets = Vec::new();
        let _ = client.read_to_end(&mut octets);
        octets.len()
    });
    wait_until("both are clients of each other", || {
        first.counts()["clients"] == 2 && second.counts()["clients"] == 1
    });
    let begun = Instant::now();
    // A live sensor: ten packets a second, while the circle is looked for.
    let feeding = std::thread::spawn(move || {
        for number in 0..60 {
            let packet = Packet { micros: now_micros(), octets: datagram(1, number, 18) };
            if producer.write_all(&record(&packet)).is_err() {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        producer
    });
    // Either of them may find it first; that one's link is cut.
    let found = std::thread::scope(|scope| {
        let (sender, found) = std::sync::mpsc::sync_channel(2);
        for hub in [&mut first, &mut second] {
            let sender = sender.clone();
            scope.spawn(move || {
                for _ in 0..10_000 {
                    let Some(line) = hub.line_within(Duration::from_secs(8)) else { return };
                    if line.contains("in a circle; remove one of the links") {
                        let _ = sender.send(begun.elapsed());
                        return;
                    }
                }
            });
        }
        drop(sender);
        found.recv().ok()
    });
    let _producer = feeding.join().unwrap();
    let cpu = first.processor_time() + second.processor_time();
    let (status, counts) = first.stop();
    assert!(status.success());
    let (status, _) = second.stop();
    assert!(status.success());
    let octets = reading.join().unwrap();
    let found = found.expect("one of them says that they are in a circle");
    row(
        62,
        "two hubs dial each other",
        "found, and told",
        &format!(
            "found after {}; {} s of processor time; {} packets of 60 delivered",
            seconds(found),
            cpu.as_secs_f32(),
            counts["departed"]["delivered"]
        ),
    );
    assert!(octets > 24);
}
