//! Writes the audit: a thread that writes, and one that makes durable, so that a slow disk holds up nobody but those who must
//! not begin without their line.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chores_common::durable;
use chores_common::exit::chain;
use jiff::Timestamp;
use russh::keys::PrivateKey;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::chain::{self, BEGIN, CHECKPOINT_LINES_MAX, LINE_BYTES_MAX, Link, NAMESPACE, Tip, Torn};
use crate::host_keys::AUDIT_DIRECTORY;

#[cfg(test)]
mod tests;

/// Events that wait for the disk. More are left out, and counted.
const QUEUE_MAX: usize = 4096;
/// A line is signed no later than this.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(5);
/// After a fault it is tried again no sooner than this.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// A line is written in this time, or what waits for it is told that it is not.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// A file that is larger is followed by another one, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// The last checkpoint, kept beside the files.
pub(crate) const HEAD: &str = "head";
const FILE_PREFIX: &str = "audit-";
const FILE_SUFFIX: &str = ".jsonl";
const FILE_MODE: u32 = 0o600;
/// The form of the lines.
const FORMAT: u64 = 1;
/// The event that says how many were not written before it.
const GAP: &str = "gap";

/// The audit. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    queue: SyncSender<Order>,
    left_out: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Order {
    Event {
        time: Timestamp,
        event: &'static str,
        fields: Map<String, Value>,
    },
    /// Answered when everything before it is written; the error is one sentence.
    Answer(oneshot::Sender<Result<(), String>>),
    End(oneshot::Sender<()>),
}

impl Journal {
    /// Begins to write below `state`, at most `quota` bytes. A fault is in the log, and in what [`written`] says, until
    /// it is mended.
    ///
    /// [`written`]: Self::written
    pub(crate) fn start(state: &Path, key: PrivateKey, quota: u64) -> io::Result<Self> {
        let (queue, orders) = sync_channel(QUEUE_MAX);
        let left_out = Arc::<AtomicU64>::default();
        let directory = state.join(AUDIT_DIRECTORY);
        let durability = Durability::start(&directory)?;
        let mut writer = Writer {
            durability,
            directory,
            key,
            quota,
            left_out: Arc::clone(&left_out),
            open: None,
            fault: None,
            tried: None,
        };
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&orders))?;
        Ok(Self { queue, left_out })
    }

    /// Writes an event. Does not wait.
    pub(crate) fn write(&self, event: &'static str, fields: Map<String, Value>) {
        let order = Order::Event { time: Timestamp::now(), event, fields };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(order)
        {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until every event before is written. The error is one sentence for the log.
    pub(crate) async fn written(&self) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let late = || "the disk is too slow".to_owned();
        self.queue.try_send(Order::Answer(answer)).map_err(|_| late())?;
        match tokio::time::timeout(WRITE_TIME_MAX, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) | Err(_) => Err(late()),
        }
    }

    /// Signs what is written, and ends.
    pub(crate) async fn end(&self) {
        let (done, ended) = oneshot::channel();
        let is_heard = self.queue.try_send(Order::End(done)).is_ok();
        if !is_heard || !matches!(tokio::time::timeout(WRITE_TIME_MAX, ended).await, Ok(Ok(()))) {
            tracing::error!("the last lines of the audit may not be written");
        }
    }
}

/// The number of an audit's file by its name.
pub(crate) fn file_number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(FILE_PREFIX)?.strip_suffix(FILE_SUFFIX)?;
    let number = digits.parse().ok()?;
    // Nothing but what we write.
    (file_name(number) == name).then_some(number)
}

/// The name of an audit's file.
pub(crate) fn file_name(number: u64) -> String {
    format!("{FILE_PREFIX}{number:08}{FILE_SUFFIX}")
}

/// The numbers of an audit's files, in their order.
pub(crate) fn files(directory: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        numbers.extend(entry?.file_name().to_str().and_then(file_number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// A file that is written to.
struct Open {
    file: File,
    number: u64,
    /// Of this file.
    bytes: u64,
    /// Of all of them.
    all_bytes: u64,
    tip: Tip,
    /// Lines since the last checkpoint.
    unsigned: u64,
    /// When the first of these was written.
    unsigned_since: Option<Instant>,
}

struct Writer {
    durability: Durability,
    directory: PathBuf,
    key: PrivateKey,
    quota: u64,
    left_out: Arc<AtomicU64>,
    open: Option<Open>,
    /// Why the last event was not written.
    fault: Option<String>,
    /// When it was last tried to open a file.
    tried: Option<Instant>,
}

/// Why a line is not written. One sentence.
type Fault = String;

impl Writer {
    fn run(&mut self, orders: &Receiver<Order>) {
        self.tend(Self::opened);
        loop {
            let wait = self.open.as_ref().and_then(|open| open.unsigned_since);
            let wait = wait.map_or(CHECKPOINT_PERIOD, |since| {
                CHECKPOINT_PERIOD.saturating_sub(since.elapsed())
            });
            match orders.recv_timeout(wait) {
                Ok(Order::Event { time, event, fields }) => {
                    let written = self.tend(|writer| writer.event(time, event, fields));
                    if !written {
                        self.left_out.fetch_add(1, Ordering::Relaxed);
                    }
                    if self.is_due() {
                        self.tend(Self::sign);
                    }
                }
                Ok(Order::Answer(answer)) => {
                    // A fault is over when a file can be opened again.
                    self.tend(Self::opened);
                    // Who asked may have given up.
                    drop(answer.send(self.fault.clone().map_or(Ok(()), Err)));
                }
                Ok(Order::End(done)) => {
                    self.tend(Self::sign);
                    self.durability.end();
                    done.send(()).ok();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.tend(Self::sign);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.tend(Self::sign);
                    self.durability.end();
                    return;
                }
            }
        }
    }

    /// Does something, and says what is wrong when it was not so before. Whether it was done.
    fn tend(&mut self, act: impl FnOnce(&mut Self) -> Result<(), Fault>) -> bool {
        let done = act(self);
        let is_done = done.is_ok();
        // What was written before and is not durable is a fault too.
        match done.and_then(|()| self.durability.fault()) {
            Ok(()) => {
                if self.fault.take().is_some() {
                    tracing::info!("the audit is written again");
                }
            }
            Err(fault) => {
                if self.fault.as_ref() != Some(&fault) {
                    tracing::error!(
                        "the audit is not written, and sessions that must not go without it are refused: {fault}"
                    );
                }
                self.fault = Some(fault);
            }
        }
        is_done
    }

    fn event(
        &mut self,
        time: Timestamp,
        event: &'static str,
        fields: Map<String, Value>,
    ) -> Result<(), Fault> {
        self.opened()?;
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        let told = match left_out {
            0 => Ok(()),
            _ => {
                let fields = Map::from_iter([("left_out".to_owned(), left_out.into())]);
                self.append(&Timestamp::now(), GAP, fields)
            }
        };
        if told.is_err() {
            self.left_out.fetch_add(left_out, Ordering::Relaxed);
        }
        told?;
        self.append(&time, event, fields)
    }

    /// Whether a checkpoint is due.
    fn is_due(&self) -> bool {
        self.open.as_ref().is_some_and(|open| {
            open.unsigned >= CHECKPOINT_LINES_MAX - 1
                || open.unsigned_since.is_some_and(|since| since.elapsed() >= CHECKPOINT_PERIOD)
        })
    }

    /// The file that is written to; another one when there is none or it is full.
    fn opened(&mut self) -> Result<(), Fault> {
        if self.open.as_ref().is_some_and(|open| open.bytes >= FILE_BYTES_MAX) {
            self.sign()?;
            self.open = None;
            self.tried = None;
        }
        if self.open.is_none() {
            if let (Some(fault), Some(tried)) = (&self.fault, self.tried)
                && tried.elapsed() < RETRY_PERIOD
            {
                return Err(fault.clone());
            }
            self.tried = Some(Instant::now());
            let open = self
                .begin()
                .map_err(|error| format!("{}: {}", self.directory.display(), chain(&error)))?;
            self.open = Some(open);
            self.begun()?;
        }
        Ok(())
    }

    /// A new file behind those that are there.
    fn begin(&self) -> io::Result<Open> {
        let numbers = files(&self.directory)?;
        let mut all_bytes = 0;
        for number in &numbers {
            all_bytes += std::fs::metadata(self.directory.join(file_name(*number)))?.len();
        }
        let tip = Tip::start();
        let number = numbers.last().map_or(1, |last| last + 1);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(self.directory.join(file_name(number)))?;
        let (bytes, unsigned, unsigned_since) = (0, 0, None);
        Ok(Open { file, number, bytes, all_bytes, tip, unsigned, unsigned_since })
    }

    /// The first lines of a new file: how it goes on from what was there before. One that cannot be begun is removed.
    fn begun(&mut self) -> Result<(), Fault> {
        let Some(number) = self.open.as_ref().map(|open| open.number) else { return Ok(()) };
        let begun = self.first_lines(number);
        if begun.is_err() {
            self.open = None;
            if let Err(error) = std::fs::remove_file(self.directory.join(file_name(number))) {
                tracing::warn!("a file of the audit that was not begun is left behind: {error}");
            }
        }
        begun
    }

    fn first_lines(&mut self, number: u64) -> Result<(), Fault> {
        let (tip, torn) = end_of(&self.directory, number)
            .map_err(|error| format!("{}: {}", self.directory.display(), chain(&error)))?;
        let head = std::fs::read(self.directory.join(HEAD)).ok();
        let head = head.and_then(|head| Link::parse(&head)).map_or(0, |head| head.number);
        let lost = (head > tip.number).then(|| (tip.number + 1, head));
        if let Some((from, to)) = lost {
            tracing::error!("lines {from} to {to} of the audit are gone: somebody has cut it");
        }
        if let Some(open) = &mut self.open {
            open.tip = tip;
        }
        let public = self.key.public_key().to_openssh().unwrap_or_default();
        let value = |value: serde_json::Result<Value>| value.unwrap_or_default();
        let fields = Map::from_iter([
            ("format".to_owned(), Value::from(FORMAT)),
            ("program".to_owned(), env!("CARGO_PKG_VERSION").into()),
            ("key".to_owned(), public.into()),
            ("torn".to_owned(), value(serde_json::to_value(torn))),
            ("lost".to_owned(), value(serde_json::to_value(lost))),
        ]);
        self.append(&Timestamp::now(), BEGIN, fields)?;
        self.sign()
    }

    fn append(
        &mut self,
        time: &Timestamp,
        event: &str,
        fields: Map<String, Value>,
    ) -> Result<(), Fault> {
        let Some(open) = &mut self.open else { return Err("no file is open".to_owned()) };
        let line = open.tip.append(&time.to_string(), event, fields);
        self.put(&line)
    }

    fn put(&mut self, line: &str) -> Result<(), Fault> {
        let Some(open) = &mut self.open else { return Err("no file is open".to_owned()) };
        let length = line.len() as u64;
        let full = open.all_bytes.saturating_add(length) > self.quota;
        let written = if full {
            Err(format!("its quota of {} bytes is used up: move old files away", self.quota))
        } else {
            open.file.write_all(line.as_bytes()).map_err(|error| error.to_string())
        };
        match written {
            Ok(()) => {
                open.bytes += length;
                open.all_bytes += length;
                open.unsigned += 1;
                open.unsigned_since.get_or_insert_with(Instant::now);
                Ok(())
            }
            Err(fault) => {
                // What is in the file now is found when the next one is begun.
                self.open = None;
                Err(format!("{}: {fault}", self.directory.display()))
            }
        }
    }

    /// Signs what was written since the last time, and has it made durable.
    fn sign(&mut self) -> Result<(), Fault> {
        if self.open.is_none() {
            return self.opened();
        }
        let Some(open) = self.open.as_mut().filter(|open| open.unsigned > 0) else {
            return Ok(());
        };
        let line = open.tip.checkpoint(&Timestamp::now().to_string(), &self.key);
        let line = line.map_err(|error| format!("{NAMESPACE}: {error}"))?;
        self.put(&line)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        open.unsigned = 0;
        open.unsigned_since = None;
        let file = open.file.try_clone().map_err(|error| error.to_string())?;
        let (number, head) = (open.number, line.trim_end().to_owned());
        self.durability.ask(number, file, head);
        Ok(())
    }
}

/// The thread that makes checkpoints durable. Only the last one counts: it stands for all before it.
struct Durability {
    wanted: Arc<Wanted>,
    thread: Option<std::thread::JoinHandle<()>>,
}

#[derive(Default)]
struct Wanted {
    state: Mutex<WantedState>,
    changed: Condvar,
}

#[derive(Default)]
struct WantedState {
    /// The files with lines that are not durable, by their numbers, and the head behind the last of them. The quota bounds
    /// how many there can be.
    files: Vec<(u64, File)>,
    head: Option<String>,
    fault: Option<Fault>,
    is_over: bool,
}

impl Durability {
    fn start(directory: &Path) -> io::Result<Self> {
        let wanted = Arc::<Wanted>::default();
        let (its, directory) = (Arc::clone(&wanted), directory.to_owned());
        let thread = std::thread::Builder::new()
            .name("audit-sync".to_owned())
            .spawn(move || its.serve(&directory))?;
        Ok(Self { wanted, thread: Some(thread) })
    }

    /// Has this checkpoint of this file made durable. Does not wait.
    fn ask(&self, number: u64, file: File, head: String) {
        let mut state = self.wanted.lock();
        if state.files.last().is_none_or(|(last, _)| *last != number) {
            state.files.push((number, file));
        }
        state.head = Some(head);
        self.wanted.changed.notify_one();
    }

    /// What the last try came to.
    fn fault(&self) -> Result<(), Fault> {
        self.wanted.lock().fault.clone().map_or(Ok(()), Err)
    }

    /// Waits until everything that was asked for is done.
    fn end(&mut self) {
        self.wanted.lock().is_over = true;
        self.wanted.changed.notify_one();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the last lines of the audit may not be on the disk");
        }
    }
}

impl Wanted {
    fn lock(&self) -> MutexGuard<'_, WantedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, directory: &Path) {
        while let Some((files, head)) = self.next() {
            let synced = files.iter().try_for_each(|(_, file)| file.sync_data());
            let kept = synced.map_err(|error| error.to_string()).and_then(|()| {
                durable::write(&directory.join(HEAD), head.as_bytes(), FILE_MODE)
                    .map_err(|error| chain(&error))
            });
            let mut state = self.lock();
            state.fault = kept.err();
            if state.fault.is_some() {
                // Once more, unless there is something newer.
                state.head.get_or_insert(head);
                let newer = std::mem::replace(&mut state.files, files);
                state.files.extend(newer);
                if state.is_over {
                    return;
                }
                drop(self.changed.wait_timeout(state, RETRY_PERIOD));
            }
        }
    }

    /// What is to be made durable next; `None` when it is over.
    fn next(&self) -> Option<(Vec<(u64, File)>, String)> {
        let mut state = self.lock();
        while state.head.is_none() && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let head = state.head.take()?;
        Some((std::mem::take(&mut state.files), head))
    }
}

/// The last whole line of the files before `number`, and what is behind it.
fn end_of(directory: &Path, number: u64) -> io::Result<(Tip, Option<Torn>)> {
    let numbers = files(directory)?;
    let mut torn = None;
    for before in numbers.into_iter().rev().filter(|before| *before < number) {
        let mut file = File::open(directory.join(file_name(before)))?;
        let length = file.metadata()?.len();
        let span = length.min(2 * LINE_BYTES_MAX as u64);
        file.seek(SeekFrom::Start(length - span))?;
        let mut end = Vec::new();
        file.take(span).read_to_end(&mut end)?;
        let lines = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let (whole, rest) = end.split_at(lines);
        torn = torn.or_else(|| Torn::of(rest));
        let line = whole.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        // A file without a whole line: its writer was killed at once.
        let Some(line) = line else { continue };
        let link = Link::parse(line).ok_or_else(|| {
            let name = file_name(before);
            io::Error::other(format!("the end of {name} is no line of an audit: look at it with `audit verify`, and move the files away"))
        })?;
        return Ok((Tip { number: link.number, hash: chain::hash(line) }, torn));
    }
    Ok((Tip::start(), torn))
}
