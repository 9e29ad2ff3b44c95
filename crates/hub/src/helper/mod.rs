//! A small process that kept root's rights, and opens for the main one, which gave them up.
//!
//! It opens only what the operator named at start, or names in the configuration file, which it reads
//! itself: the main process can ask for nothing else. Descriptors come over a socket. What it opens has
//! the rights of who started pcaphub, and so have commands.

mod children;
mod folder;
mod message;
mod permits;
mod serve;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

use pcaphub_sys::{Device, Injector, Layer, PacketSocket, Tap};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use rustix::process::Signal;
use socket2::Socket;

use self::message::{ANSWER, Answer, REQUEST};
use crate::directory::Directory;
use crate::opener::{Found, Interface, Opener, Pipe, Process, Renewal, Spawned, System, Wire};

pub use self::message::Request;
pub use self::permits::Permits;
pub use self::serve::Helper;

/// How often it is looked whether a file that may never be opened is still wanted.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 250_000_000 };

/// Opens through the helper.
#[derive(Debug)]
pub struct Remote {
    socket: OwnedFd,
}

/// The two ends of what joins the processes: the main one's, and the helper's.
///
/// # Errors
/// Of the system.
pub fn joined() -> io::Result<(Remote, OwnedFd)> {
    let (ours, theirs) = message::pair()?;
    Ok((Remote { socket: ours }, theirs))
}

impl Remote {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What the helper said; `PermissionDenied` for what was not named; `BrokenPipe` where it is gone.
    fn ask(&self, request: &Request) -> io::Result<(Answer, Vec<OwnedFd>)> {
        hear(&self.send(request)?)
    }

    /// Asks; where the answer comes. The helper gives up what still waits once that is closed.
    fn send(&self, request: &Request) -> io::Result<OwnedFd> {
        let octets = serde_json::to_vec(request)?;
        if octets.len() > REQUEST {
            return Err(rustix::io::Errno::TOOBIG.into());
        }
        let (ours, theirs) = message::pair()?;
        let sent = message::send(self.socket.as_fd(), &octets, &[theirs.as_fd()], SendFlags::empty());
        sent.map_err(|error| if error.kind() == io::ErrorKind::BrokenPipe { gone() } else { error })?;
        Ok(ours)
    }

    /// One descriptor.
    fn open(&self, request: &Request) -> io::Result<OwnedFd> {
        let (_, descriptors) = self.ask(request)?;
        descriptors.into_iter().next().ok_or_else(gone)
    }

    /// Lets the helper go: it ends the commands that are left, and itself.
    pub fn dismiss(&self) {
        let _ = rustix::net::shutdown(&self.socket, Shutdown::Both);
    }
}

/// Waits for the answer.
fn hear(ours: &OwnedFd) -> io::Result<(Answer, Vec<OwnedFd>)> {
    let mut buffer = [0; ANSWER];
    let (length, descriptors) = message::receive(ours, &mut buffer, RecvFlags::empty())?;
    match buffer.get(..length).filter(|octets| !octets.is_empty()) {
        None => Err(gone()),
        Some(octets) => match serde_json::from_slice(octets)? {
            Answer::Failed(failure) => Err(failure.into()),
            answer => Ok((answer, descriptors)),
        },
    }
}

fn gone() -> io::Error {
    let why = "the helper process, which opens with root's rights, has ended; restart pcaphub";
    io::Error::new(io::ErrorKind::BrokenPipe, why)
}

impl Opener for Remote {
    fn read_file(&self, path: &Path) -> io::Result<File> {
        self.open(&Request::Read(path.into())).map(File::from)
    }

    fn read_file_while(&self, path: &Path, wanted: &dyn Fn() -> bool) -> io::Result<File> {
        let ours = self.send(&Request::Read(path.into()))?;
        let mut polled = [PollFd::new(&ours, PollFlags::IN)];
        while rustix::io::retry_on_intr(|| poll(&mut polled, Some(&LOOK)))? == 0 {
            if !wanted() {
                return Err(Errno::CANCELED.into());
            }
        }
        let (_, descriptors) = hear(&ours)?;
        descriptors.into_iter().next().map(File::from).ok_or_else(gone)
    }

    fn write_file(&self, path: &Path) -> io::Result<File> {
        self.open(&Request::Write(path.into())).map(File::from)
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        self.ask(&Request::MayWrite(path.into())).map(drop)
    }

    fn directory(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        let control = self.open(&Request::Directory(path.into()))?;
        Ok(Box::new(folder::RemoteFolder::new(control)))
    }

    fn tcp_socket(&self, remote: SocketAddr, bind: Option<IpAddr>) -> io::Result<Socket> {
        System.tcp_socket(remote, bind)
    }

    fn listen_tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        match System.listen_tcp(address) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                self.open(&Request::ListenTcp(address)).map(TcpListener::from)
            }
            listening => listening,
        }
    }

    fn connect_unix(&self, path: &Path) -> io::Result<UnixStream> {
        self.open(&Request::ConnectUnix(path.into())).map(UnixStream::from)
    }

    fn listen_unix(&self, path: &Path) -> io::Result<UnixListener> {
        self.open(&Request::ListenUnix(path.into())).map(UnixListener::from)
    }

    fn look(&self, path: &Path) -> io::Result<Found> {
        match self.ask(&Request::Look(path.into()))? {
            (Answer::Found(kind, identity), _) => Ok(message::found(kind, identity)),
            _ => Err(gone()),
        }
    }

    fn remove_unix(&self, path: &Path) -> io::Result<()> {
        self.ask(&Request::RemoveUnix(path.into())).map(drop)
    }

    fn packet_socket(&self, layer: Layer, interface: &str) -> io::Result<PacketSocket> {
        let request = Request::Capture { cut: layer == Layer::Cut, interface: interface.into() };
        self.open(&request).map(PacketSocket::from)
    }

    fn injector(&self, interface: &str) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(RemoteInterface { helper: self.again()?, interface: self.interface(interface)? }))
    }

    fn tap(&self, interface: &str) -> io::Result<Box<dyn Wire>> {
        let (answer, descriptors) = self.ask(&Request::Tap(interface.into()))?;
        match (answer, descriptors.into_iter().next()) {
            (Answer::Mtu(mtu), Some(descriptor)) => Ok(Box::new(Tap::from_parts(descriptor, mtu))),
            _ => Err(gone()),
        }
    }

    fn spawn(&self, argv: &[String], pipe: Pipe) -> io::Result<Spawned> {
        let stdin = pipe == Pipe::Stdin;
        let (_, descriptors) = self.ask(&Request::Spawn { argv: argv.to_vec(), stdin })?;
        let Ok([control, ours, stderr]) = <[OwnedFd; 3]>::try_from(descriptors) else { return Err(gone()) };
        let (stdin, stdout) = match pipe {
            Pipe::Stdin => (Some(ours.into()), None),
            Pipe::Stdout => (None, Some(ours.into())),
        };
        let process = Box::new(RemoteProcess { control, status: None });
        Ok(Spawned { process, stdin, stdout, stderr: Some(stderr.into()) })
    }

    fn renew(&self) -> io::Result<()> {
        self.ask(&Request::Renew).map(drop)
    }

    fn settle(&self, renewal: Renewal) {
        // Fails where the helper is gone, which is told elsewhere.
        let _ = self.ask(&Request::Settle(renewal));
    }
}

impl Remote {
    /// Another handle on the same helper.
    fn again(&self) -> io::Result<Remote> {
        Ok(Remote { socket: self.socket.try_clone()? })
    }

    fn interface(&self, name: &str) -> io::Result<Interface> {
        let device = Device::find(name)?.ok_or(io::ErrorKind::NotFound)?;
        let socket = self.open(&Request::Inject(name.into())).map(PacketSocket::from)?;
        Ok(Interface { name: name.to_owned(), mtu: device.mtu, injector: Injector::new(socket, &device)? })
    }
}

/// An interface that is sent on through a socket of the helper's.
struct RemoteInterface {
    helper: Remote,
    interface: Interface,
}

impl Wire for RemoteInterface {
    fn send(&self, packets: &[&[u8]]) -> io::Result<usize> {
        self.interface.send(packets)
    }

    fn wait(&self, time: std::time::Duration) -> io::Result<()> {
        self.interface.wait(time)
    }

    fn mtu(&self) -> usize {
        self.interface.mtu()
    }

    fn has_carrier(&self) -> bool {
        self.interface.has_carrier()
    }

    fn reopen(&mut self) -> io::Result<()> {
        let device = Device::find(&self.interface.name)?.ok_or(io::ErrorKind::NotFound)?;
        if device.index != self.interface.injector.interface() {
            self.interface = self.helper.interface(&self.interface.name)?;
        }
        Ok(())
    }
}

/// A child of the helper's.
struct RemoteProcess {
    control: OwnedFd,
    status: Option<ExitStatus>,
}

impl RemoteProcess {
    fn hear(&mut self, flags: RecvFlags) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let mut raw = [0; 4];
        match message::receive(&self.control, &mut raw, flags)? {
            (4, _) => Ok(*self.status.insert(ExitStatus::from_raw(i32::from_ne_bytes(raw)))),
            _ => Err(gone()),
        }
    }
}

impl Process for RemoteProcess {
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        match self.hear(RecvFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            heard => heard.map(Some),
        }
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        self.hear(RecvFlags::empty())
    }

    fn signal(&self, signal: Signal) {
        let number = if signal == Signal::KILL { 9 } else { 15 };
        // Fails where it is gone.
        let _ = message::send(self.control.as_fd(), &[number], &[], SendFlags::DONTWAIT);
    }
}
