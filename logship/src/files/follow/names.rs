//! What directories hold, and what a change of a name means.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use super::{Follow, gap};
use crate::cursor::{Cursor, FileCursor, FileIdentity};
use crate::descriptors::is_exhausted;
use crate::files::compressed::Decompressed;
use crate::files::patterns;
use crate::files::siblings::Candidate;
use crate::files::tailed::Content;
use crate::proof::{FileFacts, head_len, holds, piece, proof, proof_of};
use crate::record::{Control, Gap, GapReason};
use crate::source::SourceId;
use crate::watch::{Change, What};
use rustix::fs::SeekFrom;

/// Where a hole begins that our own rotation leaves: behind the first block.
const HOLE_BEGIN: u64 = 4 << 10;

/// Bytes behind it in which the beginning of a line is looked for.
const LINE_SEARCH_BYTES: usize = 1 << 20;

impl Follow {
    /// Reads the directories, watches them, and says what is in them.
    pub(in crate::files) fn list(&mut self) -> Vec<Candidate> {
        let listing = self.patterns.list();
        if listing.is_cut {
            self.warn_path(Path::new("/"), &"too many directories: not all of them are looked at");
        }
        for (directory, reason) in &listing.refused {
            self.warn_error(directory, reason);
        }
        if self.unmatched.is_some() {
            let unmatched = self.patterns.unmatched(&listing);
            self.unmatched = Some(unmatched.into_iter().map(str::to_owned).collect());
        }
        for directory in listing.directories.keys() {
            self.watch_directory(directory);
        }
        let mut found = Vec::new();
        for (directory, names) in listing.directories {
            let names = names.iter().map(|named| named.name.as_os_str());
            let all = match self.patterns.facts_in(&directory, names) {
                Ok(all) => all,
                // It was there a moment ago.
                Err(error) => {
                    if is_exhausted(&error) {
                        self.starve_new();
                    }
                    continue;
                }
            };
            for (path, facts) in all {
                match facts {
                    Ok(facts) => found.push(Candidate { path, facts }),
                    Err(error) => self.cannot_look(&path, &error),
                }
            }
        }
        found
    }

    pub(in crate::files) fn watch_directory(&mut self, directory: &Path) {
        if self.watched.contains_key(directory) {
            return;
        }
        let Some(watch) = &self.watch else { return };
        match watch.add(directory) {
            Ok(id) => {
                self.watched.insert(directory.to_owned(), id);
                self.directories.insert(id, directory.to_owned());
            }
            Err(error) => {
                self.has_unwatched = true;
                self.warn_error(directory, &error);
            }
        }
    }

    /// The kernel tells of a file behind a symbolic link in the directory where it really is.
    pub(in crate::files) fn follow_link(&mut self, id: SourceId, path: &Path) {
        if !path.is_symlink() {
            return;
        }
        let Ok(target) = path.canonicalize() else { return };
        if let Some(directory) = target.parent() {
            self.watch_directory(directory);
        }
        self.link_targets.insert(target, id);
    }

    /// Looks at everything.
    pub(in crate::files) fn scan(&mut self) {
        let was_starved = std::mem::take(&mut self.is_starved);
        let listed = self.list();
        if self.is_starved {
            // What is not in the list may be there all the same.
            return;
        }
        self.is_starved = was_starved;
        let mut names: HashMap<SourceId, Vec<&Path>> = HashMap::new();
        for candidate in &listed {
            if let Some(id) = self.by_identity.get(&candidate.facts.identity) {
                names.entry(*id).or_default().push(&candidate.path);
            }
        }
        // Names that are gone without a word from the kernel.
        for (id, tailed) in &mut self.files {
            let found = names.get(id).map(Vec::as_slice).unwrap_or_default();
            tailed.names.retain(|name| found.contains(&name.as_path()));
        }
        let files = &self.files;
        let is_name =
            |name: &PathBuf, id: &SourceId| files.get(id).is_some_and(|f| f.names.contains(name));
        self.by_name.retain(|name, id| is_name(name, id));
        self.link_targets.retain(|_, id| files.contains_key(id));
        let there: HashSet<FileIdentity> =
            listed.iter().map(|candidate| candidate.facts.identity).collect();
        self.ignored.retain(|identity, _| there.contains(identity));
        self.readmitted.retain(|identity, _| there.contains(identity));
        self.suspects.retain(|identity, _| there.contains(identity));
        for candidate in listed {
            self.seen(&candidate.path, &candidate.facts);
        }
    }

    pub(in crate::files) fn change(&mut self, change: Change) {
        match change {
            Change::Overflow => self.scan(),
            Change::DirectoryGone(id) => {
                if let Some(path) = self.directories.remove(&id) {
                    self.watched.remove(&path);
                    if let Some(watch) = &self.watch {
                        watch.remove(id);
                    }
                    self.scan();
                }
            }
            Change::Name { directory, name, what } => {
                let Some(directory) = self.directories.get(&directory) else { return };
                let path = directory.join(name);
                self.name_changed(&path, what);
            }
        }
    }

    pub(in crate::files) fn name_changed(&mut self, path: &Path, what: What) {
        match what {
            What::Vanished => self.forget_name(path),
            What::Appeared => self.look(path),
            What::Written | What::Closed => {
                match self.by_name.get(path).or_else(|| self.link_targets.get(path)).copied() {
                    Some(id) => {
                        self.wake(id);
                        let is_held_up = !self.outbox.is_empty();
                        if let Some(tailed) = self.files.get_mut(&id) {
                            tailed.is_closed = what == What::Closed;
                            // Who may not read for now knows at least how much there was.
                            if is_held_up {
                                tailed.look_ahead();
                            }
                        }
                    }
                    None => self.look(path),
                }
            }
        }
    }

    pub(in crate::files) fn forget_name(&mut self, path: &Path) {
        if let Some(id) = self.by_name.remove(path)
            && let Some(tailed) = self.files.get_mut(&id)
        {
            tailed.names.retain(|name| name != path);
            self.wake(id);
        }
    }

    /// Finds out what a name means now.
    pub(in crate::files) fn look(&mut self, path: &Path) {
        match self.patterns.facts(path) {
            Ok(facts) if facts.is_directory => {
                if !self.watched.contains_key(path) {
                    // Perhaps one of a pattern.
                    self.scan();
                }
            }
            Ok(facts) => self.seen(path, &facts),
            Err(error) => self.cannot_look(path, &error),
        }
    }

    /// A name of which nothing can be known: only one that is meant is worth a word.
    fn cannot_look(&mut self, path: &Path, error: &io::Error) {
        if is_exhausted(error) {
            self.starve_new();
        } else if error.kind() != io::ErrorKind::NotFound && self.patterns.is_meant(path) {
            self.warn_error(path, error);
        }
    }

    /// A name and the file it means.
    pub(in crate::files) fn seen(&mut self, path: &Path, facts: &FileFacts) {
        if !facts.is_regular {
            if !facts.is_directory && self.patterns.is_meant(path) {
                self.warn_path(path, &"it is no regular file");
            }
            return;
        }
        if let Some(known) = self.by_name.get(path)
            && self.by_identity.get(&facts.identity) != Some(known)
        {
            self.forget_name(path);
        }
        if let Some(id) = self.by_identity.get(&facts.identity).copied() {
            let Some(tailed) = self.files.get_mut(&id) else { return };
            if tailed.names.last().is_none_or(|name| name != path) {
                tailed.add_name(path);
            }
            self.by_name.insert(path.to_owned(), id);
            if facts.size != tailed.size || facts.modified != tailed.modified {
                tailed.modified = facts.modified;
                self.wake(id);
            }
            return;
        }
        self.meet(path, facts, false);
    }

    /// A file that nobody reads yet.
    pub(in crate::files) fn meet(&mut self, path: &Path, facts: &FileFacts, is_first: bool) {
        let is_meant = self.patterns.is_meant(path);
        let base = self.patterns.base_of(path);
        if patterns::is_compressed(path)
            || self.ignored.get(&facts.identity).is_some_and(|bytes| facts.size >= *bytes)
            || (!is_meant && base.is_none())
        {
            return;
        }
        if let Some(original) = base.as_ref().and_then(|base| self.by_name.get(base)).copied()
            && self.may_be_copy(path, facts, original)
        {
            return;
        }
        let base = if is_meant { path } else { base.as_deref().unwrap_or(path) };
        let offset = if is_first { self.first_offset(path, facts) } else { 0 };
        self.begin(path, facts, base, offset);
    }

    /// A file is read for the first time, from `offset` on; or again, from where it was left.
    pub(in crate::files) fn begin(
        &mut self,
        path: &Path,
        facts: &FileFacts,
        base: &Path,
        offset: u64,
    ) {
        if self.files.len() >= self.settings.files_max {
            self.warn_path(path, &"too many files are read already");
            return;
        }
        let readmitted = self.readmitted.get(&facts.identity).copied();
        let offset = readmitted.filter(|bytes| *bytes <= facts.size).unwrap_or(offset);
        self.ignored.remove(&facts.identity);
        let opened = self.patterns.open(path, facts.identity).and_then(|file| {
            let mut freed = None;
            let cursor = match self.intake.open(self.meta(facts.identity, base)).cursor {
                Some(Cursor::File(known))
                    if known.file == facts.identity
                        && holds(&file, known.offset, &known.proof)? =>
                {
                    known
                }
                _ => {
                    freed = behind_hole(&file, facts.size)?.filter(|behind| *behind > offset);
                    let offset = freed.unwrap_or(offset);
                    let proof = proof_of(&file, offset)?.unwrap_or_default();
                    FileCursor { shift: 0, file: facts.identity, offset, proof }
                }
            };
            let head = piece(&file, 0, head_len(cursor.offset))?.unwrap_or_default();
            Ok((file, cursor, head, freed))
        });
        match opened {
            Ok((file, cursor, head, freed)) => {
                self.warned.remove(path);
                self.readmitted.remove(&facts.identity);
                let id = self.add(path, facts, base, Content::Plain(file), cursor, head);
                if let Some(bytes) = freed {
                    let gap = Gap { from_byte: Some(0), ..gap(GapReason::Removed, Some(bytes)) };
                    self.control(id, &Control::Gap(gap));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.warn_error(path, &error),
        }
    }

    /// A compressed file is read from its beginning.
    pub(in crate::files) fn begin_compressed(
        &mut self,
        path: &Path,
        facts: &FileFacts,
        base: &Path,
    ) {
        let Some(compression) = patterns::compression_of(path) else { return };
        let stream = self
            .patterns
            .open(path, facts.identity)
            .and_then(|file| Decompressed::new(file, compression));
        match stream {
            Ok(stream) => {
                let cursor = FileCursor {
                    shift: 0,
                    file: facts.identity,
                    offset: 0,
                    proof: proof(&[], &[]),
                };
                let content = Content::Compressed(Box::new(stream));
                self.add(path, facts, base, content, cursor, Vec::new());
            }
            Err(error) => self.warn_error(path, &error),
        }
    }
}

/// Where the first whole line begins behind the hole that our own rotation left, when nobody knows any more how far
/// the file was read: it begins with one block, and then has none.
fn behind_hole(file: &File, size: u64) -> io::Result<Option<u64>> {
    let hole = match rustix::fs::seek(file, SeekFrom::Hole(0)) {
        Ok(hole) => hole,
        // The file system knows no holes, or the file is empty.
        Err(_) => return Ok(None),
    };
    if hole != HOLE_BEGIN || hole >= size {
        return Ok(None);
    }
    let data = rustix::fs::seek(file, SeekFrom::Data(hole)).unwrap_or(size);
    let length = usize::try_from(size.saturating_sub(data)).unwrap_or(usize::MAX);
    let begin = piece(file, data, length.min(LINE_SEARCH_BYTES))?.unwrap_or_default();
    let line = memchr::memchr(b'\n', &begin).map_or(data, |at| data + at as u64 + 1);
    Ok(Some(line))
}
