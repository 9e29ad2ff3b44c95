//! What a recording is to be: into which directory, under which names, when one file ends and the next
//! begins, and which files are kept.
//!
//! Nothing here opens anything or reads a clock; [`sink`](crate::sink) does the work.

mod keep;
mod rotation;
mod template;

use std::path::PathBuf;

pub use keep::{Keep, Situation};
pub use rotation::Rotation;
pub use template::{PART, Template, Zone};

/// A recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Where its files are.
    pub directory: PathBuf,
    /// How they are called.
    pub template: Template,
    /// When one ends.
    pub rotation: Rotation,
    /// Which are kept.
    pub keep: Keep,
    /// After how many files it ends; `None`: with its sources.
    pub files: Option<u64>,
}
