//! Files without a name, for bytes that a program does not take.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{MemfdFlags, Mode, OFlags};

/// A file without a name in `directory`, or in memory where the file system cannot do that.
pub(super) fn file(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(file),
        Err(_) => Ok(rustix::fs::memfd_create("spool", MemfdFlags::CLOEXEC)?),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn it_is_writable_wherever_it_is() {
        let directory = tempfile::tempdir().unwrap();
        for place in [directory.path(), Path::new("/nowhere")] {
            File::from(file(place).unwrap()).write_all(b"x").unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
