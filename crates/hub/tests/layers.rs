//! The layers of this crate, by the same test as those of the core.

#[path = "../../core/tests/layers.rs"]
mod layers;
