//! Which paths of a snapshot are restored, and where each of them goes.

use std::ffi::OsString;

use crate::entry::{Entry, PathBytes, display_path};
use crate::snapshot::{Snapshot, Source};
use crate::target::is_reserved;

/// A choice that cannot be carried out.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// `--strip` or `--volume` with several sources left.
    #[error("the snapshot has {count} sources ({listed}): choose one with --source")]
    SeveralSources {
        /// How many.
        count: usize,
        /// Their paths.
        listed: String,
    },
    /// No such source.
    #[error("the snapshot has no source {wanted}: it has {listed}")]
    NoSource {
        /// What was asked for.
        wanted: String,
        /// The sources' paths and volume names.
        listed: String,
    },
    /// Nothing matches.
    #[error("the snapshot has nothing at {0}: `backup ls` lists what it has")]
    NoPath(String),
    /// A typed path that names nothing.
    #[error("`{0}` is no path in a snapshot: give it whole, without `..`")]
    Path(String),
}

/// The chosen part of a snapshot.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Restore only these and what is below them; everything when empty. Without the leading `/`.
    pub paths: Vec<PathBytes>,
    /// And of these only what is at or below this path.
    pub source: Option<PathBytes>,
    /// Put what is below this path at the target itself.
    pub strip: Option<PathBytes>,
}

impl Selection {
    /// Whether `path` is restored.
    #[must_use]
    pub fn holds(&self, path: &[u8]) -> bool {
        let in_root =
            |root: &Option<PathBytes>| root.as_deref().is_none_or(|root| is_inside(path, root));
        in_root(&self.strip)
            && in_root(&self.source)
            && (self.paths.is_empty() || self.paths.iter().any(|chosen| is_inside(path, chosen)))
    }

    /// Whether `path` is chosen and may be made in a target: not where [`is_reserved`] names would be.
    #[must_use]
    pub fn restores(&self, path: &[u8]) -> bool {
        self.holds(path) && !is_reserved(self.place(path))
    }

    /// Whether all that a target could get is restored: otherwise `--replace` would empty the rest.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        let root = self.strip.as_deref().unwrap_or_default();
        self.source.as_deref().is_none_or(|source| is_inside(root, source))
            && (self.paths.is_empty() || self.paths.iter().any(|path| is_inside(root, path)))
    }

    /// Where `path` goes, relative to the target.
    #[must_use]
    pub fn place<'a>(&self, path: &'a [u8]) -> &'a [u8] {
        let Some(root) = &self.strip else { return path };
        let rest = path.strip_prefix(root.as_slice()).unwrap_or(path);
        rest.strip_prefix(b"/").unwrap_or(rest)
    }

    /// The entry as it is made in the target.
    #[must_use]
    pub fn placed(&self, mut entry: Entry) -> Entry {
        if self.strip.is_some() {
            entry.path = self.place(&entry.path).to_vec();
        }
        entry
    }
}

/// Whether `path` is `root` or below it.
#[must_use]
pub fn is_inside(path: &[u8], root: &[u8]) -> bool {
    root.is_empty()
        || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// The path of the one source that is meant, as entries have it.
pub fn one_source(snapshot: &Snapshot, wanted: Option<&str>) -> Result<PathBytes, SelectError> {
    source_named(snapshot, wanted, &[]).map(entry_path)
}

/// The path of a source as entries have it.
fn entry_path(source: &Source) -> PathBytes {
    let path = source.path.as_bytes();
    path.strip_prefix(b"/").unwrap_or(path).to_vec()
}

/// The one source that is meant: the named one (by path or volume name), the one that a path is, or the
/// only one.
pub fn source_named<'a>(
    snapshot: &'a Snapshot,
    wanted: Option<&str>,
    paths: &[OsString],
) -> Result<&'a Source, SelectError> {
    let listed = || {
        let names = snapshot.sources.iter().map(|source| match &source.volume {
            Some(volume) => format!("{} (volume {})", source.path, volume.name),
            None => source.path.clone(),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    let by_name = |wanted: &str| {
        snapshot.sources.iter().find(|source| {
            source.path == wanted
                || source.volume.as_ref().is_some_and(|volume| volume.name == wanted)
        })
    };
    match (wanted, snapshot.sources.as_slice(), paths) {
        (Some(wanted), ..) => by_name(wanted)
            .ok_or_else(|| SelectError::NoSource { wanted: wanted.to_owned(), listed: listed() }),
        (None, [only], _) => Ok(only),
        (None, several, paths) => {
            let named = paths.iter().filter_map(|path| path.to_str()).find_map(by_name);
            named.ok_or_else(|| SelectError::SeveralSources {
                count: several.len(),
                listed: listed(),
            })
        }
    }
}

/// An absolute path as people type it, as entries have it: without empty and `.` components. Nothing,
/// and `..`, are refused.
pub fn typed_path(path: &[u8]) -> Result<PathBytes, SelectError> {
    let parts = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b"."));
    let parts: Vec<_> = parts.collect();
    if path.is_empty() || parts.contains(&b"..".as_slice()) {
        return Err(SelectError::Path(String::from_utf8_lossy(path).into_owned()));
    }
    Ok(parts.join(&b'/'))
}

/// The error for a selection that matched nothing.
#[must_use]
pub fn nothing_at(selection: &Selection) -> SelectError {
    let wanted: Vec<_> = selection.paths.iter().map(|path| display_path(path)).collect();
    let within = selection.source.as_deref().map(display_path);
    SelectError::NoPath(match within {
        Some(source) if wanted.is_empty() => source,
        Some(source) => format!("{} in {source}", wanted.join(", ")),
        None => wanted.join(", "),
    })
}

#[cfg(test)]
mod tests;
