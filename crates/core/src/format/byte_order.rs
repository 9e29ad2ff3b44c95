//! The two byte orders a capture can be written in, for the decoders.

/// The order in which the octets of a number stand in a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ByteOrder {
    /// Lowest octet first.
    Little,
    /// Highest octet first.
    Big,
}

impl ByteOrder {
    /// The 16-bit number at `offset`; `None` if it is not all there.
    pub(super) fn u16_at(self, octets: &[u8], offset: usize) -> Option<u16> {
        octets.get(offset..)?.first_chunk().map(|octets| match self {
            ByteOrder::Little => u16::from_le_bytes(*octets),
            ByteOrder::Big => u16::from_be_bytes(*octets),
        })
    }

    /// The 32-bit number at `offset`; `None` if it is not all there.
    pub(super) fn u32_at(self, octets: &[u8], offset: usize) -> Option<u32> {
        octets.get(offset..)?.first_chunk().map(|octets| self.u32(*octets))
    }

    /// The 64-bit number that `octets` are; `None` if they are not eight.
    pub(super) fn u64(self, octets: &[u8]) -> Option<u64> {
        <[u8; 8]>::try_from(octets).ok().map(|octets| match self {
            ByteOrder::Little => u64::from_le_bytes(octets),
            ByteOrder::Big => u64::from_be_bytes(octets),
        })
    }

    /// A 32-bit number.
    pub(super) fn u32(self, octets: [u8; 4]) -> u32 {
        match self {
            ByteOrder::Little => u32::from_le_bytes(octets),
            ByteOrder::Big => u32::from_be_bytes(octets),
        }
    }
}
