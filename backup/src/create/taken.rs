//! The chunks that a run has taken to store: a set that grows to millions and has to stay small.
//!
//! A hash table of 16-byte ids is half empty after it has grown, which is 35 MB for the million chunks of as many small files.
//! Here most ids lie sorted, 16 bytes each, and only the latest are in a table.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::chunk::ChunkId;

/// Locks of the set: enough that threads rarely meet, and that sorting one part in is short.
const SHARDS: usize = 64;

/// A part's latest ids are sorted in when there are this many of them …
const LATEST_MIN: usize = 256;

/// … and one for each so many that are sorted already: each id is moved about so often.
const SORTED_PER_LATEST: usize = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Taken(Vec<Mutex<Shard>>);

#[derive(Debug, Default)]
struct Shard {
    sorted: Vec<ChunkId>,
    latest: HashSet<ChunkId>,
}

impl Default for Taken {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Taken {
    /// Adds `id`; false when it was there.
    pub(super) fn insert(&self, id: &ChunkId) -> bool {
        self.shard(id).is_some_and(|mut shard| shard.insert(id))
    }

    /// Whether `id` is there.
    pub(super) fn contains(&self, id: &ChunkId) -> bool {
        self.shard(id).is_some_and(|shard| shard.contains(id))
    }

    /// All of them, sorted: each part has what begins with every sixty-fourth byte, so nothing has to be copied together.
    pub(super) fn into_sorted(self) -> impl Iterator<Item = ChunkId> {
        let inner =
            |shard: Mutex<Shard>| shard.into_inner().unwrap_or_else(PoisonError::into_inner);
        let sorted = |shard: Mutex<Shard>| {
            let Shard { mut sorted, latest } = inner(shard);
            sorted.extend(latest);
            sorted.sort_unstable();
            sorted
        };
        let shards: Vec<Vec<_>> = self.0.into_iter().map(sorted).collect();
        let mut passed = vec![0; shards.len()];
        (0..=u8::MAX).flat_map(move |first| {
            let number = usize::from(first) % SHARDS;
            let from = passed.get(number).copied().unwrap_or_default();
            let rest = shards.get(number).and_then(|shard| shard.get(from..)).unwrap_or_default();
            let some = rest.partition_point(|id| id.0.first() <= Some(&first));
            if let Some(passed) = passed.get_mut(number) {
                *passed += some;
            }
            rest.get(..some).unwrap_or_default().to_vec()
        })
    }

    fn shard(&self, id: &ChunkId) -> Option<MutexGuard<'_, Shard>> {
        let [first, ..] = id.0;
        let shard = self.0.get(usize::from(first) % SHARDS)?;
        // A panicking thread ends the whole run, so what it left locked is never used.
        Some(shard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Shard {
    fn contains(&self, id: &ChunkId) -> bool {
        self.latest.contains(id) || self.sorted.binary_search(id).is_ok()
    }

    fn insert(&mut self, id: &ChunkId) -> bool {
        if self.contains(id) {
            return false;
        }
        if self.latest.len() >= LATEST_MIN.max(self.sorted.len() / SORTED_PER_LATEST) {
            self.sorted.reserve_exact(self.latest.len());
            self.sorted.extend(self.latest.drain());
            // All but the latest are in order, which this sort sees.
            self.sorted.sort();
        }
        self.latest.insert(*id)
    }
}

#[cfg(test)]
mod tests;
