//! Files without a name, for bytes that a program does not take.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;

/// At least one in so many blocks of the file system stays free: who does not read must not fill the disk.
const FREE_PART: u64 = 8;
/// Of a large file system no more than this must stay free, in bytes.
const FREE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// What the files of all connections may still take, in bytes. Cloning is cheap.
#[derive(Debug, Clone, Default)]
pub(super) struct Promises(Arc<AtomicU64>);

/// The bytes that the files of one connection may take, until it is dropped.
#[derive(Debug)]
pub(super) struct Promise {
    of: Promises,
    bytes: u64,
}

impl Promises {
    /// Promises so many bytes of `directory`'s file system, if so many are free.
    pub(super) fn make(&self, directory: &Path, bytes: u64) -> io::Result<Promise> {
        let system = rustix::fs::statvfs(directory)?;
        let size = |blocks: u64| blocks.saturating_mul(system.f_frsize);
        let stays = size(system.f_blocks / FREE_PART).min(FREE_BYTES_MAX);
        let free = size(system.f_bavail).saturating_sub(stays);
        let fits = |others: u64| others.checked_add(bytes).filter(|all| *all <= free);
        match self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits) {
            Ok(_) => Ok(Promise { of: self.clone(), bytes }),
            Err(_) => {
                let reason = "too little of the state directory's file system would stay free";
                Err(io::Error::new(io::ErrorKind::StorageFull, reason))
            }
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A file without a name in `directory`.
pub(super) fn file(directory: &Path) -> io::Result<OwnedFd> {
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
            File::from(made.unwrap()).write_all(b"x").unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        assert!(file(Path::new("/nowhere")).is_err());
    }

    #[test]
    fn no_more_is_promised_than_is_free() {
        let directory = tempfile::tempdir().unwrap();
        let promises = Promises::default();
        let full = |made: io::Result<Promise>| made.unwrap_err().kind();
        assert_eq!(full(promises.make(directory.path(), u64::MAX)), io::ErrorKind::StorageFull);
        let one = promises.make(directory.path(), 1).unwrap();
        assert_eq!(full(promises.make(directory.path(), u64::MAX)), io::ErrorKind::StorageFull);
        assert_eq!(promises.0.load(Ordering::Relaxed), 1);
        drop(one);
        assert_eq!(promises.0.load(Ordering::Relaxed), 0);
    }
}
