//! Volumes.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;

use bollard::models::{Volume as BollardVolume, VolumeCreateRequest};
use bollard::query_parameters::{ListVolumesOptions, RemoveVolumeOptions};

use super::Engine;
use super::error::{EngineError, EngineErrorKind, Request};

/// A volume as inspected.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Volume {
    /// Its name; 64 hexadecimal digits for an anonymous one.
    pub name: String,
    /// `local` or a plugin.
    pub driver: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What the driver was told at creation.
    pub options: BTreeMap<String, String>,
    /// On the host; may be empty for a driver that mounts on demand.
    pub mountpoint: PathBuf,
}

/// Volumes, and what is missing of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VolumeListing {
    /// Those of the drivers that answered.
    pub volumes: Vec<Volume>,
    /// What the engine says about the others.
    pub warnings: Vec<String>,
}

/// A volume to be created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewVolume {
    /// Chosen by the engine when absent.
    pub name: Option<String>,
    /// `local` when absent.
    pub driver: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// For the driver.
    pub options: BTreeMap<String, String>,
}

impl Engine {
    /// One volume by name.
    pub async fn inspect_volume(&self, name: &str) -> Result<Volume, EngineError> {
        let request = Request::new("inspect", "volume", name);
        let answer = self.docker.inspect_volume(request.checked_name()?).await;
        Ok(volume(answer.map_err(|error| request.failed(&error))?))
    }

    /// Creates a volume. One of the same name and driver that is there already is returned as it
    /// is.
    pub async fn create_volume(&self, new: &NewVolume) -> Result<Volume, EngineError> {
        let request = Request::new("create", "volume", new.name.as_deref().unwrap_or("(unnamed)"));
        let map = |map: &BTreeMap<String, String>| Some(map.clone().into_iter().collect());
        let body = VolumeCreateRequest {
            name: new.name.clone(),
            driver: new.driver.clone(),
            driver_opts: map(&new.options),
            labels: map(&new.labels),
            ..Default::default()
        };
        let answer = self.docker.create_volume(body).await;
        Ok(volume(answer.map_err(|error| request.failed(&error))?))
    }

    /// Volumes that have all of `labels` (`name` or `name=value`).
    pub async fn list_volumes(&self, labels: &[String]) -> Result<Vec<Volume>, EngineError> {
        Ok(self.volume_listing(labels).await?.volumes)
    }

    /// The same, with what the engine says about drivers that did not answer: their volumes are not listed.
    pub async fn volume_listing(&self, labels: &[String]) -> Result<VolumeListing, EngineError> {
        let filters =
            (!labels.is_empty()).then(|| HashMap::from([("label".to_owned(), labels.to_vec())]));
        let answer = self.docker.list_volumes(Some(ListVolumesOptions { filters })).await;
        let request = Request::to_engine("list the volumes of", &self.host);
        let listed = answer.map_err(|error| request.failed(&error))?;
        Ok(VolumeListing {
            volumes: listed.volumes.unwrap_or_default().into_iter().map(volume).collect(),
            warnings: listed.warnings.unwrap_or_default(),
        })
    }

    /// Removes a volume with its data. One that is not there is no error; one that a container
    /// uses is a [`EngineErrorKind::Conflict`].
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        let request = Request::new("remove", "volume", name);
        let options = None::<RemoveVolumeOptions>;
        let answer = self.docker.remove_volume(request.checked_name()?, options).await;
        match answer.map_err(|error| request.failed(&error)) {
            Err(error) if error.kind() == EngineErrorKind::NotFound => Ok(()),
            result => result,
        }
    }
}

fn volume(answer: BollardVolume) -> Volume {
    Volume {
        name: answer.name,
        driver: answer.driver,
        labels: answer.labels.into_iter().collect(),
        options: answer.options.into_iter().collect(),
        mountpoint: answer.mountpoint.into(),
    }
}
