//! How a directory that this process sees is given to the worker.
//!
//! The engine takes paths of its own host. A process on that host names them as they are; a process in a
//! container has to name what is mounted there.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use chores_common::engine::{Container, Mount, MountKind, MountSource};

#[cfg(test)]
mod tests;

/// Entries of the repository whose owner is looked at.
const ENTRIES_LOOKED_AT_MAX: usize = 1000;

/// A directory as the engine knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// What to mount.
    pub(super) source: MountSource,
    /// Where the directory is in that, empty for the top: the engine mounts volumes whole.
    pub(super) rest: PathBuf,
}

/// Where a directory is that cannot be given to another container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// On the layer of this container.
    OwnLayer,
    /// In memory.
    Memory,
    /// In a mount of a kind that cannot be named.
    UnknownKind,
}

/// Why a directory cannot be given to the worker.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It does not exist, or may not be looked at.
    #[error("cannot find the {what} {path}")]
    Missing {
        /// `repository` or `cache directory`.
        what: &'static str,
        /// As it was given.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// The engine's requests are JSON.
    #[error("the path of the {what} {path} is not UTF-8, so the engine cannot be told")]
    NotUtf8 {
        /// `repository` or `cache directory`.
        what: &'static str,
        /// As people read it.
        path: String,
    },
    /// Only this container can see it.
    #[error("{}", outside(.what, .path, *.reason))]
    Outside {
        /// `repository` or `cache directory`.
        what: &'static str,
        /// The directory.
        path: String,
        /// Where it is.
        reason: Outside,
    },
    /// The mount it is in is read-only, and a backup writes.
    #[error("the {what} {path} is mounted read-only into this container: mount it without :ro")]
    ReadOnly {
        /// `repository` or `cache directory`.
        what: &'static str,
        /// The directory.
        path: String,
    },
    /// Another mount inside it would be missing in the worker.
    #[error("{inner} is a mount of its own inside the {what} {path}: mount it as one")]
    Split {
        /// `repository` or `cache directory`.
        what: &'static str,
        /// The directory.
        path: String,
        /// The mount inside.
        inner: String,
    },
}

fn outside(what: &str, path: &str, reason: Outside) -> String {
    let reason = match reason {
        Outside::OwnLayer => "lies in this container itself",
        Outside::Memory => "lies in this container's memory",
        Outside::UnknownKind => "is mounted in a way that another container cannot be given",
    };
    format!(
        "the {what} {path} {reason}, so the worker cannot see it: mount a volume or a directory there"
    )
}

/// What paths are translated by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places<'a> {
    /// The container this process is in.
    pub(super) own: Option<&'a Container>,
    /// The worker writes.
    pub(super) writes: bool,
}

impl Places<'_> {
    /// The directory at `path`, which must be absolute and without symbolic links.
    pub(super) fn translate(&self, what: &'static str, path: &Path) -> Result<Place, PlaceError> {
        let shown = || path.display().to_string();
        if path.to_str().is_none() {
            return Err(PlaceError::NotUtf8 { what, path: shown() });
        }
        let Some(own) = self.own else {
            return Ok(Place { source: MountSource::Bind(path.to_owned()), rest: PathBuf::new() });
        };
        let outside = |reason| PlaceError::Outside { what, path: shown(), reason };
        let (mount, rest) = mount_of(&own.mounts, path).ok_or(outside(Outside::OwnLayer))?;
        if let Some(inner) = own.mounts.iter().find(|inner| {
            inner.destination != mount.destination && inner.destination.starts_with(path)
        }) {
            let inner = inner.destination.display().to_string();
            return Err(PlaceError::Split { what, path: shown(), inner });
        }
        if self.writes && !mount.read_write {
            return Err(PlaceError::ReadOnly { what, path: shown() });
        }
        match (mount.kind, &mount.name) {
            (MountKind::Volume, Some(name)) => {
                Ok(Place { source: MountSource::Volume(name.clone()), rest: rest.to_owned() })
            }
            // Joining an empty rest would add a slash.
            (MountKind::Bind, _) if rest.as_os_str().is_empty() => {
                Ok(Place { source: MountSource::Bind(mount.source.clone()), rest: PathBuf::new() })
            }
            (MountKind::Bind, _) => Ok(Place {
                source: MountSource::Bind(mount.source.join(rest)),
                rest: PathBuf::new(),
            }),
            (MountKind::Tmpfs, _) => Err(outside(Outside::Memory)),
            (MountKind::Volume | MountKind::Image | MountKind::Other, _) => {
                Err(outside(Outside::UnknownKind))
            }
        }
    }
}

/// The mount that `path` is in: the deepest, with the path's rest below it.
pub(crate) fn mount_of<'a>(mounts: &'a [Mount], path: &'a Path) -> Option<(&'a Mount, &'a Path)> {
    mounts
        .iter()
        .filter_map(|mount| Some((mount, path.strip_prefix(&mount.destination).ok()?)))
        .max_by_key(|(mount, _)| mount.destination.components().count())
}

/// The path without symbolic links.
pub(super) fn canonical(what: &'static str, path: &Path) -> Result<PathBuf, PlaceError> {
    path.canonicalize().map_err(|source| PlaceError::Missing {
        what,
        path: path.display().to_string(),
        source,
    })
}

/// The same, for a directory that is made when it is missing.
pub(super) fn made(what: &'static str, path: &Path) -> Result<PathBuf, PlaceError> {
    std::fs::create_dir_all(path).map_err(|source| PlaceError::Missing {
        what,
        path: path.display().to_string(),
        source,
    })?;
    canonical(what, path)
}

/// Whether root without `DAC_OVERRIDE` could be kept from writing here: something of the directory's first
/// level belongs to another user. What cannot be looked at counts as foreign.
pub(super) fn is_owned_by_others(directory: &Path) -> bool {
    let foreign = |metadata: io::Result<std::fs::Metadata>| metadata.map_or(true, |m| m.uid() != 0);
    if foreign(directory.metadata()) {
        return true;
    }
    match directory.read_dir() {
        Ok(entries) => entries
            .take(ENTRIES_LOOKED_AT_MAX)
            .any(|entry| foreign(entry.and_then(|entry| entry.metadata()))),
        Err(_) => true,
    }
}
