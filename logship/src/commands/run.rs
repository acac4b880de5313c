//! `run` and `once`: shipping itself.

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::RunArgs;
use crate::config::Config;
use crate::rule::Mode;

#[derive(Debug, thiserror::Error)]
#[error("nothing can be shipped by this build: its parts are not joined")]
struct NotJoined;

/// Ships.
pub fn run(context: &Context<'_>, args: &RunArgs, mode: Mode) -> Result<ExitCode, CommandError> {
    let config = Config::for_run(context.args, args)?;
    tracing::debug!(?mode, sources = config.sources.len(), sinks = config.sinks.len(), "starting");
    Err(CommandError::failed(NotJoined))
}
