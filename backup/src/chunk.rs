//! Content to chunks: where files are cut and what the pieces are called.
//!
//! Files up to [`WHOLE_FILE_BYTES_MAX`] are one chunk each; larger ones are cut by content
//! (FastCDC 2020, "The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage
//! Systems", Xia et al.), afresh for each file, so an edit changes the chunks around it and no others.

use std::fmt;

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
