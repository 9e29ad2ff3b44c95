//! Which packets are wanted: filter programs, run over packets between a source or the merge and
//! what they go to.
//!
//! A [`Filter`] is what a user wrote. It makes, with a compiler that the caller brings, one
//! [`Program`] for each linktype, which [`Program::run`] runs: checked once, it ends on every
//! packet, touches nothing beside it, and neither allocates nor panics.

mod instruction;
mod operation;
mod program;
mod run;
mod compile;
mod expression;
mod set;
mod mark;

#[cfg(test)]
mod tests;

pub use compile::{Compile, CompileError};
pub use expression::{Filter, MAX_LINKTYPES};
pub use instruction::{Instruction, code};
pub use mark::{Marker, Unfit};
pub use program::{MAX_INSTRUCTIONS, Program, ProgramError, ProgramErrorKind};
pub use set::Filters;
