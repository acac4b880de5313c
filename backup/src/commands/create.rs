//! `create`.

use chores_common::exit::ExitCode;
use chores_common::progress::Progress;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::{self, CreateArgs, WalkArgs};
use crate::config::{self, SettingError};
use crate::create::{CreateError, CreateOptions, CreateReport, Still, create_still};
use crate::entry::display_path;
use crate::exclude::Exclude;
use crate::guard::{self, Seen, Users, Verdict};
use crate::quiesce::{Attended, StillHere};
use crate::repository::{Operation, Repository, RepositoryError};
use crate::snapshot::{Source, State, StoredDump};
use crate::sources::{self, Sources, SourcesError};
use crate::text;
use crate::walk::{SourceRoot, WalkOptions, threads_default};
use crate::worker::{self, SourceInfo};

/// Saves volumes or paths.
pub fn run(context: &Context<'_>, args: &CreateArgs) -> Result<ExitCode, CommandError> {
    let told = told_by_parent()?;
    let replayed = if told.is_none() { super::quiesce::replay(context)? } else { ExitCode::Done };
    Ok(save(context, args, told)?.or_worse(replayed))
}

fn save(
    context: &Context<'_>,
    args: &CreateArgs,
    told: Option<SourceInfo>,
) -> Result<ExitCode, CommandError> {
    if !args.volumes_from.is_empty() || !args.volume.is_empty() {
        return super::worker::create(context, args);
    }
    let tags = config::tags(&args.tag)?;
    let repository = open(context, args.init)?;
    let location = context.location()?;
    let cache = config::cache_directory(context.args, &location);
    let own = sources::own_directories(Some(&location), cache.as_deref());
    let mut sources = find(&args.paths, &own)?;
    if let Some(told) = &told {
        sources.sources.iter_mut().for_each(|source| *source = told.source_at(&source.path));
    }
    let is_named = told.is_none() && !args.paths.is_empty();
    let holds_still = !args.quiesce.pause.is_empty() || !args.quiesce.stop.is_empty();
    // Where containers are held still, the engine says below who else writes.
    let is_judged_later = told.is_none() && holds_still;
    let warnings = if args.allow_live_database || is_named || is_judged_later {
        Vec::new()
    } else {
        live_databases(&sources.roots, told.as_ref())?
    };
    let name = config::name(args.name.as_deref(), || {
        told.as_ref().map_or_else(|| paths_of(&sources.sources), SourceInfo::name)
    })?;
    let mut skip = sources::identities(&own);
    // A key in a volume that was not named is not what the operator wants to have copied.
    if args.paths.is_empty() {
        skip.extend(sources::identities(&sources::key_files()));
        let keys: Vec<_> = context.settings.keys.files().cloned().collect();
        skip.extend(sources::identities(&keys));
    }
    let walk = walk_options(&args.walk, skip)?;
    let time = jiff::Timestamp::now();
    let dumps = match &told {
        Some(told) => {
            let mut dumps = told.dumps.clone();
            let taken = dumps.iter_mut().try_for_each(StoredDump::take_entries);
            taken.map_err(|error| CommandError::failed(Untold(error)))?;
            dumps
        }
        None => super::dump::beside(context, &repository, args)?,
    };
    let provenance = match &told {
        Some(told) => told.provenance.clone(),
        None => {
            let containers = dumps.iter().filter_map(|dump| dump.record.container.as_ref());
            super::dump::provenance(context, containers.map(|container| container.id.clone()))
        }
    };
    let mut options = CreateOptions {
        name,
        tags,
        host: args
            .host
            .clone()
            .or_else(|| told.as_ref().map(|told| told.host.clone()))
            .unwrap_or_else(host_name),
        time,
        roots: sources.roots,
        sources: sources.sources,
        dumps,
        provenance,
        container: told.and_then(|told| told.container),
        walk,
        level: config::level(&args.compression),
        threads: context.settings.budget.compressing(),
        uploads: context.settings.budget.uploads(),
        cache,
        read_all: args.read_all,
        allow_change: args.allow_change,
        dry_run: args.dry_run,
        warnings,
    };
    let store = |options: &CreateOptions, still: Option<Still<'_>>| {
        let progress = Progress::new();
        let shown = context.show("backup", &progress);
        let outcome = create_still(&repository, options, still, &progress, &context.shutdown);
        shown.finish();
        outcome.map_err(|error| match error {
            CreateError::Interrupted => CommandError::interrupted(error),
            CreateError::Repository(error) => error.into(),
            error => CommandError::failed(error),
        })
    };
    let report =
        if args.attended {
            let mut by =
                Attended::listen(context.shutdown.clone()).map_err(CommandError::failed)?;
            store(&options, Some(Still { by: &mut by, hot_pass: args.hot_pass }))?
        } else {
            let hot_pass = args.quiesce.max_pause.is_some();
            let worker_image = args.worker.worker_image.as_deref();
            super::quiesce::with(context, &args.quiesce, args.dry_run, worker_image, |kept| {
                match kept {
                    None => store(&options, None),
                    Some((engine, keeper)) => {
                        if is_judged_later && !is_named && !args.allow_live_database {
                            let own = worker::own_sources(engine, keeper.ids());
                            let own =
                                context.runtime.block_on(own).map_err(CommandError::failed)?;
                            options.warnings = live_databases(&options.roots, own.as_ref())?;
                        }
                        let mut by = StillHere::new(keeper.clone(), context.runtime.clone());
                        store(&options, Some(Still { by: &mut by, hot_pass }))
                    }
                }
            })?
        };
    answer(context, &report)?;
    Ok(if report.snapshot.state == State::Complete { ExitCode::Done } else { ExitCode::Warnings })
}

/// Refuses volumes with the files of a database that is being written; returns what to say where nobody knows. `told` has
/// who writes them and does not hold still. Paths that were named are the operator's own business.
fn live_databases(
    roots: &[SourceRoot],
    told: Option<&SourceInfo>,
) -> Result<Vec<String>, CommandError> {
    let mut flags = Vec::new();
    for root in roots {
        let seen = guard::look(root);
        let path = display_path(root.path());
        let users = told.map_or(Users::Unknown, |told| Users::Known(told.users_of(&path)));
        let verdict = match seen {
            Seen::Nothing => Verdict::Fine,
            Seen::Sign(sign) => guard::judge(&path, &sign, users),
            Seen::NothingIn(names) => guard::judge_unseen(&path, names, users),
        };
        match verdict {
            Verdict::Fine => {}
            Verdict::Flag(text) => flags.push(text),
            Verdict::Refuse(text) => return Err(CommandError::usage(LiveDatabase(text))),
        }
    }
    Ok(flags)
}

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct LiveDatabase(String);

#[derive(Debug, thiserror::Error)]
#[error("cannot read what this worker was told about dumps")]
struct Untold(#[source] std::io::Error);

fn paths_of(sources: &[Source]) -> String {
    let paths: Vec<_> = sources.iter().map(|source| source.path.as_str()).collect();
    paths.join(",")
}

/// What the parent of a worker container knows about its sources.
fn told_by_parent() -> Result<Option<SourceInfo>, CommandError> {
    cli::source_description()
        .map(|text| SourceInfo::from_env_text(&text))
        .transpose()
        .map_err(CommandError::usage)
}

pub(super) fn open(context: &Context<'_>, init: bool) -> Result<Repository, CommandError> {
    match context.repository() {
        Err(CommandError::Repository(RepositoryError::Missing(_))) if init => {
            if !context.settings.keys.is_empty() {
                return Err(SettingError::InitClear.into());
            }
            Ok(Repository::init(context.store()?, jiff::Timestamp::now())?)
        }
        outcome => {
            let repository = outcome?;
            // Before anything is asked of others, or made to hold still.
            repository.permit(Operation::Write)?;
            Ok(repository)
        }
    }
}

/// The named paths, or the volumes of this container.
pub(super) fn find(
    paths: &[std::path::PathBuf],
    own: &[std::path::PathBuf],
) -> Result<Sources, CommandError> {
    let found =
        if paths.is_empty() { sources::of_own_mounts(own) } else { sources::of_paths(paths, own) };
    let found = found.map_err(|error| match error {
        SourcesError::Walk(_) | SourcesError::Mounts(_) => CommandError::failed(error),
        error => CommandError::usage(error),
    })?;
    found.notes.iter().for_each(|note| tracing::info!("{note}"));
    Ok(found)
}

/// What to leave out.
pub(super) fn walk_options(
    args: &WalkArgs,
    skip: Vec<(u64, u64)>,
) -> Result<WalkOptions, CommandError> {
    let exclude = Exclude::new(&args.exclude).map_err(CommandError::usage)?;
    Ok(WalkOptions {
        exclude,
        one_file_system: args.one_file_system,
        skip,
        threads: threads_default().max(2),
    })
}

pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn answer(context: &Context<'_>, report: &CreateReport) -> Result<(), CommandError> {
    let snapshot = &report.snapshot;
    let stats = &snapshot.stats;
    context.answer(
        || {
            let what = match &report.name {
                Some(name) => format!("snapshot {} of {} saved", name.id.short(), snapshot.name),
                None => format!("dry run of {}: nothing was stored", snapshot.name),
            };
            let warnings = match snapshot.warning_count {
                0 => String::new(),
                1 => "; 1 warning".to_owned(),
                count => format!("; {count} warnings"),
            };
            format!(
                "{what}: {} files, {}; {} of new content, {} stored, in {}{warnings}",
                text::count(stats.files),
                text::bytes(stats.bytes),
                text::bytes(stats.bytes_added),
                text::bytes(stats.bytes_stored),
                text::duration(std::time::Duration::from_millis(stats.duration_ms)),
            )
        },
        || {
            json!({
                "event": "summary",
                "snapshot": report.name.as_ref().map(|name| name.id.to_string()),
                "name": snapshot.name,
                "state": snapshot.state,
                "suspicious": snapshot.suspicious,
                "sources": snapshot.sources,
                "stats": stats,
                "warning_count": snapshot.warning_count,
                "warnings": snapshot.warnings,
                "dry_run": report.name.is_none(),
            })
        },
    )
}
