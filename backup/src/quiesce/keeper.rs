//! A run's own side: makes containers hold still, and lets them go on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chores_common::engine::{Container, Engine, EngineError, MountKind};
use chores_common::exit::chain;
use chores_common::shutdown::Shutdown;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::QuiesceError;
use super::guard::{Guard, GuardImage};
use super::hook;
use super::journal::{Document, Journal, JournalError};
use super::message::ToGuard;
use super::plan::{
    self, Action, HookProgress, Identity, Needs, Plan, Progress, Quiet, Request, Target,
};
use super::restore::{self, Found};
use crate::create::{CreateError, Stillness};
use crate::text;

/// How long a command before is waited for once the run was asked to stop: a run of `serve` is killed after a minute.
const INTERRUPTED_HOOK_TIME_MAX: Duration = Duration::from_secs(20);

/// What a run needs to keep containers still.
#[derive(Debug)]
pub struct KeeperOptions<'a> {
    /// What was asked for.
    pub request: &'a Request,
    /// The state directory, if there is a place for one.
    pub state: Option<PathBuf>,
    /// What the guard is made from; without one there is none.
    pub guard: Option<GuardImage>,
    /// How long containers may be held still; as long as it takes when absent.
    pub time_max: Option<Duration>,
}

/// Containers that hold still from [`Keeper::hold`] to [`Keeper::release`]. Clones are the same.
#[derive(Clone, Debug)]
pub struct Keeper {
    inner: Arc<Mutex<Inner>>,
    time_max: Option<Duration>,
    ids: Arc<BTreeSet<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Before,
    Held,
    Released,
}

#[derive(Debug)]
struct Inner {
    engine: Engine,
    pre: Vec<plan::Hook>,
    quiet: Vec<Quiet>,
    journal: Option<Journal>,
    guard: Option<Guard>,
    /// What another guard would be made from.
    image: Option<GuardImage>,
    own: Option<Container>,
    shutdown: Shutdown,
    phase: Phase,
    warnings: Vec<String>,
    /// Something could not be let go on.
    has_failed: bool,
    /// The container where a command before still runs, of a run that was asked to stop.
    unfinished: Option<String>,
}

impl Keeper {
    /// Plans, writes the journal and starts the guard. Nothing is touched yet.
    pub async fn start(
        engine: &Engine,
        options: KeeperOptions<'_>,
        shutdown: &Shutdown,
    ) -> Result<Self, QuiesceError> {
        let own = engine.own_container().await?;
        let mut inspected: BTreeMap<&str, Container> = BTreeMap::new();
        for name in options.request.names() {
            if !inspected.contains_key(name.as_str()) {
                inspected.insert(name, engine.inspect_container(name).await?);
            }
        }
        let own_id = own.as_ref().map(|own| own.id.as_str());
        let way = engine.addresses().await;
        let needs = Needs { own: own_id, engine: &way };
        let plan = plan::plan(options.request, |name| inspected.get(name), needs)?;
        let Plan { pre, targets, post, quiet } = plan;
        for quiet in &quiet {
            tracing::info!("{} holds still already, and is left as it is", quiet.container.name);
        }
        let ids = targets.iter().map(|target| &target.container);
        let ids = ids.chain(quiet.iter().map(|quiet| &quiet.container));
        let ids = Arc::new(ids.map(|container| container.id.clone()).collect());
        let mut inner = Inner {
            engine: engine.clone(),
            pre,
            quiet,
            journal: None,
            guard: None,
            image: options.guard.clone(),
            own: own.clone(),
            shutdown: shutdown.clone(),
            phase: Phase::Before,
            warnings: Vec::new(),
            has_failed: false,
            unfinished: None,
        };
        if !targets.is_empty() || !post.is_empty() {
            let state = place(options.state, own.as_ref(), options.guard.is_some())?;
            let now = jiff::Timestamp::now();
            let mut document = Document::new(engine.host().to_string(), now, targets, post)?;
            document.engine_id = engine.id().await?;
            let journal = Journal::create(&state, document)?;
            if let Some(image) = &options.guard {
                match Guard::start(engine, image, own.as_ref(), &journal.document).await {
                    Ok(guard) => inner.guard = Some(guard),
                    Err(error) => {
                        journal.remove()?;
                        return Err(error);
                    }
                }
            }
            inner.journal = Some(journal);
        }
        Ok(Self { inner: Arc::new(Mutex::new(inner)), time_max: options.time_max, ids })
    }

    /// Ids of the containers that hold still, or will.
    #[must_use]
    pub fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }

    /// Runs the commands before, and makes the containers hold still. What fails is undone. Goes on to its end even when
    /// nobody waits for it any more; that is true of all of these.
    pub async fn hold(&self) -> Result<(), QuiesceError> {
        let (inner, time_max) = (Arc::clone(&self.inner), self.time_max);
        to_the_end(async move {
            let mut open = inner.lock().await;
            match open.phase {
                Phase::Before => {}
                Phase::Held => return Ok(()),
                // By what went wrong for another source, or by the limit.
                Phase::Released => return Err(QuiesceError::LetGo),
            }
            open.phase = Phase::Held;
            let mut held = open.look_again().await;
            if held.is_ok() {
                held = open.before().await;
            }
            if held.is_ok() {
                if let Some(time_max) = time_max {
                    tokio::spawn(let_go_after(time_max, Arc::clone(&inner)));
                }
                held = open.hold_all(time_max).await;
            }
            if held.is_err() {
                open.release().await;
                for warning in std::mem::take(&mut open.warnings) {
                    tracing::warn!("{warning}");
                }
            }
            held
        })
        .await
    }

    /// Looks whether everything holds still, and lets nothing go on. Returns what a person should know of the time up to now.
    pub async fn check(&self) -> Vec<String> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move {
            let mut inner = inner.lock().await;
            if inner.phase == Phase::Held {
                inner.look_at_the_quiet().await;
                inner.look_at_the_held().await;
            }
            inner.warnings.clone()
        })
        .await
    }

    /// Lets the containers go on and runs the commands after. Returns what a person should know, also on every
    /// further call.
    pub async fn release(&self) -> Vec<String> {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move {
            let mut inner = inner.lock().await;
            inner.release().await;
            inner.warnings.clone()
        })
        .await
    }

    /// The end, however it came: everything goes on, journal and guard go. Whether all is well.
    pub async fn finish(&self) -> bool {
        let inner = Arc::clone(&self.inner);
        to_the_end(async move {
            let mut inner = inner.lock().await;
            inner.finish().await
        })
        .await
    }
}

/// Does it as a task of its own, so that it is not given up half-way.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    match tokio::spawn(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down.
            Err(_) => std::future::pending().await,
        },
    }
}

async fn let_go_after(time_max: Duration, inner: Arc<Mutex<Inner>>) {
    sleep(time_max).await;
    let mut inner = inner.lock().await;
    inner.let_go_at(time_max).await;
}

async fn ask(engine: &Engine, target: &Target) -> Result<(), QuiesceError> {
    let id = &target.container.id;
    let asked = match target.action {
        Action::Pause => engine.pause(id).await,
        Action::Stop => engine.stop(id, target.time_to_act()).await,
    };
    Ok(asked?)
}

/// What is told of a container of which nobody knows whether it held still.
fn unsure(name: &str, error: &EngineError) -> String {
    format!("nobody can say whether {name} held still until everything was read: {error}")
}

/// What is told of a container that did not hold still.
fn moved(name: &str) -> String {
    format!("{name} did not hold still until everything was read: somebody else let it go on")
}

impl Inner {
    /// Takes the targets as they are now, and sees to it that a guard knows them so: reading everything before may have taken
    /// hours, in which the guard may have gone.
    async fn look_again(&mut self) -> Result<(), QuiesceError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        for target in &mut journal.document.targets {
            if let Found::Same(container) | Found::Replaced(container) =
                restore::find(&self.engine, &target.container).await?
            {
                target.renew(&container);
            }
        }
        journal.save()?;
        let (Some(mut guard), Some(image)) = (self.guard.take(), &self.image) else {
            return Ok(());
        };
        if guard.is_fresh() && guard.tell_surely(&ToGuard::Hello).await.is_ok() {
            self.guard = Some(guard);
            return Ok(());
        }
        guard.dismiss().await;
        let own = self.own.as_ref();
        self.guard = Some(Guard::start(&self.engine, image, own, &journal.document).await?);
        Ok(())
    }

    /// The limit is reached.
    async fn let_go_at(&mut self, time_max: Duration) {
        if self.phase == Phase::Held {
            self.warn(format!(
                "the containers were let go on after {} (--max-pause), before everything was read: what was read after that is not of one moment",
                text::duration(time_max)
            ));
            self.release().await;
        }
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Runs the commands before. Those after become due with theirs.
    async fn before(&mut self) -> Result<(), QuiesceError> {
        for hook in std::mem::take(&mut self.pre) {
            if self.shutdown.is_requested() {
                return Err(QuiesceError::Interrupted);
            }
            self.make_due(|after| after.id == hook.container.id).await?;
            let mut run = Box::pin(hook::run(&self.engine, &hook.container.id, &hook.command));
            let Some(ended) = self.shutdown.or(&mut run).await else {
                // It goes on in its container, whatever happens here, and what comes after must not come before its end.
                let is_over = timeout(INTERRUPTED_HOOK_TIME_MAX, run).await.is_ok();
                if !is_over {
                    self.unfinished = Some(hook.container.name.clone());
                }
                return Err(QuiesceError::Interrupted);
            };
            ended.map_err(|reason| QuiesceError::Hook {
                container: hook.container.name.clone(),
                reason,
            })?;
        }
        self.make_due(|_| true).await
    }

    async fn make_due(&mut self, fits: impl Fn(&Identity) -> bool) -> Result<(), QuiesceError> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let mut changed = Vec::new();
        for (number, hook) in journal.document.hooks.iter_mut().enumerate() {
            if hook.progress == HookProgress::Waiting && fits(&hook.container) {
                hook.progress = HookProgress::Due;
                changed.push(number);
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        journal.save()?;
        for number in changed {
            self.tell_surely(&ToGuard::Hook { number, progress: HookProgress::Due }).await?;
        }
        Ok(())
    }

    /// One behind the other. When that alone takes as long as they may hold still, they are let go on, which the snapshot
    /// tells.
    async fn hold_all(&mut self, time_max: Option<Duration>) -> Result<(), QuiesceError> {
        let begun = Instant::now();
        let count = self.journal.as_ref().map_or(0, |journal| journal.document.targets.len());
        for number in 0..count {
            if self.shutdown.is_requested() {
                return Err(QuiesceError::Interrupted);
            }
            let limit = time_max.filter(|time_max| number > 0 && begun.elapsed() >= *time_max);
            if let Some(time_max) = limit {
                self.let_go_at(time_max).await;
                return Ok(());
            }
            self.hold_one(number).await?;
        }
        Ok(())
    }

    async fn hold_one(&mut self, number: usize) -> Result<(), QuiesceError> {
        let Some(mut target) = self.target(number) else { return Ok(()) };
        // Much may have happened since it was planned.
        let container = match restore::find(&self.engine, &target.container).await? {
            Found::Same(container) | Found::Replaced(container) => container,
            Found::Gone => {
                // As the engine says it of what is not there.
                Box::new(self.engine.inspect_container(&target.container.id).await?)
            }
        };
        target.renew(&container);
        if !container.restarting && (!container.running || container.paused) {
            let Target { container, started_at, .. } = target;
            tracing::info!("{} holds still already, and is left as it is", container.name);
            self.quiet.push(Quiet { container, started_at });
            return Ok(());
        }
        // It may be another one than was planned.
        plan::is_quiet(&container, target.action)?;
        target.progress = Progress::Acting;
        target.asked = Some(jiff::Timestamp::now());
        let mut asked = self.note(number, &target).await;
        if asked.is_ok() {
            asked = ask(&self.engine, &target).await;
        }
        if let Err(error) = asked {
            let is_open =
                matches!(&error, QuiesceError::Engine(no) if !restore::is_refusal(no.kind()));
            if !is_open {
                // What it is now, it is by somebody else.
                target.progress = Progress::Planned;
                target.asked = None;
                if let Err(error) = self.note(number, &target).await {
                    tracing::debug!("{}", chain(&error));
                }
            }
            return Err(error);
        }
        let container = self.engine.inspect_container(&target.container.id).await?;
        let holds = match target.action {
            Action::Pause => container.paused,
            Action::Stop => !container.running,
        };
        if !holds || container.started_at != target.started_at {
            let (name, act) = (target.container.name, target.action.verb());
            return Err(QuiesceError::Unmoved { name, act });
        }
        tracing::info!("{} holds still ({})", target.container.name, target.action.verb());
        target.progress = Progress::Held;
        if let Some(known) = self.journal_target(number) {
            known.clone_from(&target);
        }
        self.tell_surely(&ToGuard::Target { number, target: Box::new(target) }).await
    }

    async fn finish(&mut self) -> bool {
        if self.phase == Phase::Before {
            self.phase = Phase::Released;
        }
        self.release().await;
        let mut is_well = !self.has_failed;
        if let Some(journal) = self.journal.take()
            && is_well
            && self.unfinished.is_none()
            && let Err(error) = journal.remove()
        {
            tracing::error!("{}", chain(&error));
            is_well = false;
        }
        if let Some(guard) = self.guard.take() {
            if self.has_failed { guard.leave().await } else { guard.dismiss().await }
        }
        is_well
    }

    /// Everything goes on again.
    async fn release(&mut self) {
        if self.phase != Phase::Held {
            return;
        }
        self.phase = Phase::Released;
        self.look_at_the_quiet().await;
        let Some(mut journal) = self.journal.take() else { return };
        let mut targets = std::mem::take(&mut journal.document.targets);
        // Asked for in vain: it may still come.
        let is_open = targets.iter().any(|target| target.progress == Progress::Acting);
        let outcome = restore::put_back(&self.engine, &mut targets, is_open, &mut |_, _| ()).await;
        for (number, target) in targets.iter().enumerate() {
            self.tell(&ToGuard::Target { number, target: Box::new(target.clone()) }).await;
        }
        journal.document.targets = targets;
        for name in outcome.resumed {
            tracing::info!("{name} goes on");
        }
        for name in outcome.by_others {
            self.warn(moved(&name));
        }
        self.has_failed |= !outcome.failures.is_empty();
        for failure in outcome.failures {
            tracing::error!("{failure}");
            self.warnings.push(failure);
        }
        self.save(&journal);
        if let Some(name) = &self.unfinished {
            tracing::error!(
                "the command before in {name} still runs, and is not waited for: what comes after is left to `backup resume`"
            );
            self.journal = Some(journal);
            return;
        }
        let mut hooks = std::mem::take(&mut journal.document.hooks);
        let mut ran = Vec::new();
        let failures =
            restore::run_hooks(&self.engine, &mut hooks, |_, number| ran.push(number)).await;
        journal.document.hooks = hooks;
        for number in ran {
            self.tell(&ToGuard::Hook { number, progress: HookProgress::Done }).await;
        }
        self.warnings.extend(failures);
        self.save(&journal);
        self.journal = Some(journal);
    }

    /// What held still by itself has to be as it was.
    async fn look_at_the_quiet(&mut self) {
        let mut warnings = Vec::new();
        for quiet in &self.quiet {
            let name = &quiet.container.name;
            match self.engine.inspect_container(&quiet.container.id).await {
                Ok(now) if now.running && !now.paused || now.started_at != quiet.started_at => {
                    warnings.push(moved(name));
                }
                Ok(_) => {}
                Err(error) => warnings.push(unsure(name, &error)),
            }
        }
        warnings.into_iter().for_each(|warning| self.warn(warning));
    }

    /// What we made hold still has to do so.
    async fn look_at_the_held(&mut self) {
        let Some(journal) = &self.journal else { return };
        let mut warnings = Vec::new();
        let targets = journal.document.targets.iter();
        for target in targets.filter(|target| target.progress == Progress::Held) {
            match restore::find(&self.engine, &target.container).await {
                Ok(found) if restore::holds_still(target, &found) => {}
                Ok(_) => warnings.push(moved(&target.container.name)),
                Err(error) => warnings.push(unsure(&target.container.name, &error)),
            }
        }
        warnings.into_iter().for_each(|warning| self.warn(warning));
    }

    /// The journal knows, and the guard, before the engine is asked.
    async fn note(&mut self, number: usize, target: &Target) -> Result<(), QuiesceError> {
        if let Some(known) = self.journal_target(number) {
            known.clone_from(target);
        }
        if let Some(journal) = &self.journal {
            journal.save()?;
        }
        self.tell_surely(&ToGuard::Target { number, target: Box::new(target.clone()) }).await
    }

    /// What is done cannot be undone because it cannot be written down; the next run will find it done.
    fn save(&mut self, journal: &Journal) {
        if let Err(error) = journal.save() {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn target(&self, number: usize) -> Option<Target> {
        self.journal.as_ref()?.document.targets.get(number).cloned()
    }

    fn journal_target(&mut self, number: usize) -> Option<&mut Target> {
        self.journal.as_mut()?.document.targets.get_mut(number)
    }

    /// Where the guard is gone, the journal is left.
    async fn tell(&mut self, message: &ToGuard) {
        if let Some(guard) = &mut self.guard {
            guard.tell(message).await;
        }
    }

    async fn tell_surely(&mut self, message: &ToGuard) -> Result<(), QuiesceError> {
        match &mut self.guard {
            Some(guard) => guard.tell_surely(message).await,
            None => Ok(()),
        }
    }
}

/// The state directory. In a container it has to be in something mounted; with a guard it is only a pity when it is not.
fn place(
    state: Option<PathBuf>,
    own: Option<&Container>,
    has_guard: bool,
) -> Result<PathBuf, JournalError> {
    let state = state.ok_or(JournalError::NoPlace)?;
    let absolute = std::path::absolute(&state).unwrap_or_else(|_| state.clone());
    let stays = own.is_none_or(|own| {
        let mut kept = own.mounts.iter().filter(|mount| mount.kind != MountKind::Tmpfs);
        kept.any(|mount| absolute.starts_with(&mount.destination))
    });
    match (stays, has_guard) {
        (true, _) => Ok(state),
        (false, true) => {
            tracing::warn!(
                "the journal in {} is lost with this container, only the guard is left then: mount a volume at /state",
                state.display()
            );
            Ok(state)
        }
        (false, false) => Err(JournalError::Fleeting(state.display().to_string())),
    }
}

/// A keeper for a backup that this very process makes.
#[derive(Debug)]
pub struct StillHere {
    keeper: Keeper,
    runtime: Handle,
}

impl StillHere {
    /// `runtime` drives the requests; used from outside of it.
    #[must_use]
    pub fn new(keeper: Keeper, runtime: Handle) -> Self {
        Self { keeper, runtime }
    }
}

impl Stillness for StillHere {
    fn begin(&mut self) -> Result<(), CreateError> {
        self.runtime.block_on(self.keeper.hold()).map_err(|error| match error {
            QuiesceError::Interrupted => CreateError::Interrupted,
            error => CreateError::Still(Box::new(error)),
        })
    }

    fn end(&mut self) -> Result<Vec<String>, CreateError> {
        Ok(self.runtime.block_on(self.keeper.release()))
    }
}
