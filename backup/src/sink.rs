//! Where a single archive goes: standard output, a file, an object.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use age::stream::StreamWriter;
use chores_common::durable::{DurableError, DurableFile};
use chores_common::object::{Location, ObjectError, ObjectStore, S3Settings, body};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::keys::content::{self, ContentError};
use crate::keys::recipient::Recipients;
use crate::stream::ObjectSink;

/// Chunks that may wait for the upload; the writer stands still beyond.
const CHUNKS_QUEUED: usize = 4;

/// Mode of a written archive: it holds what may be secret.
const FILE_MODE: u32 = 0o600;

/// Symbolic links followed to the place that is meant; the kernel follows as many (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// A place to write one archive to. Of files and objects nothing is visible before [`Sink::commit`].
#[derive(Debug)]
pub enum Sink {
    /// Standard output.
    Stdout(io::Stdout),
    /// A file, renamed into place in the end.
    File(DurableFile),
    /// A device or a FIFO, written as it is.
    Node(File, PathBuf),
    /// An object, uploaded while it is written.
    Object(ObjectSink, JoinHandle<Result<u64, ObjectError>>),
}

/// Why an archive could not be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The location has no name for an object.
    #[error("{0} names a bucket, not an object: add the object's key")]
    NoKey(String),
    /// The location is of a kind that takes no streams.
    #[error("an archive goes to a file, to s3://bucket/key or to standard output, not to {0}")]
    Remote(String),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// A directory cannot be an archive.
    #[error("{0} is a directory: add the name of a file")]
    Directory(String),
    /// What is there cannot be opened or written.
    #[error("cannot write to {0}")]
    Node(String, #[source] io::Error),
    /// The object cannot be written.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
    /// It cannot be encrypted.
    #[error("cannot encrypt the archive")]
    Seal(#[source] ContentError),
    /// Its end cannot be written.
    #[error("cannot write the end of the archive")]
    End(#[source] io::Error),
    /// The upload ended without an answer.
    #[error("the upload was broken off")]
    Upload,
}

impl Sink {
    /// Standard output.
    #[must_use]
    pub fn stdout() -> Self {
        Self::Stdout(io::stdout())
    }

    /// The file or object `location`.
    pub fn open(location: &Location, s3: &S3Settings, runtime: &Handle) -> Result<Self, SinkError> {
        let (bucket, prefix) = match location {
            Location::Directory(path) => return Self::open_path(path),
            Location::S3 { bucket, prefix } => (bucket, prefix),
            // They take whole objects, and an archive may be longer than memory.
            Location::Remote(remote) => return Err(SinkError::Remote(remote.to_string())),
        };
        let (directory, name) = prefix.rsplit_once('/').unwrap_or(("", prefix));
        if name.is_empty() {
            return Err(SinkError::NoKey(location.to_string()));
        }
        let parent = Location::S3 { bucket: bucket.clone(), prefix: directory.to_owned() };
        let store = ObjectStore::open(&parent, s3)?;
        let (sender, body) = body(CHUNKS_QUEUED);
        let name = name.to_owned();
        let upload = runtime.spawn(async move { store.put_stream(&name, body).await });
        Ok(Self::Object(ObjectSink::new(sender), upload))
    }

    /// A name is only replaced where it is that of a regular file, or of nothing.
    fn open_path(path: &Path) -> Result<Self, SinkError> {
        let path = followed(path);
        let failed = |error| SinkError::Node(path.display().to_string(), error);
        match path.metadata() {
            Ok(found) if found.is_dir() => Err(SinkError::Directory(path.display().to_string())),
            Ok(found) if !found.is_file() => {
                let node = File::options().write(true).open(&path).map_err(failed)?;
                Ok(Self::Node(node, path))
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
            _ => Ok(Self::File(DurableFile::create(&path, FILE_MODE)?)),
        }
    }

    /// Device and inode of the files that are written or will be replaced, as a walk wants them to leave
    /// them out.
    #[must_use]
    pub fn identities(&self) -> Vec<(u64, u64)> {
        let Self::File(file) = self else { return Vec::new() };
        let found = [file.metadata(), file.path().metadata()];
        found.into_iter().flatten().map(|found| (found.dev(), found.ino())).collect()
    }

    /// Makes what was written visible in its place.
    pub fn commit(self, runtime: &Handle) -> Result<(), SinkError> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush().map_err(SinkError::Stdout),
            Self::File(file) => Ok(file.commit()?),
            Self::Node(node, path) => match node.sync_all() {
                // A FIFO, and a device that keeps nothing (fsync(2)).
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                outcome => {
                    outcome.map_err(|error| SinkError::Node(path.display().to_string(), error))
                }
            },
            Self::Object(sink, upload) => {
                // Where the upload has ended already, its own result says why.
                if sink.finish().is_err() {
                    tracing::debug!("the upload ended before the archive");
                }
                runtime.block_on(upload).map_err(|_| SinkError::Upload)??;
                Ok(())
            }
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Stdout(stdout) => stdout.write(bytes),
            Self::File(file) => file.write(bytes),
            Self::Node(node, _) => node.write(bytes),
            Self::Object(sink, _) => sink.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
            Self::Node(node, _) => node.flush(),
            Self::Object(sink, _) => sink.flush(),
        }
    }
}

/// A place as it is, or behind encryption.
pub enum Outlet {
    /// What is written comes there as it is.
    Clear(Sink),
    /// What is written comes there as an age file.
    Sealed(Box<StreamWriter<Sink>>),
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clear(sink) => f.debug_tuple("Clear").field(sink).finish(),
            Self::Sealed(_) => f.write_str("Sealed(…)"),
        }
    }
}

impl Outlet {
    /// Encrypted where there are recipients.
    pub fn new(sink: Sink, recipients: Option<&Recipients>) -> Result<Self, SinkError> {
        let Some(recipients) = recipients else { return Ok(Self::Clear(sink)) };
        let sealed = content::seal_into(recipients, sink).map_err(SinkError::Seal)?;
        Ok(Self::Sealed(Box::new(sealed)))
    }

    /// Writes what ends an age file, without which nobody takes it for whole, and gives the place back.
    pub fn finish(self) -> Result<Sink, SinkError> {
        match self {
            Self::Clear(sink) => Ok(sink),
            Self::Sealed(sealed) => sealed.finish().map_err(SinkError::End),
        }
    }
}

impl Write for Outlet {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Clear(sink) => sink.write(bytes),
            Self::Sealed(sealed) => sealed.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Clear(sink) => sink.flush(),
            Self::Sealed(sealed) => sealed.flush(),
        }
    }
}

/// Where links at the end of a path lead, to a place that need not exist.
fn followed(path: &Path) -> PathBuf {
    let mut at = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(to) = std::fs::read_link(&at) else { break };
        at = at.parent().unwrap_or(Path::new("")).join(to);
    }
    at
}

#[cfg(test)]
mod tests;
