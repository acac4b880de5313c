//! Writes the audit: a thread that writes, and one that makes durable, so that a slow disk holds up nobody but those who must
//! not begin without their line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chores_common::durable;
use chores_common::exit::chain;
use jiff::Timestamp;
use russh::keys::PrivateKey;
use serde_json::{Map, Value};
use tokio::sync::oneshot;

use crate::chain::{
    self, BEGIN, CHECKPOINT_LINES_MAX, FORMAT, GAP, LINE_BYTES_MAX, Link, NAMESPACE, Tail, Tip,
    Torn,
};
use crate::host_keys::{AUDIT_DIRECTORY, AuditKey};

#[cfg(test)]
mod tests;

/// Events that wait for the disk. More are left out, and counted.
const QUEUE_MAX: usize = 4096;
/// A line is signed no later than this.
const CHECKPOINT_PERIOD: Duration = Duration::from_secs(5);
/// After a fault it is tried again no sooner than this.
const RETRY_PERIOD: Duration = Duration::from_secs(1);
/// And another file no sooner than this, when those before could not be made durable one after the other.
const UNSYNCED_RETRY_PERIOD: Duration = Duration::from_secs(60);
/// A line is written in this time, or what waits for it is told that it is not.
const WRITE_TIME_MAX: Duration = Duration::from_secs(10);
/// Checkpoints are durable in this time, or the disk has a fault: waiting for it tells nobody.
const SYNC_TIME_MAX: Duration = Duration::from_secs(30);
/// A file that is larger is followed by another one, in bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// And so is one that has this part of the quota: there must be older files that can be moved away.
const FILES_OF_QUOTA: u64 = 8;
/// Beyond the quota, for what signs lines that are there and tells of those that are not, in bytes.
const RESERVE_BYTES: u64 = 64 * 1024;
/// Of the quota, in hundredths: from here on it is warned of.
const WARN_PERCENT: u64 = 80;
/// Of the quota, in hundredths: from here on refusals are counted and not written. Who is refused must not be able to keep
/// out those who are not.
const REFUSALS_PERCENT: u64 = 50;
/// These.
const REFUSALS: [&str; 4] = ["login denied", "session refused", "forward refused", "file refused"];
/// Of the quota, in hundredths: from here on sessions end that must have lines about files. There is room left for others.
const FILES_PERCENT: u64 = 75;
/// Begins a connection; from there on it waits for something that is no refusal.
const LOGIN: &str = "login";
/// Ends a connection.
const LOGOUT: &str = "logout";
/// The field of events that says of which connection they are.
const CONNECTION: &str = "connection";
/// Logins that wait. What is beyond is counted as refused, and the log has it.
const WAITING_MAX: usize = 4096;

/// The last checkpoint, kept beside the files.
pub(crate) const HEAD: &str = "head";
const FILE_PREFIX: &str = "audit-";
const FILE_SUFFIX: &str = ".jsonl";
const FILE_MODE: u32 = 0o600;

/// The audit. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    queue: SyncSender<Order>,
    /// Events that were not written, since the start.
    lost: Arc<AtomicU64>,
    /// There is no more room for lines about files.
    is_crowded: Arc<AtomicBool>,
}

/// A moment of the journal: what is written from then on is there, or it is known that it is not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    lost: u64,
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
    pub(crate) fn start(state: &Path, key: impl Into<AuditKey>, quota: u64) -> io::Result<Self> {
        let (queue, orders) = sync_channel(QUEUE_MAX);
        let lost = Arc::<AtomicU64>::default();
        let mut writer = Writer::new(state, key, quota, Arc::clone(&lost))?;
        let is_crowded = Arc::clone(&writer.is_crowded);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(&orders))?;
        Ok(Self { queue, lost, is_crowded })
    }

    /// Now: to be taken before the events that [`written`] is asked about.
    ///
    /// [`written`]: Self::written
    pub(crate) fn mark(&self) -> Mark {
        Mark { lost: self.lost.load(Ordering::Acquire) }
    }

    /// Whether lines about files would take the room of others.
    pub(crate) fn is_crowded(&self) -> bool {
        self.is_crowded.load(Ordering::Relaxed)
    }

    /// Writes an event. Does not wait.
    pub(crate) fn write(&self, event: &'static str, fields: Map<String, Value>) {
        let order = Order::Event { time: Timestamp::now(), event, fields };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.queue.try_send(order)
        {
            self.lost.fetch_add(1, Ordering::Release);
        }
    }

    /// Waits until every event up to now is written; fails when one since the mark was not, whoever's it was. The error is
    /// one sentence for the log.
    pub(crate) async fn written(&self, mark: Mark) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let late = || "the disk is too slow".to_owned();
        self.queue.try_send(Order::Answer(answer)).map_err(|_| late())?;
        match tokio::time::timeout(WRITE_TIME_MAX, answered).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) | Err(_) => return Err(late()),
        }
        // A fault that is over by now has left its mark.
        match self.lost.load(Ordering::Acquire).saturating_sub(mark.lost) {
            0 => Ok(()),
            lost => Err(format!("{lost} lines of the audit were not written just now")),
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
    /// See [`AuditKey`].
    is_doubtful: bool,
    quota: u64,
    /// A file that is larger is followed by another one.
    file_bytes_max: u64,
    lost: Arc<AtomicU64>,
    /// How many of the lost events were told in the audit.
    told: u64,
    /// Refusals that were not written for want of room, and not told yet.
    refusals: u64,
    /// When that was told last.
    gap_at: Option<Instant>,
    /// Logins of connections that have got nothing yet, where refusals are only counted: whoever only is refused writes
    /// nothing.
    waiting: BTreeMap<u64, (Timestamp, Map<String, Value>)>,
    open: Option<Open>,
    /// The last line that was written in this life.
    last: Option<Tip>,
    /// There is a head of ours.
    has_head: bool,
    /// How many files could not be made durable by now.
    damaged: usize,
    /// The last one could not be, and none since then was.
    is_unsynced: bool,
    /// Why the last event was not written.
    fault: Option<String>,
    /// When it was last tried to open a file.
    tried: Option<Instant>,
    /// The quota was used up when all files were so long.
    full_at: Option<u64>,
    /// When their lengths were last asked for.
    measured: Option<Instant>,
    /// It was said that the quota is nearly used up.
    is_warned: bool,
    /// It was said that refusals are only counted.
    is_counting: bool,
    /// See [`Journal::is_crowded`].
    is_crowded: Arc<AtomicBool>,
}

/// Why a line is not written. One sentence.
type Fault = String;

/// What a line may fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Room {
    Quota,
    /// The quota, and the reserve beyond it.
    Reserve,
}

/// What was there before a file.
struct Before {
    /// The last whole line.
    tip: Tip,
    /// What is behind it.
    torn: Option<Torn>,
    /// Lines that must have been there, and are gone.
    lost: Option<(u64, u64)>,
    /// The line that the head names, or that we have written, is another one.
    is_changed: bool,
    /// There are lines, and no head of ours.
    is_headless: bool,
    /// Lines behind the head.
    unsigned: Option<(u64, u64)>,
    /// Lines that may not be on the disk.
    unsynced: Option<(u64, u64)>,
}

impl Writer {
    fn new(
        state: &Path,
        key: impl Into<AuditKey>,
        quota: u64,
        lost: Arc<AtomicU64>,
    ) -> io::Result<Self> {
        let AuditKey { key, is_doubtful } = key.into();
        let directory = state.join(AUDIT_DIRECTORY);
        let durability = Durability::start(&directory, SYNC_TIME_MAX)?;
        Ok(Self {
            durability,
            directory,
            key,
            is_doubtful,
            quota,
            file_bytes_max: (quota / FILES_OF_QUOTA).clamp(LINE_BYTES_MAX as u64, FILE_BYTES_MAX),
            lost,
            told: 0,
            refusals: 0,
            gap_at: None,
            waiting: BTreeMap::new(),
            open: None,
            last: None,
            has_head: false,
            damaged: 0,
            is_unsynced: false,
            fault: None,
            tried: None,
            full_at: None,
            measured: None,
            is_warned: false,
            is_counting: false,
            is_crowded: Arc::default(),
        })
    }

    fn run(&mut self, orders: &Receiver<Order>) {
        self.tend(Self::opened);
        loop {
            let wait = self.open.as_ref().and_then(|open| open.unsigned_since);
            let wait = wait.map_or(CHECKPOINT_PERIOD, |since| {
                CHECKPOINT_PERIOD.saturating_sub(since.elapsed())
            });
            match orders.recv_timeout(wait) {
                Ok(Order::Event { time, event, fields }) => {
                    self.take(time, event, fields);
                    if self.is_due() {
                        self.tend(Self::sign);
                    }
                }
                Ok(Order::Answer(answer)) => {
                    self.look_for_room();
                    // A fault is over when a file can be opened again.
                    self.tend(Self::opened);
                    // Who asked may have given up.
                    drop(answer.send(self.fault.clone().map_or(Ok(()), Err)));
                }
                Ok(Order::End(done)) => {
                    self.tend(Self::end);
                    self.durability.end();
                    done.send(()).ok();
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {
                    self.tend(Self::sign);
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.tend(Self::end);
                    self.durability.end();
                    return;
                }
            }
        }
    }

    /// Takes an event: it is written, waits, or is counted.
    fn take(&mut self, time: Timestamp, event: &'static str, fields: Map<String, Value>) {
        let connection = fields.get(CONNECTION).and_then(Value::as_u64);
        let is_refusal = REFUSALS.contains(&event);
        if (is_refusal || event == LOGIN || event == LOGOUT) && self.has_no_room_for_refusals() {
            match (event, connection) {
                (LOGIN, Some(connection)) if self.waiting.len() < WAITING_MAX => {
                    // Numbers begin again; the one before has got nothing.
                    let before = self.waiting.insert(connection, (time, fields));
                    self.refusals += u64::from(before.is_some());
                    return;
                }
                (LOGOUT, Some(connection)) if self.waiting.remove(&connection).is_some() => {
                    // Its login, and this.
                    self.refusals += 2;
                    return;
                }
                // Its login is there.
                (LOGOUT, _) => {}
                _ => {
                    self.refusals += 1;
                    return;
                }
            }
        }
        if let Some((time, fields)) = connection.and_then(|number| self.waiting.remove(&number)) {
            self.keep(time, LOGIN, fields);
        }
        self.keep(time, event, fields);
    }

    /// Writes an event, or counts it as lost.
    fn keep(&mut self, time: Timestamp, event: &'static str, fields: Map<String, Value>) {
        if !self.tend(|writer| writer.event(time, event, fields)) {
            self.lost.fetch_add(1, Ordering::Release);
        }
    }

    /// Does something, and says what is wrong when it was not so before. Whether it was done.
    fn tend(&mut self, act: impl FnOnce(&mut Self) -> Result<(), Fault>) -> bool {
        let done = act(self);
        let is_done = done.is_ok();
        // What was written before and is not durable is a fault too, and so is a quota that has no room for the next event.
        match done.and_then(|()| self.durability.fault()).and_then(|()| self.has_room()) {
            Ok(()) => {
                self.is_unsynced = false;
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
        self.tell_gap(Room::Quota)?;
        self.append(&time, event, fields, Room::Quota)
    }

    /// Says how many events were not written since it was last said.
    fn tell_gap(&mut self, room: Room) -> Result<(), Fault> {
        let lost = self.lost.load(Ordering::Acquire);
        let left_out = (lost - self.told).saturating_add(self.refusals);
        // A line of its own for each of them would take the room that leaving them out is to save.
        let is_told = self.gap_at.is_some_and(|told| told.elapsed() < CHECKPOINT_PERIOD);
        let can_wait = room == Room::Quota && lost == self.told && is_told;
        if left_out == 0 || can_wait {
            return Ok(());
        }
        let refusals = (self.refusals > 0).then_some(self.refusals);
        let fields = Map::from_iter([
            ("left_out".to_owned(), left_out.into()),
            ("refusals".to_owned(), refusals.map_or(Value::Null, Value::from)),
        ]);
        self.append(&Timestamp::now(), GAP, fields, room)?;
        (self.told, self.refusals) = (lost, 0);
        self.gap_at = Some(Instant::now());
        Ok(())
    }

    /// The last lines: what was not written is told beyond the quota if need be, since the next life does not know of it.
    fn end(&mut self) -> Result<(), Fault> {
        self.refusals += std::mem::take(&mut self.waiting).len() as u64;
        if self.lost.load(Ordering::Acquire) > self.told || self.refusals > 0 {
            self.tried = None;
            self.open_file(Room::Reserve)?;
            self.tell_gap(Room::Reserve)?;
        }
        self.sign()
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
        if self.full_at.is_some() {
            self.measure();
        }
        self.open_file(Room::Quota)
    }

    /// Gives a file up that could not be made durable. What the kernel says of it from then on means nothing: it has
    /// forgotten what it could not write (fsync(2)).
    fn shun(&mut self) {
        let damaged = self.durability.damaged();
        if damaged > self.damaged {
            self.damaged = damaged;
            self.open = None;
            if !self.is_unsynced {
                self.tried = None;
            }
            self.is_unsynced = true;
        }
    }

    fn open_file(&mut self, room: Room) -> Result<(), Fault> {
        self.shun();
        if self.open.as_ref().is_some_and(|open| open.bytes >= self.file_bytes_max) {
            self.sign()?;
            self.open = None;
            self.tried = None;
        }
        if self.open.is_none() {
            let patience = if self.is_unsynced { UNSYNCED_RETRY_PERIOD } else { RETRY_PERIOD };
            if let (Some(fault), Some(tried)) = (&self.fault, self.tried)
                && tried.elapsed() < patience
            {
                return Err(fault.clone());
            }
            self.tried = Some(Instant::now());
            self.full_at = None;
            let open = self.begin().map_err(|error| self.failed(&error))?;
            self.open = Some(open);
            self.begun(room)?;
        }
        Ok(())
    }

    /// Fails while nobody has made room since the quota was used up.
    fn has_room(&self) -> Result<(), Fault> {
        match (&self.open, self.full_at) {
            (Some(open), Some(full)) if open.all_bytes >= full => Err(self.full()),
            _ => Ok(()),
        }
    }

    fn full(&self) -> Fault {
        format!(
            "{}: its quota of {} bytes is used up: move old files away, or raise audit_quota",
            self.directory.display(),
            self.quota
        )
    }

    fn failed(&self, error: &io::Error) -> Fault {
        format!("{}: {}", self.directory.display(), chain(error))
    }

    /// Whether refusals are only counted, so that there is room left for the rest.
    fn has_no_room_for_refusals(&mut self) -> bool {
        let most = self.quota / 100 * REFUSALS_PERCENT;
        let is_full =
            |writer: &Self| writer.open.as_ref().is_some_and(|open| open.all_bytes >= most);
        if is_full(self) {
            self.measure();
        }
        let is_full = is_full(self);
        if is_full && !self.is_counting {
            tracing::warn!(
                "{REFUSALS_PERCENT} % of the quota of {} bytes for the audit are used: what is refused is only counted there until old files are moved away from {}",
                self.quota,
                self.directory.display()
            );
        }
        self.is_counting = is_full;
        is_full
    }

    /// Says whether there is room for lines about files.
    fn look_for_room(&mut self) {
        let most = self.quota / 100 * FILES_PERCENT;
        let is_full =
            |writer: &Self| writer.open.as_ref().is_some_and(|open| open.all_bytes >= most);
        if is_full(self) {
            self.measure();
        }
        self.is_crowded.store(is_full(self), Ordering::Relaxed);
    }

    /// How long all files are by now: somebody may have moved some away.
    fn measure(&mut self) {
        if self.measured.is_some_and(|measured| measured.elapsed() < RETRY_PERIOD) {
            return;
        }
        self.measured = Some(Instant::now());
        let Some(open) = &mut self.open else { return };
        let path = self.directory.join(file_name(open.number));
        let place = |data: std::fs::Metadata| (data.dev(), data.ino());
        let is_there = match (std::fs::metadata(path), open.file.metadata()) {
            (Ok(named), Ok(opened)) => place(named) == place(opened),
            _ => false,
        };
        match (
            is_there,
            files(&self.directory).and_then(|numbers| length_of(&self.directory, &numbers)),
        ) {
            (true, Ok(all_bytes)) => open.all_bytes = all_bytes,
            // The newest one must stay. What it had is told as lost by the one that follows.
            (false, _) => self.open = None,
            (true, Err(error)) => tracing::debug!("the audit cannot be measured: {error}"),
        }
    }

    /// A new file behind those that are there.
    fn begin(&self) -> io::Result<Open> {
        let numbers = files(&self.directory)?;
        let all_bytes = length_of(&self.directory, &numbers)?;
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
    fn begun(&mut self, room: Room) -> Result<(), Fault> {
        let Some(number) = self.open.as_ref().map(|open| open.number) else { return Ok(()) };
        let last = self.last.clone();
        let known = self.head().ok().and_then(|(_, head)| head);
        let begun = self.first_lines(number, room);
        if begun.is_err() {
            self.abandon(number, last, known.map_or(0, |head| head.number));
        }
        begun
    }

    /// Removes a file that could not be begun, unless a head may name its lines: it would say for ever that they are gone.
    fn abandon(&mut self, number: u64, last: Option<Tip>, known: u64) {
        self.open = None;
        // A new one may be there although it could not be made durable.
        match self.head() {
            Ok((_, Some(head))) if head.number > known => return,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!("a file of the audit that was not begun is left behind: {error}");
                return;
            }
        }
        self.last = last;
        if let Err(error) = std::fs::remove_file(self.directory.join(file_name(number))) {
            tracing::warn!("a file of the audit that was not begun is left behind: {error}");
        }
    }

    fn first_lines(&mut self, number: u64, room: Room) -> Result<(), Fault> {
        let before = self.before(number).map_err(|error| self.failed(&error))?;
        let Before { tip, torn, lost, is_changed, is_headless, unsigned, unsynced } = before;
        if let Some(torn) = &torn {
            tracing::error!(
                "{} bytes at the end of the audit were no whole line, and are left out from here on: the gateway was killed there, or power failed",
                torn.bytes
            );
        }
        if let Some((from, to)) = unsynced {
            tracing::error!(
                "lines {from} to {to} of the audit may not be on the disk: it could not make them durable"
            );
        }
        if let Some((from, to)) = lost {
            tracing::error!("lines {from} to {to} of the audit are gone: somebody has cut it");
        }
        if is_changed {
            tracing::error!(
                "the last checkpoint of the audit is another one: somebody has changed it"
            );
        }
        if is_headless {
            tracing::error!(
                "the audit has no head that is ours: somebody may have cut or changed it; `audit verify` says so from now on"
            );
        }
        if let Some(open) = &mut self.open {
            open.tip = tip;
        }
        let public = self.key.public_key().to_openssh().unwrap_or_default();
        let value = |value: serde_json::Result<Value>| value.unwrap_or_default();
        let told = |is: bool| if is { Value::from(true) } else { Value::Null };
        let fields = Map::from_iter([
            ("format".to_owned(), Value::from(FORMAT)),
            ("program".to_owned(), env!("CARGO_PKG_VERSION").into()),
            ("key".to_owned(), public.into()),
            ("torn".to_owned(), value(serde_json::to_value(torn))),
            ("lost".to_owned(), value(serde_json::to_value(lost))),
            ("changed".to_owned(), told(is_changed)),
            ("headless".to_owned(), told(is_headless)),
            ("doubtful_key".to_owned(), told(self.is_doubtful)),
            ("unsigned".to_owned(), value(serde_json::to_value(unsigned))),
            ("unsynced".to_owned(), value(serde_json::to_value(unsynced))),
        ]);
        self.append(&Timestamp::now(), BEGIN, fields, room)?;
        self.sign()
    }

    /// The head as it is, and what it names when it is one of ours.
    fn head(&self) -> io::Result<(Option<Vec<u8>>, Option<Tip>)> {
        let kept = match std::fs::read(self.directory.join(HEAD)) {
            Ok(kept) => Some(kept),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let head = kept.as_deref().and_then(|kept| chain::checkpoint(kept, self.key.public_key()));
        Ok((kept, head))
    }

    /// What a new file follows, and whether it is what it was.
    fn before(&mut self, number: u64) -> io::Result<Before> {
        let (tip, torn) = end_of(&self.directory, number)?;
        let mut before = Before {
            torn,
            lost: None,
            is_changed: false,
            is_headless: false,
            unsigned: None,
            unsynced: None,
            tip: tip.clone(),
        };
        let (kept, head) = self.head()?;
        if let Some(last) = &self.last {
            before.lost = (last.number > tip.number).then(|| (tip.number + 1, last.number));
            before.is_changed = before.lost.is_none() && *last != tip;
            if self.is_unsynced {
                // The head names the last line that is durable.
                let durable = head.as_ref().map_or(0, |head| head.number);
                before.unsynced = (tip.number > durable).then_some((durable + 1, tip.number));
                if let (Some(head), None) = (&head, before.lost) {
                    let gone = first_gone(&self.directory, number, head)?;
                    before.lost = gone.map(|first| (first, last.number));
                }
            }
            return Ok(before);
        }
        self.has_head = head.is_some();
        let Some(head) = head else {
            before.is_headless = kept.is_some() || tip.number > 0;
            return Ok(before);
        };
        if head.number > tip.number {
            before.lost = Some((tip.number + 1, head.number));
            return Ok(before);
        }
        before.is_changed = hash_of(&self.directory, number, head.number)? != Some(head.hash);
        before.unsigned = (tip.number > head.number).then(|| (head.number + 1, tip.number));
        Ok(before)
    }

    fn append(
        &mut self,
        time: &Timestamp,
        event: &str,
        fields: Map<String, Value>,
        room: Room,
    ) -> Result<(), Fault> {
        let Some(open) = &self.open else { return Err("no file is open".to_owned()) };
        let mut tip = open.tip.clone();
        let line = tip.append(&time.to_string(), event, fields);
        self.put(&line, tip, room)
    }

    /// Writes a line, which is the tip from then on.
    fn put(&mut self, line: &str, tip: Tip, room: Room) -> Result<(), Fault> {
        let length = line.len() as u64;
        let most = match room {
            Room::Quota => self.quota,
            Room::Reserve => self.quota.saturating_add(RESERVE_BYTES),
        };
        let is_full = |open: &Open| open.all_bytes.saturating_add(length) > most;
        if self.open.as_ref().is_some_and(is_full) {
            self.measure();
        }
        if let Some(open) = self.open.as_ref().filter(|open| is_full(open)) {
            // It stays open: what signs it, and what tells of the rest, has its reserve.
            self.full_at = Some(open.all_bytes);
            return Err(self.full());
        }
        let Some(open) = &mut self.open else { return Err("no file is open".to_owned()) };
        if let Err(error) = open.file.write_all(line.as_bytes()) {
            // What is in the file now is found when the next one is begun.
            self.open = None;
            return Err(self.failed(&error));
        }
        open.bytes += length;
        open.all_bytes += length;
        open.unsigned += 1;
        open.unsigned_since.get_or_insert_with(Instant::now);
        open.tip = tip.clone();
        self.last = Some(tip);
        let is_nearly_full = open.all_bytes >= self.quota / 100 * WARN_PERCENT;
        if is_nearly_full && !self.is_warned {
            tracing::warn!(
                "{WARN_PERCENT} % of the quota of {} bytes for the audit are used: move old files away from {}",
                self.quota,
                self.directory.display()
            );
        }
        self.is_warned = is_nearly_full;
        Ok(())
    }

    /// Signs what was written since the last time, and has it made durable.
    fn sign(&mut self) -> Result<(), Fault> {
        self.shun();
        if self.open.is_none() {
            return self.opened();
        }
        let Some(open) = self.open.as_ref().filter(|open| open.unsigned > 0) else {
            return Ok(());
        };
        let mut tip = open.tip.clone();
        let line = tip.checkpoint(&Timestamp::now().to_string(), &self.key);
        let line = line.map_err(|error| format!("{NAMESPACE}: {error}"))?;
        self.put(&line, tip, Room::Reserve)?;
        let Some(open) = &mut self.open else { return Ok(()) };
        open.unsigned = 0;
        open.unsigned_since = None;
        let (number, head) = (open.number, line.trim_end().to_owned());
        let file = open.file.try_clone().map_err(|error| error.to_string())?;
        if !self.has_head {
            // From the first line on there is always one: that there is none means something.
            file.sync_data().map_err(|error| self.failed(&error))?;
            durable::write(&self.directory.join(HEAD), head.as_bytes(), FILE_MODE)
                .map_err(|error| chain(&error))?;
            self.has_head = true;
        }
        self.durability.ask(number, file, head);
        Ok(())
    }
}

/// The thread that makes checkpoints durable. Only the last one counts: it stands for all before it.
struct Durability {
    wanted: Arc<Wanted>,
    thread: Option<std::thread::JoinHandle<()>>,
    /// What takes longer is a fault.
    patience: Duration,
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
    files: BTreeMap<u64, File>,
    head: Option<(u64, String)>,
    /// Files that could not be made durable: nothing is asked of them any more, since the kernel tells of a loss once.
    damaged: BTreeSet<u64>,
    /// Since when something is asked for that is not done.
    since: Option<Instant>,
    fault: Option<Fault>,
    is_over: bool,
}

impl Durability {
    fn start(directory: &Path, patience: Duration) -> io::Result<Self> {
        let wanted = Arc::<Wanted>::default();
        let (its, directory) = (Arc::clone(&wanted), directory.to_owned());
        let thread = std::thread::Builder::new()
            .name("audit-sync".to_owned())
            .spawn(move || its.serve(&directory))?;
        Ok(Self { wanted, thread: Some(thread), patience })
    }

    /// Has this checkpoint of this file made durable. Does not wait.
    fn ask(&self, number: u64, file: File, head: String) {
        let mut state = self.wanted.lock();
        if state.damaged.contains(&number) {
            return;
        }
        state.files.entry(number).or_insert(file);
        state.head = Some((number, head));
        state.since.get_or_insert_with(Instant::now);
        self.wanted.changed.notify_one();
    }

    /// How many files could not be made durable, ever.
    fn damaged(&self) -> usize {
        self.wanted.lock().damaged.len()
    }

    /// What the last try came to, or that it does not come to anything.
    fn fault(&self) -> Result<(), Fault> {
        let state = self.wanted.lock();
        if let Some(fault) = &state.fault {
            return Err(fault.clone());
        }
        let patience = self.patience;
        match state.since {
            Some(since) if since.elapsed() >= patience => Err(format!(
                "the disk does not make it durable: it was told to {} s ago or more",
                patience.as_secs()
            )),
            _ => Ok(()),
        }
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
        while let Some((files, (number, head))) = self.next() {
            let mut damaged = BTreeMap::new();
            for (number, file) in files {
                if let Err(error) = file.sync_data() {
                    damaged.insert(number, format!("{}: {error}", file_name(number)));
                }
            }
            let mut again = None;
            let fault = match damaged.values().next() {
                Some(fault) => Some(fault.clone()),
                None => durable::write(&directory.join(HEAD), head.as_bytes(), FILE_MODE)
                    .err()
                    .map(|error| {
                        again = Some((number, head));
                        chain(&error)
                    }),
            };
            let mut state = self.lock();
            // What was asked for meanwhile was asked for just now.
            state.since = state.head.is_some().then(Instant::now);
            state.fault = fault;
            state.shun(damaged.into_keys());
            if state.fault.is_some() {
                if let Some((number, head)) = again {
                    state.again(number, head);
                }
                if state.is_over {
                    return;
                }
                drop(self.changed.wait_timeout(state, RETRY_PERIOD));
            }
        }
    }

    /// What is to be made durable next; `None` when it is over.
    fn next(&self) -> Option<(BTreeMap<u64, File>, (u64, String))> {
        let mut state = self.lock();
        while state.head.is_none() && !state.is_over {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        let head = state.head.take()?;
        Some((std::mem::take(&mut state.files), head))
    }
}

impl WantedState {
    /// Has the head tried once more, unless there is something newer.
    fn again(&mut self, number: u64, head: String) {
        self.head.get_or_insert((number, head));
        self.since.get_or_insert_with(Instant::now);
    }

    /// Asks nothing more of these files.
    fn shun(&mut self, damaged: impl Iterator<Item = u64>) {
        self.damaged.extend(damaged);
        let damaged = &self.damaged;
        self.files.retain(|number, _| !damaged.contains(number));
        if self.head.as_ref().is_some_and(|(number, _)| damaged.contains(number)) {
            self.head = None;
            self.since = None;
        }
    }
}

/// How long these files are together, in bytes.
fn length_of(directory: &Path, numbers: &[u64]) -> io::Result<u64> {
    let mut bytes = 0;
    for number in numbers {
        bytes += std::fs::metadata(directory.join(file_name(*number)))?.len();
    }
    Ok(bytes)
}

/// The hash of the line `wanted` in the files before `number`; that of the line before the first one is known by the first.
fn hash_of(directory: &Path, number: u64, wanted: u64) -> io::Result<Option<String>> {
    let mut first: Option<Link> = None;
    for before in files(directory)?.into_iter().rev().filter(|before| *before < number) {
        let mut file = BufReader::new(File::open(directory.join(file_name(before)))?);
        let mut line = Vec::new();
        let mut is_first = true;
        loop {
            line.clear();
            (&mut file).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
            let Some((b'\n', whole)) = line.split_last() else { break };
            let Some(link) = Link::parse(whole) else { break };
            if link.number == wanted {
                return Ok(Some(chain::hash(whole)));
            }
            if std::mem::take(&mut is_first) {
                let is_behind = link.number > wanted;
                first = Some(link);
                if is_behind {
                    break;
                }
            }
        }
        // It belongs into this file.
        if first.as_ref().is_some_and(|first| first.number < wanted) {
            return Ok(None);
        }
    }
    Ok(first.filter(|first| first.number == wanted + 1).map(|first| first.previous))
}

/// The number of the first line that does not go on from the one before it, from the durable one on that the head names,
/// in the files before `number`.
fn first_gone(directory: &Path, number: u64, head: &Tip) -> io::Result<Option<u64>> {
    let mut numbers = files(directory)?;
    numbers.retain(|before| *before < number);
    let mut from = 0;
    for (at, before) in numbers.iter().enumerate().rev() {
        from = at;
        let first = Lines::open(directory, *before)?.next().transpose()?.flatten();
        if first.is_some_and(|(link, _)| link.number <= head.number) {
            break;
        }
    }
    let mut tip: Option<Tip> = None;
    for before in numbers.into_iter().skip(from) {
        for line in Lines::open(directory, before)? {
            let next = tip.as_ref().map_or(head.number, |tip| tip.number + 1);
            let Some((link, hash)) = line? else { return Ok(Some(next)) };
            let fits = match &tip {
                None if link.number < head.number => continue,
                None => link.number == head.number && hash == head.hash,
                Some(tip) => link.number == next && link.previous == tip.hash,
            };
            if !fits {
                return Ok(Some(next));
            }
            tip = Some(Tip { number: link.number, hash });
        }
    }
    Ok(tip.is_none().then_some(head.number))
}

/// The lines of a file with their hashes; `None` for what is none. What is behind the last line end is no line.
struct Lines(BufReader<File>);

impl Lines {
    fn open(directory: &Path, number: u64) -> io::Result<Self> {
        Ok(Self(BufReader::new(File::open(directory.join(file_name(number)))?)))
    }
}

impl Iterator for Lines {
    type Item = io::Result<Option<(Link, String)>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        match (&mut self.0).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line) {
            Err(error) => return Some(Err(error)),
            Ok(_) if line.is_empty() => return None,
            Ok(_) => {}
        }
        match line.split_last() {
            Some((b'\n', whole)) => {
                Some(Ok(Link::parse(whole).map(|link| (link, chain::hash(whole)))))
            }
            // Too long, or the end.
            _ if line.len() > LINE_BYTES_MAX => Some(Ok(None)),
            _ => None,
        }
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
        let line = whole.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
        let tip = line.and_then(|line| {
            Some(Tip { number: Link::parse(line)?.number, hash: chain::hash(line) })
        });
        let (tip, its) = match tip {
            Some(tip) => (Some(tip), Torn::of(rest)),
            None => torn_end_of(directory, before)?,
        };
        torn = torn.or(its);
        if let Some(tip) = tip {
            return Ok((tip, torn));
        }
        // A file without a whole line: its writer was killed at once.
    }
    Ok((Tip::start(), torn))
}

/// The same of one file that has something else behind its last line than the beginning of another. An error when that was
/// not left by a writer that was cut short: somebody has written there.
fn torn_end_of(directory: &Path, number: u64) -> io::Result<(Option<Tip>, Option<Torn>)> {
    let name = file_name(number);
    let edited = || {
        io::Error::other(format!(
            "the end of {name} is no line of an audit: look at it with `audit verify`, and move the files away"
        ))
    };
    let mut file = BufReader::new(File::open(directory.join(&name))?);
    let mut tip = None;
    let mut tail: Option<Tail> = None;
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut file).take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            break;
        }
        let whole = line.strip_suffix(b"\n");
        match (whole.and_then(Link::parse), whole, &mut tail) {
            (Some(link), Some(whole), None) => {
                tip = Some(Tip { number: link.number, hash: chain::hash(whole) });
            }
            (Some(_), _, Some(_)) => return Err(edited()),
            (_, _, tail) => tail.get_or_insert_default().add(&line),
        }
    }
    match tail {
        Some(tail) if !tail.is_torn() => Err(edited()),
        tail => Ok((tip, tail.map(|tail| tail.torn()))),
    }
}
