//! What a new snapshot is compared with: the last good one of its name with a source in common, and what came since.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use chores_common::exit::chain;
use chores_common::object::ErrorKind;
use jiff::Timestamp;

use crate::guard::{self, Before, Content, USUAL_RUNS};
use crate::index::Index;
use crate::machine::{BOOT_TAG, Boot, NODE_TAG};
use crate::pack::{PackId, PackKind};
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::{DumpRecord, ENGINE_TAG, Snapshot, SnapshotName, Source, State, Stats};
use crate::text;

use super::CreateOptions;

#[cfg(test)]
mod tests;

/// Snapshots that are looked at for the last ones of the same job: all that a repository may have.
const COMPARED_MAX: usize = 100_000;

/// As many are looked at for what is usual, once a good one was found.
const USUAL_AMONG_MAX: usize = 512;

/// Snapshots that are read at once at first, and at the most: the last good one is mostly among the newest.
const BATCH_MIN: usize = 16;
const BATCH_MAX: usize = 512;

/// Snapshots of one job without their packs, the newest first.
type OfJob = Vec<(SnapshotName, Snapshot)>;

/// What is gone or unusual since the last good snapshot: it is told as long as it is so. Where the last snapshot is suspicious
/// and nothing before it can be compared, this one is as well, and so is one where it cannot be known. A backup does not fail for
/// what it cannot be compared with.
///
/// `index` is what the run could refer to.
pub(super) fn suspicions(
    repository: &Repository,
    index: &Index,
    options: &CreateOptions,
    dumps: &[DumpRecord],
    stats: &Stats,
) -> Vec<String> {
    if options.allow_change {
        return Vec::new();
    }
    let now = Timestamp::now();
    let boot = options.tags.get(BOOT_TAG).and_then(|id| Boot::present(id, now));
    let is_meant = |snapshot: &Snapshot| {
        is_of_job(snapshot, &options.name, &options.sources)
            && !is_of_another(snapshot, &options.tags, boot.as_ref(), now)
    };
    let kept = |name: &SnapshotName| {
        repository.snapshot(name).map(|snapshot| content(index, &snapshot.packs))
    };
    let found = of_job(repository, is_meant).and_then(|(of_job, is_all)| {
        let is_doubtful = of_job.iter().all(|(_, snapshot)| snapshot.suspicious);
        let is_unknown = !is_all && is_doubtful && !of_job.is_empty();
        let mut found = compare(of_job, &options.sources, dumps, stats, kept)?;
        if is_unknown && found.is_empty() {
            found.push(unknown(&options.name));
        }
        Ok(found)
    });
    found.unwrap_or_else(|error| vec![unreadable(&error)])
}

/// The same of a snapshot of nothing but a dump.
pub(crate) fn suspicions_of_dump(
    repository: &Repository,
    name: &str,
    tags: &BTreeMap<String, String>,
    dump: &DumpRecord,
) -> Vec<String> {
    let now = Timestamp::now();
    let boot = tags.get(BOOT_TAG).and_then(|id| Boot::present(id, now));
    let is_meant = |snapshot: &Snapshot| {
        let is_same = |old: &DumpRecord| old.path == dump.path && old.kind == dump.kind;
        snapshot.name == name
            && snapshot.state != State::Failed
            && snapshot.dumps.iter().any(is_same)
            && !is_of_another(snapshot, tags, boot.as_ref(), now)
    };
    let (of_job, is_all) = match of_job(repository, is_meant) {
        Ok(found) => found,
        Err(error) => return vec![unreadable(&error)],
    };
    match of_job.iter().find(|(_, snapshot)| !snapshot.suspicious) {
        Some((name, last)) => {
            guard::shrunk_dumps(&name.id.short(), &last.dumps, std::slice::from_ref(dump))
        }
        None if !is_all && !of_job.is_empty() => vec![unknown(name)],
        None => {
            of_job.first().map(|(name, _)| incomparable(&name.id.short())).into_iter().collect()
        }
    }
}

fn unreadable(error: &RepositoryError) -> String {
    let error = chain(error);
    format!(
        "what was saved before cannot be read, so nothing tells whether this is as usual: {error}"
    )
}

fn unknown(name: &str) -> String {
    let looked = text::count(COMPARED_MAX as u64);
    format!("none of the newest {looked} snapshots is a good one of {name}")
}

fn incomparable(id: &str) -> String {
    format!(
        "the last snapshot {id} is suspicious, and no good one before it can be compared with this one"
    )
}

/// The snapshots that are meant, as far back as the last good one and what is usual need, and whether older ones have been looked
/// at too where none is good. What cannot be read matters only where it may be newer than the last good one.
fn of_job(
    repository: &Repository,
    is_meant: impl Fn(&Snapshot) -> bool + Sync,
) -> Result<(OfJob, bool), RepositoryError> {
    let names = repository.snapshot_names()?;
    // Names tell the second, and sort by nothing within it.
    let mut seconds = names.chunk_by(|one, other| one.time == other.time).rev();
    let (mut found, mut looked, mut size) = (OfJob::new(), 0, BATCH_MIN);
    let mut has_good = false;
    loop {
        let mut batch = Vec::new();
        while batch.len() < size
            && let Some(second) = seconds.next()
        {
            batch.extend_from_slice(second);
        }
        if batch.is_empty() {
            return Ok((found, true));
        }
        looked += batch.len();
        size = (size * 2).min(BATCH_MAX);
        let read = repository.documents_as(&batch, |snapshot| {
            // Of many, the packs alone may need much memory.
            is_meant(&snapshot).then(|| Snapshot { packs: Vec::new(), ..snapshot })
        });
        let from = found.len();
        let mut unread = None;
        for (name, read) in read {
            match read {
                Ok(snapshot) => found.extend(snapshot.map(|snapshot| (name, snapshot))),
                Err(RepositoryError::Store(error))
                    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt) =>
                {
                    let is_newer = |(time, _): &(String, _)| *time < name.time;
                    if unread.as_ref().is_none_or(is_newer) {
                        unread = Some((name.time, error));
                    }
                }
                // Forgotten meanwhile, or damaged, which a check tells.
                Err(error) => tracing::debug!("{}", chain(&error)),
            }
        }
        if let Some(new) = found.get_mut(from..) {
            new.sort_by_key(|(_, snapshot)| Reverse(snapshot.time));
        }
        let good = found.iter().find(|(_, snapshot)| !snapshot.suspicious);
        // In the batch of the last good one, or before it.
        if let Some((time, error)) = unread.filter(|_| !has_good)
            && good.is_none_or(|(name, _)| name.time <= time)
        {
            return Err(error.into());
        }
        has_good = good.is_some();
        if has_good && (looked >= USUAL_AMONG_MAX || found.len() >= USUAL_RUNS) {
            return Ok((found, true));
        }
        if looked >= COMPARED_MAX {
            return Ok((found, false));
        }
    }
}

/// The same with the snapshots of the job, the newest first, and what the good one's packs hold.
fn compare<E>(
    of_job: OfJob,
    sources: &[Source],
    dumps: &[DumpRecord],
    stats: &Stats,
    kept: impl FnOnce(&SnapshotName) -> Result<Content, E>,
) -> Result<Vec<String>, E> {
    let mut of_job = of_job.into_iter();
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
        found.extend(guard::shrunk_dumps(&id, &last.dumps, dumps));
        is_compared = paths(&before_sources) == paths(sources);
        if is_compared {
            // Suspicious ones before a good one were accepted with it.
            let earlier = of_job.take(USUAL_RUNS - 1).map(|(_, snapshot)| snapshot.stats);
            let usual = std::iter::once(last.stats).chain(earlier);
            found.extend(guard::anomalies(before, kept(&name)?, fresh, usual, stats));
        }
    }
    if let Some(id) = doubtful
        && found.is_empty()
        && !is_compared
    {
        found.push(incomparable(&id));
    }
    Ok(found)
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
