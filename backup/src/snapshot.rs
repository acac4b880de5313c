//! The document that makes packs a backup.
//!
//! Writing it is the only commit point of a run. Its object is named by time and by a keyed hash of its
//! bytes, so a listing is in order of time and a damaged document shows (`docs/backup-format.md`,
//! "Snapshots").

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkId, DedupKey, InvalidId};
use crate::pack::PackId;

mod dump;
mod provenance;

pub use dump::{DumpFile, DumpKind, DumpProof, DumpRecord, DumpRole, StoredDump};
pub use provenance::{Provenance, Service, Stack};

/// Longest snapshot document in bytes; 64 MiB name the packs of about 50 TB.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;

/// Warnings kept in the document; the count goes on.
pub const WARNINGS_MAX: usize = 100;

/// Shortest id prefix that may name a snapshot on the command line.
const PREFIX_DIGITS_MIN: usize = 4;

/// The label with what the engine of a snapshot's host calls itself: it tells machines of one host name apart.
pub const ENGINE_TAG: &str = "chores.engine";

/// How keys of sealed documents end.
pub const SEALED: &str = ".enc";

/// Digits of an id shown to people.
const SHORT_DIGITS: usize = 8;

/// Names a snapshot: keyed BLAKE3 of its document, cut to 128 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SnapshotId(pub ChunkId);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SnapshotId {
    /// The first eight digits, as people see them.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string().chars().take(SHORT_DIGITS).collect()
    }
}

impl std::str::FromStr for SnapshotId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse().map(Self)
    }
}

/// How far a backup can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything was read, nothing changed underneath.
    Complete,
    /// Something was skipped, torn or vanished; `warnings` says what.
    Warnings,
    /// Kept for inspection, never counted as a backup.
    Failed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Complete => "complete",
            Self::Warnings => "warnings",
            Self::Failed => "failed",
        })
    }
}

/// A tree's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TreeRoot {
    /// The chunk to start from.
    #[serde(with = "hex_id")]
    pub root: ChunkId,
    /// Levels of id lists above the entry lines; 0 when `root` holds the lines themselves.
    pub depth: u8,
    /// Number of entries.
    pub entries: u64,
}

/// What one root of the backup was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its absolute path in the place where it was read; bytes that are not UTF-8 replaced (the tree has
    /// them exactly).
    pub path: String,
    /// The volume it was, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<SourceVolume>,
}

/// The volume behind a source: what restore needs to make it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceVolume {
    /// `volume` or `bind`.
    pub kind: String,
    /// The volume's name, or the host path of a bind mount.
    pub name: String,
    /// Volume driver.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub driver: String,
    /// Labels of the volume.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Driver options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// The container whose volumes were read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceContainer {
    /// Its name.
    pub name: String,
    /// Its id at the time.
    pub id: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's digest.
    pub image_id: String,
}

/// Counts of a run. Bytes are file content unless said otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stats {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// Files not read because nothing had changed.
    pub files_unchanged: u64,
    /// Length of all files together.
    pub bytes: u64,
    /// Bytes read from the sources.
    pub bytes_read: u64,
    /// Chunks stored by this run.
    pub chunks_added: u64,
    /// Length of these chunks before compression.
    pub bytes_added: u64,
    /// Bytes this run put into the store, packs and indexes.
    pub bytes_stored: u64,
    /// Wall time in milliseconds.
    pub duration_ms: u64,
}

/// One backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// Version of this document, see [`version_with`].
    pub version: u32,
    /// What it is called: `latest:NAME` finds it.
    pub name: String,
    /// Start of the run, RFC 3339 in UTC.
    pub time: jiff::Timestamp,
    /// Host name of the machine or container that read.
    pub host: String,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// How far it can be trusted.
    pub state: State,
    /// So much is gone since the last good one of this name, or so much is unlike it, that a person should look; `warnings`
    /// says what.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspicious: bool,
    /// The roots, in tree order.
    pub sources: Vec<Source>,
    /// The container whose volumes they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<SourceContainer>,
    /// The database dumps among the sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dumps: Vec<DumpRecord>,
    /// What the containers were of, where an engine said so.
    #[serde(default, skip_serializing_if = "Provenance::is_empty")]
    pub provenance: Provenance,
    /// Where the tree begins.
    pub tree: TreeRoot,
    /// Counts.
    pub stats: Stats,
    /// How many warnings there were.
    pub warning_count: u64,
    /// The first [`WARNINGS_MAX`] of them.
    pub warnings: Vec<String>,
    /// Every pack a restore needs, sorted.
    #[serde(with = "hex_packs")]
    pub packs: Vec<PackId>,
    /// Name and version of the program.
    pub program: String,
}

/// The latest version of the snapshot document that this program reads.
pub const VERSION: u32 = 3;

/// The version of a document that has no field later ones added.
const VERSION_PLAIN: u32 = 1;

/// The version of a document with dumps, or a suspicious one.
const VERSION_DUMPS: u32 = 2;

/// The version of a document with these fields: the lowest whose readers understand all of it, so that older programs read
/// all that they can.
#[must_use]
pub fn version_with(dumps: &[DumpRecord], suspicious: bool, provenance: &Provenance) -> u32 {
    if !provenance.is_empty() {
        VERSION
    } else if !dumps.is_empty() || suspicious {
        VERSION_DUMPS
    } else {
        VERSION_PLAIN
    }
}

/// What is read of a document before it is trusted to be of this version.
#[derive(Deserialize)]
struct Probe {
    version: u32,
}

/// Why a snapshot object is unusable.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The bytes are not those the name was made from.
    #[error("its content does not match its name: it is damaged")]
    Damaged,
    /// Not the document format 1 describes.
    #[error("it is not a snapshot of repository format 1")]
    Json(#[source] serde_json::Error),
    /// Written by a later program.
    #[error("it has version {0}, this program reads versions up to {VERSION}: use a later one")]
    Version(u32),
    /// Its version is another one than its fields make it.
    #[error("it has version {0}, which does not fit its fields")]
    Fields(u32),
}

impl Snapshot {
    /// The document and the name it is stored under, which is that of an encrypted repository where `sealed`.
    pub fn seal(
        &self,
        key: &DedupKey,
        sealed: bool,
    ) -> Result<(SnapshotName, Vec<u8>), SnapshotError> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(SnapshotError::Json)?;
        bytes.push(b'\n');
        let id = SnapshotId(key.id_of(&bytes));
        Ok((SnapshotName { id, time: self.name_time(), sealed }, bytes))
    }

    /// Reads a document and checks that it is the one `name` was made from.
    pub fn open(name: &SnapshotName, bytes: &[u8], key: &DedupKey) -> Result<Self, SnapshotError> {
        if key.id_of(bytes) != name.id.0 {
            return Err(SnapshotError::Damaged);
        }
        // First, because a later version has fields this one does not know.
        let Probe { version } = serde_json::from_slice(bytes).map_err(SnapshotError::Json)?;
        if !(VERSION_PLAIN..=VERSION).contains(&version) {
            return Err(SnapshotError::Version(version));
        }
        let snapshot: Self = serde_json::from_slice(bytes).map_err(SnapshotError::Json)?;
        if version != version_with(&snapshot.dumps, snapshot.suspicious, &snapshot.provenance) {
            return Err(SnapshotError::Fields(version));
        }
        // Under another time an old backup could pass for the latest.
        if snapshot.name_time() == name.time { Ok(snapshot) } else { Err(SnapshotError::Damaged) }
    }

    /// The sources that are no dumps.
    pub fn sources_of_files(&self) -> impl Iterator<Item = &Source> {
        let is_dump = |source: &&Source| self.dumps.iter().any(|dump| dump.path == source.path);
        self.sources.iter().filter(move |source| !is_dump(source))
    }

    /// Whether it holds dumps and nothing else.
    #[must_use]
    pub fn is_of_dumps_only(&self) -> bool {
        !self.dumps.is_empty() && self.sources_of_files().next().is_none()
    }

    fn name_time(&self) -> String {
        self.time.strftime("%Y%m%dT%H%M%SZ").to_string()
    }
}

/// A snapshot's name in the store; sorts by time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SnapshotName {
    /// The document's id.
    pub id: SnapshotId,
    /// Start of the run as `20261122T194512Z`.
    pub time: String,
    /// Whether the document is sealed, as in an encrypted repository.
    pub sealed: bool,
}

impl SnapshotName {
    /// The object's key: `snapshots/<time>-<id>.json`, with `.enc` behind it where it is sealed.
    #[must_use]
    pub fn key(&self) -> String {
        let end = if self.sealed { SEALED } else { "" };
        format!("snapshots/{}-{}.json{end}", self.time, self.id)
    }

    /// The reverse of [`Self::key`]; `None` for objects that are no snapshots.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let name = key.strip_prefix("snapshots/")?;
        let (name, sealed) = name.strip_suffix(SEALED).map_or((name, false), |name| (name, true));
        let (time, id) = name.strip_suffix(".json")?.split_once('-')?;
        Some(Self { id: id.parse().ok()?, time: time.to_owned(), sealed })
    }
}

/// What a person typed to name a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The newest that is a backup.
    Latest,
    /// The newest of this name that is a backup.
    LatestNamed(String),
    /// The one whose id starts like this.
    Prefix(String),
}

/// A text names no snapshot.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{0}` names no snapshot: give `latest`, `latest:NAME` or at least {PREFIX_DIGITS_MIN} digits of its id"
)]
pub struct InvalidSelector(String);

impl std::str::FromStr for Selector {
    type Err = InvalidSelector;

    fn from_str(text: &str) -> Result<Self, InvalidSelector> {
        if text == "latest" {
            return Ok(Self::Latest);
        }
        if let Some(name) = text.strip_prefix("latest:").filter(|name| !name.is_empty()) {
            return Ok(Self::LatestNamed(name.to_owned()));
        }
        let hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if hex && text.len() >= PREFIX_DIGITS_MIN {
            return Ok(Self::Prefix(text.to_owned()));
        }
        Err(InvalidSelector(text.to_owned()))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::LatestNamed(name) => write!(f, "latest:{name}"),
            Self::Prefix(prefix) => f.write_str(prefix),
        }
    }
}

mod hex_id {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::chunk::ChunkId;

    pub(super) fn serialize<S: Serializer>(id: &ChunkId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(id)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<ChunkId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

mod hex_packs {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::pack::PackId;

    pub(super) fn serialize<S: Serializer>(
        packs: &[PackId],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(packs.iter().map(ToString::to_string))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<PackId>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| text.parse().map_err(D::Error::custom)).collect()
    }
}

#[cfg(test)]
mod tests;
