//! `check` and `doctor`: is all well?

use std::io::{self, Write};
use std::time::Duration;

use chores_common::exit::ExitCode;
use chores_common::progress::Progress;

use super::{CommandError, Context};
use crate::check::{CheckError, CheckOptions, check, write_json, write_text};
use crate::cli::{CheckArgs, DoctorArgs};
use crate::config;
use crate::doctor::{DoctorOptions, doctor};
use crate::serve::discover::discover;
use crate::serve::resident::{load, look_once};
use crate::serve::settings::Typed;

/// How long the engine is waited for that may say which drills are ordered.
const LOOK_TIME_MAX: Duration = Duration::from_secs(10);

const SECONDS_PER_DAY: i64 = 86_400;

/// Proves that every snapshot can be restored.
pub fn run(context: &Context<'_>, args: &CheckArgs) -> Result<ExitCode, CommandError> {
    let repository = context.repository()?;
    let budget = context.settings.budget;
    let threads = match args.read_data {
        Some(_) => budget.reading_packs(repository.is_encrypted()),
        None => budget.reading(repository.is_encrypted()),
    };
    let today = jiff::Timestamp::now().as_second() / SECONDS_PER_DAY;
    let options = CheckOptions {
        read_data: args.read_data,
        rotation: u64::try_from(today).unwrap_or(0),
        threads,
    };
    let progress = Progress::new();
    let shown = context.show("check", &progress);
    let outcome = check(&repository, &options, &progress, &context.shutdown);
    shown.finish();
    let report = outcome.map_err(|error| match error {
        CheckError::Interrupted => CommandError::interrupted(error),
        CheckError::Repository(error) => error.into(),
        error => CommandError::failed(error),
    })?;
    let mut out = io::stdout().lock();
    let written = if context.settings.json {
        write_json(&report, &mut out)
    } else {
        write_text(&report, &mut out)
    };
    written.and_then(|()| out.flush()).map_err(CommandError::Answer)?;
    Ok(if !report.is_sound() {
        ExitCode::Failed
    } else if report.keyless && args.read_data.is_some() || report.has_closed() {
        // Not all of what was asked for was looked at.
        ExitCode::Warnings
    } else {
        ExitCode::Done
    })
}

/// Tests the surroundings.
pub fn doctor_run(context: &Context<'_>, args: &DoctorArgs) -> Result<ExitCode, CommandError> {
    let location = context.args.repo.is_some().then(|| context.location()).transpose()?;
    let cache =
        location.as_ref().and_then(|location| config::cache_directory(context.args, location));
    let keys = context.settings.keys.ring()?;
    // Only an encrypted repository needs a private key for them.
    let drilled = if location.is_some() && !context.settings.keys.is_empty() {
        drilled(context)
    } else {
        Vec::new()
    };
    let options = DoctorOptions {
        location: location.as_ref(),
        settings: &context.settings.s3,
        remote: &context.settings.remote,
        keys: &keys,
        engine_host: context.args.engine.as_deref(),
        worker_image: args.worker.worker_image.as_deref(),
        drilled: &drilled,
        cache: cache.as_deref(),
        json: context.settings.json,
        shutdown: &context.shutdown,
    };
    let well = doctor(&options, &context.runtime, &mut io::stdout().lock())
        .map_err(CommandError::Answer)?;
    Ok(if well { ExitCode::Done } else { ExitCode::Failed })
}

/// Jobs of which labels order drills; none where the engine does not say.
fn drilled(context: &Context<'_>) -> Vec<String> {
    let Ok(settings) = load(None, &Typed::default()) else { return Vec::new() };
    let looked = look_once(context.args.engine.as_deref(), LOOK_TIME_MAX);
    let Ok(found) = context.runtime.block_on(looked) else { return Vec::new() };
    let jobs = discover(&found, &settings.defaults).jobs.into_iter();
    jobs.filter(|job| job.drill.is_some()).map(|job| job.name).collect()
}
