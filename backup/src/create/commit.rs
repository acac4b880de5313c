//! The one commit point, and what makes it safe beside a prune.
//!
//! A prune marks packs, waits, reads every snapshot and deletes what none needs; a mark stays until its packs are gone.
//! So whoever has written a snapshot and then finds none of its packs marked and all of them there knows that every
//! prune that could delete one will see the snapshot first: had it looked before, its mark would be there still, or the
//! pack gone. No clock is in that argument, so a run that is suspended for a week between any two steps is covered.

use std::collections::HashSet;

use chores_common::object::ErrorKind;

use crate::index::IndexedPack;
use crate::pack::{Compressor, Frame, PackBuilder, PackId, PackIndex, SALT_BYTES};
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::{Snapshot, SnapshotName};

use super::CreateError;

#[cfg(test)]
mod tests;

/// Level for what is compressed when a pack is stored anew: a salt and the end of the tar.
const LEVEL: i32 = 1;

/// How often packs are stored anew because a prune marked them meanwhile.
const ROUNDS_MAX: u32 = 8;

/// Makes the packs a backup. Those that were marked since the run began are stored anew under other names: the snapshot
/// that is returned is the one that was committed.
pub fn commit(
    repository: &Repository,
    mut snapshot: Snapshot,
) -> Result<(SnapshotName, Snapshot), CreateError> {
    let mut doubtful = None;
    let committed = write(repository, &mut snapshot, &mut doubtful);
    let (error, name) = match (committed, doubtful) {
        (Ok(name), _) => return Ok((name, snapshot)),
        (Err(error), None) => return Err(error),
        (Err(error), Some(name)) => (error, name),
    };
    // A `forget` may have counted on it. So it goes only when it surely is no backup; where the store or a request to
    // stop kept the second look from its end, it is most likely whole, and every prune reads it before it deletes.
    if matches!(error, CreateError::Gone(_) | CreateError::MarkedSealed(_)) {
        undo(repository, &name)?;
    } else {
        tracing::warn!(
            "snapshot {short} stands, but whether a prune took what it needs was not seen: `backup check` tells",
            short = name.id.short()
        );
    }
    Err(error)
}

fn write(
    repository: &Repository,
    snapshot: &mut Snapshot,
    doubtful: &mut Option<SnapshotName>,
) -> Result<SnapshotName, CreateError> {
    for _ in 0..ROUNDS_MAX {
        let marked = lost(snapshot, &repository.marked_packs()?);
        if !marked.is_empty() {
            tracing::info!("{} packs were marked for removal meanwhile: stored anew", marked.len());
            store_anew(repository, snapshot, &marked)?;
            continue;
        }
        let name = repository.put_snapshot(snapshot)?;
        if let Some(before) = doubtful.replace(name.clone()).filter(|before| *before != name) {
            undo(repository, &before)?;
        }
        if look_again(repository, snapshot)? {
            *doubtful = None;
            return Ok(name);
        }
    }
    Err(CreateError::Marked(ROUNDS_MAX))
}

/// Whether everything the snapshot needs is there to stay.
fn look_again(repository: &Repository, snapshot: &Snapshot) -> Result<bool, CreateError> {
    // In this order: a pack that goes is gone before its mark is.
    if !lost(snapshot, &repository.marked_packs()?).is_empty() {
        return Ok(false);
    }
    let stored = repository.stored_packs()?;
    let gone = snapshot.packs.iter().filter(|pack| !stored.contains_key(pack)).count();
    if gone == 0 { Ok(true) } else { Err(CreateError::Gone(gone)) }
}

fn undo(repository: &Repository, name: &SnapshotName) -> Result<(), CreateError> {
    repository
        .remove_snapshot(name)
        .map_err(|error| CreateError::Standing(name.id.short(), Box::new(error)))
}

/// Bytes that make the name of the pack they are in its own, even where its content was stored before: what a prune
/// deletes never comes back under the same name, so a prune that stood still for a week deletes nothing of anybody.
pub(super) fn salt() -> Result<[u8; SALT_BYTES], RepositoryError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(RepositoryError::Random)?;
    Ok(salt)
}

fn lost(snapshot: &Snapshot, marked: &HashSet<PackId>) -> Vec<PackId> {
    snapshot.packs.iter().filter(|pack| marked.contains(pack)).copied().collect()
}

/// Stores the content of marked packs in packs that no mark names.
fn store_anew(
    repository: &Repository,
    snapshot: &mut Snapshot,
    marked: &[PackId],
) -> Result<(), CreateError> {
    if !repository.can_read() {
        return Err(CreateError::MarkedSealed(marked.len()));
    }
    let mut compressor = Compressor::new(LEVEL).map_err(CreateError::Compress)?;
    let mut stored = Vec::new();
    for id in marked {
        let bytes = match repository.get_pack(id) {
            Ok(bytes) => bytes,
            Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::NotFound => {
                return Err(CreateError::Gone(1));
            }
            // It is encrypted for others, or damaged: as if it could not be read at all.
            Err(RepositoryError::Content(..)) => {
                return Err(CreateError::MarkedSealed(marked.len()));
            }
            Err(error) => return Err(error.into()),
        };
        let damaged = |error| RepositoryError::Pack(id.key(), error);
        let index = PackIndex::of_pack(&bytes).map_err(damaged)?;
        let mut pack = PackBuilder::new(index.kind, Vec::new());
        for frame in Frame::all_of(&index, &bytes).map_err(damaged)? {
            pack.append(&frame);
        }
        // Its frames have salts already, but the same ones.
        let key = repository.key();
        pack.append_salt(salt()?, key, &mut compressor).map_err(CreateError::Compress)?;
        let (bytes, index) = pack.end(&mut compressor).map_err(CreateError::Compress)?;
        let pack = repository.pack_of(bytes, index)?;
        stored.push(IndexedPack::from(&pack));
        repository.put_pack(&pack.id, pack.bytes)?;
    }
    repository.put_index(&stored)?;
    let marked: HashSet<_> = marked.iter().collect();
    snapshot.packs.retain(|pack| !marked.contains(pack));
    snapshot.packs.extend(stored.iter().map(|pack| pack.id));
    snapshot.packs.sort_unstable();
    Ok(())
}
