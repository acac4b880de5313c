//! `doctor`: will it work here?

use std::io::{self, Write as _};

use chores_common::exit::ExitCode;
use chores_common::finding::{self, Status};
use jiff::Timestamp;
use tokio::runtime::Builder;

use super::CommandError;
use crate::cli::{CommonArgs, DoctorArgs};
use crate::config::{self, EnterConfig};
use crate::doctor::{self, Helper};
use crate::upload_state;

/// Looks and answers.
pub fn run(common: &CommonArgs, args: &DoctorArgs) -> Result<ExitCode, CommandError> {
    let config = EnterConfig::for_doctor(common, args)?;
    // While there is one thread.
    let helper = match args.container {
        Some(_) => Some(Helper::start().map_err(|error| CommandError::failed(NoHelper(error)))?),
        None => None,
    };
    let runtime =
        Builder::new_current_thread().enable_all().build().map_err(CommandError::failed)?;
    let container = args.container.as_deref();
    let mut findings = runtime.block_on(doctor::examine(&config, container, helper));
    // What hangs must not hold up the answer.
    runtime.shutdown_background();
    if let Some(state) = config::state(common)? {
        findings.extend(doctor::audit_key(&state));
        findings.extend(upload_state::finding(&state, Timestamp::now()));
    }
    let mut out = io::stdout().lock();
    let worst = finding::write(&findings, common.json, &mut out)
        .and_then(|worst| out.flush().map(|()| worst))
        .map_err(CommandError::Answer)?;
    Ok(match worst {
        Status::Ok | Status::Note => ExitCode::Done,
        Status::Warn => ExitCode::Warnings,
        Status::Fail => ExitCode::Failed,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("cannot start the process that enters containers")]
struct NoHelper(#[source] io::Error);
