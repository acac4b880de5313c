//! Texts with placeholders in braces: `{project}-{service}`. What a placeholder stands for is the caller's.

use std::borrow::Cow;

#[cfg(test)]
mod tests;

/// A placeholder that is not one, or a brace without its other half.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// There is no such placeholder.
    #[error("{{{name}}} is no placeholder; there are {known}")]
    Unknown {
        /// What stands between the braces.
        name: String,
        /// What could stand there.
        known: String,
    },
    /// An opening brace without a closing one, or the other way round.
    #[error("`{0}` has a brace without its other half")]
    Brace(String),
}

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<P> {
    /// As it is.
    Text(String),
    /// What is filled in.
    Placeholder(P),
}

/// A text with placeholders of the kind `P`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<P>(Vec<Part<P>>);

impl<P: Copy + PartialEq> Template<P> {
    /// Reads it; `known` has every placeholder by its name. Braces have no other meaning and cannot be escaped.
    pub fn parse(text: &str, known: &[(&str, P)]) -> Result<Self, TemplateError> {
        let unbalanced = || TemplateError::Brace(text.to_owned());
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if before.contains('}') {
                return Err(unbalanced());
            }
            let (name, after) = after.split_once('}').ok_or_else(unbalanced)?;
            if !before.is_empty() {
                parts.push(Part::Text(before.to_owned()));
            }
            let found = known.iter().find(|(word, _)| *word == name);
            let (_, placeholder) = found.ok_or_else(|| unknown(name, known))?;
            parts.push(Part::Placeholder(*placeholder));
            rest = after;
        }
        if rest.contains('}') {
            return Err(unbalanced());
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_owned()));
        }
        Ok(Self(parts))
    }

    /// Its pieces, in order.
    #[must_use]
    pub fn parts(&self) -> &[Part<P>] {
        &self.0
    }

    /// Whether a placeholder is in it.
    #[must_use]
    pub fn has(&self, placeholder: P) -> bool {
        self.0.contains(&Part::Placeholder(placeholder))
    }

    /// Filled in.
    #[must_use]
    pub fn expand<'v>(&self, value: impl Fn(P) -> Cow<'v, str>) -> String {
        let mut out = String::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Placeholder(placeholder) => out.push_str(&value(*placeholder)),
            }
        }
        out
    }
}

fn unknown<P>(name: &str, known: &[(&str, P)]) -> TemplateError {
    let mut names: Vec<_> = known.iter().map(|(word, _)| format!("{{{word}}}")).collect();
    let last = names.pop().unwrap_or_default();
    let known = if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) };
    TemplateError::Unknown { name: name.to_owned(), known }
}
