//! Chunk id → place in a pack: the union of all packs' indexes.
//!
//! An index object is a copy of the trailers of the packs one run wrote, so a reader needs one GET
//! instead of one per pack. It can be rebuilt from the packs at any time (`docs/backup-format.md`,
//! "Index").

use std::collections::HashSet;

use crate::chunk::{ChunkId, ID_BYTES};
use crate::keys::index_key::IndexKeyId;
use crate::pack::{
    FramePlace, PACK_BYTES_MAX, PackError, PackId, PackIndex, PackKind, take_u32, u32_of,
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

impl Index {
    /// Joins index objects. Packs named in `absent` (marked for removal, or gone) are left out; a pack
    /// that several index objects name counts once.
    #[must_use]
    pub fn new(indexed: impl IntoIterator<Item = IndexedPack>, absent: &HashSet<PackId>) -> Self {
        let mut index = Self::default();
        let mut seen = HashSet::new();
        for pack in indexed {
            if absent.contains(&pack.id) || !seen.insert(pack.id) {
                continue;
            }
            let number = PackNumber(u32_of(index.packs.len()));
            index.entries.extend(pack.index.chunks.iter().map(|chunk| {
                let place = Place {
                    pack: number,
                    frame: chunk.frame,
                    offset: chunk.offset,
                    length: chunk.length,
                };
                (chunk.id, place)
            }));
            index.packs.push(KnownPack {
                id: pack.id,
                bytes: pack.bytes,
                kind: pack.index.kind,
                frames: pack.index.frames.into(),
            });
        }
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

    /// Where `id` is, if anywhere.
    #[must_use]
    pub fn find(&self, id: &ChunkId) -> Option<Place> {
        let at = self.entries.binary_search_by(|(entry, _)| entry.cmp(id)).ok()?;
        self.entries.get(at).map(|(_, place)| *place)
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

#[cfg(test)]
mod tests;
