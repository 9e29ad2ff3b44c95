//! Instants of packets, their resolution, and the monotonic readings that the core is handed.

use std::time::Duration;

/// Nanoseconds since 1970-01-01 00:00 UTC, unsigned; the last one is in the year 2554.
///
/// All arithmetic saturates: hostile captures hold times at both ends of 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The epoch.
    pub const ZERO: Timestamp = Timestamp(0);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: u64) -> Self {
        Timestamp(nanos)
    }

    /// From whole seconds and nanoseconds; `nanos` of 10^9 and more carry into the seconds.
    pub const fn new(seconds: u64, nanos: u64) -> Self {
        Timestamp(seconds.saturating_mul(NANOS_PER_SECOND).saturating_add(nanos))
    }

    /// Nanoseconds since the epoch.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / NANOS_PER_SECOND
    }

    /// Nanoseconds within the second, 0 to 999,999,999.
    pub const fn subsec_nanos(self) -> u32 {
        (self.0 % NANOS_PER_SECOND) as u32
    }

    /// This time moved by a signed number of nanoseconds.
    pub const fn shifted(self, nanos: i64) -> Self {
        Timestamp(self.0.saturating_add_signed(nanos))
    }

    /// The time that passed since `earlier`; zero where `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Nanoseconds in a second.
pub const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// Decimal digits of the second in which an interface's timestamps are written: 0 to 9.
///
/// Finer and binary resolutions of pcapng input are written as nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resolution(u8);

impl Resolution {
    /// Microseconds, what classic pcap files have.
    pub const MICROS: Resolution = Resolution(6);
    /// Nanoseconds.
    pub const NANOS: Resolution = Resolution(9);

    /// `digits` decimal digits; more than nine become nine.
    pub const fn from_digits(digits: u8) -> Self {
        Resolution(if digits > 9 { 9 } else { digits })
    }

    /// Decimal digits, 0 to 9; also the value of pcapng's if_tsresol option.
    pub const fn digits(self) -> u8 {
        self.0
    }

    /// Nanoseconds in one unit of this resolution.
    pub const fn unit_nanos(self) -> u64 {
        10u64.pow(9 - self.0 as u32)
    }
}

/// A reading of a monotonic clock, in nanoseconds since an origin of the caller's choosing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Monotonic(u64);

impl Monotonic {
    /// From nanoseconds since the caller's origin.
    pub const fn from_nanos(nanos: u64) -> Self {
        Monotonic(nanos)
    }

    /// Nanoseconds since the caller's origin.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The reading `after` later.
    pub fn plus(self, after: Duration) -> Self {
        Monotonic(self.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time that passed since `earlier`; zero where `earlier` is later.
    pub const fn since(self, earlier: Monotonic) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
