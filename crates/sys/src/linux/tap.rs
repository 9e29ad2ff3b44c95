//! TAP interfaces of our own: what is written to one comes in on the interface
//! (Documentation/networking/tuntap.rst of Linux).

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;

use super::device::request;
use crate::live::Device;

/// An interface that is there as long as this lives.
#[derive(Debug)]
pub struct Tap {
    file: File,
    mtu: usize,
}

/// The largest that the kernel lets a TAP have: super-packets fit.
const MTU: libc::c_int = 65_521;

impl Tap {
    /// The error code of one that somebody took away (EBADFD).
    pub const TAKEN_AWAY: i32 = libc::EBADFD;

    /// Makes an interface and brings it up.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one of this name; `PermissionDenied` without CAP_NET_ADMIN, and, as the
    /// system's own error, where /dev/net/tun may not be opened; `NotFound` where there is none.
    pub fn create(name: &str) -> io::Result<Self> {
        let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "a name has 1 to 15 octets");
        let mut wanted = request(name).ok_or_else(invalid)?;
        if Device::find(name)?.is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file =
            OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        // Exclusive: it is ours or it fails.
        wanted.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short;
        // SAFETY: the call reads a name and flags from, and writes the name to, the ifreq.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut wanted) };
        if result < 0 {
            let error = io::Error::last_os_error();
            return Err(match error.raw_os_error() {
                Some(libc::EPERM) => io::Error::new(io::ErrorKind::PermissionDenied, error),
                Some(libc::EBUSY) => io::ErrorKind::AlreadyExists.into(),
                _ => error,
            });
        }
        // Without this the system would send packets of its own there. Fails where there is no IPv6.
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
        let mut tap = Tap { file, mtu: 1500 };
        let mut sized = request(name).ok_or_else(invalid)?;
        sized.ifr_ifru.ifru_mtu = MTU;
        if set(libc::SIOCSIFMTU, sized).is_ok() {
            tap.mtu = MTU.unsigned_abs() as usize;
        }
        let mut up = request(name).ok_or_else(invalid)?;
        up.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
        set(libc::SIOCSIFFLAGS, up)?;
        Ok(tap)
    }

    /// An interface that another process made: what [`into_parts`](Self::into_parts) gave there.
    pub fn from_parts(file: OwnedFd, mtu: usize) -> Self {
        Tap { file: file.into(), mtu }
    }

    /// What another process needs to go on with it: the interface lives as long as the descriptor.
    pub fn into_parts(self) -> (OwnedFd, usize) {
        (self.file.into(), self.mtu)
    }

    /// Octets that the network layer of a packet may have.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Sends packets in their order; how many were taken, at least one. They come in on the interface.
    ///
    /// # Errors
    /// Of the first packet: EIO where the interface is down, EINVAL where it is no packet.
    pub fn send(&self, packets: &[&[u8]]) -> io::Result<usize> {
        for (sent, packet) in packets.iter().enumerate() {
            match (&self.file).write(packet) {
                Ok(_) => {}
                Err(error) if sent == 0 => return Err(error),
                Err(_) => return Ok(sent),
            }
        }
        Ok(packets.len())
    }
}

fn set(what: libc::Ioctl, mut request: libc::ifreq) -> io::Result<()> {
    let socket = UnixDatagram::unbound()?;
    // SAFETY: these calls read a name and a value from the ifreq that the pointer is to.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), what, &raw mut request) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::EPERM) => io::Error::new(io::ErrorKind::PermissionDenied, error),
            _ => error,
        });
    }
    Ok(())
}
