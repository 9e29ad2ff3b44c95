//! A hub's memory while it reads a bad stream, whatever the stream claims.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use pcaphub::endpoint::Endpoint;
use pcaphub::event::Events;
use pcaphub::hub;
use pcaphub::shutdown::shutdown;
use pcaphub_core::format::Format;
use pcaphub_core::linktype::LinkType;

use crate::site::{DEADLINE, Remembering, plan};

/// The most octets that a hub held while it read `stream`, beyond what an empty capture costs.
fn held(stream: &[u8]) -> u64 {
    most(stream).saturating_sub(most(&Format::Pcap.header(LinkType::ETHERNET)))
}

/// The most octets that a hub with one producer held. It runs on this thread alone, whose
/// allocations are counted; the producer has another.
fn most(stream: &[u8]) -> u64 {
    std::thread::scope(|scope| {
        let (tell, listens) = sync_channel(1);
        scope.spawn(move || {
            let mut connection = TcpStream::connect(listens.recv().unwrap()).unwrap();
            // A hub that has seen enough closes, and the rest cannot be sent.
            let _ = connection.write_all(stream);
        });
        let counted = allocation_counter::measure(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let source = Endpoint::parse("tcp-listen://127.0.0.1:0?reconnect=no").unwrap();
            let outcome = runtime.block_on(async {
                let opener = Arc::new(Remembering::default());
                let (_trigger, shutdown) = shutdown();
                let mut plan = plan(vec![source], "null:");
                // Queues are bounded by what the operator allows: here, by the least there is.
                plan.limits.max_memory = 16 * MIB;
                let hub = hub::open(plan, opener.clone(), Events::default(), shutdown).unwrap();
                tell.send(opener.listens()[0]).unwrap();
                tokio::time::timeout(DEADLINE, hub.run()).await.expect("the hub ends")
            });
            assert!(outcome.report.closes(), "{:?}", outcome.report);
        });
        counted.bytes_max
    })
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes(), &length, body, &length].concat()
}

fn section(options: &[u8]) -> Vec<u8> {
    let fixed = [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255];
    block(0x0a0d_0d0a, &[&fixed, options].concat())
}

fn interface(linktype: u16, options: &[u8]) -> Vec<u8> {
    block(1, &[&linktype.to_le_bytes()[..], &[0; 6], options].concat())
}

fn packet(octets: &[u8], options: &[u8]) -> Vec<u8> {
    let length = (octets.len() as u32).to_le_bytes();
    block(6, &[&[0; 12][..], &length, &length, octets, options].concat())
}

/// Comments of so many octets, a multiple of four.
fn comments(octets: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while out.len() < octets {
        let length = (octets - out.len()).min(60_000) - 4;
        out.extend([1, 0, length as u8, (length >> 8) as u8]);
        out.resize(out.len() + length, b'x');
    }
    out
}

const MIB: usize = 1 << 20;
/// The longest block there may be.
const LONGEST: usize = 16 * MIB;

#[test]
fn a_block_is_held_as_it_comes_and_costs_at_most_16_mib_besides() {
    let ethernet = [section(&[]), interface(1, &[])].concat();
    let dbus = [section(&[]), interface(231, &[])].concat();
    let cases = [
        section(&comments(LONGEST - 28)),
        [section(&[]), interface(1, &comments(LONGEST - 20))].concat(),
        [&ethernet[..], &packet(&[0; 60], &comments(LONGEST - 92))].concat(),
        [&ethernet[..], &packet(&[0; 60], &comments(LONGEST - 92)).repeat(4)].concat(),
        [&dbus[..], &packet(&vec![0; 12 * MIB], &[])].concat(),
    ];
    for (number, stream) in cases.iter().enumerate() {
        let held = held(stream);
        assert!(held <= LONGEST as u64 + 16 * MIB as u64, "stream {number}: {held} octets");
    }
}

#[test]
fn a_block_that_only_claims_to_be_long_costs_nothing() {
    let mut pcap = Format::Pcap.header(LinkType(231)).to_vec();
    pcap.extend([0_u32, 0, LONGEST as u32, LONGEST as u32].iter().flat_map(|word| word.to_le_bytes()));
    let cut = |mut stream: Vec<u8>| {
        stream.truncate(stream.len() - LONGEST + 100);
        stream
    };
    let cases = [
        pcap,
        cut(section(&comments(LONGEST - 28))),
        cut([section(&[]), interface(1, &comments(LONGEST - 20))].concat()),
        cut([section(&[]), interface(1, &[]), packet(&[0; 60], &comments(LONGEST - 92))].concat()),
        cut([section(&[]), interface(231, &[]), packet(&vec![0; LONGEST - 32], &[])].concat()),
    ];
    for (number, stream) in cases.iter().enumerate() {
        let held = held(stream);
        assert!(held <= 64 << 10, "stream {number}: {held} octets");
    }
}

#[test]
fn what_is_read_and_not_passed_on_leaves_memory_flat() {
    let ethernet = [section(&[]), interface(1, &[])].concat();
    let cases = [
        [&ethernet[..], &packet(&[0; 60], &[])].concat().repeat(1000),
        [&ethernet[..], &block(0x77, &[]).repeat(200_000)].concat(),
        [&ethernet[..], &block(0x77, &vec![0; LONGEST - 12])].concat(),
        [&ethernet[..], &block(10, &vec![0; LONGEST - 12])].concat(),
        [&ethernet[..], &packet(&vec![0; LONGEST - 32], &[])].concat(),
    ];
    for (number, stream) in cases.iter().enumerate() {
        let held = held(stream);
        assert!(held <= MIB as u64, "stream {number}: {held} octets");
    }
}

#[test]
fn many_small_packets_and_ever_new_interfaces_cost_at_most_16_mib() {
    let pcap = Format::Pcap.header(LinkType::ETHERNET).to_vec();
    let empty = [[0x10, 0, 0, 0].as_slice(), &[0; 12]].concat();
    let named = |number: u32| interface(1, &[&[2, 0, 4, 0][..], &number.to_le_bytes()].concat());
    let sections = |n: u32| [section(&[]), (0..4096).flat_map(|i| named(n * 4096 + i)).collect()].concat();
    let cases = [
        [pcap, empty.repeat(200_000)].concat(),
        [section(&[]), interface(1, &[]), packet(&[0; 60], &[]).repeat(100_000)].concat(),
        (0..20).flat_map(sections).collect(),
    ];
    for (number, stream) in cases.iter().enumerate() {
        let held = held(stream);
        assert!(held <= 16 * MIB as u64, "stream {number}: {held} octets");
    }
}
