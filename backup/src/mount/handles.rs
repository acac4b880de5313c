//! What is open: the kernel gives a handle back with every request.

use std::collections::HashMap;
use std::sync::Arc;

/// What is open, by handles.
#[derive(Debug)]
pub(crate) struct Handles<T> {
    open: HashMap<u64, Arc<T>>,
    last: u64,
    max: usize,
}

impl<T> Handles<T> {
    /// Nothing is open; at most `max` may be at once.
    pub(crate) fn new(max: usize) -> Self {
        Self { open: HashMap::new(), last: 0, max }
    }

    /// The handle of something that is open from now on; never 0. `None`: too much is.
    pub(crate) fn add(&mut self, value: T) -> Option<u64> {
        if self.open.len() >= self.max {
            return None;
        }
        self.last += 1;
        self.open.insert(self.last, Arc::new(value));
        Some(self.last)
    }

    /// What has a handle.
    pub(crate) fn get(&self, handle: u64) -> Option<Arc<T>> {
        self.open.get(&handle).cloned()
    }

    /// Closes it.
    pub(crate) fn remove(&mut self, handle: u64) {
        self.open.remove(&handle);
    }
}

#[cfg(test)]
mod tests;
