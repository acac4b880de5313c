//! A Compose project back as it was at a time: its volumes with their content, its dumps, and what it was made of.
//!
//! ```text
//! history → choose → look at engine and trees → steps: nothing is written before all of them are known to be possible
//! ```
//! The volumes themselves are restored by workers, one after the other, as `restore --volume` does.

mod output;
mod plan;

use std::collections::{BTreeMap, BTreeSet};

use chores_common::engine::{Container, ContainerFilter, Engine, EngineError, EngineErrorKind};
use chores_common::exit::chain;
use chores_common::shutdown::Shutdown;

use crate::repository::{Repository, RepositoryError};
use crate::restore::select::{Selection, one_source};
use crate::restore::{self, RestoreError};
use crate::snapshot::{Selector, SnapshotId};
use crate::worker::{self, COMPOSE_PROJECT};

pub use output::{Answer, Outcome, Restored, write_json, write_text};
pub use plan::{
    Choice, ChoiceError, DumpPick, Facts, InvalidTime, Left, Pick, Rules, StackAt, Step,
    VolumePick, Wish, as_of, choose, databases, steps,
};

/// What is restored of a source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// Regular files.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// What the engine has of the volumes that `choice` brings back under names with `prefix` in front.
pub async fn facts(engine: &Engine, choice: &Choice, prefix: &str) -> Result<Facts, EngineError> {
    let names: BTreeSet<String> =
        choice.volumes.iter().map(|pick| format!("{prefix}{}", pick.recorded.name)).collect();
    let mut volumes = BTreeMap::new();
    for name in &names {
        match engine.inspect_volume(name).await {
            Ok(volume) => drop(volumes.insert(name.clone(), volume)),
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            // No volume can have it; the plan says so.
            Err(error) if error.kind() == EngineErrorKind::Invalid => {}
            Err(error) => return Err(error),
        }
    }
    // Under another name it is a plain one, which leads nowhere.
    let device = |pick: &VolumePick| {
        let device = worker::device_of(&pick.recorded.options).filter(|_| prefix.is_empty());
        device.map(str::to_owned)
    };
    let named = choice.volumes.iter();
    let devices = named.map(|pick| (format!("{prefix}{}", pick.recorded.name), device(pick)));
    let users = worker::users_of(engine, &devices.collect()).await?;
    Ok(Facts { volumes, users, drivers: engine.volume_drivers().await? })
}

/// The containers of the project now, running or not.
pub async fn containers(engine: &Engine, project: &str) -> Result<Vec<Container>, EngineError> {
    let filter =
        ContainerFilter { labels: vec![format!("{COMPOSE_PROJECT}={project}")], all: true };
    let mut containers = Vec::new();
    for listed in engine.list_containers(&filter).await? {
        match engine.inspect_container(&listed.id).await {
            Ok(container) => containers.push(container),
            // It is gone since it was listed.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(containers)
}

/// A snapshot, by its whole id.
#[must_use]
pub fn selector(id: SnapshotId) -> Selector {
    Selector::Prefix(id.to_string())
}

/// Reads the trees of what the steps bring back; how much each of them has, or everything that cannot be read. A signal is an
/// error of its own.
pub fn look(
    repository: &Repository,
    steps: &[Step],
    shutdown: &Shutdown,
) -> Result<Result<Vec<Amount>, Vec<String>>, RestoreError> {
    let mut amounts = Vec::new();
    let mut problems = Vec::new();
    for step in steps {
        let Pick { id, .. } = step.pick.from;
        let unreadable = |problem: String| {
            format!(
                "the volume {} cannot be read from snapshot {}: {problem}",
                step.target,
                id.short()
            )
        };
        match amount(repository, step, shutdown) {
            Ok(report) if report.damaged_count == 0 => {
                amounts.push(Amount { files: report.files, bytes: report.bytes });
            }
            Ok(report) => problems.push(unreadable(format!(
                "{} of its files are in no readable pack (`backup check` names them)",
                report.damaged_count
            ))),
            Err(Unread::Restore(RestoreError::Interrupted)) => {
                return Err(RestoreError::Interrupted);
            }
            Err(Unread::Restore(error)) => problems.push(unreadable(chain(&error))),
            Err(Unread::Repository(error)) => problems.push(unreadable(chain(&error))),
        }
    }
    Ok(if problems.is_empty() { Ok(amounts) } else { Err(problems) })
}

enum Unread {
    Restore(RestoreError),
    Repository(RepositoryError),
}

fn amount(
    repository: &Repository,
    step: &Step,
    shutdown: &Shutdown,
) -> Result<restore::RestoreReport, Unread> {
    let selected = repository.select(&selector(step.pick.from.id));
    let (_, snapshot) = selected.map_err(Unread::Repository)?;
    let source = one_source(&snapshot, Some(&step.pick.path))
        .map_err(|error| Unread::Restore(error.into()))?;
    let selection =
        Selection { paths: Vec::new(), source: Some(source.clone()), strip: Some(source) };
    restore::look(repository, &snapshot, &selection, shutdown).map_err(Unread::Restore)
}
