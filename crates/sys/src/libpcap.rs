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
pub use oracle::Oracle;

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
    let compile = || Offline::open(libpcap, linktype, snaplen)?.compile(&expression);
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
    fopen_offline: unsafe extern "C" fn(*mut libc::FILE, *mut c_char) -> *mut c_void,
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
        // SAFETY: the type is that of pcap/pcap.h, unchanged since libpcap 0.9; so for all of them.
        let fopen_offline = *unsafe { library.get(b"pcap_fopen_offline\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let compile = *unsafe { library.get(b"pcap_compile\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let geterr = *unsafe { library.get(b"pcap_geterr\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let freecode = *unsafe { library.get(b"pcap_freecode\0") }.map_err(unlike)?;
        // SAFETY: as above.
        let close = *unsafe { library.get(b"pcap_close\0") }.map_err(unlike)?;
        Ok(Libpcap { fopen_offline, compile, geterr, freecode, close, library })
    }
}

/// A `pcap_t` of a file without packets. One of no file would do for most, but means what is live on this
/// system: other numbers of address families, and directions that only a socket knows.
struct Offline {
    libpcap: &'static Libpcap,
    handle: NonNull<c_void>,
    /// What the file has; read as long as `handle` is open.
    _header: Box<[u8; HEADER]>,
}

/// The length of the header of a pcap file in octets.
const HEADER: usize = 24;
/// PCAP_ERRBUF_SIZE.
const ERROR: usize = 256;

impl Offline {
    fn open(libpcap: &'static Libpcap, linktype: u16, snaplen: u32) -> Result<Offline, CompileError> {
        let no_memory = || CompileError::Refused("there is no memory to compile a filter".to_owned());
        let snaplen = if snaplen == 0 { 262_144 } else { snaplen };
        let mut header = Box::new([0; HEADER]);
        let [major, minor] = [2_u16, 4].map(u16::to_ne_bytes);
        let words = [0, 0, snaplen, u32::from(linktype)].map(u32::to_ne_bytes);
        let octets =
            [&0xa1b2_c3d4_u32.to_ne_bytes(), major.as_slice(), &minor, words.as_flattened()].concat();
        header.copy_from_slice(&octets);
        // SAFETY: the header has `HEADER` octets and outlives the file, which is only read.
        let file = unsafe { libc::fmemopen(header.as_mut_ptr().cast(), HEADER, c"r".as_ptr()) };
        if file.is_null() {
            return Err(no_memory());
        }
        let mut error: [c_char; ERROR] = [0; ERROR];
        // SAFETY: the file is open, and the buffer has the size that is asked for.
        let handle = unsafe { (libpcap.fopen_offline)(file, error.as_mut_ptr()) };
        match NonNull::new(handle) {
            Some(handle) => Ok(Offline { libpcap, handle, _header: header }),
            None => {
                // SAFETY: it is still ours where it was not taken.
                unsafe { libc::fclose(file) };
                // SAFETY: libpcap has written text there, which ends with a zero octet.
                let text = unsafe { CStr::from_ptr(error.as_ptr()) }.to_string_lossy();
                Err(CompileError::Refused(text.into_owned()))
            }
        }
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

impl Drop for Offline {
    fn drop(&mut self) {
        // SAFETY: the handle is open, and nobody has it after this; the file is closed with it.
        unsafe { (self.libpcap.close)(self.handle.as_ptr()) };
    }
}

#[cfg(test)]
mod tests;
