//! Writes a restored tree beneath one directory, whatever the snapshot or the directory say.
//!
//! Paths are relative to the target. Nothing is ever reached through a symbolic link or `..`: a link
//! that stands in the way is [`TargetError::InTheWay`]. Content is written first, then
//! [`Target::finish`] sets owner, mode, attributes and times; for directories it is called last,
//! children first. What a user without privileges or a file system without a feature cannot have
//! becomes a [`RestoreWarning`], not a failure.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType as NodeType, Mode, OFlags, fstatvfs, linkat, makedev, mkdirat, mknodat,
    symlinkat,
};
use rustix::io::Errno;

use crate::beneath;
use crate::entry::{Entry, Kind, PathBytes};
use crate::walk::{
    Event, FileType, Found, SkipReason, Skipped, SourceRoot, Stat, WalkOptions, Warning, walk,
};

mod attributes;
mod removal;
mod staging;

pub use staging::{Leftover, Staging, is_reserved};

/// Mode of directories between their making and [`Target::finish`].
const DIRECTORY_MODE: Mode = Mode::RWXU;

/// Mode of files, pipes and devices between their making and [`Target::finish`]: nobody else may read
/// a half restored secret.
const FILE_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// What every fresh ext file system has at its top; it does not make a target used.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// A directory that a tree is restored into.
#[derive(Debug)]
pub struct Target {
    path: PathBuf,
    directory: OwnedFd,
}

/// Why something could not be restored at all.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// No space or no quota left.
    #[error("the disk is full: cannot {act} {path}; free some space and restore again")]
    Full {
        /// What was tried.
        act: &'static str,
        /// The path in the target as people read it.
        path: String,
        /// `ENOSPC` or `EDQUOT`.
        #[source]
        source: io::Error,
    },
    /// A symbolic link or a file stands where a directory or file has to be.
    #[error("cannot {act} {path}: a link or another kind of file stands in the way; remove it")]
    InTheWay {
        /// What was tried.
        act: &'static str,
        /// The path in the target as people read it.
        path: String,
    },
    /// A mount inside the target cannot be replaced.
    #[error("{path} is a mount of its own inside the target; restore it by itself or unmount it")]
    Mount {
        /// The path in the target as people read it.
        path: String,
    },
    /// Another restore holds the target.
    #[error("another restore is replacing {path} right now; wait for it to end")]
    InUse {
        /// The path in the target as people read it.
        path: String,
    },
    /// The repository or the cache lies in the target.
    #[error(
        "{path} is the repository or the cache: a restore into the directory that holds it would remove it; name another target"
    )]
    Own {
        /// The path in the target as people read it.
        path: String,
    },
    /// Anything else.
    #[error("cannot {act} {path}")]
    Io {
        /// What was tried.
        act: &'static str,
        /// The path in the target as people read it.
        path: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
}

/// A piece of metadata that could not be restored; content is not affected.
#[derive(Debug)]
pub struct RestoreWarning {
    /// The path in the target.
    pub path: PathBytes,
    /// Which piece.
    pub what: Lost,
    /// The kernel's answer; `None` where it was not even tried.
    pub source: Option<io::Error>,
}

/// What is missing from a restored path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Lost {
    /// Owner and group; setuid and setgid of files are left out with them.
    Owner,
    /// Permission bits.
    Mode,
    /// The extended attribute of this name.
    Xattr(Vec<u8>),
    /// Extended attributes from before that are not in the snapshot and could not be listed.
    StaleXattrs,
    /// Modification time.
    Times,
    /// The device node itself: making one needs `CAP_MKNOD`.
    Device,
    /// The socket itself: its server makes a new one.
    Socket,
    /// The path and all below it: its name is one that restores use for themselves.
    Reserved,
}

impl Target {
    /// Opens an existing directory. Links in `path` itself are followed: the operator named it.
    pub fn open(path: &Path) -> Result<Self, TargetError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory =
            rustix::fs::open(path, flags, Mode::empty()).map_err(|error| TargetError::Io {
                act: "open the directory",
                path: path.display().to_string(),
                source: error.into(),
            })?;
        Ok(Self { path: path.to_owned(), directory })
    }

    /// Where the target lies, as it was named.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether nothing would be overwritten; an empty `lost+found` directory does not count.
    pub fn is_empty(&self) -> Result<bool, TargetError> {
        let names = removal::names(self.directory.as_fd())
            .map_err(|error| self.failed("list", b"", error))?;
        for name in names {
            if !self.is_empty_lost_and_found(&name) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether this path is the `lost+found` of the file system itself, with nothing in it: it is nobody's
    /// data and stays where it is.
    #[must_use]
    pub fn is_empty_lost_and_found(&self, path: &[u8]) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        path == LOST_AND_FOUND
            && beneath::open(self.directory.as_fd(), path, flags, Mode::empty())
                .and_then(|inside| removal::names(inside.as_fd()))
                .is_ok_and(|names| names.is_empty())
    }

    /// Bytes that may still be written (`f_bavail`: without what is reserved for root).
    pub fn free_bytes(&self) -> Result<u64, TargetError> {
        let found = fstatvfs(&self.directory)
            .map_err(|error| self.failed("ask for the free space of", b"", error))?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    }

    /// Metadata of a path in the target, of a link itself; `None` where nothing is.
    pub fn stat(&self, path: &[u8]) -> Result<Option<Stat>, TargetError> {
        match beneath::open(self.as_fd(), path, beneath::NAME_ANYTHING, Mode::empty())
            .and_then(|handle| Stat::read(handle.as_fd(), b""))
        {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(error) => Err(self.failed("look at", path, error)),
        }
    }

    /// Walks what is in the target now, for `--delta` to compare and remove: paths relative to the
    /// target in tree order, the target itself first with the empty path. Ends with
    /// [`TargetError::Own`] when one of the directories `own` (device, inode) is the target or in it.
    pub fn existing<B>(
        &self,
        threads: usize,
        own: &[(u64, u64)],
        mut visit: impl FnMut(Result<Found, Warning>) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, TargetError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let directory = beneath::open(self.as_fd(), b"", flags, Mode::empty())
            .map_err(|error| self.failed("list", b"", error))?;
        let options = WalkOptions { threads, skip: own.to_vec(), ..WalkOptions::default() };
        let roots = [SourceRoot::from_directory(directory)];
        let mut own = None;
        let outcome = walk(&roots, &options, |event| match event {
            Event::Found(found) => visit(Ok(found)),
            Event::Warning(warning) => visit(Err(warning)),
            Event::Skipped(Skipped { path, reason: SkipReason::Own }) => {
                own.get_or_insert(path);
                ControlFlow::Continue(())
            }
            Event::Skipped(_) => ControlFlow::Continue(()),
        });
        match own {
            Some(path) => Err(TargetError::Own { path: self.display(&path) }),
            None => Ok(outcome),
        }
    }

    /// Fails with [`TargetError::Own`] when one of the directories `own` is the target or in it.
    pub fn refuse_own(&self, threads: usize, own: &[(u64, u64)]) -> Result<(), TargetError> {
        self.existing(threads, own, |_| ControlFlow::<()>::Continue(())).map(drop)
    }

    /// Makes a directory, and its parents where they are missing. An existing one stays as it is.
    pub fn make_directory(&self, path: &[u8]) -> Result<(), TargetError> {
        self.make_parents_while_missing("make the directory", path, |parent, name| {
            match mkdirat(parent, name, DIRECTORY_MODE) {
                Err(Errno::EXIST) => match Stat::read(parent, name)?.kind {
                    FileType::Directory => Ok(()),
                    _ => Err(Errno::NOTDIR),
                },
                outcome => outcome,
            }
        })
    }

    /// Creates a file that must not exist yet, and its parents where they are missing.
    pub fn create_file(&self, path: &[u8]) -> Result<File, TargetError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        match beneath::open(self.as_fd(), path, flags, FILE_MODE) {
            Err(Errno::NOENT) => {
                self.make_directory(beneath::split_last(path).0)?;
                beneath::open(self.as_fd(), path, flags, FILE_MODE)
            }
            outcome => outcome,
        }
        .map(File::from)
        .map_err(|error| self.failed("create the file", path, error))
    }

    /// Opens an existing regular file for changing its content, and its metadata. A file with other
    /// names (`links` above 1) would change under those too: then remove and create it instead.
    pub fn open_for_write(&self, path: &[u8]) -> Result<(File, Stat), TargetError> {
        let act = "open the file";
        let failed = |error| self.failed(act, path, error);
        let flags = OFlags::RDWR | OFlags::NONBLOCK;
        let file = beneath::open(self.as_fd(), path, flags, Mode::empty()).map_err(failed)?;
        let stat = Stat::read(file.as_fd(), b"").map_err(failed)?;
        match stat.kind {
            FileType::File => Ok((File::from(file), stat)),
            _ => Err(failed(Errno::NOTDIR)),
        }
    }

    /// Makes a link, pipe or device; what cannot be made by this user is a warning. Directories and
    /// regular files have their own functions, and for them this does nothing.
    pub fn make_node(&self, entry: &Entry) -> Result<Option<RestoreWarning>, TargetError> {
        let path = entry.path.as_slice();
        let lost = |what, source: Option<Errno>| {
            Ok(Some(RestoreWarning {
                path: entry.path.clone(),
                what,
                source: source.map(io::Error::from),
            }))
        };
        let (kind, device) = match &entry.kind {
            Kind::Directory | Kind::File(_) => return Ok(None),
            Kind::Socket => return lost(Lost::Socket, None),
            Kind::Symlink(to) => {
                self.make_parents_while_missing("make the link", path, |parent, name| {
                    symlinkat(to.as_slice(), parent, name)
                })?;
                return Ok(None);
            }
            Kind::Fifo => (NodeType::Fifo, (0, 0)),
            Kind::CharDevice(major, minor) => (NodeType::CharacterDevice, (*major, *minor)),
            Kind::BlockDevice(major, minor) => (NodeType::BlockDevice, (*major, *minor)),
        };
        let mut refused = None;
        self.make_parents_while_missing("make the node", path, |parent, name| {
            match mknodat(parent, name, kind, FILE_MODE, makedev(device.0, device.1)) {
                Err(error @ (Errno::PERM | Errno::ACCESS)) if kind != NodeType::Fifo => {
                    refused = Some(error);
                    Ok(())
                }
                outcome => outcome,
            }
        })?;
        match refused {
            Some(error) => lost(Lost::Device, Some(error)),
            None => Ok(None),
        }
    }

    /// Gives `first`, which is already restored, the second name `path`.
    pub fn make_hard_link(&self, first: &[u8], path: &[u8]) -> Result<(), TargetError> {
        let act = "make the hard link";
        let (from, from_name) = beneath::open_parent(self.as_fd(), first)
            .map_err(|error| self.failed(act, first, error))?;
        self.make_parents_while_missing(act, path, |parent, name| {
            linkat(&from, from_name, parent, name, AtFlags::empty())
        })
    }

    /// Sets owner, mode, attributes and modification time of a path as `entry` has them; attributes
    /// that it does not have are removed. `file` is the open file, where there is one.
    ///
    /// The order matters: a change of owner clears setuid and capabilities, so it comes first; `user.*`
    /// attributes need write permission, so they come before the mode; the mode changes the mask of an
    /// ACL, so ACLs come after it; and every step touches times, so those come last.
    pub fn finish(
        &self,
        entry: &Entry,
        file: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<RestoreWarning>, TargetError> {
        let finished = match file {
            Some(file) => attributes::finish_open(entry, file),
            None => self
                .named(entry)
                .and_then(|(handle, _)| attributes::finish_named(entry, handle.as_fd())),
        };
        finished.map_err(|error| self.failed("set the metadata of", &entry.path, error))
    }

    /// As [`Self::finish`], but leaves alone what is right already: setting it again would change its
    /// ctime, and the next backup would take it for changed.
    pub fn finish_where_different(
        &self,
        entry: &Entry,
    ) -> Result<Vec<RestoreWarning>, TargetError> {
        self.named(entry)
            .and_then(|(handle, stat)| {
                if attributes::are_right(entry, &stat, handle.as_fd()) {
                    return Ok(Vec::new());
                }
                attributes::finish_named(entry, handle.as_fd())
            })
            .map_err(|error| self.failed("set the metadata of", &entry.path, error))
    }

    /// A handle (`O_PATH`) on what an entry describes, which must be of its kind.
    fn named(&self, entry: &Entry) -> rustix::io::Result<(OwnedFd, Stat)> {
        let handle =
            beneath::open(self.as_fd(), &entry.path, beneath::NAME_ANYTHING, Mode::empty())?;
        let stat = Stat::read(handle.as_fd(), b"")?;
        if attributes::is_of_kind(stat.kind, &entry.kind) {
            Ok((handle, stat))
        } else {
            Err(Errno::NOTDIR)
        }
    }

    /// Removes a path and, where it is a directory, all that is in it. Nothing is removed from a mount
    /// inside it. A path that is not there is fine.
    pub fn remove_tree(&self, path: &[u8]) -> Result<(), TargetError> {
        removal::remove_tree(self.as_fd(), path).map_err(|(path, error)| match error {
            Errno::XDEV | Errno::BUSY => TargetError::Mount { path: self.display(&path) },
            error => self.failed("remove", &path, error),
        })
    }

    /// The directory itself.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Calls `make` with the parent directory and the name of `path`; makes missing parents first.
    fn make_parents_while_missing(
        &self,
        act: &'static str,
        path: &[u8],
        mut make: impl FnMut(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<()>,
    ) -> Result<(), TargetError> {
        if path.is_empty() {
            return Ok(());
        }
        let failed = |error| self.failed(act, path, error);
        let (parent, name) = match beneath::open_parent(self.as_fd(), path) {
            Err(Errno::NOENT) => {
                self.make_parents(beneath::split_last(path).0)?;
                beneath::open_parent(self.as_fd(), path)
            }
            outcome => outcome,
        }
        .map_err(failed)?;
        make(parent.as_fd(), name).map_err(failed)
    }

    /// Makes every directory of `path` that is missing, from the top down.
    fn make_parents(&self, path: &[u8]) -> Result<(), TargetError> {
        let failed = |error| self.failed("make the directory", path, error);
        let mut held: Option<OwnedFd> = None;
        for name in path.split(|byte| *byte == b'/') {
            let at = held.as_ref().map_or(self.as_fd(), AsFd::as_fd);
            match mkdirat(at, name, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed(error)),
            }
            let next =
                beneath::open(at, name, beneath::NAME_DIRECTORY, Mode::empty()).map_err(failed)?;
            held = Some(next);
        }
        Ok(())
    }

    fn failed(&self, act: &'static str, path: &[u8], error: Errno) -> TargetError {
        let path = self.display(path);
        match error {
            Errno::NOSPC | Errno::DQUOT => TargetError::Full { act, path, source: error.into() },
            Errno::LOOP | Errno::NOTDIR | Errno::EXIST | Errno::ISDIR => {
                TargetError::InTheWay { act, path }
            }
            error => TargetError::Io { act, path, source: error.into() },
        }
    }

    fn display(&self, path: &[u8]) -> String {
        let directory = self.path.display();
        match path {
            b"" => directory.to_string(),
            path => format!("{directory}/{}", String::from_utf8_lossy(path)),
        }
    }
}

impl TargetError {
    /// An error of writing content (not one of this module's own calls), told apart the same way.
    #[must_use]
    pub fn writing(path: &[u8], source: io::Error) -> Self {
        let path = crate::entry::display_path(path);
        let act = "write";
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                Self::Full { act, path, source }
            }
            _ => Self::Io { act, path, source },
        }
    }

    /// Whether going on is pointless because nothing more can be written.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

impl std::fmt::Display for RestoreWarning {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = crate::entry::display_path(&self.path);
        match &self.what {
            Lost::Owner => write!(f, "{path}: owner and group could not be set"),
            Lost::Mode => write!(f, "{path}: permissions could not be set"),
            Lost::Xattr(name) => {
                let name = String::from_utf8_lossy(name);
                write!(f, "{path}: the extended attribute {name} could not be set")
            }
            Lost::StaleXattrs => write!(f, "{path}: old extended attributes could not be removed"),
            Lost::Times => write!(f, "{path}: the modification time could not be set"),
            Lost::Device => write!(f, "{path}: the device was not made; that needs CAP_MKNOD"),
            Lost::Socket => write!(f, "{path}: a socket is not restored; its server makes it"),
            Lost::Reserved => write!(
                f,
                "{path}: left out with all below it, because restores use such names for themselves; `export` has it"
            ),
        }
    }
}

#[cfg(test)]
mod tests;
