//! What the last run saw of a source, so that the next one need not read what has not changed.
//!
//! Disposable: without it a run reads everything and stores nothing twice. A record holds a path's stat
//! and its finished tree lines; a path whose size, times and inode are the same gets the same lines. The
//! file is a row of blocks, each with its length and BLAKE3 hash, and is read as a stream: a damaged block
//! ends the cache, it never becomes a backup. That of an encrypted repository has paths in it which the place where it lies
//! need not know, so its blocks are encrypted.

use std::fs::{File, TryLockError};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use crate::chunk::{ChunkId, ID_BYTES};
use crate::entry::{Timestamp, tree_order};
use crate::keys::index_key::{CACHE_SEAL_BYTES, CacheKey};
use crate::pack::{take_u32, u32_of};
use crate::walk::{FileType, Stat};

const MAGIC: &[u8; 8] = b"CHORESCA";
const VERSION: u32 = 1;
/// Of a file whose blocks are encrypted.
const VERSION_SEALED: u32 = 2;
const HASH_BYTES: usize = 32;

/// A block is written when it has at least this many bytes; a longer record is a block of its own.
const BLOCK_TARGET_BYTES: usize = 256 << 10;

/// Longest block a reader accepts, in bytes: the record of a file of about 1.5 TB. A larger file is read
/// again each time.
const BLOCK_BYTES_MAX: usize = 1 << 30;

/// Files changed this short before the run began, in seconds, may change again within one tick of their
/// file system's clock: they are read again next time (the rule git calls "racy").
pub const RACY_SECONDS: i64 = 2;

/// Size and times and identity: what has to be equal for a path to count as unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    size: u64,
    mtime: Timestamp,
    ctime: Timestamp,
    inode: u64,
    kind: u8,
}

impl Identity {
    fn of(stat: &Stat) -> Self {
        let kind = match stat.kind {
            FileType::Directory => 0,
            FileType::File => 1,
            FileType::Symlink => 2,
            FileType::Fifo => 3,
            FileType::Socket => 4,
            FileType::CharDevice => 5,
            FileType::BlockDevice => 6,
            FileType::Unknown => 7,
        };
        // A directory's size is an artefact of its file system.
        let size = if stat.kind == FileType::Directory { 0 } else { stat.size };
        Self { size, mtime: stat.mtime, ctime: stat.ctime, inode: stat.inode, kind }
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.kind);
        out.extend_from_slice(&self.size.to_le_bytes());
        for time in [self.mtime, self.ctime] {
            out.extend_from_slice(&time.seconds.to_le_bytes());
            out.extend_from_slice(&time.nanos.to_le_bytes());
        }
        out.extend_from_slice(&self.inode.to_le_bytes());
    }
}

/// In the place of the kind: a path that no stat is equal to, since it may have changed unseen, or could not be read well. The next
/// run reads it again; the record tells which chunks it had, and for how long they had stayed.
const READ_AGAIN: u8 = 0xFF;

/// Where an [`Identity`] has the seconds of its times.
const MTIME_AT: usize = 1 + 8;
const CTIME_AT: usize = MTIME_AT + 12;

/// Bytes of an [`Identity`].
const IDENTITY_BYTES: usize = 1 + 8 + 12 + 12 + 8;

/// One path as the last run stored it. Borrowed from the reader's block.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    identity: &'a [u8],
    path: &'a [u8],
    ids: &'a [u8],
    lines: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Record<'a> {
    /// Splits the first record off `bytes`.
    #[must_use]
    pub fn split(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (identity, rest) = bytes.split_at_checked(IDENTITY_BYTES)?;
        let (path_bytes, rest) = take_u32(rest)?;
        let (id_count, rest) = take_u32(rest)?;
        let (lines_bytes, rest) = take_u32(rest)?;
        let (path, rest) = rest.split_at_checked(path_bytes as usize)?;
        let (ids, rest) = rest.split_at_checked((id_count as usize).checked_mul(ID_BYTES)?)?;
        let (lines, rest) = rest.split_at_checked(lines_bytes as usize)?;
        let raw = bytes.get(..bytes.len() - rest.len())?;
        Some((Self { identity, path, ids, lines, raw }, rest))
    }

    /// The path, without the leading `/`.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.path
    }

    /// The chunks of its content.
    pub fn ids(&self) -> impl Iterator<Item = ChunkId> + use<'a> {
        self.ids.as_chunks::<ID_BYTES>().0.iter().map(|id| ChunkId(*id))
    }

    /// Its tree lines, each with its newline.
    #[must_use]
    pub fn lines(&self) -> &'a [u8] {
        self.lines
    }

    /// What kind of thing the path is.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        match self.identity.first() {
            Some(0) => FileType::Directory,
            Some(1) => FileType::File,
            Some(2) => FileType::Symlink,
            Some(3) => FileType::Fifo,
            Some(4) => FileType::Socket,
            Some(5) => FileType::CharDevice,
            Some(6) => FileType::BlockDevice,
            _ => FileType::Unknown,
        }
    }

    /// Whether the path is read again in any case: what it is now is not known.
    #[must_use]
    pub fn is_read_again(&self) -> bool {
        self.identity.first() == Some(&READ_AGAIN)
    }

    /// Whether it changed at or after this second.
    fn is_racy(&self, from: i64) -> bool {
        let seconds = |at: usize| {
            let bytes = self.identity.get(at..).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(i64::MAX, |seconds| i64::from_le_bytes(*seconds))
        };
        seconds(MTIME_AT) >= from || seconds(CTIME_AT) >= from
    }

    /// When its content was last changed, in seconds.
    #[must_use]
    pub fn modified(&self) -> i64 {
        let seconds = self.identity.get(MTIME_AT..).and_then(|bytes| bytes.first_chunk());
        seconds.map_or(i64::MIN, |seconds| i64::from_le_bytes(*seconds))
    }

    /// Length of the file in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        let size = self.identity.get(1..).and_then(|bytes| bytes.first_chunk());
        size.map_or(0, |size| u64::from_le_bytes(*size))
    }

    /// The record itself, as [`CacheWriter::copy`] takes it.
    #[must_use]
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// Whether `stat` shows the same thing unchanged.
    #[must_use]
    pub fn is_unchanged(&self, stat: &Stat) -> bool {
        let mut identity = Vec::with_capacity(IDENTITY_BYTES);
        Identity::of(stat).write(&mut identity);
        self.identity == identity
    }
}

/// Reads a cache in step with a walk.
#[derive(Debug)]
pub struct CacheReader {
    file: BufReader<File>,
    key: Option<CacheKey>,
    block: Vec<u8>,
    /// Start of the first record of `block` not yet passed.
    at: usize,
    ended: bool,
}

impl CacheReader {
    /// Opens the cache at `path`; `None` when there is none that can be used. With a key it is an encrypted one.
    #[must_use]
    pub fn open(path: &Path, key: Option<CacheKey>) -> Option<Self> {
        let mut file = BufReader::with_capacity(BLOCK_TARGET_BYTES, File::open(path).ok()?);
        let mut header = [0; MAGIC.len() + 4];
        file.read_exact(&mut header).ok()?;
        let version = header.strip_prefix(MAGIC)?;
        if *version != version_of(key.as_ref()).to_le_bytes() {
            return None;
        }
        Some(Self { file, key, block: Vec::new(), at: 0, ended: false })
    }

    /// The record of `path`, if there is one. Paths must be asked for in tree order.
    pub fn find(&mut self, path: &[u8]) -> Option<Record<'_>> {
        loop {
            if self.ended {
                return None;
            }
            let rest = self.block.get(self.at..).unwrap_or_default();
            let Some((record, after)) = Record::split(rest) else {
                self.ended = !rest.is_empty() || !self.next_block();
                continue;
            };
            match tree_order(record.path, path) {
                std::cmp::Ordering::Less => self.at = self.block.len() - after.len(),
                std::cmp::Ordering::Greater => return None,
                std::cmp::Ordering::Equal => break,
            }
        }
        Record::split(self.block.get(self.at..).unwrap_or_default()).map(|(record, _)| record)
    }

    /// Passes every record that is left to `take`.
    pub fn each(&mut self, mut take: impl FnMut(&Record<'_>)) {
        loop {
            let mut rest = self.block.get(self.at..).unwrap_or_default();
            while let Some((record, after)) = Record::split(rest) {
                take(&record);
                rest = after;
            }
            // A block that is no row of records ends it, as everywhere.
            if !rest.is_empty() || !self.next_block() {
                self.ended = true;
                return;
            }
        }
    }

    fn next_block(&mut self) -> bool {
        self.at = 0;
        self.block.clear();
        let mut length = [0; 4];
        let (mut hash, mut seal) = ([0; HASH_BYTES], [0; CACHE_SEAL_BYTES]);
        let proof = if self.key.is_some() { seal.as_mut_slice() } else { hash.as_mut_slice() };
        if self.file.read_exact(&mut length).and_then(|()| self.file.read_exact(proof)).is_err() {
            return false;
        }
        let length = u32::from_le_bytes(length);
        if length == 0 || length as usize > BLOCK_BYTES_MAX {
            return false;
        }
        let read = (&mut self.file).take(u64::from(length)).read_to_end(&mut self.block);
        let sound = read.is_ok_and(|read| read == length as usize)
            && match &self.key {
                Some(key) => key.open(&mut self.block, &seal),
                None => *blake3::hash(&self.block).as_bytes() == hash,
            };
        if !sound {
            self.block.clear();
        }
        sound
    }
}

/// Writes the cache of this run beside the old one and replaces it at the end.
#[derive(Debug)]
pub struct CacheWriter {
    file: BufWriter<File>,
    key: Option<CacheKey>,
    temporary: PathBuf,
    path: PathBuf,
    block: Vec<u8>,
    /// Paths with a time at or after this second are not recorded.
    racy_from: i64,
    finished: bool,
}

impl CacheWriter {
    /// Begins a cache that will be at `path`, encrypted with `key` where there is one. `run_start` is the time of the run's
    /// begin in seconds.
    pub fn create(path: &Path, run_start: i64, key: Option<CacheKey>) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory)?;
        }
        // One name for all runs, so that a killed one leaves nothing behind for ever; process ids are no
        // help, as every container has a process 1. The lock keeps two runs from writing into one file.
        let temporary = path.with_extension("tmp");
        let file = File::options().create(true).truncate(false).write(true).open(&temporary)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::Error(error) => error,
            TryLockError::WouldBlock => {
                io::Error::new(io::ErrorKind::ResourceBusy, "another run writes it")
            }
        })?;
        file.set_len(0)?;
        let mut file = BufWriter::with_capacity(BLOCK_TARGET_BYTES, file);
        file.write_all(MAGIC)?;
        file.write_all(&version_of(key.as_ref()).to_le_bytes())?;
        let path = path.to_owned();
        let racy_from = run_start.saturating_sub(RACY_SECONDS);
        Ok(Self { file, key, temporary, path, block: Vec::new(), racy_from, finished: false })
    }

    /// Takes a record over from the last run; where its times are too near to this one, as [`Self::add_changing`].
    pub fn copy(&mut self, record: &Record<'_>) -> io::Result<()> {
        let start = self.block.len();
        self.block.extend_from_slice(record.raw);
        if record.is_racy(self.racy_from)
            && let Some(kind) = self.block.get_mut(start)
        {
            *kind = READ_AGAIN;
        }
        self.end_record()
    }

    /// Records a path and its tree lines; where its times are too near to the run, as [`Self::add_changing`].
    pub fn add(
        &mut self,
        path: &[u8],
        stat: &Stat,
        ids: &[ChunkId],
        lines: &[u8],
    ) -> io::Result<()> {
        if stat.mtime.seconds >= self.racy_from || stat.ctime.seconds >= self.racy_from {
            return self.add_changing(path, stat, ids);
        }
        self.add_record(path, stat, Identity::of(stat).kind, ids, lines)
    }

    /// Records the chunks of a path that the next run has to read again.
    pub fn add_changing(&mut self, path: &[u8], stat: &Stat, ids: &[ChunkId]) -> io::Result<()> {
        self.add_record(path, stat, READ_AGAIN, ids, &[])
    }

    fn add_record(
        &mut self,
        path: &[u8],
        stat: &Stat,
        kind: u8,
        ids: &[ChunkId],
        lines: &[u8],
    ) -> io::Result<()> {
        let length = IDENTITY_BYTES + 12 + path.len() + ids.len() * ID_BYTES + lines.len();
        if length > BLOCK_BYTES_MAX {
            return Ok(());
        }
        if self.block.len() + length > BLOCK_BYTES_MAX {
            self.write_block()?;
        }
        Identity { kind, ..Identity::of(stat) }.write(&mut self.block);
        for length in [path.len(), ids.len(), lines.len()] {
            self.block.extend_from_slice(&u32_of(length).to_le_bytes());
        }
        self.block.extend_from_slice(path);
        ids.iter().for_each(|id| self.block.extend_from_slice(&id.0));
        self.block.extend_from_slice(lines);
        self.end_record()
    }

    /// Puts the new cache in the place of the old one. It is not synced: a cache lost in a power cut costs
    /// one full read, and a half-written one shows in its hashes.
    pub fn finish(mut self) -> io::Result<()> {
        self.write_block()?;
        self.file.flush()?;
        self.finished = true;
        std::fs::rename(&self.temporary, &self.path)
    }

    fn end_record(&mut self) -> io::Result<()> {
        if self.block.len() >= BLOCK_TARGET_BYTES { self.write_block() } else { Ok(()) }
    }

    fn write_block(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.file.write_all(&u32_of(self.block.len()).to_le_bytes())?;
        match &self.key {
            Some(key) => {
                let seal = key.seal(&mut self.block);
                self.file
                    .write_all(&seal.ok_or_else(|| io::Error::other("it cannot be encrypted"))?)?;
            }
            None => self.file.write_all(blake3::hash(&self.block).as_bytes())?,
        }
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }
}

impl Drop for CacheWriter {
    fn drop(&mut self) {
        // After `finish` the name may already be another run's.
        if !self.finished {
            drop(std::fs::remove_file(&self.temporary));
        }
    }
}

fn version_of(key: Option<&CacheKey>) -> u32 {
    if key.is_some() { VERSION_SEALED } else { VERSION }
}

/// The cache file of one job: its name and roots in one repository. In an encrypted one it does not tell them.
#[must_use]
pub fn path_of(
    directory: &Path,
    repository: &str,
    name: &str,
    roots: &[&[u8]],
    key: Option<&CacheKey>,
) -> PathBuf {
    let mut job = Vec::new();
    for part in [name.as_bytes()].iter().chain(roots) {
        job.extend_from_slice(&(part.len() as u64).to_le_bytes());
        job.extend_from_slice(part);
    }
    let hash = match key {
        Some(key) => key.name_of(&job),
        None => blake3::hash(&job).to_hex().to_string(),
    };
    directory.join(repository).join(format!("{}.cache", hash.get(..32).unwrap_or_default()))
}

#[cfg(test)]
mod tests;
