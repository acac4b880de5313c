//! What a snapshot says about the images and the Compose projects of the containers that its data belonged to.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What containers were made of, at the time of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provenance {
    /// Under which digests (`repository@sha256:…`) registries have images, by their ids. One that was built here is in no
    /// registry, and not in this list.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub images: BTreeMap<String, Vec<String>>,
    /// The Compose projects that the data is of, as they were, in order of their names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stacks: Vec<Stack>,
}

/// A Compose project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stack {
    /// Its name.
    pub project: String,
    /// The directory it was started in, on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The Compose files that it is written in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<String>,
    /// One for each of its containers, in order of services and names.
    pub services: Vec<Service>,
}

/// A container of a Compose project.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// The service.
    pub service: String,
    /// Name of the container.
    pub container: String,
    /// Its id at the time.
    pub id: String,
    /// The image as it was asked for.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// Its volumes by name, and where it had them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, String>,
}

impl Provenance {
    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.is_empty() && self.stacks.is_empty()
    }

    /// The project of this name.
    #[must_use]
    pub fn stack(&self, project: &str) -> Option<&Stack> {
        self.stacks.iter().find(|stack| stack.project == project)
    }
}

impl Stack {
    /// The container with this id.
    #[must_use]
    pub fn container(&self, id: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.id == id)
    }

    /// Whether one of its containers has the volume.
    #[must_use]
    pub fn uses(&self, volume: &str) -> bool {
        self.services.iter().any(|service| service.volumes.contains_key(volume))
    }
}
