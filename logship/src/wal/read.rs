//! Reads the log from a place on: from memory near its end, from disk before that.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::frame::{Kind, Raw};
use super::segment::{Found, Segment};
use super::shared::{ReaderPlace, Shared};
use super::sink_cursor::Role;
use super::state::{LogState, damage};
use super::write::NO_ROOM_WAIT;
use super::{Frame, Position, WalError};
use crate::block::{Block, BlockBuilder};
use crate::descriptors::is_exhausted;
use crate::ledger::LedgerEntry;
use crate::record::{Control, Flags, Gap, GapReason, Stream, control_line};
use crate::source::{SourceId, SourceMeta};
use crate::time;

/// How far a reader goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upto {
    /// Only what survives a crash: for sinks that cannot take back what they delivered.
    Durable,
    /// Everything that is written: for sinks that take back what the log lost.
    Written,
}

/// What a reader found.
#[derive(Debug)]
pub enum Next {
    /// Records of one source, and how many of them were delivered before the place the reader began at.
    Frame(Frame, u32),
    /// Nothing yet.
    Nothing,
    /// The log is closed, and all of it was read.
    Closed,
}

/// What a reader did not find any more, because its sink fell behind its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Skipped {
    /// Holes that nobody had found before.
    pub gaps: u64,
    /// Records in them, as far as they can be counted.
    pub records: u64,
}

/// See [`super::Log::reader`].
#[derive(Debug)]
pub struct Reader {
    shared: Arc<Shared>,
    until: Upto,
    sink: Option<String>,
    from: Position,
    at: u64,
    is_prepared: bool,
    /// The number among the readers of a log without a directory.
    number: Option<u64>,
    segment: Option<Segment>,
    /// What the next record of each source must be.
    expected: HashMap<SourceId, u64>,
    metas: HashMap<SourceId, Arc<SourceMeta>>,
    /// A state was read: a source that it did not have begins with number 0.
    knows_all: bool,
    /// The log was taken away before this place, because the sink fell behind its bound.
    is_behind: bool,
    skipped: Skipped,
    pending: VecDeque<Frame>,
}

/// Where the next frame is.
enum Step {
    Memory(Frame),
    Disk { base: u64, limit: u64 },
    Nothing,
    Closed,
}

impl Reader {
    pub(super) fn new(
        shared: Arc<Shared>,
        from: Position,
        until: Upto,
        sink: Option<String>,
        role: Role,
    ) -> Self {
        let is_in_memory = shared.paths.is_none();
        let number =
            is_in_memory.then(|| shared.lock().add_reader(ReaderPlace { role, at: from.frame }));
        Self {
            shared,
            until,
            sink,
            from,
            at: from.frame,
            is_prepared: is_in_memory,
            number,
            segment: None,
            expected: HashMap::new(),
            metas: HashMap::new(),
            knows_all: false,
            is_behind: false,
            skipped: Skipped::default(),
            pending: VecDeque::new(),
        }
    }

    /// The next frame; waits at most `wait` for one. Where the log lost records, a frame with one control
    /// record comes in their place.
    pub fn next(&mut self, wait: Duration) -> Result<Next, WalError> {
        match self.find(wait) {
            // The segment is there, and it may be opened a moment later.
            Err(WalError::Io { source, .. }) if is_exhausted(&source) => {
                std::thread::sleep(NO_ROOM_WAIT);
                Ok(Next::Nothing)
            }
            found => found,
        }
    }

    fn find(&mut self, wait: Duration) -> Result<Next, WalError> {
        let deadline = Instant::now() + wait;
        if !self.is_prepared {
            self.prepare()?;
            self.is_prepared = true;
        }
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Ok(Next::Frame(frame, 0));
            }
            match self.step(deadline) {
                Step::Memory(frame) => {
                    if let Some(next) = self.deliver(frame) {
                        return Ok(next);
                    }
                }
                Step::Disk { base, limit } => {
                    if let Some(next) = self.read_segment(base, limit)? {
                        return Ok(next);
                    }
                }
                Step::Nothing => return Ok(Next::Nothing),
                Step::Closed => return Ok(Next::Closed),
            }
        }
    }

    fn step(&mut self, deadline: Instant) -> Step {
        let shared = self.shared.clone();
        let mut inner = shared.lock();
        loop {
            if let Some(number) = self.number
                && let Some(place) = inner.readers.get_mut(&number)
                && place.at < self.at
            {
                place.at = self.at;
                shared.room.notify_all();
            }
            let limit = match self.until {
                Upto::Durable => inner.durable,
                Upto::Written => inner.written,
            };
            if self.at < limit {
                let is_in_memory = inner.recent.front().is_some_and(|first| first.start <= self.at);
                if is_in_memory || self.number.is_some() {
                    let place = inner.recent.partition_point(|frame| frame.start < self.at);
                    if let Some(frame) = inner.recent.get(place).filter(|it| it.end <= limit) {
                        return Step::Memory(frame.clone());
                    }
                    // Only frames that are no records are left.
                    self.at = limit;
                    continue;
                }
                let mut segments = inner.segments.range(..=self.at).next_back();
                if segments.is_none_or(|(_, end)| *end <= self.at) {
                    self.is_behind |= segments.is_none();
                    segments = inner.segments.range(self.at..).next();
                }
                if let Some((base, end)) = segments {
                    return Step::Disk { base: *base, limit: limit.min(*end) };
                }
                self.at = limit;
                continue;
            }
            if inner.is_closed || inner.failed.is_some() || inner.is_abandoned {
                return Step::Closed;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                return Step::Nothing;
            };
            if left.is_zero() {
                return Step::Nothing;
            }
            inner = shared.wait(&shared.more, inner, left);
        }
    }

    /// Learns what the log knew of its sources at the place where reading begins.
    fn prepare(&mut self) -> Result<(), WalError> {
        let (from, base) = (self.at, {
            let inner = self.shared.lock();
            inner.segments.range(..=self.at).next_back().map(|(base, _)| *base)
        });
        let Some(base) = base else { return Ok(()) };
        let Some(mut segment) = self.open(base)? else { return Ok(()) };
        let mut position = segment.first();
        while position < from {
            match segment.head(position, from)? {
                Ok(Some(head)) => {
                    let id = SourceId(head.source);
                    match head.kind {
                        Kind::Records => {
                            let next = head.first_seq.saturating_add(u64::from(head.count));
                            self.expected.insert(id, next);
                        }
                        Kind::State | Kind::Source => {
                            if let Found::Frame(raw) = segment.frame(position, from)? {
                                self.learn(&raw);
                            }
                        }
                        Kind::End | Kind::Closed => {}
                    }
                    position = head.end();
                }
                Ok(None) => break,
                Err(_) => match segment.resync(position, from)? {
                    Some(next) => position = next,
                    None => break,
                },
            }
        }
        // Nothing that was read before is missing; the gaps of that part were told then.
        self.pending.clear();
        self.segment = Some(segment);
        Ok(())
    }

    /// The segment that begins at `base`; `None` when it was removed a moment ago.
    fn open(&self, base: u64) -> Result<Option<Segment>, WalError> {
        let Some(paths) = &self.shared.paths else { return Ok(None) };
        match Segment::open(&paths.segments, base) {
            Ok(segment) => Ok(Some(segment)),
            Err(WalError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The next frame on disk before `limit`.
    fn read_segment(&mut self, base: u64, limit: u64) -> Result<Option<Next>, WalError> {
        let mut segment = match self.segment.take().filter(|segment| segment.base == base) {
            Some(segment) => segment,
            None => match self.open(base)? {
                Some(segment) => segment,
                // It is gone from the list, too, or will be in a moment.
                None => {
                    self.at = self.at.max(limit);
                    self.is_behind = true;
                    return Ok(None);
                }
            },
        };
        let found = self.read_frame(&mut segment, limit);
        self.segment = Some(segment);
        found
    }

    fn read_frame(&mut self, segment: &mut Segment, limit: u64) -> Result<Option<Next>, WalError> {
        self.at = self.at.max(segment.first());
        while self.at < limit {
            let raw = match segment.frame(self.at, limit)? {
                Found::Frame(raw) => raw,
                Found::End => break,
                Found::Damaged(reason) => {
                    let next = segment.resync(self.at, limit)?.unwrap_or(limit);
                    tracing::error!(
                        at = self.at,
                        bytes = next - self.at,
                        reason,
                        "the log is damaged"
                    );
                    self.at = next;
                    continue;
                }
            };
            match raw.head.kind {
                Kind::Records => match self.decode(&raw) {
                    Ok(frame) => {
                        if let Some(next) = self.deliver(frame) {
                            return Ok(Some(next));
                        }
                    }
                    Err(reason) => {
                        tracing::error!(at = self.at, reason, "a frame of the log is damaged");
                        self.at = raw.head.end();
                    }
                },
                Kind::State | Kind::Source => {
                    let end = raw.head.end();
                    self.learn(&raw);
                    self.at = end;
                    if let Some(frame) = self.pending.pop_front() {
                        return Ok(Some(Next::Frame(frame, 0)));
                    }
                }
                Kind::End | Kind::Closed => self.at = raw.head.end(),
            }
        }
        self.at = self.at.max(limit);
        Ok(None)
    }

    fn decode(&self, raw: &Raw<'_>) -> Result<Frame, &'static str> {
        let head = &raw.head;
        let id = SourceId(head.source);
        // What tells of the source may be damaged; the log itself may know it from a later segment.
        let meta = self.metas.get(&id).cloned().or_else(|| {
            self.shared.lock().state.sources.get(&id).map(|source| source.meta.clone())
        });
        let meta = meta.ok_or("its source is not known")?;
        let body = Bytes::from(raw.body()?.into_owned());
        let block =
            Block::decode(body, head.base_ts).map_err(|_| "its records cannot be taken apart")?;
        if block.count() != head.count {
            return Err("it has another number of records than it says");
        }
        Ok(Frame {
            start: head.position,
            end: head.end(),
            source: id,
            meta,
            first_seq: head.first_seq,
            block,
        })
    }

    /// Takes over what a frame tells of sources. Records that the state counts and that never came are told
    /// of in `pending`.
    fn learn(&mut self, raw: &Raw<'_>) {
        let Ok(body) = raw.body() else { return };
        if raw.head.kind == Kind::Source {
            if let Ok(meta) = serde_json::from_slice(&body) {
                let id = SourceId(raw.head.source);
                self.metas.insert(id, Arc::new(meta));
                if self.knows_all {
                    self.expected.entry(id).or_insert(0);
                }
            }
            return;
        }
        let Ok(state) = LogState::from_json(&body) else { return };
        let (at, end, ts) = (self.at, raw.head.end(), time::now());
        let knows_all = std::mem::replace(&mut self.knows_all, true);
        for (id, source) in state.sources {
            self.metas.insert(id, source.meta.clone());
            let expected = self.expected.insert(id, source.next_seq);
            match expected.or(knows_all.then_some(0)) {
                Some(expected) if expected < source.next_seq => {
                    let lines = Some(source.next_seq - expected);
                    let frame = self.gap(id, &source.meta, expected, lines, at..end, ts);
                    self.pending.extend(frame);
                }
                // The segments that could tell were removed before this process began.
                None if self.is_behind && self.is_prepared && source.end > self.from.frame => {
                    let frame = self.gap(id, &source.meta, source.next_seq, None, at..end, ts);
                    self.pending.extend(frame);
                }
                Some(_) | None => {}
            }
        }
        if self.is_prepared {
            self.is_behind = false;
        }
    }

    /// Hands a frame on, after a gap where records are missing before it. `None` when all of it was delivered
    /// before.
    fn deliver(&mut self, frame: Frame) -> Option<Next> {
        let count = frame.block.count();
        let before = self.at;
        self.at = frame.end;
        match self.metas.get(&frame.source) {
            Some(meta) if Arc::ptr_eq(meta, &frame.meta) => {}
            _ => {
                self.metas.insert(frame.source, frame.meta.clone());
            }
        }
        let next = frame.first_seq.saturating_add(u64::from(count));
        let expected = self.expected.insert(frame.source, next);
        let expected = expected.or(self.knows_all.then_some(0));
        let skip = if frame.start == self.from.frame { self.from.record } else { 0 };
        if skip >= count {
            return None;
        }
        if let Some(expected) = expected.filter(|expected| *expected < frame.first_seq) {
            let lines = Some(frame.first_seq - expected);
            let (id, ts) = (frame.source, frame.block.base_ts());
            let gap = self.gap(id, &frame.meta, expected, lines, before..frame.start, ts);
            if let Some(gap) = gap {
                self.pending.push_back(frame);
                return Some(Next::Frame(gap, 0));
            }
        }
        Some(Next::Frame(frame, skip))
    }

    /// A frame in the place of records that are missing.
    fn gap(
        &mut self,
        id: SourceId,
        meta: &Arc<SourceMeta>,
        seq: u64,
        lines: Option<u64>,
        place: std::ops::Range<u64>,
        ts: i64,
    ) -> Option<Frame> {
        let mut gap: Gap = damage(lines);
        let mut sink = None;
        if self.is_behind {
            gap.reason = GapReason::SinkBound;
            gap.exact = lines.is_some();
            sink = Some(self.sink.clone().unwrap_or_default());
        }
        let entry = LedgerEntry {
            at: time::now(),
            source: meta.key.clone(),
            name: meta.origin.name().to_owned(),
            seq,
            in_log: !self.is_behind,
            sink,
            gap: gap.clone(),
        };
        if self.shared.found_gap(&entry) && self.is_behind {
            self.skipped.gaps += 1;
            self.skipped.records += lines.unwrap_or(0);
        }
        let mut builder = BlockBuilder::default();
        let flags = Flags::new(Stream::File).control();
        builder.push(ts, flags, &control_line(&Control::Gap(gap)));
        let block = builder.finish()?;
        let (start, end) = (place.start, place.end);
        Some(Frame { start, end, source: id, meta: meta.clone(), first_seq: seq, block })
    }

    /// What was skipped since this was last asked.
    pub fn take_skipped(&mut self) -> Skipped {
        std::mem::take(&mut self.skipped)
    }

    /// What the reader knows of the numbers of each source: the next one it expects.
    #[must_use]
    pub fn expected(&self) -> BTreeMap<SourceId, u64> {
        self.expected.iter().map(|(id, next)| (*id, *next)).collect()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.lock().readers.remove(&number);
            self.shared.room.notify_all();
        }
    }
}
