//! What was decoded from anything, and encoded, is decoded to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pcaphub_core::format::Format;
use pcaphub_fuzz::{Outcome, decode, encode};

fuzz_target!(|data: &[u8]| {
    let given = decode(data, &[]);
    through_pcapng(&given);
    through_pcap(given);
});

/// Options, interfaces and times survive; names become those that clients see.
fn through_pcapng(given: &Outcome) {
    let first = decode(&encode(Format::PcapNg, given), &[]);
    assert_eq!(first.result, Ok(()));
    assert_eq!(first.packets.len(), given.packets.len());
    for (again, given) in first.packets.iter().zip(&given.packets) {
        assert_eq!((&again.octets, &again.options), (&given.octets, &given.options));
        assert_eq!(again.origlen, given.origlen);
    }
    let second = decode(&encode(Format::PcapNg, &first), &[]);
    assert_eq!(second, first);
}

/// Packets that fit into a pcap stream survive to its resolution.
fn through_pcap(mut given: Outcome) {
    let Some(first) = given.interfaces.first().cloned() else { return };
    let seconds = u64::from(u32::MAX);
    given.packets.retain(|packet| {
        given.interfaces[packet.interface.0 as usize].linktype == first.linktype
            && !packet.octets.is_empty()
            && packet.timestamp.seconds() <= seconds
    });
    let nanos = decode(&encode(Format::PcapNs, &given), &[]);
    assert_eq!(nanos.result, Ok(()));
    assert_eq!(nanos.packets.len(), given.packets.len());
    for (again, given) in nanos.packets.iter().zip(&given.packets) {
        assert_eq!((&again.octets, again.timestamp), (&given.octets, given.timestamp));
    }
    let micros = decode(&encode(Format::Pcap, &given), &[]);
    assert_eq!(micros.packets.len(), given.packets.len());
    for (again, given) in micros.packets.iter().zip(&given.packets) {
        assert_eq!(again.timestamp.nanos(), given.timestamp.nanos() / 1000 * 1000);
    }
}
