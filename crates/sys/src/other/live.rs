//! Live capture and injection, where we have not looked at them yet: the same names as on Linux, and
//! `Unsupported` from all that opens something.

use std::convert::Infallible;
use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::bpf::Instruction;
use crate::interface::InterfaceInfo;
use crate::live::{Device, Frame, Layer, PacketStatistics, RingOptions, Wake};

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

impl Device {
    /// The interface of this name.
    ///
    /// # Errors
    /// Always: not known here.
    pub fn find(_name: &str) -> io::Result<Option<Device>> {
        unsupported()
    }
}

/// All interfaces.
///
/// # Errors
/// Always: not known here.
pub fn interfaces() -> io::Result<Vec<InterfaceInfo>> {
    unsupported()
}

/// All addresses of all interfaces.
///
/// # Errors
/// Always: not known here.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    unsupported()
}

/// A packet socket: there is none.
#[derive(Debug, Clone)]
pub struct PacketSocket(Infallible);

impl PacketSocket {
    /// A socket.
    ///
    /// # Errors
    /// Always: not known here.
    pub fn new(_layer: Layer) -> io::Result<Self> {
        unsupported()
    }

    /// Packets must pass `program`.
    ///
    /// # Errors
    /// Never called.
    pub fn set_filter(&self, _program: &[Instruction]) -> io::Result<()> {
        match self.0 {}
    }

    /// No packet passes.
    ///
    /// # Errors
    /// Never called.
    pub fn close(&self) -> io::Result<()> {
        match self.0 {}
    }

    /// Begins to receive.
    ///
    /// # Errors
    /// Never called.
    pub fn bind(&self, _interface: Option<u32>) -> io::Result<()> {
        match self.0 {}
    }

    /// Which interface it is bound to.
    ///
    /// # Errors
    /// Never called.
    pub fn bound_to(&self) -> io::Result<i32> {
        match self.0 {}
    }

    /// Asks for all packets.
    ///
    /// # Errors
    /// Never called.
    pub fn promiscuous(&self, _interface: u32) -> io::Result<()> {
        match self.0 {}
    }

    /// Shares packets with others.
    ///
    /// # Errors
    /// Never called.
    pub fn share(&self, _group: Option<u16>) -> io::Result<u16> {
        match self.0 {}
    }

    /// What was received and lost.
    ///
    /// # Errors
    /// Never called.
    pub fn statistics(&self) -> io::Result<PacketStatistics> {
        match self.0 {}
    }

    /// Waits for packets.
    ///
    /// # Errors
    /// Never called.
    pub fn wait(&self, _time: Duration) -> io::Result<Wake> {
        match self.0 {}
    }
}

/// A capture ring: there is none.
#[derive(Debug)]
pub struct Ring(Infallible);

impl Ring {
    /// Gives a socket a ring.
    ///
    /// # Errors
    /// Never called.
    pub fn new(socket: PacketSocket, _options: &RingOptions) -> io::Result<Self> {
        match socket.0 {}
    }

    /// Its socket.
    pub fn socket(&self) -> &PacketSocket {
        match self.0 {}
    }

    /// Memory shared with the kernel.
    pub fn octets(&self) -> usize {
        match self.0 {}
    }

    /// Shows every packet that is there.
    pub fn visit(&mut self, _visit: &mut dyn FnMut(Frame<'_>) -> ControlFlow<()>) {
        match self.0 {}
    }
}

/// A socket that sends: there is none.
#[derive(Debug)]
pub struct Injector(Infallible);

impl Injector {
    /// Sends on a packet socket.
    ///
    /// # Errors
    /// Never called.
    pub fn new(socket: PacketSocket, _device: &Device) -> io::Result<Self> {
        match socket.0 {}
    }

    /// Which interface.
    pub fn interface(&self) -> u32 {
        match self.0 {}
    }

    /// Sends packets.
    ///
    /// # Errors
    /// Never called.
    pub fn send(&self, _packets: &[&[u8]]) -> io::Result<usize> {
        match self.0 {}
    }

    /// Waits for room.
    ///
    /// # Errors
    /// Never called.
    pub fn wait(&self, _time: Duration) -> io::Result<()> {
        match self.0 {}
    }
}

/// An interface of our own: there is none.
#[derive(Debug)]
pub struct Tap(Infallible);

impl Tap {
    /// The error code of one that somebody took away.
    pub const TAKEN_AWAY: i32 = libc::EBADF;

    /// Makes an interface.
    ///
    /// # Errors
    /// Always: not known here.
    pub fn create(_name: &str) -> io::Result<Self> {
        unsupported()
    }

    /// Octets that the network layer of a packet may have.
    pub fn mtu(&self) -> usize {
        match self.0 {}
    }

    /// Sends packets.
    ///
    /// # Errors
    /// Never called.
    pub fn send(&self, _packets: &[&[u8]]) -> io::Result<usize> {
        match self.0 {}
    }
}

/// Sleeps until `instant`.
pub fn sleep_until(instant: Instant) {
    std::thread::sleep(instant.saturating_duration_since(Instant::now()));
}
