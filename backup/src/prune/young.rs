//! Packs that no snapshot needs and that are too young to be marked: a function of what the store holds and of what is to be done.

use std::collections::HashSet;
use std::time::{Duration, SystemTime};

use super::Sum;
use super::plan::{Plan, Stock};

#[cfg(test)]
mod tests;

/// What is left alone because it is young.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Young {
    /// Those packs.
    pub packs: Sum,
    /// When a prune may mark the first of them, by the store's clock, unless a run delays it. `None` where the store does not tell
    /// the time of any.
    pub marked_from: Option<SystemTime>,
    /// When the first of them may be deleted, if it is marked then.
    pub deleted_from: Option<SystemTime>,
}

/// What `plan` leaves alone of `stock` because it is not as old as `grace`.
#[must_use]
pub(super) fn young(stock: &Stock, plan: &Plan, grace: Duration) -> Young {
    let marked: HashSet<_> =
        stock.marks.iter().flat_map(|mark| &mark.packs).chain(&plan.mark).collect();
    let mut young = Young::default();
    for (id, pack) in &stock.packs {
        if stock.needed.contains(id) || marked.contains(id) {
            continue;
        }
        young.packs.packs += 1;
        young.packs.bytes += pack.bytes;
        let since = stock.moved.get(id).map_or(pack.modified, |moved| pack.modified.max(*moved));
        let is_told = pack.modified > SystemTime::UNIX_EPOCH;
        let from = since.checked_add(grace).filter(|_| is_told);
        young.marked_from = young.marked_from.into_iter().chain(from).min();
    }
    young.deleted_from = young.marked_from.and_then(|from| from.checked_add(grace));
    young
}
