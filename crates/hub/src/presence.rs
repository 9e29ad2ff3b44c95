//! Producers side by side: who was heard last, and who has to go where there is no place left.
//!
//! A producer may stay silent for hours, and so may one that has not even sent its header: a
//! tcpdump without -U does that. Only where another one has no place, the longest-silent is cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use pcaphub_core::time::Monotonic;
use tokio::sync::Notify;

/// A producer, as seen by the one who lets them in.
#[derive(Debug, Default)]
pub struct Presence {
    heard: AtomicU64,
    known: AtomicBool,
    cut: AtomicBool,
    told: Notify,
}

impl Presence {
    /// Octets came at `now`; `known` once its header is among them.
    pub fn heard(&self, now: Monotonic, known: bool) {
        self.heard.store(now.nanos(), Ordering::Relaxed);
        self.known.store(known, Ordering::Relaxed);
    }

    /// Returns when it has to go.
    pub async fn until_cut(&self) {
        // A cut before this call is kept by the notification itself.
        self.told.notified().await;
    }

    fn go(&self) {
        self.cut.store(true, Ordering::Relaxed);
        self.told.notify_one();
    }
}

/// The producers of one listening source.
#[derive(Debug)]
pub struct Producers {
    places: usize,
    silence: Duration,
    present: Vec<Arc<Presence>>,
}

impl Producers {
    /// `places` producers at once. One that has told its header is only cut after `silence`.
    pub fn new(places: usize, silence: Duration) -> Self {
        Producers { places, silence, present: Vec::new() }
    }

    /// A place for another producer that came at `now`, for which the longest-silent one may have
    /// to go; `None` if there is none, because all are at work.
    pub fn admit(&mut self, now: Monotonic) -> Option<Arc<Presence>> {
        let staying = self.present.iter().filter(|one| !one.cut.load(Ordering::Relaxed)).count();
        if staying >= self.places && !self.cut_longest_silent(now) {
            return None;
        }
        let presence = Arc::new(Presence::default());
        presence.heard(now, false);
        self.present.push(presence.clone());
        Some(presence)
    }

    /// Cuts the longest-silent producer, of those without a header first; whether there was one.
    pub fn cut_longest_silent(&self, now: Monotonic) -> bool {
        let may_go = |one: &&Arc<Presence>| {
            let heard = Monotonic::from_nanos(one.heard.load(Ordering::Relaxed));
            let silent = !one.known.load(Ordering::Relaxed) || now.since(heard) >= self.silence;
            silent && !one.cut.load(Ordering::Relaxed)
        };
        let rank =
            |one: &&Arc<Presence>| (one.known.load(Ordering::Relaxed), one.heard.load(Ordering::Relaxed));
        let longest = self.present.iter().filter(may_go).min_by_key(rank);
        longest.inspect(|one| one.go()).is_some()
    }

    /// Forgets those that have gone.
    pub fn tidy(&mut self) {
        self.present.retain(|one| Arc::strong_count(one) > 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Monotonic {
        Monotonic::default().plus(Duration::from_secs(seconds))
    }

    fn was_cut(presence: &Presence) -> bool {
        presence.cut.load(Ordering::Relaxed)
    }

    #[test]
    fn one_without_a_header_goes_first_then_the_longest_silent_and_never_one_at_work() {
        let mut producers = Producers::new(3, Duration::from_secs(30));
        let old = producers.admit(at(0)).unwrap();
        old.heard(at(1), true);
        let nameless = producers.admit(at(2)).unwrap();
        let busy = producers.admit(at(3)).unwrap();
        busy.heard(at(39), true);
        let next = producers.admit(at(40)).unwrap();
        assert!(was_cut(&nameless) && !was_cut(&old));
        next.heard(at(40), true);
        let last = producers.admit(at(41)).unwrap();
        assert!(was_cut(&old) && !was_cut(&busy));
        last.heard(at(41), true);
        assert!(producers.admit(at(42)).is_none(), "all are at work");
        drop((old, nameless, busy));
        producers.tidy();
        assert!(producers.admit(at(42)).is_some());
    }
}
