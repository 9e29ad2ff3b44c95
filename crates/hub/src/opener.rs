//! The one seam through which everything is opened: files, sockets, children.
//!
//! Where pcaphub was started as root, a small process stands behind it that kept those rights
//! (`helper`); nothing else in the hub calls the system to get a descriptor for what it names.

use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use pcaphub_sys::{Device, Injector, Layer, PacketSocket, Tap};
use rustix::fs::{Access, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};

use crate::directory::{Directory, Folder};

/// Variables of the environment that are between the service manager and this process alone; a child that
/// had them could speak in our name.
const OURS: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"];

/// Which of a child's standard streams is ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pipe {
    /// We read its standard output.
    Stdout,
    /// We write its standard input.
    Stdin,
}

/// Opens things. [`System`] asks the operating system itself.
pub trait Opener: Send + Sync {
    /// A file, FIFO or device to read.
    fn read_file(&self, path: &Path) -> io::Result<File>;
    /// The same, for one that waits for somebody else, such as a FIFO for its writer: where that can be
    /// given up, it is soon after it is not `wanted` any more.
    ///
    /// # Errors
    /// As of [`read_file`](Self::read_file); ECANCELED where it was given up.
    fn read_file_while(&self, path: &Path, _wanted: &dyn Fn() -> bool) -> io::Result<File> {
        self.read_file(path)
    }
    /// A file to write from its beginning: a new one of mode 0600 in the place of what had its name, never
    /// through a symbolic link; a FIFO or device as it is.
    fn write_file(&self, path: &Path) -> io::Result<File>;
    /// Looks whether [`write_file`](Self::write_file) would be refused, and touches nothing.
    ///
    /// # Errors
    /// What it would be refused for, as far as that can be known before.
    fn may_write(&self, path: &Path) -> io::Result<()>;
    /// A directory to record files into, made with mode 0700 if it is missing (its parents are not),
    /// never through a symbolic link. [`ResourceBusy`](io::ErrorKind::ResourceBusy) is the error while
    /// another recorder has it.
    fn directory(&self, path: &Path) -> io::Result<Box<dyn Directory>>;
    /// A socket, bound but not connected; non-blocking.
    fn tcp_socket(&self, remote: SocketAddr, bind: Option<IpAddr>) -> io::Result<Socket>;
    /// A listening socket, non-blocking.
    fn listen_tcp(&self, address: SocketAddr) -> io::Result<TcpListener>;
    /// A connected Unix socket, non-blocking.
    fn connect_unix(&self, path: &Path) -> io::Result<UnixStream>;
    /// A listening Unix socket of mode 0600, non-blocking. A socket that nobody listens on any
    /// more is replaced.
    fn listen_unix(&self, path: &Path) -> io::Result<UnixListener>;
    /// What is there under this name, symbolic links followed.
    fn look(&self, path: &Path) -> io::Result<Found>;
    /// Takes away a Unix socket that [`listen_unix`](Self::listen_unix) made.
    fn remove_unix(&self, path: &Path) -> io::Result<()>;
    /// A socket for live capture on an interface, or on `any`; not bound yet.
    fn packet_socket(&self, layer: Layer, interface: &str) -> io::Result<PacketSocket>;
    /// An interface to send on.
    fn injector(&self, interface: &str) -> io::Result<Box<dyn Wire>>;
    /// An interface that is made, and there as long as this lives.
    fn tap(&self, interface: &str) -> io::Result<Box<dyn Wire>>;
    /// A child in a process group of its own.
    fn spawn(&self, argv: &[String], pipe: Pipe) -> io::Result<Spawned>;
    /// From now on also what a changed configuration names may be opened.
    ///
    /// # Errors
    /// The configuration is wrong; what may be opened is as it was.
    fn renew(&self) -> io::Result<()> {
        Ok(())
    }
    /// From now on only what one of the configurations names, between which the last
    /// [`renew`](Self::renew) left it open.
    fn settle(&self, _renewal: Renewal) {}
}

/// What became of a changed configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Renewal {
    /// It is in use.
    Taken,
    /// The one before stays in use.
    Refused,
}

/// What is there under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Of which kind it is.
    pub kind: Kind,
    /// The file system, and the number there: two names with the same are one file.
    pub identity: (u64, u64),
}

/// Kinds of what has a name in a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A FIFO, a device, a socket.
    Other,
}

/// A child that was started, and the ends of its pipes that are ours.
pub struct Spawned {
    /// The child.
    pub process: Box<dyn Process>,
    /// Its standard input, if that was asked for.
    pub stdin: Option<ChildStdin>,
    /// Its standard output, if that was asked for.
    pub stdout: Option<ChildStdout>,
    /// Its standard error.
    pub stderr: Option<ChildStderr>,
}

/// A child, in a process group of its own.
pub trait Process: Send {
    /// Its status, if it has ended.
    ///
    /// # Errors
    /// It cannot be known any more.
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>>;
    /// Its status, once it has ended.
    ///
    /// # Errors
    /// It cannot be known any more.
    fn wait(&mut self) -> io::Result<ExitStatus>;
    /// Sends a signal to its whole group.
    fn signal(&self, signal: Signal);
}

impl Process for Child {
    fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        Child::try_wait(self)
    }

    fn wait(&mut self) -> io::Result<ExitStatus> {
        Child::wait(self)
    }

    fn signal(&self, signal: Signal) {
        // Fails where all of it is gone, which is what is wanted.
        let _ = kill_process_group(Pid::from_child(self), signal);
    }
}

impl From<Child> for Spawned {
    fn from(mut child: Child) -> Self {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        Spawned { process: Box::new(child), stdin, stdout, stderr }
    }
}

/// What packets are sent on.
pub trait Wire: Send {
    /// Sends packets in their order; how many were taken, at least one.
    ///
    /// # Errors
    /// Of the first packet; see [`Injector::send`].
    fn send(&self, packets: &[&[u8]]) -> io::Result<usize>;
    /// Waits until there may be room for more, at most `time`.
    ///
    /// # Errors
    /// Of the system.
    fn wait(&self, time: Duration) -> io::Result<()>;
    /// Octets that the network layer of a packet may have, at this moment.
    fn mtu(&self) -> usize;
    /// Whether packets arrive somewhere, at this moment; `false` only where they would be taken and lost.
    fn has_carrier(&self) -> bool;
    /// Finds the interface again after it was away.
    ///
    /// # Errors
    /// It is still away.
    fn reopen(&mut self) -> io::Result<()>;
}

/// An interface that there is.
pub(crate) struct Interface {
    pub(crate) name: String,
    pub(crate) mtu: usize,
    pub(crate) injector: Injector,
}

impl Interface {
    fn open(name: &str) -> io::Result<Self> {
        let device = Device::find(name)?.ok_or(io::ErrorKind::NotFound)?;
        let injector = Injector::new(PacketSocket::new(Layer::Whole)?, &device)?;
        Ok(Interface { name: name.to_owned(), mtu: device.mtu, injector })
    }
}

impl Wire for Interface {
    fn send(&self, packets: &[&[u8]]) -> io::Result<usize> {
        self.injector.send(packets)
    }

    fn wait(&self, time: Duration) -> io::Result<()> {
        self.injector.wait(time)
    }

    fn mtu(&self) -> usize {
        // It may be changed at any time; that of an interface which is away is the last one.
        Device::find(&self.name).ok().flatten().map_or(self.mtu, |device| device.mtu)
    }

    fn has_carrier(&self) -> bool {
        // One that is down or away says so itself when it is sent on.
        Device::find(&self.name).ok().flatten().is_none_or(|device| device.running || !device.up)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let device = Device::find(&self.name)?.ok_or(io::ErrorKind::NotFound)?;
        if device.index != self.injector.interface() {
            *self = Interface::open(&self.name)?;
        }
        Ok(())
    }
}

impl Wire for Tap {
    fn send(&self, packets: &[&[u8]]) -> io::Result<usize> {
        self.send(packets)
    }

    fn wait(&self, time: Duration) -> io::Result<()> {
        std::thread::sleep(time);
        Ok(())
    }

    fn mtu(&self) -> usize {
        self.mtu()
    }

    fn has_carrier(&self) -> bool {
        // We hold its other end.
        true
    }

    fn reopen(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Opens with this process's own rights.
#[derive(Debug, Clone, Copy, Default)]
pub struct System;

/// Connections waiting to be accepted; the kernel cuts it to its own bound.
const BACKLOG: i32 = 1024;

/// Finds a dead peer within `time` while nothing is sent to it: the first probe after half of it, then
/// two more, a sixth of it apart. Seconds are the system's unit; one of each is the least.
pub fn set_keepalive(socket: SockRef<'_>, time: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time((time / 2).max(Duration::from_secs(1)))
        .with_interval((time / 6).max(Duration::from_secs(1)))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

impl Opener for System {
    fn read_file(&self, path: &Path) -> io::Result<File> {
        read_with(path, OFlags::empty())
    }

    fn write_file(&self, path: &Path) -> io::Result<File> {
        write_with(path, OFlags::empty())
    }

    fn may_write(&self, path: &Path) -> io::Result<()> {
        let access = |path: &Path, access| {
            rustix::fs::accessat(rustix::fs::CWD, path, access, rustix::fs::AtFlags::EACCESS)
        };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let in_folder = access(folder.unwrap_or(Path::new(".")), Access::WRITE_OK | Access::EXEC_OK);
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(in_folder?),
            Err(error) => Err(error),
            Ok(there) if there.is_symlink() => Err(rustix::io::Errno::LOOP.into()),
            Ok(there) if there.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
            Ok(there) if there.is_file() && there.nlink() > 1 => Err(linked()),
            // It is written, or another takes its place.
            Ok(_) => Ok(access(path, Access::WRITE_OK)?),
        }
    }

    fn directory(&self, path: &Path) -> io::Result<Box<dyn Directory>> {
        Ok(Box::new(Folder::open(path)?))
    }

    fn tcp_socket(&self, remote: SocketAddr, bind: Option<IpAddr>) -> io::Result<Socket> {
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        let any = match remote {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        // Bound before it connects, so that a live capture can exclude it before it carries
        // anything.
        socket.bind(&SocketAddr::new(bind.unwrap_or(any), 0).into())?;
        Ok(socket)
    }

    fn listen_tcp(&self, address: SocketAddr) -> io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    }

    fn connect_unix(&self, path: &Path) -> io::Result<UnixStream> {
        // Where the other side's queue is full this fails at once: whoever asks tries again.
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.connect(&SockAddr::unix(path)?)?;
        Ok(UnixStream::from(OwnedFd::from(socket)))
    }

    fn listen_unix(&self, path: &Path) -> io::Result<UnixListener> {
        if let Ok(metadata) = std::fs::symlink_metadata(path) {
            if !metadata.file_type().is_socket() {
                let why = "what is there is no socket, and stays: take it away, or choose another path";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            let abandoned =
                self.connect_unix(path).is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
            if !abandoned {
                return Err(io::Error::from(io::ErrorKind::AddrInUse));
            }
            std::fs::remove_file(path)?;
        }
        // The mode must hold from the first moment; a chmod afterwards would leave a gap. The
        // umask is the whole process's, so this runs before anything else is opened.
        let before = rustix::process::umask(rustix::fs::Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        rustix::process::umask(before);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn look(&self, path: &Path) -> io::Result<Found> {
        let metadata = std::fs::metadata(path)?;
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Directory,
            _ => Kind::Other,
        };
        Ok(Found { kind, identity: (metadata.dev(), metadata.ino()) })
    }

    fn remove_unix(&self, path: &Path) -> io::Result<()> {
        if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
            return Err(io::Error::other("it is no socket"));
        }
        std::fs::remove_file(path)
    }

    fn packet_socket(&self, layer: Layer, _interface: &str) -> io::Result<PacketSocket> {
        PacketSocket::new(layer)
    }

    fn injector(&self, interface: &str) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(Interface::open(interface)?))
    }

    fn tap(&self, interface: &str) -> io::Result<Box<dyn Wire>> {
        Ok(Box::new(Tap::create(interface)?))
    }

    fn spawn(&self, argv: &[String], pipe: Pipe) -> io::Result<Spawned> {
        Ok(command(argv, pipe)?.spawn()?.into())
    }
}

/// A command as children are started: in a group of its own, with pipes, and without what the service manager
/// gave to us.
///
/// # Errors
/// It has no words.
pub fn command(argv: &[String], pipe: Pipe) -> io::Result<Command> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(io::Error::other("an empty command"));
    };
    let mut command = Command::new(program);
    command.args(arguments).process_group(0).stderr(Stdio::piped());
    for name in OURS {
        command.env_remove(name);
    }
    match pipe {
        Pipe::Stdout => command.stdin(Stdio::null()).stdout(Stdio::piped()),
        Pipe::Stdin => command.stdin(Stdio::piped()).stdout(Stdio::null()),
    };
    Ok(command)
}

/// See [`Opener::read_file`]; `flags` are added to those of the system call.
pub(crate) fn read_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path)?;
    if file.metadata()?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    Ok(file)
}

/// See [`Opener::write_file`]; `flags` are added to those of the system call.
pub(crate) fn write_with(path: &Path, flags: OFlags) -> io::Result<File> {
    let options = |new: bool| {
        let mut options = OpenOptions::new();
        let flags = (flags | OFlags::NOFOLLOW).bits() as i32;
        options.write(true).create_new(new).mode(0o600).custom_flags(flags);
        options
    };
    match options(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        created => return created,
    }
    let file = options(false).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(file);
    }
    if metadata.nlink() > 1 {
        return Err(linked());
    }
    // Another file takes its place: who has the old one open, since its mode let them, gets nothing.
    if std::fs::remove_file(path).is_ok() {
        return options(true).open(path);
    }
    // It cannot go, for instance as a file that a container was given.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.set_len(0)?;
    Ok(file)
}

fn linked() -> io::Error {
    io::Error::other("it has several hard links; give another name")
}
