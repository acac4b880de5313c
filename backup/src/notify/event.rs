//! What is told: one thing that happened to one job. Names of jobs come from labels that anybody may have set, so all of it
//! is made one harmless line each before it goes anywhere.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// Longest sentence, in characters.
const TEXT_CHARS_MAX: usize = 2000;

/// Longest name of a host or a job, in characters.
const NAME_CHARS_MAX: usize = 200;

/// Details of one event.
const DETAILS_MAX: usize = 32;

/// Longest name and value of a detail, in characters.
const KEY_CHARS_MAX: usize = 64;
const VALUE_CHARS_MAX: usize = 500;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A run made no backup.
    RunFailed,
    /// What had failed or was overdue works again.
    Recovered,
    /// There is no new backup although it was time for one.
    Overdue,
    /// A backup is unlike the one before: data is gone or became noise.
    Suspicious,
    /// A restored backup was not good.
    DrillFailed,
    /// What should have been forgotten or pruned was not.
    RetentionFailed,
    /// Labels or files say something that cannot be done.
    ConfigurationBroken,
    /// Somebody wants to know whether this arrives.
    Test,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::RunFailed,
        Self::Recovered,
        Self::Overdue,
        Self::Suspicious,
        Self::DrillFailed,
        Self::RetentionFailed,
        Self::ConfigurationBroken,
        Self::Test,
    ];

    /// As settings and documents name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::RunFailed => "run-failed",
            Self::Recovered => "recovered",
            Self::Overdue => "overdue",
            Self::Suspicious => "suspicious",
            Self::DrillFailed => "drill-failed",
            Self::RetentionFailed => "retention-failed",
            Self::ConfigurationBroken => "configuration-broken",
            Self::Test => "test",
        }
    }

    /// In words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::RunFailed => "backup failed",
            Self::Recovered => "backup works again",
            Self::Overdue => "backup overdue",
            Self::Suspicious => "backup suspicious",
            Self::DrillFailed => "drill failed",
            Self::RetentionFailed => "retention failed",
            Self::ConfigurationBroken => "configuration broken",
            Self::Test => "test",
        }
    }

    /// Whether somebody should look.
    #[must_use]
    pub fn is_alarm(self) -> bool {
        !matches!(self, Self::Recovered | Self::Test)
    }
}

/// One thing that happened. What a hook printed has no place in it: that may be anything, secrets included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: Timestamp,
    /// The machine.
    pub host: String,
    /// The job, such as a container or volume.
    pub job: String,
    /// What.
    pub kind: Kind,
    /// One sentence.
    pub text: String,
    /// More of it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

impl Event {
    /// The same in harmless lines of bounded length.
    #[must_use]
    pub fn plain(&self) -> Self {
        let details = self.details.iter().take(DETAILS_MAX);
        Self {
            time: self.time,
            host: plain(&self.host, NAME_CHARS_MAX),
            job: plain(&self.job, NAME_CHARS_MAX),
            kind: self.kind,
            text: plain(&self.text, TEXT_CHARS_MAX),
            details: details
                .map(|(key, value)| (plain(key, KEY_CHARS_MAX), plain(value, VALUE_CHARS_MAX)))
                .collect(),
        }
    }
}

/// One line without control characters, and without those that turn the direction of what follows; cut at `chars_max`.
#[must_use]
pub(crate) fn plain(text: &str, chars_max: usize) -> String {
    let visible = text.chars().filter(|character| !turns(*character));
    let mut line: String = visible
        .map(|character| if is_break(character) { ' ' } else { character })
        .take(chars_max + 1)
        .collect();
    if line.chars().count() > chars_max {
        line = line.chars().take(chars_max.saturating_sub(1)).collect();
        line.push('…');
    }
    line.trim().to_owned()
}

/// Control characters, and the separators that some programs take for ends of lines.
pub(super) fn is_break(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// Marks, embeddings, overrides and isolates of Unicode's bidirectional algorithm (UAX 9): they let a text seem another.
pub(super) fn turns(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}
