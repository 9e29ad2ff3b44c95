//! How the hub is told to stop: first to drain, then at once.

use tokio::sync::watch;

/// How far stopping has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody asked to stop.
    Running,
    /// Read no more; give the sinks what is there.
    Draining,
    /// Give up what is queued.
    Stopping,
}

/// Asks the hub to stop. Dropping it does not.
#[derive(Debug, Clone)]
pub struct Trigger {
    phase: watch::Sender<Phase>,
}

/// The hub's side of a [`Trigger`].
#[derive(Debug, Clone)]
pub struct Shutdown {
    phase: watch::Receiver<Phase>,
    // Keeps the channel open when the trigger is gone.
    _trigger: Trigger,
}

/// A trigger and what it stops.
pub fn shutdown() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    let trigger = Trigger { phase: sender };
    (trigger.clone(), Shutdown { phase: receiver, _trigger: trigger })
}

impl Trigger {
    /// Moves on to `phase`; never back.
    pub fn advance(&self, phase: Phase) {
        self.phase.send_if_modified(|now| {
            let further = phase > *now;
            *now = phase.max(*now);
            further
        });
    }
}

impl Shutdown {
    /// How far it is.
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Returns once `phase` is reached.
    pub async fn reached(&self, phase: Phase) {
        let mut receiver = self.phase.clone();
        // The sender lives as long as `self`; an error cannot occur.
        let _ = receiver.wait_for(|now| *now >= phase).await;
    }
}
