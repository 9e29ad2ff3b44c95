//! What tests and benches hold our own work against: libpcap's.

use std::ffi::{c_int, c_uint};

use super::{Instruction, Libpcap};

/// A program that libpcap runs.
pub struct Oracle {
    program: Vec<Instruction>,
    filter: unsafe extern "C" fn(*const Instruction, *const u8, c_uint, c_uint) -> c_uint,
}

impl Oracle {
    /// A program for libpcap's bpf_filter(); `None` without libpcap, or if its bpf_validate() does
    /// not like the program.
    pub fn new(program: Vec<Instruction>) -> Option<Oracle> {
        type Validate = unsafe extern "C" fn(*const Instruction, c_int) -> c_int;
        let libpcap = Libpcap::get().ok()?;
        // SAFETY: the type is that of pcap/bpf.h.
        let validate = *unsafe { libpcap.library.get::<Validate>(b"bpf_validate\0") }.ok()?;
        // SAFETY: the type is that of pcap/bpf.h.
        let filter = *unsafe { libpcap.library.get(b"bpf_filter\0") }.ok()?;
        let len = c_int::try_from(program.len()).ok()?;
        // SAFETY: there are `len` instructions.
        let valid = unsafe { validate(program.as_ptr(), len) } != 0;
        valid.then_some(Oracle { program, filter })
    }

    /// What the program returns for a packet. It does not end if the program does not.
    pub fn run(&self, octets: &[u8], origlen: u32) -> u32 {
        let caplen = c_uint::try_from(octets.len()).unwrap_or(c_uint::MAX);
        // SAFETY: the program is a valid one, so that it ends with a return, and the packet has
        // `caplen` octets, outside of which it is not read.
        unsafe { (self.filter)(self.program.as_ptr(), octets.as_ptr(), origlen, caplen) }
    }
}
