//! Classic pcap, cut anywhere, gives what it gives whole.
#![no_main]

use libfuzzer_sys::fuzz_target;

const BEGINS: [&[u8]; 5] = [
    b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0",
    b"\x4d\x3c\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\x20\0\0\0\x71\0\0\0",
    b"\xa1\xb2\xc3\xd4\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\xff\xff\0\0\0\xe7",
    b"\x34\xcd\xb2\xa1\x02\0\x03\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0",
    b"\xd4\xc3\xb2\xa1\x02\0\x01\0\0\0\0\0\0\0\0\0\x40\0\0\0\x01\0\0\x14",
];

fuzz_target!(|data: &[u8]| pcaphub_fuzz::decode_both_ways(data, &BEGINS));
