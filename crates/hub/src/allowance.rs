//! Memory that is not a ring's or the merge's: readers' buffers that had to grow, and what replayed
//! clients have for themselves. Taken before it is allocated, given back by dropping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A share of the memory ceiling; clones draw on the same one.
#[derive(Debug, Clone)]
pub struct Allowance {
    left: Arc<AtomicUsize>,
}

/// Octets taken from an [`Allowance`].
#[derive(Debug)]
pub struct Taken {
    octets: usize,
    left: Arc<AtomicUsize>,
}

impl Allowance {
    /// `octets` in all.
    pub fn new(octets: usize) -> Self {
        Allowance { left: Arc::new(AtomicUsize::new(octets)) }
    }

    /// Takes `octets`; `None` if so many are not left.
    pub fn take(&self, octets: usize) -> Option<Taken> {
        let less = |left: usize| left.checked_sub(octets);
        let taken = self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, less).is_ok();
        taken.then(|| Taken { octets, left: self.left.clone() })
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.left.fetch_add(self.octets, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_and_more_than_there_is_cannot_be_taken() {
        let allowance = Allowance::new(100);
        let most = allowance.take(80).unwrap();
        assert!(allowance.take(21).is_none());
        let rest = allowance.take(20).unwrap();
        drop(most);
        assert!(allowance.take(81).is_none() && allowance.take(80).is_some());
        drop(rest);
        assert!(allowance.take(100).is_some());
    }
}
