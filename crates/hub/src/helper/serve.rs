//! The helper's own side: it waits for requests, looks whether what they name was named by the
//! operator, and opens it. One thread, which never waits for anything else.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use pcaphub_sys::{Device, Forked, Injector, Layer, PacketSocket, Tap};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::Pid;

use super::children::Children;
use super::folder;
use super::message::{self, Answer, Failure, REQUEST, Request};
use super::permits::Permits;
use crate::opener::{Kind, Opener, Renewal, System, read_with, write_with};

/// Refusals that are told in a second; more of them say nothing new.
const TOLD: u32 = 10;

/// What the helper works with.
pub struct Helper<'a> {
    /// Requests come here.
    pub socket: OwnedFd,
    /// What may be opened.
    pub permits: Permits,
    /// Reads the configuration again, where there is one.
    pub renew: &'a dyn Fn() -> Result<Permits, String>,
    /// Where refusals are told.
    pub tell: &'a dyn Fn(&str),
}

struct Serving<'a> {
    helper: Helper<'a>,
    /// What the configuration in use names.
    settled: Permits,
    /// What the one names that was read last.
    newest: Permits,
    children: Children,
    second: Instant,
    told: u32,
}

/// What an answer takes along.
type Descriptors = Vec<OwnedFd>;

impl Helper<'_> {
    /// Serves until the other process is gone, then ends the commands that are left.
    pub fn serve(self) {
        let (settled, newest) = (self.permits.clone(), self.permits.clone());
        let (children, second) = (Children::default(), Instant::now());
        let mut serving = Serving { helper: self, settled, newest, children, second, told: 0 };
        let mut buffer = vec![0; REQUEST];
        while serving.turn(&mut buffer) {}
        serving.children.end();
    }
}

impl Serving<'_> {
    /// Waits for something, and does it; whether there will be more.
    fn turn(&mut self, buffer: &mut [u8]) -> bool {
        let request = {
            let socket = PollFd::from_borrowed_fd(self.helper.socket.as_fd(), PollFlags::IN);
            let mut polled: Vec<PollFd<'_>> = std::iter::once(socket).chain(self.children.polled()).collect();
            match poll(&mut polled, None) {
                Ok(_) => polled.first().is_some_and(|socket| !socket.revents().is_empty()),
                Err(Errno::INTR) => false,
                Err(_) => return false,
            }
        };
        self.children.attend();
        if !request {
            return true;
        }
        match message::receive(&self.helper.socket, buffer, RecvFlags::DONTWAIT) {
            Ok((0, _)) => false,
            Ok((length, descriptors)) => {
                let request = buffer.get(..length).and_then(|octets| serde_json::from_slice(octets).ok());
                if let (Some(request), Some(back)) = (request, descriptors.into_iter().next()) {
                    self.heed(&request, &back);
                }
                true
            }
            // Too long, or more descriptors than we have room for: its sender hears that we closed them.
            Err(error) => !matches!(error.kind(), io::ErrorKind::ConnectionReset),
        }
    }

    fn heed(&mut self, request: &Request, back: &OwnedFd) {
        if !self.helper.permits.allow(request) {
            self.tell(&format!("refused, because it was not named at start: {request:?}"));
            answer(back.as_fd(), Err(Errno::ACCESS.into()));
            return;
        }
        let opened = match request {
            Request::Read(path) => match self.waits(path) {
                true => return self.open_later(request, back),
                false => at_once(read_with(path, OFlags::NONBLOCK)),
            },
            Request::Write(path) => match self.waits(path) {
                true => return self.open_later(request, back),
                false => at_once(write_with(path, OFlags::NONBLOCK)),
            },
            Request::MayWrite(path) => System.may_write(path).map(|()| (Answer::Done, Vec::new())),
            Request::Directory(_) => return self.open_later(request, back),
            Request::Look(path) => System.look(path).map(|found| (found.into(), Vec::new())),
            Request::ListenTcp(address) => System.listen_tcp(*address).map(|socket| done(socket.into())),
            Request::ConnectUnix(path) => System.connect_unix(path).map(|socket| done(socket.into())),
            Request::ListenUnix(path) => System.listen_unix(path).map(|socket| done(socket.into())),
            Request::RemoveUnix(path) => System.remove_unix(path).map(|()| (Answer::Done, Vec::new())),
            Request::Capture { cut, .. } => {
                let layer = if *cut { Layer::Cut } else { Layer::Whole };
                PacketSocket::new(layer).and_then(|socket| duplicate(socket.as_fd()))
            }
            Request::Inject(interface) => injector(interface),
            Request::Tap(interface) => Tap::create(interface).map(|tap| {
                let (descriptor, mtu) = tap.into_parts();
                (Answer::Mtu(mtu), vec![descriptor])
            }),
            Request::Spawn { argv, stdin } => {
                self.children.spawn(argv, *stdin).map(|ends| (Answer::Done, ends.into()))
            }
            Request::Renew => (self.helper.renew)().map_err(io::Error::other).map(|permits| {
                self.helper.permits = self.settled.clone();
                self.helper.permits.extend(&permits);
                self.newest = permits;
                (Answer::Done, Vec::new())
            }),
            Request::Settle(renewal) => {
                if *renewal == Renewal::Taken {
                    self.settled = self.newest.clone();
                }
                self.helper.permits = self.settled.clone();
                Ok((Answer::Done, Vec::new()))
            }
        };
        answer(back.as_fd(), opened);
    }

    /// Whether opening it may wait for somebody: a FIFO, a terminal.
    fn waits(&self, path: &Path) -> bool {
        System.look(path).is_ok_and(|found| found.kind == Kind::Other)
    }

    /// Opens in a process of its own, which may wait as long as it takes; for a directory it stays.
    fn open_later(&mut self, request: &Request, back: &OwnedFd) {
        let ours = std::process::id();
        // A directory has a user of its own as soon as it is open; what opens a file ends with the answer,
        // or once nobody waits for that.
        let asker = match request {
            Request::Directory(_) => Ok(None),
            _ => back.try_clone().map(Some),
        };
        let forked = self.children.room().and(asker).and_then(|asker| Ok((pcaphub_sys::fork()?, asker)));
        match forked {
            Ok((Forked::Parent { child }, asker)) => {
                let pid = i32::try_from(child).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH);
                let entered = pid.map_err(Into::into).and_then(|pid| self.children.wait_for(pid, asker));
                if let Err(error) = entered {
                    answer(back.as_fd(), Err(error));
                }
            }
            Ok((Forked::Child, _)) => {
                if !pcaphub_sys::killed_with_parent(ours) {
                    std::process::exit(1);
                }
                let reply = |opened: io::Result<OwnedFd>| answer(back.as_fd(), opened.map(done));
                match request {
                    Request::Write(path) => reply(System.write_file(path).map(OwnedFd::from)),
                    Request::Read(path) => reply(System.read_file(path).map(OwnedFd::from)),
                    Request::Directory(path) => {
                        let templates = self.helper.permits.templates(path).to_vec();
                        folder::serve(path, &templates, |refusal| self.tell(refusal), reply);
                    }
                    _ => {}
                }
                std::process::exit(0);
            }
            Err(error) => answer(back.as_fd(), Err(error)),
        }
    }

    fn tell(&mut self, what: &str) {
        if self.second.elapsed() >= Duration::from_secs(1) {
            (self.second, self.told) = (Instant::now(), 0);
        }
        if self.told < TOLD {
            self.told += 1;
            (self.helper.tell)(what);
        }
    }
}

fn done(descriptor: OwnedFd) -> (Answer, Descriptors) {
    (Answer::Done, vec![descriptor])
}

fn duplicate(descriptor: BorrowedFd<'_>) -> io::Result<(Answer, Descriptors)> {
    descriptor.try_clone_to_owned().map(done)
}

/// A file as it is without O_NONBLOCK, with which it was opened in case it had become a FIFO since it
/// was looked at.
fn at_once(file: io::Result<File>) -> io::Result<(Answer, Descriptors)> {
    let file = file?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(done(file.into()))
}

/// A socket that is bound to the interface, and receives nothing.
fn injector(interface: &str) -> io::Result<(Answer, Descriptors)> {
    let device = Device::find(interface)?.ok_or(Errno::NOENT)?;
    let socket = PacketSocket::new(Layer::Whole)?;
    Injector::new(socket.clone(), &device)?;
    duplicate(socket.as_fd())
}

fn answer(back: BorrowedFd<'_>, opened: io::Result<(Answer, Descriptors)>) {
    let (answer, descriptors) = match opened {
        Ok(opened) => opened,
        Err(error) => (Answer::Failed(Failure::from(&error)), Vec::new()),
    };
    let Ok(octets) = serde_json::to_vec(&answer) else { return };
    let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
    // Fails where the one who asked is gone.
    let _ = message::send(back, &octets, &borrowed, SendFlags::DONTWAIT);
}
