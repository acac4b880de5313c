//! The latest frames from memory, for whoever only looks: nothing waits for it, nothing is held for it.

use std::time::Duration;

use super::{Frame, Log, Position};

/// Frames that are given at once, at the most.
const FRAMES_MAX: usize = 64;

impl Log {
    /// Where the next frame begins.
    #[must_use]
    pub fn end(&self) -> Position {
        Position { frame: self.shared.lock().written, record: 0 }
    }

    /// Frames that begin at `from` or later, the oldest first, as far as they are still in memory, and the place
    /// behind them; waits at most `wait` when there is nothing. What is not there any more is left out: the numbers
    /// of the records tell.
    #[must_use]
    pub fn peek(&self, from: Position, wait: Duration) -> (Vec<Frame>, Position) {
        let mut inner = self.shared.lock();
        if inner.written <= from.frame {
            inner = self.shared.wait(&self.shared.more, inner, wait);
        }
        let first = inner.recent.partition_point(|frame| frame.start < from.frame);
        let frames: Vec<Frame> =
            inner.recent.iter().skip(first).take(FRAMES_MAX).cloned().collect();
        let is_all = first + frames.len() >= inner.recent.len();
        // Behind the last of them, frames may have been written that are no records.
        let next = frames.last().filter(|_| !is_all).map_or(inner.written, |frame| frame.end);
        (frames, Position { frame: next.max(from.frame), record: 0 })
    }
}
