//! One function a command: settings in, work done by the modules, an answer out.

pub mod run;

pub mod check;

pub mod rotate;

pub mod look;

pub mod archive;

pub mod page;

pub mod proxy;

use std::io;
use std::path::PathBuf;

use chores_common::command_line;
use chores_common::exit::ExitCode;
use chores_common::object::{ErrorKind, ObjectError};
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;

use crate::cli::CommonArgs;
use crate::config::{self, SettingError};

/// What every command needs.
#[derive(Debug)]
pub struct Context<'a> {
    /// The common options as they were typed.
    pub args: &'a CommonArgs,
    /// Drives requests.
    pub runtime: Handle,
    /// SIGINT, SIGTERM.
    pub shutdown: Shutdown,
}

/// Why a command failed, with its exit code.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The words on the command line or in the file make no sense.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// A store cannot be used.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// Wrong usage that another module found.
    #[error(transparent)]
    Usage(Box<dyn std::error::Error + Send + Sync>),
    /// Anything else that failed.
    #[error(transparent)]
    Failed(Box<dyn std::error::Error + Send + Sync>),
    /// SIGINT or SIGTERM; the text says what is left.
    #[error(transparent)]
    Interrupted(Box<dyn std::error::Error + Send + Sync>),
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

    /// Wraps an error that means a signal.
    pub fn interrupted(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self::Interrupted(Box::new(error))
    }

    /// The same, as the consequence of the request to stop where that was made: requests are given up then.
    #[must_use]
    pub fn after(self, shutdown: &Shutdown) -> Self {
        if shutdown.is_requested() && self.exit_code() == ExitCode::Failed {
            Self::Interrupted(Box::new(self))
        } else {
            self
        }
    }

    /// The code the process ends with.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Setting(_) | Self::Usage(_) => ExitCode::Usage,
            Self::Store(error) if error.kind() == ErrorKind::Invalid => ExitCode::Usage,
            Self::Interrupted(_) => ExitCode::Interrupted,
            Self::Store(_) | Self::Failed(_) | Self::Answer(_) => ExitCode::Failed,
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no state directory is named: give --state DIR or set LOGSHIP_STATE")]
struct NoState;

impl Context<'_> {
    /// The state directory, for commands that look into it.
    pub fn state(&self) -> Result<PathBuf, CommandError> {
        config::state(self.args)?.ok_or_else(|| CommandError::usage(NoState))
    }
}

/// Writes bytes as the answer.
pub fn print(text: &[u8]) -> Result<ExitCode, CommandError> {
    command_line::print(text).map_err(CommandError::Answer)?;
    Ok(ExitCode::Done)
}
