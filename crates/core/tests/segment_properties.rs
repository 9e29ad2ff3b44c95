//! What holds of segments: together they carry the stream that the packet carried, each fits, and
//! an independent reader finds their checksums right.

#![allow(clippy::unwrap_used, reason = "a test fails where it unwraps")]

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TcpOptionElement, TransportSlice, VlanId};
use pcaphub_core::segment::{Unsegmentable, segments};
use proptest::prelude::*;

/// How a packet is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrap {
    tags: u8,
    six: bool,
    options: bool,
    /// No length in the IP header.
    lengthless: bool,
}

fn wraps() -> impl Strategy<Value = Wrap> {
    (0u8..=2, any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(tags, six, options, lengthless)| Wrap {
        tags,
        six,
        options,
        lengthless,
    })
}

impl Wrap {
    fn network_at(self) -> usize {
        14 + 4 * usize::from(self.tags)
    }
}

const PLAIN: Wrap = Wrap { tags: 0, six: false, options: false, lengthless: false };
/// FIN, PSH, ACK, ECE and CWR.
const FLAGS: u8 = 0x01 | 0x08 | 0x10 | 0x40 | 0x80;

/// A packet as offloading leaves it: checksums are what nobody has computed.
fn packet(wrap: Wrap, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let tagged = match wrap.tags {
        0 => vec![],
        1 => vec![0x81, 0, 0x60, 42],
        _ => vec![0x88, 0xa8, 0, 7, 0x81, 0, 0, 42],
    };
    // The builder writes real lengths, which BIG TCP has not; the payload is put in afterwards.
    let ip = if wrap.six {
        PacketBuilder::ipv6([0x20; 16], [0x21; 16], 60)
    } else {
        PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 60)
    };
    let options = [TcpOptionElement::Noop, TcpOptionElement::Noop, TcpOptionElement::Timestamp(1, 2)];
    let tcp = ip.tcp(40000, 80, sequence, 1000).ack(99).fin().psh().ece().cwr();
    let tcp = tcp.options(if wrap.options { &options } else { &[] }).unwrap();
    let mut network = Vec::new();
    tcp.write(&mut network, &[]).unwrap();
    network.extend_from_slice(payload);
    let header = if wrap.six { 40 } else { 20 };
    let counted = if wrap.six { network.len() - header } else { network.len() };
    let length = if wrap.lengthless { 0 } else { u16::try_from(counted).unwrap_or(0) };
    let length_at = if wrap.six { 4 } else { 2 };
    network[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    let ethertype = if wrap.six { [0x86, 0xdd] } else { [8, 0] };
    [&[2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 8][..], &tagged, &ethertype, &network].concat()
}

fn all(octets: &[u8], mtu: usize) -> Result<Vec<Vec<u8>>, Unsegmentable> {
    let mut segments = segments(octets, octets.len() as u32, mtu)?;
    let (count, mut packet, mut all) = (segments.remaining(), Vec::new(), Vec::new());
    while segments.write_next(&mut packet) {
        all.push(packet.clone());
        assert_eq!(segments.remaining() + all.len(), count);
    }
    assert!(packet.is_empty());
    Ok(all)
}

/// Checks one segment, and gives its sequence number, flags and payload.
fn checked(segment: &[u8], wrap: Wrap, identification: u16) -> (u32, u8, Vec<u8>) {
    let sliced = SlicedPacket::from_ethernet(segment).unwrap();
    let tags = sliced.vlan_ids();
    let expected = [7, 42].map(|id| VlanId::try_new(id).unwrap());
    assert_eq!(tags.as_slice(), &expected[2 - usize::from(wrap.tags)..]);
    let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { panic!("{sliced:?}") };
    let checksum = match sliced.net.as_ref().unwrap() {
        NetSlice::Ipv4(ip) => {
            assert_eq!(ip.header().header_checksum(), ip.header().to_header().calc_header_checksum());
            assert_eq!(ip.header().identification(), identification);
            assert_eq!(usize::from(ip.header().total_len()), segment.len() - wrap.network_at());
            tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap()
        }
        NetSlice::Ipv6(ip) => {
            assert_eq!(usize::from(ip.header().payload_length()), segment.len() - wrap.network_at() - 40);
            tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(tcp.checksum(), checksum);
    assert_eq!(tcp.options().len(), if wrap.options { 12 } else { 0 });
    let at = wrap.network_at() + if wrap.six { 40 } else { 20 };
    (tcp.sequence_number(), segment[at + 13], tcp.payload().to_vec())
}

proptest! {
    #[test]
    fn segments_carry_the_same_stream_and_each_fits(
        wrap in wraps(),
        sequence in any::<u32>(),
        size in prop_oneof![1usize..5000, 60_000usize..66_000],
        seed in any::<u8>(),
        mtu in prop_oneof![73usize..200, 1000usize..1600, Just(9000)],
    ) {
        let payload: Vec<u8> = (0..size).map(|n| (n as u8).wrapping_mul(31).wrapping_add(seed)).collect();
        let octets = packet(wrap, sequence, &payload);
        let network = octets.len() - wrap.network_at();
        let cut = all(&octets, mtu);
        if network <= mtu {
            prop_assert_eq!(cut, Err(Unsegmentable::Fits));
            return Ok(());
        }
        let cut = cut.unwrap();
        let mut stream = Vec::new();
        for (number, segment) in cut.iter().enumerate() {
            prop_assert!(segment.len() - wrap.network_at() <= mtu);
            let (first, last) = (number == 0, number + 1 == cut.len());
            if !last {
                prop_assert_eq!(segment.len() - wrap.network_at(), mtu);
            }
            let (at, flags, piece) = checked(segment, wrap, number as u16);
            prop_assert_eq!(at, sequence.wrapping_add(stream.len() as u32));
            let expected = FLAGS & !(if last { 0 } else { 0x09 }) & !(if first { 0 } else { 0x80 });
            prop_assert_eq!(flags, expected);
            stream.extend_from_slice(&piece);
        }
        prop_assert_eq!(stream, payload);
    }

    #[test]
    fn whatever_the_octets_are_segments_fit(
        wrap in wraps(),
        changes in prop::collection::vec((0usize..90, any::<u8>()), 0..8),
        cut in 0usize..400,
        origlen in 0u32..600,
        mtu in 0usize..400,
    ) {
        let mut octets = packet(wrap, 7, &[0x55; 300]);
        for (at, octet) in changes {
            octets[at] = octet;
        }
        octets.truncate(cut);
        let mut packet = Vec::new();
        if let Ok(mut segments) = segments(&octets, origlen, mtu) {
            let count = segments.remaining();
            prop_assert!((1..=300).contains(&count));
            for _ in 0..count {
                prop_assert!(segments.write_next(&mut packet));
                prop_assert!(packet.len() <= mtu + 22);
            }
            prop_assert!(!segments.write_next(&mut packet));
        }
    }
}

#[test]
fn big_tcp_has_no_length_and_is_cut_to_the_end() {
    for six in [false, true] {
        let wrap = Wrap { six, options: true, ..PLAIN };
        let payload = vec![7; 180_000];
        let cut = all(&packet(wrap, 0xffff_0000, &payload), 65_536).unwrap();
        assert_eq!(cut.len(), 3);
        let carried: usize = (0..).zip(&cut).map(|(n, segment)| checked(segment, wrap, n).2.len()).sum();
        assert_eq!(carried, payload.len());
    }
}

#[test]
fn what_follows_the_ip_packet_is_not_in_the_segments() {
    let octets = [packet(PLAIN, 1, &[1; 2000]), vec![0xee; 4]].concat();
    let carried: usize = all(&octets, 1500).unwrap().iter().map(|segment| segment.len() - 54).sum();
    assert_eq!(carried, 2000);
    // A packet that fits, with its frame check sequence.
    let octets = [packet(PLAIN, 1, &[1; 1460]), vec![0xee; 4]].concat();
    assert_eq!(all(&octets, 1500), Err(Unsegmentable::Fits));
}

#[test]
fn what_a_receiver_would_see_otherwise_is_not_cut() {
    let changed = |six: bool, changes: &[(usize, u8)]| {
        let mut octets = packet(Wrap { six, ..PLAIN }, 1, &[0; 3000]);
        changes.iter().for_each(|(at, octet)| octets[*at] = *octet);
        all(&octets, 1500).map(|segments| segments.len())
    };
    assert_eq!(changed(false, &[]), Ok(3));
    // Don't fragment.
    assert_eq!(changed(false, &[(20, 0x40)]), Ok(3));
    // UDP, ARP, three VLAN tags.
    assert_eq!(changed(false, &[(23, 17)]), Err(Unsegmentable::NotTcp));
    assert_eq!(changed(true, &[(20, 17)]), Err(Unsegmentable::NotTcp));
    assert_eq!(changed(false, &[(12, 8), (13, 6)]), Err(Unsegmentable::NotTcp));
    let tags = [(12, 0x81), (13, 0), (16, 0x81), (17, 0), (20, 0x81), (21, 0)];
    assert_eq!(changed(false, &tags), Err(Unsegmentable::NotTcp));
    assert_eq!(changed(false, &[(20, 0x20)]), Err(Unsegmentable::Fragment));
    assert_eq!(changed(false, &[(21, 9)]), Err(Unsegmentable::Fragment));
    assert_eq!(changed(true, &[(20, 44)]), Err(Unsegmentable::Fragment));
    assert_eq!(changed(true, &[(20, 0)]), Err(Unsegmentable::Extended));
    for flag in [0x02, 0x04, 0x20] {
        assert_eq!(changed(false, &[(47, flag)]), Err(Unsegmentable::Flags));
    }
    // Versions, an IP header and a TCP header that are too short.
    assert_eq!(changed(false, &[(14, 0x65)]), Err(Unsegmentable::Malformed));
    assert_eq!(changed(true, &[(14, 0x45)]), Err(Unsegmentable::Malformed));
    assert_eq!(changed(false, &[(14, 0x44)]), Err(Unsegmentable::Malformed));
    assert_eq!(changed(false, &[(46, 0x40)]), Err(Unsegmentable::Malformed));
}

#[test]
fn a_packet_that_was_not_captured_whole_is_not_cut() {
    let octets = packet(PLAIN, 1, &[0; 3000]);
    let origlen = octets.len() as u32;
    assert_eq!(segments(&octets[..2000], origlen, 1500).err(), Some(Unsegmentable::Truncated));
    assert_eq!(segments(&octets[..2000], 2000, 1500).err(), Some(Unsegmentable::Truncated));
    assert_eq!(segments(&octets, origlen + 1, 1500).err(), Some(Unsegmentable::Truncated));
    assert_eq!(segments(&octets, origlen, 40).err(), Some(Unsegmentable::MtuTooSmall));
    assert_eq!(segments(&octets[..13], origlen, 1500).err(), Some(Unsegmentable::Malformed));
    assert_eq!(segments(&octets, origlen, 41).map(|segments| segments.remaining()).ok(), Some(3000));
}
