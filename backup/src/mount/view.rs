//! What a mounted repository looks like: numbers of files to what they are, without a word of FUSE.
//!
//! The number of a file (its inode) has the number of its snapshot in the upper half and that of its entry in the lower one,
//! so that nothing has to be remembered about files that the kernel knows. Numbers without an upper half are the directories
//! above the snapshots: 1 is the root, and 2n and 2n + 1 are the n-th name and its link `latest`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chores_common::exit::chain;
use chores_common::object::ErrorKind;
use chores_common::shutdown::Shutdown;

use super::catalog::{Catalog, LATEST, Listed};
use super::content::{ContentError, Contents};
use super::handles::Handles;
use super::open_file::OpenFile;
use super::table::{self, Attributes, Piece, Tag};
use super::trees::{Tree, Trees, instant, is_gone};
use super::{MountError, Shown};
use crate::browse::text::escaped_path;
use crate::chunk::ChunkId;
use crate::entry::{PathBytes, Timestamp};
use crate::reader::ReadError;
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::SnapshotName;

/// How old the list of snapshots may get before somebody who looks has it read again.
pub(crate) const LIST_AGE_MAX: Duration = Duration::from_secs(30);

/// Documents of snapshots that are in memory at once while they are listed.
const DOCUMENTS_AT_ONCE: usize = 64;

/// Files that may be open at once.
const FILES_MAX: usize = 4096;

/// Directories above the snapshots that may be open at once: what lies in each is copied.
const LISTINGS_MAX: usize = 256;

/// How long a snapshot that cannot be looked into is not tried again.
const REFUSED_FOR: Duration = Duration::from_secs(30);

/// Readings of the index for one chunk that is not where the last one said.
const INDEXES_MAX: usize = 2;

/// Chunks that were told to be unreadable; further ones are not told.
const TOLD_MAX: usize = 1000;

/// Mode of the directories above the snapshots.
const MODE: u16 = 0o755;

/// Number of the root.
pub(crate) const ROOT: u64 = 1;

/// Why something is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    NotFound,
    NotADirectory,
    IsADirectory,
    /// It is of a kind that has no such thing.
    Invalid,
    NoAttribute,
    /// Nothing is behind that offset.
    BehindTheEnd,
    TooManyOpen,
    NotOpen,
    /// It is damaged, or the store does not give it.
    Unreadable,
}

/// What is known of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attr {
    pub(crate) number: u64,
    /// Of a directory above the snapshots what is made up for it.
    pub(crate) known: Attributes,
    /// It never changes.
    pub(crate) lasting: bool,
}

/// What lies in a directory: number, kind, name.
pub(crate) type Listing = Vec<(u64, Tag, PathBytes)>;

/// Whose number it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inode {
    Root,
    Group(u32),
    Latest(u32),
    Node { snapshot: u32, node: u32 },
}

impl Inode {
    fn number(self) -> u64 {
        match self {
            Self::Root => ROOT,
            Self::Group(group) => u64::from(group) << 1,
            Self::Latest(group) => u64::from(group) << 1 | 1,
            Self::Node { snapshot, node } => u64::from(snapshot) << 32 | u64::from(node),
        }
    }

    fn of(number: u64) -> Self {
        let lower = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(u32::MAX);
        match (lower(number >> 32), lower(number)) {
            (0, 1) => Self::Root,
            (0, number) if number.is_multiple_of(2) => Self::Group(number / 2),
            (0, number) => Self::Latest(number / 2),
            (snapshot, node) => Self::Node { snapshot, node },
        }
    }
}

/// The snapshots that were found.
#[derive(Debug)]
struct Known {
    /// `None`: a document that cannot be read.
    documents: HashMap<SnapshotName, Option<Listed>>,
    since: Instant,
}

/// A repository as files.
#[derive(Debug)]
pub(crate) struct View {
    repository: Repository,
    shutdown: Shutdown,
    /// The number of the one snapshot that is shown.
    single: Option<u32>,
    catalog: Mutex<Catalog>,
    known: Mutex<Known>,
    trees: Trees,
    contents: Contents,
    /// Made when a part of this does not answer any more.
    broken: Shutdown,
    files: Mutex<Handles<OpenFile>>,
    listings: Mutex<Handles<Listing>>,
    told: Mutex<HashSet<ChunkId>>,
    /// Snapshots that could not be looked into, and when.
    refused: Mutex<HashMap<u32, Instant>>,
    /// Whom the directories above the snapshots belong to.
    owner: (u32, u32),
    /// Others may look too, so that the saved mode of a `/` counts before anybody has looked into it.
    open_to_others: bool,
}

impl View {
    /// Reads the list of snapshots, or the entries of the one that is shown.
    pub(crate) fn new(
        repository: &Repository,
        shown: &Shown,
        owner: (u32, u32),
        open_to_others: bool,
        shutdown: &Shutdown,
    ) -> Result<Self, MountError> {
        let broken = Shutdown::new();
        let mut view = Self {
            repository: repository.clone(),
            shutdown: shutdown.clone(),
            single: None,
            catalog: Mutex::default(),
            known: Mutex::new(Known { documents: HashMap::new(), since: Instant::now() }),
            trees: Trees::new(repository.clone(), shutdown.clone()),
            contents: Contents::start(repository, &broken).map_err(MountError::Threads)?,
            broken,
            files: Mutex::new(Handles::new(FILES_MAX)),
            listings: Mutex::new(Handles::new(LISTINGS_MAX)),
            told: Mutex::default(),
            refused: Mutex::default(),
            owner,
            open_to_others,
        };
        match shown {
            Shown::All => view.list(&mut lock(&view.known))?,
            Shown::One(name, time) => {
                let number = lock(&view.catalog).single(name.clone(), *time);
                view.trees.tree(number, name)?;
                view.single = Some(number);
            }
        }
        Ok(view)
    }

    /// The request to end all of it, made when a thread has come to an end that nobody asked for: without it a part would never be
    /// answered again.
    pub(crate) fn broken(&self) -> &Shutdown {
        &self.broken
    }

    /// How many snapshots are shown, and of how many names.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let catalog = lock(&self.catalog);
        (catalog.count(), catalog.groups().len())
    }

    /// What is called `name` in a directory.
    pub(crate) fn lookup(&self, parent: u64, name: &[u8]) -> Result<Attr, Refusal> {
        let child = match self.inode(parent) {
            Inode::Root => {
                self.refresh();
                let group = lock(&self.catalog).groups().get(name).map(|group| group.number);
                Inode::Group(group.ok_or(Refusal::NotFound)?)
            }
            Inode::Group(number) => {
                self.refresh();
                let catalog = lock(&self.catalog);
                let group = catalog.group(number).ok_or(Refusal::NotFound)?;
                match group.snapshots.get(name) {
                    Some(snapshot) => Inode::Node { snapshot: *snapshot, node: table::ROOT },
                    None if name == LATEST && group.latest.is_some() => Inode::Latest(number),
                    None => return Err(Refusal::NotFound),
                }
            }
            Inode::Latest(_) => return Err(Refusal::NotADirectory),
            Inode::Node { snapshot, node } => {
                let tree = self.tree(snapshot)?;
                let child = tree.table.child(node, name).ok_or(Refusal::NotFound)?;
                return self.attr_of(&tree, snapshot, child);
            }
        };
        self.attr(child)
    }

    /// What is known of a file.
    pub(crate) fn attributes(&self, number: u64) -> Result<Attr, Refusal> {
        self.attr(self.inode(number))
    }

    /// Where a symbolic link points.
    pub(crate) fn target(&self, number: u64) -> Result<PathBytes, Refusal> {
        match self.inode(number) {
            Inode::Latest(group) => {
                let catalog = lock(&self.catalog);
                catalog.group(group).and_then(|group| group.latest.clone()).ok_or(Refusal::NotFound)
            }
            Inode::Node { snapshot, node } => {
                let tree = self.tree(snapshot)?;
                tree.table.target(node).map(<[u8]>::to_vec).ok_or(Refusal::Invalid)
            }
            Inode::Root | Inode::Group(_) => Err(Refusal::Invalid),
        }
    }

    /// An extended attribute of a file.
    pub(crate) fn xattr(&self, number: u64, name: &[u8]) -> Result<Vec<u8>, Refusal> {
        let Some((tree, node)) = self.entry(number)? else { return Err(Refusal::NoAttribute) };
        let found = tree.table.xattrs(node).iter().find(|xattr| xattr.name == name);
        found.map(|xattr| xattr.value.clone()).ok_or(Refusal::NoAttribute)
    }

    /// The names of a file's extended attributes, each ended by NUL.
    pub(crate) fn xattr_names(&self, number: u64) -> Result<Vec<u8>, Refusal> {
        let Some((tree, node)) = self.entry(number)? else { return Ok(Vec::new()) };
        let mut names = Vec::new();
        for xattr in tree.table.xattrs(node) {
            names.extend_from_slice(&xattr.name);
            names.push(0);
        }
        Ok(names)
    }

    /// Opens a directory, and says whether it never changes. The handle is for [`Self::list_directory`].
    pub(crate) fn open_directory(&self, number: u64) -> Result<(u64, bool), Refusal> {
        let listing: Listing = match self.inode(number) {
            Inode::Root => {
                self.refresh();
                let catalog = lock(&self.catalog);
                let groups = catalog.groups().iter().map(|(name, group)| {
                    (Inode::Group(group.number).number(), Tag::Directory, name.clone())
                });
                groups.collect()
            }
            Inode::Group(number) => {
                self.refresh();
                let catalog = lock(&self.catalog);
                let group = catalog.group(number).ok_or(Refusal::NotFound)?;
                let snapshots = group.snapshots.iter().map(|(name, snapshot)| {
                    let inode = Inode::Node { snapshot: *snapshot, node: table::ROOT };
                    (inode.number(), Tag::Directory, name.clone())
                });
                let latest = group
                    .latest
                    .as_ref()
                    .map(|_| (Inode::Latest(number).number(), Tag::Symlink, LATEST.to_vec()));
                snapshots.chain(latest).collect()
            }
            Inode::Latest(_) => return Err(Refusal::NotADirectory),
            Inode::Node { snapshot, node } => {
                let tree = self.tree(snapshot)?;
                let attributes = tree.table.attributes(node).ok_or(Refusal::NotFound)?;
                let is_directory = attributes.tag == Tag::Directory;
                return if is_directory { Ok((0, true)) } else { Err(Refusal::NotADirectory) };
            }
        };
        let handle = lock(&self.listings).add(listing).ok_or(Refusal::TooManyOpen)?;
        Ok((handle, false))
    }

    /// Hands what is in an open directory to `take`, with the offset behind it, from an offset on and until `take` is full.
    pub(crate) fn list_directory(
        &self,
        number: u64,
        handle: u64,
        offset: u64,
        mut take: impl FnMut(u64, u64, Tag, &[u8]) -> bool,
    ) -> Result<(), Refusal> {
        let dots = [(number, &b"."[..]), (self.parent(number)?, &b".."[..])];
        for (at, (number, name)) in (1..).zip(dots) {
            if at > offset && take(number, at, Tag::Directory, name) {
                return Ok(());
            }
        }
        let first = dots.len() as u64;
        let skipped = usize::try_from(offset.saturating_sub(first)).unwrap_or(usize::MAX);
        let from = (first + 1).saturating_add(skipped as u64);
        let Inode::Node { snapshot, node } = self.inode(number) else {
            let listing = lock(&self.listings).get(handle).ok_or(Refusal::NotOpen)?;
            for (at, (number, tag, name)) in (from..).zip(listing.iter().skip(skipped)) {
                if take(*number, at, *tag, name) {
                    break;
                }
            }
            return Ok(());
        };
        let tree = self.tree(snapshot)?;
        let children = tree.table.children(node).get(skipped..).unwrap_or_default();
        for (at, child) in (from..).zip(children) {
            let attributes = tree.table.attributes(*child).ok_or(Refusal::Unreadable)?;
            let number = self.number(Inode::Node { snapshot, node: attributes.node });
            if take(number, at, attributes.tag, tree.table.name(*child)) {
                break;
            }
        }
        Ok(())
    }

    /// Closes a directory.
    pub(crate) fn close_directory(&self, handle: u64) {
        lock(&self.listings).remove(handle);
    }

    /// Opens a file.
    pub(crate) fn open(&self, number: u64) -> Result<u64, Refusal> {
        let Inode::Node { snapshot, node } = self.inode(number) else {
            return Err(Refusal::IsADirectory);
        };
        let tree = self.tree(snapshot)?;
        let attributes = tree.table.attributes(node).ok_or(Refusal::NotFound)?;
        match attributes.tag {
            Tag::File => {}
            Tag::Directory => return Err(Refusal::IsADirectory),
            _ => return Err(Refusal::Invalid),
        }
        let Some(file) = OpenFile::new(&tree, snapshot, node, attributes.size) else {
            tracing::error!(
                "{} of {} is damaged: its pieces do not add up to its size",
                escaped_path(&tree.table.path(node)),
                tree.name.id.short()
            );
            return Err(Refusal::Unreadable);
        };
        lock(&self.files).add(file).ok_or(Refusal::TooManyOpen)
    }

    /// Reads from an open file: exactly so many bytes, or as many as there are up to its end.
    pub(crate) fn read(&self, handle: u64, offset: u64, bytes: u32) -> Result<Vec<u8>, Refusal> {
        let (file, tree) = self.file(handle)?;
        let end = offset.saturating_add(u64::from(bytes)).min(file.size);
        let wanted = usize::try_from(end.saturating_sub(offset)).unwrap_or(0);
        let mut content = Vec::with_capacity(wanted);
        if wanted == 0 {
            return Ok(content);
        }
        for part in file.parts(&tree, offset..end) {
            let length = usize::try_from(part.length).unwrap_or(0);
            let Some(Piece::Chunk(id, _)) = file.piece(&tree, part.piece) else {
                content.resize(content.len() + length, 0);
                continue;
            };
            let chunk = self.chunk(&tree, id);
            let told = |error| self.unreadable(&tree, file.node, part.at, id, &error);
            let chunk = chunk.map_err(told)?;
            let from = usize::try_from(part.from).unwrap_or(usize::MAX);
            let chunk = chunk.get(from..).and_then(|rest| rest.get(..length));
            content.extend_from_slice(chunk.unwrap_or_default());
        }
        // Fewer bytes would be the end of the file to the kernel.
        if content.len() < wanted {
            return Err(file.absent(&tree).map_or(Refusal::Unreadable, |(id, at)| {
                self.unreadable(&tree, file.node, at, id, &ReadError::Missing(id).into())
            }));
        }
        for id in file.ahead_of(&tree, offset..end) {
            self.contents.ask(&tree.index, id);
        }
        Ok(content)
    }

    /// Where data begins in an open file, at or behind `offset`.
    pub(crate) fn data(&self, handle: u64, offset: u64) -> Result<u64, Refusal> {
        let (file, tree) = self.file(handle)?;
        file.data(&tree, offset).ok_or(Refusal::BehindTheEnd)
    }

    /// Where a hole begins in an open file, at or behind `offset`; its end counts as one.
    pub(crate) fn hole(&self, handle: u64, offset: u64) -> Result<u64, Refusal> {
        let (file, tree) = self.file(handle)?;
        file.hole(&tree, offset).ok_or(Refusal::BehindTheEnd)
    }

    /// Closes a file.
    pub(crate) fn close(&self, handle: u64) {
        lock(&self.files).remove(handle);
    }

    /// An open file, with the entries of its snapshot.
    fn file(&self, handle: u64) -> Result<(Arc<OpenFile>, Arc<Tree>), Refusal> {
        let file = lock(&self.files).get(handle).ok_or(Refusal::NotOpen)?;
        let tree = self.tree(file.snapshot)?;
        if file.fits(&tree) {
            return Ok((file, tree));
        }
        let (id, at) = file.absent(&tree).ok_or(Refusal::Unreadable)?;
        Err(self.unreadable(&tree, file.node, at, id, &ReadError::Missing(id).into()))
    }

    fn inode(&self, number: u64) -> Inode {
        match (Inode::of(number), self.single) {
            (Inode::Root, Some(snapshot)) => Inode::Node { snapshot, node: table::ROOT },
            (inode, _) => inode,
        }
    }

    fn number(&self, inode: Inode) -> u64 {
        let is_root = |single| inode == Inode::Node { snapshot: single, node: table::ROOT };
        if self.single.is_some_and(is_root) { ROOT } else { inode.number() }
    }

    fn parent(&self, number: u64) -> Result<u64, Refusal> {
        let inode = match self.inode(number) {
            Inode::Root | Inode::Group(_) | Inode::Latest(_) => Inode::Root,
            Inode::Node { snapshot, node: table::ROOT } if self.single.is_none() => {
                let catalog = lock(&self.catalog);
                Inode::Group(catalog.snapshot(snapshot).ok_or(Refusal::NotFound)?.group)
            }
            Inode::Node { snapshot, node } => {
                let node = self.tree(snapshot)?.table.parent(node);
                Inode::Node { snapshot, node }
            }
        };
        Ok(self.number(inode))
    }

    /// Whether the directory of a snapshot is shown without its entries.
    fn is_outside(&self) -> bool {
        self.single.is_none() && !self.open_to_others
    }

    /// The entry of a snapshot that has this number; `None` for a directory above them.
    fn entry(&self, number: u64) -> Result<Option<(Arc<Tree>, u32)>, Refusal> {
        match self.inode(number) {
            // Looked at from outside, which is no reason to read the entries.
            Inode::Node { node: table::ROOT, .. } if self.is_outside() => Ok(None),
            Inode::Node { snapshot, node } => Ok(Some((self.tree(snapshot)?, node))),
            Inode::Root | Inode::Group(_) | Inode::Latest(_) => Ok(None),
        }
    }

    fn attr(&self, inode: Inode) -> Result<Attr, Refusal> {
        let time = match inode {
            Inode::Root => lock(&self.catalog).groups().values().map(|group| group.time).max(),
            Inode::Group(number) | Inode::Latest(number) => {
                Some(lock(&self.catalog).group(number).ok_or(Refusal::NotFound)?.time)
            }
            Inode::Node { snapshot, node: table::ROOT } if self.is_outside() => {
                Some(lock(&self.catalog).snapshot(snapshot).ok_or(Refusal::NotFound)?.time)
            }
            Inode::Node { snapshot, node } => {
                let tree = self.tree(snapshot)?;
                return self.attr_of(&tree, snapshot, node);
            }
        };
        let is_link = matches!(inode, Inode::Latest(_));
        let size = if is_link { self.target(inode.number())?.len() as u64 } else { 0 };
        let known = Attributes {
            node: table::ROOT,
            tag: if is_link { Tag::Symlink } else { Tag::Directory },
            mode: if is_link { 0o777 } else { MODE },
            uid: self.owner.0,
            gid: self.owner.1,
            size,
            data: size,
            mtime: time.map_or_else(Timestamp::default, instant),
            links: 1,
            device: (0, 0),
        };
        Ok(Attr { number: inode.number(), known, lasting: matches!(inode, Inode::Node { .. }) })
    }

    fn attr_of(&self, tree: &Tree, snapshot: u32, node: u32) -> Result<Attr, Refusal> {
        let known = tree.table.attributes(node).ok_or(Refusal::NotFound)?;
        let number = self.number(Inode::Node { snapshot, node: known.node });
        Ok(Attr { number, known, lasting: true })
    }

    fn tree(&self, snapshot: u32) -> Result<Arc<Tree>, Refusal> {
        let is_refused = |since: &Instant| since.elapsed() < REFUSED_FOR;
        if lock(&self.refused).get(&snapshot).is_some_and(is_refused) {
            return Err(Refusal::Unreadable);
        }
        let numbered = lock(&self.catalog).snapshot(snapshot).cloned().ok_or(Refusal::NotFound)?;
        self.trees.tree(snapshot, &numbered.name).map_err(|error| {
            if !self.shutdown.is_requested() {
                tracing::error!("cannot look into {}: {}", numbered.name.id.short(), chain(&error));
            }
            lock(&self.refused).insert(snapshot, Instant::now());
            Refusal::Unreadable
        })
    }

    /// A chunk, also where a prune has stored it anew since an index was read.
    fn chunk(&self, tree: &Tree, id: ChunkId) -> Result<Bytes, ContentError> {
        let mut index = Arc::clone(&tree.index);
        let mut outcome = self.contents.chunk(&index, id);
        for _ in 0..INDEXES_MAX {
            let is_elsewhere = matches!(&outcome, Err(ContentError::Read(error)) if is_gone(error));
            if !is_elsewhere {
                break;
            }
            let Some(newer) = self.trees.index_after(&index, &tree.name) else { break };
            index = newer;
            outcome = self.contents.chunk(&index, id);
        }
        if matches!(outcome, Err(ContentError::Ended)) {
            self.broken.request();
        }
        outcome
    }

    /// Says once of a chunk that it cannot be read.
    fn unreadable(
        &self,
        tree: &Tree,
        node: u32,
        at: u64,
        id: ChunkId,
        error: &ContentError,
    ) -> Refusal {
        let mut told = lock(&self.told);
        // Whoever ends the mount wants to end reads too.
        if !self.shutdown.is_requested() && told.len() < TOLD_MAX && told.insert(id) {
            tracing::error!(
                "{} of {} cannot be read at byte {at}, chunk {id}: {}",
                escaped_path(&tree.table.path(node)),
                tree.name.id.short(),
                chain(error)
            );
        }
        Refusal::Unreadable
    }

    /// Reads the list of snapshots again where it is old. One at a time: the others go by the old one meanwhile.
    fn refresh(&self) {
        let Ok(mut known) = self.known.try_lock() else { return };
        if self.single.is_some() || known.since.elapsed() < LIST_AGE_MAX {
            return;
        }
        if let Err(error) = self.list(&mut known)
            && !self.shutdown.is_requested()
        {
            tracing::warn!("the list of snapshots stays as it was: {}", chain(&error));
        }
        known.since = Instant::now();
    }

    fn list(&self, known: &mut Known) -> Result<(), RepositoryError> {
        let names = self.repository.snapshot_names()?;
        let listed: HashSet<_> = names.iter().collect();
        known.documents.retain(|name, _| listed.contains(name));
        // What was damaged may have been the store's mistake.
        let new =
            names.iter().filter(|name| known.documents.get(*name).is_none_or(Option::is_none));
        let new: Vec<_> = new.cloned().collect();
        for names in new.chunks(DOCUMENTS_AT_ONCE) {
            for (name, read) in self.repository.documents_of(names) {
                let document = match read {
                    Ok(snapshot) => Some(Listed {
                        name: name.clone(),
                        label: snapshot.name,
                        time: snapshot.time,
                        state: snapshot.state,
                    }),
                    // It was forgotten since the listing.
                    Err(RepositoryError::Store(error)) if error.kind() == ErrorKind::NotFound => {
                        continue;
                    }
                    Err(RepositoryError::Store(error)) if error.kind() != ErrorKind::Corrupt => {
                        return Err(error.into());
                    }
                    Err(error) => {
                        if !known.documents.contains_key(&name) {
                            tracing::warn!("{}", chain(&error));
                        }
                        None
                    }
                };
                known.documents.insert(name, document);
            }
        }
        let shown = known.documents.values().flatten().cloned().collect();
        lock(&self.catalog).show(shown, self.repository.key());
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
