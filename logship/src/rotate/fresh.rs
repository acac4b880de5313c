//! A file that has no name before it is whole: with the owner, the rights and the attributes of another one, or with
//! all of its content. A crash leaves nothing of it behind, and nobody sees half of it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _};

use chores_common::shutdown::Shutdown;
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timestamps, Uid};
use rustix::io::Errno;

#[cfg(test)]
mod tests;

/// Bytes of the attributes of a file, at the most (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX` of Linux).
const ATTRIBUTE_BYTES_MAX: usize = 64 << 10;

/// Attributes that belong to what the file is, not to the one before it.
const OWN_ATTRIBUTES: [&[u8]; 2] = [b"security.capability", b"security.ima"];

/// zstd's own default: the best compression that does not cost more than the log itself.
const ZSTD_LEVEL: i32 = 3;

/// Bytes that are compressed before it is looked whether to end.
const COPY_BYTES: usize = 1 << 20;

/// An empty file with the owner, the permissions and the extended attributes of another one that has no name yet. It is
/// made before the other one loses its name: what can fail then has failed in time.
#[derive(Debug)]
pub struct Empty {
    /// Not every file system has files without a name: there it is made when it is named.
    file: Option<File>,
}

impl Empty {
    /// Makes it for a name in `directory`.
    pub fn like(directory: &impl AsFd, like: &File) -> io::Result<Self> {
        match unnamed(directory) {
            Ok(file) => {
                adopt(&file, like)?;
                Ok(Self { file: Some(file) })
            }
            // open(2), O_TMPFILE
            Err(error) if is_unknown(&error) => Ok(Self { file: None }),
            Err(error) => Err(error),
        }
    }

    /// Gives it a name; false when there is a file of that name already.
    pub fn name(&self, directory: &impl AsFd, name: &OsStr, like: &File) -> io::Result<bool> {
        let Some(file) = &self.file else { return create_named_like(directory, name, like) };
        match link(file, directory, name) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => Ok(false),
            // What is another user's now may not be given a name (fs.protected_hardlinks).
            Err(Errno::PERM | Errno::ACCESS | Errno::NOENT) => {
                create_named_like(directory, name, like)
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// The same in two steps: writers that open it in between find it with the rights of this process.
fn create_named_like(directory: &impl AsFd, name: &OsStr, like: &File) -> io::Result<bool> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR) {
        Ok(made) => adopt(&File::from(made), like).map(|()| true),
        Err(Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Owner, permissions and attributes of another file. What this process may not give is left out, and said. The owner
/// comes last: nothing of another user's file can be changed without `CAP_FOWNER`.
fn adopt(file: &File, like: &File) -> io::Result<()> {
    let is = rustix::fs::fstat(like)?;
    for name in attributes(like).unwrap_or_default() {
        let mut value = vec![0; ATTRIBUTE_BYTES_MAX];
        let copied = rustix::fs::fgetxattr(like, &*name, value.as_mut_slice()).and_then(|length| {
            let value = value.get(..length).unwrap_or_default();
            rustix::fs::fsetxattr(file, &*name, value, rustix::fs::XattrFlags::empty())
        });
        if let Err(error) = copied {
            let name = String::from_utf8_lossy(&name).into_owned();
            tracing::warn!(%error, name, "cannot give a new log file an attribute");
        }
    }
    // Setuid and setgid bits make no sense on a log.
    rustix::fs::fchmod(file, Mode::from_raw_mode(is.st_mode) & Mode::from_raw_mode(0o777))?;
    let owner = (Some(Uid::from_raw(is.st_uid)), Some(Gid::from_raw(is.st_gid)));
    if let Err(error) = rustix::fs::fchown(file, owner.0, owner.1) {
        tracing::warn!(%error, uid = is.st_uid, gid = is.st_gid, "cannot give a new log file its owner");
    }
    Ok(())
}

/// Names of the extended attributes that are handed down.
fn attributes(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut list = vec![0; ATTRIBUTE_BYTES_MAX];
    let length = rustix::fs::flistxattr(file, list.as_mut_slice())?;
    let names = list.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    let handed_down = |name: &&[u8]| !name.is_empty() && !OWN_ATTRIBUTES.contains(name);
    Ok(names.filter(handed_down).map(<[u8]>::to_vec).collect())
}

/// A compressed file that is whole and durable.
#[derive(Debug)]
pub struct Whole {
    /// It.
    pub file: File,
    /// It has its name already: the file system has no files without one.
    is_named: bool,
}

impl Whole {
    /// Gives it its name, durably; what else has that name stays.
    pub fn name(&self, directory: &impl AsFd, name: &OsStr) -> io::Result<()> {
        if !self.is_named {
            link(&self.file, directory, name)?;
        }
        Ok(rustix::fs::fsync(directory)?)
    }
}

/// Compresses `source` (zstd) into a file with its owner, rights and time that has no name yet, where the file system
/// can; else it is `name` in `directory`. Broken off at `stop`, there is nothing.
pub fn compress(
    directory: &impl AsFd,
    name: &OsStr,
    source: &File,
    stop: &Shutdown,
) -> io::Result<Whole> {
    let (file, is_named) = match unnamed(directory) {
        Ok(file) => (file, false),
        Err(error) if is_unknown(&error) => {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            (rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?.into(), true)
        }
        Err(error) => return Err(error),
    };
    let made = write_compressed(&file, source, stop).and_then(|()| {
        let time = rustix::fs::fstat(source)?;
        let times = Timestamps {
            last_access: rustix::fs::Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT },
            last_modification: rustix::fs::Timespec {
                tv_sec: time.st_mtime,
                tv_nsec: i64::try_from(time.st_mtime_nsec).unwrap_or(0),
            },
        };
        rustix::fs::futimens(&file, &times)?;
        adopt(&file, source)?;
        file.sync_all()
    });
    match made {
        Ok(()) => Ok(Whole { file, is_named }),
        Err(error) => {
            if is_named {
                // Half of it is worth nothing.
                rustix::fs::unlinkat(directory, name, AtFlags::empty()).ok();
            }
            Err(error)
        }
    }
}

fn write_compressed(file: &File, source: &File, stop: &Shutdown) -> io::Result<()> {
    let mut source = source.try_clone()?;
    io::Seek::rewind(&mut source)?;
    let mut encoder = zstd::Encoder::new(file, ZSTD_LEVEL)?;
    encoder.include_checksum(true)?;
    let mut part = vec![0; COPY_BYTES];
    loop {
        if stop.is_requested() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        match source.read(&mut part)? {
            0 => break,
            length => encoder.write_all(part.get(..length).unwrap_or_default())?,
        }
    }
    encoder.finish().map(drop)
}

fn unnamed(directory: &impl AsFd) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(directory, c".", flags, Mode::RUSR | Mode::WUSR)?.into())
}

fn link(file: &File, directory: &impl AsFd, name: &OsStr) -> Result<(), Errno> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    rustix::fs::linkat(CWD, path, directory, name, AtFlags::SYMLINK_FOLLOW)
}

fn is_unknown(error: &io::Error) -> bool {
    let codes = [Errno::OPNOTSUPP, Errno::ISDIR, Errno::NOENT, Errno::INVAL];
    codes.map(Errno::raw_os_error).map(Some).contains(&error.raw_os_error())
}
