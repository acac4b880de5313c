//! The beginning of a file whose writers stay: taken away, or its disk freed.

use std::io;

use rustix::io::Errno;

use super::{Record, RotateStats, Rotator, in_words};
use crate::cursor::FileCursor;
use crate::files::desk::{Answer, Ask, Collapse, probe};
use crate::proof::holds;
use crate::rotate::decide::{Appends, Begins, COLLAPSE_BYTES_MAX, Collapsing, is_collapse_over};
use crate::rotate::intent::{BegunRecord, Intent};
use crate::rotate::place::{Opened, Place, punch};
use crate::rotation::{Policy, Reopen};
use crate::time;

/// What is said where the beginning of a file cannot be taken away.
const CANNOT: &str = "its file system cannot take away the beginning of a file: its disk is freed instead, and the file \
                      looks as large as before";

/// The same where it is the file's own affair.
const CANNOT_HERE: &str = "its beginning cannot be taken away: its disk is freed instead, and the file looks as large \
                           as before";

/// Bytes that must be freed at once: less is not worth a system call.
const PUNCH_BYTES_MIN: u64 = 64 << 10;

impl Rotator {
    /// Writes down what is to be taken away, and has the reader do it: it moves along in the same moment.
    pub(super) fn collapse(
        &mut self,
        place: &Place,
        opened: &Opened,
        settled: Option<(FileCursor, bool)>,
        length: u64,
    ) {
        let Some((cursor, _)) = settled else { return };
        if let Err(error) = self.try_collapse(place, opened, cursor, length) {
            RotateStats::add(&self.stats().faults, 1);
            self.is_not_rotated(
                &place.path,
                &format!("its beginning cannot be taken away: {error}"),
            );
        }
    }

    fn try_collapse(
        &mut self,
        place: &Place,
        opened: &Opened,
        cursor: FileCursor,
        length: u64,
    ) -> io::Result<()> {
        let identity = opened.facts.identity;
        let (before, after) = (probe(&opened.file, 0)?, probe(&opened.file, length)?);
        let (Some(before), Some(after)) = (before, after) else { return Ok(()) };
        if before == after {
            // Whether it happened could not be told from the file, nor with any other length if it repeats itself.
            tracing::info!(path = %place.path.display(), "it looks the same at two places: its disk is freed instead");
            if let Some(known) = self.known.get_mut(&place.path) {
                known.is_whole = true;
            }
            return Ok(());
        }
        let begun = BegunRecord { file: identity, shift: cursor.shift, length, before, after };
        let file = place.open_to_write(identity)?;
        let intent = Intent::Collapse { base: place.path.clone(), begun };
        let name = self.intents.add(&intent).map_err(in_words)?;
        self.records.insert(name.clone(), Record::new(intent));
        let collapse = Collapse { settled: cursor, file, length, before, after };
        match self.ask(Ask::Collapse(collapse)) {
            Answer::Done => {
                let stats = self.stats();
                RotateStats::add(&stats.collapsed, 1);
                RotateStats::add(&stats.removed_bytes, length);
                tracing::info!(path = %place.path.display(), length, "its beginning was shipped, and taken away");
                if let Some(known) = self.known.get_mut(&place.path) {
                    known.punched = known.punched.saturating_sub(length);
                    if length < COLLAPSE_BYTES_MAX {
                        known.is_forced = false;
                        known.since = time::now();
                    }
                }
            }
            // What becomes of it is seen in the file.
            Answer::Unknown => {}
            // The next round frees its disk instead.
            Answer::Busy => self.forget(&name),
            Answer::NotNow(why) => {
                tracing::debug!(path = %place.path.display(), why, "its beginning stays for now");
            }
            Answer::Never(why) => {
                self.forget(&name);
                tracing::warn!(path = %place.path.display(), why, "{CANNOT_HERE}");
                if let Some(known) = self.known.get_mut(&place.path) {
                    known.is_whole = true;
                }
            }
            Answer::Nowhere(why) => {
                self.forget(&name);
                self.without_collapse.insert(identity.device);
                tracing::warn!(path = %place.path.display(), why, "{CANNOT}");
            }
        }
        Ok(())
    }

    /// What became of a collapse: over once the log knows the new places for good and the file has them for good, when
    /// it did not happen, or when another program has cut the file since.
    pub(super) fn tend_collapse(
        &mut self,
        name: &str,
        begun: BegunRecord,
        base: &std::path::Path,
    ) -> io::Result<()> {
        // Only what nobody is at any more cannot happen later; this comes before the look at the file.
        let is_idle = self.settings.desk.is_idle();
        let opened = Place::of(&self.patterns, base)?.open()?;
        let opened = opened.filter(|opened| opened.facts.identity == begun.file);
        let Some((cursor, is_over)) = self.settled(begun.file) else {
            // The log knows nothing of the file: nobody needs to know where its beginning was.
            if self.log.standing(&crate::files::key_of(begun.file)).is_none() {
                self.forget(name);
            }
            return Ok(());
        };
        let begins = match &opened {
            Some(opened) => begins(probe(&opened.file, 0)?, &begun),
            None => Begins::Nowhere,
        };
        let BegunRecord { shift, length, .. } = begun;
        let known = cursor.shift;
        if !is_collapse_over(&Collapsing { shift, length, known, is_over, begins, is_idle }) {
            return Ok(());
        }
        if let Some(opened) = opened.filter(|_| begins != Begins::Before) {
            // Without this, the file could be whole again when the power fails, and the log would not know.
            opened.file.sync_all()?;
        }
        self.forget(name);
        Ok(())
    }

    /// Frees the disk of what is safe.
    pub(super) fn punch(
        &mut self,
        place: &Place,
        opened: &Opened,
        settled: Option<(FileCursor, bool)>,
        until: u64,
        policy: &Policy,
        appends: Appends,
    ) {
        let Some((cursor, _)) = settled else { return };
        let done = self.known.get(&place.path).map_or(0, |known| known.punched);
        if until < done.saturating_add(PUNCH_BYTES_MIN) {
            return;
        }
        match punch_safe(place, opened, &cursor, until) {
            Ok(false) => {}
            Ok(true) => {
                let stats = self.stats();
                RotateStats::add(&stats.punched, 1);
                RotateStats::add(&stats.removed_bytes, until - done);
                if let Some(known) = self.known.get_mut(&place.path) {
                    known.punched = until;
                    known.is_forced = false;
                    known.since = time::now();
                    if done == 0 {
                        let why = match (&policy.reopen, appends) {
                            (Reopen::None, Appends::NotAll) => "one of its writers does not append",
                            (Reopen::None, _) => "its writers stay, and are not known to append",
                            _ => "its writers do not open the new file",
                        };
                        tracing::info!(
                            path = %place.path.display(),
                            why,
                            "the disk of what was shipped is freed; the file looks as large as before"
                        );
                    }
                }
            }
            Err(error) => {
                RotateStats::add(&self.stats().faults, 1);
                self.is_not_rotated(&place.path, &format!("its disk cannot be freed: {error}"));
            }
        }
    }
}

/// What a file begins with whose first bytes have this hash; without one, it is shorter than a collapse leaves it.
fn begins(first: Option<u64>, begun: &BegunRecord) -> Begins {
    match first {
        Some(first) if first == begun.before => Begins::Before,
        Some(first) if first == begun.after => Begins::After,
        _ => Begins::Otherwise,
    }
}

/// Frees the disk up to `until`, if the file still holds what was read of it; whether it did.
pub(super) fn punch_safe(
    place: &Place,
    opened: &Opened,
    cursor: &FileCursor,
    until: u64,
) -> io::Result<bool> {
    let file = place.open_to_write(opened.facts.identity)?;
    if !holds(&opened.file, cursor.offset, &cursor.proof)? {
        return Ok(false);
    }
    match punch(&file, until) {
        Ok(()) => Ok(true),
        Err(error) if error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error()) => {
            Err(io::Error::other(
                "this file system can do neither; only writers that open a new file can be rotated (reopen)",
            ))
        }
        Err(error) => Err(error),
    }
}
