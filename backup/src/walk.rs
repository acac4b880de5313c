//! Walks source trees in tree order while other threads read directories ahead.
//!
//! The consumer follows the tree depth first. Every directory it will need later waits in a shared
//! plan ordered like the tree; threads take the first one nobody has taken, read its names (getdents)
//! and metadata (statx relative to the open directory) and leave the sorted listing for the consumer,
//! until [`ENTRIES_AHEAD_MAX`] entries are ready. The consumer reads a directory itself when nobody
//! has taken it, so it never waits for a thread that waits for it.
//!
//! Directories are opened by their path beneath the root for one read each, so open files stay at one
//! per thread, paths have no `PATH_MAX`, and a directory replaced by a symbolic link is not followed.

use std::io;
use std::num::NonZero;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::beneath;
use crate::entry::{PathBytes, display_path};
use crate::exclude::Exclude;

mod ahead;
mod listing;
mod stat;

pub use stat::{FileType, Stat};

use ahead::{Ahead, Directory};
use listing::{Item, Listing};

/// Entries that may lie read and unused before threads stop reading ahead. One directory is always
/// held whole, because its names have to be sorted.
pub const ENTRIES_AHEAD_MAX: usize = 32 * 1024;

/// Longest path of a walk in bytes; what lies deeper is reported and left out. Twice this in base64
/// fits a tree line.
pub const PATH_BYTES_MAX: usize = 256 * 1024;

/// Most threads that read ahead: more gain nothing (measured: two do as well as four on two cores).
pub const THREADS_MAX: usize = 16;

/// What to walk: a directory with all that is in it, or one thing that is not a directory.
#[derive(Debug)]
pub struct SourceRoot {
    path: PathBytes,
    /// The directory itself, or the parent of the single thing.
    directory: OwnedFd,
    /// The name in `directory` of a root that is not a directory.
    name: Option<Vec<u8>>,
}

/// Why a source cannot be walked at all.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// There is nothing at the path.
    #[error("the source {0} does not exist; check the path and that its volume is mounted")]
    Missing(String),
    /// Something is there, but it cannot be opened.
    #[error("cannot open the source {path}")]
    Open {
        /// As people read it.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// What a walk leaves out and how it works.
#[derive(Debug, Default)]
pub struct WalkOptions {
    /// Paths to leave out. A root is never left out: it was named.
    pub exclude: Exclude,
    /// Record directories on other file systems than their root's, and do not enter them.
    pub one_file_system: bool,
    /// What belongs to the backup itself (device, inode): directories, left out with all below, and files.
    pub skip: Vec<(u64, u64)>,
    /// Threads that read ahead, up to [`THREADS_MAX`]; with 0 the caller's thread does everything.
    pub threads: usize,
}

/// What a walk meets.
#[derive(Debug)]
pub enum Event {
    /// A path and its metadata.
    Found(Found),
    /// Something was left out on purpose.
    Skipped(Skipped),
    /// Something could not be read; the walk goes on.
    Warning(Warning),
}

/// A path that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Which of the walked roots it belongs to.
    pub root: usize,
    /// Absolute path without the leading `/`.
    pub path: PathBytes,
    /// Its metadata at that moment.
    pub stat: Stat,
}

/// What was left out, or a directory recorded without what is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Absolute path without the leading `/`.
    pub path: PathBytes,
    /// Why.
    pub reason: SkipReason,
}

/// Why a directory was not entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// It is the repository, the cache, the archive or a key of the backup; left out whole.
    Own,
    /// It is on another file system, and only one was asked for; recorded as an empty directory.
    OtherFileSystem,
    /// It is a view into the kernel, of this type; recorded as an empty directory.
    KernelFileSystem(&'static str),
}

/// Something that could not be read.
#[derive(Debug)]
pub struct Warning {
    /// Absolute path without the leading `/`.
    pub path: PathBytes,
    /// What went wrong.
    pub problem: WalkProblem,
}

/// Why a part of the tree is missing from the walk.
#[derive(Debug, thiserror::Error)]
pub enum WalkProblem {
    /// It disappeared between being listed and being looked at.
    #[error("disappeared while the tree was read")]
    Vanished,
    /// A directory became something else.
    #[error("was replaced while the tree was read")]
    Replaced,
    /// Permission denied.
    #[error("may not be read by this user")]
    Denied,
    /// Deeper than [`PATH_BYTES_MAX`].
    #[error("has entries whose path is longer than {PATH_BYTES_MAX} bytes")]
    TooDeep,
    /// Anything else.
    #[error("cannot be read")]
    Io(#[source] io::Error),
}

impl SourceRoot {
    /// Opens a source.
    ///
    /// Symbolic links in the parents are resolved, so [`SourceRoot::path`] is the place where the data
    /// lies. A path that itself is a link to a directory stands for that directory, as an operator
    /// means it; a link to anything else is saved as the link it is.
    pub fn open(path: &Path) -> Result<Self, WalkError> {
        let shown = || path.display().to_string();
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => WalkError::Missing(shown()),
            _ => WalkError::Open { path: shown(), source },
        };
        let leads_to_directory = match path.metadata() {
            Ok(metadata) => metadata.is_dir(),
            Err(_) => path.symlink_metadata().map_err(failed)?.is_dir(),
        };
        if leads_to_directory {
            let canonical = path.canonicalize().map_err(failed)?;
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            return Self::open_beneath(canonical.as_os_str().as_bytes(), flags, None)
                .map_err(failed);
        }
        let name = path.file_name().ok_or_else(|| WalkError::Missing(shown()))?;
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let parent = parent.canonicalize().map_err(failed)?;
        Self::open_beneath(
            parent.as_os_str().as_bytes(),
            beneath::NAME_DIRECTORY,
            Some(name.as_bytes().to_vec()),
        )
        .map_err(failed)
    }

    /// Wraps a directory that is already open; its path is empty, so what is found in it is relative.
    pub(crate) fn from_directory(directory: OwnedFd) -> Self {
        Self { path: Vec::new(), directory, name: None }
    }

    fn open_beneath(
        directory_path: &[u8],
        flags: OFlags,
        name: Option<Vec<u8>>,
    ) -> io::Result<Self> {
        let relative = directory_path.strip_prefix(b"/").unwrap_or(directory_path);
        let top = openat(CWD, c"/", beneath::NAME_DIRECTORY, Mode::empty())?;
        let directory = beneath::open(top.as_fd(), relative, flags, Mode::empty())?;
        let path = match &name {
            Some(name) => join(relative, name),
            None => relative.to_vec(),
        };
        Ok(Self { path, directory, name })
    }

    /// Where the source lies: absolute, links resolved, without the leading `/`.
    #[must_use]
    pub fn path(&self) -> &[u8] {
        &self.path
    }

    /// Whether the source is a directory.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.name.is_none()
    }

    /// What is at `path` now, where that lies in this source and can be looked at.
    pub(crate) fn stat_of(&self, path: &[u8]) -> Option<Stat> {
        let below = path.strip_prefix(self.path.as_slice())?;
        if !self.path.is_empty() && !below.is_empty() && !below.starts_with(b"/") {
            return None;
        }
        if below.is_empty() {
            return Stat::read(self.directory(), self.name.as_deref().unwrap_or_default()).ok();
        }
        let (parent, name) = beneath::open_parent(self.directory(), self.relative(path)).ok()?;
        Stat::read(parent.as_fd(), name).ok()
    }

    /// The directory that paths from [`SourceRoot::relative`] start at.
    pub(crate) fn directory(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// `path` as seen from [`SourceRoot::directory`]; empty for the directory itself.
    pub(crate) fn relative<'path>(&'path self, path: &'path [u8]) -> &'path [u8] {
        if let Some(name) = &self.name {
            return name;
        }
        let rest = path.strip_prefix(self.path.as_slice()).unwrap_or(path);
        rest.strip_prefix(b"/").unwrap_or(rest)
    }
}

impl WalkProblem {
    fn new(error: rustix::io::Errno) -> Self {
        match error {
            rustix::io::Errno::NOENT | rustix::io::Errno::STALE => Self::Vanished,
            rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP => Self::Replaced,
            rustix::io::Errno::ACCESS | rustix::io::Errno::PERM => Self::Denied,
            other => Self::Io(other.into()),
        }
    }
}

impl std::fmt::Display for SkipReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("left out: it belongs to this backup itself"),
            Self::OtherFileSystem => f.write_str("not entered: it is another file system"),
            Self::KernelFileSystem(kind) => {
                write!(f, "not entered: it is a view into the kernel ({kind})")
            }
        }
    }
}

/// Threads worth using for [`WalkOptions::threads`] on this machine.
#[must_use]
pub fn threads_default() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get).clamp(1, 4)
}

/// Walks `roots` (sorted in tree order, none inside another) and calls `visit` for everything met, in
/// [`crate::entry::tree_order`] of the absolute paths, on the calling thread.
///
/// Nothing that is found broken ends the walk: it becomes an [`Event::Warning`] behind the entry it
/// concerns. `visit` ends the walk by returning `Break`, and that is what comes back.
pub fn walk<B>(
    roots: &[SourceRoot],
    options: &WalkOptions,
    mut visit: impl FnMut(Event) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let ahead = Ahead::new(roots, options);
    std::thread::scope(|scope| {
        let _stop = ahead.stop_on_drop();
        for number in 0..options.threads.min(THREADS_MAX) {
            // A thread that cannot be started is one that does not help; the consumer does its work.
            drop(
                std::thread::Builder::new()
                    .name(format!("walk-{number}"))
                    .spawn_scoped(scope, || ahead.read_until_stopped()),
            );
        }
        for (number, root) in roots.iter().enumerate() {
            walk_root(&ahead, number, root, &mut visit)?;
        }
        ControlFlow::Continue(())
    })
}

/// A directory the consumer is inside of: where its path ends and what is still to come.
struct Level {
    path_length: usize,
    device: u64,
    items: std::vec::IntoIter<Item>,
}

fn walk_root<B>(
    ahead: &Ahead<'_>,
    number: usize,
    root: &SourceRoot,
    visit: &mut impl FnMut(Event) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let mut path = root.path.clone();
    let found = match listing::stat_root(root) {
        Ok(stat) => Found { root: number, path: path.clone(), stat },
        Err(error) => {
            return visit(Event::Warning(Warning { path, problem: WalkProblem::new(error) }));
        }
    };
    let stat = found.stat;
    if ahead.is_own(&stat) {
        return visit(Event::Skipped(Skipped { path, reason: SkipReason::Own }));
    }
    visit(Event::Found(found))?;
    if stat.kind != FileType::Directory {
        return ControlFlow::Continue(());
    }
    let device = stat.device;
    let mut levels = Vec::new();
    enter(ahead, Directory { root: number, path: path.clone(), device }, &mut levels, visit)?;
    while let Some(level) = levels.last_mut() {
        let (length, parent_device) = (level.path_length, level.device);
        let Some(item) = level.items.next() else {
            levels.pop();
            continue;
        };
        path.truncate(length);
        push_name(&mut path, &item.name);
        let stat = match item.outcome {
            Ok(stat) => stat,
            Err(problem) => {
                visit(Event::Warning(Warning { path: path.clone(), problem }))?;
                continue;
            }
        };
        if ahead.is_own(&stat) {
            visit(Event::Skipped(Skipped { path: path.clone(), reason: SkipReason::Own }))?;
            continue;
        }
        visit(Event::Found(Found { root: number, path: path.clone(), stat }))?;
        if stat.kind == FileType::Directory {
            let directory = Directory { root: number, path: path.clone(), device: parent_device };
            enter(ahead, directory, &mut levels, visit)?;
        }
    }
    ControlFlow::Continue(())
}

fn enter<B>(
    ahead: &Ahead<'_>,
    directory: Directory,
    levels: &mut Vec<Level>,
    visit: &mut impl FnMut(Event) -> ControlFlow<B>,
) -> ControlFlow<B> {
    let path_length = directory.path.len();
    let listing = ahead.take(&directory);
    let path = directory.path;
    match listing {
        Listing::Entries { device, items, cut_short } => {
            levels.push(Level { path_length, device, items: items.into_iter() });
            match cut_short {
                Some(problem) => visit(Event::Warning(Warning { path, problem })),
                None => ControlFlow::Continue(()),
            }
        }
        Listing::NotEntered(reason) => visit(Event::Skipped(Skipped { path, reason })),
        Listing::Failed(problem) => visit(Event::Warning(Warning { path, problem })),
    }
}

/// `directory` and `name` as one path; the empty directory is the root.
fn join(directory: &[u8], name: &[u8]) -> PathBytes {
    let mut path = directory.to_vec();
    push_name(&mut path, name);
    path
}

fn push_name(path: &mut PathBytes, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

impl std::fmt::Display for Warning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", display_path(&self.path), self.problem)
    }
}

impl std::fmt::Display for Skipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} was {}", display_path(&self.path), self.reason)
    }
}

#[cfg(test)]
mod tests;
