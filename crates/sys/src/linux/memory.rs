//! How the C library keeps memory that was given back (mallopt(3)).

/// Threads share one pool of memory from now on, instead of having some each, between which what was given
/// back in one is of no use to another. To be called before there are threads. Costs time where many ask for
/// memory at once.
#[cfg(target_env = "gnu")]
pub fn share_pools() {
    // SAFETY: no pointer is involved; where it is refused, all is as it was.
    let _ = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
}

/// Other C libraries have one already, or cannot be told.
#[cfg(not(target_env = "gnu"))]
pub fn share_pools() {}
