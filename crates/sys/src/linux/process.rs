//! Processes: one forked from us, users by name, and what a child is started with (fork(2),
//! getpwnam(3), prctl(2)).

use std::ffi::{CString, c_char};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Which of two processes this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forked {
    /// The one that called.
    Parent {
        /// The new one's id.
        child: u32,
    },
    /// The new one.
    Child,
}

/// Makes a second process out of this one, which must have one thread only.
///
/// # Errors
/// There are other threads, or the system has no room for a process.
pub fn fork() -> io::Result<Forked> {
    if std::fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() > 1) {
        return Err(io::Error::other("there are threads already"));
    }
    // SAFETY: with a single thread, nothing that the child inherits is held by a thread that it lacks.
    match unsafe { libc::fork() } {
        0 => Ok(Forked::Child),
        child if child > 0 => Ok(Forked::Parent { child: child.unsigned_abs() }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// A user or group as the system knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Its number.
    pub uid: u32,
    /// The number of its own group.
    pub gid: u32,
}

/// What a record of a user or group may take, in octets; large groups have long ones.
const RECORD: usize = 64 << 10;

/// The user of this name.
///
/// # Errors
/// Of the system.
pub fn user(name: &str) -> io::Result<Option<User>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    // SAFETY: passwd is made of integers and pointers only, for which all zeros is a value.
    let mut record: libc::passwd = unsafe { std::mem::zeroed() };
    let mut strings = vec![0 as c_char; RECORD];
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to what outlives the call, and `strings` has the length that is said.
    let error = unsafe {
        libc::getpwnam_r(name.as_ptr(), &raw mut record, strings.as_mut_ptr(), RECORD, &raw mut found)
    };
    Ok(is_there(found.is_null(), error)?.then_some(User { uid: record.pw_uid, gid: record.pw_gid }))
}

/// The number of the group of this name.
///
/// # Errors
/// Of the system.
pub fn group(name: &str) -> io::Result<Option<u32>> {
    let Ok(name) = CString::new(name) else { return Ok(None) };
    // SAFETY: group is made of integers and pointers only, for which all zeros is a value.
    let mut record: libc::group = unsafe { std::mem::zeroed() };
    let mut strings = vec![0 as c_char; RECORD];
    let mut found = std::ptr::null_mut();
    // SAFETY: all pointers are to what outlives the call, and `strings` has the length that is said.
    let error = unsafe {
        libc::getgrnam_r(name.as_ptr(), &raw mut record, strings.as_mut_ptr(), RECORD, &raw mut found)
    };
    Ok(is_there(found.is_null(), error)?.then_some(record.gr_gid))
}

/// Some systems say ENOENT and others of what is only not there (getpwnam(3), ERRORS).
fn is_there(null: bool, error: libc::c_int) -> io::Result<bool> {
    match error {
        0 => Ok(!null),
        libc::ENOENT | libc::ESRCH | libc::EBADF | libc::EPERM => Ok(false),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// The child that `command` starts is killed when the thread that started it ends.
pub fn end_with_us(command: &mut Command) {
    let ours = std::process::id();
    let arrange = move || {
        if !killed_with_parent(ours) {
            return Err(io::Error::from_raw_os_error(libc::ESRCH));
        }
        Ok(())
    };
    // SAFETY: between fork and exec it does two system calls and allocates nothing.
    unsafe { command.pre_exec(arrange) };
}

/// This process is killed when the thread that forked it ends, one of process `parent`. Whether that could
/// be arranged: not if that has ended already.
pub fn killed_with_parent(parent: u32) -> bool {
    // SAFETY: no pointer is involved.
    let arranged = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) == 0 };
    // Looked at last: it may have ended between the fork and the line above.
    arranged && std::os::unix::process::parent_id() == parent
}

/// Signals that others send to end, pause or inform this thread do not reach it from now on. What it
/// starts by [`Command`] gets them again: that starts with none blocked.
pub fn block_signals() {
    // SAFETY: sigset_t is made of integers only, for which all zeros is a value.
    let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
    let set: *mut libc::sigset_t = &raw mut set;
    // SAFETY: the pointer is to a set, which outlives the call.
    unsafe { libc::sigemptyset(set) };
    for signal in [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGTERM,
        libc::SIGUSR1,
        libc::SIGUSR2,
        libc::SIGALRM,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGWINCH,
        libc::SIGPIPE,
    ] {
        // SAFETY: the pointer is to an initialised set.
        unsafe { libc::sigaddset(set, signal) };
    }
    // SAFETY: the pointer is to an initialised set; the old one is not asked for.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, set, std::ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_a_user_and_a_group_and_a_name_that_is_none_is_not() -> io::Result<()> {
        assert_eq!(user("root")?, Some(User { uid: 0, gid: 0 }));
        assert_eq!(group("root")?, Some(0));
        assert_eq!(user("no-such-user")?, None);
        assert_eq!(group("no-such-group")?, None);
        assert_eq!(user("with\0zero")?, None);
        Ok(())
    }

    #[test]
    fn a_parent_that_is_not_the_one_that_forked_has_ended_already() {
        assert!(killed_with_parent(std::os::unix::process::parent_id()));
        assert!(!killed_with_parent(std::process::id()));
    }

    #[test]
    fn a_process_with_threads_is_not_forked() {
        // The test harness itself has several.
        let (wait, waiting) = std::sync::mpsc::sync_channel::<()>(0);
        let thread = std::thread::spawn(move || waiting.recv());
        assert!(fork().is_err_and(|error| error.to_string().contains("threads")));
        drop(wait);
        assert!(thread.join().is_ok());
    }
}
