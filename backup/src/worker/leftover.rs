//! Workers whose parent was killed.
//!
//! A worker carries its parent in a label. One that ended and whose parent is surely gone is removed; one
//! that still runs does its work to the end and is only named. In doubt nothing is touched: the parent may
//! be reading the last lines of its worker just now.

use chores_common::engine::{
    Container, ContainerFilter, ContainerState, Engine, EngineError, EngineErrorKind,
};
use serde::{Deserialize, Serialize};

use super::spec::WORKER_LABEL;
use crate::machine::{Seen, boot_id, see, start_of};
use crate::quiesce::GUARD_LABEL;

#[cfg(test)]
mod tests;

/// Label with the process that attends a worker or a drill.
pub(crate) const PARENT_LABEL: &str = "chores.backup.parent";

/// Label of everything that a drill makes, `1`.
pub(crate) const DRILL_LABEL: &str = "chores.backup.drill";

/// A process that attends a worker, known again from other processes on the same engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Parent {
    /// The machine's or container's name.
    host: String,
    /// The container it is in.
    container: Option<String>,
    /// The boot of its machine.
    boot: String,
    /// Its namespace of process ids.
    namespace: String,
    /// Its process id there.
    pid: u32,
    /// When it started, in clock ticks after the boot.
    start: u64,
}

/// What is known about a parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Alive,
    Gone,
    Unknown,
}

impl Parent {
    /// This process; `container` is the id of the one it is in.
    pub(super) fn this(container: Option<&str>) -> Self {
        let pid = std::process::id();
        let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap_or_default();
        Self {
            host: super::host_name(),
            container: container.map(str::to_owned),
            boot: boot_id().unwrap_or_default(),
            namespace: namespace.display().to_string(),
            pid,
            start: start_of(pid).unwrap_or_default(),
        }
    }

    /// For [`PARENT_LABEL`].
    pub(super) fn to_label(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    fn from_label(label: &str) -> Option<Self> {
        serde_json::from_str(label).ok()
    }

    /// What became of this parent, as seen by `ours`. `is_running` tells whether this parent's container
    /// runs, `see` what is seen of the process with an id.
    fn fate(&self, ours: &Self, is_running: bool, see: impl Fn(u32) -> Seen) -> Fate {
        let is_same_place = self.boot == ours.boot && self.namespace == ours.namespace;
        let by = |alive| if alive { Fate::Alive } else { Fate::Gone };
        match &self.container {
            _ if is_same_place => match see(self.pid) {
                Seen::Since(start) => by(start == self.start),
                Seen::Nobody => Fate::Gone,
                Seen::Hidden => Fate::Unknown,
            },
            // The same container was started again.
            Some(id) if ours.container.as_ref() == Some(id) => Fate::Gone,
            Some(_) => by(is_running),
            // The same machine was started again.
            None if self.host == ours.host && self.boot != ours.boot => Fate::Gone,
            None => Fate::Unknown,
        }
    }
}

/// Removes everything of drills whose parent is gone, running or not: nobody looks at it any more.
pub(super) async fn clear_drills(engine: &Engine, ours: &Parent) -> Result<(), EngineError> {
    let label = format!("{DRILL_LABEL}=1");
    let filter = ContainerFilter { labels: vec![label.clone()], all: true };
    for container in engine.list_containers(&filter).await? {
        if is_orphan(engine, ours, container.labels.get(PARENT_LABEL)).await? {
            engine.remove(&container.id, true).await?;
            tracing::info!("removed the container {} of a killed drill or restore", container.name);
        }
    }
    for volume in engine.list_volumes(&[label]).await? {
        if is_orphan(engine, ours, volume.labels.get(PARENT_LABEL)).await? {
            match engine.remove_volume(&volume.name).await {
                Ok(()) => tracing::info!("removed the volume {} of a killed drill", volume.name),
                // Its worker is still at it: next time.
                Err(error) => tracing::warn!("{error}"),
            }
        }
    }
    Ok(())
}

/// Whether the parent that a label names is surely gone.
async fn is_orphan(
    engine: &Engine,
    ours: &Parent,
    label: Option<&String>,
) -> Result<bool, EngineError> {
    let Some(parent) = label.and_then(|label| Parent::from_label(label)) else { return Ok(false) };
    let runs = runs(engine, parent.container.as_deref()).await?;
    Ok(parent.fate(ours, runs, see) == Fate::Gone)
}

/// Removes ended workers and guards of dead parents.
pub(super) async fn clear(engine: &Engine, ours: &Parent) -> Result<(), EngineError> {
    clear_labelled(engine, ours, WORKER_LABEL, "worker").await?;
    clear_labelled(engine, ours, GUARD_LABEL, "guard").await
}

async fn clear_labelled(
    engine: &Engine,
    ours: &Parent,
    label: &str,
    noun: &str,
) -> Result<(), EngineError> {
    let filter = ContainerFilter { labels: vec![format!("{label}=1")], all: true };
    for worker in engine.list_containers(&filter).await? {
        let parent = worker.labels.get(PARENT_LABEL).and_then(|label| Parent::from_label(label));
        let fate = match &parent {
            Some(parent) => {
                parent.fate(ours, runs(engine, parent.container.as_deref()).await?, see)
            }
            None => Fate::Unknown,
        };
        match (fate, worker.state) {
            (Fate::Alive, _) => {}
            (Fate::Gone, ContainerState::NotRunning) => {
                // One that the engine is about to start again stays for the next run.
                match engine.remove(&worker.id, false).await {
                    Ok(()) => tracing::info!("removed the {noun} {} of a killed run", worker.name),
                    Err(error) => tracing::warn!("{error}"),
                }
            }
            (Fate::Gone, ContainerState::Running | ContainerState::Paused) => {
                tracing::warn!(
                    "the {noun} {} of a killed run still works; it is left alone",
                    worker.name
                );
            }
            (Fate::Unknown, _) => {
                tracing::debug!(worker = worker.name, "the parent of a worker is not known here");
            }
        }
    }
    Ok(())
}

async fn runs(engine: &Engine, container: Option<&str>) -> Result<bool, EngineError> {
    let Some(container) = container else { return Ok(false) };
    match engine.inspect_container(container).await {
        Ok(Container { running, .. }) => Ok(running),
        Err(error)
            if matches!(error.kind(), EngineErrorKind::NotFound | EngineErrorKind::Invalid) =>
        {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}
