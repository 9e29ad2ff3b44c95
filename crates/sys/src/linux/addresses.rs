//! The interfaces and addresses of this machine (getifaddrs(3)).

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A network interface at this moment, with its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceInfo {
    /// Its number.
    pub index: u32,
    /// Its name; up to 15 octets of anything but `/` and white space.
    pub name: String,
    /// Whether it was brought up.
    pub up: bool,
    /// Whether it can carry packets: a cable is in, a peer is there.
    pub running: bool,
    /// Whether it leads back to this machine.
    pub loopback: bool,
    /// ARPHRD_ of linux/if_arp.h.
    pub hardware_type: u16,
    /// Its link-layer address, where that has six octets.
    pub mac: Option<[u8; 6]>,
    /// Its addresses, and how many of their bits are the network's.
    pub addresses: Vec<(IpAddr, u8)>,
}

/// All interfaces, by their numbers.
///
/// # Errors
/// Of the system.
pub fn interfaces() -> io::Result<Vec<InterfaceInfo>> {
    let mut found: BTreeMap<String, InterfaceInfo> = BTreeMap::new();
    each(|node| {
        // SAFETY: a node's name is a string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(node.ifa_name) }.to_string_lossy().into_owned();
        let flags = node.ifa_flags.cast_signed();
        let interface = found.entry(name.clone()).or_insert_with(|| InterfaceInfo {
            index: 0,
            name,
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_RUNNING != 0,
            loopback: flags & libc::IFF_LOOPBACK != 0,
            hardware_type: 0,
            mac: None,
            addresses: Vec::new(),
        });
        if let Some(link) = link(node.ifa_addr) {
            interface.index = link.sll_ifindex.cast_unsigned();
            interface.hardware_type = link.sll_hatype;
            interface.mac = link.sll_addr.first_chunk().copied().filter(|_| link.sll_halen == 6);
        }
        if let Some(ip) = address(node.ifa_addr) {
            interface.addresses.push((ip, address(node.ifa_netmask).map_or(0, bits)));
        }
    })?;
    let mut interfaces: Vec<_> = found.into_values().filter(|interface| interface.index > 0).collect();
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// All addresses of all interfaces.
///
/// # Errors
/// Of the system.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    each(|node| addresses.extend(address(node.ifa_addr)))?;
    Ok(addresses)
}

/// Looks at every address of every interface.
fn each(mut look: impl FnMut(&libc::ifaddrs)) -> io::Result<()> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the pointer is to a pointer, which the call sets.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut entry = first;
    // SAFETY: the list's nodes are valid until it is freed.
    while let Some(node) = unsafe { entry.as_ref() } {
        look(node);
        entry = node.ifa_next;
    }
    // SAFETY: the list is the call's own, and nothing borrows from it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(())
}

fn bits(netmask: IpAddr) -> u8 {
    let ones = match netmask {
        IpAddr::V4(mask) => u32::from(mask).count_ones(),
        IpAddr::V6(mask) => u128::from(mask).count_ones(),
    };
    u8::try_from(ones).unwrap_or(u8::MAX)
}

fn family(address: *const libc::sockaddr) -> Option<i32> {
    // SAFETY: null, or a sockaddr that getifaddrs made.
    Some(i32::from(unsafe { address.as_ref() }?.sa_family))
}

fn link(address: *const libc::sockaddr) -> Option<libc::sockaddr_ll> {
    if family(address)? != libc::AF_PACKET {
        return None;
    }
    // SAFETY: one of this family is a sockaddr_ll.
    Some(unsafe { address.cast::<libc::sockaddr_ll>().read_unaligned() })
}

fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    match family(address)? {
        libc::AF_INET => {
            // SAFETY: one of this family is a sockaddr_in.
            let address = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: one of this family is a sockaddr_in6.
            let address = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_among_them() -> io::Result<()> {
        assert!(local_addresses()?.iter().any(IpAddr::is_loopback));
        let interfaces = interfaces()?;
        let loopback = interfaces.iter().find(|interface| interface.loopback);
        assert!(
            loopback.is_some_and(|lo| lo.up && lo.hardware_type == 772 && lo.index > 0),
            "{interfaces:?}"
        );
        Ok(())
    }
}
