//! Source trees to one `.tar.zst`, without a repository: walk → tar → zstd → sink.
//!
//! The calling thread reads and writes the archive; other threads read directories ahead and compress.
//! Nothing is held but one listing, one buffer, what zstd has in work, and the names of files with
//! several hard links. A file that changes while it is read never breaks the archive: exactly the bytes
//! its header promises follow, and a warning says what they are worth.

use std::io::Write;
use std::ops::ControlFlow;

use crate::entry::{Entry, FileContent, Kind, display_path};
use crate::source_file::{self, Metadata, OpenSource, SourceError};
use crate::tar_writer::{Outcome, SkipReason, TarError, bounded_ranges};
use crate::tar_zst::{self, TarZst, TarZstError};
use crate::walk::{self, Event, FileType, Found, SourceRoot, Stat, WalkOptions, WalkProblem, walk};

mod links;
mod object_sink;

use links::FirstNames;
pub use object_sink::ObjectSink;

/// Bytes of a file that are in memory at a time.
const READ_BYTES: usize = 256 * 1024;

/// How an archive is made.
#[derive(Debug)]
pub struct StreamOptions {
    /// What to leave out, and threads that read ahead.
    pub walk: WalkOptions,
    /// Compression level of zstd(1): 1 is fast, 3 usual, 19 small.
    pub level: i32,
    /// Threads that compress, up to [`tar_zst::COMPRESS_THREADS_MAX`]; with 0 the calling thread does it.
    pub threads: u32,
}

/// What an archive holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamReport {
    /// Members of the archive.
    pub entries: u64,
    /// Bytes of file content in it, holes not counted.
    pub content_bytes: u64,
    /// Bytes that went to the sink.
    pub stored_bytes: u64,
    /// Things that were left out on purpose.
    pub skipped: u64,
    /// Things that are missing or torn: with any, the archive is complete only with warnings.
    pub warnings: u64,
}

/// What happens while an archive is made.
#[derive(Debug)]
pub enum Notice {
    /// So much is done by now.
    Progress(StreamReport),
    /// Something was left out on purpose.
    Skipped(StreamSkipped),
    /// Something is missing or torn.
    Warning(StreamWarning),
}

/// Something that was left out on purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamSkipped {
    /// By the walk.
    Directory(walk::Skipped),
    /// A socket, here with its path as people read it: archives have none.
    Socket(String),
}

/// Something that is missing or torn in the archive. Paths are as people read them.
#[derive(Debug, thiserror::Error)]
pub enum StreamWarning {
    /// The walk could not read all of it.
    #[error("{path} is missing or incomplete in the archive")]
    Walk {
        /// The path.
        path: String,
        /// Why.
        #[source]
        problem: WalkProblem,
    },
    /// It is left out because it could not be opened.
    #[error(transparent)]
    Source(SourceError),
    /// It is there without some of its attributes.
    #[error("{path} is archived without the attributes {names}, which could not be read")]
    AttributesUnread {
        /// The path.
        path: String,
        /// Their names.
        names: String,
    },
    /// It is left out because readers of archives would refuse it.
    #[error(transparent)]
    NotArchivable(TarError),
    /// It is left out: a type this version does not know.
    #[error("{0} is neither a file nor anything else that an archive can hold")]
    UnknownType(String),
    /// The end was not taken.
    #[error("{path} grew while it was read: the archive has its first {size} bytes")]
    Grew {
        /// The path.
        path: String,
        /// Its size when it was opened.
        size: u64,
    },
    /// The end is gone.
    #[error("{path} shrank while it was read: the archive has zeros in place of {missing} bytes")]
    Shrank {
        /// The path.
        path: String,
        /// Bytes that could not be read any more.
        missing: u64,
    },
    /// Same size, newer content.
    #[error("{0} changed while it was read: the archive may have a mixture of old and new content")]
    Changed(String),
    /// Reading failed in the middle.
    #[error("{path} cannot be read to its end: the archive has zeros in place of {missing} bytes")]
    Unreadable {
        /// The path.
        path: String,
        /// Bytes that could not be read.
        missing: u64,
        /// Why.
        #[source]
        source: SourceError,
    },
    /// There are more files with several names than are remembered, and the rest is stored repeatedly.
    #[error(
        "more than {} files have several hard links: further ones are archived as separate files",
        links::LINKED_FILES_MAX
    )]
    LinksForgotten,
}

/// Why there is no complete archive. What reached the sink must be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The archive could not be begun or ended.
    #[error(transparent)]
    TarZst(#[from] TarZstError),
    /// A member could not be written.
    #[error(transparent)]
    Archive(#[from] TarError),
    /// The observer broke off.
    #[error("interrupted before the archive was complete")]
    Interrupted,
}

/// Archives `roots` (sorted in tree order, none inside another) into `sink` and gives the sink back.
///
/// `observe` hears of progress, skipped paths and warnings, and may break the work off. Member names are
/// the absolute paths without their leading `/`.
pub fn stream<W: Write>(
    roots: &[SourceRoot],
    options: &StreamOptions,
    sink: W,
    observe: impl FnMut(Notice) -> ControlFlow<()>,
) -> Result<(StreamReport, W), StreamError> {
    let mut streamer = Streamer {
        roots,
        tar: tar_zst::begin(sink, options.level, options.threads)?,
        first_names: FirstNames::default(),
        buffer: vec![0; READ_BYTES],
        report: StreamReport::default(),
        observe,
    };
    let outcome = walk(roots, &options.walk, |event| match streamer.take(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => ControlFlow::Break(error),
    });
    match outcome {
        ControlFlow::Break(error) => Err(error),
        ControlFlow::Continue(()) => streamer.finish(),
    }
}

struct Streamer<'roots, W: Write, O> {
    roots: &'roots [SourceRoot],
    tar: TarZst<W>,
    first_names: FirstNames,
    buffer: Vec<u8>,
    report: StreamReport,
    observe: O,
}

impl<W: Write, O: FnMut(Notice) -> ControlFlow<()>> Streamer<'_, W, O> {
    fn take(&mut self, event: Event) -> Result<(), StreamError> {
        match event {
            Event::Found(found) => self.archive(&found),
            Event::Skipped(skipped) => self.skipped(StreamSkipped::Directory(skipped)),
            Event::Warning(warning) => self.warn(StreamWarning::Walk {
                path: display_path(&warning.path),
                problem: warning.problem,
            }),
        }
    }

    fn archive(&mut self, found: &Found) -> Result<(), StreamError> {
        if let Some(first) = self.first_names.get(&found.stat) {
            let link = Entry { hardlink_of: Some(first), ..bare_entry(found, &found.stat) };
            return self.write_member(&link, None);
        }
        let Some(root) = self.roots.get(found.root) else {
            return Ok(());
        };
        if found.stat.kind == FileType::File {
            match source_file::open(root, found) {
                Ok(source) => self.archive_file(found, &source),
                Err(error) => self.warn(StreamWarning::Source(error)),
            }
        } else {
            match source_file::read_metadata(root, found) {
                Ok(metadata) => self.archive_node(found, metadata),
                Err(error) => self.warn(StreamWarning::Source(error)),
            }
        }
    }

    fn archive_node(&mut self, found: &Found, metadata: Metadata) -> Result<(), StreamError> {
        let (major, minor) = found.stat.device_node;
        let path = || display_path(&found.path);
        let kind = match (found.stat.kind, metadata.link_target) {
            (FileType::Directory, _) => Kind::Directory,
            (FileType::Symlink, Some(target)) => Kind::Symlink(target),
            (FileType::Fifo, _) => Kind::Fifo,
            (FileType::Socket, _) => Kind::Socket,
            (FileType::CharDevice, _) => Kind::CharDevice(major, minor),
            (FileType::BlockDevice, _) => Kind::BlockDevice(major, minor),
            (FileType::Symlink, None) | (FileType::File | FileType::Unknown, _) => {
                return self.warn(StreamWarning::UnknownType(path()));
            }
        };
        self.warn_of_unread(found, &metadata.unread)?;
        let entry = Entry { kind, xattrs: metadata.xattrs, ..bare_entry(found, &found.stat) };
        self.write_member(&entry, Some(&found.stat))
    }

    fn archive_file(&mut self, found: &Found, source: &OpenSource) -> Result<(), StreamError> {
        let metadata = match source.metadata() {
            Ok(metadata) => metadata,
            Err(error) => return self.warn(StreamWarning::Source(error)),
        };
        self.warn_of_unread(found, &metadata.unread)?;
        let stat = source.stat();
        let entry = Entry { xattrs: metadata.xattrs, ..bare_entry(found, stat) };
        let ranges = bounded_ranges(source.data_ranges(stat.size));
        if !self.begin(&entry, &ranges)? {
            return Ok(());
        }
        self.copy(source, &ranges, &entry)?;
        self.tar.end_entry()?;
        self.ended(Some(stat), &entry)
    }

    /// Copies the data, as much of it as the file still has, and fills up with zeros.
    fn copy(
        &mut self,
        source: &OpenSource,
        ranges: &[(u64, u64)],
        entry: &Entry,
    ) -> Result<(), StreamError> {
        let unreadable = self.copy_ranges(source, ranges)?;
        let missing = self.tar.missing();
        self.fill_up()?;
        let path = entry.display_path();
        if let Some(source) = unreadable {
            return self.warn(StreamWarning::Unreadable { path, missing, source });
        }
        let then = source.stat();
        match source.stat_now() {
            Err(error) => self.warn(StreamWarning::Source(error)),
            Ok(now) if missing > 0 || now.size < then.size => {
                let missing = missing.max(then.size.saturating_sub(now.size));
                self.warn(StreamWarning::Shrank { path, missing })
            }
            Ok(now) if now.size > then.size => {
                self.warn(StreamWarning::Grew { path, size: then.size })
            }
            Ok(now) if now.mtime != then.mtime => self.warn(StreamWarning::Changed(path)),
            Ok(_) => Ok(()),
        }
    }

    /// Stops where the file ends early and says why it cannot be read on.
    fn copy_ranges(
        &mut self,
        source: &OpenSource,
        ranges: &[(u64, u64)],
    ) -> Result<Option<SourceError>, StreamError> {
        for &(start, length) in ranges {
            let mut done = 0;
            while done < length {
                let wanted =
                    usize::try_from(length - done).unwrap_or(READ_BYTES).min(self.buffer.len());
                let (piece, _) = self.buffer.split_at_mut(wanted);
                let read = match source.read_at(piece, start + done) {
                    Ok(read) => read,
                    Err(error) => return Ok(Some(error)),
                };
                let (content, missing) = piece.split_at(read.min(wanted));
                self.tar.write_body(content)?;
                self.report.content_bytes += content.len() as u64;
                if !missing.is_empty() {
                    return Ok(None);
                }
                done += wanted as u64;
                self.progress()?;
            }
        }
        Ok(None)
    }

    fn fill_up(&mut self) -> Result<(), StreamError> {
        if self.tar.missing() > 0 {
            self.buffer.fill(0);
        }
        while self.tar.missing() > 0 {
            let wanted = usize::try_from(self.tar.missing()).unwrap_or(READ_BYTES);
            let (zeros, _) = self.buffer.split_at(wanted.min(self.buffer.len()));
            self.tar.write_body(zeros)?;
            self.progress()?;
        }
        Ok(())
    }

    /// Writes a member without a body; `stat` is of the file whose first name this is.
    fn write_member(&mut self, entry: &Entry, stat: Option<&Stat>) -> Result<(), StreamError> {
        if !self.begin(entry, &[])? {
            return Ok(());
        }
        self.tar.end_entry()?;
        self.ended(stat, entry)
    }

    /// False when the entry has no place in an archive, which is then already said.
    fn begin(&mut self, entry: &Entry, ranges: &[(u64, u64)]) -> Result<bool, StreamError> {
        match self.tar.begin(entry, ranges) {
            Ok(Outcome::Written) => Ok(true),
            Ok(Outcome::Skipped(SkipReason::Socket)) => {
                self.skipped(StreamSkipped::Socket(entry.display_path()))?;
                Ok(false)
            }
            Err(error @ (TarError::MetadataTooLong { .. } | TarError::Ranges { .. })) => {
                self.warn(StreamWarning::NotArchivable(error))?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn ended(&mut self, stat: Option<&Stat>, entry: &Entry) -> Result<(), StreamError> {
        self.report.entries += 1;
        let remembered = stat.is_none_or(|stat| self.first_names.insert(stat, &entry.path));
        if !remembered && self.first_names.forgets_first_time() {
            self.warn(StreamWarning::LinksForgotten)?;
        }
        self.progress()
    }

    fn warn_of_unread(&mut self, found: &Found, names: &[Vec<u8>]) -> Result<(), StreamError> {
        if names.is_empty() {
            return Ok(());
        }
        let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let names = names.join(", ");
        self.warn(StreamWarning::AttributesUnread { path: display_path(&found.path), names })
    }

    fn warn(&mut self, warning: StreamWarning) -> Result<(), StreamError> {
        self.report.warnings += 1;
        self.notify(Notice::Warning(warning))
    }

    fn skipped(&mut self, skipped: StreamSkipped) -> Result<(), StreamError> {
        self.report.skipped += 1;
        self.notify(Notice::Skipped(skipped))
    }

    fn progress(&mut self) -> Result<(), StreamError> {
        self.report.stored_bytes = tar_zst::stored_bytes(&self.tar);
        self.notify(Notice::Progress(self.report))
    }

    fn notify(&mut self, notice: Notice) -> Result<(), StreamError> {
        match (self.observe)(notice) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(StreamError::Interrupted),
        }
    }

    fn finish(self) -> Result<(StreamReport, W), StreamError> {
        let (stored_bytes, sink) = tar_zst::finish(self.tar)?;
        Ok((StreamReport { stored_bytes, ..self.report }, sink))
    }
}

/// The entry without attributes and, for anything but a file, without its kind.
fn bare_entry(found: &Found, stat: &Stat) -> Entry {
    Entry {
        path: found.path.clone(),
        kind: Kind::File(FileContent { size: stat.size, ..FileContent::default() }),
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        xattrs: Vec::new(),
        hardlink_of: None,
    }
}

impl std::fmt::Display for StreamSkipped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(skipped) => skipped.fmt(f),
            Self::Socket(path) => write!(f, "{path} was left out: it is a socket"),
        }
    }
}

#[cfg(test)]
mod tests;
