//! The kernel's filter of a live capture: keeps this process's own traffic out, and, where that
//! changes nothing, packets that a filter would keep out anyway.
//!
//! Classic BPF, made here. Its size follows the sockets that we own, never the clients: a port is
//! found by bisection, then its address.

mod assembler;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pcaphub_sys::bpf::Instruction;

use assembler::{Assembler, Label};

/// How packets begin where the filter sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// With an Ethernet header.
    Ethernet,
    /// With the network layer; its protocol is known to the kernel.
    Network,
    /// With whatever the interface has, which is another for each packet: Ethernet, or something of which we
    /// know nothing but what the kernel tells.
    Any,
}

/// What a live capture is to leave out.
#[derive(Debug, Clone)]
pub struct Exclusion {
    /// How packets begin.
    pub beginning: Beginning,
    /// The loopback interface, if packets of it may come: they come twice, once as sent.
    pub loopback: Option<u32>,
    /// Octets of a packet that are wanted.
    pub snaplen: u32,
    /// A filter whose result is the same here as behind the capture, but for packets whose VLAN tag
    /// the kernel has taken out.
    pub filter: Vec<Instruction>,
}

/// More instructions than the kernel accepts.
#[derive(Debug, PartialEq, Eq)]
pub struct TooLarge;

/// The largest program that the kernel takes.
const MAX_INSTRUCTIONS: usize = 4096;

impl Exclusion {
    /// The program that keeps out packets from or to any of `endpoints`; an unspecified address stands
    /// for all of `local`.
    ///
    /// # Errors
    /// More endpoints than fit a program: some thousand.
    pub fn program(&self, endpoints: &[SocketAddr], local: &[IpAddr]) -> Result<Vec<Instruction>, TooLarge> {
        let mut code = Assembler::default();
        let (accept, reject) = (code.label(), code.label());
        if let Some(index) = self.loopback {
            let other = code.label();
            code.load(LD_WORD_ABS, AD_PACKET_TYPE);
            code.unless_equal(OUTGOING, other);
            code.load(LD_WORD_ABS, AD_INTERFACE);
            code.if_equal(index, reject);
            code.place(other);
        }
        let wanted = code.label();
        self.own(&mut code, &Ports::new(endpoints, local), wanted, reject);
        code.place(wanted);
        if !self.filter.is_empty() {
            // A tag that was taken out changes what a filter sees: these are looked at when it is back.
            code.load(LD_WORD_ABS, AD_VLAN_PRESENT);
            code.unless_equal(0, accept);
            code.append(&self.filter);
        }
        code.place(accept);
        code.push(RET, self.snaplen);
        code.place(reject);
        code.push(RET, 0);
        code.finish()
    }

    fn own(&self, code: &mut Assembler, ports: &Ports, wanted: Label, reject: Label) {
        if ports.v4.is_empty() && ports.v6.is_empty() {
            return;
        }
        let (v4, v6) = (code.label(), code.label());
        // X becomes the offset of the network layer, and memory has how long the packet is from there on:
        // what a load finds outside of a packet would reject it, and too short a packet is not ours.
        match self.beginning {
            Beginning::Ethernet => ethernet(code, v4, v6, wanted),
            Beginning::Network => network(code, 0, v4, v6, wanted),
            Beginning::Any => {
                let has_ethernet = code.label();
                code.load(LD_WORD_ABS, AD_HARDWARE_TYPE);
                for hardware_type in ETHERNET_HARDWARE {
                    code.if_equal(hardware_type, has_ethernet);
                }
                network(code, NETWORK, v4, v6, wanted);
                code.place(has_ethernet);
                ethernet(code, v4, v6, wanted);
            }
        }
        code.place(v4);
        self.v4(code, &ports.v4, wanted, reject);
        code.place(v6);
        self.v6(code, &ports.v6, wanted, reject);
    }

    /// X is the offset of an IPv4 header.
    fn v4(&self, code: &mut Assembler, ports: &BTreeMap<u16, Vec<Ipv4Addr>>, wanted: Label, reject: Label) {
        code.push(LD_MEM, LENGTH);
        code.unless_at_least(IPV4_HEADER, wanted);
        code.load(LD_BYTE_IND, 9);
        code.unless_equal(TCP, wanted);
        code.load(LD_HALF_IND, 6);
        // The rest of a fragmented packet has no ports, and TCP avoids fragments.
        code.if_any(0x1fff, wanted);
        // X stays; the offset of the TCP header, less that of the IP header's end, is not needed: ports
        // are kept in memory.
        code.push(STX, OFFSET);
        code.load(LD_BYTE_IND, 0);
        code.push(AND, 0x0f);
        code.push(LSH, 2);
        code.push(TAX, 0);
        code.push(LD_MEM, LENGTH);
        code.push(SUB, PORTS);
        code.unless_at_least_x(wanted);
        code.push(TXA, 0);
        code.push(LDX_MEM, OFFSET);
        code.push(ADD_X, 0);
        code.push(TAX, 0);
        self.ports(code);
        code.push(LDX_MEM, OFFSET);
        let address = |code: &mut Assembler, at: u32, addresses: &[Ipv4Addr], next: Label| {
            code.load(LD_WORD_IND, at);
            for address in addresses {
                code.if_equal(u32::from(*address), reject);
            }
            if addresses.contains(&LOOPBACK) {
                code.push(AND, 0xff00_0000);
                code.if_equal(u32::from(LOOPBACK), reject);
            }
            code.go(next);
        };
        self.sides(code, ports, wanted, 12, 16, &address);
    }

    /// X is the offset of an IPv6 header.
    fn v6(&self, code: &mut Assembler, ports: &BTreeMap<u16, Vec<Ipv6Addr>>, wanted: Label, reject: Label) {
        code.push(LD_MEM, LENGTH);
        code.unless_at_least(IPV6_HEADER + PORTS, wanted);
        code.load(LD_BYTE_IND, 6);
        code.unless_equal(TCP, wanted);
        code.push(STX, OFFSET);
        code.push(TXA, 0);
        code.push(ADD, IPV6_HEADER);
        code.push(TAX, 0);
        self.ports(code);
        code.push(LDX_MEM, OFFSET);
        let address = |code: &mut Assembler, at: u32, addresses: &[Ipv6Addr], next: Label| {
            for address in addresses {
                let other = code.label();
                for (word, octets) in address.octets().chunks_exact(4).enumerate() {
                    let value = octets.iter().fold(0u32, |value, octet| value << 8 | u32::from(*octet));
                    code.load(LD_WORD_IND, at + 4 * word as u32);
                    code.unless_equal(value, other);
                }
                code.go(reject);
                code.place(other);
            }
            code.go(next);
        };
        self.sides(code, ports, wanted, 8, 24, &address);
    }

    /// Both ports of the TCP header at X into memory.
    fn ports(&self, code: &mut Assembler) {
        code.load(LD_HALF_IND, 0);
        code.push(ST, SOURCE);
        code.load(LD_HALF_IND, 2);
        code.push(ST, DESTINATION);
    }

    /// The source's port and address, then the destination's.
    fn sides<A: PartialEq>(
        &self,
        code: &mut Assembler,
        ports: &BTreeMap<u16, Vec<A>>,
        wanted: Label,
        source: u32,
        destination: u32,
        address: Compare<'_, A>,
    ) {
        // Ports with the same addresses, as all those bound to none have, share the look at these.
        let mut lists: Vec<&[A]> = Vec::new();
        for addresses in ports.values() {
            if !lists.contains(&addresses.as_slice()) {
                lists.push(addresses);
            }
        }
        let ports: Vec<_> = ports
            .iter()
            .map(|(port, addresses)| (*port, lists.iter().position(|list| list == addresses).unwrap_or(0)))
            .collect();
        for (memory, at) in [(SOURCE, source), (DESTINATION, destination)] {
            let next = if memory == SOURCE { code.label() } else { wanted };
            let labels: Vec<Label> = lists.iter().map(|_| code.label()).collect();
            code.push(LD_MEM, memory);
            bisect(code, &ports, &labels, next);
            for (list, label) in lists.iter().zip(&labels) {
                code.place(*label);
                address(code, at, list, next);
            }
            if memory == SOURCE {
                code.place(next);
            }
        }
        code.go(wanted);
    }
}

/// Sets X to the offset of the network layer behind an Ethernet header and tags, and goes on by its kind.
fn ethernet(code: &mut Assembler, v4: Label, v6: Label, wanted: Label) {
    let mut at = 12;
    for _ in 0..=MAX_TAGS {
        let tag = code.label();
        code.push(LDX_IMM, at + 2);
        code.push(LD_LENGTH, 0);
        code.unless_at_least(at + 2, wanted);
        code.push(SUB, at + 2);
        code.push(ST, LENGTH);
        code.load(LD_HALF_ABS, at);
        code.if_equal(IPV4, v4);
        code.if_equal(IPV6, v6);
        at += 4;
        if at <= 12 + 4 * MAX_TAGS {
            for kind in [0x8100, 0x88a8, 0x9100] {
                code.if_equal(kind, tag);
            }
            code.go(wanted);
            code.place(tag);
        }
    }
    code.go(wanted);
}

/// The same where the kernel knows both.
fn network(code: &mut Assembler, at: u32, v4: Label, v6: Label, wanted: Label) {
    code.push(LDX_IMM, at);
    // A link layer before it that we do not know counts, too: interfaces that have IP mostly have none.
    code.push(LD_LENGTH, 0);
    code.push(ST, LENGTH);
    code.load(LD_WORD_ABS, AD_PROTOCOL);
    code.if_equal(IPV4, v4);
    code.if_equal(IPV6, v6);
    code.go(wanted);
}

/// Compares the address at an offset from X with each of some; falls on to a label if it is none.
type Compare<'a, A> = &'a dyn Fn(&mut Assembler, u32, &[A], Label);

/// Finds the accumulator among the ports, and goes where its number says.
fn bisect(code: &mut Assembler, ports: &[(u16, usize)], places: &[Label], next: Label) {
    match ports {
        [] => code.go(next),
        [(port, place)] => {
            code.if_equal(u32::from(*port), places.get(*place).copied().unwrap_or(next));
            code.go(next);
        }
        _ => {
            let (below, above) = ports.split_at(ports.len() / 2);
            let high = code.label();
            let least = above.first().map_or(0, |(port, _)| *port);
            code.if_at_least(u32::from(least), high);
            bisect(code, below, places, next);
            code.place(high);
            bisect(code, above, places, next);
        }
    }
}

/// The addresses of each port that is ours.
struct Ports {
    v4: BTreeMap<u16, Vec<Ipv4Addr>>,
    v6: BTreeMap<u16, Vec<Ipv6Addr>>,
}

impl Ports {
    fn new(endpoints: &[SocketAddr], local: &[IpAddr]) -> Self {
        let mut ports = Ports { v4: BTreeMap::new(), v6: BTreeMap::new() };
        for endpoint in endpoints {
            let port = endpoint.port();
            match endpoint.ip() {
                // One that listens on all of IPv6 has IPv4 as well.
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
                    local.iter().for_each(|ip| ports.add(port, *ip));
                    ports.add(port, LOOPBACK.into());
                }
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                    local.iter().filter(|ip| ip.is_ipv4()).for_each(|ip| ports.add(port, *ip));
                    ports.add(port, LOOPBACK.into());
                }
                ip => ports.add(port, ip.to_canonical()),
            }
        }
        ports
    }

    fn add(&mut self, port: u16, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => add(self.v4.entry(port).or_default(), ip),
            IpAddr::V6(ip) => add(self.v6.entry(port).or_default(), ip),
        }
    }
}

fn add<A: PartialEq>(addresses: &mut Vec<A>, address: A) {
    if !addresses.contains(&address) {
        addresses.push(address);
    }
}

/// Among the addresses of a port: all of 127.0.0.0/8, which this machine has without having been given it.
const LOOPBACK: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 0);
/// ARPHRD_ETHER and ARPHRD_LOOPBACK of linux/if_arp.h: packets begin with an Ethernet header.
const ETHERNET_HARDWARE: [u32; 2] = [1, 772];
/// EtherTypes and the protocol number.
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const TCP: u32 = 6;
/// The least of an IPv4 header, an IPv6 header without those that follow it, and the ports in octets.
const IPV4_HEADER: u32 = 20;
const IPV6_HEADER: u32 = 40;
const PORTS: u32 = 4;
/// Places in memory: the offset of the network layer, the ports, and the octets from that layer on.
const OFFSET: u32 = 0;
const SOURCE: u32 = 1;
const DESTINATION: u32 = 2;
const LENGTH: u32 = 3;
/// Tags in a row that are looked behind.
const MAX_TAGS: u32 = 2;
/// PACKET_OUTGOING.
const OUTGOING: u32 = 4;

/// Linux's own offsets, which load what the kernel knows instead of octets (linux/filter.h).
const AD: u32 = 0u32.wrapping_sub(0x1000);
const AD_PROTOCOL: u32 = AD;
const AD_PACKET_TYPE: u32 = AD.wrapping_add(4);
const AD_INTERFACE: u32 = AD.wrapping_add(8);
const AD_HARDWARE_TYPE: u32 = AD.wrapping_add(28);
const AD_VLAN_PRESENT: u32 = AD.wrapping_add(48);
/// The network layer's first octet, wherever that is.
const NETWORK: u32 = 0u32.wrapping_sub(0x10_0000);

const LD_WORD_ABS: u16 = 0x20;
const LD_HALF_ABS: u16 = 0x28;
const LD_WORD_IND: u16 = 0x40;
const LD_HALF_IND: u16 = 0x48;
const LD_BYTE_IND: u16 = 0x50;
const LD_MEM: u16 = 0x60;
const LD_LENGTH: u16 = 0x80;
const LDX_IMM: u16 = 0x01;
const LDX_MEM: u16 = 0x61;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const SUB: u16 = 0x14;
const AND: u16 = 0x54;
const LSH: u16 = 0x64;
const RET: u16 = 0x06;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;

#[cfg(test)]
mod tests {
    use pcaphub_core::filter::{Instruction as Operation, Program};
    use proptest::prelude::*;

    use super::*;

    fn exclusion() -> Exclusion {
        Exclusion { beginning: Beginning::Ethernet, loopback: None, snaplen: 1000, filter: Vec::new() }
    }

    /// The program, for a machine that has 10.0.0.2 and fd00::2.
    fn program(endpoints: &[SocketAddr]) -> Program {
        let local: Vec<IpAddr> =
            ["10.0.0.2", "fd00::2", "127.0.0.1", "::1"].map(|ip| ip.parse().unwrap()).into();
        let program = exclusion().program(endpoints, &local).unwrap();
        let operation = |&Instruction { code, jt, jf, k }: &Instruction| Operation { code, jt, jf, k };
        Program::new(program.iter().map(operation).collect()).unwrap()
    }

    fn packet(tags: usize, from: SocketAddr, to: SocketAddr, udp: bool) -> Vec<u8> {
        let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]);
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => builder.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => builder.ipv6(from.octets(), to.octets(), 64),
            _ => unreachable!("one family"),
        };
        let mut octets = Vec::new();
        match udp {
            true => builder.udp(from.port(), to.port()).write(&mut octets, b"payload").unwrap(),
            false => builder.tcp(from.port(), to.port(), 1, 1).write(&mut octets, b"payload").unwrap(),
        }
        for _ in 0..tags {
            octets.splice(12..12, [0x81, 0, 0, 5]);
        }
        octets
    }

    fn any_endpoint() -> impl Strategy<Value = SocketAddr> {
        let ips = ["10.0.0.2", "10.0.0.9", "0.0.0.0", "fd00::2", "fd00::9", "::", "127.0.0.1", "::1"];
        (prop::sample::select(ips.to_vec()), 1u16..12)
            .prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port))
    }

    fn any_host(v6: bool) -> impl Strategy<Value = SocketAddr> {
        let v4 = ["10.0.0.2", "10.0.0.9", "127.0.0.1", "127.8.8.8"];
        let ips = if v6 { vec!["fd00::2", "fd00::9", "::1"] } else { v4.to_vec() };
        (prop::sample::select(ips), 1u16..14)
            .prop_map(|(ip, port)| SocketAddr::new(ip.parse().unwrap(), port))
    }

    fn any_packet() -> impl Strategy<Value = (usize, SocketAddr, SocketAddr, bool)> {
        any::<bool>().prop_flat_map(|v6| (0usize..3, any_host(v6), any_host(v6), any::<bool>()))
    }

    /// Whether `host` is an end of a connection of one of our sockets.
    fn is_ours(endpoint: &SocketAddr, host: SocketAddr) -> bool {
        let local = ["10.0.0.2", "fd00::2", "::1"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let loopback = |ip: IpAddr| ip.is_ipv4() && ip.is_loopback();
        let here = local.contains(&host.ip()) || loopback(host.ip());
        let address = match endpoint.ip() {
            IpAddr::V6(ip) if ip.is_unspecified() => here,
            IpAddr::V4(ip) if ip.is_unspecified() => here && host.is_ipv4(),
            // What another process does at another address of 127.0.0.0/8 is not ours.
            ip => ip == host.ip(),
        };
        endpoint.port() == host.port() && address
    }

    proptest! {
        #[test]
        fn exactly_the_packets_of_our_sockets_are_kept_out(
            endpoints in prop::collection::vec(any_endpoint(), 0..12),
            packets in prop::collection::vec(any_packet(), 20),
        ) {
            let program = program(&endpoints);
            for (tags, from, to, udp) in packets {
                let ours = !udp && endpoints.iter().any(|endpoint| is_ours(endpoint, from) || is_ours(endpoint, to));
                let octets = packet(tags, from, to, udp);
                let expected = if ours { 0 } else { 1000 };
                prop_assert_eq!(program.run(&octets, octets.len() as u32), expected, "{:?} {} {}", endpoints, from, to);
            }
        }

        #[test]
        fn what_is_too_short_to_be_ours_is_let_through(
            (tags, from, to, udp) in any_packet(), words in 5_u8..16, at in 0_usize..100,
        ) {
            let mut octets = packet(tags, from, to, udp);
            if from.is_ipv4() {
                octets[14 + 4 * tags] = 0x40 | words;
            }
            // Its ports are cut off.
            let network = 14 + 4 * tags;
            let transport = network + if from.is_ipv4() { 4 * usize::from(words) } else { 40 };
            octets.truncate(at.min(transport.max(network + 20) + 3));
            let everything: Vec<SocketAddr> = (1..14).flat_map(|port| {
                [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()].map(|ip| SocketAddr::new(ip, port))
            }).collect();
            prop_assert_eq!(program(&everything).run(&octets, octets.len() as u32), 1000);
        }

        #[test]
        fn whatever_the_octets_are_it_accepts_or_rejects(octets: Vec<u8>) {
            program(&["0.0.0.0:80".parse().unwrap(), "[::]:81".parse().unwrap()]).run(&octets, 100);
        }
    }

    #[test]
    fn hundreds_of_sockets_fit_and_thousands_are_an_error() {
        let sockets = |count: u16| -> Vec<SocketAddr> {
            (1..=count).map(|port| SocketAddr::new([10, 0, 0, 2].into(), port)).collect()
        };
        let program = program(&sockets(400));
        let (own, other) = ("10.0.0.2:399".parse().unwrap(), "10.0.0.9:399".parse().unwrap());
        let far = "10.0.0.9:5000".parse().unwrap();
        assert_eq!(program.run(&packet(0, far, own, false), 60), 0);
        assert_eq!(program.run(&packet(0, far, other, false), 60), 1000);
        assert_eq!(exclusion().program(&sockets(5000), &[]), Err(TooLarge));
    }
}
