//! One container: its log files in order, and how far they are read.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chores_common::engine::Container;

use crate::cursor::api::Seen;
use crate::cursor::{Cursor, DirectCursor, FileCursor, FileIdentity, LastLine};
use crate::intake::{Chunk, Intake, IntakeClosed, Message, Opened};
use crate::proof::hash;
use crate::record::{Control, GapReason, Stream};
use crate::source::{SourceId, SourceMeta};
use crate::time::{self, SECOND};

use super::ContainerPlan;
use super::content::Content;
use super::entry::{Decoder, ENTRY_BYTES_MAX, Entry, Format, Step};
use super::found::Found;
use super::lines::Lines;
use super::place::{self, LastSeen, Place, engine_text};

/// Bytes that are read of one container before it is the next one's turn.
pub const TURN_BYTES: usize = 256 << 10;

/// Longest stretch that is looked at together, in bytes: what is longer without a message in it is not readable.
const STRETCH_BYTES_MAX: usize = 2 * ENTRY_BYTES_MAX + TURN_BYTES;

/// Bytes before the place that are read again with every turn: they tell that the file is still what it was.
const BACK_BYTES: usize = 64;

/// Messages that are held back and remembered each by itself, at the most, before those of one read. More of them
/// are dropped by the rate, and remembered by the last ones of each read.
const BEYOND_MAX: usize = 8192;

/// Silence of a container that does not run, in nanoseconds, after which its last run is over. The engine closes
/// the log before it says that the container ended, but says late that it began.
const END_OF_RUN: i64 = SECOND;

/// A file that follows those that are known.
#[derive(Debug)]
pub struct NextFile {
    /// It.
    pub found: Found,
    /// Nothing lies between it and the one before.
    pub follows: bool,
}

/// What a turn came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// There may be more at once.
    More,
    /// So many bytes were read, and they were all.
    Read(usize),
    /// The container is gone, and everything was read.
    Ended,
}

/// The log of one container while it is read.
#[derive(Debug)]
pub struct Follow {
    source: SourceId,
    meta: SourceMeta,
    format: Format,
    decoder: Decoder,
    lines: Lines,
    /// The oldest first. Those before `reading` are read, but the log has not got all of it.
    files: VecDeque<Held>,
    reading: usize,
    /// Bytes of the text of `files[reading]` that were read.
    offset: u64,
    /// The last of them.
    back: Vec<u8>,
    /// The last message of each stream before the mark of the last cursor, in the order of the files.
    last: Vec<LastLine>,
    /// Messages beyond it, each with the mark of its end: some of them are held back.
    beyond: VecDeque<(u64, LastLine)>,
    /// Messages behind the place that the API took, and the youngest time of them.
    taken: HashMap<Seen, u32>,
    taken_newest: i64,
    /// The mark at which reading began.
    began: u64,
    /// When something was read last, in nanoseconds since 1970.
    read_at: i64,
    is_running: bool,
    is_gone: bool,
    /// How many files are held, for the one who opens them.
    held: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Held {
    path: PathBuf,
    identity: FileIdentity,
    content: Content,
    /// The mark of its first byte: marks count the bytes of all files together.
    start: u64,
    follows: bool,
}

impl Follow {
    /// Begins where an earlier process stopped, or at the oldest of `files`, which come oldest first.
    pub fn begin(
        container: &Container,
        plan: &ContainerPlan,
        format: Format,
        files: Vec<NextFile>,
        held: Arc<AtomicUsize>,
        intake: &Intake,
    ) -> Self {
        let Opened { id: source, cursor } = intake.open(plan.meta.clone());
        let mut lines = Lines::new(plan.process.clone(), container.tty);
        let open = |next: &NextFile| (next.found.identity, Content::new(&next.found));
        let mut contents: Vec<(FileIdentity, Content)> = files.iter().map(open).collect();
        let place = place::find(&mut contents, format, cursor.as_ref()).unwrap_or_else(|error| {
            tracing::warn!(id = container.id, %error, "cannot look for the place in the log files");
            Place::START
        });
        let mut last = Vec::new();
        match &cursor {
            Some(Cursor::Direct(cursor)) => last.clone_from(&cursor.last),
            Some(Cursor::Api(cursor)) => {
                last.extend(place::last_of(cursor).map(|LastSeen { stream, ts, hash }| LastLine {
                    stream,
                    ts,
                    hash: hash.into(),
                }));
            }
            _ => lines.control(time::now(), &Control::Started),
        }
        for line in &last {
            lines.remember(line.stream, line.ts);
        }
        let (taken, taken_newest) = place::taken_beyond(cursor.as_ref());
        if !place.is_proven {
            let is_exact = matches!(cursor, Some(Cursor::Direct(_)));
            lines.missing(GapReason::Rotated, None, is_exact);
        }
        let mut follow = Self {
            source,
            meta: plan.meta.clone(),
            format,
            decoder: Decoder::new(format),
            lines,
            files: VecDeque::new(),
            reading: 0,
            offset: 0,
            back: Vec::new(),
            last,
            beyond: VecDeque::new(),
            taken,
            taken_newest,
            began: place.offset,
            read_at: time::now(),
            is_running: container.running,
            is_gone: false,
            held,
        };
        for (index, (next, (_, content))) in files.into_iter().zip(contents).enumerate() {
            if index < place.file {
                follow.held.fetch_sub(1, Ordering::Relaxed);
            } else {
                follow.push(next, content);
            }
        }
        follow.seek(place.offset);
        follow
    }

    /// Goes to a place of the first file.
    fn seek(&mut self, offset: u64) {
        let Some(file) = self.files.front_mut() else { return };
        self.offset = offset;
        let length = usize::try_from(offset).map_or(BACK_BYTES, |offset| offset.min(BACK_BYTES));
        self.back.resize(length, 0);
        match file.content.read_at(&mut self.back, offset - length as u64) {
            Ok(read) if read == length => {}
            // The first turn reads it again and says what is wrong.
            _ => self.back.clear(),
        }
    }

    fn push(&mut self, next: NextFile, content: Content) {
        let start = match self.files.back() {
            // The end of the last one is known when it was read; until then its place is taken by the next.
            Some(_) => u64::MAX,
            None => 0,
        };
        let NextFile { found: Found { path, identity, .. }, follows } = next;
        self.files.push_back(Held { path, identity, content, start, follows });
    }

    /// A newer file.
    pub fn add(&mut self, next: NextFile) {
        let content = Content::new(&next.found);
        self.push(next, content);
    }

    /// What the engine says of the container now.
    pub fn update(&mut self, container: &Container, plan: &ContainerPlan, intake: &Intake) {
        self.is_running = container.running;
        if self.meta != plan.meta {
            self.meta = plan.meta.clone();
            let Opened { id, .. } = intake.open(plan.meta.clone());
            debug_assert_eq!(id, self.source);
        }
    }

    /// The container was removed: what is held is all there will ever be.
    pub fn gone(&mut self) {
        self.is_gone = true;
    }

    /// Whether the container runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.is_running
    }

    /// The file that everything that follows will be written to, unless time alone brings something too.
    #[must_use]
    pub fn silent(&self) -> Option<&File> {
        let is_last = self.reading + 1 == self.files.len();
        let is_waiting = !is_last || self.is_gone || !self.is_running || self.lines.waits();
        self.files.get(self.reading).filter(|_| !is_waiting)?.content.plain()
    }

    /// Reads on, and hands over what was read.
    pub fn turn(&mut self, buffer: &mut Vec<u8>, intake: &Intake) -> Result<Turn, IntakeClosed> {
        let turn = match self.read(buffer, intake) {
            Ok(turn) => turn?,
            Err(error) => self.unreadable(&error),
        };
        let now = time::now();
        match turn {
            Turn::Read(0) if !self.is_running && now - self.read_at > END_OF_RUN => {
                self.lines.end_run();
            }
            Turn::Read(0) => {}
            _ => self.read_at = now,
        }
        self.lines.expire(now);
        self.send(intake)?;
        if turn == Turn::Ended {
            let message = Message::End(self.source);
            intake.send_blocking(message)?;
        }
        Ok(turn)
    }

    fn read(
        &mut self,
        buffer: &mut Vec<u8>,
        intake: &Intake,
    ) -> io::Result<Result<Turn, IntakeClosed>> {
        let is_last = self.reading + 1 >= self.files.len();
        let is_final = !is_last || self.is_gone;
        let back = self.back.len();
        if buffer.len() < TURN_BYTES {
            buffer.resize(TURN_BYTES, 0);
        }
        let Some(file) = self.files.get_mut(self.reading) else {
            return Ok(Ok(if self.is_gone { self.end() } else { Turn::Read(0) }));
        };
        let start = file.start;
        loop {
            let from = self.offset - back as u64;
            let length = file.content.read_at(buffer, from)?;
            let is_same =
                buffer.get(..back).is_some_and(|again| length >= back && again == self.back);
            if !is_same {
                return Ok(Ok(self.truncated(length as u64 + from)));
            }
            let is_whole = length < buffer.len();
            let is_end = is_final && is_whole;
            let mut at = back;
            let mut entries = Vec::new();
            loop {
                let bytes = buffer.get(at..length).unwrap_or_default();
                let place = start + from + at as u64;
                match self.decoder.step(bytes, is_end) {
                    Step::Entry(entry, used) => {
                        let was_taken = !self.taken.is_empty()
                            && was_taken(&mut self.taken, self.taken_newest, &entry, &self.lines);
                        if !was_taken {
                            self.lines.entry(&entry, place..place + used as u64);
                        }
                        entries.push((entry.stream, at..at + used));
                        at += used;
                    }
                    Step::Corrupt(used) => {
                        self.lines.missing(GapReason::Corrupt, Some(used as u64), true);
                        at += used;
                    }
                    Step::More => break,
                }
                if self.lines.is_full() {
                    break;
                }
            }
            let total = at - back;
            if at == back && !is_whole && buffer.len() < STRETCH_BYTES_MAX {
                buffer.resize((buffer.len() * 2).min(STRETCH_BYTES_MAX), 0);
                continue;
            }
            self.offset = from + at as u64;
            let kept = at.saturating_sub(BACK_BYTES);
            self.back.clear();
            self.back.extend_from_slice(buffer.get(kept..at).unwrap_or_default());
            self.note_last(&entries, start + from, buffer);
            if total > 0 {
                let more = !is_whole || at < length;
                break if let Err(closed) = self.send(intake) {
                    Ok(Err(closed))
                } else if more || is_final {
                    Ok(Ok(Turn::More))
                } else {
                    Ok(Ok(Turn::Read(total)))
                };
            }
            break Ok(Ok(if !is_last {
                self.next_file();
                Turn::More
            } else if self.is_gone {
                self.end()
            } else {
                Turn::Read(total)
            }));
        }
    }

    /// Remembers the last message of each stream, and those that are held back, to tell the API where to go on.
    /// `base`: the mark of the first byte of `buffer`.
    fn note_last(&mut self, entries: &[(Stream, Range<usize>)], base: u64, buffer: &[u8]) {
        let mut decoder = Decoder::new(self.format);
        let mut text = Vec::new();
        let safe = self.lines.safe_mark();
        let finished = if self.beyond.len() < BEYOND_MAX {
            entries.partition_point(|(_, range)| base + range.end as u64 <= safe)
        } else {
            entries.len()
        };
        // Of those that are not held back, only the last of each stream can be told of.
        let (before, held) = entries.split_at_checked(finished).unwrap_or_default();
        let last =
            |is_err: bool| before.iter().rfind(|(stream, _)| (*stream == Stream::Stderr) == is_err);
        let mut noted: Vec<_> = [last(false), last(true)].into_iter().flatten().collect();
        noted.sort_unstable_by_key(|(_, range)| range.start);
        noted.extend(held);
        for (_, range) in noted {
            let bytes = buffer.get(range.clone()).unwrap_or_default();
            if let Step::Entry(entry, _) = decoder.step(bytes, true) {
                engine_text(&entry, &mut text);
                let stream = self.lines.shown(entry.stream);
                let line = LastLine { stream, ts: entry.ts, hash: hash(&text) };
                self.beyond.push_back((base + range.end as u64, line));
            }
        }
    }

    /// The last message of each stream before a mark, in the order of the files: what comes last is the place.
    fn last_before(&mut self, mark: u64) -> Vec<LastLine> {
        while let Some((_, line)) = self.beyond.pop_front_if(|(end, _)| *end <= mark) {
            self.last.retain(|known| known.stream != line.stream);
            self.last.push(line);
        }
        self.last.clone()
    }

    fn next_file(&mut self) {
        let Some(file) = self.files.get(self.reading) else { return };
        let end = file.start + self.offset;
        self.reading += 1;
        self.offset = 0;
        self.back.clear();
        self.decoder = Decoder::new(self.format);
        if let Some(next) = self.files.get_mut(self.reading) {
            next.start = end;
            if !next.follows {
                self.lines.missing(GapReason::Rotated, None, true);
            }
        }
    }

    /// The file is not what it was: the engine, which keeps one file only, or another program cut it.
    fn truncated(&mut self, size: u64) -> Turn {
        let Some(file) = self.files.get_mut(self.reading) else { return Turn::Read(0) };
        tracing::info!(path = %file.path.display(), read = self.offset, size, "a log file was cut");
        // Unfinished lines end here; groups and the rest of what is held back go before the gap.
        self.lines.end_run();
        self.lines.missing(GapReason::Truncated, None, true);
        file.start += self.offset;
        self.offset = 0;
        self.back.clear();
        self.decoder = Decoder::new(self.format);
        Turn::More
    }

    /// A file that cannot be read to its end is given up when there is a newer one, and tried again otherwise.
    fn unreadable(&mut self, error: &io::Error) -> Turn {
        let path = self.files.get(self.reading).map(|file| file.path.display().to_string());
        let path = path.unwrap_or_default();
        tracing::warn!(path, %error, "cannot read a log file of the engine");
        let is_last = self.reading + 1 >= self.files.len();
        if !is_last || self.is_gone {
            self.lines.missing(GapReason::Corrupt, None, true);
        }
        if !is_last {
            self.next_file();
            Turn::More
        } else if self.is_gone {
            self.end()
        } else {
            Turn::Read(0)
        }
    }

    /// Hands over what is held back for what may follow: nobody reads on.
    pub fn finish(&mut self, intake: &Intake) -> Result<(), IntakeClosed> {
        self.lines.finish();
        self.send(intake)
    }

    fn end(&mut self) -> Turn {
        self.lines.end(time::now());
        Turn::Ended
    }

    /// Hands over what is finished.
    fn send(&mut self, intake: &Intake) -> Result<(), IntakeClosed> {
        let Some(taken) = self.lines.take() else { return Ok(()) };
        // Without a message yet there is no mark.
        let mark = taken.mark.max(self.began);
        let at = self.cursor(mark);
        let cursor = Cursor::Direct(DirectCursor { at, last: self.last_before(mark) });
        intake.send_blocking(Message::Chunk(Chunk {
            source: self.source,
            block: taken.block,
            cursor,
        }))?;
        // The file that the cursor is in stays: the next cursor may be in it as well.
        while self.reading > 0 && self.files.get(1).is_some_and(|next| next.start < mark) {
            self.files.pop_front();
            self.reading -= 1;
            self.held.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The place of a mark. The end of a file is told rather than the beginning of the next, which proves nothing.
    fn cursor(&mut self, mark: u64) -> FileCursor {
        let reached = self.files.iter().take(self.reading + 1);
        let index = reached.clone().rposition(|file| file.start < mark).unwrap_or(0);
        let index = if self.files.get(index).is_some_and(|file| file.start <= mark) {
            index
        } else {
            self.reading
        };
        let Some(file) = self.files.get_mut(index) else {
            let file = FileIdentity { device: 0, inode: 0, born: None };
            return FileCursor { shift: 0, file, offset: 0, proof: Default::default() };
        };
        let offset = mark.saturating_sub(file.start);
        match file.content.proof(offset) {
            Ok(Some(proof)) => FileCursor { shift: 0, file: file.identity, offset, proof },
            // It was cut meanwhile: the next turn finds that out.
            _ => FileCursor { shift: 0, file: file.identity, offset, proof: Default::default() },
        }
    }
}

/// Whether the API took a message; one that is younger than all it took ends the question.
fn was_taken(
    taken: &mut HashMap<Seen, u32>,
    newest: i64,
    entry: &Entry<'_>,
    lines: &Lines,
) -> bool {
    if entry.ts > newest {
        taken.clear();
        return false;
    }
    let mut text = Vec::new();
    engine_text(entry, &mut text);
    let seen = Seen::of(lines.shown(entry.stream), entry.ts, &text);
    let Some(count) = taken.get_mut(&seen) else { return false };
    *count -= 1;
    if *count == 0 {
        taken.remove(&seen);
    }
    true
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.held.fetch_sub(self.files.len(), Ordering::Relaxed);
    }
}
