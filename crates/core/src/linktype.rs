//! Link types: the LINKTYPE_ numbers of the registry at <https://www.tcpdump.org/linktypes.html>.

use std::fmt;

/// A LINKTYPE_ number, as it stands in a file; 16 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u16);

impl LinkType {
    /// BSD loopback: four octets of address family in the byte order of the capturing host.
    pub const NULL: LinkType = LinkType(0);
    /// Ethernet; what every tool decodes.
    pub const ETHERNET: LinkType = LinkType(1);
    /// Point-to-Point Protocol.
    pub const PPP: LinkType = LinkType(9);
    /// PPP in HDLC-like framing (RFC 1662), or Cisco's HDLC (RFC 1547, section 4.3.1).
    pub const PPP_HDLC: LinkType = LinkType(50);
    /// PPPoE without its Ethernet header.
    pub const PPP_ETHER: LinkType = LinkType(51);
    /// A bare IPv4 or IPv6 packet.
    pub const RAW: LinkType = LinkType(101);
    /// The same under the number that most systems have for it themselves; some write it into files.
    pub const RAW_OF_SYSTEMS: LinkType = LinkType(12);
    /// OpenBSD loopback: four octets of address family in network byte order.
    pub const LOOP: LinkType = LinkType(108);
    /// Linux cooked capture, `tcpdump -i any` of older libpcap.
    pub const SLL: LinkType = LinkType(113);
    /// A bare IPv4 packet.
    pub const IPV4: LinkType = LinkType(228);
    /// A bare IPv6 packet.
    pub const IPV6: LinkType = LinkType(229);
    /// Linux cooked capture, version 2: `tcpdump -i any`.
    pub const SLL2: LinkType = LinkType(276);

    /// The largest packet that readers accept for this linktype, in octets.
    ///
    /// 262,144 as libpcap has it; 16 MiB, our limit for any block, for the linktypes to which
    /// libpcap grants more (D-Bus, USBPcap, EBHSCR).
    pub const fn max_caplen(self) -> u32 {
        match self.0 {
            231 | 249 | 279 => 16 * 1024 * 1024,
            _ => 262_144,
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            0 => "NULL",
            1 => "Ethernet",
            9 => "PPP",
            50 => "PPP_HDLC",
            51 => "PPPoE",
            101 => "RAW",
            104 => "C_HDLC",
            105 => "IEEE802_11",
            107 => "FRELAY",
            108 => "LOOP",
            113 => "LINUX_SLL",
            127 => "IEEE802_11_RADIOTAP",
            147..=162 => "USER",
            189 => "USB_LINUX",
            192 => "PPI",
            195 => "IEEE802_15_4",
            220 => "USB_LINUX_MMAPPED",
            228 => "IPV4",
            229 => "IPV6",
            231 => "DBUS",
            239 => "NFLOG",
            249 => "USBPCAP",
            276 => "LINUX_SLL2",
            _ => return write!(f, "linktype {}", self.0),
        };
        write!(f, "{name} (linktype {})", self.0)
    }
}
