//! Which snapshots of a source are kept, as an operator writes it in one line: `last=7,daily=14,within=30d` (pure).

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chores_common::quantity;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The words there are, and the option of `forget` that each is.
const WORDS: [&str; 7] = ["last", "hourly", "daily", "weekly", "monthly", "yearly", "within"];

/// Rules of `forget`; at least one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Retain(Vec<(&'static str, String)>);

/// A text that says nothing about what is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{text}` does not say what is kept, since {reason}: write for example last=7,daily=14,monthly=12 or within=30d"
)]
pub struct RetainError {
    text: String,
    reason: String,
}

impl FromStr for Retain {
    type Err = RetainError;

    fn from_str(text: &str) -> Result<Self, RetainError> {
        let fail = |reason: String| RetainError { text: text.to_owned(), reason };
        let mut rules: Vec<(&'static str, String)> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let (word, value) =
                part.split_once('=').ok_or_else(|| fail(format!("`{part}` has no `=`")))?;
            let word = WORDS.into_iter().find(|known| *known == word.trim());
            let word = word.ok_or_else(|| fail(format!("`{part}` is no rule")))?;
            let value = value.trim();
            let is_well = if word == "within" {
                quantity::duration(value).is_ok_and(|time| time > Duration::ZERO)
            } else {
                value.parse().is_ok_and(|count: u32| count > 0)
            };
            if !is_well {
                return Err(fail(format!("`{part}` is no number of at least 1")));
            }
            if rules.iter().any(|(known, _)| *known == word) {
                return Err(fail(format!("`{word}` is there twice")));
            }
            rules.push((word, value.to_owned()));
        }
        Ok(Self(rules))
    }
}

impl Retain {
    /// The options of `forget`.
    pub fn options(&self) -> impl Iterator<Item = String> {
        self.0.iter().map(|(word, value)| format!("--keep-{word}={value}"))
    }
}

impl fmt::Display for Retain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rules: Vec<_> = self.0.iter().map(|(word, value)| format!("{word}={value}")).collect();
        f.pad(&rules.join(","))
    }
}

impl TryFrom<String> for Retain {
    type Error = RetainError;

    fn try_from(text: String) -> Result<Self, RetainError> {
        text.parse()
    }
}

impl From<Retain> for String {
    fn from(retain: Retain) -> Self {
        retain.to_string()
    }
}
