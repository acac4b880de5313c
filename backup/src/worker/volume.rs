//! The volume that is restored into.

use std::collections::BTreeMap;
use std::path::Path;

use chores_common::engine::{
    Container, ContainerFilter, Engine, EngineError, EngineErrorKind, Mount, MountKind, NewVolume,
    Volume,
};

use super::WorkerError;
use crate::snapshot::SourceVolume;

#[cfg(test)]
mod tests;

/// Refuses a volume that running containers use.
pub(super) async fn refuse_used(engine: &Engine, volume: &str) -> Result<(), WorkerError> {
    let users = users(engine, |container| uses(container, volume)).await?;
    if users.is_empty() {
        return Ok(());
    }
    Err(WorkerError::InUse { volume: volume.to_owned(), containers: users.join(", ") })
}

/// Refuses what running containers other than `but`, an id, have mounted too.
pub(super) async fn refuse_sharers(
    engine: &Engine,
    mount: &Mount,
    but: &str,
) -> Result<(), WorkerError> {
    let shares = |container: &Container| {
        container.running
            && container.id != but
            && container.mounts.iter().any(|other| other.source == mount.source)
    };
    let users = users(engine, shares).await?;
    if users.is_empty() {
        return Ok(());
    }
    let place = mount.name.clone().unwrap_or_else(|| mount.source.display().to_string());
    Err(WorkerError::Shared { place, containers: users.join(", ") })
}

/// Names of the containers of which `is_one` is true.
async fn users(
    engine: &Engine,
    is_one: impl Fn(&Container) -> bool,
) -> Result<Vec<String>, EngineError> {
    let mut users = Vec::new();
    for listed in engine.list_containers(&ContainerFilter::default()).await? {
        match engine.inspect_container(&listed.id).await {
            Ok(container) if is_one(&container) => users.push(container.name),
            Ok(_) => {}
            // It ended since it was listed.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(users)
}

pub(super) fn uses(container: &Container, volume: &str) -> bool {
    container.running
        && container
            .mounts
            .iter()
            .any(|mount| mount.kind == MountKind::Volume && mount.name.as_deref() == Some(volume))
}

/// The path of the host that a volume of the `local` driver leads to (`o=bind`).
pub(crate) fn device_of(options: &BTreeMap<String, String>) -> Option<&str> {
    let binds = |words: &String| words.split(',').any(|word| matches!(word, "bind" | "rbind"));
    let device = options.get("device").filter(|device| device.starts_with('/'))?;
    options.get("o").is_some_and(binds).then_some(device.as_str())
}

/// Whether a running container writes at this path of the host: by a bind mount, or by one of `volumes` that leads there.
pub(super) fn leads_to(container: &Container, device: &str, volumes: &[Volume]) -> bool {
    let device = Path::new(device);
    let meets = |other: &Path| other.starts_with(device) || device.starts_with(other);
    let volume_meets = |name: &String| {
        let named = volumes.iter().find(|volume| volume.name == *name);
        named.and_then(|volume| device_of(&volume.options)).is_some_and(|at| meets(Path::new(at)))
    };
    container.running
        && container.mounts.iter().any(|mount| {
            mount.read_write
                && match mount.kind {
                    MountKind::Bind => meets(&mount.source),
                    MountKind::Volume => mount.name.as_ref().is_some_and(volume_meets),
                    MountKind::Tmpfs | MountKind::Image | MountKind::Other => false,
                }
        })
}

/// Makes the volume where it is missing; says whether it did.
pub(super) async fn ensure(
    engine: &Engine,
    name: &str,
    recorded: Option<&SourceVolume>,
) -> Result<bool, EngineError> {
    match engine.inspect_volume(name).await {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == EngineErrorKind::NotFound => {
            let new = new_volume(name, recorded);
            engine.create_volume(&new).await?;
            tracing::info!("made the volume {name}");
            Ok(true)
        }
        Err(error) => Err(error),
    }
}

/// The volume as it was recorded. Under another name a plain one: driver options such as `device` lead to
/// the very data the recorded volume has, and labels to the service it belongs to.
fn new_volume(name: &str, recorded: Option<&SourceVolume>) -> NewVolume {
    let recorded = recorded.filter(|volume| volume.kind == "volume" && volume.name == name);
    let name = Some(name.to_owned());
    match recorded {
        Some(volume) => NewVolume {
            name,
            driver: Some(volume.driver.clone()).filter(|driver| !driver.is_empty()),
            labels: volume.labels.clone(),
            options: volume.options.clone(),
        },
        None => NewVolume { name, driver: None, labels: BTreeMap::new(), options: BTreeMap::new() },
    }
}
