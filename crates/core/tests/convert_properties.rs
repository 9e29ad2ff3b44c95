//! What holds of a conversion whatever the octets are.

use pcaphub_core::convert::{Addresses, ETHERNET_HEADER, is_convertible, to_ethernet};
use pcaphub_core::linktype::LinkType;
use proptest::prelude::*;

/// Linktypes that are converted as often as others, and the one that needs nothing.
fn linktypes() -> impl Strategy<Value = LinkType> {
    const KNOWN: &[u16] = &[0, 1, 9, 101, 108, 113, 228, 229, 276];
    prop_oneof![prop::sample::select(KNOWN), any::<u16>()].prop_map(LinkType)
}

/// Arbitrary octets, often with a front that is nearly right.
fn octets() -> impl Strategy<Value = Vec<u8>> {
    let front = prop_oneof![
        Just(vec![]),
        Just(vec![0x45]),
        Just(vec![0x60]),
        Just(vec![2, 0, 0, 0]),
        Just(vec![0, 0, 0, 30]),
        Just(vec![0xff, 3, 0, 0x21]),
        Just(vec![0, 0, 0, 1, 0, 6]),
        Just(vec![8, 0, 0, 0, 0, 0, 0, 1, 0, 1]),
        Just(vec![0, 4, 0, 0, 0, 0, 0, 1, 0, 1]),
    ];
    (front, prop::collection::vec(any::<u8>(), 0..80)).prop_map(|(front, rest)| [front, rest].concat())
}

proptest! {
    #[test]
    fn a_converted_packet_is_a_header_and_the_end_of_the_old_one(
        linktype in linktypes(),
        octets in octets(),
        origlen in prop_oneof![0u32..2000, any::<u32>()],
        source in any::<Option<[u8; 6]>>(),
        destination in any::<Option<[u8; 6]>>(),
    ) {
        let addresses = Addresses { source, destination };
        if let Some(packet) = to_ethernet(linktype, &octets, origlen, &addresses) {
            prop_assert!(is_convertible(linktype));
            prop_assert!(octets.ends_with(packet.payload));
            prop_assert!(octets.len() - packet.payload.len() <= 20);
            prop_assert_eq!(packet.caplen() as usize, ETHERNET_HEADER + packet.payload.len());
            prop_assert!(packet.caplen() <= packet.origlen);
            let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, high, low] = packet.header;
            prop_assert!(source.is_none_or(|source| source == [s0, s1, s2, s3, s4, s5]));
            prop_assert!(destination.is_none_or(|destination| destination == [d0, d1, d2, d3, d4, d5]));
            let ethertype = u32::from(u16::from_be_bytes([high, low]));
            prop_assert!(ethertype >= 0x600 || ethertype + 14 == packet.origlen);
        }
    }
}
