//! A fixed number of buffers: memory as a budget.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// Buffers of one size; who wants one waits until one is free.
///
/// What was given back last is taken first: where a few are in use at a time, only those ever take memory, and they are
/// still in the cache.
pub(crate) struct Pool {
    shelf: Arc<Shelf>,
    capacity_bytes: usize,
}

struct Shelf {
    free: Mutex<Vec<Vec<u8>>>,
    given_back: Condvar,
}

/// A buffer that goes back to its pool when it is dropped, also when a run fails: nobody waits for ever.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Arc<Shelf>,
}

impl Pool {
    /// `count` buffers of `capacity_bytes`. Memory is taken when a buffer is first used.
    pub(crate) fn new(count: usize, capacity_bytes: usize) -> Self {
        let free = Mutex::new(std::iter::repeat_with(Vec::new).take(count).collect());
        Self { shelf: Arc::new(Shelf { free, given_back: Condvar::new() }), capacity_bytes }
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        let free = self.shelf.given_back.wait_while(self.shelf.free(), |free| free.is_empty());
        let taken = free.unwrap_or_else(PoisonError::into_inner).pop();
        self.emptied(taken.unwrap_or_default())
    }

    /// An empty buffer, if one is free.
    pub(crate) fn try_take(&self) -> Option<Buffer> {
        let taken = self.shelf.free().pop()?;
        Some(self.emptied(taken))
    }

    /// True while none is free.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.shelf.free().is_empty()
    }

    fn emptied(&self, mut bytes: Vec<u8>) -> Buffer {
        bytes.clear();
        bytes.reserve_exact(self.capacity_bytes);
        Buffer { bytes, home: self.shelf.clone() }
    }
}

impl Shelf {
    fn free(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many may be at something at the same time.
pub(crate) struct Turns(Pool);

/// Somebody's turn, until it is dropped.
pub(crate) struct Turn(#[expect(dead_code, reason = "it is given back when dropped")] Buffer);

impl Turns {
    pub(crate) fn new(count: usize) -> Self {
        Self(Pool::new(count, 0))
    }

    /// Waits for a turn.
    pub(crate) fn take(&self) -> Turn {
        Turn(self.0.take())
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.home.free().push(std::mem::take(&mut self.bytes));
        self.home.given_back.notify_one();
    }
}

impl Deref for Buffer {
    type Target = Vec<u8>;

    fn deref(&self) -> &Self::Target {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::Pool;

    #[test]
    fn what_came_back_last_is_taken_first_and_no_more_than_there_are() {
        let pool = Pool::new(2, 10);
        let mut first = pool.take();
        first.push(7);
        let address = first.as_ptr();
        drop(first);
        let again = pool.take();
        assert!(again.is_empty());
        assert_eq!(again.as_ptr(), address);
        let second = pool.try_take();
        assert!(pool.is_exhausted() && second.is_some() && pool.try_take().is_none());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| pool.take().capacity());
            drop(again);
            assert!(waiting.join().unwrap() >= 10);
        });
    }
}
