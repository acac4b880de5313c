//! What is wrong with a pack, and which of its chunks that takes away.

use std::collections::{BTreeMap, BTreeSet};

use crate::chunk::ChunkId;
use crate::index::Place;
use crate::pack::PackId;

/// The packs with something wrong.
pub(super) type BadPacks = BTreeMap<PackId, BadPack>;

/// A pack with something wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPack {
    /// What is wrong, for people.
    pub(super) problem: String,
    pub(super) reach: Reach,
}

/// Which chunks of a pack cannot be relied on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reach {
    /// All.
    Whole,
    /// Those of these frames, and single ones.
    Parts { frames: BTreeSet<u32>, chunks: BTreeSet<ChunkId> },
}

impl BadPack {
    pub(super) fn whole(problem: String) -> Self {
        Self { problem, reach: Reach::Whole }
    }

    pub(super) fn takes_away(&self, id: &ChunkId, place: &Place) -> bool {
        match &self.reach {
            Reach::Whole => true,
            Reach::Parts { frames, chunks } => frames.contains(&place.frame) || chunks.contains(id),
        }
    }
}
