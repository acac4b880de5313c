//! Packs that a prune is going to drop (`docs/backup-format.md`, "Marks").
//!
//! A mark is written, and after a time of grace its packs are deleted that no snapshot needs. Writers refer to none of
//! them from the moment it is there. It goes when none of its packs is in the store, and not before: until then
//! another prune may be at work on it.

use std::collections::BTreeSet;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::chunk::{DedupKey, InvalidId};
use crate::pack::PackId;

#[cfg(test)]
mod tests;

/// Where the documents are.
pub const PREFIX: &str = "marks/";

/// Version of the document this program writes and reads.
pub const VERSION: u32 = 1;

/// Longest document in bytes.
pub const BYTES_MAX: u64 = 16 << 20;

/// Most packs of one document: 3.5 MB.
pub const PACKS_MAX: usize = 100_000;

/// A mark as it lies in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The key of its object.
    pub key: String,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
    /// The packs.
    pub packs: BTreeSet<PackId>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    version: u32,
    packs: Vec<String>,
}

/// What is read of a document before it is trusted to be of this version.
#[derive(Deserialize)]
struct Probe {
    version: u32,
}

/// Why an object is no mark.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    /// Not what this version writes.
    #[error("it is not a list of marked packs")]
    Json(#[source] serde_json::Error),
    /// A name of a pack that is none.
    #[error("it is not a list of marked packs")]
    Id(#[source] InvalidId),
    /// Written by a later program.
    #[error("it has version {0}, this program reads version {VERSION}: use a later one")]
    Version(u32),
}

/// Whether a key is that of a mark.
#[must_use]
pub fn is_mark(key: &str) -> bool {
    key.strip_prefix(PREFIX).is_some_and(|name| name.ends_with(".json") && !name.contains('/'))
}

/// Whether a mark is what its writer wrote: writers of backups leave alone whatever one names, but deletion believes
/// only whole ones.
#[must_use]
pub fn is_whole(key: &str, bytes: &[u8], dedup: &DedupKey) -> bool {
    let name = key.strip_prefix(PREFIX).and_then(|name| name.strip_suffix(".json"));
    let id = name.and_then(|name| name.split_once('-')).map(|(_, id)| id);
    id == Some(dedup.id_of(bytes).to_string().as_str())
}

/// The key and the bytes of a mark of `packs`, made at `time` by this machine's clock, which is for people only.
#[must_use]
pub fn encode(packs: &[PackId], time: jiff::Timestamp, dedup: &DedupKey) -> (String, Vec<u8>) {
    let packs = packs.iter().map(ToString::to_string).collect();
    // Of texts and numbers alone, so this cannot fail.
    let mut bytes = serde_json::to_vec(&Document { version: VERSION, packs }).unwrap_or_default();
    bytes.push(b'\n');
    let key = format!("{PREFIX}{}-{}.json", time.strftime("%Y%m%dT%H%M%SZ"), dedup.id_of(&bytes));
    (key, bytes)
}

/// The packs that a document names.
pub fn decode(bytes: &[u8]) -> Result<BTreeSet<PackId>, MarkError> {
    // First, because a later version has fields this one does not know.
    let Probe { version } = serde_json::from_slice(bytes).map_err(MarkError::Json)?;
    if version != VERSION {
        return Err(MarkError::Version(version));
    }
    let document: Document = serde_json::from_slice(bytes).map_err(MarkError::Json)?;
    document.packs.iter().map(|pack| pack.parse().map_err(MarkError::Id)).collect()
}
