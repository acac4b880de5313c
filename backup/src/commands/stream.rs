//! `stream`.

use std::ffi::OsStr;
use std::ops::ControlFlow;

use chores_common::exit::ExitCode;
use chores_common::object::{Location, without_password};
use chores_common::progress::Progress;
use serde_json::json;

use super::create::{find, walk_options};
use super::{CommandError, Context};
use crate::cli::StreamArgs;
use crate::config::{self, SettingError};
use crate::keys::recipient::Recipients;
use crate::sink::{Outlet, Sink, SinkError};
use crate::stream::{Notice, StreamError, StreamOptions, stream};
use crate::text;

/// Writes one archive of paths.
pub fn run(context: &Context<'_>, args: &StreamArgs) -> Result<ExitCode, CommandError> {
    let recipients = recipients(context, args)?;
    let sources = find(&args.paths, &[])?;
    let sink = sink(context, &args.to)?;
    let options = StreamOptions {
        walk: walk_options(&args.walk, sink.identities())?,
        level: config::level(&args.compression),
        threads: u32::try_from(context.settings.budget.compressing()).unwrap_or(1),
    };
    let outlet = Outlet::new(sink, recipients.as_ref()).map_err(CommandError::failed)?;
    let progress = Progress::new();
    let shown = (args.to != "-").then(|| context.show("stream", &progress));
    let mut last = 0;
    let outcome = stream(&sources.roots, &options, outlet, |notice| {
        match notice {
            Notice::Progress(report) => {
                progress.add_bytes(report.content_bytes.saturating_sub(last));
                last = report.content_bytes;
            }
            Notice::Skipped(skipped) => tracing::info!("{skipped}"),
            Notice::Warning(warning) => tracing::warn!("{}", chores_common::exit::chain(&warning)),
        }
        if context.shutdown.is_requested() {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    });
    if let Some(shown) = shown {
        shown.finish();
    }
    let (report, outlet) = outcome.map_err(|error| match error {
        StreamError::Interrupted => CommandError::interrupted(error),
        error => CommandError::failed(error),
    })?;
    let committed = outlet.finish().and_then(|sink| sink.commit(&context.runtime));
    committed.map_err(CommandError::failed)?;
    if args.to != "-" {
        context.answer(
            || {
                format!(
                    "{} entries, {} of content, {} written to {}",
                    text::count(report.entries),
                    text::bytes(report.content_bytes),
                    text::bytes(report.stored_bytes),
                    args.to.to_string_lossy()
                )
            },
            || {
                json!({"event": "summary", "entries": report.entries, "content_bytes": report.content_bytes,
                    "stored_bytes": report.stored_bytes, "skipped": report.skipped, "warning_count": report.warnings})
            },
        )?;
    }
    Ok(if report.warnings == 0 { ExitCode::Done } else { ExitCode::Warnings })
}

/// Who reads the archive; nobody in particular where nobody is named.
fn recipients(
    context: &Context<'_>,
    args: &StreamArgs,
) -> Result<Option<Recipients>, CommandError> {
    if args.recipients.is_empty() {
        if !context.settings.keys.is_empty() {
            tracing::warn!(
                "a key is given, and the archive is not encrypted: --recipient age1… encrypts it"
            );
        }
        return Ok(None);
    }
    let texts = config::recipients(&args.recipients)?;
    let recipients = Recipients::parse(texts.iter().map(String::as_str));
    Ok(Some(recipients.map_err(SettingError::from)?))
}

/// The place that `--to` names.
pub(super) fn sink(context: &Context<'_>, to: &OsStr) -> Result<Sink, CommandError> {
    if to == "-" {
        return Ok(Sink::stdout());
    }
    let text = to.to_string_lossy();
    let location =
        Location::parse(&text).map_err(|error| SettingError::To(without_password(&text), error))?;
    Sink::open(&location, &context.settings.s3, &context.runtime).map_err(|error| match error {
        SinkError::NoKey(_) | SinkError::Directory(_) | SinkError::Remote(_) => {
            CommandError::usage(error)
        }
        error => CommandError::failed(error),
    })
}
