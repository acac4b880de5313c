//! One file that is read to its end, over and over.
//!
//! Every turn reads the last 4 KiB again that were read before: a file that was cut and has grown past the place
//! is found out before a byte behind it is taken for the next one. What remains is the time of one `pread(2)`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use crate::cursor::{ContentProof, Cursor, FileCursor, FileIdentity};
use crate::files::compressed::Decompressed;
use crate::files::desk::{Collapse, KEPT_BYTES};
use crate::files::encoding::Encoding;
use crate::files::marks::Marks;
use crate::files::siblings::Former;
use crate::intake::Chunk;
use crate::process::{Piece, ProcessSettings, Processor};
use crate::proof::{HEAD_BYTES, TAIL_BYTES, hash, head_len, holds, piece, proof, tail_len};
use crate::record::{Control, Stream};
use crate::source::SourceId;

/// Most bytes that are read of one file before it is another one's turn.
pub(super) const READ_BYTES: usize = 256 << 10;

/// Bytes of the buffer for [`Tailed::turn`].
pub(super) const BUFFER_BYTES: usize = TAIL_BYTES + READ_BYTES;

/// Names of one file that are remembered: more hard links in the same directories are of no use.
const NAMES_MAX: usize = 8;

/// What a turn found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// There is more.
    More,
    /// All of it was read; what is behind the last line feed waits for its end.
    Drained,
    /// It is shorter than what was read, or holds something else there.
    Rewritten,
    /// What is left cannot be decompressed.
    Corrupt,
}

/// Where the bytes come from.
#[derive(Debug)]
pub(super) enum Content {
    /// Nothing is open.
    Closed,
    /// A file as it is.
    Plain(File),
    /// A compressed file that does not change.
    Compressed(Box<Decompressed>),
}

/// A file that is read.
#[derive(Debug)]
pub(super) struct Tailed {
    /// Its number in the log.
    pub(super) source: SourceId,
    /// Which file.
    pub(super) identity: FileIdentity,
    /// The name it is shipped under: where it was written.
    pub(super) base: PathBuf,
    /// Names that lead to it now, the youngest last.
    pub(super) names: Vec<PathBuf>,
    /// Its bytes.
    pub(super) content: Content,
    /// Size when it was last looked at.
    pub(super) size: u64,
    /// `stx_mtime` when it was last looked at.
    pub(super) modified: i64,
    /// When it last had something new.
    pub(super) grown: Instant,
    /// A writer closed it after that.
    pub(super) is_closed: bool,
    /// It waits for its turn.
    pub(super) is_ready: bool,
    /// Its end under its name was told.
    pub(super) is_rotated: bool,
    /// The file that its name meant before: what that has comes first.
    pub(super) after: Option<SourceId>,
    /// How often in a row it waited for that.
    pub(super) waited: u32,
    /// Our own rotation removed it, and whether it has writers cannot be known.
    pub(super) is_held: bool,
    /// The cursor of what was last handed on.
    cursor: FileCursor,
    /// Everything before was handed to the processor.
    read: u64,
    /// How long it was when it was last looked at: what of that was not read is lost when it is cut or removed.
    ahead: u64,
    /// Bytes that our rotation took from its beginning. The processor's marks count them too, so that nothing that is
    /// held back has to move.
    shift: u64,
    /// Hash of the [`tail_len`] bytes before `read`.
    tail: u64,
    /// The first bytes, at most [`HEAD_BYTES`].
    head: Vec<u8>,
    marks: Marks,
    encoding: Encoding,
    processor: Processor,
    settings: Arc<ProcessSettings>,
}

impl Tailed {
    /// A file of which everything before `cursor` was read, which `content` was found to hold. `head` are its
    /// first bytes.
    #[must_use]
    pub(super) fn new(
        source: SourceId,
        base: PathBuf,
        content: Content,
        cursor: FileCursor,
        head: Vec<u8>,
        settings: Arc<ProcessSettings>,
    ) -> Self {
        let encoding = Encoding::of(&head);
        let mut marks = Marks::default();
        if cursor.offset > 0 {
            marks.push(cursor.offset, cursor.proof.tail);
        }
        Self {
            source,
            identity: cursor.file,
            base,
            names: Vec::new(),
            content,
            size: cursor.offset,
            modified: 0,
            grown: Instant::now(),
            is_closed: false,
            is_ready: false,
            is_rotated: false,
            after: None,
            waited: 0,
            is_held: false,
            cursor,
            read: cursor.offset,
            ahead: 0,
            shift: cursor.shift,
            tail: cursor.proof.tail,
            head,
            marks,
            encoding,
            processor: Processor::new(settings.clone()),
            settings,
        }
    }

    /// The name to open it by, or the last one it had.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        self.names.last().unwrap_or(&self.base)
    }

    /// How far it was handed to the processor, in bytes.
    #[must_use]
    pub(super) fn read(&self) -> u64 {
        self.read
    }

    /// Whether something is open.
    #[must_use]
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.content, Content::Closed)
    }

    /// The plain file, when it is open.
    #[must_use]
    pub(super) fn file(&self) -> Option<&File> {
        match &self.content {
            Content::Plain(file) => Some(file),
            Content::Closed | Content::Compressed(_) => None,
        }
    }

    /// Remembers a name.
    pub(super) fn add_name(&mut self, name: &Path) {
        self.names.retain(|known| known != name);
        if self.names.len() >= NAMES_MAX {
            self.names.remove(0);
        }
        self.names.push(name.to_owned());
    }

    /// What was read of it, to find it again elsewhere.
    #[must_use]
    pub(super) fn former(&self) -> Former {
        let proved = self.cursor.proof.head_len as usize;
        Former {
            offset: self.cursor.offset,
            proof: self.cursor.proof,
            head: self.head.get(..proved.min(self.head.len())).unwrap_or_default().to_vec(),
            marks: self.marks.until(self.cursor.offset),
        }
    }

    /// How long it is now, where that is known.
    #[must_use]
    pub(super) fn length(&self) -> Option<u64> {
        Some(self.file()?.metadata().ok()?.len())
    }

    /// How far it was looked at; what of that was not read waits for its end.
    #[must_use]
    pub(super) fn seen(&self) -> u64 {
        self.size.max(self.read)
    }

    /// Reads at most [`READ_BYTES`], and nothing from `until` on. `buffer` has [`BUFFER_BYTES`]. With `finish`, what has
    /// no line end is handed on too, marked `partial`.
    pub(super) fn turn(
        &mut self,
        buffer: &mut [u8],
        ts: i64,
        finish: bool,
        until: Option<u64>,
    ) -> io::Result<Turn> {
        let before = tail_len(self.read);
        let start = self.read - before as u64;
        let room = until.map_or(u64::MAX, |until| until.saturating_sub(self.read));
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        let wanted = before + READ_BYTES.min(room);
        let into = buffer.get_mut(..wanted).unwrap_or_default();
        let (found, is_end) = match &mut self.content {
            Content::Closed => return Ok(Turn::Drained),
            Content::Plain(file) => {
                let found = read_at(file, into, start)?;
                // Whoever writes more behind `until` is heard of.
                let is_end = found < wanted || until.is_some_and(|end| start + found as u64 >= end);
                (found, is_end)
            }
            Content::Compressed(stream) => match stream.window(start, into) {
                Ok(found) => found,
                Err(error) => {
                    tracing::warn!(path = %self.path().display(), %error, "cannot decompress");
                    return Ok(Turn::Corrupt);
                }
            },
        };
        let bytes = buffer.get(..found).unwrap_or_default();
        let Some((proved, fresh)) = bytes.split_at_checked(before) else {
            return Ok(Turn::Rewritten);
        };
        if before > 0 && hash(proved) != self.tail {
            return Ok(Turn::Rewritten);
        }
        let end = start + found as u64;
        self.size = if is_end { end } else { self.size.max(end) };
        self.ahead = end;
        if !is_end {
            // If another program cuts it before the next turn, that much was lost.
            self.look_ahead();
        }
        let taken = self.feed(fresh, fresh.len() >= READ_BYTES || finish, ts);
        if taken > 0 {
            self.grown = Instant::now();
            self.note(bytes, before, taken);
        }
        if finish {
            self.processor.flush();
        }
        Ok(if is_end { Turn::Drained } else { Turn::More })
    }

    /// Hands whole lines to the processor; without any, or at the end of everything, also the piece of one if
    /// `pieces`. The number of bytes.
    fn feed(&mut self, fresh: &[u8], pieces: bool, ts: i64) -> usize {
        let mut done = 0;
        if self.read == 0 {
            self.encoding = Encoding::of(fresh);
            done = self.encoding.mark_len(fresh);
        }
        let text = fresh.get(done..).unwrap_or_default();
        let (lines, rest) = text.split_at(self.encoding.lines_len(text));
        if !lines.is_empty() {
            let at = self.shift + self.read + done as u64;
            match self.encoding {
                Encoding::Bytes => self.processor.lines(Stream::File, ts, lines, at),
                _ => self.feed_piece(lines, at, ts),
            }
            done += lines.len();
        }
        let is_filled = fresh.len() >= READ_BYTES && !lines.is_empty();
        let rest = rest.get(..self.encoding.whole_len(rest)).unwrap_or_default();
        if pieces && !is_filled && !rest.is_empty() {
            self.feed_piece(rest, self.shift + self.read + done as u64, ts);
            done += rest.len();
        }
        // Nothing but the mark of the encoding.
        if lines.is_empty() && (!pieces || rest.is_empty()) { 0 } else { done }
    }

    /// Text that is not whole lines, or not UTF-8.
    fn feed_piece(&mut self, text: &[u8], at: u64, ts: i64) {
        let stream = Stream::File;
        self.encoding.decode(text, at, |bytes, ends_line, marks| {
            self.processor.piece(&Piece { stream, ts, bytes, ends_line, late: false, marks });
        });
    }

    /// Moves on by `taken` bytes, which stand behind the first `before` of `bytes`.
    fn note(&mut self, bytes: &[u8], before: usize, taken: usize) {
        if self.read < HEAD_BYTES as u64 {
            self.head.truncate(head_len(self.read));
            let wanted = (HEAD_BYTES - self.head.len()).min(taken);
            self.head.extend_from_slice(bytes.get(before..before + wanted).unwrap_or_default());
        }
        self.read += taken as u64;
        let end = before + taken;
        self.tail = hash(bytes.get(end - tail_len(self.read)..end).unwrap_or_default());
        self.marks.push(self.read, self.tail);
    }

    /// Whether the file still holds what was read of it.
    #[must_use]
    pub(super) fn is_intact(&self) -> bool {
        let length = tail_len(self.read);
        let Some(file) = self.file() else { return false };
        let tail = piece(file, self.read - length as u64, length);
        matches!(tail, Ok(Some(tail)) if self.read == 0 || hash(&tail) == self.tail)
    }

    /// Whether only its first bytes say how it is to be read.
    #[must_use]
    pub(super) fn is_wide(&self) -> bool {
        self.encoding != Encoding::Bytes
    }

    /// Takes shipped bytes from the beginning of the file, and moves every place in it along. Nothing is changed
    /// when it fails.
    pub(super) fn collapse(&mut self, collapse: &Collapse) -> io::Result<()> {
        let length = collapse.length;
        let refused = |reason: &str| io::Error::new(io::ErrorKind::InvalidInput, reason);
        let Some(file) = self.file() else { return Err(refused("it is not open")) };
        let settled = &collapse.settled;
        if self.shift != settled.shift
            || self.cursor.shift != settled.shift
            || self.cursor.offset.min(settled.offset) < length.saturating_add(KEPT_BYTES)
        {
            return Err(refused("it is not read so far"));
        }
        if !self.is_intact() || !collapse.is_ahead(file)? {
            return Err(refused("it holds something else now"));
        }
        let Some(head) = piece(file, length, HEAD_BYTES)? else {
            return Err(refused("it is shorter than what was read"));
        };
        // What was read may be of a file that was cut and filled again, of which nothing is safe yet.
        if !holds(file, settled.offset, &settled.proof)? {
            return Err(refused("it does not hold what is safe of it any more"));
        }
        rustix::fs::fallocate(
            &collapse.file,
            rustix::fs::FallocateFlags::COLLAPSE_RANGE,
            0,
            length,
        )?;
        // Everything from here on is arithmetic: what is before the cursor has the same last bytes as before.
        self.cursor.offset -= length;
        self.cursor.shift += length;
        self.cursor.proof.head = hash(&head);
        self.shift += length;
        self.read -= length;
        self.size = self.size.saturating_sub(length);
        self.ahead = self.ahead.saturating_sub(length);
        self.head = head;
        self.marks = Marks::default();
        self.marks.push(self.cursor.offset, self.cursor.proof.tail);
        Ok(())
    }

    /// Looks how long it is now, without reading.
    pub(super) fn look_ahead(&mut self) {
        let length = self.file().and_then(|file| file.metadata().ok()).map_or(0, |is| is.len());
        self.ahead = self.ahead.max(length);
    }

    /// Bytes of it that are known, and were not read.
    #[must_use]
    pub(super) fn unread(&self) -> u64 {
        self.size.max(self.ahead).saturating_sub(self.read)
    }

    /// How far it was read since it was made, taken bytes included.
    #[must_use]
    pub(super) fn read_in_all(&self) -> u64 {
        self.shift + self.read
    }

    /// Hands on what is held back, as it is.
    pub(super) fn flush(&mut self) {
        self.processor.flush();
    }

    /// When [`expire`](Self::expire) is to be called, in nanoseconds since 1970.
    #[must_use]
    pub(super) fn deadline(&self) -> Option<i64> {
        self.processor.deadline()
    }

    /// Hands on what was held back for too long.
    pub(super) fn expire(&mut self, now: i64) {
        self.processor.expire(now);
    }

    /// Forgets what was read: the file begins again. What the processor holds is dropped.
    pub(super) fn begin_again(&mut self) {
        self.cursor =
            FileCursor { file: self.identity, offset: 0, shift: 0, proof: proof(&[], &[]) };
        self.read = 0;
        self.shift = 0;
        self.tail = self.cursor.proof.tail;
        self.size = 0;
        self.ahead = 0;
        self.head.clear();
        self.marks = Marks::default();
        self.processor = Processor::new(self.settings.clone());
    }

    /// What happened to it, as a record among its lines.
    pub(super) fn control(&mut self, ts: i64, control: &Control) {
        self.processor.control(ts, Stream::File, control);
    }

    /// The records so far, with the cursor behind them.
    pub(super) fn take(&mut self) -> Option<Chunk> {
        let taken = self.processor.take()?;
        // Before anything was pushed the processor does not know where the file was resumed.
        let offset = taken.mark.saturating_sub(self.shift).max(self.cursor.offset);
        if let Some(proof) = self.proof_at(offset) {
            let (file, shift) = (self.identity, self.shift);
            self.cursor = FileCursor { file, offset, shift, proof };
        }
        Some(Chunk { source: self.source, block: taken.block, cursor: Cursor::File(self.cursor) })
    }

    /// `None` where the bytes are not there any more: the cursor stays where it was.
    fn proof_at(&self, offset: u64) -> Option<ContentProof> {
        if offset == self.cursor.offset {
            return None;
        }
        let head = self.head.get(..head_len(offset))?;
        let tail_len = tail_len(offset);
        if offset == self.read {
            let tail_len = u32::try_from(tail_len).ok()?;
            return Some(ContentProof { tail_len, tail: self.tail, ..proof(head, &[]) });
        }
        let from = offset - tail_len as u64;
        match &self.content {
            Content::Plain(file) => Some(proof(head, &piece(file, from, tail_len).ok().flatten()?)),
            Content::Compressed(stream) => Some(proof(head, stream.kept(from, tail_len)?)),
            Content::Closed => None,
        }
    }

    /// Whether the last line has no end yet.
    #[must_use]
    pub(super) fn is_unfinished(&self) -> bool {
        self.size > self.read || self.processor.holds_back()
    }

    /// Frees what a busy file needs.
    pub(super) fn rest(&mut self) {
        self.processor.rest();
    }
}

fn read_at(file: &File, into: &mut [u8], offset: u64) -> io::Result<usize> {
    loop {
        match file.read_at(into, offset) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}
