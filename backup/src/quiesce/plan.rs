//! Which containers are to hold still, how, and in which order (pure).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use chores_common::engine::Container;
use serde::{Deserialize, Serialize};

use super::{SETTLE, STOP_SETTLE};

#[cfg(test)]
mod tests;

/// Containers of one run at the most.
const TARGETS_MAX: usize = 64;

/// Hooks of one run at the most.
const HOOKS_MAX: usize = 64;

/// Longest command of a hook, in bytes.
const COMMAND_BYTES_MAX: usize = 8 << 10;

/// What the engine waits between the request to stop and the kill, in seconds, where the container does not say
/// (Docker Engine API, ContainerCreate, `StopTimeout`).
const STOP_SECONDS_DEFAULT: i64 = 10;

/// Longest stop timeout that is waited for, in seconds.
const STOP_SECONDS_MAX: i64 = 60 * 60;

/// Label by which Compose says what a service needs: `db:service_started:false,cache:service_healthy:false`.
const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// Label by which Compose tells the replicas of a service apart.
const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";

/// Label by which Compose tells the containers of `docker compose run` from those of a service: `True`.
const COMPOSE_ONEOFF: &str = "com.docker.compose.oneoff";

/// Label of what a swarm started, and starts again elsewhere when it is stopped.
const SWARM_TASK: &str = "com.docker.swarm.task.id";

/// What was asked for, by names or ids as they were typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// To be paused.
    pub pause: Vec<String>,
    /// To be stopped.
    pub stop: Vec<String>,
    /// Container and command, before.
    pub pre: Vec<(String, String)>,
    /// Container and command, after.
    pub post: Vec<(String, String)>,
}

impl Request {
    /// Whether nothing was asked for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Every container that was named.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        let hooks = self.pre.iter().chain(&self.post).map(|(container, _)| container);
        self.pause.iter().chain(&self.stop).chain(hooks)
    }
}

/// A container known again, even when it was made anew.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Compose project, service and number of the replica.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compose: Option<Compose>,
}

/// What Compose calls a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compose {
    /// The project.
    pub project: String,
    /// The service.
    pub service: String,
    /// The replica.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub number: String,
}

impl Identity {
    /// That of an inspected container. What ran once beside a service has nobody who makes it anew.
    pub(super) fn of(container: &Container) -> Self {
        let is_once = container
            .labels
            .get(COMPOSE_ONEOFF)
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let compose = match (container.compose_project(), container.compose_service()) {
            (Some(project), Some(service)) if !is_once => Some(Compose {
                project: project.to_owned(),
                service: service.to_owned(),
                number: container.labels.get(COMPOSE_NUMBER).cloned().unwrap_or_default(),
            }),
            _ => None,
        };
        Self { id: container.id.clone(), name: container.name.clone(), compose }
    }

    /// Whether `container` was made in the place of this one.
    pub(super) fn is_replaced_by(&self, container: &Container) -> bool {
        self.compose.is_some() && Self::of(container).compose == self.compose
    }
}

/// How a container is made to hold still.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Its processes are frozen.
    Pause,
    /// It ends, and is started again.
    Stop,
}

impl Action {
    /// The verb.
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Stop => "stop",
        }
    }
}

/// How far a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Progress {
    /// Nothing was asked of it.
    Planned,
    /// The engine was, or is just being, asked to pause or stop it.
    Acting,
    /// It holds still.
    Held,
    /// It was let go on, or is none of our business any more.
    Released,
}

/// A container that ran, and is to hold still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Which.
    pub container: Identity,
    /// How.
    pub action: Action,
    /// When the run began that is to be interrupted, as the engine writes it: another one is another's business.
    pub started_at: Option<String>,
    /// Seconds the engine gives it to end.
    pub stop_seconds: u64,
    /// How far it is.
    pub progress: Progress,
    /// When the engine was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<jiff::Timestamp>,
}

impl Target {
    /// What the engine may take to do what it was asked for.
    #[must_use]
    pub fn time_to_act(&self) -> Duration {
        match self.action {
            Action::Pause => Duration::ZERO,
            Action::Stop => Duration::from_secs(self.stop_seconds),
        }
    }

    /// How long after it was asked the engine may still be doing it.
    #[must_use]
    pub fn time_to_settle(&self) -> Duration {
        let settle = match self.action {
            Action::Pause => SETTLE,
            Action::Stop => STOP_SETTLE,
        };
        self.time_to_act().saturating_add(settle)
    }

    /// Takes over what the engine says of the container now.
    pub(super) fn renew(&mut self, container: &Container) {
        self.container = Identity::of(container);
        self.started_at.clone_from(&container.started_at);
        self.stop_seconds = stop_seconds(container).unwrap_or_default();
    }
}

/// How far a hook is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HookProgress {
    /// What it belongs to has not begun.
    Waiting,
    /// It must run.
    Due,
    /// It ran.
    Done,
}

/// A command in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// Where.
    pub container: Identity,
    /// For `sh -c`.
    pub command: String,
    /// How far it is.
    pub progress: HookProgress,
}

/// A container that held still by itself, and has to go on doing so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// Which.
    pub container: Identity,
    /// When its last run began.
    pub started_at: Option<String>,
}

/// What is going to happen, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Commands before.
    pub pre: Vec<Hook>,
    /// What is stopped, those that need others before the others; then what is paused.
    pub targets: Vec<Target>,
    /// Commands after.
    pub post: Vec<Hook>,
    /// What does not run, or is paused already.
    pub quiet: Vec<Quiet>,
}

/// What was asked for cannot be done: exit code 2 or 1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Twice, in two ways.
    #[error("{0} is named with --pause and with --stop: choose one")]
    Both(String),
    /// This process is in it.
    #[error("{0} is the container this program is in: it would hold itself up")]
    Own(String),
    /// The engine is reached through it.
    #[error(
        "the engine is reached through {0} (DOCKER_HOST): without it nobody could let it go on again"
    )]
    Way(String),
    /// More than can be remembered.
    #[error(
        "too much at once: up to {TARGETS_MAX} containers, {HOOKS_MAX} commands, of {COMMAND_BYTES_MAX} bytes each"
    )]
    TooMuch,
    /// A paused container cannot be asked to end.
    #[error(
        "{0} is paused, so it cannot be stopped: unpause it first, or leave --stop out, it holds still already"
    )]
    Paused(String),
    /// It would not come back.
    #[error("{0} was started with --rm, so stopping it would remove it: use --pause")]
    AutoRemove(String),
    /// A swarm would replace it.
    #[error("{0} belongs to a swarm service, which would start another in its place: use --pause")]
    Swarm(String),
    /// Neither running nor not running.
    #[error(
        "{0} ended and is about to be started again by the engine: wait until it runs, or stop it"
    )]
    Restarting(String),
    /// It may take for ever.
    #[error(
        "{0} has no stop timeout of up to {STOP_SECONDS_MAX} s: start it with --stop-timeout, or use --pause"
    )]
    StopTimeout(String),
    /// No program can be run in it.
    #[error("{0} does not run or is paused, so no command can be run in it")]
    NotRunning(String),
}

/// What the run itself needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs<'a> {
    /// The id of the container this process is in.
    pub own: Option<&'a str>,
    /// Where the engine answers, when that is a network.
    pub engine: &'a [IpAddr],
}

impl Needs<'_> {
    fn check(&self, container: &Container) -> Result<(), PlanError> {
        if Some(container.id.as_str()) == self.own {
            return Err(PlanError::Own(container.name.clone()));
        }
        // A proxy before the engine's socket.
        if container.addresses.iter().any(|address| self.engine.contains(address)) {
            return Err(PlanError::Way(container.name.clone()));
        }
        Ok(())
    }
}

/// Makes the plan. `inspected` has every named container by the name it was asked for.
pub fn plan<'a>(
    request: &Request,
    inspected: impl Fn(&str) -> Option<&'a Container>,
    needs: Needs<'_>,
) -> Result<Plan, PlanError> {
    let hooks = request.pre.iter().chain(&request.post);
    if request.pause.len() + request.stop.len() > TARGETS_MAX
        || hooks.clone().count() > HOOKS_MAX
        || hooks.clone().any(|(_, command)| command.len() > COMMAND_BYTES_MAX)
    {
        return Err(PlanError::TooMuch);
    }
    let mut plan = Plan::default();
    let mut stopped: Vec<&Container> = Vec::new();
    let mut paused: Vec<&Container> = Vec::new();
    for (names, action) in [(&request.stop, Action::Stop), (&request.pause, Action::Pause)] {
        for container in names.iter().filter_map(|name| inspected(name)) {
            needs.check(container)?;
            if action == Action::Pause
                && request
                    .stop
                    .iter()
                    .filter_map(|name| inspected(name))
                    .any(|stopped| stopped.id == container.id)
            {
                return Err(PlanError::Both(container.name.clone()));
            }
            let known = |list: &[&Container]| list.iter().any(|known| known.id == container.id);
            if known(&stopped)
                || known(&paused)
                || plan.quiet.iter().any(|known| known.container.id == container.id)
            {
                continue;
            }
            if is_quiet(container, action)? {
                let started_at = container.started_at.clone();
                plan.quiet.push(Quiet { container: Identity::of(container), started_at });
            } else if action == Action::Stop {
                stopped.push(container);
            } else {
                paused.push(container);
            }
        }
    }
    let stops = dependents_first(&stopped).into_iter().map(|container| (container, Action::Stop));
    for (container, action) in
        stops.chain(paused.into_iter().map(|container| (container, Action::Pause)))
    {
        plan.targets.push(Target {
            container: Identity::of(container),
            action,
            started_at: container.started_at.clone(),
            stop_seconds: stop_seconds(container).unwrap_or_default(),
            progress: Progress::Planned,
            asked: None,
        });
    }
    for (list, hooks) in [(&request.pre, &mut plan.pre), (&request.post, &mut plan.post)] {
        for (name, command) in list {
            let Some(container) = inspected(name) else { continue };
            if !container.running || container.paused {
                return Err(PlanError::NotRunning(container.name.clone()));
            }
            hooks.push(Hook {
                container: Identity::of(container),
                command: command.clone(),
                progress: HookProgress::Waiting,
            });
        }
    }
    Ok(plan)
}

/// Whether a container holds still already. Refuses what must not, or cannot, be done to it.
pub(super) fn is_quiet(container: &Container, action: Action) -> Result<bool, PlanError> {
    let name = || container.name.clone();
    if container.restarting {
        return Err(PlanError::Restarting(name()));
    }
    if !container.running {
        return Ok(true);
    }
    match action {
        Action::Pause => Ok(container.paused),
        Action::Stop if container.paused => Err(PlanError::Paused(name())),
        Action::Stop if container.auto_remove => Err(PlanError::AutoRemove(name())),
        Action::Stop if container.labels.contains_key(SWARM_TASK) => Err(PlanError::Swarm(name())),
        Action::Stop if stop_seconds(container).is_none() => Err(PlanError::StopTimeout(name())),
        Action::Stop => Ok(false),
    }
}

/// What the engine gives the container to end; `None` where that may be for ever.
#[must_use]
pub fn stop_seconds(container: &Container) -> Option<u64> {
    let seconds = container.stop_timeout.unwrap_or(STOP_SECONDS_DEFAULT);
    u64::try_from(seconds).ok().filter(|_| seconds <= STOP_SECONDS_MAX)
}

/// The given order, but what needs others comes before them, where Compose says so. A circle is left as it is.
fn dependents_first<'a>(given: &[&'a Container]) -> Vec<&'a Container> {
    let mut left: Vec<&Container> = given.to_vec();
    let mut ordered = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let free = left
            .iter()
            .position(|candidate| !left.iter().any(|other| needs(other, candidate)))
            .unwrap_or(0);
        ordered.push(left.remove(free));
    }
    ordered
}

/// Whether `one` needs `other`.
fn needs(one: &Container, other: &Container) -> bool {
    if one.id == other.id
        || one.compose_project().is_none()
        || one.compose_project() != other.compose_project()
    {
        return false;
    }
    let depends_on = one.labels.get(COMPOSE_DEPENDS_ON).map_or("", String::as_str);
    let services: BTreeSet<&str> = depends_on
        .split(',')
        .map(|item| item.split_once(':').map_or(item, |(service, _)| service).trim())
        .collect();
    other.compose_service().is_some_and(|service| services.contains(service))
}
