//! The key file: what a machine needs to write, check and prune, and nothing that reads content.

use std::io::Write;

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::identity;
use super::index_key::IndexKeys;
use super::recipient::{RecipientError, Recipients};
use crate::chunk::DedupKey;

#[cfg(test)]
mod tests;

const FORMAT: &str = "chores-backup-key";
const VERSION: u32 = 1;

/// Room for the text, so that it is never copied about: the most keys and recipients take 12 KiB.
const TEXT_BYTES: usize = 16 << 10;

/// The secrets of a repository but its identities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFile {
    /// Id of the repository.
    pub repository: String,
    /// Names content.
    pub dedup: DedupKey,
    /// Seals documents.
    pub index: IndexKeys,
    /// For whom content is encrypted. Who writes believes this list, and not that of the repository, which the store could
    /// change.
    pub recipients: Recipients,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: String,
    version: u32,
    repository: String,
    dedup_key: String,
    index_keys: Vec<String>,
    /// How many of them are of the present recipients.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    epoch_keys: usize,
    recipients: Vec<String>,
}

fn one() -> usize {
    1
}

fn is_one(number: &usize) -> bool {
    *number == 1
}

impl Drop for Document {
    fn drop(&mut self) {
        self.dedup_key.zeroize();
        self.index_keys.zeroize();
    }
}

/// What is read of a key file before it is trusted to be of this version.
#[derive(Deserialize)]
struct Probe {
    format: String,
    version: u32,
}

/// Why a text is no key file. No variant repeats any of it.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Something else.
    #[error("it is not a key file of this program")]
    Format,
    /// Written by a later program.
    #[error("it has version {0}, this program reads version {VERSION}: use a later one")]
    Version(u32),
    /// A private key where the key file should be.
    #[error(
        "it holds an identity: give it as --identity, and as --key-file what `backup init` wrote"
    )]
    Identity,
    /// A key is none.
    #[error("a key in it is not 64 hex digits, or there are too many")]
    Key,
    /// A recipient is none.
    #[error("its list of recipients is unusable")]
    Recipients(#[source] RecipientError),
}

/// Whether a key file is in a text, whatever stands around it: such a text is never repeated.
#[must_use]
pub fn is_in(text: &str) -> bool {
    text.contains(FORMAT) && text.contains('{')
}

impl KeyFile {
    /// The text of the file.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        let document = Document {
            format: FORMAT.to_owned(),
            version: VERSION,
            repository: self.repository.clone(),
            dedup_key: self.dedup.to_hex(),
            index_keys: self.index.to_hex(),
            epoch_keys: self.index.epoch(),
            recipients: self.recipients.texts().collect(),
        };
        let mut text = Zeroizing::new(Vec::with_capacity(TEXT_BYTES));
        // Of texts and numbers alone, into memory: this cannot fail.
        let written = serde_json::to_writer_pretty(&mut *text, &document);
        let ended = text.write_all(b"\n");
        debug_assert!(written.is_ok() && ended.is_ok());
        Zeroizing::new(String::from_utf8_lossy(&text).into_owned())
    }

    /// Reads it.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        if identity::is_in(text) {
            return Err(KeyFileError::Identity);
        }
        // What serde says of a text repeats parts of it.
        let probe: Probe = serde_json::from_str(text).map_err(|_| KeyFileError::Format)?;
        if probe.format != FORMAT {
            return Err(KeyFileError::Format);
        }
        if probe.version != VERSION {
            return Err(KeyFileError::Version(probe.version));
        }
        let document: Document = serde_json::from_str(text).map_err(|_| KeyFileError::Format)?;
        let recipients = document.recipients.iter().map(String::as_str);
        Ok(Self {
            repository: document.repository.clone(),
            dedup: DedupKey::from_hex(&document.dedup_key).ok_or(KeyFileError::Key)?,
            index: IndexKeys::from_hex(&document.index_keys, document.epoch_keys)
                .ok_or(KeyFileError::Key)?,
            recipients: Recipients::parse(recipients).map_err(KeyFileError::Recipients)?,
        })
    }
}
