//! Runs a hub for a command line: runtime, signals, progress, summary, exit code.

use std::io;
use std::process::ExitCode;

use pcaphub::event::Events;
use pcaphub::hub::{self, Outcome};
use pcaphub::inherited::Inherited;
use pcaphub::plan::Plan;
use pcaphub::shutdown::{Phase, shutdown};
use pcaphub::stats::Books;
use tracing::Level;

use crate::privilege::{self, Rights};
use crate::reload::{Reload, Settings};
use crate::status::{Socket, Status};
use crate::task::{Arguments, Verb};
use crate::{exit, help, logging, progress, run, service, signals, summary};

/// Runs until the sources have ended or a signal comes.
///
/// # Errors
/// What could not be set up.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let inherited = service::inherited()?;
    service::meet();
    raise_descriptors();
    let plan = || named(&arguments);
    let (user, config) = (arguments.user.as_deref(), arguments.config.as_deref());
    logging::dress(arguments.log_format);
    if arguments.plan.limits.max_memory <= LITTLE {
        pcaphub_sys::share_pools();
    }
    let socket = Socket::open();
    let left = socket.as_ref().ok().map(Socket::path);
    // Before there is any thread: it holds for those that come.
    let mut rights = privilege::arrange(user, config, &plan, left)?;
    logging::start(arguments.log_format, arguments.verbosity);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(serve(&arguments, inherited, &mut rights, &socket));
    // Threads that block in a read cannot be waited for.
    runtime.shutdown_background();
    drop(socket);
    rights.end();
    logging::flush();
    let (outcome, stopped) = outcome?;
    finish(&arguments, &outcome, stopped);
    Ok(if outcome.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(exit::FAILED) })
}

/// A ceiling of memory under which what threads keep to themselves counts: with a pool for each, a hub of 16 MiB
/// had up to 22 MiB, with one for all 17 (measured 2026-11).
const LITTLE: usize = 64 << 20;

/// Descriptors that are asked for, as far as the hard limit allows: clients, producers and handshakes
/// under way have one each, and the usual soft limit is 1,024.
const DESCRIPTORS: u64 = 65_536;

fn raise_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let (Some(current), most) = (limit.current, limit.maximum.unwrap_or(DESCRIPTORS)) else { return };
    if current < most.min(DESCRIPTORS) {
        // Where it is refused, what there is must do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(most.min(DESCRIPTORS)), ..limit });
    }
}

/// What may be opened: what the command line names, or what its configuration file names now.
fn named(arguments: &Arguments) -> Result<Plan, String> {
    match &arguments.config {
        Some(file) => run::named(file),
        None => Ok(arguments.plan.clone()),
    }
}

async fn serve(
    arguments: &Arguments,
    inherited: Vec<Inherited>,
    rights: &mut Rights,
    socket: &io::Result<Socket>,
) -> anyhow::Result<(Outcome, bool)> {
    let (trigger, shutdown) = shutdown();
    let stopping = shutdown.clone();
    let mut signals = signals::catch()?;
    rights.watch()?;
    let opener = service::opener(inherited, rights.opener.clone())?;
    let plan = arguments.plan.clone();
    let through = opener.clone();
    let opening = move || hub::open(plan, through, Events::default(), shutdown);
    // libpcap may take long for a filter, and a name for its address: a signal is not kept waiting for it.
    let hub = tokio::select! {
        biased;
        opened = tokio::task::spawn_blocking(opening) => opened??,
        () = signals.told_to_end() => {
            let report = Books::default().report();
            return Ok((Outcome { report, errors: Vec::new() }, true));
        }
    };
    service::warn_of_unused(&opener, &arguments.plan);
    show(socket, arguments, &hub.books());
    let reload = arguments.config.clone().map(|file| Reload {
        file,
        hub: hub.handle(),
        opener,
        certificates: hub.tls(),
        start: Settings {
            json_log: arguments.log_format == logging::LogFormat::Json,
            stats_json: arguments.stats_json,
            user: arguments.user.clone(),
        },
    });
    signals::heed(signals, trigger, hub.books(), arguments.stats_json, reload);
    if arguments.verb == Verb::Demo && arguments.verbosity >= 0 && !logging::is_json() {
        logging::flush();
        eprint!("{}", help::demo_hint(&hub.listening()));
    }
    let service = service::start(hub.books(), hub.pulse(), stopping.clone());
    let quiet = arguments.verbosity < 0 || arguments.verb == Verb::Cat || logging::is_json();
    let shown = progress::start(hub.books(), quiet);
    // On a worker, where the sources' and sinks' tasks are: between tasks of one worker a packet
    // moves without waking a thread (median latency 42 µs instead of 100, measured).
    let outcome = tokio::spawn(hub.run()).await?;
    drop((shown, service));
    Ok((outcome, stopping.phase() >= Phase::Draining))
}

/// Lets `pcaphub top` see how it goes, where that can be.
fn show(socket: &io::Result<Socket>, arguments: &Arguments, books: &Books) {
    let start = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        verb: arguments.verb.name().into(),
        config: arguments.config.as_ref().map(|file| file.to_string_lossy().into_owned()),
        ..Status::default()
    };
    let socket = match socket {
        Ok(socket) => socket,
        // Somebody was there first, and may mean harm.
        Err(why) if why.kind() == io::ErrorKind::AlreadyExists => {
            return tracing::warn!("`pcaphub top` cannot see this hub: {why}; take it away");
        }
        Err(why) => return tracing::debug!("`pcaphub top` cannot see this hub: {why}"),
    };
    match socket.answer(start, books.clone()) {
        Ok(()) => tracing::debug!("counts for `pcaphub top` are at {}", socket.path().display()),
        Err(why) => tracing::debug!("`pcaphub top` cannot see this hub: {why}"),
    }
}

/// The counts at the end. In a pipeline they are only of interest when somebody stopped it, asked
/// for them, or when packets were lost.
fn finish(arguments: &Arguments, outcome: &Outcome, stopped: bool) {
    let lost = outcome.report.dropped().keys().any(|reason| *reason != "closed");
    let wanted = match arguments.verb {
        Verb::Cat => stopped || lost || arguments.verbosity >= 0,
        _ => arguments.verbosity >= 0,
    };
    if arguments.stats_json || wanted {
        summary::print(&outcome.report, arguments.stats_json);
    }
    if !arguments.stats_json && arguments.verbosity < 0 {
        // Logged errors are not shown below this verbosity's level only if they are told here.
        for error in outcome.errors.iter().filter(|_| arguments.verbosity < -2) {
            logging::tell(Level::ERROR, &format!("pcaphub: {error}"));
        }
    }
}
