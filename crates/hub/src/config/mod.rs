//! The configuration file: TOML into a [`Plan`], with every error in it at once, and a plan back into TOML.
//!
//! One `[[source]]` or `[[sink]]` per endpoint, whose options are its keys, by the same tables and read by
//! the same functions as on the command line. Nothing here opens more than the file itself, starts a thread
//! or needs a runtime.

mod document;
mod endpoints;
mod fault;
mod file;
mod print;
mod settings;

use crate::conflicts::{Place, conflicts};
use crate::opener::{Opener, System};
use crate::plan::{Plan, PlanError};
use crate::source;

pub use endpoints::{LISTS, TEXTS};
pub use fault::{ConfigError, ConfigErrors, Fault};
pub use file::{LoadError, MAX_OCTETS, check, doubts, load};
pub use print::printed;
pub use settings::{LogFormat, LogLevel, SETTINGS, Setting, Table, limits};

use document::Document;
use endpoints::{Endpoints, Spot};

/// What a configuration file says.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the hub is to do.
    pub plan: Plan,
    /// How much is logged.
    pub log_level: LogLevel,
    /// How it is logged.
    pub log_format: LogFormat,
    /// Whether counts are printed as JSON.
    pub stats_json: bool,
    /// Who to become where root starts us, as `NAME[:GROUP]`; `None`: the default.
    pub user: Option<String>,
    /// What is odd and no error, to be told; `FILE:LINE:COLUMN: ` stands before it where it has a place.
    pub notes: Vec<String>,
    /// Where `user` stands.
    user_at: Option<(usize, usize)>,
    sources: Vec<(usize, usize)>,
    sinks: Vec<(usize, usize)>,
}

impl Default for Config {
    /// Nothing to do yet; everything else as where a file does not say it.
    fn default() -> Self {
        Config {
            plan: Plan::default(),
            log_level: LogLevel::Info,
            log_format: LogFormat::Text,
            stats_json: false,
            user: None,
            notes: Vec::new(),
            user_at: None,
            sources: Vec::new(),
            sinks: Vec::new(),
        }
    }
}

impl PartialEq for Config {
    /// Whether they say the same, wherever it stands.
    fn eq(&self, other: &Self) -> bool {
        let said =
            |config: &Config| (config.log_level, config.log_format, config.stats_json, config.user.clone());
        self.plan == other.plan && said(self) == said(other)
    }
}

impl Config {
    /// A configuration that was not read from a file.
    pub fn of(plan: Plan) -> Self {
        Config { plan, ..Config::default() }
    }

    /// Line and column of an endpoint in the file, from 1; `None` for one that was not read from a file.
    pub fn position(&self, place: Place) -> Option<(usize, usize)> {
        match place {
            Place::Source(index) => self.sources.get(index).copied(),
            Place::Sink(index) => self.sinks.get(index).copied(),
        }
    }
}

/// Whether filters are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// Each is compiled, by libpcap, which may look names up; one that does not compile is an error.
    Compile,
    /// They are taken as they are: for who only needs to know what is named.
    Keep,
}

/// Reads the text of a configuration file. Files that it names are looked at, not opened.
///
/// ```
/// let config = pcaphub::config::parse(
///     r#"
///     [[source]]
///     endpoint = "tcp://10.1.2.3"
///     name = "office"
///
///     [[sink]]
///     endpoint = "tcp-listen://0.0.0.0"
///     allow = ["192.168.1.0/24"]
///     "#,
/// )?;
/// assert_eq!(config.plan.sources.len(), 1);
///
/// let errors = pcaphub::config::parse("[[source]]\nendpoint = \"demo:\"\nrat = 5\n").unwrap_err();
/// assert!(errors.to_string().contains("3:1: unknown key \"rat\" in [[source]]"), "{errors}");
/// # Ok::<(), pcaphub::config::ConfigErrors>(())
/// ```
///
/// # Errors
/// All that is wrong with it.
pub fn parse(text: &str) -> Result<Config, ConfigErrors> {
    parse_with(text, &System, Filters::Compile)
}

/// The same, with an opener that looks at files, and with or without trying the filters.
///
/// # Errors
/// All that is wrong with it.
pub fn parse_with(text: &str, opener: &dyn Opener, filters: Filters) -> Result<Config, ConfigErrors> {
    let (text, told) = document::mended(text);
    let mut document = Document::parse(&text, told);
    let mut config = Config::default();
    let endpoints = document.read(&mut config, filters);
    if !document.is_whole() {
        // What stands in for a broken line says nothing of what is missing, or in each other's way.
        return document.done(config);
    }
    let Endpoints { sources, sinks, .. } = &endpoints;
    for (there, what, example) in [
        (endpoints.has_sources, "source", "tcp://10.1.2.3"),
        (endpoints.has_sinks, "sink", "tcp-listen://127.0.0.1"),
    ] {
        if !there {
            let why = format!("there is no {what}; add [[{what}]] and below it endpoint = \"{example}\"");
            document.refuse(0, PlanError::Refused(why));
        }
    }
    // What was refused by itself is missing here: only whole endpoints can be in each other's way.
    let mut looked = config.plan.clone();
    source::look(&mut looked.sources, opener);
    for conflict in conflicts(&looked, opener) {
        let spot = match conflict.place {
            Some(Place::Source(index)) => sources.get(index),
            Some(Place::Sink(index)) => sinks.get(index),
            None => None,
        };
        if let Some(spot) = spot {
            document.refuse(spot.of("endpoint"), conflict.error);
        }
    }
    let at = |spots: &[Spot]| spots.iter().map(|spot| document.position(spot.of("endpoint"))).collect();
    (config.sources, config.sinks) = (at(sources), at(sinks));
    document.done(config)
}
