//! Chunk id → place in a pack: the union of all packs' indexes.
//!
//! An index object is a copy of the trailers of the packs one run wrote, so a reader needs one GET
//! instead of one per pack. It can be rebuilt from the packs at any time (`docs/backup-format.md`,
//! "Index").

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::chunk::{ChunkId, ID_BYTES};
use crate::keys::index_key::IndexKeyId;
use crate::pack::{
    CHUNK_ITEM_BYTES, FramePlace, PACK_BYTES_MAX, PackError, PackId, PackIndex, PackKind, take_u32,
    u32_of,
};

/// Longest index object in bytes; a run that writes more packs writes several.
pub const INDEX_BYTES_MAX: u64 = 64 << 20;

const MAGIC: [u8; 8] = *b"CHORESIX";
const VERSION: u32 = 1;

/// What an index object says of one pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IndexedPack {
    /// The pack's name.
    pub id: PackId,
    /// Length of the pack object in bytes.
    pub bytes: u64,
    /// Its trailer.
    pub index: PackIndex,
    /// The key that sealed the index object which told of it; none in a clear repository, and for a pack that was just made or
    /// read.
    pub sealed_by: Option<IndexKeyId>,
}

/// Why an index object is unusable.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The bytes contradict the format.
    #[error("it is not an index of repository format 1: {0}")]
    Format(&'static str),
    /// Written by a later program.
    #[error("it has version {0}, this program reads version {VERSION}")]
    Version(u32),
    /// The copy of a pack's trailer is unusable.
    #[error("its copy of a pack's index is unusable")]
    Pack(#[source] PackError),
}

/// The bytes of an index object for `packs`.
#[must_use]
pub fn encode(packs: &[IndexedPack]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&u32_of(packs.len()).to_le_bytes());
    for pack in packs {
        let trailer = pack.index.encode();
        out.extend_from_slice(&pack.id.0.0);
        out.extend_from_slice(&pack.bytes.to_le_bytes());
        out.extend_from_slice(&u32_of(trailer.len()).to_le_bytes());
        out.extend_from_slice(&trailer);
    }
    out
}

/// Reads an index object.
pub fn decode(bytes: &[u8]) -> Result<Vec<IndexedPack>, IndexError> {
    const SHORT: IndexError = IndexError::Format("it is cut short");
    let rest = bytes.strip_prefix(&MAGIC).ok_or(IndexError::Format("another magic number"))?;
    let (version, rest) = take_u32(rest).ok_or(SHORT)?;
    if version != VERSION {
        return Err(IndexError::Version(version));
    }
    let (count, mut rest) = take_u32(rest).ok_or(SHORT)?;
    let mut packs = Vec::new();
    for _ in 0..count {
        let (id, after) = rest.split_first_chunk::<ID_BYTES>().ok_or(SHORT)?;
        let (length, after) = after.split_first_chunk::<8>().ok_or(SHORT)?;
        let (trailer_bytes, after) = take_u32(after).ok_or(SHORT)?;
        let (trailer, after) = after.split_at_checked(trailer_bytes as usize).ok_or(SHORT)?;
        let length = u64::from_le_bytes(*length);
        if length > PACK_BYTES_MAX {
            return Err(IndexError::Format("a pack is longer than any pack may be"));
        }
        packs.push(IndexedPack {
            id: PackId(ChunkId(*id)),
            bytes: length,
            index: PackIndex::decode(trailer).map_err(IndexError::Pack)?,
            sealed_by: None,
        });
        rest = after;
    }
    if rest.is_empty() { Ok(packs) } else { Err(IndexError::Format("bytes follow its end")) }
}

/// Number of a pack in an [`Index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNumber(u32);

impl PackNumber {
    /// Position in [`Index::packs`].
    #[must_use]
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

/// Where a chunk is in the repository.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The pack.
    pub pack: PackNumber,
    /// Number of the frame in the pack.
    pub frame: u32,
    /// Offset in the decompressed frame, bytes.
    pub offset: u32,
    /// Length in bytes.
    pub length: u32,
}

/// A pack an [`Index`] knows.
#[derive(Clone, Debug)]
pub struct KnownPack {
    /// Its name.
    pub id: PackId,
    /// Its length in bytes.
    pub bytes: u64,
    /// Content or trees.
    pub kind: PackKind,
    /// Its frames in order.
    pub frames: Box<[FramePlace]>,
}

/// All chunks of a repository, in memory: 32 bytes for each chunk.
#[derive(Debug, Default)]
pub struct Index {
    packs: Vec<KnownPack>,
    entries: Vec<(ChunkId, Place)>,
    /// Further places of a chunk of `entries`: two runs at the same time may store the same content.
    copies: Vec<(ChunkId, Place)>,
}

/// Joins index objects as they are read, each of which may be forgotten then: together they are nearly as large as the [`Index`].
#[derive(Debug, Default)]
pub struct IndexBuilder {
    /// Each with the number of the object that told of it first.
    packs: Vec<(usize, KnownPack)>,
    entries: Vec<(ChunkId, Place)>,
    known: HashSet<PackId>,
}

impl IndexBuilder {
    /// Makes room for what index objects of `bytes` bytes may have: what grows by doubling has twice the memory for a while.
    pub fn expect(&mut self, bytes: u64) {
        let chunks = usize::try_from(bytes).unwrap_or(usize::MAX) / CHUNK_ITEM_BYTES;
        // Without that room it grows as it goes.
        self.entries.try_reserve_exact(chunks.saturating_sub(self.entries.len())).ok();
    }

    /// Adds the packs of the object with this number. A pack that several objects name counts once.
    pub fn add(&mut self, object: usize, packs: impl IntoIterator<Item = IndexedPack>) {
        for pack in packs {
            if !self.known.insert(pack.id) {
                continue;
            }
            let number = PackNumber(u32_of(self.packs.len()));
            self.entries.extend(pack.index.chunks.iter().map(|chunk| {
                let place = Place {
                    pack: number,
                    frame: chunk.frame,
                    offset: chunk.offset,
                    length: chunk.length,
                };
                (chunk.id, place)
            }));
            let known = KnownPack {
                id: pack.id,
                bytes: pack.bytes,
                kind: pack.index.kind,
                frames: pack.index.frames.into(),
            };
            self.packs.push((object, known));
        }
    }

    /// The packs so far.
    #[must_use]
    pub fn known(&self) -> &HashSet<PackId> {
        &self.known
    }

    /// The index, without the packs for which `rank` gives nothing. Of several places of a chunk the one counts whose pack has
    /// the lowest rank; packs of one rank are in the order of their objects.
    #[must_use]
    pub fn finish(mut self, rank: impl Fn(&KnownPack) -> Option<u8>) -> Index {
        let packs = self.packs.iter().enumerate();
        let ranked = packs.filter_map(|(at, (object, pack))| Some((rank(pack)?, *object, at)));
        let mut order: Vec<_> = ranked.collect();
        order.sort_unstable();
        let mut numbers = vec![None; self.packs.len()];
        for (number, (.., at)) in order.iter().enumerate() {
            if let Some(place) = numbers.get_mut(*at) {
                *place = Some(PackNumber(u32_of(number)));
            }
        }
        self.entries.retain_mut(|(_, place)| {
            let number = numbers.get(place.pack.as_usize()).copied().flatten();
            place.pack = number.unwrap_or(place.pack);
            number.is_some()
        });
        let mut packs: Vec<_> = self.packs.into_iter().map(|(_, pack)| Some(pack)).collect();
        let packs = order.iter().filter_map(|(.., at)| packs.get_mut(*at)?.take()).collect();
        let mut index = Index { packs, entries: self.entries, copies: Vec::new() };
        index.entries.sort_unstable();
        let copies = &mut index.copies;
        index.entries.dedup_by(|(later, place), (id, _)| {
            let is_copy = later == id;
            if is_copy {
                copies.push((*later, *place));
            }
            is_copy
        });
        index
    }
}

impl Index {
    /// Joins packs of index objects. Those named in `absent` (marked for removal, or gone) are left out.
    #[must_use]
    pub fn new(indexed: impl IntoIterator<Item = IndexedPack>, absent: &HashSet<PackId>) -> Self {
        let mut builder = IndexBuilder::default();
        builder.add(0, indexed);
        builder.finish(|pack| (!absent.contains(&pack.id)).then_some(0))
    }

    /// Where `id` is, if anywhere.
    #[must_use]
    pub fn find(&self, id: &ChunkId) -> Option<Place> {
        self.entries.get(self.position(id)?).map(|(_, place)| *place)
    }

    /// The number of `id` in [`Self::chunks`], if it is there.
    #[must_use]
    pub fn position(&self, id: &ChunkId) -> Option<usize> {
        self.entries.binary_search_by(|(entry, _)| entry.cmp(id)).ok()
    }

    /// Every place of every chunk, with the number of the chunk in [`Self::chunks`].
    pub fn places(&self) -> impl Iterator<Item = (usize, &ChunkId, &Place)> {
        let first =
            self.entries.iter().enumerate().map(|(number, (id, place))| (number, id, place));
        // Copies are in the order of ids too.
        let mut number = 0;
        let copies = self.copies.iter().map(move |(id, place)| {
            let rest = self.entries.get(number..).unwrap_or_default();
            number += rest.partition_point(|(entry, _)| entry < id);
            (number, id, place)
        });
        first.chain(copies)
    }

    /// Where `id` is beside the place that [`Self::find`] gives.
    pub fn copies<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Place> + use<'a> {
        let from = self.copies.partition_point(|(copy, _)| copy < id);
        let copies = self.copies.get(from..).unwrap_or_default().iter();
        copies.take_while(move |(copy, _)| copy == id).map(|(_, place)| *place)
    }

    /// The pack with this number.
    #[must_use]
    pub fn pack(&self, number: PackNumber) -> Option<&KnownPack> {
        self.packs.get(number.0 as usize)
    }

    /// All packs.
    #[must_use]
    pub fn packs(&self) -> &[KnownPack] {
        &self.packs
    }

    /// All packs with their numbers.
    pub fn numbered_packs(&self) -> impl Iterator<Item = (PackNumber, &KnownPack)> {
        self.packs.iter().enumerate().map(|(number, pack)| (PackNumber(u32_of(number)), pack))
    }

    /// All chunks, sorted by id.
    #[must_use]
    pub fn chunks(&self) -> &[(ChunkId, Place)] {
        &self.entries
    }

    /// The number of different chunks.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.entries.len()
    }
}

/// A set of chunks of an index, by their numbers in [`Index::chunks`]: a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkSet(Vec<u64>);

const WORD_BITS: usize = u64::BITS as usize;

impl ChunkSet {
    /// None of `chunks` chunks.
    #[must_use]
    pub fn none_of(chunks: usize) -> Self {
        Self(vec![0; chunks.div_ceil(WORD_BITS)])
    }

    /// Adds one.
    pub fn add(&mut self, chunk: usize) {
        if let Some(word) = self.0.get_mut(chunk / WORD_BITS) {
            *word |= 1 << (chunk % WORD_BITS);
        }
    }

    /// Adds those of another set of the same index.
    pub fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word |= other);
    }

    /// Whether it is in it.
    #[must_use]
    pub fn has(&self, chunk: usize) -> bool {
        self.0.get(chunk / WORD_BITS).is_some_and(|word| word >> (chunk % WORD_BITS) & 1 == 1)
    }
}

/// A [`ChunkSet`] that several threads fill.
#[derive(Debug)]
pub struct SharedChunkSet(Vec<AtomicU64>);

impl SharedChunkSet {
    /// None of `chunks` chunks.
    #[must_use]
    pub fn none_of(chunks: usize) -> Self {
        Self(std::iter::repeat_with(AtomicU64::default).take(chunks.div_ceil(WORD_BITS)).collect())
    }

    /// Adds one.
    pub fn add(&self, chunk: usize) {
        let bit = 1 << (chunk % WORD_BITS);
        // Read first: a store by every thread for every chunk would pass the cache line around.
        if let Some(word) = self.0.get(chunk / WORD_BITS)
            && word.load(Ordering::Relaxed) & bit == 0
        {
            word.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// What was added.
    #[must_use]
    pub fn into_set(self) -> ChunkSet {
        ChunkSet(self.0.into_iter().map(AtomicU64::into_inner).collect())
    }
}

#[cfg(test)]
mod tests;
