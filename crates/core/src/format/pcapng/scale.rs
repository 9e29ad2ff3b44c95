//! How an interface counts time: from units of if_tsresol and if_tsoffset to nanoseconds.

use crate::time::{NANOS_PER_SECOND, Resolution, Timestamp};

/// The time scale of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Scale {
    unit: Unit,
    /// Seconds to add.
    offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// A number of nanoseconds: 10^0 to 10^9.
    Nanos(u64),
    /// This part of a nanosecond: 10^1 to 10^10.
    OfNano(u64),
    /// This negative power of two of a second: 0 to 63.
    Binary(u32),
    /// Too fine to compute with.
    Unusable,
}

impl Scale {
    /// From the values of if_tsresol and if_tsoffset.
    pub(super) fn new(tsresol: u8, offset: i64) -> Self {
        let power = u32::from(tsresol & !BINARY);
        let unit = match (tsresol & BINARY != 0, power) {
            (false, 0..=9) => Unit::Nanos(10_u64.pow(9 - power)),
            (false, 10..=19) => Unit::OfNano(10_u64.pow(power - 9)),
            (true, 0..=63) => Unit::Binary(power),
            _ => Unit::Unusable,
        };
        Scale { unit, offset }
    }

    /// Whether times on this scale can be expressed.
    pub(super) fn is_usable(&self) -> bool {
        self.unit != Unit::Unusable
    }

    /// The resolution in which such times are written: ours are decimal, down to nanoseconds.
    pub(super) fn resolution(tsresol: u8) -> Resolution {
        match tsresol {
            digits @ 0..=9 => Resolution::from_digits(digits),
            _ => Resolution::NANOS,
        }
    }

    /// The instant `units` after this scale's zero, or the end of the range that is nearest to it
    /// with `true`; `None` if the scale is unusable.
    pub(super) fn timestamp(&self, units: u64) -> Option<(Timestamp, bool)> {
        if let (Unit::Nanos(unit), 0) = (self.unit, self.offset)
            && let Some(nanos) = units.checked_mul(unit)
        {
            return Some((Timestamp::from_nanos(nanos), false));
        }
        // At most 2^64 × 10^9, which 128 bits hold, as they do the offset in nanoseconds.
        let nanos = match self.unit {
            Unit::Nanos(unit) => i128::from(units) * i128::from(unit),
            Unit::OfNano(parts) => i128::from(units / parts),
            Unit::Binary(power) => (i128::from(units) * i128::from(NANOS_PER_SECOND)) >> power,
            Unit::Unusable => return None,
        };
        let nanos = nanos + i128::from(self.offset) * i128::from(NANOS_PER_SECOND);
        let within = nanos.clamp(0, i128::from(u64::MAX));
        Some((Timestamp::from_nanos(within as u64), within != nanos))
    }
}

/// The bit of if_tsresol that makes its power one of two.
const BINARY: u8 = 0x80;

/// if_tsresol where it is not given: microseconds.
pub(super) const DEFAULT_TSRESOL: u8 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    fn nanos(tsresol: u8, offset: i64, units: u64) -> Option<(u64, bool)> {
        Scale::new(tsresol, offset).timestamp(units).map(|(time, cut)| (time.nanos(), cut))
    }

    #[test]
    fn every_resolution_up_to_the_limits_gives_nanoseconds() {
        assert_eq!(nanos(6, 0, 1_500_000), Some((1_500_000_000, false)));
        assert_eq!(nanos(0, 0, 3), Some((3_000_000_000, false)));
        assert_eq!(nanos(12, 0, 1_999), Some((1, false)));
        assert_eq!(nanos(19, 0, u64::MAX), Some((1_844_674_407, false)));
        assert_eq!(nanos(0x80, 0, 2), Some((2_000_000_000, false)));
        assert_eq!(nanos(0x80 | 10, 0, 1_536), Some((1_500_000_000, false)));
        assert_eq!(nanos(0x80 | 63, 0, 1 << 63), Some((1_000_000_000, false)));
        assert_eq!(nanos(20, 0, 1), None);
        assert_eq!(nanos(0x80 | 64, 0, 1), None);
    }

    #[test]
    fn times_beyond_the_range_become_its_end() {
        assert_eq!(nanos(0, 0, u64::MAX), Some((u64::MAX, true)));
        assert_eq!(nanos(6, i64::MAX, 0), Some((u64::MAX, true)));
        assert_eq!(nanos(6, i64::MIN, u64::MAX), Some((0, true)));
        assert_eq!(nanos(6, -1, 2_000_000), Some((1_000_000_000, false)));
        assert_eq!(nanos(9, 0, u64::MAX), Some((u64::MAX, false)));
    }
}
