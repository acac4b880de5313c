//! `ssh-config`: what clients write into their configuration.

use std::time::Duration;

use chores_common::engine::{ContainerFilter, ContainerState, Engine};
use chores_common::exit::ExitCode;
use tokio::runtime::Builder;
use tokio::time::timeout;

use super::{CommandError, print};
use crate::cli::{CommonArgs, SshConfigArgs};
use crate::config::{self, SettingError};
use crate::host_keys::HostKeys;
use crate::login;
use crate::ssh_config::{self, Reached, is_nobody_elses, is_word, leads_into};

/// The engine answers within this.
const ENGINE_TIME_MAX: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
#[error("the container engine does not answer within {} s; name the containers, or patterns of them", ENGINE_TIME_MAX.as_secs())]
struct EngineSilent;

/// Prints it.
pub fn run(common: &CommonArgs, args: &SshConfigArgs) -> Result<ExitCode, CommandError> {
    for (flag, word) in
        [("--host", &args.host), ("--alias", &args.alias), ("--operator", &args.operator)]
    {
        if !is_word(word) || word.contains(['*', '?']) {
            return Err(SettingError::flag(flag, word, &"it cannot stand in ssh_config").into());
        }
    }
    if args.known_hosts {
        let state = config::state(common)?.ok_or(SettingError::NoState)?;
        let keys = HostKeys::load_or_make(&state)?.public()?;
        return print(ssh_config::known_hosts(&args.alias, &keys).as_bytes());
    }
    let reached = Reached {
        alias: args.alias.clone(),
        host: args.host.clone(),
        port: args.port,
        operator: args.operator.clone(),
    };
    let names = if args.names.is_empty() {
        let (mut names, left_out): (Vec<_>, Vec<_>) =
            running(common)?.into_iter().partition(|name| is_nobody_elses(name, &reached));
        // Those that run later, and those whose names are left out.
        names.push(format!("*{}", login::HOST_SUFFIX));
        for name in left_out {
            let suffix = login::HOST_SUFFIX;
            // Given as it is, it would be another container's.
            let or = if leads_into(&name).is_some() { "" } else { ", or give it as NAME" };
            tracing::warn!(
                "{name} is left out: it may be the name of another host; use {name}{suffix}{or}"
            );
        }
        names
    } else {
        for name in &args.names {
            if !is_word(name) || *name == args.alias {
                return Err(SettingError::flag(
                    "NAME",
                    name,
                    &"it is no name or pattern of a host behind the gateway",
                )
                .into());
            }
            if let Some(container) = leads_into(name) {
                tracing::warn!(
                    "{name} leads into the container {container}; one that is itself called {name} is {name}{}",
                    login::HOST_SUFFIX
                );
            }
        }
        args.names.clone()
    };
    print(ssh_config::config(&reached, &names).as_bytes())
}

/// The names of the containers that run and may be entered at all.
fn running(common: &CommonArgs) -> Result<Vec<String>, CommandError> {
    let engine = config::engine(common)?;
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(CommandError::failed)?;
    let listed = runtime.block_on(async {
        let asked = async {
            let engine = Engine::connect(engine.as_deref()).await?;
            engine.list_containers(&ContainerFilter::default()).await
        };
        timeout(ENGINE_TIME_MAX, asked).await
    });
    // What hangs must not hold up the answer.
    runtime.shutdown_background();
    let listed = listed.map_err(|_| CommandError::failed(EngineSilent))?;
    let mut names: Vec<String> = listed
        .map_err(CommandError::failed)?
        .into_iter()
        .filter(|container| container.state == ContainerState::Running)
        .filter(|container| login::is_enabled(container) && is_word(&container.name))
        .map(|container| container.name)
        .collect();
    names.sort();
    Ok(names)
}
