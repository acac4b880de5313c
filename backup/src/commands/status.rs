//! `status`: what of this host is protected.

use std::io::{self, Write};

use chores_common::exit::ExitCode;
use chores_common::object::Location;

use super::{CommandError, Context};
use crate::cli::StatusArgs;
use crate::config;
use crate::coverage::inventory::Own;
use crate::coverage::{StatusError, StatusOptions, status, write_json, write_text};

/// Says what is protected, what is not, and what nobody can say.
pub fn run(context: &Context<'_>, args: &StatusArgs) -> Result<ExitCode, CommandError> {
    let repository = context.repository()?;
    let location = context.location()?;
    let mut own = Vec::new();
    own.extend(config::cache_directory(context.args, &location).map(|path| (Own::Cache, path)));
    own.extend(config::state_directory(context.args).map(|path| (Own::State, path)));
    if let Location::Directory(path) = location {
        own.push((Own::Repository, path));
    }
    let options = StatusOptions {
        wanted: args.names.clone(),
        except: args.except.clone(),
        age_max: args.max_age,
        hosts: args.host.clone(),
        any_host: args.any_host,
        own,
        now: jiff::Timestamp::now(),
    };
    let engine = context.args.engine.as_deref();
    let report = status(&repository, &options, engine, &context.runtime, &context.shutdown);
    let report = report.map_err(|error| match error {
        StatusError::Repository(error) => error.into(),
        error @ StatusError::Interrupted => CommandError::interrupted(error),
        error @ StatusError::Wanted(_) => CommandError::usage(error),
    })?;
    let mut out = io::stdout().lock();
    let written = if context.settings.json {
        write_json(&report, &mut out)
    } else {
        write_text(&report, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    Ok(match (&report.engine_problem, report.is_well()) {
        (Some(_), _) => ExitCode::Failed,
        (None, false) => ExitCode::Warnings,
        (None, true) => ExitCode::Done,
    })
}
