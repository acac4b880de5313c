//! Places of a file that were passed, and what stood before them: a copy that ends anywhere is compared with the
//! last one it reaches, after the original is gone.

#[cfg(test)]
mod tests;

/// Most places that are remembered of one file.
const MARKS_MAX: usize = 32;

/// Places in rising order, thinned out evenly.
#[derive(Debug, Clone, Default)]
pub(super) struct Marks {
    places: Vec<(u64, u64)>,
    /// Least bytes between two.
    every: u64,
}

impl Marks {
    /// An offset, and the hash of the bytes before it as in a proof.
    pub(super) fn push(&mut self, offset: u64, hash: u64) {
        let last = self.places.last().map_or(0, |(at, _)| *at);
        if offset < last.saturating_add(self.every.max(1)) {
            return;
        }
        self.places.push((offset, hash));
        if self.places.len() > MARKS_MAX {
            let mut place = 0;
            self.places.retain(|_| {
                place += 1;
                place % 2 == 1
            });
            self.every = (offset / (MARKS_MAX as u64 / 2)).max(self.every);
        }
    }

    /// The places up to an offset.
    #[must_use]
    pub(super) fn until(&self, offset: u64) -> Vec<(u64, u64)> {
        self.places.iter().copied().filter(|(at, _)| *at <= offset).collect()
    }
}
