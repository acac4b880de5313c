//! One function a command: settings in, work done by the modules, an answer out.

pub mod audit;
pub mod connections;
pub mod doctor;
pub mod policy;
pub mod replay;
pub mod serve;
pub mod sessions;
pub mod ssh_config;
pub mod totp;

mod gateway;

use std::io;

use chores_common::command_line;
use chores_common::exit::ExitCode;

use crate::config::SettingError;
use crate::host_keys::HostKeyError;
use crate::policy::PolicyError;

/// Why a command failed, with its exit code.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The words on the command line or in the file make no sense.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// Nobody could come in, or anybody.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The gateway has no keys of its own.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// Wrong usage that another module found.
    #[error(transparent)]
    Usage(Box<dyn std::error::Error + Send + Sync>),
    /// Anything else that failed.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// The answer cannot be written.
    #[error("cannot write the answer to standard output")]
    Answer(#[source] io::Error),
}

impl CommandError {
    /// Wraps an error that means wrong usage.
    pub fn usage(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Usage(Box::new(error))
    }

    /// Wraps an error that means failure.
    pub fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Failed(Box::new(error))
    }

    /// The code the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Setting(_) | Self::Policy(_) | Self::Usage(_) => ExitCode::Usage,
            Self::HostKey(
                HostKeyError::Unusable { .. } | HostKeyError::UnusableAuditKey { .. },
            ) => ExitCode::Usage,
            Self::HostKey(_) | Self::Failed(_) | Self::Answer(_) => ExitCode::Failed,
        }
    }
}

/// Writes bytes as the answer.
pub fn print(text: &[u8]) -> Result<ExitCode, CommandError> {
    command_line::print(text).map_err(CommandError::Answer)?;
    Ok(ExitCode::Done)
}
