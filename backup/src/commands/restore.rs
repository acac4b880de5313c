//! `restore`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use chores_common::exit::ExitCode;
use chores_common::progress::Progress;
use serde_json::json;

use super::{CommandError, Context};
use crate::browse::text::escaped;
use crate::cli::{RestoreArgs, SelectionArgs};
use crate::config;
use crate::restore::select::{Selection, one_source, typed_path};
use crate::restore::{Into, RestoreError, RestoreOptions, RestoreReport, restore};
use crate::snapshot::{Selector, Snapshot, SnapshotName};
use crate::target::TargetError;
use crate::text;

/// Brings a snapshot back: below a directory, into a volume, or into a running database; or a whole project.
pub fn run(context: &Context<'_>, args: &RestoreArgs) -> Result<ExitCode, CommandError> {
    if let Some(project) = &args.project {
        return super::stack::run(context, args, project);
    }
    match (&args.target, &args.volume, &args.into) {
        (Some(target), ..) => into_directory(context, args, target),
        (None, Some(volume), _) => super::worker::restore(context, args, volume),
        (None, None, Some(container)) => super::into::run(context, args, container),
        (None, None, None) => Err(CommandError::usage(NoTarget)),
    }
}

/// The snapshot that was named.
pub(super) fn named(args: &RestoreArgs) -> Result<&Selector, CommandError> {
    args.snapshot.as_ref().ok_or_else(|| CommandError::usage(NoSnapshot))
}

#[derive(Debug, thiserror::Error)]
#[error("nothing says what to restore: name a snapshot, or a Compose project with --project")]
struct NoSnapshot;

#[derive(Debug, thiserror::Error)]
#[error("nothing says where to restore to: add --target DIR, --volume NAME or --into CONTAINER")]
struct NoTarget;

fn into_directory(
    context: &Context<'_>,
    args: &RestoreArgs,
    target: &Path,
) -> Result<ExitCode, CommandError> {
    let repository = context.readable_repository()?;
    let (name, snapshot) = repository.select(named(args)?)?;
    let options = RestoreOptions {
        selection: selection(&args.selection, args.strip, &snapshot)?,
        into: into(args),
        force: args.force,
        dry_run: args.dry_run,
        threads: context.settings.budget.reading(repository.is_encrypted()),
        cache: config::cache_directory(context.args, &context.location()?),
    };
    let progress = Progress::new();
    let shown = context.show("restore", &progress);
    let begun = std::time::Instant::now();
    let outcome = restore(&repository, &snapshot, target, &options, &progress, &context.shutdown);
    shown.finish();
    let outcome = outcome.map_err(|error| match error {
        RestoreError::NotEmpty(_) => RestoreError::NotEmpty(place(args, target)),
        error => error,
    });
    let report = outcome.map_err(|error| match error {
        RestoreError::Interrupted => CommandError::interrupted(error),
        RestoreError::Select(_)
        | RestoreError::NotEmpty(_)
        | RestoreError::Root
        | RestoreError::InsideOwn(_)
        | RestoreError::Partial
        | RestoreError::Incomplete { .. }
        | RestoreError::Target(TargetError::Own { .. }) => CommandError::usage(error),
        error => CommandError::failed(error),
    })?;
    answer(context, &name, &report, args, target, begun.elapsed())?;
    if report.torn > 0 {
        tracing::warn!(
            "{} files changed while the snapshot was made and are mixtures of moments",
            report.torn
        );
    }
    Ok(match (report.damaged_count, report.warning_count + report.torn) {
        (0, 0) => ExitCode::Done,
        (0, _) => ExitCode::Warnings,
        _ => ExitCode::Failed,
    })
}

/// What people call the target.
fn place(args: &RestoreArgs, target: &Path) -> String {
    match &args.as_volume {
        Some(volume) => format!("the volume {}", escaped(volume.as_bytes())),
        None => target.display().to_string(),
    }
}

/// What may be in the target before.
pub(super) fn into(args: &RestoreArgs) -> Into {
    match (args.replace, args.delta) {
        (true, _) => Into::Replace,
        (_, true) => Into::Delta,
        _ => Into::Empty,
    }
}

/// The part of `snapshot` that was asked for.
pub(super) fn selection(
    args: &SelectionArgs,
    strip: bool,
    snapshot: &Snapshot,
) -> Result<Selection, CommandError> {
    let source = args.source.as_deref();
    let paths = args.path.iter().map(|path: &OsString| typed_path(path.as_bytes()));
    let paths = paths.collect::<Result<_, _>>().map_err(CommandError::usage)?;
    let one = || one_source(snapshot, source).map_err(CommandError::usage);
    Ok(Selection {
        paths,
        source: source.map(|_| one()).transpose()?,
        strip: strip.then(one).transpose()?,
    })
}

fn answer(
    context: &Context<'_>,
    name: &SnapshotName,
    report: &RestoreReport,
    args: &RestoreArgs,
    target: &Path,
    elapsed: std::time::Duration,
) -> Result<(), CommandError> {
    context.answer(
        || {
            let what = if args.dry_run { "would restore" } else { "restored" };
            let mut line = format!(
                "{what} {} to {}: {} files, {} directories, {} others, {} in {}",
                name.id.short(),
                place(args, target),
                text::count(report.files),
                text::count(report.directories),
                text::count(report.others),
                text::bytes(report.bytes),
                text::duration(elapsed),
            );
            if args.delta && args.dry_run {
                line += "; that is all of it: what of it differs from what is there was not compared";
            } else if args.delta {
                line += &format!(
                    "; {} files were right already, {} paths removed",
                    text::count(report.files_unchanged),
                    text::count(report.removed)
                );
            }
            if report.warning_count > 0 {
                line += &format!("; {} warnings", text::count(report.warning_count));
            }
            if report.damaged_count > 0 {
                line += &format!(
                    "; {} files are damaged in the repository and were not restored",
                    text::count(report.damaged_count)
                );
            }
            line
        },
        || {
            let damaged: Vec<_> = report
                .damaged
                .iter()
                .map(|(path, problem)| json!({"path": path, "problem": problem}))
                .collect();
            json!({
                "event": "summary", "snapshot": name.id.to_string(), "target": target, "volume": args.as_volume,
                "dry_run": args.dry_run,
                "compared": args.delta && !args.dry_run,
                "files": report.files, "files_unchanged": report.files_unchanged,
                "directories": report.directories, "others": report.others, "removed": report.removed,
                "bytes": report.bytes, "torn": report.torn, "warning_count": report.warning_count, "warnings": report.warnings,
                "damaged_count": report.damaged_count, "damaged": damaged,
            })
        },
    )
}
