//! The loop: hears of everything, asks [`Board`] what to do, and has it done by processes of their own. Nothing in it waits for
//! anybody: what takes time is a run, a thread or a task.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chores_common::engine::{Host, own_container_id};
use chores_common::exit::ExitCode;
use chores_common::settings::{self, FileFaults};
use chores_common::shutdown::Shutdown;
use chores_common::status::{Status, StatusError};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use jiff::Timestamp;
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use super::board::{Board, Track};
use super::child::{self, Order};
use super::discover::{Found, discover};
use super::health;
use super::learn::Learned;
use super::outcome::{End, Ended, Judged, Purpose, Verdict, judge};
use super::report::Report;
use super::scribe::{Desk, Scribe};
use super::settings::{ServeSettings, Typed, parse};
use super::state::{Place, StateError};
use super::tell::tell;
use super::watch;
use crate::machine;
use crate::metrics;
use crate::notify::{ChannelCounts, ChannelError, Channels, Outbox, OutboxError};
use crate::quiesce;
use crate::sources::is_container;

#[cfg(test)]
mod tests;

/// Messages that wait for the loop.
const QUEUE_LENGTH_MAX: usize = 256;

/// How often the loop says that it lives, and looks at the clock, which may have been set.
const BEAT: Duration = Duration::from_secs(health::ALIVE_SECONDS_MAX / 6);

/// How much longer than a run may take to end the end of this process waits for its last words.
const END_MARGIN: Duration = Duration::from_secs(10);

/// What the loop hears.
pub(super) enum Message {
    /// What the engine has.
    Found(Box<Found>),
    /// The engine does not answer, and why.
    Away(String),
    /// A run has ended.
    Ended(Track, Box<Ended>),
    /// One that was left behind when it did not end is gone.
    Gone(Track),
    /// There was nothing to do for one.
    Idle(Track),
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    Stop,
}

/// What is to be served, and how.
#[derive(Clone, Debug)]
pub struct ServeOptions {
    /// The common words of every run.
    pub words: Vec<String>,
    /// The state directory.
    pub state: PathBuf,
    /// The engine as it was named.
    pub engine: Option<String>,
    /// The configuration file.
    pub config: Option<PathBuf>,
    /// What was typed instead of what the file says.
    pub typed: Typed,
    /// The host name under which to save.
    pub host: Option<String>,
    /// What this machine calls itself.
    pub own_name: String,
    /// Where notices go beside what the file says.
    pub channels: Channels,
    /// Where the numbers are served.
    pub metrics: Option<SocketAddr>,
    /// Run what is due, and end.
    pub once: bool,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Settings(#[from] FileFaults),
    /// The state cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// Notices cannot be told.
    #[error(transparent)]
    Channels(#[from] ChannelError),
    /// Notices cannot be kept.
    #[error(transparent)]
    Outbox(#[from] OutboxError),
    /// The numbers cannot be served.
    #[error(transparent)]
    Status(#[from] StatusError),
    /// A signal cannot be listened to.
    #[error("cannot take over the signal SIGHUP")]
    Signal(#[source] std::io::Error),
    /// There can be no thread.
    #[error("no thread can be started for what is remembered")]
    Thread(#[source] std::io::Error),
}

/// What is left when it ends.
#[derive(Clone, Debug)]
pub struct Served {
    /// How it was doing.
    pub report: Report,
    /// What that comes to.
    pub code: ExitCode,
}

struct Resident<'a> {
    options: &'a ServeOptions,
    board: Board,
    /// What the engine had last.
    found: Option<Box<Found>>,
    scribe: Scribe,
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    shutdown: &'a Shutdown,
    outbox: Outbox,
    shown: Arc<Mutex<Shown>>,
}

/// What is served: of the last round of the loop.
#[derive(Debug)]
struct Shown {
    report: Report,
    channels: Vec<ChannelCounts>,
    at: Instant,
}

/// The configuration as it is now.
pub fn load(config: Option<&Path>, typed: &Typed) -> Result<ServeSettings, FileFaults> {
    let Some(path) = config else {
        let fail = |faults| FileFaults { path: PathBuf::from("the command line"), faults };
        return parse("", typed).map_err(fail);
    };
    settings::read(path, |text| parse(text, typed))
}

/// What the engine has now.
pub async fn look_once(engine: Option<&str>, time_max: Duration) -> Result<Found, String> {
    watch::look_once(engine, time_max).await
}

/// Serves until it is asked to stop; with `once`, until everything that is due was done.
pub fn serve(
    options: &ServeOptions,
    runtime: &Handle,
    shutdown: &Shutdown,
) -> Result<Served, ServeError> {
    let mut settings = load(options.config.as_deref(), &options.typed)?;
    if options.once {
        (settings.jitter_max, settings.catch_up) = (Duration::ZERO, Duration::ZERO);
    }
    let place = Place::take(&options.state)?;
    place.sweep();
    let (state, damage) = place.load()?;
    if let Some(damage) = damage {
        tracing::warn!("{damage}");
    }
    let channels = settings.channels.clone().and(options.channels.clone())?;
    let outbox = Outbox::open(&options.state, channels)?;
    let (sender, receiver) = bounded(QUEUE_LENGTH_MAX);
    listen(options, &settings, &sender, runtime, shutdown)?;
    let (host, own_name) = (options.host.clone(), options.own_name.clone());
    let now = Timestamp::now();
    let board = Board::new(settings, state, host, own_name, now);
    let board = if is_inside() { board.inside() } else { board };
    let mut board = if options.once { board.once() } else { board };
    // It may be long before the engine answers, and jobs that need none do not wait for it.
    if board.settings().containers && is_engine_here(options) {
        board.machine(None, machine::boot_id());
    }
    let report = board.report(now);
    let shown = Shown { report, channels: Vec::new(), at: Instant::now() };
    let shown = Arc::new(Mutex::new(shown));
    let scribe = Scribe::start(place, outbox.kept()).map_err(ServeError::Thread)?;
    let _served = show(options.metrics, &shown, scribe.desk(), now, runtime)?;
    let found = None;
    let resident =
        Resident { options, board, found, scribe, sender, receiver, shutdown, outbox, shown };
    Ok(resident.run())
}

/// Whether this program is in a container, by whatever engine or cluster.
#[must_use]
pub fn is_inside() -> bool {
    own_container_id().is_some() || is_container()
}

/// Whether the engine is on the machine of this program.
fn is_engine_here(options: &ServeOptions) -> bool {
    matches!(Host::parse(options.engine.as_deref()), Ok(Host::Unix(_)))
}

/// Serves numbers and health; a loop that hangs is not well, nor is a disk.
fn show(
    address: Option<SocketAddr>,
    shown: &Arc<Mutex<Shown>>,
    desk: Arc<Desk>,
    started: Timestamp,
    runtime: &Handle,
) -> Result<Status, StatusError> {
    let (numbers, health) = (Arc::clone(shown), Arc::clone(shown));
    let metrics = move || {
        let shown = locked(&numbers);
        metrics::text(super::numbers::numbers(&shown.report, started, shown.channels.clone()))
    };
    let ailments = move || {
        let shown = locked(&health);
        let mut ailments = shown.report.ailments.clone();
        ailments.extend(stuck(shown.at.elapsed(), desk.hangs_for()));
        ailments
    };
    Status::start(address, metrics, ailments, runtime)
}

/// What hangs: the loop, which was round so long ago, or the disk, which is waited for so long.
fn stuck(round: Duration, disk: Option<Duration>) -> Vec<String> {
    let most = Duration::from_secs(health::ALIVE_SECONDS_MAX);
    let loop_hangs = (round > most).then(|| "the loop hangs".to_owned());
    let disk_hangs = disk.filter(|disk| *disk > most).map(|disk| {
        format!(
            "what is remembered cannot be written: the disk of the state directory does not answer since {} s",
            disk.as_secs()
        )
    });
    loop_hangs.into_iter().chain(disk_hangs).collect()
}

fn locked(shown: &Mutex<Shown>) -> MutexGuard<'_, Shown> {
    shown.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Lets the loop hear of signals and of the engine.
fn listen(
    options: &ServeOptions,
    settings: &ServeSettings,
    sender: &Sender<Message>,
    runtime: &Handle,
    shutdown: &Shutdown,
) -> Result<(), ServeError> {
    let _inside = runtime.enter();
    let mut hangup = signal(SignalKind::hangup()).map_err(ServeError::Signal)?;
    let (reload, stop) = (sender.clone(), sender.clone());
    let (until, asked) = (shutdown.clone(), shutdown.clone());
    runtime.spawn(async move {
        // One that waits already stands for this one too.
        let forever = async {
            while hangup.recv().await.is_some() {
                drop(reload.try_send(Message::Reload));
            }
        };
        until.or(forever).await
    });
    runtime.spawn(async move {
        asked.wait().await;
        // A loop whose queue is full looks for itself.
        drop(stop.try_send(Message::Stop));
    });
    if settings.containers {
        runtime.spawn(watch::watch(options.engine.clone(), sender.clone(), shutdown.clone()));
    }
    Ok(())
}

impl Resident<'_> {
    fn run(mut self) -> Served {
        tracing::info!(jobs = self.board.jobs().len(), "serving");
        loop {
            let now = Timestamp::now();
            self.board.tick(now);
            if self.shutdown.is_requested() {
                break;
            }
            self.start_what_is_due(now);
            self.tell(now);
            if self.options.once && self.board.is_through(now) {
                break;
            }
            let next = self.board.next_due(now).map(|next| next.duration_since(Timestamp::now()));
            let next = next.map_or(BEAT, |wait| Duration::try_from(wait).unwrap_or_default());
            self.hear(next.min(BEAT));
        }
        self.end()
    }

    /// Says how it is doing: to people only what is new.
    fn tell(&mut self, now: Timestamp) {
        let report = self.board.report(now);
        let (events, told) = tell(&self.board.state().told, &report);
        for event in &events {
            self.outbox.put(event);
        }
        self.board.told(told);
        self.scribe.hand(self.board.state(), report.clone());
        let channels = self.outbox.counts();
        *locked(&self.shown) = Shown { report, channels, at: Instant::now() };
    }

    /// Waits for something to happen, and takes in all that did.
    fn hear(&mut self, wait: Duration) {
        match self.receiver.recv_timeout(wait) {
            Ok(message) => self.take(message),
            Err(RecvTimeoutError::Timeout) => return,
            // It never is: this has a sender itself.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(wait),
        }
        while let Ok(message) = self.receiver.try_recv() {
            self.take(message);
        }
    }

    fn take(&mut self, message: Message) {
        let now = Timestamp::now();
        match message {
            Message::Found(found) => {
                let discovered = discover(&found, &self.board.settings().defaults);
                self.board.machine(found.node.clone(), found.boot.clone());
                self.board.found(discovered, found.host.clone(), found.engine.clone(), now);
                self.found = Some(found);
            }
            Message::Away(problem) => self.board.away(problem, now),
            Message::Ended(track, ended) => self.ended(&track, &ended, now),
            Message::Gone(track) => {
                tracing::warn!("{track}: it has ended at last");
                self.board.gone(&track);
            }
            Message::Idle(track) => self.idle(&track, Verdict::Good, now),
            Message::Reload => self.reload(now),
            Message::Stop => {}
        }
    }

    fn reload(&mut self, now: Timestamp) {
        let was = self.board.settings().containers;
        match load(self.options.config.as_deref(), &self.options.typed) {
            Ok(settings) if settings.containers != was => {
                let problem = "`containers` cannot be changed while it runs: start it again";
                tracing::error!("the configuration was not read anew: {problem}");
                self.board.refuse(problem.to_owned());
            }
            Ok(settings) => {
                // Their labels mean something else where the file says something else of all jobs.
                let found = self.found.as_ref().map(|found| discover(found, &settings.defaults));
                self.board.reload(settings, found, now);
                tracing::info!(jobs = self.board.jobs().len(), "the configuration was read anew");
            }
            Err(faults) => {
                tracing::error!(
                    "the configuration cannot be used, the one before counts: {faults}"
                );
                self.board.refuse(faults.to_string().replace('\n', "; "));
            }
        }
    }

    fn start_what_is_due(&mut self, now: Timestamp) {
        for track in self.board.starts(now) {
            self.board.begin(&track, now);
            let Some((words, time_max)) = self.board.order(&track) else {
                self.idle(&track, Verdict::Unusable, now);
                continue;
            };
            let name = track.job.clone().unwrap_or_else(|| track.to_string());
            let words = [self.options.words.clone(), words].concat();
            let order = Order { name, words, time_max, grace: child::GRACE };
            let (sender, shutdown, own) =
                (self.sender.clone(), self.shutdown.clone(), track.clone());
            let state = self.options.state.clone();
            let thread = thread::Builder::new().name("run".to_owned());
            let started = thread.spawn(move || {
                // The loop is gone only with this process.
                if own.purpose == Purpose::Resume && !quiesce::is_due(&state) {
                    drop(sender.send(Message::Idle(own)));
                    return;
                }
                tracing::info!("{own} begins");
                let (ended, stuck) = child::run(&order, &shutdown);
                drop(sender.send(Message::Ended(own.clone(), Box::new(ended))));
                if let Some(stuck) = stuck {
                    stuck.wait();
                    drop(sender.send(Message::Gone(own)));
                }
            });
            if let Err(error) = started {
                let ended = Ended { end: End::NotStarted(error.to_string()), summary: None };
                self.ended(&track, &ended, now);
            }
        }
    }

    fn idle(&mut self, track: &Track, verdict: Verdict, now: Timestamp) {
        let text = "there is nothing to do".to_owned();
        self.board.end(track, &Judged { verdict, text, snapshot: None }, now);
    }

    fn ended(&mut self, track: &Track, ended: &Ended, now: Timestamp) {
        let judged = judge(track.purpose, ended);
        match judged.verdict {
            Verdict::Good => tracing::info!("{track}: {}", judged.text),
            Verdict::Warnings | Verdict::Suspicious | Verdict::Frozen | Verdict::Interrupted => {
                tracing::warn!("{track}: {}", judged.text);
            }
            Verdict::NotGood | Verdict::Failed | Verdict::Unusable | Verdict::TimedOut => {
                tracing::error!("{track}: {}", judged.text);
            }
        }
        let begun = self.board.since(track).unwrap_or(now);
        self.board.end(track, &judged, now);
        if matches!(ended.end, End::Stuck(_)) {
            self.board.stuck(track, now);
        }
        if track.purpose == Purpose::Learn {
            let learned = match (&ended.summary, judged.verdict) {
                (Some(summary), Verdict::Good) => {
                    serde_json::from_value::<Learned>(summary.clone())
                        .map_err(|error| format!("its answer is not understood: {error}"))
                }
                (None, Verdict::Good) => Err("it gave no answer".to_owned()),
                _ => Err(judged.text),
            };
            self.board.learn(learned, begun, now);
            if let Some(problem) = self.board.impossible_drills() {
                tracing::warn!("{problem}");
            }
        }
        // It could not let go on what it had paused or stopped.
        let is_killed = matches!(ended.end, End::Signal(_) | End::TimedOut(_) | End::Stuck(_));
        if is_killed && track.purpose == Purpose::Save {
            self.board.ask_for_resume();
        }
    }

    /// Waits until every run has ended, but not for ever.
    fn end(mut self) -> Served {
        let deadline = Instant::now() + child::GRACE + END_MARGIN;
        while self.board.is_running() && Instant::now() < deadline {
            self.hear(BEAT.min(deadline.saturating_duration_since(Instant::now())));
            self.tell(Timestamp::now());
        }
        self.tell(Timestamp::now());
        let Self { scribe, board, outbox, .. } = self;
        scribe.finish();
        outbox.finish();
        let now = Timestamp::now();
        Served { report: board.report(now), code: board.exit_code(now) }
    }
}
