//! Exit codes, the same for every sidecar, and error chains as one line.

use std::error::Error;

#[cfg(test)]
mod tests;

/// How a run ended. Part of the command-line contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// All done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage or configuration; nothing was done.
    Usage = 2,
    /// Done, but something was skipped or torn.
    Warnings = 3,
    /// Interrupted by SIGINT or SIGTERM (128 + 2, as shells report it).
    Interrupted = 130,
}

impl ExitCode {
    /// The graver of two, for a command that did several things.
    #[must_use]
    pub fn or_worse(self, other: Self) -> Self {
        let gravity = |code| match code {
            Self::Done => 0,
            Self::Warnings => 1,
            Self::Failed => 2,
            Self::Usage => 3,
            Self::Interrupted => 4,
        };
        if gravity(other) > gravity(self) { other } else { self }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Longest chain of sources that is followed.
const CHAIN_LENGTH_MAX: usize = 32;

/// The error and its sources as one line, joined by `: `. A source that its parent's text already
/// ends with is left out, since many foreign errors print their source themselves.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    for _ in 0..CHAIN_LENGTH_MAX {
        let Some(source) = next else { break };
        let part = source.to_string();
        if !part.is_empty() && !text.ends_with(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = source.source();
    }
    text
}
