//! A worker's output as whole lines, each delivered once, from pieces that come twice.
//!
//! Following a container's output may be cut off; what is missing is read again when the container has
//! ended. Pieces come in the order they were written, so counting the bytes of each stream tells which
//! ones are new.

use std::io::Write;

use chores_common::engine::{LogFrame, LogSource};

#[cfg(test)]
mod tests;

/// Longest line that is kept together, in bytes; a longer one is delivered in pieces.
const LINE_BYTES_MAX: usize = 1 << 20;

/// Where a worker's output goes.
pub(super) struct Output<'a, E> {
    on_line: &'a mut (dyn FnMut(&str) + Send),
    errors: E,
    stdout: Channel,
    stderr: Channel,
}

/// One of the two streams.
#[derive(Default)]
struct Channel {
    /// Bytes of this reading so far, up to where the reading before ended.
    repeated: u64,
    /// Bytes taken by all readings.
    taken: u64,
    /// The line that has not ended.
    line: Vec<u8>,
}

impl<'a, E: Write> Output<'a, E> {
    /// Standard output goes to `on_line` without line endings, standard error to `errors`.
    pub(super) fn new(on_line: &'a mut (dyn FnMut(&str) + Send), errors: E) -> Self {
        Self { on_line, errors, stdout: Channel::default(), stderr: Channel::default() }
    }

    /// The next piece of this reading.
    pub(super) fn take(&mut self, frame: &LogFrame) {
        match frame.source {
            LogSource::Stdout => {
                self.stdout.take(&frame.bytes, |line| {
                    (self.on_line)(&String::from_utf8_lossy(line));
                });
            }
            LogSource::Stderr => {
                self.stderr.take(&frame.bytes, |line| print(&mut self.errors, line));
            }
        }
    }

    /// From here on pieces come again from the start.
    pub(super) fn rewind(&mut self) {
        self.stdout.repeated = 0;
        self.stderr.repeated = 0;
    }

    /// Delivers last lines without an ending.
    pub(super) fn finish(mut self) {
        if !self.stdout.line.is_empty() {
            (self.on_line)(&String::from_utf8_lossy(&self.stdout.line));
        }
        if !self.stderr.line.is_empty() {
            print(&mut self.errors, &self.stderr.line);
        }
    }
}

/// Nobody can be told that standard error is closed.
fn print(errors: &mut impl Write, line: &[u8]) {
    let mut line = line.to_vec();
    line.push(b'\n');
    if let Err(error) = errors.write_all(&line) {
        tracing::trace!("cannot write to standard error: {error}");
    }
}

impl Channel {
    fn take(&mut self, bytes: &[u8], mut deliver: impl FnMut(&[u8])) {
        let known = self.taken.saturating_sub(self.repeated);
        let known = usize::try_from(known).unwrap_or(usize::MAX).min(bytes.len());
        self.repeated = self.repeated.saturating_add(bytes.len() as u64);
        self.taken = self.taken.max(self.repeated);
        let new = bytes.get(known..).unwrap_or_default();
        for piece in new.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.extend_from_slice(end);
                    deliver(&self.line);
                    self.line.clear();
                }
                None => self.line.extend_from_slice(piece),
            }
            if self.line.len() >= LINE_BYTES_MAX {
                deliver(&self.line);
                self.line.clear();
            }
        }
    }
}
