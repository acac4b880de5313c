//! Where archives are: a file, every file of a directory, every object of a prefix, or standard input.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use chores_common::object::{
    ErrorKind, Location, LocationError, ObjectError, ObjectStore, S3Settings, without_password,
};
use tokio::runtime::Handle;

use super::{ArchiveError, ArchiveReader};

#[cfg(test)]
mod tests;

/// Files of one directory, at the most.
const FILES_MAX: usize = 1_000_000;

/// Directories below each other, at the most.
const DEPTH_MAX: usize = 32;

/// Bytes of an object that are asked for at once.
const PART_BYTES: u64 = 8 << 20;

/// Why a place cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// A file or directory.
    #[error("cannot read {}", path.display())]
    Path {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// More than can be listed.
    #[error("{} has more than {FILES_MAX} files, or directories deeper than {DEPTH_MAX}", .0.display())]
    TooMany(PathBuf),
    /// Neither a file nor a directory.
    #[error("{} is neither a file nor a directory", .0.display())]
    Special(PathBuf),
    /// What is written is no place.
    #[error("{0:?} is no place")]
    Location(String, #[source] LocationError),
    /// A store of a kind that has no archives of ours.
    #[error("archives are read from directories and S3, not from {0}")]
    Remote(String),
    /// The store does not answer as it should.
    #[error(transparent)]
    Store(#[from] ObjectError),
    /// There is nothing.
    #[error("there is nothing at {0}")]
    Nothing(String),
    /// What is there is no archive.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl PlaceError {
    /// Whether the command was wrong rather than the place.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        match self {
            Self::Path { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Special(_) | Self::Location(..) | Self::Remote(_) | Self::Nothing(_) => true,
            Self::Archive(ArchiveError::Plain { .. }) => true,
            Self::Store(error) => matches!(error.kind(), ErrorKind::Invalid | ErrorKind::NotFound),
            Self::TooMany(_) | Self::Archive(_) => false,
        }
    }
}

/// One file or object to be read.
#[derive(Debug)]
pub enum Part {
    /// Standard input.
    Input,
    /// A file.
    File(PathBuf),
    /// An object.
    Object {
        /// Where it is.
        store: ObjectStore,
        /// Its key there.
        key: String,
        /// Its length in bytes.
        size: u64,
        /// When it was written, by the clock of the store.
        modified: SystemTime,
    },
}

impl Part {
    /// When it was last written to; `None` when nobody can tell.
    #[must_use]
    pub fn modified(&self) -> Option<SystemTime> {
        match self {
            Self::Input => None,
            Self::File(path) => std::fs::metadata(path).and_then(|facts| facts.modified()).ok(),
            Self::Object { modified, .. } => Some(*modified),
        }
    }

    /// Opens it.
    pub fn open(&self, runtime: &Handle) -> Result<ArchiveReader, PlaceError> {
        match self {
            Self::Input => Ok(ArchiveReader::new("standard input".to_owned(), io::stdin())?),
            Self::File(path) => {
                let file = std::fs::File::open(path)
                    .map_err(|source| PlaceError::Path { path: path.clone(), source })?;
                Ok(ArchiveReader::new(path.display().to_string(), file)?)
            }
            Self::Object { store, key, size, .. } => {
                let place = format!("{}/{key}", store.location());
                let object = ObjectReader {
                    store: store.clone(),
                    key: key.clone(),
                    size: *size,
                    at: 0,
                    part: Bytes::new(),
                    runtime: runtime.clone(),
                };
                Ok(ArchiveReader::new(place, object)?)
            }
        }
    }
}

/// Everything at a place, in the order it was written as far as names tell.
pub fn parts(text: &str, s3: &S3Settings, runtime: &Handle) -> Result<Vec<Part>, PlaceError> {
    if text == "-" {
        return Ok(vec![Part::Input]);
    }
    let location = Location::parse(text)
        .map_err(|error| PlaceError::Location(without_password(text), error))?;
    match &location {
        Location::Directory(path) => local_parts(path),
        Location::S3 { bucket, prefix } => remote_parts(text, bucket, prefix, s3, runtime),
        Location::Remote(remote) => Err(PlaceError::Remote(remote.to_string())),
    }
}

fn local_parts(root: &Path) -> Result<Vec<Part>, PlaceError> {
    let fail = |path: &Path, source| PlaceError::Path { path: path.to_owned(), source };
    let kind = std::fs::metadata(root).map_err(|source| fail(root, source))?.file_type();
    if kind.is_file() {
        return Ok(vec![Part::File(root.to_owned())]);
    }
    if !kind.is_dir() {
        return Err(PlaceError::Special(root.to_owned()));
    }
    let mut files = Vec::new();
    let mut left = vec![(root.to_owned(), 0)];
    while let Some((directory, depth)) = left.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|source| fail(&directory, source))? {
            let entry = entry.map_err(|source| fail(&directory, source))?;
            let (path, name) = (entry.path(), entry.file_name());
            let kind = entry.file_type().map_err(|source| fail(&path, source))?;
            // What begins with a dot is being written, or is nobody's business.
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            if kind.is_dir() {
                left.push((path, depth + 1));
            } else if kind.is_file() {
                files.push(path);
            }
            if files.len() > FILES_MAX || depth > DEPTH_MAX {
                return Err(PlaceError::TooMany(root.to_owned()));
            }
        }
    }
    files.sort_by_cached_key(|path| written_order(path));
    if files.is_empty() {
        return Err(PlaceError::Nothing(root.display().to_string()));
    }
    Ok(files.into_iter().map(Part::File).collect())
}

/// Rotated files stand before the one that is written: `a.log.000001.zst`, `a.log.000002`, `a.log`.
fn written_order(path: &Path) -> (PathBuf, bool, PathBuf) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
    let name = name.unwrap_or_default();
    let plain = [".zst", ".gz"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    let generation = plain.rsplit_once('.').filter(|(stem, number)| {
        !stem.is_empty() && !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
    });
    match generation {
        Some((stem, _)) => (path.with_file_name(stem), false, path.to_owned()),
        None => (path.with_file_name(plain), true, path.to_owned()),
    }
}

fn remote_parts(
    text: &str,
    bucket: &str,
    prefix: &str,
    s3: &S3Settings,
    runtime: &Handle,
) -> Result<Vec<Part>, PlaceError> {
    let open = |prefix: &str| {
        let location = Location::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() };
        ObjectStore::open(&location, s3)
    };
    let store = open(prefix)?;
    let listed = runtime.block_on(store.list(""))?;
    if !listed.is_empty() {
        let objects = listed.into_iter().map(|object| Part::Object {
            store: store.clone(),
            key: object.key,
            size: object.size,
            modified: object.modified,
        });
        return Ok(objects.collect());
    }
    // It may name one object.
    let (parent, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
    if name.is_empty() {
        return Err(PlaceError::Nothing(text.to_owned()));
    }
    let store = open(parent)?;
    match runtime.block_on(store.head(name)) {
        Ok(object) => {
            let (size, modified) = (object.size, object.modified);
            Ok(vec![Part::Object { store, key: name.to_owned(), size, modified }])
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            Err(PlaceError::Nothing(text.to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Reads an object part by part.
struct ObjectReader {
    store: ObjectStore,
    key: String,
    size: u64,
    at: u64,
    part: Bytes,
    runtime: Handle,
}

impl Read for ObjectReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.part.is_empty() && self.at < self.size {
            let range = self.at..self.size.min(self.at + PART_BYTES);
            self.part = self
                .runtime
                .block_on(self.store.get_range(&self.key, range.clone()))
                .map_err(io::Error::other)?;
            self.at = range.end;
        }
        let length = buffer.len().min(self.part.len());
        let part = self.part.split_to(length);
        if let Some(place) = buffer.get_mut(..length) {
            place.copy_from_slice(&part);
        }
        Ok(length)
    }
}
