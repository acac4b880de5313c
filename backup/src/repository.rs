//! A repository: the objects of `docs/backup-format.md` in one store.

mod encryption;
mod lock;
mod turn;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use chores_common::object::{ErrorKind, ObjectError, ObjectMeta, Retention};
use serde::{Deserialize, Serialize};

use crate::alive::SignOfLife;
use crate::chunk::{ChunkId, ChunkerParams, Cutter, DedupKey, UnusableParams};
use crate::index::{
    self, INDEX_BYTES_MAX, Index, IndexBuilder, IndexError, IndexedPack, KnownPack,
};
use crate::keys::KeyRing;
use crate::keys::content::ContentError;
use crate::keys::index_key::{self, IndexKeyId, IndexKeys, OVERHEAD_BYTES, SealError};
use crate::keys::slot::KeySlot;
use crate::lock::Lock;
use crate::mark::{self, Mark, MarkError};
use crate::moved::{self, Move, MoveError, MoveObject, Moves};
use crate::pack::{PACK_BYTES_MAX, Pack, PackError, PackId, PackIndex};
use crate::snapshot::{SNAPSHOT_BYTES_MAX, Selector, Snapshot, SnapshotError, SnapshotName, State};
use crate::store::{CLOCK_KEY, Store};
use crate::text::shown;
use crate::threads;
use encryption::{EncryptionParams, Sealing};
pub use encryption::{Keep, KeyChange, KeyHolder, KeysError};
pub use lock::probe as probe_locks;
use lock::{Held, Hold, StoreTime};
use turn::{Changer, Turn};

/// The key of the document every repository starts with.
pub const FORMAT_KEY: &str = "repo.json";
/// Longest `repo.json` in bytes.
const FORMAT_BYTES_MAX: u64 = 1 << 20;
/// How often the index is listed again because a prune rewrites it meanwhile.
const INDEX_LISTINGS_MAX: u32 = 4;
/// How often a feature is announced because another change of `repo.json` is made at the same time.
const ANNOUNCEMENTS_MAX: u32 = 8;
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
    /// How long what is saved is kept from being removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<Lock>,
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
    /// It would save what the identity beside it never reads.
    #[error(
        "the private key that was given reads nothing of what is saved to {0} now: give that of one of its recipients, which \
         `backup key list` shows, or none"
    )]
    OtherIdentity(String),
    /// The keys that were given do not open it.
    #[error("{0} cannot be opened")]
    Keys(String, #[source] KeysError),
    /// A sealed document does not open.
    #[error("{0} is unusable")]
    Seal(String, #[source] SealError),
    /// Another run was faster.
    #[error("{FORMAT_KEY} of {0} was changed by another run meanwhile: run it again")]
    Raced(String),
    /// Another run is about to change it.
    #[error(
        "{FORMAT_KEY} of {0} is being changed by another run: run it again when that has ended; one that was killed is not waited for \
         after {minutes} minutes",
        minutes = turn::SILENCE_MAX.as_secs() / 60
    )]
    Busy(String),
    /// Prunes move what snapshots need while it is looked for.
    #[error(
        "prunes of {0} are at work and what its snapshots need is moved meanwhile: run it again"
    )]
    Moving(String),
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
    /// A list of moves is unusable.
    #[error("{0} is unusable")]
    Move(String, #[source] MoveError),
    /// No snapshot fits.
    #[error("no snapshot matches `{0}` in {1}: `backup snapshots` lists them")]
    NoSnapshot(Selector, String),
    /// Several snapshots fit.
    #[error("`{0}` fits {1} snapshots: give more digits")]
    Ambiguous(Selector, usize),
    /// It asks for locks where there are none.
    #[error(
        "{0} asks for locks, which only a bucket of S3 has: it was copied from one; `backup lock off` lets it be written to without"
    )]
    NoLocks(String),
    /// Locks were asked for where there are none.
    #[error("{0} cannot be locked: only a bucket of S3 has Object Lock")]
    NoBucket(String),
    /// The store does not do what locks need.
    #[error("objects cannot be locked in {place}: {problem}")]
    Unlockable {
        /// Where.
        place: String,
        /// What was found.
        problem: String,
    },
    /// Locks of this kind stay as they are.
    #[error(
        "what is saved in {0} is locked in governance mode, which compliance cannot take the place of: make a new repository with \
         `backup init --lock` and copy into it with `backup copy`"
    )]
    Softer(String),
    /// What a snapshot needs cannot be locked as long as the snapshot.
    #[error(
        "{count} objects of this backup cannot be locked as long as it would be, so it was not committed (it takes \
         s3:ListBucketVersions, s3:GetObjectRetention and s3:PutObjectRetention)"
    )]
    Unlocked {
        /// How many.
        count: usize,
        /// What the store said of the first.
        #[source]
        source: ObjectError,
    },
    /// What a snapshot needs is not there any more.
    #[error(
        "{0} objects that this backup needs are gone, so it was not committed: run it again, and `backup check`"
    )]
    Gone(usize),
    /// The store does not tell when it wrote an object.
    #[error("{0} does not tell the time of its objects, and nothing can be locked without")]
    NoClock(String),
    /// The store failed to say whether a snapshot was written. Only [`Repository::put_snapshot`] says this.
    #[error("whether snapshot {short} was written is not known", short = .0.id.short())]
    Unanswered(Box<SnapshotName>, #[source] ObjectError),
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
    /// What readers follow.
    moves: Mutex<KnownMoves>,
    /// The store's time, where locks need it.
    clock: Mutex<Option<StoreTime>>,
    /// Until when objects were seen to be locked, so that nobody asks for each of them at every snapshot of a run.
    held: Mutex<HashMap<Held, SystemTime>>,
}

/// Where content went, as far as it was looked at.
#[derive(Debug)]
struct KnownMoves {
    /// Whether anything was ever moved here.
    any: bool,
    read: Option<Arc<Followed>>,
}

/// Where readers look.
#[derive(Debug, Default)]
struct Followed {
    moves: Moves,
    /// Packs that were there behind the moves; not looked at where nothing was moved.
    there: HashSet<PackId>,
}

/// The index objects as found: what could be read, and what could not.
#[derive(Debug, Default)]
pub struct IndexObjects {
    /// The readable ones' packs.
    pub packs: Vec<IndexedPack>,
    /// The others.
    pub damaged: DamagedObjects,
}

/// Keys of index objects that cannot be read, and why.
pub type DamagedObjects = Vec<(String, RepositoryError)>;

/// Packs that cannot be read, and why.
pub type UnreadablePacks = HashMap<PackId, RepositoryError>;

/// Key of an object, and what is made of it or its problem.
type Keyed<R> = (String, Result<R, RepositoryError>);

/// Key of an index object, and its packs or its problem.
pub type IndexObject = (String, Result<Vec<IndexedPack>, RepositoryError>);

/// Key of a list of moves, and what it says or its problem.
pub type ListedMoves = (String, Result<MoveObject, RepositoryError>);

/// A snapshot of a listing: readable, or with its problem.
pub type ListedSnapshot = (SnapshotName, Result<Snapshot, RepositoryError>);

impl Repository {
    /// Makes a new clear repository in an empty place.
    pub fn init(store: Store, now: jiff::Timestamp) -> Result<Self, RepositoryError> {
        Self::init_locked(store, now, None)
    }

    /// The same, which locks what is saved from its first object on.
    pub fn init_locked(
        store: Store,
        now: jiff::Timestamp,
        lock: Option<Lock>,
    ) -> Result<Self, RepositoryError> {
        refuse_occupied(&store)?;
        let mut format = FormatFile::new(now)?;
        format.set_lock(lock);
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
        let retention = match format.lock {
            Some(lock) => Some(lock.of_packs(store_clock(&store)?)),
            None => None,
        };
        // Two hosts may have come this far at once, of which the store lets one through.
        match put_new(&store, FORMAT_KEY, format.to_bytes(), retention) {
            // Who was second may be we ourselves, of whose first attempt no answer came: the document tells.
            Ok(_) => {}
            // Nor do all stores know the condition: there, another host may be seen.
            Err(error) if error.kind() == ErrorKind::Unconditional => {
                match store.get(FORMAT_KEY, FORMAT_BYTES_MAX) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        put(&store, FORMAT_KEY, format.to_bytes(), retention)?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            Err(error) => return Err(error.into()),
        }
        let place = store.objects().location().to_string();
        match Self::open_with(store, ring) {
            Ok(opened) if opened.inner.id == format.id => Ok(opened),
            Ok(_)
            | Err(
                RepositoryError::Keys(..)
                | RepositoryError::Encrypted(_)
                | RepositoryError::Clear(_),
            ) => Err(RepositoryError::Exists(place)),
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
        let is_directory = store.objects().location().has_directories();
        let bytes =
            store.get(FORMAT_KEY, FORMAT_BYTES_MAX).map_err(|error| match error.kind() {
                ErrorKind::NotFound => RepositoryError::Missing(place.clone()),
                // `init` makes a directory; a bucket it does not.
                ErrorKind::NoBucket if is_directory => RepositoryError::Missing(place.clone()),
                _ => error.into(),
            })?;
        let damaged = |problem: String| RepositoryError::Format { place: place.clone(), problem };
        // What serde says repeats names of fields.
        let unreadable = |error: serde_json::Error| damaged(shown(&error.to_string()));
        let probe: FormatProbe = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if probe.format != FORMAT_NAME {
            return Err(damaged(format!("its format is not {FORMAT_NAME}")));
        }
        if probe.version != FORMAT_VERSION {
            let feature = format!("format {}", probe.version);
            return Err(RepositoryError::Feature { place, act: "use", feature });
        }
        refuse_unknown(&probe.features, Operation::Read, &place)?;
        let format: FormatFile = serde_json::from_slice(&bytes).map_err(unreadable)?;
        if format.checksum() != format.checksum {
            return Err(damaged("its checksum does not match".to_owned()));
        }
        // The checksum is of what was understood; this finds what was passed over.
        if format.to_bytes() != bytes {
            return Err(damaged("it is not written as this format prescribes".to_owned()));
        }
        // It is shown, and caches are named after it.
        if format.id.parse::<ChunkId>().is_err() {
            return Err(damaged("it has no usable id".to_owned()));
        }
        if format.hash.algorithm != HASH_NAME {
            let feature = format!("hash {}", shown(&format.hash.algorithm));
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
        if format.features.lists().iter().any(|list| has(list, LOCK) != format.lock.is_some()) {
            return Err(damaged("it is locked in part".to_owned()));
        }
        // Nobody takes a lock back that is for a thousand years.
        if format.lock.is_some_and(|lock| !lock.is_sane()) {
            return Err(damaged("it asks for locks of no sensible time".to_owned()));
        }
        let cutter = Cutter::new(&format.chunker)
            .map_err(|error| RepositoryError::Chunker(place.clone(), error))?;
        let id = format.id.clone();
        let any = format.features.read.iter().any(|feature| feature == MOVED);
        let moves = Mutex::new(KnownMoves { any, read: None });
        let (clock, held) = (Mutex::default(), Mutex::default());
        let inner = Inner { store, id, key, cutter, format, alive, sealing, moves, clock, held };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Refuses `operation` when the repository has a feature this program does not know.
    pub fn permit(&self, operation: Operation) -> Result<(), RepositoryError> {
        refuse_unknown(&self.inner.format.features, operation, &self.place())?;
        if operation != Operation::Read && self.lock().is_some() {
            self.require_bucket()?;
        }
        self.require_keys(operation)
    }

    /// Refuses to save without the key file, and beside an identity that is not that of a recipient: who gives one believes that
    /// it restores what is saved.
    fn require_keys(&self, operation: Operation) -> Result<(), RepositoryError> {
        let sealing = self.inner.sealing.as_ref().filter(|_| operation == Operation::Write);
        let Some(sealing) = sealing else { return Ok(()) };
        if sealing.recipients.is_none() {
            Err(RepositoryError::NoKeyFile(self.place()))
        } else if sealing.reads_the_past_alone() {
            Err(RepositoryError::OtherIdentity(self.place()))
        } else {
            Ok(())
        }
    }

    /// Says in `repo.json` that packs are marked here, so that programs which do not know what that asks of them no
    /// longer write. Several at once write the same bytes.
    pub fn announce_marks(&self) -> Result<(), RepositoryError> {
        self.announce(MARKS, |features| [&mut features.write, &mut features.delete])
    }

    /// Says in `repo.json` that content is moved here, so that programs which do not know where it went neither read nor
    /// delete.
    pub fn announce_moves(&self) -> Result<(), RepositoryError> {
        self.announce(MOVED, |features| [&mut features.read, &mut features.delete])?;
        self.known_moves().any = true;
        Ok(())
    }

    fn announce(
        &self,
        name: &str,
        lists: impl Fn(&mut Features) -> [&mut Vec<String>; 2],
    ) -> Result<(), RepositoryError> {
        let mut attempt = 1;
        loop {
            // Its keys are those of the document that is changed; ours may be older.
            let again = self.again()?;
            let found = &again.inner.format;
            let mut announced = found.clone();
            let mut is_new = false;
            for list in lists(&mut announced.features) {
                if !list.iter().any(|feature| feature == name) {
                    list.push(name.to_owned());
                    is_new = true;
                }
            }
            if !is_new {
                return Ok(());
            }
            again.sign(&mut announced);
            match self.replace_format(found, &announced, Changer::Prune) {
                // Another prune announces something else.
                Err(RepositoryError::Raced(_)) if attempt < ANNOUNCEMENTS_MAX => attempt += 1,
                replaced => {
                    replaced?;
                    return self.again()?.permit(Operation::Delete);
                }
            }
        }
    }

    /// Writes a changed document in the place of `found`, and only there: two that change different things would undo each
    /// other.
    fn replace_format(
        &self,
        found: &FormatFile,
        changed: &FormatFile,
        by: Changer,
    ) -> Result<(), RepositoryError> {
        let turn = Turn::take(&self.inner.store, by)?;
        let turn = turn.ok_or_else(|| RepositoryError::Busy(self.place()))?;
        let replaced = self.replace_in_turn(found, changed, &turn);
        turn.end();
        replaced
    }

    fn replace_in_turn(
        &self,
        found: &FormatFile,
        changed: &FormatFile,
        turn: &Turn<'_>,
    ) -> Result<(), RepositoryError> {
        let store = &self.inner.store;
        let (before, after) = (found.to_bytes(), changed.to_bytes());
        let now = store.get(FORMAT_KEY, FORMAT_BYTES_MAX)?;
        if now != before && now != after {
            return Err(RepositoryError::Raced(self.place()));
        }
        let retention = match changed.lock {
            Some(lock) => Some(lock.of_packs(self.store_time()?)),
            None => None,
        };
        if !turn.is_ours()? {
            return Err(RepositoryError::Busy(self.place()));
        }
        put(store, FORMAT_KEY, after.clone(), retention)?;
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
        put(&self.inner.store, &self.pack_key(pack), bytes.clone(), self.retention_of_packs()?)?;
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
        put(&self.inner.store, &key, sealed, self.retention_of_packs()?)?;
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
        let retention = match kind {
            index_key::Kind::Index | index_key::Kind::Moved | index_key::Kind::Snapshot => {
                self.retention_of_packs()?
            }
            // Nothing depends on what a drill found.
            index_key::Kind::Drill => None,
        };
        self.put_sealed(kind, key, document, retention)
    }

    /// Stores a document with this lock.
    fn put_sealed(
        &self,
        kind: index_key::Kind,
        key: &str,
        document: Vec<u8>,
        retention: Option<Retention>,
    ) -> Result<u64, RepositoryError> {
        let stored = match &self.inner.sealing {
            None => document,
            Some(sealing) => sealing
                .index
                .seal(kind, &self.inner.id, key, &document)
                .map_err(|error| RepositoryError::Seal(key.to_owned(), error))?,
        };
        let length = stored.len() as u64;
        put(&self.inner.store, key, stored, retention)?;
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
        self.each_index_object(|_| {}, |_, packs| packs)
    }

    /// What `take` makes of every index object that is there, from its number and packs, or what is wrong with it. `expect` is told
    /// before how many bytes they have. Both may be called again when objects have vanished meanwhile.
    fn each_index_object<R: Send>(
        &self,
        expect: impl Fn(u64),
        take: impl Fn(usize, Vec<IndexedPack>) -> R + Sync,
    ) -> Result<Vec<Keyed<R>>, RepositoryError> {
        let mut listing = 1;
        loop {
            let mut objects = self.inner.store.list("index/")?;
            objects.retain(|object| object.key.ends_with(self.index_end()));
            expect(objects.iter().map(|object| object.size).fold(0, u64::saturating_add));
            let keys: Vec<_> = objects.into_iter().map(|object| object.key).enumerate().collect();
            let mut found = Vec::with_capacity(keys.len());
            let mut vanished = false;
            let read = |(number, key): &(usize, String)| {
                self.index_object(key).map(|packs| take(*number, packs))
            };
            for ((_, key), read) in in_parallel(&keys, read) {
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

    /// Joins all index objects, with those of their packs that are `wanted`; and keys and problems of those that cannot be read.
    fn joined_index(
        &self,
        wanted: impl Fn(&IndexedPack) -> bool + Sync,
    ) -> Result<(IndexBuilder, DamagedObjects), RepositoryError> {
        let builder = Mutex::new(IndexBuilder::default());
        let lock = || builder.lock().unwrap_or_else(PoisonError::into_inner);
        let read = self.each_index_object(
            |bytes| lock().expect(bytes),
            |number, packs| lock().add(number, packs.into_iter().filter(&wanted)),
        )?;
        let damaged = read.into_iter().filter_map(|(key, read)| Some((key, read.err()?))).collect();
        Ok((builder.into_inner().unwrap_or_else(PoisonError::into_inner), damaged))
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
    pub fn index_for_writing(&self) -> Result<(Index, DamagedObjects), RepositoryError> {
        let marked = self.marked_packs()?;
        let (joined, damaged) = self.joined_index(|pack| self.is_for_us(pack))?;
        // What an index names was stored before it: listed behind it, a pack that is missing is gone.
        let stored = self.stored_packs()?;
        // One of another length was damaged, or written over.
        let stays = |pack: &KnownPack| {
            stored.get(&pack.id) == Some(&pack.bytes) && !marked.contains(&pack.id)
        };
        Ok((joined.finish(|pack| stays(pack).then_some(0)), damaged))
    }

    /// Whether a pack is encrypted for the recipients of today, where this repository is encrypted at all.
    #[must_use]
    pub fn is_for_us(&self, pack: &IndexedPack) -> bool {
        self.inner
            .sealing
            .as_ref()
            .is_none_or(|sealing| pack.sealed_by.is_some_and(|id| sealing.index.is_of_epoch(id)))
    }

    /// What a reader of `snapshots` needs: all indexed chunks, and the trailers of those packs of the
    /// snapshots that no readable index object names. Packs that cannot be read are returned.
    pub fn index_for_reading<'a>(
        &self,
        snapshots: impl IntoIterator<Item = &'a Snapshot>,
    ) -> Result<(Index, UnreadablePacks), RepositoryError> {
        let (joined, _) = self.joined_index(|_| true)?;
        Ok(self.complete(joined, snapshots))
    }

    /// As [`Self::index_for_reading`], with the packs that index objects tell of.
    pub fn index_and_told<'a>(
        &self,
        snapshots: impl IntoIterator<Item = &'a Snapshot>,
    ) -> Result<(Index, UnreadablePacks, HashSet<PackId>), RepositoryError> {
        let (joined, _) = self.joined_index(|_| true)?;
        let told = joined.known().clone();
        let (index, unreadable) = self.complete(joined, snapshots);
        Ok((index, unreadable, told))
    }

    /// As [`Self::index_for_reading`], from index objects that were read before.
    pub fn complete_index<'a>(
        &self,
        objects: IndexObjects,
        snapshots: impl IntoIterator<Item = &'a Snapshot>,
    ) -> (Index, UnreadablePacks) {
        let mut joined = IndexBuilder::default();
        joined.add(0, objects.packs);
        self.complete(joined, snapshots)
    }

    fn complete<'a>(
        &self,
        mut joined: IndexBuilder,
        snapshots: impl IntoIterator<Item = &'a Snapshot>,
    ) -> (Index, UnreadablePacks) {
        let named: HashSet<_> =
            snapshots.into_iter().flat_map(|snapshot| &snapshot.packs).copied().collect();
        let mut missing: Vec<_> = named.difference(joined.known()).copied().collect();
        missing.sort_unstable();
        let mut unreadable = HashMap::new();
        for (id, read) in in_parallel(&missing, |pack| self.indexed_pack(pack)) {
            match read {
                // Behind those of all objects.
                Ok(pack) => joined.add(usize::MAX, [pack]),
                Err(error) => {
                    unreadable.insert(id, error);
                }
            }
        }
        // Of several places of a chunk the one counts that no prune takes away.
        (joined.finish(|pack| Some(u8::from(!named.contains(&pack.id)))), unreadable)
    }

    fn indexed_pack(&self, id: &PackId) -> Result<IndexedPack, RepositoryError> {
        let stored = self.stored_pack(id)?;
        let bytes = stored.len() as u64;
        let content = self.open_content(id, stored)?;
        let index = PackIndex::of_pack(&content)
            .map_err(|error| RepositoryError::Pack(self.pack_key(id), error))?;
        Ok(IndexedPack { id: *id, bytes, index, sealed_by: None })
    }

    /// Commits a backup, unless keys were changed meanwhile. Where the repository asks for locks, it is committed only if what the
    /// snapshot needs is locked as long as the snapshot; what is not is locked anew before.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<SnapshotName, RepositoryError> {
        self.put_held(snapshot, || self.hold(&snapshot.packs))
    }

    /// The same, once `hold` has locked what it needs.
    fn put_held(
        &self,
        snapshot: &Snapshot,
        hold: impl FnOnce() -> Result<Option<Hold>, RepositoryError>,
    ) -> Result<SnapshotName, RepositoryError> {
        let hold = hold()?;
        let retention = hold.map(|hold| hold.retention);
        let sealed = snapshot.seal(&self.inner.key, self.is_encrypted());
        let (name, bytes) = sealed
            .map_err(|error| RepositoryError::Snapshot("the new snapshot".to_owned(), error))?;
        // As late as can be: to lock thousands of packs takes minutes.
        self.require_present_keys()?;
        match self.put_sealed(index_key::Kind::Snapshot, &name.key(), bytes, retention) {
            Err(RepositoryError::Store(error)) => {
                return Err(RepositoryError::Unanswered(Box::new(name), error));
            }
            put => put?,
        };
        if let Some(hold) = hold {
            self.hold_snapshot(&name, hold)?;
        }
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

    /// One snapshot, with the packs from which it is read now.
    pub fn snapshot(&self, name: &SnapshotName) -> Result<Snapshot, RepositoryError> {
        let moves = self.followed_moves()?;
        self.document(name).map(|snapshot| follow(name, snapshot, &moves))
    }

    /// One snapshot as it was written.
    fn document(&self, name: &SnapshotName) -> Result<Snapshot, RepositoryError> {
        let bytes =
            self.get_document(index_key::Kind::Snapshot, &name.key(), SNAPSHOT_BYTES_MAX)?;
        Snapshot::open(name, &bytes, &self.inner.key)
            .map_err(|error| RepositoryError::Snapshot(name.key(), error))
    }

    /// All snapshots, oldest first, each readable or with its problem.
    pub fn snapshots(&self) -> Result<Vec<ListedSnapshot>, RepositoryError> {
        let documents = self.documents()?;
        // Behind the documents, so that what was moved in between is followed.
        self.known_moves().read = None;
        let moves = self.followed_moves()?;
        let followed = |(name, read): ListedSnapshot| {
            let read = read.map(|snapshot| follow(&name, snapshot, &moves));
            (name, read)
        };
        Ok(documents.into_iter().map(followed).collect())
    }

    /// What `map` makes of each snapshot, oldest first, with the packs from which it is read now: no two documents are kept at once
    /// by a thread that fetches.
    pub fn snapshots_as<R: Send>(
        &self,
        map: impl Fn(&SnapshotName, Snapshot) -> R + Sync,
    ) -> Result<Vec<Result<R, RepositoryError>>, RepositoryError> {
        let names = self.snapshot_names()?;
        // Behind the list, so that what was moved in between is followed.
        self.known_moves().read = None;
        let moves = self.followed_moves()?;
        let mapped = in_parallel(&names, |name| {
            self.document(name).map(|snapshot| map(name, follow(name, snapshot, &moves)))
        });
        Ok(mapped.into_iter().map(|(_, read)| read).collect())
    }

    /// All snapshots as they were written, oldest first, each readable or with its problem.
    pub fn documents(&self) -> Result<Vec<ListedSnapshot>, RepositoryError> {
        Ok(self.documents_of(&self.snapshot_names()?))
    }

    /// The snapshots of these names as they were written, each readable or with its problem.
    #[must_use]
    pub fn documents_of(&self, names: &[SnapshotName]) -> Vec<ListedSnapshot> {
        self.documents_as(names, |snapshot| snapshot)
    }

    /// What `map` makes of the snapshots of these names as they were written, each or what is wrong with it.
    pub fn documents_as<R: Send>(
        &self,
        names: &[SnapshotName],
        map: impl Fn(Snapshot) -> R + Sync,
    ) -> Vec<(SnapshotName, Result<R, RepositoryError>)> {
        in_parallel(names, |name| self.document(name).map(&map))
    }

    /// Where content went, for who deletes because of it: a list that cannot be read is refused.
    pub fn moves(&self) -> Result<Moves, RepositoryError> {
        let (listed, is_complete) = self.listed_moves()?;
        // Who deletes must know all.
        if !is_complete {
            return Err(RepositoryError::Moving(self.place()));
        }
        Ok(Moves::new(listed.into_iter().map(|(_, read)| read).collect::<Result<_, _>>()?))
    }

    /// Every list of moves that is there, or what is wrong with it. Of those that vanish meanwhile some may be missing.
    pub fn move_objects(&self) -> Result<Vec<ListedMoves>, RepositoryError> {
        Ok(self.listed_moves()?.0)
    }

    /// Lists of moves, and whether none vanished while they were read.
    fn listed_moves(&self) -> Result<(Vec<ListedMoves>, bool), RepositoryError> {
        let sealed = self.is_encrypted();
        let mut listing = 1;
        loop {
            let mut objects = self.inner.store.list(moved::PREFIX)?;
            objects.retain(|object| moved::is_moved(&object.key, sealed));
            let mut found = Vec::with_capacity(objects.len());
            let mut vanished = false;
            for (object, read) in in_parallel(&objects, |object| self.move_object(object)) {
                match read {
                    Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::NotFound => {
                        vanished = true;
                    }
                    Err(RepositoryError::Store(error)) if error.kind() != ErrorKind::Corrupt => {
                        return Err(error.into());
                    }
                    read => found.push((object.key, read)),
                }
            }
            // A prune that joins several stores the one that says the same before it removes them.
            if !vanished || listing == INDEX_LISTINGS_MAX {
                return Ok((found, !vanished));
            }
            listing += 1;
        }
    }

    fn move_object(&self, object: &ObjectMeta) -> Result<MoveObject, RepositoryError> {
        let key = object.key.clone();
        let bytes = self.get_document(index_key::Kind::Moved, &key, moved::BYTES_MAX)?;
        if !moved::is_whole(&key, &bytes, &self.inner.key) {
            return Err(RepositoryError::Damaged(key));
        }
        let moves =
            moved::decode(&bytes).map_err(|error| RepositoryError::Move(key.clone(), error))?;
        Ok(MoveObject { key, modified: object.modified, moves })
    }

    /// Says where content went, and returns the key of the document. [`Self::announce_moves`] comes first.
    pub fn put_moves(&self, moves: &[Move]) -> Result<String, RepositoryError> {
        let bytes = moved::encode(moves);
        let now = jiff::Timestamp::now();
        let key = moved::key_of(&bytes, now, self.is_encrypted(), &self.inner.key);
        self.known_moves().read = None;
        self.put_document(index_key::Kind::Moved, &key, bytes)?;
        Ok(key)
    }

    /// Removes a list of moves that another one repeats, or that no snapshot needs.
    pub fn remove_moves(&self, key: &str) -> Result<(), RepositoryError> {
        self.known_moves().read = None;
        Ok(self.inner.store.delete(key)?)
    }

    /// Where readers look. A list that cannot be read is passed over: they find chunks by the indexes.
    fn followed_moves(&self) -> Result<Arc<Followed>, RepositoryError> {
        let known = {
            let known = self.known_moves();
            if known.any { known.read.clone() } else { Some(Arc::default()) }
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let sound = |(key, read): ListedMoves| {
            let warn = |error: &RepositoryError| {
                tracing::warn!("{key} is left aside: {}", chores_common::exit::chain(error));
            };
            read.inspect_err(warn).ok()
        };
        let moves = Moves::new(self.move_objects()?.into_iter().filter_map(sound).collect());
        let there = if moves.is_empty() {
            HashSet::new()
        } else {
            self.stored_packs()?.into_keys().collect()
        };
        let read = Arc::new(Followed { moves, there });
        self.known_moves().read = Some(read.clone());
        Ok(read)
    }

    /// Has where content went looked at anew by the next who asks: others may have moved it, also where nothing ever was before.
    pub fn forget_moves(&self) {
        *self.known_moves() = KnownMoves { any: true, read: None };
    }

    /// What the index objects that are there are called.
    pub fn index_names(&self) -> Result<Vec<String>, RepositoryError> {
        let objects = self.inner.store.list("index/")?.into_iter().map(|object| object.key);
        Ok(objects.filter(|key| key.ends_with(self.index_end())).collect())
    }

    fn known_moves(&self) -> std::sync::MutexGuard<'_, KnownMoves> {
        self.inner.moves.lock().unwrap_or_else(PoisonError::into_inner)
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

    /// Deletes packs. Returned are those that a store of locks does not let go.
    pub fn remove_packs(&self, packs: &[PackId]) -> Result<Vec<PackId>, RepositoryError> {
        let mut refused = Vec::new();
        for (id, outcome) in
            in_parallel(packs, |pack| self.inner.store.delete(&self.pack_key(pack)))
        {
            match outcome {
                Err(error) if error.kind() == ErrorKind::Denied && self.lock().is_some() => {
                    tracing::warn!("{}", chores_common::exit::chain(&error));
                    refused.push(id);
                }
                outcome => outcome?,
            }
        }
        Ok(refused)
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
        Ok(objects.filter_map(|object| Some((self.pack_of_key(&object.key)?, object))).collect())
    }

    /// The pack whose object has this key.
    fn pack_of_key(&self, key: &str) -> Option<PackId> {
        PackId::from_key(if self.is_encrypted() { key.strip_suffix(AGE)? } else { key })
    }
}

/// The snapshot with the packs from which it is read.
fn follow(name: &SnapshotName, mut snapshot: Snapshot, followed: &Followed) -> Snapshot {
    let Followed { moves, there } = followed;
    if !moves.is_empty() {
        snapshot.packs = moves.followed(name.id, &snapshot.packs, &|id| there.contains(id));
    }
    snapshot
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
    let objects = store.list("")?;
    // An `init` that was killed before it wrote its document has asked for the store's time, and tried locks.
    let is_of_init = |key: &str| key == CLOCK_KEY || lock::is_probe(key);
    if objects.iter().any(|object| object.key == FORMAT_KEY) {
        // It came between the two questions.
        Err(RepositoryError::Exists(place))
    } else if objects.iter().all(|object| is_of_init(&object.key)) {
        Ok(())
    } else {
        Err(RepositoryError::Occupied(place))
    }
}

impl FormatFile {
    /// That of a new repository, without keys.
    fn new(now: jiff::Timestamp) -> Result<Self, RepositoryError> {
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(RepositoryError::Random)?;
        Ok(Self {
            format: FORMAT_NAME.to_owned(),
            version: FORMAT_VERSION,
            id: ChunkId(id).to_string(),
            created: now,
            features: Features::default(),
            chunker: ChunkerParams::default(),
            hash: HashParams { algorithm: HASH_NAME.to_owned(), key: None },
            keys: Vec::new(),
            encryption: None,
            lock: None,
            checksum: String::new(),
        })
    }

    /// Makes it ask for these locks, or for none.
    fn set_lock(&mut self, lock: Option<Lock>) {
        self.lock = lock;
        for list in self.features.lists_mut() {
            list.retain(|feature| feature != LOCK);
            if lock.is_some() {
                list.push(LOCK.to_owned());
            }
        }
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

/// Content was moved: who reads or deletes must keep to `docs/backup-format.md`, "Moves".
const MOVED: &str = "moved";

/// What is saved is locked: who writes must lock it too, see `docs/backup-format.md`, "Locks".
const LOCK: &str = "lock";

/// Features of format 1 this program knows.
const KNOWN_FEATURES: [&str; 4] = [MARKS, MOVED, encryption::FEATURE, LOCK];

/// How keys of packs end in an encrypted repository, behind what they are in a clear one.
const AGE: &str = ".age";

impl Features {
    fn lists(&self) -> [&Vec<String>; 3] {
        [&self.read, &self.write, &self.delete]
    }

    fn lists_mut(&mut self) -> [&mut Vec<String>; 3] {
        [&mut self.read, &mut self.write, &mut self.delete]
    }
}

fn has(list: &[String], feature: &str) -> bool {
    list.iter().any(|listed| listed == feature)
}

/// What time it is to a store.
fn store_clock(store: &Store) -> Result<SystemTime, RepositoryError> {
    let place = || store.objects().location().to_string();
    store.clock()?.ok_or_else(|| RepositoryError::NoClock(place()))
}

/// Writes an object with a lock, where there is one.
fn put(
    store: &Store,
    key: &str,
    bytes: impl Into<Bytes>,
    retention: Option<Retention>,
) -> Result<(), ObjectError> {
    match retention {
        None => store.put(key, bytes),
        Some(retention) => store.put_retained(key, bytes, retention),
    }
}

/// Writes an object where there is none, with a lock where there is one, and says whether it did.
fn put_new(
    store: &Store,
    key: &str,
    bytes: impl Into<Bytes>,
    retention: Option<Retention>,
) -> Result<bool, ObjectError> {
    match retention {
        None => store.put_new(key, bytes),
        Some(retention) => store.put_new_retained(key, bytes, retention),
    }
}

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
            Err(RepositoryError::Feature { place: place.to_owned(), act, feature: shown(feature) })
        }
    }
}

/// Runs `work` over `items` on a few threads and returns the results in order.
pub(crate) fn in_parallel<T: Clone + Sync + Send, R: Send>(
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
