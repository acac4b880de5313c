//! The threads that read: paths to entries, content to the packer.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use chores_common::exit::chain;
use chores_common::progress::Progress;
use crossbeam_channel::Sender;

use super::CreateError;
use super::assemble::recorded_entry;
use super::content::FileReader;
use super::packer::{Failure, Lane, Stow};
use super::queue::{Next, Task, TaskQueue};
use crate::cache::Record;
use crate::chunk::{ChunkId, Cutter};
use crate::entry::{Entry, Extent, FileContent, Kind, display_path};
use crate::source_file::{self, Metadata, OpenSource, SourceError};
use crate::walk::{FileType, Found, SourceRoot, Stat};

/// How often a file that changes while it is read is read again before it is stored as it was read.
const ATTEMPTS: u32 = 3;

/// Longer files are not read again, in bytes: they would change again.
const RETRY_BYTES_MAX: u64 = 16 << 20;

/// A path to read.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) found: Found,
    /// For how long its content is expected to stay.
    pub(super) lane: Lane,
    /// What the last run stored of it, where its size and times are the same: what is saved if it cannot be read now.
    pub(super) record: Option<Vec<u8>>,
}

/// What became of a path.
#[derive(Debug)]
pub(super) struct Done {
    /// The path, with the metadata that was true when it was read.
    pub(super) found: Found,
    /// What the tree gets; nothing when it could not be read.
    pub(super) entry: Option<Entry>,
    /// What a person should know.
    pub(super) warnings: Vec<String>,
    /// It could not be read, and is what the last run stored of it.
    pub(super) is_recorded: bool,
}

/// A large file and the threads at work on it.
#[derive(Debug)]
pub(super) struct LargeJob {
    found: Found,
    lane: Lane,
    reader: FileReader,
    parts: Mutex<Vec<Part>>,
    error: Mutex<Option<SourceError>>,
    threads: AtomicUsize,
    finished: AtomicBool,
    /// See [`Wanted`].
    record: Option<Vec<u8>>,
    done: Sender<Vec<Done>>,
}

impl LargeJob {
    /// Whether there is nothing left to help with.
    pub(super) fn is_ended(&self) -> bool {
        self.reader.is_ended()
    }
}

/// One reading thread.
#[derive(Debug)]
pub(super) struct Worker<'run, 'packer> {
    pub(super) roots: &'run [SourceRoot],
    pub(super) cutter: &'run Cutter,
    pub(super) queue: &'run TaskQueue,
    pub(super) failure: &'run Failure,
    pub(super) progress: &'run Progress,
    pub(super) stow: Stow<'packer, 'run>,
    pub(super) buffer: Vec<u8>,
}

impl Worker<'_, '_> {
    /// Works until the queue is closed and empty. After a failure it only empties the queue.
    pub(super) fn run(mut self) {
        let _stop = StopOnPanic { queue: self.queue, failure: self.failure };
        while let Some(next) = self.queue.next() {
            let outcome = match next {
                Next::Task(_) if self.failure.is_set() => Ok(()),
                Next::Help(job) if self.failure.is_set() => {
                    job.reader.abandon();
                    Ok(())
                }
                Next::Task(Task::Batch { wanted, done }) => self.batch(wanted, &done),
                Next::Task(Task::Large { wanted, done }) => self.large(wanted, done),
                Next::Help(job) => self.work_on(&job),
            };
            if let Err(error) = outcome {
                self.failure.set(error);
            }
        }
        if !self.failure.is_set()
            && let Err(error) = self.stow.finish()
        {
            self.failure.set(error);
        }
    }

    fn batch(&mut self, all: Vec<Wanted>, done: &Sender<Vec<Done>>) -> Result<(), CreateError> {
        let mut results = Vec::with_capacity(all.len());
        for wanted in all {
            if self.failure.is_set() {
                return Ok(());
            }
            results.push(self.wanted(wanted)?);
        }
        // The receiver only goes away when the run has failed.
        drop(done.send(results));
        Ok(())
    }

    /// Reads one path, or takes what the last run stored of it.
    pub(super) fn wanted(&mut self, wanted: Wanted) -> Result<Done, CreateError> {
        let Wanted { found, lane, record } = wanted;
        self.stow.go_to(lane);
        let done = self.path(found)?;
        Ok(done.or_recorded(record.as_deref(), |id| self.stow.has_anywhere(id)))
    }

    /// Reads one path of any kind.
    pub(super) fn path(&mut self, found: Found) -> Result<Done, CreateError> {
        if found.stat.kind == FileType::File {
            return self.file(found);
        }
        let Some(root) = self.roots.get(found.root) else { return Ok(Done::unread(found, None)) };
        Ok(match source_file::read_metadata(root, &found) {
            Ok(mut metadata) => {
                let kind = match found.stat.kind {
                    FileType::Directory => Kind::Directory,
                    FileType::Symlink => {
                        Kind::Symlink(metadata.link_target.take().unwrap_or_default())
                    }
                    FileType::Fifo => Kind::Fifo,
                    FileType::Socket => Kind::Socket,
                    FileType::CharDevice => {
                        Kind::CharDevice(found.stat.device_node.0, found.stat.device_node.1)
                    }
                    FileType::BlockDevice => {
                        Kind::BlockDevice(found.stat.device_node.0, found.stat.device_node.1)
                    }
                    FileType::File | FileType::Unknown => {
                        let path = display_path(&found.path);
                        let warning =
                            format!("{path} is of a kind this program does not know: left out");
                        let warnings = vec![warning];
                        return Ok(Done { found, entry: None, warnings, is_recorded: false });
                    }
                };
                Done::read(found, kind, metadata)
            }
            // What is in it needs a directory to be restored into.
            Err(error) if found.stat.kind == FileType::Directory => {
                let mut done = Done::read(found, Kind::Directory, Metadata::default());
                done.warnings.push(format!("{}: saved without attributes", chain(&error)));
                done
            }
            Err(error) => Done::unread(found, Some(&error)),
        })
    }

    /// Reads a file alone, again when it changes meanwhile.
    fn file(&mut self, mut found: Found) -> Result<Done, CreateError> {
        let Some(root) = self.roots.get(found.root) else { return Ok(Done::unread(found, None)) };
        for attempt in 1.. {
            let source = match open_current(root, &mut found) {
                Ok(Some(source)) => source,
                Ok(None) => return self.path(found),
                Err(error) => return Ok(Done::unread(found, Some(&error))),
            };
            let reader = FileReader::new(source, self.cutter);
            let mut extents = Vec::new();
            loop {
                if self.failure.is_set() {
                    return Ok(Done::unread(found, None));
                }
                match self.segment(&reader)? {
                    Ok(Some(part)) => extents.extend(part.extents),
                    Ok(None) => break,
                    Err(error) => return Ok(Done::unread(found, Some(&error))),
                }
            }
            let torn = reader.is_torn();
            if torn
                && attempt < ATTEMPTS
                && found.stat.size <= RETRY_BYTES_MAX
                && !self.failure.is_set()
            {
                found.stat = Stat { links: found.stat.links, ..*reader.source().stat() };
                continue;
            }
            self.progress.add_files(1);
            self.progress.add_bytes(reader.source().stat().size);
            return Ok(finish_file(found, &reader, extents, torn));
        }
        Ok(Done::unread(found, None))
    }

    fn large(&mut self, wanted: Wanted, done: Sender<Vec<Done>>) -> Result<(), CreateError> {
        let Wanted { mut found, lane, record } = wanted;
        let Some(root) = self.roots.get(found.root) else { return Ok(()) };
        let source = match open_current(root, &mut found) {
            Ok(Some(source)) => source,
            Ok(None) => return self.batch(vec![Wanted { found, lane, record }], &done),
            Err(error) => {
                let unread = Done::unread(found, Some(&error));
                let result = unread.or_recorded(record.as_deref(), |id| self.stow.has_anywhere(id));
                drop(done.send(vec![result]));
                return Ok(());
            }
        };
        let job = Arc::new(LargeJob {
            found,
            lane,
            reader: FileReader::new(source, self.cutter),
            parts: Mutex::default(),
            error: Mutex::default(),
            threads: AtomicUsize::new(0),
            finished: AtomicBool::new(false),
            record,
            done,
        });
        self.queue.share(&job);
        self.work_on(&job)
    }

    /// Reads segments of a shared file until there are none; whoever is last reports the file.
    fn work_on(&mut self, job: &LargeJob) -> Result<(), CreateError> {
        job.threads.fetch_add(1, Ordering::SeqCst);
        self.stow.go_to(job.lane);
        loop {
            if self.failure.is_set() {
                job.reader.abandon();
                return Ok(());
            }
            match self.segment(&job.reader)? {
                Ok(Some(part)) => {
                    self.progress.add_bytes(part.bytes);
                    lock(&job.parts).push(part);
                }
                Ok(None) => break,
                Err(error) => {
                    lock(&job.error).get_or_insert(error);
                    break;
                }
            }
        }
        let last = job.threads.fetch_sub(1, Ordering::SeqCst) == 1;
        if !last || job.finished.swap(true, Ordering::SeqCst) {
            return Ok(());
        }
        self.progress.add_files(1);
        let done = match lock(&job.error).take() {
            Some(error) => Done::unread(job.found.clone(), Some(&error)),
            None => {
                let mut parts = std::mem::take(&mut *lock(&job.parts));
                parts.sort_unstable_by_key(|part| part.order);
                let extents = parts.into_iter().flat_map(|part| part.extents).collect();
                finish_file(job.found.clone(), &job.reader, extents, job.reader.is_torn())
            }
        };
        let done = done.or_recorded(job.record.as_deref(), |id| self.stow.has_anywhere(id));
        drop(job.done.send(vec![done]));
        Ok(())
    }

    /// Reads one segment and stores its chunks. The outer error ends the run, the inner one the file.
    fn segment(
        &mut self,
        reader: &FileReader,
    ) -> Result<Result<Option<Part>, SourceError>, CreateError> {
        let segment = match reader.next_segment(self.cutter, &mut self.buffer) {
            Ok(Some(segment)) => segment,
            Ok(None) => return Ok(Ok(None)),
            Err(error) => return Ok(Err(error)),
        };
        let mut rest = self.buffer.as_slice();
        let mut chunks = Vec::with_capacity(segment.chunks.len());
        let mut bytes = 0;
        for length in &segment.chunks {
            let (chunk, after) = rest.split_at_checked(*length).unwrap_or((rest, &[]));
            chunks.push(Extent::Chunk(self.stow.store(chunk)?));
            bytes += chunk.len() as u64;
            rest = after;
        }
        Ok(Ok(Some(Part { order: segment.order, bytes, extents: segment.extents(chunks) })))
    }
}

/// The tree thread waits for the results of every task and the walk for room in the queue: neither may
/// wait for a thread that panicked.
struct StopOnPanic<'a> {
    queue: &'a TaskQueue,
    failure: &'a Failure,
}

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.set(CreateError::Stopped);
            self.queue.abandon();
        }
    }
}

/// A segment that has been stored.
#[derive(Debug)]
struct Part {
    order: usize,
    /// Bytes of data in it, holes left out.
    bytes: u64,
    extents: Vec<Extent>,
}

/// Opens the file that has the path now. `None` when it is no file any more; `found` says what it is.
fn open_current(root: &SourceRoot, found: &mut Found) -> Result<Option<OpenSource>, SourceError> {
    let mut attempt = 1;
    loop {
        match source_file::open(root, found) {
            // Programs that save by renaming over the old file do this all the time: take the new one.
            Err(SourceError::Replaced(_)) if attempt < ATTEMPTS => {
                found.stat = source_file::look_again(root, found)?;
                if found.stat.kind != FileType::File {
                    return Ok(None);
                }
                attempt += 1;
            }
            outcome => return outcome.map(Some),
        }
    }
}

fn finish_file(mut found: Found, reader: &FileReader, extents: Vec<Extent>, torn: bool) -> Done {
    let metadata = match reader.source().metadata() {
        Ok(metadata) => metadata,
        Err(error) => return Done::unread(found, Some(&error)),
    };
    // Whether other names are followed up was decided by what the walk saw.
    found.stat = Stat { links: found.stat.links, ..*reader.source().stat() };
    let content = FileContent { size: found.stat.size, extents, torn };
    let mut done = Done::read(found, Kind::File(content), metadata);
    if torn {
        let path = display_path(&done.found.path);
        done.warnings
            .push(format!("{path} changed while it was read: stored as it was read, marked torn"));
    }
    done
}

impl Done {
    fn read(found: Found, kind: Kind, metadata: Metadata) -> Self {
        let warnings = metadata
            .unread
            .iter()
            .map(|name| {
                let (path, name) = (display_path(&found.path), String::from_utf8_lossy(name));
                format!("{path}: the attribute {name} could not be read")
            })
            .collect();
        let Stat { mode, uid, gid, mtime, .. } = found.stat;
        let path = found.path.clone();
        let xattrs = metadata.xattrs;
        let entry = Entry { path, kind, mode, uid, gid, mtime, xattrs, hardlink_of: None };
        Self { found, entry: Some(entry), warnings, is_recorded: false }
    }

    fn unread(found: Found, error: Option<&SourceError>) -> Self {
        let warning = error.map_or_else(
            || format!("{} could not be read", display_path(&found.path)),
            |error| chain(error),
        );
        Self { found, entry: None, warnings: vec![warning], is_recorded: false }
    }

    /// What the last run stored, in the place of a path that could not be read, where it is still true and all of it is there: to
    /// read what has not changed is only good for the packs it lies in, and costs nobody a backup.
    fn or_recorded(self, record: Option<&[u8]>, is_stored: impl Fn(&ChunkId) -> bool) -> Self {
        if self.entry.is_some() {
            return self;
        }
        let recorded = record.and_then(|record| Some(Record::split(record)?.0));
        let still_true = recorded.filter(|record| {
            record.is_unchanged(&self.found.stat) && record.ids().all(|id| is_stored(&id))
        });
        let Some(entry) = still_true.and_then(|record| recorded_entry(record.raw())) else {
            return self;
        };
        let say = |problem: String| {
            format!("{problem}: saved as the last backup has it, since it has not changed since")
        };
        let warnings = self.warnings.into_iter().map(say).collect();
        Self { found: self.found, entry: Some(entry), warnings, is_recorded: true }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
