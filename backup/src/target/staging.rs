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
//! Each of these directories holds the tree under [`TREE`] and, beside it, a proof under [`MARKER`]: the
//! inode of the target and the id. It must belong to this user and be closed to all others. What only has
//! such a name is data like any other, because content of a volume may have any name. A restore never makes
//! such a name from a snapshot ([`is_reserved`]), so a proof cannot come back out of a backup.
//!
//! Old and new are never exchanged name by name, because after a kill nobody could tell which is which.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    FlockOperation, Mode, OFlags, RenameFlags, flock, fsync, mkdirat, renameat, renameat_with,
    syncfs,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::{DIRECTORY_MODE, FILE_MODE, Target, TargetError, removal};
use crate::walk::{FileType, Stat};
use crate::{beneath, mounts};

const RESTORE: &str = ".chores-restore-";
const READY: &str = ".chores-ready-";
const ENTER: &str = ".chores-enter-";
const OLD: &str = ".chores-old-";

/// The tree inside of such a directory.
const TREE: &[u8] = b"tree";

/// The proof inside of such a directory: a file with what [`Target::proof`] says.
const MARKER: &[u8] = b"proof";

/// Longest proof that is read, in bytes; a real one is about 60.
const PROOF_BYTES_MAX: u64 = 256;

/// Permission bits of a mode.
const PERMISSION_BITS: u32 = 0o777;

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
        let mut digits = Id::default();
        digits.copy_from_slice(format!("{id:016x}").as_bytes());
        let directory = self
            .make_holder(RESTORE, &digits)
            .map_err(|error| self.failed("make the staging directory", name.as_bytes(), error))?;
        let path = self.path.join(&name).join("tree");
        Ok((Staging { inside: Target { path, directory }, id: digits }, leftovers))
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
        let mut names = self.names()?;
        names.retain(|name| self.is_proven(name));
        for step in steps(&names) {
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
            Step::RemoveUnfinished(id) => self.remove_holder(RESTORE, &id),
            Step::MoveOldOut(id) => {
                self.move_old_out(&id)?;
                self.rename_stage(&id, READY, ENTER)?;
                self.carry_out(Step::MoveNewIn(id))
            }
            Step::MoveNewIn(id) => {
                self.move_new_in(&id)?;
                self.carry_out(Step::RemoveOld(id))
            }
            Step::RemoveOld(id) => self.remove_holder(OLD, &id),
        }
    }

    /// Makes a directory of the journal with its proof on disk, or completes one, and opens its tree.
    fn make_holder(&self, stage: &str, id: &Id) -> rustix::io::Result<OwnedFd> {
        let name = stage_name(stage, id);
        let tolerate = |outcome| if outcome == Err(Errno::EXIST) { Ok(()) } else { outcome };
        tolerate(mkdirat(&self.directory, name.as_slice(), DIRECTORY_MODE))?;
        let directory = OFlags::RDONLY | OFlags::DIRECTORY;
        let holder = beneath::open(self.as_fd(), &name, directory, Mode::empty())?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NONBLOCK;
        let mut marker = File::from(beneath::open(holder.as_fd(), MARKER, flags, FILE_MODE)?);
        let proof = self.proof(id)?;
        marker
            .write_all(proof.as_bytes())
            .and_then(|()| marker.sync_all())
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        tolerate(mkdirat(&holder, TREE, DIRECTORY_MODE))?;
        fsync(&holder)?;
        beneath::open(holder.as_fd(), TREE, directory, Mode::empty())
    }

    /// What the proof of a restore says. The inode is that of the target: a copy of the directory
    /// elsewhere proves nothing there. The device is left out, as its number may change at a restart.
    fn proof(&self, id: &Id) -> rustix::io::Result<String> {
        let inode = Stat::read(self.as_fd(), b"")?.inode;
        Ok(format!("restore {} into inode {inode}\n", String::from_utf8_lossy(id)))
    }

    /// Whether a name at the top is one of the journal and not data that looks like it.
    fn is_proven(&self, name: &[u8]) -> bool {
        stage_of(name).is_some_and(|(_, id)| self.proves(name, &id).unwrap_or(false))
    }

    fn proves(&self, name: &[u8], id: &Id) -> rustix::io::Result<bool> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let holder = beneath::open(self.as_fd(), name, flags, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        let marker = beneath::open(holder.as_fd(), MARKER, flags, Mode::empty())?;
        let user = geteuid().as_raw();
        let (outer, inner) = (Stat::read(holder.as_fd(), b"")?, Stat::read(marker.as_fd(), b"")?);
        let closed = outer.mode & PERMISSION_BITS == DIRECTORY_MODE.as_raw_mode();
        if !closed || outer.uid != user || inner.uid != user || inner.kind != FileType::File {
            return Ok(false);
        }
        let mut found = Vec::new();
        File::from(marker)
            .take(PROOF_BYTES_MAX)
            .read_to_end(&mut found)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
        Ok(found == self.proof(id)?.as_bytes())
    }

    /// Removes a directory of the journal, the proof last: a kill before leaves what the next one knows.
    fn remove_holder(&self, stage: &str, id: &Id) -> Result<(), TargetError> {
        let name = stage_name(stage, id);
        self.remove_tree(&below(&name, TREE))?;
        self.remove_tree(&name)
    }

    fn move_old_out(&self, id: &Id) -> Result<(), TargetError> {
        let old_name = stage_name(OLD, id);
        self.make_holder(OLD, id)
            .map_err(|error| self.failed("make the directory", &old_name, error))?;
        for name in self.names()? {
            let of_this_restore = stage_of(&name).is_some_and(|(_, found)| found == *id);
            if !of_this_restore && !self.is_proven(&name) && !self.is_empty_lost_and_found(&name) {
                self.move_aside(id, &name)?;
            }
        }
        Ok(())
    }

    /// Moves one entry of the target to the old ones; what has the same name there goes.
    fn move_aside(&self, id: &Id, name: &[u8]) -> Result<(), TargetError> {
        let aside = below(&below(&stage_name(OLD, id), TREE), name);
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
        let enter = beneath::open(self.as_fd(), &below(&enter_name, TREE), flags, Mode::empty())
            .map_err(failed)?;
        self.make_holder(OLD, id).map_err(failed)?;
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
        // The old tree is removed next, so this has to be on disk first.
        fsync(&self.directory).map_err(|error| self.failed("write to disk", b"", error))?;
        // With its proof it goes in one step, so that none is left without.
        self.move_aside(id, &enter_name)
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

/// Whether a path in a target is, or is below, a name of the journal at its top. A snapshot that has one
/// got it from who could write to its source.
#[must_use]
pub fn is_reserved(path: &[u8]) -> bool {
    path.split(|byte| *byte == b'/').next().and_then(stage_of).is_some()
}

fn below(directory: &[u8], name: &[u8]) -> Vec<u8> {
    [directory, b"/", name].concat()
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
