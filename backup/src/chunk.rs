//! Content to chunks: where files are cut and what the pieces are called.
//!
//! Small files ([`ChunkerParams::whole_file_bytes_max`]) are one chunk each; larger ones are cut by content
//! (FastCDC 2020, "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
//! Systems", Xia et al.), afresh for each file, so an edit changes the chunks around it and no others.

use std::borrow::Cow;
use std::fmt;

use fastcdc::v2020::{self as fastcdc2020, Normalization};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// No chunk of any kind is longer than this many bytes. A tree line of
/// [`crate::entry::LINE_BYTES_MAX`] must fit into one.
pub const CHUNK_BYTES_MAX: usize = 1 << 20;

/// Bytes of a chunk id: keyed BLAKE3 cut to 128 bits (docs/adr/0001).
pub const ID_BYTES: usize = 16;

/// Names a chunk by its content: the first 16 bytes of BLAKE3 keyed with the repository's dedup key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; ID_BYTES]);

impl fmt::Display for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// A text is not 32 lower-case hex digits.
#[derive(Debug, thiserror::Error)]
#[error("an id has 32 lower-case hex digits")]
pub struct InvalidId;

impl std::str::FromStr for ChunkId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(InvalidId),
        };
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != ID_BYTES || !rest.is_empty() {
            return Err(InvalidId);
        }
        let mut id = [0; ID_BYTES];
        for (byte, [high, low]) in id.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(id))
    }
}

/// The 256-bit key of a repository's chunk ids. Without it nobody can tell from an id which content it
/// names, nor make two contents with one id.
#[derive(Clone, PartialEq, Eq)]
pub struct DedupKey(Zeroizing<[u8; blake3::KEY_LEN]>);

impl DedupKey {
    /// A key from the system's random number generator.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut key = Zeroizing::new([0; blake3::KEY_LEN]);
        getrandom::fill(key.as_mut_slice())?;
        Ok(Self(key))
    }

    /// Names `content`: keyed BLAKE3, cut to [`ID_BYTES`].
    #[must_use]
    pub fn id_of(&self, content: &[u8]) -> ChunkId {
        let hash = blake3::keyed_hash(&self.0, content);
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(hash.as_bytes()) {
            *to = *from;
        }
        ChunkId(id)
    }

    /// 64 hex digits, as `repo.json` of a clear repository stores it.
    #[must_use]
    pub fn to_hex(&self) -> String {
        blake3::Hash::from_bytes(*self.0).to_hex().to_string()
    }

    /// The reverse of [`Self::to_hex`]; `None` when `text` is not 64 hex digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|key| Self(Zeroizing::new(key.into())))
    }
}

impl fmt::Debug for DedupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DedupKey(…)")
    }
}

/// How a repository cuts files; written once by `init` into `repo.json`, the same for every run, or
/// equal files would stop being equal chunks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChunkerParams {
    /// Always `fastcdc-2020`.
    pub algorithm: String,
    /// Normalization level of FastCDC, 0 to 3.
    pub normalization: u8,
    /// Smallest chunk in bytes but for the last of a file.
    pub min_bytes: u32,
    /// Nominal average in bytes; real averages are about min + avg.
    pub average_bytes: u32,
    /// Largest chunk in bytes.
    pub max_bytes: u32,
    /// Files up to this many bytes are never cut.
    pub whole_file_bytes_max: u32,
    /// Seed of the gear table.
    pub seed: u64,
}

impl Default for ChunkerParams {
    /// 16/64/256 KiB: small chunks share frames, so they cost no compression, and scattered edits of a
    /// database file add a sixth of what 1 MiB chunks add.
    fn default() -> Self {
        Self {
            algorithm: ALGORITHM.to_owned(),
            normalization: 1,
            min_bytes: 16 << 10,
            average_bytes: 64 << 10,
            max_bytes: 256 << 10,
            whole_file_bytes_max: 512 << 10,
            seed: 0,
        }
    }
}

const ALGORITHM: &str = "fastcdc-2020";

/// `repo.json` names chunker parameters this program cannot use.
#[derive(Debug, thiserror::Error)]
#[error("the repository's chunker parameters are unusable: {0}")]
pub struct UnusableParams(&'static str);

/// Finds the borders between chunks.
pub struct Cutter {
    min: usize,
    average: usize,
    max: usize,
    whole_file_max: u64,
    masks: (u64, u64),
    gear: (Cow<'static, [u64]>, Cow<'static, [u64]>),
}

impl fmt::Debug for Cutter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cutter({}/{}/{})", self.min, self.average, self.max)
    }
}

impl Cutter {
    /// Checks the parameters of a repository and prepares the tables.
    pub fn new(params: &ChunkerParams) -> Result<Self, UnusableParams> {
        if params.algorithm != ALGORITHM {
            return Err(UnusableParams("the algorithm is not fastcdc-2020"));
        }
        let level = match params.normalization {
            0 => Normalization::Level0,
            1 => Normalization::Level1,
            2 => Normalization::Level2,
            3 => Normalization::Level3,
            _ => return Err(UnusableParams("normalization is not 0 to 3")),
        };
        let sizes = [params.min_bytes, params.average_bytes, params.max_bytes];
        let [min, average, max] = sizes.map(|size| size as usize);
        let in_range = (fastcdc2020::MINIMUM_MIN..=fastcdc2020::MINIMUM_MAX).contains(&min)
            && (fastcdc2020::AVERAGE_MIN..=fastcdc2020::AVERAGE_MAX).contains(&average)
            && (fastcdc2020::MAXIMUM_MIN..=CHUNK_BYTES_MAX).contains(&max)
            && min <= average
            && average <= max
            && sizes.iter().all(|size| size % 2 == 0);
        if !in_range {
            return Err(UnusableParams("min, average and max bytes are out of range or order"));
        }
        if params.whole_file_bytes_max as usize > CHUNK_BYTES_MAX {
            return Err(UnusableParams("whole_file_bytes_max is above the longest chunk"));
        }
        Ok(Self {
            min,
            average,
            max,
            whole_file_max: u64::from(params.whole_file_bytes_max),
            masks: fastcdc2020::select_masks(average, level),
            gear: fastcdc2020::get_gear_with_seed(params.seed),
        })
    }

    /// Longest chunk in bytes.
    #[must_use]
    pub fn max_bytes(&self) -> usize {
        self.max
    }

    /// Whether a file of `size` bytes is one chunk.
    #[must_use]
    pub fn is_whole(&self, size: u64) -> bool {
        size <= self.whole_file_max
    }

    /// The length of the next chunk of `buffer`, or `None` when more bytes are needed to decide.
    /// `at_end` says that nothing follows `buffer`.
    #[must_use]
    pub fn next_cut(&self, buffer: &[u8], at_end: bool) -> Option<usize> {
        if buffer.is_empty() || (buffer.len() < self.max && !at_end) {
            return None;
        }
        let (mask_s, mask_l) = self.masks;
        let (_, length) = fastcdc2020::cut_gear(
            buffer,
            self.min,
            self.average,
            self.max,
            mask_s,
            mask_l,
            mask_s << 1,
            mask_l << 1,
            &self.gear.0,
            &self.gear.1,
        );
        Some(length.clamp(1, buffer.len()))
    }
}

#[cfg(test)]
mod tests;
