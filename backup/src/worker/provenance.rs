//! Which images and Compose projects the containers are of whose data is saved.

use std::collections::{BTreeMap, BTreeSet};

use chores_common::engine::{
    Container, ContainerFilter, Engine, EngineError, EngineErrorKind, MountKind,
};

use crate::snapshot::{Provenance, Service, Source, Stack};

#[cfg(test)]
mod tests;

/// Label of everything that Compose makes: its project.
pub(crate) const COMPOSE_PROJECT: &str = "com.docker.compose.project";

/// Projects that one snapshot tells of.
const STACKS_MAX: usize = 16;

/// Containers of a project that it tells of.
const SERVICES_MAX: usize = 200;

/// Compose files of a project that it tells of.
const FILES_MAX: usize = 32;

/// Longest text of a label that is recorded, in bytes.
const LABEL_BYTES_MAX: usize = 4096;

/// Asks the engine what the containers with these ids, and those that have the sources' volumes, are of. Nothing is
/// known where the engine does not tell: a backup does not fail for that.
pub(crate) async fn provenance(
    engine: &Engine,
    ids: &BTreeSet<String>,
    sources: &[Source],
) -> Provenance {
    match ask(engine, ids, sources).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!("the snapshot does not say what its containers are of: {error}");
            Provenance::default()
        }
    }
}

async fn ask(
    engine: &Engine,
    ids: &BTreeSet<String>,
    sources: &[Source],
) -> Result<Provenance, EngineError> {
    let filter = ContainerFilter { labels: vec![COMPOSE_PROJECT.to_owned()], all: true };
    let listed = engine.list_containers(&filter).await?;
    let of_projects = listed.into_iter().map(|container| container.id);
    let wanted: BTreeSet<_> = of_projects.chain(ids.iter().cloned()).collect();
    let mut containers = Vec::new();
    for id in wanted {
        match engine.inspect_container(&id).await {
            Ok(container) => containers.push(container),
            // It is gone since it was listed.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let stacks = stacks(&containers, ids, sources);
    let mut images = BTreeMap::new();
    for image in images_of(&containers, ids, &stacks) {
        match engine.image_digests(&image).await {
            Ok(Some(digests)) if !digests.is_empty() => drop(images.insert(image, digests)),
            Ok(_) => {}
            // A proxy may hide images.
            Err(error) if error.kind() == EngineErrorKind::Denied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Provenance { images, stacks })
}

/// The projects that the containers with these ids and the sources' volumes are of.
fn stacks(containers: &[Container], ids: &BTreeSet<String>, sources: &[Source]) -> Vec<Stack> {
    let volumes = || {
        let volumes = sources.iter().filter_map(|source| source.volume.as_ref());
        volumes.filter(|volume| volume.kind == "volume")
    };
    let names: BTreeSet<_> = volumes().map(|volume| volume.name.as_str()).collect();
    let has = |container: &&Container| {
        ids.contains(&container.id)
            || volumes_of(container).any(|(name, _)| names.contains(name.as_str()))
    };
    let by_label = volumes().filter_map(|volume| volume.labels.get(COMPOSE_PROJECT));
    let by_container = containers.iter().filter(has).filter_map(Container::compose_project);
    let projects: BTreeSet<_> = by_label.map(String::as_str).chain(by_container).collect();
    let projects = projects.into_iter().filter(|project| is_short(project)).take(STACKS_MAX);
    let stacks = projects.map(|project| stack(project, containers));
    stacks.filter(|stack| !stack.services.is_empty()).collect()
}

fn stack(project: &str, containers: &[Container]) -> Stack {
    let mut members: Vec<_> = containers
        .iter()
        .filter(|container| {
            container.compose_project() == Some(project) && !container.is_compose_run()
        })
        .collect();
    members.sort_by_key(|container| (container.compose_service(), container.name.as_str()));
    members.truncate(SERVICES_MAX);
    let directory = members.iter().find_map(|container| container.compose_directory());
    let mut files: Vec<&str> = Vec::new();
    for file in members.iter().flat_map(|container| container.compose_files()) {
        if is_short(file) && !files.contains(&file) && files.len() < FILES_MAX {
            files.push(file);
        }
    }
    Stack {
        project: project.to_owned(),
        directory: directory.filter(|text| is_short(text)).map(str::to_owned),
        files: files.into_iter().map(str::to_owned).collect(),
        services: members.into_iter().map(service).collect(),
    }
}

fn service(container: &Container) -> Service {
    let name = container.compose_service().filter(|text| is_short(text));
    Service {
        service: name.unwrap_or_default().to_owned(),
        container: container.name.clone(),
        id: container.id.clone(),
        image: container.image_ref.clone(),
        image_id: container.image_id.clone(),
        volumes: volumes_of(container).collect(),
    }
}

/// Its volumes by name, and where it has them.
fn volumes_of(container: &Container) -> impl Iterator<Item = (String, String)> {
    container.mounts.iter().filter(|mount| mount.kind == MountKind::Volume).filter_map(|mount| {
        Some((mount.name.clone()?, mount.destination.to_string_lossy().into_owned()))
    })
}

/// Ids of the images of the projects and of the containers with these ids.
fn images_of(
    containers: &[Container],
    ids: &BTreeSet<String>,
    stacks: &[Stack],
) -> BTreeSet<String> {
    let own = containers.iter().filter(|container| ids.contains(&container.id));
    let own = own.map(|container| container.image_id.clone());
    let services = stacks.iter().flat_map(|stack| &stack.services);
    let images = own.chain(services.map(|service| service.image_id.clone()));
    // One that is just being made or removed may have none.
    images.filter(|image| !image.is_empty()).collect()
}

fn is_short(text: &str) -> bool {
    !text.is_empty() && text.len() <= LABEL_BYTES_MAX
}
