//! What is about to be done to containers, on disk before it is done (`docs/backup-quiesce.md`, "Journal").
//!
//! One file for each run, written whole each time ([`chores_common::durable`]), beside a lock file that the run holds
//! as long as it lives: a journal whose lock can be had belongs to a dead run.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chores_common::durable::{self, DurableError};
use rustix::fs::OFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::plan::{Hook, Target};

#[cfg(test)]
mod tests;

/// What the document calls itself.
const FORMAT: &str = "chores-backup-quiesce";

/// Version of the document this program writes and reads.
const VERSION: u32 = 1;

/// Directory of the journals in the state directory.
const DIRECTORY: &str = "quiesce";

/// Longest journal that is read, in bytes: 64 commands of 8 KiB of which every byte takes six in JSON, and 64 containers.
const JOURNAL_BYTES_MAX: u64 = 8 << 20;

/// Journals that are looked at by one run.
const JOURNALS_MAX: usize = 1000;

/// Commands may stand in it.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Write permission of the group and of others.
const FOREIGN_WRITE: u32 = 0o022;

/// How often a lock file is made again that another run removed as a dead one's before it was locked.
const LOCK_ATTEMPTS: u32 = 10;

/// What a run does to containers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    /// `chores-backup-quiesce`.
    pub(super) format: String,
    /// 1.
    pub(super) version: u32,
    /// 16 hexadecimal digits, of this run alone.
    pub(super) run: String,
    /// The engine the containers belong to, as this program reaches it.
    pub(super) engine: String,
    /// What that engine calls itself, where it does: another one may come to be reached the same way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) engine_id: Option<String>,
    /// When it began.
    pub(super) started: jiff::Timestamp,
    /// Name and version of the program.
    pub(super) program: String,
    /// Containers, in the order they are made to hold still.
    pub(super) targets: Vec<Target>,
    /// Commands that run in containers after that.
    pub(super) hooks: Vec<Hook>,
    /// BLAKE3 of this document with `""` in this place.
    pub(super) checksum: String,
}

/// What is read of a document before it is trusted to be of this version.
#[derive(Deserialize)]
struct Probe {
    format: String,
    version: u32,
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// There is nowhere to keep it.
    #[error(
        "there is no place for the journal of paused and stopped containers: name a directory that stays with --state-dir, or mount a volume at /state"
    )]
    NoPlace,
    /// It would be lost when it is needed.
    #[error(
        "the journal in {0} would be lost with this container: mount a volume at /state or name one with --state-dir, or leave --no-guard out"
    )]
    Fleeting(String),
    /// It cannot be written.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// It cannot be read or locked.
    #[error("cannot {act} the journal {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The file.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Not what any version writes.
    #[error(
        "the journal {0} is damaged: see `docker ps --all` for containers that a killed backup left paused or stopped, let them go on, then remove it"
    )]
    Damaged(String),
    /// Somebody else could have written it, and it has commands.
    #[error(
        "{0} is not this user's own, is a link, or can be written by others, so that nothing in it is done: see `docker ps --all` for containers that a killed backup left paused or stopped, let them go on, then remove it"
    )]
    Foreign(String),
    /// Written by a later program.
    #[error(
        "the journal {path} has version {version}, this program reads version {VERSION}: run `backup resume` of the program that wrote it"
    )]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: u32,
    },
    /// The system has no random numbers.
    #[error("cannot get random numbers for the journal's name: {0}")]
    Random(getrandom::Error),
}

impl Document {
    /// A new one.
    pub(super) fn new(
        engine: String,
        started: jiff::Timestamp,
        targets: Vec<Target>,
        hooks: Vec<Hook>,
    ) -> Result<Self, JournalError> {
        Ok(Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            run: format!("{:016x}", getrandom::u64().map_err(JournalError::Random)?),
            engine,
            engine_id: None,
            started,
            program: concat!("backup ", env!("CARGO_PKG_VERSION")).to_owned(),
            targets,
            hooks,
            checksum: String::new(),
        })
    }

    /// The bytes of the file.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let form = |checksum: String| {
            let document = Self { checksum, ..self.clone() };
            // Texts, numbers and lists: nothing that JSON could not hold.
            let mut bytes = serde_json::to_vec_pretty(&document).unwrap_or_default();
            bytes.push(b'\n');
            bytes
        };
        let hash = blake3::hash(&form(String::new()));
        form(hash.to_hex().to_string())
    }

    /// Reads a file's bytes; `path` is for the error.
    pub(super) fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, JournalError> {
        let damaged = || JournalError::Damaged(path.display().to_string());
        // First, because a later version has fields this one does not know.
        let probe: Probe = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        if probe.format != FORMAT {
            return Err(damaged());
        }
        if probe.version != VERSION {
            let path = path.display().to_string();
            return Err(JournalError::Version { path, version: probe.version });
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|_| damaged())?;
        if document.to_bytes() == bytes { Ok(document) } else { Err(damaged()) }
    }
}

/// The journal of a run, and its lock.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    lock_path: PathBuf,
    /// Locked until this is dropped.
    _lock: File,
    /// What is written with [`Self::save`].
    pub(super) document: Document,
}

impl Journal {
    /// Writes a new one below the state directory, which is made when it is missing.
    pub(super) fn create(state: &Path, document: Document) -> Result<Self, JournalError> {
        let directory = state.join(DIRECTORY);
        durable::create_directories(&directory, DIRECTORY_MODE)?;
        require_own_directory(&directory)?;
        let path = directory.join(format!("{}.json", document.run));
        let lock_path = directory.join(format!("{}.lock", document.run));
        for _ in 0..LOCK_ATTEMPTS {
            if let Some(lock) = try_lock(&lock_path)? {
                let journal = Self { path, lock_path, _lock: lock, document };
                journal.save()?;
                return Ok(journal);
            }
        }
        let source = io::Error::from(io::ErrorKind::ResourceBusy);
        Err(failed("lock", &lock_path, source))
    }

    /// Makes the document durable as it is now.
    pub(super) fn save(&self) -> Result<(), JournalError> {
        Ok(durable::write(&self.path, &self.document.to_bytes(), FILE_MODE)?)
    }

    /// Removes it: all is well.
    pub(super) fn remove(self) -> Result<(), JournalError> {
        std::fs::remove_file(&self.path).map_err(|source| failed("remove", &self.path, source))?;
        if let Some(directory) = self.path.parent() {
            durable::sync_directory(directory)?;
        }
        // Without a journal it means nothing.
        drop(std::fs::remove_file(&self.lock_path));
        Ok(())
    }

    /// Where it lies.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The journals of dead runs, oldest names first, and of each that cannot be used the reason. Clears locks without a journal.
pub(super) fn dead(state: &Path) -> Result<Vec<Result<Journal, JournalError>>, JournalError> {
    let directory = state.join(DIRECTORY);
    let (mut names, mut locks) = (BTreeSet::new(), BTreeSet::new());
    match std::fs::read_dir(&directory) {
        Ok(entries) => {
            require_own_directory(&directory)?;
            for entry in entries {
                let path = entry.map_err(|source| failed("list", &directory, source))?.path();
                let list = match path.extension().and_then(|extension| extension.to_str()) {
                    Some("json") => &mut names,
                    Some("lock") => &mut locks,
                    _ => continue,
                };
                if list.len() < JOURNALS_MAX {
                    list.insert(path);
                }
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed("list", &directory, source)),
    }
    // Of a run that was killed between its lock and its journal; one that is just between them makes its lock again.
    for path in locks.iter().filter(|path| !names.contains(&path.with_extension("json"))) {
        if let Ok(Some(_lock)) = try_lock(path)
            && !path.with_extension("json").exists()
        {
            drop(std::fs::remove_file(path));
        }
    }
    Ok(names.into_iter().filter_map(|path| dead_one(path).transpose()).collect())
}

/// `None` where the run lives, or has ended well since the listing.
fn dead_one(path: PathBuf) -> Result<Option<Journal>, JournalError> {
    let lock_path = path.with_extension("lock");
    let Some(lock) = try_lock(&lock_path)? else { return Ok(None) };
    let Some(bytes) = read(&path)? else {
        drop(std::fs::remove_file(&lock_path));
        return Ok(None);
    };
    let document = Document::from_bytes(&bytes, &path)?;
    Ok(Some(Journal { path, lock_path, _lock: lock, document }))
}

/// Whether only this user can have written it.
fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & FOREIGN_WRITE == 0
}

fn require_own_directory(path: &Path) -> Result<(), JournalError> {
    let metadata =
        std::fs::symlink_metadata(path).map_err(|source| failed("look at", path, source))?;
    if metadata.is_dir() && is_own(&metadata) {
        return Ok(());
    }
    Err(JournalError::Foreign(path.display().to_string()))
}

/// Whether there is any journal, of a dead run or a living one.
pub(super) fn is_any(state: &Path) -> bool {
    std::fs::read_dir(state.join(DIRECTORY)).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
    })
}

/// The lock of a run, unless another process has it.
fn try_lock(path: &Path) -> Result<Option<File>, JournalError> {
    let io = |source| failed("lock", path, source);
    let file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags(no_follow())
        .open(path)
        .map_err(io)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(source)) => return Err(io(source)),
    }
    // A file that was removed meanwhile locks nothing.
    let is_same = |now: Metadata| {
        file.metadata().is_ok_and(|own| (own.dev(), own.ino()) == (now.dev(), now.ino()))
    };
    Ok(std::fs::metadata(path).is_ok_and(is_same).then_some(file))
}

fn no_follow() -> i32 {
    OFlags::NOFOLLOW.bits().cast_signed()
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
    let foreign = || JournalError::Foreign(path.display().to_string());
    let file = match OpenOptions::new().read(true).custom_flags(no_follow()).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return Err(foreign());
        }
        Err(source) => return Err(failed("read", path, source)),
    };
    let metadata = file.metadata().map_err(|source| failed("read", path, source))?;
    if !metadata.is_file() || !is_own(&metadata) {
        return Err(foreign());
    }
    let mut bytes = Vec::new();
    file.take(JOURNAL_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| failed("read", path, source))?;
    if bytes.len() as u64 > JOURNAL_BYTES_MAX {
        return Err(JournalError::Damaged(path.display().to_string()));
    }
    Ok(Some(bytes))
}

fn failed(act: &'static str, path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { act, path: path.display().to_string(), source }
}
