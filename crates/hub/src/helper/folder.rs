//! A directory that the helper opened: a process of its own does what is asked there, so that a slow
//! disk holds up nobody else. It touches only files that a recording there could have named.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use serde::{Deserialize, Serialize};

use super::message::{self, Failure, REQUEST};
use crate::directory::{Directory, Entry, Folder};
use crate::recording::Template;

/// What is asked for; by [`Directory`].
#[derive(Debug, Serialize, Deserialize)]
enum Wish {
    Create(String),
    Reopen(String),
    Publish(String, String),
    Remove(String),
    List,
    Free,
    IsShared,
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
enum Outcome {
    Done,
    Octets(u64),
    Shared(bool),
    /// Some files: name, octets, nanoseconds since 1970. None are the end of the list.
    Files(Vec<(String, u64, u64)>),
    Failed(Failure),
}

/// How long who lets a directory go waits for its process at most, which has nothing else to do.
const FAREWELL: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Files in one message: with the longest names, each octet escaped, they fit.
const TOGETHER: usize = 50;

/// Opens a directory and answers with the descriptor by which it is asked from then on; and
/// serves until nobody has that any more. Other files than those of `templates` are not touched, which
/// `tell_refusal` gets.
pub(super) fn serve(
    path: &Path,
    templates: &[Template],
    mut tell_refusal: impl FnMut(&str),
    answer: impl Fn(io::Result<OwnedFd>),
) {
    let opened = Folder::open(path).and_then(|folder| Ok((folder, message::pair()?)));
    let (folder, (ours, theirs)) = match opened {
        Ok(opened) => opened,
        Err(error) => return answer(Err(error)),
    };
    answer(Ok(theirs));
    let mut buffer = vec![0; REQUEST];
    loop {
        let Ok((length @ 1.., _)) = message::receive(&ours, &mut buffer, RecvFlags::empty()) else {
            // The lock goes first: who sees the other end closed may open the directory again.
            drop(folder);
            return;
        };
        let wish = buffer.get(..length).and_then(|octets| serde_json::from_slice(octets).ok());
        let wish = wish.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput));
        let granted = wish.and_then(|wish| {
            if !allow(templates, &wish) {
                tell_refusal(&format!(
                    "refused in {}, because no recording names it: {wish:?}",
                    path.display()
                ));
                return Err(Errno::ACCESS.into());
            }
            grant(&folder, templates, &ours, wish)
        });
        let failed = |error| (Outcome::Failed(Failure::from(&error)), None);
        let (result, file) = granted.unwrap_or_else(failed);
        if tell(&ours, &result, file.as_ref()).is_err() {
            return;
        }
    }
}

fn grant(
    folder: &Folder,
    templates: &[Template],
    ours: &OwnedFd,
    wish: Wish,
) -> io::Result<(Outcome, Option<File>)> {
    let done = |()| (Outcome::Done, None);
    match wish {
        Wish::Create(name) => folder.create(&name).map(|file| (Outcome::Done, Some(file))),
        Wish::Reopen(name) => folder.reopen(&name).map(|file| (Outcome::Done, Some(file))),
        Wish::Publish(part, name) => folder.publish(&part, &name).map(done),
        Wish::Remove(name) => folder.remove(&name).map(done),
        Wish::Free => folder.free().map(|octets| (Outcome::Octets(octets), None)),
        Wish::IsShared => folder.is_shared().map(|shared| (Outcome::Shared(shared), None)),
        Wish::List => {
            for entries in folder.list(&|name| is_recorded(templates, name))?.chunks(TOGETHER) {
                let nanos = |entry: &Entry| {
                    let since = entry.modified.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
                    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
                };
                let files = entries.iter().map(|entry| (entry.name.clone(), entry.octets, nanos(entry)));
                tell(ours, &Outcome::Files(files.collect()), None)?;
            }
            Ok((Outcome::Files(Vec::new()), None))
        }
    }
}

/// Whether a wish is for a file that one of the recordings could have named: one that is being written
/// is made and opened again under that name alone.
fn allow(templates: &[Template], wish: &Wish) -> bool {
    match wish {
        Wish::Create(part) | Wish::Reopen(part) => templates.iter().any(|template| template.names_part(part)),
        Wish::Publish(part, name) => {
            templates.iter().any(|template| template.names_part(part) && template.names(name))
        }
        Wish::Remove(name) => is_recorded(templates, name),
        Wish::List | Wish::Free | Wish::IsShared => true,
    }
}

/// Whether a file is one of a recording, finished or being written.
fn is_recorded(templates: &[Template], name: &str) -> bool {
    templates.iter().any(|template| template.names(name) || template.names_part(name))
}

fn tell(ours: &OwnedFd, result: &Outcome, file: Option<&File>) -> io::Result<()> {
    let descriptors: Vec<BorrowedFd<'_>> = file.iter().map(|file| file.as_fd()).collect();
    message::send(ours.as_fd(), &serde_json::to_vec(result)?, &descriptors, SendFlags::empty())
}

/// A directory, as the main process has it. Its threads ask in turn: an answer belongs to what was asked
/// last.
#[derive(Debug)]
pub(super) struct RemoteFolder(Mutex<OwnedFd>);

impl RemoteFolder {
    pub(super) fn new(control: OwnedFd) -> Self {
        RemoteFolder(Mutex::new(control))
    }

    fn ask(&self, wish: &Wish) -> io::Result<(Outcome, Option<File>)> {
        ask(&self.control(), wish)
    }

    fn control(&self) -> MutexGuard<'_, OwnedFd> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, wish: &Wish) -> io::Result<File> {
        self.ask(wish)?.1.ok_or_else(super::gone)
    }
}

fn ask(control: &OwnedFd, wish: &Wish) -> io::Result<(Outcome, Option<File>)> {
    message::send(control.as_fd(), &serde_json::to_vec(wish)?, &[], SendFlags::empty())
        .map_err(|error| if error.kind() == io::ErrorKind::BrokenPipe { super::gone() } else { error })?;
    hear(control)
}

fn hear(control: &OwnedFd) -> io::Result<(Outcome, Option<File>)> {
    let mut buffer = vec![0; REQUEST];
    let (length, descriptors) = message::receive(control, &mut buffer, RecvFlags::empty())?;
    match buffer.get(..length).filter(|octets| !octets.is_empty()) {
        None => Err(super::gone()),
        Some(octets) => match serde_json::from_slice(octets)? {
            Outcome::Failed(failure) => Err(failure.into()),
            result => Ok((result, descriptors.into_iter().next().map(File::from))),
        },
    }
}

impl Drop for RemoteFolder {
    /// Waits until the directory is let go of: a recorder that follows this one opens it at once.
    fn drop(&mut self) {
        let control = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        if rustix::net::shutdown(&*control, Shutdown::Write).is_ok() {
            let mut polled = [PollFd::new(control, PollFlags::IN)];
            let _ = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&FAREWELL)));
        }
    }
}

impl Directory for RemoteFolder {
    fn create(&self, name: &str) -> io::Result<File> {
        self.file(&Wish::Create(name.into()))
    }

    fn reopen(&self, name: &str) -> io::Result<File> {
        self.file(&Wish::Reopen(name.into()))
    }

    fn publish(&self, part: &str, name: &str) -> io::Result<()> {
        self.ask(&Wish::Publish(part.into(), name.into())).map(drop)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.ask(&Wish::Remove(name.into())).map(drop)
    }

    fn list(&self, wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let control = self.control();
        let mut heard = ask(&control, &Wish::List)?.0;
        loop {
            match heard {
                Outcome::Files(files) if files.is_empty() => return Ok(entries),
                Outcome::Files(files) => {
                    let files = files.into_iter().filter(|(name, ..)| wanted(name));
                    entries.extend(files.map(|(name, octets, nanos)| {
                        let modified = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
                        Entry { name, octets, modified }
                    }));
                }
                _ => return Err(super::gone()),
            }
            heard = hear(&control)?.0;
        }
    }

    fn free(&self) -> io::Result<u64> {
        match self.ask(&Wish::Free)?.0 {
            Outcome::Octets(octets) => Ok(octets),
            _ => Err(super::gone()),
        }
    }

    fn is_shared(&self) -> io::Result<bool> {
        match self.ask(&Wish::IsShared)?.0 {
            Outcome::Shared(shared) => Ok(shared),
            _ => Err(super::gone()),
        }
    }
}
