//! What `logship rotate` asks of the process that ships: a small file in the state directory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chores_common::durable::{self, DurableError};
use serde::{Deserialize, Serialize};

#[cfg(test)]
mod tests;

/// The file in the state directory.
const FILE: &str = "rotate-wanted.json";

/// The version of the file.
const VERSION: u32 = 1;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// A wish that is older is nobody's any more.
pub const AGE_MAX: Duration = Duration::from_secs(600);

const FILE_MODE: u32 = 0o600;

/// Files that are to be rotated now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    version: u32,
    /// Tells wishes apart: random.
    pub id: u64,
    /// Their names.
    pub paths: Vec<PathBuf>,
}

impl Wanted {
    /// Asks for files. One wish at a time: a later one replaces what was not taken. Files whose names are not UTF-8 are
    /// not rotated, and left out.
    pub fn ask(state: &Path, mut paths: Vec<PathBuf>) -> Result<Self, DurableError> {
        paths.retain(|path| path.to_str().is_some());
        // Without random numbers two wishes are told apart by their names.
        let id = getrandom::u64().unwrap_or_default();
        let wanted = Self { version: VERSION, id, paths };
        let bytes = serde_json::to_vec(&wanted).unwrap_or_default();
        durable::write(&state.join(FILE), &bytes, FILE_MODE)?;
        Ok(wanted)
    }

    /// What is asked for; `None` also when it cannot be understood, which is said.
    #[must_use]
    pub fn read(state: &Path) -> Option<Self> {
        let path = state.join(FILE);
        let metadata = fs::metadata(&path).ok()?;
        let is_old = metadata
            .modified()
            .is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed > AGE_MAX));
        if is_old || metadata.len() > FILE_BYTES_MAX {
            return None;
        }
        let read = fs::read(&path).and_then(|bytes| {
            let wanted: Self = serde_json::from_slice(&bytes)?;
            let is_known = wanted.version == VERSION;
            is_known.then_some(wanted).ok_or_else(|| io::Error::other("it is of another version"))
        });
        match read {
            Ok(wanted) => Some(wanted),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read what is to be rotated");
                None
            }
        }
    }

    /// The wish was fulfilled, or is given up. A later one of somebody else stays.
    pub fn withdraw(&self, state: &Path) {
        if Self::read(state).is_some_and(|there| there.id == self.id) {
            // Nobody acts on it twice.
            fs::remove_file(state.join(FILE)).ok();
        }
    }
}
