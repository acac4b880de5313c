//! Old versions of what is gone, in a bucket with locks: they take up room until somebody names each of them.
//!
//! Only what is hidden behind a delete marker goes, and only when its lock is over: what somebody has written over may be the
//! only good copy. So what was deleted by mistake, or by who has stolen the keys, can be brought back for as long as it was locked.

use std::collections::HashSet;
use std::time::SystemTime;

use chores_common::exit::chain;
use chores_common::object::{ErrorKind, ObjectError, ObjectVersion};
use chores_common::shutdown::Shutdown;

use crate::lock::Lock;
use crate::pack::PackId;
use crate::repository::{Repository, RepositoryError, in_parallel};

use super::PruneError;

#[cfg(test)]
mod tests;

/// Most versions that are looked at in one run; the rest is for the next.
const VERSIONS_MAX: usize = 20_000;

/// Objects that are worked on between two looks at the request to stop.
const BATCH: usize = 64;

/// Where packs are.
const PACKS: &str = "packs/";

/// Where objects are locked that this program writes.
const LOCKED: [&str; 4] = [PACKS, "snapshots/", "index/", "moved/"];

/// Where they are not.
const UNLOCKED: [&str; 3] = ["drills/", "doctor/", "changes/"];

/// Where objects are written again under the same name, and none of the old ones is of use.
const REPEATED: [&str; 2] = ["marks/", "runs/"];

/// What became of old versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Removed for good.
    pub removed: u64,
    /// Their length in bytes.
    pub removed_bytes: u64,
    /// Gone from sight, and still locked.
    pub held: u64,
    /// Their length in bytes.
    pub held_bytes: u64,
    /// The store did not let them go.
    pub refused: u64,
    /// Folders whose versions the store does not list.
    pub unlisted: u64,
    /// Packs that somebody has written over.
    pub written_over: u64,
}

impl Swept {
    fn add(&mut self, other: &Self) {
        self.removed += other.removed;
        self.removed_bytes += other.removed_bytes;
        self.held += other.held;
        self.held_bytes += other.held_bytes;
        self.refused += other.refused;
    }
}

/// What is left of an object that is gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Leftover {
    /// Versions that may go, from the oldest on.
    versions: Vec<ObjectVersion>,
    /// Delete markers that may go when no version is left: without them it would be back.
    markers: Vec<ObjectVersion>,
    /// So many versions stay in any case, which are locked by their age.
    held: u64,
    held_bytes: u64,
}

/// Removes old versions that are not locked any more.
pub(super) fn sweep(
    repository: &Repository,
    now: SystemTime,
    needed: &HashSet<PackId>,
    shutdown: &Shutdown,
) -> Result<Swept, PruneError> {
    let mut swept = Swept::default();
    let Some(lock) = repository.lock() else { return Ok(swept) };
    let is_needed = |key: &str| {
        let id = PackId::from_key(key.strip_suffix(".age").unwrap_or(key));
        id.is_some_and(|id| needed.contains(&id))
    };
    let mut room = VERSIONS_MAX;
    // One by one, so that what others write beside them is not even listed.
    for folder in LOCKED.iter().chain(&UNLOCKED).chain(&REPEATED) {
        let versions = match repository.store().versions(folder) {
            Ok(versions) => versions,
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::Denied | ErrorKind::Invalid | ErrorKind::Corrupt
                ) =>
            {
                tracing::warn!(
                    "old versions of what is gone stay, because they cannot be listed (s3:ListBucketVersions): {}",
                    chain(&error)
                );
                swept.unlisted += 1;
                continue;
            }
            Err(error) => return Err(RepositoryError::from(error).into()),
        };
        if *folder == PACKS {
            swept.written_over = repository.packs_written_over(&versions);
        }
        let leftovers = leftovers(&versions, lock, now, &mut room, &is_needed);
        for some in leftovers.chunks(BATCH) {
            if shutdown.is_requested() {
                return Err(PruneError::Interrupted(0));
            }
            for (_, done) in in_parallel(some, |leftover| remove_all(repository, leftover, now)) {
                swept.add(&done.map_err(RepositoryError::from)?);
            }
        }
    }
    Ok(swept)
}

/// Removes what is left of one object, as far as it may go.
fn remove_all(
    repository: &Repository,
    leftover: &Leftover,
    now: SystemTime,
) -> Result<Swept, ObjectError> {
    let mut swept =
        Swept { held: leftover.held, held_bytes: leftover.held_bytes, ..Swept::default() };
    for version in &leftover.versions {
        match remove(repository, version, now)? {
            Fate::Removed => {
                swept.removed += 1;
                swept.removed_bytes += version.size;
                continue;
            }
            Fate::Locked => {
                swept.held += 1;
                swept.held_bytes += version.size;
            }
            Fate::Refused => swept.refused += 1,
        }
        // They are in order of age, and so are their locks.
        return Ok(swept);
    }
    if leftover.held > 0 {
        return Ok(swept);
    }
    for marker in &leftover.markers {
        match repository.store().delete_version(&marker.key, &marker.version) {
            Err(error) if error.kind() == ErrorKind::Denied => swept.refused += 1,
            outcome => outcome?,
        }
    }
    Ok(swept)
}

enum Fate {
    Removed,
    Locked,
    Refused,
}

fn remove(
    repository: &Repository,
    version: &ObjectVersion,
    now: SystemTime,
) -> Result<Fate, ObjectError> {
    let store = repository.store();
    match store.retention(&version.key, Some(&version.version)) {
        Ok((_, Some(held))) if held.until > now => return Ok(Fate::Locked),
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Fate::Removed),
        Err(error) if error.kind() == ErrorKind::Denied => return Ok(Fate::Refused),
        Err(error) => return Err(error),
    }
    match store.delete_version(&version.key, &version.version) {
        Ok(()) => Ok(Fate::Removed),
        Err(error) if error.kind() == ErrorKind::Denied => {
            tracing::debug!("{}", chain(&error));
            Ok(Fate::Refused)
        }
        Err(error) => Err(error),
    }
}

/// What may go of objects that are gone, by key. `versions` are sorted by key, those of one key with the latest last.
fn leftovers(
    versions: &[ObjectVersion],
    lock: Lock,
    now: SystemTime,
    room: &mut usize,
    is_needed: &dyn Fn(&str) -> bool,
) -> Vec<Leftover> {
    let mut leftovers = Vec::new();
    for of_key in versions.chunk_by(|one, other| one.key == other.key) {
        let Some(latest) = of_key.last().filter(|latest| latest.is_latest) else { continue };
        let lies_in =
            |folders: &[&str]| folders.iter().any(|folder| latest.key.starts_with(folder));
        let is_repeated = lies_in(&REPEATED);
        let is_ours = is_repeated || lies_in(&LOCKED) || lies_in(&UNLOCKED);
        if !is_ours || (!latest.is_marker && !is_repeated) || is_needed(&latest.key) {
            continue;
        }
        let is_locked =
            |version: &ObjectVersion| lies_in(&LOCKED) && lock.by_age(version.modified) > now;
        let mut leftover = Leftover::default();
        for version in of_key.iter().filter(|version| latest.is_marker || !version.is_latest) {
            if version.is_marker {
                leftover.markers.push(version.clone());
            } else if is_locked(version) {
                leftover.held += 1;
                leftover.held_bytes += version.size;
            } else if let Some(less) = room.checked_sub(1) {
                *room = less;
                leftover.versions.push(version.clone());
            } else {
                // For the next time; its markers must stay until then.
                leftover.held += 1;
                leftover.held_bytes += version.size;
            }
        }
        leftovers.push(leftover);
    }
    leftovers
}
