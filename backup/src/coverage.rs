//! Which data of this host is protected, by which proved snapshot, and how old that is.
//!
//! ```text
//! engine     → inventory ┐
//! repository → history   ├→ decide → rows → output
//! names      → judge     ┘
//! ```
//! What cannot be known is told as that: nothing here calls data protected because it may be.

pub mod decide;
pub mod hosts;
pub mod inventory;
mod look;
mod output;
mod remembered;
pub mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use chores_common::engine::{Engine, EngineError};
use chores_common::shutdown::Shutdown;
use jiff::Timestamp;
use tokio::runtime::Handle;

use crate::repository::{Repository, RepositoryError};
use crate::snapshot::SnapshotId;
use decide::{Question, Recorded, Row, State, decide, is_random};
use hosts::{Hosts, Judge, is_telling};
use inventory::{Own, What, inventory};
use look::{Asked, ask, own_name};
use remembered::remembered;
use wanted::{Wanted, WantedError};

pub(crate) use look::{History, history};
pub use output::{write_json, write_text};

#[cfg(test)]
mod tests;

/// What to look at and how.
#[derive(Clone, Debug)]
pub struct StatusOptions {
    /// Only these; without any, everything.
    pub wanted: Vec<Wanted>,
    /// What is not to be saved.
    pub except: Vec<Wanted>,
    /// How old the newest proved snapshot may be.
    pub age_max: Duration,
    /// Names this host goes by, where they were named.
    pub hosts: Vec<String>,
    /// All snapshots are this host's.
    pub any_host: bool,
    /// Places of this program as it sees them.
    pub own: Vec<(Own, PathBuf)>,
    /// This machine's clock.
    pub now: Timestamp,
}

/// How well a host is protected.
#[derive(Debug)]
pub struct Report {
    /// This machine's clock.
    pub time: Timestamp,
    /// Where the repository is.
    pub place: String,
    /// How old the newest proved snapshot may be.
    pub age_max: Duration,
    /// Names this host goes by.
    pub hosts: Hosts,
    /// Why the engine could not be asked, if it could not.
    pub engine_problem: Option<String>,
    /// Everything that can be lost, the worst first.
    pub rows: Vec<Row>,
    /// What could not be looked at, so that nobody can say whether it is protected: one sentence each.
    pub gaps: Vec<String>,
    /// Snapshots that cannot be read, and why.
    pub unreadable: Vec<(SnapshotId, String)>,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The repository cannot be read.
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    /// A name means nothing, or too much.
    #[error(transparent)]
    Wanted(#[from] WantedError),
    /// By a signal, before the engine had answered.
    #[error("interrupted before the engine had answered")]
    Interrupted,
}

impl Report {
    /// Whether everything was looked at and is protected, or is not to be. Where there is nothing to be looked at,
    /// something is wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.engine_problem.is_none()
            && !self.rows.is_empty()
            && self.gaps.is_empty()
            && self.unreadable.is_empty()
            && self.rows.iter().all(|row| row.state.is_well())
    }
}

/// Looks at everything. `engine_host` as in `DOCKER_HOST`.
pub fn status(
    repository: &Repository,
    options: &StatusOptions,
    engine_host: Option<&str>,
    runtime: &Handle,
    shutdown: &Shutdown,
) -> Result<Report, StatusError> {
    let mut history = history(repository)?;
    if repository.is_encrypted() && !repository.can_read() {
        history.notes.push(
            "without an identity nobody can say here whether the content can be decrypted: `backup check --read-data` and \
             `backup drill` say so where the identity is"
                .to_owned(),
        );
    }
    let asked = runtime.block_on(shutdown.or(async {
        let engine = Engine::connect(engine_host).await?;
        ask(&engine, &options.own).await
    }));
    let asked = asked.ok_or(StatusError::Interrupted)?;
    Ok(report(history, asked, repository.place(), options)?)
}

/// Judges what was found.
fn report(
    history: History,
    asked: Result<Asked, EngineError>,
    place: String,
    options: &StatusOptions,
) -> Result<Report, WantedError> {
    let History { recorded, unreadable, mut notes } = history;
    let (seen, names, boot, engine_problem) = match asked {
        Ok(Asked { found, names, boot }) => (Some(inventory(&found)), names, boot, None),
        Err(error) => (None, own_name().into_iter().collect(), None, Some(error.to_string())),
    };
    let hosts = Hosts::new(&options.hosts, names, options.any_host);
    let containers = seen.as_ref().map(|seen| seen.containers.clone()).unwrap_or_default();
    let snapshots = recorded.iter().map(|known| &known.snapshot);
    // Who names this host has said which snapshots are its own, wherever this program and what made them find their boots.
    let boot = boot.filter(|_| options.hosts.iter().all(String::is_empty));
    let judge = Judge::new(&hosts, &containers, snapshots, options.now).during(boot);
    let seen = seen.unwrap_or_else(|| remembered(recorded.iter(), &judge));
    let mut gaps = seen.gaps.clone();
    notes.extend(seen.notes.iter().cloned());
    notes.extend(notes_of_hosts(
        &hosts,
        &judge,
        recorded.iter().map(|known| known.snapshot.host.as_str()),
    ));
    let question = Question {
        inventory: &seen,
        history: &recorded,
        judge: &judge,
        now: options.now,
        age_max: options.age_max,
    };
    let mut rows = decide(&question);
    if engine_problem.is_none() {
        notes.extend(note_of_lost(&question));
        if rows.is_empty() {
            gaps.push(
                "the engine has nothing that can be lost: is it the one that is meant, and is its data there?".to_owned(),
            );
        }
    }
    for wanted in &options.except {
        let wanted = match wanted.resolve(&rows, &seen.containers) {
            Ok(wanted) => wanted,
            // What is left out may come and go.
            Err(error @ WantedError::Nothing(_)) => {
                notes.push(format!("--except: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        for row in rows.iter_mut().filter(|row| wanted.is_alone(row)) {
            row.state = State::LeftOut;
            row.reasons.insert(0, "by --except".to_owned());
        }
    }
    if !options.wanted.is_empty() {
        let wanted: Result<Vec<_>, _> =
            options.wanted.iter().map(|wanted| wanted.resolve(&rows, &seen.containers)).collect();
        let wanted = wanted?;
        let is_empty = |wanted: &&Wanted| !rows.iter().any(|row| wanted.is(row));
        gaps.extend(wanted.iter().filter(is_empty).map(|wanted| {
            format!("{wanted} has nothing that can be lost, as far as can be seen: all it has mounted was taken for no data")
        }));
        rows.retain(|row| wanted.iter().any(|wanted| wanted.is(row)));
    }
    rows.sort_by_key(|row| row.state);
    Ok(Report {
        time: options.now,
        place,
        age_max: options.age_max,
        hosts: hosts.clone(),
        engine_problem,
        rows,
        gaps,
        unreadable,
        notes,
    })
}

/// What the newest snapshots of this host have and its engine has not. Anonymous volumes come and go.
fn note_of_lost(question: &Question<'_>) -> Option<String> {
    let mut newest = BTreeMap::new();
    for known in question.history.iter().filter(|known| known.is_young(question)) {
        let name = known.snapshot.name.as_str();
        let is_newer = |last: &&Recorded| last.snapshot.time < known.snapshot.time;
        if newest.get(name).is_none_or(is_newer) {
            newest.insert(name, known);
        }
    }
    let is_there = |what: &What| match what {
        What::Volume { name, .. } => is_random(name)
            || question.inventory.sources.iter().any(
                |source| matches!(&source.what, What::Volume { name: other, .. } if other == name),
            ),
        What::Database { container, .. } => {
            let mut containers = question.inventory.containers.iter();
            containers.any(|known| known.identity.is_named(&container.name))
        }
        // Paths are saved without containers too.
        What::Bind { .. } | What::Mount { .. } => true,
    };
    let remembered = remembered(newest.into_values(), question.judge);
    let lost = remembered.sources.iter().map(|source| &source.what).filter(|what| !is_there(what));
    let lost: Vec<_> = lost
        .map(|what| match what {
            What::Volume { name, .. } => format!("the volume {name}"),
            What::Bind { path: name } | What::Mount { name } => name.clone(),
            What::Database { container, .. } => format!("the container {}", container.name),
        })
        .collect();
    (!lost.is_empty()).then(|| {
        format!(
            "the newest snapshots of this host have what its engine has not: {}",
            lost.join(", ")
        )
    })
}

/// What is odd about the names of hosts.
fn notes_of_hosts<'s>(
    hosts: &Hosts,
    judge: &Judge<'_>,
    found: impl Iterator<Item = &'s str>,
) -> Vec<String> {
    let mut notes: Vec<_> = judge
        .doubtful()
        .iter()
        .map(|(host, reason)| format!("two machines save under the host name {host}: {reason}"))
        .collect();
    if hosts.any {
        let found: BTreeSet<_> = found.filter(|name| is_telling(name)).collect();
        if found.len() > 1 {
            let found: Vec<_> = found.into_iter().collect();
            notes.push(format!(
                "snapshots of several hosts are taken as of this one, by --any-host: {}",
                found.join(", ")
            ));
        }
    } else if hosts.names.is_empty() {
        notes.push(
            "this host has no name that tells it from others: say --host, as with `backup create`"
                .to_owned(),
        );
    }
    notes
}
