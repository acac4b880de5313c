//! The symmetric key of documents: snapshots, indexes and records of drills.
//!
//! A sealed document says which key sealed it, and is bound to its kind, its repository and its own name: what was swapped,
//! renamed, cut or brought over from elsewhere does not open. Every byte is described in `docs/backup-format.md`, "Sealed
//! documents".

use std::fmt;

use chacha20poly1305::aead::{AeadInPlace, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Key, Nonce, Tag};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;

/// Most keys of a repository: a change of keys adds one.
pub const KEYS_MAX: usize = 128;

const MAGIC: [u8; 8] = *b"CHORESEN";
const VERSION: u8 = 1;
const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// Magic, version, kind, two zero bytes, key id, nonce.
const HEADER_BYTES: usize = 8 + 4 + ID_BYTES + NONCE_BYTES;

/// What sealing adds to a document, in bytes.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;

const ID_BYTES: usize = 4;
const ID_CONTEXT: &str = "chores-backup 2026-11-30 id of an index key";
const FORMAT_CONTEXT: &str = "chores-backup 2026-11-30 authenticator of repo.json";
const CACHE_CONTEXT: &str = "chores-backup 2026-11-30 cache";

/// What a document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An index object.
    Index,
    /// A snapshot.
    Snapshot,
    /// The record of a drill.
    Drill,
    /// A list of moves.
    Moved,
}

impl Kind {
    fn code(self) -> u8 {
        match self {
            Self::Index => 1,
            Self::Snapshot => 2,
            Self::Drill => 3,
            Self::Moved => 4,
        }
    }
}

/// Which key sealed a document: eight hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IndexKeyId([u8; ID_BYTES]);

impl fmt::Display for IndexKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for IndexKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a sealed document does not open.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// The bytes are no sealed document.
    #[error("it is not sealed as repository format 1 prescribes")]
    Format,
    /// Written by a later program.
    #[error("it is sealed in version {0}, this program opens version {VERSION}: use a later one")]
    Version(u8),
    /// A key that is not in the key file.
    #[error(
        "it is sealed with the key {0}, which the key file does not have: take the newest key file"
    )]
    UnknownKey(IndexKeyId),
    /// It was changed.
    #[error(
        "it was damaged, changed, renamed or put in the place of another: its seal does not fit"
    )]
    Seal,
    /// The cipher refused.
    #[error("it is too long to be sealed")]
    TooLong,
    /// No random numbers.
    #[error("the system's random number generator failed")]
    Random(#[source] getrandom::Error),
}

/// One key.
#[derive(Clone, PartialEq, Eq)]
struct IndexKey(Zeroizing<[u8; KEY_BYTES]>);

impl IndexKey {
    fn id(&self) -> IndexKeyId {
        let derived = Zeroizing::new(blake3::derive_key(ID_CONTEXT, self.0.as_slice()));
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(derived.iter()) {
            *to = *from;
        }
        IndexKeyId(id)
    }
}

/// The keys of a repository, the newest first: it seals, all of them open.
///
/// A change of recipients begins a new *epoch* with a new key. What older epochs have stored is encrypted for others than those
/// of today, so who writes refers to none of it: that is told by the key that sealed the index of a pack.
#[derive(Clone, PartialEq, Eq)]
pub struct IndexKeys {
    keys: Vec<IndexKey>,
    /// How many of them, from the newest on, are of this epoch.
    epoch: usize,
}

impl fmt::Debug for IndexKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IndexKeys({})", self.keys.len())
    }
}

impl IndexKeys {
    /// A new one.
    pub fn generate() -> Result<Self, getrandom::Error> {
        Ok(Self { keys: vec![random_key()?], epoch: 1 })
    }

    /// Whether no key can be added: the oldest ones are never dropped, for what they sealed could not be opened any more.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.keys.len() >= KEYS_MAX
    }

    /// These and a new one before them, in the same epoch.
    pub fn rotated(&self) -> Result<Self, getrandom::Error> {
        let mut keys = vec![random_key()?];
        keys.extend(self.keys.iter().cloned());
        Ok(Self { keys, epoch: self.epoch + 1 })
    }

    /// These and a new one before them, which begins an epoch.
    pub fn renewed(&self) -> Result<Self, getrandom::Error> {
        Ok(Self { epoch: 1, ..self.rotated()? })
    }

    /// How many keys, from the newest on, are of this epoch.
    #[must_use]
    pub fn epoch(&self) -> usize {
        self.epoch
    }

    /// Whether what this key sealed is of this epoch.
    #[must_use]
    pub fn is_of_epoch(&self, id: IndexKeyId) -> bool {
        self.keys.iter().take(self.epoch).any(|key| key.id() == id)
    }

    /// Those of texts of 64 hex digits, of which the first `epoch` are of this one; `None` where one is none, or there are none,
    /// too many or not so many.
    #[must_use]
    pub fn from_hex(texts: &[String], epoch: usize) -> Option<Self> {
        if texts.len() > KEYS_MAX || !(1..=texts.len()).contains(&epoch) {
            return None;
        }
        let keys = texts.iter().map(|text| {
            let bytes = blake3::Hash::from_hex(text).ok()?;
            Some(IndexKey(Zeroizing::new(bytes.into())))
        });
        keys.collect::<Option<_>>().map(|keys| Self { keys, epoch })
    }

    /// The reverse of [`Self::from_hex`]. The caller wipes it.
    #[must_use]
    pub fn to_hex(&self) -> Vec<String> {
        let hex = |key: &IndexKey| blake3::Hash::from_bytes(*key.0).to_hex().to_string();
        self.keys.iter().map(hex).collect()
    }

    /// The id of the newest.
    #[must_use]
    pub fn current(&self) -> Option<IndexKeyId> {
        self.keys.first().map(IndexKey::id)
    }

    /// Whether a key with this id, written in hex, is among them.
    #[must_use]
    pub fn knows(&self, id: &str) -> bool {
        self.keys.iter().any(|key| key.id().to_string() == id)
    }

    /// What only who has the newest key can say of `repo.json`: 64 hex digits.
    #[must_use]
    pub fn authenticator(&self, bytes: &[u8]) -> String {
        let key = self.derived(FORMAT_CONTEXT);
        blake3::keyed_hash(&key, bytes).to_hex().to_string()
    }

    /// The key of caches.
    #[must_use]
    pub fn cache_key(&self) -> CacheKey {
        CacheKey(self.derived(CACHE_CONTEXT))
    }

    fn derived(&self, context: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        let newest = self.keys.first().map(|key| key.0.as_slice()).unwrap_or_default();
        Zeroizing::new(blake3::derive_key(context, newest))
    }

    /// Seals a document of the repository `repository` that will have the key `name`, with the newest key.
    pub fn seal(
        &self,
        kind: Kind,
        repository: &str,
        name: &str,
        document: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let newest = self.current().ok_or(SealError::Format)?;
        self.seal_with(newest, kind, repository, name, document)
    }

    /// Which key sealed a document, where it is one.
    #[must_use]
    pub fn sealed_by(sealed: &[u8]) -> Option<IndexKeyId> {
        let id = sealed.strip_prefix(&MAGIC)?.get(4..)?.first_chunk::<ID_BYTES>()?;
        Some(IndexKeyId(*id))
    }

    /// As [`Self::seal`], with one of the older keys.
    pub fn seal_with(
        &self,
        id: IndexKeyId,
        kind: Kind,
        repository: &str,
        name: &str,
        document: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let key = self.keys.iter().find(|key| key.id() == id).ok_or(SealError::UnknownKey(id))?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(SealError::Random)?;
        let mut sealed = Vec::with_capacity(document.len() + OVERHEAD_BYTES);
        sealed.extend_from_slice(&MAGIC);
        sealed.extend_from_slice(&[VERSION, kind.code(), 0, 0]);
        sealed.extend_from_slice(&key.id().0);
        sealed.extend_from_slice(&nonce);
        let bound = bound(&sealed, repository, name);
        sealed.extend_from_slice(document);
        let body = sealed.get_mut(HEADER_BYTES..).ok_or(SealError::Format)?;
        let tag = seal_in_place(&key.0, &nonce, &bound, body).ok_or(SealError::TooLong)?;
        sealed.extend_from_slice(&tag);
        Ok(sealed)
    }

    /// Opens what is stored under the key `name` of the repository `repository`.
    pub fn open(
        &self,
        kind: Kind,
        repository: &str,
        name: &str,
        sealed: &[u8],
    ) -> Result<Vec<u8>, SealError> {
        let (header, rest) = sealed.split_first_chunk::<HEADER_BYTES>().ok_or(SealError::Format)?;
        let (magic, fields) = header.split_first_chunk::<8>().ok_or(SealError::Format)?;
        let (numbers, fields) = fields.split_first_chunk::<4>().ok_or(SealError::Format)?;
        let (id, nonce) = fields.split_first_chunk::<ID_BYTES>().ok_or(SealError::Format)?;
        let nonce = nonce.first_chunk::<NONCE_BYTES>().ok_or(SealError::Format)?;
        let [version, code, 0, 0] = numbers else { return Err(SealError::Format) };
        if *magic != MAGIC {
            return Err(SealError::Format);
        }
        if *version != VERSION {
            return Err(SealError::Version(*version));
        }
        if *code != kind.code() {
            return Err(SealError::Seal);
        }
        let id = IndexKeyId(*id);
        let key = self.keys.iter().find(|key| key.id() == id).ok_or(SealError::UnknownKey(id))?;
        let (body, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(SealError::Format)?;
        let bound = bound(header, repository, name);
        let mut document = body.to_vec();
        open_in_place(&key.0, nonce, &bound, &mut document, tag).ok_or(SealError::Seal)?;
        Ok(document)
    }
}

/// What a seal is bound to beside the document.
fn bound(header: &[u8], repository: &str, name: &str) -> Vec<u8> {
    [header, repository.as_bytes(), b"/", name.as_bytes()].concat()
}

fn random_key() -> Result<IndexKey, getrandom::Error> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice())?;
    Ok(IndexKey(key))
}

/// Seals the blocks of a cache, which has paths in it and may lie beside the repository.
#[derive(Clone, PartialEq, Eq)]
pub struct CacheKey(Zeroizing<[u8; KEY_BYTES]>);

impl fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CacheKey(…)")
    }
}

/// Bytes of what [`CacheKey::seal`] returns.
pub const CACHE_SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;

impl CacheKey {
    /// A name that tells nothing about `text` to who does not have the key.
    #[must_use]
    pub fn name_of(&self, text: &[u8]) -> String {
        blake3::keyed_hash(&self.0, text).to_hex().to_string()
    }

    /// Encrypts a block in its place, and returns what opens it; `None` without random numbers.
    #[must_use]
    pub fn seal(&self, block: &mut [u8]) -> Option<[u8; CACHE_SEAL_BYTES]> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let tag = seal_in_place(&self.0, &nonce, &[], block)?;
        let mut seal = [0; CACHE_SEAL_BYTES];
        for (to, from) in seal.iter_mut().zip(nonce.iter().chain(&tag)) {
            *to = *from;
        }
        Some(seal)
    }

    /// Decrypts a block in its place; false where it is not what was sealed.
    #[must_use]
    pub fn open(&self, block: &mut [u8], seal: &[u8; CACHE_SEAL_BYTES]) -> bool {
        let Some((nonce, tag)) = seal.split_first_chunk::<NONCE_BYTES>() else { return false };
        let Some(tag) = tag.first_chunk::<TAG_BYTES>() else { return false };
        open_in_place(&self.0, nonce, &[], block, tag).is_some()
    }
}

fn seal_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    body: &mut [u8],
) -> Option<[u8; TAG_BYTES]> {
    let cipher = ChaCha20Poly1305::new(Key::from_slice(key));
    let tag = cipher.encrypt_in_place_detached(Nonce::from_slice(nonce), bound, body).ok()?;
    Some(tag.into())
}

fn open_in_place(
    key: &[u8; KEY_BYTES],
    nonce: &[u8; NONCE_BYTES],
    bound: &[u8],
    body: &mut [u8],
    tag: &[u8; TAG_BYTES],
) -> Option<()> {
    let cipher = ChaCha20Poly1305::new(Key::from_slice(key));
    let (nonce, tag) = (Nonce::from_slice(nonce), Tag::from_slice(tag));
    cipher.decrypt_in_place_detached(nonce, bound, body, tag).ok()
}
