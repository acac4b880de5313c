//! Letting go on what was paused or stopped: by the run itself, by its guard, or by the next run.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chores_common::engine::{Container, ContainerFilter, Engine, EngineError, EngineErrorKind};
use tokio::time::sleep;

use super::RESTORE_TIME_MAX;
use super::hook;
use super::plan::{Action, Hook, HookProgress, Identity, Progress, Target};

#[cfg(test)]
mod tests;

/// How often the engine is asked again, while something may be under way or fails.
const POLL: Duration = Duration::from_millis(200);

/// How often it is asked again for what it has refused.
const FAILURE_POLL: Duration = Duration::from_secs(2);

/// Label of Compose's project, to find containers by.
const COMPOSE_PROJECT: &str = "com.docker.compose.project";
const COMPOSE_SERVICE: &str = "com.docker.compose.service";

/// What the engine says about a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The very container.
    Same(Box<Container>),
    /// Compose made another in its place.
    Replaced(Box<Container>),
    /// There is none.
    Gone,
}

/// What is to be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing was asked of it, or it goes on: done.
    Done,
    /// It goes on, but not by us: somebody else let it.
    ByOthers,
    /// What the engine was asked for may still come: look again.
    Wait,
    /// Unpause this id.
    Unpause(String),
    /// Start this id.
    Start(String),
}

/// Decides about one target. `may_be_under_way`: the engine may still be about to do what it was asked for.
pub(super) fn decide(target: &Target, found: &Found, may_be_under_way: bool) -> Act {
    if matches!(target.progress, Progress::Planned | Progress::Released) {
        return Act::Done;
    }
    let container = match found {
        Found::Same(container) => container,
        // Made and never started: whoever made it meant the one that ran.
        Found::Replaced(container)
            if target.action == Action::Stop
                && !container.running
                && !container.restarting
                && container.started_at.is_none() =>
        {
            return Act::Start(container.id.clone());
        }
        Found::Replaced(_) | Found::Gone => return Act::ByOthers,
    };
    // Another run of it was begun by somebody else, who knows what is to become of it.
    if container.started_at != target.started_at {
        return Act::ByOthers;
    }
    match target.action {
        Action::Pause if container.paused => Act::Unpause(container.id.clone()),
        Action::Stop if !container.running && !container.restarting => {
            Act::Start(container.id.clone())
        }
        // Frozen by somebody while it was to be stopped: theirs.
        Action::Stop if container.paused => Act::ByOthers,
        _ if !container.running => Act::ByOthers,
        _ if target.progress == Progress::Acting && may_be_under_way => Act::Wait,
        _ if target.progress == Progress::Acting => Act::Done,
        _ => Act::ByOthers,
    }
}

/// Whether a target that held still does so, by what decides about it now.
pub(super) fn holds_still(target: &Target, found: &Found) -> bool {
    matches!(decide(target, found, false), Act::Unpause(_) | Act::Start(_))
}

/// Whether the engine has said no, so that nothing of what it was asked for can come any more. Without an answer it can.
pub(super) fn is_refusal(kind: EngineErrorKind) -> bool {
    match kind {
        EngineErrorKind::NotFound
        | EngineErrorKind::Conflict
        | EngineErrorKind::Denied
        | EngineErrorKind::Invalid
        | EngineErrorKind::Unsupported => true,
        EngineErrorKind::Unreachable
        | EngineErrorKind::Timeout
        | EngineErrorKind::Corrupt
        | EngineErrorKind::Other => false,
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Names of containers that were let go on.
    pub(super) resumed: Vec<String>,
    /// Names of containers that went on without us.
    pub(super) by_others: Vec<String>,
    /// What could not be done: one sentence each.
    pub(super) failures: Vec<String>,
}

/// Lets all targets go on, in reverse order, and again until each of them is or the time is over. `is_open`: the engine may
/// still be doing what it was asked for, and is given the whole time for that from now on, because no clock of the past can
/// be trusted; otherwise nothing is under way. `released` gets each number that is done.
pub(super) async fn put_back(
    engine: &Engine,
    targets: &mut [Target],
    is_open: bool,
    released: &mut (dyn FnMut(&[Target], usize) + Send),
) -> Outcome {
    let begun = Instant::now();
    let mut outcome = Outcome::default();
    let mut open: BTreeSet<usize> = (0..targets.len()).collect();
    loop {
        let mut failures = Vec::new();
        for number in open.clone().into_iter().rev() {
            let Some(target) = targets.get(number) else { continue };
            let may_be_under_way = is_open && begun.elapsed() < target.time_to_settle();
            let name = target.container.name.clone();
            match look_and_act(engine, target, may_be_under_way).await {
                Ok(Act::Wait) => continue,
                Ok(act) => {
                    match act {
                        Act::Unpause(_) | Act::Start(_) => outcome.resumed.push(name),
                        Act::ByOthers => outcome.by_others.push(name),
                        Act::Done | Act::Wait => {}
                    }
                    open.remove(&number);
                    if let Some(target) = targets.get_mut(number) {
                        target.progress = Progress::Released;
                    }
                    released(targets, number);
                }
                Err(error) => failures.push(error.to_string()),
            }
        }
        let waits = targets.iter().map(Target::time_to_settle).max().unwrap_or_default();
        let is_late = begun.elapsed() >= waits.saturating_add(RESTORE_TIME_MAX);
        if open.is_empty() || is_late {
            outcome.failures = failures;
            return outcome;
        }
        sleep(if failures.is_empty() { POLL } else { FAILURE_POLL }).await;
    }
}

async fn look_and_act(
    engine: &Engine,
    target: &Target,
    may_be_under_way: bool,
) -> Result<Act, EngineError> {
    if matches!(target.progress, Progress::Planned | Progress::Released) {
        return Ok(Act::Done);
    }
    let found = find(engine, &target.container).await?;
    let act = decide(target, &found, may_be_under_way);
    let result = match &act {
        Act::Unpause(id) => engine.unpause(id).await,
        Act::Start(id) => engine.start(id).await,
        Act::Done | Act::ByOthers | Act::Wait => Ok(()),
    };
    if let Err(error) = result {
        // Somebody else may have been faster: the guard, or the next run.
        let again = decide(target, &find(engine, &target.container).await?, false);
        return if again == act { Err(error) } else { Ok(act) };
    }
    Ok(act)
}

/// The container, or what Compose made in its place. Of several that could be meant none is.
pub(super) async fn find(engine: &Engine, wanted: &Identity) -> Result<Found, EngineError> {
    match engine.inspect_container(&wanted.id).await {
        Ok(container) => return Ok(Found::Same(Box::new(container))),
        Err(error) if error.kind() == EngineErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let Some(compose) = &wanted.compose else { return Ok(Found::Gone) };
    let labels = vec![
        format!("{COMPOSE_PROJECT}={}", compose.project),
        format!("{COMPOSE_SERVICE}={}", compose.service),
    ];
    let mut found = Found::Gone;
    for listed in engine.list_containers(&ContainerFilter { labels, all: true }).await? {
        match engine.inspect_container(&listed.id).await {
            Ok(container) if wanted.is_replaced_by(&container) => {
                if found != Found::Gone {
                    return Ok(Found::Gone);
                }
                found = Found::Replaced(Box::new(container));
            }
            Ok(_) => {}
            // It is gone since it was listed.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Runs what must run after, each once. What fails is told, and done all the same: nobody could do better.
pub(super) async fn run_hooks(
    engine: &Engine,
    hooks: &mut [Hook],
    mut done: impl FnMut(&[Hook], usize),
) -> Vec<String> {
    let mut failures = Vec::new();
    for number in 0..hooks.len() {
        let Some(hook) = hooks.get_mut(number).filter(|hook| hook.progress == HookProgress::Due)
        else {
            continue;
        };
        let id = match find(engine, &hook.container).await {
            Ok(Found::Same(container) | Found::Replaced(container)) => Ok(container.id),
            Ok(Found::Gone) => Err("could not run: the container is gone".to_owned()),
            Err(error) => Err(format!("could not run: {error}")),
        };
        let ended = match id {
            Ok(id) => hook::run(engine, &id, &hook.command).await,
            Err(reason) => Err(reason),
        };
        if let Err(reason) = ended {
            failures.push(format!("the command after in {} {reason}", hook.container.name));
        }
        hook.progress = HookProgress::Done;
        done(hooks, number);
    }
    failures
}
