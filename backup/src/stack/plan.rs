//! Which snapshots bring a Compose project back as it was at a time, and what stands in the way: functions of values alone.
//!
//! Each volume and each dump comes from the newest proved snapshot that began at or before that time. What the snapshots
//! have and this cannot bring back is named, with the way that does.

use std::collections::{BTreeMap, BTreeSet};

use chores_common::engine::{Container, Volume};
use chores_common::quantity;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::browse::text::instant;
use crate::coverage::decide::{Recorded, is_random};
use crate::coverage::hosts::is_telling;
use crate::drill_record::Outcome;
use crate::forget::decide::Standing;
use crate::into::is_of_unknown_program;
use crate::machine::NODE_TAG;
use crate::snapshot::{
    DumpRecord, ENGINE_TAG, Snapshot, SnapshotId, Source, SourceVolume, Stack, State,
};
use crate::worker::COMPOSE_PROJECT;

#[cfg(test)]
mod tests;

/// Bytes of a date such as `2026-11-30`.
const DATE_BYTES: usize = 10;

/// The driver of the engine itself.
const LOCAL_DRIVER: &str = "local";

/// What plugins may leave out behind their names.
const LATEST_TAG: &str = ":latest";

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "--as-of {0} is no time: give it with its offset, such as 2026-11-30T12:00:00Z, a date (its end in UTC), or how long ago it \
     was, such as 2h"
)]
pub struct InvalidTime(String);

/// The time that is meant: RFC 3339, a date (its last second in UTC), or a duration before `now`.
pub fn as_of(text: &str, now: Timestamp) -> Result<Timestamp, InvalidTime> {
    let invalid = || InvalidTime(text.to_owned());
    if let Ok(ago) = quantity::duration(text) {
        return now.checked_sub(ago).map_err(|_| invalid());
    }
    // A longer text with a date in front is read as that date.
    if text.len() == DATE_BYTES
        && let Ok(date) = text.parse::<jiff::civil::Date>()
    {
        let end = date.at(23, 59, 59, 0).to_zoned(TimeZone::UTC).map_err(|_| invalid())?;
        return Ok(end.timestamp());
    }
    text.parse().map_err(|_| invalid())
}

/// What is to come back.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The Compose project.
    pub project: &'a str,
    /// How it was then.
    pub as_of: Timestamp,
    /// Only what was saved under this host name.
    pub host: Option<&'a str>,
}

/// A snapshot that was picked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pick {
    /// Which.
    pub id: SnapshotId,
    /// What it is called.
    pub name: String,
    /// Start of its run.
    pub time: Timestamp,
    /// How far it can be trusted; never `failed`.
    pub state: State,
}

/// A volume, and where its content comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumePick {
    /// As it was recorded.
    pub recorded: SourceVolume,
    /// The source of the snapshot that has it.
    pub path: String,
    /// The snapshot.
    pub from: Pick,
    /// No container of the project had it any more at that time.
    pub is_retired: bool,
}

/// A dump, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DumpPick {
    /// It.
    pub record: DumpRecord,
    /// The service it was made in.
    pub service: String,
    /// The container it was made in.
    pub container: String,
    /// The snapshot.
    pub from: Pick,
}

/// What is not brought back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// A volume, a path or a dump.
    pub what: String,
    /// Why, and what brings it back.
    pub reason: String,
}

/// The project as a snapshot tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackAt {
    /// The snapshot.
    pub id: SnapshotId,
    /// Start of its run.
    pub time: Timestamp,
    /// The project.
    pub stack: Stack,
    /// Digests of its images in registries, by their ids.
    pub images: BTreeMap<String, Vec<String>>,
}

/// What comes back from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// In order of names.
    pub volumes: Vec<VolumePick>,
    /// In order of containers.
    pub dumps: Vec<DumpPick>,
    /// What does not.
    pub left: Vec<Left>,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
    /// The project at that time, where a snapshot tells of it.
    pub stack: Option<StackAt>,
}

/// Nothing can be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// No snapshot is of it.
    #[error("no snapshot is of the Compose project {project}{}", known_projects(.known))]
    NoProject {
        /// It.
        project: String,
        /// Those that snapshots are of.
        known: Vec<String>,
    },
    /// Two hosts have one of this name.
    #[error("the hosts {} have saved a project {project}: say which one is meant with --host", .hosts.join(", "))]
    SeveralHosts {
        /// The project.
        project: String,
        /// Their names.
        hosts: Vec<String>,
    },
    /// Nothing that counts is so old.
    #[error("nothing of the project {project} was saved and proved at or before {}{}", instant(*.as_of), first_after(*.first))]
    Nothing {
        /// The project.
        project: String,
        /// The time.
        as_of: Timestamp,
        /// The first one that would count.
        first: Option<Timestamp>,
    },
}

fn known_projects(known: &[String]) -> String {
    if known.is_empty() {
        ", nor of any other: `backup create --volumes-from`, `--volume` and `dump --container` record it".to_owned()
    } else {
        format!("; there are those of {}", known.join(", "))
    }
}

fn first_after(first: Option<Timestamp>) -> String {
    first.map_or_else(String::new, |first| format!("; the first is of {}", instant(first)))
}

/// A part of a project that snapshots have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Volume(String),
    Dump(String, String),
}

impl Part {
    fn what(&self) -> String {
        match self {
            Self::Volume(name) => format!("volume {name}"),
            Self::Dump(container, kind) => format!("dump of {container} ({kind})"),
        }
    }
}

/// Picks the snapshots.
pub fn choose(history: &[Recorded], wish: &Wish<'_>) -> Result<Choice, ChoiceError> {
    let project = wish.project;
    let is_of_host = |known: &&Recorded| wish.host.is_none_or(|host| known.snapshot.host == host);
    let mine: Vec<&Recorded> = history
        .iter()
        .filter(|known| projects_of(&known.snapshot).contains(project))
        .filter(is_of_host)
        .collect();
    if mine.is_empty() {
        let known = history.iter().filter(is_of_host);
        let known: BTreeSet<_> = known.flat_map(|known| projects_of(&known.snapshot)).collect();
        let known = known.into_iter().map(str::to_owned).collect();
        return Err(ChoiceError::NoProject { project: project.to_owned(), known });
    }
    let hosts: BTreeSet<_> = mine
        .iter()
        .map(|known| known.snapshot.host.as_str())
        .filter(|host| is_telling(host))
        .collect();
    if wish.host.is_none() && hosts.len() > 1 {
        let hosts = hosts.into_iter().map(str::to_owned).collect();
        return Err(ChoiceError::SeveralHosts { project: project.to_owned(), hosts });
    }
    let mut choice = Choice { stack: stack_at(&mine, wish), ..Choice::default() };
    let mut parts: BTreeMap<Part, Vec<&Recorded>> = BTreeMap::new();
    for known in &mine {
        for part in parts_of(&known.snapshot, project) {
            parts.entry(part).or_default().push(known);
        }
    }
    let mut first = None::<Timestamp>;
    for (part, having) in &parts {
        let counted = having.iter().filter(|known| why_not(known).is_none());
        let earliest = counted.map(|known| known.snapshot.time).min();
        first = first.into_iter().chain(earliest).min();
        pick(part, having, wish, &mut choice);
    }
    if choice.volumes.is_empty() && choice.dumps.is_empty() {
        return Err(ChoiceError::Nothing {
            project: project.to_owned(),
            as_of: wish.as_of,
            first: first.filter(|first| !is_by(*first, wish.as_of)),
        });
    }
    note_machines(&mine, &mut choice);
    leave_paths(&mine, wish, &mut choice);
    compare_with_stack(&mut choice);
    leave_replaced_containers(&mut choice);
    Ok(choice)
}

/// Two machines may have one name, and one machine may have got another engine: what was picked of either must not look like the
/// state of one.
fn note_machines(mine: &[&Recorded], choice: &mut Choice) {
    let volumes = choice.volumes.iter().map(|pick| (&pick.recorded.name, pick.from.id));
    let dumps = choice.dumps.iter().map(|pick| (&pick.container, pick.from.id));
    let picked: Vec<_> = volumes.chain(dumps).collect();
    for key in [ENGINE_TAG, NODE_TAG] {
        let mut machines: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (what, id) in &picked {
            let known = mine.iter().find(|known| known.id == *id);
            if let Some(machine) = known.and_then(|known| known.snapshot.tags.get(key)) {
                machines.entry(machine).or_default().insert(what);
            }
        }
        if machines.len() > 1 {
            let of = |(machine, what): (&&str, &BTreeSet<&str>)| {
                format!("{key}={machine}: {}", what.iter().copied().collect::<Vec<_>>().join(", "))
            };
            let all: Vec<_> = machines.iter().map(of).collect();
            choice.notes.push(format!(
                "what comes back was saved on {} machines of this name ({}): if they are not one after the other, restore by snapshots",
                machines.len(),
                all.join("; ")
            ));
        }
    }
}

/// The newest that counts, and what is to be said about others.
fn pick(part: &Part, having: &[&Recorded], wish: &Wish<'_>, choice: &mut Choice) {
    let mut by_then: Vec<&&Recorded> =
        having.iter().filter(|known| is_by(known.snapshot.time, wish.as_of)).collect();
    by_then.sort_by_key(|known| known.snapshot.time);
    let Some(newest) = by_then.last() else {
        choice.notes.push(format!("{}: first saved after that time", part.what()));
        return;
    };
    let problem = why_not(newest);
    let Some(picked) = by_then.iter().rev().find(|known| why_not(known).is_none()) else {
        choice.left.push(Left {
            what: part.what(),
            reason: format!(
                "no snapshot of that time or before it is proved; the newest, {}, does not count: {}",
                newest.id.short(),
                problem.unwrap_or_default()
            ),
        });
        return;
    };
    if let Some(problem) = problem {
        choice.notes.push(format!(
            "{}: the newer snapshot {} of {} does not count: {problem}",
            part.what(),
            newest.id.short(),
            instant(newest.snapshot.time)
        ));
    }
    let snapshot = &picked.snapshot;
    let took = std::time::Duration::from_millis(snapshot.stats.duration_ms);
    if snapshot.time.checked_add(took).is_ok_and(|end| end > wish.as_of) {
        choice.notes.push(format!(
            "{}: the run of snapshot {} was not at its end at that time, so it may hold later changes",
            part.what(),
            picked.id.short()
        ));
    }
    let from = Pick {
        id: picked.id,
        name: snapshot.name.clone(),
        time: snapshot.time,
        state: snapshot.state,
    };
    match part {
        Part::Volume(name) => {
            let source =
                volumes_of(snapshot, wish.project).find(|(_, volume)| volume.name == *name);
            let Some((source, volume)) = source else { return };
            if is_random(name) {
                choice.left.push(Left {
                    what: format!("volume {name}"),
                    reason: format!(
                        "it is anonymous, so no new container would have it: `backup restore {} --source {} --volume NAME`",
                        from.id.short(),
                        source.path
                    ),
                });
                return;
            }
            let path = source.path.clone();
            let (recorded, is_retired) = (volume.clone(), false);
            choice.volumes.push(VolumePick { recorded, path, from, is_retired });
        }
        Part::Dump(container, _) => {
            let found = dumps_of(snapshot, wish.project)
                .find(|(record, name, _)| Part::of_dump(record, name) == *part);
            let Some((record, _, service)) = found else { return };
            if is_of_unknown_program(record) {
                choice.left.push(Left {
                    what: part.what(),
                    reason: format!(
                        "it is the output of a program that is not known here: `backup restore {} --source {} --into {container} -- COMMAND`",
                        from.id.short(),
                        record.path
                    ),
                });
                return;
            }
            let (record, container) = (record.clone(), container.clone());
            choice.dumps.push(DumpPick { record, service: service.to_owned(), container, from });
        }
    }
}

impl Part {
    fn of_dump(record: &DumpRecord, container: &str) -> Self {
        Self::Dump(container.to_owned(), record.kind.to_string())
    }
}

/// Whether a run that began at `time`, shown to people in whole seconds, is one of `as_of` or before.
fn is_by(time: Timestamp, as_of: Timestamp) -> bool {
    time.as_second() <= as_of.as_second()
}

/// Why a snapshot counts for nothing.
fn why_not(known: &Recorded) -> Option<String> {
    match (known.standing, known.drill) {
        (Standing::Proved, Some(Outcome::Failed)) => Some("its last drill failed".to_owned()),
        (Standing::Proved, _) => None,
        (standing, _) => Some(standing.to_string()),
    }
}

/// The projects that a snapshot has something of.
fn projects_of(snapshot: &Snapshot) -> BTreeSet<&str> {
    let volumes = snapshot.sources.iter().filter_map(|source| source.volume.as_ref());
    let labels = volumes.filter_map(|volume| volume.labels.get(COMPOSE_PROJECT));
    let stacks = snapshot.provenance.stacks.iter().map(|stack| stack.project.as_str());
    labels.map(String::as_str).chain(stacks).collect()
}

fn parts_of(snapshot: &Snapshot, project: &str) -> BTreeSet<Part> {
    let volumes =
        volumes_of(snapshot, project).map(|(_, volume)| Part::Volume(volume.name.clone()));
    let dumps = dumps_of(snapshot, project).map(|(record, name, _)| Part::of_dump(record, name));
    volumes.chain(dumps).collect()
}

/// The project's volumes in a snapshot: by their label, or since a container of the project has them.
fn volumes_of<'a>(
    snapshot: &'a Snapshot,
    project: &str,
) -> impl Iterator<Item = (&'a Source, &'a SourceVolume)> {
    let stack = snapshot.provenance.stack(project);
    let is_labelled = move |volume: &SourceVolume| {
        volume.labels.get(COMPOSE_PROJECT).is_some_and(|label| label == project)
    };
    let sources = snapshot.sources_of_files();
    let volumes = sources.filter_map(|source| Some((source, source.volume.as_ref()?)));
    let volumes: Vec<_> = volumes
        .filter(|(_, volume)| {
            volume.kind == "volume"
                && (is_labelled(volume) || stack.is_some_and(|stack| stack.uses(&volume.name)))
        })
        .collect();
    volumes.into_iter()
}

/// The dumps of the project's containers in a snapshot, with names of containers and services.
fn dumps_of<'a>(
    snapshot: &'a Snapshot,
    project: &str,
) -> impl Iterator<Item = (&'a DumpRecord, &'a str, &'a str)> {
    let stack = snapshot.provenance.stack(project);
    snapshot.dumps.iter().filter_map(move |record| {
        let container = record.container.as_ref()?;
        let service = stack?.container(&container.id)?;
        Some((record, container.name.as_str(), service.service.as_str()))
    })
}

/// The project as the newest snapshot of that time or before it tells; whether its data counts does not matter for that.
fn stack_at(mine: &[&Recorded], wish: &Wish<'_>) -> Option<StackAt> {
    let telling = mine.iter().filter(|known| is_by(known.snapshot.time, wish.as_of));
    let telling =
        telling.filter_map(|known| Some((known, known.snapshot.provenance.stack(wish.project)?)));
    let (known, stack) = telling.max_by_key(|(known, _)| known.snapshot.time)?;
    let (id, time) = (known.id, known.snapshot.time);
    let images = known.snapshot.provenance.images.clone();
    Some(StackAt { id, time, stack: stack.clone(), images })
}

/// Paths of the host that containers of the project had.
fn leave_paths(mine: &[&Recorded], wish: &Wish<'_>, choice: &mut Choice) {
    let mut newest: BTreeMap<&str, (&Recorded, &Source)> = BTreeMap::new();
    for known in mine.iter().copied() {
        let snapshot = &known.snapshot;
        let stack = snapshot.provenance.stack(wish.project);
        let is_theirs = snapshot.container.as_ref().zip(stack);
        let is_theirs = is_theirs.is_some_and(|(own, stack)| stack.container(&own.id).is_some());
        if !is_theirs || !is_by(snapshot.time, wish.as_of) || why_not(known).is_some() {
            continue;
        }
        for source in snapshot.sources_of_files() {
            let Some(bind) = source.volume.as_ref().filter(|volume| volume.kind == "bind") else {
                continue;
            };
            let is_newer = |last: &(&Recorded, &Source)| last.0.snapshot.time < snapshot.time;
            if newest.get(bind.name.as_str()).is_none_or(is_newer) {
                newest.insert(&bind.name, (known, source));
            }
        }
    }
    choice.left.extend(newest.into_iter().map(|(path, (known, source))| Left {
        what: format!("path {path}"),
        reason: format!(
            "it is the host's own: `backup restore {} --source {} --strip --target {path}`",
            known.id.short(),
            source.path
        ),
    }));
}

/// What the project had at that time and nothing brings back, and what it had no more.
fn compare_with_stack(choice: &mut Choice) {
    let Some(StackAt { time, stack, .. }) = choice.stack.clone() else {
        choice.notes.push(
            "no snapshot of that time or before it says which services, images and files the project had: they were made by a \
             program before this one, or while it had no container"
                .to_owned(),
        );
        return;
    };
    let mut known: BTreeSet<String> =
        choice.volumes.iter().map(|pick| format!("volume {}", pick.recorded.name)).collect();
    known.extend(choice.left.iter().map(|left| left.what.clone()));
    for service in &stack.services {
        for (volume, place) in &service.volumes {
            let what = format!("volume {volume}");
            if !known.insert(what.clone()) {
                continue;
            }
            let name = &service.service;
            if choice.dumps.iter().any(|dump| dump.container == service.container) {
                choice.notes.push(format!(
                    "{what} of {name} at {place}: no snapshot of that time or before it has its files, there is a dump"
                ));
            } else {
                let reason = format!(
                    "no snapshot of that time or before it has it; the service {name} had it at {place}"
                );
                choice.left.push(Left { what, reason });
            }
        }
    }
    for pick in &mut choice.volumes {
        if pick.from.time < time && !stack.uses(&pick.recorded.name) {
            pick.is_retired = true;
            choice.notes.push(format!(
                "volume {}: no container had it any more at {}",
                pick.recorded.name,
                instant(time)
            ));
        }
    }
}

/// Dumps of containers that were gone by then: another container of their service has its own, which an old one must not replace.
fn leave_replaced_containers(choice: &mut Choice) {
    let Some(StackAt { stack, .. }) = &choice.stack else { return };
    let is_there =
        |dump: &DumpPick| stack.services.iter().any(|then| then.container == dump.container);
    let (kept, gone): (Vec<_>, Vec<_>) =
        std::mem::take(&mut choice.dumps).into_iter().partition(is_there);
    choice.dumps = kept;
    choice.left.extend(gone.into_iter().map(|dump| Left {
        what: Part::of_dump(&dump.record, &dump.container).what(),
        reason: format!(
            "its container was gone by then: `backup restore {} --source {} --into CONTAINER`",
            dump.from.id.short(),
            dump.record.path
        ),
    }));
}

/// What an engine has of what is to come back.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The volumes that are there, by their names.
    pub volumes: BTreeMap<String, Volume>,
    /// Names of the running containers that have them.
    pub users: BTreeMap<String, Vec<String>>,
    /// The drivers; `None` where the engine does not tell.
    pub drivers: Option<Vec<String>>,
}

/// What is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules<'a> {
    /// In front of the names of volumes.
    pub prefix: &'a str,
    /// What is in volumes may go.
    pub replace: bool,
    /// Volumes may be in use, and what replaces them may be incomplete.
    pub force: bool,
}

/// One volume that comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// From where.
    pub pick: VolumePick,
    /// The volume it goes into.
    pub target: String,
    /// It is there already.
    pub exists: bool,
}

impl Step {
    /// Whether the volume would be made with options, or by a driver, that decide where its content is.
    #[must_use]
    pub fn leads_elsewhere(&self) -> bool {
        let recorded = &self.pick.recorded;
        let is_foreign = !matches!(recorded.driver.as_str(), "" | LOCAL_DRIVER);
        !self.exists && self.target == recorded.name && (is_foreign || !recorded.options.is_empty())
    }
}

/// What is done, and what a person should know; or everything that stands in the way.
pub fn steps(
    choice: &Choice,
    facts: &Facts,
    rules: &Rules<'_>,
) -> Result<(Vec<Step>, Vec<String>), Vec<String>> {
    let mut problems = Vec::new();
    let mut notes = Vec::new();
    let mut steps = Vec::new();
    let mut taken = BTreeSet::new();
    if !rules.prefix.is_empty() {
        notes.push(
            "under other names volumes are plain ones: driver options would lead to the data of the old ones, and labels to their \
             services"
                .to_owned(),
        );
    }
    for pick in &choice.volumes {
        let target = format!("{}{}", rules.prefix, pick.recorded.name);
        if !is_volume_name(&target) {
            problems.push(format!("{target} is no name that a volume can have"));
        }
        if !taken.insert(target.clone()) {
            problems.push(format!("two volumes would be called {target}"));
        }
        let there = facts.volumes.get(&target);
        if pick.is_retired && there.is_some() {
            notes.push(format!("the volume {target} is there already and was no more of the project: it is left alone"));
            continue;
        }
        match there {
            Some(_) if !rules.replace => problems.push(format!(
                "the volume {target} is there already: --replace lets the snapshot take the place of what is in it, --volume-prefix \
                 puts it beside"
            )),
            Some(there) => {
                if pick.from.state != State::Complete && !rules.force {
                    problems.push(format!(
                        "the snapshot {} of the volume {target} has warnings, so what could not be saved would be removed: --force \
                         does it",
                        pick.from.id.short()
                    ));
                }
                if rules.prefix.is_empty() && is_otherwise(there, &pick.recorded) {
                    notes.push(format!(
                        "the volume {target} has another driver, other options or labels than it had, which stay: remove it before, \
                         and it is made as it was"
                    ));
                }
            }
            None => {
                let driver = pick.recorded.driver.as_str();
                if rules.prefix.is_empty() && lacks_driver(facts, driver) {
                    problems.push(format!(
                        "the volume {target} needs the driver {driver}, which the engine does not have"
                    ));
                }
            }
        }
        if let Some(users) = facts.users.get(&target).filter(|users| !users.is_empty())
            && !rules.force
        {
            problems.push(format!(
                "the volume {target} is in use by {}: stop them first, or add --force",
                users.join(", ")
            ));
        }
        steps.push(Step { pick: pick.clone(), target, exists: there.is_some() });
    }
    if problems.is_empty() { Ok((steps, notes)) } else { Err(problems) }
}

/// The name as engines take it.
fn is_volume_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn lacks_driver(facts: &Facts, driver: &str) -> bool {
    let bare = |name: &str| name.strip_suffix(LATEST_TAG).unwrap_or(name).to_owned();
    !matches!(driver, "" | LOCAL_DRIVER)
        && facts
            .drivers
            .as_ref()
            .is_some_and(|known| !known.iter().any(|known| bare(known) == bare(driver)))
}

fn is_otherwise(there: &Volume, recorded: &SourceVolume) -> bool {
    (!recorded.driver.is_empty() && there.driver != recorded.driver)
        || there.labels != recorded.labels
        || there.options != recorded.options
}

/// The dumps, and the names of the running containers that take them; or everything that stands in the way.
/// `containers` are those of the project now.
pub fn databases(
    choice: &Choice,
    containers: &[Container],
) -> Result<Vec<(DumpPick, String)>, Vec<String>> {
    let mut problems = Vec::new();
    let mut found = Vec::new();
    for dump in &choice.dumps {
        let what = format!("the dump of {} ({})", dump.container, dump.record.kind);
        let of_service: Vec<_> = containers
            .iter()
            .filter(|now| {
                now.compose_service() == Some(dump.service.as_str()) && !now.is_compose_run()
            })
            .collect();
        let same = of_service.iter().copied().find(|now| now.name == dump.container);
        let only = of_service.first().copied().filter(|_| of_service.len() == 1);
        match same.or(only) {
            Some(now) if now.running && !now.paused => {
                found.push((dump.clone(), now.name.clone()));
            }
            Some(_) => {
                problems.push(format!("the service {} does not run: start it first", dump.service));
            }
            None if of_service.is_empty() => problems.push(format!(
                "the service {} has no container: start it first, {what} goes into it",
                dump.service
            )),
            None => problems.push(format!(
                "the service {} has {} containers, none of which is called {}: `backup restore {} --into CONTAINER`",
                dump.service,
                of_service.len(),
                dump.container,
                dump.from.id.short()
            )),
        }
    }
    let mut taken = BTreeSet::new();
    for (dump, container) in &found {
        if !taken.insert(container.clone()) {
            problems.push(format!(
                "two dumps would go into {container}, the second of them {}: `backup restore {} --source {} --into {container}` for one of them",
                dump.record.path,
                dump.from.id.short(),
                dump.record.path
            ));
        }
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}
