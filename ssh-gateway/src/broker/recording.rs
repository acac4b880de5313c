//! Recordings of sessions. A queue each, and a thread that empties it into a file: a disk that is slow slows that session
//! and no other.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chores_common::durable;
use chores_common::exit::chain;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::journal::Journal;
use crate::cast::{self, Encoder, Event, Header};
use crate::chain::{RECORDING, hex};
use crate::config::RecordConfig;
use crate::wire::{Exit, WindowSize};

#[cfg(test)]
mod tests;

/// The directory of recordings in the state directory.
pub(crate) const DIRECTORY: &str = "recordings";
/// Pieces that wait for the disk; each is at most what is read at once.
const QUEUE_MAX: usize = 64;
/// The disk takes a piece in this time, or the recording is lost.
const PUT_TIME_MAX: Duration = Duration::from_secs(10);
/// A recording begins in this time, or it does not begin.
pub(super) const BEGIN_TIME_MAX: Duration = Duration::from_secs(10);
/// Recordings that begin at once. More wait: a disk that hangs must not take the threads that others need.
const BEGINS_MAX: usize = 64;
/// What was recorded is in the file after this.
const FLUSH_PERIOD: Duration = Duration::from_secs(1);
/// A recording that has less room than this when it begins has hardly any, in bytes.
const ROOM_BYTES: u64 = 64 * 1024;
/// Quick rather than small: sessions are text.
const ZSTD_LEVEL: i32 = 3;
/// Characters of a container's name in the name of a file.
const NAME_CHARACTERS_MAX: usize = 64;
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;
/// What a shell makes of a signal.
const SIGNAL_BASE: i32 = 128;

/// Where recordings go. Cloning is cheap.
#[derive(Debug, Clone)]
pub(super) struct Recordings {
    directory: PathBuf,
    quota: u64,
    largest: u64,
    used: Arc<AtomicU64>,
    journal: Journal,
    /// Room to begin.
    begins: Arc<Semaphore>,
    /// The threads that write.
    writing: TaskTracker,
    /// What they write.
    running: Running,
}

/// Names of recordings that are written.
type Running = Arc<Mutex<BTreeSet<String>>>;

/// One of them, as long as it is there.
#[derive(Debug)]
struct Written {
    running: Running,
    name: String,
}

impl Written {
    fn begin(running: &Running, name: &str) -> Self {
        running.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        Self { running: Arc::clone(running), name: name.to_owned() }
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// What is recorded.
#[derive(Debug)]
pub(super) struct Subject {
    /// The session's own name.
    pub(super) session: String,
    /// Its container's.
    pub(super) container: String,
    /// For people.
    pub(super) title: String,
    /// Of its terminal; 80 by 24 without one.
    pub(super) size: WindowSize,
}

impl Recordings {
    /// Below `state`. Blocks.
    pub(super) fn new(state: &Path, config: &RecordConfig, journal: Journal) -> Self {
        let directory = state.join(DIRECTORY);
        let used = Arc::new(AtomicU64::new(used(&directory)));
        let RecordConfig { quota, largest, .. } = *config;
        let (begins, writing) = (Arc::new(Semaphore::new(BEGINS_MAX)), TaskTracker::new());
        let running = Running::default();
        Self { directory, quota, largest, used, journal, begins, writing, running }
    }

    /// Begins a recording, within `patience`: what a slow disk begins later is left empty. The error is one sentence for the
    /// log.
    pub(super) async fn begin_in_time(
        &self,
        subject: Subject,
        patience: Duration,
    ) -> Result<Recording, String> {
        let (its, begins) = (self.clone(), Arc::clone(&self.begins));
        let begun = async {
            let permit = begins.acquire_owned().await.map_err(|error| error.to_string())?;
            let beginning = spawn_blocking(move || {
                let _permit = permit;
                its.begin(subject)
            });
            beginning.await.map_err(|error| error.to_string())?
        };
        let late = || Err("the disk is too slow to begin a recording".to_owned());
        timeout(patience, begun).await.unwrap_or_else(|_| late())
    }

    /// What is written just now: paths below the directory of recordings.
    pub(super) fn running(&self) -> BTreeSet<String> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One of so many bytes was removed here, since a store has it.
    pub(super) fn removed(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        // It is never refused.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).ok();
    }

    /// Waits until nobody records any more and all is written, at most for `patience`. Whether it is so.
    pub(super) async fn end(&self, patience: Duration) -> bool {
        self.writing.close();
        timeout(patience, self.writing.wait()).await.is_ok()
    }

    /// Begins a recording. The error is one sentence for the log. Blocks; needs a tokio runtime.
    pub(super) fn begin(&self, subject: Subject) -> Result<Recording, String> {
        // Writers stop before the quota, and not at it.
        let used_soon = self.used.load(Ordering::Relaxed).saturating_add(ROOM_BYTES);
        if used_soon > self.quota {
            // Somebody may have moved some away.
            self.used.store(used(&self.directory), Ordering::Relaxed);
        }
        if self.used.load(Ordering::Relaxed) >= self.quota {
            return Err(format!(
                "the quota of {} bytes for recordings is used up: move some of {} away",
                self.quota,
                self.directory.display()
            ));
        }
        let now = Timestamp::now();
        let name = file_name(now, &subject);
        let path = self.directory.join(&name);
        let failed =
            |reason: String| format!("cannot write the recording {}: {reason}", path.display());
        if let Some(parent) = path.parent() {
            durable::create_directories(parent, DIRECTORY_MODE).map_err(|error| chain(&error))?;
        }
        let written = Written::begin(&self.running, &name);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(|error| failed(error.to_string()))?;
        let counted = Counted {
            file,
            hash: Sha256::new(),
            bytes: 0,
            largest: self.largest,
            used: Arc::clone(&self.used),
            quota: self.quota,
        };
        let mut out =
            zstd::Encoder::new(counted, ZSTD_LEVEL).map_err(|error| failed(error.to_string()))?;
        let header = Header::new(subject.size, now.as_second(), subject.title);
        out.write_all(header.line().as_bytes())
            .and_then(|()| out.flush())
            .map_err(|error| failed(error.to_string()))?;
        let (queue, pieces) = mpsc::channel(QUEUE_MAX);
        let writer = Writer { out, encoders: Default::default(), is_dirty: false };
        let (journal, session, runtime) =
            (self.journal.clone(), subject.session, Handle::current());
        let (file, token) = (name.clone(), self.writing.token());
        std::thread::Builder::new()
            .name("recording".to_owned())
            .spawn(move || {
                let (_token, _written) = (token, written);
                write(&runtime, pieces, writer, &journal, &session, &file);
            })
            .map_err(|error| failed(error.to_string()))?;
        Ok(Recording { queue, begun: Instant::now(), name })
    }
}

/// A recording that is written.
#[derive(Debug)]
pub(super) struct Recording {
    queue: mpsc::Sender<Piece>,
    begun: Instant,
    /// Its path below the directory of recordings.
    pub(super) name: String,
}

/// Nothing more is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost;

/// What happens in a session.
#[derive(Debug)]
pub(super) enum What {
    /// Standard output, or what a terminal shows.
    Output(Bytes),
    /// Standard error.
    Errors(Bytes),
    /// What is typed.
    Input(Bytes),
    /// Another size.
    Resize(WindowSize),
    /// Something that must be known.
    Mark(&'static str),
    /// The program has ended.
    Exit(Exit),
}

#[derive(Debug)]
struct Piece {
    time: Duration,
    what: What,
}

impl Recording {
    /// Records something. Waits for a disk that is slow.
    pub(super) async fn put(&self, what: What) -> Result<(), Lost> {
        self.room().await.map(|room| room.put(what))
    }

    /// Room for something that is not known yet. Waits for a disk that is slow.
    pub(super) async fn room(&self) -> Result<Room<'_>, Lost> {
        match timeout(PUT_TIME_MAX, self.queue.reserve()).await {
            Ok(Ok(permit)) => Ok(Room { permit, begun: self.begun }),
            Ok(Err(_)) | Err(_) => Err(Lost),
        }
    }

    /// Takes all the room that there is, as a disk does that stands still, until what is given back is dropped.
    #[cfg(test)]
    pub(super) fn fill(&self) -> impl Sized + use<> {
        let take = || self.queue.clone().try_reserve_owned().ok();
        std::iter::from_fn(take).collect::<Vec<_>>()
    }
}

/// Room for one thing in a recording.
#[derive(Debug)]
pub(super) struct Room<'recording> {
    permit: mpsc::Permit<'recording, Piece>,
    begun: Instant,
}

impl Room<'_> {
    /// Records it.
    pub(super) fn put(self, what: What) {
        self.permit.send(Piece { time: self.begun.elapsed(), what });
    }
}

/// A file that knows its hash, and how much all of them are.
struct Counted {
    file: File,
    hash: Sha256,
    bytes: u64,
    largest: u64,
    used: Arc<AtomicU64>,
    quota: u64,
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len() as u64;
        if self.bytes.saturating_add(length) > self.largest {
            return Err(full("it is as large as a recording may be"));
        }
        if self.used.load(Ordering::Relaxed).saturating_add(length) > self.quota {
            return Err(full("the quota for recordings is used up"));
        }
        let written = self.file.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or_default());
        self.bytes += written as u64;
        self.used.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn full(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, reason)
}

struct Writer {
    out: zstd::Encoder<'static, Counted>,
    /// Of output, errors and input: each may end in the middle of a character.
    encoders: [Encoder; 3],
    /// Something is not in the file yet.
    is_dirty: bool,
}

impl Writer {
    fn piece(&mut self, Piece { time, what }: Piece) -> io::Result<()> {
        let [output, errors, input] = &mut self.encoders;
        let (code, data) = match what {
            What::Output(bytes) => (cast::OUTPUT, output.text(&bytes)),
            What::Errors(bytes) => (cast::OUTPUT, errors.text(&bytes)),
            What::Input(bytes) => (cast::INPUT, input.text(&bytes)),
            What::Resize(size) => (cast::RESIZE, format!("{}x{}", size.columns, size.rows)),
            What::Mark(text) => (cast::MARK, text.to_owned()),
            What::Exit(exit) => {
                self.rest(time)?;
                let status = match exit {
                    Exit::Status(status) => i32::from(status),
                    Exit::Signal { number, .. } => SIGNAL_BASE + number,
                };
                (cast::EXIT, status.to_string())
            }
        };
        self.line(time, code, &data)
    }

    fn line(&mut self, time: Duration, code: &str, data: &str) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.is_dirty = true;
        self.out.write_all(Event::line(time, code, data).as_bytes())
    }

    /// What waits for the rest of a character.
    fn rest(&mut self, time: Duration) -> io::Result<()> {
        let [output, errors, input] = &mut self.encoders;
        for (code, text) in [
            (cast::OUTPUT, output.rest()),
            (cast::OUTPUT, errors.rest()),
            (cast::INPUT, input.rest()),
        ] {
            self.line(time, code, &text)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_dirty) { self.out.flush() } else { Ok(()) }
    }
}

/// Writes until nobody records any more, or it fails.
fn write(
    runtime: &Handle,
    mut pieces: mpsc::Receiver<Piece>,
    mut writer: Writer,
    journal: &Journal,
    session: &str,
    file: &str,
) {
    let mut last = Duration::ZERO;
    let mut flushed = Instant::now();
    let outcome = loop {
        let received = runtime.block_on(async { timeout(FLUSH_PERIOD, pieces.recv()).await });
        let done = match received {
            Ok(Some(piece)) => {
                last = piece.time;
                writer.piece(piece)
            }
            Ok(None) => break writer.rest(last),
            Err(_) => Ok(()),
        };
        let done = done.and_then(|()| {
            if flushed.elapsed() < FLUSH_PERIOD {
                return Ok(());
            }
            flushed = Instant::now();
            writer.flush()
        });
        if done.is_err() {
            break done;
        }
    };
    // Who still records is told by that.
    drop(pieces);
    // What is there of it is still worth its hash.
    let finished = writer.out.do_finish();
    let counted = writer.out.get_ref();
    let told = |outcome: io::Result<()>| {
        let reason = outcome.err().map(|error| error.to_string());
        if let Some(reason) = &reason {
            tracing::error!("the recording {file} is not whole: {reason}");
        }
        journal.write(
            RECORDING,
            Map::from_iter([
                ("session".to_owned(), session.into()),
                ("file".to_owned(), file.into()),
                ("bytes".to_owned(), counted.bytes.into()),
                ("sha256".to_owned(), hex(&counted.hash.clone().finalize()).into()),
                ("milliseconds".to_owned(), milliseconds(last).into()),
                ("fault".to_owned(), reason.map_or(Value::Null, Value::from)),
            ]),
        );
    };
    told(outcome.and(finished));
    // A disk may take its time for it.
    if let Err(error) = counted.file.sync_all() {
        told(Err(error));
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// `DATE/TIME-CONTAINER-SESSION.cast.zst`, in UTC.
fn file_name(now: Timestamp, subject: &Subject) -> String {
    let now = now.to_zoned(TimeZone::UTC);
    let plain = |character: char| {
        let is_plain = character.is_ascii_alphanumeric() || matches!(character, '_' | '.' | '-');
        if is_plain { character } else { '_' }
    };
    let container: String =
        subject.container.chars().take(NAME_CHARACTERS_MAX).map(plain).collect();
    let session = &subject.session;
    format!("{}-{container}-{session}.cast.zst", now.strftime("%Y-%m-%d/%H%M%S"))
}

/// What the recordings take, in bytes.
fn used(directory: &Path) -> u64 {
    let sizes = |directory: &Path| -> (u64, Vec<PathBuf>) {
        let mut all = (0, Vec::new());
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(data) if data.is_dir() => all.1.push(entry.path()),
                Ok(data) => all.0 += data.len(),
                // It was moved away meanwhile.
                Err(_) => {}
            }
        }
        all
    };
    let (bytes, days) = sizes(directory);
    bytes + days.iter().map(|day| sizes(day).0).sum::<u64>()
}
