//! pcapng, cut anywhere, gives what it gives whole.
#![no_main]

use libfuzzer_sys::fuzz_target;

const BEGINS: [&[u8]; 2] = [
    b"\x0a\x0d\x0d\x0a\x1c\0\0\0\x4d\x3c\x2b\x1a\x01\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\x1c\0\0\0\
      \x01\0\0\0\x14\0\0\0\x01\0\0\0\x40\0\0\0\x14\0\0\0",
    b"\x0a\x0d\x0d\x0a\0\0\0\x1c\x1a\x2b\x3c\x4d\0\x01\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x1c\
      \0\0\0\x01\0\0\0\x14\0\x01\0\0\0\0\0\0\0\0\0\x14",
];

fuzz_target!(|data: &[u8]| pcaphub_fuzz::decode_both_ways(data, &BEGINS));
