//! A file while it is written, under a name of its own: whole records, never beyond its limits.

use std::fs::File;
use std::io;
use std::path::Path;

use pcaphub_core::time::Timestamp;

use super::keeper::Shelf;
use crate::codec::{self, Finish};
use crate::pen::{Fit, Pen, Room};
use crate::recording::{PART, Rotation};

/// Files of one stem that are tried.
const TRIES: u32 = 100_000;
/// A packed file is full when less than this would fit, or than a sixteenth of its limit: what is packed is
/// only known when it is flushed, and to flush for less would pack badly.
const LEAST: u64 = 64 << 10;
/// What the ends of packed files take at most.
const TRAILER: u64 = 1 << 10;

/// Whether a part takes more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filled {
    /// All that was due is written.
    No,
    /// The next packet belongs into another file.
    Full,
}

/// A file that is being written.
pub(super) struct Part {
    /// Its name without number and extension, and its number.
    pub(super) stem: String,
    pub(super) number: u32,
    /// What it will be called.
    pub(super) name: String,
    pub(super) writer: Box<dyn Finish>,
    pub(super) file: File,
    pub(super) packets: u64,
    began: Timestamp,
    ahead: i32,
    is_packed: bool,
    /// Octets in the file; of a packed one when it was last flushed.
    settled: u64,
    /// Octets that a packed file was given since.
    loose: u64,
}

impl Part {
    /// Creates the next file.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn create(shelf: &Shelf, now: Timestamp) -> io::Result<Part> {
        let template = &shelf.recording.template;
        let (stem, ahead) = template.stem(now);
        let first = shelf.next_number(&stem);
        for number in first..first.saturating_add(TRIES) {
            let name = template.name(&stem, number);
            let file = match shelf.directory.create(&format!("{name}{PART}")) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(error),
            };
            shelf.note_number(&stem, number);
            let writer = codec::packing(Path::new(&name), file.try_clone()?)?;
            let is_packed = codec::packs(Path::new(&name));
            let (packets, settled, loose) = (0, 0, 0);
            return Ok(Part {
                stem,
                number,
                name,
                writer,
                file,
                packets,
                began: now,
                ahead,
                is_packed,
                settled,
                loose,
            });
        }
        Err(io::Error::other("every name that the template gives now is taken; put %S or %s into it"))
    }

    /// When it was begun.
    pub(super) fn began(&self) -> Timestamp {
        self.began
    }

    /// By how many seconds its zone is ahead of UTC.
    pub(super) fn ahead(&self) -> i32 {
        self.ahead
    }

    /// Octets in it, about.
    pub(super) fn octets(&self) -> u64 {
        self.settled.saturating_add(self.loose)
    }

    /// Writes what is due and fits.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn write(&mut self, pen: &mut Pen, rotation: &Rotation) -> io::Result<Filled> {
        while !pen.is_empty() {
            let mut room = self.room(rotation);
            let mut fit = pen.fitting(room);
            if fit.is_cut && self.loose > 0 {
                self.flush()?;
                room = self.room(rotation);
                fit = pen.fitting(room);
            }
            let least = rotation.size.map_or(0, |size| LEAST.min(size / 16));
            if fit.octets == 0 || (fit.is_cut && self.is_packed && room.octets < least) {
                if self.packets > 0 {
                    return Ok(Filled::Full);
                }
                // A packet that is larger than a file may be has one to itself.
                fit = pen.fitting(Room { octets: u64::MAX, packets: 1 });
            }
            self.write_out(pen, fit)?;
        }
        // The last of its packets is there: no need to wait for another one.
        let is_full = rotation.packets.is_some_and(|most| self.packets >= most);
        Ok(if is_full { Filled::Full } else { Filled::No })
    }

    /// Hands what was written to the system.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()?;
        if self.is_packed {
            self.settled = self.file.metadata()?.len();
            self.loose = 0;
        }
        Ok(())
    }

    /// Cuts off what was written of a record that was not written to its end, where that is possible.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn take_back(&mut self, pen: &mut Pen) -> io::Result<()> {
        if self.is_packed {
            return Ok(());
        }
        let surplus = pen.take_back();
        self.settled = self.settled.saturating_sub(surplus as u64);
        self.writer.retract(surplus)
    }

    /// What it may have more.
    fn room(&self, rotation: &Rotation) -> Room {
        let octets = rotation.size.map_or(u64::MAX, |size| {
            let left = size.saturating_sub(self.settled);
            match self.is_packed {
                false => left,
                // What does not pack grows a little.
                true => (left.saturating_sub(TRAILER) / 128 * 127).saturating_sub(self.loose),
            }
        });
        let packets = rotation.packets.map_or(u64::MAX, |most| most.saturating_sub(self.packets));
        Room { octets, packets }
    }

    /// Writes so much of what is due.
    fn write_out(&mut self, pen: &mut Pen, fit: Fit) -> io::Result<()> {
        let mut left = fit.octets;
        let result = loop {
            if left == 0 {
                break Ok(());
            }
            match self.writer.write_vectored(&pen.slices_within(left)) {
                Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    pen.advance(n);
                    let n = n as u64;
                    left = left.saturating_sub(n);
                    let written = if self.is_packed { &mut self.loose } else { &mut self.settled };
                    *written = written.saturating_add(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        let missing = match left {
            0 => 0,
            octets => pen.fitting(Room { octets, packets: u64::MAX }).packets,
        };
        self.packets += fit.packets.saturating_sub(missing);
        result
    }
}
