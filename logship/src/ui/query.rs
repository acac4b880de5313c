//! What a browser asks for: which lines, and which page of them.

use std::collections::BTreeSet;

use regex::bytes::{Regex, RegexBuilder};

use super::level::Level;
use super::line::{Key, Line, STREAMS};
use crate::archive::moment;
use crate::record::Control;

#[cfg(test)]
mod tests;

/// Bytes of a text or pattern that is searched for.
const SEARCH_BYTES_MAX: usize = 1024;

/// Memory of a compiled pattern, and of its automaton while it searches, in bytes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Sources that can be chosen at once.
const SOURCES_MAX: usize = 100;

/// Lines of a page, unless asked.
const LINES_DEFAULT: usize = 200;

/// Lines of a page at the most.
const LINES_MAX: usize = 1000;

/// What cannot be asked for; the sentence is shown to whoever asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct QueryError(String);

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Query {
    /// Of these containers and paths; of all when empty.
    sources: BTreeSet<String>,
    /// Of these streams; of all when empty.
    streams: BTreeSet<String>,
    /// Of these levels; of all when empty.
    levels: BTreeSet<Level>,
    /// That match.
    pattern: Option<Regex>,
}

/// Which page of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// Where it is.
    pub place: Place,
    /// Lines at the most.
    pub limit: usize,
}

/// Where a page is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The youngest lines before it.
    Before(Key),
    /// The oldest lines after it.
    After(Key),
    /// This line only.
    At(Key),
}

/// The query of a URL.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Which lines.
    pub query: Query,
    /// Which page; `None`: the youngest.
    place: Option<Place>,
    limit: Option<usize>,
}

impl Asked {
    /// The page; `now` is the time of the clock, in nanoseconds since 1970.
    #[must_use]
    pub fn page(&self) -> Page {
        let place = self.place.unwrap_or(Place::Before(Key::at(i64::MAX)));
        Page { place, limit: self.limit.unwrap_or(LINES_DEFAULT) }
    }

    /// Reads the query of a URL. Every unknown word is a fault: a filter that is not understood must not show
    /// everything.
    pub fn parse(text: &str, now: i64) -> Result<Self, QueryError> {
        let mut asked = Self::default();
        let (mut search, mut is_regex, mut is_exact) = (String::new(), false, false);
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            match name.as_ref() {
                "source" => {
                    asked.query.sources.insert(value.into_owned());
                }
                "stream" => {
                    let known = STREAMS.iter().any(|stream| stream.name() == value);
                    if !known {
                        return Err(QueryError(format!("{value:?} is no stream")));
                    }
                    asked.query.streams.insert(value.into_owned());
                }
                "level" => {
                    let known = Level::ALL.into_iter().find(|level| level.name() == value);
                    let level =
                        known.ok_or_else(|| QueryError(format!("{value:?} is no level")))?;
                    asked.query.levels.insert(level);
                }
                "q" => search = value.into_owned(),
                "regex" => is_regex = value == "1",
                "case" => is_exact = value == "1",
                "before" => asked.place = Some(Place::Before(key(&value, now)?)),
                "after" => asked.place = Some(Place::After(key(&value, now)?)),
                "at" => asked.place = Some(Place::At(key(&value, now)?)),
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LINES_MAX).contains(limit));
                    let fault = || QueryError(format!("limit is 1 to {LINES_MAX}"));
                    asked.limit = Some(limit.ok_or_else(fault)?);
                }
                _ => return Err(QueryError(format!("{name:?} cannot be asked for"))),
            }
        }
        if asked.query.sources.len() > SOURCES_MAX {
            return Err(QueryError(format!("more than {SOURCES_MAX} sources are chosen")));
        }
        asked.query.pattern = pattern(&search, is_regex, is_exact)?;
        Ok(asked)
    }
}

/// A place as it was given in an answer, or a time.
fn key(text: &str, now: i64) -> Result<Key, QueryError> {
    if let Some(key) = Key::parse(text) {
        return Ok(key);
    }
    moment(text, now).map(Key::at).map_err(|error| QueryError(error.to_string()))
}

/// Searching takes time that grows with the length of the lines only, whatever the pattern.
fn pattern(search: &str, is_regex: bool, is_exact: bool) -> Result<Option<Regex>, QueryError> {
    if search.is_empty() {
        return Ok(None);
    }
    if search.len() > SEARCH_BYTES_MAX {
        return Err(QueryError(format!("it is longer than {SEARCH_BYTES_MAX} bytes")));
    }
    let text = if is_regex { search.to_owned() } else { regex::escape(search) };
    RegexBuilder::new(&text)
        .case_insensitive(!is_exact)
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX)
        .build()
        .map(Some)
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => {
                QueryError("the pattern is too large: repeat less".to_owned())
            }
            error => QueryError(format!("the pattern cannot be used: {error}")),
        })
}

impl Query {
    /// Whether lines of a source are wanted at all.
    #[must_use]
    pub fn takes_source(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.contains(source)
    }

    /// Whether a record is wanted. A gap is, whatever is searched for: it could have been there. What else happened
    /// to a source is, unless lines are searched for.
    #[must_use]
    pub fn takes(&self, line: &Line<'_>) -> bool {
        if !self.takes_source(line.source) {
            return false;
        }
        match line.control {
            Some(Control::Gap(_)) => return true,
            Some(_) => {
                return self.pattern.is_none() && self.levels.is_empty() && self.streams.is_empty();
            }
            None => {}
        }
        (self.streams.is_empty() || self.streams.contains(line.stream))
            && (self.levels.is_empty()
                || Level::of(line.text).is_some_and(|level| self.levels.contains(&level)))
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(line.text))
    }
}

impl Page {
    /// Whether a record of this key may be on the page.
    #[must_use]
    pub fn takes(&self, key: Key) -> bool {
        match self.place {
            Place::Before(end) => key < end,
            Place::After(start) => key > start,
            Place::At(place) => key == place,
        }
    }
}
