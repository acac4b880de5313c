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

use std::path::Path;

use chores_common::engine::{
    Container, ContainerFilter, ContainerState, Engine, EngineError, EngineErrorKind, EngineVersion,
};
use chores_common::exit::chain;
use chores_common::finding::{Finding, Status};
use tokio::time::timeout;

use crate::config::EnterConfig;
use crate::container::bundle::Bundles;
use crate::host_keys::{self, HostKeyError};

pub use hop::Helper;

#[cfg(test)]
mod tests;

/// The engine answers everything within this. It can hang for ever over one container.
const ENGINE_TIME_MAX: std::time::Duration = std::time::Duration::from_secs(30);

/// Running containers that are looked at.
const CONTAINERS_MAX: usize = 200;

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

/// What is wrong with the key of the audit in a state directory. Blocks.
#[must_use]
pub fn audit_key(state: &Path) -> Option<Finding> {
    let (status, found) = match host_keys::audit_key_fault(state) {
        Ok(fault) => (Status::Warn, fault?),
        // It may be another user's.
        Err(error @ HostKeyError::System { .. }) => (Status::Warn, chain(&error)),
        Err(error) => (Status::Fail, chain(&error)),
    };
    let advice = "see docs/ssh-gateway-recording.md, \"audit verify\"";
    Some(Finding::new("audit key", status, found, advice))
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
