//! What is gone since the last snapshot of the same name, of files and of dumps (pure).

use std::collections::BTreeSet;

use crate::snapshot::{DumpRecord, Source, Stats};
use crate::text;

#[cfg(test)]
mod tests;

/// Fewer files than this may come and go, and less content, in bytes.
const FILES_MIN: u64 = 10;
const BYTES_MIN: u64 = 1 << 20;

/// The last snapshot.
#[derive(Clone, Copy, Debug)]
pub struct Before<'a> {
    /// Its id as people see it.
    pub id: &'a str,
    /// Its sources.
    pub sources: &'a [Source],
    /// Its counts.
    pub stats: &'a Stats,
}

/// What is suspicious about a new snapshot: one sentence each. With no source in common it is another job of the same
/// name; with others besides, only what is missing is told.
#[must_use]
pub fn suspicions(before: Before<'_>, sources: &[Source], stats: &Stats) -> Vec<String> {
    let paths = |sources: &[Source]| -> BTreeSet<String> {
        sources.iter().map(|source| source.path.clone()).collect()
    };
    let (old, new) = (paths(before.sources), paths(sources));
    if old.is_disjoint(&new) {
        return Vec::new();
    }
    let id = before.id;
    let missing = old.difference(&new);
    let mut found: Vec<String> = missing
        .map(|path| format!("{path} is missing, which the last snapshot {id} has: is it mounted?"))
        .collect();
    if old != new {
        return found;
    }
    let (was, is) = (before.stats, stats);
    if was.files >= FILES_MIN && is.files < was.files.div_ceil(2) {
        let (is, was) = (text::count(is.files), text::count(was.files));
        found.push(format!(
            "more than half of the files are gone: {is}, where the last snapshot {id} has {was}"
        ));
    }
    if was.bytes >= BYTES_MIN && is.bytes < was.bytes.div_ceil(2) {
        let (is, was) = (text::bytes(is.bytes), text::bytes(was.bytes));
        found.push(format!(
            "more than half of the content is gone: {is}, where the last snapshot {id} has {was}"
        ));
    }
    found
}

/// What is suspicious about new dumps of the databases that the snapshot `id` has dumps of, one sentence each: a server that was
/// set up anew dumps without a fault, and has nothing.
#[must_use]
pub fn shrunk_dumps(id: &str, before: &[DumpRecord], dumps: &[DumpRecord]) -> Vec<String> {
    let bytes = |dump: &DumpRecord| {
        dump.files.iter().fold(0_u64, |sum, file| sum.saturating_add(file.bytes))
    };
    let shrunk = |new: &DumpRecord| {
        let old = before.iter().find(|old| old.path == new.path && old.kind == new.kind)?;
        let (was, is) = (bytes(old), bytes(new));
        (was >= BYTES_MIN && is < was.div_ceil(2)).then(|| {
            let (path, is, was) = (&new.path, text::bytes(is), text::bytes(was));
            format!("more than half of the dump {path} is gone: {is}, where the last snapshot {id} has {was}")
        })
    };
    dumps.iter().filter_map(shrunk).collect()
}
