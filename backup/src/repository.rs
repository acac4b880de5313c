//! A repository: the objects of `docs/backup-format.md` in one store.

mod encryption;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use chores_common::object::{ErrorKind, Location, ObjectError, ObjectMeta};
use serde::{Deserialize, Serialize};

use crate::alive::SignOfLife;
use crate::chunk::{ChunkerParams, Cutter, DedupKey, UnusableParams};
use crate::index::{self, INDEX_BYTES_MAX, Index, IndexError, IndexedPack};
use crate::keys::KeyRing;
use crate::keys::content::ContentError;
use crate::keys::index_key::{self, IndexKeyId, IndexKeys, OVERHEAD_BYTES, SealError};
use crate::keys::slot::KeySlot;
use crate::mark::{self, Mark, MarkError};
use crate::pack::{PACK_BYTES_MAX, Pack, PackError, PackId, PackIndex};
use crate::snapshot::{SNAPSHOT_BYTES_MAX, Selector, Snapshot, SnapshotError, SnapshotName, State};
use crate::store::Store;
use crate::threads;
use encryption::{EncryptionParams, Sealing};
pub use encryption::{Keep, KeyChange, KeyHolder, KeysError};

/// The key of the document every repository starts with.
pub const FORMAT_KEY: &str = "repo.json";
/// Longest `repo.json` in bytes.
const FORMAT_BYTES_MAX: u64 = 1 << 20;
/// How often the index is listed again because a prune rewrites it meanwhile.
const INDEX_LISTINGS_MAX: u32 = 4;
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
    /// How an encrypted repository is encrypted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    encryption: Option<EncryptionParams>,
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
    /// Nothing was given that opens it.
    #[error(
        "{0} is encrypted: give --key-file FILE to save, check and prune, and --identity FILE to restore"
    )]
    Encrypted(String),
    /// Something was given that would open an encrypted one: somebody may have put this in its place.
    #[error(
        "{0} is not encrypted, but a key for it is given: name another repository, or give no key"
    )]
    Clear(String),
    /// Only a key file writes.
    #[error("saving to {0} needs its key file: give --key-file FILE or set BACKUP_KEY_FILE")]
    NoKeyFile(String),
    /// Only an identity reads content.
    #[error(
        "reading content of {0} needs its private key: give --identity FILE or set BACKUP_IDENTITY_FILE"
    )]
    NoIdentity(String),
    /// The keys that were given do not open it.
    #[error("{0} cannot be opened")]
    Keys(String, #[source] KeysError),
    /// A sealed document does not open.
    #[error("{0} is unusable")]
    Seal(String, #[source] SealError),
    /// Another run was faster.
    #[error("{FORMAT_KEY} of {0} was changed by another run meanwhile: run it again")]
    Raced(String),
    /// Content does not decrypt.
    #[error("{} cannot be read", .0.key())]
    Content(PackId, #[source] ContentError),
    /// Content cannot be encrypted.
    #[error("cannot encrypt a pack")]
    Encrypt(#[source] ContentError),
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
    #[error("{0} is unusable")]
    Mark(String, #[source] MarkError),
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
    /// Of whoever opened it.
    alive: SignOfLife,
    /// Of an encrypted one.
    sealing: Option<Sealing>,
}

/// The index objects as found: what could be read, and what could not.
#[derive(Debug, Default)]
pub struct IndexObjects {
    /// The readable ones' packs.
    pub packs: Vec<IndexedPack>,
    /// Key and problem of the others.
    pub damaged: Vec<(String, RepositoryError)>,
}

/// Key of an index object, and its packs or its problem.
pub type IndexObject = (String, Result<Vec<IndexedPack>, RepositoryError>);

/// A snapshot of a listing: readable, or with its problem.
pub type ListedSnapshot = (SnapshotName, Result<Snapshot, RepositoryError>);

impl Repository {
    /// Makes a new clear repository in an empty place.
    pub fn init(store: Store, now: jiff::Timestamp) -> Result<Self, RepositoryError> {
        refuse_occupied(&store)?;
        let mut format = FormatFile::new(now)?;
        let key = DedupKey::generate().map_err(RepositoryError::Random)?;
        format.hash.key = Some(key.to_hex());
        format.checksum = format.checksum();
        Self::put_format(store, &format, KeyRing::default())
    }

    /// Writes the first `repo.json` and opens it.
    fn put_format(
        store: Store,
        format: &FormatFile,
        ring: KeyRing,
    ) -> Result<Self, RepositoryError> {
        store.put(FORMAT_KEY, format.to_bytes())?;
        // Two hosts may have come this far at once: the document that stayed decides.
        let place = store.objects().location().to_string();
        match Self::open_with(store, ring) {
            Ok(opened) if opened.inner.id == format.id => Ok(opened),
            Ok(_) | Err(RepositoryError::Keys(..)) => Err(RepositoryError::Exists(place)),
            Err(error) => Err(error),
        }
    }

    /// Opens the clear repository in `store`.
    pub fn open(store: Store) -> Result<Self, RepositoryError> {
        Self::open_with(store, KeyRing::default())
    }

    /// Opens the repository in `store`, an encrypted one with what is on the ring.
    pub fn open_with(store: Store, ring: KeyRing) -> Result<Self, RepositoryError> {
        let alive = SignOfLife::begin();
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
        let (key, sealing) = if format.is_encrypted() {
            if ring.is_empty() {
                return Err(RepositoryError::Encrypted(place));
            }
            let (key, sealing) = encryption::open(&format, ring)
                .map_err(|error| RepositoryError::Keys(place.clone(), error))?;
            (key, Some(sealing))
        } else {
            if !ring.is_empty() {
                return Err(RepositoryError::Clear(place));
            }
            let key = format.hash.key.as_deref().and_then(DedupKey::from_hex);
            (key.ok_or_else(|| damaged("it has no usable hash key".to_owned()))?, None)
        };
        let cutter = Cutter::new(&format.chunker)
            .map_err(|error| RepositoryError::Chunker(place.clone(), error))?;
        let id = format.id.clone();
        Ok(Self { inner: Arc::new(Inner { store, id, key, cutter, format, alive, sealing }) })
    }

    /// Refuses `operation` when the repository has a feature this program does not know.
    pub fn permit(&self, operation: Operation) -> Result<(), RepositoryError> {
        refuse_unknown(&self.inner.format.features, operation, &self.place())?;
        match &self.inner.sealing {
            Some(sealing) if operation == Operation::Write && sealing.recipients.is_none() => {
                Err(RepositoryError::NoKeyFile(self.place()))
            }
            _ => Ok(()),
        }
    }

    /// Says in `repo.json` that packs are marked here, so that programs which do not know what that asks of them no
    /// longer write. Several at once write the same bytes.
    pub fn announce_marks(&self) -> Result<(), RepositoryError> {
        let found = self.again()?.inner.format.clone();
        let mut announced = found.clone();
        let lists = [&mut announced.features.write, &mut announced.features.delete];
        let mut is_new = false;
        for list in lists {
            if !list.iter().any(|feature| feature == MARKS) {
                list.push(MARKS.to_owned());
                is_new = true;
            }
        }
        if !is_new {
            return Ok(());
        }
        self.sign(&mut announced);
        self.replace_format(&found, &announced)?;
        self.again()?.permit(Operation::Delete)
    }

    /// Writes a changed document in the place of `found`, and only there: two that change different things would undo each
    /// other.
    fn replace_format(
        &self,
        found: &FormatFile,
        changed: &FormatFile,
    ) -> Result<(), RepositoryError> {
        let store = &self.inner.store;
        let (before, after) = (found.to_bytes(), changed.to_bytes());
        let now = store.get(FORMAT_KEY, FORMAT_BYTES_MAX)?;
        if now != before && now != after {
            return Err(RepositoryError::Raced(self.place()));
        }
        store.put(FORMAT_KEY, after.clone())?;
        let now = store.get(FORMAT_KEY, FORMAT_BYTES_MAX)?;
        if now == after { Ok(()) } else { Err(RepositoryError::Raced(self.place())) }
    }

    /// Opens the same repository again, as it is now.
    fn again(&self) -> Result<Self, RepositoryError> {
        let ring = self.inner.sealing.as_ref().map(|sealing| sealing.ring(&self.inner));
        let again = Self::open_with(self.inner.store.clone(), ring.unwrap_or_default())?;
        if again.inner.id == self.inner.id {
            Ok(again)
        } else {
            Err(RepositoryError::Format {
                place: self.place(),
                problem: "another repository has taken its place".to_owned(),
            })
        }
    }

    /// Puts checksum and authenticator of a changed document right.
    fn sign(&self, format: &mut FormatFile) {
        if let Some(sealing) = &self.inner.sealing {
            format.authenticate(&sealing.index);
        }
        format.checksum = format.checksum();
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

    /// Says now and then that whoever opened it is still at work.
    pub fn beat(&self) {
        self.inner.alive.beat(&self.inner.store);
    }

    /// The pack as this repository stores it: encrypted where it is, and named by what is stored.
    pub fn pack_of(&self, bytes: Vec<u8>, index: PackIndex) -> Result<Pack, RepositoryError> {
        let bytes = self.seal_content(bytes)?;
        Ok(Pack { id: PackId(self.inner.key.id_of(&bytes)), bytes, index })
    }

    /// The key of a pack's object.
    #[must_use]
    pub fn pack_key(&self, pack: &PackId) -> String {
        let key = pack.key();
        if self.is_encrypted() { key + AGE } else { key }
    }

    /// Stores a pack and gives its memory back.
    pub fn put_pack(&self, pack: &PackId, bytes: Vec<u8>) -> Result<Vec<u8>, RepositoryError> {
        let bytes = Bytes::from(bytes);
        self.inner.store.put(&self.pack_key(pack), bytes.clone())?;
        Ok(bytes.try_into_mut().map(Vec::from).unwrap_or_default())
    }

    /// A whole pack as it is stored, checked against its name.
    pub fn stored_pack(&self, pack: &PackId) -> Result<Bytes, RepositoryError> {
        let bytes = self.inner.store.get(&self.pack_key(pack), PACK_BYTES_MAX)?;
        if self.inner.key.id_of(&bytes) == pack.0 {
            Ok(bytes)
        } else {
            Err(RepositoryError::Damaged(self.pack_key(pack)))
        }
    }

    /// The content of a whole pack, which is checked against its name.
    pub fn get_pack(&self, pack: &PackId) -> Result<Bytes, RepositoryError> {
        self.open_content(pack, self.stored_pack(pack)?)
    }

    /// A part of the content of a pack that is stored in `pack_bytes` bytes.
    pub fn read_pack(
        &self,
        pack: PackId,
        pack_bytes: u64,
        content: Range<u64>,
    ) -> Result<Bytes, RepositoryError> {
        match &self.inner.sealing {
            None => Ok(self.inner.store.get_range(&pack.key(), content)?),
            Some(sealing) => self.read_sealed(sealing, pack, pack_bytes, content),
        }
    }

    /// Stores an index object for `packs` of this run and returns its length in bytes.
    pub fn put_index(&self, packs: &[IndexedPack]) -> Result<u64, RepositoryError> {
        let bytes = index::encode(packs);
        let key = self.index_object_key(&bytes);
        self.put_document(index_key::Kind::Index, &key, bytes)
    }

    /// Stores an index object for packs that others told of. It is sealed by the key that sealed theirs: what is encrypted for
    /// others must not pass for what the recipients of today read.
    pub fn put_index_again(
        &self,
        packs: &[IndexedPack],
        sealed_by: Option<IndexKeyId>,
    ) -> Result<u64, RepositoryError> {
        let (Some(sealing), Some(id)) = (&self.inner.sealing, sealed_by) else {
            return self.put_index(packs);
        };
        let bytes = index::encode(packs);
        let key = self.index_object_key(&bytes);
        let sealed =
            sealing.index.seal_with(id, index_key::Kind::Index, &self.inner.id, &key, &bytes);
        let sealed = sealed.map_err(|error| RepositoryError::Seal(key.clone(), error))?;
        let length = sealed.len() as u64;
        self.inner.store.put(&key, sealed)?;
        Ok(length)
    }

    fn index_object_key(&self, bytes: &[u8]) -> String {
        format!("index/{}{}", self.inner.key.id_of(bytes), self.index_end())
    }

    fn index_end(&self) -> &'static str {
        if self.is_encrypted() { ".idx.enc" } else { ".idx" }
    }

    /// Stores a document under `key`, sealed in an encrypted repository, and returns its length in bytes there.
    pub fn put_document(
        &self,
        kind: index_key::Kind,
        key: &str,
        document: Vec<u8>,
    ) -> Result<u64, RepositoryError> {
        let stored = match &self.inner.sealing {
            None => document,
            Some(sealing) => sealing
                .index
                .seal(kind, &self.inner.id, key, &document)
                .map_err(|error| RepositoryError::Seal(key.to_owned(), error))?,
        };
        let length = stored.len() as u64;
        self.inner.store.put(key, stored)?;
        Ok(length)
    }

    /// Reads a document of at most `bytes_max` bytes, which is opened in an encrypted repository.
    pub fn get_document(
        &self,
        kind: index_key::Kind,
        key: &str,
        bytes_max: u64,
    ) -> Result<Bytes, RepositoryError> {
        let Some(sealing) = &self.inner.sealing else {
            return Ok(self.inner.store.get(key, bytes_max)?);
        };
        Ok(self.get_sealed(sealing, kind, key, bytes_max)?.0)
    }

    /// A sealed document, opened, and the key that sealed it.
    fn get_sealed(
        &self,
        sealing: &Sealing,
        kind: index_key::Kind,
        key: &str,
        bytes_max: u64,
    ) -> Result<(Bytes, Option<IndexKeyId>), RepositoryError> {
        let stored = self.inner.store.get(key, bytes_max + OVERHEAD_BYTES as u64)?;
        let opened = sealing.index.open(kind, &self.inner.id, key, &stored);
        let opened = opened.map_err(|error| RepositoryError::Seal(key.to_owned(), error))?;
        Ok((opened.into(), IndexKeys::sealed_by(&stored)))
    }

    /// Reads every index object.
    pub fn index_objects(&self) -> Result<IndexObjects, RepositoryError> {
        let mut found = IndexObjects::default();
        for (key, read) in self.index_objects_by_key()? {
            match read {
                Ok(packs) => found.packs.extend(packs),
                Err(error) => found.damaged.push((key, error)),
            }
        }
        Ok(found)
    }

    /// Every index object that is there, with its packs or what is wrong with it.
    pub fn index_objects_by_key(&self) -> Result<Vec<IndexObject>, RepositoryError> {
        let mut listing = 1;
        loop {
            let objects = self.inner.store.list("index/")?.into_iter();
            let keys: Vec<_> = objects
                .map(|object| object.key)
                .filter(|key| key.ends_with(self.index_end()))
                .collect();
            let mut found = Vec::with_capacity(keys.len());
            let mut vanished = false;
            for (key, read) in in_parallel(&keys, |key| self.index_object(key)) {
                match read {
                    Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::NotFound => {
                        vanished = true;
                    }
                    Err(RepositoryError::Store(error)) if error.kind() != ErrorKind::Corrupt => {
                        return Err(error.into());
                    }
                    read => found.push((key, read)),
                }
            }
            // A prune stores what stays of it before it removes an object. To miss that would mean to store all of it
            // again.
            if !vanished || listing == INDEX_LISTINGS_MAX {
                return Ok(found);
            }
            listing += 1;
        }
    }

    fn index_object(&self, key: &str) -> Result<Vec<IndexedPack>, RepositoryError> {
        let (bytes, sealed_by) = match &self.inner.sealing {
            None => (self.inner.store.get(key, INDEX_BYTES_MAX)?, None),
            Some(sealing) => {
                self.get_sealed(sealing, index_key::Kind::Index, key, INDEX_BYTES_MAX)?
            }
        };
        if key != self.index_object_key(&bytes) {
            return Err(RepositoryError::Damaged(key.to_owned()));
        }
        let mut packs =
            index::decode(&bytes).map_err(|error| RepositoryError::Index(key.to_owned(), error))?;
        packs.iter_mut().for_each(|pack| pack.sealed_by = sealed_by);
        Ok(packs)
    }

    /// The packs that marks name: a writer treats them as absent.
    pub fn marked_packs(&self) -> Result<HashSet<PackId>, RepositoryError> {
        let marks = self.read_marks()?;
        Ok(marks.into_iter().flat_map(|(mark, _)| mark.packs).collect())
    }

    /// The marks, for who deletes by them: one that is not as it was written is refused.
    pub fn marks(&self) -> Result<Vec<Mark>, RepositoryError> {
        let marks = self.read_marks()?.into_iter();
        let whole =
            marks.map(
                |(mark, is_whole)| {
                    if is_whole { Ok(mark) } else { Err(RepositoryError::Damaged(mark.key)) }
                },
            );
        whole.collect()
    }

    fn read_marks(&self) -> Result<Vec<(Mark, bool)>, RepositoryError> {
        let mut marks = Vec::new();
        let objects = self.inner.store.list(mark::PREFIX)?;
        for object in objects.into_iter().filter(|object| mark::is_mark(&object.key)) {
            let bytes = match self.inner.store.get(&object.key, mark::BYTES_MAX) {
                Ok(bytes) => bytes,
                // Its prune has ended since the listing.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error.into()),
            };
            let packs = mark::decode(&bytes)
                .map_err(|error| RepositoryError::Mark(object.key.clone(), error))?;
            let is_whole = mark::is_whole(&object.key, &bytes, &self.inner.key);
            marks.push((Mark { key: object.key, modified: object.modified, packs }, is_whole));
        }
        Ok(marks)
    }

    /// What a writer may refer to: all indexed chunks but those of packs that are marked, not there, or encrypted for others
    /// than the recipients of today. Damaged index
    /// objects are returned too: what only they know is stored again.
    pub fn index_for_writing(&self) -> Result<(Index, IndexObjects), RepositoryError> {
        let mut absent = self.marked_packs()?;
        let mut objects = self.index_objects()?;
        if let Some(sealing) = &self.inner.sealing {
            objects
                .packs
                .retain(|pack| pack.sealed_by.is_some_and(|id| sealing.index.is_of_epoch(id)));
        }
        // What an index names was stored before it: listed behind it, a pack that is missing is gone.
        let stored = self.stored_packs()?;
        let gone = objects.packs.iter().map(|pack| pack.id).filter(|id| !stored.contains_key(id));
        absent.extend(gone);
        let index = Index::new(std::mem::take(&mut objects.packs), &absent);
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
        let named: HashSet<_> =
            snapshots.into_iter().flat_map(|snapshot| &snapshot.packs).copied().collect();
        let mut missing: Vec<_> =
            named.iter().filter(|pack| !indexed.contains(pack)).copied().collect();
        missing.sort_unstable();
        let mut unreadable = HashMap::new();
        for (id, read) in in_parallel(&missing, |pack| self.indexed_pack(pack)) {
            match read {
                Ok(pack) => objects.packs.push(pack),
                Err(error) => {
                    unreadable.insert(id, error);
                }
            }
        }
        // Of several places of a chunk the one counts that no prune takes away.
        objects.packs.sort_by_key(|pack| !named.contains(&pack.id));
        (Index::new(objects.packs, &HashSet::new()), unreadable)
    }

    fn indexed_pack(&self, id: &PackId) -> Result<IndexedPack, RepositoryError> {
        let stored = self.stored_pack(id)?;
        let bytes = stored.len() as u64;
        let content = self.open_content(id, stored)?;
        let index = PackIndex::of_pack(&content)
            .map_err(|error| RepositoryError::Pack(self.pack_key(id), error))?;
        Ok(IndexedPack { id: *id, bytes, index, sealed_by: None })
    }

    /// Commits a backup.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<SnapshotName, RepositoryError> {
        let sealed = snapshot.seal(&self.inner.key, self.is_encrypted());
        let (name, bytes) = sealed
            .map_err(|error| RepositoryError::Snapshot("the new snapshot".to_owned(), error))?;
        self.put_document(index_key::Kind::Snapshot, &name.key(), bytes)?;
        Ok(name)
    }

    /// Names of all snapshots, oldest first.
    pub fn snapshot_names(&self) -> Result<Vec<SnapshotName>, RepositoryError> {
        Ok(self.snapshot_keys()?.0)
    }

    /// Names of all snapshots, oldest first, and the keys beside them that are no such name.
    pub fn snapshot_keys(&self) -> Result<(Vec<SnapshotName>, Vec<String>), RepositoryError> {
        let (mut names, mut strangers) = (Vec::new(), Vec::new());
        for object in self.inner.store.list("snapshots/")? {
            match SnapshotName::from_key(&object.key) {
                Some(name) if name.sealed == self.is_encrypted() => names.push(name),
                _ => strangers.push(object.key),
            }
        }
        Ok((names, strangers))
    }

    /// Whether the store lists a snapshot now.
    pub fn is_listed(&self, name: &SnapshotName) -> Result<bool, RepositoryError> {
        let key = name.key();
        Ok(self.inner.store.list(&key)?.iter().any(|object| object.key == key))
    }

    /// One snapshot.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, RepositoryError> {
        let bytes =
            self.get_document(index_key::Kind::Snapshot, &name.key(), SNAPSHOT_BYTES_MAX)?;
        Snapshot::open(name, &bytes, &self.inner.key)
            .map_err(|error| RepositoryError::Snapshot(name.key(), error))
    }

    /// All snapshots, oldest first, each readable or with its problem.
    pub fn snapshots(&self) -> Result<Vec<ListedSnapshot>, RepositoryError> {
        Ok(self.snapshots_of(&self.snapshot_names()?))
    }

    /// The snapshots of these names, each readable or with its problem.
    #[must_use]
    pub fn snapshots_of(&self, names: &[SnapshotName]) -> Vec<ListedSnapshot> {
        in_parallel(names, |name| self.snapshot(name))
    }

    /// The one snapshot a person meant. Damaged and failed ones are never `latest`.
    pub fn select(&self, selector: &Selector) -> Result<(SnapshotName, Snapshot), RepositoryError> {
        if let Selector::Prefix(_) = selector {
            let name = self.select_name(selector)?;
            let snapshot = self.snapshot(&name)?;
            return Ok((name, snapshot));
        }
        let none = || RepositoryError::NoSnapshot(selector.clone(), self.place());
        let names = self.snapshot_names()?;
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

    /// The name of the one snapshot a person meant; the document of a prefix need not be readable.
    pub fn select_name(&self, selector: &Selector) -> Result<SnapshotName, RepositoryError> {
        let Selector::Prefix(prefix) = selector else { return Ok(self.select(selector)?.0) };
        let names = self.snapshot_names()?.into_iter();
        let mut fitting: Vec<_> =
            names.filter(|name| name.id.to_string().starts_with(prefix)).collect();
        let name = fitting
            .pop()
            .ok_or_else(|| RepositoryError::NoSnapshot(selector.clone(), self.place()))?;
        if fitting.is_empty() {
            Ok(name)
        } else {
            Err(RepositoryError::Ambiguous(selector.clone(), fitting.len() + 1))
        }
    }

    /// Forgets a snapshot: what it needed stays, and nothing refers to it any more.
    pub fn remove_snapshot(&self, name: &SnapshotName) -> Result<(), RepositoryError> {
        Ok(self.inner.store.delete(&name.key())?)
    }

    /// Deletes packs.
    pub fn remove_packs(&self, packs: &[PackId]) -> Result<(), RepositoryError> {
        let deleted = in_parallel(packs, |pack| self.inner.store.delete(&self.pack_key(pack)));
        deleted.into_iter().try_for_each(|(_, outcome)| Ok(outcome?))
    }

    /// Removes an index object.
    pub fn remove_index_object(&self, key: &str) -> Result<(), RepositoryError> {
        Ok(self.inner.store.delete(key)?)
    }

    /// Removes a mark none of whose packs is in the store any more.
    pub fn remove_mark(&self, key: &str) -> Result<(), RepositoryError> {
        Ok(self.inner.store.delete(key)?)
    }

    /// Length in bytes of every pack in the store.
    pub fn stored_packs(&self) -> Result<BTreeMap<PackId, u64>, RepositoryError> {
        let objects = self.pack_objects()?;
        Ok(objects.into_iter().map(|(id, object)| (id, object.size)).collect())
    }

    /// Every pack in the store as it is listed.
    pub fn pack_objects(&self) -> Result<BTreeMap<PackId, ObjectMeta>, RepositoryError> {
        let objects = self.inner.store.list("packs/")?.into_iter();
        let id = |key: &str| {
            let key = if self.is_encrypted() { key.strip_suffix(AGE)? } else { key };
            PackId::from_key(key)
        };
        Ok(objects.filter_map(|object| Some((id(&object.key)?, object))).collect())
    }
}

impl From<&Pack> for IndexedPack {
    fn from(pack: &Pack) -> Self {
        Self {
            id: pack.id,
            bytes: pack.bytes.len() as u64,
            index: pack.index.clone(),
            sealed_by: None,
        }
    }
}

/// Refuses a place where something is, and makes one where nothing is.
fn refuse_occupied(store: &Store) -> Result<(), RepositoryError> {
    let place = store.objects().location().to_string();
    store.create_root()?;
    match store.get(FORMAT_KEY, FORMAT_BYTES_MAX) {
        Ok(_) => return Err(RepositoryError::Exists(place)),
        Err(error) if error.kind() == ErrorKind::NotFound => (),
        Err(error) => return Err(error.into()),
    }
    if store.list("")?.is_empty() { Ok(()) } else { Err(RepositoryError::Occupied(place)) }
}

impl FormatFile {
    /// That of a new repository, without keys.
    fn new(now: jiff::Timestamp) -> Result<Self, RepositoryError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(RepositoryError::Random)?;
        Ok(Self {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION,
            id: crate::chunk::ChunkId(id).to_string(),
            created: now,
            features: Features::default(),
            chunker: ChunkerParams::default(),
            hash: HashParams { algorithm: HASH_NAME.to_owned(), key: None },
            keys: Vec::new(),
            encryption: None,
            checksum: String::new(),
        })
    }

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

/// A prune has been at work: who writes or deletes must keep to `docs/backup-format.md`, "Marks".
const MARKS: &str = "marks";

/// Features of format 1 this program knows.
const KNOWN_FEATURES: [&str; 2] = [MARKS, encryption::FEATURE];

/// How keys of packs end in an encrypted repository, behind what they are in a clear one.
const AGE: &str = ".age";

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
