//! Synthetic packets for `demo:`: reproducible by seed, without I/O or clock.

use std::fmt;
use std::str::FromStr;

use etherparse::PacketBuilder;

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
    state: u64,
    made: u64,
}

impl Traffic {
    /// From a configuration.
    pub fn new(config: TrafficConfig) -> Self {
        Traffic { state: config.seed, config, made: 0 }
    }

    /// Appends the next packet's octets to `out`; its time in nanoseconds since the epoch.
    pub fn next(&mut self, out: &mut Vec<u8>) -> u64 {
        let (kind, flow) = (self.draw() % 12, self.draw() % u64::from(self.config.flows.max(1)));
        let size = match self.config.mix {
            Mix::Fixed(size) => usize::from(size),
            _ => [64, 64, 64, 64, 64, 64, 64, 576, 576, 576, 576, 1500]
                .get(kind as usize)
                .copied()
                .unwrap_or(64),
        };
        let port = 1024 + (flow % 60_000) as u16;
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
            .ipv4([10, 0, (flow >> 8) as u8, flow as u8], [192, 0, 2, 1], 64)
            .udp(port, 9999);
        // Writing into a vector cannot fail, and no size here is over what UDP carries.
        let _ = builder.write(out, &vec![0x2e; size - 42]);
        let time = self.config.start_nanos + (self.made as f64 * 1e9 / self.config.rate) as u64;
        self.made += 1;
        time
    }

    /// The next number of a splitmix64 sequence.
    fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
