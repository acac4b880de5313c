//! Reads one directory: its names, their metadata, sorted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, RawDir, fstatfs};
use rustix::io::{Errno, Result};

use super::{
    FileType, PATH_BYTES_MAX, SkipReason, SourceRoot, Stat, WalkOptions, WalkProblem, join,
};
use crate::beneath;

/// Bytes of directory entries taken from the kernel at once; about 1000 names.
const DENTS_BYTES: usize = 32 * 1024;

/// What reading a directory gave.
pub(super) enum Listing {
    /// What is in it.
    Entries {
        /// The device the directory is on.
        device: u64,
        /// Sorted by name.
        items: Vec<Item>,
        /// Why names are missing.
        cut_short: Option<WalkProblem>,
    },
    /// It is not to be entered.
    NotEntered(SkipReason),
    /// It could not be read at all.
    Failed(WalkProblem),
}

/// A name in a directory.
pub(super) struct Item {
    pub(super) name: Box<[u8]>,
    pub(super) outcome: std::result::Result<Stat, WalkProblem>,
}

/// File systems that are views into the kernel, by their `statfs` type (`linux/magic.h`; mqueue:
/// `ipc/mqueue.c`; configfs, fusectl and rpc_pipefs: their own `super.c`). devtmpfs has no number of its own; it says it is a
/// tmpfs, and its nodes are harmless to record.
const KERNEL_FILE_SYSTEMS: &[(u64, &str)] = &[
    (0x9fa0, "proc"),
    (0x6265_6572, "sysfs"),
    (0x1cd1, "devpts"),
    (0x0027_e0eb, "cgroup"),
    (0x6367_7270, "cgroup2"),
    (0x6462_6720, "debugfs"),
    (0x7472_6163, "tracefs"),
    (0xcafe_4a11, "bpf"),
    (0x7363_6673, "securityfs"),
    (0x1980_0202, "mqueue"),
    (0x6165_676c, "pstore"),
    (0xde5e_81e4, "efivarfs"),
    (0x6265_6570, "configfs"),
    (0x6573_5543, "fusectl"),
    (0x4249_4e4d, "binfmt_misc"),
    (0x6e73_6673, "nsfs"),
    (0xf97c_ff8c, "selinuxfs"),
    (0x4341_5d53, "smackfs"),
    (0x6759_6969, "rpc_pipefs"),
    (0x6e66_7364, "nfsd"),
];

/// Metadata of the root itself.
pub(super) fn stat_root(root: &SourceRoot) -> Result<Stat> {
    Stat::read(root.directory(), root.name.as_deref().unwrap_or_default())
}

/// Reads the directory `path` of `root`; `parent_device` tells where a mount begins.
pub(super) fn read(
    root: &SourceRoot,
    path: &[u8],
    parent_device: u64,
    options: &WalkOptions,
) -> Listing {
    let directory = match open_directory(root, path) {
        Ok(directory) => directory,
        Err(error) => return Listing::Failed(WalkProblem::new(error)),
    };
    let device = match Stat::read(directory.as_fd(), b"") {
        Ok(stat) => stat.device,
        Err(error) => return Listing::Failed(WalkProblem::new(error)),
    };
    if device != parent_device {
        if options.one_file_system {
            return Listing::NotEntered(SkipReason::OtherFileSystem);
        }
        if let Some(kind) = kernel_file_system(directory.as_fd()) {
            return Listing::NotEntered(SkipReason::KernelFileSystem(kind));
        }
    }
    let (names, mut cut_short) = match names(directory.as_fd()) {
        (names, Some(error)) if names.is_empty() => {
            return Listing::Failed(WalkProblem::new(error));
        }
        (names, error) => (names, error.map(WalkProblem::new)),
    };
    let mut items = Vec::with_capacity(names.len());
    for name in names {
        if path.len() + 1 + name.len() > PATH_BYTES_MAX {
            cut_short = Some(WalkProblem::TooDeep);
            continue;
        }
        let outcome = Stat::read(directory.as_fd(), &name).map_err(WalkProblem::new);
        let is_directory = outcome.as_ref().is_ok_and(|stat| stat.kind == FileType::Directory);
        if options.exclude.is_empty() || !options.exclude.matches(&join(path, &name), is_directory)
        {
            items.push(Item { name, outcome });
        }
    }
    Listing::Entries { device, items, cut_short }
}

fn open_directory(root: &SourceRoot, path: &[u8]) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let relative = root.relative(path);
    let open = |flags| beneath::open(root.directory(), relative, flags, Mode::empty());
    // Only the owner and root may ask for O_NOATIME (open(2)).
    match open(flags | OFlags::NOATIME) {
        Err(Errno::PERM) => open(flags),
        outcome => outcome,
    }
}

/// The sorted names of a directory, without `.` and `..`, and why they are not all there.
fn names(directory: BorrowedFd<'_>) -> (Vec<Box<[u8]>>, Option<Errno>) {
    let mut buffer = Vec::with_capacity(DENTS_BYTES);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names: Vec<Box<[u8]>> = Vec::new();
    let mut failed = None;
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => match entry.file_name().to_bytes() {
                b"." | b".." => {}
                name => names.push(name.into()),
            },
            Err(error) => {
                failed = Some(error);
                break;
            }
        }
    }
    names.sort_unstable();
    // A directory that changes while it is read may give a name twice.
    names.dedup();
    (names, failed)
}

fn kernel_file_system(directory: BorrowedFd<'_>) -> Option<&'static str> {
    let found = fstatfs(directory).ok()?;
    let magic = u64::try_from(found.f_type).ok()? & 0xffff_ffff;
    KERNEL_FILE_SYSTEMS.iter().find(|(number, _)| *number == magic).map(|(_, name)| *name)
}
