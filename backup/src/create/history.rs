//! Which chunks the past snapshots of a job need: without the private key only the runs that made them know.
//!
//! Each run that has saved adds what its snapshot refers to. For every chunk there is the first and the last run that had it, and
//! what a run between them needs may only be less: so it may be said that something is needed which is not, and never the other
//! way round. Disposable as the cache beside which it lies: without it nothing is known of the snapshots before. It is used as a
//! whole or not at all, since what a torn one lacks would count as needed by nobody: its last block has a hash of all the others.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::iter::Peekable;
use std::path::{Path, PathBuf};

use crate::chunk::{ChunkId, ID_BYTES};
use crate::index::{ChunkSet, Index};
use crate::keys::index_key::{CACHE_SEAL_BYTES, CacheKey};
use crate::pack::{take_u32, u32_of};
use crate::snapshot::SnapshotId;

#[cfg(test)]
mod tests;

const MAGIC: &[u8; 8] = b"CHORESHI";
const VERSION: u32 = 1;
const HASH_BYTES: usize = 32;

/// Number of a run, its time, the id of its snapshot.
const RUN_BYTES: usize = 4 + 8 + ID_BYTES;

/// Id of a chunk, numbers of the first and the last run that had it.
const ROW_BYTES: usize = ID_BYTES + 4 + 4;

/// Rows of a block.
const BLOCK_ROWS: usize = 8192;

/// Runs that are remembered, the latest: snapshots before them count as those of others.
const RUNS_MAX: usize = 4096;

/// Longest block a reader accepts, in bytes.
const BLOCK_BYTES_MAX: usize = 1 << 20;

/// What a run remembers of one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    number: u32,
    /// Start of the run, in seconds.
    pub(super) time: i64,
    pub(super) snapshot: SnapshotId,
}

/// A chunk, and the first and the last run that had it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Row {
    chunk: ChunkId,
    first: u32,
    last: u32,
}

/// What is known of the snapshots that are there.
#[derive(Debug)]
pub(super) struct Known {
    /// The runs that made them, in their order.
    pub(super) runs: Vec<Run>,
    /// All chunks of the index that one of them may need.
    pub(super) needed: ChunkSet,
}

/// Where the history of one job lies.
#[derive(Debug)]
pub(super) struct History {
    path: PathBuf,
    key: CacheKey,
}

impl History {
    /// Of the job that has its cache at `cache`.
    pub(super) fn beside(cache: &Path, key: CacheKey) -> Self {
        Self { path: cache.with_extension("history"), key }
    }

    /// What the snapshots that are `there` need, as far as runs of this job made them.
    pub(super) fn read(&self, there: &BTreeSet<SnapshotId>, index: &Index) -> Known {
        let mut needed = ChunkSet::none_of(index.chunk_count());
        let chunks = index.chunks();
        let (mut at, mut of_present) = (0, None);
        let runs = self.each(&mut |runs, row| {
            if is_needed(&row, of_present.get_or_insert_with(|| present(runs, there))) {
                let rest = chunks.get(at..).unwrap_or_default();
                at += rest.partition_point(|(chunk, _)| *chunk < row.chunk);
                if chunks.get(at).is_some_and(|(chunk, _)| *chunk == row.chunk) {
                    needed.add(at);
                }
            }
        });
        match runs {
            Some(runs) => Known { runs: present(&runs, there), needed },
            None => Known { runs: Vec::new(), needed: ChunkSet::none_of(0) },
        }
    }

    /// Adds a snapshot that refers to these chunks, which are sorted, and drops what only snapshots need that are not `there`.
    /// Called by one run of the job at a time.
    pub(super) fn add(
        &self,
        (snapshot, time): (SnapshotId, i64),
        chunks: impl Iterator<Item = ChunkId>,
        there: &BTreeSet<SnapshotId>,
    ) -> io::Result<()> {
        // Read once before: half of a damaged one must not be taken over.
        let before = self.each(&mut |_, _| ()).unwrap_or_default();
        let number = before.last().map_or(0, |run| run.number).saturating_add(1);
        let mut runs = present(&before, there);
        runs.drain(..runs.len().saturating_sub(RUNS_MAX - 1));
        let known = runs.clone();
        runs.push(Run { number, time, snapshot });
        let mut writer = Writer::create(&self.path, &self.key)?;
        writer.runs(&runs)?;
        let mut merge = Merge { writer, number, chunks: chunks.peekable() };
        if !known.is_empty() {
            let mut outcome = Ok(());
            let read = self.each(&mut |_, row| {
                if outcome.is_ok() {
                    outcome = merge.row(row, is_needed(&row, &known));
                }
            });
            outcome?;
            read.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has changed"))?;
        }
        merge.finish()
    }

    /// Passes every row to `take`, with all runs. Returns these, where all of it is what was written: otherwise nothing that was
    /// passed counts.
    fn each(&self, take: &mut dyn FnMut(&[Run], Row)) -> Option<Vec<Run>> {
        let mut file = BufReader::new(File::open(&self.path).ok()?);
        let mut start = [0; MAGIC.len() + 4];
        file.read_exact(&mut start).ok()?;
        if *start.strip_prefix(MAGIC)? != VERSION.to_le_bytes() {
            return None;
        }
        let mut hasher = blake3::Hasher::new();
        let mut block = Vec::new();
        self.block(&mut file, &mut block)?;
        hasher.update(&block);
        let (runs, []) = block.as_chunks::<RUN_BYTES>() else { return None };
        let runs: Vec<_> = runs.iter().filter_map(|run| Run::decode(run)).collect();
        if !runs.is_sorted_by(|one, other| one.number < other.number) {
            return None;
        }
        let mut last = None;
        loop {
            self.block(&mut file, &mut block)?;
            let (rows, []) = block.as_chunks::<ROW_BYTES>() else {
                // No number of rows is as long.
                let is_whole = *hasher.finalize().as_bytes() == *block.as_slice();
                return is_whole.then_some(runs);
            };
            hasher.update(&block);
            for row in rows.iter().filter_map(|row| Row::decode(row)) {
                if last >= Some(row.chunk) {
                    return None;
                }
                last = Some(row.chunk);
                take(&runs, row);
            }
        }
    }

    /// Reads the next block.
    fn block(&self, file: &mut impl Read, into: &mut Vec<u8>) -> Option<()> {
        let (mut length, mut seal) = ([0; 4], [0; CACHE_SEAL_BYTES]);
        file.read_exact(&mut length).and_then(|()| file.read_exact(&mut seal)).ok()?;
        let length = u32::from_le_bytes(length) as usize;
        if length > BLOCK_BYTES_MAX {
            return None;
        }
        into.clear();
        into.resize(length, 0);
        file.read_exact(into).ok()?;
        self.key.open(into, &seal).then_some(())
    }
}

/// Rows of before and chunks of a run, both sorted, to one row for each.
struct Merge<'a, I: Iterator<Item = ChunkId>> {
    writer: Writer<'a>,
    /// Number of the run.
    number: u32,
    chunks: Peekable<I>,
}

impl<I: Iterator<Item = ChunkId>> Merge<'_, I> {
    fn row(&mut self, row: Row, is_needed: bool) -> io::Result<()> {
        while let Some(chunk) = self.chunks.next_if(|chunk| *chunk < row.chunk) {
            self.new_row(chunk)?;
        }
        let is_had = self.chunks.next_if(|chunk| *chunk == row.chunk).is_some();
        match (is_needed, is_had) {
            (true, true) => self.writer.row(Row { last: self.number, ..row }),
            (true, false) => self.writer.row(row),
            (false, true) => self.new_row(row.chunk),
            (false, false) => Ok(()),
        }
    }

    fn new_row(&mut self, chunk: ChunkId) -> io::Result<()> {
        self.writer.row(Row { chunk, first: self.number, last: self.number })
    }

    fn finish(self) -> io::Result<()> {
        let Self { mut writer, number, chunks } = self;
        for chunk in chunks {
            writer.row(Row { chunk, first: number, last: number })?;
        }
        writer.finish()
    }
}

/// Those whose snapshots are there.
fn present(runs: &[Run], there: &BTreeSet<SnapshotId>) -> Vec<Run> {
    runs.iter().filter(|run| there.contains(&run.snapshot)).copied().collect()
}

/// Whether one of these runs, which are in order, may need it.
fn is_needed(row: &Row, runs: &[Run]) -> bool {
    let from = runs.partition_point(|run| run.number < row.first);
    runs.get(from).is_some_and(|run| run.number <= row.last)
}

impl Run {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.number.to_le_bytes());
        out.extend_from_slice(&self.time.to_le_bytes());
        out.extend_from_slice(&self.snapshot.0.0);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = take_u32(bytes)?;
        let (time, rest) = rest.split_first_chunk()?;
        let snapshot = SnapshotId(ChunkId(*rest.first_chunk()?));
        Some(Self { number, time: i64::from_le_bytes(*time), snapshot })
    }
}

impl Row {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.chunk.0);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (chunk, rest) = bytes.split_first_chunk()?;
        let (first, rest) = take_u32(rest)?;
        let (last, _) = take_u32(rest)?;
        Some(Self { chunk: ChunkId(*chunk), first, last })
    }
}

/// Writes beside the old one and replaces it at the end. It is not synced: one that is lost in a power cut costs what is known,
/// and a torn one shows.
struct Writer<'a> {
    file: BufWriter<File>,
    key: &'a CacheKey,
    path: &'a Path,
    temporary: PathBuf,
    block: Vec<u8>,
    hasher: blake3::Hasher,
}

impl<'a> Writer<'a> {
    fn create(path: &'a Path, key: &'a CacheKey) -> io::Result<Self> {
        let temporary = path.with_extension("history.tmp");
        let mut file = BufWriter::new(File::create(&temporary)?);
        file.write_all(MAGIC)?;
        file.write_all(&VERSION.to_le_bytes())?;
        let (block, hasher) = (Vec::new(), blake3::Hasher::new());
        Ok(Self { file, key, path, temporary, block, hasher })
    }

    fn runs(&mut self, runs: &[Run]) -> io::Result<()> {
        runs.iter().for_each(|run| run.encode(&mut self.block));
        self.end_block()
    }

    fn row(&mut self, row: Row) -> io::Result<()> {
        row.encode(&mut self.block);
        if self.block.len() >= BLOCK_ROWS * ROW_BYTES { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        self.hasher.update(&self.block);
        self.put_block()
    }

    fn put_block(&mut self) -> io::Result<()> {
        let length = u32_of(self.block.len());
        let seal = self.key.seal(&mut self.block);
        let seal = seal.ok_or_else(|| io::Error::other("it cannot be encrypted"))?;
        self.file.write_all(&length.to_le_bytes())?;
        self.file.write_all(&seal)?;
        self.file.write_all(&self.block)?;
        self.block.clear();
        Ok(())
    }

    fn finish(mut self) -> io::Result<()> {
        self.end_block()?;
        self.block.extend_from_slice(self.hasher.finalize().as_bytes());
        self.put_block()?;
        self.file.flush()?;
        std::fs::rename(&self.temporary, self.path)
    }
}

const _: () = assert!(
    !HASH_BYTES.is_multiple_of(ROW_BYTES)
        && RUNS_MAX * RUN_BYTES <= BLOCK_BYTES_MAX
        && BLOCK_ROWS * ROW_BYTES <= BLOCK_BYTES_MAX
);
