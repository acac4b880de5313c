//! Which rotated files stay.

use super::decide::nanoseconds;
use crate::rotation::Keep;

#[cfg(test)]
mod tests;

/// A rotated file that is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    /// Bytes as it lies there.
    pub bytes: u64,
    /// When it was rotated, in nanoseconds since 1970.
    pub rotated: i64,
}

/// Whether each of `kept`, the oldest first, goes, by what is said of it.
#[must_use]
pub fn excess(kept: &[(Kept, Keep)], now: i64) -> Vec<bool> {
    // What is younger, and the file itself.
    let (mut count, mut bytes) = (0_u64, 0_u64);
    let mut goes: Vec<bool> = kept
        .iter()
        .rev()
        .map(|(kept, keep)| {
            count += 1;
            bytes = bytes.saturating_add(kept.bytes);
            let oldest = keep.age.map(|age| now.saturating_sub(nanoseconds(age)));
            keep.count.is_some_and(|count_max| count > count_max)
                || keep.bytes.is_some_and(|bytes_max| bytes > bytes_max)
                || oldest.is_some_and(|oldest| kept.rotated < oldest)
        })
        .collect();
    goes.reverse();
    goes
}
