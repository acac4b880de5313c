//! The oracle of lost and repeated lines: what `log-writer` numbered, counted where it arrived.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The numbers of one writer that arrived, in the order they did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sequence {
    numbers: Vec<u64>,
}

impl Sequence {
    /// The numbers of every line `<name> <number> …` in `text`; other lines are somebody else's.
    #[must_use]
    pub fn of(name: &str, text: &[u8]) -> Self {
        let mut sequence = Self::default();
        sequence.add(name, text);
        sequence
    }

    /// More of the same.
    pub fn add(&mut self, name: &str, text: &[u8]) {
        let numbers = text.split(|byte| *byte == b'\n').filter_map(|line| number(name, line));
        self.numbers.extend(numbers);
    }

    /// The numbers as they arrived.
    pub fn numbers(&self) -> impl Iterator<Item = u64> {
        self.numbers.iter().copied()
    }

    /// The largest number.
    #[must_use]
    pub fn last(&self) -> Option<u64> {
        self.numbers.iter().copied().max()
    }

    /// How many arrived, repeated ones counted as often as they did.
    #[must_use]
    pub fn count(&self) -> usize {
        self.numbers.len()
    }

    /// Those of `wanted` that did not arrive, as ranges.
    #[must_use]
    pub fn missing(&self, wanted: RangeInclusive<u64>) -> Vec<RangeInclusive<u64>> {
        let mut sorted: Vec<u64> =
            self.numbers.iter().copied().filter(|number| wanted.contains(number)).collect();
        sorted.sort_unstable();
        let mut next = *wanted.start();
        let mut missing = Vec::new();
        for number in sorted {
            if number > next {
                missing.push(next..=number - 1);
            }
            next = next.max(number + 1);
        }
        if next <= *wanted.end() {
            missing.push(next..=*wanted.end());
        }
        missing
    }

    /// Those that arrived more than once, with how often.
    #[must_use]
    pub fn repeated(&self) -> BTreeMap<u64, usize> {
        let mut counts = BTreeMap::new();
        for number in &self.numbers {
            *counts.entry(*number).or_insert(0) += 1;
        }
        counts.retain(|_, count| *count > 1);
        counts
    }

    /// Passes when exactly `wanted` arrived, each once, in order.
    ///
    /// # Panics
    /// When something is missing, repeated or out of order, with what.
    pub fn assert_is(&self, wanted: RangeInclusive<u64>) {
        self.assert_has(wanted.clone());
        let repeated = self.repeated();
        let shown: Vec<_> = repeated.iter().take(10).collect();
        assert!(repeated.is_empty(), "{} numbers are repeated: {shown:?} …", repeated.len());
        let is_sorted = self.numbers.is_sorted();
        let back = self.numbers.windows(2).find(|pair| pair[0] > pair[1]);
        assert!(is_sorted, "out of order: {back:?}");
        assert_eq!(self.last(), Some(*wanted.end()), "more than was written");
    }

    /// Passes when each of `wanted` arrived at least once.
    ///
    /// # Panics
    /// When something is missing, with what.
    pub fn assert_has(&self, wanted: RangeInclusive<u64>) {
        let missing = self.missing(wanted.clone());
        let lost: u64 = missing.iter().map(|range| range.end() - range.start() + 1).sum();
        let shown: Vec<_> = missing.iter().take(10).collect();
        assert!(missing.is_empty(), "{lost} of {wanted:?} are missing: {shown:?} …");
    }
}

fn number(name: &str, line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(name.as_bytes())?.strip_prefix(b" ")?;
    let digits = rest.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests;
