//! Will it work here? Looks at the engine, at every container's log and at the state directory, says what was found
//! and what to do. Nothing is changed but one empty file in the state directory, which is removed again.

mod decide;
mod probe;

use std::io::{self, Write};
use std::path::Path;

use chores_common::finding::{self, Status};
use tokio::runtime::Handle;

use crate::engine_source::EngineSettings;
use crate::rule::FilesRule;

#[cfg(test)]
mod tests;

/// What to look at.
#[derive(Debug, Clone, Copy)]
pub struct DoctorOptions<'a> {
    /// The engine; `None` when no container is to be shipped.
    pub engine: Option<&'a EngineSettings>,
    /// Files that are shipped.
    pub files: &'a [FilesRule],
    /// The state directory, where one is named.
    pub state: Option<&'a Path>,
    /// Bytes that the write-ahead log may take.
    pub wal_bytes_max: u64,
    /// JSON Lines instead of text.
    pub json: bool,
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
    for rule in options.files {
        findings.extend(probe::files(rule));
    }
    for rule in options.files.iter().filter(|rule| rule.rotate.is_some()) {
        findings.extend(probe::rotation(rule, runtime));
    }
    findings.push(match options.state {
        Some(state) => probe::state(state, options.wal_bytes_max),
        None => decide::no_state(),
    });
    finding::write(&findings, options.json, out)
}
