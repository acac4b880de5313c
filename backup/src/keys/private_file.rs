//! Files that hold a secret: read only where no other user could read or change them, written so that none can.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use chores_common::durable::{self, DurableError};
use rustix::fs::{StatFs, StatVfsMountFlags};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// Longest file that is read, in bytes.
pub const BYTES_MAX: u64 = 64 << 10;

/// Room for the longest file, and for what tells that a file is longer.
const ROOM_BYTES: usize = 65 << 10;

/// The file system of pipes without names (`PIPEFS_MAGIC` in linux/magic.h).
const PIPEFS_MAGIC: u64 = 0x5049_5045;

/// The file systems that lie in memory (`TMPFS_MAGIC` and `RAMFS_MAGIC` in linux/magic.h).
const IN_MEMORY: [u64; 2] = [0x0102_1994, 0x8584_58f6];

/// Mode of what is written.
const MODE: u32 = 0o600;

/// Bits of a mode by which others than the owner read or change.
const OTHERS: u32 = 0o077;

/// Those by which they change it.
const OTHERS_CHANGE: u32 = 0o022;

/// Why a file is not taken for a secret, or not written.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// It cannot be read.
    #[error("cannot read the {what} {}", path.display())]
    Unreadable {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// It is there and no secret.
    #[error("the {what} {} {fault}", path.display())]
    Unusable {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The rest of the sentence.
        fault: &'static str,
    },
    /// What is there would be lost.
    #[error("{} is there already: name a new file for the {what}", path.display())]
    Exists {
        /// What was to be written.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// It cannot be written.
    #[error("cannot write the {0}")]
    Unwritable(&'static str, #[source] DurableError),
}

/// The text of `path`, at most [`BYTES_MAX`]. A file must belong to this user or to root and be closed to all others, and so
/// must a pipe that has a name; one that has none, as shells make them for `<(…)`, is taken as it is. What others only read is
/// taken from memory that is mounted read-only: so Swarm and Kubernetes hand secrets to a container, with the modes 0444 and 0644.
pub fn read(what: &'static str, path: &Path) -> Result<Zeroizing<String>, PrivateFileError> {
    let unreadable = |source| PrivateFileError::Unreadable { what, path: path.to_owned(), source };
    let unusable = |fault| PrivateFileError::Unusable { what, path: path.to_owned(), fault };
    let file = File::open(path).map_err(unreadable)?;
    if let Some(fault) = fault(&file).map_err(unreadable)? {
        return Err(unusable(fault));
    }
    // With room for all of it from the start: what grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM_BYTES));
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(unusable("is longer than 64 KiB"));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(unusable("is no text")),
    }
}

/// Why others could read or change what is there; `None`: they could not.
fn fault(file: &File) -> io::Result<Option<&'static str>> {
    let metadata = file.metadata()?;
    let is_pipe = metadata.file_type().is_fifo();
    // Who has an end of a pipe without a name was given it, also by another user: `age -d key.age | sudo backup …`.
    if is_pipe && is_on(&[PIPEFS_MAGIC], rustix::fs::fstatfs(file)?) {
        return Ok(None);
    }
    if !metadata.is_file() && !is_pipe {
        return Ok(Some("is no file"));
    }
    let own = rustix::process::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        let fault = "belongs to another user, who could change it: take it over with `chown`";
        return Ok(Some(fault));
    }
    let is_open = match metadata.mode() & OTHERS {
        0 => false,
        others if others & OTHERS_CHANGE != 0 || is_pipe => true,
        _ => !is_handed_in(file)?,
    };
    Ok(is_open.then_some(
        "is open to others than its owner: close it with `chmod 600`, or mount it with the mode 0400",
    ))
}

/// Whether a file lies in memory and is mounted read-only, as secrets are in containers: nobody but who is in there sees it, whatever
/// its mode. A `/tmp` in memory, which all users of a host see, is not read-only.
fn is_handed_in(file: &File) -> io::Result<bool> {
    let flags = rustix::fs::fstatvfs(file)?.f_flag;
    Ok(flags.contains(StatVfsMountFlags::RDONLY) && is_on(&IN_MEMORY, rustix::fs::fstatfs(file)?))
}

/// Whether a file system is one of these.
fn is_on(magics: &[u64], found: StatFs) -> bool {
    u64::try_from(found.f_type).is_ok_and(|magic| magics.contains(&magic))
}

/// Refuses a name that is taken, before anything is done that would end at [`write_new`].
pub fn require_new(what: &'static str, path: &Path) -> Result<(), PrivateFileError> {
    match path.symlink_metadata() {
        Ok(_) => Err(PrivateFileError::Exists { what, path: path.to_owned() }),
        Err(_) => Ok(()),
    }
}

/// Writes a file that is not there yet, durably: of two runs at once that name the same file one fails.
pub fn write_new(what: &'static str, path: &Path, text: &str) -> Result<(), PrivateFileError> {
    durable::write_new(path, text.as_bytes(), MODE).map_err(|error| match error.io().kind() {
        io::ErrorKind::AlreadyExists => PrivateFileError::Exists { what, path: path.to_owned() },
        _ => PrivateFileError::Unwritable(what, error),
    })
}
