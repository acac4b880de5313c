//! Asking: the engine what there is, the host what its paths are, the repository what it has. No judgement here.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use chores_common::engine::{
    Container, ContainerFilter, Engine, EngineError, EngineErrorKind, Host, MountKind,
    VolumeListing, own_container_id,
};
use chores_common::exit::chain;
use chores_common::object::ErrorKind;
use jiff::Timestamp;

use super::decide::Recorded;
use super::inventory::{Found, Own, OwnPlace, PathKind, Seen};
use crate::drill_record;
use crate::forget::standings;
use crate::machine::{Boot, boot_id};
use crate::repository::{Repository, RepositoryError};
use crate::snapshot::SnapshotId;

#[cfg(test)]
mod tests;

/// How long one bound path is waited for.
const LOOK_TIME: Duration = Duration::from_secs(2);

/// How long all of them are.
const LOOKS_TIME: Duration = Duration::from_secs(10);

/// What a repository has.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Its snapshots.
    pub(crate) recorded: Vec<Recorded>,
    /// Those that cannot be read, and why.
    pub(crate) unreadable: Vec<(SnapshotId, String)>,
    /// What a person should know: one sentence each.
    pub(crate) notes: Vec<String>,
}

/// What an engine says, and what its machine calls itself.
#[derive(Debug)]
pub(super) struct Asked {
    /// What there is.
    pub(super) found: Found,
    /// Host names.
    pub(super) names: Vec<String>,
    /// The boot of the machine, where this program is on it too.
    pub(super) boot: Option<Boot>,
}

/// Reads all snapshots and what drills found.
pub(crate) fn history(repository: &Repository) -> Result<History, RepositoryError> {
    let mut history = History::default();
    let mut snapshots = Vec::new();
    for (name, read) in repository.documents()? {
        match read {
            Ok(snapshot) => snapshots.push((name, snapshot)),
            // It was forgotten since the listing; a store that lists what it cannot give has not.
            Err(RepositoryError::Store(error))
                if error.kind() == ErrorKind::NotFound && !repository.is_listed(&name)? => {}
            Err(RepositoryError::Store(error))
                if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
            {
                return Err(RepositoryError::Store(error));
            }
            Err(error) => history.unreadable.push((name.id, chain(&error))),
        }
    }
    let standings = standings(repository, &snapshots)?;
    let mut drills = drill_record::newest(repository, snapshots.iter().map(|(name, _)| name.id))?;
    for ((name, mut snapshot), standing) in snapshots.into_iter().zip(standings) {
        // They are most of it, and what they say is in the standing.
        snapshot.packs = Vec::new();
        let drill = match drills.remove(&name.id) {
            None => None,
            Some(Ok(record)) => Some(record.outcome),
            Some(Err(error)) => {
                history.notes.push(format!(
                    "what the drill of snapshot {} found cannot be read: {}",
                    name.id.short(),
                    chain(&error)
                ));
                None
            }
        };
        history.recorded.push(Recorded { id: name.id, snapshot, standing, drill });
    }
    Ok(history)
}

/// Asks the engine. `own` are places of this program as it sees them.
pub(super) async fn ask(engine: &Engine, own: &[(Own, PathBuf)]) -> Result<Asked, EngineError> {
    let mut found = Found::default();
    let filter = ContainerFilter { all: true, ..ContainerFilter::default() };
    for listed in engine.list_containers(&filter).await? {
        match engine.inspect_container(&listed.id).await {
            Ok(container) => found.containers.push(container),
            // It is gone since it was listed.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    let VolumeListing { volumes, warnings } = engine.volume_listing(&[]).await?;
    (found.volumes, found.volume_warnings) = (volumes, warnings);
    // Where no labels of an image are known, no label orders anything.
    found.image_labels = engine.labels_of_images(&found.containers).await?;
    let container = engine.own_container().await?;
    found.own = container.as_ref().map(|container| container.id.clone());
    let is_on_host = container.is_none()
        && own_container_id().is_none()
        && matches!(engine.host(), Host::Unix(_));
    if is_on_host {
        (found.paths, found.silent_paths) = paths(&found.containers);
    }
    if is_on_host || container.is_some() {
        found.own_places = own
            .iter()
            .filter_map(|(own, path)| {
                let path = path.canonicalize().ok()?;
                OwnPlace::new(*own, &path, container.as_ref(), &names_in(&path))
            })
            .collect();
    }
    let mut names: Vec<_> = engine.host_name().await?.into_iter().collect();
    // Behind an address the engine may be on another machine than this program, and behind a socket that is forwarded too: the
    // engine has this program's container, or its machine has this one's name.
    let is_here =
        container.is_some() || (is_on_host && own_name().is_some_and(|own| names.contains(&own)));
    if is_on_host {
        names.extend(own_name());
    }
    let boot = is_here.then(boot_id).flatten();
    let boot = boot.and_then(|id| Boot::present(&id, Timestamp::now()));
    Ok(Asked { found, names, boot })
}

/// What the machine that this program is on calls itself; `None` in a container, whose name is its own.
#[must_use]
pub(super) fn own_name() -> Option<String> {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    own_container_id().is_none().then_some(name)
}

/// Names in a directory; none of what cannot be read.
fn names_in(path: &Path) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// What is at the paths that containers have bound, and those that give no answer in time: a network disk that is gone keeps whoever
/// asks. What cannot be looked at is in neither.
fn paths(containers: &[Container]) -> (BTreeMap<PathBuf, Seen>, Vec<PathBuf>) {
    let mounts = containers.iter().flat_map(|container| &container.mounts);
    let paths: BTreeSet<_> =
        mounts.filter(|mount| mount.kind == MountKind::Bind).map(|mount| &mount.source).collect();
    let deadline = Instant::now() + LOOKS_TIME;
    let mut seen = BTreeMap::new();
    let mut silent = Vec::new();
    for path in paths {
        let time = deadline.saturating_duration_since(Instant::now()).min(LOOK_TIME);
        if time.is_zero() {
            silent.push(path.clone());
            continue;
        }
        let wanted = path.clone();
        match within(time, move || look_at(&wanted)) {
            Some(Some(found)) => drop(seen.insert(path.clone(), found)),
            Some(None) => {}
            None => silent.push(path.clone()),
        }
    }
    (seen, silent)
}

/// What `work` gives, if it does within `time`; otherwise its thread is left to itself.
fn within<T: Send + 'static>(
    time: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, receiver) = mpsc::sync_channel(1);
    let thread = thread::Builder::new().name("look".to_owned());
    // Nobody may be listening any more.
    let started = thread.spawn(move || drop(sender.send(work())));
    started.ok().and_then(|_| receiver.recv_timeout(time).ok())
}

fn look_at(path: &Path) -> Option<Seen> {
    let kind = fs::metadata(path).ok()?.file_type();
    let kind = if kind.is_dir() {
        PathKind::Directory
    } else if kind.is_file() {
        PathKind::File
    } else {
        PathKind::Other
    };
    Some(Seen { kind, real: path.canonicalize().ok()? })
}
