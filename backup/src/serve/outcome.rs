//! What the end of a run means (pure).
//!
//! Its exit code and the summary it gives in JSON are looked at, and nothing else that it said: texts of commands in containers
//! are in there, which are for the log of this host and for nobody that is notified.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::text;

#[cfg(test)]
mod tests;

/// What a prune counts in its summary that makes it warn.
const MET: [&str; 6] = [
    "damaged_packs",
    "damaged_indexes",
    "unread_snapshots",
    "packs_written_over",
    "refused_objects",
    "unlisted_folders",
];

/// How a run ended, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should.
    Good,
    /// The same, and something was skipped or torn.
    Warnings,
    /// There is a backup, so unlike those before that a person should look.
    Suspicious,
    /// Nothing is forgotten, since something is odd.
    Frozen,
    /// What was tried is not good.
    NotGood,
    /// Not done.
    Failed,
    /// Not done, since what was asked for makes no sense: the same would happen again.
    Unusable,
    /// It took too long and was ended.
    TimedOut,
    /// This program was asked to stop.
    Interrupted,
}

impl Verdict {
    /// Whether a backup that ended so may be relied on.
    #[must_use]
    pub fn is_good(self) -> bool {
        matches!(self, Self::Good | Self::Warnings)
    }

    /// Whether people have to hear of a run for this that ended so. A prune that warns has found damage.
    #[must_use]
    pub fn is_bad(self, purpose: Purpose) -> bool {
        match self {
            Self::NotGood | Self::Failed | Self::Unusable | Self::TimedOut => true,
            Self::Warnings => purpose == Purpose::Prune,
            Self::Good | Self::Suspicious | Self::Frozen | Self::Interrupted => false,
        }
    }

    /// Whether the same may succeed when it is tried again.
    #[must_use]
    pub fn may_pass(self) -> bool {
        matches!(self, Self::Failed | Self::TimedOut)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Good => "good",
            Self::Warnings => "warnings",
            Self::Suspicious => "suspicious",
            Self::Frozen => "frozen",
            Self::NotGood => "not good",
            Self::Failed => "failed",
            Self::Unusable => "unusable",
            Self::TimedOut => "timed out",
            Self::Interrupted => "interrupted",
        })
    }
}

/// What a run was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Purpose {
    /// A backup.
    Save,
    /// Snapshots that need not be kept.
    Retain,
    /// A trial of a backup.
    Drill,
    /// Everything in the repository.
    Check,
    /// What no snapshot needs.
    Prune,
    /// Containers that a killed run left paused or stopped.
    Resume,
    /// What the repository has.
    Learn,
}

/// Why a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Code(i32),
    /// By a signal that was not ours.
    Signal(i32),
    /// Its time was up.
    TimedOut(Duration),
    /// Its time was up, and the kernel does not end it though it was killed: it waits for a disk or for another machine.
    Stuck(Duration),
    /// This program was asked to stop.
    Interrupted,
    /// It could not be started, and why.
    NotStarted(String),
}

/// A run that has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Why.
    pub end: End,
    /// Its summary, where it gave one.
    pub summary: Option<Value>,
}

/// What that means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence.
    pub text: String,
    /// The snapshot that was made.
    pub snapshot: Option<String>,
}

/// Judges a run.
#[must_use]
pub fn judge(purpose: Purpose, ended: &Ended) -> Judged {
    let plain = |verdict, text: String| Judged { verdict, text, snapshot: None };
    let code = match &ended.end {
        End::Interrupted => {
            return plain(Verdict::Interrupted, "it was interrupted".to_owned());
        }
        End::Code(code) => *code,
        End::Signal(signal) => {
            return plain(Verdict::Failed, format!("it was killed by signal {signal}"));
        }
        End::TimedOut(limit) => {
            let limit = text::duration(*limit);
            return plain(
                Verdict::TimedOut,
                format!("it was not done after {limit}, the most that it may take, and was ended"),
            );
        }
        End::Stuck(limit) => {
            let limit = text::duration(*limit);
            return plain(
                Verdict::TimedOut,
                format!(
                    "it was not done after {limit}, the most that it may take, and was killed, but does not end: what it reads or writes hangs"
                ),
            );
        }
        End::NotStarted(problem) => {
            return plain(Verdict::Failed, format!("it could not be started: {problem}"));
        }
    };
    let log = "the log of this host says why";
    if code == 2 {
        return plain(
            Verdict::Unusable,
            format!("what was asked for makes no sense (exit code 2): {log}"),
        );
    }
    let outcome = ended.summary.as_ref().and_then(|summary| summary.get("outcome")?.as_str());
    match (purpose, code) {
        (Purpose::Save, 0 | 3) => saved(ended.summary.as_ref(), code),
        (Purpose::Drill, 0) if outcome == Some("good") => {
            plain(Verdict::Good, "it is good".to_owned())
        }
        (Purpose::Drill, 1) if outcome == Some("failed") => {
            plain(Verdict::NotGood, format!("it cannot be restored as it should: {log}"))
        }
        (Purpose::Check, 1) if ended.summary.is_some() => {
            plain(Verdict::NotGood, format!("something in the repository is damaged: {log}"))
        }
        (Purpose::Check, 3) => plain(
            Verdict::Warnings,
            "it is sound as far as that can be said here: the log of this host has the rest"
                .to_owned(),
        ),
        (Purpose::Prune, 3) if ended.summary.is_some() => {
            plain(Verdict::Warnings, found(ended.summary.as_ref()))
        }
        (Purpose::Retain, 3) => plain(
            Verdict::Frozen,
            "nothing is forgotten, since its newest snapshot is suspicious, a clock is wrong, or another machine saves under its name"
                .to_owned(),
        ),
        (
            Purpose::Retain | Purpose::Check | Purpose::Prune | Purpose::Resume | Purpose::Learn,
            0,
        ) => plain(Verdict::Good, "done".to_owned()),
        _ => plain(Verdict::Failed, format!("it failed (exit code {code}): {log}")),
    }
}

/// What a prune has met, by the numbers of its summary.
fn found(summary: Option<&Value>) -> String {
    let number = |name: &str| summary.and_then(|summary| summary.get(name)?.as_u64());
    let met: Vec<_> = MET
        .into_iter()
        .filter_map(|name| Some((name, number(name).filter(|number| *number > 0)?)))
        .map(|(name, number)| format!("{} {number}", name.replace('_', " ")))
        .collect();
    let met = if met.is_empty() { String::new() } else { format!(" ({})", met.join(", ")) };
    format!("it met what a person should look at{met}: the log of this host says what to do")
}

/// A backup is what its summary names a snapshot for, and nothing else.
fn saved(summary: Option<&Value>, code: i32) -> Judged {
    let field = |name: &str| summary.and_then(|summary| summary.get(name));
    let snapshot = field("snapshot").and_then(Value::as_str).map(str::to_owned);
    let is_failed = field("state").and_then(Value::as_str) == Some("failed");
    let is_suspicious = field("suspicious").and_then(Value::as_bool) == Some(true);
    let Some(id) = snapshot.filter(|_| !is_failed) else {
        let text = format!("it ended with exit code {code} and names no snapshot that it has made");
        return Judged { verdict: Verdict::Failed, text, snapshot: None };
    };
    let short: String = id.chars().take(8).collect();
    let count = field("warning_count").and_then(Value::as_u64).unwrap_or_default();
    let (verdict, text) = if is_suspicious {
        (
            Verdict::Suspicious,
            format!(
                "snapshot {short} is so unlike those before that a person should look: nothing older is forgotten"
            ),
        )
    } else if code == 0 {
        (Verdict::Good, format!("snapshot {short}"))
    } else {
        (Verdict::Warnings, format!("snapshot {short} with {count} warnings"))
    };
    Judged { verdict, text, snapshot: Some(id) }
}
