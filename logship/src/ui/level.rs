//! How serious a line is, in the four steps that a page shows.

use serde::Serialize;

use crate::parse::level::{self, level_of};
use crate::source::Parse;

#[cfg(test)]
mod tests;

/// How serious a line is, in rising order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// For developers.
    Debug,
    /// Nothing is wrong.
    Info,
    /// Something may be wrong.
    Warn,
    /// Something is wrong.
    Error,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Debug, Self::Info, Self::Warn, Self::Error];

    /// The name in requests and answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// What a line says of itself; `None` when nobody can tell. How its source is taken apart does not count: an
    /// archive does not know that, and the same line has the same level everywhere.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Self> {
        Some(match level_of(&Parse::None, None, line)? {
            level::Level::Trace | level::Level::Debug => Self::Debug,
            level::Level::Info | level::Level::Notice => Self::Info,
            level::Level::Warn => Self::Warn,
            level::Level::Error | level::Level::Fatal => Self::Error,
        })
    }
}
