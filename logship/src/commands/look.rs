//! Commands that look at what is there: `doctor` and `audit`.

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::{AuditArgs, DoctorArgs, HealthcheckArgs};
use crate::config::{self, Config};

#[derive(Debug, thiserror::Error)]
#[error("this build cannot do that: its parts are not joined")]
struct NotJoined;

#[derive(Debug, thiserror::Error)]
#[error("no state directory is named: give --state DIR or set LOGSHIP_STATE")]
struct NoState;

/// Tests the surroundings.
pub fn doctor(context: &Context<'_>, args: &DoctorArgs) -> Result<ExitCode, CommandError> {
    let config = Config::new(context.args, &args.sources)?;
    tracing::debug!(host = config.host, "looking");
    Err(CommandError::failed(NotJoined))
}

/// Proves what was shipped.
pub fn audit(context: &Context<'_>, args: &AuditArgs) -> Result<ExitCode, CommandError> {
    let state = config::state(context.args)?.ok_or_else(|| CommandError::usage(NoState))?;
    tracing::debug!(state = %state.display(), source = args.source, "looking");
    Err(CommandError::failed(NotJoined))
}

/// Asks a running process whether it is well.
pub fn healthcheck(
    _context: &Context<'_>,
    _args: &HealthcheckArgs,
) -> Result<ExitCode, CommandError> {
    Err(CommandError::failed(NotJoined))
}
