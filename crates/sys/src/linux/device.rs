//! What is known of one network interface (netdevice(7)).

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use crate::live::Device;

impl Device {
    /// The interface of this name, if there is one.
    ///
    /// # Errors
    /// Of the system.
    pub fn find(name: &str) -> io::Result<Option<Device>> {
        let Some(request) = request(name) else { return Ok(None) };
        // Any socket will do, and this one needs no right and no address.
        let socket = UnixDatagram::unbound()?;
        let asked = || {
            let index = ask(&socket, libc::SIOCGIFINDEX, request)?;
            let hardware = ask(&socket, libc::SIOCGIFHWADDR, request)?;
            let flags = ask(&socket, libc::SIOCGIFFLAGS, request)?;
            let mtu = ask(&socket, libc::SIOCGIFMTU, request)?;
            // SAFETY: the call filled this member of the union.
            let index = unsafe { index.ifr_ifru.ifru_ifindex };
            // SAFETY: the call filled this member of the union.
            let hardware = unsafe { hardware.ifr_ifru.ifru_hwaddr };
            // SAFETY: the call filled this member of the union.
            let flags = i32::from(unsafe { flags.ifr_ifru.ifru_flags });
            // SAFETY: the call filled this member of the union.
            let mtu = unsafe { mtu.ifr_ifru.ifru_mtu };
            Ok(Device {
                mtu: usize::try_from(mtu).unwrap_or(0),
                index: index.cast_unsigned(),
                hardware_type: hardware.sa_family,
                up: flags & libc::IFF_UP != 0,
                running: flags & libc::IFF_RUNNING != 0,
                loopback: flags & libc::IFF_LOOPBACK != 0,
            })
        };
        match asked() {
            Ok(device) => Ok(Some(device)),
            Err(error) if gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
}

/// A request about an interface; `None` for what cannot be the name of one.
pub(super) fn request(name: &str) -> Option<libc::ifreq> {
    // SAFETY: ifreq is made of integers only, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last octet stays zero.
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.contains('\0') {
        return None;
    }
    for (place, octet) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = octet as libc::c_char;
    }
    Some(request)
}

fn ask(socket: &UnixDatagram, what: libc::Ioctl, mut request: libc::ifreq) -> io::Result<libc::ifreq> {
    let descriptor = socket.as_raw_fd();
    // SAFETY: these calls read a name from, and write their answer to, the ifreq that the pointer is to.
    let result = unsafe { libc::ioctl(descriptor, what, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(request) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_found_and_a_name_that_is_none_is_not() -> io::Result<()> {
        let found = Device::find("lo")?;
        assert!(found.is_some_and(|device| device.loopback && device.index > 0), "{found:?}");
        assert_eq!(Device::find("no-such-if")?, None);
        assert_eq!(Device::find("a-name-longer-than-any-interface-has")?, None);
        Ok(())
    }
}
