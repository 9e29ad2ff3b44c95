//! The configuration as a file: read within bounds, and only where nobody else can have written it.

use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::fault::{ConfigError, ConfigErrors, Fault};
use super::{Config, Filters, LogFormat, parse_with};
use crate::conflicts::{Place, tls_endpoints};
use crate::endpoint::{Endpoint, Scheme};
use crate::escape::escaped;
use crate::interfaces::interfaces;
use crate::opener::Opener;
use crate::plan::PlanError;
use crate::tls::Trial;
use crate::{private, source};

/// A file that is larger is no configuration: 4 MiB.
pub const MAX_OCTETS: usize = 4 << 20;

/// Why a file is not used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {}: {error}", shown(path))]
    Read {
        /// The file.
        path: PathBuf,
        /// Of the system.
        error: io::Error,
    },
    /// It is too large.
    #[error("{} has more than {MAX_OCTETS} octets, which is no configuration", shown(path))]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// Others may write it.
    #[error(
        "{path} can be written by everybody, and it names commands that are run as root: chmod o-w {path}",
        path = shown(path)
    )]
    Unsafe {
        /// The file.
        path: PathBuf,
    },
    /// What it says is wrong.
    #[error("{}", lines(path, errors))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// All that is wrong.
        errors: ConfigErrors,
    },
}

/// A file's name, in one line whatever it is.
fn shown(path: &Path) -> String {
    escaped(&path.display().to_string(), SHOWN)
}

/// What is shown of a file's name, in characters: all of any that the system takes.
const SHOWN: usize = 4096;

/// Every error with the file's name before it, as compilers have it.
fn lines(path: &Path, errors: &ConfigErrors) -> String {
    let line = |error: &ConfigError| format!("{}:{error}", shown(path));
    errors.errors.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Reads a configuration file, through `opener`.
///
/// As root, a file that everybody may write is refused: it names commands.
///
/// # Errors
/// It cannot be read, others may write it, or all that is wrong with it.
pub fn load(path: &Path, opener: &dyn Opener, filters: Filters) -> Result<Config, LoadError> {
    let cannot = |error| LoadError::Read { path: path.into(), error };
    let file = opener.read_file(path).map_err(cannot)?;
    let metadata = file.metadata().map_err(cannot)?;
    let mut octets = Vec::new();
    file.take(MAX_OCTETS as u64 + 1).read_to_end(&mut octets).map_err(cannot)?;
    if octets.len() > MAX_OCTETS {
        return Err(LoadError::TooLarge { path: path.into() });
    }
    let mut notes = Vec::new();
    guard(path, &metadata, rustix::process::geteuid().as_raw(), &mut notes)?;
    let wrong = |errors| LoadError::Wrong { path: path.into(), errors };
    let text = std::str::from_utf8(&octets).map_err(|error| wrong(not_text(&octets, error.valid_up_to())))?;
    let mut config = parse_with(text, opener, filters).map_err(wrong)?;
    config.notes = notes;
    Ok(config)
}

/// Refuses a file that everybody may write, where that would make everybody root.
fn guard(path: &Path, metadata: &Metadata, user: u32, notes: &mut Vec<String>) -> Result<(), LoadError> {
    if !metadata.is_file() {
        return Ok(());
    }
    let (mode, owner, shown) = (metadata.mode(), metadata.uid(), shown(path));
    if mode & 0o002 != 0 && user == 0 {
        return Err(LoadError::Unsafe { path: path.into() });
    }
    if mode & 0o002 != 0 {
        notes.push(format!("{shown} can be written by everybody, and it names commands: chmod o-w {shown}"));
    }
    if user == 0 && owner != 0 {
        notes.push(format!(
            "{shown} belongs to user {owner}, who can so have commands run as root: chown root {shown}"
        ));
    }
    if user == 0 && mode & 0o020 != 0 && metadata.gid() != 0 {
        notes.push(format!(
            "{shown} can be written by group {}, which can so have commands run as root: chmod g-w {shown}",
            metadata.gid()
        ));
    }
    Ok(())
}

/// Where octets stop being text.
fn not_text(octets: &[u8], at: usize) -> ConfigErrors {
    let before = String::from_utf8_lossy(octets.get(..at).unwrap_or_default());
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |line| line.chars().count()) + 1;
    let fault = Fault::Syntax("not UTF-8 from here on".into());
    ConfigErrors { errors: vec![ConfigError { line, column, fault }], log_format: LogFormat::Text }
}

/// Reads a configuration file as [`load`] does, and tries what it names as far as nothing is started by that:
/// besides it, what is [doubtful](doubts).
///
/// # Errors
/// As of [`load`]; files, certificates and keys that are there and cannot be used.
pub fn check(path: &Path, opener: &dyn Opener) -> Result<(Config, Vec<String>), LoadError> {
    let config = load(path, opener, Filters::Compile)?;
    let mut errors = Vec::new();
    for (place, endpoint, tls) in tls_endpoints(&config.plan) {
        let (line, column) = config.position(place).unwrap_or((1, 1));
        let wrong = Trial::of(endpoint.scheme, tls, opener).wrong.into_iter().map(|why| {
            let fault = Fault::Plan(PlanError::Refused(format!("{endpoint}: {why}")));
            ConfigError { line, column, fault }
        });
        errors.extend(wrong);
    }
    let mut sources = config.plan.sources.clone();
    source::look(&mut sources, opener);
    for (index, spec) in sources.iter().enumerate() {
        // Whatever it is, it is there; where it is not, or may not be read, that is a doubt.
        if !source::is_regular_file(spec) || opener.read_file(Path::new(&spec.endpoint.address)).is_err() {
            continue;
        }
        if let Err(error) = private::check(spec, opener) {
            let (line, column) = config.position(Place::Source(index)).unwrap_or((1, 1));
            errors.push(ConfigError {
                line,
                column,
                fault: Fault::Plan(PlanError::Refused(error.to_string())),
            });
        }
    }
    if !errors.is_empty() {
        errors.sort_by_key(|error| (error.line, error.column));
        let errors = ConfigErrors { errors, log_format: config.log_format };
        return Err(LoadError::Wrong { path: path.into(), errors });
    }
    let doubts = doubts(path, &config, opener);
    Ok((config, doubts))
}

/// What a configuration names that is not there, or looked for where it may not be meant: what is no
/// error of the file, but may be one when it is run. Each with the file's name, line and column.
pub fn doubts(path: &Path, config: &Config, opener: &dyn Opener) -> Vec<String> {
    let mut doubts = Vec::new();
    let mut doubt_at = |(line, column), what: Option<String>| {
        doubts.extend(what.map(|what| format!("{}:{line}:{column}: {what}", shown(path))));
    };
    doubt_at(config.user_at.unwrap_or((1, 1)), no_user(config));
    let mut doubt = |place, what| doubt_at(config.position(place).unwrap_or((1, 1)), what);
    for (index, spec) in config.plan.sources.iter().enumerate() {
        let place = Place::Source(index);
        doubt(place, relative(&spec.endpoint));
        doubt(place, absent(&spec.endpoint, opener));
        doubt(place, no_command(&spec.endpoint));
    }
    for (index, spec) in config.plan.sinks.iter().enumerate() {
        let place = Place::Sink(index);
        doubt(place, relative(&spec.endpoint));
        doubt(place, no_folder(&spec.endpoint, opener));
        doubt(place, no_command(&spec.endpoint));
        if spec.endpoint.scheme == Scheme::If && !spec.injection.create_tap {
            doubt(place, absent(&spec.endpoint, opener));
        }
    }
    for (place, endpoint, tls) in tls_endpoints(&config.plan) {
        for (file, error) in Trial::of(endpoint.scheme, tls, opener).absent {
            let file = file.display();
            doubt(place, Some(format!("{file}: {error}; pcaphub must be able to read it when it starts")));
        }
    }
    doubts
}

/// A user to become that there is not.
fn no_user(config: &Config) -> Option<String> {
    #[cfg(target_os = "linux")]
    {
        crate::privilege::Identity::find(Some(config.user.as_deref()?)).err().map(|error| error.to_string())
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = config;
        None
    }
}

fn is_path(endpoint: &Endpoint) -> bool {
    matches!(endpoint.scheme, Scheme::File | Scheme::Unix | Scheme::UnixListen)
}

/// A path that depends on where the process is started.
fn relative(endpoint: &Endpoint) -> Option<String> {
    let path = &endpoint.address;
    (is_path(endpoint) && Path::new(path).is_relative()).then(|| {
        format!("{path} is looked for where pcaphub is started, which is / for a service; write it from / on")
    })
}

/// A source's file, or an interface, that is not there.
fn absent(endpoint: &Endpoint, opener: &dyn Opener) -> Option<String> {
    let address = &endpoint.address;
    match endpoint.scheme {
        Scheme::File => {
            let error = opener.look(Path::new(address)).err()?;
            Some(format!("{address}: {error}; it must be there when pcaphub starts"))
        }
        Scheme::If if address != "any" => {
            let there = interfaces().ok()?.iter().any(|known| known.name.to_string_lossy() == *address);
            (!there).then(|| {
                format!(
                    "there is no interface {address} now; `pcaphub interfaces` lists those that there are"
                )
            })
        }
        _ => None,
    }
}

/// The folder of a sink's file or of a socket, that is not there.
fn no_folder(endpoint: &Endpoint, opener: &dyn Opener) -> Option<String> {
    if !matches!(endpoint.scheme, Scheme::File | Scheme::UnixListen) {
        return None;
    }
    let folder = Path::new(&endpoint.address).parent().filter(|folder| !folder.as_os_str().is_empty())?;
    let error = opener.look(folder).err()?;
    Some(format!("{}: {error}; the folder must be there when pcaphub starts", folder.display()))
}

/// A command that is not found.
fn no_command(endpoint: &Endpoint) -> Option<String> {
    if endpoint.scheme != Scheme::Exec {
        return None;
    }
    let words = crate::source::split_command(&endpoint.address).ok()?;
    let command = words.first()?;
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let there = match command.contains('/') {
        true => Path::new(command).exists(),
        false => std::env::split_paths(&folders).any(|folder| folder.join(command).exists()),
    };
    (!there).then(|| format!("there is no command {command}"))
}
