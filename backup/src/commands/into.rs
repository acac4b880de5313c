//! `restore --into`: a database dump back into a running database.

use chores_common::engine::Engine;
use chores_common::exit::ExitCode;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::RestoreArgs;
use crate::into::{self, IntoError, IntoOptions, PlanError, Wishes};
use crate::snapshot::State;
use crate::text;

/// Restores a dump through the target's own client.
pub fn run(
    context: &Context<'_>,
    args: &RestoreArgs,
    container: &str,
) -> Result<ExitCode, CommandError> {
    let repository = context.readable_repository()?;
    let (name, snapshot) = repository.select(super::restore::named(args)?)?;
    if snapshot.state == State::Failed && !args.force {
        return Err(CommandError::usage(PlanError::Failed));
    }
    let paths: Vec<String> =
        args.selection.path.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    let chosen = into::choose(&snapshot.dumps, args.selection.source.as_deref(), &paths)
        .map_err(CommandError::usage)?;
    let options = IntoOptions {
        wishes: Wishes {
            replace: args.replace,
            accounts: true,
            make: false,
            command: args.command.clone(),
        },
        prove: true,
        dry_run: args.dry_run,
    };
    let begun = std::time::Instant::now();
    let outcome = context.runtime.block_on(async {
        let engine = Engine::connect(context.args.engine.as_deref()).await?;
        into::restore_into(
            &engine,
            &repository,
            &snapshot,
            &chosen,
            container,
            &options,
            &context.shutdown,
        )
        .await
    });
    let report = outcome.map_err(|error: IntoError| match error {
        IntoError::Interrupted(_) => CommandError::interrupted(error),
        IntoError::Plan(_)
        | IntoError::Occupied { .. }
        | IntoError::NotRunning(_)
        | IntoError::Paused(_)
        | IntoError::NoVolume { .. } => CommandError::usage(error),
        error => CommandError::failed(error),
    })?;
    context.answer(
        || {
            let what = if args.dry_run { "would restore" } else { "restored" };
            let mut line = format!(
                "{what} the dump {} of {} into {container}: {} files, {} in {}",
                chosen.record.path,
                name.id.short(),
                text::count(report.files),
                text::bytes(report.bytes),
                text::duration(begun.elapsed()),
            );
            if !report.replaced.is_empty() {
                line += &format!("; in place of {}", report.replaced.join(", "));
            }
            line
        },
        || {
            json!({
                "event": "summary", "snapshot": name.id.to_string(), "into": container, "dump": chosen.record.path,
                "kind": chosen.record.kind, "dry_run": args.dry_run, "files": report.files, "bytes": report.bytes,
                "replaced": report.replaced,
            })
        },
    )?;
    Ok(ExitCode::Done)
}
