//! What a service manager is told, and what it hands over: readiness, status, reloads, the watchdog, and
//! sockets that it has opened for us. Outside a service, nothing is said and nothing inherited.
//!
//! The protocols are sd_notify(3) and sd_listen_fds(3); systemd is not the only one who speaks them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use listenfd::ListenFd;
use pcaphub::inherited::{Inherited, WithInherited};
use pcaphub::opener::Opener;
use pcaphub::plan::Plan;
use pcaphub::pulse::Pulse;
use pcaphub::shutdown::{Phase, Shutdown};
use pcaphub::stats::Books;
use sd_notify::NotifyState;

use crate::progress::Rate;

/// How often the status line is renewed.
const PERIOD: Duration = Duration::from_secs(5);

/// Sockets of ours from the start. To be called before any thread is started: it clears what the
/// environment says of them.
///
/// # Errors
/// One of them is not a stream socket: nobody here could use it.
pub(crate) fn inherited() -> anyhow::Result<Vec<Inherited>> {
    let mut given = ListenFd::from_env();
    let mut sockets = Vec::new();
    for index in 0..given.len() {
        if let Ok(Some(tcp)) = given.take_tcp_listener(index) {
            sockets.push(Inherited::Tcp(tcp));
            continue;
        }
        let unix = given.take_unix_listener(index).map_err(|_| {
            anyhow!(
                "inherited socket {}: neither TCP nor a Unix stream socket; let the .socket unit have \
                 ListenStream= alone",
                index + 1
            )
        });
        sockets.extend(unix?.map(Inherited::Unix));
    }
    Ok(sockets)
}

/// An opener that hands out what was inherited.
///
/// # Errors
/// A socket that does not listen.
pub(crate) fn opener(sockets: Vec<Inherited>, opener: Arc<dyn Opener>) -> anyhow::Result<Arc<WithInherited>> {
    Ok(Arc::new(WithInherited::new(sockets, opener)?))
}

/// Warns of inherited sockets that no endpoint of a plan wants.
pub(crate) fn warn_of_unused(opener: &WithInherited, plan: &Plan) {
    for endpoint in opener.unused(plan) {
        tracing::warn!(
            "an inherited socket is not used: no source or sink is {endpoint}; who connects there waits in vain"
        );
    }
}

/// Tells the service manager that all listens, how it goes, and that the hub is alive, until it stops.
/// Dropping it says that it stops.
pub(crate) struct Service {
    task: Option<tokio::task::JoinHandle<()>>,
    stopping: Stopping,
}

/// Says once that the service stops.
#[derive(Clone, Default)]
struct Stopping(Arc<AtomicBool>);

impl Stopping {
    fn say(&self) {
        if !self.0.swap(true, Ordering::Relaxed) {
            notify(&[NotifyState::Stopping, NotifyState::Status("stopping: clients take what is queued")]);
        }
    }
}

/// To be called on the runtime, once everything listens and before the hub runs.
pub(crate) fn start(books: Books, pulse: Pulse, shutdown: Shutdown) -> Service {
    let stopping = Stopping::default();
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        stopping.0.store(true, Ordering::Relaxed);
        return Service { task: None, stopping };
    }
    notify(&[NotifyState::Ready, NotifyState::Status(&Rate::new().line(&books.report()))]);
    let told = stopping.clone();
    let task = tokio::spawn(async move {
        tokio::select! {
            () = tell(books) => {}
            () = watch(pulse) => {}
            () = shutdown.reached(Phase::Draining) => told.say(),
        }
    });
    Service { task: Some(task), stopping }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
        self.stopping.say();
    }
}

/// A new configuration is being read; `reloaded` must follow.
pub(crate) fn reloading() {
    // Without the time, systemd from 253 on takes it that the reload failed.
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The new configuration is in use, or was refused and the old one stays.
pub(crate) fn reloaded() {
    notify(&[NotifyState::Ready]);
}

async fn tell(books: Books) {
    let mut rate = Rate::new();
    loop {
        tokio::time::sleep(PERIOD).await;
        notify(&[NotifyState::Status(&rate.line(&books.report()))]);
    }
}

/// Says that the hub is alive, twice in the time after which the service manager would end it, each time
/// because its loop went around.
async fn watch(pulse: Pulse) {
    let Some(time) = sd_notify::watchdog_enabled().filter(|time| !time.is_zero()) else {
        return std::future::pending().await;
    };
    loop {
        let asked = Instant::now();
        pulse.passed().await;
        notify(&[NotifyState::Watchdog]);
        tokio::time::sleep((time / 2).saturating_sub(asked.elapsed())).await;
    }
}

/// Says it, if there is somebody to say it to. A service manager that does not listen is no reason to stop.
fn notify(states: &[NotifyState<'_>]) {
    static TOLD: AtomicBool = AtomicBool::new(false);
    if let Err(error) = send(states)
        && !TOLD.swap(true, Ordering::Relaxed)
    {
        tracing::warn!("the service manager cannot be told: {error}; this is said once");
    }
}

/// The way to the service manager, found while all rights are there: its socket may be where only root gets.
static MANAGER: OnceLock<UnixDatagram> = OnceLock::new();

/// Finds the service manager, if there is one. To be called before rights are given up.
pub(crate) fn meet() {
    if let Some(manager) = std::env::var_os("NOTIFY_SOCKET").and_then(|name| connected(&name).ok()) {
        let _ = MANAGER.set(manager);
    }
}

fn send(states: &[NotifyState<'_>]) -> std::io::Result<()> {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let text: String = states.iter().map(|state| format!("{state}\n")).collect();
    let sent = MANAGER.get().map(|manager| manager.send(text.as_bytes()));
    match sent {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => Err(error),
        // Its socket is another one since.
        _ => connected(&name)?.send(text.as_bytes()).map(drop),
    }
}

fn connected(name: &OsStr) -> std::io::Result<UnixDatagram> {
    // Not by the crate's own function: it takes an abstract socket's @ for a file's name.
    let address = match name.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => {
            use std::os::linux::net::SocketAddrExt;
            SocketAddr::from_abstract_name(name)?
        }
        path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that is stuck must not hold up packets.
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}
