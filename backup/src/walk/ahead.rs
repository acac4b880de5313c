//! The plan that the consumer and the reading threads share: which directories are to be read, in tree
//! order, and the listings that are ready.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::listing::{self, Listing};
use super::{ENTRIES_AHEAD_MAX, FileType, SourceRoot, Stat, WalkOptions};
use crate::entry::{PathBytes, tree_order};

/// A directory to read.
#[derive(Clone)]
pub(super) struct Directory {
    pub(super) root: usize,
    pub(super) path: PathBytes,
    /// The device of its parent; a mount begins where its own differs.
    pub(super) device: u64,
}

/// The shared plan of one walk.
pub(super) struct Ahead<'a> {
    roots: &'a [SourceRoot],
    options: &'a WalkOptions,
    plan: Mutex<Plan>,
    /// There may be a directory to take: the plan grew, the consumer made room, or it is over.
    work: Condvar,
    /// A listing was added to `ready`.
    ready: Condvar,
}

#[derive(Default)]
struct Plan {
    waiting: BTreeMap<TreePath, Directory>,
    /// Taken by a thread; at most one for each.
    reading: BTreeSet<TreePath>,
    ready: BTreeMap<TreePath, Listing>,
    /// Entries in `ready`.
    entries_ready: usize,
    stopped: bool,
}

/// A path ordered like the tree.
#[derive(Clone, PartialEq, Eq)]
struct TreePath(PathBytes);

impl Ord for TreePath {
    fn cmp(&self, other: &Self) -> Ordering {
        tree_order(&self.0, &other.0)
    }
}

impl PartialOrd for TreePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Ends the reading threads however the consumer ends, a panic in `visit` included.
pub(super) struct StopOnDrop<'a>(&'a Ahead<'a>);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.lock().stopped = true;
        self.0.work.notify_all();
    }
}

impl<'a> Ahead<'a> {
    pub(super) fn new(roots: &'a [SourceRoot], options: &'a WalkOptions) -> Self {
        let mut plan = Plan::default();
        for (number, root) in roots.iter().enumerate().filter(|(_, root)| root.is_directory()) {
            let Ok(stat) = listing::stat_root(root) else { continue };
            if !options.skip.contains(&(stat.device, stat.inode)) {
                let path = root.path().to_vec();
                let directory = Directory { root: number, path: path.clone(), device: stat.device };
                plan.waiting.insert(TreePath(path), directory);
            }
        }
        Self { roots, options, plan: Mutex::new(plan), work: Condvar::new(), ready: Condvar::new() }
    }

    pub(super) fn stop_on_drop(&'a self) -> StopOnDrop<'a> {
        StopOnDrop(self)
    }

    /// Whether this is one of the directories and files that belong to the backup itself.
    pub(super) fn is_own(&self, stat: &Stat) -> bool {
        self.options.skip.contains(&(stat.device, stat.inode))
    }

    /// The listing of a directory that the walk has come to: ready, on its way, or read right here.
    pub(super) fn take(&self, directory: &Directory) -> Listing {
        let key = TreePath(directory.path.clone());
        let mut plan = self.lock();
        // A thread never waits for anything between taking a directory and adding its listing, so
        // what is being read will be ready.
        while plan.waiting.remove(&key).is_none() {
            if let Some(listing) = plan.ready.remove(&key) {
                plan.entries_ready = plan.entries_ready.saturating_sub(listing.entries());
                drop(plan);
                self.work.notify_all();
                return listing;
            }
            if !plan.reading.contains(&key) {
                break;
            }
            plan = self.ready.wait(plan).unwrap_or_else(PoisonError::into_inner);
        }
        drop(plan);
        let listing = self.read(directory);
        let children = self.children(directory, &listing);
        if !children.is_empty() {
            self.lock().waiting.extend(children);
            self.work.notify_all();
        }
        listing
    }

    /// What a reading thread does until the walk is over.
    pub(super) fn read_until_stopped(&self) {
        let mut plan = self.lock();
        while !plan.stopped {
            let room = plan.entries_ready < ENTRIES_AHEAD_MAX;
            let Some((key, directory)) = room.then(|| plan.waiting.pop_first()).flatten() else {
                plan = self.work.wait(plan).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            plan.reading.insert(key.clone());
            drop(plan);
            let listing = self.read(&directory);
            let children = self.children(&directory, &listing);
            let grew = !children.is_empty();
            plan = self.lock();
            plan.waiting.extend(children);
            plan.entries_ready = plan.entries_ready.saturating_add(listing.entries());
            plan.reading.remove(&key);
            plan.ready.insert(key, listing);
            self.ready.notify_all();
            if grew {
                self.work.notify_all();
            }
        }
    }

    fn read(&self, directory: &Directory) -> Listing {
        match self.roots.get(directory.root) {
            Some(root) => listing::read(root, &directory.path, directory.device, self.options),
            None => Listing::Failed(super::WalkProblem::Vanished),
        }
    }

    /// The directories in a listing that the walk will enter.
    fn children(&self, directory: &Directory, listing: &Listing) -> Vec<(TreePath, Directory)> {
        let Listing::Entries { device, items, .. } = listing else { return Vec::new() };
        items
            .iter()
            .filter(|item| {
                item.outcome
                    .as_ref()
                    .is_ok_and(|stat| stat.kind == FileType::Directory && !self.is_own(stat))
            })
            .map(|item| {
                let path = super::join(&directory.path, &item.name);
                let child = Directory { root: directory.root, path: path.clone(), device: *device };
                (TreePath(path), child)
            })
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listing {
    fn entries(&self) -> usize {
        match self {
            Self::Entries { items, .. } => items.len(),
            Self::NotEntered(_) | Self::Failed(_) => 0,
        }
    }
}
