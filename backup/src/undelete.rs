//! What was deleted or written over comes back, in a bucket that keeps versions: after an accident, or after somebody who had the
//! keys of the store.
//!
//! What is only hidden shows again when its delete markers go. What was written over is written again from the version that was
//! there before: the newer one may be locked, and then nobody could remove it.

use std::time::SystemTime;

use chores_common::object::{ErrorKind, ObjectError, ObjectVersion};
use chores_common::shutdown::Shutdown;
use serde_json::Value;

use crate::index::INDEX_BYTES_MAX;
use crate::keys::KeyRing;
use crate::repository::{FORMAT_KEY, Operation, Repository, RepositoryError, in_parallel};
use crate::store::Store;

#[cfg(test)]
mod tests;

/// What comes back beside `repo.json`, what refers to others last.
const FOLDERS: [&str; 4] = ["packs/", "index/", "moved/", "snapshots/"];

/// Longest object of these and what seals it, in bytes; no pack and no document is longer.
const BYTES_MAX: u64 = INDEX_BYTES_MAX + (1 << 20);

/// Objects that are worked on between two looks at the request to stop.
const BATCH: usize = 256;

/// Markers that are taken away to show an object again. What has more is written again: whoever may delete can make any number, and
/// not all of them are listed.
const SHOWN_MAX: usize = 8;

/// What came back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undeleted {
    /// Objects that were hidden.
    pub shown: u64,
    /// Objects that were written over, and were written again.
    pub rewritten: u64,
}

/// Why not all came back.
#[derive(Debug, thiserror::Error)]
pub enum UndeleteError {
    /// The repository or its store said no.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// SIGINT or SIGTERM.
    #[error("interrupted: {0} objects came back, the next run goes on")]
    Interrupted(u64),
}

/// What brings one object back.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Act {
    /// These markers go.
    Show(Vec<ObjectVersion>),
    /// This version is written again.
    Rewrite(ObjectVersion),
}

/// How.
#[derive(Clone, Copy, Debug)]
pub struct UndeleteOptions {
    /// As it was then, by the store's clock.
    pub as_of: SystemTime,
    /// `repo.json` too, whatever is there now.
    pub even_format: bool,
    /// Only say what would come back.
    pub dry_run: bool,
}

/// Brings back what the repository in `store` held. What came since and was not there before stays.
pub fn undelete(
    store: &Store,
    ring: &KeyRing,
    options: UndeleteOptions,
    shutdown: &Shutdown,
) -> Result<Undeleted, UndeleteError> {
    let mut done = Undeleted::default();
    let repository = bring_back_format(store, ring, options, &mut done)?;
    if let Some(repository) = &repository {
        repository.permit(Operation::Delete)?;
    }
    // Apart from each other: what lies beside them is nobody's concern, and may be any number of things.
    for folder in FOLDERS {
        let versions = store.versions(folder).map_err(RepositoryError::from)?;
        let of_keys = versions.chunk_by(|one, other| one.key == other.key);
        let acts: Vec<_> = of_keys.filter_map(|of_key| act(of_key, options.as_of)).collect();
        for some in acts.chunks(BATCH) {
            if shutdown.is_requested() {
                return Err(UndeleteError::Interrupted(done.shown + done.rewritten));
            }
            if let Some(repository) = repository.as_ref().filter(|_| !options.dry_run) {
                let performed = in_parallel(some, |act| {
                    perform(store, act, |key, bytes| repository.put_again(key, bytes))
                });
                performed.into_iter().try_for_each(|(_, outcome)| outcome)?;
            }
            some.iter().for_each(|act| count(&mut done, act));
        }
    }
    if let Some(repository) = repository.filter(|_| !options.dry_run) {
        // What it announced since then may have gone with a document that was brought back.
        if !repository.move_objects()?.is_empty() {
            repository.announce_moves()?;
        }
        if !repository.marked_packs()?.is_empty() {
            repository.announce_marks()?;
        }
        repository.hold_document()?;
    }
    Ok(done)
}

/// What makes a repository the one it is; changes of keys, locks and features leave it alone.
#[derive(Debug, PartialEq, Eq)]
struct Character {
    id: String,
    hash: Value,
    chunker: Value,
    is_encrypted: bool,
}

impl Character {
    fn of(document: &[u8]) -> Option<Self> {
        let document: Value = serde_json::from_slice(document).ok()?;
        let field = |name: &str| document.get(name).cloned();
        Some(Self {
            id: field("id")?.as_str()?.to_owned(),
            hash: field("hash")?,
            chunker: field("chunker")?,
            is_encrypted: document.get("encryption").is_some(),
        })
    }
}

/// Opens the repository, with the `repo.json` of then where the one that is there is not of this repository or cannot be
/// read. Another good one is left alone: keys may have been changed since, and what it announces has to stay. None in a dry
/// run that would bring it back.
fn bring_back_format(
    store: &Store,
    ring: &KeyRing,
    options: UndeleteOptions,
    done: &mut Undeleted,
) -> Result<Option<Repository>, RepositoryError> {
    let mut versions = store.versions(FORMAT_KEY)?;
    versions.retain(|version| version.key == FORMAT_KEY);
    let open = || Repository::open_with(store.clone(), ring.clone());
    let then = version_of(&versions, options.as_of);
    let Some((act, then)) = act(&versions, options.as_of).zip(then) else {
        return open().map(Some);
    };
    let then = store.get_version(FORMAT_KEY, &then.version, BYTES_MAX)?;
    let now = match store.get(FORMAT_KEY, BYTES_MAX) {
        Ok(now) => Some(now),
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Interrupted) => {
            return Err(error.into());
        }
        // It is gone, or stored in a way in which it cannot be read.
        Err(_) => None,
    };
    let character = now.as_ref().and_then(|now| Character::of(now));
    let is_wrong = character.is_none() || character != Character::of(&then);
    let lock_of = |document: &[u8]| -> Option<Value> {
        serde_json::from_slice::<Value>(document).ok()?.get("lock").cloned()
    };
    let is_unlike = now.as_ref().is_some_and(|now| lock_of(now) != lock_of(&then));
    if !is_wrong && is_unlike && !options.even_format {
        tracing::warn!(
            "{FORMAT_KEY} asks for other locks than at that time: where none of you has changed them, run it again with --repo-json"
        );
    }
    if !is_wrong && !options.even_format {
        match open() {
            Err(RepositoryError::Format { .. }) => {}
            opened => return opened.map(Some),
        }
    }
    count(done, &act);
    if options.dry_run {
        return Ok(None);
    }
    // Its lock is not known before it is read; it is locked at the end.
    perform(store, &act, |key, bytes| Ok(store.put(key, bytes)?))?;
    open().map(Some)
}

fn count(done: &mut Undeleted, act: &Act) {
    match act {
        Act::Show(_) => done.shown += 1,
        Act::Rewrite(_) => done.rewritten += 1,
    }
}

fn perform(
    store: &Store,
    act: &Act,
    put: impl Fn(&str, bytes::Bytes) -> Result<(), RepositoryError>,
) -> Result<(), RepositoryError> {
    let gone =
        |error: ObjectError| if error.kind() == ErrorKind::NotFound { Ok(()) } else { Err(error) };
    match act {
        // The newest first: what a killed run leaves is as hidden as before.
        Act::Show(markers) => markers.iter().rev().try_for_each(|marker| {
            Ok(store.delete_version(&marker.key, &marker.version).or_else(gone)?)
        }),
        Act::Rewrite(version) => {
            put(&version.key, store.get_version(&version.key, &version.version, BYTES_MAX)?)
        }
    }
}

/// What a key held then. Its versions are sorted from the oldest to the latest.
fn version_of(of_key: &[ObjectVersion], as_of: SystemTime) -> Option<&ObjectVersion> {
    of_key.iter().rfind(|version| version.modified <= as_of).filter(|version| !version.is_marker)
}

/// What brings an object back to what it was, if anything has to. Its versions are sorted from the oldest to the latest.
fn act(of_key: &[ObjectVersion], as_of: SystemTime) -> Option<Act> {
    let at = of_key.iter().rposition(|version| version.modified <= as_of)?;
    let (then, since) = (of_key.get(at)?, of_key.get(at + 1..)?);
    if then.is_marker || since.is_empty() {
        None
    } else if since.len() <= SHOWN_MAX && since.iter().all(|version| version.is_marker) {
        Some(Act::Show(since.to_vec()))
    } else if since.last().is_some_and(|latest| then.has_content_of(latest) == Some(true)) {
        // Written again with the same content, perhaps by this. Where the store does not tell, it is once more.
        None
    } else {
        Some(Act::Rewrite(then.clone()))
    }
}
