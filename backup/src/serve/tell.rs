//! What people are told of a resident run (pure): what has changed since they were told last, and nothing twice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::outcome::{Purpose, Verdict};
use super::report::{JobReport, LaneReport, Report};
use crate::notify::{Event, Kind};

#[cfg(test)]
mod tests;

/// Sentences about what is broken that are told at once.
const BROKEN_MAX: usize = 20;

/// What the checks and prunes of the repository are called where jobs have a name.
const REPOSITORY: &str = "repository";

/// What people know.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Told {
    /// Of jobs by name: only those of which anything is wrong.
    pub jobs: BTreeMap<String, BTreeSet<Kind>>,
    /// Of the checks and prunes of the repository: apart, since a job may have any name.
    pub repository: BTreeSet<Kind>,
    /// Of those of the repository: where not only a run failed, but it found something to be wrong.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub found: BTreeSet<Kind>,
    /// Jobs of which the newest backup was tried and cannot be restored.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unsound: BTreeSet<String>,
    /// What labels and files say that cannot be done.
    pub broken: BTreeSet<String>,
}

/// What is to be told now, and what is known then.
#[must_use]
pub fn tell(told: &Told, report: &Report) -> (Vec<Event>, Told) {
    let mut events = Vec::new();
    let mut now = Told::default();
    let event = |job: &str, kind, text: String, details| Event {
        time: report.time,
        host: report.host.clone(),
        job: job.to_owned(),
        kind,
        text,
        details,
    };
    let nothing = BTreeSet::new();
    for job in &report.jobs {
        let known = told.jobs.get(&job.name).unwrap_or(&nothing);
        let wrong = wrong(job);
        let is_unsound = job.bad_snapshot.is_some();
        // A drill that could not be made was told before, and that is not the same.
        let is_worse = |kind: Kind| {
            kind == Kind::DrillFailed && is_unsound && !told.unsound.contains(&job.name)
        };
        if is_unsound {
            now.unsound.insert(job.name.clone());
        }
        for (kind, text) in &wrong {
            if !known.contains(kind) || is_worse(*kind) {
                events.push(event(&job.name, *kind, text.clone(), details(job)));
            }
        }
        // What an earlier program says: a run that was interrupted says nothing new.
        let is_said = job.save.last_verdict != Some(Verdict::Interrupted);
        let mut kinds: BTreeSet<_> = wrong.into_iter().map(|(kind, _)| kind).collect();
        if !is_said {
            kinds.extend(known.iter().filter(|kind| **kind == Kind::RunFailed));
        }
        if job.catching_up {
            kinds.extend(known.iter().filter(|kind| **kind == Kind::Overdue));
        }
        let is_bad = |kinds: &BTreeSet<Kind>| {
            kinds.contains(&Kind::RunFailed)
                || kinds.contains(&Kind::Overdue)
                || kinds.contains(&Kind::DrillFailed)
        };
        if is_bad(known) && !is_bad(&kinds) {
            let text = format!("{} is saved again", job.name);
            events.push(event(&job.name, Kind::Recovered, text, details(job)));
        }
        if !kinds.is_empty() {
            now.jobs.insert(job.name.clone(), kinds);
        }
    }
    let of_repository = [
        ("check", Purpose::Check, Kind::DrillFailed, &report.check),
        ("prune", Purpose::Prune, Kind::RetentionFailed, &report.prune),
    ];
    for (what, purpose, kind, lane) in of_repository {
        let Some(lane) = lane else { continue };
        let Some(text) = bad(lane, purpose) else { continue };
        let has_found = matches!(lane.last_verdict, Some(Verdict::NotGood | Verdict::Warnings));
        // What was found stays so while no run says otherwise.
        if has_found || told.found.contains(&kind) {
            now.found.insert(kind);
        }
        let is_worse = has_found && !told.found.contains(&kind);
        if now.repository.insert(kind) && (is_worse || !told.repository.contains(&kind)) {
            let text = format!("the last {what} of the repository: {text}");
            events.push(event(REPOSITORY, kind, text, BTreeMap::new()));
        }
    }
    now.broken = report.broken.iter().take(BROKEN_MAX).cloned().collect();
    for text in now.broken.difference(&told.broken) {
        events.push(event(
            "configuration",
            Kind::ConfigurationBroken,
            text.clone(),
            BTreeMap::new(),
        ));
    }
    (events, now)
}

/// What is wrong with a job, one sentence for each kind.
fn wrong(job: &JobReport) -> Vec<(Kind, String)> {
    let name = &job.name;
    let mut wrong = Vec::new();
    match (job.save.last_verdict, &job.save.last_text) {
        (
            Some(Verdict::Failed | Verdict::Unusable | Verdict::TimedOut | Verdict::NotGood),
            Some(text),
        ) => {
            wrong.push((Kind::RunFailed, format!("the backup of {name}: {text}")));
        }
        (Some(Verdict::Suspicious), Some(text)) => {
            wrong.push((Kind::Suspicious, format!("the backup of {name}: {text}")));
        }
        _ => {}
    }
    if let Some(since) = job.overdue_since.filter(|_| !job.catching_up) {
        wrong.push((Kind::Overdue, format!("{name}: a good backup is missing since {since:.0}")));
    }
    // One that could not be made since, or was broken off, takes nothing of that back.
    let unsound =
        job.bad_snapshot.as_ref().map(|_| "it cannot be restored as it should".to_owned());
    if let Some(text) = job.drill.as_ref().and_then(|lane| bad(lane, Purpose::Drill)).or(unsound) {
        wrong.push((Kind::DrillFailed, format!("the drill of the backup of {name}: {text}")));
    }
    if let Some(text) = job.retain.as_ref().and_then(|lane| bad(lane, Purpose::Retain)) {
        wrong.push((Kind::RetentionFailed, format!("old snapshots of {name} stay: {text}")));
    }
    wrong
}

fn bad(lane: &LaneReport, purpose: Purpose) -> Option<String> {
    let is_bad = lane.last_verdict?.is_bad(purpose);
    lane.last_text.clone().filter(|_| is_bad)
}

fn details(job: &JobReport) -> BTreeMap<String, String> {
    let instant = |time: Timestamp| format!("{time:.0}");
    let fields = [
        ("container", job.container.clone()),
        ("last good backup", job.last_good.map(instant)),
        ("snapshot", job.last_good_snapshot.clone()),
        ("next run", job.save.next.map(instant)),
    ];
    let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    fields.collect()
}
