//! Will it work here? Each probe asks one question of this machine or the store, says what it found and
//! what to do. Nothing is changed but one small object below `doctor/`, which is removed again.

mod decide;
mod probe;

use std::io::{self, Write};
use std::path::Path;

use chores_common::finding::Status;
use chores_common::object::{Location, RemoteSettings, S3Settings};
use chores_common::shutdown::Shutdown;
use serde::Serialize;
use tokio::runtime::Handle;

use crate::keys::KeyRing;

/// What to look at.
#[derive(Clone, Copy, Debug)]
pub struct DoctorOptions<'a> {
    /// The repository, where one is named.
    pub location: Option<&'a Location>,
    /// How to reach it.
    pub settings: &'a S3Settings,
    /// How to reach it where it is none of S3.
    pub remote: &'a RemoteSettings,
    /// What opens it, where it is encrypted.
    pub keys: &'a KeyRing,
    /// The engine in the forms of `DOCKER_HOST`; its default socket when absent.
    pub engine_host: Option<&'a str>,
    /// The image that workers are started from, where one is named.
    pub worker_image: Option<&'a str>,
    /// Containers of which drills are ordered.
    pub drilled: &'a [String],
    /// Directory of caches, where there is one.
    pub cache: Option<&'a Path>,
    /// JSON Lines instead of text.
    pub json: bool,
    /// The request to stop.
    pub shutdown: &'a Shutdown,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: &'static str,
    /// How good it is.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: Option<&'static str>,
}

impl Finding {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), advice: None }
    }

    fn new(
        name: &'static str,
        status: Status,
        found: impl Into<String>,
        advice: &'static str,
    ) -> Self {
        Self { name, status, found: found.into(), advice: Some(advice) }
    }
}

/// Runs every probe, writes each finding as it comes and returns whether nothing fails. `runtime` drives
/// the requests; call it from outside of it.
pub fn doctor(
    options: &DoctorOptions<'_>,
    runtime: &Handle,
    out: &mut impl Write,
) -> io::Result<bool> {
    let mut counts = Counts::default();
    let mut tell = |findings: Vec<Finding>| {
        findings.iter().try_for_each(|finding| {
            counts.count(finding.status);
            if options.json { write_json(finding, out) } else { write_text(finding, out) }
        })
    };
    if let Some(location) = options.location {
        tell(probe::repository(location, options, runtime))?;
    }
    if let Some(cache) = options.cache {
        tell(vec![probe::cache(cache)])?;
    }
    tell(probe::process())?;
    tell(probe::engine(options.engine_host, options.worker_image, runtime))?;
    let well = counts.fail == 0;
    if options.json {
        let summary = Summary { event: "summary", ok: well, warn: counts.warn, fail: counts.fail };
        line(&summary, out)?;
    } else if well {
        writeln!(out, "all that is needed works (warnings: {})", counts.warn)?;
    } else {
        writeln!(out, "not well (failures: {}, warnings: {})", counts.fail, counts.warn)?;
    }
    Ok(well)
}

#[derive(Debug, Default)]
struct Counts {
    warn: u64,
    fail: u64,
}

impl Counts {
    fn count(&mut self, status: Status) {
        match status {
            Status::Ok | Status::Note => (),
            Status::Warn => self.warn += 1,
            Status::Fail => self.fail += 1,
        }
    }
}

#[derive(Serialize)]
struct Summary {
    event: &'static str,
    ok: bool,
    warn: u64,
    fail: u64,
}

#[derive(Serialize)]
struct FindingLine<'a> {
    event: &'static str,
    name: &'a str,
    status: Status,
    found: &'a str,
    advice: Option<&'a str>,
}

fn write_text(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:<4}  {}: {}", finding.status, finding.name, finding.found)?;
    finding.advice.map_or(Ok(()), |advice| writeln!(out, "      → {advice}"))
}

fn write_json(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    let Finding { name, status, found, advice } = finding;
    let (status, advice) = (*status, *advice);
    line(&FindingLine { event: "finding", name, status, found, advice }, out)
}

fn line(value: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests;
