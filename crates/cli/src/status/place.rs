//! Where hubs have their sockets: `PID.sock` in a directory that only their user may write to.
//!
//! A service has the directory that its manager made ($RUNTIME_DIRECTORY), root /run/pcaphub-0, others
//! /tmp/pcaphub-UID: that of a login session ($XDG_RUNTIME_DIR) goes when the session ends, and a hub does not.
//! It is used where somebody else was in /tmp first.

use std::ffi::OsStr;
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::{Pid, geteuid, test_kill_process};
use socket2::{Domain, SockAddr, Socket, Type};

/// Sockets in a directory that are looked at: nobody has that many hubs.
const ENTRIES: usize = 1024;
/// Names in a directory of everybody's that are looked through.
const NAMES: usize = 100_000;
/// The names of directories begin so.
const PREFIX: &str = "pcaphub";

/// Where temporary directories are, for everybody.
const EVERYBODYS: &str = "/tmp";
/// Where root has those of running programs.
const ROOTS: &str = if cfg!(target_os = "linux") { "/run" } else { "/var/run" };

/// The directory for this process, made if it was not there.
///
/// # Errors
/// There is none that is ours; `AlreadyExists`: because somebody else may write there.
pub(super) fn own() -> io::Result<PathBuf> {
    if let Some(given) = given() {
        return checked(given, 0o022);
    }
    let mut places = places().into_iter();
    let first = places.next().map_or(Err(io::ErrorKind::NotFound.into()), private);
    first.or_else(|error| places.find_map(|place| private(place).ok()).ok_or(error))
}

/// Where sockets of this user may be, the usual place first.
fn places() -> Vec<PathBuf> {
    let user = geteuid();
    let name = format!("{PREFIX}-{}", user.as_raw());
    let in_tmp = Path::new(EVERYBODYS).join(&name);
    match user.is_root() {
        true => vec![Path::new(ROOTS).join(name), in_tmp],
        false => std::iter::once(in_tmp).chain(session().map(|session| session.join(PREFIX))).collect(),
    }
}

/// What a service manager made for us; of several the first.
fn given() -> Option<PathBuf> {
    let given = std::env::var_os("RUNTIME_DIRECTORY")?;
    let first = std::env::split_paths(&given).next()?;
    (!first.as_os_str().is_empty()).then_some(first)
}

/// That of the login session.
fn session() -> Option<PathBuf> {
    std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute())
}

/// A directory that only its user gets into, and that is ours.
fn private(path: PathBuf) -> io::Result<PathBuf> {
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => checked(path, 0o077),
    }
}

/// A directory that is ours, and grants others none of `forbidden`. Whoever was faster may have put
/// anything there.
fn checked(path: PathBuf, forbidden: u32) -> io::Result<PathBuf> {
    let found = std::fs::symlink_metadata(&path)?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() || found.mode() & forbidden != 0 {
        let why = format!("{} is there, and is no directory that is ours alone", path.display());
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
        if !runs(pid) && is_abandoned(&path) {
            // Somebody else may have done so.
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Whether nobody listens on a socket that is there. Waits for nobody: one that is too busy to take another
/// connection is not abandoned.
pub(super) fn is_abandoned(path: &Path) -> bool {
    let connected = Socket::new(Domain::UNIX, Type::STREAM, None).and_then(|socket| {
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)
    });
    connected.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether there is such a process, as far as can be told.
fn runs(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    pid.is_none_or(|pid| test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
}

/// The sockets in a directory, each with the process that it is called after, by that.
fn sockets(directory: &Path) -> io::Result<Vec<(PathBuf, u32, Metadata)>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)?.take(NAMES).flatten() {
        let Some(pid) = process(&entry.file_name()) else { continue };
        // Not followed: only what is a socket itself.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.file_type().is_socket() && found.len() < ENTRIES {
            found.push((entry.path(), pid, metadata));
        }
    }
    found.sort_by_key(|(_, pid, _)| *pid);
    Ok(found)
}

/// The socket of a hub, as it seems.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Its name.
    pub(crate) socket: PathBuf,
    /// The user that has it, who must be the one that answers there.
    pub(crate) owner: u32,
    /// The process that it is called after; 0 where it is called otherwise.
    pub(crate) pid: u32,
    /// Whether its user can have a socket for it only because root allowed it: its directory is one of root's
    /// making, as those of services are.
    pub(crate) by_root: bool,
}

impl Found {
    /// A socket that was named by who looks.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn named(path: &Path) -> io::Result<Self> {
        let (socket, owner) = (path.to_path_buf(), std::fs::metadata(path)?.uid());
        let by_root = path.parent().is_some_and(is_by_root);
        Ok(Found { socket, owner, pid: path.file_name().and_then(process).unwrap_or(0), by_root })
    }

    /// Whether it is somebody's of whom nothing is known.
    pub(crate) fn is_anothers(&self) -> bool {
        self.owner != geteuid().as_raw() && self.owner != 0 && !self.by_root
    }
}

/// What was found of running hubs.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Their sockets.
    pub(crate) hubs: Vec<Found>,
    /// Directories that this user may not look into.
    pub(crate) closed: Vec<PathBuf>,
    /// Where sockets of this user would be, if it were not somebody else's.
    pub(crate) taken: Vec<PathBuf>,
    /// How many more there seem to be, of others, than are looked at.
    pub(crate) more: usize,
}

/// Whether only root makes directories there.
fn is_by_root(directory: &Path) -> bool {
    directory.parent() == Some(Path::new(ROOTS))
}

/// Hubs of one other user that root looks at, and of all others: nobody can hide those of somebody else. The
/// first of each user come first, users by their numbers: those that an ordinary user may take on are high.
const OF_ANOTHER: usize = 4;
const OF_OTHERS: usize = 64;

/// The hubs that this user may look at: its own, and as root everybody's.
pub(crate) fn find() -> Seen {
    let mut seen = Seen::default();
    let mut others: Vec<Found> = Vec::new();
    for directory in directories() {
        let Ok(found) = std::fs::symlink_metadata(&directory) else { continue };
        let (user, owner) = (geteuid(), found.uid());
        let is_ours = owner == user.as_raw() || owner == 0;
        if !found.is_dir() || !(is_ours || user.is_root()) {
            let list = if places().contains(&directory) { &mut seen.taken } else { &mut seen.closed };
            list.push(directory);
            continue;
        }
        let sockets = match sockets(&directory) {
            Ok(sockets) => sockets,
            Err(error) => {
                seen.closed.extend((error.kind() == io::ErrorKind::PermissionDenied).then_some(directory));
                continue;
            }
        };
        let its = sockets.into_iter().filter(|(_, _, metadata)| metadata.uid() == owner);
        let by_root = is_by_root(&directory);
        let its = its.map(|(socket, pid, _)| Found { socket, owner, pid, by_root });
        match is_ours || by_root {
            true => seen.hubs.extend(its),
            false => others.extend(its),
        }
    }
    let (chosen, more) = chosen(others);
    seen.hubs.extend(chosen);
    seen.more = more;
    seen
}

/// Those of others that are looked at, and how many are not.
fn chosen(others: Vec<Found>) -> (Vec<Found>, usize) {
    let all = others.len();
    let mut had = std::collections::HashMap::new();
    let mut ranked: Vec<(usize, Found)> = Vec::new();
    for found in others {
        let rank = had.entry(found.owner).or_insert(0);
        *rank += 1;
        ranked.push((*rank, found));
    }
    ranked.retain(|(rank, _)| *rank <= OF_ANOTHER);
    ranked.sort_by_key(|(rank, found)| (*rank, found.owner));
    ranked.truncate(OF_OTHERS);
    let more = all - ranked.len();
    (ranked.into_iter().map(|(_, found)| found).collect(), more)
}

/// Every directory where hubs may be, each once: those of this user, of services, and for root of all users.
fn directories() -> Vec<PathBuf> {
    if let Some(given) = given() {
        return vec![given];
    }
    let is_ours = |name: &str| name.starts_with(PREFIX);
    let mut all = places();
    all.extend(children(Path::new(ROOTS), is_ours));
    all.extend(session().iter().flat_map(|session| children(session, is_ours)));
    if geteuid().is_root() {
        // Nobody can have a directory there that is called after somebody else's number, and is his own. Nor
        // can he hide that of somebody else who runs something, however much he puts there.
        let named = |user: u32| Path::new(EVERYBODYS).join(format!("{PREFIX}-{user}"));
        let of_its_owner = |name: &str| name.strip_prefix(PREFIX).is_some_and(|rest| rest.starts_with('-'));
        let others = users().into_iter().map(named).chain(children(Path::new(EVERYBODYS), of_its_owner));
        all.extend(others.filter(|path| is_called_after_its_owner(path)));
        let sessions = children(&Path::new(ROOTS).join("user"), |name| name.parse::<u32>().is_ok());
        all.extend(sessions.iter().flat_map(|session| children(session, is_ours)));
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|path| seen.insert(path.clone()));
    all
}

/// The users that run something, where the system tells.
fn users() -> std::collections::BTreeSet<u32> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Default::default() };
    let is_process = |name: &OsStr| name.to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    let processes = processes.flatten().filter(|entry| is_process(&entry.file_name()));
    processes.filter_map(|entry| entry.metadata().ok()).map(|found| found.uid()).collect()
}

fn is_called_after_its_owner(path: &Path) -> bool {
    let owner = std::fs::symlink_metadata(path).map(|found| format!("{PREFIX}-{}", found.uid()));
    owner.is_ok_and(|name| path.file_name() == Some(OsStr::new(&name)))
}

/// What is in a directory under names that are wanted.
fn children(parent: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let entries = entries.take(NAMES).flatten();
    entries
        .filter(|entry| entry.file_name().to_str().is_some_and(&wanted))
        .map(|entry| entry.path())
        .take(NAMES)
        .collect()
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
        assert!(private(open.clone()).unwrap_err().to_string().contains("no directory that is ours alone"));
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(private(link).is_err());
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(private(file).is_err());
    }

    #[test]
    fn one_that_is_given_may_be_looked_into_and_not_written_to_by_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_path_buf();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert!(checked(path.clone(), 0o022).is_ok());
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o775)).unwrap();
        assert_eq!(checked(path, 0o022).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_socket_whose_owner_takes_no_more_connections_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("2000000003.sock");
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        listener.listen(0).unwrap();
        let mut waiting = Vec::new();
        loop {
            let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
            client.set_nonblocking(true).unwrap();
            let full = client.connect(&SockAddr::unix(&path).unwrap()).is_err();
            waiting.push(client);
            if full {
                break;
            }
        }
        sweep(folder.path());
        assert!(path.exists());
    }

    #[test]
    fn of_many_hubs_each_user_has_some_that_are_looked_at() {
        let of = |owner: u32, pid: u32| Found {
            socket: format!("/x/{owner}/{pid}.sock").into(),
            owner,
            pid,
            by_root: false,
        };
        let many = (0..100).flat_map(|user| (1..=4).map(move |pid| (100_000 + user, pid)));
        let mut others: Vec<Found> = many.map(|(owner, pid)| of(owner, pid)).collect();
        others.extend((1..=9).map(|pid| of(1_000, pid)));
        let (chosen, more) = chosen(others);
        assert_eq!((chosen.len(), more), (OF_OTHERS, 409 - OF_OTHERS));
        assert_eq!(chosen[0], of(1_000, 1));
        assert!(chosen[1..].iter().all(|found| found.owner >= 100_000 && found.pid == 1));
        let (chosen, more) = super::chosen((1..=9).map(|pid| of(1_000, pid)).collect());
        assert_eq!((chosen.len(), more), (OF_ANOTHER, 5));
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
