//! Commands that the helper started: each with a socket on which its status goes out and signals for
//! its group come in.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, pidfd_open, waitid,
};

use super::message;
use crate::opener::{Pipe, command};

/// Processes of ours at once, those that wait for a FIFO included.
pub(super) const MOST: usize = 512;

/// All of them.
#[derive(Default)]
pub(super) struct Children(Vec<Child>);

struct Child {
    /// `None` where nobody wants to know any more; it is waited for.
    control: Option<OwnedFd>,
    /// Who waits for what it opens, and is left alone with that when its other end is closed.
    asker: Option<OwnedFd>,
    pidfd: OwnedFd,
    /// Its own, and that of its group. Nobody else gets the number before it is waited for.
    pid: Pid,
    ended: bool,
}

impl Children {
    /// Starts a command; what its user gets: the control socket, its pipe, its standard error.
    pub(super) fn spawn(&mut self, argv: &[String], stdin: bool) -> io::Result<[OwnedFd; 3]> {
        self.room()?;
        let (control, theirs) = message::pair()?;
        let mut command = command(argv, if stdin { Pipe::Stdin } else { Pipe::Stdout })?;
        pcaphub_sys::end_with_us(&mut command);
        let mut child = command.spawn()?;
        let pid = Pid::from_child(&child);
        let missing = || io::Error::other("it has no pipe");
        let pipe: OwnedFd = match (child.stdin.take(), child.stdout.take()) {
            (Some(pipe), _) => pipe.into(),
            (None, pipe) => pipe.ok_or_else(missing)?.into(),
        };
        let stderr = child.stderr.take().ok_or_else(missing)?.into();
        self.enter(pid, Some(control), None)?;
        Ok([theirs, pipe, stderr])
    }

    /// Whether there may be another one.
    pub(super) fn room(&self) -> io::Result<()> {
        if self.0.len() < MOST { Ok(()) } else { Err(Errno::AGAIN.into()) }
    }

    /// Looks after a process that opens something: it ends once `asker` is gone.
    pub(super) fn wait_for(&mut self, pid: Pid, asker: Option<OwnedFd>) -> io::Result<()> {
        self.enter(pid, None, asker)
    }

    /// Looks after a process of ours; without `control` it has no group of its own.
    fn enter(&mut self, pid: Pid, control: Option<OwnedFd>, asker: Option<OwnedFd>) -> io::Result<()> {
        match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(pidfd) => {
                self.0.push(Child { control, asker, pidfd, pid, ended: false });
                Ok(())
            }
            Err(error) => {
                let _ = match control {
                    Some(_) => kill_process_group(pid, Signal::KILL),
                    None => kill_process(pid, Signal::KILL),
                };
                let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
                Err(error.into())
            }
        }
    }

    /// What to wait for.
    pub(super) fn polled(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().flat_map(|child| {
            let running = (!child.ended).then_some(&child.pidfd);
            // Nothing comes from who asks: it is looked for its end alone.
            let asker = child.asker.iter().map(|asker| PollFd::new(asker, PollFlags::empty()));
            let heard = child.control.iter().chain(running);
            heard.map(|descriptor| PollFd::new(descriptor, PollFlags::IN)).chain(asker)
        })
    }

    /// Hears and tells what there is, without waiting.
    pub(super) fn attend(&mut self) {
        self.0.retain_mut(|child| child.attend());
    }

    /// Ends all of them, at once.
    pub(super) fn end(&mut self) {
        for child in &self.0 {
            if child.control.is_some() {
                let _ = kill_process_group(child.pid, Signal::KILL);
            }
        }
    }
}

impl Child {
    /// Whether there is more to do for it.
    fn attend(&mut self) -> bool {
        if let Some(control) = &self.control {
            loop {
                let mut octet = [0];
                match message::receive(control, &mut octet, RecvFlags::DONTWAIT) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Ok((1, _)) => self.signal(octet),
                    // Nobody is there any more to end it.
                    _ => {
                        if !self.ended {
                            self.signal([9]);
                        }
                        self.control = None;
                        break;
                    }
                }
            }
        }
        if self.asker.as_ref().is_some_and(is_closed) {
            // Where it has answered it ends just now anyway.
            let _ = kill_process(self.pid, Signal::KILL);
            self.asker = None;
        }
        // Not waited for before its user is gone: until then nobody else gets its number, and signals
        // reach its group alone.
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let keep = if self.control.is_some() { WaitIdOptions::NOWAIT } else { WaitIdOptions::empty() };
        if self.ended && self.control.is_some() {
            return true;
        }
        match waitid(WaitId::Pid(self.pid), look | keep) {
            Ok(None) => true,
            Ok(Some(status)) => {
                let code = status.exit_status().map(|code| (code & 0xff) << 8);
                let raw = code.or(status.terminating_signal()).unwrap_or(0);
                self.ended = true;
                if let Some(control) = &self.control {
                    let _ = message::send(control.as_fd(), &raw.to_ne_bytes(), &[], SendFlags::DONTWAIT);
                }
                self.control.is_some()
            }
            Err(_) => false,
        }
    }

    fn signal(&self, octet: [u8; 1]) {
        let signal = match octet {
            [15] => Signal::TERM,
            [9] => Signal::KILL,
            _ => return,
        };
        let _ = kill_process_group(self.pid, signal);
    }
}

/// Whether the other end of a socket is closed.
fn is_closed(socket: &OwnedFd) -> bool {
    let mut polled = [PollFd::new(socket, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    matches!(poll(&mut polled, Some(&now)), Ok(1..))
}
