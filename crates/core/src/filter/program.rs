//! A checked program: it ends on every packet, reads nothing beside it, and cannot panic.

use std::fmt;

use thiserror::Error;

use super::instruction::{Instruction, code};
use super::operation::Operation;

/// A filter as it is run, for packets of one linktype.
///
/// ```
/// use pcaphub_core::filter::{Instruction, Program, code};
///
/// // Accepts IPv4 in Ethernet.
/// let program = Program::new(vec![
///     Instruction::new(code::LOAD_HALF, 12),
///     Instruction::test(code::EQUAL, 0x0800, 0, 1),
///     Instruction::new(code::RETURN, 262_144),
///     Instruction::new(code::RETURN, 0),
/// ])?;
/// let mut octets = [0; 60];
/// assert_eq!(program.run(&octets, 60), 0);
/// octets[12] = 0x08;
/// assert_eq!(program.run(&octets, 60), 262_144);
/// # Ok::<(), pcaphub_core::filter::ProgramError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program {
    instructions: Box<[Instruction]>,
    /// As many as instructions: those of the same places.
    pub(super) operations: Box<[Operation]>,
}

/// Instructions that a program has at most: what Linux takes (BPF_MAXINSNS).
pub const MAX_INSTRUCTIONS: usize = 4096;

impl Program {
    /// Checks instructions once and for all.
    ///
    /// There are 1 to [`MAX_INSTRUCTIONS`]. Loads may lie outside of any packet, as those of the
    /// Linux extensions do (negative offsets): they end the program with 0 when they are reached.
    ///
    /// # Errors
    /// What is wrong with the first instruction that is; it is the compiler's fault.
    pub fn new(instructions: Vec<Instruction>) -> Result<Program, ProgramError> {
        let len = instructions.len();
        let wrong = |at: usize| move |kind: ProgramErrorKind| ProgramError { at, kind };
        if len == 0 || len > MAX_INSTRUCTIONS {
            return Err(wrong(0)(ProgramErrorKind::Length(len)));
        }
        let mut operations = Vec::with_capacity(len);
        for (at, instruction) in instructions.iter().enumerate() {
            operations.push(Operation::decode(*instruction, at, len).map_err(wrong(at))?);
        }
        if !operations.last().is_some_and(|last| last.is_return()) {
            return Err(wrong(len.saturating_sub(1))(ProgramErrorKind::NoReturn));
        }
        // The tests stay in their places too: others jump there.
        let next: Vec<Operation> = operations.iter().skip(1).copied().collect();
        for (operation, next) in operations.iter_mut().zip(next) {
            *operation = operation.with_test(next).unwrap_or(*operation);
        }
        Ok(Program { instructions: instructions.into(), operations: operations.into() })
    }

    /// The program that accepts every packet whole.
    pub fn accept_all() -> Program {
        Program::constant(u32::MAX)
    }

    /// The program that accepts no packet.
    pub fn reject_all() -> Program {
        Program::constant(0)
    }

    fn constant(result: u32) -> Program {
        Program {
            instructions: [Instruction::new(code::RETURN, result)].into(),
            operations: [Operation::Return(result)].into(),
        }
    }

    /// What it was made of.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Whether it has a jump back, as libpcap's `protochain` has: kernels refuse such programs.
    pub fn has_loop(&self) -> bool {
        self.operations.iter().any(|operation| matches!(operation, Operation::JumpBack(_)))
    }
}

/// Why instructions are no program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramError {
    /// The place of the instruction that is wrong, from 0.
    pub at: usize,
    /// What is wrong with it.
    pub kind: ProgramErrorKind,
}

impl std::error::Error for ProgramError {}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ProgramErrorKind::Length(_) => self.kind.fmt(f),
            _ => write!(f, "instruction {}: {}", self.at, self.kind),
        }
    }
}

/// What is wrong with a program.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ProgramErrorKind {
    /// It has so many instructions.
    #[error("the program has {0} instructions; 1 to {MAX_INSTRUCTIONS} are possible; use a shorter filter")]
    Length(usize),
    /// No such instruction.
    #[error("there is no instruction {0:#06x}")]
    Code(u16),
    /// A jump to outside of the program, or to itself.
    #[error("it jumps by {0}, to itself or out of the program")]
    Jump(i64),
    /// No such word of memory.
    #[error("there is no memory word {0}")]
    Memory(u32),
    /// A constant zero is divided by.
    #[error("it divides by zero")]
    DivisionByZero,
    /// It is the last one and does not return.
    #[error("the program does not end with a return")]
    NoReturn,
}
