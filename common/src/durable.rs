//! Files that are whole or absent, even after a crash.
//!
//! The order is the one that `fsync(2)` and `rename(2)` promise anything about: write a temporary
//! file in the target's directory, fsync it, rename it over the target, fsync the directory.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// What is between the target's name and the random part of a temporary name.
const TEMPORARY_INFIX: &str = ".tmp-";
/// Hexadecimal digits of the random part.
const TEMPORARY_DIGITS: usize = 16;
/// `NAME_MAX` of Linux, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// An act on a file or directory that failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {act} {}", path.display())]
pub struct DurableError {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl DurableError {
    fn new(act: &'static str, path: &Path, source: io::Error) -> Self {
        Self { act, path: path.to_owned(), source }
    }

    /// What the system answered.
    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// The file or directory of the failed act.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes `bytes` to `path`, replacing what is there. When this returns `Ok`, the file and its name
/// survive a crash; when it returns `Err`, the old file is untouched and no temporary file is left.
/// `mode` is subject to the umask.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let mut file = DurableFile::create(path, mode)?;
    file.write_all(bytes).map_err(|source| DurableError::new("write", path, source))?;
    file.commit()
}

/// The same where nothing may have that name yet: of two writers at once one fails, with
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists). When this returns `Err`, nothing of it is left.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), DurableError> {
    let mut file = DurableFile::create(path, mode)?;
    file.write_all(bytes).map_err(|source| DurableError::new("write", path, source))?;
    file.commit_new()
}

/// Makes the names in `path` durable: `fsync(2)` on the directory.
pub fn sync_directory(path: &Path) -> Result<(), DurableError> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| DurableError::new("sync the directory", path, source))
}

/// Creates `path` and its missing parents, and syncs the parent of each new level. A directory that
/// exists is left as it is.
pub fn create_directories(path: &Path, mode: u32) -> Result<(), DurableError> {
    let missing: Vec<&Path> = path
        .ancestors()
        .take_while(|level| !level.as_os_str().is_empty() && !level.is_dir())
        .collect();
    for level in missing.into_iter().rev() {
        match DirBuilder::new().mode(mode).create(level) {
            Ok(()) => sync_directory(parent_of(level))?,
            // Another writer was faster.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && level.is_dir() => {}
            Err(source) => return Err(DurableError::new("create the directory", level, source)),
        }
    }
    Ok(())
}

/// A file being written, invisible under its own name until [`commit`](Self::commit). Dropped
/// without it, the temporary file is removed.
#[derive(Debug)]
pub struct DurableFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    renamed: bool,
}

impl DurableFile {
    /// Creates the temporary file beside `path`; the directory must exist. `mode` is subject to
    /// the umask.
    pub fn create(path: &Path, mode: u32) -> Result<Self, DurableError> {
        let failed = |source| DurableError::new("create", path, source);
        let temporary = temporary_path(path).map_err(failed)?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)
            .map_err(failed)?;
        Ok(Self { file, temporary, target: path.to_owned(), renamed: false })
    }

    /// The name that the file gets.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.target
    }

    /// What the file is while it is written.
    pub fn metadata(&self) -> io::Result<std::fs::Metadata> {
        self.file.metadata()
    }

    /// Makes the file durable and visible under its own name.
    pub fn commit(mut self) -> Result<(), DurableError> {
        let failed = |act, source| DurableError::new(act, &self.target, source);
        self.file.sync_all().map_err(|source| failed("sync", source))?;
        std::fs::rename(&self.temporary, &self.target)
            .map_err(|source| failed("rename the new file to", source))?;
        self.renamed = true;
        sync_directory(parent_of(&self.target))
    }

    /// The same, but replaces nothing: [`AlreadyExists`](io::ErrorKind::AlreadyExists) where the name is taken. Of several at
    /// once, one gets it.
    pub fn commit_new(mut self) -> Result<(), DurableError> {
        let failed = |act, source| DurableError::new(act, &self.target, source);
        self.file.sync_all().map_err(|source| failed("sync", source))?;
        self.renamed = name_new(&self.temporary, &self.target)
            .map_err(|source| failed("rename the new file to", source))?;
        let synced = sync_directory(parent_of(&self.target));
        if synced.is_err()
            && let Err(error) = std::fs::remove_file(&self.target)
        {
            tracing::warn!(file = %self.target.display(), %error, "a file is left behind");
        }
        synced
    }
}

impl Write for DurableFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for DurableFile {
    fn drop(&mut self) {
        if !self.renamed
            && let Err(error) = std::fs::remove_file(&self.temporary)
        {
            tracing::warn!(file = %self.temporary.display(), %error, "a temporary file is left behind");
        }
    }
}

/// Whether `name` (one path component) is a temporary name of this module, left by a crash.
pub fn is_temporary(name: &str) -> bool {
    name.starts_with('.')
        && name.rsplit_once(TEMPORARY_INFIX).is_some_and(|(_, digits)| {
            digits.len() == TEMPORARY_DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
}

/// A name of its own beside `path` that [`is_temporary`], for what becomes `path` by a rename.
pub(crate) fn temporary_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let mut temporary = std::ffi::OsString::from(".");
    // A long name is left out: the random part alone makes the temporary name unique.
    if name.len() + 1 + TEMPORARY_INFIX.len() + TEMPORARY_DIGITS <= NAME_BYTES_MAX {
        temporary.push(name);
    }
    let random = getrandom::u64().map_err(|error| io::Error::other(error.to_string()))?;
    temporary.push(format!("{TEMPORARY_INFIX}{random:0width$x}", width = TEMPORARY_DIGITS));
    Ok(path.with_file_name(temporary))
}

/// Gives a file a name that nothing has, and says whether it lost its old one for it.
fn name_new(from: &Path, to: &Path) -> io::Result<bool> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => return Ok(true),
        // Not every file system knows that (NFS): a second name is the same, when the first is removed.
        Err(Errno::INVAL | Errno::NOSYS) => {}
        Err(error) => return Err(error.into()),
    }
    match std::fs::hard_link(from, to) {
        Ok(()) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Nor do all know that: what comes between the look and the rename is replaced.
        Err(_) => match to.symlink_metadata() {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::rename(from, to).map(|()| true)
            }
            // Nobody knows whether something is there.
            Err(error) => Err(error),
        },
    }
}

/// The directory that holds the name `path`; a bare name is in the working directory.
fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}
