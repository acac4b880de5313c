//! What a drill makes in the engine, and how all of it goes again.
//!
//! Containers and volumes carry a label and their parent, so the next drill removes what a killed one left.

use std::collections::BTreeMap;

use chores_common::engine::{
    ContainerSpec, Engine, EngineError, MountSource, MountSpec, NewVolume,
};

use super::DrillError;
use crate::snapshot::Source;
use crate::worker::{DRILL_LABEL, PARENT_LABEL};

#[cfg(test)]
mod tests;

/// The engine can always read back what this driver keeps.
const LOG_DRIVER: &str = "json-file";

/// Names and labels of what one drill makes.
#[derive(Debug)]
pub(super) struct Scratch {
    run: String,
    parent: String,
    containers: Vec<String>,
    volumes: Vec<String>,
}

impl Scratch {
    /// For a drill by this parent.
    pub(super) fn new(parent: String) -> Result<Self, DrillError> {
        let run = format!("{:016x}", getrandom::u64().map_err(DrillError::Random)?);
        Ok(Self { run, parent, containers: Vec::new(), volumes: Vec::new() })
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let labels = [(DRILL_LABEL, "1"), (PARENT_LABEL, &self.parent)];
        labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    /// An empty volume.
    pub(super) async fn volume(&mut self, engine: &Engine) -> Result<String, EngineError> {
        let name = format!("chores-drill-{}-{}", self.run, self.volumes.len());
        self.volumes.push(name.clone());
        let new =
            NewVolume { name: Some(name.clone()), labels: self.labels(), ..NewVolume::default() };
        engine.create_volume(&new).await?;
        Ok(name)
    }

    /// A container, made and started.
    pub(super) async fn start(
        &mut self,
        engine: &Engine,
        spec: ContainerSpec,
    ) -> Result<String, EngineError> {
        let name = format!("chores-drill-{}-{}", self.run, self.containers.len());
        self.containers.push(name.clone());
        let spec = ContainerSpec {
            name: Some(name),
            network: Some("none".to_owned()),
            labels: self.labels(),
            log_driver: Some(LOG_DRIVER.to_owned()),
            ..spec
        };
        let id = engine.create_container(&spec).await?;
        engine.start(&id).await?;
        Ok(id)
    }

    /// Removes everything.
    pub(super) async fn clear(self, engine: &Engine) {
        for container in &self.containers {
            if let Err(error) = engine.remove(container, true).await {
                tracing::warn!("the container {container} of the drill is left behind: {error}");
            }
        }
        for volume in &self.volumes {
            if let Err(error) = engine.remove_volume(volume).await {
                tracing::warn!("the volume {volume} of the drill is left behind: {error}");
            }
        }
    }
}

/// The copies of sources at their old places.
pub(super) fn mounts(copies: &[(&Source, String)], read_only: bool) -> Vec<MountSpec> {
    let mount = |(source, volume): &(&Source, String)| MountSpec {
        source: MountSource::Volume(volume.clone()),
        target: source.path.clone().into(),
        read_only,
    };
    copies.iter().map(mount).collect()
}
