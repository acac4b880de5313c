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

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use chores_common::engine::{Engine, EngineError};
use jiff::Timestamp;
use tokio::runtime::Handle;

use crate::repository::{Repository, RepositoryError};
use crate::snapshot::SnapshotId;
use decide::{Question, Row, State, decide};
use hosts::{Hosts, Judge, is_telling};
use inventory::{Own, inventory};
use look::{Asked, History, ask, history, own_name};
use remembered::remembered;
use wanted::{Wanted, WantedError};

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
}

impl Report {
    /// Whether everything was looked at and is protected, or is not to be.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.engine_problem.is_none()
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
) -> Result<Report, StatusError> {
    let History { recorded, unreadable, mut notes } = history(repository)?;
    let asked: Result<Asked, EngineError> = runtime.block_on(async {
        let engine = Engine::connect(engine_host).await?;
        ask(&engine, &options.own).await
    });
    let (seen, names, engine_problem) = match asked {
        Ok(Asked { found, names }) => (Some(inventory(&found)), names, None),
        Err(error) => (None, own_name().into_iter().collect(), Some(error.to_string())),
    };
    let hosts = Hosts::new(&options.hosts, names, options.any_host);
    let containers = seen.as_ref().map(|seen| seen.containers.clone()).unwrap_or_default();
    let snapshots = recorded.iter().map(|known| &known.snapshot);
    let judge = Judge::new(&hosts, &containers, snapshots, options.now);
    let seen = seen.unwrap_or_else(|| remembered(&recorded, &judge));
    notes.extend(seen.notes.iter().cloned());
    notes.extend(notes_of_hosts(
        &hosts,
        &judge,
        recorded.iter().map(|known| known.snapshot.host.as_str()),
    ));
    if repository.is_encrypted() && !repository.can_read() {
        notes.push(
            "without an identity nobody can say here whether the content can be decrypted: `backup check --read-data` and \
             `backup drill` say so where the identity is"
                .to_owned(),
        );
    }
    let question = Question {
        inventory: &seen,
        history: &recorded,
        judge: &judge,
        now: options.now,
        age_max: options.age_max,
    };
    let mut rows = decide(&question);
    for wanted in &options.except {
        let wanted = match wanted.resolve(&rows, &seen.containers) {
            Ok(wanted) => wanted,
            // What is left out may come and go.
            Err(error @ WantedError::Nothing(_)) => {
                notes.push(format!("--except: {error}"));
                continue;
            }
            Err(error) => return Err(error.into()),
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
        rows.retain(|row| wanted.iter().any(|wanted| wanted.is(row)));
    }
    rows.sort_by_key(|row| row.state);
    Ok(Report {
        time: options.now,
        place: repository.place(),
        age_max: options.age_max,
        hosts: hosts.clone(),
        engine_problem,
        rows,
        gaps: seen.gaps,
        unreadable,
        notes,
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
