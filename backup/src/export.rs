//! A snapshot as one standard `.tar.zst`.
//!
//! Entries come in tree order, their content is read ahead ([`crate::ahead`]), and the archive is the one
//! `backup stream` would have made of the source. The first chunk that is not what it should be ends it:
//! an archive is whole or an error.

use std::collections::HashMap;
use std::io::Write;

use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;

use crate::ahead::{self, AheadError, Step};
use crate::browse::text::escaped_path;
use crate::entry::{Entry, Extent, FileContent, Kind, PathBytes};
use crate::index::Index;
use crate::reader::{ChunkReader, ReadError};
use crate::repository::{Repository, RepositoryError};
use crate::restore::REPORTED_MAX;
use crate::restore::select::{SelectError, Selection, nothing_at};
use crate::snapshot::Snapshot;
use crate::tar_writer::{Outcome, SkipReason, TarError, bounded_ranges};
use crate::tar_zst::{self, TarZst, TarZstError};
use crate::tree::{TreeError, TreeReader};

/// Which part of a snapshot, and how it is compressed.
#[derive(Clone, Debug)]
pub struct ExportOptions {
    /// Which part, and what is cut from the names.
    pub selection: Selection,
    /// Compression level of zstd(1): 1 is fast, 3 usual, 19 small.
    pub level: i32,
    /// Threads that compress, up to [`tar_zst::COMPRESS_THREADS_MAX`]; with 0 the calling thread does it.
    pub threads: u32,
}

/// What the archive holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportReport {
    /// Members.
    pub entries: u64,
    /// Bytes of file content, holes not counted.
    pub content_bytes: u64,
    /// Bytes that went to the sink.
    pub stored_bytes: u64,
    /// Files that changed while the snapshot was made: their content is a mixture of moments.
    pub torn: u64,
    /// How many sockets were left out: archives have none.
    pub skipped: u64,
    /// The first [`REPORTED_MAX`] of them, one sentence each.
    pub notes: Vec<String>,
}

/// Why there is no whole archive. What reached the sink must be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The choice does not fit the snapshot.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The repository cannot be opened for reading.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// The tree cannot be read.
    #[error("the snapshot cannot be read to its end")]
    Tree(#[from] TreeError<ReadError>),
    /// The decoder could not be made.
    #[error("cannot read from the repository")]
    Read(#[source] ReadError),
    /// A file's content is damaged or not to be had.
    #[error(
        "{path} cannot be read, the archive is incomplete: `backup check` says what else is damaged"
    )]
    Content {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// A file's pieces contradict its size.
    #[error("{0} is damaged: its pieces do not add up to its size")]
    Length(String),
    /// A member could not be written.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// The archive could not be begun or ended.
    #[error(transparent)]
    TarZst(#[from] TarZstError),
    /// SIGINT or SIGTERM.
    #[error("interrupted before the archive was complete")]
    Interrupted,
}

/// Writes the chosen part of `snapshot` into `sink` as one `.tar.zst` and gives the sink back.
///
/// Member names are the absolute paths without their leading `/`, or what the selection makes of them.
/// A file with several names is stored once, under the first that is chosen.
pub fn export<W: Write>(
    repository: &Repository,
    snapshot: &Snapshot,
    options: &ExportOptions,
    sink: W,
    progress: &Progress,
    shutdown: &Shutdown,
) -> Result<(ExportReport, W), ExportError> {
    let (index, _unreadable) = repository.index_for_reading([snapshot])?;
    let reader = ChunkReader::new(repository, &index).map_err(ExportError::Read)?;
    let mut tree = TreeReader::new(&snapshot.tree, reader);
    let mut links = Links { selection: &options.selection, stand_ins: HashMap::new() };
    let mut archiver = Archiver {
        index: &index,
        tar: tar_zst::begin(sink, options.level, options.threads)?,
        ranges: Vec::new(),
        position: 0,
        last: None,
        report: ExportReport::default(),
        progress,
    };
    let next_entry = || -> Result<Option<Entry>, ExportError> {
        while let Some(entry) = tree.next_entry()? {
            if options.selection.holds(&entry.path) {
                return Ok(Some(links.resolved(entry)));
            }
        }
        Ok(None)
    };
    let read =
        ahead::read_in_order(repository, &index, shutdown, next_entry, |step| archiver.take(step));
    match read {
        Ok(()) => archiver.finish(&options.selection),
        Err(AheadError::Caller(error)) => Err(error),
        Err(AheadError::Interrupted) => Err(ExportError::Interrupted),
        Err(AheadError::Content(source)) => {
            let path = archiver.last.unwrap_or_default();
            Err(ExportError::Content { path: escaped_path(&path).to_string(), source })
        }
    }
}

/// Decides which names become links.
struct Links<'a> {
    selection: &'a Selection,
    /// For files whose first name is not chosen: the name that stands in for it, as in the archive.
    stand_ins: HashMap<PathBytes, PathBytes>,
}

impl Links<'_> {
    /// The entry as it stands in the archive; further names of a file lose their content.
    fn resolved(&mut self, mut entry: Entry) -> Entry {
        if let Some(first) = entry.hardlink_of.take() {
            let here = self.selection.place(&entry.path);
            if self.selection.holds(&first) {
                entry.hardlink_of = Some(self.selection.place(&first).to_vec());
            } else if let Some(stand_in) = self.stand_ins.get(&first) {
                entry.hardlink_of = Some(stand_in.clone());
            } else {
                self.stand_ins.insert(first, here.to_vec());
            }
        }
        if entry.hardlink_of.is_some()
            && let Kind::File(content) = &mut entry.kind
        {
            *content = FileContent { size: content.size, ..FileContent::default() };
        }
        self.selection.placed(entry)
    }
}

struct Archiver<'a, W: Write> {
    index: &'a Index,
    tar: TarZst<W>,
    /// Data ranges of the open member.
    ranges: Vec<(u64, u64)>,
    /// Where in the open member's content the next step is.
    position: u64,
    /// Path of the open member.
    last: Option<PathBytes>,
    report: ExportReport,
    progress: &'a Progress,
}

impl<W: Write> Archiver<'_, W> {
    fn take(&mut self, step: Step<'_>) -> Result<(), ExportError> {
        match step {
            Step::Entry(entry) => self.entry(entry),
            Step::Chunk(content) => {
                self.position += content.len() as u64;
                self.report.content_bytes += content.len() as u64;
                self.progress.add_bytes(content.len() as u64);
                Ok(self.tar.write_body(content)?)
            }
            Step::Hole(length) => self.hole(length),
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<(), ExportError> {
        self.end_member()?;
        self.ranges = match &entry.kind {
            Kind::File(content) if entry.hardlink_of.is_none() => {
                data_ranges(content, self.index).map_err(|problem| problem.of(&entry.path))?
            }
            _ => Vec::new(),
        };
        if let Kind::File(FileContent { torn: true, .. }) = &entry.kind {
            self.report.torn += 1;
        }
        match self.tar.begin(entry, &self.ranges)? {
            Outcome::Written => {
                self.position = 0;
                self.last = Some(entry.path.clone());
                self.report.entries += 1;
            }
            Outcome::Skipped(SkipReason::Socket) => {
                self.report.skipped += 1;
                if self.report.notes.len() < REPORTED_MAX {
                    let path = escaped_path(&entry.path);
                    self.report.notes.push(format!("{path} was left out: it is a socket"));
                }
            }
        }
        Ok(())
    }

    /// A hole inside a data range was too small to be kept apart.
    fn hole(&mut self, length: u64) -> Result<(), ExportError> {
        let start = self.position;
        self.position += length;
        let before = self.ranges.partition_point(|(offset, _)| *offset <= start);
        let range = before.checked_sub(1).and_then(|at| self.ranges.get(at));
        if range.is_some_and(|(offset, bytes)| start < offset + bytes) {
            ahead::zeros(length).try_for_each(|piece| self.tar.write_body(piece))?;
        }
        Ok(())
    }

    fn end_member(&mut self) -> Result<(), ExportError> {
        if self.last.take().is_some() {
            self.tar.end_entry()?;
            self.progress.add_files(1);
        }
        Ok(())
    }

    fn finish(mut self, selection: &Selection) -> Result<(ExportReport, W), ExportError> {
        self.end_member()?;
        if self.report.entries + self.report.skipped == 0 {
            return Err(nothing_at(selection).into());
        }
        let (stored_bytes, sink) = tar_zst::finish(self.tar)?;
        self.progress.add_bytes_stored(stored_bytes);
        Ok((ExportReport { stored_bytes, ..self.report }, sink))
    }
}

/// What is wrong with a file's content list.
enum ContentProblem {
    Missing(crate::chunk::ChunkId),
    Length,
}

impl ContentProblem {
    fn of(self, path: &[u8]) -> ExportError {
        let path = escaped_path(path).to_string();
        match self {
            Self::Missing(id) => ExportError::Content { path, source: ReadError::Missing(id) },
            Self::Length => ExportError::Length(path),
        }
    }
}

/// Where a file has data. Fails when a chunk is nowhere or the lengths contradict the size.
fn data_ranges(content: &FileContent, index: &Index) -> Result<Vec<(u64, u64)>, ContentProblem> {
    let mut offset = 0_u64;
    let mut problem = None;
    let mut extents = content.extents.iter();
    let data = std::iter::from_fn(|| {
        for extent in extents.by_ref() {
            let (length, is_data) = match extent {
                Extent::Hole(length) => (*length, false),
                Extent::Chunk(id) => match index.find(id) {
                    Some(place) => (u64::from(place.length), place.length > 0),
                    None => {
                        problem = Some(ContentProblem::Missing(*id));
                        return None;
                    }
                },
            };
            let start = offset;
            match start.checked_add(length).filter(|end| *end <= content.size) {
                Some(end) => offset = end,
                None => {
                    problem = Some(ContentProblem::Length);
                    return None;
                }
            }
            if is_data {
                return Some((start, length));
            }
        }
        None
    });
    let ranges = bounded_ranges(data);
    match problem {
        Some(problem) => Err(problem),
        None if offset == content.size => Ok(ranges),
        None => Err(ContentProblem::Length),
    }
}

#[cfg(test)]
mod tests;
