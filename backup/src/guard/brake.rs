//! What is unlike the snapshots before: content that is new all at once, looks like noise, or comes in far more files (pure).
//!
//! Whoever encrypts the files of others for ransom does the first two, and leaves a note in each folder. What was saved before
//! must not be forgotten then for what is saved now.

use crate::snapshot::Stats;
use crate::text;

use super::Before;

#[cfg(test)]
mod tests;

/// Less new content than this is never unlike anything, in bytes.
const NEW_BYTES_MIN: u64 = 16 << 20;
/// Fewer new files than this come for all kinds of reasons.
const NEW_FILES_MIN: u64 = 1000;
/// So many times the files of the last snapshot are unlike it.
const FILES_GROWTH: u64 = 3;

/// Hundredths of its length that content takes in the store at least where it is noise.
const NOISE_PERCENT: u64 = 95;
/// The same of content that is none, at the most.
const TEXTURE_PERCENT: u64 = 85;
/// Hundredths of the content that are new where noise is looked for.
const NOISE_SHARE_PERCENT: u64 = 25;

/// Hundredths of the content that are new at once.
const NEW_PERCENT: u64 = 50;
/// The same in a usual run, at the most.
const USUAL_PERCENT: u64 = 12;
/// Runs that tell what is usual.
pub const USUAL_RUNS: usize = 3;

/// Content of files, and what it takes in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Its length in bytes.
    pub bytes: u64,
    /// What it takes, in bytes.
    pub stored: u64,
}

/// Whether so much is `fresh` of a snapshot with these counts that it must be asked what is usual.
#[must_use]
pub fn is_much(fresh: Content, stats: &Stats) -> bool {
    fresh.bytes >= NEW_BYTES_MIN && is_share(fresh.bytes, stats.bytes, NEW_PERCENT)
}

/// What is unlike the last good snapshot, one sentence each. `kept` is what the store has of that one (nothing where a new key
/// has all of it stored again), `fresh` what has come since, `usual` the counts of the last good snapshots from that one on:
/// fewer than [`USUAL_RUNS`] say nothing about what is usual.
#[must_use]
pub fn anomalies(
    before: Before<'_>,
    kept: Content,
    fresh: Content,
    usual: &[Stats],
    stats: &Stats,
) -> Vec<String> {
    let mut found = Vec::new();
    let id = before.id;
    let is_noise = fresh.bytes >= NEW_BYTES_MIN
        && is_share(fresh.bytes, stats.bytes, NOISE_SHARE_PERCENT)
        && is_share(fresh.stored, fresh.bytes, NOISE_PERCENT);
    let was_noise = is_share(kept.stored, kept.bytes, TEXTURE_PERCENT);
    if is_noise && kept.bytes >= NEW_BYTES_MIN && !was_noise {
        found.push(format!(
            "{} of new content cannot be compressed, as if somebody had encrypted it; that of the last snapshot {id} takes \
             {} % of its length",
            text::bytes(fresh.bytes),
            percent(kept.stored, kept.bytes),
        ));
    }
    let is_quiet =
        |run: &Stats| run.bytes_added == 0 || !is_share(run.bytes_added, run.bytes, USUAL_PERCENT);
    if kept.bytes > 0
        && is_much(fresh, stats)
        && usual.len() >= USUAL_RUNS
        && usual.iter().all(is_quiet)
    {
        let most = usual.iter().map(|run| percent(run.bytes_added, run.bytes)).max();
        found.push(format!(
            "{} % of the content is new since the last snapshot {id}, where it was at most {} % in each of {} before",
            percent(fresh.bytes, stats.bytes).min(100),
            most.unwrap_or(0),
            usual.len(),
        ));
    }
    let was = before.stats.files;
    let grown = stats.files.saturating_sub(was);
    if was > 0 && grown >= NEW_FILES_MIN && stats.files / FILES_GROWTH >= was {
        found.push(format!(
            "there are {} files, where the last snapshot {id} has {}",
            text::count(stats.files),
            text::count(was),
        ));
    }
    found
}

/// Whether `part` is at least so many hundredths of `whole`.
fn is_share(part: u64, whole: u64, percent: u64) -> bool {
    u128::from(part) * 100 >= u128::from(whole) * u128::from(percent)
}

fn percent(part: u64, whole: u64) -> u128 {
    (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0)
}
