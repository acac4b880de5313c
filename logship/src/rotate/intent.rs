//! What rotation is about to do, and the rotated files it has made, kept in the state directory: a process that dies
//! at any step leaves enough for the next one. `docs/logship-wal.md` has every byte.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use chores_common::durable::{self, DurableError};
use serde::{Deserialize, Serialize};

use crate::cursor::FileIdentity;
use crate::files::desk::Begun;
use crate::rotation::Keep;

#[cfg(test)]
mod tests;

/// The directory below the state directory.
const DIRECTORY: &str = "rotate";

/// The version of the files.
const VERSION: u32 = 1;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Files that are read at the most.
const FILES_MAX: usize = 1 << 20;

/// Permissions: log paths are nobody else's.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// What is written down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "intent", rename_all = "snake_case")]
pub enum Intent {
    /// The file is to be renamed, or was: its writers are to let go, its rest is to be read.
    Rename(Renamed),
    /// The beginning of the file is to be taken away, or was.
    Collapse {
        /// Its name.
        base: PathBuf,
        /// What is done.
        #[serde(flatten)]
        begun: BegunRecord,
    },
    /// The rotated file is over: it stays as long as the policy says.
    Kept(KeptFile),
}

/// A file that gets another name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renamed {
    /// The name under which it is written.
    pub base: PathBuf,
    /// Its name afterwards.
    pub rotated: PathBuf,
    /// Which file.
    pub file: FileIdentity,
    /// When, in nanoseconds since 1970.
    pub begun: i64,
    /// What the labels of its writers said then of the files that stay: they may be gone at the end.
    pub keep: Keep,
    /// So many bytes of it were shipped when it was over: the log forgets a file that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<u64>,
    /// The compressed file that takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packed: Option<Packed>,
}

/// A rotated file that stays for now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptFile {
    /// The name under which it was written.
    pub base: PathBuf,
    /// Its name.
    pub path: PathBuf,
    /// Which file that is.
    pub file: FileIdentity,
    /// When it was rotated, in nanoseconds since 1970.
    pub begun: i64,
    /// Bytes as it lies there.
    pub bytes: u64,
    /// What the labels of its writers said of the files that stay.
    pub keep: Keep,
}

/// A compressed file that is whole, before it has a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// The name that it is given.
    pub path: PathBuf,
    /// Which file. Another one of that name is somebody else's.
    pub file: FileIdentity,
    /// Bytes of what was compressed.
    pub bytes: u64,
}

/// A collapse, as it is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BegunRecord {
    /// Which file.
    pub file: FileIdentity,
    /// Bytes that were taken from it before.
    pub shift: u64,
    /// Bytes that are taken.
    pub length: u64,
    /// XXH3 (64 bits) of its first 4 KiB before.
    pub before: u64,
    /// The same after.
    pub after: u64,
}

impl From<BegunRecord> for Begun {
    fn from(record: BegunRecord) -> Self {
        let BegunRecord { file: identity, shift, length, before, after } = record;
        Self { identity, shift, length, before, after }
    }
}

impl Intent {
    /// The name under which the file is, or was, written.
    #[must_use]
    pub fn base(&self) -> &Path {
        match self {
            Self::Rename(renamed) => &renamed.base,
            Self::Collapse { base, .. } => base,
            Self::Kept(kept) => &kept.base,
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct IntentFile {
    version: u32,
    #[serde(flatten)]
    intent: Intent,
}

/// Why intents cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum IntentError {
    /// The file cannot be written.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It was written by another release.
    #[error("{} is of version {version}, and this release knows version {VERSION}", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// The system gave no random numbers.
    #[error("cannot get random bytes: {0}")]
    Random(String),
}

/// The intents of a state directory, each in a file of its own.
#[derive(Debug, Clone)]
pub struct Intents {
    directory: PathBuf,
}

impl Intents {
    /// Those in a state directory.
    #[must_use]
    pub fn at(state: &Path) -> Self {
        Self { directory: state.join(DIRECTORY) }
    }

    /// All of them, by name. A file that cannot be understood is an error: what it meant to do may be half done.
    pub fn all(&self) -> Result<Vec<(String, Intent)>, IntentError> {
        self.read(false)
    }

    /// The same for the process that has the state directory: it removes what a crash left of files that were to be
    /// written.
    pub fn take_over(&self) -> Result<Vec<(String, Intent)>, IntentError> {
        self.read(true)
    }

    fn read(&self, is_ours: bool) -> Result<Vec<(String, Intent)>, IntentError> {
        let failed = |source| IntentError::Read { path: self.directory.clone(), source };
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(failed)?,
        };
        let mut all = Vec::new();
        for entry in entries.take(FILES_MAX) {
            let entry = entry.map_err(failed)?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if durable::is_temporary(&name) {
                // A crash left it, unless its writer is alive; the file it was to replace is whole.
                if is_ours {
                    fs::remove_file(entry.path()).map_err(failed)?;
                }
            } else if let Some(stem) = name.strip_suffix(".json") {
                all.push((stem.to_owned(), read(&entry.path())?));
            }
        }
        all.sort_by(|left, right| left.0.cmp(&right.0));
        Ok(all)
    }

    /// Writes a new one, durably; its name.
    pub fn add(&self, intent: &Intent) -> Result<String, IntentError> {
        let random = getrandom::u64().map_err(|error| IntentError::Random(error.to_string()))?;
        let name = format!("{random:016x}");
        durable::create_directories(&self.directory, DIRECTORY_MODE)?;
        self.replace(&name, intent)?;
        Ok(name)
    }

    /// Writes another one in its place, durably.
    pub fn replace(&self, name: &str, intent: &Intent) -> Result<(), IntentError> {
        let file = IntentFile { version: VERSION, intent: intent.clone() };
        // The type has string keys and no foreign code; only a path that is no text cannot be written.
        let bytes = serde_json::to_vec(&file).map_err(|error| IntentError::Read {
            path: intent.base().to_owned(),
            source: error.into(),
        })?;
        Ok(durable::write(&self.path(name), &bytes, FILE_MODE)?)
    }

    /// Forgets one. What is left of it after a crash is found out to be done, again.
    pub fn remove(&self, name: &str) {
        if let Err(error) = fs::remove_file(self.path(name))
            && error.kind() != io::ErrorKind::NotFound
        {
            let path = self.path(name);
            tracing::warn!(path = %path.display(), %error, "cannot remove a record of rotation");
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}.json"))
    }
}

fn read(path: &Path) -> Result<Intent, IntentError> {
    let failed = |source| IntentError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > FILE_BYTES_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let bytes = fs::read(path).map_err(failed)?;
    let value: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
    let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version != u64::from(VERSION) {
        let version = u32::try_from(version).unwrap_or(u32::MAX);
        return Err(IntentError::Version { path: path.to_owned(), version });
    }
    let file: IntentFile = serde_json::from_value(value).map_err(|error| failed(error.into()))?;
    Ok(file.intent)
}
