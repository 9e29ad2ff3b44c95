//! What bad input gets from the decoders: one test per kind of it, however the octets are cut.

mod decode_support;

#[path = "hostile_rows/pcap.rs"]
mod pcap;
#[path = "hostile_rows/pcapng.rs"]
mod pcapng;
