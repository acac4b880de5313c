//! Images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use bollard::body_full;
use bollard::query_parameters::{BuildImageOptions, ListImagesOptions, RemoveImageOptions};
use bytes::Bytes;
use futures_util::StreamExt;

use super::error::{EngineError, EngineErrorKind, Request};
use super::{Container, Engine};

/// How long the engine may take to receive a build context and begin.
const BUILD_TIME_MAX: Duration = Duration::from_secs(30 * 60);
/// Last part of a build's output that is shown when it fails, in bytes.
const BUILD_OUTPUT_BYTES_MAX: usize = 16 * 1024;

/// An image as listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedImage {
    /// `sha256:` and 64 hexadecimal digits.
    pub id: String,
    /// Its names, `repository:tag`; none for an image that lost its name to another.
    pub tags: Vec<String>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
}

/// The name of a nameless image in lists of older engines.
const NAMELESS: &str = "<none>:<none>";

impl Engine {
    /// Images with this label (`name` or `name=value`), without those that others are built on only.
    pub async fn list_images(&self, label: &str) -> Result<Vec<ListedImage>, EngineError> {
        let filters = HashMap::from([("label".to_owned(), vec![label.to_owned()])]);
        let options = ListImagesOptions { filters: Some(filters), ..Default::default() };
        let answer = self.docker.list_images(Some(options)).await;
        let request = Request::to_engine("list the images of", &self.host);
        let listed = answer.map_err(|error| request.failed(&error))?;
        let listed = listed.into_iter().map(|image| ListedImage {
            id: image.id,
            tags: image.repo_tags.into_iter().filter(|tag| tag != NAMELESS).collect(),
            created: u64::try_from(image.created).unwrap_or_default(),
        });
        Ok(listed.collect())
    }

    /// Whether the image (name or id) is on the engine's host.
    pub async fn image_exists(&self, image: &str) -> Result<bool, EngineError> {
        let request = Request::new("inspect", "image", image);
        let answer = self.docker.inspect_image(request.checked_name()?).await;
        match answer.map_err(|error| request.failed(&error)) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == EngineErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The labels that the image (name or id) gives to its containers; `None` where it is not on the engine's host.
    pub async fn image_labels(
        &self,
        image: &str,
    ) -> Result<Option<BTreeMap<String, String>>, EngineError> {
        let request = Request::new("inspect", "image", image);
        let answer = self.docker.inspect_image(request.checked_name()?).await;
        match answer.map_err(|error| request.failed(&error)) {
            Ok(found) => {
                let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
                Ok(Some(labels.into_iter().collect()))
            }
            Err(error) if error.kind() == EngineErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The labels that the images of these containers give, by the id of the image; not those of images that are gone, or that
    /// a proxy hides.
    pub async fn labels_of_images(
        &self,
        containers: &[Container],
    ) -> Result<BTreeMap<String, BTreeMap<String, String>>, EngineError> {
        let images: BTreeSet<_> = containers
            .iter()
            // A container has its image's labels too; one that is just being made or removed may have no image.
            .filter(|container| !container.labels.is_empty() && !container.image_id.is_empty())
            .map(|container| &container.image_id)
            .collect();
        let mut found = BTreeMap::new();
        for image in images {
            match self.image_labels(image).await {
                Ok(Some(labels)) => drop(found.insert(image.clone(), labels)),
                Ok(None) => {}
                Err(error) if error.kind() == EngineErrorKind::Denied => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// The digests under which registries have the image (name or id), as `repository@sha256:…`; none for one that was
    /// built here. `None` where it is not on the engine's host.
    pub async fn image_digests(&self, image: &str) -> Result<Option<Vec<String>>, EngineError> {
        let request = Request::new("inspect", "image", image);
        let answer = self.docker.inspect_image(request.checked_name()?).await;
        match answer.map_err(|error| request.failed(&error)) {
            Ok(found) => Ok(Some(found.repo_digests.unwrap_or_default())),
            Err(error) if error.kind() == EngineErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Builds an image from a tar with a `Dockerfile` at its top, and names it `tag`.
    pub async fn build_image(&self, tag: &str, context: Bytes) -> Result<(), EngineError> {
        let request = Request::new("build", "image", tag);
        let options = BuildImageOptions {
            t: Some(request.checked_name()?.to_owned()),
            forcerm: true,
            ..Default::default()
        };
        let docker = self.patient(BUILD_TIME_MAX);
        let mut steps = Box::pin(docker.build_image(options, None, Some(body_full(context))));
        while let Some(step) = steps.next().await {
            let step = step.map_err(|error| request.failed(&error))?;
            if let Some(text) = step.stream {
                tracing::debug!(image = tag, "{}", text.trim_end());
            }
            if let Some(detail) = step.error_detail {
                let mut message = detail.message.unwrap_or_default();
                message.truncate(message.floor_char_boundary(BUILD_OUTPUT_BYTES_MAX));
                return Err(request.error(EngineErrorKind::Other, &message));
            }
        }
        Ok(())
    }

    /// Removes a name of an image, and the image with its last name. One that is not there is no
    /// error.
    pub async fn remove_image(&self, image: &str) -> Result<(), EngineError> {
        let request = Request::new("remove", "image", image);
        let options = None::<RemoveImageOptions>;
        let answer = self.docker.remove_image(request.checked_name()?, options, None).await;
        match answer.map_err(|error| request.failed(&error)) {
            Err(error) if error.kind() == EngineErrorKind::NotFound => Ok(()),
            result => result.map(drop),
        }
    }
}
