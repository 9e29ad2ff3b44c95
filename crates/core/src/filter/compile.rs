//! The seam between filters and who compiles their text: the core knows the shape, not the library.

use thiserror::Error;

use super::program::{Program, ProgramError};
use crate::linktype::LinkType;

/// Makes programs of filter text.
pub trait Compile: Send + Sync {
    /// Compiles an expression for packets of a linktype.
    ///
    /// The program returns `snaplen` for what it accepts; 0 stands for 262,144, more than which no
    /// Ethernet packet has. It may take long, while a name in the expression is looked up.
    ///
    /// # Errors
    /// Why there is no program.
    fn compile(&self, expression: &str, linktype: LinkType, snaplen: u32) -> Result<Program, CompileError>;
}

/// Why an expression has no program for a linktype.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CompileError {
    /// The expression is wrong, or means nothing for this linktype: the operator's fault.
    #[error("{text}, for {linktype}")]
    Refused {
        /// The linktype that it was compiled for.
        linktype: LinkType,
        /// The compiler's own words.
        text: String,
    },
    /// The expression is a good one, and no packet of this linktype can match it.
    #[error("no packet of {linktype} can match")]
    RejectsAll {
        /// The linktype that it was compiled for.
        linktype: LinkType,
    },
    /// The compiler knows nothing of packets of this linktype.
    #[error("{0} cannot be filtered: the compiler does not know it")]
    UnknownLinkType(LinkType),
    /// More linktypes than one filter is compiled for.
    #[error("{0} is one linktype too many; a filter is compiled for {max} at most", max = super::MAX_LINKTYPES)]
    TooManyLinkTypes(LinkType),
    /// There is no compiler on this system.
    #[error("filters cannot be compiled: {remedy}")]
    NoCompiler {
        /// What is missing, and how to install it.
        remedy: String,
    },
    /// The compiler made a program that is none, or too long a one.
    #[error("the filter cannot be run: {0}")]
    Program(#[from] ProgramError),
}
