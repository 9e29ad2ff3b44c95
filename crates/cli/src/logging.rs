//! Logs on standard error: lines for people, or JSON.

use tracing_subscriber::filter::LevelFilter;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Sends events to standard error. `verbosity` 0 shows who came and went; negative is quieter.
pub(crate) fn start(format: LogFormat, verbosity: i8) {
    let level = match verbosity {
        ..=-2 => LevelFilter::ERROR,
        -1 => LevelFilter::WARN,
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // A log pipe that nobody reads must never hold up packets: what does not fit is dropped.
    let (writer, guard) = lossy::stderr();
    let builder = tracing_subscriber::fmt().with_max_level(level).with_writer(writer);
    match format {
        LogFormat::Json => builder.json().with_target(false).init(),
        LogFormat::Text => builder.with_target(false).with_ansi(guard.terminal).without_time().init(),
    }
}

mod lossy {
    use std::io::{self, Write};
    use std::sync::mpsc::{SyncSender, sync_channel};
    use std::sync::{Mutex, OnceLock};

    use tracing_subscriber::fmt::MakeWriter;

    /// Lines that wait for a slow reader of our standard error.
    const LINES: usize = 1024;

    /// What is known of standard error.
    pub(super) struct Stderr {
        pub(super) terminal: bool,
    }

    /// Hands lines to a thread that writes them.
    #[derive(Clone)]
    pub(super) struct Lines(SyncSender<Vec<u8>>);

    static FLUSHED: OnceLock<Mutex<std::sync::mpsc::Receiver<()>>> = OnceLock::new();

    /// A writer that never waits.
    pub(super) fn stderr() -> (Lines, Stderr) {
        let (sender, lines) = sync_channel::<Vec<u8>>(LINES);
        let (flushed, done) = sync_channel::<()>(1);
        let _ = FLUSHED.set(Mutex::new(done));
        let terminal = rustix::termios::isatty(io::stderr());
        // A line replaces what progress shows in its place.
        let clear: &[u8] = if terminal { b"\r\x1b[K" } else { b"" };
        let write = move || {
            for line in lines {
                if line.is_empty() {
                    let _ = flushed.try_send(());
                } else {
                    let _ = io::stderr().write_all(&[clear, &line].concat());
                }
            }
        };
        // Without the thread the channel fills up and every line is dropped.
        let _ = std::thread::Builder::new().name("log".into()).spawn(write);
        let _ = SENDER.set(sender.clone());
        (Lines(sender), Stderr { terminal })
    }

    static SENDER: OnceLock<SyncSender<Vec<u8>>> = OnceLock::new();

    /// Waits until what was logged is written, at most a second.
    pub(super) fn flush() {
        let Some(sender) = SENDER.get() else { return };
        if sender.try_send(Vec::new()).is_ok()
            && let Some(done) = FLUSHED.get()
            && let Ok(done) = done.lock()
        {
            let _ = done.recv_timeout(std::time::Duration::from_secs(1));
        }
    }

    impl Write for Lines {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            let _ = self.0.try_send(line.to_vec());
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Lines;

        fn make_writer(&'a self) -> Lines {
            self.clone()
        }
    }
}

/// Waits until what was logged is written, at most a second.
pub(crate) fn flush() {
    lossy::flush();
}
