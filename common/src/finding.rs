//! What a `doctor` found: one line for people or one JSON line each, with what to do about it.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

#[cfg(test)]
mod tests;

/// How good a finding is. A later one is worse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Worth to know.
    Note,
    /// It works, but with less than it could have, or not everywhere.
    Warn,
    /// The tool will not do its work.
    Fail,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: `engine`, `capability SYS_ADMIN`, `container NAME`…
    pub name: String,
    /// How good it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    /// A finding that needs no advice.
    #[must_use]
    pub fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, found: found.into(), advice: None }
    }

    /// A finding with what to do about it.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        status: Status,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (name, found) = (name.into(), found.into());
        Self { name, status, found, advice: Some(advice.into()) }
    }
}

/// Writes findings, as JSON Lines or for people, and returns the worst status.
pub fn write(findings: &[Finding], json: bool, out: &mut impl Write) -> io::Result<Status> {
    for finding in findings {
        if json {
            serde_json::to_writer(&mut *out, finding)?;
            out.write_all(b"\n")?;
        } else {
            writeln!(out, "{:<4}  {}: {}", finding.status, finding.name, finding.found)?;
            if let Some(advice) = &finding.advice {
                writeln!(out, "      → {advice}")?;
            }
        }
    }
    Ok(findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok))
}
