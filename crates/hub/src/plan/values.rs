//! Values of options: text into types, or what the text should have been.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use pcaphub_core::feed::{History, OnSlow};
use pcaphub_core::format::Format;
use pcaphub_core::linktype::LinkType;
use pcaphub_core::merge::Order;
use pcaphub_core::pace::Pace;
use pcaphub_core::shape::Time;

use super::{Oversize, Reconnect};

/// A value of an option, or what it should have been.
pub type Value<T> = Result<T, String>;

/// `error`, `always`, `no`.
pub fn reconnect(text: &str) -> Value<Reconnect> {
    match text {
        "error" => Ok(Reconnect::Error),
        "always" => Ok(Reconnect::Always),
        "no" => Ok(Reconnect::No),
        _ => Err("it is one of error, always, no".into()),
    }
}

/// `time`, `arrival`, `exact`.
pub fn order(text: &str) -> Value<Order> {
    match text {
        "time" => Ok(Order::Time),
        "arrival" => Ok(Order::Arrival),
        "exact" => Ok(Order::Exact),
        _ => Err("it is one of time, arrival, exact".into()),
    }
}

/// `pcap`, `pcap-ns`, `pcapng`.
pub fn format(text: &str) -> Value<Format> {
    match text {
        "pcap" => Ok(Format::Pcap),
        "pcap-ns" => Ok(Format::PcapNs),
        "pcapng" => Ok(Format::PcapNg),
        _ => Err("it is one of pcap, pcap-ns, pcapng".into()),
    }
}

/// `wait`, `drop`, `disconnect`.
pub fn on_slow(text: &str) -> Value<OnSlow> {
    match text {
        "wait" => Ok(OnSlow::Wait),
        "drop" => Ok(OnSlow::Drop),
        "disconnect" => Ok(OnSlow::Disconnect),
        _ => Err("it is one of wait, drop, disconnect".into()),
    }
}

/// `30s`, `100ms`, `1h`; a bare number is seconds.
pub fn duration(text: &str) -> Value<Duration> {
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| "it is a time such as 10s".to_owned());
    }
    humantime::parse_duration(text).map_err(|_| "it is a time such as 10s, 100ms or 1h".into())
}

/// A signed time: `-2s`, `+150ms`, `1h`, in nanoseconds.
pub fn offset(text: &str) -> Value<i64> {
    let (sign, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let nanos = i64::try_from(duration(magnitude)?.as_nanos());
    nanos.map(|nanos| sign * nanos).map_err(|_| "it is a time of at most 292 years".into())
}

/// `64MiB`, `1GB`, `65536`.
pub fn octets(text: &str) -> Value<usize> {
    let size = text.parse::<bytesize::ByteSize>().map_err(|_| "it is a size such as 64MiB".to_owned())?;
    usize::try_from(size.as_u64()).map_err(|_| "it is more than this machine can address".into())
}

/// What a process may hold: at least 16 MiB.
pub fn memory(text: &str) -> Value<usize> {
    match octets(text)? {
        octets if octets < 16 << 20 => Err("it is at least 16MiB".to_owned()),
        octets => Ok(octets),
    }
}

/// `30s` or `64MiB`.
pub fn history(text: &str) -> Value<History> {
    match (duration(text), octets(text)) {
        _ if text.parse::<f64>().is_ok() => {
            Err("it is a time such as 30s or a size such as 64MiB; the unit is missing".into())
        }
        (Ok(age), _) => Ok(History::Age(age)),
        (_, Ok(octets)) => Ok(History::Octets(octets)),
        _ => Err("it is a time such as 30s or a size such as 64MiB".into()),
    }
}

/// A LINKTYPE_ number or the name of a common one.
pub fn linktype(text: &str) -> Value<LinkType> {
    match text.to_ascii_lowercase().as_str() {
        "ethernet" | "en10mb" => Ok(LinkType::ETHERNET),
        "raw" => Ok(LinkType::RAW),
        "null" => Ok(LinkType::NULL),
        "loop" => Ok(LinkType::LOOP),
        "sll" | "linux_sll" => Ok(LinkType::SLL),
        "sll2" | "linux_sll2" => Ok(LinkType::SLL2),
        "ppp" => Ok(LinkType::PPP),
        "ipv4" => Ok(LinkType::IPV4),
        "ipv6" => Ok(LinkType::IPV6),
        number => number.parse().map(LinkType).map_err(|_| {
            "it is a LINKTYPE_ number from 0 to 65535, or one of ethernet, raw, null, loop, sll, sll2, ppp, ipv4, ipv6".into()
        }),
    }
}

/// Octets of a packet: 1 to 262144; 0 is the most, as tcpdump has it.
pub fn snaplen(text: &str) -> Value<u32> {
    match text.parse() {
        Ok(0) => Ok(MAX_SNAPLEN),
        Ok(snaplen) if snaplen <= MAX_SNAPLEN => Ok(snaplen),
        _ => Err("it is a number of octets from 1 to 262144".into()),
    }
}

/// `1/10`: one packet in ten.
pub fn sample(text: &str) -> Value<u64> {
    let every = text.strip_prefix("1/").and_then(|every| every.parse().ok()).filter(|every| *every > 0);
    every.ok_or_else(|| "it is 1/N, e.g. 1/10 for one packet in ten".into())
}

/// A number of packets, 1 and more.
pub fn count(text: &str) -> Value<u64> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "it is a number of packets above 0".into())
}

/// `keep`, `now`.
pub fn time(text: &str) -> Value<Time> {
    match text {
        "keep" => Ok(Time::Keep),
        "now" => Ok(Time::Now),
        _ => Err("it is keep or now".into()),
    }
}

/// `3`, or `forever`, which is 0.
pub fn repeat(text: &str) -> Value<u64> {
    match text {
        "forever" => Ok(0),
        number => number
            .parse()
            .ok()
            .filter(|times| *times > 0)
            .ok_or_else(|| "it is how often, e.g. 3, or forever".into()),
    }
}

/// A time that is not over at once.
pub fn span(text: &str) -> Value<Duration> {
    duration(text).and_then(|time| match time.is_zero() {
        true => Err("it is a time such as 10s, and not 0".into()),
        false => Ok(time),
    })
}

/// `max`, `1x`, `0.5x`, `100kpps`, `50Mbit`.
pub fn pace(text: &str) -> Value<Pace> {
    let wrong =
        || "it is max, a speed such as 1x or 10x, or a rate such as 500pps, 100kpps or 50Mbit".to_owned();
    if text == "max" {
        return Ok(Pace::Max);
    }
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let (scale, unit) = match unit.chars().next() {
        Some('k' | 'K') => (1e3, unit.get(1..).unwrap_or_default()),
        Some('M') => (1e6, unit.get(1..).unwrap_or_default()),
        Some('G') => (1e9, unit.get(1..).unwrap_or_default()),
        _ => (1.0, unit),
    };
    let rate = number * scale;
    if !(1e-6..=1e15).contains(&rate) {
        return Err(wrong());
    }
    match unit {
        "x" if scale == 1.0 => Ok(Pace::Times(rate)),
        "pps" => Ok(Pace::Packets(rate)),
        "bit" | "bps" | "bit/s" => Ok(Pace::Bits(rate)),
        _ => Err(wrong()),
    }
}

/// `tap`.
pub fn create(text: &str) -> Value<()> {
    if text == "tap" { Ok(()) } else { Err("it is tap".into()) }
}

/// `drop`, `segment`, `truncate`.
pub fn oversize(text: &str) -> Value<Oversize> {
    match text {
        "drop" => Ok(Oversize::Drop),
        "segment" => Ok(Oversize::Segment),
        "truncate" => Ok(Oversize::Truncate),
        _ => Err("it is one of drop, segment, truncate".into()),
    }
}

/// Six octets: `02:00:00:00:00:01`.
pub fn mac(text: &str) -> Value<[u8; 6]> {
    let wrong = || "it is an address of six octets such as 02:00:00:00:00:01".to_owned();
    let octets: Option<Vec<u8>> = text
        .split([':', '-'])
        .map(|octet| u8::from_str_radix(octet, 16).ok().filter(|_| octet.len() <= 2))
        .collect();
    octets.and_then(|octets| octets.try_into().ok()).ok_or_else(wrong)
}

/// The same, of one station: what a packet may come from.
pub fn station(text: &str) -> Value<[u8; 6]> {
    match mac(text)? {
        [first, ..] if first & 1 != 0 => {
            Err("it is the address of a group, from which no packet comes; 02:00:00:00:00:01 is one of a single sender".into())
        }
        address => Ok(address),
    }
}

/// `yes`, `no`.
pub fn yes_no(text: &str) -> Value<bool> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("it is yes or no".into()),
    }
}

/// What libpcap and its readers take.
const MAX_SNAPLEN: u32 = 262_144;

/// Networks separated by commas, or `any`: `192.168.1.0/24,10.0.0.7,2001:db8::/32`.
pub fn networks(text: &str) -> Value<Vec<IpNet>> {
    let mut networks = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        if word == "any" {
            networks.push(IpNet::new_assert([0, 0, 0, 0].into(), 0));
            networks.push(IpNet::new_assert(std::net::Ipv6Addr::UNSPECIFIED.into(), 0));
            continue;
        }
        let network = word.parse::<IpNet>().or_else(|_| word.parse::<IpAddr>().map(IpNet::from));
        let network = network.map_err(|_| {
            format!("`{word}` is not a network such as 192.168.1.0/24, an address, or the word any")
        })?;
        networks.push(canonical(network.trunc()));
    }
    if networks.is_empty() {
        return Err("it is a list of networks such as 192.168.1.0/24,10.0.0.7, or the word any".into());
    }
    Ok(networks)
}

/// A network of IPv4 that is written as one of IPv6, as logs may have it, is one of IPv4.
fn canonical(network: IpNet) -> IpNet {
    let mapped = match network {
        IpNet::V6(network) => network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(96)),
        IpNet::V4(_) => None,
    };
    mapped.and_then(|(address, length)| IpNet::new(address.into(), length).ok()).unwrap_or(network)
}

/// A local address.
pub fn address(text: &str) -> Value<IpAddr> {
    text.trim_matches(['[', ']']).parse().map_err(|_| "it is a local IP address".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_told_apart() {
        assert_eq!(history("10s"), Ok(History::Age(Duration::from_secs(10))));
        assert_eq!(history("64MiB"), Ok(History::Octets(64 << 20)));
        assert!(history("10").is_err());
        assert_eq!(offset("-1500ms"), Ok(-1_500_000_000));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert!(duration("-1").is_err());
        assert!(span("0s").is_err() && span("1s").is_ok());
        assert!(station("01:00:5e:00:00:01").is_err() && station("02:00:5e:00:00:01").is_ok());
    }

    #[test]
    fn paces_are_speeds_or_rates() {
        assert_eq!(pace("max"), Ok(Pace::Max));
        assert_eq!(pace("0.5x"), Ok(Pace::Times(0.5)));
        assert_eq!(pace("100kpps"), Ok(Pace::Packets(100_000.0)));
        assert_eq!(pace("50Mbit"), Ok(Pace::Bits(50_000_000.0)));
        for wrong in ["", "x", "0x", "10", "10kx", "-1x", "1e9pps", "5 pps", "nanx"] {
            assert!(pace(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_are_lists_addresses_or_any() {
        assert_eq!(networks("10.1.2.3/8").unwrap()[0].to_string(), "10.0.0.0/8");
        assert_eq!(networks("::1, 10.0.0.1").unwrap().len(), 2);
        assert_eq!(networks("any").unwrap().len(), 2);
        for (mapped, plain) in [
            ("::ffff:192.168.1.3", "192.168.1.3/32"),
            ("::ffff:192.168.1.0/120", "192.168.1.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("::ffff:0:0/95", "::fffe:0:0/95"),
        ] {
            assert_eq!(networks(mapped).unwrap()[0].to_string(), plain, "{mapped}");
        }
        assert!(networks("10.0.0.0/40").is_err());
        assert!(networks("").is_err());
    }
}
