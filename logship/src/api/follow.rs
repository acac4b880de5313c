//! Reads the API of one container for as long as the container exists.
//!
//! A quiet container is followed, and its place is proven by a picture now and then. A busy one whose log is rotated
//! is read in pictures only, one after the other: each of them shows exactly what was lost before it, which a
//! follower would pass over in silence.

use std::sync::Arc;
use std::time::Duration;

use chores_common::engine::{Container, Engine, EngineError, EngineErrorKind, LogTail, RawLogs};
use chores_common::retry::Retry;
use chores_common::shutdown::Shutdown;
use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::frames::{Decoder, FrameError, Framing, Message as LogMessage};
use super::resume::{Attach, Attached, Extent, Live, Outcome, Picture, Tracker, Verdict};
use super::rotation::Rotation;
use super::run_end::RunEnd;
use crate::cursor::Cursor;
use crate::cursor::api::{AHEAD_MAX, Seen};
use crate::intake::{Chunk, Intake, Message};
use crate::process::{Piece, ProcessSettings, Processor};
use crate::record::{Control, Gap, GapReason, Stream};
use crate::source::{SourceId, SourceMeta};
use crate::time;

/// Pictures that are taken at once, over all containers: each is work for the engine.
pub const PICTURES_MAX: usize = 4;

/// Messages that are asked for when nothing tells how many there may be.
const TAIL_DEFAULT: u64 = 1000;

/// A larger tail than this is everything, in messages.
const TAIL_MAX: u64 = 1 << 20;

/// How much larger the next tail is after one that was too short.
const TAIL_GROWTH: u64 = 8;

/// A log that retains no more than this is read whole when the first tail was too short, in bytes.
const SMALL_LOG_BYTES: u64 = 64 << 20;

/// Lines per second of a rotated log from which on it is read in pictures.
const BUSY_LINES: u64 = 2000;

/// For how long a container counts as busy after it was.
const BUSY_TIME: Duration = Duration::from_secs(2);

/// From the begin of one picture to the begin of the next, at least.
const PICTURE_EVERY: Duration = Duration::from_millis(100);

/// A follower's lines are proven after this time at the latest.
const PROVE_EVERY: Duration = Duration::from_secs(30);

/// Where the engine may leave out lines between the tail and what follows, a new follower is proven after these times:
/// a busy engine begins to follow a while after it has sent the tail.
const SETTLE_TIMES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(10)];

/// Pictures one after the other until one of them shows nothing that the one before did not, where the engine may leave
/// out lines in them. A log that is written without a pause has none such; the next proof goes on.
const PROOFS_MAX: u32 = 2;

/// A follower that gives nothing for so long is proven to have nothing to give.
const IDLE_PROVE_EVERY: Duration = Duration::from_secs(300);

/// How long a new follower may take to show the place.
const ATTACH_TIME_MAX: Duration = Duration::from_secs(2);

/// Lines are gathered for this long before they are handed on.
const GATHER_TIME: Duration = Duration::from_millis(10);

/// The log takes lines slowly when it lets one chunk wait for so long: a follower lags then.
const STALL_TIME: Duration = Duration::from_millis(100);

/// How long the last lines may wait for the log at the shutdown.
const LAST_SEND_TIME_MAX: Duration = Duration::from_secs(1);

/// A container that does not run is looked at again after this time, should nobody tell of its start.
const RECHECK_EVERY: Duration = Duration::from_secs(600);

/// Attempts to read a log that is broken, when everything is to be read once.
const BROKEN_ATTEMPTS_MAX: u32 = 3;

/// Between attempts while the engine is away. There is no last attempt.
const AWAY: Retry =
    Retry { attempts: u32::MAX, base: Duration::from_millis(500), cap: Duration::from_secs(15) };

/// What all containers of one engine share.
#[derive(Debug, Clone)]
pub struct Gate {
    pictures: Arc<Semaphore>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { pictures: Arc::new(Semaphore::new(PICTURES_MAX)) }
    }
}

/// One container to be read.
#[derive(Debug)]
pub struct Followed {
    /// Its engine.
    pub engine: Engine,
    /// 64 hexadecimal digits.
    pub id: String,
    /// What it is called in the log.
    pub meta: SourceMeta,
    /// What is done to its lines.
    pub process: Arc<ProcessSettings>,
    /// Shared with the others.
    pub gate: Gate,
    /// Told when the container starts, ends or is removed.
    pub changed: Arc<Notify>,
    /// Where its lines go.
    pub intake: Intake,
    /// Ends the reading.
    pub stop: Shutdown,
    /// Only what is there, then [`FollowEnd::Drained`].
    pub once: bool,
}

/// Why reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FollowEnd {
    /// The container is no more.
    Removed,
    /// Everything that was there was read.
    Drained,
    /// Its log driver cannot be read.
    Unreadable(EngineError),
    /// The engine cannot be asked; only when everything was to be read once.
    Failed(EngineError),
    /// The shutdown was requested, or the log is closed.
    Stopped,
}

/// What ends a session with the engine.
#[derive(Debug)]
enum Halt {
    Stopped,
    /// The container is no more.
    Gone,
    Unreadable(EngineError),
    Away(EngineError),
    /// What the engine sent is no log.
    Broken(FrameError),
}

impl From<EngineError> for Halt {
    fn from(error: EngineError) -> Self {
        match error.kind() {
            EngineErrorKind::NotFound => Self::Gone,
            EngineErrorKind::Unsupported => Self::Unreadable(error),
            _ => Self::Away(error),
        }
    }
}

/// Why a follower is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// The stream ended.
    End,
    /// A message may be an old one.
    Doubt,
    /// It began behind the place.
    Unattached,
    /// There is too much for it.
    Busy,
}

/// What pictures gave.
#[derive(Debug, Clone, Copy, Default)]
struct Shown {
    /// Messages that were new.
    taken: u64,
    /// Messages of the last picture.
    messages: u64,
    /// The last picture was one of everything, or as much as there is.
    is_whole: bool,
}

/// Reads a container until it is removed or the shutdown is requested.
pub async fn follow(followed: Followed) -> FollowEnd {
    let opened = followed.intake.open(followed.meta.clone());
    let mut follower = Follower {
        source: opened.id,
        tracker: Tracker::new(opened.cursor.as_ref()),
        processor: Processor::new(followed.process.clone()),
        followed,
        framing: Framing::Multiplexed,
        rotation: Rotation {
            file_bytes: None,
            retained_bytes: None,
            pieces_share_time: false,
            tail_may_skip: false,
        },
        open: [None; 3],
        holds_return: false,
        gather_until: None,
        unproven_bytes: 0,
        unproven_since: None,
        is_stalled: false,
        is_drained: false,
        has_started: true,
        rate: Rate::default(),
        last_picture: None,
        busy_until: None,
        log: Shown::default(),
        readable: None,
        is_corrupt: false,
    };
    follower.run(opened.cursor.is_none()).await
}

struct Follower {
    followed: Followed,
    source: SourceId,
    tracker: Tracker,
    processor: Processor,
    framing: Framing,
    rotation: Rotation,
    /// Times of unfinished lines: standard output, standard error, terminal.
    open: [Option<i64>; 3],
    /// The last piece of a terminal ended with a carriage return, which may be half of the line end.
    holds_return: bool,
    /// When what is gathered is handed on.
    gather_until: Option<Instant>,
    /// Bytes that a follower gave since the last proof.
    unproven_bytes: u64,
    unproven_since: Option<Instant>,
    /// The log held the follower up since the last proof.
    is_stalled: bool,
    /// The follower saw the end of the last run.
    is_drained: bool,
    /// The container was started at some time; not known to be otherwise before it was looked at.
    has_started: bool,
    rate: Rate,
    last_picture: Option<Instant>,
    busy_until: Option<Instant>,
    /// What the last picture was.
    log: Shown,
    /// The engine cannot read more than so many messages of the end of the log, when so many were taken.
    readable: Option<(u64, u64)>,
    /// What is missing now is what the engine cannot read.
    is_corrupt: bool,
}

impl Follower {
    async fn run(&mut self, is_first: bool) -> FollowEnd {
        if is_first {
            self.control(Stream::Stdout, &Control::Started);
        }
        let mut failures = 0;
        loop {
            let taken = self.tracker.taken();
            let halt = match self.session().await {
                Ok(end) => return end,
                Err(halt) => halt,
            };
            if self.tracker.taken() > taken {
                failures = 0;
            }
            failures += 1;
            let reason = match halt {
                Halt::Stopped => {
                    // What the log does not take now is read again by the next process.
                    drop(timeout(LAST_SEND_TIME_MAX, self.send()).await);
                    return FollowEnd::Stopped;
                }
                Halt::Gone => return self.removed().await,
                Halt::Unreadable(error) => return FollowEnd::Unreadable(error),
                Halt::Away(error) if self.followed.once => return FollowEnd::Failed(error),
                Halt::Away(error) => error.to_string(),
                Halt::Broken(error) if self.followed.once && failures >= BROKEN_ATTEMPTS_MAX => {
                    // What came before is the log's nevertheless.
                    self.processor.flush();
                    if self.send().await.is_err() {
                        return FollowEnd::Stopped;
                    }
                    let reason = error.to_string();
                    return FollowEnd::Failed(EngineError::unreadable_log(self.name(), &reason));
                }
                Halt::Broken(error) => error.to_string(),
            };
            tracing::warn!(container = self.name(), "{reason}; trying again");
            let random = getrandom::u64().unwrap_or(0);
            let pause = AWAY.pause_after(failures, random).unwrap_or(AWAY.cap);
            let stop = self.followed.stop.clone();
            if self.send().await.is_err() || stop.or(sleep(pause)).await.is_none() {
                return FollowEnd::Stopped;
            }
        }
    }

    fn name(&self) -> &str {
        self.followed.meta.origin.name()
    }

    /// Until something breaks.
    async fn session(&mut self) -> Result<FollowEnd, Halt> {
        loop {
            let container = self.inspect().await?;
            self.learn(&container);
            if !container.running {
                // No next picture comes that could show what the last one left out.
                self.busy_until = None;
            }
            let finished =
                container.finished_at.as_deref().and_then(|at| time::parse(at.as_bytes()));
            let ended = finished.filter(|_| !container.running);
            if !ended.is_some_and(|ended| self.tracker.is_ended(ended)) {
                self.catch_up().await?;
            }
            if self.followed.once {
                self.processor.flush();
                self.send().await?;
                return Ok(FollowEnd::Drained);
            }
            if container.running {
                self.read_running().await?;
                // A stream that ends although the container runs must not be asked for in circles.
                self.pause_until(self.last_picture.map(|last| last + PICTURE_EVERY)).await?;
                continue;
            }
            if let Some(ended) = ended.filter(|ended| !self.tracker.is_ended(*ended)) {
                // It did not run when the picture was taken: the picture has all of the run.
                self.tracker.end(ended);
                self.end_run();
                self.control(Stream::Stdout, &Control::Stopped);
            }
            self.send().await?;
            self.wait_for_change().await?;
        }
    }

    async fn inspect(&self) -> Result<Container, Halt> {
        let asked = self.followed.engine.inspect_container(&self.followed.id);
        Ok(self.followed.stop.or(asked).await.ok_or(Halt::Stopped)??)
    }

    fn learn(&mut self, container: &Container) {
        self.has_started = container.running || container.started_at.is_some();
        self.framing = if container.tty { Framing::Terminal } else { Framing::Multiplexed };
        self.rotation = Rotation::of(&container.log.driver, &container.log.options);
    }

    /// What the engine is by its answer.
    fn heed(&mut self, logs: &RawLogs) {
        if !logs.is_docker() {
            self.rotation = self.rotation.elsewhere();
        }
    }

    async fn wait_for_change(&mut self) -> Result<(), Halt> {
        let changed = self.followed.changed.clone();
        let change = timeout(RECHECK_EVERY, changed.notified());
        self.followed.stop.or(change).await.map(drop).ok_or(Halt::Stopped)
    }

    /// Until the run ends. The place is proven when it begins.
    async fn read_running(&mut self) -> Result<(), Halt> {
        let mut unattached = 0;
        loop {
            if self.is_busy() {
                self.pause_until(self.last_picture.map(|last| last + PICTURE_EVERY)).await?;
                self.catch_up().await?;
                continue;
            }
            let left = self.live().await?;
            tracing::debug!(container = self.name(), ?left, "a follower ended");
            match left {
                Left::End => return Ok(()),
                Left::Busy => self.busy_until = Some(Instant::now() + BUSY_TIME),
                Left::Doubt => {}
                Left::Unattached => {
                    unattached += 1;
                    let pause = PICTURE_EVERY.saturating_mul(unattached);
                    self.pause_until(self.last_picture.map(|last| last + pause)).await?;
                }
            }
            self.pause_until(self.last_picture.map(|last| last + PICTURE_EVERY)).await?;
            if self.catch_up().await?.taken > 0 {
                unattached = 0;
            }
        }
    }

    fn is_busy(&self) -> bool {
        self.busy_until.is_some_and(|until| Instant::now() < until)
    }

    /// Waits; what is gathered is handed on first.
    async fn pause_until(&mut self, until: Option<Instant>) -> Result<(), Halt> {
        self.send().await?;
        match until {
            Some(until) => self.followed.stop.or(sleep_until(until)).await.ok_or(Halt::Stopped),
            None => Ok(()),
        }
    }

    // -- Pictures.

    /// Takes everything that is there, and proves that it is everything.
    async fn catch_up(&mut self) -> Result<Shown, Halt> {
        let before = self.tracker.taken();
        let since = self.last_picture;
        let mut extent = self.within_readable(self.first_extent());
        let mut is_rest = false;
        let mut is_bounded = false;
        let mut was_full = false;
        let mut proofs = 0;
        loop {
            self.last_picture = Some(Instant::now());
            let picture = match (is_rest, was_full) {
                (false, _) => Picture::new(&self.tracker, extent),
                (true, false) => Picture::of_the_rest(&self.tracker),
                (true, true) => Picture::of_the_rest(&self.tracker).that_goes_on(),
            };
            let (outcome, messages) = match self.look(picture, extent).await {
                Err(Halt::Broken(FrameError::Engine(reason))) if !is_bounded => {
                    let broken = Halt::Broken(FrameError::Engine(reason));
                    let Some(readable) = self.find_readable().await? else { return Err(broken) };
                    is_bounded = true;
                    extent = Extent::Tail(readable);
                    // Without a place there is none to be searched.
                    is_rest = self.tracker.is_new();
                    if is_rest {
                        self.tell_corrupt();
                    }
                    continue;
                }
                looked => looked?,
            };
            let is_proof = matches!(outcome, Outcome::Proven(_));
            was_full = outcome == Outcome::Full;
            match outcome {
                Outcome::Proven(told) => {
                    for (stream, control) in told {
                        self.control(stream, &control);
                    }
                }
                Outcome::Empty => {}
                Outcome::Full => continue,
                Outcome::TooShort if is_bounded => {
                    self.is_corrupt = true;
                    is_rest = true;
                    continue;
                }
                Outcome::TooShort => {
                    extent = self.larger(extent);
                    continue;
                }
                Outcome::Lost => {
                    extent = Extent::Everything;
                    is_rest = true;
                    continue;
                }
            }
            proofs += 1;
            let (taken, ahead) = (self.tracker.taken() - before, self.tracker.ahead());
            tracing::debug!(container = self.name(), ?extent, messages, taken, ahead, "looked");
            // A busy log has the next picture at once anyway.
            let is_last = proofs >= PROOFS_MAX || is_bounded || self.is_busy();
            if is_proof && ahead > 0 && !is_last {
                extent = self.within_readable(self.first_extent());
                is_rest = false;
                continue;
            }
            self.is_corrupt = false;
            self.readable = match (extent, is_bounded) {
                (Extent::Tail(readable), true) => Some((readable, self.tracker.taken())),
                (Extent::Tail(_), false) => self.readable,
                (Extent::Everything, _) => None,
            };
            self.unproven_bytes = 0;
            self.unproven_since = (self.tracker.ahead() > 0).then(Instant::now);
            self.is_stalled = false;
            let taken = self.tracker.taken() - before;
            let is_whole = match extent {
                Extent::Everything => true,
                Extent::Tail(asked) => messages < asked,
            };
            self.log = Shown { taken, messages, is_whole };
            let now = Instant::now();
            if let Some(since) = since.filter(|_| !self.rotation.is_never()) {
                let time = now.duration_since(since).max(PICTURE_EVERY);
                self.rate.is(taken, time);
                if self.rate.lines_per_second > BUSY_LINES / 2 {
                    self.busy_until = Some(now + BUSY_TIME);
                }
            }
            self.send_full().await?;
            return Ok(self.log);
        }
    }

    /// The engine cannot read a message of its own log, and nothing it is asked for may reach back to it: how many
    /// messages from the end can be read. `None`: not one.
    async fn find_readable(&self) -> Result<Option<u64>, Halt> {
        let (mut good, mut bad) = (0, 1);
        while bad <= TAIL_MAX && self.is_readable(bad).await? {
            good = bad;
            bad *= 2;
        }
        while bad <= TAIL_MAX && bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if self.is_readable(middle).await? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        Ok((good > 0).then_some(good))
    }

    /// Whether the engine can read so many messages from the end.
    async fn is_readable(&self, count: u64) -> Result<bool, Halt> {
        let pictures = self.followed.gate.pictures.clone();
        let stop = &self.followed.stop;
        let _permit = stop.or(pictures.acquire_owned()).await.ok_or(Halt::Stopped)?;
        let asked = self.followed.engine.raw_logs(&self.followed.id, LogTail::Last(count), false);
        let mut logs = stop.or(asked).await.ok_or(Halt::Stopped)??;
        let mut decoder = Decoder::new(self.framing);
        let mut buffer = Vec::new();
        loop {
            buffer.clear();
            let more = stop.or(logs.read(&mut buffer)).await.ok_or(Halt::Stopped)?;
            let is_end = more.is_none();
            more.transpose()?;
            decoder.push(&buffer, time::now());
            while let Some(message) = if is_end { decoder.finish() } else { decoder.message() } {
                match message {
                    Ok(_) => {}
                    Err(FrameError::Engine(_)) => return Ok(false),
                    Err(error) => return Err(Halt::Broken(error)),
                }
            }
            if is_end {
                return Ok(true);
            }
        }
    }

    /// An extent that does not reach back to what the engine cannot read.
    fn within_readable(&self, extent: Extent) -> Extent {
        let Some((readable, taken)) = self.readable else { return extent };
        let readable = readable + (self.tracker.taken() - taken);
        match extent {
            Extent::Tail(count) => Extent::Tail(count.min(readable)),
            Extent::Everything => Extent::Tail(readable),
        }
    }

    fn tell_corrupt(&mut self) {
        let reason = GapReason::Corrupt;
        let gap = Gap {
            from_byte: None,
            reason,
            from: None,
            to: None,
            bytes: None,
            lines: None,
            exact: false,
        };
        self.control(Stream::Stdout, &Control::Gap(gap));
    }

    fn first_extent(&self) -> Extent {
        if self.tracker.is_new() {
            return Extent::Everything;
        }
        let Some(last) = self.last_picture else { return Extent::Tail(TAIL_DEFAULT) };
        let expected = self.rate.expected(last.elapsed());
        let count = (self.tracker.ahead() as u64 + expected).saturating_mul(2) + TAIL_DEFAULT / 4;
        if count < TAIL_MAX { Extent::Tail(count) } else { Extent::Everything }
    }

    fn larger(&self, extent: Extent) -> Extent {
        let is_small = self.rotation.retained_bytes.is_some_and(|bytes| bytes <= SMALL_LOG_BYTES);
        match extent {
            Extent::Tail(count) if !is_small && count.saturating_mul(TAIL_GROWTH) < TAIL_MAX => {
                Extent::Tail(count.max(TAIL_DEFAULT / TAIL_GROWTH).saturating_mul(TAIL_GROWTH))
            }
            _ => Extent::Everything,
        }
    }

    /// Reads one picture to its end, and says how many messages were in it.
    async fn look(&mut self, mut picture: Picture, extent: Extent) -> Result<(Outcome, u64), Halt> {
        let pictures = self.followed.gate.pictures.clone();
        let stop = self.followed.stop.clone();
        let permit = stop.or(pictures.acquire_owned()).await.ok_or(Halt::Stopped)?;
        let engine = self.followed.engine.clone();
        let tail = match extent {
            Extent::Everything => LogTail::All,
            Extent::Tail(count) => LogTail::Last(count),
        };
        let asked = engine.raw_logs(&self.followed.id, tail, false);
        let mut logs = stop.or(asked).await.ok_or(Halt::Stopped)??;
        self.heed(&logs);
        if self.rotation.tail_may_skip && extent != Extent::Everything {
            picture = picture.that_may_skip();
        }
        let mut decoder = Decoder::new(self.framing);
        let mut buffer = Vec::new();
        let mut messages = 0;
        loop {
            buffer.clear();
            let more = stop.or(logs.read(&mut buffer)).await.ok_or(Halt::Stopped)?;
            let is_end = more.is_none();
            more.transpose()?;
            decoder.push(&buffer, time::now());
            while let Some(message) = if is_end { decoder.finish() } else { decoder.message() } {
                let message = message.map_err(Halt::Broken)?;
                messages += 1;
                let ends_line = message.bytes.ends_with(b"\n");
                let seen = Seen::of(message.stream, message.ts, message.bytes);
                match picture.message(&mut self.tracker, seen, ends_line) {
                    Verdict::Skip => {}
                    Verdict::TooShort => return Ok((Outcome::TooShort, messages)),
                    Verdict::Full => return Ok((Outcome::Full, messages)),
                    Verdict::Take { late, before } => {
                        if let Some(before) = before {
                            self.control_at(message.ts, message.stream, &before);
                        }
                        self.take(&message, late);
                        if self.processor.is_full() {
                            self.send().await?;
                        }
                    }
                }
            }
            if is_end {
                drop(permit);
                return Ok((picture.finish(&mut self.tracker), messages));
            }
        }
    }

    // -- Following.

    /// Follows until it must be left. The place was proven just before.
    async fn live(&mut self) -> Result<Left, Halt> {
        let engine = self.followed.engine.clone();
        let id = self.followed.id.clone();
        let mut run_end = RunEnd::new(&engine, &id, self.followed.changed.clone());
        let left = self.live_until(&mut run_end).await?;
        if run_end.is_asking() {
            // Then the next one has to.
            self.followed.changed.notify_one();
        }
        // Another follower would not be told of it again.
        Ok(if run_end.has_ended() { Left::End } else { left })
    }

    async fn live_until(&mut self, run_end: &mut RunEnd<'_>) -> Result<Left, Halt> {
        let is_short = self.log.is_whole && self.log.messages < TAIL_DEFAULT;
        let extent = if self.tracker.is_new() || is_short {
            Extent::Everything
        } else {
            let expected = self.rate.expected(Duration::from_secs(1));
            Extent::Tail(TAIL_DEFAULT.max(expected).min(TAIL_MAX))
        };
        let extent = self.within_readable(extent);
        let tail = match extent {
            Extent::Everything => LogTail::All,
            Extent::Tail(count) => LogTail::Last(count),
        };
        let stop = self.followed.stop.clone();
        let engine = self.followed.engine.clone();
        let id = self.followed.id.clone();
        self.send().await?;
        self.is_drained = false;
        tracing::debug!(container = self.name(), ?extent, "following");
        // An engine may answer with the first line only; and it may be one that knows no container any more.
        let mut asked = std::pin::pin!(engine.raw_logs(&id, tail, true));
        let asked_since = Instant::now();
        let mut logs = loop {
            let leave_at = run_end.leave_at(asked_since, self.rotation.tail_may_skip);
            let wake = leave_at.unwrap_or(asked_since + IDLE_PROVE_EVERY);
            tokio::select! {
                biased;
                () = stop.wait() => return Err(Halt::Stopped),
                logs = &mut asked => break logs?,
                () = run_end.found(), if !run_end.has_ended() => {}
                () = sleep_until(wake) => {
                    return Ok(if leave_at.is_some() { Left::End } else { Left::Unattached });
                }
            }
        };
        self.heed(&logs);
        let mut decoder = Decoder::new(self.framing);
        let mut attach = (!self.tracker.is_new()).then(|| Attach::new(&self.tracker, extent));
        let mut attach_until = Instant::now() + ATTACH_TIME_MAX;
        let mut may_skip = self.rotation.tail_may_skip && extent != Extent::Everything;
        let mut settles = SETTLE_TIMES.into_iter();
        let mut settled = None;
        let mut is_whole = true;
        let mut is_last = false;
        let mut last_data = Instant::now();
        let mut buffer = Vec::new();
        self.rate.restart();
        loop {
            buffer.clear();
            let mut wake = last_data + IDLE_PROVE_EVERY;
            let is_empty = self.log.messages == 0;
            for deadline in [
                self.gather_until,
                (attach.is_some() && !is_empty).then_some(attach_until),
                self.unproven_since.map(|since| since + PROVE_EVERY),
                settled,
                run_end.leave_at(last_data, self.rotation.tail_may_skip),
                self.processor.deadline().map(|at| {
                    let wait = u64::try_from(at.saturating_sub(time::now())).unwrap_or(0);
                    Instant::now() + Duration::from_nanos(wait)
                }),
            ] {
                wake = deadline.map_or(wake, |deadline| wake.min(deadline));
            }
            let more = tokio::select! {
                biased;
                () = stop.wait() => return Err(Halt::Stopped),
                more = logs.read(&mut buffer) => Some(more),
                () = run_end.found(), if !run_end.has_ended() => None,
                () = sleep_until(wake) => None,
            };
            // Where nothing else has the log, nothing can be left out that could still be had.
            let trusted = self.rotation.is_never() || run_end.is_gone();
            if run_end.is_gone() && !std::mem::replace(&mut is_last, true) {
                is_whole &= !self.must_prove();
            }
            let now = Instant::now();
            let is_end = matches!(more, Some(None));
            if let Some(Some(read)) = more {
                read?;
                last_data = now;
            }
            decoder.push(&buffer, time::now());
            while let Some(message) = if is_end { decoder.finish() } else { decoder.message() } {
                let message = match message {
                    Ok(message) => message,
                    // A picture tells whether the log itself is broken.
                    Err(error) => {
                        tracing::debug!(container = self.name(), %error, "a follower is broken");
                        return Ok(Left::Unattached);
                    }
                };
                let ends_line = message.bytes.ends_with(b"\n");
                let seen = Seen::of(message.stream, message.ts, message.bytes);
                let mut place = attach.as_mut().map(|attach| attach.message(seen, ends_line));
                if matches!(place, Some(Attached::Last | Attached::New))
                    && std::mem::take(&mut may_skip)
                    && !run_end.is_gone()
                {
                    // What was left out comes before what the follower gives, as nearly always it can.
                    settled = settles.next().map(|time| now + time);
                    is_whole = false;
                    if self.prove(run_end).await? > 0 {
                        attach_until = Instant::now() + ATTACH_TIME_MAX;
                        let again = attach.insert(Attach::new(&self.tracker, Extent::Everything));
                        if place == Some(Attached::New) {
                            place = Some(again.message(seen, ends_line));
                        } else {
                            continue;
                        }
                    }
                }
                match place {
                    Some(Attached::Before) => continue,
                    Some(Attached::No) => return Ok(Left::Unattached),
                    Some(Attached::Last) => {
                        attach = None;
                        continue;
                    }
                    Some(Attached::New) => attach = None,
                    None => {}
                }
                if self.tracker.follow(seen, trusted) == Live::Doubt {
                    if run_end.is_gone() {
                        // Sent again most likely. Nobody can tell any more.
                        is_whole = false;
                        continue;
                    }
                    return Ok(Left::Doubt);
                }
                if !trusted {
                    self.unproven_bytes += message.bytes.len() as u64;
                    self.unproven_since.get_or_insert(now);
                }
                self.rate.add(1);
                self.take(&message, false);
                if self.processor.is_full() {
                    self.send().await?;
                }
            }
            if is_end {
                // One that was not proved yet may have left out lines.
                let is_proved = is_last || !self.must_prove();
                self.is_drained = attach.is_none() && is_whole && is_proved;
                self.send().await?;
                return Ok(Left::End);
            }
            let leave_at = run_end.leave_at(last_data, self.rotation.tail_may_skip);
            if leave_at.is_some_and(|at| at <= now) {
                return Ok(Left::End);
            }
            if self.gather_until.is_some_and(|until| until <= now) {
                self.send().await?;
            }
            if self.processor.deadline().is_some_and(|at| at <= time::now()) {
                self.processor.expire(time::now());
                self.send().await?;
            }
            if attach.is_some() && !is_empty && attach_until <= now {
                return Ok(Left::Unattached);
            }
            if run_end.is_gone() {
                continue;
            }
            self.rate.tick(now);
            if !trusted && self.rate.lines_per_second > BUSY_LINES {
                return Ok(Left::Busy);
            }
            let is_settled = settled.take_if(|at| *at <= now).is_some();
            if is_settled {
                settled = settles.next().map(|time| now + time);
                is_whole = true;
            }
            let is_due = self.unproven_since.is_some_and(|since| since + PROVE_EVERY <= now)
                || last_data + IDLE_PROVE_EVERY <= now;
            if is_settled || is_due || self.must_prove() {
                last_data = now;
                if self.prove(run_end).await? > 0 {
                    // The follower will give the same: it goes on behind them.
                    attach = Some(Attach::new(&self.tracker, Extent::Everything));
                    attach_until = Instant::now() + ATTACH_TIME_MAX;
                }
            }
        }
    }

    /// Takes pictures beside a follower, and says how many messages they gave. When the engine has no log any more, only
    /// the follower has what is left.
    async fn prove(&mut self, run_end: &mut RunEnd<'_>) -> Result<u64, Halt> {
        let before = self.tracker.taken();
        match self.catch_up().await {
            Ok(_) => {}
            Err(Halt::Gone) => run_end.found_gone(),
            // It is about to be removed.
            Err(Halt::Away(error)) if error.kind() == EngineErrorKind::Conflict => {
                run_end.found_gone();
            }
            Err(halt) => return Err(halt),
        }
        Ok(self.tracker.taken() - before)
    }

    /// Whether a follower may have been overtaken by the rotation since the last proof. It can only when it lags by
    /// a whole file, and while the engine writes one, a follower that is not held up gets a good part of it.
    fn must_prove(&self) -> bool {
        let limit = self.rotation.file_bytes.map_or(u64::MAX, |bytes| bytes / 4);
        let ahead = self.tracker.ahead();
        let is_much = self.unproven_bytes >= limit || ahead >= AHEAD_MAX / 2;
        ahead > 0 && (self.is_stalled || is_much)
    }

    // -- Handing on.

    /// Gives a message that was taken to the processor.
    fn take(&mut self, message: &LogMessage<'_>, late: bool) {
        let end = self.tracker.taken();
        let lane = match message.stream {
            Stream::File | Stream::Stdout => 0,
            Stream::Stderr => 1,
            Stream::Console => 2,
        };
        let open = self.open.get(lane).copied().flatten();
        if self.rotation.pieces_share_time && open.is_some_and(|open| open != message.ts) {
            // The line that was open has no end: the run ended within it.
            self.processor.cut(message.stream);
        }
        let (bytes, ends_line) = match message.bytes {
            [bytes @ .., b'\r', b'\n'] if message.stream == Stream::Console => (bytes, true),
            [bytes @ .., b'\n'] => (bytes, true),
            bytes => (bytes, false),
        };
        let marks = end.saturating_sub(1)..end;
        let (stream, ts) = (message.stream, message.ts);
        // The end of a terminal's line has two bytes, and a piece may end between them.
        let was_held = std::mem::take(&mut self.holds_return) && open == Some(ts);
        if was_held && !(ends_line && bytes.is_empty()) {
            let (bytes, marks) = (b"\r".as_slice(), marks.clone());
            self.processor.piece(&Piece { stream, ts, bytes, ends_line: false, late, marks });
        }
        let bytes = match bytes {
            [bytes @ .., b'\r'] if stream == Stream::Console && !ends_line => {
                self.holds_return = true;
                bytes
            }
            bytes => bytes,
        };
        if let Some(open) = self.open.get_mut(lane) {
            *open = (!ends_line).then_some(ts);
        }
        self.processor.piece(&Piece { stream, ts, bytes, ends_line, late, marks });
        self.gather_until.get_or_insert_with(|| Instant::now() + GATHER_TIME);
    }

    /// Lines that the run left open have no end.
    fn end_run(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr, Stream::Console] {
            self.processor.cut(stream);
        }
        self.open = [None; 3];
    }

    fn control(&mut self, stream: Stream, control: &Control) {
        self.control_at(time::now(), stream, control);
    }

    fn control_at(&mut self, ts: i64, stream: Stream, control: &Control) {
        let control = &match control {
            Control::Gap(gap) if self.is_corrupt && gap.reason == GapReason::Rotated => {
                Control::Gap(Gap { reason: GapReason::Corrupt, exact: false, ..gap.clone() })
            }
            control => control.clone(),
        };
        if let Control::Gap(gap) = control {
            let (from, to, exact) = (gap.from, gap.to, gap.exact);
            tracing::warn!(container = self.name(), from, to, exact, "log lines are lost");
        }
        self.processor.control(ts, stream, control);
        self.open = [None; 3];
    }

    /// Hands on what there is when there is much of it, or nothing more to wait for.
    async fn send_full(&mut self) -> Result<(), Halt> {
        if self.processor.deadline().is_some_and(|at| at <= time::now()) {
            self.processor.expire(time::now());
        }
        self.send().await
    }

    async fn send(&mut self) -> Result<(), Halt> {
        self.gather_until = None;
        let Some(taken) = self.processor.take() else { return Ok(()) };
        let cursor = Cursor::Api(Box::new(self.tracker.cursor_at(taken.mark)));
        let chunk = Chunk { source: self.source, block: taken.block, cursor };
        let began = Instant::now();
        let sent = self.followed.intake.send(Message::Chunk(chunk)).await;
        self.is_stalled |= began.elapsed() > STALL_TIME;
        sent.map_err(|_| Halt::Stopped)
    }

    /// The container is no more: what was not proven is told.
    async fn removed(&mut self) -> FollowEnd {
        self.end_run();
        let is_unused = !self.has_started && self.tracker.is_new();
        let is_complete = self.tracker.has_ended() || self.is_drained || is_unused;
        if !is_complete {
            let (from, reason) = (self.tracker.newest_ts(), GapReason::Removed);
            let gap = Gap {
                from_byte: None,
                reason,
                from,
                to: None,
                bytes: None,
                lines: None,
                exact: false,
            };
            self.control(Stream::Stdout, &Control::Gap(gap));
        }
        if !self.tracker.has_ended() {
            self.control(Stream::Stdout, &Control::Stopped);
        }
        let sent = self.send().await;
        let ended = self.followed.intake.send(Message::End(self.source)).await;
        if sent.is_err() || ended.is_err() { FollowEnd::Stopped } else { FollowEnd::Removed }
    }
}

/// How many lines there are.
#[derive(Debug, Default)]
struct Rate {
    lines_per_second: u64,
    lines: u64,
    since: Option<Instant>,
}

impl Rate {
    /// Counting begins.
    fn restart(&mut self) {
        self.lines = 0;
        self.since = Some(Instant::now());
    }

    fn add(&mut self, lines: u64) {
        self.lines += lines;
    }

    /// Every second there is a new figure.
    fn tick(&mut self, now: Instant) {
        let Some(since) = self.since else { return };
        let time = now.duration_since(since);
        if time >= Duration::from_secs(1) {
            self.is(self.lines, time);
            self.lines = 0;
            self.since = Some(now);
        }
    }

    fn is(&mut self, lines: u64, time: Duration) {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
        self.lines_per_second = lines.saturating_mul(1000) / millis;
    }

    /// Lines that may come in `time`.
    fn expected(&self, time: Duration) -> u64 {
        let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.lines_per_second.saturating_mul(millis) / 1000
    }
}
