//! Messages of a container on their way into records: pieces become lines, what is missing becomes a gap.

use std::ops::Range;
use std::sync::Arc;

use crate::process::{Piece, ProcessSettings, Processor, Taken};
use crate::record::{Control, Gap, GapReason, Stream};
use crate::time::SECOND;

use super::entry::Entry;

#[cfg(test)]
mod tests;

/// A time this much older than the one before it, in nanoseconds, means that the clock went back. Messages of a
/// stream are written in the order of their times; what is less is the slewing of a clock.
const CLOCK_STEP_MIN: i64 = SECOND;

/// The lines of one container.
#[derive(Debug)]
pub struct Lines {
    processor: Processor,
    is_terminal: bool,
    stdout: Lane,
    stderr: Lane,
    /// The youngest time of all.
    newest: Option<i64>,
    gap: Option<Missing>,
}

#[derive(Debug, Default)]
struct Lane {
    /// Time of the last message.
    last: Option<i64>,
    /// Its line goes on.
    is_open: bool,
}

/// A hole whose other side has not been seen.
#[derive(Debug)]
struct Missing {
    reason: GapReason,
    from: Option<i64>,
    bytes: Option<u64>,
    exact: bool,
}

impl Lines {
    /// No line yet. `is_terminal`: the container has a terminal, which joins both streams.
    #[must_use]
    pub fn new(settings: Arc<ProcessSettings>, is_terminal: bool) -> Self {
        Self {
            processor: Processor::new(settings),
            is_terminal,
            stdout: Lane::default(),
            stderr: Lane::default(),
            newest: None,
            gap: None,
        }
    }

    /// Lines up to this time of a stream were taken before.
    pub fn remember(&mut self, stream: Stream, ts: i64) {
        self.lane(stream).last = Some(ts);
        self.newest = self.newest.max(Some(ts));
    }

    /// The youngest time of all messages.
    #[must_use]
    pub fn newest(&self) -> Option<i64> {
        self.newest
    }

    /// The stream that messages of `stream` go by.
    #[must_use]
    pub fn shown(&self, stream: Stream) -> Stream {
        if self.is_terminal { Stream::Console } else { stream }
    }

    /// A message and its place.
    pub fn entry(&mut self, entry: &Entry<'_>, marks: Range<u64>) {
        let stream = self.shown(entry.stream);
        let lane = self.lane(entry.stream);
        let last = lane.last.replace(entry.ts);
        let was_open = std::mem::replace(&mut lane.is_open, !entry.ends_line);
        // All pieces of a line have one time: another one means that the run of the container ended within the
        // line, and this is the next run.
        if was_open && last != Some(entry.ts) {
            self.processor.cut(stream);
        }
        if let Some(from) = last.filter(|last| last.saturating_sub(entry.ts) > CLOCK_STEP_MIN) {
            self.processor.control(entry.ts, stream, &Control::ClockStep { from, to: entry.ts });
        }
        if self.gap.is_some() {
            self.end_gap(stream, Some(entry.ts));
        }
        self.newest = self.newest.max(Some(entry.ts));
        let bytes = match entry.line {
            [line @ .., b'\r'] if self.is_terminal && entry.ends_line => line,
            line => line,
        };
        self.processor.piece(&Piece {
            stream,
            ts: entry.ts,
            bytes,
            ends_line: entry.ends_line,
            late: false,
            marks,
        });
    }

    /// Something is missing between the last message and the next. `exact`: all of what lies between.
    pub fn missing(&mut self, reason: GapReason, bytes: Option<u64>, exact: bool) {
        match &mut self.gap {
            Some(gap) if gap.reason == reason => {
                gap.bytes = gap.bytes.zip(bytes).map(|(one, other)| one + other);
                gap.exact &= exact;
            }
            _ => {
                self.end_gap(Stream::Stdout, None);
                self.gap = Some(Missing { reason, from: self.newest, bytes, exact });
            }
        }
    }

    fn end_gap(&mut self, stream: Stream, to: Option<i64>) {
        let Some(Missing { reason, from, bytes, exact }) = self.gap.take() else { return };
        let gap = Gap { from_byte: None, reason, from, to, bytes, lines: None, exact };
        let ts = from.or(to).unwrap_or_else(crate::time::now);
        self.processor.control(ts, self.shown(stream), &Control::Gap(gap));
    }

    /// What happened to the container.
    pub fn control(&mut self, ts: i64, control: &Control) {
        self.processor.control(ts, self.shown(Stream::Stdout), control);
    }

    /// Nothing comes any more from the run of the container that wrote the last message.
    pub fn end_run(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let shown = self.shown(stream);
            if std::mem::take(&mut self.lane(stream).is_open) {
                self.processor.cut(shown);
            }
        }
    }

    /// Nothing more is read, whatever may come.
    pub fn finish(&mut self) {
        self.end_run();
        self.end_gap(Stream::Stdout, None);
        self.processor.flush();
    }

    /// Nothing comes any more at all.
    pub fn end(&mut self, now: i64) {
        self.end_run();
        self.end_gap(Stream::Stdout, None);
        self.control(self.newest.unwrap_or(now), &Control::Stopped);
    }

    /// See [`Processor`].
    pub fn expire(&mut self, now: i64) {
        if self.processor.deadline().is_some_and(|deadline| deadline <= now) {
            self.processor.expire(now);
        }
    }

    /// Whether time alone will hand something on.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.processor.deadline().is_some()
    }

    /// Whether it is time to [`take`](Self::take).
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.processor.is_full()
    }

    /// See [`Processor`].
    #[must_use]
    pub fn safe_mark(&self) -> u64 {
        self.processor.safe_mark()
    }

    /// The records so far.
    pub fn take(&mut self) -> Option<Taken> {
        self.processor.take()
    }

    fn lane(&mut self, stream: Stream) -> &mut Lane {
        if stream == Stream::Stderr { &mut self.stderr } else { &mut self.stdout }
    }
}
