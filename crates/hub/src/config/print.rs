//! A configuration as the text of a file that says the same.

use super::Config;
use super::endpoints::{LISTS, TEXTS};
use super::settings::{SETTINGS, Table};
use crate::endpoint::Endpoint;

/// The text of a file that [`parse`](super::parse) reads as this configuration. What is as it would be
/// without being said is left out.
pub fn printed(config: &Config) -> String {
    let mut text = String::new();
    for table in [Table::Top, Table::Limits, Table::Log] {
        settings(config, table, &mut text);
    }
    for spec in &config.plan.sources {
        endpoint("source", &spec.endpoint, &mut text);
    }
    for spec in &config.plan.sinks {
        endpoint("sink", &spec.endpoint, &mut text);
    }
    text
}

/// The settings of one table that are not the default.
fn settings(config: &Config, table: Table, text: &mut String) {
    let default = Config::default();
    let mut first = true;
    for setting in SETTINGS.iter().filter(|setting| setting.table == table) {
        let Some(value) = (setting.shown)(config) else { continue };
        if (setting.shown)(&default).as_ref() == Some(&value) {
            continue;
        }
        if std::mem::take(&mut first) && table != Table::Top {
            begin(text, &format!("[{}]", table.name()));
        }
        line(text, setting.name, &value);
    }
}

fn endpoint(word: &str, endpoint: &Endpoint, text: &mut String) {
    begin(text, &format!("[[{word}]]"));
    line(text, "endpoint", &endpoint.written());
    for (key, value) in &endpoint.options {
        line(text, key, value);
    }
}

fn begin(text: &mut String, header: &str) {
    if !text.is_empty() {
        text.push('\n');
    }
    *text += header;
    text.push('\n');
}

fn line(text: &mut String, key: &str, value: &str) {
    let number = value.parse::<u32>().is_ok_and(|number| number.to_string() == value);
    let value = match value {
        number_text if number && !TEXTS.contains(&key) => number_text.to_owned(),
        list if LISTS.contains(&key) && list.contains(',') => {
            let items: Vec<_> = list.split(',').map(quoted).collect();
            format!("[{}]", items.join(", "))
        }
        text => quoted(text),
    };
    *text += &format!("{key} = {value}\n");
}

/// A basic string of TOML 1.0.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted += "\\\"",
            '\\' => quoted += "\\\\",
            '\n' => quoted += "\\n",
            '\r' => quoted += "\\r",
            '\t' => quoted += "\\t",
            control if control.is_control() => quoted += &format!("\\u{:04X}", u32::from(control)),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}
