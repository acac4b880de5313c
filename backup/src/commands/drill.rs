//! `drill`.

use std::time::Duration;

use chores_common::engine::Engine;
use chores_common::exit::ExitCode;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::DrillArgs;
use crate::drill::{self, DrillError, DrillOptions};
use crate::drill_record::{DrillRecord, Outcome, PartRecord};
use crate::repository::Repository;
use crate::snapshot::{Snapshot, SnapshotName, State};
use crate::text;

/// Restores a snapshot into a throw-away container and looks whether it is good.
pub fn run(context: &Context<'_>, args: &DrillArgs) -> Result<ExitCode, CommandError> {
    let repository = context.readable_repository()?;
    let (name, snapshot) = match (&args.snapshot, &args.container) {
        (Some(selector), _) => repository.select(selector)?,
        (None, Some(container)) => newest_of(&repository, container)?,
        (None, None) => return Err(CommandError::usage(NoSnapshot)),
    };
    for variable in &args.env {
        if variable.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
            return Err(CommandError::usage(NoVariable(variable.clone())));
        }
    }
    let options = DrillOptions {
        worker: super::worker::options(context, &repository, true, &args.worker)?,
        // What a worker says in one line is part of a sentence here.
        worker_words: super::worker::common_words(context)
            .into_iter()
            .filter(|word| word != "--json")
            .collect(),
        source: args.source.clone(),
        check: args.check.clone(),
        image: args.image.clone(),
        env: args.env.clone(),
        ready_time_max: Duration::from_secs(args.ready_within),
    };
    let engine = context
        .runtime
        .block_on(Engine::connect(context.args.engine.as_deref()))
        .map_err(CommandError::failed)?;
    let record = drill::drill(
        &context.runtime,
        &engine,
        &repository,
        (&name, &snapshot),
        &options,
        &context.shutdown,
    )
    .map_err(|error| match error {
        DrillError::Interrupted => CommandError::interrupted(error),
        DrillError::Plan(_) => CommandError::usage(error),
        error => CommandError::failed(error),
    })?;
    let left_out = left_out(&snapshot, &record);
    context.answer(
        || told(&name, &record, &left_out),
        || {
            let mut value = json!(record);
            if let Some(fields) = value.as_object_mut() {
                fields.insert("not_looked_at".to_owned(), json!(left_out));
                fields.insert("event".to_owned(), json!("summary"));
            }
            value
        },
    )?;
    Ok(match record.outcome {
        Outcome::Good => ExitCode::Done,
        Outcome::Failed => ExitCode::Failed,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("nothing says what to drill: name a snapshot, or a container with --container")]
struct NoSnapshot;

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is no environment variable: write --env NAME=VALUE")]
struct NoVariable(String);

#[derive(Debug, thiserror::Error)]
#[error("no backup of a container {0} is in {1}: `backup snapshots` lists what there is")]
struct NoContainer(String, String);

/// The newest backup of a container or of its database.
fn newest_of(
    repository: &Repository,
    container: &str,
) -> Result<(SnapshotName, Snapshot), CommandError> {
    let is_of = |snapshot: &Snapshot| {
        let of_dumps = snapshot.dumps.iter().filter_map(|dump| dump.container.as_ref());
        snapshot.container.iter().chain(of_dumps).any(|origin| origin.name == container)
    };
    let mut readable = Vec::new();
    for (name, read) in repository.snapshots()? {
        match read {
            Ok(snapshot) => readable.push((name, snapshot)),
            Err(error) => {
                tracing::warn!("passed over: {}", chores_common::exit::chain(&error));
            }
        }
    }
    readable
        .into_iter()
        .filter(|(_, snapshot)| snapshot.state != State::Failed && is_of(snapshot))
        .max_by_key(|(_, snapshot)| snapshot.time)
        .ok_or_else(|| CommandError::usage(NoContainer(container.to_owned(), repository.place())))
}

/// Sources of the snapshot that nobody looked at.
fn left_out<'s>(snapshot: &'s Snapshot, record: &DrillRecord) -> Vec<&'s str> {
    let paths = snapshot.sources.iter().map(|source| source.path.as_str());
    paths
        .filter(|path| !record.parts.iter().any(|part| part.what.iter().any(|what| what == path)))
        .collect()
}

/// The record for people.
fn told(name: &SnapshotName, record: &DrillRecord, left_out: &[&str]) -> String {
    let word = match record.outcome {
        Outcome::Good => "good",
        Outcome::Failed => "NOT good",
    };
    let parts: Vec<_> = record.parts.iter().map(told_part).collect();
    let rest = match left_out {
        [] => String::new(),
        paths => format!("; not looked at: {}", paths.join(", ")),
    };
    format!("the backup {} is {word}: {}{rest}", name.id.short(), parts.join("; "))
}

fn told_part(part: &PartRecord) -> String {
    let what = part.what.join(", ");
    let restored = text::duration(Duration::from_millis(part.restore_ms));
    match &part.problem {
        Some(problem) => format!("{what} ({}): {problem}", part.kind),
        None if part.table_count > 0 => {
            let rows: u64 = part.rows.values().sum();
            format!(
                "{what} ({}): restored in {restored}, {} rows in {} tables, checked by {}",
                part.kind,
                text::count(rows),
                text::count(part.table_count),
                part.checks.join(", ")
            )
        }
        None => format!(
            "{what} ({}): restored in {restored}, no tables, checked by {}",
            part.kind,
            part.checks.join(", ")
        ),
    }
}
