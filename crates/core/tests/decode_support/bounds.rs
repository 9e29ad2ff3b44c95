//! What a decoder may take of the machine, whatever the octets: memory and time.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

/// The most that any input may make a decoder hold, in octets.
const MOST: i64 = 16 << 20;
/// What a decoder may hold before it has received much: less than any length field can claim.
const SMALL: i64 = 64 << 10;
/// What it may hold beyond that for each octet received: of a section of nothing but interfaces, 20
/// octets each, it was 19 while their list grew.
const PER_OCTET: i64 = 32;

/// How long one step may take. A debug build is an order of magnitude slower, and shares the
/// machine with the other tests.
const DEADLINE: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 1 });

/// Steps that are under way, by the thread that takes them.
static UNDER_WAY: LazyLock<Mutex<HashMap<ThreadId, Instant>>> = LazyLock::new(|| {
    std::thread::spawn(watch);
    Mutex::default()
});

/// Ends the whole test program when a step does not end: a test that hangs cannot say so itself.
fn watch() {
    loop {
        std::thread::park_timeout(Duration::from_millis(250));
        let steps = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        if steps.values().any(|began| began.elapsed() > DEADLINE) {
            eprintln!("a step of a decoder took more than {DEADLINE:?}");
            std::process::abort();
        }
    }
}

/// What one decoder holds, while the test goes on allocating for itself.
#[derive(Debug, Default)]
pub(crate) struct Held {
    now: i64,
    most: i64,
}

impl Held {
    /// Takes a step of the decoder's: it ends in time, and what it allocates is the decoder's.
    pub(crate) fn step<R>(&mut self, step: impl FnOnce() -> R) -> R {
        let thread = std::thread::current().id();
        let began = Instant::now();
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).insert(thread, began);
        let mut result = None;
        // Of this thread alone, so that tests side by side do not count each other's.
        let counted = allocation_counter::measure(|| result = Some(step()));
        UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner).remove(&thread);
        assert!(began.elapsed() <= DEADLINE, "a step took {:?}", began.elapsed());
        self.most = self.most.max(self.now + counted.bytes_max as i64);
        self.now += counted.bytes_current;
        result.expect("it was taken")
    }

    /// After so many octets, it has never held more than these can justify.
    #[track_caller]
    pub(crate) fn is_bounded(&self, received: usize) {
        let bound = MOST.min(SMALL + PER_OCTET * received as i64);
        assert!(self.most <= bound, "{} octets held after {received} were received", self.most);
    }
}
