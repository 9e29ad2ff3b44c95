//! What is wrong with a configuration file: every error with its line and column.

use std::fmt;

use thiserror::Error;

use super::settings::LogFormat;
use crate::escape::escaped;
use crate::plan::PlanError;

/// All errors of a file, in the order of their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    /// At least one.
    pub errors: Vec<ConfigError>,
    /// How the file wants to be logged, as far as it can be read: so is what is wrong with it.
    pub log_format: LogFormat,
}

/// One error of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// From 1.
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong at a place of a file. The operator's fault, always.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Fault {
    /// It is not TOML.
    #[error("{0}")]
    Syntax(String),
    /// A key that the table does not know.
    #[error("unknown key \"{key}\" in {table}{hint} Known are {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// `[[source]]`, `[limits]`, `the file`.
        table: String,
        /// What ends the sentence: what may have been meant, or a full stop.
        hint: String,
        /// What the table knows.
        known: String,
    },
    /// A value of a type that the key does not take.
    #[error("{key} is {found}, and takes {wanted}")]
    WrongType {
        /// The key, or the table.
        key: String,
        /// `a number`, `a list` …
        found: &'static str,
        /// What to write.
        wanted: String,
    },
    /// A value that cannot be read.
    #[error("{key} = {value}: {why}")]
    BadValue {
        /// The key.
        key: String,
        /// As it stands in the file.
        value: String,
        /// What it should be.
        why: String,
    },
    /// An endpoint that has options in its text.
    #[error("options of an endpoint are keys of their own here: end it before the `?`, and write {0}")]
    OptionInEndpoint(String),
    /// A table without `endpoint`.
    #[error("{table} has no endpoint; add endpoint = \"{example}\"")]
    NoEndpoint {
        /// `[[source]]` or `[[sink]]`.
        table: &'static str,
        /// One that fits.
        example: &'static str,
    },
    /// More endpoints than a file may have.
    #[error("more than {most} of {table}; further ones are not read", most = super::endpoints::MOST)]
    TooMany {
        /// `[[source]]` or `[[sink]]`.
        table: &'static str,
    },
    /// What is wrong on the command line, too.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The list is too long.
    #[error("and {0} more")]
    More(usize),
}

impl fmt::Display for ConfigError {
    /// One line, whatever the file has: names in it could forge others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, escaped(&self.fault.to_string(), usize::MAX))
    }
}

impl fmt::Display for ConfigErrors {
    /// A line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.errors.iter().map(ConfigError::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for ConfigErrors {}
