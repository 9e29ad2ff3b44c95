//! Files that an earlier recorder did not finish, because it was killed or the machine went down: what
//! is whole in them gets its final name. On a thread of its own, while the recording goes on.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use pcaphub_core::feed::whole_records;
use pcaphub_core::format::Format;

use super::keeper::Shelf;
use crate::codec;
use crate::event::Event;
use crate::recording::PART;
use crate::shutdown::{Phase, Shutdown};

/// Octets read at once.
const READ: usize = 256 << 10;
/// What a record may have at most: larger ones are not ours.
const LONGEST: usize = (16 << 20) + READ;

/// Recovers `leftovers`, if there are any, until the hub stops.
pub(super) fn start(shelf: Arc<Shelf>, leftovers: Vec<String>, shutdown: Shutdown) -> Option<JoinHandle<()>> {
    if leftovers.is_empty() {
        return None;
    }
    let recover = move || {
        for part in leftovers {
            if shutdown.phase() == Phase::Stopping {
                return;
            }
            if let Err(why) = recover(&shelf, &part, &shutdown) {
                shelf.emit(Event::RecordingLeft { sink: &shelf.sink, file: &part, why: &why });
            }
        }
    };
    // Without the thread they are found by the next recorder.
    std::thread::Builder::new().name("recovery".into()).spawn(recover).ok()
}

fn recover(shelf: &Shelf, part: &str, shutdown: &Shutdown) -> io::Result<()> {
    let name = part.strip_suffix(PART).unwrap_or(part);
    let Some((stem, number)) = shelf.recording.template.stem_of(name) else { return Ok(()) };
    let file = shelf.directory.reopen(part)?;
    if file.metadata()?.len() == 0 {
        shelf.emit(Event::RecordingLeft {
            sink: &shelf.sink,
            file: part,
            why: &"it is empty, and is removed",
        });
        return shelf.directory.remove(part);
    }
    let (file, source, found) = match codec::packs(Path::new(name)) {
        false => {
            let length = file.metadata()?.len();
            let found = copy(&mut &file, &mut io::sink(), shutdown)?;
            file.set_len(found.octets)?;
            (file, part.to_owned(), Found { cut: length.saturating_sub(found.octets), ..found })
        }
        true => {
            // A packed file has no place where it could be cut: what is in it is packed again.
            let again = shelf.recording.template.name(stem, number.saturating_add(AGAIN)) + PART;
            let new = shelf.directory.create(&again)?;
            let mut writer = codec::packing(Path::new(name), new.try_clone()?)?;
            let copied = copy(&mut codec::unpacked_file(file)?, &mut writer, shutdown);
            match copied.and_then(|found| writer.finish().map(|()| found)) {
                Ok(found) => (new, again, found),
                Err(error) => {
                    let _ = shelf.directory.remove(&again);
                    return Err(error);
                }
            }
        }
    };
    file.sync_all()?;
    let octets = file.metadata()?.blocks().saturating_mul(512);
    let published = shelf.publish(&source, stem, number, octets)?;
    if source != part {
        shelf.directory.remove(part)?;
    }
    let (packets, cut) = (found.packets, found.cut);
    shelf.emit(Event::RecordingRecovered { sink: &shelf.sink, file: &published, packets, cut });
    Ok(())
}

/// Numbers of files that are packed again, so that they are nobody else's meanwhile.
const AGAIN: u32 = 1_000_000_000;

#[derive(Debug, Clone, Copy)]
struct Found {
    packets: u64,
    /// Of header and whole records.
    octets: u64,
    /// Behind them.
    cut: u64,
}

/// Copies the header and all whole records of a capture of ours.
fn copy(from: &mut dyn Read, to: &mut dyn Write, shutdown: &Shutdown) -> io::Result<Found> {
    let mut buffer = Vec::new();
    let mut found = Found { packets: 0, octets: 0, cut: 0 };
    let mut format = None;
    loop {
        if shutdown.phase() == Phase::Stopping {
            return Err(io::Error::other("the recorder ended; the next one tries again"));
        }
        let more = read(from, &mut buffer);
        let (known, header) = match format {
            Some(format) => (format, 0),
            None => {
                let begins = header_of(&buffer);
                begins.ok_or_else(|| io::Error::other("it does not begin like a recording"))?
            }
        };
        format = Some(known);
        let (packets, octets) = whole_records(known, buffer.get(header..).unwrap_or_default());
        let whole = header + octets;
        to.write_all(buffer.get(..whole).unwrap_or_default())?;
        buffer.drain(..whole);
        found.packets += packets;
        found.octets += whole as u64;
        if !more || buffer.len() > LONGEST {
            break;
        }
    }
    if found.packets == 0 {
        return Err(io::Error::other("there is no whole packet in it; remove it if it is of no use"));
    }
    found.cut = buffer.len() as u64;
    Ok(found)
}

/// Reads on; whether there may be more. What cannot be unpacked was not written to its end.
fn read(from: &mut dyn Read, buffer: &mut Vec<u8>) -> bool {
    let before = buffer.len();
    let read = from.take(READ as u64).read_to_end(buffer);
    read.is_ok() && buffer.len() > before
}

/// The format of a capture that we wrote, and octets before its records.
fn header_of(octets: &[u8]) -> Option<(Format, usize)> {
    match octets.get(..4)? {
        [0xd4, 0xc3, 0xb2, 0xa1] if octets.len() >= 24 => Some((Format::Pcap, 24)),
        [0x4d, 0x3c, 0xb2, 0xa1] if octets.len() >= 24 => Some((Format::PcapNs, 24)),
        [0x0a, 0x0d, 0x0d, 0x0a] if octets.get(8..12)? == [0x4d, 0x3c, 0x2b, 0x1a] => {
            Some((Format::PcapNg, 0))
        }
        _ => None,
    }
}
