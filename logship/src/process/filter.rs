//! Lines that are not serious enough: dropped by the wish of the operator, and counted.

use crate::parse::level::{Level, level_of};
use crate::record::{Control, Stream};
use crate::source::Parse;
use crate::time::SECOND;
use chores_common::settings::one_of;

#[cfg(test)]
mod tests;

/// A count is told with the next records, or after this time, in nanoseconds.
pub const TELL_EVERY: i64 = 10 * SECOND;

/// So many of them are told of at once: until then they are read again after a crash.
pub const TELL_LINES: u64 = 4096;

/// Bytes of the name of a field.
const FIELD_BYTES_MAX: usize = 64;

/// Which lines are serious enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LevelFilter {
    /// The least serious that passes.
    pub min: Level,
    /// The field that tells; otherwise the usual ones.
    pub field: Option<String>,
    /// Lines of which nobody can tell are dropped too.
    pub drops_unknown: bool,
    /// How lines are taken apart.
    pub parse: Parse,
}

impl LevelFilter {
    /// Reads `warn`, or `warn,field=severity,unknown=drop`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let is_name = |name: &&str| Level::NAMES.contains(name);
        let min = Some(name).filter(is_name).and_then(Level::of_word);
        let min = min.ok_or_else(|| one_of(name, &Level::NAMES))?;
        let mut filter = Self { min, field: None, drops_unknown: false, parse: Parse::None };
        for part in parts {
            match part.split_once('=') {
                Some(("field", field)) if (1..=FIELD_BYTES_MAX).contains(&field.len()) => {
                    filter.field = Some(field.to_owned());
                }
                Some(("field", _)) => {
                    return Err(format!("field must have 1 to {FIELD_BYTES_MAX} bytes"));
                }
                Some(("unknown", "keep")) => filter.drops_unknown = false,
                Some(("unknown", "drop")) => filter.drops_unknown = true,
                Some(("unknown", other)) => {
                    return Err(format!("unknown: {}", one_of(other, &["keep", "drop"])));
                }
                _ => {
                    return Err(format!(
                        "{part:?} is none of field=NAME, unknown=keep and unknown=drop"
                    ));
                }
            }
        }
        Ok(filter)
    }

    /// The same for lines that are taken apart in this way.
    #[must_use]
    pub fn with(self, parse: Parse) -> Self {
        Self { parse, ..self }
    }

    /// Whether a record is serious enough.
    #[must_use]
    pub fn passes(&self, line: &[u8]) -> bool {
        let level = level_of(&self.parse, self.field.as_deref(), line);
        level.map_or(!self.drops_unknown, |level| level >= self.min)
    }
}

impl std::fmt::Display for LevelFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.min.name())?;
        if let Some(field) = &self.field {
            write!(f, ",field={field}")?;
        }
        if self.drops_unknown { f.write_str(",unknown=drop") } else { Ok(()) }
    }
}

/// What was dropped and not told of yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filtered {
    pub(super) stream: Stream,
    pub(super) from: i64,
    pub(super) to: i64,
    pub(super) lines: u64,
    pub(super) bytes: u64,
    /// Where the first of it was in the source.
    pub(super) start: u64,
    /// When it was first seen that it is not told of.
    pub(super) since: Option<i64>,
}

impl Filtered {
    /// One record.
    pub(super) fn new(stream: Stream, ts: i64, bytes: usize, start: u64) -> Self {
        let bytes = bytes as u64;
        Self { stream, from: ts, to: ts, lines: 1, bytes, start, since: None }
    }

    /// One more.
    pub(super) fn add(&mut self, ts: i64, bytes: usize) {
        self.from = self.from.min(ts);
        self.to = self.to.max(ts);
        self.lines += 1;
        self.bytes += bytes as u64;
    }

    /// As it is told of.
    pub(super) fn control(&self) -> Control {
        Control::Filtered { from: self.from, to: self.to, lines: self.lines, bytes: self.bytes }
    }
}
