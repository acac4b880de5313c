//! The place of a sink: everything before it was delivered. One small file each, written whole.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chores_common::durable;
use serde::{Deserialize, Serialize};

use super::read::{Reader, Upto};
use super::shared::{FILE_MODE, Shared, SinkPlace};
use super::{Position, WalError};

#[cfg(test)]
mod tests;

/// The version of the file.
const VERSION: u32 = 1;

/// Longest file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// Ending of the names of the files.
const SUFFIX: &str = ".json";

/// Longest name of a sink that becomes a name of a file as it is, in bytes.
const NAME_BYTES_MAX: usize = 80;

/// How long a commit waits at a time until the log is durable up to its place.
const DURABLE_WAIT: Duration = Duration::from_secs(1);

/// What a slow sink does to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "role")]
pub enum Role {
    /// Nothing is removed before it has it.
    Mandatory,
    /// It loses what is further behind than `bytes_max` bytes of the log.
    Optional {
        /// The bound.
        bytes_max: u64,
    },
}

/// What is in the file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SinkFile {
    version: u32,
    /// The log that the place is in.
    pub(super) log: String,
    pub(super) sink: String,
    #[serde(flatten)]
    pub(super) role: Role,
    pub(super) position: Position,
    #[serde(default)]
    note: serde_json::Value,
}

/// The durable place of one sink, and a note of its own beside it.
#[derive(Debug)]
pub struct SinkCursor {
    shared: Arc<Shared>,
    name: String,
    role: Role,
    path: Option<PathBuf>,
    position: Position,
    note: serde_json::Value,
}

impl SinkCursor {
    pub(super) fn open(shared: Arc<Shared>, name: &str, role: Role) -> Result<Self, WalError> {
        let path = shared.paths.as_ref().map(|paths| paths.sinks.join(file_name(name)));
        let known = match &path {
            Some(path) => read(path)?,
            None => None,
        };
        let log = shared.id().to_string();
        let known = known.filter(|known| {
            if known.log != log {
                tracing::warn!(sink = name, "the log is a new one; the sink begins at its start");
            }
            known.log == log
        });
        let mut inner = shared.lock();
        let first = inner.segments.keys().next().copied();
        let oldest = Position { frame: first.unwrap_or(0), record: 0 };
        let (mut position, note) = match known {
            Some(known) => (known.position, known.note),
            None => (oldest, serde_json::Value::Null),
        };
        let end = Position { frame: inner.written.max(inner.next_base), record: 0 };
        if position > end {
            tracing::warn!(
                sink = name,
                "the log ends before the place of the sink; it goes on there"
            );
            position = end;
        }
        inner.sinks.insert(name.to_owned(), SinkPlace { role, position });
        drop(inner);
        Ok(Self { shared, name: name.to_owned(), role, path, position, note })
    }

    /// Everything before it was delivered.
    #[must_use]
    pub fn position(&self) -> Position {
        self.position
    }

    /// What the sink noted at its last commit; null at first, and after the log was lost.
    #[must_use]
    pub fn note(&self) -> &serde_json::Value {
        &self.note
    }

    /// Reads on from the place of the sink, and knows its role.
    #[must_use]
    pub fn reader(&self, until: Upto) -> Reader {
        let name = Some(self.name.clone());
        Reader::new(self.shared.clone(), self.position, until, name, self.role)
    }

    /// Keeps place and note; both survive a crash when this returns. Waits until the log is durable up to the
    /// place: a sink must not remember lines that the log may yet lose.
    pub fn commit(&mut self, position: Position, note: serde_json::Value) -> Result<(), WalError> {
        self.wait_durable(position)?;
        if let Some(path) = &self.path {
            let file = SinkFile {
                version: VERSION,
                log: self.shared.id().to_string(),
                sink: self.name.clone(),
                role: self.role,
                position,
                note,
            };
            let mut bytes = serde_json::to_vec(&file).unwrap_or_default();
            bytes.push(b'\n');
            if let Err(error) = durable::write(path, &bytes, FILE_MODE) {
                if !super::write::is_disk_full(error.io()) {
                    return Err(error.into());
                }
                self.shared.release_reserve();
                durable::write(path, &bytes, FILE_MODE)?;
            }
            self.note = file.note;
        } else {
            self.note = note;
        }
        self.position = position;
        let mut inner = self.shared.lock();
        if let Some(sink) = inner.sinks.get_mut(&self.name) {
            sink.position = position;
        }
        inner.has_sink_moved = true;
        self.shared.work.notify_all();
        // The committer has ended with the log; sinks take what is left after that.
        if inner.is_closed {
            inner.keep_delivered();
        }
        Ok(())
    }

    fn wait_durable(&self, position: Position) -> Result<(), WalError> {
        let mut inner = self.shared.lock();
        // Records of a frame are durable with the frame: its end is unknown here, its start is not enough.
        while inner.durable < position.frame
            || (position.record > 0
                && inner.durable == position.frame
                && inner.written > inner.durable)
        {
            if let Some(reason) = &inner.failed {
                return Err(WalError::Failed(reason.clone()));
            }
            if inner.is_abandoned || inner.written < position.frame {
                return Err(WalError::Failed("the place is not in the log".to_owned()));
            }
            inner = self.shared.wait(&self.shared.more, inner, DURABLE_WAIT);
        }
        Ok(())
    }
}

/// The file of a sink. Names that could mean anything else, or another sink's file, are hashed.
fn file_name(name: &str) -> String {
    let is_plain = !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && !name.starts_with(['.', '~'])
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte));
    if is_plain {
        format!("{name}{SUFFIX}")
    } else {
        format!("~{}{SUFFIX}", blake3::hash(name.as_bytes()).to_hex())
    }
}

fn read(path: &Path) -> Result<Option<SinkFile>, WalError> {
    let failed = |source| WalError::io("read", path, source);
    match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return Err(failed(std::io::ErrorKind::FileTooLarge.into()));
        }
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    let file: SinkFile = serde_json::from_slice(&bytes).map_err(|error| failed(error.into()))?;
    if file.version != VERSION {
        return Err(WalError::Version { path: path.to_owned(), version: file.version });
    }
    Ok(Some(file))
}

/// The places of all sinks that ever were, those that cannot be read left out.
pub(super) fn all(directory: &Path) -> Result<Vec<SinkFile>, WalError> {
    let failed = |source| WalError::io("list the sinks in", directory, source);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut sinks = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        match read(&path) {
            Ok(known) => sinks.extend(known),
            Err(error) => {
                let error = chores_common::exit::chain(&error);
                tracing::warn!(%error, "the place of a sink cannot be read");
            }
        }
    }
    sinks.sort_by(|a, b| a.sink.cmp(&b.sink));
    Ok(sinks)
}
