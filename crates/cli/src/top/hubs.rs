//! Asks the hubs that there are.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;

use crate::status::{Found, Status};

/// How long a hub may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Octets of an answer that are read: 50,000 clients have no more.
const LONGEST: u64 = 16 << 20;
/// The same of somebody else's, who may want to use up our memory: some hundred clients have no more.
const LONGEST_OF_ANOTHER: u64 = 256 << 10;

/// What came of asking.
#[derive(Debug)]
pub(super) enum Answer {
    /// How it goes.
    Status(Box<Status>),
    /// It is there and does not answer: stopped, or busy.
    Silent,
    /// What answers is no hub.
    Foreign,
    /// It has more to tell than is read.
    TooMuch,
    /// Nobody is there.
    Gone,
    /// This user may not ask.
    Denied,
}

/// Hubs, and what came of asking each.
pub(super) type Answers = Vec<(Found, Answer)>;

/// Asks all of them at once.
pub(super) async fn ask_all(hubs: Vec<Found>) -> Answers {
    let ask = |found: Found| async move {
        let answer = ask(&found).await;
        (found, answer)
    };
    let tasks: Vec<_> = hubs.into_iter().map(|found| tokio::spawn(ask(found))).collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.extend(task.await);
    }
    answers
}

async fn ask(found: &Found) -> Answer {
    let most = if found.is_anothers() { LONGEST_OF_ANOTHER } else { LONGEST };
    let (octets, pid) = match tokio::time::timeout(PATIENCE, answer(found, most)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Answer::Gone,
                io::ErrorKind::PermissionDenied => Answer::Denied,
                _ => Answer::Silent,
            };
        }
        Err(_) => return Answer::Silent,
    };
    if octets.len() as u64 > most {
        return Answer::TooMuch;
    }
    let read =
        move || serde_json::from_slice::<Box<Status>>(&octets).ok().filter(|told| !told.version.is_empty());
    // On a thread of its own: keys are heeded meanwhile.
    let Ok(Some(mut status)) = tokio::task::spawn_blocking(read).await else { return Answer::Foreign };
    // What the kernel knows counts, not what it says of itself.
    status.pid = pid.unwrap_or(found.pid);
    status.uid = found.owner;
    status.socket = found.socket.to_string_lossy().into_owned();
    Answer::Status(status)
}

/// All that is told, and by which process, if that can be known.
async fn answer(found: &Found, most: u64) -> io::Result<(Vec<u8>, Option<u32>)> {
    let stream = UnixStream::connect(&found.socket).await?;
    let peer = stream.peer_cred()?;
    if peer.uid() != found.owner {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    // 0 where it is of another PID namespace.
    let pid = peer.pid().and_then(|pid| u32::try_from(pid).ok()).filter(|pid| *pid > 0);
    let mut octets = Vec::new();
    stream.take(most + 1).read_to_end(&mut octets).await?;
    Ok((octets, pid))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::net::UnixListener;

    use super::*;

    /// What comes of asking somebody who says this, again and again until nobody listens.
    async fn told(said: &[u8], times: usize, owner: u32) -> Answer {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("7.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let said = said.to_vec();
        let telling = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            (0..times).find(|_| stream.write_all(&said).is_err());
        });
        let answer = ask(&Found { socket, owner, pid: 7, by_root: false }).await;
        telling.join().unwrap();
        answer
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    #[test]
    fn who_and_where_it_is_is_not_what_it_says_of_itself() {
        let me = rustix::process::geteuid().as_raw();
        let said =
            br#"{"version": "0.1", "pid": 1, "uid": 4000000000, "socket": "/etc/passwd", "verb": "run"}"#;
        let Answer::Status(status) = runtime().block_on(told(said, 1, me)) else { panic!("no status") };
        assert_eq!((status.verb.as_str(), status.uid), ("run", me));
        assert!(status.pid != 1 && status.socket.ends_with("/7.sock"), "{status:?}");
    }

    #[test]
    fn what_is_no_hub_is_told_from_one_that_does_not_answer() {
        let me = rustix::process::geteuid().as_raw();
        let nested = "[".repeat(100_000);
        let wrong: [&[u8]; 5] = [b"", b"\x1b[2J", b"[]", br#"{"pid": "x"}"#, nested.as_bytes()];
        for said in wrong {
            assert!(matches!(runtime().block_on(told(said, 1, me)), Answer::Foreign), "{said:?}");
        }
    }

    #[test]
    fn an_answer_without_an_end_is_not_read_to_the_end() {
        let me = rustix::process::geteuid().as_raw();
        let answer = runtime().block_on(told(&[b' '; 1 << 20], 64, me));
        assert!(matches!(answer, Answer::TooMuch | Answer::Silent), "{answer:?}");
    }

    #[test]
    fn somebody_elses_socket_in_place_of_a_hubs_is_nobody() {
        let other = rustix::process::geteuid().as_raw() + 1;
        assert!(matches!(runtime().block_on(told(b"{}", 1, other)), Answer::Gone));
    }
}
