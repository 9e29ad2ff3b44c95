//! The rows of the table: what was promised, and what was reached.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Writes a row for the table, where `PCAPHUB_FAULT_TABLE` names a folder for it, and prints it.
///
/// `order` sorts the rows; it is the test's own.
pub fn row(order: u32, fault: &str, promise: &str, reached: &str) {
    println!("{fault} | {promise} | {reached}");
    if let Some(folder) = std::env::var_os("PCAPHUB_FAULT_TABLE") {
        let folder = PathBuf::from(folder);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(format!("{order:03}")), format!("{fault}|{promise}|{reached}\n")).unwrap();
    }
}

/// Held by tests that measure, so that they do so one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A time as the table has it.
pub fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

/// Memory as the table has it.
pub fn mib(octets: u64) -> String {
    format!("{:.1} MiB", octets as f64 / f64::from(1 << 20))
}

/// Whether the test may make namespaces and mounts; said loudly if not.
pub fn may_unshare() -> bool {
    let output = std::process::Command::new("unshare").args(["-m", "-n", "true"]).output();
    let may = output.is_ok_and(|output| output.status.success());
    if !may {
        eprintln!("SKIPPED: making namespaces needs root");
    }
    may
}
