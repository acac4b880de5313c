//! Snapshots of one repository into another one, without their sources: into an encrypted one, into a bucket, or away from
//! either.
//!
//! Content is read from the one, named and compressed anew for the other, and committed there as any backup. A snapshot keeps its
//! name, time, host, tags and all that is said about it; its id is another one, because it names other packs.

use std::collections::HashSet;

use chores_common::exit::chain;
use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::create::{CreateError, Names, TransferError, TransferOptions, commit, transfer};
use crate::repository::{Operation, Repository, RepositoryError};
use crate::snapshot::{Selector, Snapshot, SnapshotName, Stats};

#[cfg(test)]
mod tests;

/// What to copy and how.
#[derive(Clone, Debug)]
pub struct CopyOptions {
    /// These; without any, all.
    pub snapshots: Vec<Selector>,
    /// Of these only those of this name.
    pub name: Option<String>,
    /// How to store.
    pub transfer: TransferOptions,
    /// Only say what would be copied.
    pub dry_run: bool,
}

/// What became of a snapshot.
#[derive(Debug)]
pub struct Copied {
    /// Its name in the other repository.
    pub from: SnapshotName,
    /// Its document there.
    pub snapshot: Snapshot,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a snapshot.
#[derive(Debug)]
pub enum Outcome {
    /// It is there now, under this name.
    Copied(SnapshotName, Stats),
    /// It would be copied.
    Would,
    /// It was there already.
    There,
    /// It cannot be read whole, so nothing of it is there.
    Damaged(TransferError),
}

/// What a copy did.
#[derive(Debug, Default)]
pub struct CopyReport {
    /// Each snapshot that was wanted, the oldest first.
    pub snapshots: Vec<Copied>,
    /// Documents that cannot be read, with what is wrong.
    pub unreadable: Vec<(SnapshotName, String)>,
}

/// Why a copy ended.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A repository or its store said no.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A snapshot could not be read or stored.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A snapshot could not be committed.
    #[error(transparent)]
    Commit(#[from] CreateError),
    /// Both are one.
    #[error("--from and --to name the same repository, {0}")]
    Same(String),
    /// SIGINT or SIGTERM.
    #[error("interrupted: {0} snapshots were copied, the next run goes on")]
    Interrupted(usize),
}

/// What makes a snapshot the same one in another repository.
type Identity = (String, String, jiff::Timestamp);

fn identity(snapshot: &Snapshot) -> Identity {
    (snapshot.name.clone(), snapshot.host.clone(), snapshot.time)
}

/// Copies snapshots that are not there yet, the oldest first.
pub fn copy(
    from: &Repository,
    to: &Repository,
    options: &CopyOptions,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<CopyReport, CopyError> {
    from.permit(Operation::Read)?;
    from.require_identity()?;
    to.permit(Operation::Write)?;
    if from.id() == to.id() {
        return Err(CopyError::Same(to.place()));
    }
    let mut report = CopyReport::default();
    let wanted = wanted(from, options, &mut report)?;
    let there: HashSet<_> = to
        .snapshots()?
        .into_iter()
        .filter_map(|(_, read)| read.ok().map(|snapshot| identity(&snapshot)))
        .collect();
    let (all, _) = from.index_for_reading(wanted.iter().map(|(_, snapshot)| snapshot))?;
    let mut names = Names::default();
    let mut copied = 0;
    for (name, snapshot) in wanted {
        let outcome = if there.contains(&identity(&snapshot)) {
            Outcome::There
        } else if options.dry_run {
            Outcome::Would
        } else {
            // Of several places of a chunk the one that this snapshot names is readable where it is.
            let own = if from.is_encrypted() {
                Some(from.index_for_reading([&snapshot])?.0)
            } else {
                None
            };
            let source = (from, own.as_ref().unwrap_or(&all));
            let stored = transfer(
                source,
                &snapshot.tree,
                to,
                &mut names,
                options.transfer,
                progress,
                shutdown,
            );
            match stored {
                Ok(stored) => {
                    let stats = Stats {
                        chunks_added: stored.stats.chunks_added,
                        bytes_added: stored.stats.bytes_added,
                        bytes_stored: stored.stats.bytes_stored,
                        ..snapshot.stats
                    };
                    let document = Snapshot {
                        tree: stored.tree,
                        packs: stored.packs,
                        stats,
                        program: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
                        ..snapshot.clone()
                    };
                    let (name, _) = commit(to, document)?;
                    copied += 1;
                    Outcome::Copied(name, stats)
                }
                Err(
                    TransferError::Interrupted | TransferError::Store(CreateError::Interrupted),
                ) => {
                    return Err(CopyError::Interrupted(copied));
                }
                Err(error) if error.is_damage() => Outcome::Damaged(error),
                Err(error) => return Err(error.into()),
            }
        };
        report.snapshots.push(Copied { from: name, snapshot, outcome });
    }
    Ok(report)
}

/// The snapshots that were asked for, the oldest first.
fn wanted(
    from: &Repository,
    options: &CopyOptions,
    report: &mut CopyReport,
) -> Result<Vec<(SnapshotName, Snapshot)>, CopyError> {
    let mut wanted = Vec::new();
    if options.snapshots.is_empty() {
        for (name, read) in from.snapshots()? {
            match read {
                Ok(snapshot) => wanted.push((name, snapshot)),
                Err(error) => report.unreadable.push((name, chain(&error))),
            }
        }
    } else {
        for selector in &options.snapshots {
            let (name, snapshot) = from.select(selector)?;
            if !wanted.iter().any(|(known, _)| *known == name) {
                wanted.push((name, snapshot));
            }
        }
    }
    // Names know whole seconds only.
    wanted.sort_by_key(|(_, snapshot)| snapshot.time);
    wanted.retain(|(_, snapshot)| options.name.as_ref().is_none_or(|name| snapshot.name == *name));
    Ok(wanted)
}
