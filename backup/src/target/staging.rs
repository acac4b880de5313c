//! Replaces what is in a target by a restored tree, so that a kill at any moment leaves the old tree,
//! the new one, or what the next restore needs to go on.
//!
//! Everything is restored into a staging directory inside the target, hence on the same mount, even
//! where the target is a mount itself. The name of that directory is the journal; each step to the next
//! is one rename:
//!
//! 1. `.chores-restore-<id>`: being restored. Left behind, it is removed.
//! 2. `.chores-ready-<id>`: restored and on disk; the old entries move to `.chores-old-<id>`.
//! 3. `.chores-enter-<id>`: nothing old is left at the top; the new entries move up.
//! 4. `.chores-old-<id>` alone: done; the old tree is removed.
//!
//! Old and new are never exchanged name by name, because after a kill nobody could tell which is which.

use std::collections::BTreeMap;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FlockOperation, Mode, OFlags, RenameFlags, flock, fsync, mkdirat, renameat,
    renameat_with, syncfs, unlinkat,
};
use rustix::io::Errno;

use super::{DIRECTORY_MODE, Target, TargetError, removal};
use crate::{beneath, mounts};

const RESTORE: &str = ".chores-restore-";
const READY: &str = ".chores-ready-";
const ENTER: &str = ".chores-enter-";
const OLD: &str = ".chores-old-";

/// Digits of an id in these names.
const ID_DIGITS: usize = 16;

/// A directory inside a target that a tree is restored into before it takes the target's place.
#[derive(Debug)]
pub struct Staging {
    inside: Target,
    id: Id,
}

/// What a killed restore left behind and what was done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leftover {
    /// Its tree was incomplete and was removed; the old one is untouched.
    Removed,
    /// Its tree was complete and took the place of the old one.
    Completed,
}

type Id = [u8; ID_DIGITS];

/// What to do about one killed restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    RemoveUnfinished(Id),
    MoveOldOut(Id),
    MoveNewIn(Id),
    RemoveOld(Id),
}

impl Staging {
    /// Where to restore into.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.inside
    }
}

impl Target {
    /// Takes the target for replacing its content, cleans up after a killed restore, and makes the
    /// staging directory. `id` tells restores apart; any random number.
    ///
    /// Refuses a target that another restore is replacing right now, and one with mounts inside.
    pub fn stage(&self, id: u64) -> Result<(Staging, Vec<Leftover>), TargetError> {
        self.refuse_mounts_inside()?;
        let leftovers = self.settle()?;
        let name = format!("{RESTORE}{id:016x}");
        let failed = |error| self.failed("make the staging directory", name.as_bytes(), error);
        mkdirat(&self.directory, name.as_str(), DIRECTORY_MODE).map_err(failed)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory =
            beneath::open(self.as_fd(), name.as_bytes(), flags, Mode::empty()).map_err(failed)?;
        let mut digits = Id::default();
        digits.copy_from_slice(format!("{id:016x}").as_bytes());
        let inside = Target { path: self.path.join(&name), directory };
        Ok((Staging { inside, id: digits }, leftovers))
    }

    /// Puts the restored tree in the place of everything that was in the target, and removes that.
    /// Owner, mode and times of the target itself are not touched: [`Target::finish`] it afterwards.
    pub fn swap_in(&self, staging: Staging) -> Result<(), TargetError> {
        let Staging { inside, id } = staging;
        // Before the old tree is touched, the new one has to survive a power cut.
        syncfs(&inside.directory).map_err(|error| inside.failed("write to disk", b"", error))?;
        drop(inside);
        self.rename_stage(&id, RESTORE, READY)?;
        self.carry_out(Step::MoveOldOut(id))
    }

    /// Removes a staging directory that is not wanted any more.
    pub fn abandon(&self, staging: Staging) -> Result<(), TargetError> {
        let id = staging.id;
        drop(staging);
        self.carry_out(Step::RemoveUnfinished(id))
    }

    /// Cleans up or completes what killed restores left. The target stays taken while it is open.
    pub fn settle(&self) -> Result<Vec<Leftover>, TargetError> {
        let lock = flock(&self.directory, FlockOperation::NonBlockingLockExclusive);
        // Other errors come from a file system without locks: there the operator has to take care.
        if lock == Err(Errno::WOULDBLOCK) {
            return Err(TargetError::InUse { path: self.display(b"") });
        }
        let mut leftovers = Vec::new();
        for step in steps(&self.names()?) {
            self.carry_out(step)?;
            leftovers.push(match step {
                Step::RemoveUnfinished(_) => Leftover::Removed,
                Step::MoveOldOut(_) | Step::MoveNewIn(_) | Step::RemoveOld(_) => {
                    Leftover::Completed
                }
            });
        }
        Ok(leftovers)
    }

    /// Does a step and all that follow it.
    fn carry_out(&self, step: Step) -> Result<(), TargetError> {
        match step {
            Step::RemoveUnfinished(id) => self.remove_tree(&stage_name(RESTORE, &id)),
            Step::MoveOldOut(id) => {
                self.move_old_out(&id)?;
                self.rename_stage(&id, READY, ENTER)?;
                self.carry_out(Step::MoveNewIn(id))
            }
            Step::MoveNewIn(id) => {
                self.move_new_in(&id)?;
                self.carry_out(Step::RemoveOld(id))
            }
            Step::RemoveOld(id) => self.remove_tree(&stage_name(OLD, &id)),
        }
    }

    fn move_old_out(&self, id: &Id) -> Result<(), TargetError> {
        let old_name = stage_name(OLD, id);
        match mkdirat(&self.directory, old_name.as_slice(), DIRECTORY_MODE) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(self.failed("make the directory", &old_name, error)),
        }
        for name in self.names()?.iter().filter(|name| stage_of(name).is_none()) {
            self.move_aside(id, name)?;
        }
        Ok(())
    }

    /// Moves one entry of the target to the old ones; what has the same name there goes.
    fn move_aside(&self, id: &Id, name: &[u8]) -> Result<(), TargetError> {
        let mut aside = stage_name(OLD, id);
        aside.push(b'/');
        aside.extend_from_slice(name);
        self.remove_tree(&aside)?;
        let failed = |error| self.failed("move aside", name, error);
        let (old, _) = beneath::open_parent(self.as_fd(), &aside).map_err(failed)?;
        match renameat(&self.directory, name, &old, name) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(Errno::BUSY) => Err(TargetError::Mount { path: self.display(name) }),
            Err(error) => Err(failed(error)),
        }
    }

    fn move_new_in(&self, id: &Id) -> Result<(), TargetError> {
        let enter_name = stage_name(ENTER, id);
        let failed = |error| self.failed("move into place", &enter_name, error);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let enter =
            beneath::open(self.as_fd(), &enter_name, flags, Mode::empty()).map_err(failed)?;
        for name in removal::names(enter.as_fd()).map_err(failed)? {
            let failed = |error| self.failed("move into place", &name, error);
            let up = |flags| renameat_with(&enter, &name[..], &self.directory, &name[..], flags);
            match up(RenameFlags::NOREPLACE) {
                // A writer that still runs has made it anew.
                Err(Errno::EXIST) => {
                    self.move_aside(id, &name)?;
                    up(RenameFlags::NOREPLACE).map_err(failed)?;
                }
                // The file system knows no flags.
                Err(Errno::INVAL) => up(RenameFlags::empty()).map_err(failed)?,
                outcome => outcome.map_err(failed)?,
            }
        }
        unlinkat(&self.directory, enter_name.as_slice(), AtFlags::REMOVEDIR).map_err(failed)?;
        // The old tree is removed next, so this has to be on disk first.
        fsync(&self.directory).map_err(|error| self.failed("write to disk", b"", error))
    }

    fn rename_stage(&self, id: &Id, from: &str, to: &str) -> Result<(), TargetError> {
        let (from, to) = (stage_name(from, id), stage_name(to, id));
        renameat(&self.directory, from.as_slice(), &self.directory, to.as_slice())
            .and_then(|()| fsync(&self.directory))
            .map_err(|error| self.failed("rename", &from, error))
    }

    /// A mount inside would move aside with its parent and could not be removed.
    pub fn refuse_mounts_inside(&self) -> Result<(), TargetError> {
        let unreadable = |act, source| TargetError::Io { act, path: self.display(b""), source };
        let canonical =
            self.path.canonicalize().map_err(|error| unreadable("resolve the path", error))?;
        let text = std::fs::read("/proc/self/mountinfo")
            .map_err(|error| unreadable("list the mounts inside", error))?;
        let canonical = std::os::unix::ffi::OsStrExt::as_bytes(canonical.as_os_str());
        let canonical = canonical.strip_prefix(b"/").unwrap_or(canonical);
        match mounts::parse(&text)
            .into_iter()
            .find(|mount| mounts::is_below(&mount.mount_point, canonical))
        {
            Some(mount) => {
                Err(TargetError::Mount { path: crate::entry::display_path(&mount.mount_point) })
            }
            None => Ok(()),
        }
    }

    fn names(&self) -> Result<Vec<Vec<u8>>, TargetError> {
        removal::names(self.as_fd()).map_err(|error| self.failed("list", b"", error))
    }
}

fn stage_name(stage: &str, id: &Id) -> Vec<u8> {
    [stage.as_bytes(), id].concat()
}

/// The stage and id that a name stands for; `None` for all other names.
fn stage_of(name: &[u8]) -> Option<(&'static str, Id)> {
    [RESTORE, READY, ENTER, OLD].into_iter().find_map(|stage| {
        let id: Id = name.strip_prefix(stage.as_bytes())?.try_into().ok()?;
        id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')).then_some((stage, id))
    })
}

/// What is to be done, given the names at the top of a target: for each killed restore the step that
/// it was at.
fn steps(names: &[Vec<u8>]) -> Vec<Step> {
    let mut found: BTreeMap<Id, Vec<&'static str>> = BTreeMap::new();
    for (stage, id) in names.iter().filter_map(|name| stage_of(name)) {
        found.entry(id).or_default().push(stage);
    }
    found
        .into_iter()
        .map(|(id, stages)| match stages {
            stages if stages.contains(&ENTER) => Step::MoveNewIn(id),
            stages if stages.contains(&READY) => Step::MoveOldOut(id),
            stages if stages.contains(&OLD) => Step::RemoveOld(id),
            _ => Step::RemoveUnfinished(id),
        })
        .collect()
}

#[cfg(test)]
mod tests;
