//! What a run, its worker and its guard say to each other: JSON Lines, each at most [`LINE_BYTES_MAX`] long.

use serde::{Deserialize, Serialize};

use super::plan::{HookProgress, Target};

#[cfg(test)]
mod tests;

/// Longest line, in bytes; a longer one is cut, and then no message.
pub(super) const LINE_BYTES_MAX: u64 = 256 << 10;

/// From a worker to the program that started it, among the lines of its standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "quiesce", rename_all = "lowercase", deny_unknown_fields)]
pub enum ToParent {
    /// The sources may be made to hold still.
    Ready,
    /// All that is needed of them was read.
    Read,
}

/// From the program that started a worker, to its standard input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "quiesce", rename_all = "lowercase", deny_unknown_fields)]
pub enum FromParent {
    /// The sources hold still.
    Held,
    /// They did so until now, but for what the sentences say.
    Released {
        /// For the snapshot.
        warnings: Vec<String>,
    },
}

/// From a run to its guard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "guard", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum ToGuard {
    /// The run begins: what follows is all that is done.
    Hello,
    /// The run lives.
    Beat,
    /// A target, as it is now.
    Target {
        /// Its place in the plan.
        number: usize,
        /// What is true of it from now on.
        target: Box<Target>,
    },
    /// A hook, as it is now.
    Hook {
        /// Its place in the plan.
        number: usize,
        /// How far it is.
        progress: HookProgress,
    },
    /// All is well.
    Done,
}

/// A message as a line, with its end.
pub(super) fn to_line(message: &impl Serialize) -> String {
    let mut line = serde_json::to_string(message).unwrap_or_default();
    line.push('\n');
    line
}

/// A line as a message, if it is one.
pub(super) fn from_line<'a, M: Deserialize<'a>>(line: &'a str) -> Option<M> {
    serde_json::from_str(line).ok()
}

impl ToParent {
    /// The line, with its end.
    #[must_use]
    pub fn to_line(self) -> String {
        to_line(&self)
    }

    /// Reads a line of a worker's output; `None` for all others.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        from_line(line)
    }
}

impl FromParent {
    /// The line, with its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        to_line(self)
    }
}
