//! How a resident run is doing: a value that whoever shows it need only write down.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::Verdict;

/// How it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// When that was.
    pub time: Timestamp,
    /// The host name under which jobs are saved.
    pub host: String,
    /// Whether nobody needs to do anything: there are no ailments.
    pub well: bool,
    /// What files, labels and names say that cannot be done: one sentence each.
    pub broken: Vec<String>,
    /// What a person should do something about, the broken included: one sentence each.
    pub ailments: Vec<String>,
    /// What a person should know: one sentence each.
    pub notes: Vec<String>,
    /// The jobs, by name.
    pub jobs: Vec<JobReport>,
    /// The checks of the repository.
    pub check: Option<LaneReport>,
    /// The prunes.
    pub prune: Option<LaneReport>,
    /// The repository when it was last looked at.
    #[serde(default)]
    pub repository: Option<RepositoryReport>,
}

/// How large a repository is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepositoryReport {
    /// Snapshots, those of other hosts included.
    pub snapshots: u64,
    /// Bytes of its packs.
    pub stored_bytes: u64,
}

/// How a job is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobReport {
    /// What it and its snapshots are called.
    pub name: String,
    /// `container`, `volumes`, `paths` or `dump`.
    pub kind: String,
    /// The container whose labels order it.
    pub container: Option<String>,
    /// Its cron expression.
    pub schedule: String,
    /// When its newest good backup was begun.
    pub last_good: Option<Timestamp>,
    /// That backup.
    pub last_good_snapshot: Option<String>,
    /// Bytes that it added, as of the last look at the repository.
    #[serde(default)]
    pub added_bytes: Option<u64>,
    /// Since when a good one is missing.
    pub overdue_since: Option<Timestamp>,
    /// It was missed while nobody ran, and is being made up for: nobody needs to be told yet.
    #[serde(default)]
    pub catching_up: bool,
    /// The one that a drill found not good, while none was good since.
    #[serde(default)]
    pub bad_snapshot: Option<String>,
    /// Why it cannot run now.
    pub waiting: Option<String>,
    /// Its backups.
    pub save: LaneReport,
    /// What drops its snapshots.
    pub retain: Option<LaneReport>,
    /// What tries its newest one.
    pub drill: Option<LaneReport>,
}

/// How runs of one kind are doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneReport {
    /// When the one that runs now began.
    pub running_since: Option<Timestamp>,
    /// When the next one is due; none where it has no time of its own.
    pub next: Option<Timestamp>,
    /// When the last one began.
    pub last_start: Option<Timestamp>,
    /// When it ended.
    pub last_end: Option<Timestamp>,
    /// How it ended, in a word.
    pub last_verdict: Option<Verdict>,
    /// How it ended, in a sentence.
    pub last_text: Option<String>,
    /// How many have failed since the last one that did not.
    pub failures: u32,
}
