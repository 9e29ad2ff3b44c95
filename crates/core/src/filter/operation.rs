//! An instruction as it is run: everything about it that can be checked has been, and its targets
//! are places in the program.

use super::instruction::{Instruction, code};
use super::program::ProgramErrorKind;

/// Words of memory that a program has.
pub(super) const MEMORY_WORDS: u32 = 16;

/// What one step does. 16 octets: programs are walked fast.
///
/// Words, halves and bytes are loaded into A from a constant offset, or from that offset after X.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Word(u32),
    Half(u32),
    Byte(u32),
    IndexedWord(u32),
    IndexedHalf(u32),
    IndexedByte(u32),
    /// A load with the test of what it loaded, which come together nearly always.
    WordIs(u16, Match),
    HalfIs(u16, Match),
    ByteIs(u16, Match),
    IndexedHalfIs(u16, Match),
    IndexedByteIs(u16, Match),
    Is(Match),
    /// Whether A is greater than a constant.
    Above(u32, Targets),
    /// How A stands to X.
    Compare(Relation, Targets),
    Jump(u16),
    /// Counted: only these can keep a program from its end.
    JumpBack(u16),
    Return(u32),
    ReturnA,
    HeaderLen(u32),
    Len,
    LenToX,
    Constant(u32),
    ConstantToX(u32),
    Recall(u8),
    RecallToX(u8),
    Store(u8),
    StoreX(u8),
    Compute(Arithmetic, u32),
    ComputeWithX(Arithmetic),
    Negate,
    AToX,
    XToA,
}

/// Where a test goes on, by its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) yes: u16,
    pub(super) no: u16,
}

/// Whether A & `mask` is `equal`: both tests for equality and for bits are of this form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) mask: u32,
    pub(super) equal: u32,
    pub(super) targets: Targets,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relation {
    Equal,
    Greater,
    AtLeast,
    AnyBit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Or,
    And,
    ExclusiveOr,
    ShiftLeft,
    ShiftRight,
}

impl Operation {
    /// Checks the instruction at place `at` of a program of `len`, and decodes it.
    pub(super) fn decode(
        instruction: Instruction,
        at: usize,
        len: usize,
    ) -> Result<Operation, ProgramErrorKind> {
        use Operation as Op;
        let k = instruction.k;
        let memory = || u8::try_from(k).ok().filter(|_| k < MEMORY_WORDS).ok_or(ProgramErrorKind::Memory(k));
        let targets = || {
            let yes = target(at, i64::from(instruction.jt), len)?;
            let no = target(at, i64::from(instruction.jf), len)?;
            Ok(Targets { yes, no })
        };
        Ok(match instruction.code {
            code::LOAD_WORD => Op::Word(k),
            code::LOAD_HALF => Op::Half(k),
            code::LOAD_BYTE => Op::Byte(k),
            code::LOAD_WORD_INDEXED => Op::IndexedWord(k),
            code::LOAD_HALF_INDEXED => Op::IndexedHalf(k),
            code::LOAD_BYTE_INDEXED => Op::IndexedByte(k),
            code::LOAD_LEN => Op::Len,
            code::LOAD_CONSTANT => Op::Constant(k),
            code::LOAD_MEMORY => Op::Recall(memory()?),
            code::LOAD_X_CONSTANT => Op::ConstantToX(k),
            code::LOAD_X_MEMORY => Op::RecallToX(memory()?),
            code::LOAD_X_LEN => Op::LenToX,
            code::LOAD_X_HEADER_LEN => Op::HeaderLen(k),
            code::STORE => Op::Store(memory()?),
            code::STORE_X => Op::StoreX(memory()?),
            code::NEGATE => Op::Negate,
            code::JUMP => jump(k, at, len)?,
            code::EQUAL => Op::Is(Match { mask: u32::MAX, equal: k, targets: targets()? }),
            code::ANY_BIT => {
                let Targets { yes, no } = targets()?;
                Op::Is(Match { mask: k, equal: 0, targets: Targets { yes: no, no: yes } })
            }
            code::GREATER => Op::Above(k, targets()?),
            code::AT_LEAST => match k.checked_sub(1) {
                Some(below) => Op::Above(below, targets()?),
                None => Op::Jump(targets()?.yes),
            },
            code::RETURN => Op::Return(k),
            code::RETURN_A => Op::ReturnA,
            code::A_TO_X => Op::AToX,
            code::X_TO_A => Op::XToA,
            other => match (Arithmetic::decode(other & !code::X), Relation::decode(other)) {
                (Some(how), _) if other & code::X != 0 => Op::ComputeWithX(how),
                (Some(Arithmetic::Divide | Arithmetic::Remainder), _) if k == 0 => {
                    return Err(ProgramErrorKind::DivisionByZero);
                }
                (Some(how), _) => Op::Compute(how, k),
                (None, Some(how)) => Op::Compare(how, targets()?),
                (None, None) => return Err(ProgramErrorKind::Code(other)),
            },
        })
    }

    /// This load together with the test that follows it, where there is such an operation.
    pub(super) fn with_test(self, next: Operation) -> Option<Operation> {
        let Operation::Is(test) = next else { return None };
        let short = |offset: u32| u16::try_from(offset).ok();
        Some(match self {
            Operation::Word(offset) => Operation::WordIs(short(offset)?, test),
            Operation::Half(offset) => Operation::HalfIs(short(offset)?, test),
            Operation::Byte(offset) => Operation::ByteIs(short(offset)?, test),
            Operation::IndexedHalf(offset) => Operation::IndexedHalfIs(short(offset)?, test),
            Operation::IndexedByte(offset) => Operation::IndexedByteIs(short(offset)?, test),
            _ => return None,
        })
    }

    /// Whether the operation after it is never the next one.
    pub(super) fn is_return(self) -> bool {
        matches!(self, Operation::Return(_) | Operation::ReturnA)
    }
}

impl Relation {
    /// Of a test with X.
    fn decode(number: u16) -> Option<Relation> {
        Some(match number.checked_sub(code::X)? {
            code::EQUAL => Relation::Equal,
            code::GREATER => Relation::Greater,
            code::AT_LEAST => Relation::AtLeast,
            code::ANY_BIT => Relation::AnyBit,
            _ => return None,
        })
    }

    #[inline]
    pub(super) fn holds(self, a: u32, x: u32) -> bool {
        match self {
            Relation::Equal => a == x,
            Relation::Greater => a > x,
            Relation::AtLeast => a >= x,
            Relation::AnyBit => a & x != 0,
        }
    }
}

impl Arithmetic {
    fn decode(number: u16) -> Option<Arithmetic> {
        Some(match number {
            code::ADD => Arithmetic::Add,
            code::SUBTRACT => Arithmetic::Subtract,
            code::MULTIPLY => Arithmetic::Multiply,
            code::DIVIDE => Arithmetic::Divide,
            code::REMAINDER => Arithmetic::Remainder,
            code::OR => Arithmetic::Or,
            code::AND => Arithmetic::And,
            code::EXCLUSIVE_OR => Arithmetic::ExclusiveOr,
            code::SHIFT_LEFT => Arithmetic::ShiftLeft,
            code::SHIFT_RIGHT => Arithmetic::ShiftRight,
            _ => return None,
        })
    }

    /// `None` where it divides by zero. A shift by 32 and more leaves nothing.
    #[inline]
    pub(super) fn apply(self, a: u32, by: u32) -> Option<u32> {
        Some(match self {
            Arithmetic::Add => a.wrapping_add(by),
            Arithmetic::Subtract => a.wrapping_sub(by),
            Arithmetic::Multiply => a.wrapping_mul(by),
            Arithmetic::Divide => a.checked_div(by)?,
            Arithmetic::Remainder => a.checked_rem(by)?,
            Arithmetic::Or => a | by,
            Arithmetic::And => a & by,
            Arithmetic::ExclusiveOr => a ^ by,
            Arithmetic::ShiftLeft => a.checked_shl(by).unwrap_or(0),
            Arithmetic::ShiftRight => a.checked_shr(by).unwrap_or(0),
        })
    }
}

/// The place `skipped` instructions after the one that follows `at`.
fn target(at: usize, skipped: i64, len: usize) -> Result<u16, ProgramErrorKind> {
    let outside = ProgramErrorKind::Jump(skipped);
    let target = i64::try_from(at).ok().and_then(|at| at.checked_add(1)?.checked_add(skipped));
    let inside = target.and_then(|target| usize::try_from(target).ok()).filter(|target| *target < len);
    inside.and_then(|target| u16::try_from(target).ok()).ok_or(outside)
}

/// libpcap's compiler makes loops for `protochain`, so jumps that choose nothing may go back.
fn jump(k: u32, at: usize, len: usize) -> Result<Operation, ProgramErrorKind> {
    let skipped = i64::from(k.cast_signed());
    let target = target(at, skipped, len)?;
    match skipped {
        0.. => Ok(Operation::Jump(target)),
        // To itself.
        -1 => Err(ProgramErrorKind::Jump(skipped)),
        _ => Ok(Operation::JumpBack(target)),
    }
}
