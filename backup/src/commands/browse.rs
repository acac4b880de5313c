//! `snapshots`, `ls`, `cat`, `find`, `diff`, `stats`: questions about a repository.

use std::ffi::OsString;
use std::io::{self, BufWriter, StdoutLock};
use std::os::unix::ffi::OsStrExt;

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::browse::{self, BrowseError, DiffOptions, FindOptions, ListOptions, SnapshotsOptions};
use crate::cli::{CatArgs, DiffArgs, FindArgs, LsArgs, SnapshotsArgs};
use crate::config;
use crate::entry::PathBytes;
use crate::restore::select::typed_path;

/// `snapshots`.
pub fn snapshots(context: &Context<'_>, args: &SnapshotsArgs) -> Result<ExitCode, CommandError> {
    let tags = config::tags(&args.tag)?;
    let options = SnapshotsOptions { name: args.name.clone(), tags, json: context.settings.json };
    let report = browse::snapshots(&context.repository()?, &options, &mut out());
    answered(report.map(|report| report.damaged == 0))
}

/// `ls`.
pub fn ls(context: &Context<'_>, args: &LsArgs) -> Result<ExitCode, CommandError> {
    let repository = context.readable_repository()?;
    let (_, snapshot) = repository.select(&args.snapshot)?;
    let options = ListOptions {
        paths: paths(&args.paths)?,
        recursive: args.recursive,
        json: context.settings.json,
    };
    answered(browse::ls(&repository, &snapshot, &options, &mut out()).map(|()| true))
}

/// `cat`.
pub fn cat(context: &Context<'_>, args: &CatArgs) -> Result<ExitCode, CommandError> {
    if context.settings.json {
        return Err(CommandError::usage(NoJson));
    }
    let repository = context.readable_repository()?;
    let (_, snapshot) = repository.select(&args.snapshot)?;
    let path = typed_path(args.path.as_bytes()).map_err(CommandError::usage)?;
    let report = browse::cat(&repository, &snapshot, &path, &mut out(), &context.shutdown);
    if report.as_ref().is_ok_and(|report| report.torn) {
        tracing::warn!("the file changed while it was saved: this is a mixture of moments");
    }
    answered(report.map(|report| !report.torn))
}

/// `find`.
pub fn find(context: &Context<'_>, args: &FindArgs) -> Result<ExitCode, CommandError> {
    let options = FindOptions {
        patterns: args.patterns.clone(),
        snapshot: args.snapshot.clone(),
        name: args.name.clone(),
        json: context.settings.json,
    };
    let report = browse::find(&context.readable_repository()?, &options, &mut out());
    answered(report.map(|report| report.damaged == 0))
}

/// `diff`.
pub fn diff(context: &Context<'_>, args: &DiffArgs) -> Result<ExitCode, CommandError> {
    let repository = context.readable_repository()?;
    let (_, old) = repository.select(&args.old)?;
    let (_, new) = repository.select(&args.new)?;
    let options = DiffOptions { paths: paths(&args.paths)?, json: context.settings.json };
    answered(browse::diff(&repository, &old, &new, &options, &mut out()).map(|_| true))
}

/// `stats`.
pub fn stats(context: &Context<'_>) -> Result<ExitCode, CommandError> {
    let stats = browse::stats(&context.repository()?, context.settings.json, &mut out());
    answered(stats.map(|stats| !stats.has_damage()))
}

#[derive(Debug, thiserror::Error)]
#[error("`cat` writes the file as it is: leave --json out")]
struct NoJson;

fn out() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

fn paths(typed: &[OsString]) -> Result<Vec<PathBytes>, CommandError> {
    let paths = typed.iter().map(|path| typed_path(path.as_bytes()));
    paths.collect::<Result<_, _>>().map_err(CommandError::usage)
}

fn answered(outcome: Result<bool, BrowseError>) -> Result<ExitCode, CommandError> {
    match outcome {
        Ok(true) => Ok(ExitCode::Done),
        Ok(false) => Ok(ExitCode::Warnings),
        Err(error) if error.is_broken_pipe() => Ok(ExitCode::Done),
        Err(BrowseError::Repository(error)) => Err(error.into()),
        Err(error @ BrowseError::Interrupted) => Err(CommandError::interrupted(error)),
        Err(
            error @ (BrowseError::Pattern(_)
            | BrowseError::TooMany
            | BrowseError::Select(_)
            | BrowseError::NotAFile { .. }),
        ) => Err(CommandError::usage(error)),
        Err(error) => Err(CommandError::failed(error)),
    }
}
