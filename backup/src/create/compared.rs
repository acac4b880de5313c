//! What a new snapshot is compared with: the last good ones of its name.

use std::collections::BTreeSet;

use chores_common::exit::chain;

use crate::guard::{self, Before, Content, USUAL_RUNS};
use crate::index::{Index, KnownPack};
use crate::pack::{PackId, PackKind};
use crate::repository::Repository;
use crate::snapshot::{Snapshot, Source, State, Stats};

use super::CreateOptions;

/// Snapshots that are looked at for the last ones of the same name: as many jobs may share a repository.
const COMPARED_MAX: usize = 512;

/// What is gone or unusual since the last snapshot of this name that is not suspicious itself: it is told as long as it is so
/// and that snapshot is there. A backup does not fail for what it cannot be compared with.
///
/// `index` is what the run began with, `packs` what its snapshot needs.
pub(super) fn suspicions(
    repository: &Repository,
    index: &Index,
    options: &CreateOptions,
    stats: &Stats,
    packs: &[PackId],
) -> Vec<String> {
    if options.allow_change {
        return Vec::new();
    }
    let names = repository.snapshot_names().unwrap_or_default();
    let mut good =
        names.iter().rev().take(COMPARED_MAX).filter_map(|name| match repository.snapshot(name) {
            Ok(before) => is_good(&before, options).then_some((name, before)),
            Err(error) => {
                tracing::debug!("{}", chain(&error));
                None
            }
        });
    let Some((name, last)) = good.next() else { return Vec::new() };
    let id = name.id.short();
    // Dumps come beside what is compared here.
    let is_dump = |source: &Source| last.dumps.iter().any(|dump| dump.path == source.path);
    let sources: Vec<_> = last.sources.iter().filter(|source| !is_dump(source)).cloned().collect();
    let before = Before { id: &id, sources: &sources, stats: &last.stats };
    let mut found = guard::suspicions(before, &options.sources, stats);
    if paths(&sources) == paths(&options.sources) {
        let kept = content(index, |pack| last.packs.binary_search(&pack.id).is_ok());
        let since = content(index, |pack| {
            packs.binary_search(&pack.id).is_ok() && last.packs.binary_search(&pack.id).is_err()
        });
        let fresh = Content {
            bytes: since.bytes.saturating_add(stats.bytes_added),
            stored: since.stored.saturating_add(stats.bytes_stored),
        };
        let mut usual = vec![last.stats];
        if guard::is_much(fresh, stats) {
            usual.extend(good.take(USUAL_RUNS - 1).map(|(_, before)| before.stats));
        }
        found.extend(guard::anomalies(before, kept, fresh, &usual, stats));
    }
    found
}

fn is_good(before: &Snapshot, options: &CreateOptions) -> bool {
    before.name == options.name && before.state != State::Failed && !before.suspicious
}

fn paths(sources: &[Source]) -> BTreeSet<&str> {
    sources.iter().map(|source| source.path.as_str()).collect()
}

/// What the packs that are meant hold of files.
fn content(index: &Index, is_meant: impl Fn(&KnownPack) -> bool) -> Content {
    let packs = index.packs().iter().filter(|pack| pack.kind == PackKind::Data && is_meant(pack));
    let frames = packs.flat_map(|pack| pack.frames.iter());
    frames.fold(Content::default(), |sum, frame| Content {
        bytes: sum.bytes.saturating_add(u64::from(frame.content)),
        stored: sum.stored.saturating_add(u64::from(frame.stored)),
    })
}
