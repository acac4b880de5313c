//! What a killed run left paused or stopped is let go on by the next one.

use std::path::Path;

use chores_common::engine::Engine;
use chores_common::exit::chain;

use super::journal::{self, Journal, JournalError};
use super::restore;

#[cfg(test)]
mod tests;

/// What was done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Journals of dead runs that were settled.
    pub journals: u64,
    /// Containers that were let go on.
    pub resumed: Vec<String>,
    /// What could not be done: one sentence each. The journal stays.
    pub failures: Vec<String>,
}

/// Whether there is anything to replay.
#[must_use]
pub fn is_due(state: &Path) -> bool {
    journal::is_any(state)
}

/// Replays the journals of dead runs. One that cannot be read or settled is the error, behind all others.
pub async fn replay(engine: &Engine, state: &Path) -> Result<Replayed, JournalError> {
    let mut replayed = Replayed::default();
    let mut broken = None;
    let (host, id) = (engine.host().to_string(), engine.id().await.unwrap_or_default());
    for journal in journal::dead(state)? {
        let journal = match journal {
            Ok(journal) => journal,
            Err(error) => {
                keep_first(&mut broken, error);
                continue;
            }
        };
        if !is_of(&journal, &host, id.as_deref()) {
            replayed.failures.push(format!(
                "the journal {} belongs to another engine, then at {}: run `backup resume` with --engine",
                journal.path().display(),
                journal.document.engine
            ));
            continue;
        }
        if let Err(error) = replay_one(engine, journal, &mut replayed).await {
            keep_first(&mut broken, error);
        }
    }
    let Some(error) = broken else { return Ok(replayed) };
    for name in &replayed.resumed {
        tracing::warn!("{name} goes on: a killed run had left it paused or stopped");
    }
    for failure in &replayed.failures {
        tracing::warn!("{failure}");
    }
    Err(error)
}

/// One is returned, the others are told.
fn keep_first(first: &mut Option<JournalError>, error: JournalError) {
    if first.is_some() {
        tracing::warn!("{}", chain(&error));
    } else {
        *first = Some(error);
    }
}

/// Whether a journal is of this engine: by what it calls itself, and by how it is reached where one of the two is not known.
fn is_of(journal: &Journal, host: &str, id: Option<&str>) -> bool {
    match (journal.document.engine_id.as_deref(), id) {
        (Some(written), Some(id)) => written == id,
        _ => journal.document.engine == host,
    }
}

async fn replay_one(
    engine: &Engine,
    mut journal: Journal,
    replayed: &mut Replayed,
) -> Result<(), JournalError> {
    let mut targets = std::mem::take(&mut journal.document.targets);
    let outcome = restore::put_back(engine, &mut targets, true, &mut |_, _| ()).await;
    journal.document.targets = targets;
    let mut hooks = std::mem::take(&mut journal.document.hooks);
    let mut failures = outcome.failures;
    if failures.is_empty() {
        failures.extend(restore::run_hooks(engine, &mut hooks, |_, _| ()).await);
        for failure in &failures {
            tracing::warn!("{failure}");
        }
        // A command that fails now would fail for ever.
        failures.clear();
    }
    journal.document.hooks = hooks;
    replayed.resumed.extend(outcome.resumed);
    if failures.is_empty() {
        replayed.journals += 1;
        journal.remove()
    } else {
        replayed.failures.extend(failures);
        journal.save()
    }
}
