//! The addresses of this machine (getifaddrs(3)).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All addresses of all interfaces.
///
/// # Errors
/// Of the system.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: the pointer is to a pointer, which the call sets.
    if unsafe { libc::getifaddrs(&raw mut first) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut addresses = Vec::new();
    let mut entry = first;
    // SAFETY: the list's nodes are valid until it is freed.
    while let Some(node) = unsafe { entry.as_ref() } {
        addresses.extend(address(node.ifa_addr));
        entry = node.ifa_next;
    }
    // SAFETY: the list is the call's own, and nothing borrows from it any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(addresses)
}

fn address(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null, or a sockaddr that getifaddrs made.
    let family = unsafe { address.as_ref() }?.sa_family;
    match i32::from(family) {
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
    #[test]
    fn loopback_is_among_them() {
        let addresses = super::local_addresses().unwrap_or_default();
        assert!(addresses.iter().any(std::net::IpAddr::is_loopback), "{addresses:?}");
    }
}
