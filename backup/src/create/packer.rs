//! Chunks to the store: deduplicate, collect frames into packs, upload packs, index them.
//!
//! Shared by all threads of a run. Packs are uploaded by threads of their own, so compressing never waits
//! for the store until every one of them is busy.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::CreateError;
use super::commit::salt;
use crate::chunk::ChunkId;
use crate::index::{Index, IndexedPack};
use crate::pack::{Compressor, Frame, FrameBuilder, PackBuilder, PackId, PackKind};
use crate::repository::Repository;
use crate::tree::PieceSink;

/// After this many packs an index object is written, so that an interrupted first backup of a large
/// volume goes on where it stopped.
const PACKS_PER_INDEX: usize = 64;

/// Or after this many bytes of it: packs of tiny files have long trailers, and an index object longer
/// than [`crate::index::INDEX_BYTES_MAX`] could not be read again.
const INDEX_TARGET_BYTES: usize = 16 << 20;

/// How often an upload thread that has nothing to do looks whether the run should say that it is alive.
const BEAT_LOOK: Duration = Duration::from_secs(60);

/// Locks of the set of new chunks: enough that threads rarely meet.
const SHARDS: usize = 64;

/// Where every chunk of a run goes.
#[derive(Debug)]
pub(super) struct Packer<'run> {
    repository: &'run Repository,
    index: &'run Index,
    level: i32,
    dry_run: bool,
    progress: &'run Progress,
    /// Which of the index's packs this run refers to.
    referred: Vec<AtomicBool>,
    /// Chunks this run has taken to store.
    taken: Vec<Mutex<HashSet<ChunkId>>>,
    /// Memory of uploaded packs, for the next ones: freeing and asking again costs as much as copying.
    spare: Mutex<Vec<Vec<u8>>>,
    data: Mutex<PackBuilder>,
    tree: Mutex<PackBuilder>,
    /// `None` once everything has been sealed; the upload threads end then.
    queue: Mutex<Option<Sender<PackBuilder>>>,
    uploads: Receiver<PackBuilder>,
    uploaded: Mutex<Uploaded>,
    failure: Failure,
    chunks_added: AtomicU64,
    bytes_added: AtomicU64,
}

#[derive(Debug, Default)]
struct Uploaded {
    /// In the store, but in no index object yet.
    unindexed: Vec<IndexedPack>,
    unindexed_bytes: usize,
    packs: Vec<PackId>,
    bytes_stored: u64,
}

/// See [`Packer::close_on_drop`].
#[derive(Debug)]
pub(super) struct CloseOnDrop<'a>(&'a Mutex<Option<Sender<PackBuilder>>>);

impl Drop for CloseOnDrop<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

/// Whoever seals a pack waits for room in the queue: it has to be emptied even by a thread that panics.
struct DrainOnPanic<'a> {
    uploads: &'a Receiver<PackBuilder>,
    failure: &'a Failure,
}

impl Drop for DrainOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failure.set(CreateError::Stopped);
            self.uploads.iter().for_each(drop);
        }
    }
}

/// What a run added.
#[derive(Debug, Default)]
pub(super) struct Added {
    /// New packs and the old ones the run refers to, sorted.
    pub(super) packs: Vec<PackId>,
    pub(super) chunks: u64,
    pub(super) bytes: u64,
    pub(super) bytes_stored: u64,
}

/// The first error of any thread, and the sign for all others to stop.
#[derive(Debug)]
pub(super) struct Failure {
    stopped: AtomicBool,
    first: Mutex<Option<CreateError>>,
    shutdown: Shutdown,
}

impl Failure {
    /// Whether the run has failed or was interrupted: stop working, go on draining queues. The request
    /// to stop is seen here, because the walk may have ended hours before the last file is read.
    pub(super) fn is_set(&self) -> bool {
        if self.shutdown.is_requested() {
            self.set(CreateError::Interrupted);
        }
        self.stopped.load(Ordering::Relaxed)
    }

    /// Keeps the error, unless there is one already.
    pub(super) fn set(&self, error: CreateError) {
        lock(&self.first).get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn take(&self) -> Option<CreateError> {
        lock(&self.first).take()
    }
}

impl<'run> Packer<'run> {
    pub(super) fn new(
        repository: &'run Repository,
        index: &'run Index,
        level: i32,
        dry_run: bool,
        progress: &'run Progress,
        shutdown: &Shutdown,
    ) -> Self {
        let (queue, uploads) = bounded(0);
        Self {
            repository,
            index,
            level,
            dry_run,
            progress,
            referred: index.packs().iter().map(|_| AtomicBool::new(false)).collect(),
            taken: (0..SHARDS).map(|_| Mutex::default()).collect(),
            spare: Mutex::default(),
            data: Mutex::new(PackBuilder::new(PackKind::Data, Vec::new())),
            tree: Mutex::new(PackBuilder::new(PackKind::Tree, Vec::new())),
            queue: Mutex::new(Some(queue)),
            uploads,
            uploaded: Mutex::default(),
            failure: Failure {
                stopped: AtomicBool::new(false),
                first: Mutex::default(),
                shutdown: shutdown.clone(),
            },
            chunks_added: AtomicU64::new(0),
            bytes_added: AtomicU64::new(0),
        }
    }

    pub(super) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Whether the repository has the chunk already; if so the run refers to it from now on.
    pub(super) fn has(&self, id: &ChunkId) -> bool {
        let Some(place) = self.index.find(id) else { return false };
        if let Some(referred) = self.referred.get(place.pack.as_usize()) {
            // Read first: a store by every thread for every chunk would pass the cache line around.
            if !referred.load(Ordering::Relaxed) {
                referred.store(true, Ordering::Relaxed);
            }
        }
        true
    }

    /// Whether the caller has to store the chunk: nobody has it, and no other thread has taken it.
    pub(super) fn take(&self, id: &ChunkId) -> bool {
        if self.has(id) {
            return false;
        }
        let [first, ..] = id.0;
        let shard = usize::from(first) % SHARDS;
        self.taken.get(shard).is_some_and(|shard| lock(shard).insert(*id))
    }

    /// Whether this run has taken the chunk to store.
    pub(super) fn has_taken(&self, id: &ChunkId) -> bool {
        let [first, ..] = id.0;
        let shard = usize::from(first) % SHARDS;
        self.taken.get(shard).is_some_and(|shard| lock(shard).contains(id))
    }

    /// A thread's own end of the packer.
    pub(super) fn stow(&self, kind: PackKind) -> Result<Stow<'_, 'run>, CreateError> {
        let compressor = Compressor::new(self.level).map_err(CreateError::Compress)?;
        Ok(Stow { packer: self, kind, frame: FrameBuilder::default(), compressor })
    }

    /// Adds a frame to the open pack. A full one is handed over while the pack stays locked: so there are
    /// never more packs in memory than the upload threads hold, and the open one.
    fn append(&self, kind: PackKind, frame: &Frame) -> Result<(), CreateError> {
        let mut open = match kind {
            PackKind::Data => lock(&self.data),
            PackKind::Tree => lock(&self.tree),
        };
        open.append(frame);
        if !open.is_full() {
            return Ok(());
        }
        let full = std::mem::replace(&mut *open, PackBuilder::new(kind, Vec::new()));
        self.hand_over(full)?;
        let spare = lock(&self.spare).pop().unwrap_or_default();
        *open = PackBuilder::new(kind, spare);
        Ok(())
    }

    fn hand_over(&self, pack: PackBuilder) -> Result<(), CreateError> {
        // The upload threads drain the queue until it closes, failed or not, so this cannot hang.
        let queue = lock(&self.queue).clone();
        queue.and_then(|queue| queue.send(pack).ok()).ok_or(CreateError::Stopped)
    }

    /// Hands over what is open and lets the upload threads end. Called once, when every [`Stow`] is
    /// finished.
    pub(super) fn close(&self) {
        let handed = if self.failure.is_set() { Ok(()) } else { self.hand_over_open() };
        if let Err(error) = handed {
            self.failure.set(error);
        }
        *lock(&self.queue) = None;
    }

    fn hand_over_open(&self) -> Result<(), CreateError> {
        for (open, kind) in [(&self.data, PackKind::Data), (&self.tree, PackKind::Tree)] {
            let pack = std::mem::replace(&mut *lock(open), PackBuilder::new(kind, Vec::new()));
            if !pack.is_empty() {
                self.hand_over(pack)?;
            }
        }
        Ok(())
    }

    /// Closes the queue when the thread that fills it panics, so that the upload threads end too.
    pub(super) fn close_on_drop(&self) -> CloseOnDrop<'_> {
        CloseOnDrop(&self.queue)
    }

    /// Uploads packs until [`Self::close`]. Run by every upload thread.
    pub(super) fn upload_all(&self) {
        let _drain = DrainOnPanic { uploads: &self.uploads, failure: &self.failure };
        let mut compressor = match Compressor::new(self.level) {
            Ok(compressor) => compressor,
            Err(error) => {
                self.failure.set(CreateError::Compress(error));
                return self.uploads.iter().for_each(drop);
            }
        };
        loop {
            match self.uploads.recv_timeout(BEAT_LOOK) {
                Ok(_) if self.failure.is_set() => {}
                Ok(pack) => {
                    if let Err(error) = self.upload(pack, &mut compressor) {
                        self.failure.set(error);
                    }
                }
                // What has not changed is walked for hours without a pack.
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if !self.dry_run {
                self.repository.beat();
            }
        }
    }

    fn upload(&self, pack: PackBuilder, compressor: &mut Compressor) -> Result<(), CreateError> {
        let (bytes, index) = pack.end(compressor).map_err(CreateError::Compress)?;
        let pack = self.repository.pack_of(bytes, index)?;
        let indexed = IndexedPack::from(&pack);
        let spare = if self.dry_run {
            pack.bytes
        } else {
            self.repository.put_pack(&indexed.id, pack.bytes)?
        };
        lock(&self.spare).push(spare);
        self.progress.add_bytes_stored(indexed.bytes);
        let mut uploaded = lock(&self.uploaded);
        uploaded.packs.push(indexed.id);
        uploaded.bytes_stored += indexed.bytes;
        uploaded.unindexed_bytes += indexed.index.encoded_bytes();
        uploaded.unindexed.push(indexed);
        if uploaded.unindexed.len() < PACKS_PER_INDEX
            && uploaded.unindexed_bytes < INDEX_TARGET_BYTES
        {
            return Ok(());
        }
        uploaded.unindexed_bytes = 0;
        let packs = std::mem::take(&mut uploaded.unindexed);
        drop(uploaded);
        self.put_index(&packs)
    }

    fn put_index(&self, packs: &[IndexedPack]) -> Result<(), CreateError> {
        if packs.is_empty() || self.dry_run {
            return Ok(());
        }
        let bytes = self.repository.put_index(packs)?;
        lock(&self.uploaded).bytes_stored += bytes;
        Ok(())
    }

    /// Indexes what was uploaded, even of a failed run: its packs are whole, and the next run need not
    /// store them again. Called when the upload threads have ended.
    pub(super) fn finish(self) -> Result<Added, CreateError> {
        let unindexed = std::mem::take(&mut lock(&self.uploaded).unindexed);
        let indexed = self.put_index(&unindexed);
        if let Some(error) = self.failure.take() {
            return Err(error);
        }
        indexed?;
        let uploaded = self.uploaded.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut packs = uploaded.packs;
        let referred = self.index.packs().iter().zip(&self.referred);
        packs.extend(
            referred
                .filter(|(_, referred)| referred.load(Ordering::Relaxed))
                .map(|(pack, _)| pack.id),
        );
        packs.sort_unstable();
        packs.dedup();
        Ok(Added {
            packs,
            chunks: self.chunks_added.into_inner(),
            bytes: self.bytes_added.into_inner(),
            bytes_stored: uploaded.bytes_stored,
        })
    }
}

/// One thread's frame in the making.
#[derive(Debug)]
pub(super) struct Stow<'packer, 'run> {
    packer: &'packer Packer<'run>,
    kind: PackKind,
    frame: FrameBuilder,
    compressor: Compressor,
}

impl Stow<'_, '_> {
    /// See [`Packer::has`].
    pub(super) fn has(&self, id: &ChunkId) -> bool {
        self.packer.has(id)
    }

    /// Names `content` and stores it unless it is stored already.
    pub(super) fn store(&mut self, content: &[u8]) -> Result<ChunkId, CreateError> {
        let id = self.packer.repository.key().id_of(content);
        if self.packer.take(&id) {
            if !self.frame.has_room(content.len()) {
                self.flush()?;
            }
            self.frame.push(id, content);
            self.packer.chunks_added.fetch_add(1, Ordering::Relaxed);
            self.packer.bytes_added.fetch_add(content.len() as u64, Ordering::Relaxed);
        }
        Ok(id)
    }

    fn flush(&mut self) -> Result<(), CreateError> {
        let salt = salt()?;
        self.frame.push(self.packer.repository.key().id_of(&salt), &salt);
        let frame = self.frame.seal(&mut self.compressor).map_err(CreateError::Compress)?;
        self.packer.append(self.kind, frame)
    }

    /// Passes the last frame on.
    pub(super) fn finish(mut self) -> Result<(), CreateError> {
        if self.frame.is_empty() { Ok(()) } else { self.flush() }
    }
}

impl PieceSink for Stow<'_, '_> {
    type Error = CreateError;

    fn piece(&mut self, content: &[u8]) -> Result<ChunkId, CreateError> {
        self.store(content)
    }
}

/// A panicking thread ends the whole run, so what it left locked is never used.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
