//! Where events go: each is counted, and of a kind that comes in floods some lines only are logged.
//!
//! What was kept back is told with the next line of its kind, or when the flood has ended.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::kinds::Event;
use super::line::tell_suppressed;

/// Where events go: the log, and a counter per kind. Clones share the counters.
#[derive(Debug, Clone)]
pub struct Events {
    kinds: Arc<[Kind]>,
}

/// What is kept of one kind of event.
#[derive(Debug)]
struct Kind {
    count: AtomicU64,
    lines: Mutex<Lines>,
}

/// Lines of the second that began last.
#[derive(Debug)]
struct Lines {
    began: Instant,
    logged: u32,
    suppressed: u64,
}

impl Default for Events {
    fn default() -> Self {
        let lines = || Lines { began: Instant::now(), logged: 0, suppressed: 0 };
        let kind = |_: &&str| Kind { count: AtomicU64::new(0), lines: Mutex::new(lines()) };
        Events { kinds: Event::NAMES.iter().map(kind).collect() }
    }
}

impl Events {
    /// How often each kind occurred, for those that did.
    pub fn counts(&self) -> Vec<(&'static str, u64)> {
        let counts = self.kinds.iter().map(|kind| kind.count.load(Ordering::Relaxed));
        Event::NAMES.iter().copied().zip(counts).filter(|(_, n)| *n > 0).collect()
    }

    /// Tells of lines that were kept back where no other of their kind came to tell it, for as long as it
    /// is polled.
    pub async fn settle_floods(&self) {
        loop {
            tokio::time::sleep(SETTLING).await;
            if let Some(latest) = Instant::now().checked_sub(SETTLING) {
                self.settle(latest);
            }
        }
    }

    /// Tells of all lines that were kept back so far; for the end.
    pub fn settle_all(&self) {
        self.settle(Instant::now());
    }

    fn settle(&self, latest: Instant) {
        for (name, kind) in Event::NAMES.iter().copied().zip(self.kinds.iter()) {
            match kind.settle(latest) {
                0 => {}
                lines => tell_suppressed(name, lines),
            }
        }
    }

    /// Counts and logs; of a kind that comes in floods, some lines only.
    pub fn emit(&self, event: Event<'_>) {
        let Some(kind) = self.kinds.get(event.index()) else { return };
        kind.count.fetch_add(1, Ordering::Relaxed);
        let name = event.name();
        event.log(|| {
            let kept_back = kind.admit(Instant::now());
            if let Some(lines @ 1..) = kept_back {
                tell_suppressed(name, lines);
            }
            kept_back.is_some()
        });
    }
}

impl Kind {
    /// How many lines were kept back before the one that may be logged now; `None` if it may not.
    fn admit(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if now.duration_since(lines.began) >= Duration::from_secs(1) {
            (lines.began, lines.logged) = (now, 0);
        }
        if lines.logged == LINES_PER_SECOND {
            lines.suppressed += 1;
            return None;
        }
        lines.logged += 1;
        Some(std::mem::take(&mut lines.suppressed))
    }

    /// How many lines were kept back in a second that began at `latest` or before, once.
    fn settle(&self, latest: Instant) -> u64 {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.began > latest { 0 } else { std::mem::take(&mut lines.suppressed) }
    }
}

/// How often it is looked whether a flood has ended.
const SETTLING: Duration = Duration::from_secs(1);

/// Lines of one kind that are logged in a second; an attacker must not fill the disk with them.
const LINES_PER_SECOND: u32 = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_flood_some_lines_are_shown_and_the_others_counted() {
        let began = Instant::now();
        let lines = Lines { began, logged: 0, suppressed: 0 };
        let kind = Kind { count: AtomicU64::new(0), lines: Mutex::new(lines) };
        let shown = (0..100).filter(|_| kind.admit(began) == Some(0)).count();
        assert_eq!(shown, LINES_PER_SECOND as usize);
        assert_eq!(kind.admit(began + Duration::from_secs(1)), Some(80));
        assert_eq!(kind.admit(began + Duration::from_secs(1)), Some(0));
    }

    #[test]
    fn when_a_flood_has_ended_what_was_not_shown_of_it_is_told_once() {
        let began = Instant::now();
        let lines = Lines { began, logged: 0, suppressed: 0 };
        let kind = Kind { count: AtomicU64::new(0), lines: Mutex::new(lines) };
        assert_eq!((0..100).filter(|_| kind.admit(began).is_some()).count(), LINES_PER_SECOND as usize);
        let before = began.checked_sub(Duration::from_nanos(1)).unwrap();
        assert_eq!(kind.settle(before), 0, "it may go on");
        assert_eq!(kind.settle(began), 80);
        assert_eq!(kind.settle(began), 0);
    }

    #[test]
    fn lines_of_a_level_that_is_not_shown_are_not_told_of_as_kept_back() {
        // Nothing takes lines here.
        let events = Events::default();
        (0..100).for_each(|_| events.emit(Event::ClientCame { client: "192.0.2.1:1" }));
        assert!(events.kinds.iter().all(|kind| kind.settle(Instant::now()) == 0));
    }

    #[test]
    fn every_event_is_counted() {
        let events = Events::default();
        for _ in 0..100 {
            events.emit(Event::ClientRefused { client: "192.0.2.1:1", why: "no" });
        }
        assert_eq!(events.counts(), [("client_refused", 100)]);
    }
}
