//! A file by its name in an open directory: no link is followed, and nobody can slip another directory in.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, RenameFlags, StatVfsMountFlags};
use rustix::io::Errno;

use super::decide::BLOCK_BYTES;
use crate::cursor::FileIdentity;
use crate::files::patterns::Patterns;
use crate::proof::FileFacts;

/// A name in a directory that is open.
#[derive(Debug)]
pub struct Place {
    /// Its directory.
    pub directory: OwnedFd,
    /// As the operator sees it.
    pub path: PathBuf,
    name: OsString,
}

/// A file as it was found.
#[derive(Debug)]
pub struct Opened {
    /// For reading.
    pub file: File,
    /// What the kernel says of it.
    pub facts: FileFacts,
    /// Bytes on disk.
    pub allocated: u64,
}

impl Place {
    /// Where a path is, below the place that the patterns mean.
    pub fn of(patterns: &Patterns, path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
        Ok(Self { directory: patterns.directory(path)?, path: path.to_owned(), name })
    }

    /// Another name in the same directory.
    pub fn beside(&self, name: &OsStr) -> io::Result<Self> {
        let directory = self.directory.try_clone()?;
        Ok(Self { directory, path: self.path.with_file_name(name), name: name.to_owned() })
    }

    /// The name alone.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        &self.name
    }

    /// The regular file there; `None` when there is nothing, or nothing that could be a log.
    pub fn open(&self) -> io::Result<Option<Opened>> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let Some(file) = self.open_with(flags)? else { return Ok(None) };
        let facts = FileFacts::of(&file)?;
        let allocated = rustix::fs::fstat(&file)?.st_blocks;
        let allocated = u64::try_from(allocated).unwrap_or(0).saturating_mul(512);
        Ok(facts.is_regular.then_some(Opened { file, facts, allocated }))
    }

    /// The same for writing, if it is still the same.
    pub fn open_to_write(&self, wanted: FileIdentity) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = self.open_with(flags)?.ok_or(io::ErrorKind::NotFound)?;
        if FileFacts::of(&file)?.identity != wanted {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is another file now"));
        }
        Ok(file)
    }

    fn open_with(&self, flags: OFlags) -> io::Result<Option<File>> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&self.directory, &*self.name, flags, Mode::empty()) {
            Ok(file) => Ok(Some(file.into())),
            // A link is told by ELOOP.
            Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// What has the name, without opening it.
    pub fn identity(&self) -> io::Result<Option<FileIdentity>> {
        Ok(self.facts()?.map(|facts| facts.identity))
    }

    /// What the kernel says of it, without opening it.
    pub fn facts(&self) -> io::Result<Option<FileFacts>> {
        match FileFacts::named(&self.directory, &self.name) {
            Ok(facts) => Ok(facts),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Every name in the directory.
    pub fn names(&self) -> io::Result<Vec<OsString>> {
        use std::os::unix::ffi::OsStrExt as _;

        let entries = rustix::fs::Dir::read_from(&self.directory)?;
        let names =
            entries.map(|entry| Ok(OsStr::from_bytes(entry?.file_name().to_bytes()).into()));
        names.collect()
    }

    /// Whether nothing can be changed here.
    pub fn is_read_only(&self) -> io::Result<bool> {
        let told = rustix::fs::fstatvfs(&self.directory)?;
        Ok(told.f_flag.contains(StatVfsMountFlags::RDONLY))
    }

    /// Gives the file another name in the same directory; never replaces anything.
    pub fn rename(&self, to: &Self) -> io::Result<()> {
        let (from, directory) = (&self.directory, &to.directory);
        match rustix::fs::renameat_with(
            from,
            &*self.name,
            directory,
            &*to.name,
            RenameFlags::NOREPLACE,
        ) {
            // Not every file system can do this (rename(2)); a name that was just chosen is nobody's.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                if to.identity()?.is_some() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                Ok(rustix::fs::renameat(from, &*self.name, directory, &*to.name)?)
            }
            done => Ok(done?),
        }
    }

    /// Removes the name, if it is still of that file.
    pub fn remove(&self, wanted: FileIdentity) -> io::Result<()> {
        if self.identity()? != Some(wanted) {
            return Ok(());
        }
        Ok(rustix::fs::unlinkat(&self.directory, &*self.name, AtFlags::empty())?)
    }

    /// Makes names durable.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.directory)?)
    }
}

/// Frees the disk of everything between the first block and `until` (`FALLOC_FL_PUNCH_HOLE`, fallocate(2)).
pub fn punch(file: &File, until: u64) -> io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    Ok(rustix::fs::fallocate(file, flags, BLOCK_BYTES, until.saturating_sub(BLOCK_BYTES))?)
}
