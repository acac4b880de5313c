//! Where a single archive goes: standard output, a file, an object.

use std::io::{self, Write};
use std::path::Path;

use chores_common::durable::{DurableError, DurableFile};
use chores_common::object::{Location, ObjectError, ObjectStore, S3Settings, body};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::stream::ObjectSink;

/// Chunks that may wait for the upload; the writer stands still beyond.
const CHUNKS_QUEUED: usize = 4;

/// Mode of a written archive: it holds what may be secret.
const FILE_MODE: u32 = 0o600;

/// A place to write one archive to. Nothing is visible there before [`Sink::commit`].
#[derive(Debug)]
pub enum Sink {
    /// Standard output.
    Stdout(io::Stdout),
    /// A file, renamed into place in the end.
    File(DurableFile),
    /// An object, uploaded while it is written.
    Object(ObjectSink, JoinHandle<Result<u64, ObjectError>>),
}

/// Why an archive could not be put in its place.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The location has no name for an object.
    #[error("{0} names a bucket, not an object: add the object's key")]
    NoKey(String),
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The object cannot be written.
    #[error(transparent)]
    Object(#[from] ObjectError),
    /// Standard output cannot be written.
    #[error("cannot write to standard output")]
    Stdout(#[source] io::Error),
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
        let Location::S3 { bucket, prefix } = location else {
            let Location::Directory(path) = location else { return Err(SinkError::Upload) };
            return Ok(Self::File(DurableFile::create(Path::new(path), FILE_MODE)?));
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

    /// Makes what was written visible in its place.
    pub fn commit(self, runtime: &Handle) -> Result<(), SinkError> {
        match self {
            Self::Stdout(mut stdout) => stdout.flush().map_err(SinkError::Stdout),
            Self::File(file) => Ok(file.commit()?),
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
            Self::Object(sink, _) => sink.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Stdout(stdout) => stdout.flush(),
            Self::File(file) => file.flush(),
            Self::Object(sink, _) => sink.flush(),
        }
    }
}
