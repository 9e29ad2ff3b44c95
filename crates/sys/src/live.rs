//! What live capture and injection speak of, the same on every operating system.

/// A network interface at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Its number; another one when it was away and is back.
    pub index: u32,
    /// ARPHRD_ of linux/if_arp.h.
    pub hardware_type: u16,
    /// Whether it was brought up.
    pub up: bool,
    /// Whether what it is given arrives anywhere: it is up, with a cable or peer at its end, as far as its
    /// driver knows (IFF_RUNNING). Without, the kernel takes packets and drops them.
    pub running: bool,
    /// Whether it leads back to this machine.
    pub loopback: bool,
    /// Octets that the network layer of a packet may have.
    pub mtu: usize,
}

/// Packets whose link-layer header the kernel took off ([`Cut`](Layer::Cut)), or whole ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// From the first octet of the link layer.
    Whole,
    /// From the first octet of the network layer; what was before it is told as an address.
    Cut,
}

/// What a packet socket was offered and lost, since the last time it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PacketStatistics {
    /// Packets that passed its filter, lost ones included.
    pub packets: u64,
    /// Packets for which there was no room in its ring.
    pub drops: u64,
}

/// What woke a waiting reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// There may be packets.
    Packets,
    /// The time is over.
    Timeout,
    /// The interface went down, or away.
    Down,
}

/// How soon packets are handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// In blocks, at the latest after about a millisecond: least work.
    Blocks,
    /// Each at once.
    Low,
}

/// How a ring is made.
#[derive(Debug, Clone, Copy)]
pub struct RingOptions {
    /// The largest packet that must fit, in octets; larger ones are cut.
    pub snaplen: u32,
    /// About how much memory it has, in octets.
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
    /// What was captured of it.
    pub octets: &'a [u8],
    /// What it had on the wire, in octets; without a VLAN tag that was taken out.
    pub origlen: u32,
    /// Where in `octets` the kernel takes its network layer to begin.
    pub network: usize,
    /// The VLAN tag that was taken out: its type (0x8100 where the kernel does not say) and its 16
    /// bits of control information.
    pub vlan: Option<(u16, u16)>,
    /// Where it came from.
    pub address: LinkAddress,
}

/// What a packet's link layer said (sockaddr_ll of packet(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LinkAddress {
    /// EtherType, or a number below 0x600.
    pub protocol: u16,
    /// The interface's index.
    pub interface: u32,
    /// ARPHRD_.
    pub hardware_type: u16,
    /// 0 to us, 1 broadcast, 2 multicast, 3 to another host, 4 from us.
    pub packet_type: u8,
    /// How many octets of the address are used.
    pub length: u8,
    /// The sender's address.
    pub octets: [u8; 8],
}
