//! One function a command: settings in, work done by the modules, an answer out.

pub mod key;
pub mod lock;

pub mod create;
pub mod quiesce;
pub mod worker;

pub mod dump;

pub mod stream;

pub mod browse;
pub mod mount;

pub mod into;
pub mod restore;
pub mod stack;

pub mod drill;

pub mod export;

pub mod copy;

pub mod check;
pub mod status;

pub mod forget;
pub mod prune;
pub mod undelete;

pub mod notify;

pub mod serve;

use std::io::{self, Write};

use chores_common::exit::ExitCode;
use chores_common::object::{ErrorKind, Location, ObjectError, ObjectStore};
use chores_common::progress::{Output, Progress, Reporter};
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;

use crate::cli::CommonArgs;
use crate::config::{self, SettingError, Settings};
use crate::repository::{Repository, RepositoryError};
use crate::store::Store;

/// What every command needs.
#[derive(Debug)]
pub struct Context<'a> {
    /// The common options as they were typed.
    pub args: &'a CommonArgs,
    /// What they mean.
    pub settings: Settings,
    /// Drives requests.
    pub runtime: Handle,
    /// SIGINT, SIGTERM.
    pub shutdown: Shutdown,
}

/// Why a command failed, with its exit code.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The words on the command line make no sense.
    #[error(transparent)]
    Setting(#[from] SettingError),
    /// The repository cannot be used.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
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

    /// The same, as the consequence of the request to stop where that was made: requests to the store
    /// are given up then.
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
            Self::Repository(
                RepositoryError::NoSnapshot(..)
                | RepositoryError::Ambiguous(..)
                | RepositoryError::Encrypted(_)
                | RepositoryError::Clear(_)
                | RepositoryError::NoKeyFile(_)
                | RepositoryError::NoIdentity(_)
                | RepositoryError::OtherIdentity(_)
                | RepositoryError::NoBucket(_)
                | RepositoryError::NoLocks(_)
                | RepositoryError::Softer(_),
            ) => ExitCode::Usage,
            Self::Repository(RepositoryError::Keys(_, error)) if error.is_usage() => {
                ExitCode::Usage
            }
            Self::Interrupted(_) => ExitCode::Interrupted,
            Self::Repository(_) | Self::Store(_) | Self::Failed(_) | Self::Answer(_) => {
                ExitCode::Failed
            }
        }
    }
}

impl Context<'_> {
    /// Where the repository is.
    pub fn location(&self) -> Result<Location, CommandError> {
        Ok(config::repository(self.args)?)
    }

    /// The repository's store.
    pub fn store(&self) -> Result<Store, CommandError> {
        self.store_at(&self.location()?)
    }

    /// The store of any place.
    pub fn store_at(&self, place: &Location) -> Result<Store, CommandError> {
        let settings = &self.settings;
        let objects = ObjectStore::open_with(place, &settings.s3, &settings.remote)?;
        Ok(Store::new(objects, self.runtime.clone(), self.shutdown.clone()))
    }

    /// The repository.
    pub fn repository(&self) -> Result<Repository, CommandError> {
        let ring = self.settings.keys.ring()?;
        Ok(Repository::open_with(self.store()?, ring)?)
    }

    /// The repository, for who reads content: refused where that cannot be decrypted.
    pub fn readable_repository(&self) -> Result<Repository, CommandError> {
        let repository = self.repository()?;
        repository.require_identity()?;
        Ok(repository)
    }

    /// Shows `progress` the way this run shows things.
    #[must_use]
    pub fn show(&self, act: &str, progress: &Progress) -> Reporter {
        Reporter::start(act, progress, Output::choose(self.settings.json, self.settings.quiet))
    }

    /// Writes one answer: a line for people, or a JSON line.
    pub fn answer(
        &self,
        people: impl FnOnce() -> String,
        json: impl FnOnce() -> serde_json::Value,
    ) -> Result<(), CommandError> {
        let line = if self.settings.json { json().to_string() } else { people() };
        let mut out = io::stdout().lock();
        writeln!(out, "{line}").and_then(|()| out.flush()).map_err(CommandError::Answer)
    }
}
