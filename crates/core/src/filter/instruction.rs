//! One instruction of a filter, and the numbers of all that there are: what a compiler gives us and
//! the kernel takes.

/// An instruction of the BSD packet filter, `struct bpf_insn` of libpcap and `struct sock_filter`
/// of Linux.
///
/// From McCanne and Jacobson, "The BSD Packet Filter" (1993), section 3; bpf(4) of FreeBSD has the
/// numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Instruction {
    /// What it does; see [`code`].
    pub code: u16,
    /// Instructions skipped by a test that holds.
    pub jt: u8,
    /// Instructions skipped by a test that does not.
    pub jf: u8,
    /// The constant that it works with.
    pub k: u32,
}

impl Instruction {
    /// An instruction that does not test.
    pub const fn new(code: u16, k: u32) -> Self {
        Instruction { code, jt: 0, jf: 0, k }
    }

    /// A test: how many instructions are skipped if it holds, and if not.
    pub const fn test(code: u16, k: u32, jt: u8, jf: u8) -> Self {
        Instruction { code, jt, jf, k }
    }
}

/// The codes of instructions. A is the accumulator, X the index register, M the memory of 16 words,
/// P the packet; what P holds is in network byte order.
///
/// Arithmetic and tests exist in two forms: with the constant `K`, and with X where [`X`](code::X)
/// is added.
pub mod code {
    /// A = the word at P\[k\].
    pub const LOAD_WORD: u16 = 0x20;
    /// A = the half word at P\[k\].
    pub const LOAD_HALF: u16 = 0x28;
    /// A = the octet at P\[k\].
    pub const LOAD_BYTE: u16 = 0x30;
    /// A = the word at P\[X + k\].
    pub const LOAD_WORD_INDEXED: u16 = 0x40;
    /// A = the half word at P\[X + k\].
    pub const LOAD_HALF_INDEXED: u16 = 0x48;
    /// A = the octet at P\[X + k\].
    pub const LOAD_BYTE_INDEXED: u16 = 0x50;
    /// A = the packet's original length.
    pub const LOAD_LEN: u16 = 0x80;
    /// A = k.
    pub const LOAD_CONSTANT: u16 = 0x00;
    /// A = M\[k\].
    pub const LOAD_MEMORY: u16 = 0x60;
    /// X = k.
    pub const LOAD_X_CONSTANT: u16 = 0x01;
    /// X = M\[k\].
    pub const LOAD_X_MEMORY: u16 = 0x61;
    /// X = the packet's original length.
    pub const LOAD_X_LEN: u16 = 0x81;
    /// X = four times the low four bits of the octet at P\[k\]: the length of an IPv4 header.
    pub const LOAD_X_HEADER_LEN: u16 = 0xb1;
    /// M\[k\] = A.
    pub const STORE: u16 = 0x02;
    /// M\[k\] = X.
    pub const STORE_X: u16 = 0x03;
    /// A += k.
    pub const ADD: u16 = 0x04;
    /// A −= k.
    pub const SUBTRACT: u16 = 0x14;
    /// A *= k.
    pub const MULTIPLY: u16 = 0x24;
    /// A /= k.
    pub const DIVIDE: u16 = 0x34;
    /// A |= k.
    pub const OR: u16 = 0x44;
    /// A &= k.
    pub const AND: u16 = 0x54;
    /// A <<= k.
    pub const SHIFT_LEFT: u16 = 0x64;
    /// A >>= k.
    pub const SHIFT_RIGHT: u16 = 0x74;
    /// A = −A; it has no second form.
    pub const NEGATE: u16 = 0x84;
    /// A %= k.
    pub const REMAINDER: u16 = 0x94;
    /// A ^= k.
    pub const EXCLUSIVE_OR: u16 = 0xa4;
    /// Goes on k instructions further, or back where k is negative; it has no second form.
    pub const JUMP: u16 = 0x05;
    /// Whether A = k.
    pub const EQUAL: u16 = 0x15;
    /// Whether A > k.
    pub const GREATER: u16 = 0x25;
    /// Whether A ≥ k.
    pub const AT_LEAST: u16 = 0x35;
    /// Whether A & k has a bit set.
    pub const ANY_BIT: u16 = 0x45;
    /// Added to arithmetic and tests: with X instead of k.
    pub const X: u16 = 0x08;
    /// Ends with k.
    pub const RETURN: u16 = 0x06;
    /// Ends with A.
    pub const RETURN_A: u16 = 0x16;
    /// X = A.
    pub const A_TO_X: u16 = 0x07;
    /// A = X.
    pub const X_TO_A: u16 = 0x87;
}
