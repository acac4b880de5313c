//! Containers as the broker knows them: what the engine says, and how each is confined.
//!
//! The engine can hang for ever over one container, so every question to it has a deadline.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chores_common::engine::{
    Container, ContainerFilter, Engine, EngineError, EngineErrorKind, ListedContainer,
    own_container_id,
};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::container::bundle::{BundleError, Bundles};
use crate::container::{Specification, SpecificationError};
use crate::hop::Spawner;
use crate::wire::task::{Confinement, Failure, FailureKind, Pin};

use super::refusal::failure_of;

/// The engine answers a question in this time, or it is not answered.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(10);
/// Containers whose confinement is remembered.
const REMEMBERED_MAX: usize = 1024;

/// The containers of one engine.
#[derive(Debug)]
pub(crate) struct Containers {
    pub(crate) engine: Engine,
    bundles: Arc<Bundles>,
    spawner: Arc<Spawner>,
    /// The container that the gateway is in: whoever entered it would have what the gateway has.
    own: Option<String>,
    remembered: Mutex<Remembered>,
}

/// How to run something in a container.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What the runtime says.
    pub(crate) specification: Specification,
    /// The confinement that follows, with its filter.
    pub(crate) confinement: Confinement,
}

/// One run of a container: its id and when it began.
type Run = (String, String);

#[derive(Debug, Default)]
struct Remembered {
    plans: HashMap<Run, Arc<OnceCell<Arc<Plan>>>>,
    order: VecDeque<Run>,
}

impl Containers {
    pub(crate) fn new(engine: Engine, bundles: Bundles, spawner: Arc<Spawner>) -> Self {
        let (bundles, own) = (Arc::new(bundles), own_container_id());
        Self { engine, bundles, spawner, own, remembered: Mutex::default() }
    }

    /// Every container but the gateway's own, running or not.
    pub(crate) async fn list(&self) -> Result<Vec<ListedContainer>, Failure> {
        let filter = ContainerFilter { all: true, ..Default::default() };
        let mut listed = in_time(self.engine.list_containers(&filter)).await?;
        listed.retain(|container| self.own.as_ref() != Some(&container.id));
        Ok(listed)
    }

    /// One container.
    pub(crate) async fn inspect(&self, id: &str) -> Result<Container, Failure> {
        in_time(self.engine.inspect_container(id)).await
    }

    /// How to run something in this container. Once for each of its runs: reading the filter stops the container's
    /// first process for a moment.
    pub(crate) async fn plan(&self, container: &Container) -> Result<Arc<Plan>, Failure> {
        let Some(started) = container.started_at.clone() else {
            // Its runs cannot be told from each other, and the next one may be confined otherwise.
            return self.read_plan(container).await;
        };
        let cell = self.cell((container.id.clone(), started));
        cell.get_or_try_init(|| self.read_plan(container)).await.cloned()
    }

    fn cell(&self, run: Run) -> Arc<OnceCell<Arc<Plan>>> {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = remembered.plans.get(&run) {
            return Arc::clone(cell);
        }
        if remembered.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = remembered.order.pop_front()
        {
            remembered.plans.remove(&oldest);
        }
        let cell = Arc::default();
        remembered.order.push_back(run.clone());
        remembered.plans.insert(run, Arc::clone(&cell));
        cell
    }

    async fn read_plan(&self, container: &Container) -> Result<Arc<Plan>, Failure> {
        let (bundles, id) = (Arc::clone(&self.bundles), container.id.clone());
        let read = move || {
            let bytes = bundles.read(&id).map_err(|error| bundle_failure(&error))?;
            Specification::parse(&bytes).map_err(|error| specification_failure(&error))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let specification =
            read.map_err(|error| failure(FailureKind::Other, error.to_string()))??;
        let filter = if specification.needs_filter() {
            let task = self.spawner.task().await.map_err(|error| failure_of(&error))?;
            task.filter(pin(container)?).await.map_err(|error| failure_of(&error))?
        } else {
            Vec::new()
        };
        let confinement =
            specification.confinement(&filter).map_err(|error| specification_failure(&error))?;
        Ok(Arc::new(Plan { specification, confinement }))
    }
}

/// The first process of a container, so that no other can be taken for it.
pub(crate) fn pin(container: &Container) -> Result<Pin, Failure> {
    let pid = container.pid.and_then(|pid| i32::try_from(pid).ok());
    match pid {
        Some(pid) if container.running => Ok(Pin { pid, container_id: container.id.clone() }),
        _ => Err(failure(FailureKind::TargetGone, "the container is not running")),
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, EngineError>>) -> Result<T, Failure> {
    match timeout(QUESTION_TIME_MAX, question).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => {
            let kind = match error.kind() {
                EngineErrorKind::NotFound => FailureKind::TargetGone,
                EngineErrorKind::Timeout => FailureKind::TimedOut,
                _ => FailureKind::Other,
            };
            Err(failure(kind, error.to_string()))
        }
        Err(_) => Err(failure(FailureKind::TimedOut, "the engine does not answer in time")),
    }
}

/// Where there is no description, the engine's own exec can still do it.
fn bundle_failure(error: &BundleError) -> Failure {
    failure(FailureKind::NotNative, chores_common::exit::chain(error))
}

fn specification_failure(error: &SpecificationError) -> Failure {
    let kind = match error {
        SpecificationError::NotReproducible(_) | SpecificationError::Malformed(_) => {
            FailureKind::NotNative
        }
        SpecificationError::NoFilter | SpecificationError::TornFilter(_) => {
            FailureKind::Confinement
        }
    };
    failure(kind, error.to_string())
}

pub(crate) fn failure(kind: FailureKind, reason: impl Into<String>) -> Failure {
    Failure { kind, reason: reason.into() }
}
