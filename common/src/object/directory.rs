//! Objects as files of a directory: mode 0600, in directories of mode 0700, written durably.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::OFlags;

use super::body::{Body, Piece};
use super::error::{Act, ErrorKind, ObjectError, describe_io, too_long, too_many, too_short};
use super::key::{Wanted, is_valid_key, join};
use super::location::Location;
use super::{LIST_OBJECTS_MAX, ObjectMeta};
use crate::durable::{self, DurableError, DurableFile};

#[cfg(test)]
mod tests;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// Most memory that is reserved before the bytes are there.
const RESERVE_BYTES_MAX: u64 = 64 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(super) struct Directory {
    root: PathBuf,
}

/// Why a blocking act failed, before it is known where.
struct Fault {
    kind: ErrorKind,
    reason: String,
}

impl Fault {
    fn corrupt(reason: impl Into<String>) -> Self {
        Self { kind: ErrorKind::Corrupt, reason: reason.into() }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        let (kind, reason) = describe_io(&error);
        Self { kind, reason }
    }
}

impl From<DurableError> for Fault {
    fn from(error: DurableError) -> Self {
        let (kind, reason) = describe_io(error.io());
        Self { kind, reason }
    }
}

impl Directory {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn location(&self) -> Location {
        Location::Directory(self.root.clone())
    }

    pub(super) async fn create_root(&self) -> Result<(), ObjectError> {
        self.run(Act::CreateRoot, "", |root, _| {
            durable::create_directories(root, DIRECTORY_MODE)?;
            Ok(())
        })
        .await
    }

    pub(super) async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        self.run_on_key(Act::Write, key, move |root, key| {
            let path = path_for_writing(root, key)?;
            durable::write(&path, &bytes, FILE_MODE)?;
            Ok(())
        })
        .await
    }

    pub(super) async fn put_new(&self, key: &str, bytes: Bytes) -> Result<bool, ObjectError> {
        self.run_on_key(Act::Write, key, move |root, key| {
            match durable::write_new(&path_for_writing(root, key)?, &bytes, FILE_MODE) {
                Ok(()) => Ok(true),
                Err(error) if error.io().kind() == io::ErrorKind::AlreadyExists => Ok(false),
                Err(error) => Err(error.into()),
            }
        })
        .await
    }

    pub(super) async fn put_stream(&self, key: &str, mut body: Body) -> Result<u64, ObjectError> {
        self.run_on_key(Act::Write, key, move |root, key| {
            let mut file = DurableFile::create(&path_for_writing(root, key)?, FILE_MODE)?;
            let mut length: u64 = 0;
            loop {
                match body.blocking_next() {
                    Some(Piece::Chunk(chunk)) => {
                        file.write_all(&chunk)?;
                        length += chunk.len() as u64;
                    }
                    Some(Piece::End) => break,
                    None => return Err(Fault::corrupt("its source stopped before the end")),
                }
            }
            file.commit()?;
            Ok(length)
        })
        .await
    }

    pub(super) async fn get(&self, key: &str, bytes_max: u64) -> Result<Bytes, ObjectError> {
        self.run_on_key(Act::Read, key, move |root, key| {
            let (file, metadata) = open(&root.join(key))?;
            if metadata.len() > bytes_max {
                return Err(Fault::corrupt(too_long(metadata.len(), bytes_max)));
            }
            let bytes = read(file, metadata.len(), bytes_max.saturating_add(1))?;
            // A file that grows while it is read is caught here.
            if bytes.len() as u64 > bytes_max {
                return Err(Fault::corrupt(too_long(bytes.len() as u64, bytes_max)));
            }
            Ok(bytes)
        })
        .await
    }

    pub(super) async fn get_range(
        &self,
        key: &str,
        range: Range<u64>,
    ) -> Result<Bytes, ObjectError> {
        self.run_on_key(Act::Read, key, move |root, key| {
            let length = range.end.saturating_sub(range.start);
            let (mut file, metadata) = open(&root.join(key))?;
            if metadata.len() < range.end {
                return Err(Fault::corrupt(too_short(metadata.len(), &range)));
            }
            file.seek(SeekFrom::Start(range.start))?;
            let bytes = read(file, length, length)?;
            if bytes.len() as u64 != length {
                let end = range.start + bytes.len() as u64;
                return Err(Fault::corrupt(too_short(end, &range)));
            }
            Ok(bytes)
        })
        .await
    }

    pub(super) async fn list(&self, prefix: &str) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.run(Act::List, prefix, |root, prefix| {
            std::fs::metadata(root)?;
            list(root, prefix)
        })
        .await
    }

    pub(super) async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.run_on_key(Act::Find, key, |root, key| {
            let metadata = std::fs::metadata(root.join(key))?;
            if !metadata.is_file() {
                return Err(Fault::corrupt("it is no file"));
            }
            Ok(meta(key.to_owned(), &metadata)?)
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.run_on_key(Act::Delete, key, |root, key| match std::fs::remove_file(root.join(key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::metadata(root)?;
                Ok(())
            }
            result => Ok(result?),
        })
        .await
    }

    pub(super) async fn temporaries(&self) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.run(Act::List, "", |root, _| temporaries(root)).await
    }

    pub(super) async fn remove_temporaries(&self, age: Duration) -> Result<u64, ObjectError> {
        self.run(Act::Delete, "temporary files", move |root, _| {
            let now = SystemTime::now();
            let mut removed = 0;
            for file in temporaries(root)? {
                let is_stale = now.duration_since(file.modified).is_ok_and(|since| since > age);
                if is_stale && unless_gone(std::fs::remove_file(root.join(&file.key)))?.is_some() {
                    removed += 1;
                }
            }
            Ok(removed)
        })
        .await
    }

    async fn run_on_key<T: Send + 'static>(
        &self,
        act: Act,
        key: &str,
        work: impl FnOnce(&Path, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, ObjectError> {
        if !is_valid_key(key) {
            return Err(ObjectError::invalid_key(act, key, self.location().to_string()));
        }
        self.run(act, key, work).await
    }

    /// Runs `work` with the root and the key on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        act: Act,
        key: &str,
        work: impl FnOnce(&Path, &str) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let root = self.root.clone();
        let owned_key = key.to_owned();
        let done = tokio::task::spawn_blocking(move || {
            work(&root, &owned_key).map_err(|fault| blame_root(fault, act, &root))
        });
        let fault = match done.await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(fault)) => fault,
            Err(error) => Fault { kind: ErrorKind::Invalid, reason: error.to_string() },
        };
        let store = self.location().to_string();
        Err(ObjectError::new(fault.kind, act, key, store, fault.reason))
    }
}

/// Something that does not exist because the root does not is a missing store, not a missing
/// object.
fn blame_root(fault: Fault, act: Act, root: &Path) -> Fault {
    if fault.kind != ErrorKind::NotFound || act == Act::CreateRoot {
        return fault;
    }
    match std::fs::metadata(root) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Fault { kind: ErrorKind::NoBucket, reason: "the directory does not exist".to_owned() }
        }
        _ => fault,
    }
}

/// The file for `key`, its directories created; but not the root, so that an unmounted disk is
/// noticed instead of being written over.
fn path_for_writing(root: &Path, key: &str) -> Result<PathBuf, Fault> {
    std::fs::metadata(root)?;
    let path = root.join(key);
    if let Some(parent) = path.parent() {
        durable::create_directories(parent, DIRECTORY_MODE)?;
    }
    Ok(path)
}

/// Opens a plain file. `O_NONBLOCK`, because opening a FIFO would otherwise wait for its writer.
fn open(path: &Path) -> Result<(File, Metadata), Fault> {
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() { Ok((file, metadata)) } else { Err(Fault::corrupt("it is no file")) }
}

fn read(file: File, expected: u64, bytes_max: u64) -> io::Result<Bytes> {
    // One more, so that the end is seen without growing the buffer.
    let reserve = expected.min(RESERVE_BYTES_MAX).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(reserve).unwrap_or(0));
    file.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes.into())
}

fn list(root: &Path, prefix: &str) -> Result<Vec<ObjectMeta>, Fault> {
    let Some(wanted) = Wanted::below(prefix) else { return Ok(Vec::new()) };
    let mut objects = Vec::new();
    let mut pending = vec![wanted.folder.to_owned()];
    while let Some(folder) = pending.pop() {
        let Some(entries) = unless_gone(std::fs::read_dir(root.join(&folder)))? else { continue };
        for entry in entries {
            let entry = entry?;
            let Some(key) = entry.file_name().to_str().map(|name| join(&folder, name)) else {
                continue;
            };
            if !wanted.leads(&key) {
                continue;
            }
            // Links are followed: an operator may keep a folder on another disk.
            let Some(metadata) = unless_gone(std::fs::metadata(entry.path()))? else { continue };
            if metadata.is_dir() {
                pending.push(key);
            } else if metadata.is_file() && wanted.has(&key) {
                if objects.len() == LIST_OBJECTS_MAX {
                    return Err(Fault::corrupt(too_many("objects")));
                }
                objects.push(meta(key, &metadata)?);
            }
        }
    }
    Ok(objects)
}

fn temporaries(root: &Path) -> Result<Vec<ObjectMeta>, Fault> {
    let mut found = Vec::new();
    let mut pending = vec![String::new()];
    while let Some(folder) = pending.pop() {
        let Some(entries) = unless_gone(std::fs::read_dir(root.join(&folder)))? else { continue };
        for entry in entries {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let key = join(&folder, &name);
            let kind = entry.file_type()?;
            if kind.is_file() && durable::is_temporary(&name) && found.len() < LIST_OBJECTS_MAX {
                let metadata = unless_gone(entry.metadata())?;
                found.extend(metadata.map(|metadata| meta(key, &metadata)).transpose()?);
            } else if !kind.is_file() && is_valid_key(&key) {
                // Links are followed, as in a listing.
                let metadata = unless_gone(std::fs::metadata(entry.path()))?;
                pending.extend(metadata.filter(Metadata::is_dir).map(|_| key));
            }
        }
    }
    Ok(found)
}

/// What another process deletes during the listing is simply not listed.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
        {
            Ok(None)
        }
        result => result.map(Some),
    }
}

fn meta(key: String, metadata: &Metadata) -> io::Result<ObjectMeta> {
    Ok(ObjectMeta { key, size: metadata.len(), modified: metadata.modified()? })
}
