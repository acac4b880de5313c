//! Records as bytes for a sink. An encoder takes a frame from a given record on and stops after the record with
//! which its output reaches the limit.

use std::collections::HashMap;
use std::sync::Arc;

use crate::source::{SourceId, SourceMeta};
use crate::wal::Frame;

pub mod escape;
pub mod ndjson;
pub mod plain;
pub mod syslog;

#[cfg(test)]
pub(crate) mod tests;

/// Most sources whose ready-made beginnings are kept; beyond it they are made anew.
const SOURCES_KEPT_MAX: usize = 1024;

/// Which of the records that are no lines a sink gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Controls {
    /// All of them.
    All,
    /// Those that tell of missing lines.
    Gaps,
    /// None.
    None,
}

/// Something made once for each source, until what is known of the source changes.
#[derive(Debug)]
struct PerSource<T> {
    kept: HashMap<SourceId, (Arc<SourceMeta>, T)>,
}

impl<T> Default for PerSource<T> {
    fn default() -> Self {
        Self { kept: HashMap::new() }
    }
}

impl<T> PerSource<T> {
    fn of(&mut self, frame: &Frame, make: impl Fn(&SourceMeta) -> T) -> &T {
        if self.kept.len() >= SOURCES_KEPT_MAX && !self.kept.contains_key(&frame.source) {
            self.kept.clear();
        }
        let fresh = || (frame.meta.clone(), make(&frame.meta));
        let entry = self.kept.entry(frame.source).or_insert_with(fresh);
        if !Arc::ptr_eq(&entry.0, &frame.meta) && entry.0 != frame.meta {
            *entry = fresh();
        }
        &entry.1
    }
}

/// A number in decimal that counts without dividing.
#[derive(Debug, Clone)]
struct Decimal {
    digits: [u8; Self::DIGITS],
    start: usize,
}

impl Decimal {
    /// Digits of `u64::MAX`.
    const DIGITS: usize = 20;

    fn new(mut value: u64) -> Self {
        let mut digits = [b'0'; Self::DIGITS];
        let mut start = Self::DIGITS;
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (value % 10) as u8;
            value /= 10;
            start -= 1;
            if value == 0 {
                break;
            }
        }
        Self { digits, start }
    }

    fn text(&self) -> &[u8] {
        self.digits.get(self.start..).unwrap_or_default()
    }

    fn increment(&mut self) {
        for (at, digit) in self.digits.iter_mut().enumerate().rev() {
            self.start = self.start.min(at);
            if *digit != b'9' {
                *digit += 1;
                return;
            }
            *digit = b'0';
        }
    }
}
