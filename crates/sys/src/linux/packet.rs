//! Packet sockets: opened, filtered, bound, and asked what they lost (packet(7)).

use std::io;
use std::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::bpf::Instruction;
use crate::live::{Layer, PacketStatistics, Wake};

/// A packet socket; clones are handles on the same one.
#[derive(Debug, Clone)]
pub struct PacketSocket {
    descriptor: Arc<OwnedFd>,
}

/// A program that lets nothing through.
const NOTHING: Instruction = Instruction { code: 0x06, jt: 0, jf: 0, k: 0 };

impl PacketSocket {
    /// A socket that receives nothing before it is bound.
    ///
    /// # Errors
    /// `PermissionDenied` without CAP_NET_RAW.
    pub fn new(layer: Layer) -> io::Result<Self> {
        let kind = match layer {
            Layer::Whole => libc::SOCK_RAW,
            Layer::Cut => libc::SOCK_DGRAM,
        };
        // SAFETY: no pointer is involved; protocol 0 receives nothing.
        let descriptor = unsafe { libc::socket(libc::AF_PACKET, kind | libc::SOCK_CLOEXEC, 0) };
        if descriptor < 0 {
            let error = io::Error::last_os_error();
            // EPERM and EACCES are one thing to the caller.
            return Err(match error.raw_os_error() {
                Some(libc::EPERM) => io::Error::new(io::ErrorKind::PermissionDenied, error),
                _ => error,
            });
        }
        // SAFETY: the descriptor is new, valid and nobody else's.
        let descriptor = unsafe { OwnedFd::from_raw_fd(descriptor) };
        Ok(PacketSocket { descriptor: Arc::new(descriptor) })
    }

    /// Packets must pass `program` from now on; the change is atomic.
    ///
    /// # Errors
    /// A program that the kernel refuses: over 4096 instructions, an unknown one, a jump outside.
    pub fn set_filter(&self, program: &[Instruction]) -> io::Result<()> {
        let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let filter = libc::sock_fprog {
            len: length,
            // The kernel only reads; Instruction is laid out as sock_filter.
            filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
        };
        self.set(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &filter)
    }

    /// No packet passes from now on, until another filter is set.
    ///
    /// # Errors
    /// Of the system.
    pub fn close(&self) -> io::Result<()> {
        self.set_filter(&[NOTHING])
    }

    /// Begins to receive: from one interface by its index, or from all.
    ///
    /// # Errors
    /// `ENODEV` where there is no such interface.
    pub fn bind(&self, interface: Option<u32>) -> io::Result<()> {
        self.bind_to(interface, libc::ETH_P_ALL as u16)
    }

    /// The index of the interface that it is bound to; 0 is all of them, -1 none any more: the interface is
    /// gone, even if one with the same name and index is there again.
    ///
    /// # Errors
    /// Of the system.
    pub fn bound_to(&self) -> io::Result<i32> {
        // SAFETY: sockaddr_ll is made of integers only, for which all zeros is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        let mut length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the kernel writes at most `length` octets to a sockaddr_ll, for which every pattern of bits
        // is valid.
        let result = unsafe { libc::getsockname(descriptor, (&raw mut address).cast(), &raw mut length) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(address.sll_ifindex) }
    }

    pub(super) fn bind_to(&self, interface: Option<u32>, protocol: u16) -> io::Result<()> {
        // SAFETY: sockaddr_ll is made of integers only, for which all zeros is a value.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol.to_be();
        address.sll_ifindex = interface.map_or(0, u32::cast_signed);
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the address is a sockaddr_ll of that length, which outlives the call.
        let result = unsafe { libc::bind(descriptor, (&raw const address).cast(), length) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Asks an interface for packets that are not for this machine, as long as the socket lives.
    ///
    /// # Errors
    /// Of the system.
    pub fn promiscuous(&self, interface: u32) -> io::Result<()> {
        let request = libc::packet_mreq {
            mr_ifindex: interface.cast_signed(),
            mr_type: libc::PACKET_MR_PROMISC as u16,
            mr_alen: 0,
            mr_address: [0; 8],
        };
        self.set(libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
    }

    /// Shares the interface's packets, by flow, with the other sockets of a group. `None` makes a new
    /// group; its id, for the others.
    ///
    /// # Errors
    /// A group that is no more, or of another interface.
    pub fn share(&self, group: Option<u16>) -> io::Result<u16> {
        let unique = if group.is_none() { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
        let mode = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_ROLLOVER | unique;
        let argument = u32::from(group.unwrap_or(0)) | (mode << 16);
        self.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &argument)?;
        let told: u32 = self.get(libc::PACKET_FANOUT, 0)?;
        Ok((told & 0xffff) as u16)
    }

    /// What it received and lost since the last call.
    ///
    /// # Errors
    /// Of the system.
    pub fn statistics(&self) -> io::Result<PacketStatistics> {
        // tpacket_stats_v3; the older one is the same without its last word.
        let words: [u32; 3] = self.get(libc::PACKET_STATISTICS, [0; 3])?;
        let [packets, drops, _freezes] = words.map(u64::from);
        Ok(PacketStatistics { packets, drops })
    }

    /// Waits for packets, at most `time`.
    ///
    /// # Errors
    /// Of the system; that the interface is down is none.
    pub fn wait(&self, time: Duration) -> io::Result<Wake> {
        let mut waited = libc::pollfd { fd: self.descriptor.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let millis = i32::try_from(time.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the pointer is to one pollfd, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut waited, 1, millis) };
        match ready {
            0 => Ok(Wake::Timeout),
            n if n < 0 => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(Wake::Timeout),
                error => Err(error),
            },
            _ if waited.revents & libc::POLLERR != 0 => self.pending_error(),
            _ => Ok(Wake::Packets),
        }
    }

    /// What the kernel has to say, which it then forgets.
    fn pending_error(&self) -> io::Result<Wake> {
        match self.get_of::<libc::c_int>(libc::SOL_SOCKET, libc::SO_ERROR, 0)? {
            0 => Ok(Wake::Packets),
            libc::ENETDOWN | libc::ENODEV | libc::ENXIO => Ok(Wake::Down),
            other => Err(io::Error::from_raw_os_error(other)),
        }
    }

    pub(super) fn set<T>(&self, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the pointer is to a value of that length; the kernel only reads it.
        let result = unsafe { libc::setsockopt(descriptor, level, name, (&raw const *value).cast(), length) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn get<T: Integers>(&self, name: libc::c_int, value: T) -> io::Result<T> {
        self.get_of(libc::SOL_PACKET, name, value)
    }

    fn get_of<T: Integers>(&self, level: libc::c_int, name: libc::c_int, mut value: T) -> io::Result<T> {
        let mut length = size_of::<T>() as libc::socklen_t;
        let descriptor = self.descriptor.as_raw_fd();
        // SAFETY: the kernel writes at most `length` octets to a value of that length, for which every
        // pattern of bits is valid.
        let result =
            unsafe { libc::getsockopt(descriptor, level, name, (&raw mut value).cast(), &raw mut length) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
    }
}

impl From<OwnedFd> for PacketSocket {
    /// A packet socket that another process opened.
    fn from(descriptor: OwnedFd) -> Self {
        PacketSocket { descriptor: Arc::new(descriptor) }
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Types that the kernel may fill with anything.
trait Integers: Copy {}
impl Integers for u32 {}
impl Integers for i32 {}
impl Integers for [u32; 3] {}
