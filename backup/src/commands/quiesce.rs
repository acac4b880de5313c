//! Containers that hold still while a command reads, and `resume`.

use std::path::PathBuf;

use chores_common::engine::Engine;
use chores_common::exit::ExitCode;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::{self, QuiesceArgs};
use crate::config;
use crate::quiesce::{
    self, JournalError, Keeper, KeeperOptions, PlanError, QuiesceError, Replayed, Request,
};
use crate::worker;

/// Runs `work` with what holds the containers still, if any was named, and lets them go on afterwards, however it
/// ended. In a dry run nothing is touched.
pub fn with<T>(
    context: &Context<'_>,
    args: &QuiesceArgs,
    dry_run: bool,
    worker_image: Option<&str>,
    work: impl FnOnce(Option<(&Engine, &Keeper)>) -> Result<T, CommandError>,
) -> Result<T, CommandError> {
    if args.max_pause.is_some() && context.args.no_cache {
        return Err(CommandError::usage(UsageError::NoCache));
    }
    let request = request(args)?;
    if request.is_empty() {
        return work(None);
    }
    if dry_run {
        tracing::info!("a dry run pauses and stops nothing");
        return work(None);
    }
    let (engine, keeper) =
        context.runtime.block_on(start(context, args, &request, worker_image)).map_err(refused)?;
    let outcome = work(Some((&engine, &keeper)));
    let is_well = context.runtime.block_on(keeper.finish());
    let outcome = outcome?;
    if is_well { Ok(outcome) } else { Err(CommandError::failed(NotAllGoOn)) }
}

#[derive(Debug, thiserror::Error)]
#[error(
    "not all containers that were paused or stopped go on, see above; `backup resume` tries again"
)]
struct NotAllGoOn;

#[derive(Debug, thiserror::Error)]
enum UsageError {
    #[error("--max-pause limits --pause and --stop: name a container with one of them")]
    NothingToLimit,
    #[error("--max-pause needs the cache to know what changed: leave --no-cache out")]
    NoCache,
}

/// What was asked for.
fn request(args: &QuiesceArgs) -> Result<Request, CommandError> {
    let QuiesceArgs { pause, stop, pre, post, .. } = args;
    if args.max_pause.is_some() && pause.is_empty() && stop.is_empty() {
        return Err(CommandError::usage(UsageError::NothingToLimit));
    }
    Ok(Request { pause: pause.clone(), stop: stop.clone(), pre: pre.clone(), post: post.clone() })
}

async fn start(
    context: &Context<'_>,
    args: &QuiesceArgs,
    request: &Request,
    worker_image: Option<&str>,
) -> Result<(Engine, Keeper), QuiesceError> {
    let engine = Engine::connect(context.args.engine.as_deref()).await?;
    let guard = if args.no_guard {
        tracing::info!(
            "without a guard: if this run is killed, only the next one lets containers go on"
        );
        None
    } else {
        let image = worker::guard_image(&engine, worker_image).await;
        Some(image.map_err(|error| QuiesceError::NoGuard(Box::new(error)))?)
    };
    let state = config::state_directory(context.args);
    let options = KeeperOptions { request, state, guard, time_max: args.max_pause };
    let keeper = Keeper::start(&engine, options, &context.shutdown).await?;
    Ok((engine, keeper))
}

/// What a refusal means for the exit code.
pub(super) fn refused(error: QuiesceError) -> CommandError {
    match error {
        QuiesceError::Interrupted => CommandError::interrupted(error),
        QuiesceError::Plan(PlanError::Both(_) | PlanError::Own(_) | PlanError::TooMuch)
        | QuiesceError::Journal(JournalError::NoPlace | JournalError::Fleeting(_)) => {
            CommandError::usage(error)
        }
        error => CommandError::failed(error),
    }
}

/// Lets go on what killed runs left, before anything else: warnings where not all of it goes on. Without a journal the
/// engine is not even asked; one that cannot be read ends the run.
pub(super) fn replay(context: &Context<'_>) -> Result<ExitCode, CommandError> {
    let Some(state) = config::state_directory(context.args).filter(|state| quiesce::is_due(state))
    else {
        return Ok(ExitCode::Done);
    };
    let replayed = context.runtime.block_on(async {
        match Engine::connect(context.args.engine.as_deref()).await {
            Ok(engine) => quiesce::replay(&engine, &state).await,
            Err(error) => Ok(Replayed {
                failures: vec![format!(
                    "what a killed run may have left paused or stopped stays so: {error}"
                )],
                ..Replayed::default()
            }),
        }
    });
    let replayed = replayed.map_err(CommandError::failed)?;
    for name in &replayed.resumed {
        tracing::warn!("{name} goes on: a killed run had left it paused or stopped");
    }
    for failure in &replayed.failures {
        tracing::warn!("{failure}");
    }
    Ok(if replayed.failures.is_empty() { ExitCode::Done } else { ExitCode::Warnings })
}

/// `resume`.
pub fn resume(context: &Context<'_>) -> Result<ExitCode, CommandError> {
    let state: Option<PathBuf> = config::state_directory(context.args);
    let replayed = match state.filter(|state| quiesce::is_due(state)) {
        None => Replayed::default(),
        Some(state) => context
            .runtime
            .block_on(async {
                let engine = Engine::connect(context.args.engine.as_deref()).await?;
                Ok(quiesce::replay(&engine, &state).await?)
            })
            .map_err(|error: QuiesceError| CommandError::failed(error))?,
    };
    for failure in &replayed.failures {
        tracing::error!("{failure}");
    }
    context.answer(
        || match replayed.resumed.as_slice() {
            [] => "no container had to be let go on".to_owned(),
            names => format!("let go on: {}", names.join(", ")),
        },
        || {
            json!({"event": "summary", "journals": replayed.journals, "resumed": replayed.resumed,
                "failures": replayed.failures})
        },
    )?;
    Ok(if replayed.failures.is_empty() { ExitCode::Done } else { ExitCode::Failed })
}

/// `guard`, in a container of its own.
pub fn guard(context: &Context<'_>) -> Result<ExitCode, CommandError> {
    let text = cli::guard_description().ok_or_else(|| CommandError::usage(NoGuardHere))?;
    quiesce::watch(&text, context.args.engine.as_deref(), &context.runtime)
        .map_err(CommandError::Failed)
}

#[derive(Debug, thiserror::Error)]
#[error("`guard` is what a guard container runs; it is started by `create --pause` and `--stop`")]
struct NoGuardHere;
