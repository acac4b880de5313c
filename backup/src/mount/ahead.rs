//! What is read ahead of somebody who reads a file from front to back.

use std::ops::Range;

/// So many bytes in a row are read before anything is read ahead: who looks at the beginning of a file pays for that only.
const IN_A_ROW_BYTES_MIN: u64 = 512 << 10;

/// So far ahead is read, in bytes: a few frames.
const AHEAD_BYTES: u64 = 4 << 20;

/// The kernel reads ahead too, with several requests at once: so far from each other may neighbours come, in bytes.
const APART_BYTES_MAX: u64 = 1 << 20;

/// Where somebody reads a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ahead {
    /// Where the reads in a row began.
    begun: u64,
    /// Up to where they have come.
    read: u64,
    /// Up to where was read ahead.
    asked: u64,
}

impl Ahead {
    /// Takes in a read, and says what should be read ahead because of it.
    pub(crate) fn after(&mut self, read: Range<u64>) -> Option<Range<u64>> {
        let is_near = read.start <= self.read.saturating_add(APART_BYTES_MAX)
            && read.end.saturating_add(APART_BYTES_MAX) >= self.read;
        if !is_near {
            *self = Self { begun: read.start, read: read.end, asked: read.end };
            return None;
        }
        self.read = self.read.max(read.end);
        self.asked = self.asked.max(self.read);
        let is_in_a_row = self.read.saturating_sub(self.begun) >= IN_A_ROW_BYTES_MIN;
        let wanted = self.read.saturating_add(AHEAD_BYTES);
        // Not for every read anew.
        if !is_in_a_row || wanted.saturating_sub(self.asked) < AHEAD_BYTES / 2 {
            return None;
        }
        let ahead = self.asked..wanted;
        self.asked = wanted;
        Some(ahead)
    }
}

#[cfg(test)]
mod tests;
