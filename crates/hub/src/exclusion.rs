//! The kernel's filter of a live capture: keeps this process's own traffic out, and, where that
//! changes nothing, packets that a filter would keep out anyway.
//!
//! Classic BPF, made here. Its size follows the sockets that we own, never the clients: a port is
//! found by bisection, then its address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use pcaphub_sys::bpf::Instruction;

/// How packets begin where the filter sees them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beginning {
    /// With an Ethernet header.
    Ethernet,
    /// With the network layer; its protocol is known to the kernel.
    Network,
    /// With something of which we know nothing but what the kernel tells.
    Unknown,
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
        // X becomes the offset of the network layer.
        match self.beginning {
            Beginning::Ethernet => {
                let mut at = 12;
                for _ in 0..=MAX_TAGS {
                    let tag = code.label();
                    code.push(LDX_IMM, at + 2);
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
            Beginning::Network | Beginning::Unknown => {
                // Tags in the octets themselves: sent through a VLAN interface by a driver that
                // leaves them to us.
                let tag = code.label();
                let first = if self.beginning == Beginning::Network { 0 } else { NETWORK };
                code.push(LDX_IMM, first);
                code.load(LD_WORD_ABS, AD_PROTOCOL);
                code.if_equal(IPV4, v4);
                code.if_equal(IPV6, v6);
                if self.beginning == Beginning::Network {
                    code.if_equal(0x8100, tag);
                    code.go(wanted);
                    code.place(tag);
                    code.push(LDX_IMM, 4);
                    code.load(LD_HALF_ABS, 2);
                    code.if_equal(IPV4, v4);
                    code.if_equal(IPV6, v6);
                }
                code.go(wanted);
            }
        }
        code.place(v4);
        self.v4(code, &ports.v4, wanted, reject);
        code.place(v6);
        self.v6(code, &ports.v6, wanted, reject);
    }

    /// X is the offset of an IPv4 header.
    fn v4(&self, code: &mut Assembler, ports: &BTreeMap<u16, Vec<Ipv4Addr>>, wanted: Label, reject: Label) {
        code.load(LD_BYTE_IND, 9);
        code.unless_equal(TCP, wanted);
        code.load(LD_HALF_IND, 6);
        // The rest of a fragmented packet has no ports, and TCP avoids fragments.
        code.if_any(0x1fff, wanted);
        // X stays; the offset of the TCP header, less that of the IP header's end, is not needed: ports
        // are kept in memory.
        code.push(STX, 0);
        code.load(LD_BYTE_IND, 0);
        code.push(AND, 0x0f);
        code.push(LSH, 2);
        code.push(ADD_X, 0);
        code.push(TAX, 0);
        self.ports(code);
        code.push(LDX_MEM, 0);
        let address = |code: &mut Assembler, at: u32, addresses: &[Ipv4Addr], next: Label| {
            code.load(LD_WORD_IND, at);
            for address in addresses {
                code.if_equal(u32::from(*address), reject);
            }
            if addresses.iter().any(Ipv4Addr::is_loopback) {
                // All of 127.0.0.0/8 is this machine.
                code.push(AND, 0xff00_0000);
                code.if_equal(0x7f00_0000, reject);
            }
            code.go(next);
        };
        self.sides(code, ports, wanted, 12, 16, &address);
    }

    /// X is the offset of an IPv6 header.
    fn v6(&self, code: &mut Assembler, ports: &BTreeMap<u16, Vec<Ipv6Addr>>, wanted: Label, reject: Label) {
        code.load(LD_BYTE_IND, 6);
        code.unless_equal(TCP, wanted);
        code.push(STX, 0);
        code.push(TXA, 0);
        code.push(ADD, 40);
        code.push(TAX, 0);
        self.ports(code);
        code.push(LDX_MEM, 0);
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
        code.push(ST, 1);
        code.load(LD_HALF_IND, 2);
        code.push(ST, 2);
    }

    /// The source's port and address, then the destination's.
    fn sides<A>(
        &self,
        code: &mut Assembler,
        ports: &BTreeMap<u16, Vec<A>>,
        wanted: Label,
        source: u32,
        destination: u32,
        address: Compare<'_, A>,
    ) {
        let ports: Vec<_> = ports.iter().map(|(port, addresses)| (*port, addresses.as_slice())).collect();
        for (memory, at) in [(1, source), (2, destination)] {
            let next = if memory == 1 { code.label() } else { wanted };
            code.push(LD_MEM, memory);
            bisect(code, &ports, next, &mut |code, addresses| address(code, at, addresses, next));
            if memory == 1 {
                code.place(next);
            }
        }
        code.go(wanted);
    }
}

/// Compares the address at an offset from X with each of some; falls on to a label if it is none.
type Compare<'a, A> = &'a dyn Fn(&mut Assembler, u32, &[A], Label);

/// Finds the accumulator among the ports.
fn bisect<A>(
    code: &mut Assembler,
    ports: &[(u16, &[A])],
    next: Label,
    found: &mut dyn FnMut(&mut Assembler, &[A]),
) {
    match ports {
        [] => code.go(next),
        [(port, addresses)] => {
            code.unless_equal(u32::from(*port), next);
            found(code, addresses);
        }
        _ => {
            let (below, above) = ports.split_at(ports.len() / 2);
            let high = code.label();
            let least = above.first().map_or(0, |(port, _)| *port);
            code.if_at_least(u32::from(least), high);
            bisect(code, below, next, found);
            code.place(high);
            bisect(code, above, next, found);
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
                IpAddr::V6(Ipv6Addr::UNSPECIFIED) => local.iter().for_each(|ip| ports.add(port, *ip)),
                IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
                    local.iter().filter(|ip| ip.is_ipv4()).for_each(|ip| ports.add(port, *ip));
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

/// A place to jump to.
#[derive(Debug, Clone, Copy)]
struct Label(usize);

/// Instructions whose jumps go to labels. Conditions reach 255 instructions only, so each one skips, or
/// does not skip, a jump that reaches everywhere; the one after it is taken out where it can.
#[derive(Default)]
struct Assembler {
    code: Vec<Line>,
    places: Vec<Option<usize>>,
}

enum Line {
    Plain(Instruction),
    /// If the condition holds (or does not), on to the label.
    Branch {
        code: u16,
        k: u32,
        holds: bool,
        to: Label,
    },
    Go(Label),
}

impl Assembler {
    fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    fn place(&mut self, label: Label) {
        if let Some(place) = self.places.get_mut(label.0) {
            *place = Some(self.code.len());
        }
    }

    fn push(&mut self, code: u16, k: u32) {
        self.code.push(Line::Plain(Instruction { code, jt: 0, jf: 0, k }));
    }

    fn load(&mut self, code: u16, k: u32) {
        self.push(code, k);
    }

    fn append(&mut self, program: &[Instruction]) {
        self.code.extend(program.iter().copied().map(Line::Plain));
    }

    fn go(&mut self, to: Label) {
        self.code.push(Line::Go(to));
    }

    fn if_equal(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JEQ, k, holds: true, to });
    }

    fn unless_equal(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JEQ, k, holds: false, to });
    }

    fn if_at_least(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JGE, k, holds: true, to });
    }

    fn if_any(&mut self, k: u32, to: Label) {
        self.code.push(Line::Branch { code: JSET, k, holds: true, to });
    }

    fn finish(self) -> Result<Vec<Instruction>, TooLarge> {
        // A branch is one instruction where its label is near, else two. Lines only move apart by
        // that, so this ends.
        let mut long = vec![false; self.code.len()];
        loop {
            let mut starts = Vec::with_capacity(self.code.len() + 1);
            let mut at = 0usize;
            for is_long in &long {
                starts.push(at);
                at += 1 + usize::from(*is_long);
            }
            starts.push(at);
            if at > MAX_INSTRUCTIONS {
                return Err(TooLarge);
            }
            let target = |label: Label| {
                let line = self.places.get(label.0).copied().flatten().unwrap_or(self.code.len());
                starts.get(line).copied().unwrap_or(at)
            };
            let mut grown = false;
            let mut program = Vec::with_capacity(at);
            for (line, is_long) in self.code.iter().zip(&mut long) {
                let here = program.len() + 1;
                match line {
                    Line::Plain(instruction) => program.push(*instruction),
                    Line::Go(to) => program.push(jump(target(*to).saturating_sub(here))),
                    Line::Branch { code, k, holds, to } => {
                        let distance = target(*to).saturating_sub(here);
                        let near = u8::try_from(distance);
                        let (hit, miss) = match (*is_long, near) {
                            (false, Ok(near)) => (near, 0),
                            (false, Err(_)) => {
                                (grown, *is_long) = (true, true);
                                (0, 0)
                            }
                            (true, _) => (0, 1),
                        };
                        let (jt, jf) = if *holds { (hit, miss) } else { (miss, hit) };
                        program.push(Instruction { code: *code, jt, jf, k: *k });
                        if *is_long && !grown {
                            program.push(jump(distance.saturating_sub(1)));
                        }
                    }
                }
            }
            if !grown {
                return Ok(program);
            }
        }
    }
}

fn jump(distance: usize) -> Instruction {
    Instruction { code: JA, jt: 0, jf: 0, k: u32::try_from(distance).unwrap_or(u32::MAX) }
}

/// EtherTypes and the protocol number.
const IPV4: u32 = 0x0800;
const IPV6: u32 = 0x86dd;
const TCP: u32 = 6;
/// Tags in a row that are looked behind.
const MAX_TAGS: u32 = 2;
/// PACKET_OUTGOING.
const OUTGOING: u32 = 4;

/// Linux's own offsets, which load what the kernel knows instead of octets (linux/filter.h).
const AD: u32 = 0u32.wrapping_sub(0x1000);
const AD_PROTOCOL: u32 = AD;
const AD_PACKET_TYPE: u32 = AD.wrapping_add(4);
const AD_INTERFACE: u32 = AD.wrapping_add(8);
const AD_VLAN_PRESENT: u32 = AD.wrapping_add(48);
/// The network layer's first octet, wherever that is.
const NETWORK: u32 = 0u32.wrapping_sub(0x10_0000);

const LD_WORD_ABS: u16 = 0x20;
const LD_HALF_ABS: u16 = 0x28;
const LD_WORD_IND: u16 = 0x40;
const LD_HALF_IND: u16 = 0x48;
const LD_BYTE_IND: u16 = 0x50;
const LD_MEM: u16 = 0x60;
const LDX_IMM: u16 = 0x01;
const LDX_MEM: u16 = 0x61;
const ST: u16 = 0x02;
const STX: u16 = 0x03;
const ADD: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const AND: u16 = 0x54;
const LSH: u16 = 0x64;
const JA: u16 = 0x05;
const JEQ: u16 = 0x15;
const JGE: u16 = 0x35;
const JSET: u16 = 0x45;
const RET: u16 = 0x06;
const TAX: u16 = 0x07;
const TXA: u16 = 0x87;
