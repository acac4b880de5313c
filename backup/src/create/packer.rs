//! Chunks to the store: deduplicate, collect frames into packs, upload packs, index them.
//!
//! Shared by all threads of a run. Packs are uploaded by threads of their own, so compressing never waits
//! for the store until every one of them is busy.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chores_common::progress::Progress;
use chores_common::shutdown::Shutdown;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::rewrite::{Again, Fate, Fates, stored_bytes};
use super::taken::Taken;
use super::{CreateError, salt};
use crate::chunk::ChunkId;
use crate::index::{ChunkSet, Index, IndexedPack, Place, SharedChunkSet};
use crate::pack::{self, Compressor, Frame, FrameBuilder, PackBuilder, PackId, PackKind};
use crate::repository::Repository;
use crate::tree::PieceSink;

/// After this many packs an index object is written, so that an interrupted first backup of a large
/// volume goes on where it stopped.
const PACKS_PER_INDEX: usize = 64;

/// Or after this many bytes of it: packs of tiny files have long trailers, and an index object lies in memory three times over
/// while it is written: as trailers, as bytes, and as what the store is given.
const INDEX_TARGET_BYTES: usize = 1 << 20;

/// How often an upload thread that has nothing to do looks whether the run should say that it is alive.
const BEAT_LOOK: Duration = Duration::from_secs(60);

/// What is not expected to stay has a pack of its own, and so have trees, open beside that of the rest. When all together have more
/// bytes than a full one and a quarter of another, the larger of these two is sealed.
pub(super) const OPEN_BYTES_MAX: usize = pack::PACK_TARGET_BYTES / 4 * 5;

/// A pack of trees that has more bytes lies beside a full one, whose memory is kept, no longer.
const TREE_BYTES_BESIDE_MAX: usize = OPEN_BYTES_MAX - pack::PACK_TARGET_BYTES;

/// Up to this target, in bytes, a full pack is held back until the next one of its lane is full: what is left over in the end may be
/// too few pieces for a pack of their own, and belongs to its like.
const HELD_BYTES_MAX: usize = 1 << 20;

/// Where every chunk of a run goes.
#[derive(Debug)]
pub(super) struct Packer<'run> {
    repository: &'run Repository,
    index: &'run Index,
    level: i32,
    dry_run: bool,
    progress: &'run Progress,
    /// What becomes of the index's packs.
    fates: Vec<Fate>,
    /// So many bytes may be stored again to leave packs; after that nothing is left any more.
    again_bytes_max: u64,
    again_bytes: AtomicU64,
    /// Which of the index's packs this run refers to.
    referred: Vec<AtomicBool>,
    /// Which of its chunks, where later runs have to know.
    used: Option<SharedChunkSet>,
    /// Chunks this run has taken to store.
    taken: Taken,
    /// Memory of uploaded packs, for the next ones: freeing and asking again costs as much as copying. Together with the packs that
    /// are on their way it is never more than one for each upload thread: see [`Self::exchange`].
    spare: Mutex<Vec<Vec<u8>>>,
    /// Two packs are filled side by side: something was stored as hot, or trees are long. From then on no memory is kept: what was
    /// full once is resident as a whole, and two packs that are open at once would need twice of what is in them.
    mixed: AtomicBool,
    data: OpenPack,
    /// What is not expected to stay for long.
    hot: OpenPack,
    tree: OpenPack,
    /// `None` once everything has been sealed; the upload threads end then.
    queue: Mutex<Option<Sender<PackBuilder>>>,
    uploads: Receiver<PackBuilder>,
    uploaded: Mutex<Uploaded>,
    failure: Failure,
    chunks_added: AtomicU64,
    bytes_added: AtomicU64,
    /// Bytes of all packs that were there before.
    bytes_before: u64,
    /// Bytes of the packs of this run.
    bytes_sent: AtomicU64,
}

/// A pack that is being filled.
#[derive(Debug)]
struct OpenPack {
    builder: Mutex<PackBuilder>,
    /// The full one before it, see [`HELD_BYTES_MAX`].
    held: Mutex<Option<PackBuilder>>,
    /// How much is in it, for who does not fill it.
    bytes: AtomicUsize,
}

impl OpenPack {
    fn new(kind: PackKind) -> Self {
        let builder = Mutex::new(PackBuilder::new(kind, Vec::new()));
        Self { builder, held: Mutex::default(), bytes: AtomicUsize::new(0) }
    }
}

#[derive(Debug, Default)]
struct Uploaded {
    /// In the store, but in no index object yet.
    unindexed: Vec<IndexedPack>,
    unindexed_bytes: usize,
    packs: Vec<PackId>,
    bytes_stored: u64,
    again: Again,
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
    /// Where it is now what was there before.
    pub(super) again: Again,
    /// What the run refers to, where later ones have to know.
    pub(super) used: Option<Used>,
}

/// All chunks that a run refers to.
#[derive(Debug)]
pub(super) struct Used {
    /// Of the index.
    before: ChunkSet,
    stored: Taken,
}

impl Used {
    /// All of them, sorted.
    pub(super) fn into_sorted(self, index: &Index) -> impl Iterator<Item = ChunkId> {
        let Self { before, stored } = self;
        let chunks = index.chunks().iter().enumerate();
        let before = chunks.filter(move |(chunk, _)| before.has(*chunk)).map(|(_, (id, _))| *id);
        let (mut before, mut stored) = (before.peekable(), stored.into_sorted().peekable());
        std::iter::from_fn(move || match (before.peek(), stored.peek()) {
            (Some(one), Some(other)) if one == other => {
                stored.next();
                before.next()
            }
            (Some(one), Some(other)) if one > other => stored.next(),
            (Some(_), _) => before.next(),
            (None, _) => stored.next(),
        })
    }
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
            fates: Vec::new(),
            again_bytes_max: 0,
            again_bytes: AtomicU64::new(0),
            referred: index.packs().iter().map(|_| AtomicBool::new(false)).collect(),
            used: None,
            taken: Taken::default(),
            spare: Mutex::default(),
            mixed: AtomicBool::new(false),
            data: OpenPack::new(PackKind::Data),
            hot: OpenPack::new(PackKind::Data),
            tree: OpenPack::new(PackKind::Tree),
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
            bytes_before: index.packs().iter().map(|pack| pack.bytes).sum(),
            bytes_sent: AtomicU64::new(0),
        }
    }

    /// With what becomes of the packs of the index.
    pub(super) fn with_fates(self, fates: Fates) -> Self {
        let used = fates.is_remembered.then(|| SharedChunkSet::none_of(self.index.chunk_count()));
        Self { fates: fates.of_packs, again_bytes_max: fates.again_bytes_max, used, ..self }
    }

    pub(super) fn failure(&self) -> &Failure {
        &self.failure
    }

    /// Whether the repository has the chunk already, in a pack that is not left; if so the run refers to it from now on.
    pub(super) fn has(&self, id: &ChunkId) -> bool {
        self.refer(id, Fate::Avoided)
    }

    /// Whether the repository has the chunk already, even in a pack that is left: for what nobody can read again. If so the
    /// run refers to it from now on.
    pub(super) fn has_anywhere(&self, id: &ChunkId) -> bool {
        self.refer(id, Fate::Left)
    }

    /// Refers to the chunk where it has the best fate, unless that is worse than `worst`.
    fn refer(&self, id: &ChunkId, worst: Fate) -> bool {
        let Some(chunk) = self.index.position(id) else { return false };
        let Some((_, mut place)) = self.index.chunks().get(chunk).copied() else { return false };
        let fate =
            |place: &Place| self.fates.get(place.pack.as_usize()).copied().unwrap_or(Fate::Used);
        if fate(&place) != Fate::Used {
            let copies = std::iter::once(place).chain(self.index.copies(id));
            place = copies.min_by_key(fate).unwrap_or(place);
            if fate(&place) > worst && self.may_store_again(&place) {
                return false;
            }
        }
        if let Some(referred) = self.referred.get(place.pack.as_usize()) {
            // Read first: a store by every thread for every chunk would pass the cache line around.
            if !referred.load(Ordering::Relaxed) {
                referred.store(true, Ordering::Relaxed);
            }
        }
        if let Some(used) = &self.used {
            used.add(chunk);
        }
        true
    }

    /// Whether what lies there may be stored again, so that its pack can be left. What the cache does not know of is not counted
    /// before, so it is counted here.
    fn may_store_again(&self, place: &Place) -> bool {
        let again = self.again_bytes.load(Ordering::Relaxed);
        again.saturating_add(stored_bytes(self.index, place)) < self.again_bytes_max
    }

    /// Whether the caller has to store the chunk: nobody has it, and no other thread has taken it.
    pub(super) fn take(&self, id: &ChunkId) -> bool {
        if self.has(id) || !self.taken.insert(id) {
            return false;
        }
        if !self.fates.is_empty()
            && let Some(place) = self.index.find(id)
        {
            self.again_bytes.fetch_add(stored_bytes(self.index, &place), Ordering::Relaxed);
        }
        true
    }

    /// Whether this run has taken the chunk to store.
    pub(super) fn has_taken(&self, id: &ChunkId) -> bool {
        self.taken.contains(id)
    }

    /// A thread's own end of the packer.
    pub(super) fn stow(&self, kind: PackKind) -> Result<Stow<'_, 'run>, CreateError> {
        let compressor = Compressor::new(self.level).map_err(CreateError::Compress)?;
        let frames = [FrameBuilder::default(), FrameBuilder::default()];
        Ok(Stow { packer: self, kind, lane: Lane::Cold, frames, compressor })
    }

    /// Adds a frame to the open pack. A full one is handed over while the pack stays locked: so there are
    /// never more packs in memory than the upload threads hold, and the open ones.
    fn append(&self, kind: PackKind, lane: Lane, frame: &Frame) -> Result<(), CreateError> {
        let open = match (kind, lane) {
            (PackKind::Tree, _) => &self.tree,
            (PackKind::Data, Lane::Cold) => &self.data,
            (PackKind::Data, Lane::Hot) => &self.hot,
        };
        let is_beside = match kind {
            PackKind::Data => lane == Lane::Hot,
            PackKind::Tree => self.tree.bytes.load(Ordering::Relaxed) > TREE_BYTES_BESIDE_MAX,
        };
        if is_beside && !self.mixed.load(Ordering::Relaxed) {
            self.mix();
        }
        let mut builder = lock(&open.builder);
        builder.append(frame);
        open.bytes.store(builder.frames_bytes(), Ordering::Relaxed);
        let target = self.target();
        if builder.is_full(target) {
            if target <= HELD_BYTES_MAX && kind == PackKind::Data && self.hides_lengths() {
                let mut held = lock(&open.held);
                let next = match held.take() {
                    Some(before) => self.exchange(before)?,
                    None => PackBuilder::new(kind, Vec::new()),
                };
                *held = Some(std::mem::replace(&mut *builder, next));
                open.bytes.store(0, Ordering::Relaxed);
            } else {
                self.seal(open, &mut builder)?;
            }
        }
        drop(builder);
        if self.open_bytes() <= OPEN_BYTES_MAX {
            return Ok(());
        }
        let of = |open: &OpenPack| open.bytes.load(Ordering::Relaxed);
        let larger = if of(&self.hot) >= of(&self.tree) { &self.hot } else { &self.tree };
        let mut builder = lock(&larger.builder);
        // Another thread may have done it.
        if !builder.has_pieces_enough() || self.open_bytes() <= OPEN_BYTES_MAX {
            return Ok(());
        }
        self.seal(larger, &mut builder)
    }

    /// From now on two packs are filled side by side, and no memory is kept.
    fn mix(&self) {
        let mut spare = lock(&self.spare);
        if self.mixed.swap(true, Ordering::Relaxed) {
            return;
        }
        spare.clear();
        drop(spare);
        lock(&self.data.builder).release_memory();
    }

    /// Bytes of content in the packs that are being filled.
    pub(super) fn open_bytes(&self) -> usize {
        [&self.data, &self.hot, &self.tree]
            .map(|open| open.bytes.load(Ordering::Relaxed))
            .iter()
            .sum()
    }

    /// Kept memory of packs.
    #[cfg(test)]
    pub(super) fn spares(&self) -> usize {
        lock(&self.spare).len()
    }

    /// At how many bytes a pack is sealed now.
    fn target(&self) -> usize {
        let sent = self.bytes_sent.load(Ordering::Relaxed);
        pack::target_bytes(self.bytes_before.saturating_add(sent), sent)
    }

    /// Hands over what is in an open pack, whose builder this is.
    fn seal(&self, open: &OpenPack, builder: &mut PackBuilder) -> Result<(), CreateError> {
        let empty = PackBuilder::new(builder.kind(), Vec::new());
        *builder = self.exchange(std::mem::replace(builder, empty))?;
        // Not before: while it waits for an upload thread it is in memory, and others go on filling theirs.
        open.bytes.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Hands a full pack over for an empty one, in kept memory where there is some. For each that goes to the upload threads
    /// one that came from them is taken, or what is kept would grow with every pack.
    fn exchange(&self, full: PackBuilder) -> Result<PackBuilder, CreateError> {
        let kind = full.kind();
        self.hand_over(full)?;
        let spare = lock(&self.spare).pop();
        // Only for the pack that is filled and sealed all the time: with that of the trees it would lie about.
        let is_used = kind == PackKind::Data && !self.mixed.load(Ordering::Relaxed);
        Ok(PackBuilder::new(kind, spare.filter(|_| is_used).unwrap_or_default()))
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
        if self.hides_lengths() {
            self.join_small();
            for open in [&self.data, &self.hot] {
                lock(&open.builder).hide_length();
            }
        }
        for open in [&self.data, &self.hot, &self.tree] {
            let held = lock(&open.held).take();
            if let Some(held) = held {
                self.hand_over(held)?;
            }
            let mut builder = lock(&open.builder);
            if !builder.is_empty() {
                self.seal(open, &mut builder)?;
            }
        }
        Ok(())
    }

    /// Whether the lengths of pieces are nobody's business.
    fn hides_lengths(&self) -> bool {
        self.repository.is_encrypted()
    }

    /// What is left over and too little for a pack of its own goes to the full one before it.
    fn join_small(&self) {
        for open in [&self.data, &self.hot] {
            let mut builder = lock(&open.builder);
            if !builder.has_pieces_enough()
                && let Some(mut held) = lock(&open.held).take()
            {
                let empty = PackBuilder::new(PackKind::Data, Vec::new());
                held.append_pack(std::mem::replace(&mut *builder, empty));
                *builder = held;
            }
        }
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
        let mut kept = lock(&self.spare);
        // Under the lock: what is kept goes when hot content comes.
        if !self.mixed.load(Ordering::Relaxed) {
            kept.push(spare);
        }
        drop(kept);
        self.bytes_sent.fetch_add(indexed.bytes, Ordering::Relaxed);
        self.progress.add_bytes_stored(indexed.bytes);
        let mut uploaded = lock(&self.uploaded);
        uploaded.packs.push(indexed.id);
        if !self.fates.is_empty() {
            let chunks = indexed.index.chunks.iter().map(|chunk| chunk.id);
            let again = chunks.filter(|id| self.index.position(id).is_some());
            uploaded.again.extend(again.map(|id| (id, indexed.id)));
        }
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
        let stored = self.taken;
        let used = self.used.map(|used| Used { before: used.into_set(), stored });
        Ok(Added {
            packs,
            again: uploaded.again,
            used,
            chunks: self.chunks_added.into_inner(),
            bytes: self.bytes_added.into_inner(),
            bytes_stored: uploaded.bytes_stored,
        })
    }
}

/// How long content is expected to stay. What goes together should lie together: packs go as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lane {
    /// It may stay for ever.
    #[default]
    Cold,
    /// What was there before did not stay for long.
    Hot,
}

/// One thread's frames in the making.
#[derive(Debug)]
pub(super) struct Stow<'packer, 'run> {
    packer: &'packer Packer<'run>,
    kind: PackKind,
    /// Where it goes what is stored now.
    lane: Lane,
    /// One for each lane.
    frames: [FrameBuilder; 2],
    compressor: Compressor,
}

impl Stow<'_, '_> {
    /// See [`Packer::has_anywhere`].
    pub(super) fn has_anywhere(&self, id: &ChunkId) -> bool {
        self.packer.has_anywhere(id)
    }

    /// What is stored from now on is expected to stay for so long.
    pub(super) fn go_to(&mut self, lane: Lane) {
        self.lane = lane;
    }

    /// Names `content` and stores it unless it is stored already.
    pub(super) fn store(&mut self, content: &[u8]) -> Result<ChunkId, CreateError> {
        let id = self.packer.repository.key().id_of(content);
        if self.packer.take(&id) {
            let target = self.packer.target();
            if !self.frame().has_room(content.len(), target) {
                self.flush()?;
            }
            self.frame().push(id, content);
            self.packer.chunks_added.fetch_add(1, Ordering::Relaxed);
            self.packer.bytes_added.fetch_add(content.len() as u64, Ordering::Relaxed);
        }
        Ok(id)
    }

    fn frame(&mut self) -> &mut FrameBuilder {
        let [cold, hot] = &mut self.frames;
        match self.lane {
            Lane::Cold => cold,
            Lane::Hot => hot,
        }
    }

    fn flush(&mut self) -> Result<(), CreateError> {
        let salt = salt()?;
        let id = self.packer.repository.key().id_of(&salt);
        let [cold, hot] = &mut self.frames;
        let frame = match self.lane {
            Lane::Cold => cold,
            Lane::Hot => hot,
        };
        frame.push(id, &salt);
        let frame = frame.seal(&mut self.compressor).map_err(CreateError::Compress)?;
        self.packer.append(self.kind, self.lane, frame)
    }

    /// Passes the last frames on.
    pub(super) fn finish(mut self) -> Result<(), CreateError> {
        for lane in [Lane::Cold, Lane::Hot] {
            self.lane = lane;
            if !self.frame().is_empty() {
                self.flush()?;
            }
        }
        Ok(())
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
