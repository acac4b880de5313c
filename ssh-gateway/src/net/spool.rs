//! Bytes on their way from the client to a program that may be slow.
//!
//! russh refills a channel's window as soon as bytes arrive, and would stop the whole connection while one
//! channel's queue is full. So nothing may ever wait for a program here: bytes that it does not take are kept
//! in memory, then in a file without a name. At the limit the [`Brake`] makes the client send slowly.
//!
//! Nor for a disk: a task of each spool asks for the file and writes to it, and what comes meanwhile is kept in memory.
//! Where that is much the brake is put on too, and the writer waits only beyond all that a braked client may still send.
//!
//! ```text
//! push → tail → spilling → file (a ring) → head → next
//!          └──────────────────────────────↗          while there is nothing in the file
//! ```

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;
use tokio_util::task::AbortOnDropHandle;

use super::lock;
use super::stream::Stream;

/// What is written to and read from the file at once. In bytes.
const BATCH_BYTES: usize = 256 * 1024;
/// A file that held more than this is given up once it is empty, to free the disk. In bytes.
const KEEP_FILE_BYTES: u64 = 64 * 1024 * 1024;

/// What is handed to the disk at once, at most. In bytes.
const SPILL_BYTES: usize = 4 * 1024 * 1024;
/// What may wait for the disk in one spool before the client is slowed. In bytes.
const UNWRITTEN_BYTES: usize = 8 * 1024 * 1024;
/// What all spools of a connection may have in memory before one whose disk is at work makes its writer wait: as much as
/// one channel can still bring after its client is slowed (two windows of 8 MiB) fits in. In bytes.
const UNWRITTEN_ALL_BYTES: u64 = 32 * 1024 * 1024;
/// How long the disk may hold up the connection, once too much waits for it. A file that does not come is given up earlier.
const DISK_TIME: Duration = Duration::from_secs(30);

/// How long a program may take nothing after its client has closed the channel.
const DRAIN_TIME: Duration = Duration::from_secs(1);

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// In memory, before a file is asked for. In bytes.
    pub(super) memory: usize,
    /// In all, before the brake is put on. In bytes.
    pub(super) total: u64,
    /// Beyond `total`: what a client may still send that obeys its windows. In bytes.
    pub(super) overrun: u64,
}

/// Where files come from.
pub(super) trait Shelf: Send + Sync {
    /// An empty file for reading and writing, or none.
    fn file(&self) -> impl Future<Output = Option<File>> + Send;
}

/// How much may wait in all spools of a connection together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// Before the brake is put on. In bytes.
    pub(super) total: u64,
    /// Beyond `total`: what a client may still send that obeys its windows. In bytes.
    pub(super) overrun: u64,
    /// In memory. In bytes.
    pub(super) memory: u64,
}

/// What waits in the spools of a connection, and whether its client must be slowed.
#[derive(Debug)]
pub(super) struct Brake {
    allowance: Allowance,
    /// Spools that are full, and those whose disk is behind.
    full: AtomicUsize,
    waiting: AtomicU64,
    in_memory: AtomicU64,
    is_over: AtomicBool,
}

impl Brake {
    /// With nothing waiting.
    pub(super) fn new(allowance: Allowance) -> Arc<Self> {
        Arc::new(Self {
            allowance,
            full: AtomicUsize::new(0),
            waiting: AtomicU64::new(0),
            in_memory: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
        })
    }

    /// Whether the client must be slowed.
    pub(super) fn is_on(&self) -> bool {
        self.full.load(Ordering::Relaxed) > 0 || self.is_over.load(Ordering::Relaxed)
    }

    /// Fails when so many more bytes are more than all spools together may hold.
    fn check(&self, more: u64) -> Result<(), Overrun> {
        let Allowance { total, overrun, memory } = self.allowance;
        if self.waiting.load(Ordering::Relaxed).saturating_add(more) > total.saturating_add(overrun)
        {
            return Err(Overrun::Window);
        }
        if self.in_memory.load(Ordering::Relaxed).saturating_add(more) > memory {
            return Err(Overrun::Memory);
        }
        Ok(())
    }

    /// Whether so much is in memory that a writer has to wait for its disk.
    fn is_memory_short(&self) -> bool {
        self.in_memory.load(Ordering::Relaxed) > UNWRITTEN_ALL_BYTES
    }

    /// On from the limit to half of it, for one reason of one spool.
    fn tread(&self, is_on: &mut bool, amount: u64, limit: u64) {
        if !*is_on && amount >= limit {
            *is_on = true;
            self.full.fetch_add(1, Ordering::Relaxed);
        } else if *is_on && amount <= limit / 2 {
            *is_on = false;
            self.full.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// One spool holds something else than before.
    fn weigh(&self, before: Weight, now: Weight) {
        // Wrapping, as atomics do, makes a smaller number of a negative difference.
        self.in_memory.fetch_add(now.memory.wrapping_sub(before.memory), Ordering::Relaxed);
        let difference = now.all.wrapping_sub(before.all);
        let waiting =
            self.waiting.fetch_add(difference, Ordering::Relaxed).wrapping_add(difference);
        if waiting >= self.allowance.total {
            self.is_over.store(true, Ordering::Relaxed);
        } else if waiting <= self.allowance.total / 2 {
            self.is_over.store(false, Ordering::Relaxed);
        }
    }
}

/// What one spool holds. In bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Weight {
    all: u64,
    memory: u64,
}

/// Why bytes are not kept: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Overrun {
    /// No honest client does that.
    #[error("the client sends more than its window allows")]
    Window,
    /// There is no file for them, or it takes no more.
    #[error("the gateway has no room for what the programs of this connection do not take")]
    Memory,
    /// The disk hangs.
    #[error(
        "the gateway's disk does not take within {} s what the programs of this connection do not take",
        DISK_TIME.as_secs()
    )]
    Disk,
}

/// Bytes that were kept cannot be had again: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gateway cannot read what it kept for a program of this connection")]
pub(super) struct Unreadable;

/// A queue of bytes that never makes its writer wait for its reader.
#[derive(Debug)]
pub(super) struct Spool {
    bounds: Bounds,
    brake: Arc<Brake>,
    /// See [`DISK_TIME`].
    disk_time: Duration,
    state: Mutex<State>,
    changed: Notify,
    /// Some of what waits for the disk is written, or was given back.
    spilled: Notify,
}

#[derive(Debug, Default)]
struct State {
    head: BytesMut,
    ring: Ring,
    /// A batch of so many bytes is with the disk: what is in `tail` comes after it.
    spilling: usize,
    tail: BytesMut,
    /// No file can be had, or it takes no more.
    memory_only: bool,
    /// The reader waits for what is read from the file.
    fetching: bool,
    /// What was given last: the reader has done with it when it comes for more.
    in_hand: usize,
    full: bool,
    /// Too much waits for the disk.
    behind: bool,
    /// As the brake knows it.
    weighed: Weight,
    ended: bool,
    discarded: bool,
    /// What was kept cannot be read, so that there is a hole.
    broken: bool,
}

/// The part of the file in use; positions only grow, and are taken modulo the size of the ring.
#[derive(Debug, Default)]
struct Ring {
    file: Option<Arc<File>>,
    read_at: u64,
    write_at: u64,
}

/// What the reader does next.
enum Step {
    Give(Bytes),
    Fetch(Arc<File>, u64, usize),
    Wait,
    End,
    Break,
}

impl Spool {
    /// An empty one.
    pub(super) fn new(bounds: Bounds, brake: Arc<Brake>) -> Self {
        let (changed, spilled) = (Notify::new(), Notify::new());
        Self { bounds, brake, disk_time: DISK_TIME, state: Mutex::default(), changed, spilled }
    }

    /// Keeps these bytes. Never waits for the reader, and for the disk only when too much waits for it already. For one
    /// writer at a time. Needs a tokio runtime.
    pub(super) async fn push<S: Shelf + 'static>(
        self: &Arc<Self>,
        bytes: &[u8],
        shelf: &Arc<S>,
    ) -> Result<(), Overrun> {
        let batch = {
            let mut state = lock(&self.state);
            if state.ended || state.discarded {
                return Ok(());
            }
            if state.backlog() + bytes.len() as u64 > self.limit(&state) + self.bounds.overrun {
                return Err(Overrun::Window);
            }
            self.brake.check(bytes.len() as u64)?;
            let direct = state.ring.is_empty() && state.spilling == 0 && state.tail.is_empty();
            if direct && state.head.len() + bytes.len() <= self.bounds.memory {
                state.head.extend_from_slice(bytes);
            } else {
                state.tail.extend_from_slice(bytes);
            }
            let batch = if state.spilling == 0 { state.batch() } else { None };
            self.weigh(&mut state);
            batch
        };
        self.changed.notify_one();
        if let Some(batch) = batch {
            tokio::spawn(Arc::clone(self).spill(batch, Arc::clone(shelf)));
        }
        if !self.is_behind() {
            return Ok(());
        }
        tokio::time::timeout(self.disk_time, self.caught_up()).await.map_err(|_| Overrun::Disk)
    }

    /// Whether more waits for the disk than may.
    fn is_behind(&self) -> bool {
        self.brake.is_memory_short() && lock(&self.state).spilling > 0
    }

    async fn caught_up(&self) {
        loop {
            let spilled = self.spilled.notified();
            if !self.is_behind() {
                return;
            }
            spilled.await;
        }
    }

    /// Bytes that wait, those that the reader has in its hands included.
    pub(super) fn backlog(&self) -> u64 {
        let state = lock(&self.state);
        state.backlog() + state.in_hand as u64
    }

    /// Nothing more comes.
    pub(super) fn end(&self) {
        lock(&self.state).ended = true;
        self.changed.notify_one();
    }

    /// Nobody reads any more: what is left, and what comes, is dropped.
    pub(super) fn discard(&self) {
        let mut state = lock(&self.state);
        state.discard();
        self.weigh(&mut state);
        drop(state);
        self.changed.notify_one();
    }

    /// Hands everything to a stream, to the end of what the client sends. A program that takes no more is no error, as with
    /// sshd: the rest is dropped, and nobody is told.
    pub(super) async fn pass(&self, to: &Stream) -> Result<(), Unreadable> {
        while let Some(bytes) = self.next().await? {
            if to.write_all(&bytes).await.is_err() {
                self.discard();
            }
        }
        Ok(())
    }

    /// The next bytes; `None` at the end. For one reader at a time.
    async fn next(&self) -> Result<Option<Bytes>, Unreadable> {
        loop {
            let changed = self.changed.notified();
            let step = {
                let mut state = lock(&self.state);
                let step = state.step(self.bounds.ring());
                state.in_hand = match &step {
                    Step::Give(bytes) => bytes.len(),
                    Step::Fetch(_, _, length) => *length,
                    Step::Wait | Step::End | Step::Break => 0,
                };
                state.fetching = matches!(step, Step::Fetch(..));
                self.weigh(&mut state);
                step
            };
            match step {
                Step::Give(bytes) => return Ok(Some(bytes)),
                Step::Fetch(file, at, length) => {
                    if let Some(bytes) = self.fetch(file, at, length).await {
                        return Ok(Some(bytes));
                    }
                }
                Step::Wait => changed.await,
                Step::End => return Ok(None),
                Step::Break => return Err(Unreadable),
            }
        }
    }

    /// Waits until `reader` has taken everything, as long as it takes anything; where it is the disk that is slow, longer.
    pub(super) async fn drained_by(&self, reader: &mut AbortOnDropHandle<()>) {
        let (mut before, mut idle) = (self.backlog(), Duration::ZERO);
        while tokio::time::timeout(DRAIN_TIME, &mut *reader).await.is_err() {
            let now = self.backlog();
            idle = if now == before { idle + DRAIN_TIME } else { Duration::ZERO };
            before = now;
            let patience = if self.is_at_disk() { self.disk_time } else { DRAIN_TIME };
            if idle >= patience {
                break;
            }
        }
    }

    /// Whether the reader waits for the disk.
    fn is_at_disk(&self) -> bool {
        let state = lock(&self.state);
        state.fetching || (state.spilling > 0 && state.in_hand == 0)
    }

    /// Hands a batch to the disk, and what has come meanwhile, until little is left.
    async fn spill(self: Arc<Self>, batch: Bytes, shelf: Arc<impl Shelf>) {
        let mut next = Some(batch);
        while let Some(batch) = next {
            let (at, have) = {
                let state = lock(&self.state);
                (state.ring.write_at, state.ring.file.clone())
            };
            let file = match have {
                Some(file) => Some(file),
                None => shelf.file().await.map(Arc::new),
            };
            let kept = match &file {
                Some(file) => {
                    let (file, batch, ring) = (Arc::clone(file), batch.clone(), self.bounds.ring());
                    blocking(move || write_ring(&file, ring, at, &batch)).await.is_ok()
                }
                None => false,
            };
            next = self.after_spill(&batch, file.filter(|_| kept));
            self.changed.notify_one();
            self.spilled.notify_one();
        }
    }

    /// A batch is in the file, or is not: then it comes back, and nothing goes there any more. The next one.
    fn after_spill(&self, batch: &Bytes, file: Option<Arc<File>>) -> Option<Bytes> {
        let mut state = lock(&self.state);
        state.spilling = 0;
        if !state.discarded {
            if let Some(file) = file {
                state.ring.file = Some(file);
                state.ring.write_at += batch.len() as u64;
            } else {
                let later = std::mem::replace(&mut state.tail, BytesMut::from(&**batch));
                state.tail.extend_from_slice(&later);
                state.memory_only = true;
            }
        }
        let next = state.batch();
        self.weigh(&mut state);
        next
    }

    async fn fetch(&self, file: Arc<File>, at: u64, length: usize) -> Option<Bytes> {
        let ring = self.bounds.ring();
        let read = {
            let file = Arc::clone(&file);
            blocking(move || read_ring(&file, ring, at, length)).await
        };
        let mut state = lock(&self.state);
        state.fetching = false;
        if state.discarded {
            return None;
        }
        let bytes = match read {
            Ok(bytes) => {
                state.ring.read_at += length as u64;
                Some(bytes)
            }
            Err(error) => {
                // A program must not get a stream with a hole in it.
                tracing::warn!("bytes for a program are lost: its spool cannot be read: {error}");
                state.broken = true;
                state.discard();
                None
            }
        };
        if state.ring.is_empty() && state.spilling == 0 {
            let held = state.ring.write_at;
            state.ring.read_at = 0;
            state.ring.write_at = 0;
            if held > KEEP_FILE_BYTES {
                state.ring.file = None;
            }
        }
        self.weigh(&mut state);
        drop(state);
        // The last owner frees the file's blocks, which takes time.
        tokio::task::spawn_blocking(move || drop(file));
        bytes
    }

    fn limit(&self, state: &State) -> u64 {
        if state.memory_only { self.bounds.memory as u64 } else { self.bounds.total }
    }

    /// Puts the brake on at a limit, and releases it when half is gone.
    fn weigh(&self, state: &mut State) {
        let (backlog, limit) = (state.backlog(), self.limit(state));
        let unwritten = state.unwritten();
        self.brake.tread(&mut state.full, backlog, limit);
        self.brake.tread(&mut state.behind, unwritten as u64, UNWRITTEN_BYTES as u64);
        let now = Weight { all: backlog, memory: state.in_memory() };
        self.brake.weigh(std::mem::replace(&mut state.weighed, now), now);
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        let state = lock(&self.state);
        let reasons = usize::from(state.full) + usize::from(state.behind);
        self.brake.full.fetch_sub(reasons, Ordering::Relaxed);
        self.brake.weigh(state.weighed, Weight::default());
    }
}

impl State {
    fn backlog(&self) -> u64 {
        self.in_memory() + self.ring.length()
    }

    fn in_memory(&self) -> u64 {
        (self.head.len() + self.tail.len() + self.spilling) as u64
    }

    /// Bytes that the disk is to take and has not.
    fn unwritten(&self) -> usize {
        if self.spilling == 0 { 0 } else { self.spilling + self.tail.len() }
    }

    /// What is to be handed to the disk now: it counts as there from here on.
    fn batch(&mut self) -> Option<Bytes> {
        if self.discarded || self.memory_only || self.tail.len() < BATCH_BYTES {
            return None;
        }
        let batch = self.tail.split_to(self.tail.len().min(SPILL_BYTES)).freeze();
        self.spilling = batch.len();
        Some(batch)
    }

    fn discard(&mut self) {
        self.discarded = true;
        self.head = BytesMut::new();
        self.tail = BytesMut::new();
        self.ring = Ring::default();
    }

    fn step(&mut self, ring: u64) -> Step {
        if self.broken {
            return Step::Break;
        }
        if self.discarded {
            return Step::End;
        }
        if let Some(bytes) = take(&mut self.head) {
            return Step::Give(bytes);
        }
        if let Some(file) = &self.ring.file
            && !self.ring.is_empty()
        {
            let length = self.ring.length().min(BATCH_BYTES as u64) as usize;
            return Step::Fetch(Arc::clone(file), self.ring.read_at % ring, length);
        }
        if self.spilling > 0 {
            return Step::Wait;
        }
        if let Some(bytes) = take(&mut self.tail) {
            return Step::Give(bytes);
        }
        if self.ended { Step::End } else { Step::Wait }
    }
}

/// The first bytes of a buffer; an emptied buffer keeps no memory.
fn take(buffer: &mut BytesMut) -> Option<Bytes> {
    match buffer.len() {
        0 => None,
        1..=BATCH_BYTES => Some(std::mem::take(buffer).freeze()),
        _ => Some(buffer.split_to(BATCH_BYTES).freeze()),
    }
}

impl Ring {
    fn length(&self) -> u64 {
        self.write_at - self.read_at
    }

    fn is_empty(&self) -> bool {
        self.length() == 0
    }
}

impl Bounds {
    /// Size of the file: it never has to hold more.
    fn ring(&self) -> u64 {
        self.total + self.overrun + BATCH_BYTES as u64
    }
}

fn write_ring(file: &File, ring: u64, at: u64, bytes: &[u8]) -> io::Result<()> {
    let at = at % ring;
    let before_end = bytes.len().min(usize::try_from(ring - at).unwrap_or(usize::MAX));
    let (first, second) = bytes.split_at(before_end);
    file.write_all_at(first, at)?;
    file.write_all_at(second, 0)
}

fn read_ring(file: &File, ring: u64, at: u64, length: usize) -> io::Result<Bytes> {
    let at = at % ring;
    let mut bytes = vec![0; length];
    let before_end = length.min(usize::try_from(ring - at).unwrap_or(usize::MAX));
    let (first, second) = bytes.split_at_mut(before_end);
    file.read_exact_at(first, at)?;
    file.read_exact_at(second, 0)?;
    Ok(bytes.into())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests;
