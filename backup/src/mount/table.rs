//! The entries of one snapshot in memory: about 60 bytes and its name for each, and 4 bytes for each chunk of a file.
//!
//! What many entries have in common (kind, mode, owner, extended attributes) is stored once, chunks are numbers in the
//! [`Index`], and everything lies in a few long arrays. Entries have numbers in the order of the tree, so the same snapshot
//! always has the same ones.

use std::collections::{BTreeMap, HashMap};

use crate::chunk::ChunkId;
use crate::entry::{Entry, Extent, Kind, PathBytes, Timestamp, Xattr};
use crate::index::Index;

/// Longest name in bytes: what Linux takes (`NAME_MAX`), and what fits into the one byte for it.
const NAME_BYTES_MAX: usize = 255;

/// Mode of directories above a source: the snapshot does not know them.
const PARENT_MODE: u16 = 0o755;

/// Directories above the sources that are made up at the most: a crafted path could ask for half a million of them.
const MADE_UP_MAX: usize = 100_000;

/// Memory of one table in bytes: some 30 million entries.
const BYTES_MAX: usize = 2 << 30;

/// The directory in which a snapshot's paths begin.
pub(crate) const ROOT: u32 = 0;

/// A snapshot that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// More memory than one may take.
    #[error("its entries take more than {} MiB of memory", BYTES_MAX >> 20)]
    TooLarge,
    /// So many are above no honest source.
    #[error("it has more than {MADE_UP_MAX} directories above its sources")]
    MadeUp,
}

/// What something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Tag {
    Directory,
    File,
    Symlink,
    Fifo,
    Socket,
    CharDevice,
    BlockDevice,
}

impl From<&Kind> for Tag {
    fn from(kind: &Kind) -> Self {
        match kind {
            Kind::Directory => Self::Directory,
            Kind::File(_) => Self::File,
            Kind::Symlink(_) => Self::Symlink,
            Kind::Fifo => Self::Fifo,
            Kind::Socket => Self::Socket,
            Kind::CharDevice(..) => Self::CharDevice,
            Kind::BlockDevice(..) => Self::BlockDevice,
        }
    }
}

/// What many entries have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Look {
    tag: Tag,
    mode: u16,
    uid: u32,
    gid: u32,
    xattrs: Box<[Xattr]>,
}

impl Look {
    fn memory(&self) -> usize {
        let xattrs = self.xattrs.iter();
        let xattrs = xattrs.map(|x| size_of::<Xattr>() + x.name.len() + x.value.len());
        size_of::<Self>() + xattrs.sum::<usize>()
    }
}

/// One entry.
#[derive(Clone, Copy, Debug)]
struct Node {
    /// Where its name is in `texts`: a byte with the length, then the name.
    name: u32,
    parent: u32,
    /// Number of its look.
    look: u32,
    /// Of a directory its part of `children`, of a file that of `items`, of a link that of `texts`; of a device major and minor.
    from: u32,
    count: u32,
    nanos: u32,
    seconds: i64,
    size: u64,
}

/// A piece of a file: the number of a chunk in the index, of a hole or of an absent chunk.
#[derive(Clone, Copy, Debug)]
struct Item(u32);

impl Item {
    const HOLE: u32 = 1 << 31;
    const ABSENT: u32 = 1 << 30;

    fn new(tag: u32, number: usize) -> Result<Self, TableError> {
        let number = u32::try_from(number).ok().filter(|number| *number < Self::ABSENT);
        number.map(|number| Self(tag | number)).ok_or(TableError::TooLarge)
    }
}

/// A piece of a file's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A chunk and its length in bytes.
    Chunk(ChunkId, u64),
    /// So many bytes that read as zero.
    Hole(u64),
    /// A chunk that no index knows, so that its length is not known either.
    Absent(ChunkId),
}

/// What is known of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// Its number; of several names of one file that of the first.
    pub(crate) node: u32,
    pub(crate) tag: Tag,
    /// Permission bits.
    pub(crate) mode: u16,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Length in bytes, holes included; of a link that of its target.
    pub(crate) size: u64,
    /// Length in bytes without holes.
    pub(crate) data: u64,
    pub(crate) mtime: Timestamp,
    /// How many names it has in the snapshot.
    pub(crate) links: u32,
    /// Of a device: major and minor.
    pub(crate) device: (u32, u32),
}

/// All entries of a snapshot.
#[derive(Debug, Default)]
pub(crate) struct Table {
    nodes: Vec<Node>,
    looks: Vec<Look>,
    texts: Vec<u8>,
    /// For each directory what is in it, sorted by name.
    children: Vec<u32>,
    items: Vec<Item>,
    holes: Vec<u64>,
    absent: Vec<ChunkId>,
    /// Files with holes, and how many bytes of them these are.
    sparse: Vec<(u32, u64)>,
    /// Further names of files, and the first name of each.
    further: Vec<(u32, u32)>,
    /// Files with several names, and how many.
    links: Vec<(u32, u32)>,
}

impl Table {
    /// What is called `name` in a directory.
    pub(crate) fn child(&self, directory: u32, name: &[u8]) -> Option<u32> {
        let children = self.children(directory);
        let found = children.binary_search_by(|child| self.name(*child).cmp(name)).ok()?;
        children.get(found).copied()
    }

    /// What is in a directory, sorted by name; nothing is in anything else.
    pub(crate) fn children(&self, directory: u32) -> &[u32] {
        match self.node(directory) {
            Some(node) if self.tag(node) == Some(Tag::Directory) => {
                slice(&self.children, node.from, node.count)
            }
            _ => &[],
        }
    }

    /// The name of an entry in its directory.
    pub(crate) fn name(&self, number: u32) -> &[u8] {
        let Some(node) = self.node(number) else { return &[] };
        let from = self.texts.get(node.name as usize..).unwrap_or_default();
        from.split_first()
            .and_then(|(length, rest)| rest.get(..usize::from(*length)))
            .unwrap_or(&[])
    }

    /// The directory that an entry is in; the root is in itself.
    pub(crate) fn parent(&self, number: u32) -> u32 {
        self.node(number).map_or(ROOT, |node| node.parent)
    }

    /// The path of an entry, without its leading `/`.
    pub(crate) fn path(&self, number: u32) -> PathBytes {
        let mut names = Vec::new();
        let mut at = number;
        while at != ROOT && self.node(at).is_some() {
            names.push(self.name(at));
            at = self.parent(at);
        }
        names.reverse();
        names.join(&b'/')
    }

    /// What is at a path without its leading `/`.
    pub(crate) fn at(&self, path: &[u8]) -> Option<u32> {
        let mut names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
        names.try_fold(ROOT, |directory, name| self.child(directory, name))
    }

    /// What is known of an entry.
    pub(crate) fn attributes(&self, number: u32) -> Option<Attributes> {
        let number = self.first_name(number);
        let node = self.node(number)?;
        let look = self.looks.get(node.look as usize)?;
        let holes = value_of(&self.sparse, number).unwrap_or(0);
        let is_device = matches!(look.tag, Tag::CharDevice | Tag::BlockDevice);
        Some(Attributes {
            node: number,
            tag: look.tag,
            mode: look.mode,
            uid: look.uid,
            gid: look.gid,
            size: node.size,
            data: node.size.saturating_sub(holes),
            mtime: Timestamp { seconds: node.seconds, nanos: node.nanos },
            links: value_of(&self.links, number).unwrap_or(1),
            device: if is_device { (node.from, node.count) } else { (0, 0) },
        })
    }

    /// The extended attributes of an entry, sorted by name.
    pub(crate) fn xattrs(&self, number: u32) -> &[Xattr] {
        let look = self.node(self.first_name(number)).map(|node| node.look as usize);
        look.and_then(|look| self.looks.get(look)).map_or(&[], |look| &look.xattrs)
    }

    /// Where a symbolic link points.
    pub(crate) fn target(&self, number: u32) -> Option<&[u8]> {
        let node = self.node(self.first_name(number))?;
        let is_link = self.tag(node) == Some(Tag::Symlink);
        is_link.then(|| slice(&self.texts, node.from, node.count))
    }

    /// How many pieces a file has.
    pub(crate) fn piece_count(&self, number: u32) -> usize {
        self.items(number).len()
    }

    /// A piece of a file; `index` is the one that the table was made by.
    pub(crate) fn piece(&self, index: &Index, number: u32, piece: usize) -> Option<Piece> {
        let Item(item) = *self.items(number).get(piece)?;
        if item & Item::HOLE != 0 {
            return self.holes.get((item & !Item::HOLE) as usize).copied().map(Piece::Hole);
        }
        if item & Item::ABSENT != 0 {
            return self.absent.get((item & !Item::ABSENT) as usize).copied().map(Piece::Absent);
        }
        let (id, place) = index.chunks().get(item as usize)?;
        Some(Piece::Chunk(*id, u64::from(place.length)))
    }

    /// How much memory it takes, about, in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let looks = self.looks.iter().map(Look::memory);
        let arrays = [
            self.nodes.capacity() * size_of::<Node>(),
            looks.sum(),
            self.texts.capacity(),
            self.children.capacity() * size_of::<u32>(),
            self.items.capacity() * size_of::<Item>(),
            self.holes.capacity() * size_of::<u64>(),
            self.absent.capacity() * size_of::<ChunkId>(),
            self.sparse.capacity() * size_of::<(u32, u64)>(),
            (self.further.capacity() + self.links.capacity()) * size_of::<(u32, u32)>(),
        ];
        arrays.into_iter().sum::<usize>() as u64
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    fn tag(&self, node: &Node) -> Option<Tag> {
        self.looks.get(node.look as usize).map(|look| look.tag)
    }

    fn first_name(&self, number: u32) -> u32 {
        value_of(&self.further, number).unwrap_or(number)
    }

    fn items(&self, number: u32) -> &[Item] {
        match self.node(self.first_name(number)) {
            Some(node) if self.tag(node) == Some(Tag::File) => {
                slice(&self.items, node.from, node.count)
            }
            _ => &[],
        }
    }
}

/// What a sorted list has for an entry.
fn value_of<T: Copy>(list: &[(u32, T)], number: u32) -> Option<T> {
    let found = list.binary_search_by_key(&number, |(entry, _)| *entry).ok()?;
    list.get(found).map(|(_, value)| *value)
}

fn slice<T>(all: &[T], from: u32, count: u32) -> &[T] {
    all.get(from as usize..).and_then(|rest| rest.get(..count as usize)).unwrap_or(&[])
}

fn number_of(length: usize) -> Result<u32, TableError> {
    u32::try_from(length).map_err(|_| TableError::TooLarge)
}

/// Makes a table of entries that come in tree order.
#[derive(Debug)]
pub(crate) struct TableBuilder<'a> {
    table: Table,
    index: &'a Index,
    numbers: HashMap<Look, u32>,
    /// The directories above what comes next, from the root.
    open: Vec<u32>,
    /// Further names of files, with the path of the first.
    linked: Vec<(u32, PathBytes)>,
    /// Directories that the snapshot does not know.
    made_up: usize,
    /// Memory of what has a length of its own, in bytes.
    loose_bytes: usize,
    time: Timestamp,
}

impl<'a> TableBuilder<'a> {
    /// An empty one. Directories above the sources get `time`.
    pub(crate) fn new(index: &'a Index, time: Timestamp) -> Result<Self, TableError> {
        let mut builder = Self {
            table: Table::default(),
            index,
            numbers: HashMap::new(),
            open: vec![ROOT],
            linked: Vec::new(),
            made_up: 0,
            loose_bytes: 0,
            time,
        };
        builder.push_parent(ROOT, b"")?;
        Ok(builder)
    }

    /// Adds the next entry. One with a name that no file system takes is left out: false.
    pub(crate) fn add(&mut self, entry: &Entry) -> Result<bool, TableError> {
        if entry.path.split(|byte| *byte == b'/').any(|name| name.len() > NAME_BYTES_MAX) {
            return Ok(false);
        }
        let table = &self.table;
        let bytes = table.nodes.len() * (size_of::<Node>() + size_of::<u32>())
            + table.texts.len()
            + table.items.len() * size_of::<Item>()
            + table.holes.len() * size_of::<u64>()
            + self.loose_bytes;
        if bytes > BYTES_MAX {
            return Err(TableError::TooLarge);
        }
        if entry.path.is_empty() {
            // What is known of the root takes the place of what was made up.
            let known = self.node_of(ROOT, ROOT, entry)?;
            if let (Some(root), Kind::Directory) = (self.table.nodes.first_mut(), &entry.kind) {
                *root = Node { name: root.name, ..known };
            }
            return Ok(true);
        }
        let mut depth = 1;
        let mut names = entry.path.split(|byte| *byte == b'/').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() {
                self.add_named(depth, name, entry)?;
                break;
            }
            let is_open = self.open.get(depth).is_some_and(|open| self.table.name(*open) == name);
            if !is_open {
                self.open.truncate(depth);
                let parent = self.open.last().copied().unwrap_or(ROOT);
                let made = self.push_parent(parent, name)?;
                self.open.push(made);
            }
            depth += 1;
        }
        Ok(true)
    }

    fn add_named(&mut self, depth: usize, name: &[u8], entry: &Entry) -> Result<(), TableError> {
        self.open.truncate(depth);
        let parent = self.open.last().copied().unwrap_or(ROOT);
        let text = self.push_name(name)?;
        let node = self.node_of(text, parent, entry)?;
        let number = self.push(node)?;
        if entry.kind == Kind::Directory {
            self.open.push(number);
        }
        if let Kind::File(content) = &entry.kind {
            let holes = content.extents.iter().map(|extent| match extent {
                Extent::Hole(length) => *length,
                Extent::Chunk(_) => 0,
            });
            let holes = holes.fold(0, u64::saturating_add);
            if holes > 0 {
                self.table.sparse.push((number, holes));
            }
        }
        if let Some(first) = &entry.hardlink_of {
            self.loose_bytes += first.len() + size_of::<(u32, PathBytes)>();
            self.linked.push((number, first.clone()));
        }
        Ok(())
    }

    /// The table of all that was added.
    pub(crate) fn finish(mut self) -> Result<Table, TableError> {
        self.gather_children()?;
        let mut names = BTreeMap::new();
        let table = &mut self.table;
        for (number, path) in self.linked {
            let Some(first) = table.at(&path).map(|first| table.first_name(first)) else {
                continue;
            };
            let tag = |number| table.node(number).and_then(|node| table.tag(node));
            if first < number && tag(first) == tag(number) {
                table.further.push((number, first));
                *names.entry(first).or_insert(1_u32) += 1;
            }
        }
        table.links = names.into_iter().collect();
        table.nodes.shrink_to_fit();
        table.texts.shrink_to_fit();
        table.items.shrink_to_fit();
        table.holes.shrink_to_fit();
        Ok(self.table)
    }

    /// Numbers rise in the order of the tree, so those of one directory are in the order of their names.
    fn gather_children(&mut self) -> Result<(), TableError> {
        let table = &mut self.table;
        let mut counts = vec![0_u32; table.nodes.len()];
        for node in table.nodes.iter().skip(1) {
            if let Some(count) = counts.get_mut(node.parent as usize) {
                *count += 1;
            }
        }
        let mut from = 0_u32;
        for (number, count) in counts.iter_mut().enumerate() {
            let is_directory = |node: &Node| {
                table.looks.get(node.look as usize).is_some_and(|look| look.tag == Tag::Directory)
            };
            if let Some(node) = table.nodes.get_mut(number).filter(|node| is_directory(node)) {
                node.from = from;
                node.count = *count;
            }
            let next = from.checked_add(*count).ok_or(TableError::TooLarge)?;
            // From here on: where the next child of this one goes.
            *count = from;
            from = next;
        }
        table.children = vec![0; from as usize];
        for (number, node) in table.nodes.iter().enumerate().skip(1) {
            let Some(place) = counts.get_mut(node.parent as usize) else { continue };
            if let Some(child) = table.children.get_mut(*place as usize) {
                *child = number_of(number)?;
            }
            *place += 1;
        }
        Ok(())
    }

    /// A directory that the snapshot does not know.
    fn push_parent(&mut self, parent: u32, name: &[u8]) -> Result<u32, TableError> {
        self.made_up += 1;
        if self.made_up > MADE_UP_MAX {
            return Err(TableError::MadeUp);
        }
        let look = self.look(Look {
            tag: Tag::Directory,
            mode: PARENT_MODE,
            uid: 0,
            gid: 0,
            xattrs: Box::default(),
        })?;
        let name = self.push_name(name)?;
        let Timestamp { seconds, nanos } = self.time;
        self.push(Node { name, parent, look, from: 0, count: 0, nanos, seconds, size: 0 })
    }

    fn push(&mut self, node: Node) -> Result<u32, TableError> {
        let number = number_of(self.table.nodes.len())?;
        self.table.nodes.push(node);
        Ok(number)
    }

    fn push_name(&mut self, name: &[u8]) -> Result<u32, TableError> {
        let at = number_of(self.table.texts.len())?;
        // Longer ones are left out before.
        self.table.texts.push(u8::try_from(name.len()).map_err(|_| TableError::TooLarge)?);
        self.table.texts.extend_from_slice(name);
        Ok(at)
    }

    fn node_of(&mut self, name: u32, parent: u32, entry: &Entry) -> Result<Node, TableError> {
        let look = self.look(Look {
            tag: Tag::from(&entry.kind),
            // Of a mode an entry has these bits only.
            mode: u16::try_from(entry.mode & 0o7777).unwrap_or(0),
            uid: entry.uid,
            gid: entry.gid,
            xattrs: entry.xattrs.as_slice().into(),
        })?;
        let (from, count, size) = match &entry.kind {
            Kind::File(content) => {
                let from = number_of(self.table.items.len())?;
                for extent in &content.extents {
                    let item = self.item(extent)?;
                    self.table.items.push(item);
                }
                (from, number_of(content.extents.len())?, content.size)
            }
            Kind::Symlink(target) => {
                let from = number_of(self.table.texts.len())?;
                self.table.texts.extend_from_slice(target);
                (from, number_of(target.len())?, target.len() as u64)
            }
            Kind::CharDevice(major, minor) | Kind::BlockDevice(major, minor) => (*major, *minor, 0),
            Kind::Directory | Kind::Fifo | Kind::Socket => (0, 0, 0),
        };
        let Timestamp { seconds, nanos } = entry.mtime;
        Ok(Node { name, parent, look, from, count, nanos, seconds, size })
    }

    fn item(&mut self, extent: &Extent) -> Result<Item, TableError> {
        let table = &mut self.table;
        match extent {
            Extent::Hole(length) => {
                table.holes.push(*length);
                Item::new(Item::HOLE, table.holes.len() - 1)
            }
            Extent::Chunk(id) => match self.index.position(id) {
                Some(position) => Item::new(0, position),
                None => {
                    table.absent.push(*id);
                    Item::new(Item::ABSENT, table.absent.len() - 1)
                }
            },
        }
    }

    fn look(&mut self, look: Look) -> Result<u32, TableError> {
        if let Some(number) = self.numbers.get(&look) {
            return Ok(*number);
        }
        let number = number_of(self.table.looks.len())?;
        // Twice, here and in the table.
        self.loose_bytes += 2 * look.memory();
        self.table.looks.push(look.clone());
        self.numbers.insert(look, number);
        Ok(number)
    }
}

#[cfg(test)]
mod tests;
