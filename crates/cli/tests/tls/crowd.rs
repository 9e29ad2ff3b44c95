//! A crowd that begins handshakes and never ends them.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::*;
use crate::site::*;

/// So many at once, each with an octet a second.
const CROWD: usize = 2000;

/// The beginning of a hello that never comes to its end.
const BEGINNING: [u8; 9] = [0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc];

/// Keeps `count` connections in the middle of their hello until told to stop; one that is closed comes back.
fn stall(address: SocketAddr, count: usize, stop: &AtomicBool, there: &AtomicUsize) {
    let open = || {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((stream, 0usize))
    };
    let mut streams: Vec<_> = (0..count).map(|_| open()).collect();
    there.fetch_add(count, Ordering::SeqCst);
    while !stop.load(Ordering::SeqCst) {
        let second = Instant::now();
        for slot in &mut streams {
            let gone = match slot {
                None => true,
                Some((stream, said)) => {
                    let octet = BEGINNING.get(*said).copied().unwrap_or(0);
                    *said += 1;
                    stream.write(&[octet]).is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
                }
            };
            if gone {
                *slot = open();
            }
        }
        while second.elapsed() < Duration::from_secs(1) && !stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn two_thousand_half_open_handshakes_do_not_delay_an_honest_one() {
    if !has("openssl") {
        return;
    }
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(1 << 16);
    assert!(most >= 4096, "the test needs 4,096 descriptors; raise the hard limit (ulimit -Hn)");
    setrlimit(Resource::Nofile, Rlimit { current: Some(most.min(1 << 16)), maximum: limit.maximum }).unwrap();
    let site = Site::new();
    let mut hub = site.serve(Asks::Nothing);
    let (stop, there) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let crowd: Vec<_> = (0..4)
        .map(|_| {
            let (stop, there, address) = (stop.clone(), there.clone(), hub.client());
            std::thread::spawn(move || stall(address, CROWD / 4, &stop, &there))
        })
        .collect();
    wait_until("the crowd is there", || there.load(Ordering::SeqCst) == CROWD);
    let once = || {
        // From the connection to the first octets of the capture, as rustls or openssl sees them.
        let began = Instant::now();
        let line = format!(
            "openssl s_client -quiet -connect localhost:{} -CAfile {} 2>/dev/null | head -c 24 | wc -c",
            hub.client().port(),
            site.ca()
        );
        assert_eq!(String::from_utf8(output(&line)).unwrap().trim(), "24");
        began.elapsed()
    };
    let mut times: Vec<Duration> = (0..15).map(|_| once()).collect();
    stop.store(true, Ordering::SeqCst);
    crowd.into_iter().for_each(|thread| thread.join().unwrap());
    // The same without a crowd: what a process and a handshake cost on this machine as it is.
    let mut alone: Vec<Duration> = (0..5).map(|_| once()).collect();
    times.sort();
    alone.sort();
    let delay = times[times.len() - 1].saturating_sub(alone[alone.len() / 2]);
    println!("the longest of 15 handshakes: {:?}, without the crowd {:?}", times[times.len() - 1], alone[2]);
    assert!(delay < Duration::from_millis(500), "{times:?}, alone {alone:?}");
    hub.wait_for("no TLS connection");
    assert!(hub.descriptors() < 1024);
}
