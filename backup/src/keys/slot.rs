//! Key slots: how the secrets of a repository lie in it, wrapped for those who read.

use std::io::{Read, Write};
use std::iter;

use age::secrecy::SecretString;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chores_common::secret::Secret;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::content::{self, ContentError, Header};
use super::identity::{Identities, IdentityError};
use super::key_file::{KeyFile, KeyFileError};
use super::recipient::{RECIPIENTS_MAX, RecipientError, Recipients};
use crate::text::shown;

#[cfg(test)]
mod tests;

/// A slot that wraps the key file for a recipient.
const KIND_AGE: &str = "age";

/// A slot that wraps an identity with a passphrase.
const KIND_PASSPHRASE: &str = "passphrase";

/// Work of scrypt for a passphrase, as the binary logarithm: 256 MiB and about a second, as the program `age` takes.
const WORK: u8 = 18;

/// The most work that a slot may ask for.
const WORK_MAX: u8 = WORK;

/// Most identities that a repository keeps for passphrases; trying one takes a second.
pub const PASSPHRASES_MAX: usize = 16;

/// Longest wrapped secret, in bytes.
const WRAPPED_BYTES_MAX: u64 = 64 << 10;

/// A wrapped key: who can unwrap it, and the ciphertext.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeySlot {
    /// `age` or `passphrase`.
    pub kind: String,
    /// The recipient it is for, or that of the identity in it.
    pub recipient: String,
    /// An age file in base64.
    pub wrapped: String,
}

/// Why slots give no keys.
#[derive(Debug, thiserror::Error)]
pub enum SlotError {
    /// A slot is not what was written.
    #[error("a key slot in it is damaged")]
    Damaged,
    /// What is wrapped is no key file.
    #[error("what a key slot wraps is unusable")]
    KeyFile(#[source] KeyFileError),
    /// What is wrapped is no identity.
    #[error("what a key slot wraps is unusable")]
    Identity(#[source] IdentityError),
    /// The slots are for others.
    #[error("no identity that was given fits: it is encrypted for {0}")]
    NoIdentity(String),
    /// A passphrase, and no slot for one.
    #[error("a passphrase is given, and none belongs to it")]
    NoPassphrase,
    /// The passphrase is wrong.
    #[error("the passphrase does not fit")]
    Passphrase,
    /// Trying them all would take for ever.
    #[error(
        "it asks to try a passphrase more than {PASSPHRASES_MAX} times, which this program never writes: somebody changed it"
    )]
    TooManyPassphrases,
    /// A slot asks for more work than this program gives it.
    #[error(
        "a key slot in it asks for more work on the passphrase than this program writes: somebody changed it"
    )]
    Work,
    /// A slot names no recipient.
    #[error("its recipients are unusable")]
    Recipients(#[source] RecipientError),
    /// It cannot be encrypted.
    #[error("cannot wrap its keys")]
    Wrap(#[source] ContentError),
}

/// One slot for each recipient of a key file.
pub fn wrap(key_file: &KeyFile) -> Result<Vec<KeySlot>, SlotError> {
    let text = key_file.to_text();
    let wrap_for = |recipient: String| {
        let only = Recipients::parse([recipient.as_str()]).map_err(SlotError::Recipients)?;
        let sealed = content::seal(&only, text.as_bytes().to_vec()).map_err(SlotError::Wrap)?;
        let wrapped = BASE64_STANDARD.encode(sealed);
        Ok(KeySlot { kind: KIND_AGE.to_owned(), recipient, wrapped })
    };
    key_file.recipients.texts().map(wrap_for).collect()
}

/// A slot that gives `identity` to who knows the passphrase.
pub fn wrap_identity(identity: &Identities, passphrase: &Secret) -> Result<KeySlot, SlotError> {
    let failed = |error| SlotError::Wrap(ContentError::Write(error));
    let mut recipient = age::scrypt::Recipient::new(SecretString::from(passphrase.expose()));
    recipient.set_work_factor(WORK);
    let encryptor = age::Encryptor::with_recipients(iter::once(&recipient as &dyn age::Recipient))
        .map_err(|error| SlotError::Wrap(ContentError::Recipients(Box::new(error))))?;
    let mut sealed = Vec::new();
    let mut writer = encryptor.wrap_output(&mut sealed).map_err(failed)?;
    writer.write_all(identity.to_text().as_bytes()).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(KeySlot {
        kind: KIND_PASSPHRASE.to_owned(),
        recipient: identity.public().next().unwrap_or_default(),
        wrapped: BASE64_STANDARD.encode(sealed),
    })
}

/// All identities that a passphrase unlocks: the same one may have been given twice, and each reads what was saved in its time.
pub fn unlock(slots: &[KeySlot], passphrase: &Secret) -> Result<Identities, SlotError> {
    let mine: Vec<_> = slots.iter().filter(|slot| slot.is_passphrase()).collect();
    if mine.is_empty() {
        return Err(SlotError::NoPassphrase);
    }
    if mine.len() > PASSPHRASES_MAX {
        return Err(SlotError::TooManyPassphrases);
    }
    let (mut unlocked, mut failed) = (Identities::default(), SlotError::Passphrase);
    for slot in mine {
        match slot.unlock(passphrase) {
            Ok(identities) => unlocked = unlocked.and(identities),
            Err(SlotError::Passphrase) => {}
            Err(error) => failed = error,
        }
    }
    if unlocked.is_empty() { Err(failed) } else { Ok(unlocked) }
}

/// The key file that one of the slots wraps for one of these identities.
pub fn unwrap(slots: &[KeySlot], identities: &Identities) -> Result<KeyFile, SlotError> {
    let public: Vec<_> = identities.public().collect();
    let Some(slot) = slots.iter().find(|slot| slot.is_age() && public.contains(&slot.recipient))
    else {
        let others = slots.iter().filter(|slot| slot.is_age()).take(RECIPIENTS_MAX);
        let others: Vec<_> = others.map(|slot| shown(&slot.recipient)).collect();
        return Err(SlotError::NoIdentity(others.join(", ")));
    };
    let opened = content::open(identities, &slot.bytes()?).map_err(|_| SlotError::Damaged)?;
    let opened = Zeroizing::new(opened);
    let text = std::str::from_utf8(&opened).map_err(|_| SlotError::Damaged)?;
    KeyFile::parse(text).map_err(SlotError::KeyFile)
}

impl KeySlot {
    /// Whether it wraps the key file for a recipient.
    #[must_use]
    pub fn is_age(&self) -> bool {
        self.kind == KIND_AGE
    }

    /// Whether it wraps an identity with a passphrase.
    #[must_use]
    pub fn is_passphrase(&self) -> bool {
        self.kind == KIND_PASSPHRASE
    }

    fn unlock(&self, passphrase: &Secret) -> Result<Identities, SlotError> {
        let sealed = self.bytes()?;
        let mut identity = age::scrypt::Identity::new(SecretString::from(passphrase.expose()));
        identity.set_max_work_factor(WORK_MAX);
        Header::read_of(&sealed).map_err(|_| SlotError::Damaged)?;
        let decryptor =
            age::Decryptor::new_buffered(&sealed[..]).map_err(|_| SlotError::Damaged)?;
        let opened = decryptor.decrypt(iter::once(&identity as &dyn age::Identity));
        let reader = opened.map_err(|error| match error {
            age::DecryptError::ExcessiveWork { .. } => SlotError::Work,
            _ => SlotError::Passphrase,
        })?;
        let mut text = Zeroizing::new(String::new());
        let read = reader.take(WRAPPED_BYTES_MAX).read_to_string(&mut text);
        read.map_err(|_| SlotError::Damaged)?;
        Identities::parse(&text).map_err(SlotError::Identity)
    }

    fn bytes(&self) -> Result<Vec<u8>, SlotError> {
        BASE64_STANDARD.decode(&self.wrapped).map_err(|_| SlotError::Damaged)
    }
}
