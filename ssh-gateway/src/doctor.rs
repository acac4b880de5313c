//! Will it work here? Looks at this process, the machine, the engine and every running container, says what is native
//! and what is degraded, why, and which flag mends it. With a container it is entered too, and what a program finds
//! there is compared with what the engine's own exec gives it.
//!
//! ```text
//! facts → decide → findings ← compare ← hop
//! ```

mod compare;
mod decide;
mod facts;
mod hop;

use std::fmt;
use std::io::{self, Write};

use chores_common::engine::{
    Container, ContainerFilter, ContainerState, Engine, EngineError, EngineErrorKind, EngineVersion,
};
use serde::Serialize;
use tokio::time::timeout;

use crate::config::EnterConfig;
use crate::container::bundle::Bundles;

pub use hop::Helper;

#[cfg(test)]
mod tests;

/// The engine answers everything within this. It can hang for ever over one container.
const ENGINE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Running containers that are looked at.
const CONTAINERS_MAX: usize = 200;

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// As it should be.
    Ok,
    /// Worth to know.
    Note,
    /// Something is degraded, or some containers cannot be entered.
    Warn,
    /// Nothing can be entered.
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

/// Looks, and with a helper also enters `container`. Needs a tokio runtime.
pub async fn examine(
    config: &EnterConfig,
    container: Option<&str>,
    helper: Option<Helper>,
) -> Vec<Finding> {
    let (engine, version, containers) = match ask(config).await {
        Ok(answer) => answer,
        Err(error) => {
            let mut findings = vec![decide::no_engine(&error)];
            findings.extend(decide::surroundings(config, &facts::Facts::read(config, &[], None)));
            return findings;
        }
    };
    let bundles = Bundles::open(&config.bundles, config.engine_socket().as_deref());
    let mut findings = vec![decide::engine(&version)];
    let facts = facts::Facts::read(config, &containers, Some(&bundles));
    findings.extend(decide::surroundings(config, &facts));
    findings.extend(decide::containers(config, &facts));
    if let (Some(name), Some(helper)) = (container, helper) {
        findings.extend(hop::compare(config, name, engine, bundles, helper).await);
    }
    findings
}

async fn ask(
    config: &EnterConfig,
) -> Result<(Engine, EngineVersion, Vec<Container>), Option<EngineError>> {
    let asked = async {
        let engine = Engine::connect(config.engine.as_deref()).await?;
        let version = engine.version().await?;
        let mut containers = Vec::new();
        let listed = engine.list_containers(&ContainerFilter::default()).await?;
        let running = listed.iter().filter(|one| one.state == ContainerState::Running);
        for listed in running.take(CONTAINERS_MAX) {
            match engine.inspect_container(&listed.id).await {
                Ok(container) if container.running => containers.push(container),
                // It ended since.
                Ok(_) => {}
                Err(error) if error.kind() == EngineErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        containers.sort_by(|left, right| left.name.cmp(&right.name));
        Ok((engine, version, containers))
    };
    match timeout(ENGINE_TIME_MAX, asked).await {
        Ok(answer) => answer.map_err(Some),
        Err(_) => Err(None),
    }
}

/// Writes every finding, and returns the worst status.
pub fn write(findings: &[Finding], json: bool, out: &mut impl Write) -> io::Result<Status> {
    for finding in findings {
        if json { write_json(finding, out)? } else { write_text(finding, out)? }
    }
    Ok(findings.iter().map(|finding| finding.status).max().unwrap_or(Status::Ok))
}

fn write_text(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{:<4}  {}: {}", finding.status, finding.name, finding.found)?;
    finding.advice.as_ref().map_or(Ok(()), |advice| writeln!(out, "      → {advice}"))
}

fn write_json(finding: &Finding, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, finding)?;
    out.write_all(b"\n")
}
