//! The network interfaces of this network namespace, as the kernel lists them.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;

use crate::interface::{InterfaceAddress, InterfaceInfo};

/// All addresses of all interfaces.
///
/// # Errors
/// Of the system, where netlink is not to be had.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let list = List::new()?;
    Ok(list.entries().filter_map(|entry| entry.address().and_then(SocketAddress::ip)).collect())
}

/// All interfaces, by index; needs no rights (getifaddrs(3), netdevice(7)).
///
/// # Errors
/// Of the system, where netlink is not to be had.
pub fn interfaces() -> io::Result<Vec<InterfaceInfo>> {
    let list = List::new()?;
    // Any socket will do to ask; this one has no address and no port.
    let socket = UnixDatagram::unbound()?;
    let mut found = BTreeMap::new();
    for entry in list.entries() {
        let (index, hardware_type, hardware_address) = match entry.address() {
            Some(SocketAddress::Ip(_)) => continue,
            Some(SocketAddress::Link(link)) => {
                let address = link.sll_addr.get(..link.sll_halen.into()).unwrap_or_default();
                (u32::try_from(link.sll_ifindex).unwrap_or(0), link.sll_hatype, address.to_vec())
            }
            // Of devices without a link-layer address, tun for one, the list has but the name.
            None => match identity(&socket, entry.name()) {
                Some((index, hardware_type)) => (index, hardware_type, Vec::new()),
                None => continue,
            },
        };
        let name = entry.name();
        let flags = entry.0.ifa_flags as libc::c_int;
        found.entry(name).or_insert_with(|| InterfaceInfo {
            index,
            name: name.to_owned(),
            up: flags & libc::IFF_UP != 0,
            running: flags & libc::IFF_RUNNING != 0,
            loopback: flags & libc::IFF_LOOPBACK != 0,
            mtu: mtu(&socket, name).unwrap_or(0),
            hardware_type,
            hardware_address,
            addresses: Vec::new(),
        });
    }
    for entry in list.entries() {
        if let Some((address, mask)) = entry.address().and_then(SocketAddress::ip).zip(entry.netmask())
            && let Some(interface) = found.get_mut(entry.name())
        {
            interface.addresses.push(InterfaceAddress { address, prefix_len: mask.prefix_len() });
        }
    }
    let mut interfaces: Vec<InterfaceInfo> = found.into_values().collect();
    interfaces.sort_by_key(|interface| interface.index);
    Ok(interfaces)
}

/// Index and hardware type of an interface; `None`: it is gone.
fn identity(socket: &UnixDatagram, name: &OsStr) -> Option<(u32, u16)> {
    let index = asked(socket, name, libc::SIOCGIFINDEX as Request)?;
    // SAFETY: every octet of the union is initialised, and any is a good integer.
    let index = unsafe { index.ifr_ifru.ifru_ifindex };
    let device = asked(socket, name, libc::SIOCGIFHWADDR as Request)?;
    // SAFETY: as for the index.
    let hardware_address = unsafe { device.ifr_ifru.ifru_hwaddr };
    Some((u32::try_from(index).ok()?, hardware_address.sa_family))
}

/// The MTU of an interface; `None`: it is gone.
fn mtu(socket: &UnixDatagram, name: &OsStr) -> Option<u32> {
    let request = asked(socket, name, libc::SIOCGIFMTU as Request)?;
    // SAFETY: every octet of the union is initialised, and any is a good integer.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    u32::try_from(mtu).ok()
}

/// What the kernel answers about an interface (netdevice(7)); `/sys` is not asked, because it may
/// be that of another network namespace. Every octet of the answer is initialised.
fn asked(socket: &UnixDatagram, name: &OsStr, request: Request) -> Option<libc::ifreq> {
    // SAFETY: ifreq is made of integers and pointers only, for which all zeros is a value.
    let mut answer: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays zero: it ends the name.
    let room = answer.ifr_name.len() - 1;
    for (place, octet) in answer.ifr_name.iter_mut().take(room).zip(name.as_bytes()) {
        *place = octet.cast_signed() as libc::c_char;
    }
    // SAFETY: the descriptor is open while `socket` is borrowed; `request` is one of those above,
    // with which the kernel reads and writes one ifreq where the last argument points, which is one.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut answer) };
    (result >= 0).then_some(answer)
}

/// The number of an ioctl; libc libraries differ in its type.
type Request = libc::Ioctl;

/// What getifaddrs allocated; freed when dropped.
struct List(*mut libc::ifaddrs);

impl List {
    fn new() -> io::Result<Self> {
        let mut head = std::ptr::null_mut();
        // SAFETY: it writes one pointer to where its argument points, which is one.
        let result = unsafe { libc::getifaddrs(&raw mut head) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(List(head))
    }

    fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        // SAFETY: `head` is null or points to an entry that lives until `self` is dropped.
        let head = unsafe { self.0.as_ref() };
        // SAFETY: as for `head`; the last entry's is null.
        std::iter::successors(head, |entry| unsafe { entry.ifa_next.as_ref() }).map(Entry)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        // SAFETY: getifaddrs gave it, it is freed once, and every entry borrowed `self`.
        unsafe { libc::freeifaddrs(self.0) };
    }
}

/// An address of an interface, in a list that is alive.
#[derive(Clone, Copy)]
struct Entry<'a>(&'a libc::ifaddrs);

impl<'a> Entry<'a> {
    /// The interface's name: without the label that IPv4 addresses may have behind it.
    fn name(self) -> &'a OsStr {
        // SAFETY: getifaddrs(3) gives every entry a name that ends in zero, alive as the list is.
        let name: &'a CStr = unsafe { CStr::from_ptr(self.0.ifa_name) };
        let name = name.to_bytes();
        OsStr::from_bytes(name.split(|octet| *octet == b':').next().unwrap_or(name))
    }

    fn address(self) -> Option<SocketAddress> {
        // SAFETY: null, or a socket address of its family's size, alive as the list is.
        unsafe { SocketAddress::read(self.0.ifa_addr) }
    }

    fn netmask(self) -> Option<SocketAddress> {
        // SAFETY: as for the address.
        unsafe { SocketAddress::read(self.0.ifa_netmask) }
    }
}

/// A socket address of the families that interfaces have.
#[derive(Clone, Copy)]
enum SocketAddress {
    Link(libc::sockaddr_ll),
    Ip(IpAddr),
}

impl SocketAddress {
    /// `None`: there is none, or it is of another family.
    ///
    /// # Safety
    /// `address` is null or points to a readable socket address of its family's size.
    unsafe fn read(address: *const libc::sockaddr) -> Option<Self> {
        // SAFETY: by contract; every socket address begins with these fields.
        let family = unsafe { address.as_ref() }?.sa_family;
        match libc::c_int::from(family) {
            libc::AF_PACKET => {
                // SAFETY: by contract, of this family; copied whatever its alignment is.
                let link = unsafe { address.cast::<libc::sockaddr_ll>().read_unaligned() };
                Some(SocketAddress::Link(link))
            }
            libc::AF_INET => {
                // SAFETY: by contract, of this family; copied whatever its alignment is.
                let four = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
                let octets = four.sin_addr.s_addr.to_ne_bytes();
                Some(SocketAddress::Ip(Ipv4Addr::from(octets).into()))
            }
            libc::AF_INET6 => {
                // SAFETY: by contract, of this family; copied whatever its alignment is.
                let six = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
                Some(SocketAddress::Ip(Ipv6Addr::from(six.sin6_addr.s6_addr).into()))
            }
            _ => None,
        }
    }

    fn ip(self) -> Option<IpAddr> {
        match self {
            SocketAddress::Ip(ip) => Some(ip),
            SocketAddress::Link(_) => None,
        }
    }

    /// Of a network mask, the length of the prefix.
    fn prefix_len(self) -> u8 {
        let ones = match self {
            SocketAddress::Ip(IpAddr::V4(mask)) => mask.to_bits().count_ones(),
            SocketAddress::Ip(IpAddr::V6(mask)) => mask.to_bits().count_ones(),
            SocketAddress::Link(_) => 0,
        };
        ones as u8
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

    use super::*;

    /// What `/sys/class/net/NAME/WHAT` says; `None` for an interface that is gone.
    fn sys(name: &OsStr, what: &str) -> Option<String> {
        let path = std::path::Path::new("/sys/class/net").join(name).join(what);
        Some(std::fs::read_to_string(path).ok()?.trim().to_owned())
    }

    /// The same of an interface as `sys` has it.
    fn of_sys(name: &OsStr) -> Option<(String, [Option<String>; 4])> {
        let flags = i32::from_str_radix(sys(name, "flags")?.trim_start_matches("0x"), 16).ok()?;
        let flags = format!("up {} loopback {}", flags & libc::IFF_UP != 0, flags & libc::IFF_LOOPBACK != 0);
        Some((flags, ["ifindex", "mtu", "type", "address"].map(|what| sys(name, what))))
    }

    fn listed(interface: &InterfaceInfo) -> (String, [Option<String>; 4]) {
        let flags = format!("up {} loopback {}", interface.up, interface.loopback);
        let address: Vec<_> = interface.hardware_address.iter().map(|octet| format!("{octet:02x}")).collect();
        let address =
            if address.is_empty() { sys(&interface.name, "address") } else { Some(address.join(":")) };
        let numbers = [interface.index, interface.mtu, interface.hardware_type.into()];
        let [index, mtu, kind] = numbers.map(|number| Some(number.to_string()));
        (flags, [index, mtu, kind, address])
    }

    #[test]
    fn what_is_listed_is_what_sys_says() {
        let Ok(names) = std::fs::read_dir("/sys/class/net") else {
            eprintln!("SKIPPED: /sys is not mounted");
            return;
        };
        let names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        // Interfaces may come and go meanwhile.
        for _ in 0..100 {
            let before = interfaces().unwrap();
            let of_sys: Vec<_> = names.iter().filter_map(|name| of_sys(name)).collect();
            if before == interfaces().unwrap() {
                let mut listed: Vec<_> = before.iter().map(listed).collect();
                listed.retain(|one| of_sys.contains(one));
                assert_eq!(listed.len(), of_sys.len(), "{of_sys:?} {before:?}");
                assert!(before.is_sorted_by_key(|interface| interface.index));
                return;
            }
        }
        panic!("interfaces come and go all the time");
    }

    #[test]
    fn loopback_has_its_addresses_and_their_prefixes() {
        let listed = interfaces().unwrap();
        let loopback = listed.iter().find(|interface| interface.loopback).unwrap();
        assert_eq!(loopback.hardware_type, libc::ARPHRD_LOOPBACK);
        if loopback.up {
            let expected = InterfaceAddress { address: Ipv4Addr::LOCALHOST.into(), prefix_len: 8 };
            assert!(loopback.addresses.contains(&expected), "{loopback:?}");
        }
    }

    #[test]
    fn a_device_without_a_link_layer_address_is_found_all_the_same() {
        let socket = UnixDatagram::unbound().unwrap();
        for interface in interfaces().unwrap() {
            // One that went meanwhile has none.
            if let Some(found) = identity(&socket, &interface.name) {
                assert_eq!(found, (interface.index, interface.hardware_type));
            }
        }
        assert_eq!(identity(&socket, OsStr::new("no-such-name")), None);
    }

    #[test]
    fn an_interface_that_is_gone_has_no_mtu() {
        let socket = UnixDatagram::unbound().unwrap();
        assert_eq!(mtu(&socket, OsStr::new("no-such-name")), None);
        assert_eq!(mtu(&socket, OsStr::new("a-name-that-is-longer-than-any")), None);
    }
}
