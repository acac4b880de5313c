//! `serve`, `healthcheck`, and what `serve` asks a process of its own about the repository.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use chores_common::exit::{ExitCode, chain};
use jiff::Timestamp;
use serde_json::json;

use super::create::host_name;
use super::{CommandError, Context};
use crate::cli::{self, CommonArgs, HealthAspect, HealthcheckArgs, LearnArgs, ServeArgs};
use crate::config;
use crate::coverage;
use crate::machine::Boot;
use crate::notify::Channels;
use crate::repository::{Repository, RepositoryError};
use crate::schedule;
use crate::serve::board::Board;
use crate::serve::discover::discover;
use crate::serve::health;
use crate::serve::job::Names;
use crate::serve::learn::{Learned, learn as learn_from};
use crate::serve::resident::{ServeError, ServeOptions, is_inside, load, look_once, serve};
use crate::serve::settings::Typed;
use crate::serve::state::{self, StateError};

mod output;

/// How long a dry run waits for the engine.
const LOOK_TIME_MAX: Duration = Duration::from_secs(60);

/// Something is missing without which nothing can be served.
#[derive(Debug, thiserror::Error)]
enum Unserved {
    #[error(
        "there is no place for what `serve` remembers: name a directory that stays with --state-dir, or mount a volume at /state"
    )]
    NoState,
    #[error("the engine does not answer: {0}")]
    NoEngine(String),
    #[error("not well: {0}")]
    Unwell(String),
}

/// Runs jobs by their schedules until it is asked to stop.
pub fn run(context: &Context<'_>, args: &ServeArgs) -> Result<ExitCode, CommandError> {
    // A repository that cannot be named fails every run.
    context.location()?;
    context.settings.keys.ring()?;
    let options = ServeOptions {
        words: common_words(context.args),
        state: state_directory(context)?,
        engine: context.args.engine.clone(),
        config: args.config.clone(),
        typed: typed(args)?,
        host: args.host.clone().filter(|host| !host.is_empty()),
        own_name: host_name(),
        channels: channels()?,
        metrics: args.metrics,
        once: args.once,
    };
    if args.dry_run {
        return plan(context, &options);
    }
    let served = serve(&options, &context.runtime, &context.shutdown).map_err(of_serve)?;
    if !args.once {
        return Ok(ExitCode::Done);
    }
    let mut out = io::stdout().lock();
    let written = if context.settings.json {
        output::write_json(&served.report, &mut out)
    } else {
        output::write_text(&served.report, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    Ok(if context.shutdown.is_requested() { ExitCode::Interrupted } else { served.code })
}

fn of_serve(error: ServeError) -> CommandError {
    match error {
        ServeError::Settings(_)
        | ServeError::Channels(_)
        | ServeError::State(StateError::Taken(_) | StateError::Version { .. }) => {
            CommandError::usage(error)
        }
        error => CommandError::failed(error),
    }
}

/// Those of the environment; those of the file are read with it.
fn channels() -> Result<Channels, CommandError> {
    let (value, file) = cli::notify_urls();
    Channels::from_environment(value, file).map_err(CommandError::usage)
}

fn typed(args: &ServeArgs) -> Result<Typed, CommandError> {
    let schedule = args.schedule.as_deref().map(str::parse).transpose();
    let zone = args.time_zone.as_deref().map(schedule::zone).transpose();
    Ok(Typed {
        schedule: schedule.map_err(CommandError::usage)?,
        zone: zone.map_err(CommandError::usage)?,
        jitter: args.jitter,
        concurrency: args.concurrency.map(usize::from),
        scope: args.containers_with.clone(),
    })
}

fn state_directory(context: &Context<'_>) -> Result<PathBuf, CommandError> {
    config::state_directory(context.args).ok_or_else(|| CommandError::usage(Unserved::NoState))
}

/// Says what would be done; asks, and touches nothing.
fn plan(context: &Context<'_>, options: &ServeOptions) -> Result<ExitCode, CommandError> {
    let settings = load(options.config.as_deref(), &options.typed);
    let settings = settings.map_err(|error| of_serve(error.into()))?;
    let (state, damage) = state::peek(&options.state).map_err(|error| of_serve(error.into()))?;
    if let Some(damage) = damage {
        tracing::warn!("{damage}");
    }
    let has_containers = settings.containers;
    let now = Timestamp::now();
    let (host, own_name) = (options.host.clone(), options.own_name.clone());
    let board = Board::new(settings, state, host, own_name, now);
    let mut board = if is_inside() { board.inside() } else { board };
    if has_containers {
        let looked = look_once(options.engine.as_deref(), LOOK_TIME_MAX);
        let found = context.runtime.block_on(looked);
        let found = found.map_err(|problem| CommandError::failed(Unserved::NoEngine(problem)))?;
        let discovered = discover(&found, &board.settings().defaults);
        board.machine(found.node, found.boot);
        board.found(discovered, found.host, found.engine, now);
    }
    let learned =
        context.repository().and_then(|repository| Ok(learn_of(&repository, &board.names(), now)?));
    board.learn(learned.map_err(|error| chain(&error)), now, now);
    let report = board.report(now);
    let names = board.names();
    let orders = board.jobs().values().map(|job| (job.name.as_str(), job.save(&names)));
    let mut out = io::stdout().lock();
    let written = if context.settings.json {
        output::write_plan_json(&report, orders, &mut out)
    } else {
        output::write_plan_text(&report, orders, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    let is_possible = board.missing_name().is_none() && board.impossible_drills().is_none();
    let is_well = board.refused().is_empty() && !board.jobs().is_empty() && is_possible;
    Ok(if is_well { ExitCode::Done } else { ExitCode::Warnings })
}

/// What the repository knows of the jobs of a host.
pub fn learn(context: &Context<'_>, args: &LearnArgs) -> Result<ExitCode, CommandError> {
    let repository = context.repository()?;
    let names = Names {
        host: args.host.clone(),
        engine: args.engine_id.clone(),
        node: args.own.node(),
        boot: args.own.own_boot.clone(),
    };
    let learned = learn_of(&repository, &names, Timestamp::now())?;
    let summary = || {
        json!({
            "event": "summary",
            "jobs": learned.jobs,
            "twin": learned.twin,
            "added_bytes": learned.added_bytes,
            "drilled": learned.drilled,
            "snapshots": learned.snapshots,
            "stored_bytes": learned.stored_bytes,
            "closed": learned.closed,
        })
    };
    context.answer(|| summary().to_string(), summary)?;
    Ok(ExitCode::Done)
}

fn learn_of(
    repository: &Repository,
    names: &Names,
    now: Timestamp,
) -> Result<Learned, RepositoryError> {
    let history = coverage::history(repository)?;
    let stored = repository.stored_packs()?.into_values().fold(0, u64::saturating_add);
    let boot = names.boot.as_deref().and_then(|id| Boot::present(id, now));
    let learned = learn_from(&history.recorded, stored, names, boot.as_ref(), now);
    Ok(Learned { closed: !repository.reads_what_is_saved(), ..learned })
}

/// Asks the run with this state directory.
pub fn healthcheck(
    context: &Context<'_>,
    args: &HealthcheckArgs,
) -> Result<ExitCode, CommandError> {
    let state = state_directory(context)?;
    if args.aspect == HealthAspect::Alive {
        health::alive(&state).map_err(CommandError::failed)?;
        context.answer(|| "alive".to_owned(), || json!({"alive": true}))?;
        return Ok(ExitCode::Done);
    }
    let report = health::ask(&state).map_err(CommandError::failed)?;
    let is_well = report.well;
    if !is_well && !context.settings.json {
        let unwell = Unserved::Unwell(report.ailments.join("; "));
        return Err(CommandError::failed(unwell));
    }
    context.answer(|| "well".to_owned(), || json!(report))?;
    Ok(if is_well { ExitCode::Done } else { ExitCode::Failed })
}

/// The common options as words for a run: what came from the environment comes from there again.
fn common_words(args: &CommonArgs) -> Vec<String> {
    let path = |path: &PathBuf| path.to_string_lossy().into_owned();
    let mut words = Vec::new();
    words.extend(args.repo.iter().map(|place| format!("--repo={place}")));
    words.extend(args.s3_endpoint.iter().map(|url| format!("--s3-endpoint={url}")));
    words.extend(args.s3_region.iter().map(|name| format!("--s3-region={name}")));
    words.extend(args.s3_path_style.iter().map(|is| format!("--s3-path-style={is}")));
    words.extend(args.key_file.iter().map(|file| format!("--key-file={}", path(file))));
    words.extend(args.identity.iter().map(|file| format!("--identity={}", path(file))));
    words.extend(args.cache_dir.iter().map(|place| format!("--cache-dir={}", path(place))));
    words.extend(args.no_cache.then(|| "--no-cache".to_owned()));
    words.extend(args.memory.iter().map(|memory| format!("--memory={memory}")));
    words.extend(args.threads.iter().map(|threads| format!("--threads={threads}")));
    words.extend(args.state_dir.iter().map(|place| format!("--state-dir={}", path(place))));
    words.extend(args.engine.iter().map(|engine| format!("--engine={engine}")));
    words.extend((0..args.verbose).map(|_| "--verbose".to_owned()));
    // What goes well, this process says itself.
    words.extend((0..args.quiet.max(u8::from(args.verbose == 0))).map(|_| "--quiet".to_owned()));
    words.extend(["--log-format=text".to_owned(), "--json".to_owned()]);
    words
}
