//! A line on the terminal while the hub runs: packets, rate, clients, drops. Only where standard
//! error is a terminal; silent otherwise.

use std::io::Write;
use std::time::{Duration, Instant};

use pcaphub::stats::{Books, Report};

/// How often the line is renewed.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows progress until dropped.
pub(crate) struct Progress {
    task: tokio::task::JoinHandle<()>,
}

/// Starts showing, if there is a terminal to show it on.
pub(crate) fn start(books: Books, quiet: bool) -> Option<Progress> {
    let terminal = rustix::termios::isatty(std::io::stderr());
    (terminal && !quiet).then(|| Progress { task: tokio::spawn(show(books)) })
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.task.abort();
        let _ = write!(std::io::stderr(), "\r\x1b[K");
    }
}

async fn show(books: Books) {
    let mut rate = Rate::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        let line = rate.line(&books.report());
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}\r");
    }
}

/// Packets per second, from one report to the next.
pub(crate) struct Rate {
    decoded: u64,
    since: Instant,
}

impl Rate {
    /// From now on.
    pub(crate) fn new() -> Self {
        Rate { decoded: 0, since: Instant::now() }
    }

    /// How it goes, in a line of numbers alone.
    pub(crate) fn line(&mut self, report: &Report) -> String {
        let (decoded, seconds) = (report.decoded(), self.since.elapsed().as_secs_f64());
        let rate = decoded.saturating_sub(self.decoded) as f64 / seconds.max(f64::EPSILON);
        *self = Rate { decoded, since: Instant::now() };
        let dropped: u64 = report.dropped().values().sum();
        let clients = report.clients;
        let noun = if clients == 1 { "client" } else { "clients" };
        format!("{decoded} packets, {rate:.0}/s, {clients} {noun}, {dropped} dropped")
    }
}
