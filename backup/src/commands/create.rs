//! `create`.

use chores_common::exit::ExitCode;
use chores_common::progress::Progress;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::{self, CreateArgs, WalkArgs};
use crate::config;
use crate::create::{CreateError, CreateOptions, CreateReport, create};
use crate::exclude::Exclude;
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::{Source, State};
use crate::sources::{self, Sources, SourcesError};
use crate::text;
use crate::walk::{WalkOptions, threads_default};
use crate::worker::SourceInfo;

/// Saves volumes or paths.
pub fn run(context: &Context<'_>, args: &CreateArgs) -> Result<ExitCode, CommandError> {
    if !args.volumes_from.is_empty() || !args.volume.is_empty() {
        return super::worker::create(context, args);
    }
    let tags = config::tags(&args.tag)?;
    let repository = open(context, args.init)?;
    let location = context.location()?;
    let cache = config::cache_directory(context.args, &location);
    let own = sources::own_directories(Some(&location), cache.as_deref());
    let mut sources = find(&args.paths, &own)?;
    let told = told_by_parent()?;
    if let Some(told) = &told {
        sources.sources.iter_mut().for_each(|source| *source = told.source_at(&source.path));
    }
    let name = config::name(args.name.as_deref(), || {
        told.as_ref().map_or_else(|| paths_of(&sources.sources), SourceInfo::name)
    })?;
    let mut skip = sources::identities(&own);
    // A key in a volume that was not named is not what the operator wants to have copied.
    if args.paths.is_empty() {
        skip.extend(sources::identities(&sources::key_files()));
    }
    let walk = walk_options(&args.walk, skip)?;
    let options = CreateOptions {
        name,
        tags,
        host: args
            .host
            .clone()
            .or_else(|| told.as_ref().map(|told| told.host.clone()))
            .unwrap_or_else(host_name),
        time: jiff::Timestamp::now(),
        roots: sources.roots,
        sources: sources.sources,
        container: told.and_then(|told| told.container),
        walk,
        level: config::level(&args.compression),
        threads: context.settings.threads,
        uploads: context.settings.uploads,
        cache,
        read_all: args.read_all,
        dry_run: args.dry_run,
    };
    let progress = Progress::new();
    let shown = context.show("backup", &progress);
    let outcome = create(&repository, &options, &progress, &context.shutdown);
    shown.finish();
    let report = outcome.map_err(|error| match error {
        CreateError::Interrupted => CommandError::interrupted(error),
        CreateError::Repository(error) => error.into(),
        error => CommandError::failed(error),
    })?;
    answer(context, &report)?;
    Ok(if report.snapshot.state == State::Complete { ExitCode::Done } else { ExitCode::Warnings })
}

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
            Ok(Repository::init(context.store()?, jiff::Timestamp::now())?)
        }
        outcome => outcome,
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

fn host_name() -> String {
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
                "sources": snapshot.sources,
                "stats": stats,
                "warning_count": snapshot.warning_count,
                "warnings": snapshot.warnings,
                "dry_run": report.name.is_none(),
            })
        },
    )
}
