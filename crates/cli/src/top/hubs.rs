//! Asks the hubs that there are.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::status::Status;

/// How long a hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Octets of an answer that are read: 10,000 clients have no more.
const LONGEST: u64 = 16 << 20;

/// What came of asking.
#[derive(Debug)]
pub(super) enum Answer {
    /// How it goes.
    Status(Box<Status>),
    /// It is there and does not answer: stopped, busy, or no hub.
    Silent,
    /// Nobody is there.
    Gone,
    /// This user may not ask.
    Denied,
}

/// Sockets, each with the user that has it, and what came of asking there.
pub(super) type Answers = Vec<(PathBuf, u32, Answer)>;

/// Asks the hub whose socket this is. It is `owner`'s, or root's; who else listens there is no hub.
pub(super) async fn ask(socket: &Path, owner: u32) -> Answer {
    match tokio::time::timeout(PATIENCE, answer(socket, owner)).await {
        Ok(Ok(status)) => Answer::Status(status),
        Ok(Err(error)) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Answer::Gone,
            io::ErrorKind::PermissionDenied => Answer::Denied,
            _ => Answer::Silent,
        },
        Err(_) => Answer::Silent,
    }
}

async fn answer(socket: &Path, owner: u32) -> io::Result<Box<Status>> {
    let stream = UnixStream::connect(socket).await?;
    if ![owner, 0].contains(&stream.peer_cred()?.uid()) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let mut octets = Vec::new();
    stream.take(LONGEST).read_to_end(&mut octets).await?;
    Ok(serde_json::from_slice(&octets)?)
}
