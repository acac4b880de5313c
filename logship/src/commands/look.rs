//! Commands that look at what is there: `doctor`, `audit` and `healthcheck`.

use std::io::Write as _;

use chores_common::exit::ExitCode;
use chores_common::finding::Status;
use chores_common::status::{self, StatusError};

use super::{CommandError, Context, print};
use crate::archive::moment;
use crate::audit::{self, AuditError, AuditRequest};
use crate::cli::{AuditArgs, DoctorArgs, HealthcheckArgs};
use crate::config::{self, Config, SettingError};
use crate::doctor::{self, DoctorOptions};
use crate::pipeline;
use crate::rule::FilesRule;
use crate::time;
use crate::wal::BYTES_MAX_DEFAULT;

#[derive(Debug, thiserror::Error)]
#[error("no address is named: give --metrics ADDRESS, set LOGSHIP_METRICS, or [metrics] listen")]
struct NoAddress;

#[derive(Debug, thiserror::Error)]
#[error("the log knows no source {0}: `logship audit` lists them")]
struct NoSuchSource(String);

#[derive(Debug, thiserror::Error)]
#[error("it is not well: {0}")]
struct Unwell(String);

/// Tests the surroundings.
pub fn doctor(context: &Context<'_>, args: &DoctorArgs) -> Result<ExitCode, CommandError> {
    let config = Config::new(context.args, &args.sources)?;
    let engine = pipeline::engine_settings(&config);
    let files: Vec<FilesRule> = config.files().cloned().collect();
    let options = DoctorOptions {
        engine: config.has_engine().then_some(&engine),
        files: &files,
        state: config.state.as_deref(),
        wal_bytes_max: config.wal.bytes_max.unwrap_or(BYTES_MAX_DEFAULT),
        json: context.args.json,
    };
    let mut out = std::io::stdout().lock();
    let worst = doctor::doctor(&options, &context.runtime, &mut out);
    let worst = worst.and_then(|worst| out.flush().map(|()| worst));
    Ok(match worst.map_err(CommandError::Answer)? {
        Status::Ok | Status::Note => ExitCode::Done,
        Status::Warn => ExitCode::Warnings,
        Status::Fail => ExitCode::Failed,
    })
}

/// Proves what was shipped.
pub fn audit(context: &Context<'_>, args: &AuditArgs) -> Result<ExitCode, CommandError> {
    let state = context.state()?;
    let since = args.since.as_ref().map(|text| {
        moment(text, time::now()).map_err(|error| SettingError::flag("--since", text, &error))
    });
    let request = AuditRequest { source: args.source.clone(), since: since.transpose()? };
    let report = audit::audit(&state, &request).map_err(|error| match error {
        AuditError::NoLog { .. } => CommandError::usage(error),
        error => CommandError::failed(error),
    })?;
    if let Some(source) = args.source.as_ref().filter(|_| report.sources.is_empty()) {
        return Err(CommandError::usage(NoSuchSource(source.clone())));
    }
    let text = if context.args.json {
        let mut line = serde_json::to_vec(&report)
            .map_err(|error| CommandError::Answer(std::io::Error::other(error)))?;
        line.push(b'\n');
        line
    } else {
        report.text().into_bytes()
    };
    print(&text)?;
    Ok(report.exit_code())
}

/// Asks a running process whether it is well.
pub fn healthcheck(
    context: &Context<'_>,
    args: &HealthcheckArgs,
) -> Result<ExitCode, CommandError> {
    let written = || config::metrics(context.args);
    let address = args.metrics.map_or_else(written, |address| Ok(Some(address)))?;
    let address = address.ok_or_else(|| CommandError::usage(NoAddress))?;
    let (is_well, said) = status::ask(address, "logship")
        .map_err(|error: StatusError| CommandError::failed(error))?;
    if !is_well {
        return Err(CommandError::failed(Unwell(said.replace('\n', "; "))));
    }
    print(format!("{said}\n").as_bytes())
}
