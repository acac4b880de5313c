//! How the bytes of a file become lines. Files are taken as bytes; only a byte order mark says otherwise.

use std::ops::Range;

#[cfg(test)]
mod tests;

const UTF8_MARK: &[u8] = &[0xef, 0xbb, 0xbf];

/// What the first bytes of a file say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// UTF-8, or anything else with a line feed of one byte.
    Bytes,
    /// UTF-16, the lower byte first.
    Utf16Le,
    /// UTF-16, the higher byte first.
    Utf16Be,
}

impl Encoding {
    /// By the byte order mark.
    #[must_use]
    pub(super) fn of(head: &[u8]) -> Self {
        match head {
            // UTF-32 begins like it, and nobody logs in that.
            [0xff, 0xfe, 0, 0, ..] => Self::Bytes,
            [0xff, 0xfe, ..] => Self::Utf16Le,
            [0xfe, 0xff, ..] => Self::Utf16Be,
            _ => Self::Bytes,
        }
    }

    /// Bytes of the byte order mark.
    #[must_use]
    pub(super) fn mark_len(self, head: &[u8]) -> usize {
        match self {
            Self::Bytes if head.starts_with(UTF8_MARK) => UTF8_MARK.len(),
            Self::Bytes => 0,
            Self::Utf16Le | Self::Utf16Be => 2,
        }
    }

    /// Bytes of `text` up to and with its last line feed.
    #[must_use]
    pub(super) fn lines_len(self, text: &[u8]) -> usize {
        match self {
            Self::Bytes => memchr::memrchr(b'\n', text).map_or(0, |at| at + 1),
            wide => {
                let units = text.chunks_exact(2);
                let last = units.rev().position(|unit| wide.unit(unit) == u16::from(b'\n'));
                last.map_or(0, |from_end| wide.whole_len(text) - 2 * from_end)
            }
        }
    }

    /// Bytes of `text` that are whole units.
    #[must_use]
    pub(super) fn whole_len(self, text: &[u8]) -> usize {
        match self {
            Self::Bytes => text.len(),
            Self::Utf16Le | Self::Utf16Be => text.len() & !1,
        }
    }

    /// Calls `push` for every piece of a line in UTF-8, with whether the line ends with it, and its place in the
    /// file when `text` begins at `at`. What is not UTF-16 becomes U+FFFD.
    pub(super) fn decode(
        self,
        text: &[u8],
        at: u64,
        mut push: impl FnMut(&[u8], bool, Range<u64>),
    ) {
        if self == Self::Bytes {
            let mut start = 0;
            for end in memchr::memchr_iter(b'\n', text) {
                let line = text.get(start..end).unwrap_or_default();
                push(line, true, at + start as u64..at + end as u64 + 1);
                start = end + 1;
            }
            let rest = text.get(start..).unwrap_or_default();
            if !rest.is_empty() {
                push(rest, false, at + start as u64..at + text.len() as u64);
            }
            return;
        }
        let units: Vec<u16> = text.chunks_exact(2).map(|unit| self.unit(unit)).collect();
        let mut at = at;
        for part in units.split_inclusive(|unit| *unit == u16::from(b'\n')) {
            let (line, ends_line) = match part.split_last() {
                Some((last, line)) if *last == u16::from(b'\n') => (line, true),
                _ => (part, false),
            };
            let end = at + 2 * part.len() as u64;
            push(String::from_utf16_lossy(line).as_bytes(), ends_line, at..end);
            at = end;
        }
    }

    fn unit(self, bytes: &[u8]) -> u16 {
        match (self, bytes) {
            (Self::Utf16Be, [high, low, ..]) | (_, [low, high, ..]) => {
                u16::from_be_bytes([*high, *low])
            }
            _ => 0,
        }
    }
}
