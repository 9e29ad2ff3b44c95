//! Live capture and injection, where we have not looked at them yet: the same names as on Linux, and
//! `Unsupported` from all that opens something.

use std::io;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::bpf::Instruction;
use crate::interface::InterfaceInfo;

fn unsupported<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A network interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its number.
    pub index: u32,
    /// ARPHRD_ of Linux.
    pub hardware_type: u16,
    /// Whether it was brought up.
    pub up: bool,
    /// Whether it has a carrier, too.
    pub running: bool,
    /// Whether it leads back to this machine.
    pub loopback: bool,
    /// Octets that the network layer of a packet may have.
    pub mtu: usize,
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

/// What of a packet is captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// All of it.
    Whole,
    /// From the network layer on.
    Cut,
}

/// What was received and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketStatistics {
    /// Packets that passed the filter.
    pub packets: u64,
    /// Packets for which there was no room.
    pub drops: u64,
}

/// What woke a waiting reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// There may be packets.
    Packets,
    /// The time is over.
    Timeout,
    /// The interface went down.
    Down,
}

/// A packet socket: there is none.
#[derive(Debug, Clone)]
pub enum PacketSocket {}

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
        match *self {}
    }

    /// No packet passes.
    ///
    /// # Errors
    /// Never called.
    pub fn close(&self) -> io::Result<()> {
        match *self {}
    }

    /// Begins to receive.
    ///
    /// # Errors
    /// Never called.
    pub fn bind(&self, _interface: Option<u32>) -> io::Result<()> {
        match *self {}
    }

    /// Which interface it is bound to.
    ///
    /// # Errors
    /// Never called.
    pub fn bound_to(&self) -> io::Result<i32> {
        match *self {}
    }

    /// Asks for all packets.
    ///
    /// # Errors
    /// Never called.
    pub fn promiscuous(&self, _interface: u32) -> io::Result<()> {
        match *self {}
    }

    /// Shares packets with others.
    ///
    /// # Errors
    /// Never called.
    pub fn share(&self, _group: Option<u16>) -> io::Result<u16> {
        match *self {}
    }

    /// What was received and lost.
    ///
    /// # Errors
    /// Never called.
    pub fn statistics(&self) -> io::Result<PacketStatistics> {
        match *self {}
    }

    /// Waits for packets.
    ///
    /// # Errors
    /// Never called.
    pub fn wait(&self, _time: Duration) -> io::Result<Wake> {
        match *self {}
    }
}

/// How soon packets are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// In blocks.
    Blocks,
    /// Each at once.
    Low,
}

/// How a ring is made.
#[derive(Debug, Clone, Copy)]
pub struct RingOptions {
    /// The largest packet that must fit.
    pub snaplen: u32,
    /// How much memory it has.
    pub octets: usize,
    /// How soon packets are handed over.
    pub latency: Latency,
}

/// A packet as it lies in a ring.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Seconds since 1970.
    pub seconds: u32,
    /// Nanoseconds of the second.
    pub nanos: u32,
    /// What was captured.
    pub octets: &'a [u8],
    /// What it had on the wire.
    pub origlen: u32,
    /// Where its network layer begins.
    pub network: usize,
    /// The VLAN tag that was taken out.
    pub vlan: Option<(u16, u16)>,
    /// Where it came from.
    pub address: LinkAddress,
}

/// What a packet's link layer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkAddress {
    /// EtherType.
    pub protocol: u16,
    /// The interface's index.
    pub interface: u32,
    /// ARPHRD_ of Linux.
    pub hardware_type: u16,
    /// Whom it was for.
    pub packet_type: u8,
    /// How many octets of the address are used.
    pub length: u8,
    /// The sender's address.
    pub octets: [u8; 8],
}

/// A capture ring: there is none.
#[derive(Debug)]
pub enum Ring {}

impl Ring {
    /// Gives a socket a ring.
    ///
    /// # Errors
    /// Never called.
    pub fn new(socket: PacketSocket, _options: &RingOptions) -> io::Result<Self> {
        match socket {}
    }

    /// Its socket.
    pub fn socket(&self) -> &PacketSocket {
        match *self {}
    }

    /// Memory shared with the kernel.
    pub fn octets(&self) -> usize {
        match *self {}
    }

    /// Shows every packet that is there.
    pub fn visit(&mut self, _visit: &mut dyn FnMut(Frame<'_>) -> ControlFlow<()>) {
        match *self {}
    }
}

/// A socket that sends: there is none.
#[derive(Debug)]
pub enum Injector {}

impl Injector {
    /// Sends on a packet socket.
    ///
    /// # Errors
    /// Never called.
    pub fn new(socket: PacketSocket, _device: &Device) -> io::Result<Self> {
        match socket {}
    }

    /// Which interface.
    pub fn interface(&self) -> u32 {
        match *self {}
    }

    /// Sends packets.
    ///
    /// # Errors
    /// Never called.
    pub fn send(&self, _packets: &[&[u8]]) -> io::Result<usize> {
        match *self {}
    }

    /// Waits for room.
    ///
    /// # Errors
    /// Never called.
    pub fn wait(&self, _time: Duration) -> io::Result<()> {
        match *self {}
    }
}

/// An interface of our own: there is none.
#[derive(Debug)]
pub enum Tap {}

impl Tap {
    /// Makes an interface.
    ///
    /// # Errors
    /// Always: not known here.
    pub fn create(_name: &str) -> io::Result<Self> {
        unsupported()
    }

    /// Octets that the network layer of a packet may have.
    pub fn mtu(&self) -> usize {
        match *self {}
    }

    /// Sends packets.
    ///
    /// # Errors
    /// Never called.
    pub fn send(&self, _packets: &[&[u8]]) -> io::Result<usize> {
        match *self {}
    }
}

/// Sleeps until `instant`.
pub fn sleep_until(instant: Instant) {
    std::thread::sleep(instant.saturating_duration_since(Instant::now()));
}
