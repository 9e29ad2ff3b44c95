//! Capture rings: packets that the kernel writes into memory shared with us (packet(7),
//! Documentation/networking/packet_mmap.rst of Linux).
//!
//! Blocks of many packets (TPACKET_V3), handed over when they are full or a millisecond old; or, for
//! the least delay, one slot for each packet (TPACKET_V2).

use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::packet::PacketSocket;
use crate::live::{Frame, Latency, LinkAddress, RingOptions};

/// A ring, read by one thread.
#[derive(Debug)]
pub struct Ring {
    socket: PacketSocket,
    map: Map,
    kind: Kind,
    /// Which block or slot is next.
    next: usize,
    /// The block being read: where its next packet is, and how many it still has.
    open: Option<(usize, u32)>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Blocks { octets: usize, count: usize },
    Slots { octets: usize, per_block: usize, block_octets: usize, count: usize },
}

impl Ring {
    /// Gives a packet socket that is not bound yet a ring.
    ///
    /// # Errors
    /// Not enough memory, or a kernel without these rings.
    pub fn new(socket: PacketSocket, options: &RingOptions) -> io::Result<Self> {
        let version = match options.latency {
            Latency::Blocks => libc::tpacket_versions::TPACKET_V3,
            Latency::Low => libc::tpacket_versions::TPACKET_V2,
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_VERSION, &(version as libc::c_int))?;
        let largest = options.snaplen as usize + ROOM;
        let (kind, request) = match options.latency {
            Latency::Blocks => {
                let octets = (largest + BLOCK_HEADER).next_power_of_two().max(BLOCK);
                let count = (options.octets / octets).max(4);
                let request = libc::tpacket_req3 {
                    tp_block_size: octets as u32,
                    tp_block_nr: count as u32,
                    tp_frame_size: octets as u32,
                    tp_frame_nr: count as u32,
                    tp_retire_blk_tov: RETIRE.as_millis() as u32,
                    tp_sizeof_priv: 0,
                    tp_feature_req_word: 0,
                };
                (Kind::Blocks { octets, count }, request)
            }
            Latency::Low => {
                let slot = largest.next_multiple_of(TPACKET_ALIGNMENT);
                let block_octets = slot.next_power_of_two().max(SLOTS);
                let per_block = block_octets / slot;
                let blocks = (options.octets / block_octets).max(4);
                let request = libc::tpacket_req3 {
                    tp_block_size: block_octets as u32,
                    tp_block_nr: blocks as u32,
                    tp_frame_size: slot as u32,
                    tp_frame_nr: (blocks * per_block) as u32,
                    tp_retire_blk_tov: 0,
                    tp_sizeof_priv: 0,
                    tp_feature_req_word: 0,
                };
                (Kind::Slots { octets: slot, per_block, block_octets, count: blocks * per_block }, request)
            }
        };
        match options.latency {
            Latency::Blocks => socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?,
            Latency::Low => {
                let request = libc::tpacket_req {
                    tp_block_size: request.tp_block_size,
                    tp_block_nr: request.tp_block_nr,
                    tp_frame_size: request.tp_frame_size,
                    tp_frame_nr: request.tp_frame_nr,
                };
                socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
            }
        }
        let length = request.tp_block_size as usize * request.tp_block_nr as usize;
        let map = Map::new(&socket, length)?;
        Ok(Ring { socket, map, kind, next: 0, open: None })
    }

    /// Its socket.
    pub fn socket(&self) -> &PacketSocket {
        &self.socket
    }

    /// Memory shared with the kernel, in octets.
    pub fn octets(&self) -> usize {
        self.map.length
    }

    /// Shows every packet that is there, oldest first, until `visit` breaks: the packet at which it
    /// does comes again the next time.
    pub fn visit(&mut self, visit: &mut dyn FnMut(Frame<'_>) -> ControlFlow<()>) {
        match self.kind {
            Kind::Blocks { octets, count } => self.visit_blocks(octets, count, visit),
            Kind::Slots { octets, per_block, block_octets, count } => {
                self.visit_slots(octets, per_block, block_octets, count, visit);
            }
        }
    }

    fn visit_blocks(
        &mut self,
        octets: usize,
        count: usize,
        visit: &mut dyn FnMut(Frame<'_>) -> ControlFlow<()>,
    ) {
        loop {
            let start = self.next * octets;
            let status = self.map.status(start + BLOCK_STATUS);
            let Some(status) = status.filter(|status| status.load(Ordering::Acquire) & USER != 0) else {
                return;
            };
            let block = self.map.ours(start, octets);
            let (mut at, mut left) = self
                .open
                .take()
                .unwrap_or_else(|| (word(block, BLOCK_FIRST) as usize, word(block, BLOCK_PACKETS)));
            while left > 0 {
                let record = block.get(at..).unwrap_or_default();
                if let Some(frame) = frame_v3(record)
                    && visit(frame).is_break()
                {
                    self.open = Some((at, left));
                    return;
                }
                left -= 1;
                at += word(record, 0) as usize;
            }
            status.store(KERNEL, Ordering::Release);
            self.next = (self.next + 1) % count;
        }
    }

    fn visit_slots(
        &mut self,
        octets: usize,
        per_block: usize,
        block_octets: usize,
        count: usize,
        visit: &mut dyn FnMut(Frame<'_>) -> ControlFlow<()>,
    ) {
        loop {
            let start = self.next / per_block * block_octets + self.next % per_block * octets;
            let status = self.map.status(start);
            let Some(status) = status.filter(|status| status.load(Ordering::Acquire) & USER != 0) else {
                return;
            };
            if let Some(frame) = frame_v2(self.map.ours(start, octets))
                && visit(frame).is_break()
            {
                return;
            }
            status.store(KERNEL, Ordering::Release);
            self.next = (self.next + 1) % count;
        }
    }
}

/// A packet of a block: tpacket3_hdr, then sockaddr_ll.
fn frame_v3(record: &[u8]) -> Option<Frame<'_>> {
    let status = word(record, 20);
    Some(Frame {
        seconds: word(record, 4),
        nanos: word(record, 8),
        octets: captured(record, usize::from(half(record, 24)), word(record, 12))?,
        origlen: word(record, 16),
        network: usize::from(half(record, 26).saturating_sub(half(record, 24))),
        vlan: vlan(status, word(record, 32) as u16, half(record, 36)),
        address: link_address(record.get(V3_HEADER..)?),
    })
}

/// A packet in its slot: tpacket2_hdr, then sockaddr_ll.
fn frame_v2(slot: &[u8]) -> Option<Frame<'_>> {
    let status = word(slot, 0);
    Some(Frame {
        seconds: word(slot, 16),
        nanos: word(slot, 20),
        octets: captured(slot, usize::from(half(slot, 12)), word(slot, 8))?,
        origlen: word(slot, 4),
        network: usize::from(half(slot, 14).saturating_sub(half(slot, 12))),
        vlan: vlan(status, half(slot, 24), half(slot, 26)),
        address: link_address(slot.get(V2_HEADER..)?),
    })
}

fn captured(record: &[u8], at: usize, snaplen: u32) -> Option<&[u8]> {
    record.get(at..at.checked_add(snaplen as usize)?)
}

fn vlan(status: u32, control: u16, kind: u16) -> Option<(u16, u16)> {
    let kind = if status & libc::TP_STATUS_VLAN_TPID_VALID != 0 { kind } else { 0x8100 };
    (status & libc::TP_STATUS_VLAN_VALID != 0).then_some((kind, control))
}

fn link_address(octets: &[u8]) -> LinkAddress {
    let byte = |at: usize| octets.get(at).copied().unwrap_or(0);
    LinkAddress {
        protocol: u16::from_be(half(octets, 2)),
        interface: word(octets, 4),
        hardware_type: half(octets, 8),
        packet_type: byte(10),
        length: byte(11),
        octets: octets.get(12..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default(),
    }
}

fn word(octets: &[u8], at: usize) -> u32 {
    octets.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u32::from_ne_bytes(*chunk))
}

fn half(octets: &[u8], at: usize) -> u16 {
    octets.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |chunk| u16::from_ne_bytes(*chunk))
}

/// The ring's memory.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory belongs to the ring alone, wherever it is.
unsafe impl Send for Map {}

impl Map {
    fn new(socket: &PacketSocket, length: usize) -> io::Result<Self> {
        let descriptor = socket.as_fd().as_raw_fd();
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choosing; it outlives the descriptor.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, descriptor, 0) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Map { start, length })
    }

    /// The word through which a block or slot changes hands.
    fn status(&self, at: usize) -> Option<&AtomicU32> {
        if !at.is_multiple_of(4) || at.checked_add(4)? > self.length {
            return None;
        }
        // SAFETY: inside the mapping, as was just checked.
        let place = unsafe { self.start.as_ptr().add(at) };
        // SAFETY: aligned to four octets (the mapping begins at a page), alive as long as `self`, and
        // only ever used as an atomic while the kernel may change it.
        Some(unsafe { AtomicU32::from_ptr(place.cast()) })
    }

    /// Octets of a block or slot whose status says that it is ours: the kernel does not write to it
    /// before the status is given back.
    fn ours(&self, at: usize, length: usize) -> &[u8] {
        if at.checked_add(length).is_none_or(|end| end > self.length) {
            return &[];
        }
        // SAFETY: inside the mapping, as was just checked.
        let place = unsafe { self.start.as_ptr().add(at) };
        // SAFETY: initialised, alive as long as `self`, and, while it is ours, written by nobody.
        unsafe { std::slice::from_raw_parts(place, length) }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is of that length, and nothing borrows from it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.length) };
    }
}

/// A block is handed over at the latest this long after its first packet; the least that can be asked
/// for. Kernels that count it in ticks take up to two of those.
const RETIRE: Duration = Duration::from_millis(1);
/// Small, so that a ring has many: at low rates each millisecond takes one, however few packets are
/// in it.
const BLOCK: usize = 128 << 10;
/// What slots of one size are cut from: large, so that little is left over.
const SLOTS: usize = 1 << 20;
/// What a packet has in a ring besides its octets, at most: header, address, reserve, alignment.
const ROOM: usize = 256;

const USER: u32 = libc::TP_STATUS_USER;
const KERNEL: u32 = libc::TP_STATUS_KERNEL;
const TPACKET_ALIGNMENT: usize = 16;

/// tpacket_block_desc: version, offset to private data, then tpacket_hdr_v1.
const BLOCK_STATUS: usize = 8;
const BLOCK_PACKETS: usize = 12;
const BLOCK_FIRST: usize = 16;
const BLOCK_HEADER: usize = 48;
/// tpacket3_hdr and tpacket2_hdr, in octets; sockaddr_ll follows.
const V3_HEADER: usize = 48;
const V2_HEADER: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    /// The header of a packet that has `length` octets from `at` on.
    fn record(frame: usize, (length_at, place_at): (usize, usize), length: u32, at: u16) -> Vec<u8> {
        let mut record = vec![0; frame];
        record[length_at..length_at + 4].copy_from_slice(&length.to_ne_bytes());
        record[place_at..place_at + 2].copy_from_slice(&at.to_ne_bytes());
        record
    }

    #[test]
    fn a_packet_is_read_inside_its_record_or_not_at_all() {
        for (read, places) in [
            (frame_v3 as fn(&[u8]) -> Option<Frame<'_>>, (12, 24)),
            (frame_v2 as fn(&[u8]) -> Option<Frame<'_>>, (8, 12)),
        ] {
            assert_eq!(read(&record(256, places, 100, 156)).unwrap().octets.len(), 100);
            for (length, at) in [(101, 156), (100, 157), (u32::MAX, 0), (u32::MAX, u16::MAX), (1, u16::MAX)] {
                assert!(read(&record(256, places, length, at)).is_none(), "{length} octets at {at}");
            }
            // A record that is cut anywhere has nothing of what lies behind it.
            for length in 0..256 {
                let whole = record(256, places, 100, 156);
                assert!(read(&whole[..length]).is_none(), "{length}");
            }
        }
    }
}
