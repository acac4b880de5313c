//! Files that hold a secret: read only where no other user could read or change them, written so that none can.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use chores_common::durable::{self, DurableError};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// Longest file that is read, in bytes.
pub const BYTES_MAX: u64 = 64 << 10;

/// Mode of what is written.
const MODE: u32 = 0o600;

/// Bits of a mode by which others than the owner read or change.
const OTHERS: u32 = 0o077;

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

/// The text of `path`, at most [`BYTES_MAX`]. A file must belong to this user or to root and be closed to all others; a
/// pipe, as shells make them for `<(…)`, is taken as it is.
pub fn read(what: &'static str, path: &Path) -> Result<Zeroizing<String>, PrivateFileError> {
    let unreadable = |source| PrivateFileError::Unreadable { what, path: path.to_owned(), source };
    let unusable = |fault| PrivateFileError::Unusable { what, path: path.to_owned(), fault };
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_file() {
        let own = rustix::process::geteuid().as_raw();
        if metadata.uid() != own && metadata.uid() != 0 {
            return Err(unusable(
                "belongs to another user, who could change it: take it over with `chown`",
            ));
        }
        if metadata.mode() & OTHERS != 0 {
            return Err(unusable(
                "is open to others than its owner: close it with `chmod 600`, or mount it with the mode 0400",
            ));
        }
    } else if !metadata.file_type().is_fifo() {
        return Err(unusable("is no file"));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > BYTES_MAX {
        return Err(unusable("is longer than 64 KiB"));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(unusable("is no text")),
    }
}

/// Writes a file that is not there yet, whole and durable.
pub fn write_new(what: &'static str, path: &Path, text: &str) -> Result<(), PrivateFileError> {
    if path.symlink_metadata().is_ok() {
        return Err(PrivateFileError::Exists { what, path: path.to_owned() });
    }
    replace(what, path, text)
}

/// Writes a file, whole and durable, in the place of one that may be there.
pub fn replace(what: &'static str, path: &Path, text: &str) -> Result<(), PrivateFileError> {
    durable::write(path, text.as_bytes(), MODE)
        .map_err(|error| PrivateFileError::Unwritable(what, error))
}
