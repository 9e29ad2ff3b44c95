//! The hub's side: a socket from before rights are given up, and who answers on it.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pcaphub::escape::escaped_json;
use pcaphub::opener::{Opener, System};
use pcaphub::stats::Books;
use rustix::process::{Uid, geteuid};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;

use super::{Status, place};

/// How long who asked may take to read the answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// Those that are answered side by side.
const SIDE_BY_SIDE: usize = 8;
/// Before another try where the system is short of descriptors.
const REST: Duration = Duration::from_secs(1);

/// Where a hub can be asked how it goes. Its name goes with it.
pub(crate) struct Socket {
    path: PathBuf,
    listener: UnixListener,
    /// Who may ask, beside root.
    owner: Uid,
    begun: Instant,
}

impl Socket {
    /// Opens it. To be called before rights are given up.
    ///
    /// # Errors
    /// There is no place for it.
    pub(crate) fn open() -> io::Result<Self> {
        let directory = place::own()?;
        place::sweep(&directory);
        let path = directory.join(place::name(std::process::id()));
        // Of a process before us with the same number.
        if place::is_abandoned(&path) {
            std::fs::remove_file(&path)?;
        }
        if path.exists() {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let listener = System.listen_unix(&path)?;
        Ok(Socket { path, listener, owner: geteuid(), begun: Instant::now() })
    }

    /// Its name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Answers whoever asks, with `start` and the counts of that moment, until the runtime ends.
    ///
    /// # Errors
    /// Of the system.
    pub(crate) fn answer(&self, start: Status, books: Books) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let (owner, begun) = (self.owner, self.begun);
        let socket = self.path.to_string_lossy().into_owned();
        let start = Status { pid: std::process::id(), uid: owner.as_raw(), socket, ..start };
        tokio::spawn(async move {
            let places = Arc::new(Semaphore::new(SIDE_BY_SIDE));
            loop {
                let Ok(place) = places.clone().acquire_owned().await else { return };
                let Ok((stream, _)) = listener.accept().await else {
                    tokio::time::sleep(REST).await;
                    continue;
                };
                if !may_ask(&stream, owner) {
                    continue;
                }
                let (uptime, report) = (begun.elapsed().as_secs_f64(), books.report());
                let status = Status { uptime, report, ..start.clone() };
                tokio::spawn(async move {
                    // Who does not read, or has gone, does without.
                    let _ = tokio::time::timeout(PATIENCE, tell(stream, &status)).await;
                    drop(place);
                });
            }
        });
        Ok(())
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Where rights were given up, the helper does it.
        let _ = System.remove_unix(&self.path);
    }
}

/// Not every system heeds the mode of a socket.
fn may_ask(stream: &UnixStream, owner: Uid) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == owner.as_raw())
}

async fn tell(mut stream: UnixStream, status: &Status) -> io::Result<()> {
    let line = escaped_json(&serde_json::to_string(status)?) + "\n";
    stream.write_all(line.as_bytes()).await?;
    stream.shutdown().await
}
