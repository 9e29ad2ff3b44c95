//! Signals into the hub's terms: SIGINT, SIGTERM, SIGHUP drain it, a second one stops it at once,
//! SIGUSR1 prints the counts.

use pcaphub::shutdown::{Phase, Trigger};
use pcaphub::stats::Books;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::summary;

/// Installs the handlers; to be called on the runtime, before the hub runs.
pub(crate) fn listen(trigger: Trigger, books: Books, json: bool) -> std::io::Result<()> {
    let mut ending =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    let mut statistics = signal(SignalKind::user_defined1())?;
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
    Ok(())
}

async fn any(signals: &mut [Signal]) {
    std::future::poll_fn(|cx| match signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
        true => std::task::Poll::Ready(()),
        false => std::task::Poll::Pending,
    })
    .await;
}
