//! The encrypted side of a repository: which keys open it, and what they are used for.
//!
//! `repo.json` lies where the store can change it. So nothing of it is believed that matters to secrecy: who writes takes the
//! recipients from the key file and refuses a repository that names others, and an authenticator binds all of `repo.json`
//! to the newest index key.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use chores_common::secret::Secret;
use serde::{Deserialize, Serialize};

use super::turn::Changer;
use super::{FormatFile, Inner, Operation, Repository, RepositoryError};
use crate::chunk::DedupKey;
use crate::keys::KeyRing;
use crate::keys::content::{self, ContentError, HEADER_BYTES_MAX, Header, Part};
use crate::keys::identity::{IDENTITIES_MAX, Identities};
use crate::keys::index_key::{CacheKey, IndexKeys, KEYS_MAX};
use crate::keys::key_file::KeyFile;
use crate::keys::recipient::{RecipientError, Recipients};
use crate::keys::slot::{self, KeySlot, PASSPHRASES_MAX, SlotError};
use crate::lock::Lock;
use crate::pack::PackId;
use crate::store::Store;
use crate::text::shown;

#[cfg(test)]
mod tests;

/// What a program must know before it may do anything with an encrypted repository.
pub(super) const FEATURE: &str = "encryption";

/// How content is encrypted.
const CONTENT: &str = "age-v1";

/// How documents are.
const DOCUMENTS: &str = "chacha20-poly1305";

/// Headers of packs that are kept, each of a few hundred bytes.
const HEADERS_MAX: usize = 4096;

/// How an encrypted repository is encrypted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EncryptionParams {
    content: String,
    documents: String,
    /// Id of the newest index key.
    index_key: String,
    /// Keyed hash of this document with an empty authenticator and an empty checksum.
    authenticator: String,
}

/// Why keys do not open a repository.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The slots do not give what is needed.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// By a later program.
    #[error("it is encrypted with {0}, which this program does not know: use a later one")]
    Method(String),
    /// `repo.json` contradicts itself.
    #[error("its repo.json is damaged: {0}")]
    Damaged(&'static str),
    /// The key file belongs elsewhere.
    #[error("the key file is that of another repository, {0}")]
    OtherRepository(String),
    /// Secrets differ.
    #[error(
        "the key file and the key slots of the repository contradict each other: one was changed"
    )]
    Contradiction,
    /// The lists of recipients differ.
    #[error(
        "it names other recipients than the key file: take the newest key file, or find out who changed repo.json if you did not"
    )]
    OtherRecipients,
    /// Keys were rotated.
    #[error("the key file is out of date, because keys were changed: take the newest one")]
    OldKeyFile,
    /// The repository is older than the key file.
    #[error(
        "its repo.json is older than the key file: the change of keys did not come through, or somebody put an old one back"
    )]
    OldRepository,
    /// Somebody without the keys has written `repo.json`.
    #[error("its repo.json was changed by somebody who does not have its keys")]
    Authenticator,
    /// A recipient that is not there.
    #[error("{0} is no recipient of it: `backup key list` shows them")]
    NoRecipient(String),
    /// Nobody would be left.
    #[error("{0} is its only recipient: add another one first, or nobody could read what is saved")]
    LastRecipient(String),
    /// Nothing would change.
    #[error("{0} is a recipient of it already")]
    KnownRecipient(String),
    /// Keys are never dropped.
    #[error(
        "its keys were changed {KEYS_MAX} times, which is the most: copy it into a new repository with `backup copy`"
    )]
    TooManyKeys,
    /// Wrapped identities are never dropped.
    #[error("it keeps {PASSPHRASES_MAX} identities for passphrases, which is the most")]
    TooManyPassphrases,
    /// More than a worker is given.
    #[error(
        "the identity file and the passphrase give {0} identities, and at most {IDENTITIES_MAX} are taken: leave some out of the file"
    )]
    TooManyIdentities(usize),
    /// Recipients are unusable.
    #[error(transparent)]
    Recipients(#[from] RecipientError),
    /// The new key file could not be kept.
    #[error("the new key file cannot be kept")]
    Keep(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl KeysError {
    /// Whether what was asked for makes no sense, rather than that keys do not open what is there.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoRecipient(_)
                | Self::LastRecipient(_)
                | Self::KnownRecipient(_)
                | Self::TooManyKeys
                | Self::TooManyPassphrases
                | Self::TooManyIdentities(_)
        )
    }
}

/// What the keys of a repository are to this process.
#[derive(Debug)]
pub(super) struct Sealing {
    /// Seals and opens documents.
    pub(super) index: IndexKeys,
    /// For whom this process may encrypt; only a key file says that.
    pub(super) recipients: Option<Recipients>,
    /// For whom a key slot says that content is encrypted; who wrote the slot is not known.
    claimed: Recipients,
    /// What reads content; may be none.
    identities: Identities,
    /// Of packs that were read lately.
    headers: Mutex<HashMap<PackId, Header>>,
}

impl Sealing {
    /// What opens the same repository again.
    pub(super) fn ring(&self, inner: &Inner) -> KeyRing {
        let key_file = self.recipients.as_ref().map(|recipients| KeyFile {
            repository: inner.id.clone(),
            dedup: inner.key.clone(),
            index: self.index.clone(),
            recipients: recipients.clone(),
        });
        KeyRing { key_file, identities: self.identities.clone(), passphrase: None }
    }

    /// Whether one of the identities is that of a recipient of today.
    pub(super) fn reads_what_comes(&self) -> bool {
        let recipients: Vec<_> =
            self.recipients.as_ref().unwrap_or(&self.claimed).texts().collect();
        self.identities.public().any(|public| recipients.contains(&public))
    }

    /// Whether identities were given, and none is that of a recipient of today.
    pub(super) fn reads_the_past_alone(&self) -> bool {
        !self.identities.is_empty() && !self.reads_what_comes()
    }
}

impl FormatFile {
    pub(super) fn is_encrypted(&self) -> bool {
        let lists = [&self.features.read, &self.features.write, &self.features.delete];
        self.encryption.is_some()
            || !self.keys.is_empty()
            || lists.iter().any(|list| list.iter().any(|feature| feature == FEATURE))
    }

    /// Makes it say that who has these keys has written it.
    pub(super) fn authenticate(&mut self, keys: &IndexKeys) {
        let id = keys.current().map(|id| id.to_string()).unwrap_or_default();
        if let Some(params) = &mut self.encryption {
            params.index_key = id;
        }
        let authenticator = self.authenticator(keys);
        if let Some(params) = &mut self.encryption {
            params.authenticator = authenticator;
        }
    }

    fn authenticator(&self, keys: &IndexKeys) -> String {
        let mut bare = Self { checksum: String::new(), ..self.clone() };
        if let Some(params) = &mut bare.encryption {
            params.authenticator.clear();
        }
        keys.authenticator(&bare.to_bytes())
    }

    /// Recipients of the slots.
    fn recipients(&self) -> Result<Recipients, KeysError> {
        let slots = self.keys.iter().filter(|slot| slot.is_age());
        Ok(Recipients::parse(slots.map(|slot| slot.recipient.as_str()))?)
    }
}

/// Finds the secrets of an encrypted repository with what is on the ring.
pub(super) fn open(format: &FormatFile, ring: KeyRing) -> Result<(DedupKey, Sealing), KeysError> {
    let params = format.encryption.as_ref();
    let params = params.ok_or(KeysError::Damaged("it does not say how it is encrypted"))?;
    if params.content != CONTENT || params.documents != DOCUMENTS {
        let [content, documents] = [&params.content, &params.documents].map(|name| shown(name));
        return Err(KeysError::Method(format!("{content} and {documents}")));
    }
    let lists = [&format.features.read, &format.features.write, &format.features.delete];
    if format.hash.key.is_some() || !lists.iter().all(|list| list.iter().any(|f| f == FEATURE)) {
        return Err(KeysError::Damaged("it is encrypted in part"));
    }
    if let Some(keys) = ring.key_file.as_ref().filter(|keys| keys.repository != format.id) {
        return Err(KeysError::OtherRepository(shown(&keys.repository)));
    }
    let mut identities = ring.identities;
    if let Some(passphrase) = &ring.passphrase {
        identities = identities.and(slot::unlock(&format.keys, passphrase)?);
    }
    let count = identities.all().count();
    if count > IDENTITIES_MAX {
        return Err(KeysError::TooManyIdentities(count));
    }
    let unwrapped = match slot::unwrap(&format.keys, &identities) {
        _ if identities.is_empty() => None,
        // With a key file it need not open documents: it may read what was saved before its recipient was removed.
        Err(SlotError::NoIdentity(_)) if ring.key_file.is_some() => None,
        unwrapped => Some(unwrapped?),
    };
    let (keys, recipients) = match (ring.key_file, unwrapped) {
        (Some(key_file), unwrapped) => {
            // An outdated file has older keys, but never another key of ids.
            if unwrapped.is_some_and(|unwrapped| unwrapped.dedup != key_file.dedup) {
                return Err(KeysError::Contradiction);
            }
            let recipients = key_file.recipients.clone();
            (key_file, Some(recipients))
        }
        (None, Some(unwrapped)) => (unwrapped, None),
        (None, None) => return Err(KeysError::Damaged("nothing opens it")),
    };
    if keys.repository != format.id {
        return Err(KeysError::OtherRepository(shown(&keys.repository)));
    }
    if keys.index.current().map(|id| id.to_string()).as_ref() != Some(&params.index_key) {
        let is_behind = keys.index.knows(&params.index_key);
        return Err(if is_behind { KeysError::OldRepository } else { KeysError::OldKeyFile });
    }
    if format.authenticator(&keys.index) != params.authenticator {
        return Err(KeysError::Authenticator);
    }
    if format.recipients()? != keys.recipients {
        return Err(KeysError::OtherRecipients);
    }
    let KeyFile { dedup, index, recipients: claimed, .. } = keys;
    Ok((dedup, Sealing { index, recipients, claimed, identities, headers: Mutex::default() }))
}

/// What a new key file goes to before anything depends on it.
pub type Keep<'a> =
    dyn FnOnce(&KeyFile) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// A change of keys.
#[derive(Debug)]
pub enum KeyChange<'a> {
    /// What is saved from now on can be read by these too. All of it is stored anew, and nothing of before referred to.
    Add(Recipients),
    /// What is saved from now on can be read by who knows the passphrase too. All of it is stored anew.
    AddPassphrase(&'a Secret),
    /// What is saved from now on can no longer be read by this one, neither content nor documents. All of it is stored anew,
    /// since the others may not read what was there before them. An identity that a passphrase unlocks stays in the repository,
    /// for what it alone may read.
    Remove(String),
    /// Documents are sealed with a new key from now on.
    Rotate,
}

/// Who reads a repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyHolder {
    /// The public half.
    pub recipient: String,
    /// Whether the repository keeps the private half for who knows a passphrase.
    pub passphrase: bool,
}

impl Repository {
    /// Makes a new encrypted repository in an empty place, for these recipients and, where there is a passphrase, for who knows
    /// it. The key file goes to `keep` before anything is written.
    pub fn init_encrypted(
        store: Store,
        now: jiff::Timestamp,
        recipients: &[String],
        passphrase: Option<&Secret>,
        keep: Box<Keep<'_>>,
    ) -> Result<Self, RepositoryError> {
        Self::init_encrypted_locked(store, now, recipients, passphrase, keep, None)
    }

    /// The same, which locks what is saved from its first object on. A document that is signed and asks for no locks must
    /// never lie there: somebody could put it back.
    pub fn init_encrypted_locked(
        store: Store,
        now: jiff::Timestamp,
        recipients: &[String],
        passphrase: Option<&Secret>,
        keep: Box<Keep<'_>>,
        lock: Option<Lock>,
    ) -> Result<Self, RepositoryError> {
        super::refuse_occupied(&store)?;
        let place = store.objects().location().to_string();
        let failed = |error| RepositoryError::Keys(place.clone(), error);
        let mut format = FormatFile::new(now)?;
        format.set_lock(lock);
        let mut recipients = recipients.to_vec();
        let mut unlocking = Vec::new();
        if let Some(passphrase) = passphrase {
            let identity = Identities::generate();
            recipients.extend(identity.public());
            let slot = slot::wrap_identity(&identity, passphrase);
            unlocking.push(slot.map_err(|error| failed(error.into()))?);
        }
        let recipients = Recipients::parse(recipients.iter().map(String::as_str));
        let keys = KeyFile {
            repository: format.id.clone(),
            dedup: DedupKey::generate().map_err(RepositoryError::Random)?,
            index: IndexKeys::generate().map_err(RepositoryError::Random)?,
            recipients: recipients.map_err(|error| failed(error.into()))?,
        };
        for list in
            [&mut format.features.read, &mut format.features.write, &mut format.features.delete]
        {
            list.push(FEATURE.to_owned());
        }
        format.encryption = Some(EncryptionParams {
            content: CONTENT.to_owned(),
            documents: DOCUMENTS.to_owned(),
            index_key: String::new(),
            authenticator: String::new(),
        });
        format.keys = slot::wrap(&keys).map_err(|error| failed(error.into()))?;
        format.keys.append(&mut unlocking);
        format.authenticate(&keys.index);
        format.checksum = format.checksum();
        keep(&keys).map_err(|error| failed(KeysError::Keep(error)))?;
        Self::put_format(store, &format, KeyRing { key_file: Some(keys), ..KeyRing::default() })
    }

    /// Whether content and documents are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.inner.sealing.is_some()
    }

    /// Whether content can be read here.
    #[must_use]
    pub fn can_read(&self) -> bool {
        self.inner.sealing.as_ref().is_none_or(|sealing| !sealing.identities.is_empty())
    }

    /// Refuses where content cannot be read here.
    pub fn require_identity(&self) -> Result<(), RepositoryError> {
        if self.can_read() { Ok(()) } else { Err(RepositoryError::NoIdentity(self.place())) }
    }

    /// Whether what is saved now can be read here.
    #[must_use]
    pub fn reads_what_is_saved(&self) -> bool {
        self.inner.sealing.as_ref().is_none_or(Sealing::reads_what_comes)
    }

    /// Refuses where keys were changed since this was opened: what is saved would be sealed and encrypted for those of before.
    pub(super) fn require_present_keys(&self) -> Result<(), RepositoryError> {
        if self.is_encrypted() { self.again().map(|_| ()) } else { Ok(()) }
    }

    /// What opens it again elsewhere, such as in a worker.
    #[must_use]
    pub fn ring(&self) -> KeyRing {
        self.inner.sealing.as_ref().map(|sealing| sealing.ring(&self.inner)).unwrap_or_default()
    }

    /// For how many recipients content is encrypted now; for nobody in particular in a clear repository.
    #[must_use]
    pub fn recipient_count(&self) -> Option<usize> {
        let sealing = self.inner.sealing.as_ref()?;
        Some(sealing.recipients.as_ref().unwrap_or(&sealing.claimed).count())
    }

    /// The key of caches, which are encrypted as the repository is.
    #[must_use]
    pub fn cache_key(&self) -> Option<CacheKey> {
        self.inner.sealing.as_ref().map(|sealing| sealing.index.cache_key())
    }

    /// Who reads what is saved now, sorted; nobody in particular in a clear repository.
    #[must_use]
    pub fn key_holders(&self) -> Vec<KeyHolder> {
        let slots = &self.inner.format.keys;
        let has_passphrase = |recipient: &str| {
            slots.iter().any(|slot| slot.is_passphrase() && slot.recipient == recipient)
        };
        let readers = slots.iter().filter(|slot| slot.is_age());
        let holder = |slot: &KeySlot| KeyHolder {
            recipient: slot.recipient.clone(),
            passphrase: has_passphrase(&slot.recipient),
        };
        let mut holders: Vec<_> = readers.map(holder).collect();
        holders.sort_by(|left, right| left.recipient.cmp(&right.recipient));
        holders
    }

    /// The key file that a key slot wraps, for who has lost it and has an identity. Its recipients are the word of who could
    /// write to the store.
    #[must_use]
    pub fn recovered_key_file(&self) -> Option<KeyFile> {
        let sealing = self.inner.sealing.as_ref()?;
        Some(KeyFile {
            repository: self.inner.id.clone(),
            dedup: self.inner.key.clone(),
            index: sealing.index.clone(),
            recipients: sealing.claimed.clone(),
        })
    }

    /// The id of the newest index key.
    #[must_use]
    pub fn index_key(&self) -> Option<String> {
        let sealing = self.inner.sealing.as_ref()?;
        sealing.index.current().map(|id| id.to_string())
    }

    /// Changes keys. The new key file goes to `keep` first, and counts from the moment this returns; all others are refused
    /// from then on.
    pub fn change_keys(
        &self,
        change: KeyChange<'_>,
        keep: Box<Keep<'_>>,
    ) -> Result<KeyFile, RepositoryError> {
        let current = self.again()?;
        current.permit(Operation::Write)?;
        let ring = current.ring();
        let Some(keys) = ring.key_file else {
            return Err(RepositoryError::NoKeyFile(self.place()));
        };
        let mut format = current.inner.format.clone();
        let mut unlocking: Vec<_> =
            format.keys.iter().filter(|slot| slot.is_passphrase()).cloned().collect();
        let failed = |error: KeysError| RepositoryError::Keys(self.place(), error);
        let keys = changed(keys, change, &mut unlocking).map_err(failed)?;
        let mut slots = slot::wrap(&keys).map_err(|error| failed(error.into()))?;
        slots.append(&mut unlocking);
        format.keys = slots;
        format.authenticate(&keys.index);
        format.checksum = format.checksum();
        keep(&keys).map_err(|error| failed(KeysError::Keep(error)))?;
        self.replace_format(&current.inner.format, &format, Changer::Person)?;
        let ring = KeyRing { key_file: Some(keys.clone()), ..KeyRing::default() };
        Self::open_with(self.inner.store.clone(), ring)?;
        Ok(keys)
    }

    /// Encrypts the content of a pack where this repository is encrypted.
    pub(super) fn seal_content(&self, content: Vec<u8>) -> Result<Vec<u8>, RepositoryError> {
        let Some(sealing) = &self.inner.sealing else { return Ok(content) };
        let recipients = sealing.recipients.as_ref();
        let recipients = recipients.ok_or_else(|| RepositoryError::NoKeyFile(self.place()))?;
        content::seal(recipients, content).map_err(RepositoryError::Encrypt)
    }

    /// The content of a pack from all that is stored of it.
    pub(super) fn open_content(
        &self,
        pack: &PackId,
        stored: Bytes,
    ) -> Result<Bytes, RepositoryError> {
        let Some(sealing) = &self.inner.sealing else { return Ok(stored) };
        self.require_identity()?;
        let content = content::open(&sealing.identities, &stored);
        content.map(Bytes::from).map_err(|error| RepositoryError::Content(*pack, error))
    }

    /// The content of a pack from all that is stored of it, with zeros for what is damaged. Says whether anything was.
    pub fn open_content_leniently(
        &self,
        pack: &PackId,
        stored: Bytes,
    ) -> Result<(Bytes, bool), RepositoryError> {
        let Some(sealing) = &self.inner.sealing else { return Ok((stored, false)) };
        self.require_identity()?;
        let opened = content::open_leniently(&sealing.identities, &stored);
        opened
            .map(|(content, is_damaged)| (content.into(), is_damaged))
            .map_err(|error| RepositoryError::Content(*pack, error))
    }

    /// Fetches and decrypts the blocks that a part of a pack lies in.
    pub(super) fn read_sealed(
        &self,
        sealing: &Sealing,
        pack: PackId,
        pack_bytes: u64,
        content: Range<u64>,
    ) -> Result<Bytes, RepositoryError> {
        self.require_identity()?;
        let damaged = |error: ContentError| RepositoryError::Content(pack, error);
        let header = self.header(sealing, pack, pack_bytes)?;
        let part = Part::new(&header, pack_bytes, content).map_err(damaged)?;
        let fetched = self.inner.store.get_range(&self.pack_key(&pack), part.stored.clone())?;
        let opened = part.open(&header, &sealing.identities, &fetched);
        opened.map(Bytes::from).map_err(damaged)
    }

    fn header(
        &self,
        sealing: &Sealing,
        pack: PackId,
        pack_bytes: u64,
    ) -> Result<Header, RepositoryError> {
        let headers = || sealing.headers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(header) = headers().get(&pack) {
            return Ok(header.clone());
        }
        let range = 0..pack_bytes.min(HEADER_BYTES_MAX);
        let start = self.inner.store.get_range(&self.pack_key(&pack), range)?;
        let header = Header::read(&start).map_err(|error| RepositoryError::Content(pack, error))?;
        let mut headers = headers();
        if headers.len() >= HEADERS_MAX {
            headers.clear();
        }
        headers.insert(pack, header.clone());
        Ok(header)
    }
}

/// The key file after a change, and what passphrases unlock then.
fn changed(
    keys: KeyFile,
    change: KeyChange<'_>,
    unlocking: &mut Vec<KeySlot>,
) -> Result<KeyFile, KeysError> {
    if keys.index.is_full() {
        return Err(KeysError::TooManyKeys);
    }
    let mut texts: Vec<String> = keys.recipients.texts().collect();
    match change {
        KeyChange::Add(new) => {
            for text in new.texts() {
                if texts.contains(&text) {
                    return Err(KeysError::KnownRecipient(text));
                }
                texts.push(text);
            }
        }
        KeyChange::AddPassphrase(passphrase) => {
            if unlocking.len() >= PASSPHRASES_MAX {
                return Err(KeysError::TooManyPassphrases);
            }
            let identity = Identities::generate();
            texts.extend(identity.public());
            unlocking.push(slot::wrap_identity(&identity, passphrase)?);
        }
        KeyChange::Remove(old) => {
            if !texts.contains(&old) {
                return Err(KeysError::NoRecipient(old));
            }
            if texts.len() == 1 {
                return Err(KeysError::LastRecipient(old));
            }
            texts.retain(|text| *text != old);
        }
        KeyChange::Rotate => {
            let index = keys.index.rotated().map_err(|error| KeysError::Keep(Box::new(error)))?;
            return Ok(KeyFile { index, ..keys });
        }
    }
    let recipients = Recipients::parse(texts.iter().map(String::as_str))?;
    let index = keys.index.renewed().map_err(|error| KeysError::Keep(Box::new(error)))?;
    Ok(KeyFile { recipients, index, ..keys })
}
