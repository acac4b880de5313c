//! Looks at the first levels of a source, before anything of it is read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, statat};

use super::database::{Sign, sign};
use crate::beneath;
use crate::walk::SourceRoot;

#[cfg(test)]
mod tests;

/// Levels that are looked at: `16/docker/postmaster.pid` has its sign in the third.
const DEPTH_MAX: usize = 3;

/// Names that are looked at.
const NAMES_MAX: usize = 1 << 16;

/// The first bytes of a database of SQLite (its file format, "The Database Header").
const SQLITE_MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// What was seen in a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No sign of a database. What cannot be read has none.
    Nothing,
    /// The first sign of one.
    Sign(Sign),
    /// No sign among so many names; there are more.
    NothingIn(usize),
}

/// Looks for the first sign of a database in a source.
#[must_use]
pub fn look(root: &SourceRoot) -> Seen {
    look_at(root, NAMES_MAX)
}

fn look_at(root: &SourceRoot, names_max: usize) -> Seen {
    if !root.is_directory() {
        return Seen::Nothing;
    }
    let mut open: VecDeque<(Vec<u8>, usize)> = VecDeque::from([(Vec::new(), 0)]);
    let mut names_left = names_max;
    while let Some((path, depth)) = open.pop_front() {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY;
        let Ok(directory) = beneath::open(root.directory(), &path, flags, Mode::empty()) else {
            continue;
        };
        let Ok(entries) = Dir::read_from(&directory) else { continue };
        for entry in entries.flatten() {
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let Some(left) = names_left.checked_sub(1) else { return Seen::NothingIn(names_max) };
            names_left = left;
            let below = match path.as_slice() {
                [] => name.to_vec(),
                path => [path, b"/", name].concat(),
            };
            let is_wal = || is_wal(directory.as_fd(), name);
            if let Some(sign) = sign(&String::from_utf8_lossy(&below), is_wal) {
                return Seen::Sign(sign);
            }
            if depth + 1 < DEPTH_MAX && is_directory(directory.as_fd(), name, entry.file_type()) {
                open.push_back((below, depth + 1));
            }
        }
    }
    Seen::Nothing
}

fn is_directory(directory: BorrowedFd<'_>, name: &[u8], told: FileType) -> bool {
    match told {
        FileType::Directory => true,
        // Some file systems do not tell.
        FileType::Unknown => statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Directory),
        _ => false,
    }
}

/// Whether this is a log with something in it, beside a database of SQLite.
fn is_wal(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    let Some(database) = name.strip_suffix(b"-wal") else { return false };
    let is_full = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_size > 0
    });
    is_full && is_sqlite(directory, database).unwrap_or(false)
}

fn is_sqlite(directory: BorrowedFd<'_>, name: &[u8]) -> std::io::Result<bool> {
    // O_NONBLOCK: should a pipe stand there, opening it must not wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file: OwnedFd = beneath::open(directory, name, flags, Mode::empty())?;
    let mut magic = [0; SQLITE_MAGIC.len()];
    File::from(file).read_exact(&mut magic)?;
    Ok(magic == *SQLITE_MAGIC)
}
