//! What is protected, and by which snapshot: a function of values alone.
//!
//! Only a proved snapshot of this host protects, and for as long as it is young enough. What cannot be known is told as
//! that, and never taken for protection.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::hosts::{Judge, Origin};
use super::inventory::{DataSource, Identity, Inventory, What};
use crate::browse::text::instant;
use crate::drill_record::Outcome;
use crate::forget::decide::Standing;
use crate::snapshot::{DumpKind, DumpRecord, Snapshot, SnapshotId, Source};

#[cfg(test)]
mod tests;

/// How far ahead of this machine's clock a snapshot may be before one of the two clocks is taken to be wrong.
pub const AHEAD_MAX: Duration = Duration::from_secs(5 * 60);

/// A snapshot as the decision sees it.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Which.
    pub id: SnapshotId,
    /// What it says.
    pub snapshot: Snapshot,
    /// What it is worth.
    pub standing: Standing,
    /// What its newest drill found.
    pub drill: Option<Outcome>,
}

/// How something is protected. The worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// No snapshot has it.
    Unprotected,
    /// Snapshots have it, and none of them is proved.
    Unproved,
    /// The newest proved snapshot is too old.
    Overdue,
    /// A snapshot may have it.
    Unknown,
    /// A proved snapshot has it, and is young enough.
    Protected,
    /// It is not to be saved.
    LeftOut,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Unprotected,
        Self::Unproved,
        Self::Overdue,
        Self::Unknown,
        Self::Protected,
        Self::LeftOut,
    ];

    /// Whether nobody needs to do anything.
    #[must_use]
    pub fn is_well(self) -> bool {
        matches!(self, Self::Protected | Self::LeftOut)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unprotected => "UNPROTECTED",
            Self::Unproved => "UNPROVED",
            Self::Overdue => "OVERDUE",
            Self::Unknown => "UNKNOWN",
            Self::Protected => "protected",
            Self::LeftOut => "left out",
        })
    }
}

/// By what it is known that a snapshot has something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The engine said which volume or path it was.
    Engine,
    /// It is the same path of the host.
    Path,
    /// The snapshot is called as the container, and has the path where that has it.
    Name,
    /// It is a dump of the database.
    Dump,
}

/// The snapshot that tells how something is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Which.
    pub id: SnapshotId,
    /// What it is called.
    pub name: String,
    /// Name of the machine or container that made it.
    pub host: String,
    /// Start of its run.
    pub time: Timestamp,
    /// How old it is; `None` for one that is ahead of this machine's clock.
    pub age: Option<Duration>,
    /// What it is worth.
    pub standing: Standing,
    /// What its newest drill found.
    pub drill: Option<Outcome>,
    /// By what it is known.
    pub by: By,
    /// With how many warnings it was saved.
    pub warning_count: u64,
}

/// How one source is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it is.
    pub what: What,
    /// Names of the containers that use it.
    pub users: Vec<String>,
    /// How it is protected.
    pub state: State,
    /// The snapshot that says so: a proved one where there is one.
    pub proof: Option<Proof>,
    /// Why, and what else a person should know: one sentence each.
    pub reasons: Vec<String>,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What can be lost.
    pub inventory: &'a Inventory,
    /// What there is of it.
    pub history: &'a [Recorded],
    /// Whose that is.
    pub judge: &'a Judge<'a>,
    /// This machine's clock.
    pub now: Timestamp,
    /// How old the newest proved snapshot may be.
    pub age_max: Duration,
}

/// How a snapshot has a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Sure(By),
    /// It may be, and why that is not certain.
    Doubt(Doubt),
}

/// Why it is not certain that a snapshot has a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    /// In what was saved, unless it was left out.
    Inside,
    /// A dump that does not say of which container.
    Nameless,
    /// A dump by a command, which may have given anything.
    Command,
    /// A dump of one of the databases that the container looks like.
    OneOfSeveral,
    /// A path of a container, or of the host under the container's name.
    Named,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inside => {
                "it has a path above, and does not say what was left out: save the path itself too, or leave it out here \
                 with --except"
            }
            Self::Nameless => {
                "the dump was made without the engine, and does not say of which container: `backup dump --container` does"
            }
            Self::Command => {
                "it has what a command has given, and does not say whether that is all: the label \
                 chores.backup.dump=command does"
            }
            Self::OneOfSeveral => {
                "the container looks like several databases, and it has one of them: the label chores.backup.dump says \
                 which it is"
            }
            Self::Named => {
                "it is called as the container and has that path, but may have been made on the host, whose name it has: \
                 save through the engine, or under a `--host` of its own that is said here too"
            }
        })
    }
}

/// What snapshots say about one source.
#[derive(Debug, Default)]
struct Hits<'a> {
    /// Of this host.
    ours: Vec<(&'a Recorded, By)>,
    /// What may be, and why it is not certain: the newest.
    doubt: Option<(&'a Recorded, String)>,
    /// Names of other hosts.
    others: BTreeSet<String>,
}

/// Decides about everything, the worst first.
#[must_use]
pub fn decide(question: &Question<'_>) -> Vec<Row> {
    let origins: Vec<_> =
        question.history.iter().map(|known| question.judge.origin(&known.snapshot)).collect();
    let dumped = dumped(question, &origins);
    let sources = question.inventory.sources.iter().chain(&dumped);
    let mut rows: Vec<_> = sources.map(|source| row(source, question, &origins)).collect();
    hint(&mut rows);
    rows.sort_by_cached_key(|row| {
        let age = row.proof.as_ref().and_then(|proof| proof.age);
        (row.state, std::cmp::Reverse(age), row.kind(), row.name().to_owned())
    });
    rows
}

/// Says what to do about databases without a dump whose files are saved.
fn hint(rows: &mut [Row]) {
    let saved: BTreeSet<String> = rows
        .iter()
        .filter(|row| row.kind() != "database" && row.state == State::Protected)
        .flat_map(|row| row.users.iter().cloned())
        .collect();
    for row in rows {
        let is_saved = saved.contains(row.name());
        if row.kind() == "database" && row.state == State::Unprotected && is_saved {
            row.reasons.push(
                "files of its container are saved: if it stands still then, the label chores.backup.dump=false says \
                 that this is enough"
                    .to_owned(),
            );
        }
    }
}

/// Databases that nobody recognises, but whose containers were dumped: files of `SQLite`, commands.
fn dumped(question: &Question<'_>, origins: &[Origin]) -> Vec<DataSource> {
    let is_known = |id: &str| {
        question.inventory.sources.iter().any(
            |source| matches!(&source.what, What::Database { container, .. } if container.id == id),
        )
    };
    let jobs = question.inventory.containers.iter();
    let jobs = jobs.filter(|known| known.may_be_dumped && !is_known(&known.identity.id));
    let dump_of = |container: &Identity| {
        let ours =
            question.history.iter().zip(origins).filter(|(_, origin)| **origin == Origin::This);
        let newest = ours
            .flat_map(|(known, _)| known.snapshot.dumps.iter().map(move |dump| (known, dump)))
            .filter(|(_, dump)| is_of(dump, container))
            .max_by_key(|(known, _)| known.snapshot.time);
        newest.map(|(_, dump)| dump.kind)
    };
    jobs.filter_map(|known| {
        let kind = dump_of(&known.identity)?;
        Some(DataSource {
            what: What::Database { kind: Some(kind), container: known.identity.clone() },
            users: vec![known.identity.name.clone()],
            places: BTreeSet::new(),
            real: None,
            database: None,
            left_out: None,
            remarks: Vec::new(),
        })
    })
    .collect()
}

/// Whether a dump was made in this container, or in the one that had its place before.
fn is_of(dump: &DumpRecord, container: &Identity) -> bool {
    dump.container
        .as_ref()
        .is_some_and(|recorded| recorded.id == container.id || container.is_named(&recorded.name))
}

fn row(source: &DataSource, question: &Question<'_>, origins: &[Origin]) -> Row {
    let Hits { mut ours, doubt, others } = hits(source, question, origins);
    ours.sort_by_key(|(known, _)| std::cmp::Reverse((known.snapshot.time, known.id)));
    let is_ahead = |known: &Recorded| is_ahead(known.snapshot.time, question.now);
    let ahead = ours.iter().find(|(known, _)| is_ahead(known) && known.counts());
    let newest = ours.iter().find(|(known, _)| !is_ahead(known));
    let counted = ours.iter().find(|(known, _)| !is_ahead(known) && known.counts());
    let proof = |(known, by): &(&Recorded, By)| known.proof(*by, question.now);
    let mut reasons = Vec::new();
    let ahead_text = ahead.map(|(known, _)| {
        format!(
            "snapshot {} is dated {}, ahead of this machine's clock: one of the clocks is wrong, and its age is not known",
            known.id.short(),
            instant(known.snapshot.time)
        )
    });
    let is_old = |(known, _): &(&Recorded, String)| {
        age(known.snapshot.time, question.now) > question.age_max
    };
    // Were it the right one, it would be too old.
    let is_doubt_old = doubt.as_ref().is_none_or(is_old);
    let doubt_text = doubt.map(|(known, reason)| {
        let (id, time) = (known.id.short(), instant(known.snapshot.time));
        format!("snapshot {id} of {time} may have it: {reason}")
    });
    let (state, shown) = if let Some(found) = counted {
        let age = age(found.0.snapshot.time, question.now);
        let trouble = trouble(found.0, source);
        let state = match &trouble {
            _ if age > question.age_max => State::Overdue,
            Some(_) => State::Unknown,
            None => State::Protected,
        };
        reasons.extend(how(found.1, source));
        let warnings = &found.0.snapshot.warnings;
        let shown = trouble.or(warnings.first()).map_or("not kept", String::as_str);
        reasons.extend(match found.0.snapshot.warning_count {
            0 => None,
            1 => Some(format!("it was saved with a warning: {shown}")),
            count => Some(format!("it was saved with {count} warnings, such as: {shown}")),
        });
        if let Some((known, _)) = newest.filter(|(known, _)| known.id != found.0.id) {
            reasons.push(format!(
                "the newest, {} of {}, does not count: {}",
                known.id.short(),
                instant(known.snapshot.time),
                known.fault()
            ));
        }
        reasons.extend(ahead_text);
        if state == State::Overdue {
            reasons.extend(doubt_text);
        }
        (state, Some(proof(found)))
    } else if let Some(found) = ahead {
        reasons.extend(ahead_text);
        (State::Unknown, Some(proof(found)))
    } else if let Some(found) = ours.first() {
        reasons.push(format!("no snapshot of it counts, and the newest is {}", found.0.fault()));
        reasons.extend(doubt_text);
        (State::Unproved, Some(proof(found)))
    } else if matches!(source.what, What::Mount { .. }) {
        reasons.push(
            "this program does not know this kind of mount, nor a snapshot of it: save it in your own way, and leave it out \
             here with --except"
                .to_owned(),
        );
        (State::Unknown, None)
    } else if is_doubt_old {
        reasons.push(missing(source, &others));
        reasons.extend(doubt_text);
        (State::Unprotected, None)
    } else {
        reasons.extend(doubt_text);
        (State::Unknown, None)
    };
    reasons.extend(source.remarks.iter().cloned());
    let (state, shown, reasons) = match &source.left_out {
        Some(reason) => {
            let all = std::iter::once(reason).chain(&source.remarks).cloned().collect();
            (State::LeftOut, counted.map(proof), all)
        }
        None => (state, shown, reasons),
    };
    Row { what: source.what.clone(), users: source.users.clone(), state, proof: shown, reasons }
}

/// What is odd about the way in which a snapshot has a source, if anything is.
fn how(by: By, source: &DataSource) -> Option<String> {
    match by {
        By::Dump => {
            source.database.as_ref().map(|database| format!("by the dump of {}", database.name))
        }
        By::Path => Some("by its path on the host".to_owned()),
        By::Name => Some("by the name of the snapshot and its path in the container".to_owned()),
        By::Engine => None,
    }
}

/// A warning about all of a source: it was empty, or could not be read. Then nobody can say whether the snapshot has it.
fn trouble<'a>(known: &'a Recorded, source: &DataSource) -> Option<&'a String> {
    let snapshot = &known.snapshot;
    let is_its = |saved: &&Source| {
        matches!(copy_link(source, snapshot, saved), Some(Link::Sure(_)))
            && snapshot.dumps.iter().all(|dump| dump.path != saved.path)
    };
    let paths: Vec<_> =
        snapshot.sources.iter().filter(is_its).map(|saved| saved.path.as_str()).collect();
    let is_about_all = |warning: &&String| {
        paths
            .iter()
            .any(|path| warning.strip_prefix(path).is_some_and(|rest| rest.starts_with(' ')))
    };
    snapshot.warnings.iter().find(is_about_all)
}

fn missing(source: &DataSource, others: &BTreeSet<String>) -> String {
    let what = match &source.what {
        What::Database { .. } => "there is no dump of it",
        What::Volume { .. } | What::Bind { .. } | What::Mount { .. } => "no snapshot has it",
    };
    if others.is_empty() {
        return what.to_owned();
    }
    let hosts: Vec<_> = others.iter().map(String::as_str).collect();
    format!("{what}; what looks like it is of another host: {}", hosts.join(", "))
}

fn hits<'a>(source: &DataSource, question: &Question<'a>, origins: &[Origin]) -> Hits<'a> {
    let mut hits = Hits::default();
    for (known, origin) in question.history.iter().zip(origins) {
        let links = links(source, question.inventory, &known.snapshot);
        for link in links {
            // On the host, a path under the name of a container looks like one in that container.
            let is_by_host = || question.judge.is_machine(&known.snapshot.host);
            let link = match link {
                Link::Sure(By::Name) if is_by_host() => Link::Doubt(Doubt::Named),
                link => link,
            };
            // A name of 64 random digits tells where the host's name tells nothing.
            if is_anonymous(source) && link == Link::Sure(By::Engine) {
                let origin = question.judge.origin_by_id(&known.snapshot, "the anonymous volume");
                hits.add(known, link, &origin);
            } else {
                hits.add(known, link, origin);
            }
        }
    }
    hits
}

impl<'a> Hits<'a> {
    fn add(&mut self, known: &'a Recorded, link: Link, origin: &Origin) {
        match (link, origin) {
            (Link::Sure(by), Origin::This) => self.ours.push((known, by)),
            // A path of another machine says nothing.
            (
                Link::Sure(By::Path) | Link::Doubt(Doubt::Inside),
                Origin::Unknown(_) | Origin::Other(_),
            ) => {}
            (_, Origin::Other(host)) => {
                self.others.insert(host.clone());
            }
            (_, Origin::Unknown(reason)) => self.doubt(known, reason.clone()),
            (Link::Doubt(doubt), Origin::This) => self.doubt(known, doubt.to_string()),
        }
    }

    fn doubt(&mut self, known: &'a Recorded, reason: String) {
        if !known.counts() {
            return;
        }
        let is_newer = |(last, _): &(&Recorded, String)| last.snapshot.time <= known.snapshot.time;
        if self.doubt.as_ref().is_none_or(is_newer) {
            self.doubt = Some((known, reason));
        }
    }
}

/// Digits of the name of an anonymous volume.
const RANDOM_DIGITS: usize = 64;

/// Whether a volume of this name is anonymous.
pub(crate) fn is_random(name: &str) -> bool {
    name.len() == RANDOM_DIGITS && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_anonymous(source: &DataSource) -> bool {
    matches!(&source.what, What::Volume { name, .. } if is_random(name))
}

/// The ways in which a snapshot has a source.
fn links(source: &DataSource, inventory: &Inventory, snapshot: &Snapshot) -> Vec<Link> {
    if let What::Database { kind, container } = &source.what {
        return dump_links(*kind, container, snapshot);
    }
    let is_dump = |path: &str| snapshot.dumps.iter().any(|dump| dump.path == path);
    let copies = snapshot.sources.iter().filter(|saved| !is_dump(&saved.path));
    let mut links: Vec<_> = copies.filter_map(|saved| copy_link(source, snapshot, saved)).collect();
    // Its files are in the dump of the database they belong to, unless that is what a command has given.
    if let Some(database) = &source.database {
        let kind = inventory.sources.iter().find_map(|other| match &other.what {
            What::Database { kind, container } if container == database => Some(*kind),
            _ => None,
        });
        let all = kind.into_iter().flat_map(|kind| dump_links(kind, database, snapshot));
        links.extend(all.filter(|link| *link != Link::Doubt(Doubt::Command)));
    }
    links
}

fn dump_links(kind: Option<DumpKind>, container: &Identity, snapshot: &Snapshot) -> Vec<Link> {
    let link = |dump: &DumpRecord| match kind {
        Some(kind) if dump.kind == kind => Some(Link::Sure(By::Dump)),
        _ if dump.kind == DumpKind::Command => Some(Link::Doubt(Doubt::Command)),
        None => Some(Link::Doubt(Doubt::OneOfSeveral)),
        Some(_) => None,
    };
    let links = snapshot.dumps.iter().filter_map(|dump| {
        let link = link(dump)?;
        match &dump.container {
            Some(_) => is_of(dump, container).then_some(link),
            None => (snapshot.name == container.name).then_some(Link::Doubt(Doubt::Nameless)),
        }
    });
    links.collect()
}

/// How a source of a snapshot is this one. Volumes and paths are compared whole, by the names that the engine knows them by.
fn copy_link(source: &DataSource, snapshot: &Snapshot, saved: &Source) -> Option<Link> {
    let (kind, name, place) = match &source.what {
        What::Volume { name, mountpoint } => ("volume", name, mountpoint),
        What::Bind { path } => ("bind", path, path),
        What::Mount { .. } | What::Database { .. } => return None,
    };
    // A path is saved without the links in it.
    let is_place = |path: &str| path == place || source.real.as_deref() == Some(path);
    let is_below = |above: &str| {
        is_inside(place, above) || source.real.as_deref().is_some_and(|real| is_inside(real, above))
    };
    if let Some(volume) = &saved.volume {
        if volume.kind == kind && volume.name == *name {
            return Some(Link::Sure(By::Engine));
        }
        return (volume.kind == "bind" && is_below(&volume.name))
            .then_some(Link::Doubt(Doubt::Inside));
    }
    if snapshot.container.is_none() && is_place(&saved.path) {
        return Some(Link::Sure(By::Path));
    }
    if source.places.contains(&(snapshot.name.clone(), saved.path.clone())) {
        return Some(Link::Sure(By::Name));
    }
    is_below(&saved.path).then_some(Link::Doubt(Doubt::Inside))
}

fn is_inside(place: &str, above: &str) -> bool {
    !place.is_empty() && place != above && Path::new(place).starts_with(above)
}

fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now) > jiff::SignedDuration::try_from(AHEAD_MAX).unwrap_or_default()
}

/// How old it is; a little ahead is as young as can be.
fn age(time: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(time)).unwrap_or_default()
}

impl Recorded {
    /// Whether it is a backup that may be relied on.
    #[must_use]
    pub fn counts(&self) -> bool {
        self.standing == Standing::Proved && self.drill != Some(Outcome::Failed)
    }

    /// Whether it is of the time for which a snapshot is taken to be young enough.
    pub(super) fn is_young(&self, question: &Question<'_>) -> bool {
        let time = self.snapshot.time;
        !is_ahead(time, question.now) && age(time, question.now) <= question.age_max
    }

    /// Why it is not: the end of a sentence.
    fn fault(&self) -> String {
        match self.standing {
            Standing::Proved => "not good, as its drill has found".to_owned(),
            other => other.to_string(),
        }
    }

    fn proof(&self, by: By, now: Timestamp) -> Proof {
        let time = self.snapshot.time;
        Proof {
            id: self.id,
            name: self.snapshot.name.clone(),
            host: self.snapshot.host.clone(),
            time,
            age: (!is_ahead(time, now)).then(|| age(time, now)),
            standing: self.standing,
            drill: self.drill,
            by,
            warning_count: self.snapshot.warning_count,
        }
    }
}

impl Row {
    /// Its name: of the volume, of the path, of the container.
    #[must_use]
    pub fn name(&self) -> &str {
        match &self.what {
            What::Volume { name, .. } => name,
            What::Bind { path } => path,
            What::Mount { name } => name,
            What::Database { container, .. } => &container.name,
        }
    }

    /// `volume`, `bind`, `mount` or `database`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.what {
            What::Volume { .. } => "volume",
            What::Bind { .. } => "bind",
            What::Mount { .. } => "mount",
            What::Database { .. } => "database",
        }
    }
}
