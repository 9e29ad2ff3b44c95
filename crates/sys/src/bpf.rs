//! Classic BPF as the kernel takes it.

/// One instruction of a classic BPF program, laid out as the kernel's sock_filter
/// (Documentation/networking/filter.rst of Linux).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    /// Operation, addressing mode and size.
    pub code: u16,
    /// Instructions to skip if the condition holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}
