//! Nanoseconds per packet of filters, ours beside libpcap's own machine in the same run, over
//! packets of the sizes and protocols that networks have, in no order that could be learnt.
//!
//! The target for `tcp port 80 or udp port 53` is 40 ns per packet, and 1.1 of libpcap's time.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pcaphub_core::filter::{Instruction, Program};
use pcaphub_sys::libpcap::{self, Oracle};

const EXPRESSIONS: [(&str, &str); 5] = [
    ("ports", "tcp port 80 or udp port 53"),
    ("host", "host 10.0.0.7"),
    ("net", "not net 10.1.0.0/16 and not arp"),
    ("payload", "tcp port 80 and (((ip[2:2] - ((ip[0]&0xf)<<2)) - ((tcp[12]&0xf0)>>2)) != 0)"),
    ("vlan", "vlan 100 and tcp port 443"),
];

/// As many as do not fit into the first cache, and are one batch of a source.
const PACKETS: usize = 4096;

/// Ethernet with IPv4 or IPv6 and TCP or UDP, ports of which one in four is 80 or 53; now and then
/// ARP.
fn packets() -> Vec<Vec<u8>> {
    let mut state = 88_172_645_463_325_252_u64;
    let mut random = |below: u64| {
        // xorshift64, Marsaglia 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let packet = |_| {
        let size = [64, 64, 64, 576, 576, 1500, 1500][random(7) as usize];
        let mut octets = vec![0_u8; size];
        let protocol = [6, 17][random(2) as usize];
        let transport = match random(20) {
            0 => {
                octets[12..14].copy_from_slice(&[0x08, 0x06]);
                return octets;
            }
            1..6 => {
                octets[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
                octets[20] = protocol;
                54
            }
            _ => {
                octets[12..15].copy_from_slice(&[0x08, 0x00, 0x45]);
                octets[23] = protocol;
                octets[26..30].copy_from_slice(&[10, random(3) as u8, 0, random(16) as u8]);
                octets[30..34].copy_from_slice(&[10, random(3) as u8, 0, random(16) as u8]);
                34
            }
        };
        let port = [80, 53, 443, 8080, 22, 123, 5000, 6000][random(8) as usize];
        let ports = if random(2) == 0 { [port, 40_000] } else { [40_000, port] };
        octets[transport..transport + 4].copy_from_slice(&ports.map(u16::to_be_bytes).concat());
        octets
    };
    (0..PACKETS).map(packet).collect()
}

fn filter(criterion: &mut Criterion) {
    let packets = packets();
    let mut group = criterion.benchmark_group("filter");
    group.throughput(Throughput::Elements(PACKETS as u64));
    for (name, expression) in EXPRESSIONS {
        let Ok(compiled) = libpcap::compile(expression, 1, 0) else {
            eprintln!("SKIPPED: libpcap is not installed");
            return;
        };
        let ours = |&libpcap::Instruction { code, jt, jf, k }| Instruction { code, jt, jf, k };
        let program = Program::new(compiled.iter().map(ours).collect()).expect("libpcap made it");
        let oracle = Oracle::new(compiled).expect("libpcap made it");
        group.bench_function(format!("{name}/pcaphub"), |bencher| {
            bencher.iter(|| {
                let accepted = |octets: &&Vec<u8>| program.accepts(octets, octets.len() as u32);
                black_box(&packets).iter().filter(accepted).count()
            });
        });
        group.bench_function(format!("{name}/libpcap"), |bencher| {
            bencher.iter(|| {
                let accepted = |octets: &&Vec<u8>| oracle.run(octets, octets.len() as u32) != 0;
                black_box(&packets).iter().filter(accepted).count()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, filter);
criterion_main!(benches);
