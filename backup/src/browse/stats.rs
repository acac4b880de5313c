//! `stats`: what the repository holds and what it saves.

use std::collections::HashSet;
use std::io::Write;

use crate::text::bytes;
use serde::Serialize;

use super::text::instant;
use super::{BrowseError, write_json};
use crate::index::Index;
use crate::pack::PackKind;
use crate::repository::Repository;

/// Packs and chunks of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindStats {
    /// Packs an index knows.
    pub packs: u64,
    /// Their length in the store, bytes.
    pub stored_bytes: u64,
    /// Different chunks in them.
    pub chunks: u64,
    /// Length of these chunks before compression, bytes.
    pub raw_bytes: u64,
}

/// The repository in figures.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RepositoryStats {
    /// Readable snapshots.
    pub snapshots: u64,
    /// Snapshot documents that cannot be read.
    pub snapshots_damaged: u64,
    /// Index objects that cannot be read.
    pub indexes_damaged: u64,
    /// Time of the oldest readable snapshot.
    pub oldest: Option<jiff::Timestamp>,
    /// Time of the newest readable snapshot.
    pub newest: Option<jiff::Timestamp>,
    /// Length of all files of all snapshots together, bytes.
    pub snapshot_bytes: u64,
    /// File content.
    pub data: KindStats,
    /// Trees.
    pub trees: KindStats,
    /// Length of all index objects, bytes.
    pub index_bytes: u64,
    /// Packs in the store that no index names: left by interrupted runs.
    pub orphan_packs: u64,
    /// Their length, bytes.
    pub orphan_bytes: u64,
    /// Temporary files: of writers that were killed or are at work.
    pub temporary_files: u64,
    /// Their length, bytes.
    pub temporary_bytes: u64,
    /// Packs in the store that are marked for removal.
    pub marked_packs: u64,
    /// Their length, bytes.
    pub marked_bytes: u64,
    /// Packs a snapshot needs that are not in the store.
    pub missing_packs: u64,
    /// All objects but `repo.json`, marks and snapshots: packs, orphans and indexes, bytes.
    pub stored_bytes: u64,
    /// Content before compression : content packs. `None` without content.
    pub compression_ratio: Option<f64>,
    /// Bytes of all snapshots : everything stored. `None` without content.
    pub dedup_ratio: Option<f64>,
}

impl RepositoryStats {
    /// Whether something is damaged or missing: exit code 3.
    #[must_use]
    pub fn has_damage(&self) -> bool {
        self.snapshots_damaged + self.indexes_damaged + self.missing_packs > 0
    }
}

/// Counts what the repository holds, from its listings, indexes and snapshot documents; no pack is read.
pub fn stats(
    repository: &Repository,
    json: bool,
    out: &mut impl Write,
) -> Result<RepositoryStats, BrowseError> {
    let stats = gather(repository)?;
    if json {
        write_json(out, &stats)?;
    } else {
        write_text(out, &stats)?;
    }
    out.flush()?;
    Ok(stats)
}

fn gather(repository: &Repository) -> Result<RepositoryStats, BrowseError> {
    let mut stats = RepositoryStats::default();
    let mut needed = HashSet::new();
    for (_, read) in repository.snapshots()? {
        let Ok(snapshot) = read else {
            stats.snapshots_damaged += 1;
            continue;
        };
        stats.snapshots += 1;
        needed.extend(snapshot.packs.iter().copied());
        stats.snapshot_bytes = stats.snapshot_bytes.saturating_add(snapshot.stats.bytes);
        stats.oldest = Some(stats.oldest.map_or(snapshot.time, |time| time.min(snapshot.time)));
        stats.newest = Some(stats.newest.map_or(snapshot.time, |time| time.max(snapshot.time)));
    }
    let objects = repository.index_objects()?;
    stats.indexes_damaged = objects.damaged.len() as u64;
    let index = Index::new(objects.packs, &HashSet::new());
    count_chunks(&mut stats, &index);
    let indexes =
        repository.store().list("index/").map_err(crate::repository::RepositoryError::from)?;
    stats.index_bytes = indexes.iter().map(|object| object.size).sum();
    let mut stored = repository.stored_packs()?;
    let marked = repository.marked_packs()?;
    for bytes in stored.iter().filter(|(id, _)| marked.contains(id)).map(|(_, bytes)| bytes) {
        stats.marked_packs += 1;
        stats.marked_bytes += bytes;
    }
    stats.missing_packs = needed.iter().filter(|id| !stored.contains_key(id)).count() as u64;
    for pack in index.packs() {
        let kind = stats.kind(pack.kind);
        kind.packs += 1;
        kind.stored_bytes += stored.remove(&pack.id).unwrap_or(0);
    }
    let temporaries =
        repository.store().temporaries().map_err(crate::repository::RepositoryError::from)?;
    stats.temporary_files = temporaries.len() as u64;
    stats.temporary_bytes = temporaries.iter().map(|file| file.size).sum();
    stats.orphan_packs = stored.len() as u64;
    stats.orphan_bytes = stored.values().sum();
    stats.stored_bytes =
        stats.data.stored_bytes + stats.trees.stored_bytes + stats.orphan_bytes + stats.index_bytes;
    stats.compression_ratio = ratio(stats.data.raw_bytes, stats.data.stored_bytes);
    stats.dedup_ratio = ratio(stats.snapshot_bytes, stats.stored_bytes);
    Ok(stats)
}

fn count_chunks(stats: &mut RepositoryStats, index: &Index) {
    for (_, place) in index.chunks() {
        if let Some(pack) = index.pack(place.pack) {
            let kind = stats.kind(pack.kind);
            kind.chunks += 1;
            kind.raw_bytes += u64::from(place.length);
        }
    }
}

impl RepositoryStats {
    fn kind(&mut self, kind: PackKind) -> &mut KindStats {
        match kind {
            PackKind::Data => &mut self.data,
            PackKind::Tree => &mut self.trees,
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio for people")]
fn ratio(raw: u64, stored: u64) -> Option<f64> {
    let hundredths = (raw as f64 / stored as f64 * 100.0).round();
    (raw > 0 && stored > 0).then_some(hundredths / 100.0)
}

fn write_text(out: &mut impl Write, stats: &RepositoryStats) -> Result<(), BrowseError> {
    let RepositoryStats { snapshots, data, trees, .. } = stats;
    writeln!(out, "snapshots    {snapshots}, {} of files", bytes(stats.snapshot_bytes))?;
    if let (Some(oldest), Some(newest)) = (stats.oldest, stats.newest) {
        writeln!(out, "             {} to {}", instant(oldest), instant(newest))?;
    }
    for (name, kind) in [("content", data), ("trees", trees)] {
        let (raw, stored) = (bytes(kind.raw_bytes), bytes(kind.stored_bytes));
        let (chunks, packs) = (kind.chunks, kind.packs);
        writeln!(out, "{name:<12} {raw} in {chunks} chunks, {stored} in {packs} packs")?;
    }
    writeln!(out, "indexes      {}", bytes(stats.index_bytes))?;
    writeln!(out, "stored       {}", bytes(stats.stored_bytes))?;
    if let (Some(compression), Some(dedup)) = (stats.compression_ratio, stats.dedup_ratio) {
        writeln!(out, "compression  {compression:.2} : 1")?;
        writeln!(out, "savings      {dedup:.2} : 1, all snapshots to all that is stored")?;
    }
    if stats.orphan_packs > 0 {
        let (packs, bytes) = (stats.orphan_packs, bytes(stats.orphan_bytes));
        writeln!(out, "orphans      {bytes} in {packs} packs that no index names")?;
    }
    if stats.marked_packs > 0 {
        let (packs, bytes) = (stats.marked_packs, bytes(stats.marked_bytes));
        writeln!(out, "marked       {bytes} in {packs} packs that a prune deletes")?;
    }
    if stats.temporary_files > 0 {
        let (files, bytes) = (stats.temporary_files, bytes(stats.temporary_bytes));
        writeln!(
            out,
            "temporary    {bytes} in {files} files of runs that were killed or are at work"
        )?;
    }
    if stats.has_damage() {
        writeln!(
            out,
            "damage       {} snapshots, {} indexes unreadable, {} packs missing: run `backup check`",
            stats.snapshots_damaged, stats.indexes_damaged, stats.missing_packs
        )?;
    }
    Ok(())
}
