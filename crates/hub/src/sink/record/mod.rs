//! Recording into rotating files: each of them a whole capture by itself, under its final name only
//! when it is on the disk.
//!
//! The thread that takes the packets writes them into a [`Part`]; one that is full goes to the
//! [`Keeper`], which has a thread of its own, since disks may take seconds to be sure.

mod keeper;
mod part;
mod recovery;
mod spec;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pcaphub_core::feed::Ending;
use pcaphub_core::linktype::LinkType;

use self::keeper::{Keeper, Shelf};
use self::part::{Filled, Part};
pub(super) use self::spec::{KEYS, recording};
use super::{Context, Opening, Sink, SinkError};
use crate::clock::wall_clock;
use crate::event::Event;
use crate::pen::{Left, Pen};
use crate::plan::SinkSpec;
use crate::private::Replay;
use crate::recording::Recording;
use crate::source::Pending;
use crate::write::{Target, WhenFull, to_writer};

/// The clock may be set: how long it is trusted.
const TRUST: Duration = Duration::from_secs(60);

/// A directory that is ours, and what an earlier recorder left in it.
struct Recorder {
    shelf: Arc<Shelf>,
    leftovers: Vec<String>,
}

/// Makes and locks the directory.
pub(super) fn open(
    spec: &SinkSpec,
    recording: &Recording,
    opening: &Opening,
) -> Result<Box<dyn Sink>, SinkError> {
    let path = &recording.directory;
    let directory = opening.opener.directory(path).map_err(|error| {
        let symlink = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
        let what = match error.kind() {
            _ if symlink => "it is a symbolic link; name the directory itself",
            io::ErrorKind::ResourceBusy => {
                "another recorder is at work in this directory; give each one a directory of its own"
            }
            io::ErrorKind::NotFound => "cannot make the directory; the one that it is in has to be there",
            _ => "cannot record there",
        };
        SinkError::io(spec, what, &error)
    })?;
    if directory.is_shared().unwrap_or(false) {
        opening.events.emit(Event::RecordingShared { sink: &spec.name });
    }
    let names = |name: &str| recording.template.names(name);
    let part = |name: &str| recording.template.names_part(name);
    let listed = directory.list(&|name| names(name) || part(name));
    let listed = listed.map_err(|error| SinkError::io(spec, "cannot read the directory", &error))?;
    let (leftovers, mut kept): (Vec<_>, Vec<_>) = listed.into_iter().partition(|entry| part(&entry.name));
    kept.sort_by(|a, b| (a.modified, &a.name).cmp(&(b.modified, &b.name)));
    let leftovers = leftovers.into_iter().map(|entry| entry.name).collect();
    let shelf =
        Shelf::new(spec.name.clone(), recording.clone(), directory.into(), opening.events.clone(), kept);
    Ok(Box::new(Recorder { shelf: Arc::new(shelf), leftovers }))
}

impl Sink for Recorder {
    fn run(self: Box<Self>, context: Context) -> Pending<'static, Result<(), String>> {
        let replay = context.replay.present();
        let pen = replay.is_none().then(|| context.join(&self.shelf.sink));
        let (done, ended) = tokio::sync::oneshot::channel();
        let record = move || {
            let _ = done.send(self.record(&context, replay, pen));
        };
        let started = std::thread::Builder::new().name("sink".into()).spawn(record);
        Box::pin(async move {
            started.map_err(|error| format!("cannot start a thread: {error}"))?;
            ended.await.unwrap_or(Ok(()))
        })
    }
}

impl Recorder {
    /// All packets of the feed into files.
    fn record(self, context: &Context, replay: Option<Arc<Replay>>, pen: Option<Pen>) -> Result<(), String> {
        let sink = self.shelf.sink.clone();
        let failed = |error: &dyn std::fmt::Display| format!("{sink}: {error}");
        let recovery = recovery::start(self.shelf.clone(), self.leftovers, context.shutdown.clone());
        let keeper = Keeper::start(self.shelf.clone()).map_err(|error| failed(&error))?;
        let mut tape = Tape { shelf: self.shelf.clone(), keeper, linktype: None, part: None, files: 0 };
        let when_full = if context.alone { WhenFull::Wait } else { WhenFull::Forfeit };
        let on_full = &mut |full: Option<&io::Error>| context.full(&sink, full);
        let left = match (&replay, pen) {
            (Some(replay), _) => replay.pipe_to(&sink, &mut tape, when_full, on_full),
            (None, None) => Left::Feed(Ending::Ended),
            (None, Some(mut pen)) => loop {
                match to_writer(&mut pen, &mut tape, when_full, on_full) {
                    // Nothing was delivered yet: the right linktype is only known now.
                    Left::Feed(Ending::HeaderChanged) => pen = context.join(&sink),
                    left => break left,
                }
            },
        };
        let finished = tape.finish();
        if let Some(thread) = recovery {
            let _ = thread.join();
        }
        match left {
            Left::Peer(error) => Err(failed(&error)),
            Left::Feed(_) => finished.map_err(|error| failed(&error)),
        }
    }
}

/// The files of a recording as one thing that is written to.
struct Tape {
    shelf: Arc<Shelf>,
    keeper: Keeper,
    linktype: Option<LinkType>,
    part: Option<Part>,
    /// Files that have ended.
    files: u64,
}

impl Tape {
    fn open(&mut self, pen: &mut Pen) -> io::Result<()> {
        self.part = Some(Part::create(&self.shelf, wall_clock())?);
        pen.begin(self.linktype.unwrap_or(LinkType::ETHERNET));
        self.keeper.begun();
        Ok(())
    }

    /// Ends the file that is being written, as soon as the keeper has a hand free.
    fn end(&mut self, pen: &mut Pen) -> io::Result<()> {
        if self.part.is_some() {
            self.keeper.wait()?;
            pen.set_down();
            self.files += 1;
            self.part.take().into_iter().for_each(|part| self.keeper.take(part));
        }
        Ok(())
    }

    /// Everything is written: waits until it is on the disk.
    fn finish(self) -> Result<(), String> {
        let Tape { keeper, part, .. } = self;
        part.into_iter().for_each(|part| keeper.take(part));
        keeper.finish()
    }
}

impl Target for Tape {
    fn begin(&mut self, _: &mut Pen, linktype: LinkType) {
        // A file begins with its first packet: there are none that hold nothing.
        self.linktype = Some(linktype);
    }

    fn write(&mut self, pen: &mut Pen) -> io::Result<()> {
        self.look_after(pen)?;
        while !pen.is_empty() && !self.is_done() {
            self.shelf.check_room()?;
            if self.part.is_none() {
                self.open(pen)?;
            }
            let Some(part) = &mut self.part else { continue };
            let filled = part.write(pen, &self.shelf.recording.rotation);
            self.shelf.note_written(part.octets());
            if filled? == Filled::Full {
                self.end(pen)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.part.as_mut().map_or(Ok(()), Part::flush)
    }

    fn take_back(&mut self, pen: &mut Pen) -> io::Result<()> {
        self.part.as_mut().map_or(Ok(()), |part| part.take_back(pen))
    }

    fn look_after(&mut self, pen: &mut Pen) -> io::Result<Option<Duration>> {
        let Some(part) = &self.part else { return Ok(None) };
        let (rotation, now) = (self.shelf.recording.rotation, wall_clock());
        if rotation.is_over(part.began(), now, part.ahead()) {
            self.end(pen)?;
            return Ok(None);
        }
        Ok(rotation.until_over(now, part.ahead()).map(|time| time.min(TRUST)))
    }

    fn is_done(&self) -> bool {
        self.shelf.recording.files.is_some_and(|most| self.files >= most)
    }
}
