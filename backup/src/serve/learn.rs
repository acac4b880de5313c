//! What the repository knows of the jobs of this host (pure). It is what counts: state files are lost, and snapshots are made,
//! tried and forgotten by others too.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::due::past;
use super::job::Names;
use super::state::Good;
use crate::coverage::decide::Recorded;
use crate::drill_record::Outcome;
use crate::machine::{BOOT_TAG, Boot, NODE_TAG};
use crate::snapshot::ENGINE_TAG;

#[cfg(test)]
mod tests;

/// How long after its last snapshot another engine or node of this host's name is taken to be there: `forget` leaves what it made alone
/// anyway.
const HEARD_MAX: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Learned {
    /// The newest good backup of each name.
    pub jobs: BTreeMap<String, Good>,
    /// Another machine saves under the same host name.
    pub twin: bool,
    /// What the newest good backup of each name added, in bytes.
    pub added_bytes: BTreeMap<String, u64>,
    /// The newest backup of each name that was tried.
    pub drilled: BTreeMap<String, Drilled>,
    /// Snapshots of the repository, those of others included.
    pub snapshots: u64,
    /// Bytes of its packs.
    pub stored_bytes: u64,
    /// What is saved is encrypted, and nothing that was given decrypts it: no drill can be made.
    pub closed: bool,
}

/// A backup that was tried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drilled {
    /// When its run began.
    pub time: Timestamp,
    /// Its snapshot.
    pub snapshot: String,
    /// What its newest drill found.
    pub good: bool,
}

/// Looks through all snapshots of a repository whose packs have `stored_bytes`. One counts as for `status`: proved, not suspicious, its
/// newest drill not failed, not dated ahead of now. None of another engine or node counts, and none that was made elsewhere during
/// `boot`.
#[must_use]
pub fn learn(
    history: &[Recorded],
    stored_bytes: u64,
    names: &Names,
    boot: Option<&Boot>,
    now: Timestamp,
) -> Learned {
    let snapshots = history.len() as u64;
    let mut learned = Learned { snapshots, stored_bytes, ..Learned::default() };
    let (mut engine, mut node) = (Turns::default(), Turns::default());
    let (mut of_boot, mut elsewhere) = (BTreeSet::new(), BTreeSet::new());
    for known in history {
        let snapshot = &known.snapshot;
        let Some(time) = past(Some(snapshot.time), now) else { continue };
        if snapshot.host != names.host {
            continue;
        }
        let tag = |key: &str| snapshot.tags.get(key);
        let is_of_another = names.engine.is_some()
            && engine.is_of_another(tag(ENGINE_TAG), names.engine.as_ref(), time);
        if is_of_another || node.is_of_another(tag(NODE_TAG), names.node.as_ref(), time) {
            continue;
        }
        if boot.is_some_and(|boot| boot.is_elsewhere(time, &snapshot.tags, now)) {
            elsewhere.insert(snapshot.name.as_str());
            continue;
        }
        if tag(BOOT_TAG).is_some() && tag(BOOT_TAG) == names.boot.as_ref() {
            of_boot.insert(snapshot.name.as_str());
        }
        let is_newest = |last: &Drilled| last.time < time;
        if let Some(outcome) = known.drill
            && learned.drilled.get(&snapshot.name).is_none_or(is_newest)
        {
            let good = outcome == Outcome::Good;
            let drilled = Drilled { time, snapshot: known.id.to_string(), good };
            learned.drilled.insert(snapshot.name.clone(), drilled);
        }
        let is_newer = |last: &Good| last.time < time;
        if known.counts() && learned.jobs.get(&snapshot.name).is_none_or(is_newer) {
            let good = Good { time, snapshot: known.id.to_string() };
            learned.jobs.insert(snapshot.name.clone(), good);
            learned.added_bytes.insert(snapshot.name.clone(), snapshot.stats.bytes_stored);
        }
    }
    // Several may serve one engine, each with jobs of its own.
    let is_shared = !elsewhere.is_disjoint(&of_boot);
    learned.twin = engine.are_taken(now) || node.are_taken(now) || is_shared;
    learned
}

/// When those of one label were made by us and by others.
#[derive(Default)]
struct Turns {
    ours_since: Option<Timestamp>,
    theirs_until: Option<Timestamp>,
}

impl Turns {
    /// Whether a snapshot with this label, or without, is of another than `ours`.
    fn is_of_another(
        &mut self,
        theirs: Option<&String>,
        ours: Option<&String>,
        time: Timestamp,
    ) -> bool {
        if theirs.is_some() && theirs == ours {
            self.ours_since = Some(self.ours_since.map_or(time, |since| time.min(since)));
        }
        let is_other = theirs.is_some() && theirs != ours;
        if is_other {
            self.theirs_until = self.theirs_until.max(Some(time));
        }
        is_other
    }

    /// Whether both are made. An engine that was made anew has another name, and the old one is heard of no more; nor is a machine
    /// that was given another name.
    fn are_taken(&self, now: Timestamp) -> bool {
        let Some(theirs) = self.theirs_until else { return false };
        self.ours_since.is_some_and(|ours| theirs > ours) && now.duration_since(theirs) < HEARD_MAX
    }
}
