//! The naive model of a backup: a list of small trees, each remembered whole.
//!
//! Random operations change a directory; the model of a snapshot is what an independent reader finds in
//! the directory at that moment. A backup tool is right when every restore equals the remembered tree.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use crate::random::Random;
use crate::tree::{self, Tree};

/// How many names there are to play with: few, so that operations meet the same files again.
const NAMES: usize = 12;

/// The longest content one operation writes (bytes): beyond the size at which files are cut.
const CONTENT_BYTES_MAX: u64 = 700_000;

/// A change to a directory. Names are numbers below [`NAMES`]; what does not apply (removing what is not
/// there) does nothing, as a script full of `|| true` would.
#[derive(Clone, Debug)]
pub enum Operation {
    /// Make or replace a file with `length` bytes grown from `seed`.
    Create {
        /// Name.
        name: usize,
        /// Content seed.
        seed: u64,
        /// Content length in bytes.
        length: u64,
    },
    /// Overwrite a range in the middle.
    Overwrite {
        /// Name.
        name: usize,
        /// Content seed.
        seed: u64,
        /// Where, in bytes; beyond the end it leaves a hole.
        offset: u64,
        /// How much, in bytes.
        length: u64,
    },
    /// Add to the end.
    Append {
        /// Name.
        name: usize,
        /// Content seed.
        seed: u64,
        /// How much, in bytes.
        length: u64,
    },
    /// Cut or grow (with a hole) to a length.
    Truncate {
        /// Name.
        name: usize,
        /// New length in bytes.
        length: u64,
    },
    /// Rename, replacing what is there.
    Rename {
        /// Old name.
        from: usize,
        /// New name.
        to: usize,
    },
    /// Delete a file, a link or a directory with everything in it.
    Delete {
        /// Name.
        name: usize,
    },
    /// Change the mode.
    Chmod {
        /// Name.
        name: usize,
        /// Permission bits, always readable by the owner.
        mode: u32,
    },
    /// Make a symbolic link.
    Symlink {
        /// Name.
        name: usize,
        /// Name it points to, there or not.
        target: usize,
    },
    /// Make a hard link.
    HardLink {
        /// Existing name.
        from: usize,
        /// New name.
        to: usize,
    },
    /// Make a directory.
    Mkdir {
        /// Name.
        name: usize,
    },
    /// Change the time only.
    Touch {
        /// Name.
        name: usize,
        /// Seconds since the epoch.
        seconds: u64,
    },
    /// Change the content and put the old size and time back: only the inode's change time tells.
    Disguise {
        /// Name.
        name: usize,
        /// Content seed.
        seed: u64,
    },
    /// Make a backup of the directory as it is now.
    Snapshot,
}

/// Sequences of operations, with a snapshot about every fourth step and one at the end.
pub fn operations(length: usize) -> impl Strategy<Value = Vec<Operation>> {
    let name = 0..NAMES;
    let bytes = prop_oneof![0..2_000_u64, 0..CONTENT_BYTES_MAX];
    let change = prop_oneof![
        4 => (name.clone(), any::<u64>(), bytes.clone())
            .prop_map(|(name, seed, length)| Operation::Create { name, seed, length }),
        3 => (name.clone(), any::<u64>(), 0..CONTENT_BYTES_MAX, 1..5_000_u64)
            .prop_map(|(name, seed, offset, length)| Operation::Overwrite { name, seed, offset, length }),
        2 => (name.clone(), any::<u64>(), 1..60_000_u64)
            .prop_map(|(name, seed, length)| Operation::Append { name, seed, length }),
        1 => (name.clone(), bytes).prop_map(|(name, length)| Operation::Truncate { name, length }),
        2 => (name.clone(), name.clone()).prop_map(|(from, to)| Operation::Rename { from, to }),
        2 => name.clone().prop_map(|name| Operation::Delete { name }),
        1 => (name.clone(), 0..0o1000_u32).prop_map(|(name, mode)| Operation::Chmod { name, mode: mode | 0o400 }),
        1 => (name.clone(), name.clone()).prop_map(|(name, target)| Operation::Symlink { name, target }),
        1 => (name.clone(), name.clone()).prop_map(|(from, to)| Operation::HardLink { from, to }),
        2 => name.clone().prop_map(|name| Operation::Mkdir { name }),
        1 => (name.clone(), 0..4_000_000_000_u64).prop_map(|(name, seconds)| Operation::Touch { name, seconds }),
        1 => (name, any::<u64>()).prop_map(|(name, seed)| Operation::Disguise { name, seed }),
        5 => Just(Operation::Snapshot),
    ];
    proptest::collection::vec(change, 1..=length).prop_map(|mut operations| {
        operations.push(Operation::Snapshot);
        operations
    })
}

/// Applies one operation to a directory; a snapshot returns the tree to remember.
pub fn apply(root: &Path, operation: &Operation) -> Option<Tree> {
    if let Operation::Snapshot = operation {
        return Some(tree::read(root));
    }
    // An operation that does not apply to what is there (a file where a directory stands) does nothing.
    change(root, operation).ok();
    None
}

/// Half of the names lie in a directory that is itself one of the names.
fn path(root: &Path, name: usize) -> PathBuf {
    match name {
        0..6 => root.join(format!("n{name}")),
        _ => root.join(format!("n{}", name % 3)).join(format!("m{name}")),
    }
}

fn change(root: &Path, operation: &Operation) -> std::io::Result<()> {
    let bytes = |seed: u64, length: u64| {
        let length = usize::try_from(length).unwrap_or(0);
        // Half of all content compresses.
        if seed.is_multiple_of(2) {
            Random::new(seed).text(length)
        } else {
            Random::new(seed).bytes(length)
        }
    };
    match *operation {
        Operation::Create { name, seed, length } => {
            let path = path(root, name);
            remove(&path)?;
            fs::write(path, bytes(seed, length))
        }
        Operation::Overwrite { name, seed, offset, length } => {
            open(&path(root, name))?.write_all_at(&bytes(seed, length), offset)
        }
        Operation::Append { name, seed, length } => {
            let path = path(root, name);
            open(&path)?;
            OpenOptions::new().append(true).open(path)?.write_all(&bytes(seed, length))
        }
        Operation::Truncate { name, length } => open(&path(root, name))?.set_len(length),
        Operation::Rename { from, to } => fs::rename(path(root, from), path(root, to)),
        Operation::Delete { name } => remove(&path(root, name)),
        Operation::Chmod { name, mode } => {
            let path = path(root, name);
            // A directory stays usable by whoever runs the test.
            let mode = if fs::symlink_metadata(&path)?.is_dir() { mode | 0o700 } else { mode };
            if path.is_symlink() {
                Ok(())
            } else {
                fs::set_permissions(path, Permissions::from_mode(mode))
            }
        }
        Operation::Symlink { name, target } => {
            let path = path(root, name);
            remove(&path)?;
            symlink(format!("n{target}"), path)
        }
        Operation::HardLink { from, to } => fs::hard_link(path(root, from), path(root, to)),
        Operation::Mkdir { name } => fs::create_dir(path(root, name)),
        Operation::Touch { name, seconds } => open(&path(root, name))?
            .set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)),
        Operation::Disguise { name, seed } => {
            let file = open(&path(root, name))?;
            let before = file.metadata()?;
            file.write_all_at(&bytes(seed, before.len().min(100)), 0)?;
            file.set_modified(before.modified()?)
        }
        Operation::Snapshot => Ok(()),
    }
}

/// Opens an existing regular file for writing; links are not followed out of the tree.
fn open(path: &Path) -> std::io::Result<File> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    OpenOptions::new().write(true).open(path)
}

fn remove(path: &Path) -> std::io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests;
