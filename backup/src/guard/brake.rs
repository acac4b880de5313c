//! What is unlike the snapshots before: content that was replaced by noise, or comes in far more files (pure).
//!
//! Whoever encrypts the files of others for ransom does the first, and may leave a note in each folder. What was saved before
//! must not be forgotten then for what is saved now.

use crate::snapshot::Stats;
use crate::text;

use super::Before;

#[cfg(test)]
mod tests;

/// Less content than this tells nothing, in bytes.
const BYTES_MIN: u64 = 16 << 20;
/// Hundredths of its length that content takes in the store at least where it is noise.
const NOISE_PERCENT: u64 = 95;
/// The same of content that is none, at the most.
const TEXTURE_PERCENT: u64 = 85;
/// Hundredths of the content that are replaced at once.
const REPLACED_PERCENT: u64 = 25;
/// Runs that tell whether that is usual: two days of one each hour.
pub const USUAL_RUNS: usize = 48;

/// Fewer files than this may become many.
const FILES_MIN: u64 = 1000;
/// So many times the files of the last snapshot are unlike it.
const FILES_GROWTH: u64 = 3;

/// Content of files, and what it takes in the store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Its length in bytes.
    pub bytes: u64,
    /// What it takes, in bytes.
    pub stored: u64,
}

/// What is unlike the last good snapshot, one sentence each. `kept` is what the store has of that one (nothing where a new key
/// has all of it stored again), `fresh` what has come since, `usual` the counts of the last snapshots from that one on
/// backwards, which are only asked for where they matter.
#[must_use]
pub fn anomalies(
    before: Before<'_>,
    kept: Content,
    fresh: Content,
    usual: impl Iterator<Item = Stats>,
    stats: &Stats,
) -> Vec<String> {
    let mut found = Vec::new();
    let id = before.id;
    let is_noise = |content: Content| {
        content.bytes > 0 && is_share(content.stored, content.bytes, NOISE_PERCENT)
    };
    let is_much = |bytes: u64| bytes >= BYTES_MIN && is_share(bytes, kept.bytes, REPLACED_PERCENT);
    let is_usual = |run: Stats| {
        is_much(run.bytes_added)
            && is_noise(Content { bytes: run.bytes_added, stored: run.bytes_stored })
    };
    let had_texture =
        kept.bytes >= BYTES_MIN && !is_share(kept.stored, kept.bytes, TEXTURE_PERCENT);
    // What only came beside the rest replaces nothing.
    let replaced = fresh.bytes.saturating_sub(stats.bytes.saturating_sub(before.stats.bytes));
    if had_texture && is_noise(fresh) && is_much(replaced) && !usual.into_iter().any(is_usual) {
        found.push(format!(
            "{} of content was replaced by what cannot be compressed, as if somebody had encrypted it; that of the last \
             snapshot {id} takes {} % of its length",
            text::bytes(replaced),
            u128::from(kept.stored) * 100 / u128::from(kept.bytes.max(1)),
        ));
    }
    let was = before.stats.files;
    if was >= FILES_MIN && stats.files / FILES_GROWTH >= was {
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
