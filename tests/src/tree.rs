//! A directory tree read into memory by a walker that shares nothing with the sidecars.
//!
//! Descent is by directory descriptors, one name at a time, so trees deeper than `PATH_MAX` are read like
//! any other, and no symbolic link is ever followed.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, SeekFrom, Statx, StatxFlags};
use rustix::io::Errno;

/// Buffer for reading content (bytes).
const READ_BYTES: usize = 1 << 20;

/// The largest attribute value and attribute list Linux allows (bytes; xattr(7), "Limits").
const XATTR_BYTES_MAX: usize = 64 * 1024;

/// One path with everything the file system tells about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What it is, with what only that kind has.
    pub kind: Kind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes by name.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The smallest path of the tree with the same inode, when the inode has several names in the tree.
    pub same_as: Option<Vec<u8>>,
}

/// What a path is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A regular file.
    File(Content),
    /// A symbolic link and its target.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A character device: major, minor.
    CharDevice(u32, u32),
    /// A block device: major, minor.
    BlockDevice(u32, u32),
}

/// The content of a regular file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Length in bytes.
    pub size: u64,
    /// BLAKE3 over the stretches that are not zero: `(offset, length, bytes)` of each run of 4 KiB
    /// pieces with any other byte than zero. Equal for equal content, however holes lie in it, and quick
    /// for files that are holes almost everywhere.
    pub digest: blake3::Hash,
    /// Bytes on disk: less than `size` when there are holes.
    pub allocated: u64,
}

/// A tree: relative paths (empty for its root) and what is there.
pub type Tree = BTreeMap<Vec<u8>, Node>;

/// Reads the tree at `root`, which may be of any kind.
///
/// # Panics
/// When something cannot be read; the message names it.
#[must_use]
pub fn read(root: &Path) -> Tree {
    let mut reader =
        Reader { tree: Tree::new(), first_names: BTreeMap::new(), inodes: BTreeMap::new() };
    let parent = root.parent().filter(|parent| !parent.as_os_str().is_empty());
    // The last component is opened from its parent, so that a root that is a symbolic link stays one.
    let (directory, name) = match (parent, root.file_name()) {
        (Some(parent), Some(name)) => (open_directory(CWD, parent.as_os_str()), name.to_owned()),
        _ => (open_directory(CWD, root.as_os_str()), OsStr::new(".").to_owned()),
    };
    let directory =
        directory.unwrap_or_else(|error| panic!("cannot open {}: {error}", root.display()));
    reader.read(directory.as_fd(), name.as_bytes(), b"");
    reader.finish()
}

/// The tree as text, one line per path: what a golden repository must restore to. Allocation is left out,
/// because it is the file system's.
#[must_use]
pub fn manifest(tree: &Tree) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (path, node) in tree {
        let kind = match &node.kind {
            Kind::Directory => "directory".to_owned(),
            Kind::File(content) => format!("file {} {}", content.size, content.digest),
            Kind::Symlink(target) => format!("symlink {}", target.escape_ascii()),
            Kind::Fifo => "fifo".to_owned(),
            Kind::Socket => "socket".to_owned(),
            Kind::CharDevice(major, minor) => format!("char {major} {minor}"),
            Kind::BlockDevice(major, minor) => format!("block {major} {minor}"),
        };
        let (seconds, nanos) = node.mtime;
        write!(
            text,
            "\"{}\" {kind} {:04o} {}:{} {seconds}+{nanos:09}",
            path.escape_ascii(),
            node.mode,
            node.uid,
            node.gid
        )
        .expect("text in memory");
        if let Some(first) = &node.same_as {
            write!(text, " same-as=\"{}\"", first.escape_ascii()).expect("text in memory");
        }
        for (name, value) in &node.xattrs {
            write!(text, " \"{}\"=\"{}\"", name.escape_ascii(), value.escape_ascii())
                .expect("text in memory");
        }
        text.push('\n');
    }
    text
}

/// The part of a tree at and below a path, with paths relative to it.
#[must_use]
pub fn subtree(tree: &Tree, at: &[u8]) -> Tree {
    let inside = |path: &[u8]| -> Option<Vec<u8>> {
        match path.strip_prefix(at)? {
            [] => Some(Vec::new()),
            [b'/', rest @ ..] => Some(rest.to_vec()),
            rest if at.is_empty() => Some(rest.to_vec()),
            _ => None,
        }
    };
    let relative =
        |node: &Node| Node { same_as: node.same_as.as_deref().and_then(inside), ..node.clone() };
    tree.iter().filter_map(|(path, node)| Some((inside(path)?, relative(node)))).collect()
}

struct Reader {
    tree: Tree,
    /// Smallest path of each inode with more than one link.
    first_names: BTreeMap<(u32, u32, u64), Vec<u8>>,
    /// Inode of each such path.
    inodes: BTreeMap<Vec<u8>, (u32, u32, u64)>,
}

impl Reader {
    fn read(&mut self, parent: BorrowedFd<'_>, name: &[u8], path: &[u8]) {
        let node = read_node(parent, name)
            .unwrap_or_else(|error| panic!("cannot read {}: {error}", shown(path)));
        let (node, stat) = node;
        if stat.stx_nlink > 1 && node.kind != Kind::Directory {
            let inode = (stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino);
            let first = self.first_names.entry(inode).or_insert_with(|| path.to_vec());
            if path < first.as_slice() {
                *first = path.to_vec();
            }
            self.inodes.insert(path.to_vec(), inode);
        }
        let is_directory = node.kind == Kind::Directory;
        self.tree.insert(path.to_vec(), node);
        if !is_directory {
            return;
        }
        let directory = open_directory(parent, OsStr::from_bytes(name))
            .unwrap_or_else(|error| panic!("cannot open {}: {error}", shown(path)));
        for name in names(directory.as_fd())
            .unwrap_or_else(|error| panic!("cannot list {}: {error}", shown(path)))
        {
            let mut child = path.to_vec();
            if !child.is_empty() {
                child.push(b'/');
            }
            child.extend_from_slice(&name);
            self.read(directory.as_fd(), &name, &child);
        }
    }

    fn finish(mut self) -> Tree {
        let mut links_in_tree: BTreeMap<(u32, u32, u64), u32> = BTreeMap::new();
        for inode in self.inodes.values() {
            *links_in_tree.entry(*inode).or_default() += 1;
        }
        for (path, inode) in &self.inodes {
            if let (Some(node), Some(2..)) = (self.tree.get_mut(path), links_in_tree.get(inode)) {
                node.same_as = self.first_names.get(inode).cloned();
            }
        }
        self.tree
    }
}

fn read_node(parent: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<(Node, Statx)> {
    let stat = rustix::fs::statx(parent, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
    let device = (stat.stx_rdev_major, stat.stx_rdev_minor);
    let kind = match FileType::from_raw_mode(u32::from(stat.stx_mode)) {
        FileType::Directory => Kind::Directory,
        FileType::RegularFile => Kind::File(read_content(parent, name, &stat)?),
        FileType::Symlink => {
            Kind::Symlink(rustix::fs::readlinkat(parent, name, Vec::new())?.into_bytes())
        }
        FileType::Fifo => Kind::Fifo,
        FileType::Socket => Kind::Socket,
        FileType::CharacterDevice => Kind::CharDevice(device.0, device.1),
        FileType::BlockDevice => Kind::BlockDevice(device.0, device.1),
        FileType::Unknown => return Err(Errno::NOTSUP),
    };
    let node = Node {
        kind,
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        mtime: (stat.stx_mtime.tv_sec, stat.stx_mtime.tv_nsec),
        xattrs: read_xattrs(parent, name)?,
        same_as: None,
    };
    Ok((node, stat))
}

fn read_content(parent: BorrowedFd<'_>, name: &[u8], stat: &Statx) -> rustix::io::Result<Content> {
    const PIECE_BYTES: usize = 4096;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NOATIME;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty()).or_else(|_| {
        // O_NOATIME is the owner's alone.
        rustix::fs::openat(parent, name, flags - OFlags::NOATIME, Mode::empty())
    })?;
    let file = File::from(opened);
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; READ_BYTES];
    let size = stat.stx_size;
    let mut offset = 0;
    while offset < size {
        // Past the last data the rest is one hole.
        match rustix::fs::seek(&file, SeekFrom::Data(offset)) {
            Ok(data) => offset = data - data % PIECE_BYTES as u64,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        }
        let end = rustix::fs::seek(&file, SeekFrom::Hole(offset)).unwrap_or(size).min(size);
        while offset < end {
            let wanted = usize::try_from(end - offset).unwrap_or(READ_BYTES).min(READ_BYTES);
            let wanted = buffer.get_mut(..wanted).ok_or(Errno::OVERFLOW)?;
            let length = file
                .read_at(wanted, offset)
                .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
            if length == 0 {
                return Err(Errno::IO);
            }
            for (index, piece) in
                wanted.get(..length).unwrap_or_default().chunks(PIECE_BYTES).enumerate()
            {
                if piece.iter().any(|byte| *byte != 0) {
                    let at = offset + (index * PIECE_BYTES) as u64;
                    hasher.update(&at.to_le_bytes()).update(&(piece.len() as u64).to_le_bytes());
                    hasher.update(piece);
                }
            }
            offset += length as u64;
        }
    }
    Ok(Content { size, digest: hasher.finalize(), allocated: stat.stx_blocks * 512 })
}

/// Attributes by path through `/proc/self/fd`, because there is no `lgetxattrat` before Linux 6.13.
fn read_xattrs(
    parent: BorrowedFd<'_>,
    name: &[u8],
) -> rustix::io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let path = path_in(parent, name);
    let mut list = vec![0; XATTR_BYTES_MAX];
    let length = match rustix::fs::llistxattr(path.as_c_str(), list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let mut attributes = BTreeMap::new();
    let names = list.get(..length).unwrap_or_default().split(|byte| *byte == 0);
    for attribute in names.filter(|attribute| !attribute.is_empty()) {
        let mut value = vec![0; XATTR_BYTES_MAX];
        match rustix::fs::lgetxattr(path.as_c_str(), attribute, value.as_mut_slice()) {
            Ok(length) => {
                value.truncate(length);
                attributes.insert(attribute.to_vec(), value);
            }
            // Listed, but not for this process to read.
            Err(Errno::NODATA) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(attributes)
}

/// A path that names `name` in the open directory `parent`, however deep that lies.
#[must_use]
pub fn path_in(parent: BorrowedFd<'_>, name: &[u8]) -> CString {
    let mut path = format!("/proc/self/fd/{}/", parent.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    CString::new(path).expect("names hold no NUL")
}

/// Opens a directory without following a symbolic link in its last component.
///
/// # Errors
/// What openat(2) says.
pub fn open_directory(parent: impl AsFd, name: &OsStr) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn names(directory: BorrowedFd<'_>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// A path as people read it, foreign bytes escaped.
#[must_use]
pub fn shown(path: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 200;
    let cut = path.get(..SHOWN_BYTES_MAX).unwrap_or(path);
    let more = if cut.len() < path.len() { "…" } else { "" };
    format!("\"{}{more}\"", cut.escape_ascii())
}

#[cfg(test)]
mod tests;
