//! What of a host can be lost, from what its engine tells (pure).
//!
//! Every volume counts, used or not: what a container that is gone has left may be all there is of it. Paths of the host
//! and databases count by the containers that are meant to last.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use chores_common::durable::is_temporary;
use chores_common::engine::{Container, Mount, MountKind, Volume};

use super::decide::is_random;
use crate::database::{Unrecognised, recognise};
use crate::dump::evidence_of;
use crate::labels::{self, DumpOrder, Orders};
use crate::mounts::is_system_point;
use crate::snapshot::DumpKind;
use crate::worker::{PARENT_LABEL, mount_of};

#[cfg(test)]
mod tests;

/// Label of Compose: `True` for what `docker compose run` starts.
const COMPOSE_ONE_OFF: &str = "com.docker.compose.oneoff";
/// Labels of Swarm: `shop_db.1.` and 25 characters, and `shop_db`.
const SWARM_TASK: &str = "com.docker.swarm.task.name";
const SWARM_SERVICE: &str = "com.docker.swarm.service.name";
/// Length of what Swarm puts behind the name of a task.
const SWARM_ID_BYTES: usize = 25;

/// Places of a host with nobody's data, or with data that counts as volumes; without the leading `/`, with all below.
const HOST_TREES: [&str; 20] = [
    "run",
    "var/run",
    "boot",
    "tmp/.X11-unix",
    "lib/modules",
    "usr/lib/modules",
    "usr/src",
    "usr/share/zoneinfo",
    "usr/share/ca-certificates",
    "etc/localtime",
    "etc/timezone",
    "etc/machine-id",
    "etc/passwd",
    "etc/group",
    "etc/shadow",
    "etc/ssl/certs",
    "etc/pki",
    "var/lib/docker",
    "var/lib/containers",
    "var/lib/containerd",
];

/// Below `/run`, but disks that people have plugged in, and those of the machine that Docker Desktop runs on.
const DISKS_IN_RUN: [&str; 2] = ["/run/media", "/run/desktop/mnt/host"];

/// How names of files end that are mounted read-only as settings, keys or scripts.
const SETTINGS_ENDINGS: [&str; 22] = [
    "conf",
    "cnf",
    "cfg",
    "ini",
    "env",
    "properties",
    "toml",
    "yml",
    "yaml",
    "json",
    "xml",
    "hcl",
    "rules",
    "sql",
    "sh",
    "js",
    "pem",
    "crt",
    "cer",
    "key",
    "pub",
    "sock",
];

/// Where images of these databases keep their data.
const DATA_PLACES: [(DumpKind, &str); 15] = [
    (DumpKind::Mysql, "/var/lib/mysql"),
    (DumpKind::Mysql, "/var/lib/mysql/data"),
    (DumpKind::Mysql, "/bitnami/mysql"),
    (DumpKind::Mysql, "/bitnami/mysql/data"),
    (DumpKind::Mysql, "/bitnami/mariadb"),
    (DumpKind::Mysql, "/bitnami/mariadb/data"),
    (DumpKind::Postgres, "/var/lib/postgresql/data"),
    (DumpKind::Postgres, "/var/lib/postgresql"),
    (DumpKind::Postgres, "/bitnami/postgresql"),
    (DumpKind::Redis, "/data"),
    (DumpKind::Redis, "/bitnami/redis/data"),
    (DumpKind::Redis, "/bitnami/valkey/data"),
    (DumpKind::Mongo, "/data/db"),
    (DumpKind::Mongo, "/data/configdb"),
    (DumpKind::Mongo, "/bitnami/mongodb"),
];

/// Options of servers that say where the data is.
const DATA_OPTIONS: [(DumpKind, &str); 4] = [
    (DumpKind::Mysql, "--datadir"),
    (DumpKind::Postgres, "-D"),
    (DumpKind::Redis, "--dir"),
    (DumpKind::Mongo, "--dbpath"),
];

/// What is at a path of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathKind {
    /// A directory.
    Directory,
    /// A regular file.
    File,
    /// A socket, a pipe, a device.
    Other,
}

/// What is seen at a path of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it is.
    pub kind: PathKind,
    /// The path without symbolic links.
    pub real: PathBuf,
}

/// What this program keeps itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// The repository.
    Repository,
    /// Its cache.
    Cache,
    /// The journal of paused and stopped containers.
    State,
}

/// Where that is, as the engine's host has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnPlace {
    /// What.
    pub own: Own,
    /// The volume it is in, and whether it is all of that.
    pub volume: Option<(String, bool)>,
    /// Its path on the host.
    pub path: PathBuf,
    /// Whether other things lie in it too.
    pub is_shared: bool,
}

/// What a repository in a directory has (`docs/backup-format.md`).
const REPOSITORY_NAMES: [&str; 9] =
    ["repo.json", "packs", "index", "snapshots", "marks", "runs", "drills", "doctor", "cache"];

/// What file systems have at their root.
const NOBODYS_NAMES: [&str; 1] = ["lost+found"];

/// What an engine tells of its host.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All containers, running or not.
    pub containers: Vec<Container>,
    /// All volumes.
    pub volumes: Vec<Volume>,
    /// What the engine says about drivers whose volumes it cannot list.
    pub volume_warnings: Vec<String>,
    /// Labels of images by their id, where they can be had.
    pub image_labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Id of the container that this program is in.
    pub own: Option<String>,
    /// What bound paths are, where this program sees them.
    pub paths: BTreeMap<PathBuf, Seen>,
    /// Bound paths that gave no answer in time.
    pub silent_paths: Vec<PathBuf>,
    /// What is not to be saved with the rest.
    pub own_places: Vec<OwnPlace>,
}

/// A container by which a database is known again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// 64 hexadecimal digits; empty where only snapshots tell of it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The name of its place in a Swarm service, `shop_db.1`: its tasks come and go, each with an id behind that.
    pub slot: Option<String>,
}

impl Identity {
    /// Of a container of this host.
    #[must_use]
    pub fn of(container: &Container) -> Self {
        let label = |name: &str| container.labels.get(name).map(String::as_str);
        Self {
            id: container.id.clone(),
            name: container.name.clone(),
            slot: label(SWARM_TASK)
                .zip(label(SWARM_SERVICE))
                .and_then(|(task, service)| slot_of(task, service))
                .map(str::to_owned),
        }
    }

    /// Whether a container of this name on this host was the same one, or the one before it in its place.
    #[must_use]
    pub fn is_named(&self, name: &str) -> bool {
        let in_slot = |slot: &String| {
            name.strip_prefix(slot.as_str())
                .and_then(|rest| rest.strip_prefix('.'))
                .is_some_and(is_swarm_id)
        };
        self.name == name || self.slot.as_ref().is_some_and(in_slot)
    }
}

/// `shop_db.1` of the task `shop_db.1.` and its id.
fn slot_of<'t>(task: &'t str, service: &str) -> Option<&'t str> {
    let (slot, id) = task.rsplit_once('.')?;
    let number = slot.strip_prefix(service)?.strip_prefix('.')?;
    (is_swarm_id(id) && !number.is_empty()).then_some(slot)
}

fn is_swarm_id(text: &str) -> bool {
    text.len() == SWARM_ID_BYTES && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

/// What can be lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A volume of the engine.
    Volume {
        /// Its name, by which the engine knows it.
        name: String,
        /// Where it is on the host; may be empty.
        mountpoint: String,
    },
    /// A path of the host that containers have mounted.
    Bind {
        /// It.
        path: String,
    },
    /// Something that a container has mounted and by which nobody can know a snapshot of it.
    Mount {
        /// Name of the container and path in it: `web:/data`.
        name: String,
    },
    /// A database in a container.
    Database {
        /// Which; `None` where it looks like several.
        kind: Option<DumpKind>,
        /// The container.
        container: Identity,
    },
}

/// Something that can be lost, and what is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataSource {
    /// What it is.
    pub what: What,
    /// Names of the containers that use it and are meant to last, sorted.
    pub users: Vec<String>,
    /// Where these have it mounted: name, path.
    pub places: BTreeSet<(String, String)>,
    /// The path without symbolic links, where this program sees it.
    pub real: Option<String>,
    /// The container of the database whose files it holds, and nobody else's.
    pub database: Option<Identity>,
    /// Why it is not to be saved.
    pub left_out: Option<String>,
    /// What a person should know: one sentence each.
    pub remarks: Vec<String>,
}

/// A container, for telling hosts apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Id, name, place in a service.
    pub identity: Identity,
    /// When its last run began.
    pub started: Option<jiff::Timestamp>,
    /// It is meant to last, and nobody has ordered that there is no database in it to be saved.
    pub may_be_dumped: bool,
}

/// What of a host can be lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// That.
    pub sources: Vec<DataSource>,
    /// All containers.
    pub containers: Vec<Known>,
    /// What could not be looked at, so that nobody can say whether it is protected: one sentence each.
    pub gaps: Vec<String>,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
}

/// A container that is meant to last.
struct Job<'f> {
    container: &'f Container,
    orders: Orders,
    database: Database,
}

/// What database a container is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Database {
    None,
    Kind(DumpKind),
    Unclear,
}

/// By what a volume or path is known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Volume(String),
    Path(String),
    Mount(String),
}

/// Finds what can be lost.
#[must_use]
pub fn inventory(found: &Found) -> Inventory {
    let jobs: Vec<_> =
        found.containers.iter().filter_map(|container| Job::of(container, found)).collect();
    let silent = found.silent_paths.iter().map(|path| {
        format!(
            "{} gave no answer in time, so nobody can see what it is: is its disk there?",
            path.display()
        )
    });
    let mut notes: Vec<_> = silent.collect();
    let mut sources = volumes(found);
    for job in &jobs {
        notes.extend(job.notes());
        for mount in &job.container.mounts {
            match key_of(mount, found, job) {
                Some(key) => take(&mut sources, key, mount, job, found),
                None => notes.extend(note_of(mount, job)),
            }
        }
    }
    for (key, source) in &mut sources {
        assign(key, source, &jobs);
        judge(key, source, found, &jobs);
    }
    let databases = jobs.iter().filter_map(Job::source);
    notes.extend(twins(&jobs));
    let may_be_dumped = |id: &str| {
        jobs.iter().any(|job| {
            let Orders { enable, dump, .. } = &job.orders;
            job.container.id == id && *enable != Some(false) && *dump != Some(DumpOrder::No)
        })
    };
    let known = |container: &Container| Known {
        identity: Identity::of(container),
        started: container.started_at.as_ref().and_then(|time| time.parse().ok()),
        may_be_dumped: may_be_dumped(&container.id),
    };
    Inventory {
        sources: databases.chain(sources.into_values()).collect(),
        containers: found.containers.iter().map(known).collect(),
        gaps: found
            .volume_warnings
            .iter()
            .map(|warning| format!("the engine cannot list all of its volumes: {warning}"))
            .collect(),
        notes,
    }
}

/// Whether a container is meant to last: not this program's, not one that `docker compose run` started for once, not a task
/// of Swarm that has ended. `given` are its labels without those of its image, `own` is the container that this program is in.
#[must_use]
pub fn is_lasting(container: &Container, given: &BTreeMap<&str, &str>, own: Option<&str>) -> bool {
    let is_own = own == Some(container.id.as_str()) || given.contains_key(PARENT_LABEL);
    let is_one_off =
        given.get(COMPOSE_ONE_OFF).is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let is_ended_task = given.contains_key(SWARM_TASK) && !container.running;
    !(is_own || is_one_off || is_ended_task)
}

/// Whether a mount at this place of a container has the files of its database, of this kind, and nothing else.
#[must_use]
pub fn keeps_data(container: &Container, kind: DumpKind, place: &Path) -> bool {
    let is_usual =
        || DATA_PLACES.iter().any(|(of, usual)| *of == kind && Path::new(usual) == place);
    let is_told = || {
        let variable = container.env.iter().filter_map(|variable| {
            variable.strip_prefix("PGDATA=").filter(|_| kind == DumpKind::Postgres)
        });
        variable.chain(options(&container.command, kind)).any(|told| Path::new(told) == place)
    };
    is_usual() || is_told()
}

impl<'f> Job<'f> {
    fn of(container: &'f Container, found: &Found) -> Option<Self> {
        let image = found.image_labels.get(&container.image_id);
        let given = labels::given(&container.labels, image);
        if !is_lasting(container, &given, found.own.as_deref()) {
            return None;
        }
        let mut orders = labels::read(&given);
        let has_orders = container.labels.keys().any(|label| label.starts_with(labels::PREFIX));
        if image.is_none() && has_orders {
            orders.problems.push(
                "its image is gone or may not be asked, so nobody can say which of its labels are an operator's: none of \
                 them counts"
                    .to_owned(),
            );
        }
        let database = recognised(container, &orders);
        Some(Self { container, orders, database })
    }

    fn notes(&self) -> Vec<String> {
        let name = &self.container.name;
        let mut notes: Vec<_> =
            self.orders.problems.iter().map(|problem| format!("{name}: {problem}")).collect();
        if self.database == Database::Unclear {
            notes.push(format!(
                "{name} looks like several databases: the label {}dump says which it is",
                labels::PREFIX
            ));
        }
        notes
    }

    /// Its database as something that can be lost.
    fn source(&self) -> Option<DataSource> {
        let kind = match self.database {
            Database::None => return None,
            Database::Kind(kind) => Some(kind),
            Database::Unclear => None,
        };
        let left_out = (self.orders.enable == Some(false)).then(|| by_label(&self.container.name));
        Some(DataSource {
            what: What::Database { kind, container: Identity::of(self.container) },
            users: vec![self.container.name.clone()],
            places: BTreeSet::new(),
            real: None,
            database: None,
            left_out,
            remarks: Vec::new(),
        })
    }

    /// Whether a mount at this place of its has the database's files and nothing else.
    fn keeps_data_at(&self, place: &Path) -> bool {
        let Database::Kind(kind) = self.database else { return false };
        keeps_data(self.container, kind, place)
    }
}

/// Values of the options that say where the data is.
fn options(command: &[String], kind: DumpKind) -> impl Iterator<Item = &str> {
    DATA_OPTIONS.iter().filter(move |(of, _)| *of == kind).flat_map(move |(_, option)| {
        command.iter().enumerate().filter_map(move |(at, word)| {
            if word == option {
                return command.get(at + 1).map(String::as_str);
            }
            word.strip_prefix(option)?.strip_prefix('=')
        })
    })
}

fn recognised(container: &Container, orders: &Orders) -> Database {
    let looks = || match recognise(&evidence_of(container)) {
        Ok(kind) => Database::Kind(kind),
        Err(Unrecognised::Several(..)) => Database::Unclear,
        Err(Unrecognised::None) => Database::None,
    };
    match orders.dump {
        Some(DumpOrder::No) => Database::None,
        Some(DumpOrder::Kind(kind)) => Database::Kind(kind),
        Some(DumpOrder::Recognised) => match looks() {
            Database::None => Database::Unclear,
            known => known,
        },
        None => looks(),
    }
}

fn is_in_memory(volume: &Volume) -> bool {
    volume.driver == "local" && volume.options.get("type").is_some_and(|kind| kind == "tmpfs")
}

/// The engine's volumes, without those in memory.
fn volumes(found: &Found) -> BTreeMap<Key, DataSource> {
    let volumes = found.volumes.iter().filter(|volume| !is_in_memory(volume));
    let source = |volume: &Volume| {
        let what = What::Volume {
            name: volume.name.clone(),
            mountpoint: volume.mountpoint.display().to_string(),
        };
        (Key::Volume(volume.name.clone()), plain(what))
    };
    volumes.map(source).collect()
}

fn plain(what: What) -> DataSource {
    DataSource {
        what,
        users: Vec::new(),
        places: BTreeSet::new(),
        real: None,
        database: None,
        left_out: None,
        remarks: Vec::new(),
    }
}

/// Notes that a job uses a source. A volume that the engine does not list, since its driver does not answer, is there all
/// the same.
fn take(
    sources: &mut BTreeMap<Key, DataSource>,
    key: Key,
    mount: &Mount,
    job: &Job<'_>,
    found: &Found,
) {
    let what = match &key {
        Key::Volume(name) => {
            let mut listed = found.volumes.iter().filter(|volume| volume.name == *name);
            if listed.any(is_in_memory) {
                return;
            }
            What::Volume { name: name.clone(), mountpoint: mount.source.display().to_string() }
        }
        Key::Path(path) => What::Bind { path: path.clone() },
        Key::Mount(name) => What::Mount { name: name.clone() },
    };
    let is_volume = matches!(key, Key::Volume(_));
    let source = sources.entry(key).or_insert_with(|| {
        let remarks = is_volume.then(|| {
            "the engine does not list it, though a container has it mounted: does its driver answer?".to_owned()
        });
        let seen = found.paths.get(&mount.source).filter(|_| !is_volume);
        let real = seen.map(|seen| seen.real.display().to_string());
        DataSource { real, remarks: remarks.into_iter().collect(), ..plain(what) }
    });
    let name = &job.container.name;
    if let Err(at) = source.users.binary_search(name) {
        source.users.insert(at, name.clone());
    }
    source.places.insert((name.clone(), mount.destination.display().to_string()));
}

/// By what the data in a mount is known, if there is any.
fn key_of(mount: &Mount, found: &Found, job: &Job<'_>) -> Option<Key> {
    let unknown = || Key::Mount(format!("{}:{}", job.container.name, mount.destination.display()));
    match mount.kind {
        MountKind::Volume => Some(mount.name.clone().map_or_else(unknown, Key::Volume)),
        MountKind::Bind => is_data(mount, found.paths.get(&mount.source).map(|seen| seen.kind))
            .then(|| Key::Path(mount.source.display().to_string())),
        MountKind::Other => Some(unknown()),
        MountKind::Tmpfs | MountKind::Image => None,
    }
}

/// What is left out and may be missed.
fn note_of(mount: &Mount, job: &Job<'_>) -> Option<String> {
    let (name, place) = (&job.container.name, mount.destination.display());
    let is_root = mount.kind == MountKind::Bind && mount.source == Path::new("/");
    (is_root && mount.read_write).then(|| {
        format!("{name} has the root of the host at {place}: what it writes there is not looked after, but by paths")
    })
}

/// Whether a bound path is data: no socket or device, no place of the kernel, the engine or the system, and no file or
/// directory of settings that containers only read.
fn is_data(mount: &Mount, kind: Option<PathKind>) -> bool {
    let is_system = |path: &Path| {
        let bytes = path.as_os_str().as_bytes();
        is_system_point(bytes.strip_prefix(b"/").unwrap_or(bytes))
    };
    // The root of the host is such a place too.
    if is_system(&mount.destination) || is_system(&mount.source) || is_of_host(&mount.source) {
        return false;
    }
    match kind {
        Some(PathKind::Other) => false,
        Some(PathKind::File) => mount.read_write,
        Some(PathKind::Directory) => mount.read_write || !mount.destination.starts_with("/etc"),
        None => {
            mount.read_write
                || !(mount.destination.starts_with("/etc")
                    || looks_like_settings(&mount.destination))
        }
    }
}

fn is_of_host(path: &Path) -> bool {
    let below = path.strip_prefix("/").unwrap_or(path);
    !DISKS_IN_RUN.iter().any(|disk| path.starts_with(disk))
        && HOST_TREES.iter().any(|tree| below.starts_with(tree))
}

/// `nginx.conf`, but not `example.org`, which may be a directory of pages.
fn looks_like_settings(path: &Path) -> bool {
    path.extension().is_some_and(|end| SETTINGS_ENDINGS.iter().any(|settings| end == *settings))
}

/// Finds the database whose files these are: one container has them where such a server keeps its data, and no other
/// writes them.
fn assign(key: &Key, source: &mut DataSource, jobs: &[Job<'_>]) {
    let writes = |job: &&Job<'_>| {
        job.container.mounts.iter().any(|mount| mount.read_write && is_of(mount, key))
    };
    let writers: Vec<_> = jobs.iter().filter(writes).collect();
    let keeps = |job: &&&Job<'_>| {
        let mut mounts = job.container.mounts.iter().filter(|mount| is_of(mount, key));
        mounts.all(|mount| job.keeps_data_at(&mount.destination))
    };
    let Some(keeper) = writers.iter().find(keeps) else { return };
    if writers.len() == 1 {
        source.database = Some(Identity::of(keeper.container));
    } else {
        source.remarks.push(format!(
            "it has the files of {}, but others write it too, so a dump does not have all of it",
            keeper.container.name
        ));
    }
}

fn is_of(mount: &Mount, key: &Key) -> bool {
    match key {
        Key::Volume(name) => mount.kind == MountKind::Volume && mount.name.as_ref() == Some(name),
        Key::Path(path) => mount.kind == MountKind::Bind && mount.source == Path::new(path),
        Key::Mount(_) => false,
    }
}

/// Why a source is not to be saved, if it is not, and what else there is to say.
fn judge(key: &Key, source: &mut DataSource, found: &Found, jobs: &[Job<'_>]) {
    let mut is_ordered = false;
    if let Key::Volume(name) = key {
        let labels = found.volumes.iter().find(|volume| volume.name == *name);
        let labels = labels.map(|volume| &volume.labels);
        // Images have no part in the labels of volumes.
        let given = labels.iter().flat_map(|labels| labels.iter());
        let given = given.map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let orders = labels::read_of_volume(&given);
        source.remarks.extend(orders.problems);
        is_ordered = orders.enable == Some(true);
        if given.contains_key(PARENT_LABEL) {
            source.left_out = Some("a drill of this program has made it for itself".to_owned());
        } else if orders.enable == Some(false) {
            source.left_out = Some(by_label("the volume"));
        }
    }
    let mut users = jobs.iter().filter(|job| source.users.contains(&job.container.name)).peekable();
    if !is_ordered && users.peek().is_some() && users.all(|job| job.orders.enable == Some(false)) {
        source.left_out = Some(by_label(&source.users.join(", ")));
    }
    for place in &found.own_places {
        let holds = place.held_by(key, source);
        match (place.own, holds) {
            (_, None) => {}
            (Own::Repository, Some(true)) => {
                source.left_out = Some("it is the repository".to_owned());
            }
            (Own::Cache, Some(true)) => source.left_out = Some("it is the cache".to_owned()),
            (Own::State, Some(true)) => source.left_out = Some("it is the journal".to_owned()),
            (Own::Repository, Some(false)) => {
                source
                    .remarks
                    .push("it holds the repository too, which is no part of it".to_owned());
            }
            (Own::Cache | Own::State, Some(false)) => {}
        }
    }
    if source.users.is_empty() && source.left_out.is_none() {
        let mut all = found.containers.iter().flat_map(|container| &container.mounts);
        let text = if all.any(|mount| is_of(mount, key)) {
            "only containers that are not meant to last use it"
        } else if matches!(key, Key::Volume(name) if is_random(name)) {
            "no container uses it, and it is anonymous: `docker volume prune` removes such ones, and \
             `--except anonymous:unused` leaves them out here"
        } else {
            "no container uses it"
        };
        source.remarks.push(text.to_owned());
    }
}

fn by_label(whose: &str) -> String {
    format!("by the label {}enable=false of {whose}", labels::PREFIX)
}

impl OwnPlace {
    /// Where something is that this process sees at `path`, absolute and without symbolic links; `container` is the one
    /// it is in, and `names` are those in that directory.
    #[must_use]
    pub fn new(
        own: Own,
        path: &Path,
        container: Option<&Container>,
        names: &[String],
    ) -> Option<Self> {
        let is_its = |name: &String| {
            REPOSITORY_NAMES.contains(&name.as_str())
                || NOBODYS_NAMES.contains(&name.as_str())
                || is_temporary(name)
        };
        let is_shared = own == Own::Repository && !names.iter().all(is_its);
        let Some(container) = container else {
            return Some(Self { own, volume: None, path: path.to_owned(), is_shared });
        };
        let (mount, rest) = mount_of(&container.mounts, path)?;
        let is_all = rest.as_os_str().is_empty();
        let on_host = if is_all { mount.source.clone() } else { mount.source.join(rest) };
        let volume = mount.name.clone().filter(|_| mount.kind == MountKind::Volume);
        Some(Self { own, volume: volume.map(|name| (name, is_all)), path: on_host, is_shared })
    }

    /// Whether it is in a source, and if so, whether it is all of that. What lies beside a repository in one directory is
    /// no part of it.
    fn held_by(&self, key: &Key, source: &DataSource) -> Option<bool> {
        if let (Key::Volume(name), Some((volume, is_all))) = (key, &self.volume)
            && name == volume
        {
            return Some(*is_all && !self.is_shared);
        }
        let place = match &source.what {
            What::Volume { mountpoint, .. } => mountpoint,
            What::Bind { path } => path,
            What::Mount { .. } | What::Database { .. } => return None,
        };
        if place.is_empty() {
            return None;
        }
        let place = Path::new(place);
        if self.path.starts_with(place) {
            return Some(self.path == place && !self.is_shared);
        }
        let below = place.strip_prefix(&self.path).ok()?.components().next()?;
        let is_its = self.own == Own::Repository
            && REPOSITORY_NAMES.iter().any(|name| below.as_os_str() == *name);
        is_its.then_some(true)
    }
}

/// Containers of one service, where that matters: they have a database or orders of their own.
fn twins(jobs: &[Job<'_>]) -> Vec<String> {
    let mut services: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for job in jobs {
        let container = job.container;
        let has_orders = job.orders.enable.is_some() || job.orders.dump.is_some();
        let swarm = container.labels.get(SWARM_SERVICE).cloned();
        let compose =
            || Some(format!("{}/{}", container.compose_project()?, container.compose_service()?));
        if let Some(service) = swarm.or_else(compose)
            && (has_orders || job.database != Database::None)
        {
            services.entry(service).or_default().push(&container.name);
        }
    }
    let twins = services.into_iter().filter(|(_, names)| names.len() > 1);
    twins
        .map(|(service, mut names)| {
            names.sort_unstable();
            format!(
                "{service} runs as {}: each of them is looked at by itself",
                names.join(" and as ")
            )
        })
        .collect()
}
