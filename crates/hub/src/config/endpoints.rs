//! `[[source]]` and `[[sink]]`: an endpoint, and its options as keys.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Filters;
use super::document::Document;
use super::fault::Fault;
use crate::endpoint::{Endpoint, EndpointError, Scheme};
use crate::filter;
use crate::plan::{self, Key, PlanError, SinkSpec, SourceSpec};
use crate::sink::{self, SINKS};
use crate::source::{self, SHAPING, SOURCES};

/// Sources, and sinks, that a file may have.
pub(super) const MOST: usize = 1024;

/// Keys that take any text, which is therefore always in quotes.
pub const TEXTS: &[&str] = &["name", "filter", "endpoint", "cert", "key", "ca", "client-ca", "user"];

/// Keys that take several values, as a list or with commas between them.
pub const LISTS: &[&str] = &["allow", "deny", "pin"];

/// Where the endpoints of a plan stand in the file.
pub(super) struct Endpoints {
    filters: Filters,
    pub(super) sources: Vec<Spot>,
    pub(super) sinks: Vec<Spot>,
    /// Whether there are any at all, good or not.
    pub(super) has_sources: bool,
    pub(super) has_sinks: bool,
}

/// Where an endpoint and its options stand.
pub(super) struct Spot {
    table: usize,
    values: Vec<(String, usize)>,
}

impl Spot {
    /// Where the value of a key stands, else the endpoint's table.
    pub(super) fn of(&self, key: &str) -> usize {
        self.values.iter().find(|(name, _)| name == key).map_or(self.table, |(_, at)| *at)
    }
}

/// What sources and sinks have different.
struct Side<S> {
    /// `source` or `sink`.
    word: &'static str,
    table: &'static str,
    example: &'static str,
    /// Stands in for an endpoint that cannot be read, so that its other keys are.
    any: Scheme,
    keys: fn(Scheme) -> Option<Vec<&'static str>>,
    spec: fn(Endpoint) -> Result<S, PlanError>,
}

const SOURCE: Side<SourceSpec> = Side {
    word: "source",
    table: "[[source]]",
    example: "tcp://10.1.2.3",
    any: Scheme::Demo,
    keys: source_keys,
    spec: source::spec,
};

const SINK: Side<SinkSpec> = Side {
    word: "sink",
    table: "[[sink]]",
    example: "tcp-listen://127.0.0.1",
    any: Scheme::Null,
    keys: sink_keys,
    spec: sink::spec,
};

/// Keys of a source of a scheme; `None` where there is no such source.
pub(super) fn source_keys(scheme: Scheme) -> Option<Vec<&'static str>> {
    let kind = SOURCES.iter().find(|kind| kind.scheme == scheme)?;
    Some(names(&[source::COMMON, kind.keys]))
}

/// Keys of a sink of a scheme; `None` where there is no such sink.
pub(super) fn sink_keys(scheme: Scheme) -> Option<Vec<&'static str>> {
    let kind = SINKS.iter().find(|kind| kind.scheme == scheme)?;
    Some(names(&[sink::COMMON, SHAPING, kind.keys]))
}

fn names(keys: &[&[Key]]) -> Vec<&'static str> {
    let mut names: Vec<_> = keys.iter().flat_map(|keys| keys.iter().map(|key| key.name)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Endpoints {
    /// None yet.
    pub(super) fn new(filters: Filters) -> Self {
        Endpoints { filters, sources: Vec::new(), sinks: Vec::new(), has_sources: false, has_sinks: false }
    }

    pub(super) fn read_sources(
        &mut self,
        document: &mut Document<'_>,
        value: &Spanned<DeValue<'_>>,
        specs: &mut Vec<SourceSpec>,
    ) {
        self.has_sources = !is_empty(value);
        SOURCE.read(document, value, self.filters, specs, &mut self.sources);
    }

    pub(super) fn read_sinks(
        &mut self,
        document: &mut Document<'_>,
        value: &Spanned<DeValue<'_>>,
        specs: &mut Vec<SinkSpec>,
    ) {
        self.has_sinks = !is_empty(value);
        SINK.read(document, value, self.filters, specs, &mut self.sinks);
    }
}

impl<S> Side<S> {
    /// Reads all endpoints of one side.
    fn read(
        &self,
        document: &mut Document<'_>,
        value: &Spanned<DeValue<'_>>,
        filters: Filters,
        specs: &mut Vec<S>,
        spots: &mut Vec<Spot>,
    ) {
        let wanted = || format!("a table for each: write {} and keys below it", self.table);
        let DeValue::Array(tables) = value.get_ref() else {
            return document.wrong_type(self.word, value, wanted());
        };
        for (number, table) in tables.iter().enumerate() {
            let at = table.span().start;
            if number == MOST {
                return document.fault(at, Fault::TooMany { table: self.table });
            }
            let DeValue::Table(keys) = table.get_ref() else {
                document.wrong_type(self.word, table, wanted());
                continue;
            };
            if let Some((spec, spot)) = self.endpoint(document, keys, at, filters) {
                specs.push(spec);
                spots.push(spot);
            }
        }
    }

    /// Reads one endpoint; all that is wrong with it is told.
    fn endpoint(
        &self,
        document: &mut Document<'_>,
        table: &DeTable<'_>,
        at: usize,
        filters: Filters,
    ) -> Option<(S, Spot)> {
        let written = table.iter().find(|(key, _)| key.get_ref() == "endpoint").map(|(_, value)| value);
        let endpoint = match written {
            Some(value) => self.address(document, value),
            None => {
                document.fault(at, Fault::NoEndpoint { table: self.table, example: self.example });
                None
            }
        };
        let readable = endpoint.is_some();
        let any = || Endpoint { scheme: self.any, address: String::new(), options: Vec::new() };
        let mut endpoint = endpoint.unwrap_or_else(any);
        let bare = endpoint.options.is_empty();
        endpoint.options.clear();
        let known = (self.keys)(endpoint.scheme);
        let mut values = Vec::new();
        for (key, value) in table {
            let name = key.get_ref().as_ref();
            let understood = match &known {
                _ if name == "endpoint" => continue,
                // Of another kind, perhaps; which one is not known.
                Some(known) if !readable && !known.contains(&name) => continue,
                Some(known) => known.contains(&name) || plan::is_planned(name),
                // The scheme itself is refused.
                None => continue,
            };
            if !understood {
                let mut known = known.clone().unwrap_or_default();
                known.insert(0, "endpoint");
                document.unknown(name, key.span().start, self.table, &known);
            } else if let Some(text) = document.text_of(name, value) {
                if name == "filter" && filters == Filters::Compile {
                    let refused = filter::compiled(&endpoint.to_string(), &text).err();
                    refused.into_iter().for_each(|error| document.refuse(value.span().start, error));
                }
                endpoint.options.push((name.to_owned(), text));
                values.push((name.to_owned(), value));
            }
        }
        let spec = self.spec(document, endpoint, &values, written.map_or(at, |value| value.span().start))?;
        let mut values: Vec<_> = values.into_iter().map(|(name, value)| (name, value.span().start)).collect();
        values.extend(written.map(|value| ("endpoint".to_owned(), value.span().start)));
        (readable && bare).then_some((spec, Spot { table: at, values }))
    }

    /// The value of `endpoint`; with options, of which it must have none.
    fn address(&self, document: &mut Document<'_>, value: &Spanned<DeValue<'_>>) -> Option<Endpoint> {
        let text = document.text_of("endpoint", value)?;
        let at = value.span().start;
        match Endpoint::parse(&text) {
            Ok(endpoint) if endpoint.options.is_empty() => Some(endpoint),
            Ok(endpoint) => {
                let key =
                    |(key, value): &(String, String)| format!("{key} = {}", super::print::quoted(value));
                let keys: Vec<_> = endpoint.options.iter().map(key).collect();
                document.fault(at, Fault::OptionInEndpoint(super::document::shown(&keys.join(", "))));
                Some(endpoint)
            }
            Err(EndpointError::NoValue { option, .. } | EndpointError::Doubled { option, .. }) => {
                let key = super::document::shown(&option);
                document.fault(at, Fault::OptionInEndpoint(format!("{key} = \"…\"")));
                None
            }
            Err(error) => {
                document.refuse(at, error.into());
                None
            }
        }
    }

    /// The endpoint with its options. They are read together, and the first wrong one is told: so they
    /// are read again without it, until none is left that is wrong.
    fn spec(
        &self,
        document: &mut Document<'_>,
        mut endpoint: Endpoint,
        values: &[(String, &Spanned<DeValue<'_>>)],
        at: usize,
    ) -> Option<S> {
        let mut wrong = false;
        loop {
            let error = match (self.spec)(endpoint.clone()) {
                Ok(spec) => return (!wrong).then_some(spec),
                Err(error) => error,
            };
            wrong = true;
            let blamed = match &error {
                PlanError::BadValue { key, .. } | PlanError::UnknownOption { key, .. } => Some(key.clone()),
                PlanError::NotBuilt { what, .. } => values
                    .iter()
                    .map(|(name, _)| name)
                    .find(|name| what.ends_with(&format!(": {name}=")))
                    .cloned(),
                _ => None,
            };
            let Some((name, value)) = blamed.and_then(|key| values.iter().find(|(name, _)| *name == key))
            else {
                document.refuse(at, error);
                return None;
            };
            match error {
                PlanError::BadValue { why, .. } => document.bad_value(name, value, why),
                error => document.refuse(value.span().start, error),
            }
            let before = endpoint.options.len();
            endpoint.options.retain(|(key, _)| key != name);
            if endpoint.options.len() == before {
                return None;
            }
        }
    }
}

/// Whether it is `[]`.
fn is_empty(value: &Spanned<DeValue<'_>>) -> bool {
    matches!(value.get_ref(), DeValue::Array(items) if items.is_empty())
}

/// A value as the text of an option; `None` where its type is none that the key takes.
pub(super) fn text_of(key: &str, value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Array(items) if LISTS.contains(&key) => {
            let items: Option<Vec<_>> = items.iter().map(|item| item.get_ref().as_str()).collect();
            items.map(|items| items.join(","))
        }
        _ if TEXTS.contains(&key) => None,
        DeValue::Integer(number) => {
            let value = i128::from_str_radix(number.as_str(), number.radix());
            Some(value.map_or_else(|_| number.as_str().to_owned(), |value| value.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(true) => Some("yes".into()),
        DeValue::Boolean(false) => Some("no".into()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
