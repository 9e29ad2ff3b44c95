//! libpcap, opened when it is first needed, for one thing: to compile filter text.
//!
//! Building pcaphub takes no libpcap, and running it takes one only for filters. The library is
//! opened once per process, and never closed.

#[cfg(feature = "oracle")]
mod oracle;

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;
use std::sync::{Mutex, OnceLock, PoisonError};

use libloading::Library;

pub use crate::bpf::Instruction;

#[cfg(feature = "oracle")]
pub use oracle::{Oracle, datalink_of_file};

/// Why there are no instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompileError {
    /// libpcap cannot be opened; what to install.
    NotInstalled(String),
    /// libpcap knows no such linktype.
    UnknownLinkType,
    /// The expression is a good one, and no packet of the linktype can match.
    RejectsAll,
    /// Something is wrong with the expression: in libpcap's words.
    Refused(String),
}

/// Octets that an expression has at most. libpcap's optimizer takes time as the cube of what it is
/// given: 2 s for 500 hosts in 8 KiB, 16 s for 500 ports (libpcap 1.10.3, 2026).
pub const MAX_EXPRESSION_OCTETS: usize = 8192;

/// The stack that an expression is compiled on, at 4 KiB for each of its octets: libpcap is
/// recursive, and overflows the 2 MiB of a usual thread with 4,000 ports.
const STACK_OCTETS: usize = 4096 * MAX_EXPRESSION_OCTETS;

/// Compiles an expression of pcap-filter(7) for packets of a linktype, a LINKTYPE_ number, as
/// `tcpdump -r` does: `ip broadcast` knows no netmask but that of 255.255.255.255.
///
/// The program returns `snaplen` for what it accepts; 0 stands for 262,144. One thread at a time:
/// libpcap before 1.8 compiles for one thread only. Names in the expression are looked up, which
/// may take long.
///
/// # Errors
/// Why there is no program.
pub fn compile(expression: &str, linktype: u16, snaplen: u32) -> Result<Vec<Instruction>, CompileError> {
    if expression.len() > MAX_EXPRESSION_OCTETS {
        let text = format!("a filter has {MAX_EXPRESSION_OCTETS} octets at most");
        return Err(CompileError::Refused(text));
    }
    let Ok(expression) = CString::new(expression) else {
        return Err(CompileError::Refused("a zero octet in a filter".to_owned()));
    };
    let libpcap = Libpcap::get()?;
    let _one_thread = COMPILING.lock().unwrap_or_else(PoisonError::into_inner);
    let compile = || Dead::open(libpcap, datalink(linktype), snaplen)?.compile(&expression);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("filter".to_owned()).stack_size(STACK_OCTETS);
        let failed = || CompileError::Refused("the system gives no thread to compile a filter".to_owned());
        let thread = thread.spawn_scoped(scope, compile).map_err(|_| failed())?;
        thread.join().unwrap_or_else(|_| Err(failed()))
    })
}

static COMPILING: Mutex<()> = Mutex::new(());

/// What libpcap is called: Debian's, everybody else's, of a development package, and of macOS.
const NAMES: [&str; 4] = ["libpcap.so.0.8", "libpcap.so.1", "libpcap.so", "libpcap.A.dylib"];

/// What libpcap says of programs that consist of rejecting.
const REJECTS_ALL: &str = "expression rejects all packets";
/// What it says of linktypes beyond those it has names for; a number follows.
const UNKNOWN_LINKTYPE: &str = "unknown data link type";

/// `struct bpf_program`.
#[repr(C)]
struct Code {
    len: c_uint,
    instructions: *mut Instruction,
}

/// The library's functions, which live as long as `library`.
struct Libpcap {
    open_dead: unsafe extern "C" fn(c_int, c_int) -> *mut c_void,
    compile: unsafe extern "C" fn(*mut c_void, *mut Code, *const c_char, c_int, u32) -> c_int,
    geterr: unsafe extern "C" fn(*mut c_void) -> *const c_char,
    freecode: unsafe extern "C" fn(*mut Code),
    close: unsafe extern "C" fn(*mut c_void),
    #[cfg_attr(not(feature = "oracle"), allow(dead_code, reason = "it is not closed while these are used"))]
    library: Library,
}

impl Libpcap {
    /// The library; opened by the first call of all.
    fn get() -> Result<&'static Libpcap, CompileError> {
        static LIBPCAP: OnceLock<Result<Libpcap, String>> = OnceLock::new();
        LIBPCAP.get_or_init(Libpcap::open).as_ref().map_err(|why| CompileError::NotInstalled(why.clone()))
    }

    fn open() -> Result<Libpcap, String> {
        // SAFETY: libpcap runs nothing when it is opened, and is never closed.
        let open = |name: &&str| unsafe { Library::new(*name) }.ok();
        let missing = "libpcap is not installed; \
            install the package libpcap0.8 (Debian, Ubuntu) or libpcap (Fedora and others)";
        let library = NAMES.iter().find_map(open).ok_or(missing)?;
        let unlike = |error: libloading::Error| format!("this libpcap cannot be used: {error}");
        // SAFETY: the type is that of pcap/pcap.h, unchanged since libpcap 0.8; so for all of them.
        let open_dead = *unsafe { library.get(b"pcap_open_dead\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let compile = *unsafe { library.get(b"pcap_compile\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let geterr = *unsafe { library.get(b"pcap_geterr\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let freecode = *unsafe { library.get(b"pcap_freecode\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let close = *unsafe { library.get(b"pcap_close\0") }.map_err(unlike)?;
        Ok(Libpcap { open_dead, compile, geterr, freecode, close, library })
    }
}

/// A `pcap_t` that captures nothing.
struct Dead {
    libpcap: &'static Libpcap,
    handle: NonNull<c_void>,
}

impl Dead {
    fn open(libpcap: &'static Libpcap, datalink: c_int, snaplen: u32) -> Result<Dead, CompileError> {
        let snaplen = if snaplen == 0 { 262_144 } else { c_int::try_from(snaplen).unwrap_or(c_int::MAX) };
        // SAFETY: any two numbers may be given.
        let handle = unsafe { (libpcap.open_dead)(datalink, snaplen) };
        let handle = NonNull::new(handle);
        let handle = handle.ok_or_else(|| CompileError::Refused("libpcap has no memory".to_owned()))?;
        Ok(Dead { libpcap, handle })
    }

    fn compile(&self, expression: &CStr) -> Result<Vec<Instruction>, CompileError> {
        const OPTIMIZE: c_int = 1;
        const NETMASK: u32 = 0;
        let mut code = Code { len: 0, instructions: std::ptr::null_mut() };
        let (handle, text) = (self.handle.as_ptr(), expression.as_ptr());
        // SAFETY: the handle is open, the text ends with a zero octet, and `code` outlives the call,
        // which sets it if it returns 0.
        let result = unsafe { (self.libpcap.compile)(handle, &raw mut code, text, OPTIMIZE, NETMASK) };
        if result != 0 {
            return Err(self.error());
        }
        let len = usize::try_from(code.len).unwrap_or(0);
        let instructions = if code.instructions.is_null() || len == 0 {
            Vec::new()
        } else {
            // SAFETY: libpcap returned 0, so that there are `len` instructions, which are ours until
            // they are freed below; `Instruction` is laid out as theirs.
            unsafe { std::slice::from_raw_parts(code.instructions, len) }.to_vec()
        };
        // SAFETY: `code` is what pcap_compile made of it, and is not used any more.
        unsafe { (self.libpcap.freecode)(&raw mut code) };
        Ok(instructions)
    }

    /// Why the last call failed.
    fn error(&self) -> CompileError {
        // SAFETY: the handle is open.
        let text = unsafe { (self.libpcap.geterr)(self.handle.as_ptr()) };
        if text.is_null() {
            return CompileError::Refused("libpcap does not say why".to_owned());
        }
        // SAFETY: not null, it is the handle's buffer of text, which ends with a zero octet and
        // stays as it is until the next call with that handle.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        match text.trim() {
            REJECTS_ALL => CompileError::RejectsAll,
            unknown if unknown.starts_with(UNKNOWN_LINKTYPE) => CompileError::UnknownLinkType,
            text => CompileError::Refused(text.to_owned()),
        }
    }
}

impl Drop for Dead {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody has it after this.
        unsafe { (self.libpcap.close)(self.handle.as_ptr()) };
    }
}

/// The DLT_ number of a LINKTYPE_ number on this system. They are the same but for those where
/// systems had numbers of their own before there was a registry: libpcap's pcap/dlt.h has them.
fn datalink(linktype: u16) -> c_int {
    const APPLE: bool = cfg!(target_vendor = "apple");
    const FREEBSD: bool = cfg!(target_os = "freebsd");
    const NETBSD: bool = cfg!(target_os = "netbsd");
    const OPENBSD: bool = cfg!(target_os = "openbsd");
    const DRAGONFLY: bool = cfg!(target_os = "dragonfly");
    match linktype {
        // ATM_RFC1483.
        100 => 11,
        // RAW.
        101 if OPENBSD => 14,
        101 => 12,
        // SLIP_BSDOS and PPP_BSDOS.
        102 if NETBSD || FREEBSD => 13,
        102 => 15,
        103 if NETBSD || FREEBSD => 14,
        103 => 16,
        // ATM_CLIP.
        106 => 19,
        // PFSYNC.
        246 if FREEBSD => 121,
        246 if APPLE || NETBSD || OPENBSD || DRAGONFLY => 18,
        // PKTAP.
        258 if APPLE => 149,
        same => same.into(),
    }
}

#[cfg(test)]
mod tests;
