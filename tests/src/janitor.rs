//! Removes what killed test runs left in the engine.
//!
//! Everything the harness makes carries the label [`OWNER_LABEL`] naming the process that made it. Only
//! what belongs to a process that is certainly gone is removed: same boot, same pid namespace, and no
//! process with that id and start time.

use std::collections::HashMap;
use std::fs;

use bollard::Docker;
use bollard::query_parameters::{
    ListContainersOptions, ListImagesOptions, ListNetworksOptions, ListVolumesOptions,
    RemoveContainerOptions, RemoveImageOptions, RemoveVolumeOptions,
};

use crate::sandbox::NAME_PREFIX;

/// The label on everything the harness makes.
pub const OWNER_LABEL: &str = "chores.test.owner";

/// The label of `backup` on containers of its own: they outlive a killed `backup` and the test that it was part of.
const BACKUP_LABEL: &str = "chores.backup.parent";

/// The process that made something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    boot: String,
    pid_namespace: String,
    pid: u32,
    start: u64,
}

impl Owner {
    /// This process.
    ///
    /// # Panics
    /// When `/proc` does not describe it.
    #[must_use]
    pub fn this_process() -> Self {
        let pid = std::process::id();
        Self {
            boot: boot_id(),
            pid_namespace: pid_namespace(),
            pid,
            start: start_time(pid).expect("/proc/self/stat has a start time"),
        }
    }

    /// The label's value.
    #[must_use]
    pub fn to_label(&self) -> String {
        format!("{}/{}/{}/{}", self.boot, self.pid_namespace, self.pid, self.start)
    }

    /// Reads a label's value; `None` when it is not one of ours.
    #[must_use]
    pub fn from_label(label: &str) -> Option<Self> {
        let mut parts = label.split('/');
        let owner = Self {
            boot: parts.next()?.to_owned(),
            pid_namespace: parts.next()?.to_owned(),
            pid: parts.next()?.parse().ok()?,
            start: parts.next()?.parse().ok()?,
        };
        parts.next().is_none().then_some(owner)
    }

    /// Whether the process is certainly gone. Another pid namespace cannot be judged from here; another
    /// boot is over.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        if self.boot != boot_id() {
            return true;
        }
        self.pid_namespace == pid_namespace() && start_time(self.pid) != Some(self.start)
    }
}

/// The labels for something this process makes.
#[must_use]
pub fn labels() -> HashMap<String, String> {
    HashMap::from([(OWNER_LABEL.to_owned(), Owner::this_process().to_label())])
}

/// Removes everything whose owner is gone, and says on stderr what could not be removed.
pub async fn sweep(docker: &Docker) {
    let labelled = || Some(HashMap::from([("label".to_owned(), vec![OWNER_LABEL.to_owned()])]));
    let abandoned = |labels: &HashMap<String, String>| {
        labels
            .get(OWNER_LABEL)
            .and_then(|label| Owner::from_label(label))
            .is_some_and(|owner| owner.is_gone())
    };
    let report = |what: &str, name: &str, outcome: Result<(), bollard::errors::Error>| {
        if let Err(error) = outcome {
            crate::notice!("the janitor cannot remove the {what} {name}: {error}");
        }
    };

    let options = ListContainersOptions { all: true, filters: labelled(), ..Default::default() };
    for container in docker.list_containers(Some(options)).await.unwrap_or_default() {
        if let (Some(id), true) = (container.id, container.labels.as_ref().is_some_and(abandoned)) {
            let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
            report("container", &id, docker.remove_container(&id, Some(options)).await);
        }
    }
    let filters = Some(HashMap::from([("label".to_owned(), vec![BACKUP_LABEL.to_owned()])]));
    let options = ListContainersOptions { all: true, filters, ..Default::default() };
    for container in docker.list_containers(Some(options)).await.unwrap_or_default() {
        let is_abandoned = container.mounts.unwrap_or_default().iter().any(|mount| {
            [mount.name.as_deref(), mount.source.as_deref()]
                .into_iter()
                .flatten()
                .any(is_of_the_dead)
        });
        if let (Some(id), true) = (container.id, is_abandoned) {
            let options = RemoveContainerOptions { v: true, force: true, ..Default::default() };
            report("container", &id, docker.remove_container(&id, Some(options)).await);
        }
    }
    let options = ListVolumesOptions { filters: labelled() };
    let volumes = docker.list_volumes(Some(options)).await.ok().and_then(|found| found.volumes);
    for volume in volumes.into_iter().flatten() {
        if abandoned(&volume.labels) {
            let options = RemoveVolumeOptions { force: true };
            report("volume", &volume.name, docker.remove_volume(&volume.name, Some(options)).await);
        }
    }
    let options = ListNetworksOptions { filters: labelled() };
    for network in docker.list_networks(Some(options)).await.unwrap_or_default() {
        if let (Some(id), true) = (network.id, network.labels.as_ref().is_some_and(abandoned)) {
            report("network", &id, docker.remove_network(&id).await);
        }
    }
    let options = ListImagesOptions { filters: labelled(), ..Default::default() };
    for image in docker.list_images(Some(options)).await.unwrap_or_default() {
        if abandoned(&image.labels) {
            let options = RemoveImageOptions { force: true, ..Default::default() };
            let outcome = docker.remove_image(&image.id, Some(options), None).await;
            report("image", &image.id, outcome.map(drop));
        }
    }
}

/// Whether a path or the name of a volume has a name in it that the harness gave in a process that is gone.
fn is_of_the_dead(place: &str) -> bool {
    let Some((_, rest)) = place.split_once(NAME_PREFIX) else { return false };
    let pid = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
    pid.is_some_and(|pid| start_time(pid).is_none())
}

fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid")
        .map(|link| link.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// Field 22 of `/proc/<pid>/stat` (proc(5)): clock ticks after boot. The second field may hold spaces and
/// parentheses, so fields are counted behind its last parenthesis.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests;
