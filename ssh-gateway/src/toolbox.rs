//! The toolbox: programs for sessions in containers whose images have none. See `docs/ssh-gateway-toolbox.md`.
//!
//! ```text
//! DIRECTORY/base/bin/sh …        a static shell, and what else every session may have
//! DIRECTORY/trace/bin/strace …   only for sessions whose rule allows it
//! DIRECTORY/ANYTHING/bin/…       all directories are laid over each other
//! ```
//!
//! It is trusted as this program is: whoever can write there, or put another directory in its place, can run programs in
//! every container.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// Where our own image has one.
pub const DIRECTORY_DEFAULT: &str = "/toolbox";
/// The directory that every toolbox has, with the shell in it.
pub const BASE: &str = "base";
/// The directory of programs that look into other processes.
pub const TRACE: &str = "trace";
/// The kernel makes no overlay of one directory alone, and there is no need for many.
pub const LAYERS: std::ops::RangeInclusive<usize> = 2..=16;

/// Where the shell is in [`BASE`].
const SHELL: &str = "bin/sh";
/// Files, directories and links of a toolbox.
const ENTRIES_MAX: usize = 10_000;
/// Directories in directories.
const DEPTH_MAX: usize = 16;
/// Read of a program to see what it is, in bytes: linkers put the table of segments at the beginning.
const HEAD_BYTES: u64 = 64 * 1024;

/// Bits of a mode that let others change a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;
/// Set-user-ID and set-group-ID.
const SET_ID: u32 = 0o6000;

/// A toolbox that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ToolboxError {
    /// Something in it cannot be read.
    #[error("the toolbox cannot be used: {} cannot be read", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Something in it must not be so.
    #[error("the toolbox cannot be used: {} {fault}", path.display())]
    Faulty {
        /// What.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        fault: String,
    },
}

/// Opens it, by a way on which nobody but root can have put anything else: no link, and no directory that others can
/// write to, sticky or not.
pub fn open(directory: &Path) -> Result<OwnedFd, ToolboxError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut path = PathBuf::from("/");
    let root = rustix::fs::open(&path, flags, Mode::empty());
    let mut here = root.map_err(|error| unreadable(&path, error.into()))?;
    check_place(&here, &path, directory)?;
    for part in directory.components() {
        let name = match part {
            Component::RootDir | Component::CurDir => continue,
            Component::Normal(name) => name,
            Component::ParentDir | Component::Prefix(_) => {
                return Err(faulty(directory, "is no plain path: leave out the dots".to_owned()));
            }
        };
        path.push(name);
        here = match rustix::fs::openat(&here, name, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let fault = "is a link or a file: name the directory itself";
                return Err(faulty(&path, fault.to_owned()));
            }
            Err(error) => return Err(unreadable(&path, error.into())),
        };
        check_place(&here, &path, directory)?;
    }
    Ok(here)
}

/// Whether nobody but root can change a directory on the way to it, or itself.
fn check_place(opened: &OwnedFd, path: &Path, directory: &Path) -> Result<(), ToolboxError> {
    let data = rustix::fs::fstat(opened).map_err(|error| unreadable(path, error.into()))?;
    let Some(fault) = owner_fault(data.st_uid, data.st_mode, false) else { return Ok(()) };
    let fault = if path == directory {
        fault
    } else {
        "is above it, and others than root can change it: put the toolbox elsewhere"
    };
    Err(faulty(path, fault.to_owned()))
}

/// The names of its directories, when all in it is as it must be: root's, not to be written by others, and with a static
/// shell. Blocks.
pub fn check(directory: &Path) -> Result<Vec<String>, ToolboxError> {
    let mut count = 0;
    let mut names = Vec::new();
    open(directory)?;
    for path in entries(directory)? {
        let data = look(&path)?;
        check_entry(&path, &data)?;
        check_below(&path, &data, 0, &mut count)?;
        if data.is_dir() {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            names.extend(name);
        }
    }
    names.sort_unstable();
    if !names.iter().any(|name| name == BASE) {
        return Err(faulty(directory, format!("has no directory {BASE}")));
    }
    if !LAYERS.contains(&names.len()) {
        let (least, most) = (LAYERS.start(), LAYERS.end());
        let count = names.len();
        let fault = format!("has {count} directories in it, where {least} to {most} can be joined");
        return Err(faulty(directory, fault));
    }
    // One more than that may be left out for a session.
    if names.len() == *LAYERS.start() && names.iter().any(|name| name == TRACE) {
        let fault = format!("has nothing but {BASE} and {TRACE}: one more directory is needed");
        return Err(faulty(directory, fault));
    }
    check_shell(&directory.join(BASE).join(SHELL))?;
    Ok(names)
}

fn check_below(
    path: &Path,
    data: &Metadata,
    depth: usize,
    count: &mut usize,
) -> Result<(), ToolboxError> {
    *count += 1;
    if *count > ENTRIES_MAX {
        return Err(faulty(path, format!("is one of more than {ENTRIES_MAX} entries")));
    }
    if !data.is_dir() {
        return Ok(());
    }
    if depth == DEPTH_MAX {
        return Err(faulty(path, format!("is deeper than {DEPTH_MAX} directories")));
    }
    for path in entries(path)? {
        let data = look(&path)?;
        check_entry(&path, &data)?;
        check_below(&path, &data, depth + 1, count)?;
    }
    Ok(())
}

/// Whether nobody but root can change it, and it leads nowhere else.
fn check_entry(path: &Path, data: &Metadata) -> Result<(), ToolboxError> {
    if let Some(fault) = owner_fault(data.uid(), data.mode(), data.is_symlink()) {
        return Err(faulty(path, fault.to_owned()));
    }
    if data.is_symlink() {
        let target = std::fs::read_link(path).map_err(|source| unreadable(path, source))?;
        if target.is_absolute() {
            let fault = "is a link that leads into the container: make it a relative one";
            return Err(faulty(path, fault.to_owned()));
        }
        return Ok(());
    }
    if data.is_dir() || data.is_file() {
        return Ok(());
    }
    Err(faulty(path, "is no file, no directory and no link".to_owned()))
}

/// What is wrong with the owner or the mode of something that programs are run from.
#[must_use]
pub fn owner_fault(uid: u32, mode: u32, is_link: bool) -> Option<&'static str> {
    if uid != 0 {
        return Some("is not root's: chown -R root:root the toolbox");
    }
    // Links have no mode of their own.
    if is_link {
        return None;
    }
    if mode & WRITABLE_BY_OTHERS != 0 {
        return Some("can be written by others than root: chmod -R go-w the toolbox");
    }
    let is_directory = mode & libc::S_IFMT == libc::S_IFDIR;
    (mode & SET_ID != 0 && !is_directory)
        .then_some("has the set-user-ID or set-group-ID bit: chmod a-s it")
}

fn check_shell(path: &Path) -> Result<(), ToolboxError> {
    let mut head = Vec::new();
    File::open(path)
        .and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head))
        .map_err(|source| unreadable(path, source))?;
    match is_static(&head) {
        Some(true) => Ok(()),
        Some(false) => {
            let fault = "needs an interpreter that images do not have: give a static shell, such as that of busybox-static";
            Err(faulty(path, fault.to_owned()))
        }
        None => Err(faulty(path, "is no program of this kind of machine".to_owned())),
    }
}

/// Whether an ELF program of 64 bits (elf(5)) asks for no interpreter; `None` if it is none.
#[must_use]
pub fn is_static(head: &[u8]) -> Option<bool> {
    /// `PT_INTERP`.
    const INTERPRETER: u64 = 3;
    let is_little = match head.get(..6)? {
        [0x7f, b'E', b'L', b'F', 2, 1] => true,
        [0x7f, b'E', b'L', b'F', 2, 2] => false,
        _ => return None,
    };
    let number = |at: usize, length: usize| -> Option<u64> {
        let bytes = head.get(at..at.checked_add(length)?)?;
        let join = |whole: u64, byte: &u8| whole << 8 | u64::from(*byte);
        Some(if is_little { bytes.iter().rev().fold(0, join) } else { bytes.iter().fold(0, join) })
    };
    let size_of = |at| usize::try_from(number(at, 2)?).ok();
    let table = usize::try_from(number(32, 8)?).ok()?;
    let (size, count) = (size_of(54)?, size_of(56)?);
    for index in 0..count {
        let segment = table.checked_add(index.checked_mul(size)?)?;
        if number(segment, 4)? == INTERPRETER {
            return Some(false);
        }
    }
    Some(true)
}

fn look(path: &Path) -> Result<Metadata, ToolboxError> {
    std::fs::symlink_metadata(path).map_err(|source| unreadable(path, source))
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, ToolboxError> {
    let read = std::fs::read_dir(directory).and_then(|entries| {
        entries.take(ENTRIES_MAX + 1).map(|entry| Ok(entry?.path())).collect::<io::Result<_>>()
    });
    read.map_err(|source| unreadable(directory, source))
}

fn unreadable(path: &Path, source: io::Error) -> ToolboxError {
    ToolboxError::Unreadable { path: path.to_owned(), source }
}

fn faulty(path: &Path, fault: String) -> ToolboxError {
    ToolboxError::Faulty { path: path.to_owned(), fault }
}
