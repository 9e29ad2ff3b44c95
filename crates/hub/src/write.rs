//! From a feed to a file or to standard output, on the calling thread.

use std::io::{self, Write};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pcaphub_core::feed::Ending;
use pcaphub_core::linktype::LinkType;

use crate::codec::Retract;
use crate::pen::{Left, Pen};
use crate::thread::{block_on, waker};

/// Packed files are brought up to date this often, so that a crash loses no more.
const FLUSH: Duration = Duration::from_secs(1);
/// How often a full file system is tried again.
const TRY: Duration = Duration::from_secs(1);
/// How often packets are given up meanwhile: often enough that the ring does not fill.
const GIVE_UP: Duration = Duration::from_millis(10);

/// What is done when the file system has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenFull {
    /// It is an error.
    Fail,
    /// The sink waits for room; under `wait`, the sources do with it.
    Wait,
    /// Packets are given up until there is room: other sinks do not have to wait.
    Forfeit,
}

/// What is written to.
pub trait Target {
    /// The linktype is known: a stream begins.
    fn begin(&mut self, pen: &mut Pen, linktype: LinkType);

    /// Writes what the pen holds.
    ///
    /// # Errors
    /// Of the system. It may be asked again where there was no room.
    fn write(&mut self, pen: &mut Pen) -> io::Result<()>;

    /// Hands what was written to the system.
    ///
    /// # Errors
    /// Of the system.
    fn flush(&mut self) -> io::Result<()>;

    /// Cuts off what was written of a record that was not written to its end, where that is possible.
    ///
    /// # Errors
    /// Of the system.
    fn take_back(&mut self, pen: &mut Pen) -> io::Result<()>;

    /// Does what is due by the clock; how long until the next such thing.
    ///
    /// # Errors
    /// Of the system.
    fn look_after(&mut self, _pen: &mut Pen) -> io::Result<Option<Duration>> {
        Ok(None)
    }

    /// Whether it wants no more.
    fn is_done(&self) -> bool {
        false
    }
}

/// One file, or standard output.
pub struct Single<'a>(pub &'a mut dyn Retract);

impl Target for Single<'_> {
    fn begin(&mut self, pen: &mut Pen, linktype: LinkType) {
        pen.begin(linktype);
    }

    fn write(&mut self, pen: &mut Pen) -> io::Result<()> {
        write_due(pen, self.0)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }

    fn take_back(&mut self, pen: &mut Pen) -> io::Result<()> {
        if self.0.retracts() { self.0.retract(pen.take_back()) } else { Ok(()) }
    }
}

/// Hears that a file system is full, and why, and later that there is room again.
pub type OnFull<'a> = &'a mut dyn FnMut(Option<&io::Error>);

/// Delivers until the feed or the writer ends. Where the file system has no room, a file is left
/// valid up to its last whole record, and goes on when there is room again.
pub fn to_writer(pen: &mut Pen, target: &mut dyn Target, when_full: WhenFull, on_full: OnFull<'_>) -> Left {
    let linktype = match block_on(|cx| pen.subscriber().poll_header(cx)) {
        Ok(linktype) => linktype,
        Err(ending) => return Left::Feed(ending),
    };
    let waker = waker();
    let mut cx = Context::from_waker(&waker);
    target.begin(pen, linktype);
    let (mut flushed, mut due, mut full) = (Instant::now(), false, false);
    loop {
        let filled = pen.poll_fill(&mut cx);
        let written = match &filled {
            Poll::Ready(Ok(())) => target.write(pen),
            Poll::Ready(Err(_)) => target.flush(),
            Poll::Pending if due && flushed.elapsed() >= FLUSH => {
                (flushed, due) = (Instant::now(), false);
                target.flush()
            }
            Poll::Pending => Ok(()),
        };
        let alarm = match written.and_then(|()| target.look_after(pen)) {
            Ok(alarm) => {
                if std::mem::replace(&mut full, false) {
                    on_full(None);
                }
                alarm
            }
            Err(error) => {
                let hopeless = when_full == WhenFull::Fail
                    || error.kind() != io::ErrorKind::StorageFull
                    || pen.subscriber().has_ended();
                let cut = target.take_back(pen);
                if hopeless || cut.is_err() {
                    pen.lay_down();
                    return Left::Peer(error);
                }
                if !std::mem::replace(&mut full, true) {
                    on_full(Some(&error));
                }
                wait_for_room(pen, when_full);
                continue;
            }
        };
        if target.is_done() {
            return Left::Feed(Ending::Ended);
        }
        match filled {
            Poll::Ready(Err(ending)) => return Left::Feed(ending),
            Poll::Ready(Ok(())) => {
                due = true;
                if flushed.elapsed() >= FLUSH {
                    // What is flushed is what was written: an error shows at the next write, too.
                    let _ = target.flush();
                    (flushed, due) = (Instant::now(), false);
                }
            }
            Poll::Pending => match due.then_some(FLUSH).into_iter().chain(alarm).min() {
                Some(time) => std::thread::park_timeout(time),
                None => std::thread::park(),
            },
        }
    }
}

/// Until it is time to try again.
fn wait_for_room(pen: &mut Pen, when_full: WhenFull) {
    let until = Instant::now() + TRY;
    while Instant::now() < until && !pen.subscriber().has_ended() {
        match when_full {
            WhenFull::Forfeit => pen.forfeit(),
            _ => pen.rest(0),
        }
        std::thread::sleep(GIVE_UP);
    }
}

/// Writes everything a pen holds.
///
/// # Errors
/// Of the writer.
pub fn write_due<W: Write + ?Sized>(pen: &mut Pen, writer: &mut W) -> io::Result<()> {
    while !pen.is_empty() {
        match writer.write_vectored(&pen.slices()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => pen.advance(n),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
