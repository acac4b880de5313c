//! The mark behind the last byte of an output, and what it proves: nothing is missing before it, and the
//! exit code is the program's own.

#[cfg(test)]
mod tests;

/// Random bytes of a mark.
const RANDOM_BYTES: usize = 16;

/// Start of every mark, for people who meet one.
const NAME: &str = "chores-end-";

/// Longest text behind the mark: a space, a number, a line end.
const CODE_BYTES_MAX: usize = 6;

/// A text that nobody can have in their output by chance or on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark(String);

impl Mark {
    /// A new one.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("{NAME}{digits}")))
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }

    /// Bytes that may belong to the mark: a line end, the mark, the code.
    fn bytes_max(&self) -> usize {
        1 + self.0.len() + CODE_BYTES_MAX
    }
}

/// Passes an output on without its mark.
#[derive(Debug)]
pub(super) struct Unmark {
    mark: Mark,
    /// What may be the mark.
    tail: Vec<u8>,
}

impl Unmark {
    pub(super) fn new(mark: Mark) -> Self {
        Self { mark, tail: Vec::new() }
    }

    /// Takes the next bytes and returns those that are surely no part of the mark.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.tail.extend_from_slice(bytes);
        let sure = self.tail.len().saturating_sub(self.mark.bytes_max());
        self.tail.drain(..sure).collect()
    }

    /// The last bytes, and the exit code where the mark was behind them.
    pub(super) fn finish(mut self) -> (Vec<u8>, Option<i64>) {
        let Some((length, code)) = self.ending() else { return (self.tail, None) };
        self.tail.truncate(length);
        (self.tail, Some(code))
    }

    /// Where the mark begins, and the code.
    fn ending(&self) -> Option<(usize, i64)> {
        let line = self.tail.strip_suffix(b"\n")?;
        let start = line.iter().rposition(|byte| *byte == b'\n')?;
        let line = line.get(start + 1..)?;
        let code = line.strip_prefix(self.mark.0.as_bytes())?.strip_prefix(b" ")?;
        let code = std::str::from_utf8(code).ok()?.parse().ok()?;
        Some((start, code))
    }
}
