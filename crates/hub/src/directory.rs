//! A directory that files are recorded into: held by its descriptor, so that what its path leads to
//! later does no harm, and for one recorder at a time.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{self, AtFlags, Dir, FileType, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

/// A directory that files are recorded into. Names are those of files in it: never empty, never with a
/// `/`, never `.` or `..`.
pub trait Directory: Send + Sync {
    /// A new file of mode 0600, to write.
    ///
    /// # Errors
    /// Of the system; [`AlreadyExists`](io::ErrorKind::AlreadyExists) whatever has that name, a
    /// symbolic link included.
    fn create(&self, name: &str) -> io::Result<File>;
    /// A file that is there, to read and write. Only a regular one, with no other link to it.
    ///
    /// # Errors
    /// Of the system, or that it is something else.
    fn reopen(&self, name: &str) -> io::Result<File>;
    /// Renames `part` to `name`, never replacing what has that name, and returns when the disk knows.
    ///
    /// # Errors
    /// Of the system; [`AlreadyExists`](io::ErrorKind::AlreadyExists) if the name is taken.
    fn publish(&self, part: &str, name: &str) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// Of the system.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// The regular files whose names are `wanted`, in no order; [`LISTED`] of them at most.
    ///
    /// # Errors
    /// Of the system.
    fn list(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<Entry>>;
    /// Octets that may still be written in its file system.
    ///
    /// # Errors
    /// Of the system.
    fn free(&self) -> io::Result<u64>;
    /// Whether others than its owner may change what is in it.
    ///
    /// # Errors
    /// Of the system.
    fn is_shared(&self) -> io::Result<bool>;
}

/// A file in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// What it takes on the disk, in octets.
    pub octets: u64,
    /// When it was written to last.
    pub modified: SystemTime,
}

/// Files that a list has at most: some 30 MiB of memory.
pub const LISTED: usize = 1 << 18;

/// A directory of the system's, opened with this process's own rights and locked (flock) while it lives.
#[derive(Debug)]
pub struct Folder {
    directory: OwnedFd,
}

impl Folder {
    /// Opens a directory, never through a symbolic link; made with mode 0700 if it is missing.
    ///
    /// # Errors
    /// Of the system; [`ResourceBusy`](io::ErrorKind::ResourceBusy) while another recorder has it.
    pub fn open(path: &Path) -> io::Result<Self> {
        match fs::mkdir(path, Mode::from_raw_mode(0o700)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let directory = match fs::open(path, flags, Mode::empty()) {
            // So the kernel answers for symbolic links, too.
            Err(Errno::NOTDIR) if is_link(path) => return Err(Errno::LOOP.into()),
            opened => opened?,
        };
        match fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => Err(Errno::BUSY.into()),
            // Some network file systems lock no directory. Names are taken without replacing there, too.
            Ok(()) | Err(_) => Ok(Folder { directory }),
        }
    }
}

impl Directory for Folder {
    fn create(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(fs::openat(&self.directory, checked(name)?, flags, Mode::from_raw_mode(0o600))?.into())
    }

    fn reopen(&self, name: &str) -> io::Result<File> {
        // Without waiting for the other end, should it be a FIFO.
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = fs::openat(&self.directory, checked(name)?, flags, Mode::empty())?;
        let stat = fs::fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_nlink != 1 {
            return Err(io::Error::other("it is not a regular file with one link"));
        }
        // As every file here, whatever somebody made of it meanwhile; only its owner and root may.
        let _ = fs::fchmod(&file, Mode::from_raw_mode(0o600));
        Ok(file.into())
    }

    fn publish(&self, part: &str, name: &str) -> io::Result<()> {
        rename(&self.directory, checked(part)?, checked(name)?)?;
        Ok(fs::fsync(&self.directory)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.directory, checked(name)?, AtFlags::empty())?)
    }

    fn list(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in Dir::read_from(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if entries.len() == LISTED || !wanted(name) {
                continue;
            }
            let stat = match fs::statat(&self.directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It went meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(error.into()),
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile {
                let nanos = u32::try_from(stat.st_mtime_nsec).unwrap_or(0);
                let since = Duration::new(u64::try_from(stat.st_mtime).unwrap_or(0), nanos);
                let octets = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
                let modified = SystemTime::UNIX_EPOCH + since;
                entries.push(Entry { name: name.to_owned(), octets, modified });
            }
        }
        Ok(entries)
    }

    fn free(&self) -> io::Result<u64> {
        let stat = fs::fstatvfs(&self.directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn is_shared(&self) -> io::Result<bool> {
        let mode = Mode::from_raw_mode(fs::fstat(&self.directory)?.st_mode);
        Ok(mode.intersects(Mode::WGRP | Mode::WOTH))
    }
}

fn is_link(path: &Path) -> bool {
    fs::lstat(path).is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Symlink)
}

/// Renames without replacing: in one step where the file system can, else by a second link.
fn rename(directory: &OwnedFd, part: &str, name: &str) -> rustix::io::Result<()> {
    #[cfg(target_os = "linux")]
    match fs::renameat_with(directory, part, directory, name, fs::RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        done => return done,
    }
    fs::linkat(directory, part, directory, name, AtFlags::empty())?;
    fs::unlinkat(directory, part, AtFlags::empty())
}

fn checked(name: &str) -> io::Result<&str> {
    let inside = !name.is_empty() && name != "." && name != ".." && !name.contains('/');
    inside.then_some(name).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn it_is_made_for_its_owner_alone_and_so_are_its_files() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("captures");
        let folder = Folder::open(&path).unwrap();
        folder.create("a.part").unwrap().write_all(b"octets").unwrap();
        assert_eq!((mode(&path), mode(&path.join("a.part"))), (0o700, 0o600));
        assert!(!folder.is_shared().unwrap());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(folder.is_shared().unwrap());
        let missing = Folder::open(&parent.path().join("no/captures")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound, "parents are not made");
    }

    #[test]
    fn nothing_that_is_there_is_followed_or_replaced() {
        let parent = tempfile::tempdir().unwrap();
        let victim = parent.path().join("victim");
        std::fs::write(&victim, "kept").unwrap();
        let path = parent.path().join("captures");
        let folder = Folder::open(&path).unwrap();
        symlink(&victim, path.join("a.part")).unwrap();
        assert_eq!(folder.create("a.part").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(folder.reopen("a.part").is_err());
        std::fs::hard_link(&victim, path.join("b.part")).unwrap();
        assert!(folder.reopen("b.part").is_err());
        folder.create("c.part").unwrap();
        symlink(&victim, path.join("c")).unwrap();
        assert_eq!(folder.publish("c.part", "c").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        folder.publish("c.part", "d").unwrap();
        assert!(path.join("d").exists() && !path.join("c.part").exists());
        let names: Vec<_> = folder.list(&|_| true).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names.iter().filter(|name| ["b.part", "d"].contains(&name.as_str())).count(), 2);
        assert_eq!(names.len(), 2, "symbolic links are not listed: {names:?}");
        for name in ["../victim", "/etc/passwd", "", ".", "..", "x/y"] {
            assert_eq!(folder.create(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
            assert!(folder.remove(name).is_err() && folder.publish("d", name).is_err());
        }
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "kept");
    }

    #[test]
    fn a_directory_that_is_swapped_for_a_link_is_still_the_one_that_was_opened() {
        let parent = tempfile::tempdir().unwrap();
        let (path, elsewhere) = (parent.path().join("captures"), parent.path().join("elsewhere"));
        std::fs::create_dir(&elsewhere).unwrap();
        let folder = Folder::open(&path).unwrap();
        std::fs::rename(&path, parent.path().join("moved")).unwrap();
        symlink(&elsewhere, &path).unwrap();
        folder.create("a").unwrap();
        assert!(parent.path().join("moved/a").exists() && !elsewhere.join("a").exists());
        let link = Folder::open(&path).unwrap_err();
        assert_eq!(link.raw_os_error(), Some(Errno::LOOP.raw_os_error()), "and a link is not opened");
    }

    #[test]
    fn it_is_one_recorders_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let first = Folder::open(parent.path()).unwrap();
        assert_eq!(Folder::open(parent.path()).unwrap_err().kind(), io::ErrorKind::ResourceBusy);
        drop(first);
        Folder::open(parent.path()).unwrap();
    }
}
