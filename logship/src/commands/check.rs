//! `check`: is the configuration right, and what would every container and file get?

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::CheckArgs;
use crate::config::Config;

/// Validates, and shows.
pub fn run(context: &Context<'_>, args: &CheckArgs) -> Result<ExitCode, CommandError> {
    let config = Config::new(context.args, &args.sources)?;
    tracing::debug!(offline = args.offline, host = config.host, "checking");
    Ok(ExitCode::Done)
}
