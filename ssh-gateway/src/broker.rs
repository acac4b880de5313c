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
mod codes;
mod connection;
mod connections;
mod controls;
mod diagnostics;
mod engine_exec;
mod environment;
mod files;
mod forward;
mod hub;
mod inquiry;
mod linger;
mod picker;
mod portals;
mod refusal;
mod room;
mod session;
mod sessions;
mod signals;
mod spool;
mod tap;
mod terminal;
mod uploads;
mod words;

pub(crate) mod confine;
pub(crate) mod containers;
pub(crate) mod journal;
pub(crate) mod nursery;
pub(crate) mod recording;
pub(crate) mod sweep;

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chores_common::engine::{Engine, EngineError};
use chores_common::exit::chain;
use chores_common::shutdown::Shutdown;
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::config::{Config, PolicySource};
use crate::container::bundle::Bundles;
use crate::hop::Spawner;
use crate::host_keys::{AuditKey, HostKeyError, HostKeys};
use crate::policy::{self, Access, Policy, PolicyError, Record, Unrecorded};
use crate::proof::Sessions;
use crate::revoked::Revoked;
use crate::wire::net::{Ask, News, Refusal, Settings, Word};
use crate::wire::socket::{AsyncSocket, Socket};
use crate::wire::upload::Setup;

use containers::Containers;
use hub::{Broken, Hub};
use journal::{Journal, Mark};
use nursery::Nursery;
use recording::Recordings;
use uploads::Uploads;
use words::Words;

/// The engine answers for the first time within this.
const ENGINE_TIME_MAX: Duration = Duration::from_secs(15);
/// A net that has crashed is replaced after this, longer each time.
const REBIRTH_DELAY: Duration = Duration::from_millis(200);
/// The longest of these.
const REBIRTH_DELAY_MAX: Duration = Duration::from_secs(10);
/// A net that has lived this long has not crashed because of its start.
const REBIRTH_LIFE: Duration = Duration::from_secs(60);
/// How often it is looked whether the policy has changed.
const POLICY_PERIOD: Duration = Duration::from_secs(2);
/// Looking at it, and reading it, may take this long; so may its lists of revoked keys by themselves.
const POLICY_TIME_MAX: Duration = Duration::from_secs(10);
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
    /// Who may come in, and what for.
    pub policy: Policy,
    /// Our own keys.
    pub host_keys: HostKeys,
    /// The key that signs the audit.
    pub audit_key: AuditKey,
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
    /// Where finished records go, and what opens it.
    pub upload: Option<Setup>,
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
    policy: RwLock<Arc<Policy>>,
    containers: Containers,
    spawner: Arc<Spawner>,
    /// Where we listen.
    listening: Vec<SocketAddr>,
    cgroup_root: String,
    cgroup_prefix: String,
    /// Sessions whose proof was taken, of every net there was.
    proved: Mutex<Sessions>,
    /// Codes that were given.
    codes: Arc<codes::Codes>,
    /// Room for waiting bytes.
    promises: spool::Promises,
    /// The audit.
    journal: Journal,
    /// How many denied logins are in it.
    denials: audit::Denials,
    /// Where recordings go.
    recordings: Recordings,
    /// What runs.
    sessions: sessions::Sessions,
    /// Who is in.
    connections: connections::Connections,
    /// Who looks at events.
    watchers: room::Room,
    /// Commands that run in several containers.
    fan_outs: room::Room,
    /// Sessions that have lost their connection and wait for their client.
    lingering: linger::Lingering<session::Held>,
    /// How fast lines about files come.
    paces: files::Paces,
    /// What must end before this process does.
    running: TaskTracker,
}

impl Shared {
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn set_policy(&self, policy: Policy) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// What is kept of what this access allows, and what it allows that cannot be kept.
    fn record(&self, access: &Access) -> (Record, Unrecorded) {
        let (rule, config) = (access.rule(), &self.config.record);
        (rule.record.unwrap_or(config.sessions), rule.unrecorded.unwrap_or(config.unrecorded))
    }

    /// Waits until the audit has what was said since the mark. Without it nothing begins that must not be unrecorded.
    async fn accountable(&self, mark: Mark, unrecorded: Unrecorded) -> Result<(), Refusal> {
        let Err(reason) = self.journal.written(mark).await else { return Ok(()) };
        self.unrecorded(unrecorded, &reason)
    }

    /// What comes of something that cannot be recorded.
    fn unrecorded(&self, unrecorded: Unrecorded, reason: &str) -> Result<(), Refusal> {
        match unrecorded {
            Unrecorded::Allow => {
                tracing::warn!("something begins that is not recorded: {reason}");
                Ok(())
            }
            Unrecorded::Refuse => {
                tracing::error!("nothing begins that is not recorded: {reason}");
                Err(refusal::failed(
                    "the gateway cannot keep its records, so nothing begins; its operator finds the reason in its log",
                ))
            }
        }
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
    let Parts { config, policy, host_keys, audit_key, listeners, bundles, cgroup_root, .. } = parts;
    let journal = Journal::start(&config.state, audit_key, config.record.audit_quota)
        .map_err(system("start the audit"))?;
    let recordings = Recordings::new(&config.state, &config.record, journal.clone());
    let engine = timeout(ENGINE_TIME_MAX, Engine::connect(config.enter.engine.as_deref()));
    let engine = engine.await.map_err(|_| BrokerError::EngineSilent)??;
    let spawner = Arc::new(Spawner::over(parts.spawner).map_err(system("talk to the spawner"))?);
    let nursery = Nursery::over(parts.nursery).map_err(system("talk to the nursery"))?;
    let addresses: Vec<SocketAddr> =
        listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
    let shared = Arc::new(Shared {
        listening: reserved(&addresses),
        policy: RwLock::new(Arc::new(policy)),
        containers: Containers::new(engine, bundles, Arc::clone(&spawner)),
        spawner,
        cgroup_root: cgroup_root.to_string_lossy().into_owned(),
        cgroup_prefix: parts.cgroup_prefix,
        proved: Mutex::default(),
        codes: Arc::new(codes::Codes::load(&config.state, Timestamp::now())),
        promises: spool::Promises::default(),
        journal: journal.clone(),
        denials: audit::Denials::default(),
        recordings,
        sessions: sessions::Sessions::default(),
        connections: connections::Connections::default(),
        watchers: inquiry::room(),
        fan_outs: session::fan_out_room(),
        lingering: linger::Lingering::default(),
        paces: files::Paces::default(),
        running: TaskTracker::new(),
        config,
    });
    let controls = match controls::listen(&shared.config.state) {
        Ok(listener) => {
            let subjects = controls::Subjects {
                sessions: shared.sessions.clone(),
                connections: shared.connections.clone(),
                journal: journal.clone(),
            };
            Some(AbortOnDropHandle::new(tokio::spawn(controls::serve(listener, subjects))))
        }
        Err(error) => {
            tracing::warn!(
                "`sessions` and `connections` cannot be used: their socket cannot be made: {error}"
            );
            None
        }
    };
    let settings = Settings {
        host_keys: host_keys.to_wire()?,
        host_certificates: host_keys.certificates_to_wire()?,
        banner: shared.config.banner.clone(),
        limits: shared.config.limits.clone(),
        proxies: shared.config.proxies.clone(),
    };
    for address in &addresses {
        tracing::info!("listening on {address}");
    }
    let watching = watch_policy(&shared).map_err(system("take over SIGHUP"))?;
    let uploading = async {
        let Some(setup) = parts.upload else { return std::future::pending().await };
        let (state, keeps) = (shared.config.state.clone(), shared.config.record.keep_local);
        let recordings = shared.recordings.clone();
        Uploads::new(setup, state, keeps, recordings, journal.clone()).run(&nursery).await;
    };
    let served = tokio::select! {
        done = serve_nets(&shared, &nursery, &settings, &listeners, shutdown) => done,
        error = shared.spawner.gone() => Err(BrokerError::SpawnerGone(error)),
        () = watching => Ok(()),
        // It does not end.
        () = uploading => Ok(()),
    };
    drop(controls);
    // Their last lines belong into the audit.
    if !shared.recordings.end(END_TIME_MAX).await {
        tracing::error!("some recordings are still written; the audit has no line about these");
    }
    journal.end().await;
    served
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
        let diagnostics = diagnostics::logged("net").map_err(system("make a pipe"))?;
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
            shared.lingering.end();
            settle(shared).await;
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
            // Those that wait have their grace at the same time.
            shared.lingering.end();
            drain(shared, &mut hub, &socket, &words).await;
            NetEnd::Stopped
        }
    };
    hub.end("the gateway ends it");
    drop(words);
    // What it has not heard until now it does not hear any more.
    passing.abort();
    if matches!(end, NetEnd::Stopped) {
        settle(shared).await;
    }
    end
}

/// Waits for what must end before this process does.
async fn settle(shared: &Shared) {
    shared.running.close();
    let patience = shared.config.stop_grace + END_TIME_MAX;
    if timeout(patience, shared.running.wait()).await.is_err() {
        tracing::error!(
            "some sessions did not end in time; what they left is ended at the next start"
        );
    }
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

/// Reads the policy again at SIGHUP and when one of its files changes. Never ends.
fn watch_policy(shared: &Arc<Shared>) -> io::Result<impl Future<Output = ()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let shared = Arc::clone(shared);
    // What has changed since the start is seen too.
    let mut seen = None;
    Ok(async move {
        loop {
            let is_asked = tokio::select! {
                received = hangup.recv() => received.is_some(),
                () = sleep(POLICY_PERIOD) => false,
            };
            seen = look_at_policy(&shared, seen, is_asked, &POLICY_PATIENCE).await;
        }
    })
}

/// How often changing files are looked at before they are read although they do not hold still: what was taken away in
/// them must not count for ever.
const CHANGES_MAX: u8 = 10;

/// How often files are read at once while they change.
const READS_MAX: usize = 3;

/// How long files are waited for.
#[derive(Debug)]
struct Patience {
    /// All that a policy is read from.
    policy: Duration,
    /// The lists of revoked keys by themselves.
    lists: Duration,
    /// Between two looks at these while the policy hangs.
    period: Duration,
}

const POLICY_PATIENCE: Patience =
    Patience { policy: POLICY_TIME_MAX, lists: POLICY_TIME_MAX, period: POLICY_PERIOD };

/// The files of a policy, and how they were when they were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    files: Vec<PathBuf>,
    stamps: Vec<Stamp>,
    /// How often they were found changed since they were read.
    changes: u8,
}

impl Seen {
    /// As they are now, and as they are read. Blocks.
    fn now(files: Vec<PathBuf>) -> Self {
        let stamps = files.iter().map(stamp).collect();
        Self { files, stamps, changes: 0 }
    }

    /// Whether they are to be read now. Half of a file that is being written can be a policy too, and one that allows
    /// more: so they must not have changed since the look before.
    fn is_due(&self, before: Option<&Self>) -> bool {
        let changes = before.map_or(0, |before| before.changes);
        let is_still = before.is_some_and(|before| before.stamps == self.stamps);
        if is_still { changes > 0 } else { changes >= CHANGES_MAX }
    }

    /// This look, after which nothing was read.
    fn unread(self, before: Option<&Self>) -> Self {
        let is_still = before.is_some_and(|before| before.stamps == self.stamps);
        let changes = before.map_or(0, |before| before.changes);
        Self { changes: changes.saturating_add(u8::from(!is_still)), ..self }
    }
}

/// Reads the policy again where that is asked for, or where its files are not as they were `seen` and hold still since
/// the look before. Returns how they are now. A file system that hangs stops nothing else here.
async fn look_at_policy(
    shared: &Arc<Shared>,
    seen: Option<Seen>,
    is_asked: bool,
    patience: &Patience,
) -> Option<Seen> {
    let reader = Arc::clone(shared);
    let mut looking = spawn_blocking(move || {
        let files = match &seen {
            Some(seen) => seen.files.clone(),
            None => reader.config.policy.files(),
        };
        let mut now = Seen::now(files);
        if !is_asked && !now.is_due(seen.as_ref()) {
            return (Some(now.unread(seen.as_ref())), None);
        }
        let is_last_chance = seen.as_ref().is_some_and(|seen| seen.changes >= CHANGES_MAX);
        let accepted = &reader.config.accept_environment;
        for _ in 0..READS_MAX {
            let (files, read) =
                policy::file::load(&reader.config.policy, &reader.config.revoked_keys, &|name| {
                    policy::accepts_variable(accepted, name)
                });
            // What is written meanwhile, or names files that nobody had looked at before, is read once more.
            let read = read.inspect_err(|error| still_revoke(&reader, error));
            let after = Seen::now(files);
            if after == now || is_last_chance {
                // What has changed meanwhile is read again once it holds still.
                let changes = u8::from(after != now);
                return (Some(Seen { changes, ..after }), Some(read));
            }
            now = after;
        }
        (Some(Seen { changes: 1, ..now }), None)
    });
    let mut is_late = false;
    let looked = match timeout(patience.policy, &mut looking).await {
        Ok(looked) => looked,
        Err(_) => {
            lost(shared, &format!("it cannot be read within {} s", patience.policy.as_secs()));
            is_late = true;
            tokio::select! {
                looked = &mut looking => looked,
                never = revoke_meanwhile(shared, patience) => match never {},
            }
        }
    };
    match looked {
        Ok((now, Some(Ok(policy)))) => {
            take_over(shared, policy);
            now
        }
        Ok((now, Some(Err(error)))) => {
            if matches!(error, PolicyError::Revoked(_)) {
                // Whose key it was is not known any more, so that it could be anybody's.
                shared.set_policy(Policy::default());
                audit::policy_refused(&shared.journal, &chain(&error), NOBODY_NEW);
                return now;
            }
            lost(shared, &chain(&error));
            now
        }
        Ok((now, None)) if !is_late => now,
        // What was known may be gone: it is read the next time, whatever is seen then.
        Ok(_) => None,
        Err(error) => {
            lost(shared, &error.to_string());
            None
        }
    }
}

/// From now on this policy counts.
fn take_over(shared: &Shared, policy: Policy) {
    if *shared.policy() == policy {
        tracing::debug!("the policy is as it was");
        return;
    }
    for fault in policy.keys().faults() {
        tracing::warn!("{fault}");
    }
    audit::policy_read(&shared.journal, policy.keys().lines().len(), policy.rules().len());
    shared.set_policy(policy);
}

/// Nobody comes in by what is wrong.
const NOBODY_NEW: &str = "nobody new can come in until that is mended";

/// What is revoked does not wait for a fault elsewhere to be mended. Blocks.
fn still_revoke(shared: &Shared, error: &PolicyError) {
    if !matches!(error, PolicyError::Revoked(_)) {
        match Revoked::load(&shared.config.revoked_keys) {
            Ok(revoked) => shared.set_policy(shared.policy().with_revoked(revoked)),
            Err(error) => nobody(shared, chain(&error), &mut None),
        }
    }
}

/// Nor does it for a file that hangs, however long that is: the lists are read at once, and again when they have changed.
/// Where it is a list itself that hangs, whose key is revoked is not known any more. Never ends.
async fn revoke_meanwhile(shared: &Arc<Shared>, patience: &Patience) -> Infallible {
    let lists = &shared.config.revoked_keys;
    if lists.is_empty() {
        return std::future::pending().await;
    }
    // A list that cannot be read, and can later, takes nobody away but those on it.
    let policy = shared.policy();
    let mut seen = None;
    let mut told = None;
    loop {
        let (files, before) = (lists.clone(), seen.clone());
        let mut looking = spawn_blocking(move || look_at_lists(files, before.as_ref()));
        let looked = match timeout(patience.lists, &mut looking).await {
            Ok(looked) => looked,
            Err(_) => {
                let seconds = patience.lists.as_secs();
                let reason = format!("the lists of revoked keys cannot be read within {seconds} s");
                nobody(shared, reason, &mut told);
                // One reader at a time: each one that hangs has a thread.
                looking.await
            }
        };
        match looked {
            Ok((now, None)) => seen = Some(now),
            Ok((now, Some(Ok(revoked)))) => {
                told = None;
                shared.set_policy(policy.with_revoked(revoked));
                seen = Some(now);
            }
            // It is tried again, changed or not.
            Ok((_, Some(Err(reason)))) => {
                nobody(shared, reason, &mut told);
                seen = None;
            }
            Err(error) => {
                nobody(shared, error.to_string(), &mut told);
                seen = None;
            }
        }
        sleep(patience.period).await;
    }
}

/// Reads lists of revoked keys, where they were not seen before, or have changed since and hold still. Blocks.
fn look_at_lists(
    lists: Vec<PathBuf>,
    before: Option<&Seen>,
) -> (Seen, Option<Result<Revoked, String>>) {
    let now = Seen::now(lists);
    if before.is_some() && !now.is_due(before) {
        return (now.unread(before), None);
    }
    let read = Revoked::load(&now.files).map_err(|error| chain(&error));
    (now, Some(read))
}

/// Nobody new comes in, as nobody knows what is revoked. Tells the reason if it is another one than was `told`.
fn nobody(shared: &Shared, reason: String, told: &mut Option<String>) {
    shared.set_policy(Policy::default());
    if told.as_ref() != Some(&reason) {
        audit::policy_refused(&shared.journal, &reason, NOBODY_NEW);
        *told = Some(reason);
    }
}

/// The policy cannot be read. One that was written as a whole still holds as a whole, whatever is wrong with the next.
/// Of keys alone nobody can say so: one that was taken away must not stay for an error in the next line.
fn lost(shared: &Shared, reason: &str) {
    let holds = match &shared.config.policy {
        PolicySource::File(_) if shared.policy().rules().is_empty() => NOBODY_NEW,
        PolicySource::File(_) => "the one before still counts",
        PolicySource::Keys(_) => {
            shared.set_policy(Policy::default());
            NOBODY_NEW
        }
    };
    audit::policy_refused(&shared.journal, reason, holds);
}

/// What changes when a file does; nothing but regular files can be looked at.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(path: &PathBuf) -> Stamp {
    use std::os::unix::fs::MetadataExt as _;
    let data = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some((data.dev(), data.ino(), data.size(), data.ctime(), data.ctime_nsec()))
}

#[cfg(test)]
mod tests;
