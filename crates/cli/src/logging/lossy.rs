//! Lines to standard error that never hold up who logs: a thread writes them, and what does not fit is left
//! out and counted.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tracing::Level;

use super::line::{Fields, Style};

/// Lines that wait for a slow reader of our standard error.
const LINES: usize = 1024;

/// Hands lines to a thread that writes them.
pub(super) struct Lines {
    sender: SyncSender<String>,
    /// Lines that found no place, and are not told of yet.
    lost: Arc<AtomicU64>,
}

/// The way in for [`flush`], and the way back.
static FLUSH: OnceLock<(SyncSender<String>, Mutex<Receiver<()>>)> = OnceLock::new();

impl Lines {
    /// Starts the thread.
    pub(super) fn to_stderr(style: Style) -> Self {
        let (sender, lines) = sync_channel::<String>(LINES);
        let (flushed, done) = sync_channel::<()>(1);
        let _ = FLUSH.set((sender.clone(), Mutex::new(done)));
        let lost = Arc::new(AtomicU64::new(0));
        let counted = lost.clone();
        let write = move || {
            for line in lines {
                // An empty one asks for an answer.
                if line.is_empty() {
                    let _ = flushed.try_send(());
                    continue;
                }
                // A line replaces what progress shows in its place.
                let clear = if style.terminal { "\r\x1b[K" } else { "" };
                let _ = io::stderr().write_all(format!("{clear}{line}").as_bytes());
                match counted.swap(0, Ordering::Relaxed) {
                    0 => {}
                    lost => {
                        let text = format!("{lost} lines of this log were lost: it was not read fast enough");
                        let line = style.line(Level::WARN, &Fields::message(&text), Timestamp::now());
                        let _ = io::stderr().write_all(line.as_bytes());
                    }
                }
            }
        };
        // Without the thread the channel fills up and every line is dropped.
        let _ = std::thread::Builder::new().name("log".into()).spawn(write);
        Lines { sender, lost }
    }

    /// Has a line written, if there is room for it.
    pub(super) fn push(&self, line: String) {
        if self.sender.try_send(line).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Waits until what was logged is written, at most a second.
pub(super) fn flush() {
    let Some((sender, done)) = FLUSH.get() else { return };
    if sender.try_send(String::new()).is_ok()
        && let Ok(done) = done.lock()
    {
        let _ = done.recv_timeout(Duration::from_secs(1));
    }
}
