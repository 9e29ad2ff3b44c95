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
    /// What stops more than this.
    whole: Option<Box<Shutdown>>,
}

/// A trigger and what it stops.
pub fn shutdown() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Phase::Running);
    let trigger = Trigger { phase: sender };
    (trigger.clone(), Shutdown { phase: receiver, _trigger: trigger, whole: None })
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
        let own = *self.phase.borrow();
        self.whole.as_ref().map_or(own, |whole| own.max(whole.phase()))
    }

    /// Returns once `phase` is reached.
    pub async fn reached(&self, phase: Phase) {
        let mut receiver = self.phase.clone();
        // The sender lives as long as `self`; an error cannot occur.
        let own = receiver.wait_for(|now| *now >= phase);
        match &self.whole {
            None => drop(own.await),
            Some(whole) => tokio::select! {
                _ = own => {}
                () = Box::pin(whole.reached(phase)) => {}
            },
        }
    }

    /// For a part of what this stops, which can also be stopped alone.
    pub fn part(&self) -> (Trigger, Shutdown) {
        let (trigger, part) = shutdown();
        (trigger, Shutdown { whole: Some(Box::new(self.clone())), ..part })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_stops_alone_or_with_the_whole() {
        let (whole, shutdown) = shutdown();
        let (part, stopped) = shutdown.part();
        part.advance(Phase::Draining);
        assert_eq!((stopped.phase(), shutdown.phase()), (Phase::Draining, Phase::Running));
        whole.advance(Phase::Stopping);
        assert_eq!(stopped.phase(), Phase::Stopping);
    }
}
