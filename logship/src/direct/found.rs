//! The log files of a container as they lie in its directory: the newest, and those that the engine has rotated,
//! `.1`, `.2` and so on, each of which it may have compressed.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::cursor::FileIdentity;
use crate::proof::FileFacts;

use super::entry::Format;

#[cfg(test)]
mod tests;

/// Most files of one container that are looked for: the largest sensible `max-file`.
const FILES_MAX: usize = 1000;

/// Digits of a container id.
const ID_DIGITS: usize = 64;

/// Names in a row that may be missing: while the engine rotates, one is.
const MISSING_MAX: usize = 2;

/// An open log file.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its name when it was opened.
    pub path: PathBuf,
    /// Which file.
    pub identity: FileIdentity,
    /// Open for reading.
    pub file: Arc<File>,
    /// The engine compressed it.
    pub is_compressed: bool,
}

/// Where the newest log file of a container is, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPlace {
    /// The newest file.
    pub path: PathBuf,
    /// How it is written.
    pub format: Format,
}

impl LogPlace {
    /// The place of each format below the directory of container `id`.
    #[must_use]
    pub fn all(directory: &Path, id: &str) -> [Self; 3] {
        [
            Self { path: directory.join(format!("{id}-json.log")), format: Format::JsonFile },
            Self { path: directory.join("local-logs/container.log"), format: Format::Local },
            // What `docker logs` shows of a container whose driver sends its log elsewhere.
            Self { path: directory.join("container-cached.log"), format: Format::Local },
        ]
    }

    /// Whether there is a file of this log.
    #[must_use]
    pub fn exists(&self) -> bool {
        (0..=1).any(|age| name(&self.path, age, false).exists())
    }

    /// Opens every file, the newest first. While the engine renames files to older places, one is met twice but
    /// none is missed: the search goes the same way.
    pub fn open(&self) -> io::Result<Vec<Found>> {
        self.open_newer(|_| false).map(|newer| newer.files)
    }

    /// The same, up to the first file that is known: the others are, too.
    pub fn open_newer(&self, is_known: impl Fn(FileIdentity) -> bool) -> io::Result<Newer> {
        let mut files: Vec<Found> = Vec::new();
        let mut missing = 0;
        for age in 0..FILES_MAX {
            let Some(file) = open(&self.path, age)? else {
                missing += 1;
                if missing > MISSING_MAX {
                    break;
                }
                continue;
            };
            missing = 0;
            if is_known(file.identity) {
                return Ok(Newer { files, follows: true });
            }
            // The older place is the younger truth.
            files.retain(|met| met.identity != file.identity);
            files.push(file);
        }
        Ok(Newer { files, follows: false })
    }
}

/// Files that are newer than a known one.
#[derive(Debug)]
pub struct Newer {
    /// The newest first.
    pub files: Vec<Found>,
    /// A known one comes next, so that nothing lies between. Otherwise it may be among `files` in its compressed
    /// form, or be gone.
    pub follows: bool,
}

fn name(newest: &Path, age: usize, is_compressed: bool) -> PathBuf {
    let mut name = newest.as_os_str().to_owned();
    if age > 0 {
        name.push(format!(".{age}"));
    }
    if is_compressed {
        name.push(".gz");
    }
    name.into()
}

/// The file of one age. A compressed one counts only when the other is gone: until then it is being written.
fn open(newest: &Path, age: usize) -> io::Result<Option<Found>> {
    for is_compressed in [false, true] {
        if age == 0 && is_compressed {
            continue;
        }
        let path = name(newest, age, is_compressed);
        match File::open(&path) {
            Ok(file) => {
                let facts = FileFacts::of(&file)?;
                if facts.is_regular {
                    let (identity, file) = (facts.identity, Arc::new(file));
                    return Ok(Some(Found { path, identity, file, is_compressed }));
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Whether it may be the name of a container's directory.
#[must_use]
pub fn is_id(name: &str) -> bool {
    name.len() == ID_DIGITS && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}
