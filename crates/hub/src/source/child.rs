//! A child process of ours: its group is ended with us, its stderr is shown, made safe.

use std::io::{BufRead, BufReader, Read};
use std::process::{ChildStderr, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::Signal;
use tokio::runtime::RuntimeFlavor;

use crate::event::{Event, Events};
use crate::opener::{Process, Spawned};
use crate::shutdown::{Phase, Shutdown};

/// Lines of a child's stderr that are shown in a second; a child in trouble says it at once, and
/// one that floods says nothing new.
const LINES_PER_SECOND: u32 = 10;
/// The longest line that is collected, in octets.
const LINE: u64 = 1000;
/// How long a child gets to end after SIGTERM.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked after meanwhile.
const TICK: Duration = Duration::from_millis(20);

/// A running child. Dropping it ends its whole process group: SIGTERM, and SIGKILL 2 s later, or at
/// once if the hub is stopping.
pub struct Child {
    process: Option<Box<dyn Process>>,
    name: Arc<str>,
    events: Events,
    shutdown: Shutdown,
}

impl Child {
    /// Looks after a process that was just started.
    pub fn new(spawned: Spawned, name: Arc<str>, events: Events, shutdown: Shutdown) -> Self {
        if let Some(stderr) = spawned.stderr {
            show(stderr, name.clone(), events.clone());
        }
        Child { process: Some(spawned.process), name, events, shutdown }
    }

    /// Its status, once its output has ended; a child that lingers is ended.
    pub async fn ended(mut self) -> Option<ExitStatus> {
        // While this waits, the process stays ours: dropping the future ends it like dropping us.
        let until = Instant::now() + GRACE;
        while Instant::now() < until && matches!(self.process.as_mut()?.try_wait(), Ok(None)) {
            tokio::time::sleep(TICK).await;
        }
        let process = self.process.take()?;
        let status = in_place(|| reap(process, &self.shutdown));
        if let Some(status) = status {
            self.events.emit(Event::ChildExited { command: &self.name, status: &status.to_string() });
        }
        status
    }
}

impl Child {
    /// Its status, however long it takes: it may still be at work on what it was given.
    pub async fn finished(mut self) -> Option<ExitStatus> {
        while let Some(process) = &mut self.process {
            match process.try_wait() {
                Ok(None) => tokio::time::sleep(TICK).await,
                status => {
                    self.process = None;
                    return status.ok().flatten();
                }
            }
        }
        None
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let Some(process) = self.process.take() else { return };
        in_place(|| reap(process, &self.shutdown));
    }
}

/// Waits for one child only: other tasks of the worker on which this happens go on.
fn in_place<R>(wait: impl FnOnce() -> R) -> R {
    match tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(wait),
        _ => wait(),
    }
}

/// Asks a child to end if it has not, then insists.
fn reap(mut process: Box<dyn Process>, shutdown: &Shutdown) -> Option<ExitStatus> {
    let status = wait(process.as_mut(), shutdown, Duration::ZERO).or_else(|| {
        process.signal(Signal::TERM);
        wait(process.as_mut(), shutdown, GRACE)
    });
    // Also where the child itself is gone: it may have left others in its group.
    process.signal(Signal::KILL);
    status.or_else(|| process.wait().ok())
}

fn wait(process: &mut dyn Process, shutdown: &Shutdown, time: Duration) -> Option<ExitStatus> {
    let until = Instant::now() + time;
    loop {
        if let Ok(Some(status)) = process.try_wait() {
            return Some(status);
        }
        if Instant::now() >= until || shutdown.phase() == Phase::Stopping {
            return None;
        }
        std::thread::sleep(TICK);
    }
}

/// Shows what a child says, on a thread of its own, for as long as its stderr is open.
fn show(stderr: ChildStderr, name: Arc<str>, events: Events) {
    let lines = move || {
        let mut reader = BufReader::new(stderr);
        let (mut second, mut shown, mut suppressed) = (Instant::now(), 0, 0);
        let mut line = Vec::new();
        let tell = |lines| events.emit(Event::ChildSuppressed { source: &name, lines });
        loop {
            // It may never say anything again to which the number could be added.
            if suppressed > 0 && reader.buffer().is_empty() && is_silent(reader.get_ref(), second) {
                tell(std::mem::take(&mut suppressed));
            }
            match (&mut reader).take(LINE).read_until(b'\n', &mut line) {
                Ok(n) if n > 0 => {}
                _ if suppressed > 0 => return tell(suppressed),
                _ => return,
            }
            if second.elapsed() >= Duration::from_secs(1) {
                (second, shown) = (Instant::now(), 0);
            }
            if shown < LINES_PER_SECOND {
                let text = String::from_utf8_lossy(&line);
                events.emit(Event::ChildSaid { source: &name, line: text.trim_end(), suppressed });
                (shown, suppressed) = (shown + 1, 0);
            } else {
                suppressed += 1;
            }
            line.clear();
        }
    };
    // Without the thread the child's words are lost, which is no reason to stop.
    let _ = std::thread::Builder::new().name("child stderr".into()).spawn(lines);
}

/// Whether a child says nothing until a second is over that began then.
fn is_silent(stderr: &ChildStderr, began: Instant) -> bool {
    let rest = Duration::from_secs(1).saturating_sub(began.elapsed());
    let Ok(rest) = rustix::event::Timespec::try_from(rest) else { return false };
    let mut stderr = [PollFd::new(stderr, PollFlags::IN)];
    matches!(rustix::event::poll(&mut stderr, Some(&rest)), Ok(0))
}

/// A command line into its words, by the rules of POSIX quoting, without a shell.
///
/// # Errors
/// What is wrong with the quoting.
pub fn split_command(text: &str) -> Result<Vec<String>, String> {
    let words = shell_words::split(text).map_err(|error| format!("`{text}`: {error}"))?;
    if words.is_empty() { Err("the command is empty".into()) } else { Ok(words) }
}
