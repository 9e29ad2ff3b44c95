//! Where hubs have their sockets: `PID.sock` in a directory that is their user's alone.
//!
//! A service has the directory that its manager made ($RUNTIME_DIRECTORY), root /run/pcaphub-0, others
//! /tmp/pcaphub-UID: that of a login session ($XDG_RUNTIME_DIR) goes when the session ends, and a hub does not.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, geteuid, test_kill_process};

/// Names in a directory that are looked at: nobody has that many hubs.
const ENTRIES: usize = 1024;
/// The names of directories begin so.
const PREFIX: &str = "pcaphub";

/// Where temporary directories are, for everybody.
const EVERYBODYS: &str = "/tmp";
/// Where root has those of running programs.
const ROOTS: &str = if cfg!(target_os = "linux") { "/run" } else { "/var/run" };

/// The directory for this process, made if it was not there.
///
/// # Errors
/// There is none that is ours alone.
pub(super) fn own() -> io::Result<PathBuf> {
    if let Some(given) = given() {
        return Ok(given);
    }
    let user = geteuid();
    let name = format!("{PREFIX}-{}", user.as_raw());
    if user.is_root()
        && let Ok(private) = private(Path::new(ROOTS).join(&name))
    {
        return Ok(private);
    }
    private(Path::new(EVERYBODYS).join(name))
}

/// What a service manager made for us; of several the first.
fn given() -> Option<PathBuf> {
    let given = std::env::var_os("RUNTIME_DIRECTORY")?;
    let first = std::env::split_paths(&given).next()?;
    (!first.as_os_str().is_empty()).then_some(first)
}

/// A directory that only its user gets into, and that is ours.
fn private(path: PathBuf) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Whoever was faster may have put anything there.
    let found = std::fs::symlink_metadata(&path)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        let why = format!("{} is there, and is not a directory of ours alone", path.display());
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
    }
    Ok(path)
}

/// What the socket of a process is called there.
pub(super) fn name(pid: u32) -> String {
    format!("{pid}.sock")
}

/// The process whose socket has this name.
fn process(name: &OsStr) -> Option<u32> {
    name.to_str()?.strip_suffix(".sock")?.parse().ok().filter(|pid| *pid > 0)
}

/// Takes away what processes left that could not do it themselves.
pub(super) fn sweep(directory: &Path) {
    for (path, pid, _) in sockets(directory).unwrap_or_default() {
        // One of another PID namespace that shares the directory listens still.
        let refused = || {
            let connected = std::os::unix::net::UnixStream::connect(&path);
            connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
        };
        if !runs(pid) && refused() {
            // Somebody else may have done so.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Whether there is such a process, as far as can be told.
fn runs(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The sockets in a directory, each with the process that it is called after, by that.
fn sockets(directory: &Path) -> io::Result<Vec<(PathBuf, u32, Metadata)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(ENTRIES).flatten() {
        let Some(pid) = process(&entry.file_name()) else { continue };
        // Not followed: only what is a socket itself.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.file_type().is_socket() {
            found.push((entry.path(), pid, metadata));
        }
    }
    found.sort_by_key(|(_, pid, _)| *pid);
    Ok(found)
}

/// What was found of running hubs.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Sockets, each with the user that has it.
    pub(crate) sockets: Vec<(PathBuf, u32)>,
    /// Directories that this user may not look into.
    pub(crate) closed: Vec<PathBuf>,
}

/// The sockets of all hubs that this user may look at: its own, and as root everybody's.
pub(crate) fn find() -> Seen {
    let mut seen = Seen::default();
    let user = geteuid();
    for directory in directories() {
        let Ok(found) = std::fs::symlink_metadata(&directory) else { continue };
        // A directory that somebody else made for us to find is of no interest.
        if !found.is_dir() || (found.uid() != user.as_raw() && !user.is_root() && found.uid() != 0) {
            let is_anothers = found.is_dir() && directory.starts_with(ROOTS);
            seen.closed.extend(is_anothers.then_some(directory));
            continue;
        }
        match sockets(&directory) {
            Ok(sockets) => {
                let its = |metadata: &Metadata| [found.uid(), user.as_raw(), 0].contains(&metadata.uid());
                let sockets = sockets.into_iter().filter(|(_, _, metadata)| its(metadata));
                seen.sockets.extend(sockets.map(|(path, _, metadata)| (path, metadata.uid())));
            }
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => seen.closed.push(directory),
            Err(_) => {}
        }
    }
    seen
}

/// Every directory where hubs may be.
fn directories() -> Vec<PathBuf> {
    if let Some(given) = given() {
        return vec![given];
    }
    let mut parents = vec![PathBuf::from(ROOTS), PathBuf::from(EVERYBODYS)];
    parents.extend(std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from));
    let mut found: Vec<PathBuf> = parents.iter().flat_map(|parent| children(parent)).collect();
    found.sort();
    found.dedup();
    found
}

/// The directories of hubs below another one.
fn children(parent: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let is_ours = |name: &OsStr| name.to_string_lossy().starts_with(PREFIX);
    let ours = entries.flatten().filter(|entry| is_ours(&entry.file_name()));
    ours.take(ENTRIES).map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_directory_is_for_its_user_alone() {
        let folder = tempfile::tempdir().unwrap();
        let made = private(folder.path().join("pcaphub-1")).unwrap();
        assert_eq!(std::fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
        assert_eq!(private(made.clone()).unwrap(), made, "it may be there");
    }

    #[test]
    fn what_somebody_else_put_there_is_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(private(open.clone()).unwrap_err().to_string().contains("not a directory of ours alone"));
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(private(link).is_err());
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(private(file).is_err());
    }

    #[test]
    fn only_what_a_process_left_is_swept_away() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        // No system has that many processes.
        drop(UnixListener::bind(at("2000000000.sock")).unwrap());
        let _listens = UnixListener::bind(at("2000000001.sock")).unwrap();
        drop(UnixListener::bind(at(&name(std::process::id()))).unwrap());
        drop(UnixListener::bind(at("other.sock")).unwrap());
        std::fs::write(at("2000000002.sock"), "").unwrap();
        sweep(folder.path());
        assert!(!at("2000000000.sock").exists());
        for stays in ["2000000001.sock", &name(std::process::id()), "other.sock", "2000000002.sock"] {
            assert!(at(stays).exists(), "{stays}");
        }
    }
}
