//! Snapshots that are no longer needed: which by [`decide`], and the removal of their documents.
//!
//! Only documents go, and what nobody refers to any more is for [`crate::prune`]. Nothing is decided while a
//! document cannot be read: it might be the newest of a source, or the one that freezes it.

pub mod decide;
mod output;

use std::collections::{BTreeMap, BTreeSet};

use chores_common::object::ErrorKind;
use chores_common::shutdown::Shutdown;

use crate::drill_record;
use crate::machine::NODE_TAG;
use crate::pack::PackId;
use crate::repository::{Operation, Repository, RepositoryError};
use crate::snapshot::{Selector, Snapshot, SnapshotId, SnapshotName};
use decide::{Candidate, GroupBy, Policy, SourceVerdict, Standing, decide, newest_proved};

pub use output::{write_json, write_text};

#[cfg(test)]
mod tests;

/// How often it is looked what snapshots need because a prune moves it meanwhile.
const LOOKS_MAX: u32 = 4;

/// Which snapshots are to go.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Those the rules let go.
    ByRules(Policy),
    /// These.
    These {
        /// Which.
        snapshots: Vec<Selector>,
        /// Even where one is the newest proved snapshot of its source.
        even_newest: bool,
        /// What a source is.
        group_by: GroupBy,
    },
}

/// What to forget and how.
#[derive(Clone, Debug)]
pub struct ForgetOptions {
    /// Which snapshots.
    pub wanted: Wanted,
    /// With rules: only those of this name.
    pub name: Option<String>,
    /// With rules: only those of this host.
    pub host: Option<String>,
    /// With rules: only those with all these labels.
    pub tags: BTreeMap<String, String>,
    /// With rules: none of another node of a Swarm than this one; none of any node where it is empty.
    pub node: Option<String>,
    /// Only say what would go.
    pub dry_run: bool,
}

/// What was decided, and done.
#[derive(Debug)]
pub struct ForgetReport {
    /// The snapshots that were looked at, as they were.
    pub snapshots: Vec<(SnapshotName, Snapshot)>,
    /// What each is worth, in the same order.
    pub standings: Vec<Standing>,
    /// By rules: what becomes of each, as numbers of `snapshots`.
    pub sources: Vec<SourceVerdict>,
    /// Those that went or, in a dry run, would go; the oldest first.
    pub gone: Vec<SnapshotName>,
    /// Nothing was removed.
    pub dry_run: bool,
}

impl ForgetReport {
    /// Sources of which nothing is dropped because something is odd about them.
    #[must_use]
    pub fn frozen(&self) -> usize {
        self.sources.iter().filter(|source| source.frozen.is_some()).count()
    }
}

/// Why nothing, or not all, was forgotten.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The repository or its store said no.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A document cannot be read.
    #[error(
        "snapshot {short} cannot be read, so nothing is forgotten by rules: if it is damaged, drop it with \
         `backup forget {short}`, if it is of a later version, use a later program",
        short = .0.short()
    )]
    Unreadable(SnapshotId, #[source] RepositoryError),
    /// It may be a snapshot under another name.
    #[error(
        "{0} is no name of a snapshot, so nothing is forgotten by rules, it might be the newest: move it away, or give it \
         its name back"
    )]
    Stranger(String),
    /// Rules that keep nothing but the newest are none.
    #[error("no rule says what to keep, and nothing was forgotten")]
    NoRule,
    /// What was asked for would leave a source without its last backup.
    #[error(
        "snapshot {short} is the newest proved one of {name:?}: nothing was forgotten; say --even-newest if it is to go",
        short = .id.short()
    )]
    Newest {
        /// The snapshot.
        id: SnapshotId,
        /// Its name.
        name: String,
    },
    /// Somebody removed meanwhile what the decision relied on.
    #[error("snapshot {} is gone meanwhile, which was to stay: run it again", .0.short())]
    Raced(SnapshotId),
    /// SIGINT or SIGTERM.
    #[error("interrupted: {0} snapshots were forgotten, the others stay")]
    Interrupted(usize),
}

/// Drops snapshots.
pub fn forget(
    repository: &Repository,
    options: &ForgetOptions,
    now: jiff::Timestamp,
    shutdown: &Shutdown,
) -> Result<ForgetReport, ForgetError> {
    repository.permit(Operation::Delete)?;
    let mut report = match &options.wanted {
        Wanted::ByRules(policy) => by_rules(repository, policy, options, now)?,
        Wanted::These { snapshots, even_newest, group_by } => {
            these(repository, snapshots, *even_newest, *group_by)?
        }
    };
    report.dry_run = options.dry_run;
    if options.dry_run || report.gone.is_empty() {
        return Ok(report);
    }
    look_again(repository, &report)?;
    for (done, name) in report.gone.iter().enumerate() {
        if shutdown.is_requested() {
            return Err(ForgetError::Interrupted(done));
        }
        repository.remove_snapshot(name)?;
    }
    drill_record::remove(repository, &report.gone.iter().map(|name| name.id).collect())?;
    Ok(report)
}

fn by_rules(
    repository: &Repository,
    policy: &Policy,
    options: &ForgetOptions,
    now: jiff::Timestamp,
) -> Result<ForgetReport, ForgetError> {
    if policy.is_empty() {
        return Err(ForgetError::NoRule);
    }
    let (names, strangers) = repository.snapshot_keys()?;
    if let Some(key) = strangers.into_iter().next() {
        return Err(ForgetError::Stranger(key));
    }
    let mut snapshots = Vec::new();
    for (name, read) in repository.documents_of(&names) {
        match read {
            Ok(snapshot) => snapshots.push((name, snapshot)),
            // It was forgotten since the listing; a store that lists what it cannot give has not.
            Err(RepositoryError::Store(error))
                if error.kind() == ErrorKind::NotFound && !repository.is_listed(&name)? => {}
            Err(RepositoryError::Store(error))
                if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
            {
                return Err(RepositoryError::Store(error).into());
            }
            Err(error) => return Err(ForgetError::Unreadable(name.id, error)),
        }
    }
    let ForgetOptions { name, host, tags, node, .. } = options;
    let is_own = |theirs: Option<&String>| {
        theirs.is_none_or(|theirs| node.as_ref().is_none_or(|node| theirs == node))
    };
    snapshots.retain(|(_, snapshot)| {
        is_own(snapshot.tags.get(NODE_TAG))
            && name.as_ref().is_none_or(|name| snapshot.name == *name)
            && host.as_ref().is_none_or(|host| snapshot.host == *host)
            && tags.iter().all(|(key, value)| snapshot.tags.get(key) == Some(value))
    });
    let standings = standings(repository, &snapshots)?;
    let candidates = candidates(&snapshots, &standings);
    let sources = decide(&candidates, policy, now);
    let goes: BTreeSet<_> = sources
        .iter()
        .flat_map(|source| &source.verdicts)
        .filter(|verdict| !verdict.stays())
        .map(|verdict| verdict.candidate)
        .collect();
    // The listing is in order of time.
    let gone = snapshots
        .iter()
        .enumerate()
        .filter(|(number, _)| goes.contains(number))
        .map(|(_, (name, _))| name.clone())
        .collect();
    Ok(ForgetReport { snapshots, standings, sources, gone, dry_run: false })
}

fn these(
    repository: &Repository,
    selectors: &[Selector],
    even_newest: bool,
    group_by: GroupBy,
) -> Result<ForgetReport, ForgetError> {
    let mut gone = Vec::new();
    for selector in selectors {
        let name = repository.select_name(selector)?;
        if !gone.contains(&name) {
            gone.push(name);
        }
    }
    gone.sort_by(|left, right| (&left.time, left.id).cmp(&(&right.time, right.id)));
    let mut snapshots = Vec::new();
    for (name, read) in repository.documents()? {
        match read {
            Ok(snapshot) => snapshots.push((name, snapshot)),
            Err(RepositoryError::Store(error))
                if !matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
            {
                return Err(RepositoryError::Store(error).into());
            }
            // What is damaged is nobody's last backup.
            Err(error) => tracing::debug!("{}", chores_common::exit::chain(&error)),
        }
    }
    let standings = standings(repository, &snapshots)?;
    let candidates = candidates(&snapshots, &standings);
    let newest = newest_proved(&candidates, group_by);
    if !even_newest && let Some(name) = gone.iter().find(|name| newest.contains(&name.id)) {
        let named = candidates.iter().find(|candidate| candidate.id == name.id);
        let name_of = named.map(|candidate| candidate.name.clone()).unwrap_or_default();
        return Err(ForgetError::Newest { id: name.id, name: name_of });
    }
    Ok(ForgetReport { snapshots, standings, sources: Vec::new(), gone, dry_run: false })
}

/// What snapshots are worth. One that its run may yet take back, because a prune was faster, must not count; nor one
/// that has lost what it needs.
pub(crate) fn standings(
    repository: &Repository,
    snapshots: &[(SnapshotName, Snapshot)],
) -> Result<Vec<Standing>, RepositoryError> {
    let mut before: Option<Vec<String>> = None;
    for _ in 0..LOOKS_MAX {
        let moves = repository.moves()?;
        // Behind the snapshots and in this order, as whoever commits looks.
        let marked = repository.marked_packs()?;
        let stored = repository.stored_packs()?;
        let stays = |pack: &PackId| stored.contains_key(pack) && !marked.contains(pack);
        let of = |(name, snapshot): &(SnapshotName, Snapshot)| match Standing::of(snapshot) {
            Standing::Failed => Standing::Failed,
            standing if moves.is_whole(name.id, &snapshot.packs, &stays) => standing,
            _ => Standing::Incomplete,
        };
        let standings: Vec<_> = snapshots.iter().map(of).collect();
        let keys: Vec<_> = moves.objects().iter().map(|object| object.key.clone()).collect();
        // What seems to be lost may have been moved while this looked.
        if !standings.contains(&Standing::Incomplete) || before.as_ref() == Some(&keys) {
            return Ok(standings);
        }
        before = Some(keys);
    }
    Err(RepositoryError::Moving(repository.place()))
}

fn candidates(snapshots: &[(SnapshotName, Snapshot)], standings: &[Standing]) -> Vec<Candidate> {
    let of = |((name, snapshot), standing): (&(SnapshotName, Snapshot), &Standing)| Candidate {
        id: name.id,
        name: snapshot.name.clone(),
        host: snapshot.host.clone(),
        time: snapshot.time,
        standing: *standing,
        is_of_dumps_only: snapshot.is_of_dumps_only(),
        tags: snapshot.tags.clone(),
    };
    snapshots.iter().zip(standings).map(of).collect()
}

/// What stays must still be there: two of these at once, with different rules, could each drop what the other relies
/// on.
fn look_again(repository: &Repository, report: &ForgetReport) -> Result<(), ForgetError> {
    let there: BTreeSet<_> = repository.snapshot_names()?.into_iter().map(|name| name.id).collect();
    let stay = report.sources.iter().flat_map(|source| &source.verdicts);
    let stay = stay.filter(|verdict| verdict.stays()).map(|verdict| verdict.candidate);
    let missing = stay
        .filter_map(|number| report.snapshots.get(number))
        .find(|(name, _)| !there.contains(&name.id));
    missing.map_or(Ok(()), |(name, _)| Err(ForgetError::Raced(name.id)))
}
