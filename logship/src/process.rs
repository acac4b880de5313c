//! What happens to lines between the source and the log: pieces are joined, lines that belong together become
//! one record, what is too much is dropped and counted, what is secret is blotted out. Nothing here waits or
//! reads a clock; the source says what time it is.
//!
//! Every piece has a span of the source's own positions, its *marks*: a byte offset, or a count of messages.
//! What is held back (a line whose end has not come, a group that may go on) keeps the mark where it began, so
//! that a cursor never passes it: after a restart it is read again. What other streams said meanwhile waits
//! with it, so that it is not read again too: a block has exactly what lies before its mark.

use std::ops::Range;
use std::sync::Arc;

use crate::block::{Block, BlockBuilder};
use crate::record::{Control, Flags, Stream, control_line};

pub mod filter;
pub mod multiline;
pub mod rate;
pub mod redact;

use filter::{Filtered, LevelFilter};
use multiline::Multiline;
use rate::{Dropped, Limiter, Rate};
use redact::Redaction;

#[cfg(test)]
mod tests;

/// Longest line, in bytes, unless set; a longer one is handed on in parts that are marked `partial`.
pub const LINE_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// A greater length than this cannot be set, in bytes: a block must hold what two streams held back.
pub const LINE_BYTES_MAX_LIMIT: usize = 2 << 20;

/// Bytes of finished records that wait for an unfinished one of another stream, at the most. Beyond it the
/// unfinished ones are handed on as they are.
pub const HELD_BYTES_MAX: usize = 1 << 20;

/// The same, in records.
pub const HELD_RECORDS_MAX: usize = 4096;

/// How long finished records wait for an unfinished one of another stream, in nanoseconds.
pub const HELD_AGE_MAX: i64 = 1_000_000_000;

/// What is to be done to the lines of a source.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// Longest line, in bytes.
    pub line_bytes_max: usize,
    /// Which lines belong together.
    pub multiline: Option<Multiline>,
    /// Which records are serious enough.
    pub level: Option<LevelFilter>,
    /// What a record must be serious enough for too, by labels.
    pub labelled: Vec<LevelFilter>,
    /// How many records are too many.
    pub rate: Option<Rate>,
    /// What is secret.
    pub redact: Redaction,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            line_bytes_max: LINE_BYTES_MAX_DEFAULT,
            multiline: None,
            level: None,
            labelled: Vec::new(),
            rate: None,
            redact: Redaction::default(),
        }
    }
}

impl ProcessSettings {
    /// Whether lines are handed on as they are.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.multiline.is_none()
            && self.level.is_none()
            && self.labelled.is_empty()
            && self.rate.is_none()
            && self.redact.is_empty()
    }
}

/// A piece of a line as the source had it.
#[derive(Debug, Clone)]
pub struct Piece<'a> {
    /// Where it was written.
    pub stream: Stream,
    /// Nanoseconds since 1970.
    pub ts: i64,
    /// Without the line end.
    pub bytes: &'a [u8],
    /// Whether the line ends with it.
    pub ends_line: bool,
    /// It came after younger ones of its stream.
    pub late: bool,
    /// Its place in the source.
    pub marks: Range<u64>,
}

/// A block, and the mark before which nothing is held back.
#[derive(Debug)]
pub struct Taken {
    /// The records.
    pub block: Block,
    /// The cursor that may stand behind them.
    pub mark: u64,
}

/// The lines of one source on their way into blocks.
#[derive(Debug)]
pub struct Processor {
    settings: Arc<ProcessSettings>,
    is_plain: bool,
    block: BlockBuilder,
    lanes: [Lane; 4],
    /// Dropped by level, and not told of yet.
    filtered: Option<Filtered>,
    limiter: Limiter,
    /// Finished, but behind something that is not.
    held: Vec<Held>,
    held_bytes: usize,
    held_since: Option<i64>,
    /// Text of a line while it is redacted.
    scratch: Vec<u8>,
    /// The end of everything that was pushed.
    end: u64,
}

/// What is unfinished of one stream.
#[derive(Debug, Default)]
struct Lane {
    line: Open,
    /// The line goes on after parts of it that were handed on.
    continues: bool,
    /// Whether the parts of it that were handed on are serious enough: then so is the rest.
    passes: Option<bool>,
    group: Open,
    /// Lines of the group.
    lines: usize,
    /// When the group was first seen to be open.
    since: Option<i64>,
}

/// Text that may go on.
#[derive(Debug, Default)]
struct Open {
    text: Vec<u8>,
    ts: i64,
    late: bool,
    marks: Range<u64>,
    is_open: bool,
}

/// A finished record.
#[derive(Debug)]
struct Held {
    ts: i64,
    flags: Flags,
    text: Vec<u8>,
    marks: Range<u64>,
    /// It tells of lines that were dropped.
    filtered: Option<Filtered>,
}

const STREAMS: [Stream; 4] = [Stream::File, Stream::Stdout, Stream::Stderr, Stream::Console];

impl Processor {
    /// Nothing is held yet.
    #[must_use]
    pub fn new(settings: Arc<ProcessSettings>) -> Self {
        Self {
            is_plain: settings.is_plain(),
            limiter: Limiter::new(settings.rate),
            settings,
            block: BlockBuilder::default(),
            lanes: Default::default(),
            filtered: None,
            held: Vec::new(),
            held_bytes: 0,
            held_since: None,
            scratch: Vec::new(),
            end: 0,
        }
    }

    /// Whole lines of one stream, all of one time. `bytes` ends with a line feed and begins at `mark`, which
    /// counts bytes.
    pub fn lines(&mut self, stream: Stream, ts: i64, bytes: &[u8], mark: u64) {
        if self.is_plain && !self.is_holding() && bytes.len() <= self.settings.line_bytes_max {
            self.block.push_lines(ts, Flags::new(stream), bytes);
            self.end = mark + bytes.len() as u64;
            return;
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', bytes) {
            let marks = mark + start as u64..mark + end as u64 + 1;
            let bytes = bytes.get(start..end).unwrap_or_default();
            self.piece(&Piece { stream, ts, bytes, ends_line: true, late: false, marks });
            start = end + 1;
        }
    }

    /// A piece of a line.
    pub fn piece(&mut self, piece: &Piece<'_>) {
        self.end = piece.marks.end;
        let is_whole = piece.ends_line && piece.bytes.len() <= self.settings.line_bytes_max;
        if self.is_plain && is_whole && !self.is_holding() {
            let flags = Flags::new(piece.stream).late(piece.late);
            self.block.push(piece.ts, flags, piece.bytes);
            return;
        }
        self.join(piece);
        self.release();
    }

    /// What happened to the source. Unfinished lines before it are not waited for.
    pub fn control(&mut self, ts: i64, stream: Stream, control: &Control) {
        self.flush();
        self.block.push(ts, Flags::new(stream).control(), &control_line(control));
    }

    /// Hands on what is held back: groups as they are, unfinished lines marked `partial`, and the count of what
    /// was dropped.
    pub fn flush(&mut self) {
        for stream in STREAMS {
            self.close_group(stream);
            if self.lane(stream).line.is_open {
                self.close_line(stream, true);
            }
        }
        if let Some(dropped) = self.limiter.end_gap() {
            self.push_gap(&dropped, None);
        }
        self.release();
        self.tell_filtered();
    }

    /// Hands on the unfinished line of one stream, marked `partial`: its end will never come.
    pub fn cut(&mut self, stream: Stream) {
        if self.lane(stream).line.is_open {
            self.close_line(stream, true);
            self.lane(stream).continues = false;
            self.lane(stream).passes = None;
            self.release();
        }
    }

    /// Hands on what was held back for too long. To be called when [`deadline`](Self::deadline) has come.
    pub fn expire(&mut self, now: i64) {
        if let Some(age) = self.settings.multiline.as_ref().map(|multiline| multiline.age) {
            for stream in STREAMS {
                let lane = self.lane(stream);
                if lane.group.is_open && is_over(&mut lane.since, now, age) {
                    self.close_group(stream);
                }
            }
        }
        if let Some(dropped) = self.limiter.expire(now) {
            self.push_gap(&dropped, None);
        }
        let is_untold =
            |filtered: &mut Filtered| is_over(&mut filtered.since, now, filter::TELL_EVERY);
        if self.filtered.as_mut().is_some_and(is_untold) {
            self.tell_filtered();
        }
        self.release();
        if !self.held.is_empty() && is_over(&mut self.held_since, now, HELD_AGE_MAX) {
            self.flush();
        }
    }

    /// When [`expire`](Self::expire) is to be called, in nanoseconds since 1970 by the clock of this host;
    /// `None` while nothing waits. Waiting begins with the first call that finds something held back, and until
    /// then the deadline is in the past: times of lines may be of any age.
    #[must_use]
    pub fn deadline(&self) -> Option<i64> {
        let age = self.settings.multiline.as_ref().map_or(0, |multiline| multiline.age);
        let groups = self.lanes.iter().filter(|lane| lane.group.is_open);
        let groups = groups.map(|lane| lane.since.map_or(i64::MIN, |since| since + age));
        let held = (!self.held.is_empty())
            .then(|| self.held_since.map_or(i64::MIN, |since| since + HELD_AGE_MAX));
        let untold = self.filtered.as_ref();
        let untold = untold.map(|it| it.since.map_or(i64::MIN, |since| since + filter::TELL_EVERY));
        groups.chain(held).chain(untold).chain(self.limiter.deadline()).min()
    }

    /// Whether it is time to [`take`](Self::take).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.block.is_full()
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.block.is_empty()
    }

    /// The mark before which nothing is held back.
    #[must_use]
    pub fn safe_mark(&self) -> u64 {
        let held = self.held.iter().map(|held| held.marks.start);
        let untold = self.filtered.iter().map(|filtered| filtered.start);
        self.open_starts().chain(held).chain(untold).min().unwrap_or(self.end)
    }

    /// The records so far; `None` when there are none.
    pub fn take(&mut self) -> Option<Taken> {
        if !self.block.is_empty() {
            self.tell_filtered();
        }
        let mark = self.safe_mark();
        self.block.finish().map(|block| Taken { block, mark })
    }

    /// Whether the cursor would stand before something that was pushed.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.safe_mark() < self.end
    }

    /// Frees the memory of a busy source, when there is nothing to take.
    pub fn rest(&mut self) {
        if self.block.is_empty() {
            self.block = BlockBuilder::default();
        }
    }

    fn lane(&mut self, stream: Stream) -> &mut Lane {
        let [file, stdout, stderr, console] = &mut self.lanes;
        match stream {
            Stream::File => file,
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
            Stream::Console => console,
        }
    }

    fn is_holding(&self) -> bool {
        !self.held.is_empty() || self.lanes.iter().any(|lane| lane.line.is_open)
    }

    /// Where everything that is unfinished began.
    fn open_starts(&self) -> impl Iterator<Item = u64> {
        let texts = self.lanes.iter().flat_map(|lane| [&lane.line, &lane.group]);
        let texts = texts.filter(|open| open.is_open).map(|open| open.marks.start);
        texts.chain(self.limiter.gap().map(|dropped| dropped.marks.start))
    }

    /// First stage: pieces into lines. Parts of a line that is too long end where pieces end, since a position
    /// inside a piece is none that a source can go back to.
    fn join(&mut self, piece: &Piece<'_>) {
        let limit = self.settings.line_bytes_max.max(1);
        let stream = piece.stream;
        let lane = self.lane(stream);
        if lane.line.is_open && lane.line.text.len() + piece.bytes.len() > limit {
            self.close_line(stream, true);
        }
        let mut bytes = piece.bytes;
        while let Some((part, rest)) = bytes.split_at_checked(limit).filter(|(_, r)| !r.is_empty())
        {
            self.lane(stream).line.add(piece, part);
            self.close_line(stream, true);
            bytes = rest;
        }
        let is_cut = bytes.len() < piece.bytes.len();
        if piece.ends_line || !bytes.is_empty() {
            self.lane(stream).line.add(piece, bytes);
        }
        if piece.ends_line {
            self.close_line(stream, false);
        } else if is_cut && !bytes.is_empty() {
            self.close_line(stream, true);
        }
    }

    fn close_line(&mut self, stream: Stream, is_partial: bool) {
        let lane = self.lane(stream);
        let mut line = std::mem::take(&mut lane.line);
        let is_part = is_partial || lane.continues;
        lane.continues = is_partial;
        self.group(stream, &line, is_part, is_partial);
        line.clear();
        self.lane(stream).line = line;
    }

    /// Second stage: lines into groups. Parts of a line are no lines: they stand alone.
    fn group(&mut self, stream: Stream, line: &Open, is_part: bool, is_partial: bool) {
        let settings = self.settings.clone();
        let Some(multiline) = settings.multiline.as_ref().filter(|_| !is_part) else {
            self.close_group(stream);
            let flags = Flags::new(stream).partial(is_partial).late(line.late);
            self.filter(line.ts, flags, &line.text, line.marks.clone());
            return;
        };
        let lane = self.lane(stream);
        let joins = lane.group.is_open
            && lane.group.late == line.late
            && lane.lines < multiline.lines_max
            && lane.group.text.len() + 1 + line.text.len() <= multiline.bytes_max
            && multiline.joins(&line.text);
        if joins {
            lane.group.text.push(b'\n');
            lane.group.text.extend_from_slice(&line.text);
            lane.group.marks.end = line.marks.end;
            lane.lines += 1;
            return;
        }
        self.close_group(stream);
        let lane = self.lane(stream);
        lane.group.text.extend_from_slice(&line.text);
        lane.group.ts = line.ts;
        lane.group.late = line.late;
        lane.group.marks = line.marks.clone();
        lane.group.is_open = true;
        lane.lines = 1;
        lane.since = None;
    }

    fn close_group(&mut self, stream: Stream) {
        let lane = self.lane(stream);
        if !lane.group.is_open {
            return;
        }
        let mut group = std::mem::take(&mut lane.group);
        lane.since = None;
        let flags = Flags::new(stream).late(group.late);
        self.filter(group.ts, flags, &group.text, group.marks.clone());
        group.clear();
        self.lane(stream).group = group;
    }

    /// Third stage: what is not serious enough is counted instead. All parts of a line share the fate of the first.
    fn filter(&mut self, ts: i64, flags: Flags, text: &[u8], marks: Range<u64>) {
        let settings = self.settings.clone();
        if settings.level.is_none() && settings.labelled.is_empty() {
            return self.limit(ts, flags, text, marks);
        }
        let passes_all =
            || settings.level.iter().chain(&settings.labelled).all(|filter| filter.passes(text));
        let lane = self.lane(flags.stream());
        let passes = lane.passes.take().unwrap_or_else(passes_all);
        lane.passes = flags.is_partial().then_some(passes);
        if passes {
            return self.limit(ts, flags, text, marks);
        }
        let one = Filtered::new(flags.stream(), ts, text.len(), marks.start);
        if !self.is_first(&marks) {
            // It waits like a record would: its mark must not be passed before it is told of.
            return self.hold_filtered(one, marks);
        }
        match &mut self.filtered {
            Some(filtered) => filtered.add(ts, text.len()),
            none => *none = Some(one),
        }
        if self.filtered.as_ref().is_some_and(|filtered| filtered.lines >= filter::TELL_LINES) {
            self.tell_filtered();
        }
    }

    /// What is dropped behind something unfinished; what lies side by side is one record.
    fn hold_filtered(&mut self, one: Filtered, marks: Range<u64>) {
        if let Some(held) = self.held.last_mut()
            && held.marks.end == marks.start
            && let Some(filtered) = &mut held.filtered
            && filtered.stream == one.stream
            && filtered.lines < filter::TELL_LINES
        {
            filtered.add(one.to, usize::try_from(one.bytes).unwrap_or(usize::MAX));
            held.text = control_line(&filtered.control());
            held.marks.end = marks.end;
            return;
        }
        let flags = Flags::new(one.stream).control();
        let text = control_line(&one.control());
        self.held_bytes += text.len();
        self.held.push(Held { ts: one.to, flags, text, marks, filtered: Some(one) });
    }

    fn tell_filtered(&mut self) {
        if let Some(filtered) = self.filtered.take() {
            let flags = Flags::new(filtered.stream).control();
            self.block.push(filtered.to, flags, &control_line(&filtered.control()));
        }
    }

    /// Whether nothing before these marks is unfinished.
    fn is_first(&self, marks: &Range<u64>) -> bool {
        self.held.is_empty() && self.open_starts().all(|start| start >= marks.end)
    }

    /// Fourth stage: what is too much is counted instead.
    fn limit(&mut self, ts: i64, flags: Flags, text: &[u8], marks: Range<u64>) {
        if !self.limiter.passes(ts, flags.stream(), text.len(), &marks) {
            return;
        }
        if let Some(dropped) = self.limiter.end_gap() {
            self.push_gap(&dropped, Some(ts));
        }
        self.limiter.note_passed(ts);
        self.redact(ts, flags, text, marks);
    }

    fn push_gap(&mut self, dropped: &Dropped, to: Option<i64>) {
        let control = Control::Gap(dropped.gap(to));
        let flags = Flags::new(dropped.stream).control();
        self.push(dropped.first_ts, flags, &control_line(&control), dropped.marks.clone());
    }

    /// Fifth stage: what is secret is blotted out.
    fn redact(&mut self, ts: i64, flags: Flags, text: &[u8], marks: Range<u64>) {
        let mut scratch = std::mem::take(&mut self.scratch);
        if self.settings.redact.apply(text, &mut scratch) {
            self.push(ts, flags, &scratch, marks);
        } else {
            self.push(ts, flags, text, marks);
        }
        self.scratch = scratch;
    }

    /// Into the block, unless something before it is unfinished.
    fn push(&mut self, ts: i64, flags: Flags, text: &[u8], marks: Range<u64>) {
        if self.is_first(&marks) {
            self.block.push(ts, flags, text);
            return;
        }
        self.held_bytes += text.len();
        self.held.push(Held { ts, flags, text: text.to_vec(), marks, filtered: None });
    }

    /// Hands on what waits no more. A cut through the marks is sound when nothing lies on both sides of it.
    fn release(&mut self) {
        if self.held.is_empty() {
            return;
        }
        let mut cut = self.open_starts().min().unwrap_or(u64::MAX);
        let straddles = |held: &&Held, cut: u64| held.marks.start < cut && held.marks.end > cut;
        while let Some(held) = self.held.iter().find(|held| straddles(held, cut)) {
            cut = held.marks.start;
        }
        let block = &mut self.block;
        // As they began. The sort is stable, and records of one stream do not lie around each other.
        self.held.sort_by_key(|held| held.marks.start);
        self.held.retain(|held| {
            let waits = held.marks.end > cut;
            if !waits {
                block.push(held.ts, held.flags, &held.text);
            }
            waits
        });
        self.held_bytes = self.held.iter().map(|held| held.text.len()).sum();
        if self.held.is_empty() {
            self.held_since = None;
        } else if self.held_bytes > HELD_BYTES_MAX || self.held.len() > HELD_RECORDS_MAX {
            self.flush();
        }
    }
}

impl Open {
    fn add(&mut self, piece: &Piece<'_>, bytes: &[u8]) {
        if !self.is_open {
            self.is_open = true;
            self.ts = piece.ts;
            self.late = piece.late;
            self.marks.start = piece.marks.start;
        }
        self.text.extend_from_slice(bytes);
        self.marks.end = piece.marks.end;
    }

    /// Empty again, with its memory kept.
    fn clear(&mut self) {
        self.text.clear();
        self.is_open = false;
    }
}

/// Whether something that waits since `since` has waited for `age`; the first question begins the wait.
fn is_over(since: &mut Option<i64>, now: i64, age: i64) -> bool {
    // A clock that was set back must not make it wait for longer than it should.
    let began = since.map_or(now, |since| since.min(now));
    *since = Some(began);
    now - began >= age
}
