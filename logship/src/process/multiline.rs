//! Lines that belong together: stack traces, and what else is printed over several lines.

use regex::bytes::{Regex, RegexBuilder};

#[cfg(test)]
mod tests;

/// Lines of a group, at the most, unless set.
pub const GROUP_LINES_MAX_DEFAULT: usize = 1000;

/// More lines than this cannot be set.
pub const GROUP_LINES_MAX_LIMIT: usize = 100_000;

/// Bytes of a group, at the most, unless set.
pub const GROUP_BYTES_MAX_DEFAULT: usize = 256 << 10;

/// More bytes than this cannot be set.
pub const GROUP_BYTES_MAX_LIMIT: usize = 1 << 20;

/// How long a group may stay open, in nanoseconds, unless set.
pub const GROUP_AGE_DEFAULT: i64 = 1_000_000_000;

/// Compiled size of a pattern of an operator or a label, in bytes.
pub const PATTERN_BYTES_MAX: usize = 1 << 20;

/// The presets: name, and what a line that goes on looks like.
const PRESETS: [(&str, &str); 5] = [
    // `Caused by:` and `... 12 more` belong to the trace above them, and so does what is indented.
    ("java", r"^(?:[ \t]+\S|Caused by: |Wrapped by: |Suppressed: |\.\.\. \d+ more)"),
    // A traceback begins with its own first line, ends with `Error: …` at the margin, and may be followed by
    // another one after a line that says why.
    (
        "python",
        r"^(?:[ \t]|$|Traceback \(most recent call last\):|(?:[A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*(?:Error|Exception|Warning|Interrupt|Exit|Iteration)\b(?:$|:)|During handling of the above exception|The above exception was the direct cause)",
    ),
    // A panic is followed by an empty line, `goroutine 1 [running]:`, and pairs of a function and its place.
    (
        "go",
        r"^(?:$|[ \t]|goroutine \d+ \[|created by |exit status \d+|\[signal |(?:[\w.\-~]+/)*[\w.\-~]+\.[^ ]*\(.*\)$|\[originating from )",
    ),
    // The first line of an uncaught exception has its message behind the place; those of a backtrace end with it.
    // Ruby 3.4 writes `'` on both sides. Rails prints an indented line before the backtrace.
    ("ruby", r"^(?:[ \t]+\S|\S+:\d+:in [`'][^`']*'$|Did you mean\?|\^+$)"),
    // Inner exceptions are indented, and so is everything that a console logger of ASP.NET says of one event.
    ("dotnet", r"^(?:[ \t]+\S|--- End of |\s*---> )"),
];

/// A pattern that is none.
#[derive(Debug, thiserror::Error)]
#[error("{pattern:?} is no usable pattern")]
pub struct PatternError {
    pattern: String,
    source: Box<regex::Error>,
}

/// Which lines belong together, and how many.
#[derive(Debug, Clone)]
pub struct Multiline {
    /// A line that matches begins a group; others go on with it.
    pub start: Option<Regex>,
    /// A line that matches goes on with the group; others begin one. With `start`, a line goes on when it does
    /// not match that and matches this.
    pub continues: Option<Regex>,
    /// Lines of a group, at the most.
    pub lines_max: usize,
    /// Bytes of a group, at the most.
    pub bytes_max: usize,
    /// How long a group may stay open, in nanoseconds.
    pub age: i64,
    /// As it was written, for people.
    pub text: String,
}

impl Multiline {
    /// Reads a preset (`java`, `python`, `go`, `ruby`, `dotnet`), `start:PATTERN`, `continue:PATTERN`, or a pattern alone, which
    /// is a start.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        if let Some((_, pattern)) = PRESETS.iter().find(|(name, _)| *name == text) {
            return Self::new(None, Some(pattern), text);
        }
        match text.split_once(':') {
            Some(("continue", pattern)) => Self::new(None, Some(pattern), text),
            Some(("start", pattern)) => Self::new(Some(pattern), None, text),
            _ => Self::new(Some(text), None, text),
        }
    }

    /// From the two patterns.
    pub fn new(
        start: Option<&str>,
        continues: Option<&str>,
        text: &str,
    ) -> Result<Self, PatternError> {
        Ok(Self {
            start: start.map(pattern).transpose()?,
            continues: continues.map(pattern).transpose()?,
            lines_max: GROUP_LINES_MAX_DEFAULT,
            bytes_max: GROUP_BYTES_MAX_DEFAULT,
            age: GROUP_AGE_DEFAULT,
            text: text.to_owned(),
        })
    }

    /// Whether `line` goes on with the group before it.
    #[must_use]
    pub fn joins(&self, line: &[u8]) -> bool {
        !self.start.as_ref().is_some_and(|start| start.is_match(line))
            && self.continues.as_ref().is_none_or(|continues| continues.is_match(line))
    }
}

/// Names of the presets.
#[must_use]
pub fn presets() -> [&'static str; 5] {
    PRESETS.map(|(name, _)| name)
}

/// Compiles a pattern of bounded size.
pub fn pattern(text: &str) -> Result<Regex, PatternError> {
    RegexBuilder::new(text)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map_err(|source| PatternError { pattern: text.to_owned(), source: Box::new(source) })
}
