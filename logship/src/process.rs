//! What happens to lines between the source and the log: pieces are joined, and later stages look at whole
//! lines. Nothing here waits or reads a clock; the source says what time it is.
//!
//! Every piece has a span of the source's own positions, its *marks*: a byte offset, or a count of messages.
//! What is held back (a line whose end has not come) keeps the mark where it began, so that a cursor never
//! passes it: after a restart it is read again.

use std::ops::Range;
use std::sync::Arc;

use crate::block::{Block, BlockBuilder};
use crate::record::{Control, Flags, Stream, control_line};

#[cfg(test)]
mod tests;

/// Longest line, in bytes, unless set; a longer one is handed on in parts that are marked `partial`.
pub const LINE_BYTES_MAX_DEFAULT: usize = 1 << 20;

/// What is to be done to the lines of a source.
#[derive(Debug, Clone)]
pub struct ProcessSettings {
    /// Longest line, in bytes.
    pub line_bytes_max: usize,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self { line_bytes_max: LINE_BYTES_MAX_DEFAULT }
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
    block: BlockBuilder,
    lanes: [Lane; 4],
    /// The end of everything that was pushed.
    end: u64,
}

/// The unfinished line of one stream.
#[derive(Debug, Default)]
struct Lane {
    text: Vec<u8>,
    ts: i64,
    late: bool,
    start: u64,
    is_open: bool,
}

impl Processor {
    /// Nothing is held yet.
    #[must_use]
    pub fn new(settings: Arc<ProcessSettings>) -> Self {
        Self { settings, block: BlockBuilder::default(), lanes: Default::default(), end: 0 }
    }

    /// Whole lines of one stream, all of one time. `bytes` ends with a line feed and begins at `mark`, which
    /// counts bytes.
    pub fn lines(&mut self, stream: Stream, ts: i64, bytes: &[u8], mark: u64) {
        let is_plain = !self.lane(stream).is_open;
        if is_plain && bytes.len() <= self.settings.line_bytes_max {
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
        let limit = self.settings.line_bytes_max;
        let lane = self.lane(piece.stream);
        if !lane.is_open && piece.ends_line && piece.bytes.len() <= limit {
            let flags = Flags::new(piece.stream).late(piece.late);
            self.block.push(piece.ts, flags, piece.bytes);
            return;
        }
        if !lane.is_open {
            lane.is_open = true;
            lane.ts = piece.ts;
            lane.late = piece.late;
            lane.start = piece.marks.start;
        }
        lane.text.extend_from_slice(piece.bytes);
        self.shorten(piece.stream, limit, piece.marks.end);
        if piece.ends_line {
            self.close(piece.stream, false);
        }
    }

    /// What happened to the source. Unfinished lines before it are not waited for.
    pub fn control(&mut self, ts: i64, stream: Stream, control: &Control) {
        self.flush();
        self.block.push(ts, Flags::new(stream).control(), &control_line(control));
    }

    /// Hands on what is held back: unfinished lines, marked `partial`.
    pub fn flush(&mut self) {
        for stream in [Stream::File, Stream::Stdout, Stream::Stderr, Stream::Console] {
            if self.lane(stream).is_open {
                self.close(stream, true);
            }
        }
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
        let open = self.lanes.iter().filter(|lane| lane.is_open).map(|lane| lane.start);
        open.min().unwrap_or(self.end)
    }

    /// The records so far; `None` when there are none.
    pub fn take(&mut self) -> Option<Taken> {
        let mark = self.safe_mark();
        self.block.finish().map(|block| Taken { block, mark })
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

    /// Hands on what is too long, as far as the limit goes.
    fn shorten(&mut self, stream: Stream, limit: usize, end: u64) {
        let lane = self.lane(stream);
        let mut text = std::mem::take(&mut lane.text);
        let (ts, late) = (lane.ts, lane.late);
        let mut done = 0;
        while text.len() - done > limit {
            let flags = Flags::new(stream).partial(true).late(late);
            let part = text.get(done..done + limit).unwrap_or_default();
            self.block.push(ts, flags, part);
            done += limit;
        }
        text.drain(..done);
        let left = text.len() as u64;
        let lane = self.lane(stream);
        lane.text = text;
        if done > 0 {
            // What is left came last: where positions are bytes, it began this far before the end.
            lane.start = end.saturating_sub(left).max(lane.start);
        }
    }

    fn close(&mut self, stream: Stream, is_partial: bool) {
        let lane = self.lane(stream);
        let (ts, late) = (lane.ts, lane.late);
        let mut text = std::mem::take(&mut lane.text);
        lane.is_open = false;
        let flags = Flags::new(stream).partial(is_partial).late(late);
        self.block.push(ts, flags, &text);
        text.clear();
        self.lane(stream).text = text;
    }
}
