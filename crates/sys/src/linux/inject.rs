//! Packets out onto a network interface (packet(7), sendmmsg(2)).

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use super::packet::PacketSocket;
use crate::live::Device;

/// A socket that sends whole Ethernet packets on one interface, and receives nothing.
#[derive(Debug)]
pub struct Injector {
    socket: PacketSocket,
    interface: u32,
}

/// Packets that one system call takes at most (the kernel's UIO_MAXIOV).
const TOGETHER: usize = 1024;

impl Injector {
    /// Sends on a packet socket of [`Layer::Whole`](crate::Layer::Whole) that is not bound. Packets take the way of all that
    /// the interface sends, so who captures there sees them.
    ///
    /// # Errors
    /// `Unsupported` where the interface's packets do not begin with an Ethernet header.
    pub fn new(socket: PacketSocket, device: &Device) -> io::Result<Self> {
        // ARPHRD_ETHER, ARPHRD_LOOPBACK
        if ![1, 772].contains(&device.hardware_type) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        // Protocol 0: nothing is received.
        socket.bind_to(Some(device.index), 0)?;
        Ok(Injector { socket, interface: device.index })
    }

    /// Which interface, by its index.
    pub fn interface(&self) -> u32 {
        self.interface
    }

    /// Sends packets in their order; how many were taken, at least one.
    ///
    /// # Errors
    /// Of the first packet: EMSGSIZE where it is larger than the interface takes, ENETDOWN, ENXIO or
    /// ENODEV where that is down or gone, ENOBUFS where its queue is full, `WouldBlock` where the
    /// socket's is.
    pub fn send(&self, packets: &[&[u8]]) -> io::Result<usize> {
        let packets = packets.get(..TOGETHER).unwrap_or(packets);
        let mut parts: Vec<libc::iovec> = packets
            .iter()
            .map(|packet| libc::iovec {
                // The kernel only reads.
                iov_base: packet.as_ptr().cast_mut().cast(),
                iov_len: packet.len(),
            })
            .collect();
        let mut messages: Vec<libc::mmsghdr> = parts.iter_mut().map(message).collect();
        let count = messages.len() as libc::c_uint;
        let descriptor = self.socket.as_fd().as_raw_fd();
        // SAFETY: `count` messages, each with one part, whose octets are borrowed until the call returns.
        let sent = unsafe { libc::sendmmsg(descriptor, messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent.unsigned_abs() as usize) }
    }

    /// Waits until the socket's queue has room, at most `time`.
    ///
    /// # Errors
    /// Of the system.
    pub fn wait(&self, time: Duration) -> io::Result<()> {
        let mut waited =
            libc::pollfd { fd: self.socket.as_fd().as_raw_fd(), events: libc::POLLOUT, revents: 0 };
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the pointer is to one pollfd, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut waited, 1, millis) };
        if ready < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

fn message(part: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: mmsghdr is made of integers and pointers only, for which all zeros is a value.
    let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
    message.msg_hdr.msg_iov = part;
    message.msg_hdr.msg_iovlen = 1;
    message
}
