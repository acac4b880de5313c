//! `export`.

use chores_common::exit::ExitCode;
use chores_common::progress::Progress;
use serde_json::json;

use super::restore::selection;
use super::stream::sink;
use super::{CommandError, Context};
use crate::cli::ExportArgs;
use crate::config;
use crate::export::{ExportError, ExportOptions, export};
use crate::text;

/// Writes a snapshot as one archive.
pub fn run(context: &Context<'_>, args: &ExportArgs) -> Result<ExitCode, CommandError> {
    let repository = context.readable_repository()?;
    let (name, snapshot) = repository.select(&args.snapshot)?;
    let options = ExportOptions {
        selection: selection(&args.selection, false, &snapshot)?,
        level: config::level(&args.compression),
        threads: u32::try_from(context.settings.budget.compressing()).unwrap_or(1),
    };
    let is_piped = args.to == "-";
    let sink = sink(context, &args.to)?;
    let progress = Progress::new();
    let shown = (!is_piped).then(|| context.show("export", &progress));
    let outcome = export(&repository, &snapshot, &options, sink, &progress, &context.shutdown);
    if let Some(shown) = shown {
        shown.finish();
    }
    let (report, sink) = outcome.map_err(|error| match error {
        ExportError::Interrupted => CommandError::interrupted(error),
        ExportError::Select(_) => CommandError::usage(error),
        ExportError::Repository(error) => error.into(),
        error => CommandError::failed(error),
    })?;
    sink.commit(&context.runtime).map_err(CommandError::failed)?;
    report.notes.iter().for_each(|note| tracing::info!("{note}"));
    if !is_piped {
        context.answer(
            || {
                format!(
                    "exported {} to {}: {} entries, {} of content, {} written",
                    name.id.short(),
                    args.to.to_string_lossy(),
                    text::count(report.entries),
                    text::bytes(report.content_bytes),
                    text::bytes(report.stored_bytes),
                )
            },
            || {
                json!({
                    "event": "summary", "snapshot": name.id.to_string(), "entries": report.entries,
                    "content_bytes": report.content_bytes, "stored_bytes": report.stored_bytes,
                    "torn": report.torn, "skipped": report.skipped,
                })
            },
        )?;
    }
    if report.torn > 0 {
        tracing::warn!(
            "{} files changed while the snapshot was made and are mixtures of moments",
            report.torn
        );
    }
    Ok(if report.torn == 0 { ExitCode::Done } else { ExitCode::Warnings })
}
