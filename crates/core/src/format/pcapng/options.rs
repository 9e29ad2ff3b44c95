//! pcapng options: read in either byte order, and written little-endian as packets and interfaces
//! carry them.

use super::super::byte_order::ByteOrder;
use crate::error::DecodeErrorKind;

/// One option as it stands in a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Opt<'a> {
    pub(super) code: u16,
    pub(super) value: &'a [u8],
}

/// The options of a block, up to its end-of-options or its end; ends after an overrun.
#[derive(Debug)]
pub(super) struct Options<'a> {
    order: ByteOrder,
    rest: &'a [u8],
}

/// How the value of an option changes with the byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// Not at all.
    Octets,
    /// Numbers of 32 bits.
    U32,
    /// Numbers of 64 bits.
    U64,
}

impl<'a> Options<'a> {
    /// The options that begin at `offset` of a whole block.
    pub(super) fn of(order: ByteOrder, block: &'a [u8], offset: usize) -> Self {
        let end = block.len().saturating_sub(4);
        Options { order, rest: block.get(offset..end).unwrap_or_default() }
    }

    fn overrun(&mut self, code: u16, length: u16) -> Option<<Self as Iterator>::Item> {
        self.rest = &[];
        Some(Err(DecodeErrorKind::OptionOverrun { code, length }))
    }
}

impl<'a> Iterator for Options<'a> {
    type Item = Result<Opt<'a>, DecodeErrorKind>;

    fn next(&mut self) -> Option<Self::Item> {
        let code = self.order.u16_at(self.rest, 0)?;
        if code == END_OF_OPTIONS {
            self.rest = &[];
            return None;
        }
        let length = self.order.u16_at(self.rest, 2)?;
        let padded = usize::from(length).next_multiple_of(4);
        let Some(value) = self.rest.get(4..4 + usize::from(length)) else {
            return self.overrun(code, length);
        };
        self.rest = self.rest.get(4 + padded..).unwrap_or_default();
        Some(Ok(Opt { code, value }))
    }
}

impl Opt<'_> {
    /// Whether its writer forbids that it be copied into another file.
    pub(super) fn is_private(&self) -> bool {
        matches!(self.code, CUSTOM_TEXT_PRIVATE | CUSTOM_OCTETS_PRIVATE)
    }

    /// Octets that [`append`](Self::append) adds.
    pub(super) fn len(&self) -> usize {
        4 + self.value.len().next_multiple_of(4)
    }

    /// Appends it to `out`, little-endian and padded; `layout` is that of its code.
    pub(super) fn append(&self, out: &mut Vec<u8>, order: ByteOrder, layout: Layout) {
        out.extend_from_slice(&self.code.to_le_bytes());
        out.extend_from_slice(&(self.value.len() as u16).to_le_bytes());
        let (numbers, octets) = match (order, self.code, layout) {
            (ByteOrder::Little, ..) => (0, 1),
            // The enterprise number; what follows is the enterprise's.
            (_, CUSTOM_TEXT | CUSTOM_OCTETS, _) => (self.value.len().min(4), 4),
            (_, _, Layout::Octets) => (0, 1),
            (_, _, Layout::U32) => (self.value.len(), 4),
            (_, _, Layout::U64) => (self.value.len(), 8),
        };
        // A number with a wrong length is no number; its octets stay as they are.
        let numbers = numbers - numbers % octets;
        let (numbers, rest) = self.value.split_at_checked(numbers).unwrap_or((&[], self.value));
        for number in numbers.chunks_exact(octets) {
            out.extend(number.iter().rev());
        }
        out.extend_from_slice(rest);
        let padding = self.value.len().wrapping_neg() % 4;
        out.extend_from_slice([0; 3].get(..padding).unwrap_or_default());
    }
}

const END_OF_OPTIONS: u16 = 0;
const CUSTOM_TEXT: u16 = 2988;
const CUSTOM_OCTETS: u16 = 2989;
const CUSTOM_TEXT_PRIVATE: u16 = 19372;
const CUSTOM_OCTETS_PRIVATE: u16 = 19373;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_a_big_endian_section_are_turned_and_text_is_not() {
        let mut out = Vec::new();
        Opt { code: 2, value: &[0, 0, 0, 1] }.append(&mut out, ByteOrder::Big, Layout::U32);
        Opt { code: 1, value: b"abcde" }.append(&mut out, ByteOrder::Big, Layout::Octets);
        Opt { code: 2988, value: &[0, 0, 0x7d, 9, 1, 2] }.append(&mut out, ByteOrder::Big, Layout::Octets);
        let expected: &[u8] = &[
            2, 0, 4, 0, 1, 0, 0, 0, // a number
            1, 0, 5, 0, b'a', b'b', b'c', b'd', b'e', 0, 0, 0, // text
            0xac, 0x0b, 6, 0, 9, 0x7d, 0, 0, 1, 2, 0, 0, // custom
        ];
        assert_eq!(out, expected);
    }

    #[test]
    fn options_end_at_end_of_options_whatever_its_length() {
        let block = [1, 0, 1, 0, b'x', 0, 0, 0, 0, 0, 9, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        let codes: Vec<_> = Options::of(ByteOrder::Little, &block, 0)
            .map(|option| option.map(|option| option.code))
            .collect();
        assert_eq!(codes, [Ok(1)]);
    }
}
