//! What a prune does now: a function of what the store holds, and of its clock.
//!
//! A pack that no snapshot needs is marked first. When the mark is old enough, by the store's clock, the pack goes,
//! if still no snapshot needs it. Nothing here is needed for safety but that order: a writer that missed the mark finds
//! it when it looks again behind its commit.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::{Duration, SystemTime};

use crate::mark::Mark;
use crate::pack::PackId;

#[cfg(test)]
mod tests;

/// A pack in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredPack {
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written, by the store's clock.
    pub modified: SystemTime,
}

/// What the store holds. Packs were listed before the snapshots were read, and marks before both.
#[derive(Clone, Debug)]
pub struct Stock {
    /// The store's clock.
    pub now: SystemTime,
    /// The packs that are there.
    pub packs: BTreeMap<PackId, StoredPack>,
    /// Those that a snapshot needs.
    pub needed: HashSet<PackId>,
    /// The marks that are there.
    pub marks: Vec<Mark>,
    /// When the runs began that are at work now, by the store's clock.
    pub runs: Vec<SystemTime>,
    /// When content of packs was stored anew elsewhere, by the store's clock: who began before may refer to them still.
    pub moved: BTreeMap<PackId, SystemTime>,
    /// Until when packs are locked, as far as that was asked.
    pub locked: HashMap<PackId, SystemTime>,
}

impl Stock {
    fn is_locked(&self, id: &PackId) -> bool {
        self.locked.get(id).is_some_and(|until| *until > self.now)
    }
}

/// How.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How old a pack is before it is marked, and a mark before its packs go.
    pub grace: Duration,
    /// How many bytes of packs go at the most; the rest is for the next time.
    pub bytes_max: Option<u64>,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Packs to name in a new mark, sorted.
    pub mark: Vec<PackId>,
    /// Packs to delete: those of due marks, each mark's in order of their ids.
    pub delete: Vec<PackId>,
    /// Marks to remove then: none of their packs is left.
    pub done: Vec<String>,
    /// Marked packs whose time has not come, or for which there is no budget.
    pub waiting: BTreeSet<PackId>,
    /// Marked packs that a snapshot needs: they stay, and so does their mark.
    pub kept: BTreeSet<PackId>,
    /// When the next waiting pack is due, unless a run delays it.
    pub next_due: Option<SystemTime>,
    /// Packs that are due and locked. They stay marked.
    pub held: BTreeSet<PackId>,
    /// When the lock of the first of these ends.
    pub next_unlocked: Option<SystemTime>,
}

/// Decides.
#[must_use]
pub fn plan(stock: &Stock, rules: Rules) -> Plan {
    let mut plan = Plan::default();
    let mut marked = HashSet::new();
    let mut deleted = HashSet::new();
    let mut budget = rules.bytes_max.unwrap_or(u64::MAX);
    let mut marks: Vec<_> = stock.marks.iter().collect();
    marks.sort_by(|left, right| (left.modified, &left.key).cmp(&(right.modified, &right.key)));
    for mark in marks {
        let due = is_past(mark.modified, rules.grace, stock.now)
            && stock.runs.iter().all(|begun| *begun > mark.modified);
        for id in &mark.packs {
            let Some(pack) = stock.packs.get(id) else { continue };
            marked.insert(*id);
            if stock.needed.contains(id) {
                plan.kept.insert(*id);
            } else if due && stock.is_locked(id) {
                plan.held.insert(*id);
            } else if due && pack.bytes <= budget && deleted.insert(*id) {
                budget -= pack.bytes;
                plan.delete.push(*id);
            } else {
                plan.waiting.insert(*id);
            }
        }
    }
    plan.waiting.retain(|id| !deleted.contains(id) && !plan.held.contains(id));
    plan.next_unlocked = plan.held.iter().filter_map(|id| stock.locked.get(id)).min().copied();
    let waits = |mark: &&Mark| mark.packs.iter().any(|id| plan.waiting.contains(id));
    let due =
        stock.marks.iter().filter(waits).filter_map(|mark| mark.modified.checked_add(rules.grace));
    plan.next_due = due.min();
    // Only now it is known what goes, whichever of several marks names it.
    let gone = |id: &PackId| !stock.packs.contains_key(id) || deleted.contains(id);
    let done = stock.marks.iter().filter(|mark| mark.packs.iter().all(gone));
    plan.done = done.map(|mark| mark.key.clone()).collect();
    let is_settled = |since: SystemTime| {
        is_past(since, rules.grace, stock.now) && stock.runs.iter().all(|begun| *begun > since)
    };
    let unneeded = stock.packs.iter().filter(|(id, pack)| {
        !stock.needed.contains(id)
            && !marked.contains(id)
            && is_settled(pack.modified)
            && stock.moved.get(id).is_none_or(|moved| is_settled(*moved))
    });
    plan.mark = unneeded.map(|(id, _)| *id).collect();
    plan
}

/// Whether so much time has passed since then. A time that a store does not tell is never past.
fn is_past(then: SystemTime, grace: Duration, now: SystemTime) -> bool {
    then > SystemTime::UNIX_EPOCH && then.checked_add(grace).is_some_and(|due| due <= now)
}
