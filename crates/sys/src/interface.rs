//! What is known of a network interface, on every operating system.

use std::ffi::OsString;
use std::net::IpAddr;

/// A network interface of this host, or of this network namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceInfo {
    /// The kernel's number of it; 1 or more.
    pub index: u32,
    /// Its name: 1 to 15 octets on Linux, any but `/`, `:` and white space.
    pub name: OsString,
    /// An operator wants it to work (IFF_UP).
    pub up: bool,
    /// It can work: there is a carrier, where it has such a thing (IFF_RUNNING).
    pub running: bool,
    /// It leads back to this host (IFF_LOOPBACK).
    pub loopback: bool,
    /// The most octets of a packet's network layer; 0 where the kernel did not say.
    pub mtu: u32,
    /// What kind of device it is: an ARPHRD_ number of Linux's `if_arp.h`.
    pub hardware_type: u16,
    /// Its link-layer address, six octets for Ethernet; empty where it has none, or a longer one
    /// than eight octets.
    pub hardware_address: Vec<u8>,
    /// Its IP addresses, in the kernel's order.
    pub addresses: Vec<InterfaceAddress>,
}

/// An IP address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface's own.
    pub address: IpAddr,
    /// Bits that its network has in common; at most 32 or 128.
    pub prefix_len: u8,
}
