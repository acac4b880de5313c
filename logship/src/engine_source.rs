//! The containers of an engine as sources: each by the better way there is, its files or the API.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use chores_common::engine::{
    Container, ContainerFilter, Engine, EngineError, EngineErrorKind, own_container_id,
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

/// Where the engine is, and its files.
#[derive(Debug, Clone, Default)]
pub struct EngineSettings {
    /// In the forms of `DOCKER_HOST`; the usual socket when absent.
    pub host: Option<String>,
    /// The engine's directory of containers; the usual one, if it is there, when absent.
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
        let usual = || Some(PathBuf::from(CONTAINERS_DIRECTORY)).filter(|path| path.is_dir());
        self.files.clone().or_else(usual)
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
/// are driven by `runtime`.
pub fn run(
    settings: &EngineSettings,
    planner: Arc<Planner>,
    intake: &Intake,
    shutdown: &Shutdown,
    mode: Mode,
    runtime: &Handle,
    table: &Arc<FollowedTable>,
) -> Result<(), EngineSourceError> {
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
        match runtime.block_on(source.run(shutdown, mode)) {
            Ok(()) => {}
            // The files say everything that the engine would.
            Err(error) => tracing::warn!("{error}; only log files are read"),
        }
        match reading.join() {
            Ok(read) => Ok(read?),
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
    async fn run(&self, shutdown: &Shutdown, mode: Mode) -> Result<(), EngineError> {
        match mode {
            Mode::Once => self.once(shutdown, mode).await,
            Mode::Follow => {
                self.follow(shutdown).await;
                Ok(())
            }
        }
    }

    async fn once(&self, shutdown: &Shutdown, mode: Mode) -> Result<(), EngineError> {
        let engine = Engine::connect(self.host.as_deref()).await?;
        let filter = ContainerFilter { all: true, ..ContainerFilter::default() };
        let mut follows = Follows::default();
        for listed in engine.list_containers(&filter).await? {
            if let Some((container, plan)) = self.by_api(&engine, &listed.id).await {
                follows.start(self, &engine, &container, plan, shutdown, mode);
            }
        }
        let mut failed = None;
        while !follows.tasks.is_empty() {
            let ended = follows.tasks.join_next().await;
            if let Some(FollowEnd::Failed(error)) = follows.ended(ended, &self.table) {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(()), Err)
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
                    if let Some(changed) = follows.running.get(&id) {
                        changed.notify_one();
                    }
                }
                Change::Appeared(id) | Change::Started(id) => {
                    listed.insert(id.clone());
                    if engine.is_none() {
                        engine = Engine::connect(self.host.as_deref()).await.ok();
                    }
                    if let Some(engine) = &engine {
                        follows.look(self, engine, &id, shutdown).await;
                    }
                }
                Change::Complete => {
                    self.table.engine_back();
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

    /// The container, if it is to be read by the API.
    async fn by_api(&self, engine: &Engine, id: &str) -> Option<(Container, ContainerPlan)> {
        let container = match engine.inspect_container(id).await {
            Ok(container) => container,
            Err(error) if error.kind() == EngineErrorKind::NotFound => return None,
            Err(error) => {
                tracing::warn!("{error}");
                return None;
            }
        };
        if self.directory.as_deref().is_some_and(|directory| direct::sees(directory, &container)) {
            return None;
        }
        let plan = (self.plans)(&container)?;
        self.table.set(id, &container.name, Way::Api);
        Some((container, plan))
    }

    /// Containers that were read by an earlier process and are no more: nobody can tell what they wrote last.
    async fn forget_removed(&self, listed: &HashSet<String>) {
        for (source, meta, cursor) in self.intake.sources().all() {
            let (Origin::Engine { id, container, .. }, Some(cursor)) = (&meta.origin, cursor)
            else {
                continue;
            };
            let has_files = self.directory.as_deref().is_some_and(|files| files.join(id).is_dir());
            if listed.contains(id) || has_files {
                continue;
            }
            tracing::warn!(container, "removed while nobody read it");
            if let Err(IntakeClosed) = forget(&self.intake, source, &cursor).await {
                return;
            }
        }
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
        Cursor::Api(cursor) => cursor.newest,
        Cursor::File(_) => None,
    };
    let gap =
        Gap { reason: GapReason::Removed, from, to: None, bytes: None, lines: None, exact: false };
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
    /// Something happened to the container, or it is new.
    async fn look(&mut self, source: &Source, engine: &Engine, id: &str, shutdown: &Shutdown) {
        if let Some(changed) = self.running.get(id) {
            changed.notify_one();
        } else if let Some((container, plan)) = source.by_api(engine, id).await {
            self.start(source, engine, &container, plan, shutdown, Mode::Follow);
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
