//! Messages on standard error: lines for people, or one JSON object a line.
//!
//! On a terminal a line begins with the time of day and has colour (unless `NO_COLOR` is set); in a file or
//! pipe with date and time in UTC; under the journal with the priority that it understands, and no time,
//! since the journal has its own. No line has anything in it that could steer a terminal, whatever was
//! logged. Nothing ever waits for who reads them: what does not fit is left out, counted, and told.

mod line;
mod lossy;

use std::io::Write;
use std::sync::{OnceLock, PoisonError, RwLock};

use jiff::Timestamp;
use serde_json::Value;
use tracing::level_filters::LevelFilter;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use line::{Fields, Style};
use lossy::Lines;

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged can be changed while it is.
static LEVEL: OnceLock<reload::Handle<Targets, Registry>> = OnceLock::new();

/// How lines look, once logging has started.
static STYLE: RwLock<Option<Style>> = RwLock::new(None);

/// How lines will look; for what is told before logging starts, and while it can still be seen where they go.
pub(crate) fn dress(format: LogFormat) {
    *STYLE.write().unwrap_or_else(PoisonError::into_inner) = Some(Style::of_stderr(format));
}

/// Sends events to standard error. `verbosity` 0 shows who came and went; negative is quieter.
pub(crate) fn start(format: LogFormat, verbosity: i8) {
    if STYLE.read().unwrap_or_else(PoisonError::into_inner).is_none() {
        dress(format);
    }
    let style = style();
    let (level, handle) = reload::Layer::new(targets(verbosity));
    let _ = LEVEL.set(handle);
    let lines = Lines::to_stderr(style.clone());
    let sink = Sink { style, lines }.with_filter(level);
    tracing_subscriber::registry().with(sink).init();
}

/// Logs more or less from now on.
pub(crate) fn set_verbosity(verbosity: i8) {
    if let Some(handle) = LEVEL.get() {
        // Fails only where there is no subscriber any more.
        let _ = handle.reload(targets(verbosity));
    }
}

/// Waits until what was logged is written, at most a second.
pub(crate) fn flush() {
    lossy::flush();
}

/// Tells why the process ends, or what is odd before it begins: at once, and also where nothing is logged.
pub(crate) fn tell(level: Level, text: &str) {
    let style = style();
    let line = match style.format {
        LogFormat::Json => {
            let text = text.strip_prefix("pcaphub: ").unwrap_or(text);
            style.line(level, &Fields::message(text), Timestamp::now())
        }
        LogFormat::Text => style.bare(level, text),
    };
    flush();
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Logs a line at once, also from a process that has no logging of its own.
#[cfg(target_os = "linux")]
pub(crate) fn log(level: Level, text: &str) {
    let line = style().line(level, &Fields::message(text), Timestamp::now());
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether all of standard error is JSON.
pub(crate) fn is_json() -> bool {
    style().format == LogFormat::Json
}

/// Tells counts as a line of the log.
pub(crate) fn tell_counts(counts: Value) {
    let mut fields = Fields::message("counts");
    fields.add("counts", counts);
    flush();
    let _ = std::io::stderr().write_all(style().line(Level::INFO, &fields, Timestamp::now()).as_bytes());
}

/// How lines look, also before logging has started.
fn style() -> Style {
    let style = STYLE.read().unwrap_or_else(PoisonError::into_inner).clone();
    style.unwrap_or_else(|| Style::of_stderr(LogFormat::Text))
}

/// What is logged: ours, at this level. What libraries say of themselves is for their developers.
fn targets(verbosity: i8) -> Targets {
    let level = match verbosity {
        ..=-2 => LevelFilter::ERROR,
        -1 => LevelFilter::WARN,
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_target("pcaphub", level)
}

/// Makes each event a line.
struct Sink {
    style: Style,
    lines: Lines,
}

impl<S: Subscriber> Layer<S> for Sink {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        self.lines.push(self.style.line(*event.metadata().level(), &fields, Timestamp::now()));
    }
}
