//! What is known, and what can be changed, about a file (draft 02, 5).

use std::os::fd::AsRawFd;

use rustix::fs::{AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use crate::wire::files::Set;
use chores_common::sftp::{Code, Fields, Packet, Refusal};

const SIZE: u32 = 0x01;
const UIDGID: u32 = 0x02;
const PERMISSIONS: u32 = 0x04;
const ACMODTIME: u32 = 0x08;
const EXTENDED: u32 = 0x8000_0000;

/// Of the permissions, what chmod(2) takes.
const MODE_BITS: u32 = 0o7777;
/// More pairs of extended attributes are no request of an honest client; they are read over.
const EXTENDED_PAIRS_MAX: u32 = 64;

/// Attributes as a client sends them: each may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Attributes {
    pub(super) size: Option<u64>,
    /// User and group.
    pub(super) owner: Option<(u32, u32)>,
    pub(super) permissions: Option<u32>,
    /// Of the last access and change, in seconds of the epoch.
    pub(super) times: Option<(u32, u32)>,
}

impl Attributes {
    /// Takes them from a request.
    pub(super) fn read(fields: &mut Fields<'_>) -> Result<Self, Refusal> {
        let flags = fields.u32()?;
        let mut attributes = Self::default();
        if flags & SIZE != 0 {
            attributes.size = Some(fields.u64()?);
        }
        if flags & UIDGID != 0 {
            attributes.owner = Some((fields.u32()?, fields.u32()?));
        }
        if flags & PERMISSIONS != 0 {
            attributes.permissions = Some(fields.u32()?);
        }
        if flags & ACMODTIME != 0 {
            attributes.times = Some((fields.u32()?, fields.u32()?));
        }
        if flags & EXTENDED != 0 {
            let pairs = fields.u32()?;
            if pairs > EXTENDED_PAIRS_MAX {
                return Err(Code::BadMessage.into());
            }
            for _pair in 0..pairs {
                fields.string()?;
                fields.string()?;
            }
        }
        Ok(attributes)
    }

    /// The same, as it is told.
    pub(super) fn told(&self) -> Set {
        let mode = self.permissions.map(|mode| mode & MODE_BITS);
        Set { size: self.size, mode, owner: self.owner, times: self.times }
    }

    /// The mode for a new file or directory; the session's umask is taken off by the kernel.
    pub(super) fn mode_or(&self, otherwise: u32) -> Mode {
        Mode::from_raw_mode(self.permissions.unwrap_or(otherwise) & MODE_BITS)
    }

    /// Changes what is given, in the order of OpenSSH; all of it is tried, the first error is told.
    pub(super) fn apply(&self, to: &impl Changeable) -> Result<(), Errno> {
        let size = self.size.map_or(Ok(()), |size| to.set_size(size));
        let mode = self
            .permissions
            .map_or(Ok(()), |mode| to.set_mode(Mode::from_raw_mode(mode & MODE_BITS)));
        let times = self.times.map_or(Ok(()), |(access, change)| {
            to.set_times(&Timestamps { last_access: at(access), last_modification: at(change) })
        });
        let owner = self.owner.map_or(Ok(()), |(user, group)| to.set_owner(user, group));
        size.and(mode).and(times).and(owner)
    }
}

fn at(seconds: u32) -> Timespec {
    Timespec { tv_sec: seconds.into(), tv_nsec: 0 }
}

/// Something whose attributes can be changed.
pub(super) trait Changeable {
    fn set_size(&self, size: u64) -> Result<(), Errno>;
    fn set_mode(&self, mode: Mode) -> Result<(), Errno>;
    fn set_times(&self, times: &Timestamps) -> Result<(), Errno>;
    fn set_owner(&self, user: u32, group: u32) -> Result<(), Errno>;
}

/// A file by its name; symbolic links are followed.
pub(super) struct Named<'a>(pub(super) &'a [u8]);

impl Changeable for Named<'_> {
    fn set_size(&self, size: u64) -> Result<(), Errno> {
        // Without NONBLOCK a named pipe would hold us up for ever.
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let file = rustix::fs::open(self.0, flags, Mode::empty())?;
        rustix::fs::ftruncate(file, size)
    }

    fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        rustix::fs::chmod(self.0, mode)
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        rustix::fs::utimensat(CWD, self.0, times, AtFlags::empty())
    }

    fn set_owner(&self, user: u32, group: u32) -> Result<(), Errno> {
        rustix::fs::chown(self.0, uid(user), gid(group))
    }
}

/// A file by its name; a symbolic link itself is meant (`lsetstat@openssh.com`).
pub(super) struct NamedLink<'a>(pub(super) &'a [u8]);

impl Changeable for NamedLink<'_> {
    fn set_size(&self, _size: u64) -> Result<(), Errno> {
        // A link has no size to be set.
        Err(Errno::INVAL)
    }

    fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        // Only kernels from 6.6 can do this by name, so the file is held while it is looked at.
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let held = rustix::fs::open(self.0, flags | OFlags::PATH, Mode::empty())?;
        if FileType::from_raw_mode(rustix::fs::fstat(&held)?.st_mode).is_symlink() {
            return Err(Errno::OPNOTSUPP);
        }
        match rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), mode) {
            // There may be no /proc, and it is closed to a process that hides from its own user, as ours does.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS) => {}
            changed => return changed,
        }
        let file = rustix::fs::open(self.0, flags | OFlags::RDONLY, Mode::empty())
            .or_else(|_| rustix::fs::open(self.0, flags | OFlags::WRONLY, Mode::empty()))?;
        rustix::fs::fchmod(file, mode)
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        rustix::fs::utimensat(CWD, self.0, times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn set_owner(&self, user: u32, group: u32) -> Result<(), Errno> {
        rustix::fs::chownat(CWD, self.0, uid(user), gid(group), AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// An open file.
pub(super) struct Opened<'a>(pub(super) rustix::fd::BorrowedFd<'a>);

impl Changeable for Opened<'_> {
    fn set_size(&self, size: u64) -> Result<(), Errno> {
        rustix::fs::ftruncate(self.0, size)
    }

    fn set_mode(&self, mode: Mode) -> Result<(), Errno> {
        rustix::fs::fchmod(self.0, mode)
    }

    fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        rustix::fs::futimens(self.0, times)
    }

    fn set_owner(&self, user: u32, group: u32) -> Result<(), Errno> {
        rustix::fs::fchown(self.0, uid(user), gid(group))
    }
}

/// The largest number means "as it is" (chown(2)).
fn uid(number: u32) -> Option<Uid> {
    (number != u32::MAX).then(|| Uid::from_raw(number))
}

fn gid(number: u32) -> Option<Gid> {
    (number != u32::MAX).then(|| Gid::from_raw(number))
}

/// Adds everything version 3 can say about a file.
pub(super) fn tell(packet: Packet, stat: &Stat) -> Packet {
    packet
        .u32(SIZE | UIDGID | PERMISSIONS | ACMODTIME)
        .u64(u64::try_from(stat.st_size).unwrap_or(0))
        .u32(stat.st_uid)
        .u32(stat.st_gid)
        .u32(stat.st_mode)
        .u32(seconds(stat.st_atime))
        .u32(seconds(stat.st_mtime))
}

/// Says nothing about a file.
pub(super) fn tell_nothing(packet: Packet) -> Packet {
    packet.u32(0)
}

/// Times before 1970 and after 2106 have no form in version 3: the nearest is told.
fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}
