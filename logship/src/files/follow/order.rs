//! Whose lines come first: those of a file that a name meant before come before those of the file that it means now.
//!
//! What stands in the later file when its length is looked at was written after everything that the same writer had put
//! into the earlier one. So the earlier one is read to its end after that look, and the later one up to that length.

use std::cmp::Ordering;

use super::Follow;
use crate::files::tailed::Tailed;
use crate::source::SourceId;

/// How often a file waits for the one before it: for 1 GiB of it. A writer that stays in a rotated file must not hold up
/// the others for ever.
const WAITS_MAX: u32 = 4096;

/// Files before one that are looked at for its place among them.
const CHAIN_MAX: usize = 1024;

/// Whether a file may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) enum Order {
    /// All of it.
    Free,
    /// Up to this byte.
    Until(u64),
    /// Not before the one that was there first.
    Wait,
}

impl Follow {
    /// Puts a file behind those of the same name that were made before it. The kernel's clock has ticks of some
    /// milliseconds: of files of one tick, the one that has the name now came last.
    pub(in crate::files) fn put_in_order(&mut self, id: SourceId) {
        let Some(tailed) = self.files.get(&id) else { return };
        let (base, born) = (tailed.base.clone(), tailed.identity.born);
        let Some(latest) = self.latest.get(&base).copied().filter(|latest| *latest != id) else {
            self.latest.insert(base, id);
            return;
        };
        let (mut later, mut before) = (None, Some(latest));
        for _ in 0..CHAIN_MAX {
            let Some(one) = before.and_then(|one| self.files.get(&one)) else { break };
            let has_the_name = self.by_name.get(&base) == Some(&one.source);
            let came_before = match one.identity.born.cmp(&born) {
                Ordering::Less => true,
                Ordering::Equal => !has_the_name,
                Ordering::Greater => false,
            };
            if one.source == id || came_before {
                break;
            }
            (later, before) = (before, one.after);
        }
        let before = before.filter(|before| *before != id && self.files.contains_key(before));
        if let Some(tailed) = self.files.get_mut(&id) {
            tailed.after = before;
        }
        match later.and_then(|later| self.files.get_mut(&later)) {
            Some(later) => later.after = Some(id),
            None => drop(self.latest.insert(base, id)),
        }
    }

    /// The copy of what a file had goes on before the file itself does.
    pub(in crate::files) fn put_before(&mut self, copy: SourceId, original: SourceId) {
        if self.latest.values().any(|latest| *latest == copy)
            && let Some(base) = self.files.get(&original).map(|tailed| tailed.base.clone())
        {
            self.latest.insert(base, original);
        }
        let before = self.files.get(&original).and_then(|original| original.after);
        if let Some(tailed) = self.files.get_mut(&copy) {
            tailed.after = before.filter(|before| *before != copy);
        }
        if let Some(tailed) = self.files.get_mut(&original) {
            tailed.after = Some(copy);
        }
    }

    /// Whether it is the turn of a file, or of the one before it.
    pub(in crate::files) fn order_of(&mut self, id: SourceId) -> Order {
        let Some(before) = self.files.get(&id).and_then(|tailed| tailed.after) else {
            return Order::Free;
        };
        // First its own length, then whether the other one is read to its end.
        let length = self.files.get(&id).and_then(Tailed::length);
        let is_read = match self.files.get(&before) {
            None => true,
            Some(before) => !before.is_ready && before.length().is_none_or(|l| l <= before.seen()),
        };
        let is_over = !self.files.contains_key(&before);
        let Some(tailed) = self.files.get_mut(&id) else { return Order::Free };
        if is_over {
            tailed.after = None;
            return Order::Free;
        }
        if is_read {
            tailed.waited = 0;
            return length.map_or(Order::Free, Order::Until);
        }
        if tailed.waited >= WAITS_MAX {
            return Order::Free;
        }
        tailed.waited += 1;
        self.wake(before);
        Order::Wait
    }
}
