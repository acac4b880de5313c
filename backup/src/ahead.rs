//! File content in tree order, read ahead.
//!
//! The caller's thread reads entries, hands the frames they need to a few threads that fetch and decode
//! them, and takes the content in order. Neighbours in the tree mostly share frames, so the last few are
//! kept; each chunk is checked against its name on its way out.

use std::cell::OnceCell;
use std::collections::VecDeque;
use std::rc::Rc;

use chores_common::shutdown::Shutdown;
use crossbeam_channel::{Receiver, Sender, bounded};

use crate::chunk::ChunkId;
use crate::entry::{Entry, Extent, Kind};
use crate::index::{Index, PackNumber, Place};
use crate::pack::{Decompressor, FramePlace, PackId};
use crate::reader::{ReadError, range_of, slice_of};
use crate::repository::Repository;
use crate::threads;

/// Frames that are fetched before their turn. One frame is about 1 MiB.
const FRAMES_AHEAD: usize = 12;

/// Frames kept for the chunks that are still to come.
const FRAMES_KEPT: usize = 16;

/// Entries, chunks and holes that wait for their turn.
const STEPS_AHEAD: usize = 4096;

/// Threads that fetch: they mostly wait for the store.
const FETCH_THREADS: usize = 6;

/// Bytes of a hole that are written at once.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A hole as the zeros it reads as, in pieces.
pub(crate) fn zeros(length: u64) -> impl Iterator<Item = &'static [u8]> {
    let mut left = length;
    std::iter::from_fn(move || {
        let wanted = usize::try_from(left).unwrap_or(ZEROS.len()).min(ZEROS.len());
        left -= wanted as u64;
        ZEROS.get(..wanted).filter(|piece| !piece.is_empty())
    })
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step<'a> {
    /// An entry; the content of a file follows it.
    Entry(&'a Entry),
    /// Content of the last entry.
    Chunk(&'a [u8]),
    /// So many bytes of the last entry read as zero.
    Hole(u64),
}

/// Why the content cannot be had to its end.
#[derive(Debug)]
pub(crate) enum AheadError<E> {
    /// The caller said so.
    Caller(E),
    /// A chunk of the last entry that was given out is not to be had.
    Content(ReadError),
    /// The request to stop was made.
    Interrupted,
}

/// Reads the content of all that `next_entry` gives and hands everything to `take`, in order.
pub(crate) fn read_in_order<E>(
    repository: &Repository,
    index: &Index,
    shutdown: &Shutdown,
    next_entry: impl FnMut() -> Result<Option<Entry>, E>,
    take: impl FnMut(Step<'_>) -> Result<(), E>,
) -> Result<(), AheadError<E>> {
    std::thread::scope(|scope| {
        let (jobs, work) = bounded::<Job>(FRAMES_AHEAD);
        let fetchers = {
            let work = work.clone();
            threads::start(scope, "fetch", FETCH_THREADS, move || {
                fetch_all(repository, work.iter());
            })
        };
        let plan = Plan {
            index,
            jobs,
            unattended: (fetchers == 0).then_some(work),
            next_entry,
            open: None,
            steps: VecDeque::new(),
            frames_ahead: 0,
            kept: VecDeque::with_capacity(FRAMES_KEPT),
            at_end: false,
        };
        plan.run(repository, shutdown, take)
    })
}

/// A frame to be fetched and where its content goes.
struct Job {
    pack: PackId,
    /// Length of the pack.
    pack_bytes: u64,
    frame: FramePlace,
    reply: Sender<Result<Vec<u8>, ReadError>>,
}

fn fetch_all(repository: &Repository, work: impl Iterator<Item = Job>) {
    let mut decompressor = Decompressor::new();
    for job in work {
        let outcome = match &mut decompressor {
            Ok(decompressor) => fetch(repository, decompressor, &job),
            Err(error) => {
                Err(ReadError::Decompress(std::io::Error::new(error.kind(), error.to_string())))
            }
        };
        // Nobody waits any more after an error.
        drop(job.reply.send(outcome));
    }
}

fn fetch(
    repository: &Repository,
    decompressor: &mut Decompressor,
    job: &Job,
) -> Result<Vec<u8>, ReadError> {
    let stored = repository.read_pack(job.pack, job.pack_bytes, range_of(&job.frame))?;
    let mut content = Vec::new();
    decompressor
        .frame(&stored, job.frame.content, &mut content)
        .map_err(|error| ReadError::Pack(job.pack, error))?;
    Ok(content)
}

/// A frame that was asked for.
struct Frame {
    number: (PackNumber, u32),
    pack: PackId,
    reply: Receiver<Result<Vec<u8>, ReadError>>,
    content: OnceCell<Vec<u8>>,
}

impl Frame {
    /// Waits for the content the first time.
    fn content(&self, id: ChunkId) -> Result<&[u8], ReadError> {
        if let Some(content) = self.content.get() {
            return Ok(content);
        }
        let content = self.reply.recv().unwrap_or(Err(ReadError::Missing(id)))?;
        Ok(self.content.get_or_init(|| content))
    }
}

/// A step that waits for its turn.
enum Waiting {
    Entry(Rc<Entry>),
    Chunk { id: ChunkId, place: Place, frame: Rc<Frame>, asked_for: bool },
    Missing(ChunkId),
    Hole(u64),
}

struct Plan<'a, N> {
    index: &'a Index,
    jobs: Sender<Job>,
    /// The frames asked for, where no thread could be started that fetches them.
    unattended: Option<Receiver<Job>>,
    next_entry: N,
    /// The entry whose content is being planned, and how many of its extents are.
    open: Option<(Rc<Entry>, usize)>,
    steps: VecDeque<Waiting>,
    /// Frames asked for by steps that still wait. This and `kept` bound the memory: a waiting step uses
    /// a frame that one of the waiting steps asked for, or one that was kept when the oldest began to wait.
    frames_ahead: usize,
    /// Most recently used last.
    kept: VecDeque<Rc<Frame>>,
    at_end: bool,
}

impl<E, N: FnMut() -> Result<Option<Entry>, E>> Plan<'_, N> {
    fn run(
        mut self,
        repository: &Repository,
        shutdown: &Shutdown,
        mut take: impl FnMut(Step<'_>) -> Result<(), E>,
    ) -> Result<(), AheadError<E>> {
        loop {
            self.fill()?;
            if shutdown.is_requested() {
                return Err(AheadError::Interrupted);
            }
            let Some(step) = self.steps.pop_front() else { return Ok(()) };
            match step {
                Waiting::Entry(entry) => take(Step::Entry(&entry)),
                Waiting::Hole(length) => take(Step::Hole(length)),
                Waiting::Missing(id) => return Err(AheadError::Content(ReadError::Missing(id))),
                Waiting::Chunk { id, place, frame, asked_for } => {
                    self.frames_ahead -= usize::from(asked_for);
                    if let Some(work) = self.unattended.as_ref().filter(|work| !work.is_empty()) {
                        fetch_all(repository, work.try_iter());
                    }
                    let content = frame.content(id).map_err(AheadError::Content)?;
                    let chunk = slice_of(content, &place)
                        .filter(|chunk| repository.key().id_of(chunk) == id)
                        .ok_or(ReadError::Content { pack: frame.pack, chunk: id })
                        .map_err(AheadError::Content)?;
                    take(Step::Chunk(chunk))
                }
            }
            .map_err(AheadError::Caller)?;
        }
    }

    fn fill(&mut self) -> Result<(), AheadError<E>> {
        while self.steps.len() < STEPS_AHEAD && self.frames_ahead < FRAMES_AHEAD {
            if let Some(extent) = self.next_extent() {
                let step = match extent {
                    Extent::Hole(length) => Waiting::Hole(length),
                    Extent::Chunk(id) => self.chunk(id),
                };
                self.steps.push_back(step);
                continue;
            }
            if self.at_end {
                break;
            }
            let Some(entry) = (self.next_entry)().map_err(AheadError::Caller)? else {
                self.at_end = true;
                break;
            };
            let entry = Rc::new(entry);
            self.open = Some((Rc::clone(&entry), 0));
            self.steps.push_back(Waiting::Entry(entry));
        }
        Ok(())
    }

    fn next_extent(&mut self) -> Option<Extent> {
        let (entry, planned) = self.open.as_mut()?;
        let Kind::File(content) = &entry.kind else { return None };
        let extent = content.extents.get(*planned).copied()?;
        *planned += 1;
        Some(extent)
    }

    fn chunk(&mut self, id: ChunkId) -> Waiting {
        let Some(place) = self.index.find(&id) else { return Waiting::Missing(id) };
        let number = (place.pack, place.frame);
        let kept = self.kept.iter().position(|frame| frame.number == number);
        if let Some(frame) = kept.and_then(|at| self.kept.remove(at)) {
            self.kept.push_back(Rc::clone(&frame));
            return Waiting::Chunk { id, place, frame, asked_for: false };
        }
        match self.ask_for(&place) {
            Some(frame) => Waiting::Chunk { id, place, frame, asked_for: true },
            None => Waiting::Missing(id),
        }
    }

    fn ask_for(&mut self, place: &Place) -> Option<Rc<Frame>> {
        let pack = self.index.pack(place.pack)?;
        let at = pack.frames.get(place.frame as usize)?;
        let (reply, content) = bounded(1);
        self.jobs.send(Job { pack: pack.id, pack_bytes: pack.bytes, frame: *at, reply }).ok()?;
        if self.kept.len() >= FRAMES_KEPT {
            self.kept.pop_front();
        }
        let number = (place.pack, place.frame);
        let frame =
            Rc::new(Frame { number, pack: pack.id, reply: content, content: OnceCell::new() });
        self.kept.push_back(Rc::clone(&frame));
        self.frames_ahead += 1;
        Some(frame)
    }
}
