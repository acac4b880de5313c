//! Files without a name, for bytes that a program does not take.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// At least one in so many blocks of the file system must be free: who does not read must not fill the disk.
const FREE_PART: u64 = 8;

/// A file without a name in `directory`; an error where there is no room, since memory would be worse.
pub(super) fn file(directory: &Path) -> io::Result<OwnedFd> {
    let system = rustix::fs::statvfs(directory)?;
    if system.f_bavail < system.f_blocks / FREE_PART {
        let reason = "less than an eighth of the state directory's file system is free";
        return Err(io::Error::new(io::ErrorKind::StorageFull, reason));
    }
    let flags = OFlags::RDWR | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    match rustix::fs::open(directory, flags | OFlags::TMPFILE, mode) {
        // Not every file system can do that (open(2)).
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => unnamed(directory, flags, mode),
        other => Ok(other?),
    }
}

/// The same for file systems on which a file begins with a name.
fn unnamed(directory: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
    let path = directory.join(format!(".spool-{:016x}", getrandom::u64()?));
    let file = rustix::fs::open(&path, flags | OFlags::CREATE | OFlags::EXCL, mode)?;
    rustix::fs::unlinkat(CWD, &path, AtFlags::empty())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn it_is_writable_and_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        for made in [file(directory.path()), unnamed(directory.path(), flags, mode)] {
            match made {
                Ok(file) => File::from(file).write_all(b"x").unwrap(),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::StorageFull),
            }
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(file(Path::new("/nowhere")).is_err());
    }
}
