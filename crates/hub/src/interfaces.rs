//! The network interfaces of this host, and how what is captured on them begins: for those who
//! choose an interface, and for live capture.

use pcaphub_core::linktype::LinkType;
pub use pcaphub_sys::{InterfaceAddress, InterfaceInfo, interfaces};

/// The linktype of packets captured on a device of this kind, an ARPHRD_ number of Linux's
/// `if_arp.h`. `None`: the device's own header is of no use to readers, and the capture is cooked,
/// [`LinkType::SLL2`], as it is on all interfaces together (`any`).
pub fn linktype_of(hardware_type: u16) -> Option<LinkType> {
    match hardware_type {
        // Ethernet; loopback, which has an Ethernet header of zeros.
        1 | 772 => Some(LinkType::ETHERNET),
        // Without a header: SLIP in its four forms, PPP, RAWIP (modems), IP in IPv4 and in IPv6,
        // SIT, NONE (tun, WireGuard). The header of PPP is put before packets only after they
        // were captured, and taken off before.
        256..=259 | 512 | 519 | 768 | 769 | 776 | 0xfffe => Some(LinkType::RAW),
        // 802.11 behind a radiotap header.
        803 => Some(LinkType(127)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_a_header_that_readers_know_are_captured_with_it() {
        let (ethernet, loopback, none, ppp) = (1, 772, 0xfffe, 512);
        assert_eq!(linktype_of(ethernet), Some(LinkType::ETHERNET));
        assert_eq!(linktype_of(loopback), Some(LinkType::ETHERNET));
        assert_eq!(linktype_of(none), Some(LinkType::RAW));
        assert_eq!(linktype_of(ppp), Some(LinkType::RAW));
        assert_eq!(linktype_of(803), Some(LinkType(127)));
        // GRE, CAN, netlink.
        for cooked in [778, 280, 824] {
            assert_eq!(linktype_of(cooked), None);
        }
    }
}
