//! Holds sources back until somebody is there to read: packets go to the first client, not to
//! nobody.

use tokio::sync::watch;

/// Opened once, by the first subscriber; clones share it.
#[derive(Debug, Clone)]
pub struct Gate {
    open: watch::Sender<bool>,
}

impl Default for Gate {
    fn default() -> Self {
        Gate { open: watch::Sender::new(false) }
    }
}

impl Gate {
    /// Lets everything through from now on.
    pub fn open(&self) {
        self.open.send_if_modified(|open| !std::mem::replace(open, true));
    }

    /// Returns once it is open.
    pub async fn passed(&self) {
        // `self` holds the sender; an error cannot occur.
        let _ = self.open.subscribe().wait_for(|open| *open).await;
    }
}
