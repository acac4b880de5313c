//! Will it work here? Looks at the engine, at every container's log and at the state directory, says what was found
//! and what to do. Nothing is changed but one empty file in the state directory, which is removed again.

mod decide;
mod probe;

use std::fmt;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;
use tokio::runtime::Handle;

use crate::engine_source::EngineSettings;

#[cfg(test)]
mod tests;

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct DoctorOptions<'a> {
    /// The engine; `None` when no container is to be shipped.
    pub engine: Option<&'a EngineSettings>,
    /// The state directory, where one is named.
    pub state: Option<&'a Path>,
    /// Bytes that the write-ahead log may take.
    pub wal_bytes_max: u64,
    /// JSON Lines instead of text.
    pub json: bool,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Worth to know.
    Note,
    /// Lines can be lost, or a disk can fill.
    Warn,
    /// Nothing can be shipped.
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
    /// What was looked at: `engine`, `files`, `state`, or `container NAME`.
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
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), status: Status::Ok, found: found.into(), advice: None }
    }

    fn new(
        name: impl Into<String>,
        status: Status,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (name, found) = (name.into(), found.into());
        Self { name, status, found, advice: Some(advice.into()) }
    }
}

/// Looks, writes every finding, and returns the worst of them. `runtime` drives requests; call it from outside.
pub fn doctor(
    options: &DoctorOptions<'_>,
    runtime: &Handle,
    out: &mut impl Write,
) -> io::Result<Status> {
    let mut findings = Vec::new();
    if let Some(settings) = options.engine {
        findings.extend(probe::engine(settings, runtime));
    }
    findings.push(match options.state {
        Some(state) => probe::state(state, options.wal_bytes_max),
        None => decide::no_state(),
    });
    let worst = findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok);
    for finding in &findings {
        if options.json { write_json(finding, out)? } else { write_text(finding, out)? }
    }
    Ok(worst)
}

fn write_text(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:<4}  {}: {}", finding.status, finding.name, finding.found)?;
    finding.advice.as_ref().map_or(Ok(()), |advice| writeln!(out, "      → {advice}"))
}

fn write_json(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, finding)?;
    out.write_all(b"\n")
}
