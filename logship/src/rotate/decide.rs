//! What to do now, from what is known: of a file under its own name, and of one that was renamed.
//!
//! Whatever comes out, two things hold. Nothing is taken away above what is safe: with less than [`KEPT_BYTES`] to
//! spare there is nothing to take. And a renamed file is compressed or removed only when nobody can write to it and all
//! of it is safe.

use std::time::Duration;

use crate::files::desk::KEPT_BYTES;
use crate::rotation::{Policy, Reopen};
use crate::time::SECOND;

#[cfg(test)]
mod tests;

/// Blocks of the file systems that can take away the beginning of a file; lengths are whole ones.
pub const BLOCK_BYTES: u64 = 4 << 10;

/// Most bytes that are taken from the beginning of a file at once: writers wait meanwhile, some milliseconds.
pub const COLLAPSE_BYTES_MAX: u64 = 16 << 20;

/// Renamed files of one log whose writers have not let go, at the most; then no more are made.
pub const DRAINING_MAX: usize = 8;

/// How long a writer has to open the new file before it is told again.
pub const TELL_AGAIN: i64 = 10 * SECOND;

/// Longest time between two tellings.
const TELL_AGAIN_MAX: i64 = 300 * SECOND;

/// How long a file must not have changed to be taken for ended where nobody can say whether it has writers. It is left
/// as it is then: what a writer adds to it later is found.
pub const QUIET_PROOF: i64 = 60 * SECOND;

/// A file whose writers do not go along is cut when it is so many times as large as it should be.
const PATIENCE_FACTOR: u64 = 2;

/// The size that is too large where none is set, in bytes.
const SIZE_ELSE: u64 = 64 << 20;

/// Whether somebody has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Somebody has.
    Yes,
    /// The kernel proved that nobody has.
    No,
    /// It cannot be known here.
    Unknown,
}

/// How the writers of a file write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appends {
    /// All of them append (`O_APPEND`).
    All,
    /// One of them does not.
    NotAll,
    /// Not all of them can be seen.
    Unknown,
}

/// A file under its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    /// Bytes.
    pub size: u64,
    /// Bytes on disk.
    pub allocated: u64,
    /// When it was made or last cut, in nanoseconds since 1970.
    pub since: i64,
    /// It is to be rotated whatever its size and age.
    pub is_forced: bool,
    /// Bytes of it before which everything is safe; 0 when nothing is known.
    pub safe: u64,
    /// Whether somebody writes to it.
    pub held: Held,
    /// How.
    pub appends: Appends,
    /// Its file system can take away the beginning of a file.
    pub can_collapse: bool,
    /// Containers that can be told to open the new file; `None` while the engine does not answer.
    pub told: Option<usize>,
    /// Renamed files of it whose writers have not let go.
    pub draining: usize,
    /// Names it has.
    pub links: u32,
    /// It cannot be changed: the mount is read-only.
    pub is_read_only: bool,
}

/// Why nothing is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is neither large nor old enough.
    NotDue,
    /// There is nothing in it.
    Empty,
    /// The mount is read-only.
    ReadOnly,
    /// The engine does not answer, so nobody can be told.
    EngineAway,
    /// It has other names: others may mean all of it by them.
    Links,
    /// What could be taken away is not safe yet.
    NotSafe,
    /// Its name is not UTF-8: what is begun is written down as text.
    Name,
}

impl Why {
    /// A word for people.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::NotDue => "it is neither large nor old enough",
            Self::Empty => "it is empty",
            Self::ReadOnly => "its mount is read-only",
            Self::EngineAway => "the engine does not answer, so its writers cannot be told",
            Self::Links => "it has other names, by which others may mean all of it",
            Self::NotSafe => "what could be taken away is not safe yet",
            Self::Name => "its name is not UTF-8",
        }
    }
}

/// What to do with a file under its own name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    Wait(Why),
    /// Rename it, make a new one, tell the writers.
    Rename,
    /// Take so many bytes from its beginning.
    Collapse(u64),
    /// Free the disk of everything up to this byte, but its first block.
    Punch(u64),
}

/// Whether a file is large or old enough.
#[must_use]
pub fn is_due(policy: &Policy, active: &Active, now: i64) -> bool {
    let is_large = policy.size.is_some_and(|size| weight(active.size, active.allocated) >= size);
    let is_old = policy.every.is_some_and(|every| {
        let every = i64::try_from(every.as_nanos()).unwrap_or(i64::MAX).max(1);
        now.div_euclid(every) > active.since.div_euclid(every)
    });
    active.is_forced || is_large || is_old
}

/// What to do now.
#[must_use]
pub fn active(policy: &Policy, active: &Active, now: i64) -> Act {
    if active.size == 0 {
        return Act::Wait(Why::Empty);
    }
    if !is_due(policy, active, now) {
        return Act::Wait(Why::NotDue);
    }
    if active.is_read_only {
        return Act::Wait(Why::ReadOnly);
    }
    let is_alone = active.held == Held::No;
    let may_rename = active.draining < DRAINING_MAX;
    let is_patient = weight(active.size, active.allocated)
        < policy.size.unwrap_or(SIZE_ELSE).saturating_mul(PATIENCE_FACTOR);
    match (&policy.reopen, active.told) {
        // Nobody has it: whoever comes next finds the new one.
        _ if is_alone && may_rename => Act::Rename,
        (Reopen::Name, _) if may_rename => Act::Rename,
        // A label may say so where the policy does not.
        (_, Some(1..)) if may_rename => Act::Rename,
        (Reopen::Signal(_) | Reopen::Exec(_), None) if is_patient => Act::Wait(Why::EngineAway),
        _ => cut(active),
    }
}

/// What is taken from the beginning of a file whose writers stay.
fn cut(active: &Active) -> Act {
    if active.links > 1 {
        return Act::Wait(Why::Links);
    }
    let until = whole_blocks(active.safe.min(active.size).saturating_sub(KEPT_BYTES));
    if active.can_collapse && active.appends == Appends::All {
        return match until.min(COLLAPSE_BYTES_MAX) {
            0 => Act::Wait(Why::NotSafe),
            length => Act::Collapse(length),
        };
    }
    // The first block stays: a file is known by its beginning.
    if until <= BLOCK_BYTES { Act::Wait(Why::NotSafe) } else { Act::Punch(until) }
}

/// A file that was renamed, or is about to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Old {
    /// Bytes.
    pub size: u64,
    /// Bytes on disk.
    pub allocated: u64,
    /// Bytes of it before which everything is safe.
    pub safe: u64,
    /// The log knows for good that it is over.
    pub is_over: bool,
    /// Whether somebody writes to it.
    pub held: Held,
    /// How long it has not changed, in nanoseconds.
    pub quiet: i64,
    /// How long ago the writers were told, in nanoseconds; `None` when nobody is to be told.
    pub told: Option<i64>,
    /// How often they were told.
    pub tellings: u32,
    /// The last time, it failed.
    pub is_untold: bool,
    /// Names it has.
    pub links: u32,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldAct {
    /// Nothing.
    Wait,
    /// Tell the writers again.
    Tell,
    /// Free the disk of everything up to this byte, but its first block: a writer goes on in it.
    Punch(u64),
    /// Have it read to its end, and its end told.
    Retire,
    /// Compress or remove it.
    Finish,
    /// Leave it as it is, under its name: that it has no writers is not proved.
    Keep,
}

/// What to do now.
#[must_use]
pub fn old(policy: &Policy, old: &Old) -> OldAct {
    let is_free = match old.held {
        Held::No => true,
        Held::Unknown => old.quiet >= QUIET_PROOF && !old.is_untold,
        Held::Yes => false,
    };
    if is_free {
        let is_all_safe = old.is_over && old.safe == old.size;
        return match (is_all_safe, old.held) {
            (false, _) => OldAct::Retire,
            (true, Held::No) => OldAct::Finish,
            (true, _) => OldAct::Keep,
        };
    }
    let again = TELL_AGAIN.saturating_mul(i64::from(old.tellings.max(1))).min(TELL_AGAIN_MAX);
    if old.told.is_some_and(|ago| ago >= again) {
        return OldAct::Tell;
    }
    let limit = policy.size.unwrap_or(SIZE_ELSE).saturating_mul(PATIENCE_FACTOR);
    let until = whole_blocks(old.safe.min(old.size).saturating_sub(KEPT_BYTES));
    let is_heavy = weight(old.size, old.allocated) >= limit;
    if is_heavy && old.links == 1 && until > BLOCK_BYTES {
        OldAct::Punch(until)
    } else {
        OldAct::Wait
    }
}

/// What a file begins with, beside what the taking away of its beginning makes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begins {
    /// As it did before.
    Before,
    /// As it does after.
    After,
    /// With something else: another program has cut it, or written it anew.
    Otherwise,
    /// It is not at its name, so nobody can look.
    Nowhere,
}

/// A collapse that was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Collapsing {
    /// Bytes that were taken from the file before.
    pub shift: u64,
    /// Bytes to take.
    pub length: u64,
    /// Bytes that were taken from it, as the log knows for good.
    pub known: u64,
    /// The log knows for good that the file is over.
    pub is_over: bool,
    /// What the file begins with.
    pub begins: Begins,
    /// Nobody is at it: what has not happened by now never will.
    pub is_idle: bool,
}

/// Whether nobody needs to know of a collapse any more: the log knows the new places for good, or it did not happen, or
/// the file holds nothing by which anybody could tell.
#[must_use]
pub fn is_collapse_over(collapse: &Collapsing) -> bool {
    let Collapsing { shift, length, known, is_over, begins, is_idle } = *collapse;
    if begins == Begins::Otherwise && is_idle {
        // Its places are the log's affair, as of every file that others cut.
        return true;
    }
    if known >= shift.saturating_add(length) {
        // Where just that has been, the log is yet to hear of the old places.
        return begins != Begins::Before;
    }
    is_over || known < shift || (begins == Begins::Before && is_idle)
}

/// What a file costs: what is reserved behind its end, or missing in it, does not count.
fn weight(size: u64, allocated: u64) -> u64 {
    size.min(allocated)
}

fn whole_blocks(bytes: u64) -> u64 {
    bytes - bytes % BLOCK_BYTES
}

/// A time as the decisions count it.
#[must_use]
pub fn nanoseconds(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}
