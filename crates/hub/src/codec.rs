//! Compressed files: gzip, zstd and lz4 by their magic in, gzip and zstd by extension out.
//!
//! What comes out is bounded by what went in: a file that unpacks to more than a thousand times
//! its size ends in an error, and so does one whose window is over 8 MiB.

use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use crate::opener::Opener;

/// Octets that decide; every magic is this long or shorter.
const MAGIC: usize = 4;
/// The most that may come out for each octet that went in.
const RATIO: u64 = 1000;
/// What may come out before the ratio counts: less is harmless whatever the ratio.
const FREE: u64 = 16 << 20;
/// Base-2 logarithm of the largest zstd window: 8 MiB, what level 19 uses.
const WINDOW_LOG: u32 = 23;

/// A reader of the octets inside a file, unpacked if they are packed. A plain regular file is
/// read as it is, from its first page on.
///
/// # Errors
/// Of reading the first octets, or of a decoder that cannot be set up.
pub fn unpacked_file(file: File) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = [0; MAGIC];
    let plain = file.metadata()?.is_file() && file.read_at(&mut magic, 0)? == MAGIC && !is_packed(magic);
    if plain { Ok(Box::new(file)) } else { unpacked(file) }
}

/// Whether a file that begins like this is packed.
fn is_packed(magic: [u8; MAGIC]) -> bool {
    matches!(magic, [0x1f, 0x8b, ..] | [0x28, 0xb5, 0x2f, 0xfd] | [0x04, 0x22, 0x4d, 0x18])
}

/// What unpacking the file at `path` may take in memory, in octets; 0 for one that is not packed.
pub fn window(path: &Path, opener: &dyn Opener) -> usize {
    let mut magic = [0; MAGIC];
    let read = opener.read_file(path).and_then(|file| match file.metadata()?.is_file() {
        true => file.read_at(&mut magic, 0),
        false => Ok(0),
    });
    match (read, magic) {
        (Ok(MAGIC), [0x1f, 0x8b, ..]) => 128 << 10,
        // A window and what is read ahead.
        (Ok(MAGIC), magic) if is_packed(magic) => (1 << WINDOW_LOG) + (256 << 10),
        _ => 0,
    }
}

/// A reader of the octets inside `raw`, unpacked if they are packed.
///
/// # Errors
/// Of reading the first octets, or of a decoder that cannot be set up.
pub fn unpacked(mut raw: impl Read + Send + 'static) -> io::Result<Box<dyn Read + Send>> {
    let mut magic = [0; MAGIC];
    let mut length = 0;
    while length < MAGIC {
        match raw.read(magic.get_mut(length..).unwrap_or_default()) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let first = Cursor::new(magic).take(length as u64);
    let whole = first.chain(raw);
    let taken = Arc::new(AtomicU64::new(0));
    let packed = Taking { inner: whole, taken: taken.clone() };
    let inner: Box<dyn Read + Send> = match magic {
        [0x1f, 0x8b, ..] => Box::new(MultiGzDecoder::new(io::BufReader::with_capacity(64 << 10, packed))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::stream::read::Decoder::new(packed)?;
            decoder.window_log_max(WINDOW_LOG)?;
            Box::new(decoder)
        }
        [0x04, 0x22, 0x4d, 0x18] => Box::new(lz4_flex::frame::FrameDecoder::new(packed)),
        _ => return Ok(Box::new(packed.inner)),
    };
    Ok(Box::new(Bounded { inner, taken, given: 0 }))
}

/// Counts what a decoder took.
struct Taking<R> {
    inner: R,
    taken: Arc<AtomicU64>,
}

impl<R: Read> Read for Taking<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.taken.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// Ends in an error when too much comes out.
struct Bounded {
    inner: Box<dyn Read + Send>,
    taken: Arc<AtomicU64>,
    given: u64,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.given += n as u64;
        if self.given > FREE + RATIO * self.taken.load(Ordering::Relaxed) {
            return Err(io::Error::other(format!(
                "it unpacks to more than {RATIO} times its size; unpack it by hand if that is meant"
            )));
        }
        Ok(n)
    }
}

/// A writer that may be able to take back the octets it was given last.
pub trait Retract: Write {
    /// Whether it can. One that cannot goes on where it stopped: its reader finds a record cut
    /// short until then.
    fn retracts(&self) -> bool {
        false
    }

    /// Cuts off the last `octets`.
    ///
    /// # Errors
    /// Of the system.
    fn retract(&mut self, _octets: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A writer with an end: a packed file is only whole when finished.
pub trait Finish: Retract + Send {
    /// Writes what is still due; nothing is written after it. After an error it may be asked again.
    ///
    /// # Errors
    /// Of the system.
    fn finish(&mut self) -> io::Result<()>;
}

impl Retract for File {
    fn retracts(&self) -> bool {
        self.metadata().is_ok_and(|metadata| metadata.is_file())
    }

    fn retract(&mut self, octets: usize) -> io::Result<()> {
        let back = i64::try_from(octets).unwrap_or(i64::MAX);
        let length = self.seek(io::SeekFrom::Current(-back))?;
        self.set_len(length)
    }
}

impl<W: Write> Retract for GzEncoder<W> {}
impl<W: Write> Retract for zstd::stream::write::Encoder<'static, W> {}

impl Finish for File {
    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write + Send> Finish for GzEncoder<W> {
    fn finish(&mut self) -> io::Result<()> {
        self.try_finish()
    }
}

impl<W: Write + Send> Finish for zstd::stream::write::Encoder<'static, W> {
    fn finish(&mut self) -> io::Result<()> {
        self.do_finish()?;
        self.get_mut().flush()
    }
}

/// Whether a file of this name is packed.
pub fn packs(path: &Path) -> bool {
    matches!(path.extension().and_then(|e| e.to_str()), Some("gz" | "zst"))
}

/// A writer into `file` that packs as the extension of `path` says: .gz, .zst, or not at all.
///
/// # Errors
/// Of an encoder that cannot be set up.
pub fn packing(path: &Path, file: File) -> io::Result<Box<dyn Finish>> {
    Ok(match path.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(GzEncoder::new(file, Compression::fast())),
        Some("zst") => Box::new(zstd::stream::write::Encoder::new(file, 3)?),
        _ => Box::new(file),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_all(octets: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        unpacked(Cursor::new(octets))?.read_to_end(&mut out)?;
        Ok(out)
    }

    fn gzipped(octets: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(octets).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn every_packing_is_known_by_its_magic() {
        let plain = b"octets of a capture".repeat(100);
        assert_eq!(read_all(plain.clone()).unwrap(), plain);
        assert_eq!(read_all(gzipped(&plain)).unwrap(), plain);
        assert_eq!(read_all(zstd::encode_all(&plain[..], 3).unwrap()).unwrap(), plain);
        let mut lz4 = lz4_flex::frame::FrameEncoder::new(Vec::new());
        lz4.write_all(&plain).unwrap();
        assert_eq!(read_all(lz4.finish().unwrap()).unwrap(), plain);
    }

    #[test]
    fn several_gzip_members_are_one_stream() {
        let both = [gzipped(b"one "), gzipped(b"two")].concat();
        assert_eq!(read_all(both).unwrap(), b"one two");
    }

    #[test]
    fn shorter_than_any_magic_is_passed_on() {
        assert_eq!(read_all(vec![0x1f]).unwrap(), [0x1f]);
        assert_eq!(read_all(vec![]).unwrap(), b"");
    }

    #[test]
    fn a_bomb_ends_in_an_error() {
        let bomb = gzipped(&gzip_of_zeros());
        // A bomb in a bomb is one layer to us; the inner one is data.
        assert!(read_all(bomb).is_ok());
        let zeros = zstd::encode_all(&vec![0; 64 << 20][..], 19).unwrap();
        let error = read_all(zeros).unwrap_err();
        assert!(error.to_string().contains("1000 times"), "{error}");
    }

    fn gzip_of_zeros() -> Vec<u8> {
        gzipped(&vec![0; 1 << 20])
    }
}
