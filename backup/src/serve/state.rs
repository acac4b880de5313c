//! What a resident run remembers, on disk (`docs/backup-serve.md`, "State").
//!
//! One document, written whole each time. It is no proof of anything: what is protected, the repository says, and whatever is
//! lost of it is learned from there again.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use chores_common::durable::{self, DurableError};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::due::Times;
use super::job::Job;
use super::outcome::Verdict;
use super::tell::Told;

#[cfg(test)]
mod tests;

/// Directory of all this in the state directory.
pub const DIRECTORY: &str = "serve";

/// What the document calls itself.
const FORMAT: &str = "chores-backup-serve";

/// Version of the document this program writes, and the oldest one that it reads: the first has no node, the second no backup that is
/// known to be bad.
const VERSION: u32 = 3;
const VERSION_MIN: u32 = 1;

/// Name of the document, of one that was damaged, and of the file that a run locks as long as it lives.
const NAME: &str = "state.json";
const DAMAGED_NAME: &str = "state.json.damaged";
const LOCK_NAME: &str = "lock";

/// Longest document that is read and written, in bytes.
const BYTES_MAX: u64 = 64 << 20;

/// Commands of hooks may stand in it.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// All that is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// `chores-backup-serve`.
    format: String,
    /// 3.
    version: u32,
    /// The host name under which jobs were saved last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// What the engine called itself last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine: Option<String>,
    /// Which node of a Swarm it was last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// By the names of the jobs.
    #[serde(default)]
    pub jobs: BTreeMap<String, JobState>,
    /// The checks of the repository.
    #[serde(default)]
    pub check: Lane,
    /// The prunes.
    #[serde(default)]
    pub prune: Lane,
    /// What people were told.
    #[serde(default)]
    pub told: Told,
}

/// What is remembered of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct JobState {
    /// One that the labels of a container order: while the engine does not answer, it is known by this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<Job>,
    /// When its container was last there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_seen: Option<Timestamp>,
    /// Its runs.
    pub save: Lane,
    /// What dropped its snapshots.
    pub retain: Lane,
    /// What tried its newest one.
    pub drill: Lane,
    /// Its newest good backup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub good: Option<Good>,
    /// The one that a drill found not good, until a drill is good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bad: Option<Good>,
    /// When the newest one was begun that a drill found good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sound: Option<Timestamp>,
    /// Its newest one is so unlike those before that a person should look.
    pub suspicious: bool,
}

/// Runs of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Lane {
    /// When.
    pub times: Times,
    /// How the last one ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<Last>,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Last {
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence of ours, without what others have said.
    pub text: String,
}

/// A backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Good {
    /// When its run began.
    pub time: Timestamp,
    /// Its snapshot.
    pub snapshot: String,
}

/// What is read of a document before it is trusted to be of this version.
#[derive(Deserialize)]
struct Probe {
    format: String,
    version: u32,
}

/// Why there is no state.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// It cannot be written.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// It cannot be locked.
    #[error("cannot {act} {}", path.display())]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Another run has it.
    #[error(
        "another `backup serve` runs with the state in {}: give each its own --state-dir, or end that one", .0.display()
    )]
    Taken(PathBuf),
    /// More than is ever read again.
    #[error(
        "{} would have more than {BYTES_MAX} bytes and is left as it is: too many containers have long labels", .0.display()
    )]
    Large(PathBuf),
    /// Written by a later program.
    #[error("{} has version {version}, this program reads version {VERSION}: use a later one", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// What it says.
        version: u32,
    },
}

/// Where the state is; nobody else has it as long as this lives.
#[derive(Debug)]
pub struct Place {
    directory: PathBuf,
    _lock: File,
}

impl Default for State {
    fn default() -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            host: None,
            engine: None,
            node: None,
            jobs: BTreeMap::new(),
            check: Lane::default(),
            prune: Lane::default(),
            told: Told::default(),
        }
    }
}

impl Place {
    /// Takes the state in a directory, which is made where it is missing.
    pub fn take(state: &Path) -> Result<Self, StateError> {
        let directory = state.join(DIRECTORY);
        durable::create_directories(&directory, DIRECTORY_MODE)?;
        let path = directory.join(LOCK_NAME);
        let fail = |act, source| StateError::Io { act, path: path.clone(), source };
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let lock = options.open(&path).map_err(|source| fail("open", source))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { directory, _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(StateError::Taken(directory)),
            Err(TryLockError::Error(source)) => Err(fail("lock", source)),
        }
    }

    /// The directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Reads what is remembered. What cannot be read or understood is put aside, and told: it protects nothing, so it keeps nobody from
    /// saving.
    pub fn load(&self) -> Result<(State, Option<String>), StateError> {
        let (state, damage) = read(&self.directory)?;
        let Some(damage) = damage else { return Ok((state, None)) };
        let aside = self.directory.join(DAMAGED_NAME);
        let kept = match fs::rename(self.directory.join(NAME), &aside) {
            Ok(()) => format!("it is kept as {}", aside.display()),
            Err(error) => format!("it cannot be kept as {}: {error}", aside.display()),
        };
        Ok((state, Some(format!("{damage}; {kept}"))))
    }

    /// Removes what writes have left that were killed.
    pub fn sweep(&self) {
        let files = match fs::read_dir(&self.directory) {
            Ok(files) => files,
            Err(error) => {
                tracing::warn!("cannot list {}: {error}", self.directory.display());
                return;
            }
        };
        for file in files.flatten() {
            let is_left = file.file_name().to_str().is_some_and(durable::is_temporary);
            if is_left && let Err(error) = fs::remove_file(file.path()) {
                tracing::warn!("cannot remove {}: {error}", file.path().display());
            }
        }
    }

    /// Writes it.
    pub fn save(&self, state: &State) -> Result<(), StateError> {
        let path = self.directory.join(NAME);
        let fail = |source| StateError::Io { act: "write", path: path.clone(), source };
        let mut bytes = serde_json::to_vec_pretty(state).map_err(|error| fail(error.into()))?;
        bytes.push(b'\n');
        if bytes.len() as u64 > BYTES_MAX {
            return Err(StateError::Large(path));
        }
        Ok(durable::write(&path, &bytes, FILE_MODE)?)
    }
}

/// What a run in this state directory remembers, without taking it: for who only looks.
pub fn peek(state: &Path) -> Result<(State, Option<String>), StateError> {
    read(&state.join(DIRECTORY))
}

/// The document, or an empty one and why.
fn read(directory: &Path) -> Result<(State, Option<String>), StateError> {
    let path = directory.join(NAME);
    let mut bytes = Vec::new();
    let opened = File::open(&path);
    match opened.and_then(|file| file.take(BYTES_MAX + 1).read_to_end(&mut bytes)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok((State::default(), None));
        }
        Err(error) => {
            let text = format!(
                "{} cannot be read ({error}), so what jobs did is learned from the repository again",
                path.display()
            );
            return Ok((State::default(), Some(text)));
        }
    }
    match understood(&bytes) {
        Ok(state) => Ok((state, None)),
        Err(Some(version)) => Err(StateError::Version { path, version }),
        Err(None) => {
            let text = format!(
                "{} is damaged, so what jobs did is learned from the repository again",
                path.display()
            );
            Ok((State::default(), Some(text)))
        }
    }
}

/// The error is the version of a later program, where it is that.
fn understood(bytes: &[u8]) -> Result<State, Option<u32>> {
    // First, because a later version has fields this one does not know.
    let probe: Probe = serde_json::from_slice(bytes).map_err(|_| None)?;
    if probe.format == FORMAT && probe.version > VERSION {
        return Err(Some(probe.version));
    }
    let mut state: State = serde_json::from_slice(bytes).map_err(|_| None)?;
    let is_ours = state.format == FORMAT && (VERSION_MIN..=VERSION).contains(&state.version);
    state.version = VERSION;
    if is_ours && bytes.len() as u64 <= BYTES_MAX { Ok(state) } else { Err(None) }
}
