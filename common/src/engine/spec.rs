//! What a container to be created is like (pure).

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, PathBuf};

use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, Mount as BollardMount, MountType,
    RestartPolicy, RestartPolicyNameEnum,
};
use zeroize::Zeroizing;

#[cfg(test)]
mod tests;

/// A container to be created. The default has every capability dropped and no new privileges; what
/// it needs is added by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContainerSpec {
    /// Chosen by the engine when absent.
    pub name: Option<String>,
    /// Name or id of a local image.
    pub image: String,
    /// Instead of the image's own.
    pub entrypoint: Option<Vec<String>>,
    /// Instead of the image's own; the arguments when there is an entrypoint.
    pub command: Vec<String>,
    /// `NAME=value`. Shown by `inspect`: no secrets.
    pub env: Vec<String>,
    /// Volumes and paths.
    pub mounts: Vec<MountSpec>,
    /// All volumes and paths of these containers (name or id), at the same places.
    pub volumes_from: Vec<VolumesFrom>,
    /// Capabilities without `CAP_`: `DAC_READ_SEARCH`. All others are dropped.
    pub capabilities: Vec<String>,
    /// Keeps the engine's usual capabilities instead of dropping all.
    pub keep_default_capabilities: bool,
    /// `none`, `host`, `container:ID` or a network's name; the engine's default when absent.
    pub network: Option<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// `uid:gid`; the image's own when absent.
    pub user: Option<String>,
    /// Only mounts can be written.
    pub read_only_root: bool,
    /// Bytes of memory, without any swap; no limit when absent.
    pub memory_bytes_max: Option<u64>,
    /// Where its output goes, with the driver's own defaults; the engine's default when absent.
    pub log_driver: Option<String>,
    /// It has a standard input, which ends with the first client that attaches to it
    /// ([`Engine::attach_input`](super::Engine::attach_input)).
    pub has_input: bool,
    /// Started again by the engine, so many times at most, after an end with another status than 0 and after a
    /// restart of the engine itself.
    pub restarts_max: u32,
}

/// One mount of a container to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSpec {
    /// What is mounted.
    pub source: MountSource,
    /// Where in the container.
    pub target: PathBuf,
    /// Whether the container may only read.
    pub read_only: bool,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    /// A volume by name; created if it is not there.
    Volume(String),
    /// A new volume without a name, removed with the container.
    AnonymousVolume,
    /// A path of the host, which must exist.
    Bind(PathBuf),
}

/// Mounts taken over from another container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumesFrom {
    /// Name or id.
    pub container: String,
    /// Whether the new container may only read.
    pub read_only: bool,
}

/// A file to put into a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutFile {
    /// Below the directory it is put into, without `..`.
    pub path: PathBuf,
    /// Permission bits: `0o400`.
    pub mode: u32,
    /// Overwritten with zeros when dropped.
    pub content: Zeroizing<Vec<u8>>,
}

/// Permission bits of a tar header.
const MODE_BITS: u32 = 0o7777;

pub(super) fn body(spec: &ContainerSpec) -> ContainerCreateBody {
    let given = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        entrypoint: spec.entrypoint.clone(),
        cmd: given(&spec.command),
        env: given(&spec.env),
        labels: Some(spec.labels.clone().into_iter().collect()),
        user: spec.user.clone(),
        open_stdin: Some(spec.has_input),
        attach_stdin: Some(spec.has_input),
        stdin_once: Some(spec.has_input),
        host_config: Some(host_config(spec)),
        ..Default::default()
    }
}

fn host_config(spec: &ContainerSpec) -> HostConfig {
    let volumes_from = spec.volumes_from.iter().map(|from| {
        let access = if from.read_only { "ro" } else { "rw" };
        format!("{}:{access}", from.container)
    });
    let memory = spec.memory_bytes_max.map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX));
    HostConfig {
        mounts: Some(spec.mounts.iter().map(mount).collect()),
        volumes_from: Some(volumes_from.collect()),
        cap_drop: (!spec.keep_default_capabilities).then(|| vec!["ALL".to_owned()]),
        cap_add: Some(spec.capabilities.clone()),
        security_opt: Some(vec!["no-new-privileges".to_owned()]),
        network_mode: spec.network.clone(),
        readonly_rootfs: Some(spec.read_only_root),
        memory,
        memory_swap: memory,
        restart_policy: (spec.restarts_max > 0).then(|| RestartPolicy {
            name: Some(RestartPolicyNameEnum::ON_FAILURE),
            maximum_retry_count: Some(i64::from(spec.restarts_max)),
        }),
        log_config: spec
            .log_driver
            .clone()
            .map(|driver| HostConfigLogConfig { typ: Some(driver), config: None }),
        ..Default::default()
    }
}

fn mount(spec: &MountSpec) -> BollardMount {
    let (typ, source) = match &spec.source {
        MountSource::Volume(name) => (MountType::VOLUME, Some(name.clone())),
        MountSource::AnonymousVolume => (MountType::VOLUME, None),
        MountSource::Bind(path) => (MountType::BIND, Some(path.to_string_lossy().into_owned())),
    };
    BollardMount {
        typ: Some(typ),
        source,
        target: Some(spec.target.to_string_lossy().into_owned()),
        read_only: Some(spec.read_only),
        ..Default::default()
    }
}

/// A tar of the files, as the archive request of the engine wants it.
pub(super) fn archive(files: &[PutFile]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for file in files {
        let mut parts = file.path.components();
        let is_empty = file.path.as_os_str().is_empty();
        if is_empty || !parts.all(|part| matches!(part, Component::Normal(_))) {
            let reason = format!("{} is not a relative path without ..", file.path.display());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let mut header = tar::Header::new_gnu();
        header.set_mode(file.mode & MODE_BITS);
        header.set_size(file.content.len() as u64);
        archive.append_data(&mut header, &file.path, file.content.as_slice())?;
    }
    archive.into_inner()
}
