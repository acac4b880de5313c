//! The snapshots as directories: `NAME/TIME-ID` and `NAME/latest`. Numbers that were given once stay, whatever comes and goes.

use std::collections::{BTreeMap, HashMap};

use crate::chunk::DedupKey;
use crate::snapshot::{SnapshotName, State};

/// Longest name of a directory, in bytes: what Linux takes (`NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// The link to the newest snapshot of a name.
pub(crate) const LATEST: &[u8] = b"latest";

/// What the directories say of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) name: SnapshotName,
    /// What it is called.
    pub(crate) label: String,
    pub(crate) time: jiff::Timestamp,
    pub(crate) state: State,
}

/// The snapshots of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) number: u32,
    /// Directory and number of each snapshot.
    pub(crate) snapshots: BTreeMap<Vec<u8>, u32>,
    /// The directory of the newest that is a backup.
    pub(crate) latest: Option<Vec<u8>>,
    /// When the newest was made.
    pub(crate) time: jiff::Timestamp,
}

/// A snapshot that has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Numbered {
    pub(crate) name: SnapshotName,
    /// Number of its group; 0 where it has none.
    pub(crate) group: u32,
    pub(crate) time: jiff::Timestamp,
}

/// All directories above the snapshots.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    /// By their directories.
    groups: BTreeMap<Vec<u8>, Group>,
    /// Directories of all groups there ever were; their numbers are one more than their places.
    group_names: Vec<Vec<u8>>,
    group_numbers: HashMap<Vec<u8>, u32>,
    /// All snapshots there ever were; their numbers are one more than their places.
    snapshots: Vec<Numbered>,
    snapshot_numbers: HashMap<SnapshotName, u32>,
}

impl Catalog {
    /// Shows these snapshots and no others from now on. `key` tells names apart that are too long to be shown.
    pub(crate) fn show(&mut self, mut listed: Vec<Listed>, key: &DedupKey) {
        listed.sort_by_key(|one| (one.time, one.name.id));
        self.groups.clear();
        for Listed { name, label, time, state } in listed {
            let directory = directory_of(&label, key);
            let group_number = self.group_number(&directory);
            let number = self.snapshot_number(name.clone(), group_number, time);
            let group = self.groups.entry(directory).or_insert_with(|| Group {
                number: group_number,
                snapshots: BTreeMap::new(),
                latest: None,
                time,
            });
            group.time = time;
            let mut shown = format!("{}-{}", name.time, name.id.short()).into_bytes();
            if group.snapshots.contains_key(&shown) {
                shown = format!("{}-{}", name.time, name.id).into_bytes();
            }
            if state != State::Failed {
                group.latest = Some(shown.clone());
            }
            group.snapshots.insert(shown, number);
        }
    }

    /// Takes in one snapshot that is shown without directories above it, and returns its number.
    pub(crate) fn single(&mut self, name: SnapshotName, time: jiff::Timestamp) -> u32 {
        self.snapshot_number(name, 0, time)
    }

    /// The groups by their directories.
    pub(crate) fn groups(&self) -> &BTreeMap<Vec<u8>, Group> {
        &self.groups
    }

    /// The group with this number, as far as it is shown.
    pub(crate) fn group(&self, number: u32) -> Option<&Group> {
        self.groups.get(self.group_names.get(number.checked_sub(1)? as usize)?)
    }

    /// The snapshot with this number, whether it is shown or not.
    pub(crate) fn snapshot(&self, number: u32) -> Option<&Numbered> {
        self.snapshots.get(number.checked_sub(1)? as usize)
    }

    /// How many snapshots are shown.
    pub(crate) fn count(&self) -> usize {
        self.groups.values().map(|group| group.snapshots.len()).sum()
    }

    fn group_number(&mut self, directory: &[u8]) -> u32 {
        if let Some(number) = self.group_numbers.get(directory) {
            return *number;
        }
        self.group_names.push(directory.to_vec());
        let number = number_of(self.group_names.len());
        self.group_numbers.insert(directory.to_vec(), number);
        number
    }

    fn snapshot_number(&mut self, name: SnapshotName, group: u32, time: jiff::Timestamp) -> u32 {
        if let Some(number) = self.snapshot_numbers.get(&name) {
            return *number;
        }
        self.snapshots.push(Numbered { name: name.clone(), group, time });
        let number = number_of(self.snapshots.len());
        self.snapshot_numbers.insert(name, number);
        number
    }
}

/// No store lists that many.
fn number_of(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// The name of a snapshot as that of a directory: what cannot be in one is escaped as in URLs.
fn directory_of(label: &str, key: &DedupKey) -> Vec<u8> {
    let is_dots = label == "." || label == "..";
    let is_plain = |byte: u8| {
        !(matches!(byte, b'/' | b'%') || byte.is_ascii_control() || is_dots && byte == b'.')
    };
    let mut name = Vec::with_capacity(label.len());
    for byte in label.bytes() {
        if is_plain(byte) {
            name.push(byte);
        } else {
            name.extend_from_slice(format!("%{byte:02X}").as_bytes());
        }
    }
    if name.is_empty() {
        name.push(b'%');
    }
    if name.len() > NAME_BYTES_MAX {
        let end = format!("%{}", key.id_of(label.as_bytes()));
        name.truncate(NAME_BYTES_MAX - end.len());
        name.extend_from_slice(end.as_bytes());
    }
    name
}

#[cfg(test)]
mod tests;
