//! Which jobs the containers of a host are, by the labels that an operator gave them (pure).
//!
//! What a container has from its image is no order. A job whose labels cannot be understood is refused, not guessed at.

use std::collections::{BTreeMap, BTreeSet};

use chores_common::engine::{Container, MountKind};
use jiff::Timestamp;

use super::job::{ByContainer, Dump, Job, Quiesce, What};
use super::settings::Defaults;
use crate::coverage::inventory::{Identity, is_lasting, keeps_data};
use crate::database::{Unrecognised, recognise};
use crate::dump::evidence_of;
use crate::labels::{self, DumpOrder, Orders, PREFIX, Still};
use crate::mounts::is_system_point;
use crate::snapshot::DumpKind;

#[cfg(test)]
mod tests;

/// Digits of a container's id that tell two jobs of one name apart.
const ID_DIGITS: usize = 12;

/// What an engine has.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// All containers that have a label of this program, inspected.
    pub containers: Vec<Container>,
    /// Those of them that the engine could not show, by name and labels, and what it said.
    pub unseen: Vec<(Container, String)>,
    /// Labels of images by their id, where they can be had.
    pub image_labels: BTreeMap<String, BTreeMap<String, String>>,
    /// Id of the container that this program is in.
    pub own: Option<String>,
    /// Those that have none, by name and labels.
    pub others: Vec<Container>,
    /// The host name of the engine's machine.
    pub host: Option<String>,
    /// What the engine calls itself.
    pub engine: Option<String>,
    /// Which node of its Swarm it is.
    pub node: Option<String>,
    /// The boot of its machine, where this program runs on that too.
    pub boot: Option<String>,
}

/// The jobs among the containers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Discovered {
    /// Those that may run now.
    pub jobs: Vec<Job>,
    /// Names of jobs whose container is there and does not run.
    pub resting: BTreeSet<String>,
    /// Names under which there are containers that are no jobs.
    pub others: BTreeSet<String>,
    /// Names of jobs that cannot be, and why.
    pub refused: BTreeMap<String, String>,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
}

/// Finds the jobs.
#[must_use]
pub fn discover(found: &Found, defaults: &Defaults) -> Discovered {
    let mut discovered = Discovered::default();
    for container in found.others.iter().filter(|container| container.running) {
        if is_lasting(container, &all_of(container), found.own.as_deref()) {
            discovered.others.insert(name_of(container));
        }
    }
    for (container, problem) in &found.unseen {
        take_unseen(container, problem, found, defaults, &mut discovered);
    }
    for container in &found.containers {
        let name = name_of(container);
        let image = found.image_labels.get(&container.image_id);
        let given = labels::given(&container.labels, image);
        // Without the image, a worker of this program is known by all it has.
        let told = if image.is_some() { given.clone() } else { all_of(container) };
        if !is_lasting(container, &told, found.own.as_deref()) {
            continue;
        }
        if image.is_none() {
            if !(container.running && is_ordered(&told, defaults)) {
                continue;
            }
            discovered.refused.insert(
                name,
                "its image is gone or may not be asked, so nobody can say which of its labels are an operator's"
                    .to_owned(),
            );
            continue;
        }
        let orders = labels::read(&given);
        let is_ours = is_in(&given, defaults.scope.as_deref());
        if !is_ours || orders.enable != Some(true) {
            if is_ours {
                discovered.notes.extend(why_not(&name, container, &given, &orders));
            }
            if container.running {
                discovered.others.insert(name);
            }
            continue;
        }
        if !container.running {
            discovered.resting.insert(name);
            continue;
        }
        match job(&name, container, &orders, defaults, &mut discovered.notes) {
            Ok(job) => discovered.jobs.push(job),
            Err(problem) => drop(discovered.refused.insert(name, problem)),
        }
    }
    leave_to_the_newest(&mut discovered);
    discovered
}

/// One that the engine cannot show stops no other.
fn take_unseen(
    container: &Container,
    problem: &str,
    found: &Found,
    defaults: &Defaults,
    discovered: &mut Discovered,
) {
    let (name, told) = (name_of(container), all_of(container));
    if !is_lasting(container, &told, found.own.as_deref()) {
        return;
    }
    if !is_ordered(&told, defaults) {
        return;
    }
    if container.running {
        let problem = format!("the engine cannot show its container {}: {problem}", container.name);
        discovered.refused.insert(name, problem);
    } else {
        discovered.resting.insert(name);
    }
}

/// Whether a container has an order to be saved, whoever gave that.
fn is_ordered(told: &BTreeMap<&str, &str>, defaults: &Defaults) -> bool {
    let enable = format!("{PREFIX}enable");
    told.get(enable.as_str()) == Some(&"true") && is_in(told, defaults.scope.as_deref())
}

/// While Swarm replaces a task (`order: start-first`), the old and the new one run side by side: the job is the new one.
fn leave_to_the_newest(discovered: &mut Discovered) {
    let mut newest: BTreeMap<String, (Option<Timestamp>, String)> = BTreeMap::new();
    let of_task = |job: &Job| job.by.clone().filter(|by| by.name != job.name);
    for job in &discovered.jobs {
        let Some(by) = of_task(job) else { continue };
        let known = newest.entry(job.name.clone()).or_default();
        *known = (by.started, by.id).max(known.clone());
    }
    let (stay, leave): (Vec<_>, Vec<_>) =
        std::mem::take(&mut discovered.jobs).into_iter().partition(|job| {
            of_task(job).is_none_or(|by| newest.get(&job.name) == Some(&(by.started, by.id)))
        });
    discovered.jobs = stay;
    discovered.notes.extend(leave.iter().filter_map(|job| {
        let by = job.by.as_ref()?;
        Some(format!(
            "{}: its task {} is left to itself, since a newer one of the same place runs and is the one that is saved",
            job.name, by.name
        ))
    }));
}

/// The name of its job: a task of Swarm has its place in the service. Labels of that may be an image's, the name is not.
fn name_of(container: &Container) -> String {
    let identity = Identity::of(container);
    let is_its = |slot: &String| {
        container.name.strip_prefix(slot.as_str()).is_some_and(|rest| rest.starts_with('.'))
    };
    identity.slot.filter(is_its).unwrap_or(identity.name)
}

fn all_of(container: &Container) -> BTreeMap<&str, &str> {
    container.labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect()
}

/// Whether a container has the label without which it is none of ours.
fn is_in(labels: &BTreeMap<&str, &str>, scope: Option<&str>) -> bool {
    let Some(scope) = scope else { return true };
    match scope.split_once('=') {
        Some((key, value)) => labels.get(key) == Some(&value),
        None => labels.contains_key(scope),
    }
}

/// Why a container with labels of this program is no job, where that may not be meant.
fn why_not(
    name: &str,
    container: &Container,
    given: &BTreeMap<&str, &str>,
    orders: &Orders,
) -> Option<String> {
    let enable = format!("{PREFIX}enable");
    if orders.enable == Some(false) {
        return None;
    }
    let is_of_image =
        container.labels.contains_key(&enable) && !given.contains_key(enable.as_str());
    if is_of_image {
        return Some(format!(
            "{name} is not saved: it has {enable} from its image alone, which is no order of an operator"
        ));
    }
    if let Some(problem) = orders.problems.first() {
        return Some(format!("{name} is not saved: {problem}"));
    }
    let has_orders = orders.schedule.is_some() || orders.retain.is_some() || orders.drill.is_some();
    has_orders.then(|| format!("{name} is not saved: it has no label {enable}=true"))
}

fn job(
    name: &str,
    container: &Container,
    orders: &Orders,
    defaults: &Defaults,
    notes: &mut Vec<String>,
) -> Result<Job, String> {
    if let Some(problem) = orders.problems.first() {
        return Err(problem.clone());
    }
    let who = |still: &Option<Still>| match still {
        None => Vec::new(),
        Some(Still::Itself) => vec![container.name.clone()],
        Some(Still::Named(names)) => names.clone(),
    };
    let here = |command: &Option<String>| {
        command.iter().map(|command| (container.name.clone(), command.clone())).collect()
    };
    let still = Quiesce {
        pause: who(&orders.pause),
        stop: who(&orders.stop),
        pre: here(&orders.pre),
        post: here(&orders.post),
        max_pause: None,
    };
    let what = what(name, container, orders, &still, notes)?;
    if matches!(what, What::Dump { .. }) {
        if !still.is_empty() {
            return Err(format!(
                "only its database is saved, by a dump, and nothing holds still for that: leave {PREFIX}pause, stop, pre and \
                 post away, or say {PREFIX}dump=false to save its files"
            ));
        }
        if !orders.exclude.is_empty() {
            return Err(format!("a dump has no paths: leave {PREFIX}exclude away"));
        }
    }
    Ok(Job {
        name: name.to_owned(),
        by: Some(ByContainer {
            id: container.id.clone(),
            name: container.name.clone(),
            started: container.started_at.as_ref().and_then(|time| time.parse().ok()),
        }),
        what,
        still,
        exclude: orders.exclude.clone(),
        schedule: orders.schedule.clone().unwrap_or_else(|| defaults.schedule.clone()),
        retain: orders.retain.clone().or_else(|| defaults.retain.clone()),
        drill: orders.drill.clone(),
        time_max_seconds: defaults.time_max_seconds,
        overdue_after_seconds: defaults.overdue_after_seconds,
    })
}

fn what(
    name: &str,
    container: &Container,
    orders: &Orders,
    still: &Quiesce,
    notes: &mut Vec<String>,
) -> Result<What, String> {
    let files = || What::Container { name: container.name.clone(), dump: None };
    // Its files are saved while it is held still, if that is what was ordered.
    let is_held = still.pause.contains(&container.name) || still.stop.contains(&container.name);
    let kind = match orders.dump {
        Some(DumpOrder::No) => return Ok(files()),
        None if is_held => return Ok(files()),
        Some(DumpOrder::Kind(DumpKind::Command)) => {
            return Err(format!(
                "{PREFIX}dump=command does not say which command: write a [[job]] with `dump` and `command` into the \
                 configuration, and leave {PREFIX}enable=true away"
            ));
        }
        Some(DumpOrder::Kind(kind)) => kind,
        Some(DumpOrder::Recognised) | None => match recognise(&evidence_of(container)) {
            Ok(kind) => kind,
            Err(Unrecognised::None) if orders.dump.is_none() => return Ok(files()),
            Err(Unrecognised::None) => {
                return Err(format!(
                    "no database is recognised in it: the label {PREFIX}dump says which it is"
                ));
            }
            Err(Unrecognised::Several(one, other)) => {
                return Err(format!(
                    "it looks like {one} and like {other}: the label {PREFIX}dump says which it is"
                ));
            }
        },
    };
    let dump = Dump { container: container.name.clone(), kind: Some(kind) };
    // Its files lie in whatever volume the application keeps them in.
    if kind == DumpKind::Sqlite {
        return Ok(What::Container { name: container.name.clone(), dump: Some(dump) });
    }
    let mut volumes = Vec::new();
    for mount in &container.mounts {
        if keeps_data(container, kind, &mount.destination) {
            continue;
        }
        let place = mount.destination.to_string_lossy();
        match (mount.kind, &mount.name) {
            (MountKind::Volume, Some(volume)) if mount.read_write => volumes.push(volume.clone()),
            (MountKind::Bind, _)
                if mount.read_write
                    && !is_system_point(place.trim_start_matches('/').as_bytes()) =>
            {
                notes.push(format!(
                    "{name}: {} at {place} is not in the dump of its database: write a [[job]] with its path into the \
                     configuration if it is data",
                    mount.source.display()
                ));
            }
            _ => {}
        }
    }
    volumes.sort_unstable();
    volumes.dedup();
    Ok(if volumes.is_empty() {
        What::Dump { dump, command: Vec::new() }
    } else {
        What::Volumes { names: volumes, dump: Some(dump) }
    })
}

/// All jobs by name. Those that share one are told once and saved under names of their own.
#[must_use]
pub fn join(configured: &[Job], found: &[Job]) -> (BTreeMap<String, Job>, Vec<String>) {
    let mut by_name: BTreeMap<&str, Vec<&Job>> = BTreeMap::new();
    for job in configured.iter().chain(found) {
        by_name.entry(&job.name).or_default().push(job);
    }
    let mut jobs = BTreeMap::new();
    let mut problems = Vec::new();
    let (single, shared): (Vec<_>, Vec<_>) =
        by_name.into_iter().partition(|(_, those)| those.len() == 1);
    for job in single.into_iter().flat_map(|(_, those)| those) {
        jobs.insert(job.name.clone(), job.clone());
    }
    for (name, those) in shared {
        let mut names = Vec::new();
        for job in those {
            let name = own_name(job, &jobs);
            let who = job.by.as_ref().map_or("the configuration", |by| by.name.as_str());
            names.push(format!("{who} as {name}"));
            jobs.insert(name.clone(), Job { name, ..job.clone() });
        }
        problems.push(format!(
            "{} jobs are called {name}, so each is saved under a name of its own: {}",
            names.len(),
            names.join(", ")
        ));
    }
    (jobs, problems)
}

/// A name that no other job has.
fn own_name(job: &Job, taken: &BTreeMap<String, Job>) -> String {
    let Some(by) = &job.by else { return job.name.clone() };
    let short: String = by.id.chars().take(ID_DIGITS).collect();
    let names = [by.name.clone(), format!("{}-{short}", job.name)];
    let is_free = |name: &String| *name != job.name && !taken.contains_key(name);
    names.into_iter().find(is_free).unwrap_or_else(|| format!("{}-{}", job.name, by.id))
}
