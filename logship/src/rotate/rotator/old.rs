//! Files that were renamed: drained, ended, compressed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::time::Instant;

use super::cut::punch_safe;
use super::{Job, Record, RotateStats, Rotator, SAY_EVERY, in_words};
use crate::files::desk::{Answer, Ask, Hold};
use crate::proof::FileFacts;
use crate::rotate::decide::{self, Old, OldAct, nanoseconds};
use crate::rotate::fresh::{self, Empty, Whole};
use crate::rotate::intent::{Intent, KeptFile, Packed, Renamed};
use crate::rotate::lease::Lease;
use crate::rotate::names::COMPRESSED;
use crate::rotate::place::{Opened, Place};
use crate::rotation::Policy;

/// Bytes that must be freed at once in a renamed file.
const PUNCH_BYTES_MIN: u64 = 1 << 20;

/// How often it is tried to compress a file before it stays as it is.
const PACK_ATTEMPTS_MAX: u32 = 3;

/// Names that are tried for a compressed file: others may have taken the first ones.
const PACKED_NAMES_MAX: u32 = 10;

impl Rotator {
    /// Looks after one record, unless it failed a moment ago.
    pub(super) fn tend(&mut self, name: &str) {
        let Some(record) = self.records.get(name) else { return };
        if record.again.is_some_and(|at| at > Instant::now()) {
            return;
        }
        let intent = record.intent.clone();
        let base = intent.base().to_owned();
        let tended = match intent {
            Intent::Collapse { base, begun } => self.tend_collapse(name, begun, &base),
            Intent::Rename(renamed) => self.tend_renamed(name, &renamed),
            // Those are looked after elsewhere.
            Intent::Kept(_) => Ok(()),
        };
        let Some(record) = self.records.get_mut(name) else { return };
        let Err(error) = tended else {
            record.failures = 0;
            return;
        };
        record.fail();
        if record.said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            record.said = Some(Instant::now());
            RotateStats::add(&self.stats().faults, 1);
            tracing::warn!(path = %base.display(), %error, "a rotation does not go on");
        }
    }

    fn tend_renamed(&mut self, name: &str, renamed: &Renamed) -> io::Result<()> {
        if self.job.as_ref().is_some_and(|job| job.record == name) {
            return Ok(());
        }
        let Renamed { base, rotated, file, .. } = renamed;
        let place = Place::of(&self.patterns, base)?;
        let old = place.beside(rotated.file_name().unwrap_or_default())?;
        let opened = old.open()?.filter(|opened| opened.facts.identity == *file);
        let Some(opened) = opened else { return self.renamed_is_gone(name, renamed, &place) };
        let policy = self.policy(base);
        let has_new = self.records.get(name).is_some_and(|record| record.has_new);
        if !has_new {
            // An earlier process died in between, or it failed.
            let empty = Empty::like(&place.directory, &opened.file)?;
            empty.name(&place.directory, place.name(), &opened.file)?;
            place.sync()?;
            let tellings = self.ask_whom(base, &policy);
            if let Some(record) = self.records.get_mut(name) {
                record.has_new = true;
            }
            self.tell(name, tellings);
        }
        let facts = self.old_facts(name, renamed, &opened);
        if facts.is_over && facts.safe != facts.size {
            // It was ended, and somebody has written to it since.
            self.ask(Ask::Readmit(*file, facts.safe));
        } else if facts.is_over && renamed.over != Some(facts.size) {
            // The log forgets it, and this process may not be there at the time.
            self.note(name, |renamed| Renamed { over: Some(facts.size), ..renamed })?;
        }
        match decide::old(&policy, &facts) {
            OldAct::Wait => Ok(()),
            OldAct::Tell => {
                tracing::warn!(
                    path = %rotated.display(),
                    "a writer has not opened the new file: nothing is lost, it is told again"
                );
                let tellings = self.ask_whom(base, &policy);
                self.tell(name, tellings);
                Ok(())
            }
            OldAct::Punch(until) => self.punch_old(name, &old, &opened, until),
            OldAct::Retire => {
                match self.ask(Ask::Retire(*file, opened.facts.size)) {
                    Answer::Done | Answer::Unknown | Answer::Busy => {}
                    Answer::NotNow(why) | Answer::Never(why) | Answer::Nowhere(why) => {
                        tracing::debug!(path = %rotated.display(), why, "is not over");
                    }
                }
                Ok(())
            }
            OldAct::Finish => self.finish(name, renamed, &old, opened, &policy),
            OldAct::Keep => self.become_kept(name, renamed, &old, &opened),
        }
    }

    /// How far a renamed file is safe, and whether it is over: by the log, or by what was written down before that has
    /// forgotten it.
    fn safe_of(&mut self, renamed: &Renamed) -> (u64, bool) {
        match self.settled(renamed.file) {
            Some((cursor, is_over)) => (cursor.offset, is_over),
            None => renamed.over.map_or((0, false), |bytes| (bytes, true)),
        }
    }

    /// What is known of a renamed file.
    fn old_facts(&mut self, name: &str, renamed: &Renamed, opened: &Opened) -> Old {
        let held = self.held(opened);
        let facts = opened.facts;
        let (safe, is_over) = self.safe_of(renamed);
        let mut old = Old {
            size: facts.size,
            allocated: opened.allocated,
            safe,
            is_over,
            held,
            quiet: 0,
            told: None,
            tellings: 0,
            is_untold: false,
            links: facts.links,
        };
        if let Some(record) = self.records.get_mut(name) {
            record.see(facts.size);
            let seen = (facts.size, facts.modified);
            let since = match record.seen {
                Some((size, modified, since)) if (size, modified) == seen => since,
                _ => Instant::now(),
            };
            record.seen = Some((seen.0, seen.1, since));
            old.quiet = nanoseconds(since.elapsed());
            old.told = record.told.map(|at| nanoseconds(at.elapsed()));
            (old.tellings, old.is_untold) = (record.tellings, record.is_untold);
        }
        old
    }

    /// The renamed file is not where it should be.
    fn renamed_is_gone(&mut self, name: &str, renamed: &Renamed, place: &Place) -> io::Result<()> {
        if place.identity()? == Some(renamed.file) {
            // It was never renamed: the next round decides anew.
            self.forget(name);
            return Ok(());
        }
        if let Some(packed) = &renamed.packed
            && let Some((packed, made)) = open_packed(place, packed)?
        {
            return self.become_kept(name, renamed, &packed, &made);
        }
        tracing::warn!(path = %renamed.rotated.display(), "another program has moved or removed it");
        self.forget(name);
        Ok(())
    }

    fn punch_old(
        &mut self,
        name: &str,
        old: &Place,
        opened: &Opened,
        until: u64,
    ) -> io::Result<()> {
        let Some((cursor, _)) = self.settled(opened.facts.identity) else { return Ok(()) };
        let done = self.records.get(name).map_or(0, |record| record.punched);
        if until >= done.saturating_add(PUNCH_BYTES_MIN) && punch_safe(old, opened, &cursor, until)?
        {
            RotateStats::add(&self.stats().punched, 1);
            RotateStats::add(&self.stats().removed_bytes, until - done);
            if let Some(record) = self.records.get_mut(name) {
                record.punched = until;
            }
        }
        Ok(())
    }

    /// Nobody writes to it, which is proved, and all of it is safe: it is compressed, kept, or removed.
    fn finish(
        &mut self,
        name: &str,
        renamed: &Renamed,
        old: &Place,
        opened: Opened,
        policy: &Policy,
    ) -> io::Result<()> {
        let keep = self.keep_of(&renamed.base, renamed.keep);
        if keep.is_some_and(|keep| keep.count == Some(0)) {
            if self.remove_unless_written(old, &opened, &renamed.base)? {
                RotateStats::add(&self.stats().removed_bytes, opened.facts.size);
                self.forget(name);
            }
            return Ok(());
        }
        if renamed.packed.is_some() {
            // An earlier process had compressed it.
            return self.replace_by_packed(name);
        }
        let unpacked = self.records.get(name).map_or(0, |record| record.unpacked);
        if !policy.compress || unpacked >= PACK_ATTEMPTS_MAX {
            return self.become_kept(name, renamed, old, &opened);
        }
        if self.job.is_none() {
            let name_of_packed = free_name(old)?;
            let directory = old.directory.try_clone()?;
            let (stop, packed_name) = (self.stop.clone(), name_of_packed.clone());
            let bytes = opened.facts.size;
            let work = move || fresh::compress(&directory, &packed_name, &opened.file, &stop);
            let thread = std::thread::Builder::new().name("rotate-zstd".to_owned()).spawn(work)?;
            self.job = Some(Job { record: name.to_owned(), name: name_of_packed, bytes, thread });
        }
        Ok(())
    }

    /// Takes over what was compressed.
    pub(super) fn end_job(&mut self) {
        let Some(job) = self.job.take_if(|job| job.thread.is_finished()) else { return };
        let Job { record: name, name: packed_name, bytes, thread } = job;
        let whole = thread.join().unwrap_or_else(|_| Err(io::Error::other("it broke off")));
        let done = whole.and_then(|whole| self.name_packed(&name, &packed_name, bytes, whole));
        let Err(error) = done else { return };
        if self.stop.is_requested() {
            return;
        }
        RotateStats::add(&self.stats().faults, 1);
        let Some(record) = self.records.get_mut(&name) else { return };
        record.fail();
        let is_final =
            matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        record.unpacked = if is_final { PACK_ATTEMPTS_MAX } else { record.unpacked + 1 };
        let then = if record.unpacked >= PACK_ATTEMPTS_MAX {
            "it stays as it is"
        } else {
            "it is tried again"
        };
        let base = record.intent.base().display().to_string();
        tracing::warn!(path = base, %error, "a rotated file cannot be compressed: {then}");
    }

    /// Writes down which file the compressed one is, and gives it its name.
    fn name_packed(
        &mut self,
        name: &str,
        packed_name: &OsStr,
        bytes: u64,
        whole: Whole,
    ) -> io::Result<()> {
        let Some(renamed) = self.renamed(name) else { return Ok(()) };
        let place = Place::of(&self.patterns, &renamed.base)?.beside(packed_name)?;
        let file = FileFacts::of(&whole.file)?.identity;
        self.note_packed(name, Some(Packed { path: place.path.clone(), file, bytes }))?;
        if let Err(error) = whole.name(&place.directory, place.name()) {
            self.note_packed(name, None)?;
            return Err(error);
        }
        // Whoever removes it may be told that it has a writer otherwise.
        drop(whole);
        self.replace_by_packed(name)
    }

    fn renamed(&self, name: &str) -> Option<Renamed> {
        match &self.records.get(name)?.intent {
            Intent::Rename(renamed) => Some(renamed.clone()),
            Intent::Collapse { .. } | Intent::Kept(_) => None,
        }
    }

    fn note_packed(&mut self, name: &str, packed: Option<Packed>) -> io::Result<()> {
        self.note(name, |renamed| Renamed { packed, ..renamed })
    }

    /// Writes down more of a renamed file.
    fn note(&mut self, name: &str, more: impl FnOnce(Renamed) -> Renamed) -> io::Result<()> {
        let Some(renamed) = self.renamed(name) else { return Ok(()) };
        let intent = Intent::Rename(more(renamed));
        self.intents.replace(name, &intent).map_err(in_words)?;
        if let Some(record) = self.records.get_mut(name) {
            record.intent = intent;
        }
        Ok(())
    }

    /// Removes a file of which there is a compressed one, if that holds all of it.
    fn replace_by_packed(&mut self, name: &str) -> io::Result<()> {
        let Some(renamed) = self.renamed(name) else { return Ok(()) };
        let Some(packed) = &renamed.packed else { return Ok(()) };
        let place = Place::of(&self.patterns, &renamed.base)?;
        let Some((packed_place, made)) = open_packed(&place, packed)? else {
            // It never got its name, or somebody took it.
            return self.note_packed(name, None);
        };
        let old = place.beside(renamed.rotated.file_name().unwrap_or_default())?;
        if let Some(opened) = old.open()?.filter(|opened| opened.facts.identity == renamed.file) {
            let size = opened.facts.size;
            let is_same = self.safe_of(&renamed) == (size, true);
            let is_all = is_same && size == packed.bytes;
            if !is_all || !self.remove_unless_written(&old, &opened, &renamed.base)? {
                // Somebody wrote to it meanwhile: what was compressed is not all of it.
                packed_place.remove(packed.file)?;
                self.note_packed(name, None)?;
                if !is_same {
                    self.ask(Ask::Readmit(renamed.file, packed.bytes));
                }
                return Ok(());
            }
        }
        RotateStats::add(&self.stats().compressed, 1);
        self.become_kept(name, &renamed, &packed_place, &made)
    }

    /// Removes a file that nobody can begin to write to meanwhile; whether it did. Where that cannot be proved, and when
    /// somebody has opened it in just that moment, the reader holds it open, and reads on when it grows.
    pub(super) fn remove_unless_written(
        &mut self,
        place: &Place,
        opened: &Opened,
        base: &Path,
    ) -> io::Result<bool> {
        let identity = opened.facts.identity;
        let lease = match Lease::take(&opened.file) {
            Ok(lease) => Some(lease),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(_) => None,
        };
        let size = FileFacts::of(&opened.file)?.size;
        if size != opened.facts.size {
            return Ok(false);
        }
        let hold = || -> io::Result<Hold> {
            let (path, base) = (place.path.clone(), base.to_owned());
            Ok(Hold { identity, file: opened.file.try_clone()?, path, base, bytes: size })
        };
        let may_be_written = match &lease {
            Some(lease) => lease.is_awaited()?,
            None => self.ask(Ask::Hold(hold()?)) != Answer::Done,
        };
        if may_be_written {
            return Ok(false);
        }
        place.remove(identity)?;
        // Whoever waits by now has found the name, and gets a file without one when the lease is given back.
        if let Some(lease) = lease
            && lease.is_awaited()?
            && self.ask(Ask::Hold(hold()?)) != Answer::Done
        {
            RotateStats::add(&self.stats().faults, 1);
            let path = place.path.display();
            tracing::warn!(%path, "a writer has opened a rotated file as it was removed: what it adds is not read");
        }
        place.sync()?;
        if opened.facts.links > 1 {
            // It goes on under its other names, whatever the log knows of it by then.
            self.ask(Ask::Readmit(identity, size));
        } else if identity.born.is_none() {
            // The next file may look the same.
            self.ask(Ask::Forget(identity));
        }
        Ok(true)
    }

    fn become_kept(
        &mut self,
        name: &str,
        renamed: &Renamed,
        place: &Place,
        opened: &Opened,
    ) -> io::Result<()> {
        let kept = KeptFile {
            base: renamed.base.clone(),
            path: place.path.clone(),
            file: opened.facts.identity,
            begun: renamed.begun,
            bytes: opened.facts.size,
            keep: renamed.keep,
        };
        self.intents.replace(name, &Intent::Kept(kept.clone())).map_err(in_words)?;
        self.records.remove(name);
        self.kept.insert(name.to_owned(), kept);
        self.keep();
        Ok(())
    }

    /// A kept file goes back to those that are drained: somebody has written to it.
    pub(super) fn drain_again(&mut self, name: &str) -> io::Result<()> {
        let Some(kept) = self.kept.get(name).cloned() else { return Ok(()) };
        let KeptFile { base, path: rotated, file, begun, bytes, keep } = kept;
        let (over, packed) = (Some(bytes), None);
        let intent = Intent::Rename(Renamed { base, rotated, file, begun, keep, over, packed });
        self.intents.replace(name, &intent).map_err(in_words)?;
        self.kept.remove(name);
        let record = Record { has_new: true, ..Record::new(intent) };
        self.records.insert(name.to_owned(), record);
        self.ask(Ask::Readmit(file, bytes));
        Ok(())
    }
}

/// The compressed file, if what has its name is it.
fn open_packed(beside: &Place, packed: &Packed) -> io::Result<Option<(Place, Opened)>> {
    let place = beside.beside(packed.path.file_name().unwrap_or_default())?;
    let opened = place.open()?.filter(|opened| opened.facts.identity == packed.file);
    Ok(opened.map(|opened| (place, opened)))
}

/// A name for the compressed form of a file that nobody has taken.
fn free_name(old: &Place) -> io::Result<OsString> {
    let taken = old.names()?;
    let names = (0..PACKED_NAMES_MAX).map(|attempt| {
        let mut name = old.name().to_owned();
        if attempt > 0 {
            name.push(format!(".{attempt}"));
        }
        name.push(COMPRESSED);
        name
    });
    let free = names.into_iter().find(|name| !taken.contains(name));
    free.ok_or_else(|| io::Error::other("others have taken every name for it"))
}
