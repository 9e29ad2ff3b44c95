//! Octet buffers that are used again: fresh memory costs a page fault per 4 KiB.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Keeps buffers of one size for reuse; cheap to clone, all clones share it.
#[derive(Debug, Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    size: usize,
    keep: usize,
    free: Mutex<Vec<Vec<u8>>>,
}

impl Pool {
    /// A pool of buffers of `size` octets that keeps at most `keep` unused ones.
    pub fn new(size: usize, keep: usize) -> Self {
        Pool { shared: Arc::new(Shared { size, keep, free: Mutex::new(Vec::new()) }) }
    }

    /// The size of its buffers, in octets.
    pub fn size(&self) -> usize {
        self.shared.size
    }

    /// A buffer of exactly [`size`](Self::size) initialised octets, whose content is arbitrary.
    pub fn take(&self) -> Vec<u8> {
        let mut buffer = self.lock().pop().unwrap_or_default();
        // Fills only what was never written: a buffer that comes back full costs nothing.
        buffer.resize(self.shared.size, 0);
        buffer
    }

    /// A buffer of length 0 whose capacity is [`size`](Self::size).
    pub fn take_empty(&self) -> Vec<u8> {
        let mut buffer = self.lock().pop().unwrap_or_else(|| Vec::with_capacity(self.shared.size));
        buffer.clear();
        buffer
    }

    /// Freezes a buffer; when the last reference goes, a pool's buffer returns to the pool: one
    /// whose capacity is the pool's size, whatever was written to it.
    pub fn freeze(&self, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Returning { buffer, shared: self.shared.clone() })
    }

    /// Returns a buffer unused. One of another size is freed.
    pub fn give_back(&self, buffer: Vec<u8>) {
        self.shared.give_back(buffer);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.shared.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() != self.size {
            return;
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < self.keep {
            free.push(buffer);
        }
    }
}

struct Returning {
    buffer: Vec<u8>,
    shared: Arc<Shared>,
}

impl AsRef<[u8]> for Returning {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Returning {
    fn drop(&mut self) {
        self.shared.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frozen_buffer_returns_when_its_last_slice_is_gone() {
        let pool = Pool::new(64, 4);
        let frozen = pool.freeze(pool.take());
        let slice = frozen.slice(10..20);
        drop(frozen);
        assert_eq!(pool.lock().len(), 0);
        drop(slice);
        assert_eq!(pool.lock().len(), 1);
    }

    #[test]
    fn it_keeps_no_more_than_it_was_told_to() {
        let pool = Pool::new(8, 1);
        let (a, b) = (pool.take(), pool.take());
        pool.give_back(a);
        pool.give_back(b);
        pool.give_back(vec![0; 9]);
        assert_eq!(pool.lock().len(), 1);
    }
}
