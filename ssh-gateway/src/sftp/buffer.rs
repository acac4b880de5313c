//! Bytes on their way in or out: filled at the end, taken from the front, never longer than its bound.

/// See the module.
#[derive(Debug)]
pub(super) struct Buffer {
    /// As long as it ever had to be, so that nothing is cleared twice.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    bound: usize,
}

impl Buffer {
    /// An empty buffer that never holds more than `bound` bytes.
    pub(super) fn new(bound: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, bound }
    }

    pub(super) fn len(&self) -> usize {
        self.filled().len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What is in it.
    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes bytes from the front.
    pub(super) fn consume(&mut self, length: usize) {
        self.start = self.start.saturating_add(length).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Up to `wanted` bytes behind what is in it, less at the bound. Say with [`Self::grow`] how many were filled.
    pub(super) fn room(&mut self, wanted: usize) -> &mut [u8] {
        if self.end.saturating_add(wanted) > self.bound && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let end = self.end.saturating_add(wanted).min(self.bound);
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        self.bytes.get_mut(self.end..end).unwrap_or_default()
    }

    /// Says how many bytes of [`Self::room`] were filled.
    pub(super) fn grow(&mut self, length: usize) {
        self.end = self.end.saturating_add(length).min(self.bytes.len());
    }

    /// Puts all of `bytes` at the end, or nothing: `false` when there is no room.
    pub(super) fn put(&mut self, bytes: &[u8]) -> bool {
        let room = self.room(bytes.len());
        if room.len() < bytes.len() {
            return false;
        }
        room.copy_from_slice(bytes);
        self.grow(bytes.len());
        true
    }
}

#[cfg(test)]
mod tests;
