//! A repository: the objects of `docs/backup-format.md` in one store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chores_common::object::{ErrorKind, Location, ObjectError};
use serde::{Deserialize, Serialize};

use crate::chunk::{ChunkerParams, Cutter, DedupKey, UnusableParams};
use crate::index::{self, INDEX_BYTES_MAX, Index, IndexError, IndexedPack};
use crate::pack::{PACK_BYTES_MAX, Pack, PackError, PackId, PackIndex};
use crate::snapshot::{SNAPSHOT_BYTES_MAX, Selector, Snapshot, SnapshotError, SnapshotName, State};
use crate::store::Store;
use crate::threads;

/// The key of the document every repository starts with.
pub const FORMAT_KEY: &str = "repo.json";
/// Longest `repo.json` in bytes.
const FORMAT_BYTES_MAX: u64 = 1 << 20;
/// Version of the mark documents this program reads.
const MARK_VERSION: u32 = 1;
/// Longest mark document in bytes.
const MARK_BYTES_MAX: u64 = 16 << 20;
/// How many small objects are fetched at once.
const FETCHES: usize = 8;

const FORMAT_NAME: &str = "chores-backup";
const FORMAT_VERSION: u32 = 1;
const HASH_NAME: &str = "blake3-keyed-128";

/// What an operation does, for the feature flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Listing, restoring, checking.
    Read,
    /// Adding backups.
    Write,
    /// Removing anything.
    Delete,
}

/// `repo.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct FormatFile {
    format: String,
    version: u32,
    id: String,
    created: jiff::Timestamp,
    /// Features a program must know before it may read, write or delete.
    features: Features,
    chunker: ChunkerParams,
    hash: HashParams,
    /// Key slots of an encrypted repository; empty in a clear one.
    keys: Vec<KeySlot>,
    /// BLAKE3 of this document with an empty checksum.
    checksum: String,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Features {
    read: Vec<String>,
    write: Vec<String>,
    delete: Vec<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct HashParams {
    algorithm: String,
    /// The dedup key of a clear repository in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// A wrapped key: who can unwrap it, and the ciphertext.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeySlot {
    kind: String,
    recipient: String,
    wrapped: String,
}

/// What is read of `repo.json` before it is trusted to be of this version.
#[derive(Deserialize)]
struct FormatProbe {
    format: String,
    version: u32,
    features: Features,
}

/// Why a repository cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RepositoryError {
    /// Nothing is there.
    #[error("there is no repository at {0}: make one with `backup init --repo {0}`")]
    Missing(String),
    /// `init` on an existing repository.
    #[error("there is already a repository at {0}")]
    Exists(String),
    /// `init` where something else is.
    #[error("{0} is not empty and holds no repository: name an empty place")]
    Occupied(String),
    /// `repo.json` is unusable.
    #[error("{FORMAT_KEY} of {place} is damaged: {problem}")]
    Format {
        /// Where.
        place: String,
        /// What is wrong.
        problem: String,
    },
    /// The repository needs a later program for this.
    #[error("{place} needs a later version of this program to {act} it (it uses {feature})")]
    Feature {
        /// Where.
        place: String,
        /// `read`, `write to` or `delete from`.
        act: &'static str,
        /// The feature or version.
        feature: String,
    },
    /// Unusable parameters.
    #[error("{FORMAT_KEY} of {0} is unusable")]
    Chunker(String, #[source] UnusableParams),
    /// The store said no.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// A snapshot is unusable.
    #[error("{0} is unusable")]
    Snapshot(String, #[source] SnapshotError),
    /// An index is unusable.
    #[error("{0} is unusable")]
    Index(String, #[source] IndexError),
    /// An object does not have the content it is named after.
    #[error("{0} is damaged: its content does not match its name")]
    Damaged(String),
    /// A pack is unusable.
    #[error("{0} is damaged")]
    Pack(String, #[source] PackError),
    /// A mark is unusable.
    #[error("{0} is not a list of marked packs")]
    Mark(String, #[source] serde_json::Error),
    /// A mark was written by a later program.
    #[error("{0} has version {1}, this program reads version {MARK_VERSION}: use a later one")]
    MarkVersion(String, u32),
    /// No snapshot fits.
    #[error("no snapshot matches `{0}` in {1}: `backup snapshots` lists them")]
    NoSnapshot(Selector, String),
    /// Several snapshots fit.
    #[error("`{0}` fits {1} snapshots: give more digits")]
    Ambiguous(Selector, usize),
    /// No random numbers.
    #[error("the system's random number generator failed")]
    Random(#[source] getrandom::Error),
}

/// Marks: packs that a later prune will drop (`marks/*.json`).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MarkFile {
    version: u32,
    packs: Vec<String>,
}

/// An open repository. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Repository {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    id: String,
    key: DedupKey,
    cutter: Cutter,
    format: FormatFile,
}

/// The index objects as found: what could be read, and what could not.
#[derive(Debug, Default)]
pub struct IndexObjects {
    /// The readable ones' packs.
    pub packs: Vec<IndexedPack>,
    /// Key and problem of the others.
    pub damaged: Vec<(String, RepositoryError)>,
}

/// A snapshot of a listing: readable, or with its problem.
pub type ListedSnapshot = (SnapshotName, Result<Snapshot, RepositoryError>);

impl Repository {
    /// Makes a new clear repository in an empty place.
    pub fn init(store: Store, now: jiff::Timestamp) -> Result<Self, RepositoryError> {
        let place = store.objects().location().to_string();
        store.create_root()?;
        match store.get(FORMAT_KEY, FORMAT_BYTES_MAX) {
            Ok(_) => return Err(RepositoryError::Exists(place)),
            Err(error) if error.kind() == ErrorKind::NotFound => (),
            Err(error) => return Err(error.into()),
        }
        if !store.list("")?.is_empty() {
            return Err(RepositoryError::Occupied(place));
        }
        let key = DedupKey::generate().map_err(RepositoryError::Random)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(RepositoryError::Random)?;
        let mut format = FormatFile {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION,
            id: crate::chunk::ChunkId(id).to_string(),
            created: now,
            features: Features::default(),
            chunker: ChunkerParams::default(),
            hash: HashParams { algorithm: HASH_NAME.to_owned(), key: Some(key.to_hex()) },
            keys: Vec::new(),
            checksum: String::new(),
        };
        format.checksum = format.checksum();
        store.put(FORMAT_KEY, format.to_bytes())?;
        // Two hosts may have come this far at once: the document that stayed decides.
        let opened = Self::open(store)?;
        if opened.inner.id == format.id { Ok(opened) } else { Err(RepositoryError::Exists(place)) }
    }

    /// Opens the repository in `store`.
    pub fn open(store: Store) -> Result<Self, RepositoryError> {
        let place = store.objects().location().to_string();
        let is_directory = matches!(store.objects().location(), Location::Directory(_));
        let bytes =
            store.get(FORMAT_KEY, FORMAT_BYTES_MAX).map_err(|error| match error.kind() {
                ErrorKind::NotFound => RepositoryError::Missing(place.clone()),
                // `init` makes a directory; a bucket it does not.
                ErrorKind::NoBucket if is_directory => RepositoryError::Missing(place.clone()),
                _ => error.into(),
            })?;
        let damaged = |problem: String| RepositoryError::Format { place: place.clone(), problem };
        let probe: FormatProbe =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if probe.format != FORMAT_NAME {
            return Err(damaged(format!("its format is not {FORMAT_NAME}")));
        }
        if probe.version != FORMAT_VERSION {
            let feature = format!("format {}", probe.version);
            return Err(RepositoryError::Feature { place, act: "use", feature });
        }
        refuse_unknown(&probe.features, Operation::Read, &place)?;
        let format: FormatFile =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if format.checksum() != format.checksum {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        // The checksum is of what was understood; this finds what was passed over.
        if format.to_bytes() != bytes {
            return Err(damaged("it is not written as this format prescribes".to_owned()));
        }
        if format.hash.algorithm != HASH_NAME {
            let feature = format!("hash {}", format.hash.algorithm);
            return Err(RepositoryError::Feature { place, act: "read", feature });
        }
        let key = format
            .hash
            .key
            .as_deref()
            .and_then(DedupKey::from_hex)
            .ok_or_else(|| damaged("it has no usable hash key".to_owned()))?;
        let cutter = Cutter::new(&format.chunker)
            .map_err(|error| RepositoryError::Chunker(place.clone(), error))?;
        Ok(Self { inner: Arc::new(Inner { store, id: format.id.clone(), key, cutter, format }) })
    }

    /// Refuses `operation` when the repository has a feature this program does not know.
    pub fn permit(&self, operation: Operation) -> Result<(), RepositoryError> {
        refuse_unknown(&self.inner.format.features, operation, &self.place())
    }

    /// Where it is, for people.
    #[must_use]
    pub fn place(&self) -> String {
        self.inner.store.objects().location().to_string()
    }

    /// The store underneath.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// Random id, 32 hex digits, given by `init`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.inner.id
    }

    /// The key of all ids.
    #[must_use]
    pub fn key(&self) -> &DedupKey {
        &self.inner.key
    }

    /// How files are cut here.
    #[must_use]
    pub fn cutter(&self) -> &Cutter {
        &self.inner.cutter
    }

    /// Stores a pack and gives its memory back.
    pub fn put_pack(&self, pack: &PackId, bytes: Vec<u8>) -> Result<Vec<u8>, RepositoryError> {
        let bytes = Bytes::from(bytes);
        self.inner.store.put(&pack.key(), bytes.clone())?;
        Ok(bytes.try_into_mut().map(Vec::from).unwrap_or_default())
    }

    /// Reads a whole pack and checks it against its name.
    pub fn get_pack(&self, pack: &PackId) -> Result<Bytes, RepositoryError> {
        let bytes = self.inner.store.get(&pack.key(), PACK_BYTES_MAX)?;
        if self.inner.key.id_of(&bytes) == pack.0 {
            Ok(bytes)
        } else {
            Err(RepositoryError::Damaged(pack.key()))
        }
    }

    /// Stores an index object for `packs` and returns its length in bytes.
    pub fn put_index(&self, packs: &[IndexedPack]) -> Result<u64, RepositoryError> {
        let bytes = index::encode(packs);
        let length = bytes.len() as u64;
        let key = format!("index/{}.idx", self.inner.key.id_of(&bytes));
        self.inner.store.put(&key, bytes)?;
        Ok(length)
    }

    /// Reads every index object.
    pub fn index_objects(&self) -> Result<IndexObjects, RepositoryError> {
        let keys: Vec<_> = self
            .inner
            .store
            .list("index/")?
            .into_iter()
            .map(|object| object.key)
            .filter(|key| key.ends_with(".idx"))
            .collect();
        let mut found = IndexObjects::default();
        for (key, read) in in_parallel(&keys, |key| self.index_object(key)) {
            match read {
                Ok(packs) => found.packs.extend(packs),
                // A prune may have removed it since the listing.
                Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::NotFound => (),
                Err(RepositoryError::Store(error)) if error.kind() != ErrorKind::Corrupt => {
                    return Err(error.into());
                }
                Err(error) => found.damaged.push((key, error)),
            }
        }
        Ok(found)
    }

    fn index_object(&self, key: &str) -> Result<Vec<IndexedPack>, RepositoryError> {
        let bytes = self.inner.store.get(key, INDEX_BYTES_MAX)?;
        if key != format!("index/{}.idx", self.inner.key.id_of(&bytes)) {
            return Err(RepositoryError::Damaged(key.to_owned()));
        }
        index::decode(&bytes).map_err(|error| RepositoryError::Index(key.to_owned(), error))
    }

    /// The packs that marks name: a writer treats them as absent.
    pub fn marked_packs(&self) -> Result<HashSet<PackId>, RepositoryError> {
        let mut marked = HashSet::new();
        let objects = self.inner.store.list("marks/")?;
        for object in objects.into_iter().filter(|object| is_mark(&object.key)) {
            let bytes = match self.inner.store.get(&object.key, MARK_BYTES_MAX) {
                Ok(bytes) => bytes,
                // Its prune has ended since the listing.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let unusable = |error| RepositoryError::Mark(object.key.clone(), error);
            let mark: MarkFile = serde_json::from_slice(&bytes).map_err(unusable)?;
            if mark.version != MARK_VERSION {
                return Err(RepositoryError::MarkVersion(object.key, mark.version));
            }
            for pack in mark.packs {
                let id = pack.parse().map_err(|error: crate::chunk::InvalidId| {
                    unusable(serde::de::Error::custom(error))
                })?;
                marked.insert(id);
            }
        }
        Ok(marked)
    }

    /// What a writer may refer to: all indexed chunks but those of marked packs. Damaged index objects
    /// are returned too: what only they know is stored again.
    pub fn index_for_writing(&self) -> Result<(Index, IndexObjects), RepositoryError> {
        let marked = self.marked_packs()?;
        let mut objects = self.index_objects()?;
        let index = Index::new(std::mem::take(&mut objects.packs), &marked);
        Ok((index, objects))
    }

    /// What a reader of `snapshots` needs: all indexed chunks, and the trailers of those packs of the
    /// snapshots that no readable index object names. Packs that cannot be read are returned.
    pub fn index_for_reading<'a>(
        &self,
        snapshots: impl IntoIterator<Item = &'a Snapshot>,
    ) -> Result<(Index, HashMap<PackId, RepositoryError>), RepositoryError> {
        Ok(self.complete_index(self.index_objects()?, snapshots))
    }

    /// As [`Self::index_for_reading`], from index objects that were read before.
    pub fn complete_index<'a>(
        &self,
        mut objects: IndexObjects,
        snapshots: impl IntoIterator<Item = &'a Snapshot>,
    ) -> (Index, HashMap<PackId, RepositoryError>) {
        let indexed: HashSet<_> = objects.packs.iter().map(|pack| pack.id).collect();
        let mut missing: Vec<_> = snapshots
            .into_iter()
            .flat_map(|snapshot| &snapshot.packs)
            .filter(|pack| !indexed.contains(pack))
            .copied()
            .collect();
        missing.sort_unstable();
        missing.dedup();
        let mut unreadable = HashMap::new();
        for (id, read) in in_parallel(&missing, |pack| self.indexed_pack(pack)) {
            match read {
                Ok(pack) => objects.packs.push(pack),
                Err(error) => {
                    unreadable.insert(id, error);
                }
            }
        }
        (Index::new(objects.packs, &HashSet::new()), unreadable)
    }

    fn indexed_pack(&self, id: &PackId) -> Result<IndexedPack, RepositoryError> {
        let bytes = self.get_pack(id)?;
        let index =
            PackIndex::of_pack(&bytes).map_err(|error| RepositoryError::Pack(id.key(), error))?;
        Ok(IndexedPack { id: *id, bytes: bytes.len() as u64, index })
    }

    /// Commits a backup.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<SnapshotName, RepositoryError> {
        let sealed = snapshot.seal(&self.inner.key);
        let (name, bytes) = sealed
            .map_err(|error| RepositoryError::Snapshot("the new snapshot".to_owned(), error))?;
        self.inner.store.put(&name.key(), bytes)?;
        Ok(name)
    }

    /// Names of all snapshots, oldest first.
    pub fn snapshot_names(&self) -> Result<Vec<SnapshotName>, RepositoryError> {
        let objects = self.inner.store.list("snapshots/")?;
        Ok(objects.iter().filter_map(|object| SnapshotName::from_key(&object.key)).collect())
    }

    /// One snapshot.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, RepositoryError> {
        let bytes = self.inner.store.get(&name.key(), SNAPSHOT_BYTES_MAX)?;
        Snapshot::open(name, &bytes, &self.inner.key)
            .map_err(|error| RepositoryError::Snapshot(name.key(), error))
    }

    /// All snapshots, oldest first, each readable or with its problem.
    pub fn snapshots(&self) -> Result<Vec<ListedSnapshot>, RepositoryError> {
        let names = self.snapshot_names()?;
        Ok(in_parallel(&names, |name| self.snapshot(name)))
    }

    /// The one snapshot a person meant. Damaged and failed ones are never `latest`.
    pub fn select(&self, selector: &Selector) -> Result<(SnapshotName, Snapshot), RepositoryError> {
        let none = || RepositoryError::NoSnapshot(selector.clone(), self.place());
        let names = self.snapshot_names()?;
        if let Selector::Prefix(prefix) = selector {
            let mut fitting: Vec<_> =
                names.into_iter().filter(|name| name.id.to_string().starts_with(prefix)).collect();
            let name = fitting.pop().ok_or_else(none)?;
            if !fitting.is_empty() {
                return Err(RepositoryError::Ambiguous(selector.clone(), fitting.len() + 1));
            }
            let snapshot = self.snapshot(&name)?;
            return Ok((name, snapshot));
        }
        let mut latest: Option<(SnapshotName, Snapshot)> = None;
        for name in names.into_iter().rev() {
            // Names know whole seconds only: which of several is the latest, the documents say.
            if latest.as_ref().is_some_and(|(found, _)| found.time != name.time) {
                break;
            }
            match self.snapshot(&name) {
                Ok(snapshot) if snapshot.state == State::Failed => (),
                Ok(snapshot) => {
                    let named = match selector {
                        Selector::LatestNamed(wanted) => snapshot.name == *wanted,
                        Selector::Latest | Selector::Prefix(_) => true,
                    };
                    if named && latest.as_ref().is_none_or(|(_, found)| found.time < snapshot.time)
                    {
                        latest = Some((name, snapshot));
                    }
                }
                // It may have been forgotten since the listing.
                Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::NotFound => (),
                Err(RepositoryError::Store(error)) if error.kind() != ErrorKind::Corrupt => {
                    return Err(error.into());
                }
                Err(error) => tracing::warn!("{}", chores_common::exit::chain(&error)),
            }
        }
        latest.ok_or_else(none)
    }

    /// Length in bytes of every pack in the store.
    pub fn stored_packs(&self) -> Result<BTreeMap<PackId, u64>, RepositoryError> {
        let objects = self.inner.store.list("packs/")?;
        Ok(objects
            .iter()
            .filter_map(|object| Some((PackId::from_key(&object.key)?, object.size)))
            .collect())
    }
}

impl From<&Pack> for IndexedPack {
    fn from(pack: &Pack) -> Self {
        Self { id: pack.id, bytes: pack.bytes.len() as u64, index: pack.index.clone() }
    }
}

impl FormatFile {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).unwrap_or_default();
        bytes.push(b'\n');
        bytes
    }

    fn checksum(&self) -> String {
        let bare = Self { checksum: String::new(), ..self.clone() };
        blake3::hash(&bare.to_bytes()).to_hex().to_string()
    }
}

/// Whether a key below `marks/` is that of a mark.
fn is_mark(key: &str) -> bool {
    key.strip_prefix("marks/").is_some_and(|name| name.ends_with(".json") && !name.contains('/'))
}

/// Features of format 1 this program knows: none yet.
const KNOWN_FEATURES: [&str; 0] = [];

fn refuse_unknown(
    features: &Features,
    operation: Operation,
    place: &str,
) -> Result<(), RepositoryError> {
    let (act, wanted) = match operation {
        Operation::Read => ("read", &features.read),
        Operation::Write => ("write to", &features.write),
        Operation::Delete => ("delete from", &features.delete),
    };
    match wanted.iter().find(|feature| !KNOWN_FEATURES.contains(&feature.as_str())) {
        None => Ok(()),
        Some(feature) => {
            Err(RepositoryError::Feature { place: place.to_owned(), act, feature: feature.clone() })
        }
    }
}

/// Runs `work` over `items` on a few threads and returns the results in order.
fn in_parallel<T: Clone + Sync + Send, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> R + Sync,
) -> Vec<(T, R)> {
    if items.len() < 2 {
        return items.iter().map(|item| (item.clone(), work(item))).collect();
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::with_capacity(items.len()));
    threads::on_each("fetch", FETCHES.min(items.len()) - 1, || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(number) else { return };
            let result = (number, (item.clone(), work(item)));
            results.lock().unwrap_or_else(PoisonError::into_inner).push(result);
        }
    });
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
pub(crate) mod tests;
