//! Filters: whatever instructions are taken for a program, it ends on every packet without a panic,
//! with the result of a plain machine that looks at one instruction after the other.
#![no_main]

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use pcaphub_core::filter::{Instruction, Program, code};

#[derive(Debug, Arbitrary)]
struct Input {
    instructions: Vec<Made>,
    packets: Vec<(Vec<u8>, u32)>,
}

/// An instruction by the place of its code among those that there are, so that programs are taken.
#[derive(Debug, Arbitrary)]
enum Made {
    Known { code: u8, jt: u8, jf: u8, k: u8 },
    Any { code: u16, jt: u8, jf: u8, k: u32 },
}

const CODES: [u16; 49] = [
    code::LOAD_WORD,
    code::LOAD_HALF,
    code::LOAD_BYTE,
    code::LOAD_WORD_INDEXED,
    code::LOAD_HALF_INDEXED,
    code::LOAD_BYTE_INDEXED,
    code::LOAD_LEN,
    code::LOAD_CONSTANT,
    code::LOAD_MEMORY,
    code::LOAD_X_CONSTANT,
    code::LOAD_X_MEMORY,
    code::LOAD_X_LEN,
    code::LOAD_X_HEADER_LEN,
    code::STORE,
    code::STORE_X,
    code::ADD,
    code::SUBTRACT,
    code::MULTIPLY,
    code::DIVIDE,
    code::OR,
    code::AND,
    code::SHIFT_LEFT,
    code::SHIFT_RIGHT,
    code::REMAINDER,
    code::EXCLUSIVE_OR,
    code::ADD | code::X,
    code::SUBTRACT | code::X,
    code::MULTIPLY | code::X,
    code::DIVIDE | code::X,
    code::OR | code::X,
    code::AND | code::X,
    code::SHIFT_LEFT | code::X,
    code::SHIFT_RIGHT | code::X,
    code::REMAINDER | code::X,
    code::EXCLUSIVE_OR | code::X,
    code::NEGATE,
    code::JUMP,
    code::EQUAL,
    code::GREATER,
    code::AT_LEAST,
    code::ANY_BIT,
    code::EQUAL | code::X,
    code::GREATER | code::X,
    code::AT_LEAST | code::X,
    code::ANY_BIT | code::X,
    code::RETURN,
    code::RETURN_A,
    code::A_TO_X,
    code::X_TO_A,
];

impl Made {
    fn instruction(&self) -> Instruction {
        match *self {
            Made::Any { code, jt, jf, k } => Instruction { code, jt, jf, k },
            Made::Known { code: place, jt, jf, k } => {
                let code = CODES[usize::from(place) % CODES.len()];
                // Mostly near: −16 to 111 for jumps, else words of memory and offsets.
                let k = if code == code::JUMP { (i32::from(k % 128) - 16).cast_unsigned() } else { k.into() };
                Instruction { code, jt: jt % 8, jf: jf % 8, k }
            }
        }
    }
}

/// The plain machine. It may rely on what a program is known to be, and panics otherwise.
fn run(program: &[Instruction], octets: &[u8], origlen: u32) -> Option<u32> {
    let load = |offset: u64, size: usize| {
        let offset = usize::try_from(offset).ok()?;
        let loaded = octets.get(offset..offset.checked_add(size)?)?;
        Some(loaded.iter().fold(0_u32, |word, octet| word << 8 | u32::from(*octet)))
    };
    let (mut a, mut x, mut memory, mut at, mut back) = (0_u32, 0_u32, [0_u32; 16], 0_usize, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        at += 1;
        let (direct, indexed) = (u64::from(k), u64::from(k) + u64::from(x));
        let by = if code & code::X == 0 { k } else { x };
        match code {
            code::LOAD_WORD => a = load(direct, 4)?,
            code::LOAD_HALF => a = load(direct, 2)?,
            code::LOAD_BYTE => a = load(direct, 1)?,
            code::LOAD_WORD_INDEXED => a = load(indexed, 4)?,
            code::LOAD_HALF_INDEXED => a = load(indexed, 2)?,
            code::LOAD_BYTE_INDEXED => a = load(indexed, 1)?,
            code::LOAD_LEN => a = origlen,
            code::LOAD_CONSTANT => a = k,
            code::LOAD_MEMORY => a = memory[k as usize],
            code::LOAD_X_CONSTANT => x = k,
            code::LOAD_X_MEMORY => x = memory[k as usize],
            code::LOAD_X_LEN => x = origlen,
            code::LOAD_X_HEADER_LEN => x = (load(direct, 1)? & 15) * 4,
            code::STORE => memory[k as usize] = a,
            code::STORE_X => memory[k as usize] = x,
            code::NEGATE => a = 0_u32.wrapping_sub(a),
            code::RETURN => return Some(k),
            code::RETURN_A => return Some(a),
            code::A_TO_X => x = a,
            code::X_TO_A => a = x,
            code::JUMP => {
                back += u32::from(k.cast_signed() < 0);
                if back > 64 {
                    return None;
                }
                at = (at as i64 + i64::from(k.cast_signed())) as usize;
            }
            _ => {
                let test = match code & !code::X {
                    code::EQUAL => Some(a == by),
                    code::GREATER => Some(a > by),
                    code::AT_LEAST => Some(a >= by),
                    code::ANY_BIT => Some(a & by != 0),
                    _ => None,
                };
                let Some(holds) = test else {
                    a = compute(code & !code::X, a, by)?;
                    continue;
                };
                at += usize::from(if holds { jt } else { jf });
            }
        }
    }
}

fn compute(code: u16, a: u32, by: u32) -> Option<u32> {
    let (wide, by) = (u64::from(a), u64::from(by));
    let result = match code {
        code::ADD => wide + by,
        code::SUBTRACT => wide.wrapping_sub(by),
        code::MULTIPLY => wide * by,
        code::DIVIDE => wide.checked_div(by)?,
        code::REMAINDER => wide.checked_rem(by)?,
        code::OR => wide | by,
        code::AND => wide & by,
        code::EXCLUSIVE_OR => wide ^ by,
        code::SHIFT_LEFT => wide << by.min(32),
        code::SHIFT_RIGHT => wide >> by.min(32),
        _ => panic!("{code:#x} is no instruction"),
    };
    Some(result as u32)
}

fuzz_target!(|input: Input| {
    let mut instructions: Vec<_> = input.instructions.iter().map(Made::instruction).collect();
    instructions.push(Instruction::new(code::RETURN_A, 0));
    let Ok(program) = Program::new(instructions) else { return };
    for (octets, origlen) in &input.packets {
        let expected = run(program.instructions(), octets, *origlen).unwrap_or(0);
        assert_eq!(program.run(octets, *origlen), expected);
    }
    assert_eq!(Program::new(program.instructions().to_vec()), Ok(program));
});
