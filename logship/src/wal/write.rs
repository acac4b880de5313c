//! Appends what the sources hand over.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::FallocateFlags;
use tokio::sync::Notify;

use super::frame::{self, HEAD_BYTES, Head, Kind};
use super::segment::{self, SegmentHeader};
use super::shared::{FILE_MODE, Inner, Shared};
use super::state::{SourceState, told};
use super::{Frame, Pressure, WalError, commit};
use crate::descriptors::is_exhausted;
use crate::intake::{Chunk, IntakeReceiver, Message, Sources};
use crate::record::Flags;
use crate::source::{SourceId, SourceMeta};
use crate::time;

#[cfg(test)]
mod tests;

/// How long a full disk is left alone at a time, and so long a process that may open no more files waits.
pub(super) const NO_ROOM_WAIT: Duration = Duration::from_millis(250);

/// How long a full log waits for its sinks at a time.
const ROOM_WAIT: Duration = Duration::from_secs(1);

/// Bytes of the buffer that is kept between two frames.
const BUFFER_BYTES_KEPT: usize = 1 << 20;

/// The threads of a log. Dropped without [`finish`](Self::finish), they end at once, as if the process had
/// been killed.
#[derive(Debug)]
pub struct Running {
    shared: Arc<Shared>,
    close: Arc<Notify>,
    writer: Option<JoinHandle<()>>,
    committer: Option<JoinHandle<()>>,
}

impl Running {
    pub(super) fn start(shared: Arc<Shared>, receiver: IntakeReceiver) -> Result<Self, WalError> {
        let close = Arc::new(Notify::new());
        let runtime =
            tokio::runtime::Builder::new_current_thread().build().map_err(WalError::Thread)?;
        let committer = {
            let (shared, sources) = (shared.clone(), receiver.sources.clone());
            spawn("wal-commit", move || {
                if let Err(error) = commit::run(&shared, &sources) {
                    shared.fail(&error);
                }
            })?
        };
        let mut running = Self {
            shared: shared.clone(),
            close: close.clone(),
            writer: None,
            committer: Some(committer),
        };
        running.writer = Some(spawn("wal-write", move || {
            let mut writer = Writer::new(shared.clone(), receiver.sources.clone());
            match writer.run(&runtime, receiver, &close) {
                Ok(()) => {}
                Err(Stop::Failed(error)) => shared.fail(&error),
                Err(Stop::GaveUp) => {
                    tracing::warn!(
                        "the log ends without room for the last lines; they are read again"
                    );
                }
            }
            shared.lock().is_drained = true;
            shared.notify_all();
        })?);
        Ok(running)
    }

    /// Takes what the sources still say, until they have let go of the log or `deadline` has come, makes it
    /// durable, and ends the threads. Readers go on until they have read everything.
    pub fn finish(mut self, deadline: Instant) -> Result<(), WalError> {
        let mut inner = self.shared.lock();
        while !inner.is_drained && inner.failed.is_none() {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            if left.is_zero() {
                break;
            }
            inner = self.shared.wait(&self.shared.work, inner, left);
        }
        inner.is_giving_up = true;
        drop(inner);
        self.join();
        match &self.shared.lock().failed {
            Some(reason) => Err(WalError::Failed(reason.clone())),
            None => Ok(()),
        }
    }

    fn join(&mut self) {
        self.close.notify_one();
        self.shared.notify_all();
        for thread in [self.writer.take(), self.committer.take()].into_iter().flatten() {
            if thread.join().is_err() {
                tracing::error!("a thread of the log panicked");
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.writer.is_some() || self.committer.is_some() {
            self.shared.lock().is_abandoned = true;
            self.join();
        }
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, WalError> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run).map_err(WalError::Thread)
}

/// Why nothing is written any more.
enum Stop {
    Failed(WalError),
    /// There was no room, and nobody waits for it any more.
    GaveUp,
}

impl From<WalError> for Stop {
    fn from(error: WalError) -> Self {
        Self::Failed(error)
    }
}

struct Writer {
    shared: Arc<Shared>,
    sources: Arc<Sources>,
    active: Option<Active>,
    buffer: Vec<u8>,
}

/// The segment that is written to.
struct Active {
    file: Arc<File>,
    base: u64,
    /// The place behind its last frame.
    end: u64,
}

impl Writer {
    fn new(shared: Arc<Shared>, sources: Arc<Sources>) -> Self {
        Self { shared, sources, active: None, buffer: Vec::new() }
    }

    fn run(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        mut receiver: IntakeReceiver,
        close: &Notify,
    ) -> Result<(), Stop> {
        let messages = &mut receiver.messages;
        loop {
            let next = match messages.try_recv() {
                Ok(message) => Some(message),
                Err(_) => runtime.block_on(async {
                    tokio::select! {
                        biased;
                        () = close.notified() => {
                            messages.close();
                            messages.recv().await
                        }
                        message = messages.recv() => message,
                    }
                }),
            };
            {
                let inner = self.shared.lock();
                if inner.is_abandoned {
                    return Ok(());
                }
                if inner.is_giving_up {
                    messages.close();
                }
            }
            match next {
                Some(Message::Chunk(chunk)) => self.append(chunk)?,
                Some(Message::End(id)) => self.end(id)?,
                None => break,
            }
        }
        self.close()
    }

    /// One frame of records.
    fn append(&mut self, chunk: Chunk) -> Result<(), Stop> {
        let Chunk { source: id, block, cursor } = chunk;
        let Some(meta) = self.sources.meta(id) else {
            let reason = format!("lines came from source {}, which nobody opened", id.0);
            return Err(WalError::Failed(reason).into());
        };
        if block.count() == 0 {
            return Ok(());
        }
        if self.shared.paths.is_none() {
            return self.append_in_memory(id, meta, block, cursor);
        }
        let cursor_json = serde_json::to_vec(&cursor).map_err(|error| {
            WalError::Failed(format!("a cursor cannot be written as JSON: {error}"))
        })?;
        let body = block.body().clone();
        self.make_room(id, &meta, body.len() + cursor_json.len() + HEAD_BYTES)?;
        let (first_seq, durable) = {
            let inner = self.shared.lock();
            (inner.state.sources.get(&id).map_or(0, |source| source.next_seq), inner.durable)
        };
        let position = self.active.as_ref().map_or(0, |active| active.end);
        let told = told(&block, first_seq);
        let mut head = Head::new(Kind::Records, position, durable);
        head.source = id.0;
        head.first_seq = first_seq;
        head.base_ts = block.base_ts();
        head.last_ts = block.last_ts();
        head.count = block.count();
        head.late = block.count_flags(Flags::is_late);
        head.controls = told.count;
        head.text_bytes = u32::try_from(block.text().len()).unwrap_or(u32::MAX);
        self.buffer.clear();
        let codec = self.shared.settings.codec;
        let head = frame::encode(&mut self.buffer, head, codec, &cursor_json, &body)
            .ok_or(WalError::TooLong { bytes: body.len() + cursor_json.len() })?;
        self.write_buffer()?;
        self.sources.note(id, cursor.clone());
        let frame =
            Frame { start: head.position, end: head.end(), source: id, meta, first_seq, block };
        let now = time::now();
        let mut inner = self.shared.lock();
        let entries = match inner.state.sources.get_mut(&id) {
            Some(source) => source.append(&head, cursor, told, now),
            None => Vec::new(),
        };
        inner.remember(frame, false);
        self.publish(&mut inner);
        drop(inner);
        for entry in entries {
            self.shared.ledger.add(&entry);
        }
        if self.buffer.capacity() > BUFFER_BYTES_KEPT {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    fn append_in_memory(
        &mut self,
        id: SourceId,
        meta: Arc<SourceMeta>,
        block: crate::block::Block,
        cursor: crate::cursor::Cursor,
    ) -> Result<(), Stop> {
        let bytes = block.body().len();
        let now = time::now();
        let mut inner = self.shared.lock();
        while !inner.make_room(bytes) || !inner.has_cursor_room() {
            if inner.is_giving_up || inner.is_abandoned {
                return Err(Stop::GaveUp);
            }
            inner.pressure = Pressure::Sinks;
            inner = self.shared.wait(&self.shared.room, inner, ROOM_WAIT);
        }
        inner.pressure = Pressure::None;
        inner.state.define(id, meta.clone());
        let position = inner.written;
        let source = inner.state.sources.entry(id);
        let source = source.or_insert_with(|| SourceState::new(meta.clone()));
        let first_seq = source.next_seq;
        let told = told(&block, first_seq);
        let mut head = Head::new(Kind::Records, position, position);
        head.first_seq = first_seq;
        head.last_ts = block.last_ts();
        head.count = block.count();
        head.late = block.count_flags(Flags::is_late);
        head.controls = told.count;
        head.text_bytes = u32::try_from(block.text().len()).unwrap_or(u32::MAX);
        head.stored_bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.sources.note(id, cursor.clone());
        let entries = source.append(&head, cursor, told, now);
        let end = head.end();
        let source = source.clone();
        if let Some(delivered) = &mut inner.delivered {
            delivered.push(end, id, source);
        }
        inner.remember(Frame { start: position, end, source: id, meta, first_seq, block }, true);
        inner.written = end;
        inner.durable = end;
        drop(inner);
        self.shared.more.notify_all();
        for entry in entries {
            self.shared.ledger.add(&entry);
        }
        Ok(())
    }

    /// The source is over.
    fn end(&mut self, id: SourceId) -> Result<(), Stop> {
        self.sources.end(id);
        if !self.shared.lock().state.sources.contains_key(&id) {
            // It never said anything.
            self.sources.forget_ended(id);
            return Ok(());
        }
        let now = time::now();
        if self.shared.paths.is_some() {
            let Some(meta) = self.sources.meta(id) else { return Ok(()) };
            self.make_room(id, &meta, HEAD_BYTES)?;
            let mut head = self.head(Kind::End);
            head.source = id.0;
            head.base_ts = now;
            head.last_ts = now;
            self.write_frame(head, &[])?;
        }
        let mut inner = self.shared.lock();
        let Some(source) = inner.state.sources.get_mut(&id) else { return Ok(()) };
        source.ended = Some(now);
        let (source, end) = (source.clone(), inner.written);
        if let Some(delivered) = &mut inner.delivered {
            delivered.push(end, id, source);
        }
        Ok(())
    }

    /// The last frame: everything before it is durable.
    fn close(&mut self) -> Result<(), Stop> {
        let Some(active) = &self.active else { return Ok(()) };
        active.file.sync_data().map_err(|error| self.failed("make durable the log in", error))?;
        // It is worth too little to wait for a full disk.
        if self.shared.lock().pressure != Pressure::DiskFull {
            let mut head = self.head(Kind::Closed);
            head.durable = head.position;
            match self.write_frame(head, &[]) {
                Ok(()) | Err(Stop::GaveUp) => {}
                Err(error) => return Err(error),
            }
        }
        self.seal();
        Ok(())
    }

    fn head(&self, kind: Kind) -> Head {
        let position = self.active.as_ref().map_or(0, |active| active.end);
        Head::new(kind, position, self.shared.lock().durable)
    }

    fn write_frame(&mut self, head: Head, body: &[u8]) -> Result<(), Stop> {
        self.buffer.clear();
        let codec = self.shared.settings.codec;
        frame::encode(&mut self.buffer, head, codec, &[], body)
            .ok_or(WalError::TooLong { bytes: body.len() })?;
        self.write_buffer()?;
        self.publish(&mut self.shared.lock());
        Ok(())
    }

    /// Sees to it that `bytes` may be written to the active segment, and that it knows the source.
    fn make_room(
        &mut self,
        id: SourceId,
        meta: &Arc<SourceMeta>,
        bytes: usize,
    ) -> Result<(), Stop> {
        self.wait_for_sinks(bytes as u64)?;
        let limit = self.shared.settings.segment_bytes();
        let fits = self
            .active
            .as_ref()
            .is_some_and(|active| (active.end - active.base).saturating_add(bytes as u64) <= limit);
        if !fits {
            self.roll()?;
        }
        let is_known = {
            let inner = self.shared.lock();
            inner.state.sources.get(&id).is_some_and(|known| Arc::ptr_eq(&known.meta, meta))
        };
        if !is_known {
            let body = serde_json::to_vec(meta.as_ref()).map_err(|error| {
                WalError::Failed(format!("a source cannot be written as JSON: {error}"))
            })?;
            // Twice, as the state of a segment: without it, nobody can tell whose the lines are.
            for _ in 0..2 {
                let mut head = self.head(Kind::Source);
                head.source = id.0;
                self.write_frame(head, &body)?;
            }
            self.shared.lock().state.define(id, meta.clone());
        }
        Ok(())
    }

    /// Waits while the log is as large as it may be.
    fn wait_for_sinks(&mut self, bytes: u64) -> Result<(), Stop> {
        let mut inner = self.shared.lock();
        loop {
            // One segment alone is never too much: there is nothing that could be removed.
            let is_full = inner.bytes_on_disk().saturating_add(bytes)
                > self.shared.settings.bytes_max
                && inner.segments.len() > 1;
            if !is_full {
                if inner.pressure == Pressure::Sinks {
                    inner.pressure = Pressure::None;
                    tracing::info!("the log has room again");
                }
                return Ok(());
            }
            if inner.is_giving_up || inner.is_abandoned {
                return Err(Stop::GaveUp);
            }
            if inner.pressure != Pressure::Sinks {
                inner.pressure = Pressure::Sinks;
                tracing::warn!("the log is full: reading waits for the slowest sink");
            }
            inner.has_sink_moved = true;
            self.shared.work.notify_all();
            inner = self.shared.wait(&self.shared.room, inner, ROOM_WAIT);
        }
    }

    /// Begins the next segment.
    fn roll(&mut self) -> Result<(), Stop> {
        self.seal();
        let (base, header, state, durable) = {
            let inner = self.shared.lock();
            let base = inner.written.max(inner.next_base);
            let previous_end = if inner.segments.is_empty() { base } else { inner.written };
            let header =
                SegmentHeader { log: self.shared.id(), base, previous_end, created: time::now() };
            (base, header, inner.state.to_json(), inner.durable)
        };
        self.buffer.clear();
        self.buffer.extend_from_slice(&header.to_bytes());
        // Twice: without it, nothing else in the segment can be told whose it is.
        for _ in 0..2 {
            let position = base + self.buffer.len() as u64;
            let head = Head::new(Kind::State, position, durable);
            frame::encode(&mut self.buffer, head, self.shared.settings.codec, &[], &state)
                .ok_or(WalError::TooLong { bytes: state.len() })?;
        }
        let Some(paths) = self.shared.paths.clone() else { return Ok(()) };
        let path = segment::path(&paths.segments, base);
        loop {
            let created = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(FILE_MODE)
                .open(&path)
                .and_then(|file| {
                    let keep = FallocateFlags::KEEP_SIZE;
                    let bytes = self.shared.settings.segment_bytes();
                    if rustix::fs::fallocate(&file, keep, 0, bytes).is_err() {
                        tracing::debug!("the room of a segment cannot be reserved");
                    }
                    match file.write_all_at(&self.buffer, 0) {
                        Ok(()) => Ok(file),
                        Err(error) => {
                            drop(file);
                            std::fs::remove_file(&path)?;
                            Err(error)
                        }
                    }
                });
            match created {
                Ok(file) => {
                    let end = base + self.buffer.len() as u64;
                    self.active = Some(Active { file: Arc::new(file), base, end });
                    let mut inner = self.shared.lock();
                    inner.is_directory_dirty = true;
                    inner.has_sink_moved = true;
                    self.publish(&mut inner);
                    drop(inner);
                    self.has_room();
                    return Ok(());
                }
                Err(error) => match pressure_of(&error) {
                    Some(pressure) => self.wait_for(pressure)?,
                    None => return Err(WalError::io("create", &path, error).into()),
                },
            }
        }
    }

    /// Gives back what was reserved for the active segment and not needed.
    fn seal(&mut self) {
        if let Some(active) = self.active.take()
            && let Err(error) = active.file.set_len(active.end - active.base)
        {
            tracing::debug!(%error, "cannot free the rest of a segment");
        }
    }

    /// Shows what was written to the other threads. Everything that belongs to it is told under one lock:
    /// a reader must not see a place before the frame, nor a commit the file without the place.
    fn publish(&self, inner: &mut Inner) {
        if let Some(active) = &self.active {
            inner.segments.insert(active.base, active.end);
            inner.written = active.end;
            if !inner.dirty.last().is_some_and(|last| Arc::ptr_eq(last, &active.file)) {
                inner.dirty.push(active.file.clone());
            }
        }
        self.shared.more.notify_all();
        self.shared.work.notify_all();
    }

    /// Adds the buffer to the active segment: all of it, or nothing.
    fn write_buffer(&mut self) -> Result<(), Stop> {
        loop {
            let Some(active) = &mut self.active else { return Ok(()) };
            let start = active.end - active.base;
            match write_all(&active.file, &self.buffer, start) {
                Ok(()) => {
                    active.end += self.buffer.len() as u64;
                    self.has_room();
                    return Ok(());
                }
                Err(error) if is_disk_full(&error) => {
                    // A part of it may be there: a full disk takes what fits before it refuses.
                    let cut = active.file.set_len(start);
                    cut.map_err(|error| self.failed("cut back the log in", error))?;
                    self.wait_for(Pressure::DiskFull)?;
                }
                Err(error) => return Err(self.failed("write to the log in", error).into()),
            }
        }
    }

    fn failed(&self, act: &'static str, error: io::Error) -> WalError {
        WalError::io(act, &self.shared.settings.directory.clone().unwrap_or_default(), error)
    }

    /// Waits a little: a segment may be removed, or somebody makes room.
    fn wait_for(&mut self, pressure: Pressure) -> Result<(), Stop> {
        let mut inner = self.shared.lock();
        if inner.is_giving_up || inner.is_abandoned {
            return Err(Stop::GaveUp);
        }
        if inner.pressure != pressure {
            inner.pressure = pressure;
            match pressure {
                Pressure::Descriptors => {
                    tracing::error!("no file descriptors are left: reading waits for one");
                }
                _ => tracing::error!(
                    "the disk of the state directory is full: reading waits for room"
                ),
            }
        }
        inner.has_sink_moved = true;
        self.shared.work.notify_all();
        drop(self.shared.wait(&self.shared.room, inner, NO_ROOM_WAIT));
        Ok(())
    }

    /// The disk took something.
    fn has_room(&mut self) {
        let mut inner = self.shared.lock();
        match inner.pressure {
            Pressure::None | Pressure::Sinks => {}
            Pressure::Descriptors => {
                inner.pressure = Pressure::None;
                tracing::info!("there are file descriptors again");
            }
            Pressure::DiskFull => {
                inner.pressure = Pressure::None;
                drop(inner);
                tracing::info!("the disk of the state directory has room again");
                self.shared.fill_reserve();
            }
        }
    }
}

/// Everything, or the error of the first write that failed. What was written by then stays.
fn write_all(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(bytes, at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                bytes = bytes.get(written..).unwrap_or_default();
                at += written as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What is to be waited for when something could not be written, if that is of use.
fn pressure_of(error: &io::Error) -> Option<Pressure> {
    if is_disk_full(error) {
        return Some(Pressure::DiskFull);
    }
    is_exhausted(error).then_some(Pressure::Descriptors)
}

/// No room on the disk, or none for this user.
pub(super) fn is_disk_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
