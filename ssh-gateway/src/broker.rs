//! Decides who may enter what, and has it done.
//!
//! ```text
//! net ⇄ hub ─→ connection ─→ session ─→ hop (task in the container)
//!                  │    └──→ forward ─→ portal in the container
//!                  └─→ policy, login, containers (engine, runtime's description, filter)
//! ```
//!
//! One task of the runtime a session and a forward: none waits for another. What comes from net is hostile until it
//! is looked up here.

mod audit;
mod connection;
mod diagnostics;
mod engine_exec;
mod environment;
mod forward;
mod hub;
mod picker;
mod portals;
mod refusal;
mod session;
mod signals;
mod spool;
mod terminal;
mod words;

pub(crate) mod confine;
pub(crate) mod containers;
pub(crate) mod nursery;
pub(crate) mod sweep;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chores_common::engine::{Engine, EngineError};
use chores_common::exit::chain;
use chores_common::shutdown::Shutdown;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

use crate::authorized_keys::AuthorizedKeys;
use crate::config::{Config, KeySource};
use crate::container::bundle::Bundles;
use crate::hop::Spawner;
use crate::host_keys::{HostKeyError, HostKeys};
use crate::policy;
use crate::wire::net::{Ask, News, Settings, Word};
use crate::wire::socket::{AsyncSocket, Socket};

use containers::Containers;
use hub::{Broken, Hub};
use nursery::Nursery;
use words::Words;

/// The engine answers for the first time within this.
const ENGINE_TIME_MAX: Duration = Duration::from_secs(15);
/// A net that has crashed is replaced after this, longer each time.
const REBIRTH_DELAY: Duration = Duration::from_millis(200);
/// The longest of these.
const REBIRTH_DELAY_MAX: Duration = Duration::from_secs(10);
/// A net that has lived this long has not crashed because of its start.
const REBIRTH_LIFE: Duration = Duration::from_secs(60);
/// How often it is looked whether the keys have changed.
const KEYS_PERIOD: Duration = Duration::from_secs(2);
/// Looking at them, and reading them, may take this long.
const KEYS_TIME_MAX: Duration = Duration::from_secs(10);
/// The last output of sessions that have ended is on its way to their clients for this long.
const LAST_WORDS_TIME: Duration = Duration::from_millis(300);
/// How often it is looked whether sessions have ended.
const LOOK_PERIOD: Duration = Duration::from_millis(50);
/// Beyond the grace of sessions, the end may take this long.
const END_TIME_MAX: Duration = Duration::from_secs(5);

/// Everything that is made before this process gives up its rights.
#[derive(Debug)]
pub struct Parts {
    /// What `serve` was told.
    pub config: Config,
    /// Who may come in.
    pub keys: AuthorizedKeys,
    /// Our own keys.
    pub host_keys: HostKeys,
    /// Sockets that listen already.
    pub listeners: Vec<TcpListener>,
    /// Where containers are described.
    pub bundles: Bundles,
    /// Where the host's cgroup hierarchies are.
    pub cgroup_root: PathBuf,
    /// How the names of our sessions' cgroups begin.
    pub cgroup_prefix: String,
    /// The other end is the spawner's.
    pub spawner: Socket,
    /// The other end is the nursery's.
    pub nursery: Socket,
}

/// Why it cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// No engine.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The engine says nothing.
    #[error("the container engine does not answer within {} s", ENGINE_TIME_MAX.as_secs())]
    EngineSilent,
    /// The host keys.
    #[error(transparent)]
    HostKey(#[from] HostKeyError),
    /// The system refused something.
    #[error("cannot {act}")]
    System {
        /// What.
        act: &'static str,
        /// What it answered.
        source: io::Error,
    },
    /// Nothing can be started any more.
    #[error("the process that starts sessions has ended: {0}")]
    SpawnerGone(io::Error),
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    config: Config,
    keys: RwLock<Arc<AuthorizedKeys>>,
    containers: Containers,
    spawner: Arc<Spawner>,
    /// Where we listen.
    listening: Vec<SocketAddr>,
    cgroup_root: String,
    cgroup_prefix: String,
    /// Room for waiting bytes.
    promises: spool::Promises,
    /// What must end before this process does.
    running: TaskTracker,
}

impl Shared {
    fn keys(&self) -> Arc<AuthorizedKeys> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_keys(&self, keys: AuthorizedKeys) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(keys);
    }

    /// The name of a new session's cgroup.
    fn session_cgroup(&self) -> String {
        // Where there is no chance there are no keys either: then nobody is here.
        format!("{}{:016x}", self.cgroup_prefix, getrandom::u64().unwrap_or_default())
    }
}

/// Serves until told to stop. Needs a tokio runtime.
pub async fn serve(parts: Parts, shutdown: &Shutdown) -> Result<(), BrokerError> {
    let system = |act| move |source| BrokerError::System { act, source };
    let Parts { config, keys, host_keys, listeners, bundles, cgroup_root, .. } = parts;
    let engine = timeout(ENGINE_TIME_MAX, Engine::connect(config.enter.engine.as_deref()));
    let engine = engine.await.map_err(|_| BrokerError::EngineSilent)??;
    let spawner = Arc::new(Spawner::over(parts.spawner).map_err(system("talk to the spawner"))?);
    let nursery = Nursery::over(parts.nursery).map_err(system("talk to the nursery"))?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let shared = Arc::new(Shared {
        listening: reserved(&addresses),
        keys: RwLock::new(Arc::new(keys)),
        containers: Containers::new(engine, bundles, Arc::clone(&spawner)),
        spawner,
        cgroup_root: cgroup_root.to_string_lossy().into_owned(),
        cgroup_prefix: parts.cgroup_prefix,
        promises: spool::Promises::default(),
        running: TaskTracker::new(),
        config,
    });
    let settings = Settings {
        host_keys: host_keys.to_wire()?,
        banner: shared.config.banner.clone(),
        limits: shared.config.limits.clone(),
    };
    for address in &addresses {
        tracing::info!("listening on {address}");
    }
    let watching = watch_keys(&shared).map_err(system("take over SIGHUP"))?;
    tokio::select! {
        done = serve_nets(&shared, &nursery, &settings, &listeners, shutdown) => done,
        error = shared.spawner.gone() => Err(BrokerError::SpawnerGone(error)),
        () = watching => Ok(()),
    }
}

/// One net after the other; more than one only when one crashes.
async fn serve_nets(
    shared: &Arc<Shared>,
    nursery: &Nursery,
    settings: &Settings,
    listeners: &[TcpListener],
    shutdown: &Shutdown,
) -> Result<(), BrokerError> {
    let system = |act| move |source| BrokerError::System { act, source };
    let mut delay = REBIRTH_DELAY;
    loop {
        let diagnostics = diagnostics::logged().map_err(system("make a pipe"))?;
        let (socket, pid) = nursery.net(diagnostics).await.map_err(system("start net"))?;
        tracing::debug!(pid, "net runs");
        let begun = Instant::now();
        let begin = Word::Begin(Box::new(settings.clone()));
        let sockets: Vec<_> = listeners.iter().map(AsFd::as_fd).collect();
        socket.send(&begin, &sockets).await.map_err(system("begin to talk to net"))?;
        match serve_net(shared, socket, shutdown).await {
            NetEnd::Stopped => return Ok(()),
            NetEnd::Gone(reason) => {
                tracing::error!(
                    "net has ended, and its connections with it: {reason}; it is started again"
                );
            }
        }
        if begun.elapsed() > REBIRTH_LIFE {
            delay = REBIRTH_DELAY;
        }
        if shutdown.or(sleep(delay)).await.is_none() {
            return Ok(());
        }
        delay = (delay * 2).min(REBIRTH_DELAY_MAX);
    }
}

/// How a net ended.
enum NetEnd {
    /// As it was told.
    Stopped,
    /// By itself, or because it was broken.
    Gone(String),
}

async fn serve_net(shared: &Arc<Shared>, socket: AsyncSocket, shutdown: &Shutdown) -> NetEnd {
    let socket = Arc::new(socket);
    let (words, said) = Words::new();
    let passing = {
        let socket = Arc::clone(&socket);
        tokio::spawn(async move { words::pass(said, &socket).await })
    };
    let mut hub = Hub::new(Arc::clone(shared), words.clone());
    let end = tokio::select! {
        gone = hear(&mut hub, &socket) => NetEnd::Gone(gone),
        () = shutdown.wait() => {
            drain(shared, &mut hub, &socket, &words).await;
            NetEnd::Stopped
        }
    };
    hub.end("the gateway ends it");
    drop(words);
    // What it has not heard until now it does not hear any more.
    passing.abort();
    if matches!(end, NetEnd::Stopped) {
        shared.running.close();
        if timeout(END_TIME_MAX, shared.running.wait()).await.is_err() {
            tracing::error!(
                "some sessions did not end in time; what they left is ended at the next start"
            );
        }
    }
    end
}

/// Hears net until it is gone or broken; returns why.
async fn hear(hub: &mut Hub, socket: &AsyncSocket) -> String {
    loop {
        match socket.receive::<Ask>().await {
            Ok(Some((ask, _))) => {
                if let Err(broken @ (Broken::Rule(_) | Broken::Unheard)) = hub.hear(ask).await {
                    return broken.to_string();
                }
            }
            Ok(None) => return "it crashed".to_owned(),
            Err(error) => return error.to_string(),
        }
    }
}

/// No more connections; sessions end with their grace, and are told so to their clients.
async fn drain(shared: &Shared, hub: &mut Hub, socket: &AsyncSocket, words: &Words) {
    words.news(News::Drain).await;
    hub.end_sessions();
    let mut deadline = Box::pin(sleep(shared.config.stop_grace + END_TIME_MAX));
    let mut quiet_since = None;
    let mut is_told = false;
    loop {
        let left = hub.connections();
        if left.is_empty() {
            break;
        }
        if !hub.is_quiet() {
            quiet_since = None;
        }
        let is_over = quiet_since.get_or_insert_with(Instant::now).elapsed() >= LAST_WORDS_TIME;
        if is_over && !is_told {
            is_told = true;
            for connection in left {
                let reason = "the gateway is stopped".to_owned();
                words.news(News::Disconnect { connection, reason }).await;
            }
        }
        tokio::select! {
            received = socket.receive::<Ask>() => match received {
                Ok(Some((ask, _))) => if hub.hear(ask).await.is_err() { break },
                Ok(None) | Err(_) => break,
            },
            () = sleep(LOOK_PERIOD), if !is_told => {}
            () = &mut deadline => break,
        }
    }
}

/// The gateway as a container may reach it.
fn reserved(listening: &[SocketAddr]) -> Vec<SocketAddr> {
    // One that listens everywhere is known by its connections: see [`connection`].
    listening.iter().copied().filter(|address| !address.ip().is_unspecified()).collect()
}

/// Reads the keys again at SIGHUP and when their files change. Never ends.
fn watch_keys(shared: &Arc<Shared>) -> io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let shared = Arc::clone(shared);
    let mut known = stamps(&shared.config.keys);
    Ok(async move {
        loop {
            let is_asked = tokio::select! {
                received = hangup.recv() => received.is_some(),
                () = sleep(KEYS_PERIOD) => false,
            };
            known = look_at_keys(&shared, known, is_asked, KEYS_TIME_MAX).await;
        }
    })
}

/// Reads the keys again where that is asked for, or where their files are not as they were `known`. Returns how they
/// are now. A file system that hangs stops nothing else here, and lets nobody new come in.
async fn look_at_keys(
    shared: &Arc<Shared>,
    known: Vec<Stamp>,
    is_asked: bool,
    patience: Duration,
) -> Vec<Stamp> {
    let reader = Arc::clone(shared);
    let mut looking = spawn_blocking(move || {
        let now = stamps(&reader.config.keys);
        let keys = (is_asked || now != known).then(|| read_keys(&reader.config));
        (now, keys)
    });
    let mut is_late = false;
    let looked = match timeout(patience, &mut looking).await {
        Ok(looked) => looked,
        Err(_) => {
            tracing::error!(
                "the authorized keys cannot be read within {} s; nobody new can come in until they are",
                patience.as_secs()
            );
            shared.set_keys(AuthorizedKeys::default());
            is_late = true;
            looking.await
        }
    };
    match looked {
        Ok((now, Some(keys))) => {
            shared.set_keys(keys);
            now
        }
        Ok((now, None)) if !is_late => now,
        // The keys that were known are gone: an empty list is like no other, so that they are read the next time.
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::error!("the authorized keys are lost: {error}");
            shared.set_keys(AuthorizedKeys::default());
            Vec::new()
        }
    }
}

/// Blocks.
fn read_keys(config: &Config) -> AuthorizedKeys {
    let accepted = &config.accept_environment;
    match AuthorizedKeys::load(&config.keys, &|name| policy::accepts_variable(accepted, name)) {
        Ok(keys) => {
            for fault in keys.faults() {
                tracing::warn!("{fault}");
            }
            tracing::info!("{} authorized keys were read", keys.lines().len());
            keys
        }
        // A key that was taken away must not stay for an error in the next line.
        Err(error) => {
            tracing::error!("{}; nobody new can come in until that is mended", chain(&error));
            AuthorizedKeys::default()
        }
    }
}

/// What changes when a file does.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamps(sources: &[KeySource]) -> Vec<Stamp> {
    use std::os::unix::fs::MetadataExt as _;
    let stamp = |source: &KeySource| match source {
        KeySource::File(path) => std::fs::metadata(path)
            .ok()
            .map(|data| (data.dev(), data.ino(), data.size(), data.ctime(), data.ctime_nsec())),
        KeySource::Text { .. } => None,
    };
    sources.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests;
