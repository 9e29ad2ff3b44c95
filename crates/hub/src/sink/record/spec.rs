//! The options of a recording into what it is to be.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::endpoint::{Endpoint, Scheme};
use crate::plan::{self, Key, PlanError, Reading, Value};
use crate::recording::{Keep, Recording, Rotation, Template, Zone};

/// Options of a directory, and of a path that is a template.
pub(in crate::sink) const KEYS: &[Key] = &[
    Key {
        name: "template",
        help: "recording: names, as strftime(3) has it [default: %Y-%m-%dT%H-%M-%SZ.pcapng]",
    },
    Key { name: "size", help: "recording: octets of a file at most [default, with every=1h: 1GiB]" },
    Key { name: "every", help: "recording: a file ends at multiples of this time, such as 1h" },
    Key { name: "packets", help: "recording: packets of a file at most" },
    Key { name: "keep", help: "recording: how many files are kept; the oldest go first [default: all]" },
    Key { name: "keep-total", help: "recording: how much all files may take" },
    Key { name: "keep-age", help: "recording: how long a file is kept" },
    Key { name: "keep-free", help: "recording: how much of the disk stays free" },
    Key { name: "files", help: "recording: end after so many files" },
    Key { name: "zone", help: "recording: time of names and days: utc or local [default: utc]" },
];

/// Where nothing is said, a file ends with the hour, and with this size.
const EVERY: Duration = Duration::from_secs(3600);
const SIZE: u64 = 1 << 30;
/// Smaller files are no captures worth a name.
const LEAST: usize = 1 << 10;

/// The recording that a file endpoint is: one that ends in `/`, or says when files end. `None`: one
/// single file.
pub(in crate::sink) fn recording(
    endpoint: &Endpoint,
    options: &Reading<'_>,
) -> Result<Option<Recording>, PlanError> {
    if endpoint.scheme != Scheme::File {
        return Ok(None);
    }
    let zone = options.value("zone", zone)?.unwrap_or(Zone::Utc);
    let rotation = Rotation {
        size: options.value("size", size)?,
        packets: options.value("packets", plan::count)?,
        every: options.value("every", every)?,
    };
    let keep = Keep {
        count: options.value("keep", files)?,
        total: options.value("keep-total", octets)?,
        age: options.value("keep-age", every)?,
        free: options.value("keep-free", octets)?,
    };
    let end = options.value("files", files)?;
    let template =
        options.value("template", |text| Template::parse(text, Zone::Utc).map(|_| text.to_owned()))?;
    let refused = |why: String| PlanError::Refused(format!("{endpoint}: {why}"));

    let rotates = rotation != Rotation::default();
    let is_directory = endpoint.address.ends_with('/');
    if !is_directory && !rotates {
        let alone = template.is_none() && keep.is_everything() && end.is_none();
        return match alone {
            true => Ok(None),
            false => Err(refused(
                "it is one file; with / behind it files are recorded into a directory, and with size=, \
                 every= or packets= it is a template for their names"
                    .into(),
            )),
        };
    }
    let path = Path::new(&endpoint.address);
    let (directory, name) = match (is_directory, template) {
        (true, Some(name)) => (without_slash(&endpoint.address), name),
        (true, None) => (without_slash(&endpoint.address), default_name(endpoint, &zone)),
        (false, None) => {
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            (parent.unwrap_or(Path::new(".")).to_owned(), name.to_owned())
        }
        (false, Some(_)) => {
            return Err(refused(
                "template= is for a directory, with / behind it; this path is one itself".into(),
            ));
        }
    };
    let rotation =
        if rotates { rotation } else { Rotation { size: Some(SIZE), every: Some(EVERY), packets: None } };
    if let Some((total, size)) = keep.total.zip(rotation.size).filter(|(total, size)| total < size) {
        return Err(refused(format!("keep-total={total} has no room for one file of size={size}")));
    }
    let template =
        Template::parse(&name, zone).map_err(|why| refused(format!("template `{name}`: {why}")))?;
    Ok(Some(Recording { directory, template, rotation, keep, files: end }))
}

fn without_slash(directory: &str) -> PathBuf {
    let path = directory.trim_end_matches('/');
    PathBuf::from(if path.is_empty() { "/" } else { path })
}

fn default_name(endpoint: &Endpoint, zone: &Zone) -> String {
    let zone = if *zone == Zone::Utc { "Z" } else { "%z" };
    let extension = if endpoint.option("format").is_some_and(|f| f != "pcapng") { "pcap" } else { "pcapng" };
    format!("%Y-%m-%dT%H-%M-%S{zone}.{extension}")
}

/// `utc`, `local`.
fn zone(text: &str) -> Value<Zone> {
    match text {
        "utc" => Ok(Zone::Utc),
        "local" => Ok(Zone::Local),
        _ => Err("it is utc or local".into()),
    }
}

fn octets(text: &str) -> Value<u64> {
    plan::octets(text).map(|octets| octets as u64)
}

fn size(text: &str) -> Value<u64> {
    match plan::octets(text)? {
        octets if octets < LEAST => Err("it is a size of at least 1KiB, such as 100MB".into()),
        octets => Ok(octets as u64),
    }
}

fn every(text: &str) -> Value<Duration> {
    match plan::duration(text)? {
        time if time < Duration::from_secs(1) => Err("it is a time of at least 1s, such as 1h".into()),
        time => Ok(time),
    }
}

fn files(text: &str) -> Value<u64> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "it is a number of files above 0".into())
}
