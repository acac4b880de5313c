//! Chunks for whoever reads: a few threads fetch, decode and check them, and the last ones are kept.
//!
//! Each frame has one thread that reads it, so that no frame is fetched twice at once and neighbours find it decoded.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use chores_common::shutdown::Shutdown;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::chunk::ChunkId;
use crate::index::Index;
use crate::reader::{ChunkReader, ReadError};
use crate::repository::Repository;

/// Threads that fetch: they mostly wait for the store. Each keeps 4 frames of about 1 MiB.
const FETCH_THREADS: usize = 4;

/// Chunks that wait for one thread; who asks for more waits too.
const JOBS_WAITING_MAX: usize = 32;

/// Bytes of chunks that are kept: what several readers read and have read ahead.
const KEPT_BYTES_MAX: usize = 32 << 20;

/// Why a chunk is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    /// It cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody reads any more.
    #[error("the thread that reads it has ended")]
    Ended,
}

/// A chunk to be read, and who waits for it; nobody where it is read ahead.
struct Job {
    index: Arc<Index>,
    id: ChunkId,
    reply: Option<Sender<Result<Bytes, ReadError>>>,
}

/// The threads and what they have read. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Contents {
    threads: Vec<Sender<Job>>,
    kept: Arc<Mutex<Kept>>,
}

/// The jobs of one thread. A panic leaves them to nobody, and who asked would wait for ever: they are dropped then, and the mount
/// has to end.
struct Work<'a> {
    jobs: &'a Receiver<Job>,
    broken: &'a Shutdown,
}

impl Drop for Work<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.broken.request();
            // They are kept as long as somebody may send, also when nobody receives.
            while self.jobs.try_recv().is_ok() {}
        }
    }
}

impl Contents {
    /// Starts the threads. One that ends by a panic makes the request to end.
    pub(crate) fn start(repository: &Repository, broken: &Shutdown) -> io::Result<Self> {
        let kept = Arc::new(Mutex::new(Kept::default()));
        let mut threads = Vec::with_capacity(FETCH_THREADS);
        for _ in 0..FETCH_THREADS {
            let (sender, jobs) = bounded(JOBS_WAITING_MAX);
            let (repository, kept) = (repository.clone(), Arc::clone(&kept));
            let broken = broken.clone();
            let thread = std::thread::Builder::new().name("fetch".to_owned());
            thread.spawn(move || work(&repository, &jobs, &kept, &broken))?;
            threads.push(sender);
        }
        Ok(Self { threads, kept })
    }

    /// The content of a chunk, checked against its name.
    pub(crate) fn chunk(&self, index: &Arc<Index>, id: ChunkId) -> Result<Bytes, ContentError> {
        if let Some(content) = lock(&self.kept).get(&id) {
            return Ok(content);
        }
        let (reply, content) = bounded(1);
        let job = Job { index: Arc::clone(index), id, reply: Some(reply) };
        let thread = self.thread_of(index, &id).ok_or(ReadError::Missing(id))?;
        thread.send(job).map_err(|_| ContentError::Ended)?;
        Ok(content.recv().map_err(|_| ContentError::Ended)??)
    }

    /// Reads a chunk ahead, unless somebody waits for its thread.
    pub(crate) fn ask(&self, index: &Arc<Index>, id: ChunkId) {
        if lock(&self.kept).has(&id) {
            return;
        }
        let job = Job { index: Arc::clone(index), id, reply: None };
        if let Some(thread) = self.thread_of(index, &id).filter(|thread| thread.is_empty()) {
            // Without it, it is read when it is needed.
            drop(thread.try_send(job));
        }
    }

    fn thread_of(&self, index: &Index, id: &ChunkId) -> Option<&Sender<Job>> {
        let place = index.find(id)?;
        // Neighbouring frames go to different threads.
        let number = place.pack.as_usize().wrapping_add(place.frame as usize);
        self.threads.get(number.checked_rem(self.threads.len())?)
    }
}

fn work(repository: &Repository, jobs: &Receiver<Job>, kept: &Mutex<Kept>, broken: &Shutdown) {
    let work = Work { jobs, broken };
    let mut reader: Option<ChunkReader<'_, Arc<Index>>> = None;
    for Job { index, id, reply } in work.jobs {
        let known = lock(kept).get(&id);
        let outcome = known.map_or_else(|| read(repository, &mut reader, &index, &id), Ok);
        if let Ok(content) = &outcome {
            lock(kept).keep(id, content.clone());
        }
        if let Some(reply) = reply {
            // Who asked may be gone.
            drop(reply.send(outcome));
        }
    }
}

fn read<'a>(
    repository: &'a Repository,
    reader: &mut Option<ChunkReader<'a, Arc<Index>>>,
    index: &Arc<Index>,
    id: &ChunkId,
) -> Result<Bytes, ReadError> {
    // What is decoded is known by its place in an index.
    let same = reader.take().filter(|reader| Arc::ptr_eq(reader.index(), index));
    let reader = match same {
        Some(same) => reader.insert(same),
        None => reader.insert(ChunkReader::sharing(repository, Arc::clone(index))?),
    };
    reader.chunk(id).map(Bytes::copy_from_slice)
}

fn lock(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The chunks that were asked for last. Each is what its name says.
#[derive(Debug, Default)]
struct Kept {
    chunks: HashMap<ChunkId, (Bytes, u64)>,
    /// By when they were asked for.
    order: BTreeMap<u64, ChunkId>,
    bytes: usize,
    asked: u64,
}

impl Kept {
    fn has(&self, id: &ChunkId) -> bool {
        self.chunks.contains_key(id)
    }

    fn get(&mut self, id: &ChunkId) -> Option<Bytes> {
        self.asked += 1;
        let (content, asked) = self.chunks.get_mut(id)?;
        self.order.remove(asked);
        *asked = self.asked;
        self.order.insert(self.asked, *id);
        Some(content.clone())
    }

    fn keep(&mut self, id: ChunkId, content: Bytes) {
        if self.has(&id) {
            return;
        }
        self.asked += 1;
        self.bytes += content.len();
        self.chunks.insert(id, (content, self.asked));
        self.order.insert(self.asked, id);
        while self.bytes > KEPT_BYTES_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            let dropped = self.chunks.remove(&oldest);
            self.bytes -= dropped.map_or(0, |(content, _)| content.len());
        }
    }
}

#[cfg(test)]
mod tests;
