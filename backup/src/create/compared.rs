//! What a new snapshot is compared with: the last good one of its name with a source in common, and what came since.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chores_common::exit::chain;
use jiff::Timestamp;

use crate::guard::{self, Before, Content, USUAL_RUNS};
use crate::index::Index;
use crate::machine::{BOOT_TAG, Boot, NODE_TAG};
use crate::pack::{PackId, PackKind};
use crate::repository::Repository;
use crate::snapshot::{ENGINE_TAG, Snapshot, SnapshotName, Source, State, Stats};

use super::CreateOptions;

#[cfg(test)]
mod tests;

/// Snapshots that are looked at for the last ones of the same name: as many jobs may share a repository.
const COMPARED_MAX: usize = 512;

/// What is gone or unusual since the last good snapshot: it is told as long as it is so. Where the last snapshot is suspicious
/// and nothing before it can be compared, this one is as well. A backup does not fail for what it cannot be compared with.
///
/// `index` is what the run could refer to.
pub(super) fn suspicions(
    repository: &Repository,
    index: &Index,
    options: &CreateOptions,
    stats: &Stats,
) -> Vec<String> {
    if options.allow_change {
        return Vec::new();
    }
    let names = repository.snapshot_names().unwrap_or_default();
    let names = names.get(names.len().saturating_sub(COMPARED_MAX)..).unwrap_or_default();
    let read = |name| match repository.snapshot(name) {
        Ok(snapshot) => Some((name, snapshot)),
        Err(error) => {
            tracing::debug!("{}", chain(&error));
            None
        }
    };
    let now = Timestamp::now();
    let boot = options.tags.get(BOOT_TAG).and_then(|id| Boot::present(id, now));
    // Names tell the second, and sort by nothing within it.
    let seconds = names.chunk_by(|one, other| one.time == other.time);
    let of_job = seconds.rev().flat_map(|second| {
        let mut read: Vec<_> = second.iter().filter_map(read).collect();
        read.sort_by_key(|(_, snapshot)| Reverse(snapshot.time));
        read.into_iter()
            .filter(|(_, snapshot)| is_of_job(snapshot, &options.name, &options.sources))
            .filter(|(_, snapshot)| !is_of_another(snapshot, &options.tags, boot.as_ref(), now))
    });
    compare(index, of_job, &options.sources, stats)
}

/// The same with the snapshots of the job, the newest first.
fn compare<'a>(
    index: &Index,
    mut of_job: impl Iterator<Item = (&'a SnapshotName, Snapshot)>,
    sources: &[Source],
    stats: &Stats,
) -> Vec<String> {
    let mut fresh = Content { bytes: stats.bytes_added, stored: stats.bytes_stored };
    let mut doubtful = None;
    let last = of_job.by_ref().find(|(name, snapshot)| {
        if snapshot.suspicious {
            doubtful.get_or_insert_with(|| name.id.short());
            fresh.bytes = fresh.bytes.saturating_add(snapshot.stats.bytes_added);
            fresh.stored = fresh.stored.saturating_add(snapshot.stats.bytes_stored);
        }
        !snapshot.suspicious
    });
    let mut found = Vec::new();
    let mut is_compared = false;
    if let Some((name, last)) = last {
        let id = name.id.short();
        let before_sources: Vec<_> = last.sources_of_files().cloned().collect();
        let before = Before { id: &id, sources: &before_sources, stats: &last.stats };
        found = guard::suspicions(before, sources, stats);
        is_compared = paths(&before_sources) == paths(sources);
        if is_compared {
            let kept = content(index, &last.packs);
            // Suspicious ones before a good one were accepted with it.
            let earlier = of_job.take(USUAL_RUNS - 1).map(|(_, snapshot)| snapshot.stats);
            let usual = std::iter::once(last.stats).chain(earlier);
            found.extend(guard::anomalies(before, kept, fresh, usual, stats));
        }
    }
    if let Some(id) = doubtful
        && found.is_empty()
        && !is_compared
    {
        found.push(format!(
            "the last snapshot {id} is suspicious, and no good one before it can be compared with this one"
        ));
    }
    found
}

/// Whether it says that another machine has made it, with jobs of the same names.
fn is_of_another(
    snapshot: &Snapshot,
    tags: &BTreeMap<String, String>,
    boot: Option<&Boot>,
    now: Timestamp,
) -> bool {
    let differs = |key: &str| {
        let (theirs, ours) = (snapshot.tags.get(key), tags.get(key));
        theirs.zip(ours).is_some_and(|(theirs, ours)| theirs != ours)
    };
    differs(ENGINE_TAG)
        || differs(NODE_TAG)
        || boot.is_some_and(|boot| boot.is_elsewhere(snapshot.time, &snapshot.tags, now))
}

/// Whether it is of the same job: another one may have the same name, a dump by itself for example.
fn is_of_job(snapshot: &Snapshot, name: &str, sources: &[Source]) -> bool {
    snapshot.name == name
        && snapshot.state != State::Failed
        && !paths(snapshot.sources_of_files()).is_disjoint(&paths(sources))
}

fn paths<'a>(sources: impl IntoIterator<Item = &'a Source>) -> BTreeSet<&'a str> {
    sources.into_iter().map(|source| source.path.as_str()).collect()
}

/// What these packs hold of files, as far as today's key may use them.
fn content(index: &Index, packs: &[PackId]) -> Content {
    let is_meant = |id: &PackId| packs.binary_search(id).is_ok();
    let packs = index.packs().iter();
    let packs = packs.filter(|pack| pack.kind == PackKind::Data && is_meant(&pack.id));
    packs.flat_map(|pack| pack.frames.iter()).fold(Content::default(), |sum, frame| Content {
        bytes: sum.bytes.saturating_add(u64::from(frame.content)),
        stored: sum.stored.saturating_add(u64::from(frame.stored)),
    })
}
