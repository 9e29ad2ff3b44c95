//! What becomes of files when they are written: onto the disk, under their final name, and the oldest
//! away as the operator said. On a thread of its own.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::part::Part;
use crate::directory::{Directory, Entry};
use crate::event::{Event, Events};
use crate::recording::{PART, Recording, Situation};

/// Files that wait for the disk; beyond, the writer waits.
const WAITING: usize = 2;
/// Words that may wait: two for each such file, and for the one being written.
const QUEUE: usize = 2 * (WAITING + 1);
/// How long the writer waits for the disk before it takes it for full, and how often a full one is
/// tried; also how often ages and free room are looked at.
const PERIOD: Duration = Duration::from_secs(1);
/// Final names that are tried.
const TRIES: u32 = 100_000;

/// A directory of recordings: what is in it, and what the writer and the keeper tell each other.
pub(super) struct Shelf {
    pub(super) sink: Arc<str>,
    pub(super) recording: Recording,
    pub(super) directory: Arc<dyn Directory>,
    events: Events,
    /// Finished files, the oldest first.
    kept: Mutex<Vec<Entry>>,
    /// The stem used last, and its highest number.
    last: Mutex<(String, u32)>,
    /// Octets of the file being written.
    written: AtomicU64,
    /// Less is free than is to be, and there is nothing left to remove.
    is_short: AtomicBool,
    has_stopped: AtomicBool,
}

impl Shelf {
    pub(super) fn new(
        sink: Arc<str>,
        recording: Recording,
        directory: Arc<dyn Directory>,
        events: Events,
        kept: Vec<Entry>,
    ) -> Self {
        Shelf {
            sink,
            recording,
            directory,
            events,
            kept: Mutex::new(kept),
            last: Mutex::default(),
            written: AtomicU64::new(0),
            is_short: AtomicBool::new(false),
            has_stopped: AtomicBool::new(false),
        }
    }

    pub(super) fn emit(&self, event: Event<'_>) {
        self.events.emit(event);
    }

    /// The number behind those that files with this stem have.
    pub(super) fn next_number(&self, stem: &str) -> u32 {
        let last = lock(&self.last);
        if last.0 == stem {
            return last.1.saturating_add(1);
        }
        let kept = lock(&self.kept);
        let numbers = kept.iter().filter_map(|entry| self.recording.template.number(&entry.name, stem));
        numbers.max().map_or(1, |number| number.saturating_add(1))
    }

    pub(super) fn note_number(&self, stem: &str, number: u32) {
        *lock(&self.last) = (stem.to_owned(), number);
    }

    pub(super) fn note_written(&self, octets: u64) {
        self.written.store(octets, Ordering::Relaxed);
    }

    /// # Errors
    /// [`StorageFull`](io::ErrorKind::StorageFull) while less is free than the operator wants.
    pub(super) fn check_room(&self) -> io::Result<()> {
        if self.is_short.load(Ordering::Relaxed) {
            let why = "less is free than keep-free= says, and there is no older recording to remove";
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        Ok(())
    }

    /// Nothing is begun any more.
    pub(super) fn stop(&self) {
        self.has_stopped.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_stopped(&self) -> bool {
        self.has_stopped.load(Ordering::Relaxed)
    }

    /// Gives `part` its final name, that of `number` or of the next that is free, and counts it among
    /// the finished ones; what it is called.
    ///
    /// # Errors
    /// Of the system.
    pub(super) fn publish(&self, part: &str, stem: &str, number: u32, octets: u64) -> io::Result<String> {
        for number in number..number.saturating_add(TRIES) {
            let name = self.recording.template.name(stem, number);
            match self.directory.publish(part, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    let entry = Entry { name: name.clone(), octets, modified: SystemTime::now() };
                    lock(&self.kept).push(entry);
                    return Ok(name);
                }
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Removes the oldest files that are not to be kept.
    fn sweep(&self, writing: u64) {
        let keep = self.recording.keep;
        if keep.is_everything() {
            return;
        }
        let free = || keep.free.and_then(|_| self.directory.free().ok());
        let reserved = self.recording.rotation.size.unwrap_or(0);
        let written = self.written.load(Ordering::Relaxed).max(reserved);
        let situation =
            Situation { now: SystemTime::now(), writing, writing_octets: writing * written, free: free() };
        let gone: Vec<Entry> = {
            let mut kept = lock(&self.kept);
            let surplus = keep.surplus(&kept, situation);
            kept.drain(..surplus).collect()
        };
        for entry in &gone {
            let (sink, file) = (&*self.sink, &*entry.name);
            match self.directory.remove(file) {
                Ok(()) => self.emit(Event::RecordingRemoved { sink, file }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(why) => self.emit(Event::RecordingLeft { sink, file, why: &why }),
            }
        }
        let missing = keep.free.zip(free()).is_some_and(|(least, free)| free < least);
        self.is_short.store(missing && lock(&self.kept).is_empty(), Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the keeper is told.
enum Word {
    /// A file was begun.
    Begun,
    /// It has ended.
    Ended(Box<Part>),
}

/// Files that wait for the disk.
#[derive(Default)]
struct Pile {
    waiting: Mutex<usize>,
    less: Condvar,
}

/// The writer's hold on the keeper's thread.
pub(super) struct Keeper {
    words: SyncSender<Word>,
    pile: Arc<Pile>,
    shelf: Arc<Shelf>,
    thread: JoinHandle<Result<(), String>>,
}

impl Keeper {
    /// # Errors
    /// There is no thread to be had.
    pub(super) fn start(shelf: Arc<Shelf>) -> io::Result<Self> {
        // Before anything is written: there may be no room for it.
        shelf.sweep(0);
        let (words, heard) = sync_channel(QUEUE);
        let pile = Arc::new(Pile::default());
        let (its_shelf, its_pile) = (shelf.clone(), pile.clone());
        let keep = move || keep(&its_shelf, &heard, &its_pile);
        let thread = std::thread::Builder::new().name("keeper".into()).spawn(keep)?;
        Ok(Keeper { words, pile, shelf, thread })
    }

    pub(super) fn begun(&self) {
        // Its thread ends with this sender alone.
        let _ = self.words.send(Word::Begun);
    }

    /// Waits until the keeper can take another file.
    ///
    /// # Errors
    /// [`StorageFull`](io::ErrorKind::StorageFull): the disk does not take what it has.
    pub(super) fn wait(&self) -> io::Result<()> {
        let waiting = lock(&self.pile.waiting);
        let waited = self.pile.less.wait_timeout_while(waiting, PERIOD, |waiting| *waiting >= WAITING);
        let (waiting, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if *waiting >= WAITING {
            let why = "the disk is behind: files wait to be finished";
            return Err(io::Error::new(io::ErrorKind::StorageFull, why));
        }
        Ok(())
    }

    pub(super) fn take(&self, part: Part) {
        *lock(&self.pile.waiting) += 1;
        let _ = self.words.send(Word::Ended(Box::new(part)));
    }

    /// Waits until all files are finished; what could not be finished, if anything.
    pub(super) fn finish(self) -> Result<(), String> {
        let Keeper { words, thread, shelf, .. } = self;
        shelf.stop();
        drop(words);
        thread.join().unwrap_or_else(|_| Err("the thread that finishes files ended".into()))
    }
}

/// The keeper's thread: until there is no writer any more.
fn keep(shelf: &Shelf, words: &Receiver<Word>, pile: &Pile) -> Result<(), String> {
    let mut outcome = Ok(());
    let mut writing = 0u64;
    loop {
        let word = match shelf.recording.keep.watches() {
            true => words.recv_timeout(PERIOD),
            false => words.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match word {
            Ok(Word::Begun) => writing += 1,
            Ok(Word::Ended(mut part)) => {
                if let Err(why) = finish(shelf, &mut part) {
                    let file = format!("{}{PART}", part.name);
                    shelf.emit(Event::RecordingLeft { sink: &shelf.sink, file: &file, why: &why });
                    outcome = outcome.and(Err(format!("{file}: {why}")));
                }
                writing = writing.saturating_sub(1);
                *lock(&pile.waiting) -= 1;
                pile.less.notify_all();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        shelf.sweep(writing.min(1));
    }
    shelf.sweep(0);
    outcome
}

/// The whole file onto the disk, then under its final name.
fn finish(shelf: &Shelf, part: &mut Part) -> io::Result<()> {
    while let Err(error) = part.writer.finish().and_then(|()| part.file.sync_all()) {
        if error.kind() != io::ErrorKind::StorageFull || shelf.has_stopped() {
            return Err(error);
        }
        // The writer finds the disk full, too, and says so.
        shelf.sweep(1);
        std::thread::sleep(PERIOD);
    }
    let metadata = part.file.metadata()?;
    let file = format!("{}{PART}", part.name);
    let name = shelf.publish(&file, &part.stem, part.number, metadata.blocks().saturating_mul(512))?;
    let (packets, octets) = (part.packets, metadata.len());
    shelf.emit(Event::Recorded { sink: &shelf.sink, file: &name, packets, octets });
    Ok(())
}
