//! The parts joined: sources into the log, the log into the sinks. The only place that starts and ends them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use chores_common::shutdown::Shutdown;
use chores_common::status::StatusError;
use tokio::runtime::Handle;

use crate::config::{Config, WalCodec};
use crate::deliver::{DeliverError, Delivering, Delivery};
use crate::engine_source::{self, EngineSettings, EngineSourceError};
use crate::files::desk::Desk;
use crate::files::{self, FilesError, FilesSettings, FilesStats};
use crate::followed::FollowedTable;
use crate::intake::{Intake, intake};
use crate::rotate::{self, Left, RotateError, RotateSettings, RotateStats};
use crate::rule::{FilesRule, Mode};
use crate::sink::settings::SinkSettings;
use crate::sink::stats::SinkStats;
use crate::status::{self, Watched};
use crate::ui::{Subject, Ui, UiError, UiSettings};
use crate::wal::{Codec, Log, LogSettings, WalError};

#[cfg(test)]
mod tests;

/// How often a run looks whether a part of it has failed.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often the end of a run looks whether the sinks have everything.
const LOOK_AT_SINKS_EVERY: Duration = Duration::from_millis(5);

/// How long the end of a run waits for rotation.
const ROTATE_END_TIME_MAX: Duration = Duration::from_secs(1);

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Outcome {
    /// Everything that was read was delivered.
    pub is_drained: bool,
    /// Holes that were found while it ran.
    pub gaps: u64,
    /// Holes that single sinks have beside them: what was refused, and what they fell too far behind for.
    pub sink_gaps: u64,
    /// Files and containers that are meant and could not be read.
    pub refused: u64,
    /// Patterns that match no file, where there is no time for one to come.
    pub unmatched: u64,
}

impl Outcome {
    /// Everything that was meant arrived, everywhere.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.is_drained
            && self.gaps == 0
            && self.sink_gaps == 0
            && self.refused + self.unmatched == 0
    }
}

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// The log.
    #[error(transparent)]
    Log(#[from] WalError),
    /// A sink.
    #[error(transparent)]
    Sink(#[from] DeliverError),
    /// Log files.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] EngineSourceError),
    /// The server of metrics.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// The page.
    #[error(transparent)]
    Ui(#[from] UiError),
    /// A thread.
    #[error("cannot start a thread that reads")]
    Thread(#[source] std::io::Error),
    /// Rotation.
    #[error(transparent)]
    Rotate(#[from] RotateError),
    /// A source ended as no source may.
    #[error("a thread that reads ended unexpectedly")]
    Panicked,
}

/// Ships until the sources have ended: once at the end of what is there, otherwise at the shutdown. With `ui`, shows
/// a page meanwhile.
pub fn run(
    config: &Config,
    sinks: Vec<SinkSettings>,
    ui: Option<UiSettings>,
    mode: Mode,
    runtime: &Handle,
    shutdown: &Shutdown,
) -> Result<Outcome, PipelineError> {
    let (log, sources) = Log::open(log_settings(config))?;
    let gaps_before = gaps(&log);
    let deliveries: Vec<Delivery> =
        sinks.into_iter().map(|sink| Delivery::open(&log, sink)).collect::<Result<_, _>>()?;
    for sink in log.abandoned_sinks()? {
        tracing::warn!(
            sink,
            "there is no such sink any more, and it had not had everything: its rest is not kept for it"
        );
    }
    let rotate = Arc::new(RotateStats::default());
    let mut rotating = Rotating::prepare(config, mode, &rotate, &log)?;
    let (intake, receiver) = intake(sources);
    let writing = log.run(receiver)?;
    let delivering: Vec<Delivering> = deliveries
        .into_iter()
        .map(|delivery| delivery.start(runtime.clone()))
        .collect::<Result<_, _>>()?;
    let stats: Vec<Arc<SinkStats>> = delivering.iter().map(|sink| sink.stats().clone()).collect();
    let watched = delivering.iter().map(|sink| (sink.name().to_owned(), sink.stats().clone()));
    let table = Arc::new(FollowedTable::default());
    let files = Arc::new(FilesStats::default());
    let watched = Watched::new(&log, watched.collect(), table.clone(), files.clone());
    let watched = watched.with_rotation(rotate.clone());
    let status = status::serve(config.metrics, watched.clone(), runtime)?;
    let subject = Subject::Run {
        watched,
        log: log.clone(),
        wal: config.state.clone().filter(|_| !config.wal.off),
        state: config.state.clone(),
    };
    let page = ui.map(|ui| Ui::start(ui, subject, runtime)).transpose()?;
    let stop = Shutdown::new();
    let rotated = rotating.rotated();
    let mut reading =
        Reading::start(config, intake, mode, runtime, &stop, table, &files, &rotated)?;
    rotating.start(&log, runtime)?;

    let mut sinks = Sinks::new(delivering);
    let ended = reading.watch(&log, &mut sinks, shutdown);
    // While the reader still answers: a rotation that waits for it ends at once.
    rotating.finish();
    stop.request();
    let deadline = match mode {
        Mode::Once if ended.is_ok() => sinks.watch(&log, config.drain, shutdown),
        Mode::Once | Mode::Follow => Instant::now() + config.drain,
    };
    let unread = reading.finish(deadline);
    let written = writing.finish(deadline);
    let delivered = sinks.finish(deadline);
    status.finish();
    drop(page);
    ended?;
    written?;
    let (is_drained, Unread { refused, unmatched }) = (delivered?, unread?);
    let gaps = gaps(&log).saturating_sub(gaps_before);
    let sink_gaps = stats.iter().map(|stats| stats.report().gaps).sum();
    Ok(Outcome { is_drained, gaps, sink_gaps, refused, unmatched })
}

fn log_settings(config: &Config) -> LogSettings {
    let defaults = LogSettings::default();
    let wal = &config.wal;
    LogSettings {
        directory: config.state.clone().filter(|_| !wal.off),
        cursors: config.state.clone().filter(|_| wal.off),
        codec: wal.codec.map_or(defaults.codec, |codec| match codec {
            WalCodec::None => Codec::None,
            WalCodec::Lz4 => Codec::Lz4,
            WalCodec::Zstd => Codec::Zstd,
        }),
        bytes_max: wal.bytes_max.unwrap_or(defaults.bytes_max),
        reserve_bytes: wal.reserve_bytes.unwrap_or(defaults.reserve_bytes),
        ..defaults
    }
}

/// Holes in all sources so far.
fn gaps(log: &Log) -> u64 {
    let stats = log.stats();
    let sources = stats.sources.values().map(|source| source.totals.gaps);
    sources.sum::<u64>() + stats.forgotten.gaps
}

/// What a source has to say at its end.
type Ended = Result<Unread, PipelineError>;

/// What could not be read. See [`Outcome`].
#[derive(Debug, Clone, Copy, Default)]
struct Unread {
    refused: u64,
    unmatched: u64,
}

impl Unread {
    fn plus(self, other: Self) -> Self {
        Self { refused: self.refused + other.refused, unmatched: self.unmatched + other.unmatched }
    }
}

/// The sources at work, a thread each.
struct Reading {
    running: usize,
    ended: Receiver<Ended>,
    unread: Unread,
}

impl Reading {
    #[expect(clippy::too_many_arguments, reason = "all that sources need, for one caller")]
    fn start(
        config: &Config,
        intake: Intake,
        mode: Mode,
        runtime: &Handle,
        stop: &Shutdown,
        table: Arc<FollowedTable>,
        stats: &Arc<FilesStats>,
        rotated: &[Rotated],
    ) -> Result<Self, PipelineError> {
        let sources = config.files().count() + usize::from(config.has_engine());
        let (done, ended) = sync_channel(sources.max(1));
        for (number, rule) in config.files().enumerate() {
            let stats = stats.clone();
            let mut settings = FilesSettings { stats, ..files_settings(config, rule, number) };
            let Rotated { desk, left } = rotated.get(number).cloned().unwrap_or_default();
            (settings.desk, settings.begun) = (desk, left.begun);
            (settings.kept, settings.renamed) = (left.kept, left.renamed);
            let (intake, stop) = (intake.clone(), stop.clone());
            spawn(format!("files-{number}"), done.clone(), move || {
                let report = files::run(settings, intake, &stop, mode)?;
                let unmatched = if mode == Mode::Once { report.unmatched } else { 0 };
                Ok(Unread { refused: report.refused, unmatched })
            })?;
        }
        if config.has_engine() {
            let settings = engine_settings(config);
            let planner = Arc::new(config.planner());
            let (runtime, stop) = (runtime.clone(), stop.clone());
            spawn("engine".to_owned(), done, move || {
                let run = engine_source::run;
                let refused = run(&settings, planner, &intake, &stop, mode, &runtime, &table)?;
                Ok(Unread { refused, unmatched: 0 })
            })?;
        }
        Ok(Self { running: sources, ended, unread: Unread::default() })
    }

    /// Waits until every source has ended, the shutdown is requested, or a part cannot go on.
    fn watch(
        &mut self,
        log: &Log,
        sinks: &mut Sinks,
        shutdown: &Shutdown,
    ) -> Result<(), PipelineError> {
        while self.running > 0 && !shutdown.is_requested() {
            // A sink that ends before the log does has failed, and so has the log that says so.
            if let Some(reason) = log.failed() {
                return Err(WalError::Failed(reason).into());
            }
            if sinks.has_ended() {
                return Ok(());
            }
            self.next(LOOK_EVERY)?;
        }
        Ok(())
    }

    /// Waits for all of them, and says what could not be read.
    fn finish(mut self, deadline: Instant) -> Ended {
        while self.running > 0 {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                tracing::warn!("a source did not end in time: it is left behind");
                break;
            };
            self.next(left)?;
        }
        Ok(self.unread)
    }

    fn next(&mut self, time: Duration) -> Result<(), PipelineError> {
        match self.ended.recv_timeout(time) {
            Ok(ended) => {
                self.running -= 1;
                self.unread = self.unread.plus(ended?);
                Ok(())
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err(PipelineError::Panicked),
        }
    }
}

/// What the reader of files that are rotated needs to know.
#[derive(Debug, Clone, Default)]
struct Rotated {
    desk: Option<Arc<Desk>>,
    left: Left,
}

/// Rotation at work, a thread for each rule that asks for it.
#[derive(Debug)]
struct Rotating {
    waiting: Vec<(Rotated, Option<RotateSettings>)>,
    stop: Shutdown,
    running: Vec<JoinHandle<()>>,
}

impl Rotating {
    /// What earlier processes left is read before any file is, and before the log forgets anything.
    fn prepare(
        config: &Config,
        mode: Mode,
        stats: &Arc<RotateStats>,
        log: &Log,
    ) -> Result<Self, PipelineError> {
        let mut waiting = Vec::new();
        for (number, rule) in config.files().enumerate() {
            let Some(state) = &config.state else { continue };
            let left = rotate::left(state, log)?;
            let wishes = rule.rotate.clone().filter(|_| mode == Mode::Follow);
            let files = files_settings(config, rule, number);
            let settings = wishes.map(|wishes| RotateSettings {
                engine: config.engine.host.clone(),
                stats: stats.clone(),
                ..RotateSettings::of(&files, wishes, state.clone(), Arc::default())
            });
            // What was begun is minded also when nothing is rotated any more.
            let desk = settings.as_ref().map(|settings| settings.desk.clone());
            waiting.push((Rotated { desk, left }, settings));
        }
        Ok(Self { waiting, stop: Shutdown::new(), running: Vec::new() })
    }

    fn rotated(&self) -> Vec<Rotated> {
        self.waiting.iter().map(|(rotated, _)| rotated.clone()).collect()
    }

    fn start(&mut self, log: &Log, runtime: &Handle) -> Result<(), PipelineError> {
        for settings in self.waiting.drain(..).filter_map(|(_, settings)| settings) {
            let (log, runtime, stop) = (log.clone(), runtime.clone(), self.stop.clone());
            let work = move || {
                if let Err(error) = rotate::run(settings, &log, &runtime, &stop) {
                    let error = chores_common::exit::chain(&error);
                    tracing::error!(%error, "files are shipped, but not rotated");
                }
            };
            let thread = std::thread::Builder::new().name("rotate".to_owned()).spawn(work);
            self.running.push(thread.map_err(PipelineError::Thread)?);
        }
        Ok(())
    }

    /// Waits a moment. Whoever still waits for the engine is left behind: what it has begun is written down.
    fn finish(self) {
        self.stop.request();
        let deadline = Instant::now() + ROTATE_END_TIME_MAX;
        while Instant::now() < deadline && self.running.iter().any(|thread| !thread.is_finished()) {
            std::thread::sleep(LOOK_AT_SINKS_EVERY);
        }
    }
}

/// The sinks at work.
struct Sinks {
    delivering: Vec<Delivering>,
    ended: Vec<Result<(), DeliverError>>,
}

impl Sinks {
    fn new(delivering: Vec<Delivering>) -> Self {
        Self { delivering, ended: Vec::new() }
    }

    /// Whether one of them has nothing to do any more.
    fn has_ended(&mut self) -> bool {
        let ended = &mut self.ended;
        self.delivering.retain(|sink| match sink.ended() {
            Some(result) => {
                ended.push(result);
                false
            }
            None => true,
        });
        !self.ended.is_empty()
    }

    /// Waits until all of them have everything, and says until when what is left may take: a shutdown gives them
    /// `drain`.
    fn watch(&mut self, log: &Log, drain: Duration, shutdown: &Shutdown) -> Instant {
        while !shutdown.is_requested() && log.failed().is_none() {
            self.has_ended();
            if self.delivering.is_empty() || self.ended.iter().any(Result::is_err) {
                break;
            }
            std::thread::sleep(LOOK_AT_SINKS_EVERY);
        }
        Instant::now() + drain
    }

    /// Waits for those that are left; whether all of them had everything.
    fn finish(mut self, deadline: Instant) -> Result<bool, PipelineError> {
        while !self.delivering.is_empty() && Instant::now() < deadline {
            self.has_ended();
            std::thread::sleep(LOOK_AT_SINKS_EVERY);
        }
        // All at once: what each may take to give up must not add up.
        self.delivering.iter().for_each(Delivering::stop);
        let left: Vec<_> = self.delivering.into_iter().map(|sink| sink.finish(deadline)).collect();
        let mut is_drained = true;
        for result in self.ended.into_iter().chain(left) {
            match result {
                Ok(()) => {}
                Err(error @ (DeliverError::Stopped(_) | DeliverError::Stuck(_))) => {
                    tracing::warn!("{error}");
                    is_drained = false;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(is_drained)
    }
}

fn spawn(
    name: String,
    done: SyncSender<Ended>,
    read: impl FnOnce() -> Ended + Send + 'static,
) -> Result<(), PipelineError> {
    let work = move || {
        // Nobody listens when the process ends anyway.
        done.send(read()).ok();
    };
    std::thread::Builder::new().name(name).spawn(work).map(drop).map_err(PipelineError::Thread)
}

/// What rule `number` reads: the first rule that takes a file is the one, as with containers.
fn files_settings(config: &Config, rule: &FilesRule, number: usize) -> FilesSettings {
    let earlier = config.files().take(number);
    FilesSettings {
        exclude: rule.exclude.clone(),
        earlier: earlier.map(|rule| (rule.paths.clone(), rule.exclude.clone())).collect(),
        start: rule.start,
        process: rule.lines.process.clone(),
        fields: rule.lines.fields.clone(),
        sinks: rule.lines.sinks.clone(),
        parse: rule.lines.parse.clone(),
        ..FilesSettings::new(rule.paths.clone(), config.host.clone())
    }
}

/// Where the engine is, and its files.
#[must_use]
pub fn engine_settings(config: &Config) -> EngineSettings {
    EngineSettings {
        host: config.engine.host.clone(),
        files: config.engine.files.clone(),
        pin: config.engine.pin.clone(),
        api_only: config.engine.api_only,
    }
}
