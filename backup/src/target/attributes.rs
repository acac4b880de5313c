//! Sets the metadata of one restored path.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, chmod, chownat, fchmod, fchown,
    futimens, utimensat,
};
use rustix::io::{Errno, Result};

use super::{Lost, RestoreWarning};
use crate::beneath;
use crate::entry::{Entry, Kind, Xattr};
use crate::source_file::{Handle, xattr_names};
use crate::walk::{FileType, Stat};

/// Setuid and setgid: a right given to whoever owns the file.
const SPECIAL_BITS: u32 = 0o6000;

/// An id that means "leave it" to chown(2), so no file can have it.
const NO_ID: u32 = u32::MAX;

/// Sets everything through a file that is open.
pub(super) fn finish_open(entry: &Entry, file: BorrowedFd<'_>) -> Result<Vec<RestoreWarning>> {
    let acts = Acts {
        owner: &|uid, gid| fchown(file, Some(uid), Some(gid)),
        mode: &|mode| fchmod(file, mode),
        xattrs: Handle::Open(file),
        times: &|times| futimens(file, times),
    };
    finish(entry, &acts)
}

/// Sets everything through a handle that only names the thing (`O_PATH`), by its link in `/proc`.
pub(super) fn finish_named(entry: &Entry, handle: BorrowedFd<'_>) -> Result<Vec<RestoreWarning>> {
    let link = beneath::proc_link(handle);
    let acts = Acts {
        owner: &|uid, gid| chownat(handle, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH),
        mode: &|mode| chmod(link.as_str(), mode),
        xattrs: Handle::by_name(handle),
        times: &|times| utimensat(CWD, link.as_str(), times, AtFlags::empty()),
    };
    finish(entry, &acts)
}

/// Whether owner, mode, attributes and modification time are those of the entry already. What cannot be
/// read is not.
pub(super) fn are_right(entry: &Entry, stat: &Stat, handle: BorrowedFd<'_>) -> bool {
    let wanted = (entry.uid, entry.gid, entry.mode, entry.mtime);
    if (stat.uid, stat.gid, stat.mode, stat.mtime) != wanted {
        return false;
    }
    let handle = Handle::by_name(handle);
    xattr_names(&handle).is_ok_and(|names| stale(&names, &entry.xattrs).next().is_none())
        && entry
            .xattrs
            .iter()
            .all(|xattr| handle.get(&xattr.name).is_ok_and(|value| value == xattr.value))
}

/// Whether what is there is what the entry describes.
pub(super) fn is_of_kind(found: FileType, kind: &Kind) -> bool {
    let expected = match kind {
        Kind::Directory => FileType::Directory,
        Kind::File(_) => FileType::File,
        Kind::Symlink(_) => FileType::Symlink,
        Kind::Fifo => FileType::Fifo,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice(..) => FileType::CharDevice,
        Kind::BlockDevice(..) => FileType::BlockDevice,
    };
    found == expected
}

/// How metadata of one thing is set.
struct Acts<'a> {
    owner: &'a dyn Fn(Uid, Gid) -> Result<()>,
    mode: &'a dyn Fn(Mode) -> Result<()>,
    xattrs: Handle<'a>,
    times: &'a dyn Fn(&Timestamps) -> Result<()>,
}

fn finish(entry: &Entry, acts: &Acts<'_>) -> Result<Vec<RestoreWarning>> {
    let mut warnings = Vec::new();
    let mut tolerate = |what: Lost, outcome: Result<()>| match outcome {
        Ok(()) => Ok(true),
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::ROFS)) => Err(error),
        Err(error) => {
            let path = entry.path.clone();
            warnings.push(RestoreWarning { path, what, source: Some(error.into()) });
            Ok(false)
        }
    };
    let owner = if entry.uid == NO_ID || entry.gid == NO_ID {
        Err(Errno::INVAL)
    } else {
        (acts.owner)(Uid::from_raw(entry.uid), Gid::from_raw(entry.gid))
    };
    let owned = tolerate(Lost::Owner, owner)?;
    match xattr_names(&acts.xattrs) {
        Ok(names) => {
            for name in stale(&names, &entry.xattrs) {
                match acts.xattrs.remove(name) {
                    Err(Errno::NODATA) => {}
                    outcome => {
                        tolerate(Lost::StaleXattrs, outcome)?;
                    }
                }
            }
        }
        Err(error) => {
            tolerate(Lost::StaleXattrs, Err(error))?;
        }
    }
    let set = |xattr: &Xattr| acts.xattrs.set(&xattr.name, &xattr.value);
    for xattr in entry.xattrs.iter().filter(|xattr| !is_acl(&xattr.name)) {
        tolerate(Lost::Xattr(xattr.name.clone()), set(xattr))?;
    }
    if !matches!(entry.kind, Kind::Symlink(_)) {
        let mode = Mode::from_raw_mode(mode_to_set(entry, owned));
        tolerate(Lost::Mode, (acts.mode)(mode))?;
    }
    for xattr in entry.xattrs.iter().filter(|xattr| is_acl(&xattr.name)) {
        tolerate(Lost::Xattr(xattr.name.clone()), set(xattr))?;
    }
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec {
            tv_sec: entry.mtime.seconds,
            tv_nsec: i64::from(entry.mtime.nanos),
        },
    };
    tolerate(Lost::Times, (acts.times)(&times))?;
    Ok(warnings)
}

/// Without the right owner, setuid and setgid would give the wrong user's rights away.
fn mode_to_set(entry: &Entry, owned: bool) -> u32 {
    if owned || entry.kind == Kind::Directory { entry.mode } else { entry.mode & !SPECIAL_BITS }
}

/// Names of attributes that are there, are not in the snapshot, and are the file's own: labels of
/// security modules and of the file system itself stay.
fn stale<'a>(
    present: &'a [Vec<u8>],
    wanted: &'a [Xattr],
) -> impl Iterator<Item = &'a [u8]> + use<'a> {
    present.iter().map(Vec::as_slice).filter(|name| {
        let own = name.starts_with(b"user.")
            || (name.starts_with(b"trusted.") && !name.starts_with(b"trusted.overlay."))
            || *name == b"security.capability"
            || is_acl(name);
        own && !wanted.iter().any(|xattr| xattr.name == *name)
    })
}

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(b"system.posix_acl_")
}
