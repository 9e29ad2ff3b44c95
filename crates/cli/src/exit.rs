//! Exit codes: 0; 1 something failed; 2 usage; 77 no permission; 78 bad configuration.

use std::process::ExitCode;

use pcaphub::hub::HubError;
use pcaphub::plan::PlanError;

/// Something failed while running, or a source ended in error.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// Rights are missing (EX_NOPERM of sysexits.h).
pub(crate) const NO_PERMISSION: u8 = 77;

/// Says why the hub did not start, and with which code the process ends.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("pcaphub: {}", pcaphub::escape::escaped(&error.to_string(), 2000));
    let hub = error.downcast_ref::<HubError>();
    let code = match hub {
        Some(HubError::Plan(_)) => USAGE,
        Some(HubError::Source(source)) if source.permission => NO_PERMISSION,
        Some(HubError::Sink(sink)) if sink.permission => NO_PERMISSION,
        Some(HubError::Sink(sink)) if sink.usage => USAGE,
        Some(HubError::Source(source)) if source.usage => USAGE,
        Some(_) => FAILED,
        None if error.is::<PlanError>() => USAGE,
        None => FAILED,
    };
    if code == USAGE {
        eprintln!("Try `pcaphub --help`, or `pcaphub help VERB`.");
    }
    ExitCode::from(code)
}
