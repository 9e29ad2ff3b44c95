//! Sleep that ends in time.

use std::time::Instant;

/// Sleeps until `instant`, and some microseconds at most beyond it where the system is idle: this
/// thread's timers are no longer put together with others (prctl(2), PR_SET_TIMERSLACK).
pub fn sleep_until(instant: Instant) {
    // SAFETY: no pointer is involved; it sets this thread's slack, in nanoseconds.
    let _ = unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong) };
    std::thread::sleep(instant.saturating_duration_since(Instant::now()));
}
