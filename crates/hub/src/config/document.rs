//! A TOML document while it is read: where everything stands, and what was found to be wrong.

use std::borrow::Cow;
use std::collections::BTreeSet;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::fault::{ConfigError, ConfigErrors, Fault};
use super::settings::{self, LogFormat, SETTINGS, Table};
use super::{Config, Endpoints, Filters};
use crate::defaults::pace_all;
use crate::escape::escaped;
use crate::plan::PlanError;

/// Errors that are told of one file: more help nobody.
const MOST_ERRORS: usize = 100;
/// Lines that are left out so that what is below them can be read.
const MOST_MENDED: usize = 16;
/// What is shown of a key or a value, in octets.
const SHOWN: usize = 80;

/// A document, and what is wrong with it.
pub(super) struct Document<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<usize>,
    table: DeTable<'t>,
    faults: Vec<(usize, Fault)>,
    more: usize,
    /// Lines that are not TOML; something that can be read stands in for them in `table`.
    broken: BTreeSet<usize>,
    /// Whether a heading is among them: what stands below it is counted to the table before.
    heading_broken: bool,
}

impl<'t> Document<'t> {
    /// Takes a text apart. What is not TOML in it is told, and the rest can be read. `text` is the file's, or
    /// that without lines that had an error, which are `told`.
    pub(super) fn parse(text: &'t str, told: Vec<(usize, String)>) -> Self {
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let (table, errors) = DeTable::parse_recoverable(text);
        let table = table.into_inner();
        let (faults, broken) = (Vec::new(), BTreeSet::new());
        let mut document = Document { text, lines, table, faults, more: 0, broken, heading_broken: false };
        for (at, message) in told.into_iter().chain(errors.iter().map(|error| place(error, text))) {
            let (line, _) = document.position(at);
            // What follows in the same line is a consequence, most often.
            if document.broken.insert(line) {
                document.tell(at, Fault::Syntax(message));
                document.heading_broken |= document.line(line).trim_start().starts_with('[');
            }
        }
        document
    }

    /// Reads everything into `config`; where its endpoints stand.
    pub(super) fn read(&mut self, config: &mut Config, filters: Filters) -> Endpoints {
        let table = std::mem::take(&mut self.table);
        let mut endpoints = Endpoints::new(filters);
        let mut pace = None;
        for (key, value) in &table {
            let (name, at) = (key.get_ref().as_ref(), key.span().start);
            match name {
                "source" => endpoints.read_sources(self, value, &mut config.plan.sources),
                "sink" => endpoints.read_sinks(self, value, &mut config.plan.sinks),
                "limits" => self.settings(config, Table::Limits, value),
                "log" => self.settings(config, Table::Log, value),
                "web" => self.refuse(
                    at,
                    PlanError::NotBuilt {
                        what: "[web]".into(),
                        part: "the dashboard",
                        instead: "; send SIGUSR1 for the counts",
                    },
                ),
                "pace" => pace = self.option(name, value, settings::read_pace),
                _ => self.setting(config, Table::Top, name, at, value),
            }
        }
        if let Some(pace) = pace {
            pace_all(&pace, &mut config.plan.sources, &mut config.plan.sinks);
        }
        endpoints
    }

    /// The keys of a table of settings.
    fn settings(&mut self, config: &mut Config, table: Table, value: &Spanned<DeValue<'_>>) {
        let DeValue::Table(keys) = value.get_ref() else {
            let wanted = format!("keys of its own: write [{}] and keys below it", table.name());
            return self.wrong_type(table.name(), value, wanted);
        };
        for (key, value) in keys {
            self.setting(config, table, key.get_ref(), key.span().start, value);
        }
    }

    fn setting(
        &mut self,
        config: &mut Config,
        table: Table,
        name: &str,
        at: usize,
        value: &Spanned<DeValue<'_>>,
    ) {
        let Some(setting) = SETTINGS.iter().find(|setting| setting.table == table && setting.name == name)
        else {
            return self.unknown(name, at, &table.to_string(), &settings::known(table));
        };
        let Some(text) = self.text_of(name, value) else { return };
        if let Err(why) = (setting.set)(config, &text) {
            self.bad_value(name, value, why);
        }
        if name == "user" {
            config.user_at = Some(self.position(value.span().start));
        }
    }

    /// A value that `read` reads.
    fn option<T>(
        &mut self,
        key: &str,
        value: &Spanned<DeValue<'_>>,
        read: fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text_of(key, value)?;
        read(&text).map_err(|why| self.bad_value(key, value, why)).ok()
    }

    /// A value as the text of an option; says what is wrong where it cannot be one.
    pub(super) fn text_of(&mut self, key: &str, value: &Spanned<DeValue<'_>>) -> Option<String> {
        let text = super::endpoints::text_of(key, value.get_ref());
        if text.is_none() {
            let wanted = match (super::TEXTS.contains(&key), super::LISTS.contains(&key)) {
                (true, _) => "a text in quotes",
                (_, true) => "a text or a list of texts, in quotes",
                _ => "one value, a text in quotes",
            };
            self.wrong_type(key, value, wanted.into());
        }
        text
    }

    /// A value of a wrong type.
    pub(super) fn wrong_type(&mut self, key: &str, value: &Spanned<DeValue<'_>>, wanted: String) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.fault(value.span().start, Fault::WrongType { key: shown(key), found, wanted });
    }

    /// A value that cannot be read, shown as it stands in the file.
    pub(super) fn bad_value(&mut self, key: &str, value: &Spanned<DeValue<'_>>, why: String) {
        let written = self.text.get(value.span()).unwrap_or_default();
        self.fault(value.span().start, Fault::BadValue { key: shown(key), value: shown(written), why });
    }

    /// A key that a table does not know.
    pub(super) fn unknown(&mut self, key: &str, at: usize, table: &str, known: &[&str]) {
        let fault = Fault::UnknownKey {
            key: shown(key),
            table: table.to_owned(),
            hint: settings::hint(key, table, known),
            known: known.join(", "),
        };
        self.fault(at, fault);
    }

    /// Something that is wrong on the command line, too.
    pub(super) fn refuse(&mut self, at: usize, error: PlanError) {
        self.fault(at, Fault::Plan(error));
    }

    /// Something that is wrong at an offset.
    pub(super) fn fault(&mut self, at: usize, fault: Fault) {
        if !self.may_follow(at, &fault) {
            self.tell(at, fault);
        }
    }

    fn tell(&mut self, at: usize, fault: Fault) {
        if self.faults.len() < MOST_ERRORS {
            self.faults.push((at, fault));
        } else {
            self.more += 1;
        }
    }

    /// Whether it is nothing but the consequence of a line that is not TOML, for all we know.
    fn may_follow(&self, at: usize, fault: &Fault) -> bool {
        let certain = matches!(
            fault,
            Fault::UnknownKey { .. }
                | Fault::WrongType { .. }
                | Fault::BadValue { .. }
                | Fault::OptionInEndpoint(_)
        );
        let doubtful = || !certain || self.heading_broken || self.broken.contains(&self.position(at).0);
        !self.broken.is_empty() && doubtful()
    }

    /// A line, from 1.
    fn line(&self, number: usize) -> &'t str {
        let start = self.lines.get(number - 1).copied().unwrap_or(0);
        self.text.get(start..).and_then(|rest| rest.lines().next()).unwrap_or_default()
    }

    /// Whether all of it is TOML.
    pub(super) fn is_whole(&self) -> bool {
        self.broken.is_empty()
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_fine(&self) -> bool {
        self.faults.is_empty()
    }

    /// Line and column of an offset, from 1; the column in characters.
    pub(super) fn position(&self, at: usize) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at).max(1);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let before = self.text.get(start..at).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// The configuration, or what is wrong with it.
    pub(super) fn done(self, config: Config) -> Result<Config, ConfigErrors> {
        if self.is_fine() { Ok(config) } else { Err(self.errors(config.log_format)) }
    }

    fn errors(mut self, log_format: LogFormat) -> ConfigErrors {
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort_by_key(|(at, _)| *at);
        let error = |(at, fault)| {
            let (line, column) = self.position(at);
            ConfigError { line, column, fault }
        };
        let last = faults.last().map_or(0, |(at, _)| *at);
        let more = (self.more > 0).then_some((last, Fault::More(self.more)));
        ConfigErrors { errors: faults.into_iter().chain(more).map(error).collect(), log_format }
    }
}

/// Where an error is, and what it says.
fn place(error: &toml::de::Error, text: &str) -> (usize, String) {
    (error.span().map_or(text.len(), |span| span.start), error.message().to_owned())
}

/// A text without the lines at which reading would end: a key that has no value. With what is wrong in them;
/// all else stands where it stood.
pub(super) fn mended(text: &str) -> (Cow<'_, str>, Vec<(usize, String)>) {
    let mut mended = Cow::Borrowed(text);
    let mut told = Vec::new();
    while told.len() < MOST_MENDED {
        let (_, errors) = DeTable::parse_recoverable(&mended);
        let alone = errors.iter().map(|error| place(error, &mended)).find_map(|(at, message)| {
            let start = mended.get(..at)?.rfind('\n').map_or(0, |end| end + 1);
            let end = mended.get(at..)?.find('\n').map_or(mended.len(), |length| at + length);
            let line = mended.get(start..end)?;
            // One in which a value begins or ends would leave the rest of that behind.
            let is_alone = !line.trim().is_empty() && !line.contains(['=', '[', ']', '{', '}']);
            is_alone.then_some((start..end, at, message))
        });
        let Some((line, at, message)) = alone else { break };
        mended.to_mut().replace_range(line.clone(), &" ".repeat(line.len()));
        told.push((at, message));
    }
    (mended, told)
}

/// What is shown of what stands in the file.
pub(super) fn shown(text: &str) -> String {
    escaped(text, SHOWN)
}
