//! The first names of files that have several.

use std::collections::HashMap;

use crate::entry::PathBytes;
use crate::walk::{FileType, Stat};

/// Most files whose further names are awaited at a time.
pub(super) const LINKED_FILES_MAX: usize = 1 << 20;

/// The name under which each file with several hard links stands in the archive, until its last name
/// was met.
#[derive(Debug, Default)]
pub(super) struct FirstNames {
    /// The first name, and how many more may come.
    names: HashMap<FileKey, (PathBytes, u64)>,
    forgot: bool,
}

impl FirstNames {
    /// The first name of the file that `stat` is of, when it has one in the archive. A file whose last
    /// name this is gets forgotten.
    pub(super) fn get(&mut self, stat: &Stat) -> Option<PathBytes> {
        if !has_names(stat) {
            return None;
        }
        let key = file_key(stat);
        let (_, awaited) = self.names.get_mut(&key)?;
        *awaited = awaited.saturating_sub(1);
        if *awaited == 0 {
            return self.names.remove(&key).map(|(name, _)| name);
        }
        self.names.get(&key).map(|(name, _)| name.clone())
    }

    /// Remembers `path` as the first name; false when there is no room.
    pub(super) fn insert(&mut self, stat: &Stat, path: &[u8]) -> bool {
        if !has_names(stat) {
            return true;
        }
        if self.names.len() >= LINKED_FILES_MAX {
            return false;
        }
        self.names.insert(file_key(stat), (path.to_vec(), stat.links - 1));
        true
    }

    /// True the first time it is asked.
    pub(super) fn forgets_first_time(&mut self) -> bool {
        !std::mem::replace(&mut self.forgot, true)
    }
}

/// Device, inode and type: an inode that is freed and used again meanwhile is at least not taken for
/// another type.
type FileKey = (u64, u64, FileType);

fn file_key(stat: &Stat) -> FileKey {
    (stat.device, stat.inode, stat.kind)
}

fn has_names(stat: &Stat) -> bool {
    stat.links > 1 && stat.kind != FileType::Directory
}
