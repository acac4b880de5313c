//! The metadata of one path, as statx(2) gives it.

use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Statx, StatxFlags, makedev, statx};
use rustix::io::Result;

use crate::entry::Timestamp;

/// What kind of thing a path is (inode(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FileType {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A type this version does not know.
    Unknown,
}

/// The metadata of one path; of the link itself where it is a symbolic link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// What it is.
    pub kind: FileType,
    /// Permission bits with setuid, setgid and sticky: `0o7777` at the most.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Length in bytes of a regular file or a link target.
    pub size: u64,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Time of last change of content or metadata; cannot be set.
    pub ctime: Timestamp,
    /// Number of the device that holds it (`st_dev`).
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// How many names it has.
    pub links: u64,
    /// Major and minor number of a device node.
    pub device_node: (u32, u32),
    /// Space in use, in blocks of 512 bytes.
    pub blocks: u64,
    /// A mount begins here, where the kernel tells (5.8).
    pub mount_root: bool,
}

impl Stat {
    /// Reads the metadata of `name` in `directory` without following a link; of `directory` itself
    /// where `name` is empty.
    pub(crate) fn read(directory: BorrowedFd<'_>, name: &[u8]) -> Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let flags = if name.is_empty() { flags | AtFlags::EMPTY_PATH } else { flags };
        statx(directory, name, flags, StatxFlags::BASIC_STATS).map(|raw| Self::from(&raw))
    }

    /// Whether both are of the same file: the same inode of the same device, and the same kind.
    #[must_use]
    pub fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode, self.kind) == (other.device, other.inode, other.kind)
    }
}

impl From<&Statx> for Stat {
    fn from(raw: &Statx) -> Self {
        let time = |time: &rustix::fs::StatxTimestamp| Timestamp {
            seconds: time.tv_sec,
            nanos: time.tv_nsec,
        };
        Self {
            kind: kind_of(u32::from(raw.stx_mode)),
            mode: u32::from(raw.stx_mode) & 0o7777,
            uid: raw.stx_uid,
            gid: raw.stx_gid,
            size: raw.stx_size,
            mtime: time(&raw.stx_mtime),
            ctime: time(&raw.stx_ctime),
            device: makedev(raw.stx_dev_major, raw.stx_dev_minor),
            inode: raw.stx_ino,
            links: u64::from(raw.stx_nlink),
            device_node: (raw.stx_rdev_major, raw.stx_rdev_minor),
            blocks: raw.stx_blocks,
            mount_root: raw.stx_attributes.contains(rustix::fs::StatxAttributes::MOUNT_ROOT),
        }
    }
}

fn kind_of(mode: u32) -> FileType {
    match rustix::fs::FileType::from_raw_mode(mode) {
        rustix::fs::FileType::Directory => FileType::Directory,
        rustix::fs::FileType::RegularFile => FileType::File,
        rustix::fs::FileType::Symlink => FileType::Symlink,
        rustix::fs::FileType::Fifo => FileType::Fifo,
        rustix::fs::FileType::Socket => FileType::Socket,
        rustix::fs::FileType::CharacterDevice => FileType::CharDevice,
        rustix::fs::FileType::BlockDevice => FileType::BlockDevice,
        rustix::fs::FileType::Unknown => FileType::Unknown,
    }
}
