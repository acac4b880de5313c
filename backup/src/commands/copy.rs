//! `copy`.

use chores_common::exit::{ExitCode, chain};
use chores_common::object::{Location, without_password};
use chores_common::progress::Progress;
use serde_json::json;

use super::{CommandError, Context};
use crate::cli::CopyArgs;
use crate::config::{self, KeySettings, SettingError};
use crate::copy::{CopyError, CopyOptions, CopyReport, Outcome, copy};
use crate::create::{CreateError, TransferError, TransferOptions};
use crate::repository::Repository;
use crate::text;

/// Copies snapshots from one repository into another.
pub fn run(context: &Context<'_>, args: &CopyArgs) -> Result<ExitCode, CommandError> {
    let keys = &context.settings.keys;
    // What reads is for the one, what saves for the other.
    let reading = KeySettings { key_file: args.from_key_file.clone(), ..keys.clone() };
    let saving = KeySettings { key_file: keys.key_file.clone(), ..KeySettings::default() };
    let from = open(context, &place("from", &args.from)?, &reading)?;
    from.require_identity()?;
    let to = match &args.to {
        Some(to) => place("to", to)?,
        None => context.location()?,
    };
    let to = open(context, &to, &saving)?;
    let options = CopyOptions {
        snapshots: args.snapshots.clone(),
        name: args.name.clone(),
        transfer: TransferOptions {
            level: config::level(&args.compression),
            uploads: context.settings.budget.uploads(),
        },
        dry_run: args.dry_run,
    };
    let progress = Progress::new();
    let shown = context.show("copy", &progress);
    let outcome = copy(&from, &to, &options, &progress, &context.shutdown);
    shown.finish();
    let report = outcome.map_err(|error| match error {
        CopyError::Interrupted(_) => CommandError::interrupted(error),
        CopyError::Same(_) => CommandError::usage(error),
        CopyError::Repository(error) => error.into(),
        CopyError::Commit(CreateError::Repository(error))
        | CopyError::Transfer(TransferError::Store(CreateError::Repository(error))) => error.into(),
        error => CommandError::failed(error),
    })?;
    answer(context, &report, &to, args.dry_run)
}

fn place(option: &'static str, text: &str) -> Result<Location, CommandError> {
    let parsed = Location::parse(text);
    Ok(parsed.map_err(|error| SettingError::Place(option, without_password(text), error))?)
}

fn open(
    context: &Context<'_>,
    place: &Location,
    keys: &KeySettings,
) -> Result<Repository, CommandError> {
    Ok(Repository::open_with(context.store_at(place)?, keys.ring()?)?)
}

fn answer(
    context: &Context<'_>,
    report: &CopyReport,
    to: &Repository,
    dry_run: bool,
) -> Result<ExitCode, CommandError> {
    let (mut copied, mut there, mut stored, mut damaged) = (0_u64, 0_u64, 0, 0);
    let mut items = Vec::new();
    for item in &report.snapshots {
        let (outcome, id) = match &item.outcome {
            Outcome::Copied(name, stats) => {
                copied += 1;
                stored += stats.bytes_stored;
                ("copied", Some(name.id.to_string()))
            }
            Outcome::Would => {
                copied += 1;
                ("would", None)
            }
            Outcome::There => {
                there += 1;
                ("there", None)
            }
            Outcome::Damaged(error) => {
                damaged += 1;
                tracing::error!("{} was not copied: {}", item.from.key(), chain(error));
                ("damaged", None)
            }
        };
        items.push(json!({
            "from": item.from.id.to_string(), "to": id, "name": item.snapshot.name,
            "time": item.snapshot.time.to_string(), "outcome": outcome,
        }));
    }
    for (name, problem) in &report.unreadable {
        damaged += 1;
        tracing::error!("{} was not copied: {problem}", name.key());
    }
    context.answer(
        || {
            let what = if dry_run { "would copy" } else { "copied" };
            let mut line = format!(
                "{what} {} snapshots to {}; {} were there already; {} stored",
                text::count(copied),
                to.place(),
                text::count(there),
                text::bytes(stored),
            );
            if damaged > 0 {
                line += &format!("; {} cannot be read to their end and were not copied", text::count(damaged));
            }
            line
        },
        || {
            json!({
                "event": "summary", "to": to.place(), "copied": copied, "there": there, "damaged": damaged,
                "bytes_stored": stored, "dry_run": dry_run, "snapshots": items,
            })
        },
    )?;
    Ok(if damaged == 0 { ExitCode::Done } else { ExitCode::Failed })
}
