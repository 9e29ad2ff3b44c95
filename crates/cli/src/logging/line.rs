//! One line of the log, from what was logged.

use std::fmt;
use std::os::unix::fs::MetadataExt;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use pcaphub::escape::{escaped, escaped_json};
use serde_json::Value;
use tracing::Level;
use tracing::field::{Field, Visit};

use super::LogFormat;

/// The longest message and value, in characters. Messages cut what comes from outside to less.
const MOST: usize = 4000;

/// What was logged: a message, and values with names.
#[derive(Debug, Default)]
pub(super) struct Fields {
    message: String,
    values: Vec<(&'static str, Value)>,
}

impl Fields {
    /// A message alone.
    pub(super) fn message(text: &str) -> Self {
        Fields { message: text.to_owned(), values: Vec::new() }
    }

    /// Adds a value.
    pub(super) fn add(&mut self, name: &'static str, value: Value) {
        self.values.push((name, value));
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let text = format!("{value:?}");
        match field.name() {
            "message" => self.message = text,
            name => self.add(name, cut(&text).into()),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = value.to_owned(),
            name => self.add(name, cut(value).into()),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }
}

fn cut(text: &str) -> &str {
    text.char_indices().nth(MOST).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// How lines look.
#[derive(Debug, Clone)]
pub(super) struct Style {
    pub(super) format: LogFormat,
    /// Whether standard error is a terminal, with a line of progress to write over.
    pub(super) terminal: bool,
    when: When,
    colour: bool,
}

/// What a line begins with.
#[derive(Debug, Clone)]
enum When {
    /// The time of day, where somebody watches.
    Day(TimeZone),
    /// Date and time in UTC, to be compared with other hosts' and other days'.
    Date,
    /// The priority for the journal, which knows the time itself.
    Journal,
}

impl Style {
    /// As it suits what standard error is.
    pub(super) fn of_stderr(format: LogFormat) -> Self {
        let terminal = rustix::termios::isatty(std::io::stderr());
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let when = match terminal {
            // Asked for now: later the process may see fewer files.
            true => When::Day(TimeZone::system()),
            false if is_journal() => When::Journal,
            false => When::Date,
        };
        Style { format, terminal, when, colour: terminal && !dumb && !set("NO_COLOR") }
    }

    /// A line, with its end.
    pub(super) fn line(&self, level: Level, fields: &Fields, now: Timestamp) -> String {
        match self.format {
            LogFormat::Text => self.text(level, fields, now),
            LogFormat::Json => self.json(level, fields, now),
        }
    }

    /// A line that is not of the log, as commands say why they end.
    pub(super) fn bare(&self, level: Level, text: &str) -> String {
        format!("{}{}\n", self.priority(level), escaped(text, MOST))
    }

    fn text(&self, level: Level, fields: &Fields, now: Timestamp) -> String {
        let message = escaped(&fields.message, MOST);
        let (dim, colour, plain) = match self.colour {
            true => ("\x1b[2m", colour(level), "\x1b[0m"),
            false => ("", "", ""),
        };
        let values = match fields.values.iter().any(|(name, _)| *name == "event") {
            // Its message has them all.
            true => String::new(),
            false => self.values(fields),
        };
        match &self.when {
            When::Journal => format!("{}{message}{values}\n", self.priority(level)),
            When::Day(zone) => {
                let time = now.to_zoned_datetime(zone.clone()).strftime("%H:%M:%S").to_string();
                format!("{dim}{time}{plain} {colour}{level:>5}{plain} {message}{values}\n")
            }
            When::Date => format!("{now:.3} {level:>5} {message}{values}\n"),
        }
    }

    fn values(&self, fields: &Fields) -> String {
        let value = |(name, value): &(&str, Value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            format!(" {name}={}", escaped(&text, MOST))
        };
        fields.values.iter().map(value).collect()
    }

    /// What can be in a string is escaped by JSON's rules, and by ours for terminals.
    fn json(&self, level: Level, fields: &Fields, now: Timestamp) -> String {
        let text = |text: &str| Value::from(text).to_string();
        let mut line = format!(
            "{{\"timestamp\":{},\"level\":{},\"message\":{}",
            text(&format!("{now:.6}")),
            text(level.as_str()),
            text(cut(&fields.message)),
        );
        for (name, value) in &fields.values {
            line += &format!(",{}:{value}", text(name));
        }
        format!("{}{}}}\n", self.priority(level), escaped_json(&line))
    }

    /// The journal takes it off the line, and shows the line by it.
    fn priority(&self, level: Level) -> &'static str {
        match (&self.when, level) {
            (When::Day(_) | When::Date, _) => "",
            (When::Journal, Level::ERROR) => "<3>",
            (When::Journal, Level::WARN) => "<4>",
            (When::Journal, Level::INFO) => "<6>",
            (When::Journal, _) => "<7>",
        }
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        _ => "\x1b[34m",
    }
}

/// Whether standard error is the journal's: it says which file that is, for who redirects it.
fn is_journal() -> bool {
    let Some(named) = std::env::var_os("JOURNAL_STREAM") else { return false };
    let Ok(ours) = std::fs::metadata("/proc/self/fd/2") else { return false };
    named.to_str() == Some(&format!("{}:{}", ours.dev(), ours.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment for all of them.
    fn now() -> Timestamp {
        "2026-11-24T19:05:42.1234567Z".parse().unwrap()
    }

    fn style(format: LogFormat, when: When, colour: bool) -> Style {
        Style { format, terminal: colour, when, colour }
    }

    fn line(style: &Style, text: &str) -> String {
        style.line(Level::WARN, &Fields::message(text), now())
    }

    #[test]
    fn a_terminal_gets_the_time_of_day_and_colour() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let colour = style(LogFormat::Text, When::Day(zone.clone()), true);
        assert_eq!(line(&colour, "odd"), "\x1b[2m21:05:42\x1b[0m \x1b[33m WARN\x1b[0m odd\n");
        let plain = style(LogFormat::Text, When::Day(zone), false);
        assert_eq!(line(&plain, "odd"), "21:05:42  WARN odd\n");
    }

    #[test]
    fn a_file_gets_date_and_time() {
        let file = style(LogFormat::Text, When::Date, false);
        assert_eq!(line(&file, "odd"), "2026-11-24T19:05:42.123Z  WARN odd\n");
    }

    #[test]
    fn the_journal_gets_its_priority_and_no_time() {
        let journal = style(LogFormat::Text, When::Journal, false);
        assert_eq!(line(&journal, "odd"), "<4>odd\n");
        assert_eq!(journal.bare(Level::ERROR, "pcaphub: cannot"), "<3>pcaphub: cannot\n");
        assert!(line(&style(LogFormat::Json, When::Journal, false), "odd").starts_with("<4>{\"timestamp\":"));
    }

    #[test]
    fn whatever_is_logged_is_one_line_that_steers_nothing() {
        let hostile: String = (0..0x3000).filter_map(char::from_u32).collect();
        for when in [When::Date, When::Journal, When::Day(TimeZone::UTC)] {
            let line = line(&style(LogFormat::Text, when, false), &hostile);
            let text = line.strip_suffix('\n').unwrap();
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(!text.contains(['\u{202e}', '\u{200b}', '\u{2066}']));
        }
    }

    #[test]
    fn json_is_valid_whatever_is_logged() {
        let hostile: String = (0..0x3000).filter_map(char::from_u32).collect();
        let mut fields = Fields::message(&hostile);
        fields.add("client", hostile.as_str().into());
        fields.add("packets", 7.into());
        let line = style(LogFormat::Json, When::Date, false).line(Level::INFO, &fields, now());
        let text = line.strip_suffix('\n').unwrap();
        assert!(!text.chars().any(|c| c.is_control() || c == '\u{202e}'));
        let object: Value = serde_json::from_str(text).unwrap();
        assert_eq!(object["timestamp"], "2026-11-24T19:05:42.123456Z");
        assert_eq!(object["level"], "INFO");
        assert_eq!(object["packets"], 7);
        assert_eq!(object["client"], hostile.as_str());
        assert_eq!(object["message"], cut(&hostile));
    }
}
