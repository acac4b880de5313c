//! `undelete`: back to a good moment, in a bucket that keeps versions.

use std::time::SystemTime;

use chores_common::exit::ExitCode;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::UndeleteArgs;
use crate::repository::RepositoryError;
use crate::stack;
use crate::undelete::{UndeleteError, UndeleteOptions, undelete};

/// Brings back what was deleted or written over.
pub fn run(context: &Context<'_>, args: &UndeleteArgs) -> Result<ExitCode, CommandError> {
    let as_of = stack::as_of(&args.as_of, jiff::Timestamp::now()).map_err(CommandError::usage)?;
    let store = context.store()?;
    let ring = context.settings.keys.ring()?;
    let options = UndeleteOptions {
        as_of: SystemTime::from(as_of),
        even_format: args.repo_json,
        dry_run: args.dry_run,
    };
    let outcome = undelete(&store, &ring, options, &context.shutdown);
    let done = outcome.map_err(|error| match error {
        UndeleteError::Repository(RepositoryError::Store(error)) => error.into(),
        UndeleteError::Repository(error) => error.into(),
        error @ UndeleteError::Interrupted(_) => CommandError::interrupted(error),
    })?;
    let place = store.objects().location();
    context.answer(
        || {
            let verb = if args.dry_run { "would be" } else { "were" };
            format!(
                "{} objects of {place} {verb} shown again, and {} that had been written over {verb} written again; \
                 `backup check --read-data` tells whether all is well",
                done.shown, done.rewritten
            )
        },
        || {
            json!({
                "event": "summary", "repository": place.to_string(), "dry_run": args.dry_run,
                "as_of": as_of, "shown": done.shown, "rewritten": done.rewritten,
            })
        },
    )?;
    Ok(ExitCode::Done)
}
