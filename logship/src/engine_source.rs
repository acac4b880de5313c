//! The containers of an engine as sources: each by the better way there is, its files or the API.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chores_common::engine::{
    Container, ContainerFilter, DEFAULT_SOCKET, Engine, EngineError, EngineErrorKind, Host,
    own_container_id,
};
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::task::{JoinError, JoinSet};

use crate::api;
use crate::api::follow::{FollowEnd, Followed, Gate};
use crate::cursor::Cursor;
use crate::direct::{self, CONTAINERS_DIRECTORY, ContainerPlan, DirectError, Mode, Plans};
use crate::discover::{self, CHANGES_MAX, Change};
use crate::followed::{FollowedTable, Way};
use crate::intake::{Chunk, Intake, IntakeClosed, Message};
use crate::plan::Planner;
use crate::process::Processor;
use crate::record::{Control, Gap, GapReason, Stream};
use crate::source::{Origin, SourceId};
use crate::time;

#[cfg(test)]
mod tests;

/// The socket of the engine whose files are in the usual directory: the path and what it is a link to.
const USUAL_SOCKETS: [&str; 2] = [DEFAULT_SOCKET, "/run/docker.sock"];

/// Where the engine is, and its files.
#[derive(Debug, Clone, Default)]
pub struct EngineSettings {
    /// In the forms of `DOCKER_HOST`; the usual socket when absent.
    pub host: Option<String>,
    /// The engine's directory of containers. When absent: the usual one, if it is there and the engine is at its
    /// usual socket; with another one, the directory may be that of a stranger.
    pub files: Option<PathBuf>,
    /// A directory on the same file system where unread files are kept by hard links.
    pub pin: Option<PathBuf>,
    /// The files are never read.
    pub api_only: bool,
}

impl EngineSettings {
    /// The directory of containers that is read; `None` when there is none.
    #[must_use]
    pub fn directory(&self) -> Option<PathBuf> {
        if self.api_only {
            return None;
        }
        let is_usual = matches!(
            Host::parse(self.host.as_deref()),
            Ok(Host::Unix(socket)) if USUAL_SOCKETS.iter().any(|usual| socket == Path::new(usual))
        );
        let usual = Some(PathBuf::from(CONTAINERS_DIRECTORY));
        self.files.clone().or(usual.filter(|path| is_usual && path.is_dir()))
    }
}

/// Why the containers are not read any more.
#[derive(Debug, thiserror::Error)]
pub enum EngineSourceError {
    /// Without its files and without its socket nothing can be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The files cannot be read.
    #[error("cannot read the log files of the engine")]
    Direct(#[from] DirectError),
    /// The thread for the files could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] std::io::Error),
}

/// Plans by `planner`, for every container but `own`, which would ship what it says about shipping.
#[must_use]
pub fn plans(planner: Arc<Planner>, own: Option<String>) -> Plans {
    Arc::new(move |container| {
        if own.as_ref() == Some(&container.id) {
            return None;
        }
        let plan = planner.plan(container);
        for fault in &plan.faults {
            tracing::warn!(container = container.name, key = fault.key, "{}", fault.fault);
        }
        plan.is_enabled().then(|| ContainerPlan { meta: plan.meta, process: plan.process })
    })
}

/// Reads every container for which there is a plan until the shutdown, or, once, what there is. Blocks; requests
/// are driven by `runtime`. Says how many containers, as far as is known, could not be looked at.
pub fn run(
    settings: &EngineSettings,
    planner: Arc<Planner>,
    intake: &Intake,
    shutdown: &Shutdown,
    mode: Mode,
    runtime: &Handle,
    table: &Arc<FollowedTable>,
) -> Result<u64, EngineSourceError> {
    let plans = plans(planner, own_container_id());
    let directory = settings.directory();
    let source = Source {
        host: settings.host.clone(),
        directory: directory.clone(),
        plans: plans.clone(),
        intake: intake.clone(),
        table: table.clone(),
    };
    let Some(directory) = directory else {
        return Ok(runtime.block_on(source.run(shutdown, mode))?);
    };
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().name("engine-logs".to_owned());
        let (intake, table, pin) = (intake.clone(), table.clone(), settings.pin.clone());
        let reading = reading
            .spawn_scoped(scope, move || {
                direct::run(directory, pin, plans, intake, shutdown, mode, &table)
            })
            .map_err(EngineSourceError::Thread)?;
        let refused = match runtime.block_on(source.run(shutdown, mode)) {
            Ok(refused) => refused,
            // The files say everything that the engine would of containers that have them.
            Err(error) => {
                tracing::warn!("{error}; only log files are read");
                1
            }
        };
        match reading.join() {
            Ok(read) => Ok(read.map(|()| refused)?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What is read by way of the engine.
struct Source {
    host: Option<String>,
    directory: Option<PathBuf>,
    plans: Plans,
    intake: Intake,
    table: Arc<FollowedTable>,
}

impl Source {
    async fn run(&self, shutdown: &Shutdown, mode: Mode) -> Result<u64, EngineError> {
        match mode {
            Mode::Once => self.once(shutdown, mode).await,
            Mode::Follow => {
                self.follow(shutdown).await;
                Ok(0)
            }
        }
    }

    async fn once(&self, shutdown: &Shutdown, mode: Mode) -> Result<u64, EngineError> {
        let engine = Engine::connect(self.host.as_deref()).await?;
        let filter = ContainerFilter { all: true, ..ContainerFilter::default() };
        let mut follows = Follows::default();
        let mut refused = 0;
        for listed in engine.list_containers(&filter).await? {
            match self.by_api(&engine, &listed.id).await {
                Look::Api(found) => {
                    let (container, plan) = *found;
                    follows.start(self, &engine, &container, plan, shutdown, mode);
                }
                Look::Elsewhere => {}
                Look::Unknown => refused += 1,
            }
        }
        let mut failed = None;
        while !follows.tasks.is_empty() {
            let ended = follows.tasks.join_next().await;
            if let Some(FollowEnd::Failed(error)) = follows.ended(ended, &self.table) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(refused), Err)
    }

    async fn follow(&self, shutdown: &Shutdown) {
        let (sender, mut changes) = mpsc::channel(CHANGES_MAX);
        let host = self.host.clone();
        let stop = shutdown.clone();
        let discovery =
            tokio::spawn(async move { discover::follow(host.as_deref(), sender, stop).await });
        let mut follows = Follows::default();
        let mut listed = HashSet::new();
        let mut is_first_list = true;
        let mut is_away = false;
        let mut engine = None;
        // Those that the engine did not tell of when it was asked.
        let mut unknown = HashSet::new();
        loop {
            let change = tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => change,
                    None => break,
                },
                ended = follows.tasks.join_next(), if !follows.tasks.is_empty() => {
                    follows.ended(ended, &self.table);
                    continue;
                }
            };
            match change {
                Change::Removed(id) => {
                    listed.remove(&id);
                    unknown.remove(&id);
                    follows.tell(&id);
                }
                Change::Ended(id) => follows.tell(&id),
                Change::Appeared(id) | Change::Started(id) => {
                    listed.insert(id.clone());
                    if engine.is_none() {
                        engine = Engine::connect(self.host.as_deref()).await.ok();
                    }
                    let is_known = match &engine {
                        Some(engine) => follows.look(self, engine, &id, shutdown).await,
                        None => false,
                    };
                    if !is_known {
                        unknown.insert(id);
                    }
                }
                Change::Complete => {
                    self.table.engine_back();
                    if !unknown.is_empty() && engine.is_none() {
                        engine = Engine::connect(self.host.as_deref()).await.ok();
                    }
                    for id in std::mem::take(&mut unknown) {
                        let is_known = match &engine {
                            Some(engine) => follows.look(self, engine, &id, shutdown).await,
                            None => false,
                        };
                        if !is_known {
                            unknown.insert(id);
                        }
                    }
                    if std::mem::take(&mut is_away) {
                        tracing::info!("the engine answers again");
                    }
                    if std::mem::take(&mut is_first_list) {
                        self.forget_removed(&listed).await;
                    }
                }
                Change::Away(error) => {
                    self.table.engine_away(time::now(), &error);
                    if !std::mem::replace(&mut is_away, true) {
                        tracing::warn!("{error}; waiting for the engine");
                    }
                    engine = None;
                }
            }
        }
        // What follows sees the same request to stop.
        while !follows.tasks.is_empty() {
            let ended = follows.tasks.join_next().await;
            follows.ended(ended, &self.table);
        }
        note_panic(discovery.await);
    }

    /// Whether the container is to be read by the API.
    async fn by_api(&self, engine: &Engine, id: &str) -> Look {
        let container = match inspect(engine, id).await {
            Ok(Some(container)) => container,
            Ok(None) => return Look::Elsewhere,
            Err(error) => {
                tracing::warn!("{error}");
                return Look::Unknown;
            }
        };
        if let Some(directory) = &self.directory {
            if direct::sees(directory, &container) {
                return Look::Elsewhere;
            }
            // Its directory may just have gone with it: then its files are read to their end.
            if matches!(inspect(engine, id).await, Ok(None)) {
                return Look::Elsewhere;
            }
        }
        let Some(plan) = (self.plans)(&container) else { return Look::Elsewhere };
        self.table.set(id, &container.name, Way::Api);
        Look::Api(Box::new((container, plan)))
    }

    /// Containers that were read by an earlier process and are no more: nobody can tell what they wrote last.
    async fn forget_removed(&self, listed: &HashSet<String>) {
        for (source, meta, cursor) in self.intake.sources().all() {
            let (Origin::Engine { id, container, .. }, Some(cursor)) = (&meta.origin, cursor)
            else {
                continue;
            };
            let has_files = self.directory.as_deref().is_some_and(|files| files.join(id).is_dir());
            if listed.contains(id) || has_files || self.intake.sources().is_over(source) {
                continue;
            }
            tracing::warn!(container, "removed while nobody read it");
            if let Err(IntakeClosed) = forget(&self.intake, source, &cursor).await {
                return;
            }
        }
    }
}

/// What is to be done about a container.
enum Look {
    /// It is read by the API.
    Api(Box<(Container, ContainerPlan)>),
    /// It is read from its files, or not at all.
    Elsewhere,
    /// The engine did not say.
    Unknown,
}

/// The container; `None` when it is gone or going.
async fn inspect(engine: &Engine, id: &str) -> Result<Option<Container>, EngineError> {
    match engine.inspect_container(id).await {
        Ok(container) if container.status == "removing" || container.status == "dead" => Ok(None),
        Ok(container) => Ok(Some(container)),
        Err(error) if error.kind() == EngineErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The end of a source of which nothing is left.
async fn forget(intake: &Intake, source: SourceId, cursor: &Cursor) -> Result<(), IntakeClosed> {
    let from = match cursor {
        Cursor::Direct(cursor) => cursor.last.iter().map(|line| line.ts).max(),
        // Its last run was read to its end, and that was told.
        Cursor::Api(cursor) if cursor.ended.is_some() => {
            return intake.send(Message::End(source)).await;
        }
        Cursor::Api(cursor) => cursor.newest.max(cursor.ahead.iter().map(|run| run.seen.ts).max()),
        Cursor::File(_) => None,
    };
    let gap = Gap {
        from_byte: None,
        reason: GapReason::Removed,
        from,
        to: None,
        bytes: None,
        lines: None,
        exact: false,
    };
    let now = time::now();
    let mut processor = Processor::new(Arc::default());
    processor.control(from.unwrap_or(now), Stream::Stdout, &Control::Gap(gap));
    processor.control(now, Stream::Stdout, &Control::Stopped);
    if let Some(taken) = processor.take() {
        let cursor = cursor.clone();
        intake.send(Message::Chunk(Chunk { source, block: taken.block, cursor })).await?;
    }
    intake.send(Message::End(source)).await
}

/// Containers that are read by the API.
#[derive(Default)]
struct Follows {
    tasks: JoinSet<(String, FollowEnd)>,
    /// Who is told of what happens to them.
    running: BTreeMap<String, Arc<Notify>>,
    gate: Gate,
}

impl Follows {
    /// Something happened to the container.
    fn tell(&self, id: &str) {
        if let Some(changed) = self.running.get(id) {
            changed.notify_one();
        }
    }

    /// Something happened to the container, or it is new. Whether it is known what to do about it.
    async fn look(
        &mut self,
        source: &Source,
        engine: &Engine,
        id: &str,
        shutdown: &Shutdown,
    ) -> bool {
        if let Some(changed) = self.running.get(id) {
            changed.notify_one();
            return true;
        }
        match source.by_api(engine, id).await {
            Look::Api(found) => {
                let (container, plan) = *found;
                self.start(source, engine, &container, plan, shutdown, Mode::Follow);
                true
            }
            Look::Elsewhere => true,
            Look::Unknown => false,
        }
    }

    /// The one place where the API is followed.
    fn start(
        &mut self,
        source: &Source,
        engine: &Engine,
        container: &Container,
        plan: ContainerPlan,
        shutdown: &Shutdown,
        mode: Mode,
    ) {
        let changed = Arc::new(Notify::new());
        self.running.insert(container.id.clone(), changed.clone());
        let id = container.id.clone();
        let follow = api::follow::follow(Followed {
            engine: engine.clone(),
            id: id.clone(),
            meta: plan.meta,
            process: plan.process,
            gate: self.gate.clone(),
            changed,
            intake: source.intake.clone(),
            stop: shutdown.clone(),
            once: mode == Mode::Once,
        });
        self.tasks.spawn(async move { (id, follow.await) });
    }

    fn ended(
        &mut self,
        ended: Option<Result<(String, FollowEnd), JoinError>>,
        table: &FollowedTable,
    ) -> Option<FollowEnd> {
        match ended? {
            Ok((id, end)) => {
                table.remove(&id);
                self.running.remove(&id);
                if let FollowEnd::Unreadable(error) = &end {
                    tracing::warn!("{error}");
                }
                Some(end)
            }
            Err(error) => {
                note_panic(Err(error));
                None
            }
        }
    }
}

fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
