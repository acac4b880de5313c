//! What an operator wants of sources: which ones, and what is to be done to their lines.

use std::collections::BTreeMap;
use std::sync::Arc;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};

use crate::encode::fields::KEYS;
use crate::process::ProcessSettings;
use crate::rotation::Wishes;
use crate::source::Parse;

#[cfg(test)]
mod tests;

/// Fields that are added to a record, at the most.
pub const FIELDS_MAX: usize = 32;

/// Bytes of the name of such a field.
pub const FIELD_NAME_BYTES_MAX: usize = 64;

/// Bytes of its value.
pub const FIELD_VALUE_BYTES_MAX: usize = 1024;

/// How long a source is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Until the shutdown.
    Follow,
    /// To the end of what is there.
    Once,
}

/// Globs over names; `*` matches everything, `/` included.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    set: GlobSet,
    texts: Vec<String>,
}

impl Patterns {
    /// From globs.
    pub fn new(texts: &[String]) -> Result<Self, globset::Error> {
        let mut set = GlobSetBuilder::new();
        for text in texts {
            set.add(glob(text)?);
        }
        Ok(Self { set: set.build()?, texts: texts.to_vec() })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether one matches.
    #[must_use]
    pub fn matches(&self, name: &str) -> bool {
        self.set.is_match(name)
    }

    /// As they were written.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

/// One glob over names.
pub fn glob(text: &str) -> Result<Glob, globset::Error> {
    GlobBuilder::new(text).literal_separator(false).build()
}

/// What is done to the lines of a source.
#[derive(Debug, Clone, Default)]
pub struct LineRule {
    /// How sinks take lines apart.
    pub parse: Parse,
    /// What happens before the log.
    pub process: Arc<ProcessSettings>,
    /// Added to every record.
    pub fields: BTreeMap<String, String>,
    /// Names of the sinks; all of them when absent.
    pub sinks: Option<Vec<String>>,
}

/// Containers of the engine, and what is done to them. The first rule that takes a container is the one.
#[derive(Debug, Clone, Default)]
pub struct EngineRule {
    /// Where it stands, for people: `source 1`.
    pub name: String,
    /// Names or images; all containers when empty.
    pub include: Patterns,
    /// Names or images that are left out.
    pub exclude: Patterns,
    /// Labels that a container must have, some of them with a value.
    pub labels: Vec<(String, Option<String>)>,
    /// Labels of the container that become fields of its records.
    pub label_fields: Vec<String>,
    /// What is done.
    pub lines: LineRule,
}

impl EngineRule {
    /// Whether it is for a container.
    #[must_use]
    pub fn takes(&self, name: &str, image: &str, labels: &BTreeMap<String, String>) -> bool {
        let among = |patterns: &Patterns| patterns.matches(name) || patterns.matches(image);
        let has = |(key, wanted): &(String, Option<String>)| {
            labels
                .get(key)
                .is_some_and(|value| wanted.as_ref().is_none_or(|wanted| wanted == value))
        };
        (self.include.is_empty() || among(&self.include))
            && !among(&self.exclude)
            && self.labels.iter().all(has)
    }
}

/// Where a file that was there before the first start is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FileStart {
    /// From its first byte.
    #[default]
    Beginning,
    /// From its end.
    End,
}

/// Files, and what is done to them.
#[derive(Debug, Clone, Default)]
pub struct FilesRule {
    /// Where it stands, for people: `source 1`.
    pub name: String,
    /// Absolute globs; `*` stops at `/`, `**` does not.
    pub paths: Vec<String>,
    /// Globs of paths that are left out.
    pub exclude: Vec<String>,
    /// Where to begin.
    pub start: FileStart,
    /// What is done.
    pub lines: LineRule,
    /// How they are rotated; `None`: not at all.
    pub rotate: Option<Wishes>,
}

/// One `[[source]]`.
#[derive(Debug, Clone)]
pub enum SourceRule {
    /// Containers.
    Engine(EngineRule),
    /// Files.
    Files(FilesRule),
}

impl SourceRule {
    /// What is done to its lines.
    #[must_use]
    pub fn lines(&self) -> &LineRule {
        match self {
            Self::Engine(rule) => &rule.lines,
            Self::Files(rule) => &rule.lines,
        }
    }

    /// The same, to be changed.
    pub fn lines_mut(&mut self) -> &mut LineRule {
        match self {
            Self::Engine(rule) => &mut rule.lines,
            Self::Files(rule) => &mut rule.lines,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Engine(rule) => &rule.name,
            Self::Files(rule) => &rule.name,
        }
    }
}

/// Says what is wrong with a field that is to be added to records.
pub fn field_fault(name: &str, value: &str) -> Option<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > FIELD_NAME_BYTES_MAX || !name.bytes().all(is_plain) {
        return Some(format!(
            "{name:?} is no field name: give up to {FIELD_NAME_BYTES_MAX} letters, digits, `_`, `-` and `.`"
        ));
    }
    if KEYS.contains(&name) {
        return Some(format!("every record has a field {name} already: choose another name"));
    }
    if value.len() > FIELD_VALUE_BYTES_MAX {
        return Some(format!("the value of {name} is longer than {FIELD_VALUE_BYTES_MAX} bytes"));
    }
    None
}
