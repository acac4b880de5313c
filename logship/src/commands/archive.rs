//! `cat`, `grep` and `tail`: what was shipped, read again.

use chores_common::exit::ExitCode;

use super::{CommandError, Context};
use crate::cli::{CatArgs, GrepArgs, TailArgs};

#[derive(Debug, thiserror::Error)]
#[error("this build cannot do that: its parts are not joined")]
struct NotJoined;

/// Prints archives.
pub fn cat(_context: &Context<'_>, _args: &CatArgs) -> Result<ExitCode, CommandError> {
    Err(CommandError::failed(NotJoined))
}

/// Searches archives.
pub fn grep(_context: &Context<'_>, _args: &GrepArgs) -> Result<ExitCode, CommandError> {
    Err(CommandError::failed(NotJoined))
}

/// Prints the end.
pub fn tail(_context: &Context<'_>, _args: &TailArgs) -> Result<ExitCode, CommandError> {
    Err(CommandError::failed(NotJoined))
}
