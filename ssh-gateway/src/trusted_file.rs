//! A file that says who may come in: its owner's alone, of bounded size, and one that still has a name.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Largest file, in bytes.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Bits of a mode that let others change a file.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// Bits of a mode that let others read or change a file.
const OPEN_TO_OTHERS: u32 = 0o077;

/// The bit of a directory's mode that lets only owners remove and rename.
const STICKY: u32 = 0o1000;

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum TrustedFileError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
    /// Somebody else may change it.
    #[error(
        "{} can be written by others than its owner: chmod go-w it, or whoever likes says who comes in",
        path.display()
    )]
    Writable {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else may read what must be secret.
    #[error("{} can be read by others than its owner: chmod go-rwx it", path.display())]
    Readable {
        /// The file.
        path: PathBuf,
    },
    /// Somebody else may put another in its place.
    #[error(
        "others than its owner can write in {}, the directory of {}: chmod go-w it, or whoever likes says who comes in",
        directory.display(), path.display()
    )]
    Replaceable {
        /// The file.
        path: PathBuf,
        /// Its directory.
        directory: PathBuf,
    },
    /// What is at the path has no name any more: a mount of the file alone, and somebody has put another one there.
    #[error(
        "{} was replaced or removed outside, and only the old one is seen here: mount its directory, not the file, and start the gateway again",
        path.display()
    )]
    Replaced {
        /// The file.
        path: PathBuf,
    },
    /// It is too large.
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
}

/// Reads it. Blocks.
pub fn read(path: &Path) -> Result<Vec<u8>, TrustedFileError> {
    read_unless(path, 0)
}

/// Reads one that nobody but its owner may read. Blocks.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, TrustedFileError> {
    read_unless(path, OPEN_TO_OTHERS)
}

/// Reads it, unless its mode has one of these bits.
fn read_unless(path: &Path, forbidden: u32) -> Result<Vec<u8>, TrustedFileError> {
    let unreadable = |source| TrustedFileError::Unreadable { path: path.to_owned(), source };
    let open = || {
        let file = File::open(path)?;
        let data = file.metadata()?;
        Ok((file, data))
    };
    let (mut file, mut data) = open().map_err(unreadable)?;
    // An editor may have put a new file there between the two calls: then that one is found now.
    if data.nlink() == 0 {
        (file, data) = open().map_err(unreadable)?;
    }
    if data.nlink() == 0 {
        return Err(TrustedFileError::Replaced { path: path.to_owned() });
    }
    if data.mode() & WRITABLE_BY_OTHERS != 0 {
        return Err(TrustedFileError::Writable { path: path.to_owned() });
    }
    if data.mode() & forbidden != 0 {
        return Err(TrustedFileError::Readable { path: path.to_owned() });
    }
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        let mode = std::fs::metadata(directory).map_err(unreadable)?.mode();
        // Where it is sticky, only its owner can put another in the place of a file (inode(7)).
        if mode & WRITABLE_BY_OTHERS != 0 && mode & STICKY == 0 {
            let (path, directory) = (path.to_owned(), directory.to_owned());
            return Err(TrustedFileError::Replaceable { path, directory });
        }
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(TrustedFileError::TooLarge { path: path.to_owned() });
    }
    Ok(bytes)
}
