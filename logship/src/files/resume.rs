//! The beginning of a run: what was read by earlier ones is found again, what came and went in between too.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};

use crate::cursor::{Cursor, FileCursor, FileIdentity};
use crate::files::compressed::Decompressed;
use crate::files::follow::{Follow, gap};
use crate::files::patterns::{self, Compression, Patterns};
use crate::files::siblings::{self, Candidate, Former};
use crate::files::tailed::{Content, Tailed};
use crate::intake::Message;
use crate::proof::{FileFacts, head_len, holds, piece};
use crate::record::{Control, GapReason};
use crate::rule::{FileStart, Mode};
use crate::source::{Origin, SourceId};

/// Bytes at the end of a file in which the last line end is looked for.
const LAST_LINE_BYTES: u64 = 64 << 10;

/// A file that an earlier run read.
#[derive(Debug, Clone)]
struct Known {
    id: SourceId,
    base: PathBuf,
    cursor: FileCursor,
    /// It was read to its end, and gone.
    is_over: bool,
}

/// What a file may be that was not known, by the files of the same name that were.
#[derive(Debug, Clone, Copy)]
struct Newest {
    born: Option<i64>,
    /// Compressed files that were written to later than this came after it.
    compressed_after: Option<i64>,
}

impl Newest {
    /// What is compressed and was written to after `time` is younger than everything that was read.
    fn follows(&mut self, time: Option<i64>) {
        self.compressed_after = self.compressed_after.max(time);
    }
}

impl Follow {
    /// Takes up what earlier runs left, and begins what is new.
    pub(super) fn resume(&mut self, listed: Vec<Candidate>) {
        let known = self.known();
        let is_first = known.is_empty();
        let is_missing = |listed: &[Candidate]| {
            let there: HashSet<FileIdentity> =
                listed.iter().map(|candidate| candidate.facts.identity).collect();
            known.iter().any(|known| !known.is_over && !there.contains(&known.cursor.file))
        };
        // A name that moves while a directory is read may be in neither place.
        let listed = if is_missing(&listed) { self.list() } else { listed };
        let mut there: HashMap<FileIdentity, &Candidate> = HashMap::new();
        for candidate in listed.iter().filter(|candidate| candidate.facts.is_regular) {
            there.entry(candidate.facts.identity).or_insert(candidate);
        }
        let (mut changed, mut vanished) = (Vec::new(), Vec::new());
        for known in &known {
            match there.get(&known.cursor.file) {
                Some(candidate) => match self.resume_one(known, candidate) {
                    Ok(true) => {}
                    Ok(false) => changed.push(known),
                    Err(error) => self.warn_error(&candidate.path, &error),
                },
                None if known.is_over => {}
                None => vanished.push(known),
            }
        }
        // Only now all that is known is known: the rest may be copies. What vanished comes first, since a copy that
        // is gone itself was read further than the file it was of.
        let mut newest = newest(&known);
        let ended = vanished.iter().chain(&changed).map(|known| known.id).collect();
        for known in vanished {
            let found = self.vanished(known);
            if let Some(newest) = newest.get_mut(&known.base)
                && newest.born == known.cursor.file.born
            {
                newest.follows(found.map(|facts| facts.modified).or(newest.born));
            }
        }
        for known in changed {
            if let Some(found) = self.rewritten(known.id, None)
                && let Some(newest) = newest.get_mut(&known.base)
            {
                newest.follows(Some(found.modified));
            }
        }
        let over: Vec<Former> =
            known.iter().filter(|known| known.is_over).map(|known| former(&known.cursor)).collect();
        // What continues a file is known to the log before that it does not hold it any more.
        let late = self.set_aside(&ended);
        self.begin_unknown(listed, is_first, &newest, &over);
        self.outbox.extend(late);
    }

    /// Whether our own rotation has ended a file. What is shorter than it was then is another one in the same inode, and
    /// so may be what is longer where there are no birth times; otherwise rotation asks for the rest of it.
    fn is_kept(&self, facts: &FileFacts) -> bool {
        let FileFacts { identity, size, .. } = facts;
        let bytes = self.settings.kept.get(identity);
        bytes.is_some_and(|bytes| size == bytes || (size > bytes && identity.born.is_some()))
    }

    /// What was to be said of some sources.
    fn set_aside(&mut self, of: &HashSet<SourceId>) -> VecDeque<Message> {
        let is_of = |message: &Message| match message {
            Message::Chunk(chunk) => of.contains(&chunk.source),
            Message::End(id) => of.contains(id),
        };
        let (late, now) = std::mem::take(&mut self.outbox).into_iter().partition(is_of);
        self.outbox = now;
        late
    }

    /// The files of earlier runs that these patterns mean, the oldest source first.
    fn known(&self) -> Vec<Known> {
        let sources = self.intake.sources();
        let all = sources.all().into_iter().filter_map(|(id, meta, cursor)| {
            let Origin::File { path, .. } = &meta.origin else { return None };
            let Some(Cursor::File(cursor)) = cursor else { return None };
            let base = PathBuf::from(path);
            let is_ours = self.patterns.is_meant(&base);
            is_ours.then(|| Known { id, base, cursor, is_over: sources.is_over(id) })
        });
        all.collect()
    }

    /// Whether the file still holds what was read of it; it is followed in any case.
    fn resume_one(&mut self, known: &Known, candidate: &Candidate) -> io::Result<bool> {
        let Candidate { path, facts } = candidate;
        let cursor = known.cursor;
        let is_rotated = self.is_kept(facts) || self.settings.renamed.contains(&facts.identity);
        if known.is_over && cursor.offset == facts.size && is_rotated {
            self.ignored.insert(facts.identity, facts.size);
            return Ok(true);
        }
        let compression = patterns::compression_of(path);
        if compression.is_some() && known.is_over {
            self.ignored.insert(facts.identity, facts.size);
            return Ok(true);
        }
        let file = self.patterns.open(path, facts.identity)?;
        let mut cursor = cursor;
        let (content, head, is_same) = match compression {
            None => {
                for begun in &self.settings.begun {
                    cursor = begun.moved(cursor, &file)?;
                }
                let head = piece(&file, 0, head_len(cursor.offset))?.unwrap_or_default();
                let is_same = holds(&file, cursor.offset, &cursor.proof)?;
                // What it holds now says nothing of what it held.
                let head = if is_same { head } else { Vec::new() };
                (Content::Plain(file), head, is_same)
            }
            Some(compression) => {
                let (stream, head) = skipped(file, compression, cursor.offset)?;
                (Content::Compressed(Box::new(stream)), head, true)
            }
        };
        // It was opened by an earlier run only.
        let _known_already = self.intake.open(self.meta(facts.identity, &known.base));
        self.insert(known.id, path, facts, &known.base, content, cursor, head);
        Ok(is_same)
    }

    /// A file that was not read to its end and is not there any more. The one that continues it, if there is one.
    fn vanished(&mut self, known: &Known) -> Option<FileFacts> {
        let found = self.continue_copies(
            &former(&known.cursor),
            known.cursor.file,
            &known.base,
            &known.base,
        );
        // The gap that is told then is one that may be none: it is never exact.
        let found = found.unwrap_or_default();
        let facts = FileFacts {
            identity: known.cursor.file,
            size: known.cursor.offset,
            modified: 0,
            links: 0,
            is_regular: true,
            is_directory: false,
        };
        let (id, base) = (known.id, &known.base);
        // Its name may mean another file by now.
        let named = self.by_name.remove(base);
        self.insert(id, base, &facts, base, Content::Closed, known.cursor, Vec::new());
        if let Some(tailed) = self.files.get_mut(&id) {
            tailed.names.clear();
        }
        self.by_name.remove(base);
        if let Some(named) = named {
            self.by_name.insert(base.clone(), named);
        }
        if found.is_none() {
            let is_rotated = self.patterns.facts(base).is_ok();
            let reason = if is_rotated { GapReason::Rotated } else { GapReason::Removed };
            self.control(id, &Control::Gap(gap(reason, None)));
        }
        self.stop(id);
        found
    }

    fn begin_unknown(
        &mut self,
        listed: Vec<Candidate>,
        is_first: bool,
        newest: &HashMap<PathBuf, Newest>,
        over: &[Former],
    ) {
        let mut unknown = listed;
        // The written ones first, since the others may be their copies; then as they were written.
        unknown.sort_by_cached_key(|candidate| {
            let is_rotated = self.patterns.base_of(&candidate.path).is_some();
            (is_rotated, candidate.facts.modified, candidate.path.clone())
        });
        for candidate in unknown {
            let Candidate { path, facts } = &candidate;
            let is_known = self.by_identity.contains_key(&facts.identity);
            let base = self.patterns.base_of(path);
            let before = base.as_ref().and_then(|base| newest.get(base));
            if is_known || !facts.is_regular {
                self.seen(path, facts);
            } else if self.is_kept(facts) {
                // The log has forgotten it by now.
                self.ignored.insert(facts.identity, facts.size);
            } else if patterns::is_compressed(path) {
                let after = before.and_then(|newest| newest.compressed_after);
                match (base, after) {
                    (Some(base), Some(after)) if self.is_missed(&candidate, after, &base, over) => {
                        self.begin_compressed(path, facts, &base);
                    }
                    _ => {
                        self.ignored.insert(facts.identity, facts.size);
                    }
                }
            } else if self.patterns.is_meant(path) {
                self.meet(path, facts, is_first);
            } else if before.is_some_and(|newest| facts.identity.born > newest.born) {
                // It was written and rotated while nobody looked.
                self.meet(path, facts, false);
            } else {
                self.ignored.insert(facts.identity, facts.size);
            }
        }
    }

    /// Whether a compressed file is of a generation that nobody read.
    fn is_missed(&self, candidate: &Candidate, after: i64, base: &Path, over: &[Former]) -> bool {
        let path = &candidate.path;
        if self.ignored.contains_key(&candidate.facts.identity) || path.with_extension("").exists()
        {
            // The uncompressed file is there still: it is just being compressed.
            return false;
        }
        // Only when that is gone the compressed one has the time of its content.
        let Ok(facts) = self.patterns.facts(path) else { return false };
        let read = self.files.values().filter(|tailed| tailed.base == base);
        let mut formers = over.iter().cloned().chain(read.map(Tailed::former));
        facts.identity == candidate.facts.identity
            && facts.modified > after
            && !formers.any(|former| holds_all(&self.patterns, &former, candidate))
    }

    /// Where a file begins that is there at the very first start.
    pub(super) fn first_offset(&self, path: &Path, facts: &FileFacts) -> u64 {
        if self.settings.start == FileStart::Beginning || self.mode == Mode::Once {
            return 0;
        }
        self.patterns
            .open(path, facts.identity)
            .and_then(|file| {
                let from = facts.size.saturating_sub(LAST_LINE_BYTES);
                let length = usize::try_from(facts.size - from).unwrap_or(0);
                let end = piece(&file, from, length)?.unwrap_or_default();
                let line_end = memchr::memrchr(b'\n', &end).map(|at| from + at as u64 + 1);
                Ok(line_end.unwrap_or(from))
            })
            .unwrap_or(facts.size)
    }
}

/// A stream with everything before `offset` behind it, and its first bytes.
fn skipped(
    file: std::fs::File,
    compression: Compression,
    offset: u64,
) -> io::Result<(Decompressed, Vec<u8>)> {
    let mut stream = Decompressed::new(file, compression)?;
    let length = head_len(offset);
    stream.skip_to(length as u64)?;
    let head = stream.kept(0, length).unwrap_or_default().to_vec();
    stream.skip_to(offset)?;
    Ok((stream, head))
}

fn former(cursor: &FileCursor) -> Former {
    let (offset, proof) = (cursor.offset, cursor.proof);
    Former { offset, proof, head: Vec::new(), marks: Vec::new() }
}

fn holds_all(patterns: &Patterns, former: &Former, candidate: &Candidate) -> bool {
    siblings::search(patterns, former, vec![candidate.clone()]).is_ok_and(|found| !found.is_empty())
}

fn newest(known: &[Known]) -> HashMap<PathBuf, Newest> {
    let mut newest: HashMap<PathBuf, Newest> = HashMap::new();
    for known in known {
        let born = known.cursor.file.born;
        let entry =
            newest.entry(known.base.clone()).or_insert(Newest { born, compressed_after: None });
        entry.born = entry.born.max(born);
    }
    newest
}
