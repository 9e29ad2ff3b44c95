//! What the two processes say to each other: one request or answer a datagram, with descriptors.

use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

use crate::opener::{Found, Kind, Renewal};

/// What is asked for; by [`Opener`](crate::opener::Opener).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// `read_file`
    Read(PathBuf),
    /// `write_file`
    Write(PathBuf),
    /// `may_write`
    MayWrite(PathBuf),
    /// `directory`
    Directory(PathBuf),
    /// `look`
    Look(PathBuf),
    /// `listen_tcp`
    ListenTcp(SocketAddr),
    /// `connect_unix`
    ConnectUnix(PathBuf),
    /// `listen_unix`
    ListenUnix(PathBuf),
    /// `remove_unix`
    RemoveUnix(PathBuf),
    /// `packet_socket`
    Capture {
        /// Whether the link-layer header is cut off.
        cut: bool,
        /// On which interface.
        interface: String,
    },
    /// `injector`
    Inject(String),
    /// `tap`
    Tap(String),
    /// `spawn`
    Spawn {
        /// The command's words.
        argv: Vec<String>,
        /// Whether its standard input is a pipe, and not its standard output.
        stdin: bool,
    },
    /// `renew`
    Renew,
    /// `settle`
    Settle(Renewal),
}

/// What comes back, besides descriptors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// It is done.
    Done,
    /// What is there: a kind (0 file, 1 directory, 2 other) and an identity.
    Found(u8, (u64, u64)),
    /// The MTU of the interface that was made.
    Mtu(usize),
    /// It failed.
    Failed(Failure),
}

/// An error of the system, or of ours, as it goes to the other process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Failure {
    errno: Option<i32>,
    kind: usize,
    text: String,
}

/// Kinds that callers tell apart and that come without an errno.
const KINDS: [ErrorKind; 8] = [
    ErrorKind::Other,
    ErrorKind::NotFound,
    ErrorKind::PermissionDenied,
    ErrorKind::AlreadyExists,
    ErrorKind::AddrInUse,
    ErrorKind::Unsupported,
    ErrorKind::IsADirectory,
    ErrorKind::InvalidInput,
];

impl From<&io::Error> for Failure {
    fn from(error: &io::Error) -> Self {
        let kind = KINDS.iter().position(|kind| *kind == error.kind()).unwrap_or(0);
        let text = error.to_string().chars().take(TEXT).collect();
        Failure { errno: error.raw_os_error(), kind, text }
    }
}

impl From<Failure> for io::Error {
    fn from(failure: Failure) -> Self {
        match failure.errno {
            Some(errno) => io::Error::from_raw_os_error(errno),
            None => {
                let kind = KINDS.get(failure.kind).copied().unwrap_or(ErrorKind::Other);
                io::Error::new(kind, failure.text)
            }
        }
    }
}

impl From<Found> for Answer {
    fn from(found: Found) -> Self {
        let kind = match found.kind {
            Kind::File => 0,
            Kind::Directory => 1,
            Kind::Other => 2,
        };
        Answer::Found(kind, found.identity)
    }
}

/// What was found, as it came.
pub(super) fn found(kind: u8, identity: (u64, u64)) -> Found {
    let kind = match kind {
        0 => Kind::File,
        1 => Kind::Directory,
        _ => Kind::Other,
    };
    Found { kind, identity }
}

/// Characters of an error's text.
const TEXT: usize = 2000;
/// Octets of a request: the words of a command are most of it.
pub(super) const REQUEST: usize = 128 << 10;
/// Octets of an answer.
pub(super) const ANSWER: usize = 16 << 10;
/// Descriptors of a message.
const DESCRIPTORS: usize = 4;

/// Two ends that keep datagrams apart and tell when the other is closed.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}

/// Sends a message; `flags` say whether it may wait.
pub(super) fn send(
    socket: BorrowedFd<'_>,
    octets: &[u8],
    descriptors: &[BorrowedFd<'_>],
    flags: SendFlags,
) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(ErrorKind::InvalidInput.into());
    }
    let parts = [IoSlice::new(octets)];
    let flags = flags | SendFlags::NOSIGNAL;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(socket, &parts, &mut control, flags))?;
    Ok(())
}

/// Receives a message into `buffer`: its octets, none once the other end is closed, and its
/// descriptors.
pub(super) fn receive(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: RecvFlags,
) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    let mut parts = [IoSliceMut::new(buffer)];
    let received =
        rustix::io::retry_on_intr(|| rustix::net::recvmsg(&socket, &mut parts, &mut control, flags))?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(list) = message {
            descriptors.extend(list);
        }
    }
    if received.flags.contains(ReturnFlags::CTRUNC) {
        // They did not fit into this process's table.
        return Err(rustix::io::Errno::MFILE.into());
    }
    if received.flags.contains(ReturnFlags::TRUNC) {
        return Err(rustix::io::Errno::MSGSIZE.into());
    }
    Ok((received.bytes, descriptors))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_of_the_same_kind_on_the_other_side() {
        let system = io::Error::from_raw_os_error(rustix::io::Errno::ACCESS.raw_os_error());
        let ours = io::Error::new(ErrorKind::PermissionDenied, "CAP_NET_RAW is missing");
        for error in [system, ours, ErrorKind::AddrInUse.into(), io::Error::other("several hard links")] {
            let there = io::Error::from(Failure::from(&error));
            assert_eq!((there.kind(), there.to_string()), (error.kind(), error.to_string()));
        }
    }

    #[test]
    fn requests_come_as_they_went_with_their_descriptors() {
        let (ours, theirs) = pair().unwrap();
        let request = Request::Spawn { argv: vec!["x\u{e9}\n".into(), String::new()], stdin: true };
        let octets = serde_json::to_vec(&request).unwrap();
        send(ours.as_fd(), &octets, &[ours.as_fd(), theirs.as_fd()], SendFlags::empty()).unwrap();
        let mut buffer = vec![0; REQUEST];
        let (length, descriptors) = receive(&theirs, &mut buffer, RecvFlags::empty()).unwrap();
        assert_eq!(serde_json::from_slice::<Request>(&buffer[..length]).unwrap(), request);
        assert_eq!(descriptors.len(), 2);
        drop((ours, descriptors));
        assert_eq!(receive(&theirs, &mut buffer, RecvFlags::empty()).unwrap().0, 0);
    }
}
