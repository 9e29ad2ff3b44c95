//! Packets made for a program: what its tests ask for, decided by chance each time, is written into
//! a packet while the program is walked, so that every way through it is gone.

use pcaphub_core::filter::{Instruction, code};

/// Numbers by chance, the same in every run: xorshift64, Marsaglia 2003.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32 % bound.max(1)
    }

    fn decide(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// A packet and its original length.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    pub(crate) octets: Vec<u8>,
    pub(crate) origlen: u32,
}

/// Where A is from: an offset, octets there, the bits that are left of it, and how far they were
/// shifted down.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    size: usize,
    mask: u32,
    shift: u32,
}

/// Steps of a walk at most.
const STEPS: usize = 5000;

/// A packet that goes some way through a program.
pub(crate) fn make(program: &[Instruction], random: &mut Random) -> Made {
    let mut octets: Vec<u8> =
        (0..200).map(|_| if random.decide() { 0 } else { random.below(256) as u8 }).collect();
    let constants: Vec<u32> = program.iter().map(|instruction| instruction.k).filter(|k| *k < 3000).collect();
    let near = constants.get(random.below(constants.len() as u32) as usize).copied().unwrap_or(0);
    let origlen = [200, 200 + random.below(1500), 200.max((near + random.below(3)).saturating_sub(1))];
    let mut origlen = origlen[random.below(3) as usize];
    // The packet is changed by a walk; what is written late may undo what was written early.
    for _ in 0..1 + random.below(3) {
        walk(program, &mut octets, origlen, Some(random));
    }
    match random.below(6) {
        0 => octets.truncate(random.below(120) as usize),
        1 => {
            octets.truncate(near.min(200) as usize + 1);
            origlen = octets.len() as u32;
        }
        _ => {}
    }
    Made { octets, origlen }
}

/// Whether libpcap comes to an end with a packet: before 1.11 some lead it in a circle forever.
pub(crate) fn ends(program: &[Instruction], made: &Made) -> bool {
    walk(program, &mut made.octets.clone(), made.origlen, None) <= 64
}

/// Walks a program, with somebody who decides its tests or without; how often it jumped back.
fn walk(program: &[Instruction], octets: &mut [u8], origlen: u32, mut decides: Option<&mut Random>) -> u32 {
    let (mut a, mut x, mut memory) = (0_u32, 0_u32, [0_u32; 16]);
    let (mut place, mut at, mut back): (Option<Place>, usize, u32) = (None, 0, 0);
    for _ in 0..STEPS {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let by = if code & code::X == 0 { k } else { x };
        match code & 7 {
            // Loads.
            0 | 1 if matches!(code & 0xe0, 0x20 | 0x40 | 0xa0) => {
                let size = [4, 2, 1][usize::from(code >> 3 & 3)];
                let offset = k as usize + if code & 0xe0 == 0x40 { x as usize } else { 0 };
                let Some(loaded) = octets.get(offset..offset + size) else { return back };
                let loaded = loaded.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
                if code & 7 == 0 {
                    a = loaded;
                    place =
                        Some(Place { offset, size, mask: (u64::MAX >> (64 - 8 * size)) as u32, shift: 0 });
                } else {
                    x = (loaded & 15) << 2;
                }
            }
            class @ (0 | 1) => {
                let loaded = match code & 0xe0 {
                    0x00 => k,
                    0x60 => memory[k as usize],
                    _ => origlen,
                };
                if class == 0 {
                    (a, place) = (loaded, None);
                } else {
                    x = loaded;
                }
            }
            2 => memory[k as usize] = a,
            3 => memory[k as usize] = x,
            4 => {
                place = place.filter(|_| code & code::X == 0).and_then(|place| match code {
                    code::AND => Some(Place { mask: place.mask & k << place.shift, ..place }),
                    code::SHIFT_RIGHT => Some(Place { shift: place.shift + k, ..place }),
                    _ => None,
                });
                a = match code & 0xf0 {
                    0x00 => a.wrapping_add(by),
                    0x10 => a.wrapping_sub(by),
                    0x20 => a.wrapping_mul(by),
                    0x30 if by == 0 => return back,
                    0x30 => a / by,
                    0x40 => a | by,
                    0x50 => a & by,
                    0x60 => a.checked_shl(by).unwrap_or(0),
                    0x70 => a.checked_shr(by).unwrap_or(0),
                    0x80 => a.wrapping_neg(),
                    0x90 if by == 0 => return back,
                    0x90 => a % by,
                    _ => a ^ by,
                };
            }
            5 if code == code::JUMP => {
                back += u32::from(k.cast_signed() < 0);
                at = (at as i64 + i64::from(k.cast_signed())) as usize;
            }
            5 => {
                if let (Some(random), Some(place)) = (decides.as_deref_mut(), place) {
                    a = place.write(octets, wanted(code, by, random));
                }
                let holds = match code & 0xf0 {
                    0x10 => a == by,
                    0x20 => a > by,
                    0x30 => a >= by,
                    _ => a & by != 0,
                };
                at += usize::from(if holds { jt } else { jf });
            }
            6 => return back,
            _ if code == code::A_TO_X => x = a,
            _ => (a, place) = (x, None),
        }
        if back > 64 {
            return back;
        }
    }
    back
}

/// A value for A with which a test goes one way or the other.
fn wanted(code: u16, by: u32, random: &mut Random) -> u32 {
    let near = [by, by.wrapping_add(1), by.wrapping_sub(1), 0, !by];
    match code & 0xf0 {
        // Most tests for equality lead on when they hold.
        0x10 if random.below(3) > 0 => by,
        _ => near[random.below(5) as usize],
    }
}

impl Place {
    /// Writes A to where it is from, as far as that can be; what A is then.
    fn write(self, octets: &mut [u8], wanted: u32) -> u32 {
        let field = &mut octets[self.offset..self.offset + self.size];
        let old = field.iter().fold(0, |word, octet| word << 8 | u32::from(*octet));
        let new = old & !self.mask | wanted.checked_shl(self.shift).unwrap_or(0) & self.mask;
        field.copy_from_slice(&new.to_be_bytes()[4 - self.size..]);
        (new & self.mask).checked_shr(self.shift).unwrap_or(0)
    }
}
