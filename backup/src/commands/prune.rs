//! `prune`: what no snapshot needs goes.

use std::io::{self, Write};

use chores_common::exit::ExitCode;
use chores_common::progress::Progress;

use super::{CommandError, Context};
use crate::cli::PruneArgs;
use crate::prune::choose::RepackRules;
use crate::prune::plan::Rules;
use crate::prune::{PruneError, PruneOptions, prune, write_json, write_text};
use crate::repository::Repository;

/// Prunes by itself.
pub fn run(context: &Context<'_>, args: &PruneArgs) -> Result<ExitCode, CommandError> {
    run_on(context, &context.repository()?, args, false, "summary")
}

/// Prunes `repository`; the answer is called `event` in JSON.
pub(super) fn run_on(
    context: &Context<'_>,
    repository: &Repository,
    args: &PruneArgs,
    dry_run: bool,
    event: &'static str,
) -> Result<ExitCode, CommandError> {
    let options = PruneOptions {
        rules: Rules { grace: args.grace, bytes_max: args.max_bytes },
        repack: RepackRules { max_unused: args.max_unused, bytes_max: args.max_repack_size },
        even_all: args.even_all,
        dry_run: dry_run || args.dry_run,
    };
    let progress = Progress::new();
    let shown = context.show("prune", &progress);
    let outcome = prune(repository, &options, &progress, &context.shutdown);
    shown.finish();
    let report = outcome.map_err(|error| match error {
        PruneError::Repository(error) => error.into(),
        error @ PruneError::Interrupted(_) => CommandError::interrupted(error),
        error @ PruneError::NoSnapshot(_) => CommandError::usage(error),
        error @ (PruneError::Unreadable(..)
        | PruneError::Stranger(_)
        | PruneError::Missing(_)
        | PruneError::Read(_)
        | PruneError::Compress(_)
        | PruneError::NoClock) => CommandError::failed(error),
    })?;
    let mut out = io::stdout().lock();
    let written = if context.settings.json {
        write_json(&report, event, &mut out)
    } else {
        write_text(&report, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    Ok(if report.needs_a_look() { ExitCode::Warnings } else { ExitCode::Done })
}
