//! Signals into the hub's terms: SIGINT, SIGTERM drain it, a second one stops it at once; SIGUSR1 prints the
//! counts; SIGHUP reads the configuration file again, where there is one, else it drains, too.

use pcaphub::shutdown::{Phase, Trigger};
use pcaphub::stats::Books;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::reload::Reload;
use crate::summary;

/// Signals that are caught, and kept until somebody heeds them.
pub(crate) struct Signals {
    ending: Vec<Signal>,
    hangup: Signal,
    statistics: Signal,
}

/// Installs the handlers; to be called on the runtime, before the hub says anything: who reads that it
/// listens may send it a signal.
pub(crate) fn catch() -> std::io::Result<Signals> {
    Ok(Signals {
        ending: vec![signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?],
        hangup: signal(SignalKind::hangup())?,
        statistics: signal(SignalKind::user_defined1())?,
    })
}

impl Signals {
    /// Returns when one of those came that end it.
    pub(crate) async fn told_to_end(&mut self) {
        any(&mut self.ending).await;
    }
}

/// Heeds signals, also those that came since they were caught.
pub(crate) fn heed(signals: Signals, trigger: Trigger, books: Books, json: bool, reload: Option<Reload>) {
    let Signals { mut ending, hangup, mut statistics } = signals;
    match reload {
        Some(reload) => drop(tokio::spawn(reload.at(hangup))),
        None => ending.push(hangup),
    }
    tokio::spawn(async move {
        let mut phase = Phase::Draining;
        loop {
            tokio::select! {
                () = any(&mut ending) => {
                    trigger.advance(phase);
                    phase = Phase::Stopping;
                }
                Some(()) = statistics.recv() => summary::print(&books.report(), json),
            }
        }
    });
}

async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|cx| match signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
        true => std::task::Poll::Ready(()),
        false => std::task::Poll::Pending,
    })
    .await;
}
