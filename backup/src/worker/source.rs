//! What a worker backs up, and how it is told what that is (pure).

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chores_common::engine::{Container, Mount, MountKind, Volume};
use serde::{Deserialize, Serialize};

use crate::entry::EntryError;
use crate::mounts::is_system_point;
use crate::snapshot::{Provenance, Source, SourceContainer, SourceVolume, StoredDump};

#[cfg(test)]
mod tests;

/// Environment variable in which a worker finds its [`SourceInfo`] as JSON:
/// `{"host": "web1", "sources": [{"path": "/data", "volume": {"kind": "volume", "name": "n", …}}],
/// "container": {"name": …, "id": …, "image": …, "image_id": …}}`, with the fields of the snapshot
/// document; `container` and `provenance` may be absent. `dumps` are those that the parent has stored for this snapshot.
pub const SOURCE_VARIABLE: &str = "BACKUP_SOURCE_JSON";

/// Longest text for [`SOURCE_VARIABLE`] in bytes. The kernel takes strings of 128 KiB at most
/// (`MAX_ARG_STRLEN`, execve(2)), the name included.
const SOURCE_TEXT_BYTES_MAX: usize = 120 * 1024;

/// What may be added to that text when it is too late to leave anything out: the host, places of files. In bytes.
const SOURCE_TEXT_ROOM: usize = 8 * 1024;

/// Where volumes that were named one by one are mounted.
const VOLUMES: &str = "/volumes";

/// What is known about sources only from outside of the worker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceInfo {
    /// Name of the machine or container that runs the backup; the worker's own says nothing.
    pub host: String,
    /// What is mounted where, in order of paths.
    pub sources: Vec<Source>,
    /// The container whose volumes they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<SourceContainer>,
    /// What the containers are of.
    #[serde(default, skip_serializing_if = "Provenance::is_empty")]
    pub provenance: Provenance,
    /// Who else writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub users: Vec<SourceUsers>,
    /// Dumps in the repository that the snapshot is to have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dumps: Vec<StoredDump>,
}

/// Running containers that may write a source, and do not hold still.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceUsers {
    /// The source.
    pub path: String,
    /// Names of the containers.
    pub containers: Vec<String>,
}

/// A text that describes no sources, or sources that no text can describe.
#[derive(Debug, thiserror::Error)]
pub enum SourceInfoError {
    /// Too long, both ways.
    #[error("the description of the sources is longer than {SOURCE_TEXT_BYTES_MAX} bytes")]
    TooLong,
    /// What is in a dump cannot be told.
    #[error("what is in a dump cannot be told to a worker")]
    Dump(#[source] EntryError),
    /// Not what a parent of this version writes.
    #[error(
        "{SOURCE_VARIABLE} does not describe sources: is the worker's image of another version?"
    )]
    Json(#[source] serde_json::Error),
}

impl SourceInfo {
    /// Reads the value of [`SOURCE_VARIABLE`].
    pub fn from_env_text(text: &str) -> Result<Self, SourceInfoError> {
        if text.len() > SOURCE_TEXT_BYTES_MAX {
            return Err(SourceInfoError::TooLong);
        }
        serde_json::from_str(text).map_err(SourceInfoError::Json)
    }

    /// The value of [`SOURCE_VARIABLE`].
    pub fn to_env_text(&self) -> Result<String, SourceInfoError> {
        let text = serde_json::to_string(self).map_err(SourceInfoError::Json)?;
        if text.len() > SOURCE_TEXT_BYTES_MAX {
            return Err(SourceInfoError::TooLong);
        }
        Ok(text)
    }

    /// What is known about the source at this absolute path; only the path where nothing is.
    #[must_use]
    pub fn source_at(&self, path: &str) -> Source {
        let known = self.sources.iter().find(|source| source.path == path);
        known.cloned().unwrap_or_else(|| Source { path: path.to_owned(), volume: None })
    }

    /// Names of the running containers that may write the source at this path.
    #[must_use]
    pub fn users_of(&self, path: &str) -> &[String] {
        let users = self.users.iter().find(|users| users.path == path);
        users.map_or(&[], |users| users.containers.as_slice())
    }

    /// Leaves out what is only good to know where all of it is too long to be told; says whether it did.
    pub(super) fn shorten(&mut self) -> bool {
        let is_too_long = match self.to_env_text() {
            Ok(text) => text.len() + SOURCE_TEXT_ROOM > SOURCE_TEXT_BYTES_MAX,
            Err(error) => matches!(error, SourceInfoError::TooLong),
        };
        let is_too_long = is_too_long && !self.provenance.is_empty();
        if is_too_long {
            self.provenance = Provenance::default();
        }
        is_too_long
    }

    /// What a snapshot of them is called by default: as the container, or as the volumes.
    #[must_use]
    pub fn name(&self) -> String {
        if let Some(container) = &self.container {
            return container.name.clone();
        }
        let names: Vec<_> = self
            .sources
            .iter()
            .map(|source| source.volume.as_ref().map_or(&source.path, |volume| &volume.name))
            .map(String::as_str)
            .collect();
        names.join(",")
    }

    /// Whether there is nothing to back up.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }
}

/// Words in the names of mount options that hold a secret, or say where it is.
const SECRET_WORDS: [&str; 5] = ["pass", "cred", "secret", "token", "key"];

/// The sources of one backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sources {
    /// What the worker is told, without the host.
    pub(super) info: SourceInfo,
    /// The container whose mounts the worker takes over.
    pub(super) container: Option<SourceContainer>,
    /// Volumes to mount one by one, and where.
    pub(super) volumes: Vec<(String, PathBuf)>,
    /// Every place where something of the sources is mounted.
    pub(super) taken: Vec<PathBuf>,
    /// What is left out and why: one sentence each.
    pub(super) notes: Vec<String>,
}

/// The mounts of a container that are data. `volumes` are its volumes by name.
pub(super) fn of_container(container: &Container, volumes: &BTreeMap<String, Volume>) -> Sources {
    let mut sources = Vec::new();
    let mut notes = Vec::new();
    notes.extend(volumes.values().filter_map(note_of_secrets));
    for mount in &container.mounts {
        match refusal(mount) {
            Some(reason) => {
                notes.push(format!("{} is left out: {reason}", mount.destination.display()));
            }
            None => sources.push(Source {
                path: mount.destination.display().to_string(),
                volume: Some(recorded(mount, volumes)),
            }),
        }
    }
    let origin = SourceContainer {
        name: container.name.clone(),
        id: container.id.clone(),
        image: container.image_ref.clone(),
        image_id: container.image_id.clone(),
    };
    Sources {
        info: SourceInfo { sources, container: Some(origin.clone()), ..SourceInfo::default() },
        container: Some(origin),
        volumes: Vec::new(),
        taken: container.mounts.iter().map(|mount| mount.destination.clone()).collect(),
        notes,
    }
}

/// Volumes that were named one by one.
pub(super) fn of_volumes(volumes: &[Volume]) -> Sources {
    let place = |volume: &Volume| Path::new(VOLUMES).join(&volume.name);
    let sources = volumes.iter().map(|volume| Source {
        path: place(volume).display().to_string(),
        volume: Some(recorded_volume(volume)),
    });
    Sources {
        info: SourceInfo { sources: sources.collect(), ..SourceInfo::default() },
        container: None,
        volumes: volumes.iter().map(|volume| (volume.name.clone(), place(volume))).collect(),
        taken: volumes.iter().map(place).collect(),
        notes: volumes.iter().filter_map(note_of_secrets).collect(),
    }
}

/// Who of `others` writes the sources: a container that runs, is not paused, and has the volume or path mounted
/// writable. `still` are ids of those that hold still.
pub(super) fn users(
    sources: &[Source],
    others: &[Container],
    still: &BTreeSet<String>,
) -> Vec<SourceUsers> {
    let writes = |container: &Container, volume: &SourceVolume| {
        container.running
            && !container.paused
            && !still.contains(&container.id)
            && container.mounts.iter().any(|mount| {
                let path = Path::new(&volume.name);
                mount.read_write
                    && match mount.kind {
                        MountKind::Volume => {
                            volume.kind == "volume" && mount.name.as_ref() == Some(&volume.name)
                        }
                        MountKind::Bind => {
                            volume.kind == "bind"
                                && (mount.source.starts_with(path)
                                    || path.starts_with(&mount.source))
                        }
                        MountKind::Tmpfs | MountKind::Image | MountKind::Other => false,
                    }
            })
    };
    let users = sources.iter().filter_map(|source| {
        let volume = source.volume.as_ref()?;
        let writers = others.iter().filter(|other| writes(other, volume));
        let containers: Vec<_> = writers.map(|writer| writer.name.clone()).collect();
        (!containers.is_empty()).then(|| SourceUsers { path: source.path.clone(), containers })
    });
    users.collect()
}

/// Why a mount is not backed up, if it is not.
fn refusal(mount: &Mount) -> Option<&'static str> {
    let point = |path: &Path| path.as_os_str().as_bytes().to_vec();
    let destination = point(&mount.destination);
    if is_system_point(destination.strip_prefix(b"/").unwrap_or(&destination)) {
        return Some("it is a socket, or a place of the kernel or the engine");
    }
    match mount.kind {
        MountKind::Volume => None,
        MountKind::Bind if mount.source == Path::new("/") => {
            Some("it is the root of the host; give the paths that matter to a backup on the host")
        }
        MountKind::Bind => {
            let source = point(&mount.source);
            is_system_point(source.strip_prefix(b"/").unwrap_or(&source))
                .then_some("it is a socket, or a view into the host's kernel or engine")
        }
        MountKind::Tmpfs => Some("it is memory of that container, which nobody else can read"),
        MountKind::Image | MountKind::Other => Some("this kind of mount cannot be taken over"),
    }
}

fn recorded(mount: &Mount, volumes: &BTreeMap<String, Volume>) -> SourceVolume {
    if mount.kind == MountKind::Bind {
        return SourceVolume {
            kind: "bind".to_owned(),
            name: mount.source.display().to_string(),
            driver: String::new(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
        };
    }
    let name = mount.name.clone().unwrap_or_default();
    volumes.get(&name).map_or_else(
        || SourceVolume {
            kind: "volume".to_owned(),
            driver: mount.driver.clone().unwrap_or_default(),
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            name: name.clone(),
        },
        recorded_volume,
    )
}

fn recorded_volume(volume: &Volume) -> SourceVolume {
    SourceVolume {
        kind: "volume".to_owned(),
        name: volume.name.clone(),
        driver: volume.driver.clone(),
        labels: volume.labels.clone(),
        options: without_secrets(&volume.options),
    }
}

fn note_of_secrets(volume: &Volume) -> Option<String> {
    (without_secrets(&volume.options) != volume.options).then(|| {
        let name = &volume.name;
        format!(
            "options of the volume {name} that hold secrets are not recorded: note them elsewhere"
        )
    })
}

/// Driver options without passwords. The `local` driver has those of mount(8) in one value, with commas
/// between: `o=addr=host,username=web,password=…`.
fn without_secrets(options: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let is_open = |name: &str| {
        let name = name.to_ascii_lowercase();
        !SECRET_WORDS.iter().any(|word| name.contains(word))
    };
    let value_of = |value: &String| {
        let kept = value.split(',').filter(|item| match item.split_once('=') {
            Some((name, _)) => is_open(name.trim()),
            None => true,
        });
        kept.collect::<Vec<_>>().join(",")
    };
    let kept = options.iter().filter(|(name, _)| is_open(name));
    kept.map(|(name, value)| (name.clone(), value_of(value))).collect()
}
