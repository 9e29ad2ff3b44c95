//! Exit codes: 0; 1 something failed; 2 usage; 77 no permission; 78 bad configuration.

use std::process::ExitCode;

use pcaphub::config::LoadError;
use pcaphub::escape::escaped;
use pcaphub::hub::HubError;
use pcaphub::plan::PlanError;
#[cfg(target_os = "linux")]
use pcaphub::privilege::PrivilegeError;
use tracing::Level;

use crate::logging;

/// Something failed while running, or a source ended in error.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// Rights are missing (EX_NOPERM of sysexits.h).
pub(crate) const NO_PERMISSION: u8 = 77;

/// Prints what clap says: help, or what is wrong with the command line. A word of it that could steer the
/// terminal (a file's name from a pattern) is shown escaped, and then without colour.
pub(crate) fn print_usage(error: &clap::Error) {
    let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    if words.iter().all(|word| escaped(word, usize::MAX) == *word) {
        let _ = error.print();
        return;
    }
    let mut text = error.render().to_string();
    // A word, or one side of a `=`, that has an end of line in it is no line of its own.
    for part in words.iter().flat_map(|word| word.split('=').chain([word.as_str()])) {
        if part.contains(['\n', '\r']) {
            text = text.replace(part, &escaped(part, usize::MAX));
        }
    }
    for line in text.lines() {
        eprintln!("{}", escaped(line, usize::MAX));
    }
}

/// The configuration file is wrong (EX_CONFIG of sysexits.h).
pub(crate) const CONFIG: u8 = 78;

/// Says what is wrong with a configuration file, each error on its line, and which code that is.
pub(crate) fn report_file(error: &LoadError) -> u8 {
    let text = error.to_string();
    let program = if matches!(error, LoadError::Wrong { .. }) { "" } else { "pcaphub: " };
    for line in text.lines() {
        logging::tell(Level::ERROR, &format!("{program}{line}"));
    }
    match error {
        LoadError::Read { error, .. } if error.kind() == std::io::ErrorKind::PermissionDenied => {
            NO_PERMISSION
        }
        _ => CONFIG,
    }
}

/// The code of a hub that did not start, where a file says what it is to do.
pub(crate) fn report_run(error: &anyhow::Error, file: &std::path::Path) -> ExitCode {
    let usage = match error.downcast_ref::<HubError>() {
        Some(HubError::Plan(_)) => true,
        Some(HubError::Sink(sink)) => sink.usage,
        Some(HubError::Source(source)) => source.usage,
        #[cfg(target_os = "linux")]
        None if matches!(
            error.downcast_ref(),
            Some(PrivilegeError::Unknown(..) | PrivilegeError::Nameless(_))
        ) =>
        {
            true
        }
        None => false,
    };
    if !usage {
        return report(error);
    }
    logging::tell(Level::ERROR, &format!("pcaphub: {}: {error}", file.display()));
    ExitCode::from(CONFIG)
}

/// Says why the hub did not start, and with which code the process ends.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if let Some(error) = error.downcast_ref::<LoadError>() {
        return ExitCode::from(report_file(error));
    }
    logging::tell(Level::ERROR, &format!("pcaphub: {error}"));
    let hub = error.downcast_ref::<HubError>();
    let code = match hub {
        Some(HubError::Plan(PlanError::NoCompiler { .. })) => FAILED,
        Some(HubError::Plan(_)) => USAGE,
        Some(HubError::Source(source)) if source.permission => NO_PERMISSION,
        Some(HubError::Sink(sink)) if sink.permission => NO_PERMISSION,
        Some(HubError::Sink(sink)) if sink.usage => USAGE,
        Some(HubError::Source(source)) if source.usage => USAGE,
        Some(_) => FAILED,
        None if error.is::<PlanError>() => USAGE,
        #[cfg(target_os = "linux")]
        None if matches!(
            error.downcast_ref(),
            Some(PrivilegeError::Unknown(..) | PrivilegeError::Nameless(_))
        ) =>
        {
            USAGE
        }
        #[cfg(target_os = "linux")]
        None if error.is::<PrivilegeError>() => NO_PERMISSION,
        None => FAILED,
    };
    if code == USAGE && !logging::is_json() {
        eprintln!("Try `pcaphub --help`, or `pcaphub help VERB`.");
    }
    ExitCode::from(code)
}
