//! Volumes that this process does not see: a short-lived container of our own image, the worker, does the
//! backup or the restore, and this process attends it.
//!
//! ```text
//! inspect → sources, places → specification → create → secrets → start → output, exit status → remove
//! ```
//! What the worker may do is the least that works, see [`spec`]. It learns what its sources are from
//! [`SOURCE_VARIABLE`], since it does not talk to the engine itself.

mod attend;
mod image;
mod leftover;
mod output;
mod place;
mod provenance;
mod source;
mod spec;
mod volume;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use chores_common::engine::{
    Container, ContainerFilter, Engine, EngineError, EngineErrorKind, Mount, Volume,
};
use chores_common::exit::chain;
use chores_common::object::trust::{self, TrustError};
use chores_common::object::{Location, S3Settings};
use chores_common::shutdown::Shutdown;

use crate::quiesce::{GuardImage, Keeper, QuiesceError};
use crate::snapshot::{SourceVolume, StoredDump};
use leftover::Parent;
use place::Places;
use spec::{Cache, Repository, Stage};

pub(crate) use leftover::{DRILL_LABEL, PARENT_LABEL};
pub(crate) use place::mount_of;
pub use place::{Outside, PlaceError};
pub(crate) use provenance::{COMPOSE_PROJECT, provenance};
pub use source::{SOURCE_VARIABLE, SourceInfo, SourceInfoError};
pub use spec::{CACHE_VARIABLE, PATH_STYLE_VARIABLE, WorkerKeys};
pub(crate) use volume::device_of;

/// The image of this version, as `make images` names it.
pub const DEFAULT_IMAGE: &str = concat!("chores/backup:", env!("CARGO_PKG_VERSION"));

/// What errors call the directory of caches.
const CACHE: &str = "cache directory";

/// How a worker is made and where it stores.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Image of the worker. Without one: this very program, see [`image`].
    pub image: Option<String>,
    /// The repository as this process sees it.
    pub repository: Location,
    /// How to reach it, for S3.
    pub s3: S3Settings,
    /// Directory of caches as this process sees it, which the worker must have. Without one: `cache`
    /// in a repository that is a directory, else [`Self::cache_dir_default`].
    pub cache_dir: Option<PathBuf>,
    /// Directory of caches where none was named and the repository is none; a worker that cannot be
    /// given it goes without.
    pub cache_dir_default: Option<PathBuf>,
    /// `host`, or a network of the engine, for S3. Without one: what this process can reach, see
    /// [`spec`].
    pub network: Option<String>,
    /// Memory of the worker in bytes; no limit when absent.
    pub memory_bytes_max: Option<u64>,
    /// Dumps in the repository that become part of the snapshot.
    pub dumps: Vec<StoredDump>,
    /// What opens an encrypted repository.
    pub keys: WorkerKeys,
}

/// What to back up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every volume and bind mount of a container (name or id), running or not.
    VolumesFrom(String),
    /// Volumes by name, which must exist.
    Volumes(Vec<String>),
}

/// The volume to restore into.
#[derive(Clone, Debug)]
pub struct VolumeTarget {
    /// Its name; made when it is missing.
    pub name: String,
    /// What the snapshot knows about the volume behind the chosen source.
    pub recorded: Option<SourceVolume>,
    /// Restore although running containers use it.
    pub force: bool,
    /// The volume is only read, and not left behind when it was missing.
    pub dry_run: bool,
}

/// Why no worker ran to its end.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The engine said no.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image is not there.
    #[error(
        "the engine has no image {0} for the worker: make it with `make images`, or name another with --worker-image"
    )]
    NoImage(String),
    /// The worker's image cannot be made of it.
    #[error("cannot read this program's own file for the worker's image")]
    Executable(#[source] std::io::Error),
    /// A container without data.
    #[error("the container {container} has no volume or bind mount to back up{notes}")]
    NoSources {
        /// Its name.
        container: String,
        /// What was left out, as the end of the sentence.
        notes: String,
    },
    /// No volume was named.
    #[error("no volume was named")]
    NoVolumes,
    /// A source would hide the worker's own program.
    #[error(
        "the container {container} has a mount at {at}, where the worker has its own program: name its volumes with --volume instead"
    )]
    Hidden {
        /// Its name.
        container: String,
        /// The mount.
        at: String,
    },
    /// A repository of a kind that workers do not reach.
    #[error(
        "a worker container reaches directories and S3, not {0}: mount the volumes into this program's own container and name no --volume or --volumes-from, or save to a directory or S3 and `backup copy` from there"
    )]
    Remote(String),
    /// The repository or the cache cannot be given to the worker.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// What the sources are is too much for the worker's environment.
    #[error(transparent)]
    SourceInfo(#[from] SourceInfoError),
    /// There are no roots of trust for TLS.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// Restoring under running processes destroys what they hold.
    #[error(
        "the volume {volume} is in use by {containers}: stop them first, or add --force to restore under their feet"
    )]
    InUse {
        /// The volume.
        volume: String,
        /// Names of the containers.
        containers: String,
    },
    /// Another writer would go on in a file that is gone.
    #[error("{place} is mounted into {containers} too: stop what else may write there")]
    Shared {
        /// Name of the volume, or the path on the host.
        place: String,
        /// Names of the containers.
        containers: String,
    },
    /// The worker did not end by itself.
    #[error("the worker ended with status {status}{hint}")]
    Died {
        /// As the engine reported it.
        status: i64,
        /// What that means, as the end of the sentence.
        hint: &'static str,
    },
    /// The system has no random numbers.
    #[error("cannot get random numbers for the worker's name: {0}")]
    Random(getrandom::Error),
    /// The containers do not hold still.
    #[error(transparent)]
    Quiesce(#[from] QuiesceError),
}

/// Containers that hold still while a worker reads.
#[derive(Clone, Copy, Debug)]
pub struct Stillness<'a> {
    /// Who makes them.
    pub keeper: &'a Keeper,
    /// No worker after this one needs them.
    pub is_last: bool,
}

/// Backs `target` up: `backup [--repo …] create ARGS… -- PATH…` in a worker. `args` are the options of
/// `create` that say nothing about sources, repository, cache or memory. Every line of the worker's
/// standard output goes to `on_line`, its standard error to ours. Returns the worker's exit status as in
/// [`chores_common::exit::ExitCode`]; a request to stop is passed on to the worker, whose own status for
/// that is returned.
pub async fn back_up(
    engine: &Engine,
    options: &WorkerOptions,
    target: &Target,
    args: Vec<String>,
    shutdown: &Shutdown,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i64, WorkerError> {
    back_up_still(engine, options, target, args, None, shutdown, on_line).await
}

/// The same, of sources that hold still: `args` have `--attended` then.
pub async fn back_up_still(
    engine: &Engine,
    options: &WorkerOptions,
    target: &Target,
    args: Vec<String>,
    still: Option<Stillness<'_>>,
    shutdown: &Shutdown,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i64, WorkerError> {
    let mut sources = inspect(engine, target).await?;
    let quiet = still.map(|still| still.keeper.ids().clone()).unwrap_or_default();
    let running = running(engine).await?;
    sources.info.users = source::users(&sources.info.sources, &running, &quiet);
    sources.info.dumps = options.dumps.clone();
    let of_dumps = options.dumps.iter().filter_map(|dump| dump.record.container.as_ref());
    let ids: BTreeSet<_> =
        sources.container.iter().chain(of_dumps).map(|container| container.id.clone()).collect();
    sources.info.provenance = provenance(engine, &ids, &sources.info.sources).await;
    let own = engine.own_container().await?;
    let stage = stage(engine, options, own.as_ref(), true).await?;
    if let source::Sources { container: Some(container), taken, .. } = &sources
        && let Some(at) = taken.iter().find(|at| stage.program().starts_with(at))
    {
        let (container, at) = (container.name.clone(), at.display().to_string());
        return Err(WorkerError::Hidden { container, at });
    }
    for note in &sources.notes {
        tracing::warn!("{note}");
    }
    if sources.info.shorten() {
        tracing::warn!(
            "there is too much to say about the containers: the snapshot does not say what they are of"
        );
    }
    let mut prepared = spec::backup(&stage, &sources, &host_name(), args)?;
    prepared.spec.has_input = still.is_some();
    let outcome = attend::run(engine, &prepared, still, shutdown, on_line).await;
    image::remove_superseded(engine, &stage.image).await;
    outcome
}

/// Restores into a volume: `backup [--repo …] restore ARGS… --strip --target …` in a worker. `args` are
/// the snapshot and the options of `restore` that say nothing about target, repository or memory.
/// Otherwise like [`back_up`].
pub async fn restore_volume(
    engine: &Engine,
    options: &WorkerOptions,
    target: &VolumeTarget,
    args: Vec<String>,
    shutdown: &Shutdown,
    on_line: &mut (dyn FnMut(&str) + Send),
) -> Result<i64, WorkerError> {
    if !target.force && !target.dry_run {
        volume::refuse_used(engine, &target.name).await?;
    }
    let own = engine.own_container().await?;
    let stage = stage(engine, options, own.as_ref(), false).await?;
    let made = volume::ensure(engine, &target.name, target.recorded.as_ref()).await?;
    let prepared = spec::restore(&stage, &target.name, target.dry_run, args);
    let mut has_answered = false;
    let outcome = attend::run(engine, &prepared, None, shutdown, &mut |line| {
        has_answered |= is_answer(line);
        on_line(line);
    })
    .await;
    image::remove_superseded(engine, &stage.image).await;
    // An empty volume that nothing was restored into would look like a restored one.
    let is_untouched = is_untouched(&outcome, has_answered);
    if made
        && (target.dry_run || is_untouched)
        && let Err(error) = engine.remove_volume(&target.name).await
    {
        tracing::warn!("the new volume {} is left behind: {error}", target.name);
    }
    outcome
}

/// What a guard is made from: the same image as a worker. Removes what dead runs left, too.
pub async fn guard_image(engine: &Engine, wanted: Option<&str>) -> Result<GuardImage, WorkerError> {
    let own = engine.own_container().await?;
    let image = image::provide(engine, wanted, own.as_ref()).await?;
    let parent = Parent::this(own.as_ref().map(|own| own.id.as_str()));
    leftover::clear(engine, &parent).await?;
    Ok(GuardImage { image: image.name, entrypoint: image.entrypoint, parent: parent.to_label() })
}

/// Whether a line of the worker's standard output says what was restored.
fn is_answer(line: &str) -> bool {
    !line.starts_with('{') || line.contains(r#""event":"summary""#)
}

/// Whether a restore ended without a word about anything restored: it never ran or broke off.
fn is_untouched(outcome: &Result<i64, WorkerError>, has_answered: bool) -> bool {
    match outcome {
        Err(WorkerError::Engine(_)) => true,
        Ok(0) | Err(_) => false,
        Ok(_) => !has_answered,
    }
}

/// Asks the engine what the sources are.
async fn inspect(engine: &Engine, target: &Target) -> Result<source::Sources, WorkerError> {
    match target {
        Target::VolumesFrom(name) => {
            let container = engine.inspect_container(name).await?;
            let named: BTreeSet<&str> =
                container.mounts.iter().filter_map(|mount| mount.name.as_deref()).collect();
            let mut volumes: BTreeMap<String, Volume> = BTreeMap::new();
            for name in named {
                volumes.insert(name.to_owned(), engine.inspect_volume(name).await?);
            }
            let sources = source::of_container(&container, &volumes);
            if sources.info.is_empty() {
                let notes = sources.notes.iter().map(|note| format!("; {note}")).collect();
                return Err(WorkerError::NoSources { container: container.name, notes });
            }
            Ok(sources)
        }
        Target::Volumes(names) => {
            let names: BTreeSet<&String> = names.iter().collect();
            if names.is_empty() {
                return Err(WorkerError::NoVolumes);
            }
            let mut volumes = Vec::new();
            for name in names {
                volumes.push(engine.inspect_volume(name).await?);
            }
            Ok(source::of_volumes(&volumes))
        }
    }
}

/// What this container's own mounts are, and which running containers write them and are not in `still`. `None` where the engine
/// does not know this container.
pub async fn own_sources(
    engine: &Engine,
    still: &BTreeSet<String>,
) -> Result<Option<SourceInfo>, EngineError> {
    let Some(own) = engine.own_container().await? else { return Ok(None) };
    let mut info = source::of_container(&own, &BTreeMap::new()).info;
    let mut others = running(engine).await?;
    others.retain(|other| other.id != own.id);
    info.users = source::users(&info.sources, &others, still);
    Ok(Some(info))
}

/// The containers that run now.
async fn running(engine: &Engine) -> Result<Vec<Container>, EngineError> {
    let mut running = Vec::new();
    for listed in engine.list_containers(&ContainerFilter::default()).await? {
        match engine.inspect_container(&listed.id).await {
            Ok(container) => running.push(container),
            // It ended since it was listed.
            Err(error) if error.kind() == EngineErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(running)
}

/// Names of the running containers that have these volumes mounted, or the path of the host that a volume leads to.
pub(crate) async fn users_of(
    engine: &Engine,
    volumes: &BTreeMap<String, Option<String>>,
) -> Result<BTreeMap<String, Vec<String>>, EngineError> {
    let running = running(engine).await?;
    let all = if volumes.values().all(Option::is_none) {
        Vec::new()
    } else {
        engine.list_volumes(&[]).await?
    };
    let users = volumes.iter().map(|(name, device)| {
        let is_user = |container: &&Container| {
            volume::uses(container, name)
                || device.as_ref().is_some_and(|device| volume::leads_to(container, device, &all))
        };
        let users = running.iter().filter(is_user).map(|container| container.name.clone());
        (name.clone(), users.collect())
    });
    Ok(users.collect())
}

/// Finds out everything that the specification of a worker depends on, and removes what dead parents left.
async fn stage(
    engine: &Engine,
    options: &WorkerOptions,
    own: Option<&Container>,
    writes: bool,
) -> Result<Stage, WorkerError> {
    let places = Places { own, writes };
    let repository = match &options.repository {
        Location::Directory(path) => {
            let path = place::canonical("repository", path)?;
            let is_foreign = place::is_owned_by_others(&path);
            Repository::Directory { place: places.translate("repository", &path)?, is_foreign }
        }
        Location::S3 { .. } => Repository::S3 {
            url: options.repository.to_string(),
            trust: trust::roots(options.s3.endpoint.as_deref())?,
            settings: options.s3.clone(),
        },
        Location::Remote(remote) => return Err(WorkerError::Remote(remote.to_string())),
    };
    let cache = cache(options, &places)?;
    let image = image::provide(engine, options.image.as_deref(), own).await?;
    let parent = Parent::this(own.map(|own| own.id.as_str()));
    leftover::clear(engine, &parent).await?;
    Ok(Stage {
        image: image.name,
        entrypoint: image.entrypoint,
        run: format!("{:016x}", getrandom::u64().map_err(WorkerError::Random)?),
        parent: parent.to_label(),
        network: spec::network(
            &options.repository,
            options.s3.endpoint.as_deref(),
            options.network.as_deref(),
            own.map(|own| own.id.as_str()),
        ),
        repository,
        cache,
        memory_bytes_max: options.memory_bytes_max,
        keys: options.keys.clone(),
    })
}

/// The directory of caches as the engine knows it.
fn cache(options: &WorkerOptions, places: &Places<'_>) -> Result<Option<Cache>, PlaceError> {
    let found = |path: &std::path::Path| {
        let path = place::made(CACHE, path)?;
        let is_foreign = place::is_owned_by_others(&path);
        Ok(Cache { place: places.translate(CACHE, &path)?, is_foreign })
    };
    match (&options.cache_dir, &options.cache_dir_default, &options.repository) {
        (Some(path), _, _) => found(path).map(Some),
        (None, Some(path), repository)
            if matches!(repository, Location::S3 { .. }) || options.keys.key_file.is_some() =>
        {
            Ok(found(path)
                .map_err(|error: PlaceError| {
                    tracing::info!(
                        "the worker has no cache and reads everything: {}",
                        chain(&error)
                    );
                })
                .ok())
        }
        (None, _, _) => Ok(None),
    }
}

/// Removes what dead parents left of workers and drills; returns the label of this process as a parent.
pub(crate) async fn clear_leftovers(engine: &Engine) -> Result<String, EngineError> {
    let own = engine.own_container().await?;
    let parent = Parent::this(own.as_ref().map(|own| own.id.as_str()));
    leftover::clear(engine, &parent).await?;
    leftover::clear_drills(engine, &parent).await?;
    Ok(parent.to_label())
}

/// Refuses what running containers other than `but`, an id, have mounted too.
pub(crate) async fn refuse_sharers(
    engine: &Engine,
    mount: &Mount,
    but: &str,
) -> Result<(), WorkerError> {
    volume::refuse_sharers(engine, mount, but).await
}

/// The name of this machine or container.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests;
