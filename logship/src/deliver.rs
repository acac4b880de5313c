//! The loop of one sink: reads the log at its own pace, collects batches, delivers them until they arrive, and
//! moves the sink's cursor behind what arrived. Each sink has a thread, so that none waits for another.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use chores_common::retry::Retry;
use chores_common::shutdown::Shutdown;
use serde_json::Value;
use tokio::runtime::Handle;

use crate::ledger::LedgerEntry;
use crate::record::{Gap, GapReason};
use crate::sink::failure::SinkFailure;
use crate::sink::settings::SinkSettings;
use crate::sink::stats::SinkStats;
use crate::sink::{Context, Pace, Refused, Sink};
use crate::time;
use crate::wal::{Frame, Log, Next, Position, Reader, Role, SinkCursor, Skipped, Upto, WalError};

#[cfg(test)]
mod tests;

/// Pauses between the attempts to deliver a batch. There is no last attempt: the log keeps what is not delivered.
const RETRY: Retry =
    Retry { attempts: u32::MAX, base: Duration::from_millis(250), cap: Duration::from_secs(30) };

/// Longest pause that a peer may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);

/// How long one wait for records takes at the most.
const IDLE_WAIT: Duration = Duration::from_millis(200);

/// How often a sink notes that it passed over records of others.
const SKIP_COMMIT_EVERY: Duration = Duration::from_secs(1);

/// How often a commit that waits for the log to become durable looks again.
const DURABLE_WAIT: Duration = Duration::from_millis(10);

/// How long a sink that was told to give up may take for it before its thread is left alone.
const GIVE_UP_TIME_MAX: Duration = Duration::from_secs(1);

/// Why a sink ended before it had everything.
#[derive(Debug, thiserror::Error)]
pub enum DeliverError {
    /// It cannot begin.
    #[error("the sink {sink} cannot be used")]
    Open {
        /// Its name.
        sink: String,
        /// Why.
        #[source]
        failure: SinkFailure,
    },
    /// Its peer is gone for good.
    #[error("the sink {sink} cannot go on")]
    Final {
        /// Its name.
        sink: String,
        /// Why.
        #[source]
        failure: SinkFailure,
    },
    /// The log cannot be read, or the place of the sink not kept.
    #[error("the sink {sink} cannot use the log")]
    Log {
        /// Its name.
        sink: String,
        /// Why.
        #[source]
        error: WalError,
    },
    /// It was told to give up; the log keeps the rest for the next start.
    #[error("the sink {0} was stopped before it had everything")]
    Stopped(String),
    /// It did not end when it was told to.
    #[error("the sink {0} does not answer, and was left alone")]
    Stuck(String),
    /// It has no thread.
    #[error("cannot start the thread of the sink {sink}")]
    Thread {
        /// Its name.
        sink: String,
        /// What the system answered.
        #[source]
        error: io::Error,
    },
}

/// A sink that knows its place in the log and has not begun.
#[derive(Debug)]
pub struct Delivery {
    log: Log,
    settings: SinkSettings,
    cursor: SinkCursor,
    sink: Sink,
}

/// A sink at work.
#[derive(Debug)]
pub struct Delivering {
    name: String,
    stop: Shutdown,
    stats: Arc<SinkStats>,
    ended: Receiver<Result<(), DeliverError>>,
}

impl Delivery {
    /// Makes the sink known to the log, which from now on keeps what it has not had, and brings what it wrote in
    /// line with its place. To be done before the log runs. Peers are not contacted.
    pub fn open(log: &Log, settings: SinkSettings) -> Result<Self, DeliverError> {
        let role = match settings.backlog_bytes_max {
            None => Role::Mandatory,
            Some(bytes_max) => Role::Optional { bytes_max },
        };
        let name = || settings.name.clone();
        let cursor = log
            .sink(&settings.name, role)
            .map_err(|error| DeliverError::Log { sink: name(), error })?;
        let sink = Sink::open(&settings.target, cursor.note(), &log.id().to_string())
            .map_err(|failure| DeliverError::Open { sink: name(), failure })?;
        Ok(Self { log: log.clone(), settings, cursor, sink })
    }

    /// Starts the thread. `runtime` serves what is asynchronous, and must outlive the sink.
    pub fn start(self, runtime: Handle) -> Result<Delivering, DeliverError> {
        let name = self.settings.name.clone();
        let (stop, stats) = (Shutdown::new(), Arc::new(SinkStats::default()));
        let (done, ended): (SyncSender<_>, _) = sync_channel(1);
        let (its_stop, its_stats) = (stop.clone(), stats.clone());
        let work = move || {
            let result = self.run(its_stop, runtime, its_stats);
            // Nobody listens when the process ends anyway.
            done.send(result).ok();
        };
        let thread = std::thread::Builder::new().name(format!("sink-{name}")).spawn(work);
        match thread {
            Ok(_) => Ok(Delivering { name, stop, stats, ended }),
            Err(error) => Err(DeliverError::Thread { sink: name, error }),
        }
    }

    /// Delivers until the log is closed and everything of it arrived, or until `stop`.
    pub fn run(
        self,
        stop: Shutdown,
        runtime: Handle,
        stats: Arc<SinkStats>,
    ) -> Result<(), DeliverError> {
        let Self { log, settings, cursor, sink } = self;
        let pace = sink.pace();
        let until = if pace.runs_ahead { Upto::Written } else { Upto::Durable };
        let at = cursor.position();
        let mut worker = Worker {
            reader: cursor.reader(until),
            name: settings.name,
            log,
            cursor,
            sink,
            stop,
            runtime,
            stats,
            until,
            at,
            delivered: at,
            batch: None,
            checkpoint: None,
            has_news: false,
            committed_at: None,
            is_concluded: false,
        };
        worker.run()
    }
}

impl Delivering {
    /// The sink's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> &Arc<SinkStats> {
        &self.stats
    }

    /// Whether it ended already, and how: it does so only for good reason before the log is closed.
    #[must_use]
    pub fn ended(&self) -> Option<Result<(), DeliverError>> {
        self.ended.try_recv().ok()
    }

    /// Tells the sink to give up.
    pub fn stop(&self) {
        self.stop.request();
    }

    /// Waits until everything arrived, at most until `deadline`; then the sink has to give up.
    pub fn finish(self, deadline: Instant) -> Result<(), DeliverError> {
        let left = deadline.saturating_duration_since(Instant::now());
        match self.ended.recv_timeout(left) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(DeliverError::Stuck(self.name)),
        }
        self.stop.request();
        match self.ended.recv_timeout(GIVE_UP_TIME_MAX) {
            Ok(result) => result,
            Err(_) => Err(DeliverError::Stuck(self.name)),
        }
    }
}

/// Records that wait in the sink.
#[derive(Debug, Clone, Copy)]
struct Batch {
    from: Position,
    since: Instant,
    records: u64,
    /// Time of the youngest record.
    ts: i64,
}

struct Worker {
    name: String,
    log: Log,
    cursor: SinkCursor,
    reader: Reader,
    sink: Sink,
    stop: Shutdown,
    runtime: Handle,
    stats: Arc<SinkStats>,
    until: Upto,
    /// Everything before it was taken from the log.
    at: Position,
    /// Everything before it was delivered, or is not for this sink.
    delivered: Position,
    batch: Option<Batch>,
    /// What is to be committed, and since when it waits for it.
    checkpoint: Option<(Position, Instant)>,
    /// Something was delivered since the last commit.
    has_news: bool,
    /// `None` before the first commit, which waits for nothing: a process that is killed again and again must
    /// come further each time.
    committed_at: Option<Instant>,
    /// The end was told to the peer once, which took it badly.
    is_concluded: bool,
}

impl Worker {
    fn run(&mut self) -> Result<(), DeliverError> {
        loop {
            if self.stop.is_requested() {
                return Err(DeliverError::Stopped(self.name.clone()));
            }
            let next = self.reader.next(self.wait());
            let Skipped { gaps, records } = self.reader.take_skipped();
            self.stats.gaps(gaps);
            self.stats.skipped(records);
            match next.map_err(|error| self.log_error(error))? {
                Next::Frame(frame, skip) => self.take(&frame, skip)?,
                Next::Nothing
                    if self.batch.is_none() && self.delivered == self.cursor.position() =>
                {
                    self.stats.lag(0);
                    self.sink.tidy();
                    continue;
                }
                // What waited only for what was there already has it all.
                Next::Nothing if self.sink.pace().batch_age.is_zero() => {
                    self.flush()?;
                }
                Next::Nothing => {}
                Next::Closed => {
                    if self.conclude()? {
                        return Ok(());
                    }
                    continue;
                }
            }
            let age = self.sink.pace().batch_age;
            if !age.is_zero() && self.batch.is_some_and(|batch| batch.since.elapsed() >= age) {
                self.flush()?;
            }
            self.commit_if_due()?;
        }
    }

    /// How long to wait for the next frame.
    fn wait(&self) -> Duration {
        let pace = self.sink.pace();
        let batch = self.batch.map(|batch| pace.batch_age.saturating_sub(batch.since.elapsed()));
        let commit = match self.checkpoint {
            Some((_, since)) => Some(pace.settle.saturating_sub(since.elapsed()).max(DURABLE_WAIT)),
            None if self.delivered != self.cursor.position() => {
                Some(self.commit_every(pace).saturating_sub(self.since_commit()))
            }
            None => None,
        };
        [batch, commit].into_iter().flatten().fold(IDLE_WAIT, Duration::min)
    }

    fn since_commit(&self) -> Duration {
        self.committed_at.map_or(Duration::MAX, |at| at.elapsed())
    }

    fn commit_every(&self, pace: Pace) -> Duration {
        if self.has_news { pace.commit_every } else { SKIP_COMMIT_EVERY }
    }

    /// Puts a frame into the batch, and delivers whenever the batch is full.
    fn take(&mut self, frame: &Frame, skip: u32) -> Result<(), DeliverError> {
        let count = frame.block.count();
        if !frame.meta.is_for(&self.name) {
            return self.pass(frame.after(count));
        }
        let mut done = skip;
        while done < count {
            if self.stop.is_requested() {
                return Err(DeliverError::Stopped(self.name.clone()));
            }
            let taken = self.sink.push(frame, done);
            if taken <= done && (self.batch.is_none() || !self.sink.is_full()) {
                let failure = SinkFailure::new("takes no more records and has none to deliver");
                let sink = self.name.clone();
                return Err(DeliverError::Final { sink, failure: failure.for_good() });
            }
            if taken > done {
                let from = self.at;
                let fresh = Batch { from, since: Instant::now(), records: 0, ts: i64::MIN };
                let batch = self.batch.get_or_insert(fresh);
                batch.records += u64::from(taken - done);
                batch.ts = batch.ts.max(frame.block.last_ts());
                self.at = frame.after(taken);
                done = taken;
            }
            if self.sink.is_full() && !self.flush()? {
                // The log gives this frame again.
                return Ok(());
            }
        }
        self.at = frame.after(count);
        Ok(())
    }

    /// Leaves out what is not for this sink.
    fn pass(&mut self, to: Position) -> Result<(), DeliverError> {
        self.at = to;
        self.sink.reached(to);
        if self.batch.is_none() {
            self.delivered = to;
        } else if self.sink.is_full() {
            self.flush()?;
        }
        Ok(())
    }

    /// Delivers the batch, however long that takes. `false`: what was not committed comes again.
    fn flush(&mut self) -> Result<bool, DeliverError> {
        let Some(batch) = self.batch else { return Ok(true) };
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failure = match self.deliver(batch) {
                // A note that a later batch keeps must not stand beside the place of an earlier one.
                Ok(()) => return self.commit_if_due(),
                Err(failure) => failure,
            };
            let is_loss = failure.is_loss;
            self.pause(attempt, failure)?;
            if is_loss {
                self.rewind();
                return Ok(false);
            }
            self.stats.retry();
        }
    }

    fn deliver(&mut self, batch: Batch) -> Result<(), SinkFailure> {
        let Self { cursor, sink, stop, runtime, .. } = self;
        let committed = cursor.position();
        let mut keep = |note: Value| {
            let position = cursor.position();
            let kept = cursor.commit(position, note);
            kept.map_err(|error| SinkFailure::of("cannot keep the place of the sink", &error))
        };
        let mut context =
            Context { range: batch.from..self.at, committed, stop, runtime, keep: &mut keep };
        let sent = sink.deliver(&mut context)?;
        self.works();
        let dropped = self.note_refused(&sent.refused);
        self.stats.delivered(batch.records.saturating_sub(dropped), sent.bytes, batch.ts);
        self.stats.dropped(dropped);
        self.batch = None;
        self.delivered = self.at;
        self.has_news = true;
        Ok(())
    }

    /// Puts what the peer refused for good into the ledger, before the cursor moves behind it. The number of records.
    fn note_refused(&self, refused: &[Refused]) -> u64 {
        for Refused { meta, first_seq, records } in refused {
            let gap = Gap {
                from_byte: None,
                reason: GapReason::Refused,
                from: None,
                to: None,
                bytes: None,
                lines: Some(*records),
                exact: true,
            };
            let entry = LedgerEntry {
                at: time::now(),
                source: meta.key.clone(),
                name: meta.origin.name().to_owned(),
                seq: *first_seq,
                sink: Some(self.name.clone()),
                in_log: false,
                gap,
            };
            self.stats.gaps(u64::from(self.log.note_gap(&entry)));
        }
        refused.iter().map(|refused| refused.records).sum()
    }

    /// Moves the cursor when it is time for it. `false`: what was not committed comes again.
    fn commit_if_due(&mut self) -> Result<bool, DeliverError> {
        let pace = self.sink.pace();
        let is_behind = self.delivered != self.cursor.position();
        if self.checkpoint.is_none() {
            if !is_behind || self.since_commit() < self.commit_every(pace) {
                return Ok(true);
            }
            self.sink.checkpoint();
            self.checkpoint = Some((self.delivered, Instant::now()));
        }
        let Some((position, since)) = self.checkpoint else { return Ok(true) };
        if since.elapsed() < pace.settle || !self.is_durable(position) {
            return Ok(true);
        }
        self.commit(position)
    }

    fn is_durable(&self, position: Position) -> bool {
        let durable = self.log.durable().frame;
        durable > position.frame || (durable == position.frame && position.record == 0)
    }

    /// Moves the cursor; tries for as long as it takes. `false`: what was not committed comes again.
    fn commit(&mut self, position: Position) -> Result<bool, DeliverError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let failure = match self.try_commit(position) {
                Ok(()) => break,
                Err(failure) => failure,
            };
            let is_loss = failure.is_loss;
            self.pause(attempt, failure)?;
            if is_loss {
                self.rewind();
                return Ok(false);
            }
        }
        self.works();
        self.sink.committed();
        self.checkpoint = None;
        self.has_news = self.delivered != position && self.has_news;
        self.committed_at = Some(Instant::now());
        self.note_lag();
        Ok(true)
    }

    fn try_commit(&mut self, position: Position) -> Result<(), SinkFailure> {
        self.sink.sync()?;
        let committed = self.cursor.commit(position, self.sink.note());
        committed.map_err(|error| SinkFailure::of("cannot keep the place of the sink", &error))
    }

    /// After the last frame. `false`: something was lost on the way, and comes again.
    fn conclude(&mut self) -> Result<bool, DeliverError> {
        if !self.flush()? {
            return Ok(false);
        }
        // A peer that answers the end of a connection as it answers a loss would get everything again and again:
        // from the second time on, the connection stays open, and what it does not refuse in time has arrived.
        if self.is_concluded {
            self.rest(self.sink.pace().settle)?;
        } else if let Err(failure) = self.sink.conclude()
            && self.has_news
        {
            self.is_concluded = true;
            let is_loss = failure.is_loss;
            self.pause(1, failure)?;
            if is_loss {
                self.rewind();
            }
            return Ok(false);
        }
        if self.delivered != self.cursor.position() || self.has_news {
            self.sink.checkpoint();
            if !self.commit(self.delivered)? {
                return Ok(false);
            }
        }
        self.sink.finish(&self.stop);
        Ok(true)
    }

    /// Begins again behind what was committed.
    fn rewind(&mut self) {
        self.sink.rewind();
        self.reader = self.cursor.reader(self.until);
        self.at = self.cursor.position();
        self.delivered = self.at;
        self.batch = None;
        self.checkpoint = None;
        self.has_news = false;
    }

    /// Waits before the next attempt. A failure is logged when it is the first one.
    fn pause(&mut self, attempt: u32, failure: SinkFailure) -> Result<(), DeliverError> {
        let sink = self.name.clone();
        if failure.is_final {
            let _is_new = self.stats.failed(time::now(), failure.sentence.clone());
            return Err(DeliverError::Final { sink, failure });
        }
        if self.stop.is_requested() {
            return Err(DeliverError::Stopped(sink));
        }
        if self.stats.failed(time::now(), failure.sentence.clone()) {
            tracing::warn!(sink, "{failure}; trying again until it works");
        } else {
            tracing::debug!(sink, attempt, "{failure}");
        }
        self.note_lag();
        // The clock's nanoseconds are random enough to keep clients apart.
        let random = time::now().cast_unsigned();
        let pause = RETRY.pause_after(attempt, random).unwrap_or(RETRY.cap);
        let wished = failure.retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
        let wait = pause.max(wished);
        self.rest(wait)
    }

    /// Lets time pass, unless the sink is told to give up.
    fn rest(&self, time: Duration) -> Result<(), DeliverError> {
        let stopped = async { tokio::time::timeout(time, self.stop.wait()).await.is_ok() };
        match self.runtime.block_on(stopped) {
            true => Err(DeliverError::Stopped(self.name.clone())),
            false => Ok(()),
        }
    }

    fn note_lag(&self) {
        let end = self.log.durable().frame;
        self.stats.lag(end.saturating_sub(self.cursor.position().frame));
    }

    fn works(&self) {
        if let Some(failing) = self.stats.works() {
            let seconds = time::now().saturating_sub(failing.since) / time::SECOND;
            tracing::info!(sink = self.name, "the sink works again, after {seconds} s");
        }
    }

    fn log_error(&self, error: WalError) -> DeliverError {
        DeliverError::Log { sink: self.name.clone(), error }
    }
}
