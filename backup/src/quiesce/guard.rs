//! The guard: a container of our own that lets go on what was paused or stopped when the run falls silent.
//!
//! It has the engine's socket, no capability, no network for a socket, and nothing it could write. The run speaks to its
//! standard input ([`ToGuard`]), and the guard says that it has heard it: nothing is asked of the engine before that, because
//! what was only written may lie in a buffer that nobody reads any more. When the run dies, the engine ends that input, and
//! the guard acts. A guard that the engine started again, because it was restarted itself, has heard nothing of what was done: it takes everything for
//! done, which [`super::restore::decide`] makes safe, and leaves hooks to the journal.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use chores_common::engine::{
    Container, ContainerFilter, ContainerInput, ContainerSpec, DEFAULT_SOCKET, Engine, EngineError,
    Host, LogFrame, LogSource, LogStream, MountSource, MountSpec,
};
use chores_common::exit::ExitCode;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::journal::Document;
use super::message::{LINE_BYTES_MAX, ToGuard, from_line, to_line};
use super::plan::{HookProgress, Progress};
use super::{HEARTBEAT, QuiesceError, SILENCE_MAX, restore};

/// Environment variable in which a guard finds the journal of its run as JSON.
pub const GUARD_VARIABLE: &str = "BACKUP_GUARD_JSON";

/// Label of every guard, `1`.
pub const GUARD_LABEL: &str = "chores.backup.guard";

/// Label with the run's id.
const RUN_LABEL: &str = "chores.backup.run";

/// Label with the process it guards, as workers have it.
const PARENT_LABEL: &str = "chores.backup.parent";

/// What a guard says when it watches.
const READY: &str = "ready";

/// What a guard says of each message, beats excepted, when it knows it.
const HEARD: &str = "heard";

/// How long a guard may take to watch, and to say that it has heard something.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// How old the plan of a guard may be when containers are made to hold still. An older guard gives way to one that knows
/// them as they are.
const AGE_MAX: Duration = SILENCE_MAX;

/// Memory of a guard in bytes.
const MEMORY_BYTES: u64 = 64 << 20;

/// How often the engine starts a guard again that failed, or that it had to end itself.
const RESTARTS_MAX: u32 = 5;

/// Longest text for [`GUARD_VARIABLE`] in bytes: the kernel takes strings of 128 KiB (`MAX_ARG_STRLEN`, execve(2)).
const TEXT_BYTES_MAX: usize = 120 * 1024;

/// What a guard says of why there is none, in characters.
const REASON_CHARS_MAX: usize = 300;

/// Lines that wait to be looked at.
const LINES_MAX: usize = 16;

/// The log driver that the engine can always read back.
const LOG_DRIVER: &str = "json-file";

/// What guards are made from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardImage {
    /// Name or id of the image.
    pub image: String,
    /// Its program, where that is not the image's own entry point.
    pub entrypoint: Option<String>,
    /// Value of the label that names this process.
    pub parent: String,
}

/// Why there is no guard.
#[derive(Debug, thiserror::Error)]
enum GuardError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("the engine's socket {0} lies in this container itself, so another cannot be given it")]
    Socket(String),
    #[error("it ended at once: {0}")]
    Ended(String),
    #[error("it does not answer within {} s", ANSWER_TIME_MAX.as_secs())]
    Slow,
    #[error("it is gone, or hears nothing any more")]
    Deaf,
    #[error("what it has to know is longer than {TEXT_BYTES_MAX} bytes")]
    TooMuch,
}

/// A guard that watches.
#[derive(Debug)]
pub(super) struct Guard {
    engine: Engine,
    id: String,
    /// `None` once it could not be written to.
    input: Arc<Mutex<Option<ContainerInput>>>,
    beats: JoinHandle<()>,
    output: LogStream,
    /// Messages that it has not yet said to have heard.
    unheard: u32,
    started: Instant,
}

impl Guard {
    /// Makes one and waits until it watches.
    pub(super) async fn start(
        engine: &Engine,
        image: &GuardImage,
        own: Option<&Container>,
        document: &Document,
    ) -> Result<Self, QuiesceError> {
        Self::try_start(engine, image, own, document)
            .await
            .map_err(|error| QuiesceError::NoGuard(Box::new(error)))
    }

    async fn try_start(
        engine: &Engine,
        image: &GuardImage,
        own: Option<&Container>,
        document: &Document,
    ) -> Result<Self, GuardError> {
        let spec = spec(image, own, engine.host(), document)?;
        let id = engine.create_container(&spec).await?;
        let started = async {
            let mut input = engine.attach_input(&id).await?;
            engine.start(&id).await?;
            input.write(to_line(&ToGuard::Hello).as_bytes()).await?;
            let mut output = engine.follow_logs(&id)?;
            timeout(ANSWER_TIME_MAX, watches(&mut output))
                .await
                .map_err(|_| GuardError::Slow)??;
            Ok((input, output))
        };
        let (input, output) = match started.await {
            Ok((input, output)) => (Arc::new(Mutex::new(Some(input))), output),
            Err(error) => {
                remove(engine, &id).await;
                return Err(error);
            }
        };
        let beats = tokio::spawn(beat(Arc::clone(&input)));
        let started = Instant::now();
        Ok(Self { engine: engine.clone(), id, input, beats, output, unheard: 0, started })
    }

    /// Whether its plan is of now.
    pub(super) fn is_fresh(&self) -> bool {
        self.started.elapsed() <= AGE_MAX
    }

    /// Tells it something; whether that could be sent.
    pub(super) async fn tell(&mut self, message: &ToGuard) -> bool {
        let is_sent = write(&self.input, message).await;
        self.unheard = self.unheard.saturating_add(u32::from(is_sent));
        is_sent
    }

    /// Tells it something, and waits until it has heard this and all before it.
    pub(super) async fn tell_surely(&mut self, message: &ToGuard) -> Result<(), QuiesceError> {
        let heard = if self.tell(message).await {
            timeout(ANSWER_TIME_MAX, self.hear()).await.unwrap_or(Err(GuardError::Slow))
        } else {
            Err(GuardError::Deaf)
        };
        heard.map_err(|error| QuiesceError::NoGuard(Box::new(error)))
    }

    async fn hear(&mut self) -> Result<(), GuardError> {
        while self.unheard > 0 {
            let frame = self.output.next().await.ok_or(GuardError::Deaf)??;
            self.unheard = self.unheard.saturating_sub(count(&frame, HEARD));
        }
        Ok(())
    }

    /// All is well: it ends and goes.
    pub(super) async fn dismiss(mut self) {
        self.beats.abort();
        self.tell(&ToGuard::Done).await;
        remove(&self.engine, &self.id).await;
    }

    /// Leaves the rest to it: it acts when its input ends.
    pub(super) async fn leave(self) {
        self.beats.abort();
        self.input.lock().await.take();
    }
}

async fn beat(input: Arc<Mutex<Option<ContainerInput>>>) {
    loop {
        sleep(HEARTBEAT).await;
        write(&input, &ToGuard::Beat).await;
    }
}

/// Whether it could be written. After the first failure nothing can.
async fn write(input: &Mutex<Option<ContainerInput>>, message: &ToGuard) -> bool {
    let mut input = input.lock().await;
    let Some(open) = input.as_mut() else { return false };
    match open.write(to_line(message).as_bytes()).await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!("the guard hears nothing any more; only the journal is left: {error}");
            *input = None;
            false
        }
    }
}

async fn remove(engine: &Engine, id: &str) {
    if let Err(error) = engine.remove(id, true).await {
        tracing::warn!("the guard {id} is left behind: {error}");
    }
}

/// Waits until the guard says that it watches, and has heard whom.
async fn watches(output: &mut LogStream) -> Result<(), GuardError> {
    let mut said = String::new();
    let (mut ready, mut heard) = (0, 0);
    while let Some(frame) = output.next().await {
        let frame = frame?;
        ready += count(&frame, READY);
        heard += count(&frame, HEARD);
        if ready > 0 && heard > 0 {
            return Ok(());
        }
        said.push_str(&String::from_utf8_lossy(&frame.bytes));
        said = said.chars().take(REASON_CHARS_MAX).collect();
    }
    Err(GuardError::Ended(said.trim().to_owned()))
}

/// How often a guard says this in a piece of its output.
fn count(frame: &LogFrame, word: &str) -> u32 {
    if frame.source != LogSource::Stdout {
        return 0;
    }
    let text = String::from_utf8_lossy(&frame.bytes);
    let lines = text.lines().filter(|line| line.trim_end() == word).count();
    u32::try_from(lines).unwrap_or(u32::MAX)
}

fn spec(
    image: &GuardImage,
    own: Option<&Container>,
    host: &Host,
    document: &Document,
) -> Result<ContainerSpec, GuardError> {
    let text = String::from_utf8_lossy(&document.to_bytes()).into_owned();
    if text.len() > TEXT_BYTES_MAX {
        return Err(GuardError::TooMuch);
    }
    let mut env = vec![format!("{GUARD_VARIABLE}={text}")];
    let mut mounts = Vec::new();
    let network = match host {
        Host::Unix(socket) => {
            mounts.push(MountSpec {
                source: MountSource::Bind(on_the_host(socket, own)?),
                target: DEFAULT_SOCKET.into(),
                read_only: false,
            });
            "none".to_owned()
        }
        Host::Tcp(_) => {
            env.push(format!("DOCKER_HOST={host}"));
            // Not that of this container itself, which may end first.
            let first = own.and_then(|own| own.networks.first().cloned());
            first.unwrap_or_else(|| "host".to_owned())
        }
    };
    let labels =
        [(GUARD_LABEL, "1"), (RUN_LABEL, &document.run), (PARENT_LABEL, image.parent.as_str())];
    Ok(ContainerSpec {
        name: Some(format!("chores-backup-guard-{}", document.run)),
        image: image.image.clone(),
        entrypoint: image.entrypoint.clone().map(|program| vec![program]),
        command: vec!["guard".to_owned(), "--log-format=text".to_owned()],
        env,
        mounts,
        network: Some(network),
        labels: BTreeMap::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        read_only_root: true,
        memory_bytes_max: Some(MEMORY_BYTES),
        log_driver: Some(LOG_DRIVER.to_owned()),
        user: Some("0:0".to_owned()),
        has_input: true,
        restarts_max: RESTARTS_MAX,
        ..ContainerSpec::default()
    })
}

/// The socket as the engine's host knows it.
fn on_the_host(socket: &std::path::Path, own: Option<&Container>) -> Result<PathBuf, GuardError> {
    let Some(own) = own else { return Ok(socket.to_owned()) };
    let canonical = socket.canonicalize().unwrap_or_else(|_| socket.to_owned());
    own.mounts
        .iter()
        .filter_map(|mount| {
            let rest = [socket, &canonical]
                .into_iter()
                .find_map(|path| path.strip_prefix(&mount.destination).ok())?;
            // Joining an empty rest would add a slash.
            let source = if rest.as_os_str().is_empty() {
                mount.source.clone()
            } else {
                mount.source.join(rest)
            };
            Some((mount.destination.components().count(), source))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, source)| source)
        .ok_or_else(|| GuardError::Socket(socket.display().to_string()))
}

/// Why a guard could not be given what it needs to reach the engine, if it could not; `own` is the container this process is in.
pub fn refusal(host: &Host, own: Option<&Container>) -> Option<String> {
    match host {
        Host::Unix(socket) => on_the_host(socket, own).err().map(|error| error.to_string()),
        Host::Tcp(_) => None,
    }
}

/// What a guard watched is over.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Unrestored(String);

/// The guard's own program: watches, and acts when it has to. `text` is the value of [`GUARD_VARIABLE`]. Done when all
/// is well; failed, so that the engine starts it again, when something could not be let go on.
pub fn watch(
    text: &str,
    engine_host: Option<&str>,
    runtime: &Handle,
) -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
    let document = Document::from_bytes(text.as_bytes(), std::path::Path::new(GUARD_VARIABLE))?;
    let (sender, lines) = mpsc::channel(LINES_MAX);
    let listening = move || {
        let mut input = BufReader::new(io::stdin());
        loop {
            let mut line = String::new();
            match input.by_ref().take(LINE_BYTES_MAX).read_line(&mut line) {
                Ok(1..) if sender.blocking_send(line).is_ok() => {}
                _ => return,
            }
        }
    };
    thread::Builder::new().name("run".into()).spawn(listening)?;
    runtime.block_on(async {
        let engine = Engine::connect(engine_host).await?;
        // What a proxy before the socket does not let through has to show now.
        engine.list_containers(&ContainerFilter::default()).await?;
        say(READY)?;
        guard(&engine, document, lines).await
    })
}

fn say(word: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{word}")?;
    out.flush()
}

async fn guard(
    engine: &Engine,
    mut document: Document,
    mut lines: mpsc::Receiver<String>,
) -> Result<ExitCode, Box<dyn std::error::Error + Send + Sync>> {
    let mut is_greeted = false;
    // The end of the input, or silence, ends the loop.
    while let Ok(Some(line)) = timeout(SILENCE_MAX, lines.recv()).await {
        match from_line(line.trim_end()) {
            Some(ToGuard::Hello) => is_greeted = true,
            Some(ToGuard::Beat) => continue,
            Some(ToGuard::Target { number, target }) => {
                if let Some(known) = document.targets.get_mut(number) {
                    *known = *target;
                }
            }
            Some(ToGuard::Hook { number, progress }) => {
                if let Some(known) = document.hooks.get_mut(number) {
                    known.progress = progress;
                }
            }
            Some(ToGuard::Done) => return Ok(ExitCode::Done),
            None => {
                tracing::warn!("a line of the run is not understood");
                continue;
            }
        }
        if let Err(error) = say(HEARD) {
            tracing::warn!("the run cannot be told what was heard: {error}");
        }
    }
    tracing::warn!("the run is silent or gone: what it paused or stopped goes on");
    if !is_greeted {
        document.targets.iter_mut().for_each(|target| target.progress = Progress::Acting);
        document.hooks.iter_mut().for_each(|hook| hook.progress = HookProgress::Waiting);
    }
    let outcome = restore::put_back(engine, &mut document.targets, true, &mut |targets, number| {
        if let Some(target) = targets.get(number) {
            tracing::info!("{} is looked after", target.container.name);
        }
    })
    .await;
    for name in &outcome.resumed {
        tracing::warn!("{name} goes on");
    }
    if !outcome.failures.is_empty() {
        return Err(Box::new(Unrestored(outcome.failures.join("; "))));
    }
    for failure in restore::run_hooks(engine, &mut document.hooks, |_, _| ()).await {
        tracing::warn!("{failure}");
    }
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests;
