//! The one commit point, and what makes it safe beside a prune.
//!
//! A prune marks packs, waits, reads every snapshot and deletes what none needs; a mark stays until its packs are gone.
//! So whoever has written a snapshot and then finds none of its packs marked and all of them there knows that every
//! prune that could delete one will see the snapshot first: had it looked before, its mark would be there still, or the
//! pack gone. No clock is in that argument, so a run that is suspended for a week between any two steps is covered.
//! Where content was moved for a snapshot (`docs/backup-format.md`, "Moves") that holds for what replaces its packs.

use std::collections::HashSet;

use chores_common::object::ErrorKind;

use crate::index::IndexedPack;
use crate::pack::{Compressor, Frame, PackBuilder, PackId, PackIndex, PackKind, SALT_BYTES};
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::{Snapshot, SnapshotName};

use super::CreateError;

#[cfg(test)]
mod tests;

/// Level for what is compressed when a pack is stored anew: a salt and the end of the tar.
const LEVEL: i32 = 1;

/// How often packs are stored anew because a prune marked them meanwhile.
const ROUNDS_MAX: u32 = 8;

/// How often the moves are read again because others write some meanwhile.
const LOOKS_MAX: u32 = 8;

/// Makes the packs a backup. Those that were marked since the run began are stored anew under other names: the snapshot
/// that is returned is the one that was committed.
pub fn commit(
    repository: &Repository,
    snapshot: Snapshot,
) -> Result<(SnapshotName, Snapshot), CreateError> {
    let mut written = Vec::new();
    match write(repository, snapshot, &mut written) {
        Ok((name, snapshot)) => {
            // What was written before it holds the same.
            for (before, _) in written.iter().filter(|(before, _)| *before != name) {
                undo(repository, before)?;
            }
            Ok((name, snapshot))
        }
        Err(error) => settle(repository, written, error),
    }
}

fn write(
    repository: &Repository,
    mut snapshot: Snapshot,
    written: &mut Vec<(SnapshotName, Snapshot)>,
) -> Result<(SnapshotName, Snapshot), CreateError> {
    for _ in 0..ROUNDS_MAX {
        let marked = lost(&snapshot, &repository.marked_packs()?);
        if !marked.is_empty() {
            tracing::info!("{} packs were marked for removal meanwhile: stored anew", marked.len());
            store_anew(repository, &mut snapshot, &marked)?;
            continue;
        }
        let name = match repository.put_snapshot(&snapshot) {
            Err(RepositoryError::Gone(count)) => return Err(CreateError::Gone(count)),
            Err(RepositoryError::Unanswered(name, error)) => {
                // The last of them is what nobody knows of.
                written.retain(|(before, _)| *before != *name);
                written.push((SnapshotName::clone(&name), snapshot));
                return Err(RepositoryError::Unanswered(name, error).into());
            }
            put => put?,
        };
        if written.iter().all(|(before, _)| *before != name) {
            written.push((name.clone(), snapshot.clone()));
        }
        match look_again(repository, &name, &snapshot)? {
            Sight::Whole => return Ok((name, snapshot)),
            Sight::Marked => {}
            Sight::Gone(count) => return Err(CreateError::Gone(count)),
        }
    }
    Err(CreateError::Marked(ROUNDS_MAX))
}

/// What becomes of snapshots that were written before their run failed. A `forget` may have counted on one of them, and a prune
/// that has read one may have moved what it needs. So one goes only when it surely is no backup, and is the backup when it
/// surely is one; where the store or a request to stop kept the looks from their end, it is most likely whole, and every prune
/// reads it before it deletes. One of which the store did not say that it was written may stand all the same, and is no backup
/// that anybody was promised: it goes, or a person is told.
fn settle(
    repository: &Repository,
    written: Vec<(SnapshotName, Snapshot)>,
    error: CreateError,
) -> Result<(SnapshotName, Snapshot), CreateError> {
    let (is_answered, error) = match error {
        CreateError::Repository(RepositoryError::Unanswered(_, error)) => {
            (false, RepositoryError::Store(error).into())
        }
        error => (true, error),
    };
    let is_sure = matches!(error, CreateError::Gone(_) | CreateError::MarkedSealed(_));
    let (mut whole, mut left) = (None, written.len());
    for (name, snapshot) in written {
        left -= 1;
        let is_last = left == 0;
        let worth = if is_last && !is_answered {
            match worth_unanswered(repository, &name, &snapshot) {
                Some(worth) => worth,
                None => continue,
            }
        // Those before the last were seen to lack something.
        } else if is_sure || !is_last {
            worth(repository, &name, &snapshot)
        } else {
            Worth::Doubtful
        };
        match worth {
            Worth::Backup => whole = Some((name, snapshot)),
            Worth::None => undo(repository, &name)?,
            Worth::Doubtful => tracing::warn!(
                "snapshot {short} stands, but whether a prune took what it needs was not seen: `backup check` tells",
                short = name.id.short()
            ),
        }
    }
    whole.ok_or(error)
}

/// The same of a snapshot of which the store did not say whether it was written. `None` where nothing is left to do: it is not
/// there, or a person was told what there is.
fn worth_unanswered(
    repository: &Repository,
    name: &SnapshotName,
    snapshot: &Snapshot,
) -> Option<Worth> {
    let short = name.id.short();
    match repository.is_listed(name) {
        Ok(false) => return None,
        Ok(true) => {}
        Err(_) => {
            tracing::warn!(
                "the store did not say whether snapshot {short} was written, so it may be there or come yet: `backup snapshots` \
                 tells, and `backup check` whether it is whole"
            );
            return None;
        }
    }
    match worth(repository, name, snapshot) {
        // Not returned as the backup: whether it is there to stay, and locked, nobody has said.
        Worth::Backup => {
            tracing::warn!(
                "snapshot {short} stands with all it needs, though the store failed while it was written: `backup forget {short}` \
                 drops it"
            );
            None
        }
        worth => Some(worth),
    }
}

/// What a snapshot is worth whose run failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worth {
    Backup,
    None,
    /// Nobody knows, or somebody may rely on it.
    Doubtful,
}

fn worth(repository: &Repository, name: &SnapshotName, snapshot: &Snapshot) -> Worth {
    match look_again(repository, name, snapshot) {
        Ok(Sight::Whole) => Worth::Backup,
        // Once something was moved for it, it may have been whole for others while this run stood still: what replaces its
        // packs stays even when it is marked too late.
        Ok(Sight::Marked | Sight::Gone(_)) => match repository.moves() {
            Ok(moves) if !moves.is_moved(name.id, &snapshot.packs) => Worth::None,
            _ => Worth::Doubtful,
        },
        Err(_) => Worth::Doubtful,
    }
}

/// What became of the packs of a snapshot that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sight {
    /// Everything it needs is there to stay.
    Whole,
    /// Some are marked.
    Marked,
    /// So many are gone.
    Gone(usize),
}

fn look_again(
    repository: &Repository,
    name: &SnapshotName,
    snapshot: &Snapshot,
) -> Result<Sight, CreateError> {
    // In this order: a pack that goes is gone before its mark is.
    let marked = repository.marked_packs()?;
    if lost(snapshot, &marked).is_empty() {
        let stored = repository.stored_packs()?;
        if snapshot.packs.iter().all(|pack| stored.contains_key(pack)) {
            return Ok(Sight::Whole);
        }
    }
    // A prune that has read it may have moved what it needs before others marked the packs it names.
    let mut before: Option<Vec<String>> = None;
    for _ in 0..LOOKS_MAX {
        let moves = repository.moves()?;
        let marked = repository.marked_packs()?;
        let stored = repository.stored_packs()?;
        let stays = |pack: &PackId| stored.contains_key(pack) && !marked.contains(pack);
        if moves.is_whole(name.id, &snapshot.packs, &stays) {
            return Ok(Sight::Whole);
        }
        let keys: Vec<_> = moves.objects().iter().map(|object| object.key.clone()).collect();
        // What seems to be lost may have been moved while this looked.
        if before.as_ref() == Some(&keys) {
            if !lost(snapshot, &marked).is_empty() {
                return Ok(Sight::Marked);
            }
            let gone = snapshot.packs.iter().filter(|pack| !stored.contains_key(pack)).count();
            return Ok(Sight::Gone(gone));
        }
        before = Some(keys);
    }
    Err(RepositoryError::Moving(repository.place()).into())
}

fn undo(repository: &Repository, name: &SnapshotName) -> Result<(), CreateError> {
    repository
        .remove_snapshot(name)
        .map_err(|error| CreateError::Standing(name.id.short(), Box::new(error)))
}

/// Bytes that make the name of the pack they are in its own, even where its content was stored before: what a prune
/// deletes never comes back under the same name, so a prune that stood still for a week deletes nothing of anybody.
pub(crate) fn salt() -> Result<[u8; SALT_BYTES], RepositoryError> {
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
        if index.kind == PackKind::Data && repository.is_encrypted() {
            pack.hide_length();
        }
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
