//! What a drill found, kept beside the snapshots (`docs/backup-format.md`, "Drills").

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::keys::index_key;
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::{SEALED, SnapshotId};

#[cfg(test)]
mod tests;

/// Version of the document this program writes and reads.
pub const VERSION: u32 = 1;

/// Where the documents are.
const PREFIX: &str = "drills/";

/// Longest document in bytes.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Most tables whose rows are listed in a document; the count goes on.
pub const TABLES_MAX: usize = 1000;

/// How a drill ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Everything was restored and found sound.
    Good,
    /// Something was not.
    Failed,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Failed => "failed",
        })
    }
}

/// One part of a snapshot that was drilled: a dump, or the volumes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartRecord {
    /// The folder of the dump, or the paths of the sources.
    pub what: Vec<String>,
    /// The kind of the database, `check` where a command judged, or [`TREE`].
    pub kind: String,
    /// Name or id of the image it was restored into; empty where nothing could be.
    pub image: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it failed: one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Milliseconds from the first byte read to the last one restored.
    pub restore_ms: u64,
    /// Milliseconds until the server was ready, the start of its container included.
    pub ready_ms: u64,
    /// What judged: `check-table`, `pg_amcheck`, `pg_dumpall`, `redis-check-rdb`, `save`, `integrity_check`,
    /// `validate`, `command`.
    pub checks: Vec<String>,
    /// Number of tables, or of what the database has instead.
    pub table_count: u64,
    /// Rows of the first [`TABLES_MAX`] tables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: BTreeMap<String, u64>,
}

/// The kind of a snapshot of which not even the names of its files can be read.
pub const TREE: &str = "tree";

/// One drill.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrillRecord {
    /// Version of this document: 1.
    pub version: u32,
    /// The snapshot.
    pub snapshot: String,
    /// When the drill began, RFC 3339 in UTC.
    pub time: jiff::Timestamp,
    /// How long it took, in milliseconds.
    pub duration_ms: u64,
    /// Good when every part is.
    pub outcome: Outcome,
    /// The parts, in order.
    pub parts: Vec<PartRecord>,
    /// Name of the machine or container that drilled.
    pub host: String,
    /// Name and version of the program.
    pub program: String,
}

/// What is read of a document before it is trusted to be of this version.
#[derive(Deserialize)]
struct Probe {
    version: u32,
}

/// Why a record is unusable.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The repository said no.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// Not what this version writes.
    #[error("{0} is not the record of a drill")]
    Json(String, #[source] serde_json::Error),
    /// Written by a later program.
    #[error("{0} has version {1}, this program reads version {VERSION}: use a later one")]
    Version(String, u32),
    /// It names another snapshot than its key does.
    #[error("{0} is the record of another snapshot")]
    Misplaced(String),
}

/// The name of a record; sorts by time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordName {
    /// When the drill began, as `20261129T225016Z`.
    time: String,
    /// The snapshot.
    snapshot: SnapshotId,
    /// Whether the document is sealed, as in an encrypted repository.
    sealed: bool,
}

impl RecordName {
    /// Of a drill that began at `time`.
    #[must_use]
    pub fn new(time: jiff::Timestamp, snapshot: SnapshotId, sealed: bool) -> Self {
        Self { time: time.strftime("%Y%m%dT%H%M%SZ").to_string(), snapshot, sealed }
    }

    /// The object's key.
    #[must_use]
    pub fn key(&self) -> String {
        let end = if self.sealed { SEALED } else { "" };
        format!("{PREFIX}{}-{}.json{end}", self.time, self.snapshot)
    }

    /// The reverse of [`Self::key`]; `None` for objects that are no records.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let name = key.strip_prefix(PREFIX)?;
        let (name, sealed) = name.strip_suffix(SEALED).map_or((name, false), |name| (name, true));
        let (time, id) = name.strip_suffix(".json")?.split_once('-')?;
        Some(Self { time: time.to_owned(), snapshot: id.parse().ok()?, sealed })
    }
}

/// Keeps a record.
pub fn store(
    repository: &Repository,
    record: &DrillRecord,
    id: SnapshotId,
) -> Result<(), RecordError> {
    let name = RecordName::new(record.time, id, repository.is_encrypted());
    let mut bytes =
        serde_json::to_vec_pretty(record).map_err(|error| RecordError::Json(name.key(), error))?;
    bytes.push(b'\n');
    Ok(repository.put_document(index_key::Kind::Drill, &name.key(), bytes).map(drop)?)
}

/// The newest record of each of these snapshots that was drilled; with the problem where it cannot be read.
pub fn newest(
    repository: &Repository,
    snapshots: impl IntoIterator<Item = SnapshotId>,
) -> Result<BTreeMap<SnapshotId, Result<DrillRecord, RecordError>>, RepositoryError> {
    let objects = repository.store().list(PREFIX)?;
    let mut names: BTreeMap<SnapshotId, RecordName> = BTreeMap::new();
    // The listing is in order of time.
    let listed = objects.iter().filter_map(|object| RecordName::from_key(&object.key));
    for name in listed.filter(|name| name.sealed == repository.is_encrypted()) {
        names.insert(name.snapshot, name);
    }
    let wanted = snapshots.into_iter().filter_map(|id| names.remove(&id));
    Ok(wanted.map(|name| (name.snapshot, load(repository, &name))).collect())
}

/// Removes the records of snapshots that are gone.
pub fn remove(
    repository: &Repository,
    snapshots: &BTreeSet<SnapshotId>,
) -> Result<(), RepositoryError> {
    let objects = repository.store().list(PREFIX)?;
    let names = objects.iter().filter_map(|object| RecordName::from_key(&object.key));
    for name in names.filter(|name| snapshots.contains(&name.snapshot)) {
        repository.store().delete(&name.key())?;
    }
    Ok(())
}

fn load(repository: &Repository, name: &RecordName) -> Result<DrillRecord, RecordError> {
    let key = name.key();
    let bytes = repository.get_document(index_key::Kind::Drill, &key, RECORD_BYTES_MAX)?;
    open(&key, name, &bytes)
}

fn open(key: &str, name: &RecordName, bytes: &[u8]) -> Result<DrillRecord, RecordError> {
    let json = |error| RecordError::Json(key.to_owned(), error);
    // First, because a later version has fields this one does not know.
    let Probe { version } = serde_json::from_slice(bytes).map_err(json)?;
    if version != VERSION {
        return Err(RecordError::Version(key.to_owned(), version));
    }
    let record: DrillRecord = serde_json::from_slice(bytes).map_err(json)?;
    if record.snapshot != name.snapshot.to_string() {
        return Err(RecordError::Misplaced(key.to_owned()));
    }
    Ok(record)
}
