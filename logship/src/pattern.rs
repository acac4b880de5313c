//! A regular expression that takes lines apart: compiled once, however many sources have it.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use regex::{CaptureLocations, Regex, RegexBuilder};

#[cfg(test)]
mod tests;

/// Bytes of a pattern as it is written, at the most: what a label may have.
pub const TEXT_BYTES_MAX: usize = 4096;

/// Compiled size of a pattern, and size of what it remembers while it searches, in bytes.
pub const COMPILED_BYTES_MAX: usize = 1 << 20;

/// Named groups of a pattern, at the most.
pub const GROUPS_MAX: usize = 64;

/// Every pattern that somebody has. Sources come and go with their containers, and each segment of the log names
/// them anew; what nobody has any more is dropped with the next new pattern.
static KNOWN: Mutex<Vec<Weak<Compiled>>> = Mutex::new(Vec::new());

/// Why a pattern cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternFault {
    /// It is no regular expression, or too large.
    #[error("{0:?} is no usable pattern")]
    Syntax(String, #[source] Box<regex::Error>),
    /// It would give no field.
    #[error("{0:?} names no group: write (?P<name>…) around what is to become a field")]
    NoGroup(String),
    /// It would give too many.
    #[error("the pattern names more than {GROUPS_MAX} groups")]
    Groups,
    /// It is too long.
    #[error("the pattern is longer than {TEXT_BYTES_MAX} bytes")]
    TooLong,
}

/// A pattern with named groups. Cloning shares it; two of the same text are equal.
#[derive(Clone)]
pub struct Pattern(Arc<Compiled>);

struct Compiled {
    text: String,
    /// Absent when the text is no pattern to this release: it matches nothing.
    regex: Option<Regex>,
    /// Number and name of each group.
    names: Vec<(usize, String)>,
    /// Where the groups of the last line were: kept, so that a line costs no memory of its own.
    spare: Mutex<Option<CaptureLocations>>,
}

impl Pattern {
    /// Compiles a pattern of bounded size with at least one named group.
    pub fn new(text: &str) -> Result<Self, PatternFault> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PatternFault::TooLong);
        }
        Self::shared(text, || {
            let compiled = compile(text)
                .map_err(|fault| PatternFault::Syntax(text.to_owned(), Box::new(fault)))?;
            match compiled.names.len() {
                0 => Err(PatternFault::NoGroup(text.to_owned())),
                1..=GROUPS_MAX => Ok(compiled),
                _ => Err(PatternFault::Groups),
            }
        })
    }

    /// A pattern that was usable when it was written down. If it no longer is, it matches nothing: the log must be
    /// readable all the same.
    #[must_use]
    pub fn stored(text: &str) -> Self {
        let lame = || Compiled {
            text: text.to_owned(),
            regex: None,
            names: Vec::new(),
            spare: Mutex::new(None),
        };
        Self::new(text).unwrap_or_else(|_| Self(Arc::new(lame())))
    }

    /// As it was written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Calls `found` with the name and the text of every group that took part, in the order of the groups; says
    /// whether the line matches.
    pub fn fields<'a>(&'a self, line: &'a str, mut found: impl FnMut(&'a str, &'a str)) -> bool {
        let Some(regex) = &self.0.regex else { return false };
        let mut places = self.0.take_spare().unwrap_or_else(|| regex.capture_locations());
        let matches = regex.captures_read(&mut places, line).is_some();
        if matches {
            for (number, name) in &self.0.names {
                let span = places.get(*number).and_then(|(start, end)| line.get(start..end));
                if let Some(text) = span {
                    found(name, text);
                }
            }
        }
        self.0.put_spare(places);
        matches
    }

    fn shared(
        text: &str,
        make: impl FnOnce() -> Result<Compiled, PatternFault>,
    ) -> Result<Self, PatternFault> {
        let find = |known: &[Weak<Compiled>]| {
            known.iter().filter_map(Weak::upgrade).find(|known| known.text == text)
        };
        let lock = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = find(&lock()) {
            return Ok(Self(known));
        }
        // Compiling takes its time: others need not wait for it.
        let made = Arc::new(make()?);
        let mut known = lock();
        if let Some(known) = find(&known) {
            return Ok(Self(known));
        }
        known.retain(|known| known.strong_count() > 0);
        known.push(Arc::downgrade(&made));
        Ok(Self(made))
    }
}

impl Compiled {
    /// Another thread may be using it: then a new one is made.
    fn take_spare(&self) -> Option<CaptureLocations> {
        self.spare.try_lock().ok()?.take()
    }

    fn put_spare(&self, places: CaptureLocations) {
        if let Ok(mut spare) = self.spare.try_lock() {
            *spare = Some(places);
        }
    }
}

fn compile(text: &str) -> Result<Compiled, regex::Error> {
    let regex = RegexBuilder::new(text)
        .size_limit(COMPILED_BYTES_MAX)
        .dfa_size_limit(COMPILED_BYTES_MAX)
        .build()?;
    let named = regex.capture_names().enumerate();
    let names = named.filter_map(|(number, name)| Some((number, name?.to_owned()))).collect();
    Ok(Compiled { text: text.to_owned(), regex: Some(regex), names, spare: Mutex::new(None) })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Pattern {}

impl std::fmt::Debug for Pattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Pattern").field(&self.0.text).finish()
    }
}
