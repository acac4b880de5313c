//! Notices on their way: who puts one in waits for no server and no disk, and what was put in is told even after a restart,
//! unless it became too old or too many were before it.
//!
//! Each channel has a thread that speaks to its server, and one more keeps all queues on disk ([`keeper`]). What has to happen
//! behind a notice that must not get lost waits for [`Kept`].

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::durable::{self, DurableError};
use chores_common::exit::chain;
use chores_common::retry::Retry;
use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::Serialize;

pub use self::keeper::Kept;
use self::keeper::{Keeper, Write};
use super::channel::{Channel, Channels};
use super::event::Event;
use super::queue::{NOTICES_MAX, Notice, Queue, QueueFault};
use super::send::{Carrier, CarrierError, Outcome, later};

mod keeper;

#[cfg(test)]
mod tests;

/// The folder in the state directory.
const DIRECTORY: &str = "notify";

/// What keeps two processes from telling the same twice.
const LOCK: &str = "lock";

/// Only for its owner.
const DIRECTORY_MODE: u32 = 0o700;
const LOCK_MODE: u32 = 0o600;

/// Pauses after failed attempts. They go on until a notice is too old.
const RETRY: Retry =
    Retry { attempts: u32::MAX, base: Duration::from_secs(1), cap: Duration::from_secs(10 * 60) };

/// The longest time that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60 * 60);

/// How long the end waits for what can be told at once.
pub const FINISH_TIME_MAX: Duration = Duration::from_secs(5);

/// Notices cannot be kept or sent.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The state directory is unusable.
    #[error("notices cannot be kept")]
    Directory(#[from] DurableError),
    /// The lock cannot be made.
    #[error("cannot open {}", .0.display())]
    Lock(PathBuf, #[source] io::Error),
    /// Another process has it.
    #[error("another process sends the notices of {}: give this one another --state-dir", .0.display())]
    InUse(PathBuf),
    /// A queue of a later version, or one that cannot be read.
    #[error("the queue of notices {} is unusable", .0.display())]
    Queue(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// A channel is unusable.
    #[error(transparent)]
    Carrier(#[from] CarrierError),
    /// There can be no thread.
    #[error("no thread can be started for notices")]
    Thread(#[source] io::Error),
}

/// How one channel is doing since this process began.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct ChannelCounts {
    /// Its name.
    pub channel: String,
    /// Notices that wait.
    pub waiting: u64,
    /// Those that its server took.
    pub accepted: u64,
    /// Those that its server refused for good.
    pub refused: u64,
    /// Those that were too many or too old.
    pub dropped: u64,
    /// Attempts that failed.
    pub failures: u64,
    /// What went wrong last, until something works.
    pub failing: Option<String>,
}

/// Every channel with its queue and its thread.
#[derive(Debug)]
pub struct Outbox {
    lanes: Vec<Arc<Lane>>,
    /// Hears of each thread that ends.
    ended: Receiver<()>,
    keeper: Option<Keeper>,
}

/// One channel.
#[derive(Debug)]
struct Lane {
    channel: Channel,
    path: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Who keeps the queue on disk.
    kept: Kept,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue,
    /// It is not on disk as it is.
    is_unkept: bool,
    counts: ChannelCounts,
    /// No attempt before that.
    not_before: Option<Instant>,
    /// Attempts that failed one after the other.
    failures: u32,
    /// The end was asked for.
    is_over: bool,
    /// The end came first: nobody keeps what changes now.
    is_abandoned: bool,
}

impl Outbox {
    /// Takes up what a former process left in the state directory, and begins to tell it. Without channels nothing is kept.
    pub fn open(state_dir: &Path, channels: Channels) -> Result<Self, OutboxError> {
        Self::open_with(state_dir, channels, Box::new(Queue::save))
    }

    /// The same with another disk.
    fn open_with(state_dir: &Path, channels: Channels, write: Write) -> Result<Self, OutboxError> {
        let (sender, ended) = mpsc::channel();
        if channels.is_empty() {
            return Ok(Self { lanes: Vec::new(), ended, keeper: None });
        }
        let directory = state_dir.join(DIRECTORY);
        durable::create_directories(&directory, DIRECTORY_MODE)?;
        let lock = lock(&directory)?;
        let kept = Kept::default();
        let mut ready = Vec::new();
        for channel in channels {
            let carrier = Carrier::new(&channel)?;
            ready.push((Arc::new(Lane::open(&directory, channel, kept.clone())?), carrier));
        }
        let lanes: Vec<_> = ready.iter().map(|(lane, _)| lane.clone()).collect();
        tell_orphans(&directory, &lanes);
        let keeper =
            Keeper::start(lanes.clone(), kept, lock, write).map_err(OutboxError::Thread)?;
        let outbox = Self { lanes, ended, keeper: Some(keeper) };
        for (lane, carrier) in ready {
            let sender = sender.clone();
            thread::Builder::new()
                .name("notices".to_owned())
                .spawn(move || lane.run(&carrier, &sender))
                .map_err(OutboxError::Thread)?;
        }
        Ok(outbox)
    }

    /// Tells every channel that wants to know. No server and no disk is waited for: [`Self::kept`] says when the event is on disk.
    pub fn put(&self, event: &Event) {
        let notice = Notice { id: id(), event: event.plain() };
        for lane in self.lanes.iter().filter(|lane| lane.channel.wants(event.kind)) {
            lane.put(notice.clone());
        }
    }

    /// Says when what was put in is on disk, also where this value is elsewhere.
    #[must_use]
    pub fn kept(&self) -> Kept {
        self.keeper.as_ref().map(Keeper::kept).unwrap_or_default()
    }

    /// How every channel is doing.
    #[must_use]
    pub fn counts(&self) -> Vec<ChannelCounts> {
        let counts = self.lanes.iter().map(|lane| {
            let state = lane.state();
            ChannelCounts { waiting: state.queue.len() as u64, ..state.counts.clone() }
        });
        counts.collect()
    }

    /// Tells what can be told at once, for [`FINISH_TIME_MAX`] at the most. What is left is told by the next process.
    pub fn finish(self) {
        drop(self);
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        for lane in &self.lanes {
            lane.state().is_over = true;
            lane.changed.notify_all();
        }
        let deadline = Instant::now() + FINISH_TIME_MAX;
        for _ in &self.lanes {
            let left = deadline.saturating_duration_since(Instant::now());
            // A thread that is in the middle of a request ends with the process.
            if self.ended.recv_timeout(left).is_err() {
                break;
            }
        }
        for lane in &self.lanes {
            let mut state = lane.state();
            state.is_abandoned = true;
            let waiting = state.queue.len();
            if waiting > 0 {
                let name = &lane.channel.name;
                tracing::warn!(
                    "{waiting} notices for {name} are not delivered yet: the next process goes on"
                );
            }
        }
        // Nobody changes them any more.
        if let Some(keeper) = self.keeper.take() {
            keeper.finish();
        }
    }
}

fn lock(directory: &Path) -> Result<File, OutboxError> {
    let path = directory.join(LOCK);
    let fail = |source| OutboxError::Lock(path.clone(), source);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(LOCK_MODE)
        .open(&path)
        .map_err(fail)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OutboxError::InUse(directory.to_owned())),
        Err(error) => Err(fail(error.into())),
    }
}

/// Names queues whose channel is no longer there. They are left alone: it may come back.
fn tell_orphans(directory: &Path, lanes: &[Arc<Lane>]) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_ours = lanes.iter().any(|lane| lane.path == path);
        let is_queue = path.extension().is_some_and(|extension| extension == "json");
        if !is_ours && is_queue && Queue::load(&path).is_ok_and(|queue| queue.len() > 0) {
            let path = path.display();
            tracing::warn!(
                "{path} has notices for a channel that is no longer there: name the channel so again, or remove the file"
            );
        }
    }
}

/// Random, so that a receiver knows a notice again that comes twice.
pub(super) fn id() -> String {
    // Without random numbers the moment has to do.
    let number = getrandom::u64().unwrap_or_else(|_| Timestamp::now().as_nanosecond() as u64);
    format!("{number:016x}")
}

impl Lane {
    fn open(directory: &Path, channel: Channel, kept: Kept) -> Result<Self, OutboxError> {
        let path = directory.join(format!("{}.json", channel.name));
        let queue = match Queue::load(&path) {
            Ok(queue) => queue,
            Err(fault @ QueueFault::Damaged(_)) => {
                // Backups are worth more than old notices: what it was is kept for a person to look at.
                let aside = path.with_extension("json.damaged");
                std::fs::rename(&path, &aside)
                    .map_err(|error| OutboxError::Queue(path.clone(), Box::new(error)))?;
                let (path, aside) = (path.display(), aside.display());
                tracing::error!("{path} is unusable and was renamed to {aside}: {}", chain(&fault));
                Queue::default()
            }
            Err(fault) => return Err(OutboxError::Queue(path, Box::new(fault))),
        };
        let counts = ChannelCounts { channel: channel.name.clone(), ..ChannelCounts::default() };
        let state = Mutex::new(State { queue, counts, ..State::default() });
        Ok(Self { channel, path, state, changed: Condvar::new(), kept })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, notice: Notice) {
        let mut state = self.state();
        let dropped = state.queue.push(notice);
        if dropped > 0 {
            state.counts.dropped += dropped;
            let name = &self.channel.name;
            tracing::error!("the oldest notice for {name} is dropped: {NOTICES_MAX} wait already");
        }
        self.save(&mut state);
        drop(state);
        self.changed.notify_all();
    }

    /// Has the queue kept as it is now. One that cannot be is still told, as long as this process lives.
    fn save(&self, state: &mut State) {
        state.is_unkept = true;
        self.kept.change();
    }

    fn run(&self, carrier: &Carrier, ended: &Sender<()>) {
        while let Some((notice, lost)) = self.next() {
            let sent = AssertUnwindSafe(|| carrier.send(&self.channel, &notice, lost));
            // A channel that falls silent for good would not be missed by anybody.
            let outcome = catch_unwind(sent)
                .unwrap_or_else(|_| later("the attempt broke off, which is a bug", None, true));
            self.note(&notice, lost, outcome);
        }
        // Nobody may listen any more.
        ended.send(()).ok();
    }

    /// Waits for the next notice whose time has come; `None` at the end.
    fn next(&self) -> Option<(Notice, u64)> {
        let mut state = self.state();
        loop {
            if state.is_abandoned {
                return None;
            }
            let dropped = state.queue.expire(Timestamp::now());
            if dropped > 0 {
                state.counts.dropped += dropped;
                tracing::error!(
                    "{dropped} notices for {} are dropped: they are too old",
                    self.channel.name
                );
                self.save(&mut state);
            }
            let now = Instant::now();
            let wait = state.not_before.map(|time| time.saturating_duration_since(now));
            let wait = wait.filter(|wait| !wait.is_zero());
            match (state.queue.first().cloned(), wait) {
                (Some(notice), None) => return Some((notice, state.queue.lost())),
                // What does not work now does not work better at the end.
                _ if state.is_over => return None,
                (Some(_), Some(wait)) => {
                    let waited = self.changed.wait_timeout(state, wait);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
                (None, _) => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    fn note(&self, notice: &Notice, lost: u64, outcome: Outcome) {
        let mut state = self.state();
        if state.is_abandoned {
            return;
        }
        let name = &self.channel.name;
        match outcome {
            Outcome::Accepted => {
                if state.counts.failing.take().is_some() {
                    tracing::info!("notices for {name} arrive again");
                }
                state.counts.accepted += 1;
                state.queue.accepted(&notice.id, lost);
                (state.failures, state.not_before) = (0, None);
            }
            Outcome::Refused { sentence } => {
                tracing::error!("a notice for {name} is refused and not sent again: {sentence}");
                state.counts.refused += 1;
                state.counts.failing = Some(sentence);
                state.queue.refused(&notice.id);
                (state.failures, state.not_before) = (0, None);
            }
            Outcome::Later { sentence, after, may_be_its_own } => {
                if state.counts.failing.as_ref() != Some(&sentence) {
                    tracing::warn!("a notice for {name} has to wait: {sentence}");
                }
                state.counts.failures += 1;
                state.counts.failing = Some(sentence);
                state.failures = state.failures.saturating_add(1);
                state.not_before = Some(Instant::now() + pause(state.failures, after));
                if may_be_its_own {
                    state.queue.postpone(&notice.id);
                }
            }
        }
        self.save(&mut state);
    }
}

/// How long to wait after so many failures; a server may ask for more, within a bound.
fn pause(failures: u32, after: Option<Duration>) -> Duration {
    let usual = RETRY.pause_after(failures, getrandom::u64().unwrap_or(0)).unwrap_or(RETRY.cap);
    usual.max(after.unwrap_or_default().min(RETRY_AFTER_MAX))
}
