//! Bad streams over sockets that the hub dials: whole, and octet by octet.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use pcaphub::endpoint::Endpoint;
use pcaphub_core::format::{DecoderOptions, Format};
use pcaphub_core::linktype::LinkType;

use crate::expected::{Expected, assert_counted, endpoint};
use crate::site::{DEADLINE, HOSTILE, Site, healthy_record, wait_until};

/// Larger streams are sent in pieces of 1021 octets.
const OCTETS_BELOW: usize = 4096;

/// A hub that dials two listeners counts what is expected of each and tells the error.
#[track_caller]
pub(crate) fn check(options: &DecoderOptions, stream: &[u8], expected: &Expected) {
    let listeners = [listen(), listen()];
    let source = |listener: &TcpListener| {
        let address = format!("tcp://{}", listener.local_addr().unwrap());
        endpoint(&address, options, &["reconnect=no"])
    };
    let mut site = Site::open(listeners.each_ref().map(source));
    let piece = if stream.len() < OCTETS_BELOW { 1 } else { 1021 };
    for (listener, piece) in listeners.iter().zip([stream.len(), piece]) {
        let mut connection = accept(listener);
        // A hub that has seen enough closes, and the rest cannot be sent.
        let _ = stream.chunks(piece).try_for_each(|piece| connection.write_all(piece));
        site.goes_on();
    }
    let end = if expected.error.is_some() { "source_failed" } else { "source_ended" };
    wait_until(end, || site.hub.count(end) == 2);
    let outcome = site.close();
    for source in [HOSTILE, HOSTILE + 1] {
        assert_counted(&outcome.report, source, expected);
    }
    assert_eq!(outcome.errors.len(), if expected.error.is_some() { 2 } else { 0 });
}

fn listen() -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    listener
}

fn accept(listener: &TcpListener) -> TcpStream {
    let mut accepted = None;
    wait_until("the hub dials", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (connection, _) = accepted.unwrap();
    connection.set_nonblocking(false).unwrap();
    connection.set_nodelay(true).unwrap();
    connection.set_write_timeout(Some(DEADLINE)).unwrap();
    connection
}

#[test]
fn a_dialled_source_that_broke_is_dialled_again_and_read_on() {
    let listener = listen();
    let address = format!("tcp://{}", listener.local_addr().unwrap());
    let mut site = Site::open([Endpoint::parse(&address).unwrap()]);
    let good = [&Format::Pcap.header(LinkType::ETHERNET)[..], &healthy_record(0)].concat();
    let broken = [&good[..], &[0xff; 64]].concat();
    for times in 1..=3 {
        accept(&listener).write_all(&broken).unwrap();
        wait_until("it is told", || site.hub.count("source_retried") == times);
        site.goes_on();
    }
    let mut connection = accept(&listener);
    connection.write_all(&good).unwrap();
    wait_until("the good one is read", || site.report().sources[HOSTILE].forwarded == 4);
    drop(connection);
    let outcome = site.close();
    assert_eq!(outcome.report.sources[HOSTILE].opened, 4);
    assert!(outcome.errors.is_empty(), "{:?}", outcome.errors);
}
