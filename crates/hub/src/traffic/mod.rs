//! Synthetic packets for `demo:`, the same for the same seed: conversations as users have them, or
//! datagrams of given sizes. Without I/O or clock.

mod flow;
mod message;
mod random;

use std::fmt;
use std::str::FromStr;

use etherparse::PacketBuilder;

use self::flow::Flow;
use self::random::Random;

/// What is made.
#[derive(Debug, Clone)]
pub struct TrafficConfig {
    /// The same seed makes the same packets.
    pub seed: u64,
    /// Flows at once, 1 to 100,000.
    pub flows: u32,
    /// Packets per second, above 0.
    pub rate: f64,
    /// Sizes and kinds.
    pub mix: Mix,
    /// Time of the first packet, in nanoseconds since the epoch.
    pub start_nanos: u64,
}

/// Sizes and kinds of packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Flows as users make them.
    Realistic,
    /// 64, 576 and 1500 octets, 7:4:1.
    Imix,
    /// All of one size, 64 to 1514 octets.
    Fixed(u16),
}

/// A size from 64 to 1514, `imix` or `realistic`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadMix;

impl FromStr for Mix {
    type Err = BadMix;

    fn from_str(text: &str) -> Result<Self, BadMix> {
        match text {
            "realistic" => Ok(Mix::Realistic),
            "imix" => Ok(Mix::Imix),
            size => size.parse().ok().filter(|n| (64..=1514).contains(n)).map(Mix::Fixed).ok_or(BadMix),
        }
    }
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mix::Realistic => f.write_str("realistic"),
            Mix::Imix => f.write_str("imix"),
            Mix::Fixed(size) => write!(f, "{size}"),
        }
    }
}

/// Makes packets.
#[derive(Debug)]
pub struct Traffic {
    config: TrafficConfig,
    random: Random,
    flows: Vec<Flow>,
    /// Time of the next packet, in nanoseconds since the first.
    elapsed: f64,
}

impl Traffic {
    /// From a configuration.
    pub fn new(config: TrafficConfig) -> Self {
        let mut random = Random::new(config.seed);
        let flows = match config.mix {
            Mix::Realistic => (0..config.flows.max(1)).map(|_| Flow::new(&mut random)).collect(),
            _ => Vec::new(),
        };
        Traffic { config, random, flows, elapsed: 0.0 }
    }

    /// Appends the next packet's octets, Ethernet without frame check sequence, to `out`; its time
    /// in nanoseconds since the epoch, never before the previous one's.
    pub fn next(&mut self, out: &mut Vec<u8>) -> u64 {
        let time = self.config.start_nanos.saturating_add(self.elapsed as u64);
        match self.config.mix {
            Mix::Realistic => self.converse(out, time / 1_000_000_000),
            Mix::Fixed(size) => self.datagram(out, usize::from(size)),
            Mix::Imix => {
                let size = self.random.pick(IMIX).unwrap_or(64);
                self.datagram(out, size);
            }
        }
        // Exponential gaps: packets of many independent hosts arrive like that.
        self.elapsed += -self.random.share().ln() * 1e9 / self.config.rate;
        time
    }

    /// The next packet of one of the conversations.
    fn converse(&mut self, out: &mut Vec<u8>, seconds: u64) {
        let index = self.random.below(self.flows.len() as u64) as usize;
        let Some(flow) = self.flows.get_mut(index) else { return };
        flow.next(out, seconds);
        if flow.is_over() {
            *flow = Flow::new(&mut self.random);
        }
    }

    /// A UDP datagram of one of the flows, in a frame of `size` octets.
    fn datagram(&mut self, out: &mut Vec<u8>, size: usize) {
        let flow = self.random.below(u64::from(self.config.flows.max(1)));
        let (port, host) = (1024 + (flow % 60_000) as u16, (flow / 60_000) as u8);
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 1, 2, host], [192, 0, 2, 1], 64)
            .udp(port, 9999);
        let payload = PAYLOAD.get(..size.saturating_sub(HEADERS)).unwrap_or(PAYLOAD);
        // Writing to memory cannot fail, and no size here is over what UDP carries.
        let _ = builder.write(out, payload);
    }
}

/// Ethernet, IPv4 and UDP headers, in octets.
const HEADERS: usize = 42;
/// What datagrams carry.
const PAYLOAD: &[u8] = &[b'.'; 1514 - HEADERS];
/// The simple Internet mix: 7 small, 4 middle, 1 large.
const IMIX: &[usize] = &[64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1500];

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{SlicedPacket, TransportSlice};

    fn packets(seed: u64, mix: Mix, count: usize) -> Vec<(u64, Vec<u8>)> {
        let config =
            TrafficConfig { seed, flows: 10, rate: 1000.0, mix, start_nanos: 1_700_000_000_000_000_000 };
        let mut traffic = Traffic::new(config);
        let next = |_| {
            let mut octets = Vec::new();
            (traffic.next(&mut octets), octets)
        };
        (0..count).map(next).collect()
    }

    #[test]
    fn the_same_seed_makes_the_same_packets_and_another_does_not() {
        assert_eq!(packets(7, Mix::Realistic, 500), packets(7, Mix::Realistic, 500));
        assert_ne!(packets(7, Mix::Realistic, 500), packets(8, Mix::Realistic, 500));
    }

    #[test]
    fn times_run_forward_at_the_rate_asked_for() {
        let times: Vec<_> = packets(1, Mix::Imix, 20_000).into_iter().map(|(time, _)| time).collect();
        assert!(times.is_sorted());
        let seconds = (times[19_999] - times[0]) as f64 / 1e9;
        assert!((19.0..21.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn sizes_are_those_of_the_mix() {
        assert!(packets(1, Mix::Fixed(64), 100).iter().all(|(_, octets)| octets.len() == 64));
        assert!(packets(1, Mix::Fixed(1514), 100).iter().all(|(_, octets)| octets.len() == 1514));
        let mean =
            packets(1, Mix::Imix, 12_000).iter().map(|(_, octets)| octets.len()).sum::<usize>() / 12_000;
        assert!((340..370).contains(&mean), "{mean}");
    }

    #[test]
    fn checksums_are_right() {
        for (_, octets) in packets(3, Mix::Realistic, 5000) {
            let Ok(sliced) = SlicedPacket::from_ethernet(&octets) else { panic!("{octets:x?}") };
            let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { continue };
            assert_eq!(ip.header().to_header().calc_header_checksum(), ip.header().header_checksum());
            if let Some(TransportSlice::Tcp(tcp)) = &sliced.transport {
                let (header, source, destination) =
                    (tcp.to_header(), ip.header().source(), ip.header().destination());
                let sum = header.calc_checksum_ipv4_raw(source, destination, tcp.payload()).unwrap();
                assert_eq!(sum, tcp.checksum());
            }
        }
    }

    #[test]
    fn sequence_numbers_follow_what_was_sent() {
        use std::collections::HashMap;
        let mut expected: HashMap<_, u32> = HashMap::new();
        let mut handshakes = 0;
        for (_, octets) in packets(5, Mix::Realistic, 20_000) {
            let sliced = SlicedPacket::from_ethernet(&octets).unwrap();
            let Some(etherparse::NetSlice::Ipv4(ip)) = &sliced.net else { continue };
            let Some(TransportSlice::Tcp(tcp)) = &sliced.transport else { continue };
            let key =
                (ip.header().source(), tcp.source_port(), ip.header().destination(), tcp.destination_port());
            let seq = tcp.sequence_number();
            if tcp.syn() {
                handshakes += 1;
            } else {
                assert_eq!(expected.get(&key), Some(&seq), "{key:?}");
            }
            let used = tcp.payload().len() as u32 + u32::from(tcp.syn()) + u32::from(tcp.fin());
            expected.insert(key, seq.wrapping_add(used));
        }
        assert!(handshakes > 100, "{handshakes}");
    }
}
