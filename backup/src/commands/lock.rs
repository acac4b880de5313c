//! `lock`: how long what is saved is kept from being removed.

use chores_common::exit::ExitCode;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::{LockArgs, LockChange};
use crate::lock::Lock;
use crate::repository::Repository;

/// Says it, or changes it.
pub fn run(context: &Context<'_>, args: &LockArgs) -> Result<ExitCode, CommandError> {
    let repository = context.repository()?;
    let lock = match &args.change {
        None => repository.lock(),
        Some(LockChange::Off) => change(&repository, None)?,
        Some(LockChange::To(lock)) => change(&repository, Some(*lock))?,
    };
    let place = repository.place();
    context.answer(
        || match lock {
            Some(lock) => told(lock, &place),
            None => format!(
                "what is saved to {place} from now on is not locked, and old versions of what is gone are not removed by `prune`"
            ),
        },
        || json!({"event": "summary", "repository": place, "lock": lock}),
    )?;
    Ok(ExitCode::Done)
}

fn change(repository: &Repository, lock: Option<Lock>) -> Result<Option<Lock>, CommandError> {
    repository.change_lock(lock)?;
    Ok(lock)
}

/// One sentence about a lock.
pub(super) fn told(lock: Lock, place: &str) -> String {
    format!(
        "each snapshot of {place} and all it needs is locked for {} days from its commit on, in {} mode",
        lock.days, lock.mode
    )
}
