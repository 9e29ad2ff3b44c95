//! What can be done about a source or sink while it runs, besides ending it: its half of a change of plan.
//!
//! Whoever opened it keeps these; nothing here starts or ends anything.

use std::sync::Arc;

use crate::access::LiveAccess;
use crate::listeners::Sockets;
use crate::own_traffic::CaptureFilter;

/// What can be done about a source or sink while it runs, besides ending it.
#[derive(Debug, Clone, Default)]
pub struct Controls {
    /// Who may connect.
    pub access: Option<LiveAccess>,
    /// The sockets that it listens on, to be handed over to whoever takes its place.
    pub sockets: Option<Arc<dyn Sockets>>,
    /// A live capture's filter in the kernel.
    pub capture: Option<CaptureFilter>,
}

impl Controls {
    /// Its sockets go on under another endpoint.
    pub fn hand_over(&self) {
        if let Some(sockets) = &self.sockets {
            sockets.handed_over();
        }
    }
}
