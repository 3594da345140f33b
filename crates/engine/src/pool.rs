//! A fixed number of buffers: memory as a budget.

use std::ops::{Deref, DerefMut};

use crate::lane::{Receiver, Sender, channel};

/// Buffers of one size; who wants one waits until one is free.
pub(crate) struct Pool {
    give: Sender<Vec<u8>>,
    take: Receiver<Vec<u8>>,
    capacity_bytes: usize,
}

/// A buffer that goes back to its pool when it is dropped, also when a run fails: nobody waits for ever.
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    home: Sender<Vec<u8>>,
}

impl Pool {
    /// `count` buffers of `capacity_bytes`. Memory is taken when a buffer is first used.
    pub(crate) fn new(count: usize, capacity_bytes: usize) -> Self {
        let (give, take) = channel(count);
        (0..count).for_each(|_| give.send(Vec::new()).expect("the channel has room for all of them"));
        Self { give, take, capacity_bytes }
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        let mut bytes = self.take.recv().expect("the pool keeps a sender of its own");
        bytes.clear();
        bytes.reserve_exact(self.capacity_bytes);
        Buffer { bytes, home: self.give.clone() }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // There is a place for every buffer; the pool is gone only with the whole run.
        let _ = self.home.try_send(std::mem::take(&mut self.bytes));
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
