//! Whether a resident run lives, and how it is doing: told in a file, so that it can be asked without a server.
//!
//! The loop itself writes it. Its age is by the clock that counts since the machine was started, which nobody sets.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use chores_common::exit::chain;
use serde::{Deserialize, Serialize};

use super::report::Report;
use super::state::DIRECTORY;
use crate::machine::boot_seconds;

#[cfg(test)]
mod tests;

/// How old what is told may be before the loop is taken for dead, in seconds. It is told six times as often.
pub const ALIVE_SECONDS_MAX: u64 = 60;

const NAME: &str = "health.json";
const NEW_NAME: &str = "health.json.new";

/// The seconds of the last beat, always as many digits.
const BEAT_NAME: &str = "beat";
const BEAT_DIGITS: usize = 20;

/// Longest document that is read, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Version of the document this program writes and reads.
const VERSION: u32 = 1;

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// 1.
    pub version: u32,
    /// When it was told, in seconds since the machine was started.
    pub beat_seconds: u64,
    /// How it is doing.
    pub report: Report,
}

/// Why nobody can say how it is doing.
#[derive(Debug, thiserror::Error)]
pub enum HealthError {
    /// There is none.
    #[error("no `backup serve` has told anything in {}: does it run, and with this --state-dir?", .0.display())]
    Nobody(PathBuf),
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It is none.
    #[error("{} is not what this version writes", .0.display())]
    Foreign(PathBuf),
    /// It is too old.
    #[error("`backup serve` has told nothing for {0} s: it hangs, or does not run")]
    Silent(u64),
}

/// Tells it. It need not survive a crash of the machine. A disk that is full still takes the beat, which lies in its place.
pub fn tell(directory: &Path, report: Report) {
    if let Err(error) = beat(directory) {
        tracing::warn!("cannot tell in {} that it lives: {}", directory.display(), chain(&error));
    }
    let health = Health { version: VERSION, beat_seconds: boot_seconds(), report };
    let written = serde_json::to_vec(&health).map_err(io::Error::from).and_then(|bytes| {
        fs::write(directory.join(NEW_NAME), bytes)?;
        fs::rename(directory.join(NEW_NAME), directory.join(NAME))
    });
    if let Err(error) = written {
        tracing::warn!("cannot tell in {} how it is doing: {}", directory.display(), chain(&error));
    }
}

fn beat(directory: &Path) -> io::Result<()> {
    let mut options = File::options();
    let mut file =
        options.write(true).create(true).truncate(false).open(directory.join(BEAT_NAME))?;
    file.write_all(format!("{:0>BEAT_DIGITS$}\n", boot_seconds()).as_bytes())
}

/// Nobody runs here any more.
pub fn withdraw(directory: &Path) {
    for name in [NAME, BEAT_NAME] {
        if let Err(error) = fs::remove_file(directory.join(name)) {
            tracing::debug!("{}", chain(&error));
        }
    }
}

/// Whether the loop of the run with this state directory goes round.
pub fn alive(state: &Path) -> Result<(), HealthError> {
    let path = state.join(DIRECTORY).join(BEAT_NAME);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(HealthError::Nobody(state.to_owned()));
        }
        Err(source) => return Err(HealthError::Io { path, source }),
    };
    let beat = text.trim().parse().map_err(|_| HealthError::Foreign(path))?;
    is_young(beat, boot_seconds())
}

/// What the run with this state directory says, if it lives.
pub fn ask(state: &Path) -> Result<Report, HealthError> {
    let path = state.join(DIRECTORY).join(NAME);
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| file.take(BYTES_MAX).read_to_end(&mut bytes));
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(HealthError::Nobody(state.to_owned()));
        }
        Err(source) => return Err(HealthError::Io { path, source }),
    }
    let health: Option<Health> = serde_json::from_slice(&bytes).ok();
    let health = health.filter(|health| health.version == VERSION);
    judge(health.ok_or(HealthError::Foreign(path))?, boot_seconds())
}

/// One that is told from the future is of before the last start of the machine.
fn judge(health: Health, now_seconds: u64) -> Result<Report, HealthError> {
    is_young(health.beat_seconds, now_seconds).map(|()| health.report)
}

fn is_young(beat_seconds: u64, now_seconds: u64) -> Result<(), HealthError> {
    match now_seconds.checked_sub(beat_seconds) {
        Some(age) if age <= ALIVE_SECONDS_MAX => Ok(()),
        Some(age) => Err(HealthError::Silent(age)),
        None => Err(HealthError::Silent(now_seconds)),
    }
}
