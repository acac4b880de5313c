//! A database dump back into a running database, through the target's own client.
//!
//! ```text
//! choose → plan → look what is there → prove that the dump is sound → client by client: content, end, answer
//! ```
//! The client is believed when it ended with 0 behind a mark, read all of its input, and, where a text that is
//! cut off would pass for a whole one, answered to the question that stands behind it.

mod content;
mod plan;
pub(crate) mod run;

use std::time::Duration;

use chores_common::engine::{
    Container, ContainerSpec, Engine, EngineError, MountKind, VolumesFrom,
};
use chores_common::shutdown::Shutdown;

use crate::browse::BrowseError;
use crate::database::Target;
use crate::repository::Repository;
use crate::snapshot::{DumpKind, Snapshot};
use crate::worker::{self, WorkerError};

use plan::refuse_mixing;
pub use plan::{Chosen, Plan, PlanError, Step, Wishes, choose, plan};
pub(crate) use plan::{is_of_unknown_program, name_of};
pub use run::RunError;

/// How long a helper container may take to end.
const HELPER_GRACE: Duration = Duration::from_secs(1);

/// What keeps a container alive in which only our lines run.
pub(crate) const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";

/// How the dump goes back.
#[derive(Clone, Debug, Default)]
pub struct IntoOptions {
    /// See [`Wishes`].
    pub wishes: Wishes,
    /// Read the dump once before anything is touched: a damaged one must not cost the old data.
    pub prove: bool,
    /// Only look.
    pub dry_run: bool,
}

/// What was restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntoReport {
    /// Files of the dump.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What was there before and gave way.
    pub replaced: Vec<String>,
}

/// Why the dump is not back.
#[derive(Debug, thiserror::Error)]
pub enum IntoError {
    /// The request makes no sense.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The target cannot run a client.
    #[error("the container {0} does not run: start it, its own client takes the dump")]
    NotRunning(String),
    /// The target cannot run a client.
    #[error("the container {0} is paused: let it go on, its own client takes the dump")]
    Paused(String),
    /// There is data.
    #[error(
        "the container {container} is not empty, it has {found}: --replace lets the dump take their place; nothing was changed"
    )]
    Occupied {
        /// The target.
        container: String,
        /// The first of what is there.
        found: String,
    },
    /// A program in the target did not do it.
    #[error("cannot {act} in {container}: {problem}; {state}")]
    Step {
        /// What.
        act: String,
        /// Where.
        container: String,
        /// Why.
        problem: String,
        /// What is left.
        state: String,
    },
    /// It is not known what a program in the target did.
    #[error("cannot {act}; {state}")]
    Run {
        /// What.
        act: String,
        /// What is left.
        state: String,
        /// Why.
        #[source]
        source: RunError,
    },
    /// The dump cannot be read.
    #[error("cannot read the dump; {state}")]
    Content {
        /// What is left.
        state: String,
        /// Why.
        #[source]
        source: BrowseError,
    },
    /// A file that is in no volume of a stopped container.
    #[error(
        "{path} is in no volume of the container {container}, which does not run: start it, or restore with --target"
    )]
    NoVolume {
        /// The file.
        path: String,
        /// The target.
        container: String,
    },
    /// Others use the volume.
    #[error(transparent)]
    InUse(#[from] WorkerError),
    /// The system has no random numbers.
    #[error("cannot get random numbers: {0}")]
    Random(getrandom::Error),
    /// SIGINT or SIGTERM.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

const UNTOUCHED: &str = "nothing was changed";

/// Restores what was chosen of a snapshot into a container (name or id).
pub async fn restore_into(
    engine: &Engine,
    repository: &Repository,
    snapshot: &Snapshot,
    chosen: &Chosen,
    container: &str,
    options: &IntoOptions,
    shutdown: &Shutdown,
) -> Result<IntoReport, IntoError> {
    let target = engine.inspect_container(container).await?;
    if target.paused {
        return Err(IntoError::Paused(target.name));
    }
    if chosen.record.kind == DumpKind::Sqlite {
        for file in &chosen.files {
            let path = file.database.as_deref().unwrap_or_default();
            let holds = |mount: &&chores_common::engine::Mount| {
                mount.kind != MountKind::Tmpfs
                    && std::path::Path::new(path).starts_with(&mount.destination)
            };
            // The deepest hides the others.
            let depth = |mount: &&chores_common::engine::Mount| mount.destination.as_os_str().len();
            match target.mounts.iter().filter(holds).max_by_key(depth) {
                Some(mount) => worker::refuse_sharers(engine, mount, &target.id).await?,
                None if target.running => {}
                None => {
                    let path = path.to_owned();
                    return Err(IntoError::NoVolume { path, container: target.name });
                }
            }
        }
    }
    if target.running {
        return into_running(
            engine, repository, snapshot, chosen, &target, &target.id, options, shutdown,
        )
        .await;
    }
    if chosen.record.kind != DumpKind::Sqlite {
        return Err(IntoError::NotRunning(target.name));
    }
    // Files need no server: they go in by a helper of the same image with the volumes of the target.
    let parent = worker::clear_leftovers(engine).await?;
    let helper = engine.create_container(&helper(&target, parent)).await?;
    let outcome = async {
        engine.start(&helper).await?;
        into_running(engine, repository, snapshot, chosen, &target, &helper, options, shutdown)
            .await
    }
    .await;
    if let Err(error) = engine.stop(&helper, HELPER_GRACE).await {
        tracing::debug!("{error}");
    }
    if let Err(error) = engine.remove(&helper, true).await {
        tracing::warn!("the helper {helper} is left behind: {error}");
    }
    outcome
}

/// A container of the target's image that waits, with the target's volumes; `parent` is in its label, so that what a
/// killed run leaves goes with the next.
fn helper(target: &Container, parent: String) -> ContainerSpec {
    let labels = [(worker::DRILL_LABEL, "1".to_owned()), (worker::PARENT_LABEL, parent)];
    ContainerSpec {
        labels: labels.map(|(name, value)| (name.to_owned(), value)).into(),
        image: target.image_id.clone(),
        entrypoint: Some(vec!["/bin/sh".to_owned()]),
        command: vec!["-c".to_owned(), IDLE.to_owned()],
        volumes_from: vec![VolumesFrom { container: target.id.clone(), read_only: false }],
        network: Some("none".to_owned()),
        user: Some("0:0".to_owned()),
        keep_default_capabilities: true,
        ..ContainerSpec::default()
    }
}

/// What is known of a target beside its kind.
pub(crate) fn target_of(container: &Container) -> Target {
    Target { command: container.command.clone(), ..Target::default() }
}

#[expect(
    clippy::too_many_arguments,
    reason = "the target and where its lines run differ for stopped ones"
)]
async fn into_running(
    engine: &Engine,
    repository: &Repository,
    snapshot: &Snapshot,
    chosen: &Chosen,
    target: &Container,
    place: &str,
    options: &IntoOptions,
    shutdown: &Shutdown,
) -> Result<IntoReport, IntoError> {
    let number = getrandom::u64().map_err(IntoError::Random)?;
    let plan = plan(chosen, &target_of(target), &options.wishes, &format!("{number:016x}"))?;
    let mut report = IntoReport::default();
    if let Some(feed) = &plan.occupied {
        let act = format!("look into the container {}", target.name);
        let said = run::run(engine, place, feed, None, shutdown).await.map_err(|source| {
            IntoError::Run { act: act.clone(), state: UNTOUCHED.to_owned(), source }
        })?;
        if !said.is_good() {
            return Err(IntoError::Step {
                act: "see what is there".to_owned(),
                container: target.name.clone(),
                problem: said.complaint(),
                state: UNTOUCHED.to_owned(),
            });
        }
        report.replaced = said.items("occupied");
        if !report.replaced.is_empty() && !options.wishes.replace {
            let found = report.replaced.join(", ");
            return Err(IntoError::Occupied { container: target.name.clone(), found });
        }
        refuse_mixing(&chosen.record, &report.replaced)?;
    }
    report.files = chosen.files.len() as u64;
    report.bytes = chosen.files.iter().map(|file| file.bytes).sum();
    if options.prove || options.dry_run {
        for file in plan.steps.iter().filter_map(|step| step.file.as_deref()) {
            content::prove(repository, snapshot, file, shutdown)
                .await
                .map_err(|source| unreadable(source, UNTOUCHED))?;
        }
    }
    if options.dry_run {
        return Ok(report);
    }
    let mut state = UNTOUCHED.to_owned();
    for step in &plan.steps {
        if shutdown.is_requested() {
            return Err(IntoError::Interrupted(state));
        }
        take(engine, repository, snapshot, step, (&target.name, place), shutdown).await?;
        state = format!("it did: {}; not what comes after that", step.act);
    }
    Ok(report)
}

/// One step; `container` is the name of the target and where its lines run.
async fn take(
    engine: &Engine,
    repository: &Repository,
    snapshot: &Snapshot,
    step: &Step,
    (name, place): (&str, &str),
    shutdown: &Shutdown,
) -> Result<(), IntoError> {
    let file = step.file.as_deref();
    let content =
        file.map(|file| content::open(repository, snapshot, file, step.tail.clone(), shutdown));
    let (pieces, reader) = content.map(|content| (content.pieces, content.reader)).unzip();
    let said = run::run(engine, place, &step.feed, pieces, shutdown).await;
    if let Some(reader) = reader
        && let Err(error) = content::finished(reader).await
        // The client went away first: its own words come below.
        && !error.is_broken_pipe()
    {
        return Err(unreadable(error, &step.after_failure));
    }
    let said = said.map_err(|source| match source {
        RunError::Interrupted => IntoError::Interrupted(format!(
            "it may still be going on in {name}; when it has failed: {}",
            step.after_failure
        )),
        source => IntoError::Run {
            act: format!("{} in {name}", step.act),
            state: step.after_failure.clone(),
            source,
        },
    })?;
    let has_answered = step.answer.is_none_or(|answer| {
        String::from_utf8_lossy(&said.output).lines().any(|line| line.trim() == answer)
    });
    if said.is_good() && has_answered {
        return Ok(());
    }
    let problem = if said.is_good() {
        "the client did not read to the end of the dump".to_owned()
    } else {
        said.complaint()
    };
    Err(IntoError::Step {
        act: step.act.clone(),
        container: name.to_owned(),
        problem,
        state: step.after_failure.clone(),
    })
}

fn unreadable(error: BrowseError, state: &str) -> IntoError {
    match error {
        BrowseError::Interrupted => IntoError::Interrupted(state.to_owned()),
        source => IntoError::Content { state: state.to_owned(), source },
    }
}
