//! Compares two trees and says in words what differs.

use std::collections::BTreeSet;
use std::path::Path;

use crate::tree::{self, Content, Kind, Node, Tree, shown};

/// How many differences a failed comparison prints; the rest is counted.
const SHOWN_MAX: usize = 40;

/// What a comparison leaves out, for tests that say why.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore {
    /// Sockets missing on the right: they are recorded, but never restored.
    pub sockets: bool,
    /// Modification times of directories, for tools that do not restore them.
    pub directory_times: bool,
    /// Fractions of seconds, for formats that have none.
    pub subseconds: bool,
    /// Extended attributes.
    pub xattrs: bool,
    /// Owner and group.
    pub owners: bool,
    /// Metadata of the root of the trees.
    pub root: bool,
}

/// Expects two directories to hold the same tree.
///
/// # Panics
/// With the list of differences when they do not.
pub fn assert_same(left: &Path, right: &Path, ignore: Ignore) {
    assert_same_trees(&tree::read(left), &tree::read(right), ignore);
}

/// Expects two trees to be the same.
///
/// # Panics
/// With the list of differences when they are not.
pub fn assert_same_trees(left: &Tree, right: &Tree, ignore: Ignore) {
    let found = differences(left, right, ignore);
    if !found.is_empty() {
        let more = found.len().saturating_sub(SHOWN_MAX);
        let list = found.into_iter().take(SHOWN_MAX).collect::<Vec<_>>().join("\n  ");
        panic!("the trees differ:\n  {list}\n  ({more} more)");
    }
}

/// What differs between two trees, one sentence each.
#[must_use]
pub fn differences(left: &Tree, right: &Tree, ignore: Ignore) -> Vec<String> {
    let mut found = Vec::new();
    let paths: BTreeSet<&Vec<u8>> = left.keys().chain(right.keys()).collect();
    for path in paths {
        match (left.get(path), right.get(path)) {
            (Some(node), None) if ignore.sockets && node.kind == Kind::Socket => {}
            (Some(node), None) => {
                found.push(format!("{} ({}) is missing", shown(path), word(&node.kind)));
            }
            (None, Some(node)) => {
                found.push(format!("{} ({}) is too much", shown(path), word(&node.kind)));
            }
            (Some(left), Some(right)) => {
                let root = path.is_empty();
                for difference in node_differences(left, right, ignore, root) {
                    found.push(format!("{}: {difference}", shown(path)));
                }
            }
            (None, None) => {}
        }
    }
    found
}

fn node_differences(left: &Node, right: &Node, ignore: Ignore, is_root: bool) -> Vec<String> {
    let mut found = Vec::new();
    match (&left.kind, &right.kind) {
        (Kind::File(left), Kind::File(right)) => found.extend(content_difference(left, right)),
        (Kind::Symlink(left), Kind::Symlink(right)) if left != right => {
            found.push(format!("points to {} instead of {}", shown(right), shown(left)));
        }
        (left, right) if left != right => {
            found.push(format!("is {} instead of {}", word(right), word(left)));
        }
        _ => {}
    }
    if left.same_as != right.same_as {
        let words = |first: &Option<Vec<u8>>| {
            first.as_ref().map_or("nothing".to_owned(), |path| shown(path))
        };
        found.push(format!(
            "is linked to {} instead of {}",
            words(&right.same_as),
            words(&left.same_as)
        ));
    }
    if is_root && ignore.root {
        return found;
    }
    if left.mode != right.mode {
        found.push(format!("has mode {:04o} instead of {:04o}", right.mode, left.mode));
    }
    if !ignore.owners && (left.uid, left.gid) != (right.uid, right.gid) {
        found.push(format!(
            "belongs to {}:{} instead of {}:{}",
            right.uid, right.gid, left.uid, left.gid
        ));
    }
    let time = |node: &Node| (node.mtime.0, if ignore.subseconds { 0 } else { node.mtime.1 });
    let skip_time = ignore.directory_times && left.kind == Kind::Directory;
    if !skip_time && time(left) != time(right) {
        found.push(format!("was modified at {:?} instead of {:?}", right.mtime, left.mtime));
    }
    if !ignore.xattrs && left.xattrs != right.xattrs {
        let names: BTreeSet<_> = left.xattrs.keys().chain(right.xattrs.keys()).collect();
        for name in names {
            let (left, right) = (left.xattrs.get(name), right.xattrs.get(name));
            if left != right {
                let words = |value: Option<&Vec<u8>>| {
                    value.map_or("nothing".to_owned(), |value| shown(value))
                };
                found.push(format!(
                    "has attribute {} = {} instead of {}",
                    shown(name),
                    words(right),
                    words(left)
                ));
            }
        }
    }
    found
}

/// File systems differ in how many blocks hold the same data, so allocation is judged only where it
/// matters: a file that was half holes or more must not have become solid.
fn content_difference(left: &Content, right: &Content) -> Option<String> {
    const SPARE_BYTES: u64 = 1 << 20;
    if left.size != right.size {
        return Some(format!("has {} bytes instead of {}", right.size, left.size));
    }
    if left.digest != right.digest {
        return Some("has other content".to_owned());
    }
    let was_sparse = left.allocated < left.size / 2;
    (was_sparse && right.allocated > left.allocated.saturating_mul(2).saturating_add(SPARE_BYTES))
        .then(|| {
            format!(
                "occupies {} bytes on disk instead of {}: its holes are gone",
                right.allocated, left.allocated
            )
        })
}

fn word(kind: &Kind) -> &'static str {
    match kind {
        Kind::Directory => "a directory",
        Kind::File(_) => "a file",
        Kind::Symlink(_) => "a symbolic link",
        Kind::Fifo => "a named pipe",
        Kind::Socket => "a socket",
        Kind::CharDevice(..) => "a character device",
        Kind::BlockDevice(..) => "a block device",
    }
}

#[cfg(test)]
mod tests;
