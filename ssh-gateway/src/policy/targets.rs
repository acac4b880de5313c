//! Which containers a rule is about.

use chores_common::engine::ListedContainer;

use crate::authorized_keys::{PatternList, is_match};
use crate::login;

/// Most labels, and most Compose projects or services, of one rule.
pub(super) const TARGETS_MAX: usize = 64;

/// Conditions, all of which a container must meet.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Targets {
    /// Its name; any when `None`.
    pub names: Option<PatternList>,
    /// Each of these about its labels.
    pub labels: Vec<LabelPattern>,
    /// One of these projects or services; any or none at all when empty.
    pub compose: Vec<ComposePattern>,
}

/// `KEY=VALUE` or `!KEY=VALUE`; the value may have `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelPattern {
    is_negated: bool,
    key: String,
    value: String,
}

/// `PROJECT` or `PROJECT~SERVICE`; both may have `*` and `?`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComposePattern {
    project: String,
    service: Option<String>,
}

impl Targets {
    /// Whether a container meets all of them.
    #[must_use]
    pub fn matches(&self, container: &ListedContainer) -> bool {
        let Self { names, labels, compose } = self;
        names.as_ref().is_none_or(|names| names.matches(&container.name))
            && labels.iter().all(|label| label.matches(container))
            && (compose.is_empty() || compose.iter().any(|place| place.matches(container)))
    }
}

impl LabelPattern {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (is_negated, pair) = text.strip_prefix('!').map_or((false, text), |pair| (true, pair));
        let wrong = || {
            format!("{text:?} is no label: give KEY=VALUE or !KEY=VALUE; a value may have * and ?")
        };
        let (key, value) = pair.split_once('=').ok_or_else(wrong)?;
        // A pattern, a blank or a second sign there would look as if it worked.
        let is_key = !key.is_empty() && !key.contains(['*', '?', '!', ' ', '\t']);
        if !is_key || value.trim() != value || value.starts_with('=') {
            return Err(wrong());
        }
        Ok(Self { is_negated, key: key.to_owned(), value: value.to_owned() })
    }

    /// Whether it only takes containers away.
    #[must_use]
    pub fn is_negated(&self) -> bool {
        self.is_negated
    }

    fn matches(&self, container: &ListedContainer) -> bool {
        let its = container.labels.get(&self.key);
        its.is_some_and(|its| is_match(&self.value, its)) != self.is_negated
    }
}

impl ComposePattern {
    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_part = |part: &str| {
            let is_plain = |byte: u8| {
                byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'*' | b'?')
            };
            !part.is_empty() && part.bytes().all(is_plain)
        };
        let (project, service) = match text.split_once('~') {
            Some((project, service)) => (project, Some(service)),
            None => (text, None),
        };
        if is_part(project) && service.is_none_or(is_part) {
            return Ok(Self { project: project.to_owned(), service: service.map(str::to_owned) });
        }
        Err(format!(
            "{text:?} is no place in Compose: give PROJECT or PROJECT~SERVICE; both may have * and ?"
        ))
    }

    fn matches(&self, container: &ListedContainer) -> bool {
        let Some(project) = login::compose_project(container) else { return false };
        is_match(&self.project, project)
            && self.service.as_ref().is_none_or(|wanted| {
                login::compose_service(container).is_some_and(|its| is_match(wanted, its))
            })
    }
}
