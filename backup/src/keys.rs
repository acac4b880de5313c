//! The keys of encrypted repositories: who may write, and who may read.
//!
//! A *key file* lies on every machine that writes. It names content, seals and opens documents (snapshots, indexes,
//! records of drills), and knows for whom content is encrypted: enough to save, check and collect garbage, and
//! nothing that reads content. An *identity* is the private half that reads; it can stay away from those machines.
//! Content is age files, see [`content`]; documents are sealed with the key of [`index_key`].

pub mod content;
pub mod identity;
pub mod index_key;
pub mod key_file;
pub mod private_file;
pub mod recipient;
pub mod slot;

use chores_common::secret::Secret;

use identity::Identities;
use key_file::KeyFile;

/// What the operator gave to open a repository with.
#[derive(Clone, Debug, Default)]
pub struct KeyRing {
    /// What writes.
    pub key_file: Option<KeyFile>,
    /// What reads.
    pub identities: Identities,
    /// What unlocks the identity that the repository keeps for it.
    pub passphrase: Option<Secret>,
}

impl KeyRing {
    /// Whether nothing was given.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.key_file.is_none() && self.identities.is_empty() && self.passphrase.is_none()
    }
}
