//! What a running hub shows of itself to `pcaphub top`, and to scripts: a Unix socket for its own user and
//! root that answers each connection with the counts, as a line of JSON, and closes it.
//!
//! Nothing is read from who connects. Where there can be no such socket, the hub runs without.

mod place;
mod socket;

use pcaphub::stats::Report;
use serde::{Deserialize, Serialize};

pub(crate) use self::place::{Found, Seen, find};
pub(crate) use self::socket::Socket;

/// A hub at one moment. What a newer or older pcaphub says can be read, too: what it leaves out is zero,
/// empty or `None`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Status {
    /// The version of pcaphub.
    pub(crate) version: String,
    /// The process that moves packets.
    pub(crate) pid: u32,
    /// The user who started it.
    pub(crate) uid: u32,
    /// The name of its socket.
    pub(crate) socket: String,
    /// What it was started as: `serve`, `run` …
    pub(crate) verb: String,
    /// The file that says what it does, under `run`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<String>,
    /// For how long it has been running, in seconds.
    pub(crate) uptime: f64,
    /// All counts, as `--stats json` prints them.
    pub(crate) report: Report,
}
