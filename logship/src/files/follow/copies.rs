//! A file that is cut, and where the content it had went.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use super::{Follow, Suspect, unless_exhausted};
use crate::cursor::{FileCursor, FileIdentity};
use crate::descriptors::is_exhausted;
use crate::files::patterns::{self, Patterns};
use crate::files::siblings::{self, Candidate, Former, Found, Readable};
use crate::files::tailed::{Content, Tailed};
use crate::proof::{FileFacts, proof_of};
use crate::record::{Control, GapReason};
use crate::source::SourceId;

impl Follow {
    pub(in crate::files) fn rewritten_now(&mut self, id: SourceId) {
        let unread = self.files.get(&id).map(Tailed::unread);
        let _continued = self.rewritten(id, unread);
    }

    /// The file is shorter than what was read, or another one in the same inode: its former content is looked
    /// for, what of it was not read is read there, and the file begins again. `unread` is what it had beyond,
    /// where that is known. The file that continues it, if there is one.
    pub(in crate::files) fn rewritten(
        &mut self,
        id: SourceId,
        unread: Option<u64>,
    ) -> Option<FileFacts> {
        let tailed = self.files.get(&id)?;
        let (former, base, read) = (tailed.former(), tailed.base.clone(), tailed.read());
        let (path, identity) = (tailed.path().to_owned(), tailed.identity);
        let gap = self.gap_behind(id, GapReason::Truncated, unread);
        let Ok(found) = self.continue_copies(&former, identity, &path, &base) else {
            // Nothing is decided: the next turn finds the same.
            self.starve(id);
            return None;
        };
        self.report.rewritten += 1;
        let is_found = found.is_some();
        let size = self.patterns.facts(&path).map_or(0, |facts| facts.size);
        self.suspects.retain(|_, suspect| suspect.original != id);
        let tailed = self.files.get_mut(&id)?;
        if !is_found {
            // Nothing will bring the rest of what is held. Where there is a copy, it is read from the cursor on,
            // which stands before everything that is held.
            tailed.flush();
            self.hand_on(id);
        }
        let tailed = self.files.get_mut(&id)?;
        tailed.begin_again();
        let path = path.to_string_lossy().into_owned();
        self.control(id, &Control::Truncated { path, read, size });
        if !is_found && unread != Some(0) {
            self.control(id, &Control::Gap(gap));
        }
        self.wake(id);
        found
    }

    /// Finds the copies of what was read of the file `original`, and goes on in the one that has most of it, unless
    /// one of them is read already. Fails only when nothing can be opened now.
    pub(in crate::files) fn continue_copies(
        &mut self,
        former: &Former,
        original: FileIdentity,
        path: &Path,
        base: &Path,
    ) -> io::Result<Option<FileFacts>> {
        let mut candidates = candidates_beside(&self.patterns, original, path)?;
        if path.parent() != base.parent() {
            candidates.extend(candidates_beside(&self.patterns, original, base)?);
        }
        let mut found = siblings::search(&self.patterns, former, candidates)?;
        let is_known = |copy: &Found| self.by_identity.contains_key(&copy.candidate.facts.identity);
        let known = found.iter().find(|copy| is_known(copy)).map(|copy| copy.candidate.facts);
        found.retain(|copy| !is_known(copy));
        let order = |copy: &Found| {
            let is_plain = matches!(copy.content, Readable::Plain(_));
            (copy.from, is_plain, copy.candidate.facts.size)
        };
        found.sort_by_key(|copy| std::cmp::Reverse(order(copy)));
        let first = known.or_else(|| found.first().map(|copy| copy.candidate.facts));
        for copy in found {
            let continues = Some(copy.candidate.facts) == first;
            self.adopt_copy(copy, original, base, continues);
        }
        Ok(first)
    }

    /// A copy becomes a source, so that it is known from now on; one that `continues` is read from where the
    /// original was left.
    pub(in crate::files) fn adopt_copy(
        &mut self,
        copy: Found,
        original: FileIdentity,
        base: &Path,
        continues: bool,
    ) {
        self.report.copies += 1;
        let Candidate { path, facts } = copy.candidate;
        self.suspects.remove(&facts.identity);
        let (mut offset, mut proof) = (copy.from, copy.proof);
        let content = match copy.content {
            Readable::Compressed(_) if !continues => {
                self.ignored.insert(facts.identity, facts.size);
                return;
            }
            Readable::Compressed(stream) => Content::Compressed(stream),
            Readable::Plain(file) => {
                if !continues && let Ok(Some(whole)) = proof_of(&file, facts.size) {
                    (offset, proof) = (facts.size, whole);
                }
                Content::Plain(file)
            }
        };
        let cursor = FileCursor { shift: 0, file: facts.identity, offset, proof };
        let id = self.add(&path, &facts, base, content, cursor, copy.head);
        if continues && let Some(original) = self.by_identity.get(&original).copied() {
            self.put_before(id, original);
        }
    }

    /// Whether a file holds the beginning of another one that is still where it was written. It is left alone
    /// until it holds anything else, or the other one is cut.
    pub(in crate::files) fn may_be_copy(
        &mut self,
        path: &Path,
        facts: &FileFacts,
        original: SourceId,
    ) -> bool {
        let identity = facts.identity;
        let Some(tailed) = self.files.get(&original) else { return false };
        if tailed.identity == identity {
            return false;
        }
        if !tailed.is_open() && !self.reopen(original) {
            // Without the original nobody can tell; it is asked again when that can be opened.
            return self.files.contains_key(&original);
        }
        let Some(tailed) = self.files.get(&original) else { return false };
        let Some(file) = tailed.file() else { return false };
        let is_intact = tailed.is_intact();
        if !is_intact {
            // The original was cut: that decides about every copy of it.
            self.rewritten_now(original);
            return self.by_identity.contains_key(&identity);
        }
        let alike = self.patterns.open(path, identity).and_then(|copy| {
            if facts.size == 0 {
                // A copy that has just been begun, or nothing to lose.
                return Ok(Some(true));
            }
            siblings::is_copy(&copy, file)
        });
        match alike {
            Ok(Some(true)) => {
                self.suspects.insert(identity, Suspect { path: path.to_owned(), original });
                true
            }
            Ok(_) if !tailed.is_intact() => {
                // It was cut while it was compared.
                self.rewritten_now(original);
                self.by_identity.contains_key(&identity)
            }
            Ok(_) => {
                self.suspects.remove(&identity);
                false
            }
            Err(error) if is_exhausted(&error) => {
                self.starve_new();
                true
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "cannot compare");
                false
            }
        }
    }

    /// Suspects whose original is under another name now: whatever more they hold is in no other file.
    pub(in crate::files) fn resolve_suspects(&mut self) {
        let is_away = |suspect: &Suspect| {
            self.files.get(&suspect.original).is_none_or(|original| {
                !original.names.contains(&original.base) && original.size <= original.read()
            })
        };
        let away = self.suspects.values().filter(|suspect| is_away(suspect));
        let originals: BTreeSet<SourceId> = away.map(|suspect| suspect.original).collect();
        for original in originals {
            self.resolve_suspects_of(original);
        }
    }

    pub(in crate::files) fn resolve_suspects_of(&mut self, original: SourceId) {
        let Some(tailed) = self.files.get(&original) else { return };
        let (former, of) = (tailed.former(), tailed.identity);
        let of_it = self.suspects.extract_if(|_, suspect| suspect.original == original);
        let of_it: Vec<(FileIdentity, Suspect)> = of_it.collect();
        for (identity, suspect) in of_it {
            let facts = match self.patterns.facts(&suspect.path) {
                Ok(facts) => facts,
                Err(error) => {
                    if is_exhausted(&error) {
                        self.starve_new();
                    }
                    continue;
                }
            };
            if facts.identity != identity {
                continue;
            }
            let candidate = Candidate { path: suspect.path.clone(), facts };
            let base = self.patterns.base_of(&suspect.path).unwrap_or(suspect.path.clone());
            match siblings::search(&self.patterns, &former, vec![candidate]) {
                Ok(mut found) => match found.pop() {
                    Some(copy) => self.adopt_copy(copy, of, &base, true),
                    None => self.begin(&suspect.path, &facts, &base, 0),
                },
                Err(_) => self.starve_new(),
            }
        }
    }
}

/// Whether two names are of files that rotations make of one: the same name, or one is rotated of the other, or
/// both of a third.
fn is_of_one_family(a: &Path, b: &Path) -> bool {
    let family = |path: &Path| -> Vec<OsString> {
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let mut names = patterns::bases(name);
        names.push(name.to_owned());
        names
    };
    let of_a = family(a);
    family(b).iter().any(|name| of_a.contains(name))
}

/// Files beside `path`, other than `original`, that may hold what it held.
fn candidates_beside(
    patterns: &Patterns,
    original: FileIdentity,
    path: &Path,
) -> io::Result<Vec<Candidate>> {
    let Some(directory) = path.parent() else { return Ok(Vec::new()) };
    let names = unless_exhausted(patterns.names_in(directory))?.unwrap_or_default();
    let family = names.iter().map(OsString::as_os_str);
    let family = family.filter(|name| is_of_one_family(path, Path::new(name)));
    let facts = unless_exhausted(patterns.facts_in(directory, family))?.unwrap_or_default();
    let mut candidates = Vec::new();
    for (path, facts) in facts {
        let facts = unless_exhausted(facts)?;
        let facts = facts.filter(|facts| facts.is_regular && facts.identity != original);
        candidates.extend(facts.map(|facts| Candidate { path, facts }));
    }
    Ok(candidates)
}
