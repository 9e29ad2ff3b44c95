//! Bad streams over sockets that the hub dials: whole, and octet by octet.

use std::io::Write;
use std::net::{TcpListener, TcpStream};

use pcaphub_core::format::DecoderOptions;

use crate::expected::{Expected, assert_counted, endpoint};
use crate::site::{DEADLINE, HOSTILE, Site, wait_until};

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
